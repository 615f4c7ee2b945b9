package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm MICROVM|IMAGE[:VERSION]...",
		Short: "End microVMs for good, or delete images and versions",
		Long: `End microVMs for good, or delete images, or versions of them. A name is that of an image, an id that of a
microVM. An image with live microVMs is kept, unless --force ends them first. Waits until it is done. Of
several, one that cannot be removed does not keep the others.`,
		Example: `  dormouse rm 0c5b7f6e
  dormouse rm $(dormouse ps -q)
  dormouse rm counter:1
  dormouse rm -f counter`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: complete(anyNames, -1),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end the microVMs of an image, then delete it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		return s.each(cmd.Context(), args, func(name string) error { return s.remove(cmd.Context(), name, force) })
	}
	return cmd
}

func (s *session) remove(ctx context.Context, name string, force bool) error {
	target, err := s.find.Any(ctx, name)
	if err != nil {
		return err
	}
	if target.Image == nil {
		return s.terminate(ctx, target.MicroVM)
	}
	image := *target.Image
	if force {
		if err := s.terminateAll(ctx, image); err != nil {
			return err
		}
	}
	if image.Version != "" {
		return s.removeVersion(ctx, image)
	}
	return s.removeImage(ctx, image)
}

func (s *session) terminate(ctx context.Context, id string) error {
	call, cancel := uninterrupted(ctx)
	defer cancel()
	if _, err := s.API.TerminateMicrovm(call, &awsapi.TerminateMicrovmInput{MicrovmIdentifier: id}); err != nil {
		return err
	}
	if _, err := s.await(ctx, id, awsapi.MicrovmStateTerminated); err != nil {
		return err
	}
	s.screen.Printf("%s ended\n", shortID(id))
	return nil
}

// terminateAll ends the live microVMs of an image, or of one version.
func (s *session) terminateAll(ctx context.Context, image reference.Image) error {
	vms, err := reference.MicroVMs(ctx, s.API, &image.ARN)
	if err != nil {
		return err
	}
	for _, vm := range vms {
		if vm.State == awsapi.MicrovmStateTerminated || (image.Version != "" && vm.ImageVersion != image.Version) {
			continue
		}
		if err := s.terminate(ctx, vm.MicrovmId); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) removeImage(ctx context.Context, image reference.Image) error {
	call, cancel := uninterrupted(ctx)
	defer cancel()
	_, err := s.API.DeleteMicrovmImage(call, &awsapi.DeleteMicrovmImageInput{ImageIdentifier: image.ARN})
	if err != nil {
		return s.kept(ctx, image, err)
	}
	err = poll(ctx, func() (bool, error) {
		now, err := s.API.GetMicrovmImage(ctx, &awsapi.GetMicrovmImageInput{ImageIdentifier: image.ARN})
		if isGone(err) {
			return true, nil
		}
		if err == nil && now.State == awsapi.MicrovmImageStateDeleteFailed {
			err = fmt.Errorf("the image %s could not be deleted; the daemon's log says why", image.Name)
		}
		return false, err
	})
	return s.deleted(ctx, image, err)
}

func (s *session) removeVersion(ctx context.Context, image reference.Image) error {
	version := awsapi.GetMicrovmImageVersionInput{ImageIdentifier: image.ARN, ImageVersion: image.Version}
	call, cancel := uninterrupted(ctx)
	defer cancel()
	if _, err := s.API.DeleteMicrovmImageVersion(call, (*awsapi.DeleteMicrovmImageVersionInput)(&version)); err != nil {
		return s.kept(ctx, image, err)
	}
	err := poll(ctx, func() (bool, error) {
		_, err := s.API.GetMicrovmImageVersion(ctx, &version)
		if isGone(err) {
			return true, nil
		}
		return false, err
	})
	return s.deleted(ctx, image, err)
}

// deleted says that an image or a version has gone, or that it will go.
func (s *session) deleted(ctx context.Context, image reference.Image, err error) error {
	if ctx.Err() != nil {
		return &interrupted{fmt.Sprintf("%s goes on being deleted; look: %s", image, s.command("images"))}
	}
	if err == nil {
		s.screen.Printf("%s deleted\n", image)
	}
	return err
}

// kept adds what to do about an image that was not deleted.
func (s *session) kept(ctx context.Context, image reference.Image, err error) error {
	if refusal := (*awsapi.Error)(nil); !errors.As(err, &refusal) || refusal.Status() >= http.StatusInternalServerError || isGone(err) {
		return err
	}
	hint := ""
	live, _ := s.microVMs(ctx, []string{image.String()}, false)
	switch {
	case image.State == awsapi.MicrovmImageStateCreating, image.State == awsapi.MicrovmImageStateUpdating:
		hint = "its build must end by itself, follow it: " + s.command("logs --build -f %s", image.Name)
	case len(live) > 0:
		hint = "end its microVMs first: " + s.command("rm -f %s", image)
	case image.Version != "":
		hint = "delete the image: " + s.command("rm %s", image.Name)
	}
	return &failure{err, hint}
}
