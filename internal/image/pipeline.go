package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/image/artifact"
	"github.com/dormouse-dev/dormouse/internal/image/buildkit"
	"github.com/dormouse-dev/dormouse/internal/image/rootfs"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// bakeTime bounds what a snapshot takes beyond the time its hooks may take: two boots, and
// writing and hashing some gigabytes.
const bakeTime = 15 * time.Minute

// pipeline is one build on its way from the zip to the snapshot.
type pipeline struct {
	m       *Manager
	image   store.Image
	version store.ImageVersion
	build   store.Build
	log     *buildLog
	// requestID is the API call that asked for the build, "" after a restart.
	requestID string
	phases    *telemetry.Phases
	size      microvm.Size
	dir       string // what the build makes, removed when it ends
}

func newPipeline(m *Manager, i store.Image, v store.ImageVersion, b store.Build, log *buildLog) *pipeline {
	size, _ := microvm.SizeOf(v.Config.MinimumMemoryMiB)
	return &pipeline{
		m: m, image: i, version: v, build: b, log: log, size: size,
		phases: telemetry.Begin(m.cfg.Clock, "queue"),
		dir:    filepath.Join(m.buildsDir(), b.ID),
	}
}

// Files in the folder of a build.
func (p *pipeline) archive() string { return filepath.Join(p.dir, "code.zip") }
func (p *pipeline) context() string { return filepath.Join(p.dir, "context") }
func (p *pipeline) layout() string  { return filepath.Join(p.dir, "layout") }
func (p *pipeline) result() string  { return filepath.Join(p.dir, "image") }

// run builds, and records how that ended.
func (p *pipeline) run(ctx context.Context) {
	defer p.m.cfg.LogEnded(p.build.ID)
	made, err := p.make(ctx)
	if err == nil {
		err = p.publish(made)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		p.fail(err)
	}
}

// make runs all steps up to a complete snapshot in the build's folder.
func (p *pipeline) make(ctx context.Context) (*snapshot.Image, error) {
	if err := p.m.slots.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other builds: %w", err)
	}
	defer p.m.slots.Release(1)
	if err := p.started(ctx); err != nil {
		return nil, err
	}
	if p.size == (microvm.Size{}) {
		return nil, fmt.Errorf("no memory class of %d MiB", p.version.Config.MinimumMemoryMiB)
	}
	if err := os.MkdirAll(p.result(), 0o700); err != nil {
		return nil, fmt.Errorf("make build folder: %w", err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, p.m.cfg.BuildTime, errTimeLimit)
	defer cancel()
	start, err := p.makeRootfs(limited)
	if err != nil {
		if errors.Is(context.Cause(limited), errTimeLimit) {
			err = errors.Join(errTimeLimit, err)
		}
		return nil, err
	}
	return p.bake(ctx, start)
}

func (p *pipeline) makeRootfs(ctx context.Context) (rootfs.Start, error) {
	if err := p.fetch(ctx); err != nil {
		return rootfs.Start{}, err
	}
	p.next("unpack", "Unpacking the code artifact")
	if err := artifact.Unpack(ctx, p.archive(), p.context(), p.m.cfg.Archive); err != nil {
		return rootfs.Start{}, err
	}
	if err := os.Remove(p.archive()); err != nil {
		return rootfs.Start{}, fmt.Errorf("remove code artifact: %w", err)
	}
	if err := p.runDockerfile(ctx); err != nil {
		return rootfs.Start{}, err
	}
	p.next("rootfs", "Making the root file system")
	start, err := rootfs.Write(ctx, p.layout(), filepath.Join(p.result(), snapshot.RootFile), p.size.DiskBytes)
	if err != nil {
		return rootfs.Start{}, err
	}
	for _, done := range []string{p.layout(), p.context()} {
		if err := os.RemoveAll(done); err != nil {
			return rootfs.Start{}, fmt.Errorf("remove build context: %w", err)
		}
	}
	return start, nil
}

