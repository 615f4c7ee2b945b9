package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func imagesCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "images [IMAGE]",
		Short: "List images, or the versions of one",
		Long:  "List the images of the account; with the name of an image, its versions, newest first.",
		Example: `  dormouse images
  dormouse images counter
  dormouse images --output json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: complete(imageNames, 1),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only names (or versions)")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		if len(args) > 0 {
			return s.listVersions(cmd.Context(), args[0], quiet, output.json())
		}
		images, err := reference.Images(cmd.Context(), s.API, "")
		switch {
		case err != nil:
			return err
		case output.json():
			return s.screen.JSON(awsapi.List[awsapi.MicrovmImageSummary](images))
		case quiet:
			for _, i := range images {
				s.screen.Printf("%s\n", i.Name)
			}
			return nil
		}
		printImages(s.screen, images, time.Now())
		if len(images) == 0 {
			s.screen.Notef("No images. Make one of a folder with a Dockerfile: %s", s.command("build PATH -t NAME"))
		}
		return nil
	}
	return cmd
}

func printImages(screen *terminal.Screen, images []awsapi.MicrovmImageSummary, now time.Time) {
	if len(images) == 0 {
		return
	}
	rows := make([][]string, len(images))
	for i, image := range images {
		failed := value(image.LatestFailedImageVersion)
		rows[i] = []string{
			screen.Paint(terminal.Strong, image.Name), screen.State(string(image.State)),
			orElse(value(image.LatestActiveImageVersion), "-"), screen.Paint(terminal.Bad, failed), terminal.Ago(image.CreatedAt.Time, now),
		}
	}
	screen.Table([]string{"NAME", "STATE", "NEWEST", "FAILED", "CREATED"}, rows)
}

func (s *session) listVersions(ctx context.Context, name string, quiet, asJSON bool) error {
	image, err := s.find.Image(ctx, name)
	if err != nil {
		return err
	}
	versions, err := s.versions(ctx, image)
	switch {
	case err != nil:
		return err
	case asJSON:
		return s.screen.JSON(awsapi.List[awsapi.MicrovmImageVersionSummary](versions))
	case quiet:
		for _, v := range versions {
			s.screen.Printf("%s\n", v.ImageVersion)
		}
		return nil
	}
	printVersions(s.screen, versions, time.Now())
	return nil
}

func printVersions(screen *terminal.Screen, versions []awsapi.MicrovmImageVersionSummary, now time.Time) {
	rows := make([][]string, len(versions))
	for i, v := range versions {
		memory := memoryOf(v.Resources)
		rows[i] = []string{
			screen.Paint(terminal.Strong, v.ImageVersion), screen.State(string(v.State)), screen.State(string(v.Status)),
			memory.String(), hookWords(v.Hooks), terminal.Ago(v.CreatedAt.Time, now),
		}
	}
	screen.Table([]string{"VERSION", "STATE", "STATUS", "MEMORY", "HOOKS", "CREATED"}, rows)
}
