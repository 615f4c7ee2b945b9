package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/image/buildkit"
	"github.com/dormouse-dev/dormouse/internal/image/ocitest"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestABuildMakesAnActiveVersion(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()

	now, v, b := w.read(i)
	require.Equal(t, store.ImageCreated, now.State)
	require.Equal(t, "1.0", now.LatestActiveVersion)
	require.Equal(t, store.VersionSuccessful, v.State)
	require.Equal(t, store.StatusActive, v.Status)
	require.Equal(t, store.BuildSuccessful, b.State)
	require.Equal(t, [3]int64{10, 20, 30}, [3]int64{b.CodeBytes, b.MemoryBytes, b.DiskBytes})
	require.Empty(t, b.StateReason)
	require.FileExists(t, filepath.Join(microvm.ImageDir(w.dir, i.ID, "1.0"), snapshot.RootFile))
	require.FileExists(t, filepath.Join(microvm.ImageDir(w.dir, i.ID, "1.0"), snapshot.MemoryFile))
	left, err := os.ReadDir(w.buildsDir())
	require.NoError(t, err)
	require.Empty(t, left)
	require.Zero(t, w.builders.Load())
	require.Equal(t, []string{"internet"}, w.egress)
	log, err := os.ReadFile(LogFile(w.dir, b.ID))
	require.NoError(t, err)
	require.Contains(t, string(log), "==> Fetching s3://code/app.zip\n")
	require.Contains(t, string(log), "==> Running the Dockerfile\n==> No registry is asked (none is reachable, or --offline is set): the base images are local ones, debian:12, python:3-slim\n#1 [1/1] RUN echo\n")
	require.Contains(t, string(log), "==> Booting the image, which runs \"/app -v\"\n")
	require.Contains(t, string(log), "==> Warning: nobody listens\n")
	require.Contains(t, string(log), "The image is ready")
}

func TestWhatABuildMayNotReachIsInItsLog(t *testing.T) {
	w := newWorld(t, nil)
	w.refused, w.sealed = "network: refused to resolve deb.debian.org: no-egress", true
	i := w.create("app")
	w.wait()
	_, _, b := w.read(i)
	log, err := os.ReadFile(LogFile(w.dir, b.ID))
	require.NoError(t, err)
	require.Contains(t, string(log), "==> Warning: "+w.refused+"\n")
	require.Contains(t, string(log), "==> The build reaches no network: its egress connectors lead nowhere\n")
}

func TestPhasesOfABuildAddUpToItsTime(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	_, _, b := w.read(i)
	var names []string
	var total time.Duration
	for _, phase := range b.Phases {
		names = append(names, phase.Name)
		total += phase.Duration
	}
	require.Equal(t, []string{"queue", "fetch", "unpack", "builder", "build", "export", "rootfs", "boot", "ready", "snapshot", "validate"}, names)
	require.Equal(t, b.EndedAt.Sub(b.CreatedAt), total)
	require.Equal(t, 8*phaseTime, total)
}

func TestTheAppIsStartedAsTheContainerImageSays(t *testing.T) {
	w := newWorld(t, nil)
	w.create("app")
	w.wait()
	app := w.spec.App
	require.Equal(t, []string{"/app", "-v"}, app.Args)
	require.Equal(t, "/srv", app.Dir)
	require.Equal(t, "app", app.User)
	require.Equal(t, []string{
		defaultPath, "A=container", "B=image", "C=image", "AWS_LAMBDA_MICROVM_IMAGE_NAME=app",
		"AWS_LAMBDA_MICROVM_IMAGE_ARN=arn:aws:lambda:us-east-1:111111111111:microvm-image:app",
		"AWS_LAMBDA_MICROVM_IMAGE_VERSION=1.0", "AWS_REGION=us-east-1",
	}, app.Env, "the container's, the image's, then the platform's")
	require.Equal(t, []string{"internet"}, w.spec.EgressConnectors)
	require.Equal(t, 2048, w.spec.Size.MemoryMiB, "four times the 512 MiB class")
}

