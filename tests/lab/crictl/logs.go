// Logs: the CRI log file of a container, its stamps and tags taken off.
package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func showLogs(c *client, args []string) error {
	flags := newFlags("logs")
	tail := flags.Int("tail", -1, "")
	follow := boolFlag(flags, "f", "follow")
	stamps := boolFlag(flags, "t", "timestamps")
	boolFlag(flags, "p", "previous")
	rest, err := parse(flags, args)
	if err == nil {
		err = requireArgs(rest, 1)
	}
	if err != nil {
		return err
	}
	answer, err := containerStatus(c, rest[0])
	if err != nil {
		return err
	}
	path := answer.Status.LogPath
	offset, err := printLog(path, 0, *tail, *stamps)
	for *follow && err == nil {
		running, statusErr := containerStatus(c, rest[0])
		time.Sleep(200 * time.Millisecond)
		offset, err = printLog(path, offset, -1, *stamps)
		if statusErr != nil || running.Status.State != cri.ContainerState_CONTAINER_RUNNING {
			break
		}
	}
	return err
}

// printLog prints whole lines from the offset on and returns where it stopped.
func printLog(path string, offset, tail int, stamps bool) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return offset, fmt.Errorf("failed to try resolving symlinks in path %q: %w", path, err)
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	if end <= offset {
		return offset, nil
	}
	lines := bytes.SplitAfter(data[offset:end], []byte("\n"))
	lines = lines[:len(lines)-1]
	if tail >= 0 && tail < len(lines) {
		lines = lines[len(lines)-tail:]
	}
	for _, line := range lines {
		printLine(line, stamps)
	}
	return end, nil
}

// printLine takes "STAMP stdout F text" apart; a partial line (tag P) has no line end of its own.
func printLine(line []byte, stamps bool) {
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) < 4 {
		os.Stdout.Write(line)
		return
	}
	text := fields[3]
	if bytes.HasPrefix(fields[2], []byte("P")) {
		text = bytes.TrimSuffix(text, []byte("\n"))
	}
	stream := os.Stdout
	if bytes.Equal(fields[1], []byte("stderr")) {
		stream = os.Stderr
	}
	if stamps {
		stream.Write(append(fields[0], ' '))
	}
	stream.Write(text)
}
