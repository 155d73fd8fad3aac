// Containers: list, look, log, exec, and the steps of their life.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var containerStates = map[string]cri.ContainerState{
	"created": cri.ContainerState_CONTAINER_CREATED, "running": cri.ContainerState_CONTAINER_RUNNING,
	"exited": cri.ContainerState_CONTAINER_EXITED, "unknown": cri.ContainerState_CONTAINER_UNKNOWN,
}

func containerFilter(l *listing) (*cri.ContainerFilter, error) {
	filter := &cri.ContainerFilter{Id: l.id, PodSandboxId: l.pod, LabelSelector: l.labels}
	if !*l.all && !*l.latest && l.last == 0 && l.state == "" {
		l.state = "running"
	}
	if l.state == "" {
		return filter, nil
	}
	state, known := containerStates[strings.ToLower(l.state)]
	if !known {
		return nil, fmt.Errorf("--state should be one of created, running, exited or unknown")
	}
	filter.State = &cri.ContainerStateValue{State: state}
	return filter, nil
}

func findContainers(c *client, l *listing) ([]*cri.Container, error) {
	filter, err := containerFilter(l)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.context(0)
	defer cancel()
	answer, err := c.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	name, err := regexp.Compile(l.name)
	if err != nil {
		return nil, err
	}
	found := []*cri.Container{}
	for _, item := range answer.Containers {
		if name.MatchString(item.Metadata.Name) && strings.Contains(item.Image.Image, l.image) {
			found = append(found, item)
		}
	}
	sort.SliceStable(found, func(a, b int) bool { return found[a].CreatedAt > found[b].CreatedAt })
	return found[:limit(l, len(found))], nil
}

func limit(l *listing, count int) int {
	if *l.latest {
		l.last = 1
	}
	if l.last > 0 && l.last < count {
		return l.last
	}
	return count
}

func listContainers(c *client, args []string) error {
	l, err := parseListing("ps", args)
	if err != nil {
		return err
	}
	found, err := findContainers(c, l)
	if err != nil {
		return err
	}
	if *l.quiet {
		for _, item := range found {
			fmt.Println(item.Id)
		}
		return nil
	}
	if l.output == "json" {
		return printMessage(&cri.ListContainersResponse{Containers: found})
	}
	rows := [][]string{}
	for _, item := range found {
		state := strings.TrimPrefix(item.State.String(), "CONTAINER_")
		rows = append(rows, []string{
			shorten(item.Id, *l.noTrunc), shorten(item.Image.Image, *l.noTrunc), age(item.CreatedAt),
			state[:1] + strings.ToLower(state[1:]), item.Metadata.Name, fmt.Sprint(item.Metadata.Attempt),
			shorten(item.PodSandboxId, *l.noTrunc), item.Labels["io.kubernetes.pod.name"],
		})
	}
	head := []string{"CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD"}
	return printTable(head, rows)
}

func containerStatus(c *client, id string) (*cri.ContainerStatusResponse, error) {
	ctx, cancel := c.context(0)
	defer cancel()
	request := &cri.ContainerStatusRequest{ContainerId: id, Verbose: true}
	answer, err := c.runtime.ContainerStatus(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("getting the status of the container %q: %w", id, err)
	}
	return answer, nil
}

func inspectContainer(c *client, args []string) error {
	flags := newFlags("inspect")
	output := "json"
	stringFlag(flags, &output, "o", "output")
	ids, err := parse(flags, args)
	if err == nil {
		err = requireArgs(ids, 1)
	}
	if err != nil {
		return err
	}
	for _, id := range ids {
		answer, err := containerStatus(c, id)
		if err != nil {
			return err
		}
		status := answer.Status
		times := map[string]int64{
			"createdAt": status.CreatedAt, "startedAt": status.StartedAt, "finishedAt": status.FinishedAt,
		}
		if err := printStatus(status, answer.Info, times); err != nil {
			return err
		}
	}
	return nil
}