func TestABuildReadsItsArtifactAndRunsItsHooksWithTheBuildRole(t *testing.T) {
	provider := credentials.NewStaticCredentialsProvider("ROLE", "secret", "")
	var asked []microvm.Identity
	w := newWorld(t, func(c *Config) {
		c.Credentials = func(who microvm.Identity) aws.CredentialsProvider {
			asked = append(asked, who)
			return provider
		}
	})
	i := w.create("app")
	w.wait()
	_, _, b := w.read(i)
	require.Equal(t, provider, w.readAs)
	who := microvm.Identity{
		Name: "build-" + b.ID, AccountID: account, Region: region, Role: "arn:aws:iam::111111111111:role/build",
		ImageARN: "arn:aws:lambda:us-east-1:111111111111:microvm-image:app",
	}
	require.Equal(t, []microvm.Identity{who}, asked)
	require.Equal(t, who, w.spec.Identity)
}

func TestAFailedBuildTellsWhyAndLeavesOnlyItsLog(t *testing.T) {
	dockerfileFails := func(w *world, err error) {
		w.built = func(_ context.Context, b buildkit.Build) error {
			for n := range 80 {
				fmt.Fprintf(b.Log, "line %d\n", n)
			}
			return err
		}
	}
	bakeFails := func(w *world, err error) {
		w.baked = func(context.Context, microvm.BakeSpec) error { return err }
	}
	for name, c := range map[string]struct {
		breaks     func(w *world)
		code, text string
	}{
		"no such key": {func(w *world) {
			w.code = func(io.Writer) error {
				return &objectstore.FetchError{Reason: objectstore.NoSuchKey, Message: "There is no object s3://code/app.zip."}
			}
		}, "S3_NO_SUCH_KEY", "S3_NO_SUCH_KEY: There is no object s3://code/app.zip."},
		"S3 is gone": {func(w *world) { w.code = func(io.Writer) error { return errors.New("dial: refused") } },
			"INTERNAL_PLATFORM_ERROR", "INTERNAL_PLATFORM_ERROR: An internal error occurred. The log of the daemon has the details."},
		"not a zip": {func(w *world) {
			w.code = func(out io.Writer) error { _, err := io.WriteString(out, "GIF89a"); return err }
		},
			"ARCHIVE_INVALID", "ARCHIVE_INVALID: The code artifact is not a usable zip archive: it is not a zip file."},
		"no Dockerfile": {func(w *world) {
			w.code = func(out io.Writer) error { _, err := out.Write(zipOf(w.t, "app.py")); return err }
		}, "ARCHIVE_DOCKERFILE_NOT_FOUND", "ARCHIVE_DOCKERFILE_NOT_FOUND: The code artifact has no Dockerfile at the root of the archive."},
		"a failing RUN": {func(w *world) { dockerfileFails(w, fmt.Errorf("%w: exit code: 1", buildkit.ErrDockerfile)) },
			"CONTAINER_BUILD_FAILED", "The container image build failed."},
		"a base image that is not there": {func(w *world) {
			dockerfileFails(w, fmt.Errorf("%w: docker.io/library/fedora:44: not found", buildkit.ErrDockerfile))
		}, "CONTAINER_BUILD_FAILED", "The container image build failed."},
		"a full builder": {func(w *world) { dockerfileFails(w, buildkit.ErrDiskFull) },
			"DISK_STORAGE_FULL", "DISK_STORAGE_FULL: The container image does not fit on the disk of the microVM or of the builder."},
		"a full host": {func(w *world) { bakeFails(w, &os.PathError{Op: "write", Err: syscall.ENOSPC}) },
			"DISK_STORAGE_FULL", "DISK_STORAGE_FULL: The disk of this host is full."},
		"no command": {func(w *world) {
			w.built = func(_ context.Context, b buildkit.Build) error {
				ocitest.Write(w.t, b.Out, "", map[string]v1.Image{"": ocitest.Image(w.t, v1.Config{}, ocitest.Tar(w.t))})
				return nil
			}
		}, "CONTAINER_BUILD_FAILED", "The container image build failed. It has neither ENTRYPOINT nor CMD, so there is nothing to start."},
		"not ready in time": {func(w *world) { bakeFails(w, &microvm.BakeError{Reason: "Ready hook invocation timed out after PT5M"}) },
			"", "Ready hook invocation timed out after PT5M"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			c.breaks(w)
			i := w.create("app")
			w.wait()
			now, v, b := w.read(i)
			require.Equal(t, store.ImageCreateFailed, now.State)
			require.Equal(t, store.VersionFailed, v.State)
			require.Equal(t, store.StatusInactive, v.Status)
			require.Equal(t, store.BuildFailed, b.State)
			require.Equal(t, c.code, b.ReasonCode)
			require.Equal(t, c.text, b.StateReason)
			require.False(t, b.EndedAt.IsZero())
			require.LessOrEqual(t, strings.Count(b.LogTail, "\n"), 50)
			require.True(t, strings.HasSuffix(b.LogTail, "==> The build failed: "+c.text+"\n"), b.LogTail)
			require.FileExists(t, LogFile(w.dir, b.ID))
			last := "\n==> No registry is asked (none is reachable, or --offline is set): the base images are local ones, debian:12, python:3-slim\n==> The build failed: "
			require.Equal(t, strings.Contains(name, "base image"), strings.Contains(b.LogTail, last), b.LogTail)
			w.requireNothingLeft(i)
		})
	}
}

