package main

import (
	"context"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// imageView is what inspect tells of an image.
type imageView struct {
	Image    *awsapi.GetMicrovmImageOutput                  `json:"image"`    // as GetMicrovmImage answers
	Versions awsapi.List[awsapi.MicrovmImageVersionSummary] `json:"versions"` // newest first, or the one that was named
	Build    *extension.Build                               `json:"build"`    // the last one; null where the server tells none
}

func (s *session) inspectImage(ctx context.Context, image reference.Image, asJSON bool) (err error) {
	var view imageView
	if view.Image, err = s.API.GetMicrovmImage(ctx, &awsapi.GetMicrovmImageInput{ImageIdentifier: image.ARN}); err != nil {
		return err
	}
	if view.Versions, err = s.versions(ctx, image); err != nil {
		return err
	}
	last, err := s.lastBuild(ctx, image)
	if err == nil {
		view.Build, err = s.Extension.Build(ctx, last.BuildId)
	}
	if err != nil && !notServed(err) {
		return err
	}
	if asJSON {
		return s.screen.JSON(view)
	}
	now := time.Now()
	view.print(s.screen, now)
	return s.printLive(ctx, image, now)
}

// printLive lists the live microVMs of an image, which are inspected each for itself.
func (s *session) printLive(ctx context.Context, image reference.Image, now time.Time) error {
	items, err := s.microVMs(ctx, []string{image.String()}, false)
	if err != nil || len(items) == 0 {
		return err
	}
	vms, err := s.details(ctx, items)
	if err != nil {
		return err
	}
	s.screen.Printf("\n")
	printMicroVMs(s.screen, vms, false, false, now)
	s.screen.Notef("where the time of one went: %s", s.command("inspect %s", shortID(items[0].MicrovmId)))
	return nil
}

func (v *imageView) print(screen *terminal.Screen, now time.Time) {
	i := v.Image
	var tags []string
	for name, text := range i.Tags {
		tags = append(tags, terminal.SafeLine(name+"="+text))
	}
	screen.Card([][2]string{
		{"image", screen.Paint(terminal.Strong, i.Name)},
		{"arn", i.ImageArn},
		{"state", screen.State(string(i.State))},
		{"created", terminal.Ago(i.CreatedAt.Time, now)},
		{"tags", strings.Join(tags, ", ")},
	})
	screen.Printf("\n")
	printVersions(screen, v.Versions, now)
	if v.Build == nil {
		return
	}
	b, phases := v.Build, timed(v.Build.Phases)
	screen.Printf("\n%s  version %s, %s", screen.Paint(terminal.Strong, "last build"), b.ImageVersion, screen.State(b.State))
	if len(phases) > 0 {
		screen.Printf(", %s", terminal.Total(phases))
	}
	screen.Printf("\n")
	if b.StateReason != "" {
		screen.Printf("  %s\n", terminal.SafeLine(b.StateReason))
	}
	screen.Timeline(phases)
	if words := snapshotWords(b); words != "" {
		screen.Printf("  %s\n", words)
	}
}

// snapshotWords says how large what a build made is.
func snapshotWords(b *extension.Build) string {
	if b.MemoryBytes == 0 {
		return ""
	}
	return "root file system " + terminal.Bytes(b.CodeBytes) + ", memory " + terminal.Bytes(b.MemoryBytes) + ", disk " + terminal.Bytes(b.DiskBytes)
}

func diskWords(d *extension.MicroVM) string {
	var parts []string
	if d.DiskBytes != nil {
		parts = append(parts, "disk "+terminal.Bytes(*d.DiskBytes))
	}
	if d.CheckpointBytes != nil {
		parts = append(parts, "saved memory "+terminal.Bytes(*d.CheckpointBytes))
	}
	return strings.Join(parts, ", ")
}
