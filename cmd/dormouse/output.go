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

// outputFormat is the flag --output of commands that print records: text for people, json for programs.
type outputFormat string

// outputFlag gives a command the flag.
func outputFlag(cmd *cobra.Command) *outputFormat {
	format := outputFormat("text")
	cmd.Flags().VarP(&format, "output", "o", "for people, or JSON for programs")
	return &format
}

func (f *outputFormat) json() bool { return *f == "json" }

func (f *outputFormat) String() string { return string(*f) }

// Type implements pflag.Value.
func (*outputFormat) Type() string { return "text|json" }

// Set implements pflag.Value.
func (f *outputFormat) Set(text string) error {
	if text != "text" && text != "json" {
		return fmt.Errorf("it is text or json, not %q", text)
	}
	*f = outputFormat(text)
	return nil
}

// screen is where a command writes its results.
type screen struct{ out io.Writer }

func screenOf(cmd *cobra.Command) screen { return screen{cmd.OutOrStdout()} }

// Printf writes text.
func (s screen) Printf(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

// JSON writes one indented document.
func (s screen) JSON(value any) error {
	out := json.NewEncoder(s.out)
	out.SetIndent("", "  ")
	return out.Encode(value)
}

// Table writes rows under a header.
func (s screen) Table(header []string, rows [][]string) {
	table := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush() // the terminal is gone
}

// showTime is how tables show a point in time.
func showTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
