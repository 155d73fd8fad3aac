// Pod sandboxes, images and the runtime's own state.
package main

import (
	"fmt"
	"regexp"
	"sort"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var podStates = map[string]cri.PodSandboxState{
	"ready": cri.PodSandboxState_SANDBOX_READY, "notready": cri.PodSandboxState_SANDBOX_NOTREADY,
}

func findPods(c *client, l *listing) ([]*cri.PodSandbox, error) {
	filter := &cri.PodSandboxFilter{Id: l.id, LabelSelector: l.labels}
	if l.state != "" {
		state, known := podStates[strings.ToLower(l.state)]
		if !known {
			return nil, fmt.Errorf("--state should be ready or notready")
		}
		filter.State = &cri.PodSandboxStateValue{State: state}
	}
	ctx, cancel := c.context(0)
	defer cancel()
	answer, err := c.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("listing pod sandboxes: %w", err)
	}
	name, err := regexp.Compile(l.name)
	if err != nil {
		return nil, err
	}
	found := []*cri.PodSandbox{}
	for _, item := range answer.Items {
		if name.MatchString(item.Metadata.Name) && strings.Contains(item.Metadata.Namespace, l.namespace) {
			found = append(found, item)
		}
	}
	sort.SliceStable(found, func(a, b int) bool { return found[a].CreatedAt > found[b].CreatedAt })
	return found[:limit(l, len(found))], nil
}

func listPods(c *client, args []string) error {
	l, err := parseListing("pods", args)
	if err != nil {
		return err
	}
	found, err := findPods(c, l)
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
		return printMessage(&cri.ListPodSandboxResponse{Items: found})
	}
	rows := [][]string{}
	for _, item := range found {
		state := "Ready"
		if item.State != cri.PodSandboxState_SANDBOX_READY {
			state = "NotReady"
		}
		handler := item.RuntimeHandler
		if handler == "" {
			handler = "(default)"
		}
		rows = append(rows, []string{
			shorten(item.Id, *l.noTrunc), age(item.CreatedAt), state, item.Metadata.Name,
			item.Metadata.Namespace, fmt.Sprint(item.Metadata.Attempt), handler,
		})
	}
	head := []string{"POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"}
	return printTable(head, rows)
}

func inspectPod(c *client, args []string) error {
	flags := newFlags("inspectp")
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
		ctx, cancel := c.context(0)
		defer cancel()
		request := &cri.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true}
		answer, err := c.runtime.PodSandboxStatus(ctx, request)
		if err != nil {
			return fmt.Errorf("getting the pod sandbox status for %q: %w", id, err)
		}
		times := map[string]int64{"createdAt": answer.Status.CreatedAt}
		if err := printStatus(answer.Status, answer.Info, times); err != nil {
			return err
		}
	}
	return nil
}

func runPod(c *client, args []string) error {
	flags := newFlags("runp")
	handler := ""
	stringFlag(flags, &handler, "r", "runtime")
	rest, err := parse(flags, args)
	if err == nil {
		err = requireArgs(rest, 1)
	}
	if err != nil {
		return err
	}
	request := &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{}, RuntimeHandler: handler}
	if err := loadJSON(rest[0], request.Config); err != nil {
		return err
	}
	ctx, cancel := c.context(time.Minute)
	defer cancel()
	answer, err := c.runtime.RunPodSandbox(ctx, request)
	if err != nil {
		return fmt.Errorf("run pod sandbox: %w", err)
	}
	fmt.Println(answer.PodSandboxId)
	return nil
}

func stopOnePod(c *client, id string) error {
	ctx, cancel := c.context(time.Minute)
	defer cancel()
	_, err := c.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
	return err
}

func stopPod(c *client, args []string) error {
	return eachWord(args, "Stopped sandbox", func(id string) error { return stopOnePod(c, id) })
}

func removePod(c *client, args []string) error {
	flags := newFlags("rmp")
	force, all := boolFlag(flags, "f", "force"), boolFlag(flags, "a", "all")
	ids, err := parse(flags, args)
	if err != nil {
		return err
	}
	if *all {
		found, err := findPods(c, &listing{latest: new(bool)})
		if err != nil || len(found) == 0 {
			return err
		}
		for _, item := range found {
			ids = append(ids, item.Id)
		}
	}
	return eachWord(ids, "Removed sandbox", func(id string) error { return removeOnePod(c, id, *force) })
}

func removeOnePod(c *client, id string, force bool) error {
	ctx, cancel := c.context(time.Minute)
	defer cancel()
	request := &cri.PodSandboxStatusRequest{PodSandboxId: id}
	answer, err := c.runtime.PodSandboxStatus(ctx, request)
	if err != nil {
		return err
	}
	ready := answer.Status.State == cri.PodSandboxState_SANDBOX_READY
	if ready && !force {
		return fmt.Errorf("pod sandbox %q is running, please stop it first", id)
	}
	if ready {
		if err := stopOnePod(c, id); err != nil {
			return err
		}
	}
	_, err = c.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

func eachWord(ids []string, done string, step func(id string) error) error {
	if err := requireArgs(ids, 1); err != nil {
		return err
	}
	for _, id := range ids {
		if err := step(id); err != nil {
			return fmt.Errorf("%q: %w", id, err)
		}
		fmt.Println(done, id)
	}
	return nil
}

func listImages(c *client, args []string) error {
	l, err := parseListing("images", args)
	if err != nil {
		return err
	}
	ctx, cancel := c.context(0)
	defer cancel()
	answer, err := c.images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return err
	}
	if l.output == "json" {
		return printMessage(answer)
	}
	rows := [][]string{}
	for _, item := range answer.Images {
		if *l.quiet {
			fmt.Println(item.Id)
		}
		for _, name := range item.RepoTags {
			colon := strings.LastIndex(name, ":")
			size := fmt.Sprintf("%.3gMB", float64(item.Size_)/1e6)
			rows = append(rows, []string{name[:colon], name[colon+1:], shorten(item.Id, *l.noTrunc), size})
		}
	}
	if *l.quiet {
		return nil
	}
	return printTable([]string{"IMAGE", "TAG", "IMAGE ID", "SIZE"}, rows)
}

func inspectImage(c *client, args []string) error {
	flags := newFlags("inspecti")
	output := "json"
	stringFlag(flags, &output, "o", "output")
	names, err := parse(flags, args)
	if err == nil {
		err = requireArgs(names, 1)
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		ctx, cancel := c.context(0)
		defer cancel()
		request := &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}, Verbose: true}
		answer, err := c.images.ImageStatus(ctx, request)
		if err != nil {
			return err
		}
		if answer.Image == nil {
			return fmt.Errorf("no such image %q present", name)
		}
		if err := printStatus(answer.Image, answer.Info, nil); err != nil {
			return err
		}
	}
	return nil
}

func showInfo(c *client, _ []string) error {
	ctx, cancel := c.context(0)
	defer cancel()
	answer, err := c.runtime.Status(ctx, &cri.StatusRequest{Verbose: true})
	if err != nil {
		return err
	}
	return printStatus(answer.Status, answer.Info, nil)
}

func showVersion(c *client, _ []string) error {
	ctx, cancel := c.context(0)
	defer cancel()
	answer, err := c.runtime.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return err
	}
	fmt.Printf("Version:  %s\nRuntimeName:  %s\nRuntimeVersion:  %s\nRuntimeApiVersion:  %s\n",
		answer.Version, answer.RuntimeName, answer.RuntimeVersion, answer.RuntimeApiVersion)
	return nil
}
