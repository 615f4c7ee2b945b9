package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

func inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect MICROVM|IMAGE[:VERSION]",
		Short: "Show all about a microVM or an image, and where its time went",
		Long: `Show all about a microVM, with the phases of its last launch, suspend and resume; or about an image, with
its versions, the phases of its last build and its live microVMs.`,
		Example: `  dormouse inspect 0c5b7f6e
  dormouse inspect counter
  dormouse inspect 0c5b7f6e --output json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: complete(anyNames, 1),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		target, err := s.anyOrEnded(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if target.Image != nil {
			return s.inspectImage(cmd.Context(), *target.Image, output.json())
		}
		view, err := s.inspectMicroVM(cmd.Context(), target.MicroVM)
		if err != nil {
			return err
		}
		if output.json() {
			return s.screen.JSON(view)
		}
		view.print(s.screen, time.Now())
		return nil
	}
	return cmd
}

// microVMView is what inspect tells of a microVM.
type microVMView struct {
	MicroVM *awsapi.GetMicrovmOutput `json:"microvm"` // as GetMicrovm answers
	Details *extension.MicroVM       `json:"details"` // null where the server tells none
	Last    []extension.Event        `json:"last"`    // its last launch, suspend and resume
}

// timedOperations are shown with their phases.
var timedOperations = []string{"launch", "suspend", "resume"}

func (s *session) inspectMicroVM(ctx context.Context, id string) (view microVMView, err error) {
	if view.MicroVM, err = s.API.GetMicrovm(ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: id}); err != nil {
		return view, err
	}
	if view.Details, err = s.Extension.MicroVM(ctx, id); err != nil && !notServed(err) {
		return view, err
	}
	events, err := s.events(ctx, id, eventPage)
	if err != nil && !notServed(err) {
		return view, err
	}
	view.Last = []extension.Event{}
	for _, operation := range timedOperations {
		for _, e := range events {
			if e.Operation == operation && len(e.Phases) > 0 {
				view.Last = append(view.Last, e)
				break
			}
		}
	}
	return view, nil
}

// notServed tells whether a server does not have the extension API: it is another one than Dormouse.
func notServed(err error) bool {
	var refusal *awsapi.Error
	return errors.As(err, &refusal) && refusal.Status() == http.StatusNotFound && refusal.Code != awsapi.ResourceNotFoundException
}

func (v *microVMView) print(screen *terminal.Screen, now time.Time) {
	vm, d := v.MicroVM, v.Details
	if d == nil {
		d = &extension.MicroVM{}
	}
	state := screen.State(string(vm.State))
	if d.SuspendedAt != nil {
		state += " for " + span(now.Sub(d.SuspendedAt.Time))
	}
	pairs := [][2]string{
		{"microvm", screen.Paint(terminal.Strong, vm.MicrovmId)},
		{"state", state},
		{"reason", terminal.SafeLine(value(vm.StateReason))},
		{"image", reference.ImageName(vm.ImageArn) + ":" + vm.ImageVersion},
		{"endpoint", "https://" + terminal.SafeLine(vm.Endpoint)},
		{"started", terminal.Ago(vm.StartedAt.Time, now) + ", ends at most " + span(time.Duration(vm.MaximumDurationInSeconds)*time.Second) + " after that"},
		{"ended", ago(vm.TerminatedAt, now)},
		{"last traffic", ago(d.LastTrafficAt, now)},
		{"idle", idleWords(vm.IdlePolicy)},
		{"size", sizeWords(d)},
		{"on disk", diskWords(d)},
		{"ingress", ingress.names(vm.IngressNetworkConnectors)},
		{"egress", egress.names(vm.EgressNetworkConnectors)},
		{"networks", terminal.SafeLine(strings.Join(d.Networks, ", "))},
		{"traffic", trafficWords(d.Traffic)},
		{"role", terminal.SafeLine(value(vm.ExecutionRoleArn))},
	}
	screen.Card(pairs)
	for _, e := range v.Last {
		phases := phasesOf(e)
		screen.Printf("\n%s  %s, %s\n", screen.Paint(terminal.Strong, "last "+terminal.SafeLine(e.Operation)), terminal.Total(phases), terminal.Ago(e.At.Time, now))
		screen.Timeline(phases)
	}
}

func ago(at *awsapi.Timestamp, now time.Time) string {
	if at == nil {
		return ""
	}
	return terminal.Ago(at.Time, now)
}

// memoryBurst is how many times the memory of its image a guest sees (spec/behaviour.md 4.3, "peak").
const memoryBurst = 4

func sizeWords(d *extension.MicroVM) string {
	if d.MemoryMiB == nil || d.CPUs == nil {
		return ""
	}
	cpus := fmt.Sprintf("%d CPUs", *d.CPUs)
	if *d.CPUs == 1 {
		cpus = "1 CPU"
	}
	peak := int64(*d.MemoryMiB) << 20
	return fmt.Sprintf("%s of memory, up to %s for a while, %s", terminal.Bytes(peak/memoryBurst), terminal.Bytes(peak), cpus)
}
