package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func psCommand() *cobra.Command {
	var all, quiet, whole bool
	cmd := &cobra.Command{
		Use:   "ps [IMAGE]",
		Short: "List microVMs",
		Long:  "List microVMs, of one image if it is named. Those that have ended are listed with --all.",
		Example: `  dormouse ps
  dormouse ps -a counter
  dormouse rm $(dormouse ps -q)`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: complete(imageNames, 1),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only ids")
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "print whole ids")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		items, err := s.microVMs(cmd.Context(), args, all)
		if err != nil {
			return err
		}
		if quiet {
			for _, vm := range items {
				s.screen.Printf("%s\n", vm.MicrovmId)
			}
			return nil
		}
		vms, err := s.details(cmd.Context(), items)
		if err != nil {
			return err
		}
		if output.json() {
			return s.screen.JSON(vms)
		}
		printMicroVMs(s.screen, vms, all, whole, time.Now())
		if len(vms) == 0 {
			s.screen.Notef("No microVMs%s. Start one: %s", map[bool]string{false: " are alive"}[all], s.command("run IMAGE"))
		}
		return nil
	}
	return cmd
}

// microVMs lists live microVMs, or all; of the image that args name, if they do.
func (s *session) microVMs(ctx context.Context, args []string, all bool) (items []awsapi.MicrovmItem, err error) {
	var image reference.Image
	var arn *string
	if len(args) > 0 {
		if image, err = s.find.Image(ctx, args[0]); err != nil {
			return nil, err
		}
		arn = &image.ARN
	}
	found, err := reference.MicroVMs(ctx, s.API, arn)
	for _, vm := range found {
		if (all || vm.State != awsapi.MicrovmStateTerminated) && (image.Version == "" || image.Version == vm.ImageVersion) {
			items = append(items, vm)
		}
	}
	return items, err
}

// detailCalls is how many microVMs are asked about at once.
const detailCalls = 8

// details reads what the list does not tell, such as endpoints. A microVM that cannot be read now
// (it is gone, or the rate is exceeded) is shown with what the list said.
func (s *session) details(ctx context.Context, items []awsapi.MicrovmItem) ([]awsapi.GetMicrovmOutput, error) {
	out := make([]awsapi.GetMicrovmOutput, len(items))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(detailCalls)
	for i, item := range items {
		out[i] = awsapi.GetMicrovmOutput{
			MicrovmId: item.MicrovmId, State: item.State, ImageArn: item.ImageArn, ImageVersion: item.ImageVersion, StartedAt: item.StartedAt,
		}
		group.Go(func() error {
			if vm, err := s.API.GetMicrovm(ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: item.MicrovmId}); err == nil {
				out[i] = *vm
			}
			return ctx.Err()
		})
	}
	return out, group.Wait()
}

func printMicroVMs(screen *terminal.Screen, vms []awsapi.GetMicrovmOutput, all, whole bool, now time.Time) {
	if len(vms) == 0 {
		return
	}
	header := []string{"ID", "IMAGE", "STATE", "STARTED", "ENDPOINT"}
	if all {
		header = append(header, "REASON")
	}
	rows := make([][]string, len(vms))
	for i, vm := range vms {
		id, endpoint := shortID(vm.MicrovmId), ""
		if whole {
			id = vm.MicrovmId
		}
		if reference.Live(vm.State) && vm.Endpoint != "" {
			endpoint = "https://" + terminal.SafeLine(vm.Endpoint)
		}
		rows[i] = []string{
			screen.Paint(terminal.Strong, id), reference.ImageName(vm.ImageArn) + ":" + terminal.SafeLine(vm.ImageVersion),
			screen.State(string(vm.State)), terminal.Ago(vm.StartedAt.Time, now), endpoint,
		}
		if all {
			rows[i] = append(rows[i], terminal.SafeLine(value(vm.StateReason)))
		}
	}
	screen.Table(header, rows)
}
