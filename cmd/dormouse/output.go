package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// output is the flag --output of commands that print records: text for people, json for programs.
type output string

const (
	outputText output = "text"
	outputJSON output = "json"
)

// addOutput gives a command the flag.
func addOutput(cmd *cobra.Command) *output {
	o := outputText
	cmd.Flags().VarP(&o, "output", "o", "text or json")
	return &o
}

// Set implements pflag.Value.
func (o *output) Set(text string) error {
	switch output(text) {
	case outputText, outputJSON:
		*o = output(text)
		return nil
	}
	return fmt.Errorf("it is text or json, not %q", text)
}

func (o *output) String() string { return string(*o) }

// Type implements pflag.Value.
func (*output) Type() string { return "string" }

// print writes value as JSON, or what text writes.
func (o output) print(cmd *cobra.Command, value any, text func(w io.Writer) error) error {
	if o == outputText {
		return text(cmd.OutOrStdout())
	}
	out := json.NewEncoder(cmd.OutOrStdout())
	out.SetIndent("", "  ")
	return out.Encode(value)
}

// printTable writes rows under a header, in columns.
func printTable(w io.Writer, header []string, rows [][]string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	return table.Flush()
}

// showTime is how tables show a point in time.
func showTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
