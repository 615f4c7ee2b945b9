package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

// exitStatus is how a verb ended, for the program that called it. As an error it ends the program
// without a further word.
type exitStatus int

// The exit statuses.
const (
	exitOK          exitStatus = 0
	exitFailed      exitStatus = 1
	exitUsage       exitStatus = 2
	exitNotFound    exitStatus = 3
	exitRefused     exitStatus = 4
	exitUnreachable exitStatus = 5
	exitInterrupted exitStatus = 130 // as shells say it of SIGINT
)

// exitMeanings is the table of the reference.
var exitMeanings = []struct {
	status  exitStatus
	meaning string
}{
	{exitOK, "done"},
	{exitFailed, "it failed: a build, a launch, a request, the daemon itself"},
	{exitUsage, "the command line makes no sense, or a name is ambiguous"},
	{exitNotFound, "no such microVM, image, version or build"},
	{exitRefused, "the daemon refused: keys, quota, rate, state, or a value it does not accept"},
	{exitUnreachable, "no daemon answers"},
	{exitInterrupted, "interrupted with Ctrl-C; what goes on was said"},
}

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError says that what was typed makes no sense.
type usageError struct{ text, hint string }

func (e *usageError) Error() string { return e.text }
func (e *usageError) Hint() string  { return e.hint }

func usagef(format string, args ...any) error { return &usageError{text: fmt.Sprintf(format, args...)} }

// misused is what cobra found wrong with the command line of a verb.
func misused(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	usage := strings.TrimSuffix(cmd.UseLine(), " [flags]")
	return &usageError{err.Error(), "usage: " + usage + "; see " + cmd.CommandPath() + " --help"}
}

// knownVerb makes an unknown verb a mistake, and names those it may have been meant to be.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	e := &usageError{fmt.Sprintf("there is no verb %q", args[0]), "see dormouse --help"}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		e.hint = "did you mean " + strings.Join(near, ", ") + "?"
	}
	return e
}

// interrupted says what goes on, or does not, after Ctrl-C.
type interrupted struct{ text string }

func (e *interrupted) Error() string { return e.text }
func (e *interrupted) Unwrap() error { return context.Canceled }

// failure is an error with advice.
type failure struct {
	error
	hint string
}

func (e *failure) Hint() string  { return e.hint }
func (e *failure) Unwrap() error { return e.error }

// report tells a person what went wrong and what to do about it, and returns the status to exit with.
func report(to io.Writer, err error) exitStatus {
	var status exitStatus
	if err == nil || errors.As(err, &status) {
		return status
	}
	text, hint, status := explain(err)
	fmt.Fprintln(to, "dormouse: "+terminal.Safe(text))
	if hint != "" {
		fmt.Fprintln(to, "  "+terminal.Safe(hint))
	}
	return status
}
