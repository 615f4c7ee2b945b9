package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// What begins the lines of a build log that the daemon wrote itself, and some of them.
const (
	noteMark    = "==> "
	warningMark = "Warning: "
	failedMark  = "The build failed: "
)

// follow shows the build's log until the build has ended.
func (b *building) follow(ctx context.Context) error {
	b.progress.Say("Building %s:%s", b.name, b.version)
	log, err := b.Extension.Logs(ctx, extension.LogsInput{Source: b.build, Kind: extension.BuildLog, Follow: true})
	if err == nil {
		err = b.showLog(log)
		b.shown = err == nil && !b.flags.quiet
	}
	if err != nil && !notServed(err) && ctx.Err() == nil {
		b.screen.Notef("dormouse: the log broke off (%s); the build goes on", terminal.SafeLine(err.Error()))
	}
	// Whatever became of the log, the API says when the build has ended.
	return poll(ctx, func() (bool, error) {
		out, err := b.state(ctx)
		if err != nil {
			return false, err
		}
		return out.BuildState == awsapi.BuildStateSuccessful || out.BuildState == awsapi.BuildStateFailed, nil
	})
}

func (b *building) showLog(log io.ReadCloser) error {
	defer log.Close()
	lines := bufio.NewReaderSize(log, maxAppLine)
	for {
		read, err := lines.ReadSlice('\n')
		line := string(read)
		if errors.Is(err, bufio.ErrBufferFull) { // a very long line is shown as several
			line, err = line+"\n", nil
		}
		if note, ours := strings.CutPrefix(line, noteMark); ours {
			b.showNote(strings.TrimSpace(note))
		} else if _, err := io.WriteString(b.progress, line); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// showNote shows what the daemon says itself. Why the build failed is for the end.
func (b *building) showNote(note string) {
	if strings.HasPrefix(note, failedMark) {
		return
	}
	if warning, is := strings.CutPrefix(note, warningMark); is {
		b.warnings = append(b.warnings, warning)
	}
	b.progress.Say("%s", terminal.SafeLine(note))
}

func (b *building) state(ctx context.Context) (*awsapi.GetMicrovmImageBuildOutput, error) {
	return b.API.GetMicrovmImageBuild(ctx, &awsapi.GetMicrovmImageBuildInput{
		ImageIdentifier: b.arn, ImageVersion: b.version, BuildId: b.build})
}

// conclude says how the build ended.
func (b *building) conclude(ctx context.Context) error {
	details, err := b.Extension.Build(ctx, b.build)
	if notServed(err) {
		details, err = b.plainly(ctx)
	}
	if err != nil {
		return err
	}
	failed := details.State != string(awsapi.BuildStateSuccessful)
	if b.flags.output.json() {
		if err := b.screen.JSON(details); err != nil || !failed {
			return err
		}
		return exitFailed
	}
	if failed {
		return b.failed(details)
	}
	for _, warning := range b.warnings {
		defer b.screen.Notef("dormouse: %s", terminal.SafeLine(warning))
	}
	if b.flags.quiet {
		b.screen.Printf("%s:%s\n", b.name, b.version)
		return nil
	}
	phases := timed(details.Phases)
	b.screen.Timeline(phases)
	if words := snapshotWords(details); words != "" {
		b.screen.Printf("  %s\n", words)
	}
	b.screen.Printf("%s is ready (%s)\n", b.screen.Paint(terminal.Good, b.name+":"+b.version), terminal.Seconds(b.progress.Elapsed()))
	b.screen.Notef("run it: %s", b.command("run %s", b.name))
	return nil
}

// plainly is what the AWS API alone tells of a build.
func (b *building) plainly(ctx context.Context) (*extension.Build, error) {
	out, err := b.state(ctx)
	if err != nil {
		return nil, err
	}
	return &extension.Build{
		BuildID: out.BuildId, ImageARN: out.ImageArn, ImageVersion: out.ImageVersion,
		State: string(out.BuildState), StateReason: value(out.StateReason), CreatedAt: out.CreatedAt,
	}, nil
}

// failed says why the build failed; where its log was not shown, with what the step that did wrote last.
func (b *building) failed(details *extension.Build) error {
	step, lines := failingStep(details.LogTail)
	if len(lines) > 0 && !b.shown {
		b.screen.Notef("")
		if step != "" {
			b.screen.Notef("%s", terminal.SafeLine(step))
		}
		for _, line := range lines {
			b.screen.Notef("  %s", terminal.SafeLine(line))
		}
		b.screen.Notef("")
	}
	reason := orElse(details.StateReason, "no reason is known")
	if cause := failureCause(details.LogTail); reason == containerBuildFailed && cause != "" {
		reason = cause
		if step != "" && !strings.HasPrefix(step, "[internal] ") { // such as loading what FROM names, which the cause names too
			reason = cut(step) + ": " + cause
		}
	}
	return &failure{
		fmt.Errorf("the build of %s:%s failed: %s", b.name, b.version, reason),
		"all of it: " + b.command("logs --build %s:%s", b.name, b.version),
	}
}
