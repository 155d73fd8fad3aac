// Flags in the style of cri-tools: long and short names, bundled short switches, repeated labels.
package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"strings"
)

type labels map[string]string

func (l labels) String() string { return "" }

func (l labels) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	if !found {
		return errors.New("incorrectly formatted label: " + text)
	}
	l[key] = value
	return nil
}

// listing holds the options that every list command shares.
type listing struct {
	all, quiet, latest, noTrunc             *bool
	output, id, name, state, pod, namespace string
	image                                   string
	last                                    int
	labels                                  labels
}

func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

func boolFlag(flags *flag.FlagSet, names ...string) *bool {
	value := new(bool)
	for _, name := range names {
		flags.BoolVar(value, name, false, "")
	}
	return value
}

func stringFlag(flags *flag.FlagSet, value *string, names ...string) {
	for _, name := range names {
		flags.StringVar(value, name, *value, "")
	}
}

// unbundle turns -aq into -a -q where every letter is a known switch.
func unbundle(flags *flag.FlagSet, args []string) []string {
	for index, arg := range args {
		if !strings.HasPrefix(arg, "-") || arg == "--" {
			return args
		}
		letters := strings.TrimPrefix(arg, "-")
		if strings.HasPrefix(arg, "--") || len(letters) < 2 || flags.Lookup(letters) != nil {
			continue
		}
		split := []string{}
		for _, letter := range letters {
			found := flags.Lookup(string(letter))
			if found == nil {
				return args
			}
			split = append(split, "-"+string(letter))
		}
		return append(append(append([]string{}, args[:index]...), split...), args[index+1:]...)
	}
	return args
}

func parse(flags *flag.FlagSet, args []string) ([]string, error) {
	err := flags.Parse(unbundle(flags, args))
	return flags.Args(), err
}

func parseListing(name string, args []string) (*listing, error) {
	l := &listing{labels: labels{}, output: "table"}
	flags := newFlags(name)
	l.all, l.quiet = boolFlag(flags, "a", "all"), boolFlag(flags, "q", "quiet")
	l.latest, l.noTrunc = boolFlag(flags, "l", "latest"), boolFlag(flags, "no-trunc")
	boolFlag(flags, "v", "verbose")
	boolFlag(flags, "r", "resolve-image-path")
	boolFlag(flags, "digests")
	stringFlag(flags, &l.output, "o", "output")
	stringFlag(flags, &l.id, "id")
	stringFlag(flags, &l.name, "name")
	stringFlag(flags, &l.state, "s", "state")
	stringFlag(flags, &l.pod, "p", "pod")
	stringFlag(flags, &l.namespace, "namespace")
	stringFlag(flags, &l.image, "image")
	flags.IntVar(&l.last, "n", 0, "")
	flags.IntVar(&l.last, "last", 0, "")
	flags.Var(l.labels, "label", "")
	_, err := parse(flags, args)
	return l, err
}

func markExplicit(seen map[string]bool) func(*flag.Flag) {
	names := map[string]string{
		"r": "endpoint", "runtime-endpoint": "endpoint", "c": "config", "config": "config",
		"t": "timeout", "timeout": "timeout",
	}
	return func(given *flag.Flag) { seen[names[given.Name]] = true }
}

func requireArgs(args []string, count int) error {
	if len(args) < count {
		return errors.New("ID cannot be empty")
	}
	return nil
}

func readFile(path string) ([]byte, error) { return os.ReadFile(path) }
