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

// noteMark begins the lines of a build log that the daemon wrote itself.
const noteMark = "==> "

// follow shows the build's log until the build has ended.
func (b *building) follow(ctx context.Context) error {
	b.progress.Say("Building %s:%s", b.name, b.version)
	log, err := b.Extension.Logs(ctx, extension.LogsInput{Source: b.build, Kind: extension.BuildLog, Follow: true})
	if err == nil {
		err = b.showLog(log)
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
			b.progress.Say("%s", terminal.SafeLine(strings.TrimSpace(note)))
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

// failed says why the build failed, with the step that did and what it wrote last.
func (b *building) failed(details *extension.Build) error {
	if step, lines := failingStep(details.LogTail); len(lines) > 0 {
		b.screen.Notef("")
		if step != "" {
			b.screen.Notef("%s", terminal.SafeLine(step))
		}
		for _, line := range lines {
			b.screen.Notef("  %s", terminal.SafeLine(line))
		}
		b.screen.Notef("")
	}
	return &failure{
		fmt.Errorf("the build of %s:%s failed: %s", b.name, b.version, orElse(details.StateReason, "no reason is known")),
		"all of it: " + b.command("logs --build %s:%s", b.name, b.version),
	}
}