func TestADockerfileThatRunsTooLongIsStopped(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.BuildTime = 10 * time.Millisecond })
	w.built = func(ctx context.Context, _ buildkit.Build) error { <-ctx.Done(); return ctx.Err() }
	i := w.create("app")
	w.wait()
	_, _, b := w.read(i)
	require.Equal(t, "The container image build failed. It took longer than is allowed.", b.StateReason)
	w.requireNothingLeft(i)
}

func TestBuildsBeyondTheLimitQueue(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Builds = 1 })
	running, release := make(chan bool), make(chan bool)
	built := w.built
	w.built = func(ctx context.Context, b buildkit.Build) error {
		running <- true
		<-release
		return built(ctx, b)
	}
	first, second := w.create("first"), w.create("second")
	<-running
	states := map[string]int{}
	for _, i := range []store.Image{first, second} {
		_, v, b := w.read(i)
		require.Equal(t, v.State, b.State)
		states[b.State]++
	}
	require.Equal(t, map[string]int{store.BuildInProgress: 1, store.BuildPending: 1}, states)
	release <- true
	<-running
	release <- true
	w.wait()
	for _, i := range []store.Image{first, second} {
		now, _, _ := w.read(i)
		require.Equal(t, store.ImageCreated, now.State)
	}
}

func TestAStoppedDaemonFailsItsBuilds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Builds = 1 })
	running := make(chan bool)
	w.built = func(ctx context.Context, _ buildkit.Build) error {
		running <- true
		<-ctx.Done()
		return ctx.Err()
	}
	first, second := w.create("runs"), w.create("waits")
	<-running
	w.Close()
	for _, i := range []store.Image{first, second} {
		now, _, b := w.read(i)
		require.Equal(t, store.ImageCreateFailed, now.State)
		require.Equal(t, "INTERNAL_PLATFORM_ERROR", b.ReasonCode)
		require.Contains(t, b.StateReason, "the daemon was restarted")
		w.requireNothingLeft(i)
	}
	third := w.create("late")
	now, _, _ := w.read(third)
	require.Equal(t, store.ImageCreateFailed, now.State, "not left CREATING for ever")
}

