// Package buildkit has a BuildKit daemon, which is not trusted, run a Dockerfile, and brings the image back as an OCI layout.
package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc/codes"
)

var (
	// ErrDockerfile means that the Dockerfile failed: a RUN, a COPY, a FROM, or its syntax.
	ErrDockerfile = errors.New("the Dockerfile failed")
	// ErrDiskFull means that the image is larger than allowed, or filled the builder's disk.
	ErrDiskFull = errors.New("no space left for the image")
)

// Dial connects to buildkitd. It is called more than once when a connection breaks.
type Dial func(ctx context.Context) (net.Conn, error)

// Build is one run of a Dockerfile.
type Build struct {
	Context string // folder with the Dockerfile at its root
	Out     string // becomes an OCI layout folder with one image; must not exist yet
	// Bases is an OCI layout with uncompressed layers, or "". Blobs it has are not transferred.
	Bases string
	// Online allows frontends that a "# syntax=" line names to be pulled from their registry.
	// Without it, and for the stock Dockerfile frontend always, the one built into buildkitd runs.
	Online   bool
	MaxBytes int64     // of all blobs that are transferred
	Log      io.Writer // gets the progress as plain text, as it happens
	// Exporting is called when the Dockerfile has run and the image is about to be transferred.
	Exporting func()
}

// Run runs the Dockerfile. Cancelling ctx stops it. Errors other than ErrDockerfile and
// ErrDiskFull are not the user's.
func Run(ctx context.Context, dial Dial, b Build) error {
	frontend, err := frontendOptions(b)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(b.Context)
	if err != nil {
		return fmt.Errorf("open build context: %w", err)
	}
	defer root.Close()
	store, err := newExportStore(b.Out, b.Bases, b.MaxBytes)
	if err != nil {
		return err
	}
	daemon, err := client.New(ctx, "passthrough:///buildkitd", client.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		return fmt.Errorf("connect to buildkitd: %w", err)
	}
	defer daemon.Close()
	// fsutil's files below an os.Root: what buildkitd asks for cannot lead out of the context.
	files := fsutil.NewRootFS(fsutil.NewRoot(root))
	descriptor, err := solve(ctx, daemon, b, client.SolveOpt{
		LocalMounts:   map[string]fsutil.FS{"context": files, "dockerfile": files},
		Frontend:      "dockerfile.v0",
		FrontendAttrs: frontend,
		Exports: []client.ExportEntry{{
			Type:        client.ExporterOCI,
			Attrs:       map[string]string{"tar": "false", "compression": "uncompressed", "force-compression": "false"},
			OutputStore: store,
		}},
	})
	if err != nil {
		return classify(ctx, err, store, b.Log)
	}
	return store.finish(descriptor)
}

// frontendOptions are the options of BuildKit's Dockerfile frontend.
func frontendOptions(b Build) (map[string]string, error) {
	options := map[string]string{"platform": "linux/" + runtime.GOARCH}
	builtIn, note, err := useBuiltIn(b)
	if err != nil {
		return nil, err
	}
	if builtIn {
		// The frontend follows a "# syntax=" line unless this option is present, whatever it
		// says (frontend/dockerfile/builder/build.go): it is how it finds out that it was
		// itself started because of such a line.
		options["cmdline"] = "dockerfile.v0"
	}
	if note != "" {
		fmt.Fprintln(b.Log, note)
	}
	return options, nil
}

// solve runs the build and returns the descriptor of its result, in BuildKit's encoding.
func solve(ctx context.Context, daemon *client.Client, b Build, opt client.SolveOpt) (string, error) {
	status := make(chan *client.SolveStatus)
	shown := make(chan error, 1)
	go func() { shown <- show(status, b.Log, b.Exporting) }()
	response, err := daemon.Solve(ctx, nil, opt, status) // closes status
	if showErr := <-shown; err == nil && showErr != nil {
		err = fmt.Errorf("show progress: %w", showErr)
	}
	if err != nil {
		return "", err
	}
	return response.ExporterResponse[descriptorKey], nil
}

// classify tells faults of the user's Dockerfile, which the log gets in full, from ours.
func classify(ctx context.Context, err error, store *exportStore, log io.Writer) error {
	if ctx.Err() != nil {
		return fmt.Errorf("run the Dockerfile: %w", context.Cause(ctx))
	}
	if storeErr := store.failure(); storeErr != nil {
		return storeErr
	}
	if code := grpcerrors.Code(err); code == codes.Unavailable || code == codes.Canceled {
		return fmt.Errorf("run the Dockerfile: the builder is gone: %w", err)
	}
	for _, source := range errdefs.Sources(err) {
		if printErr := guard(func() error { return source.Print(log) }); printErr != nil {
			return fmt.Errorf("write build log: %w", printErr)
		}
	}
	fmt.Fprintf(log, "ERROR: %s\n", err)
	if isDiskFull(err) {
		return fmt.Errorf("%w: %v", ErrDiskFull, err)
	}
	return fmt.Errorf("%w: %v", ErrDockerfile, err)
}