func (p *pipeline) fetch(ctx context.Context) error {
	p.next("fetch", "Fetching %s", p.version.Config.ArtifactURI)
	file, err := os.OpenFile(p.archive(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("fetch code artifact: %w", err)
	}
	as := objectstore.Reader{Account: p.image.AccountID, Credentials: p.m.cfg.Credentials(p.identity())}
	_, err = p.m.cfg.Objects.Fetch(ctx, as, p.version.Config.ArtifactURI, file, p.m.cfg.ArtifactBytes)
	return errors.Join(err, file.Close())
}

// identity is who the guests of this build are.
func (p *pipeline) identity() microvm.Identity {
	return microvm.Identity{
		Name: microvm.BuildName(p.build.ID), AccountID: p.image.AccountID, Region: p.image.Region,
		ImageARN: imageARN(p.image), Role: p.version.Config.BuildRoleARN,
	}
}

// runDockerfile runs the Dockerfile in a builder microVM that exists for this build only.
func (p *pipeline) runDockerfile(ctx context.Context) (err error) {
	p.next("builder", "Starting a builder microVM")
	builder, err := p.m.cfg.StartBuilder(ctx, p.version.Config.EgressConnectors, func(text string) { p.log.note("Warning: %s", text) })
	if err != nil {
		return fmt.Errorf("start builder: %w", err)
	}
	defer func() { err = errors.Join(err, builder.Close()) }()
	p.next("build", "Running the Dockerfile")
	online := !builder.Sealed() && p.m.cfg.Bases.Online(ctx)
	if builder.Sealed() {
		p.log.note("The build reaches no network: its egress connectors lead nowhere")
	}
	if !online {
		p.noteBases()
	}
	err = p.m.runDockerfile(ctx, builder.Dial, buildkit.Build{
		Context:   p.context(),
		Out:       p.layout(),
		Bases:     p.m.cfg.Bases.Dir(),
		Online:    online,
		MaxBytes:  p.size.DiskBytes,
		Log:       p.log,
		Exporting: func() { p.phases.Next("export") },
	})
	if !online && errors.Is(err, buildkit.ErrDockerfile) && strings.Contains(err.Error(), ": not found") {
		p.noteBases()
	}
	return err
}

// noteBases tells which base images there are where the registry cannot be asked.
func (p *pipeline) noteBases() {
	p.log.note("No registry is asked (none is reachable, or --offline is set): the base images are local ones, %s", strings.Join(p.m.cfg.Bases.Names(), ", "))
}

// bake boots the root file system, lets the app become ready and takes the snapshot.
func (p *pipeline) bake(ctx context.Context, start rootfs.Start) (*snapshot.Image, error) {
	config := p.version.Config
	limited, cancel := context.WithTimeout(ctx, bakeTime+config.Hooks.Ready.Timeout+config.Hooks.Validate.Timeout)
	defer cancel()
	if !config.AllCapabilities {
		start.Volumes = nil // only nested containers need another file system than the root's
	}
	return p.m.cfg.VMs.Bake(limited, microvm.BakeSpec{
		Dir: p.result(),
		App: guest.BootRequest{
			Args: start.Args, Env: environment(start.Env, p.image, p.version), Dir: start.WorkDir, User: start.User,
			AllCapabilities: config.AllCapabilities, Volumes: start.Volumes,
		},
		Size: p.size, Hooks: config.Hooks, EgressConnectors: config.EgressConnectors, Identity: p.identity(),
		Log:  p.log,
		Warn: func(text string) { p.log.note("Warning: %s", text) },
		Phase: func(name string) {
			switch name {
			case "boot":
				p.log.begin(loggroup.SnapshotPart)
			case "validate":
				p.log.begin(loggroup.ValidatePart)
			}
			p.next(name, "%s", map[string]string{
				"boot": fmt.Sprintf("Booting the image, which runs %.200q", strings.Join(start.Args, " ")), "ready": "Waiting for the application to be ready",
				"snapshot": "Taking the snapshot", "validate": "Validating a microVM from the snapshot",
			}[name])
		},
	})
}

// next begins a phase and tells the log.
func (p *pipeline) next(phase, format string, args ...any) {
	p.phases.Next(phase)
	p.log.note(format, args...)
}
