package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// stopLimit is somewhat longer than the daemon takes at most.
const stopLimit = suspendLimit + 30*time.Second

// countLimit bounds the question what there is to suspend, which is only asked to tell it.
const countLimit = 2 * time.Second

func downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Suspend what runs and stop the daemon",
		Long: `Suspend all microVMs that run, stop the daemon of the data folder and wait until it has ended. At the next
start they are there, asleep. Builds under way fail.`,
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
	running := b.running(ctx)
	progress.Say("Stopping the daemon%s", map[bool]string{true: fmt.Sprintf(", suspending %s", microVMWords(running))}[running > 0])
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the daemon, process %d: %w", pid, err)
	}
	limited, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	err = poll(limited, func() (bool, error) {
		now, err := b.pid()
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
	b.screen.Printf("the daemon has stopped (%s)\n", terminal.Seconds(progress.Elapsed()))
	if running > 0 {
		b.screen.Notef("%s asleep until the next dormouse up", map[bool]string{true: "1 microVM is", false: microVMWords(running) + " are"}[running == 1])
	}
	return nil
}

func microVMWords(n int) string {
	if n == 1 {
		return "1 microVM"
	}
	return fmt.Sprintf("%d microVMs", n)
}

// running counts the microVMs that will be suspended; 0 if the daemon does not tell.
func (b *background) running(ctx context.Context) (n int) {
	settings, err := connection.FromDataDir(b.dir)
	if err != nil {
		return 0
	}
	limited, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	vms, _ := reference.MicroVMs(limited, connection.New(settings).API, nil)
	for _, vm := range vms {
		if vm.State == awsapi.MicrovmStateRunning || vm.State == awsapi.MicrovmStatePending {
			n++
		}
	}
	return n
}
