// The lab's crictl: the commands of cri-tools that a control-plane rescue types, with the same
// flags, the same JSON and the same table heads, over the same CRI socket. See README.md.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	version         = "v1.30.0-lab"
	defaultConfig   = "/etc/crictl.yaml"
	defaultEndpoint = "unix:///run/containerd/containerd.sock"
	maxMessage      = 16 << 20
)

// exitError carries the exit code of a command run inside a container.
type exitError int

func (e exitError) Error() string {
	return fmt.Sprintf("command terminated with exit code %d", int(e))
}

// client is one connection to the runtime and the options that hold for every command.
type client struct {
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
	timeout time.Duration
}

func (c *client) context(extra time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.timeout+extra)
}

type command func(c *client, args []string) error

var commands = map[string]command{
	"ps": listContainers, "inspect": inspectContainer, "logs": showLogs, "exec": execInContainer,
	"create": createContainer, "start": startContainer, "stop": stopContainer, "rm": removeContainer,
	"pods": listPods, "inspectp": inspectPod, "runp": runPod, "stopp": stopPod, "rmp": removePod,
	"images": listImages, "image": listImages, "img": listImages, "inspecti": inspectImage,
	"info": showInfo, "version": showVersion,
}

type settings struct {
	endpoint string
	config   string
	timeout  time.Duration
	explicit map[string]bool
}

// readConfig takes over what /etc/crictl.yaml says and the command line did not.
func (s *settings) readConfig() error {
	file, err := os.Open(s.config)
	if errors.Is(err, os.ErrNotExist) && !s.explicit["config"] {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		switch {
		case key == "runtime-endpoint" && value != "" && !s.explicit["endpoint"]:
			s.endpoint = value
		case key == "timeout" && !s.explicit["timeout"]:
			if seconds, err := time.ParseDuration(value + "s"); err == nil && seconds > 0 {
				s.timeout = seconds
			}
		}
	}
	return nil
}

func parseGlobal(args []string) (*settings, []string, error) {
	s := &settings{
		endpoint: defaultEndpoint, config: defaultConfig, timeout: 2 * time.Second,
		explicit: map[string]bool{},
	}
	flags := newFlags("crictl")
	for _, name := range []string{"r", "runtime-endpoint"} {
		flags.StringVar(&s.endpoint, name, s.endpoint, "endpoint of the runtime service")
	}
	for _, name := range []string{"c", "config"} {
		flags.StringVar(&s.config, name, s.config, "client configuration file")
	}
	for _, name := range []string{"t", "timeout"} {
		flags.DurationVar(&s.timeout, name, s.timeout, "timeout of connecting")
	}
	ignored := ""
	flags.StringVar(&ignored, "i", "", "endpoint of the image service")
	flags.StringVar(&ignored, "image-endpoint", "", "endpoint of the image service")
	boolFlag(flags, "D", "debug")
	showVersion := boolFlag(flags, "v", "version")
	if err := flags.Parse(args); err != nil {
		return nil, nil, err
	}
	if *showVersion {
		fmt.Println("crictl version " + version)
		os.Exit(0)
	}
	flags.Visit(markExplicit(s.explicit))
	return s, flags.Args(), s.readConfig()
}

func connect(s *settings) (*client, error) {
	conn, err := grpc.Dial(s.endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, err
	}
	return &client{cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn), s.timeout}, nil
}

func run(args []string) error {
	s, rest, err := parseGlobal(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return errors.New("no command given")
	}
	action, known := commands[rest[0]]
	if !known {
		return fmt.Errorf("No help topic for '%s'", rest[0])
	}
	c, err := connect(s)
	if err != nil {
		return err
	}
	return action(c, rest[1:])
}

func main() {
	err := run(os.Args[1:])
	var exit exitError
	if errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(int(exit))
	}
	if err != nil {
		stamp := time.Now().Format(time.RFC3339)
		fmt.Fprintf(os.Stderr, "time=%q level=fatal msg=%q\n", stamp, err.Error())
		os.Exit(1)
	}
}
