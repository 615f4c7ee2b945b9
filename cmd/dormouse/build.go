package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/bundle"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

func buildCommand() *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build PATH -t NAME",
		Short: "Make an image of a folder with a Dockerfile",
		Long: `Make an image of a folder with a Dockerfile: the folder is packed (without what its .dockerignore names) and
uploaded, the Dockerfile runs in a microVM of its own, the app starts, and a snapshot of it is the image. If the
name exists, the image gets another version. The bucket keeps the three newest zips of an image.

Hooks are requests the daemon makes to the app at the turns of its life. With the ready hook the snapshot is
taken when the app says that it is ready; without any, when it listens. See --hooks.`,
		Example: `  dormouse build examples/counter -t counter
  dormouse build . -t web --memory 512m --env MODE=production
  dormouse build . -t web --hooks ready=2m,run,suspend --hooks-port 9000
  dormouse build . -t web --detach`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	f.add(cmd)
	f.output = outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := imageNameFor(f.name, args[0])
		if err != nil {
			return err
		}
		request, err := f.request()
		if err != nil {
			return err
		}
		if err := buildableFolder(args[0]); err != nil {
			return err
		}
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		reach, err := egress.arns(s.Region, f.egress)
		if err != nil {
			return err
		}
		b := &building{session: s, flags: &f, dir: args[0], name: name, request: request, egress: reach, progress: s.screen.Progress()}
		if f.quiet {
			b.progress = terminal.New(io.Discard, io.Discard).Progress()
		}
		defer b.progress.Close()
		return b.run(cmd.Context())
	}
	return cmd
}

// buildableFolder checks what was typed for a folder.
func buildableFolder(dir string) error {
	_, err := bundle.Find(dir)
	var (
		missing      *bundle.NoFolderError
		noDockerfile *bundle.NoDockerfileError
	)
	switch {
	case errors.As(err, &missing):
		return usagef("%v", err)
	case errors.As(err, &noDockerfile):
		return &usageError{err.Error(), noDockerfile.Hint()}
	}
	return err
}

// imageNameFor is the name that was given, or that of the folder.
func imageNameFor(given, path string) (string, error) {
	name := strings.TrimSuffix(given, ":latest")
	if name == "" {
		dir, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		name = filepath.Base(dir)
	}
	if !regexp.MustCompile(`\A[a-zA-Z0-9_-]{1,64}\z`).MatchString(name) {
		if strings.Contains(name, ":") {
			return "", usagef("%q: versions are numbered, give only a name", given)
		}
		return "", usagef("%q cannot be the name of an image: letters, digits, - and _, at most 64; choose one with -t", name)
	}
	return name, nil
}

// building is one run of build.
type building struct {
	*session
	flags    *buildFlags
	dir      string
	name     string
	request  buildRequest
	egress   []string // ARNs
	progress *terminal.Progress

	objects     *connection.Objects // set by upload, as are bucket and key
	bucket, key string

	arn, version, build string // set when the daemon has accepted

	shown    bool     // the whole log was
	warnings []string // of the log
}

func (b *building) run(ctx context.Context) error {
	uri, err := b.upload(ctx)
	if err != nil {
		return err
	}
	if err := b.submit(ctx, uri); err != nil {
		return err
	}
	b.prune(ctx)
	if b.flags.detach {
		b.progress.Close()
		return b.detached()
	}
	if err := b.follow(ctx); err != nil {
		if ctx.Err() != nil {
			return b.leave()
		}
		return err
	}
	b.progress.Close()
	return b.conclude(ctx)
}

// leave says what goes on: builds cannot be cancelled.
func (b *building) leave() error {
	return &interrupted{fmt.Sprintf("the build of %s:%s goes on in the daemon\n  follow it: %s\n  delete the image, once it has ended: %s",
		b.name, b.version, b.command("logs --build -f %s", b.name), b.command("rm %s", b.name))}
}

// started is what a build that is not waited for prints as JSON.
type started struct {
	ImageARN     string `json:"imageArn"`
	ImageVersion string `json:"imageVersion"`
	BuildID      string `json:"buildId"`
}

func (b *building) detached() error {
	if b.flags.output.json() {
		return b.screen.JSON(started{b.arn, b.version, b.build})
	}
	if b.flags.quiet {
		b.screen.Printf("%s:%s\n", b.name, b.version)
		return nil
	}
	b.screen.Printf("%s:%s is being built\n", b.name, b.version)
	b.screen.Notef("follow it: %s", b.command("logs --build -f %s", b.name))
	return nil
}