func TestARestartedDaemonFailsWhatWasInterrupted(t *testing.T) {
	w := newWorld(t, nil)
	i := newImage("app")
	i.State = store.ImageCreating
	b := store.Build{ID: "0b0e3f1c-0000-4000-8000-000000000000", ImageID: i.ID, Version: "1.0", State: store.BuildInProgress, CreatedAt: w.clock.Now()}
	require.NoError(t, w.store.CreateImage(t.Context(), i, store.ImageVersion{
		ImageID: i.ID, Version: "1.0", Major: 1, State: store.VersionInProgress, Status: store.StatusInactive}, b, nil, store.Event{Subject: i.ID, Operation: "create"}))
	require.NoError(t, w.makeDirs())
	require.NoError(t, os.MkdirAll(filepath.Join(w.buildsDir(), b.ID, "context"), 0o700))
	require.NoError(t, os.MkdirAll(microvm.ImageDir(w.dir, i.ID, "1.0"), 0o700), "published, but not recorded")
	require.NoError(t, os.WriteFile(LogFile(w.dir, b.ID), []byte("#1 RUN sleep"), 0o600))

	require.NoError(t, w.Recover(t.Context()))
	now, v, failed := w.read(i)
	require.Equal(t, store.ImageCreateFailed, now.State)
	require.Equal(t, store.VersionFailed, v.State)
	require.Equal(t, "INTERNAL_PLATFORM_ERROR: The build was interrupted because the daemon was restarted. Please request it again.", failed.StateReason)
	require.Equal(t, "#1 RUN sleep\n==> The build failed: "+failed.StateReason+"\n", failed.LogTail)
	w.requireNothingLeft(i)
	require.NoError(t, w.Recover(t.Context()), "again is no harm")
}

func TestARestartedDaemonFinishesDeletions(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	require.NoError(t, w.store.BeginDeleteImage(t.Context(), i.ID, store.SettledImageStates, store.Event{Subject: i.ID, Operation: "delete"}))
	require.NoError(t, w.open(nil).Recover(t.Context()))
	_, err := w.store.Image(t.Context(), i.ID)
	require.ErrorIs(t, err, store.ErrNotFound)
	w.requireNothingLeft(i)
}

func TestDeleteRemovesFilesLogsAndRows(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	_, _, b := w.read(i)
	require.NoError(t, w.Delete(t.Context(), i.ID))
	w.wait()
	_, err := w.store.Image(t.Context(), i.ID)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoFileExists(t, LogFile(w.dir, b.ID))
	require.NoDirExists(t, filepath.Join(w.dir, "images", i.ID))
	require.Equal(t, []string{"1.0"}, w.forgotten)
	require.ErrorIs(t, w.Delete(t.Context(), i.ID), store.ErrNotFound)
}

func TestDeleteIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	running, release := make(chan bool), make(chan bool)
	built := w.built
	w.built = func(ctx context.Context, b buildkit.Build) error {
		running <- true
		<-release
		return built(ctx, b)
	}
	i := w.create("app")
	<-running
	require.ErrorIs(t, w.Delete(t.Context(), i.ID), store.ErrConflict, "while it is built")
	release <- true
	w.wait()

	vm := store.MicroVM{ID: "microvm-1", AccountID: account, Region: region, ImageID: i.ID, ImageVersion: "1.0", State: store.VMRunning, EndpointID: "e", StartedAt: w.clock.Now()}
	require.NoError(t, w.store.InsertMicroVM(t.Context(), vm, nil, store.Event{Subject: vm.ID, Operation: "launch"}))
	require.ErrorIs(t, w.Delete(t.Context(), i.ID), store.ErrInUse)
	now, _, _ := w.read(i)
	require.Equal(t, store.ImageCreated, now.State)
}

func TestANameThatIsTakenLeavesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.create("app")
	w.wait()
	_, _, err := w.Create(t.Context(), newImage("app"), store.ImageConfig{}, nil)
	require.ErrorIs(t, err, store.ErrExists)
	logs, err := os.ReadDir(filepath.Dir(LogFile(w.dir, "x")))
	require.NoError(t, err)
	require.Len(t, logs, 1)
}
