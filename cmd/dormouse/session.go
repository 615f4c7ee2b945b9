package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

// session is what a verb works with.
type session struct {
	*connection.Connection
	screen *terminal.Screen
	find   reference.Finder
	// flags are those that lead a pasted command to the same daemon.
	flags string
}

// connect finds the daemon a verb is for. Nothing is sent yet.
func connect(cmd *cobra.Command) (*session, error) {
	dir, err := dataDir(cmd)
	if err != nil {
		return nil, err
	}
	settings, err := connection.Find(dir, cmd.Flags().Changed("data-dir"), os.Getenv)
	if err != nil {
		return nil, err
	}
	c := connection.New(settings)
	return &session{Connection: c, screen: screenOf(cmd), find: reference.Finder{Lists: c.API}, flags: daemonFlags(cmd)}, nil
}

// daemonFlags are those that lead a pasted command to the daemon that a verb was typed for.
func daemonFlags(cmd *cobra.Command) string {
	dir, err := dataDir(cmd)
	if err != nil || !cmd.Flags().Changed("data-dir") {
		return ""
	}
	return " --data-dir " + shellWord(dir)
}

// orEnded takes the result of a search for a microVM, and where an image has no live one, the one of it
// that was started last: who asks what happened asks about that.
func (s *session) orEnded(id string, err error) (string, error) {
	var missing *reference.NotFoundError
	if !errors.As(err, &missing) || missing.Ended == "" {
		return id, err
	}
	s.screen.Notef("dormouse: %s has no live microVM; this is of the one that was started last, %s", missing.Text, shortID(missing.Ended))
	return missing.Ended, nil
}

// anyOrEnded finds an image, or else a microVM, and be it one that has ended.
func (s *session) anyOrEnded(ctx context.Context, name string) (reference.Target, error) {
	target, err := s.find.Any(ctx, name)
	target.MicroVM, err = s.orEnded(target.MicroVM, err)
	return target, err
}

// command is a command line to paste that goes to the same daemon.
func (s *session) command(format string, args ...any) string {
	return "dormouse " + fmt.Sprintf(format, args...) + s.flags
}

// dataDir is the data folder of a command, absolute.
func dataDir(cmd *cobra.Command) (string, error) {
	dir, err := cmd.Flags().GetString("data-dir")
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// shellQuote makes a POSIX shell read s as one word.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shellWord quotes only where it must, for people to read.
func shellWord(s string) string {
	if regexp.MustCompile(`\A[a-zA-Z0-9_./:@%+=-]+\z`).MatchString(s) {
		return s
	}
	return shellQuote(s)
}

// shortID is as much of a microVM's id as people need: eight digits.
func shortID(id string) string {
	start := strings.TrimPrefix(id, "microvm-")
	return start[:min(len(start), 8)]
}
