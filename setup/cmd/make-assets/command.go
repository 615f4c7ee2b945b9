package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// command prepares a program whose complaints go to the log. On an interrupt it is asked to end, so
// that it can clean up after itself (mmdebstrap unmounts what it mounted).
func (w *workshop) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// run runs a program; a failure quotes the line that says why.
func (w *workshop) run(cmd *exec.Cmd) error {
	var tail bytes.Buffer
	out := io.MultiWriter(w.log, &tail)
	fmt.Fprintf(w.log, "+ %s\n", strings.Join(cmd.Args, " "))
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.Stderr = out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w%s", filepath.Base(cmd.Path), err, quoteError(tail.String()))
	}
	return nil
}

// output runs a program for what it prints.
func (w *workshop) output(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout = &out
	err := w.run(cmd)
	return strings.TrimSpace(out.String()), err
}

// maxQuote keeps the line that the user sees readable, in bytes; the log has all of it.
const maxQuote = 200

// quoteError finds the line that says what went wrong: the first that apt and mmdebstrap mark as an
// error, else the last.
func quoteError(printed string) string {
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	quote := lines[len(lines)-1]
	for _, line := range lines {
		if text, marked := strings.CutPrefix(line, "E: "); marked {
			quote = text
			break
		}
	}
	if quote == "" {
		return ""
	}
	if len(quote) > maxQuote {
		quote = quote[:maxQuote] + "…"
	}
	return ": " + quote
}