func execInContainer(c *client, args []string) error {
	flags := newFlags("exec")
	boolFlag(flags, "s", "sync")
	boolFlag(flags, "t", "tty")
	interactive := boolFlag(flags, "i", "interactive")
	seconds := flags.Int64("timeout", 0, "")
	rest, err := parse(flags, args)
	if err == nil {
		err = requireArgs(rest, 2)
	}
	if err != nil {
		return err
	}
	if *interactive {
		return errors.New("the lab's crictl has no exec with standard input")
	}
	request := &cri.ExecSyncRequest{ContainerId: rest[0], Cmd: rest[1:], Timeout: *seconds}
	ctx, cancel := c.context(time.Hour)
	defer cancel()
	answer, err := c.runtime.ExecSync(ctx, request)
	if err != nil {
		return fmt.Errorf("execing command in container synchronously: %w", err)
	}
	os.Stdout.Write(answer.Stdout)
	os.Stderr.Write(answer.Stderr)
	if answer.ExitCode != 0 {
		return exitError(answer.ExitCode)
	}
	return nil
}

func createContainer(c *client, args []string) error {
	flags := newFlags("create")
	boolFlag(flags, "no-pull")
	rest, err := parse(flags, args)
	if err != nil || len(rest) != 3 {
		return errors.Join(err, requireArgs(rest, 3))
	}
	request := &cri.CreateContainerRequest{
		PodSandboxId: rest[0], Config: &cri.ContainerConfig{}, SandboxConfig: &cri.PodSandboxConfig{},
	}
	if err := loadJSON(rest[1], request.Config); err != nil {
		return err
	}
	if err := loadJSON(rest[2], request.SandboxConfig); err != nil {
		return err
	}
	ctx, cancel := c.context(time.Minute)
	defer cancel()
	answer, err := c.runtime.CreateContainer(ctx, request)
	if err != nil {
		return fmt.Errorf("creating container: %w", err)
	}
	fmt.Println(answer.ContainerId)
	return nil
}

func loadJSON(path string, into any) error {
	data, err := readFile(path)
	if err != nil {
		return fmt.Errorf("load config: %w", err)
	}
	return json.Unmarshal(data, into)
}

func startContainer(c *client, args []string) error {
	return eachID(args, func(id string) error {
		ctx, cancel := c.context(time.Minute)
		defer cancel()
		_, err := c.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
		return err
	})
}

// eachID runs one step on every ID and prints those for which it worked.
func eachID(ids []string, step func(id string) error) error {
	if err := requireArgs(ids, 1); err != nil {
		return err
	}
	for _, id := range ids {
		if err := step(id); err != nil {
			return fmt.Errorf("%q: %w", id, err)
		}
		fmt.Println(id)
	}
	return nil
}

func stopContainer(c *client, args []string) error {
	flags := newFlags("stop")
	seconds := int64(0)
	flags.Int64Var(&seconds, "t", 0, "")
	flags.Int64Var(&seconds, "timeout", 0, "")
	ids, err := parse(flags, args)
	if err != nil {
		return err
	}
	return eachID(ids, func(id string) error {
		ctx, cancel := c.context(time.Duration(seconds)*time.Second + time.Minute)
		defer cancel()
		request := &cri.StopContainerRequest{ContainerId: id, Timeout: seconds}
		_, err := c.runtime.StopContainer(ctx, request)
		return err
	})
}

func removeContainer(c *client, args []string) error {
	flags := newFlags("rm")
	force, all := boolFlag(flags, "f", "force"), boolFlag(flags, "a", "all")
	ids, err := parse(flags, args)
	if err != nil {
		return err
	}
	if *all {
		every := true
		never := new(bool)
		found, err := findContainers(c, &listing{all: &every, latest: never})
		if err != nil || len(found) == 0 {
			return err
		}
		for _, item := range found {
			ids = append(ids, item.Id)
		}
	}
	return eachID(ids, func(id string) error { return removeOne(c, id, *force) })
}

func removeOne(c *client, id string, force bool) error {
	ctx, cancel := c.context(time.Minute)
	defer cancel()
	answer, err := containerStatus(c, id)
	if err != nil {
		return err
	}
	running := answer.Status.State == cri.ContainerState_CONTAINER_RUNNING
	if running && !force {
		return errors.New("container is running, please stop it first")
	}
	if running {
		request := &cri.StopContainerRequest{ContainerId: id, Timeout: 0}
		if _, err := c.runtime.StopContainer(ctx, request); err != nil {
			return err
		}
	}
	_, err = c.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
	return err
}
