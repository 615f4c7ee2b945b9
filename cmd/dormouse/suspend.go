package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func suspendCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "suspend MICROVM...",
		Short: "Put microVMs to sleep: memory to disk, process ended",
		Long: `Put microVMs to sleep. Their memory and devices are saved to disk and their processes end; a request or
dormouse resume wakes them where they were.`,
		Example: "  dormouse suspend counter\n  dormouse suspend 0c5b7f6e 77aa --no-wait",
	}
	return moving(cmd, "is asleep", awsapi.MicrovmStateSuspended, func(ctx context.Context, s *session, id string) error {
		_, err := s.API.SuspendMicrovm(ctx, &awsapi.SuspendMicrovmInput{MicrovmIdentifier: id})
		return err
	})
}

// moving makes a verb that takes microVMs to a state and waits until they are there.
func moving(cmd *cobra.Command, done string, to awsapi.MicrovmState, ask func(context.Context, *session, string) error) *cobra.Command {
	var noWait bool
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.ValidArgsFunction = complete(microVMIDs, -1)
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		var moved []*awsapi.GetMicrovmOutput
		for _, name := range args {
			began := time.Now()
			id, err := s.find.MicroVM(cmd.Context(), name)
			if err != nil {
				return err
			}
			if err := ask(cmd.Context(), s, id); err != nil {
				return err
			}
			if noWait {
				continue
			}
			vm, err := s.await(cmd.Context(), id, to)
			if err != nil {
				return err
			}
			moved = append(moved, vm)
			if !output.json() {
				s.screen.Printf("%s %s (%s)\n", shortID(id), done, terminal.Seconds(time.Since(began)))
			}
		}
		if output.json() {
			return s.screen.JSON(moved)
		}
		return nil
	}
	return cmd
}
