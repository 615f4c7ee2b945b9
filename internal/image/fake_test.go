package image

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/image/buildkit"
	"github.com/dormouse-dev/dormouse/internal/image/ocitest"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	account     = "111111111111"
	region      = "us-east-1"
	artifactURI = "s3://code/app.zip"
	phaseTime   = time.Second // what every step of the fakes takes
)

// world is a manager over a real store and file system; S3, BuildKit and VMs are fakes whose
// steps a test can replace.
type world struct {
	*Manager
	t     *testing.T
	dir   string
	store *store.Store
	clock *clockwork.FakeClock

	code  func(w io.Writer) error // what S3 has
	built func(ctx context.Context, b buildkit.Build) error
	baked func(ctx context.Context, spec microvm.BakeSpec) error

	readAs    aws.CredentialsProvider // the artifact
	builders  atomic.Int32            // running now
	egress    []string
	refused   string // what the builder's network refuses
	sealed    bool   // the builder's network leads nowhere
	spec      microvm.BakeSpec
	forgotten []string
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: clockwork.NewFakeClockAt(time.Unix(1_800_000_000, 0).UTC())}
	records, err := store.Open(t.Context(), filepath.Join(w.dir, "dormouse.db"), store.Quotas{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, records.Close()) })
	w.store = records
	require.NoError(t, records.CreateAccount(t.Context(), store.Account{ID: account, Name: "test", CreatedAt: w.clock.Now()}))
	w.code = func(out io.Writer) error { _, err := out.Write(zipOf(t, "Dockerfile")); return err }
	w.built = func(_ context.Context, b buildkit.Build) error {
		_, err := io.WriteString(b.Log, "#1 [1/1] RUN echo\n")
		img := ocitest.Image(t, v1.Config{Entrypoint: []string{"/app"}, Cmd: []string{"-v"}, Env: []string{"A=container", "B=container"}, WorkingDir: "/srv", User: "app"},
			ocitest.Tar(t, ocitest.File("app", "#!/bin/sh\n")))
		ocitest.Write(t, b.Out, "", map[string]v1.Image{"": img})
		return err
	}
	w.baked = func(context.Context, microvm.BakeSpec) error { return nil }
	w.Manager = w.open(change)
	return w
}

