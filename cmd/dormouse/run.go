package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run IMAGE[:VERSION]",
		Short: "Start a microVM of an image",
		Long: `Start a microVM from the snapshot of an image, and print how to reach it.

It sleeps after a quarter of an hour without requests and wakes on the next one, with everything still in
memory, unless --idle says otherwise. Its memory and environment are those of the image: see dormouse build.`,
		Example: `  dormouse run counter
  dormouse run counter:2 --wait --payload '{"user":"eve"}'
  dormouse run counter --idle 60s,8h,auto
  dormouse run counter --shell --egress none
  ID=$(dormouse run -q counter)`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: complete(imageNames, 1),
	}
	f.add(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		image, err := s.find.Image(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		in, err := f.input(cmd.Context(), s, image)
		if err != nil {
			return err
		}
		if err := s.checkMemory(cmd.Context(), image, value(in.ImageVersion), f.memory); err != nil {
			return err
		}
		vm, err := s.start(cmd.Context(), in, f.wait)
		if err != nil {
			return s.adviseVersions(image, err)
		}
		switch {
		case output.json():
			return s.screen.JSON(vm)
		case f.quiet:
			s.screen.Printf("%s\n", vm.MicrovmId)
		default:
			s.introduce(vm, f.port)
		}
		return nil
	}
	return cmd
}

// adviseVersions says where to look when an image that is there has nothing to start.
func (s *session) adviseVersions(image reference.Image, err error) error {
	var refusal *awsapi.Error
	if !errors.As(err, &refusal) || refusal.Code != awsapi.ResourceNotFoundException {
		return err
	}
	return &failure{err, fmt.Sprintf("its versions: %s; what became of the last: %s", s.command("images %s", image.Name), s.command("logs --build %s", image.Name))}
}

// start launches a microVM.
func (s *session) start(ctx context.Context, in *awsapi.RunMicrovmInput, wait bool) (*awsapi.GetMicrovmOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	call, cancel := uninterrupted(ctx)
	defer cancel()
	ran, err := s.API.RunMicrovm(call, in)
	if err != nil {
		return nil, err
	}
	vm := awsapi.GetMicrovmOutput(*ran)
	if wait {
		now, err := s.await(ctx, vm.MicrovmId, awsapi.MicrovmStateRunning)
		if err == nil {
			return now, nil
		}
		if ctx.Err() == nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, &interrupted{fmt.Sprintf("%s goes on without you; look: %s, end it: %s",
			vm.MicrovmId, s.command("ps"), s.command("rm %s", shortID(vm.MicrovmId)))}
	}
	return &vm, nil
}

// checkMemory compares the memory somebody asks for with what the image has: the API knows sizes of images only.
func (s *session) checkMemory(ctx context.Context, image reference.Image, version string, wanted memorySize) error {
	if wanted == 0 {
		return nil
	}
	v, err := s.API.GetMicrovmImageVersion(ctx, &awsapi.GetMicrovmImageVersionInput{
		ImageIdentifier: image.ARN, ImageVersion: orElse(version, image.Latest)})
	if err != nil {
		return err
	}
	if has := memoryOf(v.Resources); has != wanted {
		return &usageError{
			fmt.Sprintf("%s:%s has %s of memory, not %s: memory belongs to an image, all its microVMs have the same", image.Name, v.ImageVersion, &has, &wanted),
			fmt.Sprintf("make a version with it: %s", s.command("build PATH -t %s --memory %s", image.Name, &wanted)),
		}
	}
	return nil
}

// hasShell tells whether a microVM lets shells in.
func hasShell(vm *awsapi.GetMicrovmOutput) bool {
	return slices.ContainsFunc(vm.IngressNetworkConnectors, func(connector string) bool {
		return strings.HasSuffix(connector, ":"+shellConnector)
	})
}

// introduce says how a new microVM is reached.
func (s *session) introduce(vm *awsapi.GetMicrovmOutput, port int) {
	id, endpoint := shortID(vm.MicrovmId), "https://"+terminal.SafeLine(vm.Endpoint)
	s.screen.Card([][2]string{
		{"microvm", s.screen.Paint(terminal.Strong, vm.MicrovmId)},
		{"image", reference.ImageName(vm.ImageArn) + ":" + vm.ImageVersion},
		{"state", s.screen.State(string(vm.State))},
		{"endpoint", endpoint},
		{"idle", idleWords(vm.IdlePolicy)},
	})
	ca, portFlag, portHeader := "", "", ""
	if s.CABundle != "" {
		ca = " --cacert " + shellWord(s.CABundle)
	}
	if port != defaultPort {
		portFlag, portHeader = fmt.Sprintf(" --port %d", port), fmt.Sprintf(` -H "X-aws-proxy-port: %d"`, port)
	}
	if hasShell(vm) {
		s.screen.Printf("\nshell in it:\n  %s\n", s.command("shell %s", id))
	}
	s.screen.Printf("\ncall it:\n  %s\ntoken for it (an hour):\n  %s\nwith curl:\n  %s | curl%s -H @-%s %s/\n",
		s.command("curl %s /%s", id, portFlag), s.command("token %s%s", id, portFlag),
		s.command("token --header %s%s", id, portFlag), ca, portHeader, endpoint) // arguments of a process are for all to see
}
