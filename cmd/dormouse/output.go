package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

// output is the flag --output: text for people, json for programs.
type output string

const (
	outputText output = "text"
	outputJSON output = "json"
)

// addOutput gives a command the flag.
func addOutput(cmd *cobra.Command) *output {
	o := outputText
	cmd.Flags().VarP(&o, "output", "o", "for people, or JSON for programs")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
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
func (*output) Type() string { return "text|json" }

func (o *output) json() bool { return *o == outputJSON }

// print writes value as JSON, or what text writes.
func (o *output) print(cmd *cobra.Command, value any, text func(w io.Writer) error) error {
	if o.json() {
		return screenOf(cmd).JSON(value)
	}
	return text(cmd.OutOrStdout())
}

// printTable writes rows under a header, in columns.
func printTable(w io.Writer, header []string, rows [][]string) error {
	terminal.New(w, io.Discard).Table(header, rows)
	return nil
}

// showTime is how tables show a point in time.
func showTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