// open makes a manager over the present state, as a restarted daemon does.
func (w *world) open(change func(*Config)) *Manager {
	cfg := Config{
		Dir: w.dir, Records: w.store, Objects: objects{w}, VMs: vms{w}, StartBuilder: w.startBuilder,
		Bases: bases{}, Clock: w.clock, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	m := New(cfg)
	m.runDockerfile = func(ctx context.Context, dial buildkit.Dial, b buildkit.Build) error {
		w.clock.Advance(phaseTime)
		if err := w.built(ctx, b); err != nil {
			return err
		}
		b.Exporting()
		w.clock.Advance(phaseTime)
		return nil
	}
	w.t.Cleanup(m.Close)
	return m
}

type objects struct{ *world }

func (o objects) Fetch(_ context.Context, as objectstore.Reader, uri string, w io.Writer, limit int64) (int64, error) {
	require.Equal(o.t, account, as.Account)
	o.readAs = as.Credentials
	require.Equal(o.t, artifactURI, uri)
	require.EqualValues(o.t, 2<<30, limit)
	o.clock.Advance(phaseTime)
	return 0, o.code(w)
}

type vms struct{ *world }

func (v vms) Bake(ctx context.Context, spec microvm.BakeSpec) (*snapshot.Image, error) {
	v.spec = spec
	for _, phase := range []string{"boot", "ready", "snapshot", "validate"} {
		spec.Phase(phase)
		if phase == "ready" {
			spec.Warn("nobody listens")
		}
		v.clock.Advance(phaseTime)
	}
	if err := v.baked(ctx, spec); err != nil {
		return nil, err
	}
	err := os.WriteFile(filepath.Join(spec.Dir, snapshot.MemoryFile), []byte("memory"), 0o600)
	return &snapshot.Image{Dir: spec.Dir, Manifest: snapshot.Manifest{RootBytes: 10, MemoryBytes: 20, DiskBytes: 30}}, err
}

func (v vms) ForgetImage(imageID, version string) { v.forgotten = append(v.forgotten, version) }

type bases struct{}

func (bases) Dir() string                 { return "/bases" }
func (bases) Names() []string             { return []string{"debian:12", "python:3-slim"} }
func (bases) Online(context.Context) bool { return false }

type builder struct{ *world }

func (w *world) startBuilder(_ context.Context, egress []string, note func(string)) (Builder, error) {
	w.clock.Advance(phaseTime)
	if w.refused != "" {
		note(w.refused)
	}
	w.builders.Add(1)
	w.egress = egress
	return builder{w}, nil
}

func (b builder) Dial(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
func (b builder) Sealed() bool                           { return b.sealed }
func (b builder) Close() error                           { b.builders.Add(-1); return nil }

func zipOf(t *testing.T, names ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, name := range names {
		_, err := w.Create(name)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// create asks for an image; wait has its build end.
func (w *world) create(name string) store.Image {
	w.t.Helper()
	i, v, err := w.Create(w.t.Context(), newImage(name), store.ImageConfig{
		ArtifactURI: artifactURI, BuildRoleARN: "arn:aws:iam::111111111111:role/build", MinimumMemoryMiB: 512, EgressConnectors: []string{"internet"},
		Environment: map[string]string{"B": "image", "C": "image", "AWS_REGION": "elsewhere"},
	}, nil)
	require.NoError(w.t, err)
	require.Equal(w.t, store.ImageCreating, i.State)
	require.Equal(w.t, "1.0", v.Version)
	return i
}

// update asks for the next version of an image; wait has its build end.
func (w *world) update(i store.Image) store.ImageVersion {
	w.t.Helper()
	ctx := microvm.WithRequestID(w.t.Context(), "request-2")
	i, v, err := w.Update(ctx, i.ID, store.ImageConfig{ArtifactURI: artifactURI, MinimumMemoryMiB: 1024}, nil)
	require.NoError(w.t, err)
	require.Equal(w.t, store.ImageUpdating, i.State)
	return v
}

// told lists the events of an image, oldest first.
func (w *world) told(i store.Image) (lines []string) {
	w.t.Helper()
	events, _, err := w.store.Events(w.t.Context(), i.ID, store.Page{Limit: 100})
	require.NoError(w.t, err)
	for _, e := range slices.Backward(events) {
		lines = append(lines, fmt.Sprintf("%s: %s → %s (%s %s)", e.Operation, e.From, e.To, e.Cause, e.RequestID))
	}
	return lines
}

func newImage(name string) store.Image {
	return store.Image{ID: uuid.NewString(), AccountID: account, Region: region, Name: name}
}

func (w *world) wait() { w.work.Wait() }

// read returns what the store has of an image.
func (w *world) read(i store.Image) (store.Image, store.ImageVersion, store.Build) {
	w.t.Helper()
	return w.readVersion(i, "1.0")
}

func (w *world) readVersion(i store.Image, version string) (store.Image, store.ImageVersion, store.Build) {
	w.t.Helper()
	ctx := w.t.Context()
	now, err := w.store.Image(ctx, i.ID)
	require.NoError(w.t, err)
	v, err := w.store.Version(ctx, i.ID, version)
	require.NoError(w.t, err)
	builds, _, err := w.store.ListBuilds(ctx, i.ID, version, store.Page{Limit: 10})
	require.NoError(w.t, err)
	require.Len(w.t, builds, 1)
	return now, v, builds[0]
}

func (w *world) requireNothingLeft(i store.Image) {
	w.t.Helper()
	left, err := os.ReadDir(w.buildsDir())
	require.NoError(w.t, err)
	require.Empty(w.t, left)
	require.NoDirExists(w.t, microvm.ImageDir(w.dir, i.ID, "1.0"))
	require.Zero(w.t, w.builders.Load(), "no builder runs")
}
