package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// logsFlags are the flags of logs.
type logsFlags struct {
	build, console, vmm, events, follow, raw, times bool
	tail                                            int
}

func logsCommand() *cobra.Command {
	var f logsFlags
	cmd := &cobra.Command{
		Use:   "logs MICROVM|IMAGE[:VERSION]|BUILD",
		Short: "Print what an app, its guest or a build wrote",
		Long: `Print what the app in a microVM wrote to standard output and standard error, or with --console what its
guest kernel wrote, or with --vmm what the process around it wrote; or with --build the log of an image build.
Of an image without a live microVM it is the log of the one that was started last; without any, of its build.

Control characters are shown as escapes on a terminal, but for --raw.`,
		Example: `  dormouse logs counter
  dormouse logs -f --tail 20 0c5b7f6e
  dormouse logs --events counter
  dormouse logs --console 0c5b7f6e
  dormouse logs --build counter:2
  dormouse logs --build -f 6f0c8a52-4e0b-4a55-9c0e-3f7a0d9f2b11`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: complete(anyNames, 1),
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.build, "build", false, "the log of a build: of an image, a version, or a build id")
	flags.BoolVar(&f.console, "console", false, "the serial console of the guest")
	flags.BoolVar(&f.vmm, "vmm", false, "what the virtual machine monitor printed")
	flags.BoolVarP(&f.events, "events", "e", false, "with what happened to the microVM between the lines")
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on until the build or the microVM has ended")
	flags.IntVarP(&f.tail, "tail", "n", -1, "only the last so many lines")
	flags.BoolVarP(&f.times, "timestamps", "t", false, "when, and to which stream, the app wrote each line")
	flags.BoolVar(&f.raw, "raw", false, "as it was written, control characters and all")
	cmd.MarkFlagsMutuallyExclusive("build", "console", "vmm", "events")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("tail") && f.tail < 0 {
			return usagef("--tail %d: a number of lines is not negative", f.tail)
		}
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		in, err := f.input(cmd.Context(), s, args[0])
		if err != nil {
			return err
		}
		if err = s.copyLog(cmd.Context(), in, &f); f.follow && cmd.Context().Err() != nil {
			err = nil // Ctrl-C is how one stops to follow
		}
		return err
	}
	return cmd
}

// input finds the log that is meant.
func (f *logsFlags) input(ctx context.Context, s *session, name string) (in extension.LogsInput, err error) {
	in = extension.LogsInput{Follow: f.follow, Kind: extension.AppLog}
	if f.tail >= 0 {
		in.Tail = &f.tail
	}
	switch {
	case f.console:
		in.Kind = extension.ConsoleLog
	case f.vmm:
		in.Kind = extension.VMMLog
	}
	if f.build || reference.IsUUID(name) {
		in.Kind = extension.BuildLog
		in.Source, err = s.buildID(ctx, name)
		return in, err
	}
	in.Source, err = s.orEnded(s.find.MicroVM(ctx, name))
	if image := f.onlyBuilt(err); image != "" {
		s.screen.Notef("dormouse: %s has no microVM; this is the log of its build", image)
		in.Kind = extension.BuildLog
		in.Source, err = s.buildID(ctx, name)
	}
	return in, err
}

// onlyBuilt is the name of an image that has nothing but a build log, "" if err says something else.
func (f *logsFlags) onlyBuilt(err error) string {
	var missing *reference.NotFoundError
	if !errors.As(err, &missing) || f.console || f.vmm {
		return ""
	}
	return missing.ImageWithout
}

// buildID finds a build by its id, or the last one of an image.
func (s *session) buildID(ctx context.Context, name string) (string, error) {
	if reference.IsUUID(name) {
		return name, nil
	}
	image, err := s.find.Image(ctx, name)
	if err != nil {
		return "", err
	}
	last, err := s.lastBuild(ctx, image)
	return last.BuildId, err
}

func (s *session) copyLog(ctx context.Context, in extension.LogsInput, f *logsFlags) error {
	log, err := s.Extension.Logs(ctx, in)
	if err != nil {
		return err
	}
	defer log.Close()
	read := &lastByte{}
	var text io.Reader = log
	if f.events && in.Kind == extension.AppLog {
		merged := s.withEvents(ctx, log, in)
		defer merged.Close()
		text = merged
	}
	from := io.TeeReader(text, read)
	switch {
	case f.raw:
		_, err = io.Copy(s.screen.Out, from)
	case in.Kind == extension.AppLog && !f.times:
		err = copyAppLog(s.screen, from)
	default:
		out, flush := s.screen.Stranger()
		rest := func() error { return nil }
		if in.Kind == extension.VMMLog {
			without := &withoutLine{to: out, line: harmless}
			out, rest = without, without.flush
		}
		if _, err = io.Copy(out, from); err == nil {
			err = errors.Join(rest(), flush())
		}
	}
	if err == nil && !read.seen && s.screen.Interactive() {
		s.screen.Notef("Nothing%s.", map[bool]string{true: " since the image was made"}[in.Kind == extension.AppLog])
	}
	return err
}
