package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

// outputFormat is the flag --output: text for people, json for programs.
type outputFormat string

// outputFlag gives a command the flag.
func outputFlag(cmd *cobra.Command) *outputFormat {
	format := outputFormat("text")
	cmd.Flags().VarP(&format, "output", "o", "for people, or JSON for programs")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
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

// screenOf is where a command writes.
func screenOf(cmd *cobra.Command) *terminal.Screen {
	return terminal.New(cmd.OutOrStdout(), cmd.ErrOrStderr())
}

// showTime is how tables show a point in time.
func showTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
