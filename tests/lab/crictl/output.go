// Output as cri-tools prints it: protobuf JSON with defaults, and tables with fixed heads.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gogo/protobuf/jsonpb"
	"github.com/gogo/protobuf/proto"
)

const shortID = 13

func toJSON(message proto.Message) (string, error) {
	marshaler := jsonpb.Marshaler{EmitDefaults: true, Indent: "  "}
	return marshaler.MarshalToString(message)
}

func printMessage(message proto.Message) error {
	text, err := toJSON(message)
	if err == nil {
		fmt.Println(text)
	}
	return err
}

// printStatus prints {"info": …, "status": …} with the times readable, as inspect does.
func printStatus(message proto.Message, info map[string]string, times map[string]int64) error {
	text, err := toJSON(message)
	if err != nil {
		return err
	}
	status := map[string]any{}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return err
	}
	for key, nanoseconds := range times {
		status[key] = time.Unix(0, nanoseconds).Format(time.RFC3339Nano)
	}
	whole := map[string]any{"status": status}
	for key, value := range info {
		whole[key] = rawOrText(value)
	}
	pretty, err := json.MarshalIndent(whole, "", "  ")
	if err == nil {
		fmt.Println(string(pretty))
	}
	return err
}

func rawOrText(value string) any {
	if json.Valid([]byte(value)) {
		return json.RawMessage(value)
	}
	return value
}

func printTable(head []string, rows [][]string) error {
	table := tabwriter.NewWriter(os.Stdout, 20, 1, 3, ' ', 0)
	fmt.Fprintln(table, strings.Join(head, "\t"))
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	return table.Flush()
}

func shorten(id string, whole bool) string {
	id = strings.TrimPrefix(id, "sha256:")
	if whole || len(id) <= shortID {
		return id
	}
	return id[:shortID]
}

// age says "5 minutes ago" in the few words that a table needs.
func age(nanoseconds int64) string {
	passed := time.Since(time.Unix(0, nanoseconds))
	switch {
	case passed < time.Second:
		return "Less than a second ago"
	case passed < 2*time.Minute:
		return fmt.Sprintf("%d seconds ago", int(passed.Seconds()))
	case passed < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago", int(passed.Minutes()))
	case passed < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", int(passed.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(passed.Hours()/24))
}
