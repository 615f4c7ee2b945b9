package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

// stopLimit is somewhat longer than the daemon takes at most.
const stopLimit = suspendLimit + 30*time.Second

func downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Suspend what runs and stop the daemon",
		Long: `Suspend all microVMs that run, of all accounts, stop the daemon of the data folder and wait until it has
ended. At the next start they are there, asleep. Builds under way fail. Exits with 1 if the daemon could not
suspend all; what was left running goes on, and the next daemon takes it over.`,
		Example: "  dormouse down",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			return (&background{dir: dir, screen: screenOf(cmd)}).down(cmd.Context())
		},
	}
}

func (b *background) down(ctx context.Context) error {
	pid, err := b.pid()
	if err != nil {
		return err
	}
	if pid == 0 {
		b.screen.Printf("no daemon serves from %s\n", b.dir)
		return nil
	}
	progress := b.screen.Progress()
	defer progress.Close()
	progress.Say("Stopping the daemon, suspending what runs")
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the daemon, process %d: %w", pid, err)
	}
	limited, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	now := pid
	err = poll(limited, func() (bool, error) {
		now, err = b.pid()
		return now != pid, err
	})
	switch {
	case ctx.Err() != nil:
		return &interrupted{fmt.Sprintf("the daemon, process %d, goes on stopping; its log is %s", pid, b.logFile())}
	case limited.Err() != nil:
		return fmt.Errorf("the daemon, process %d, has not ended after %s; its log is %s", pid, stopLimit, b.logFile())
	case err != nil:
		return err
	}
	progress.Close()
	if now != 0 { // it has taken away what the one before told
		b.screen.Printf("the daemon has stopped; another one has started, process %d\n", now)
		return nil
	}
	return b.conclude(pid, progress.Elapsed())
}

// conclude tells how the daemon ended, by its own words.
func (b *background) conclude(pid int, took time.Duration) error {
	end, err := readEnding(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the daemon, process %d, did not tell how it ended; its log is %s", pid, b.logFile())
	}
	if err != nil {
		return fmt.Errorf("read how the daemon ended: %w", err)
	}
	if end.Error == "" {
		b.screen.Printf("the daemon has stopped (%s)\n", terminal.Seconds(took))
	}
	if end.Asleep > 0 {
		b.screen.Notef("%s asleep until the next dormouse up", microVMsAre(end.Asleep))
	}
	if end.Running > 0 {
		b.screen.Notef("%s left running", microVMsAre(end.Running))
	}
	if end.Error != "" {
		return &failure{fmt.Errorf("the daemon ended with an error: %s", end.Error), "its log is " + b.logFile()}
	}
	return nil
}

func microVMsAre(n int) string {
	if n == 1 {
		return "1 microVM is"
	}
	return fmt.Sprintf("%d microVMs are", n)
}
