package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
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
	exitCut         exitStatus = 255 // as ssh says it
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
	{exitInterrupted, "interrupted with Ctrl-C; what goes on was said (not `logs --follow`, which ends like that: 0)"},
	{exitCut, "`shell` and `exec` only, whose status else is that of what they run: it could not be run, or was cut off. What kept them from trying has its status above"},
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
	hint := "usage: " + strings.TrimSuffix(cmd.UseLine(), " [flags]") + "; see " + cmd.CommandPath() + " --help"
	var found *usageError
	if errors.As(err, &found) && found.hint != "" {
		hint += "\n  " + found.hint
	}
	return &usageError{err.Error(), hint}
}

// wrongArguments words what is wrong with how many arguments a verb has got.
func wrongArguments(cmd *cobra.Command, args []string, err error) error {
	if err == nil {
		return nil
	}
	takes := strings.Fields(cmd.Use)[1:] // MICROVM [PATH], PATH -t NAME, MICROVM...
	for i, name := range takes {
		if strings.HasPrefix(name, "-") {
			takes = takes[:i]
			break
		}
	}
	switch most := len(takes); {
	case len(args) < most && !strings.HasPrefix(takes[len(args)], "["):
		missing := strings.TrimSuffix(takes[len(args)], "...")
		return &usageError{missing + " is missing", whereFound[strings.Split(missing, "[")[0]]}
	case len(args) > most:
		return fmt.Errorf("%q is too much", args[most])
	}
	return err
}

// whereFound says where to look for what a verb takes.
var whereFound = map[string]string{
	"MICROVM": "dormouse ps lists microVMs", "IMAGE": "dormouse images lists images",
	"MICROVM|IMAGE": "dormouse ps lists microVMs, dormouse images lists images",
	"ACCESS-KEY-ID": "dormouse credentials list lists access keys",
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

// forDaemon finds the command lines in an advice that are for a daemon.
var forDaemon = regexp.MustCompile(`dormouse (up|down|run|images|ps)\b[^,;]*`)

// report tells a person what went wrong and what to do about it, and returns the status to exit with.
// flags lead what is advised to the daemon that was meant.
func report(to io.Writer, flags string, err error) exitStatus {
	var status exitStatus
	if err == nil || errors.As(err, &status) {
		return status
	}
	text, hint, status := explain(err)
	fmt.Fprintln(to, "dormouse: "+terminal.Safe(text))
	if !strings.Contains(hint, flags) {
		hint = forDaemon.ReplaceAllStringFunc(hint, func(line string) string { return line + flags })
	}
	if hint != "" {
		fmt.Fprintln(to, "  "+terminal.Safe(hint))
	}
	return status
}
