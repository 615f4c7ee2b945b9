package main

import (
	"context"
	"errors"
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
		var moved awsapi.List[*awsapi.GetMicrovmOutput]
		err = s.each(cmd.Context(), args, func(name string) error {
			began := time.Now()
			id, err := s.move(cmd.Context(), name, ask)
			if err != nil || noWait && !output.json() {
				return err
			}
			vm, err := s.moved(cmd.Context(), id, to, !noWait)
			if err != nil {
				return err
			}
			moved = append(moved, vm)
			if !output.json() {
				s.screen.Printf("%s %s (%s)\n", shortID(id), done, terminal.Seconds(time.Since(began)))
			}
			return nil
		})
		if output.json() {
			err = errors.Join(s.screen.JSON(moved), err)
		}
		return err
	}
	return cmd
}

// move asks for a change of the microVM of a name.
func (s *session) move(ctx context.Context, name string, ask func(context.Context, *session, string) error) (id string, err error) {
	if id, err = s.find.MicroVM(ctx, name); err != nil {
		return "", err
	}
	call, cancel := uninterrupted(ctx)
	defer cancel()
	return id, ask(call, s, id)
}

// moved is a microVM that was asked to move, when it has arrived or as it is now.
func (s *session) moved(ctx context.Context, id string, to awsapi.MicrovmState, wait bool) (*awsapi.GetMicrovmOutput, error) {
	if wait {
		return s.await(ctx, id, to)
	}
	return s.API.GetMicrovm(ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: id})
}
