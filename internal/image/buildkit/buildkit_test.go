package buildkit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dormouse-dev/dormouse/internal/image/ocitest"
)

// defaultRegistry is where names without a registry lead, as the reference library knows it.
var defaultRegistry = func() string {
	named, err := reference.ParseNormalizedNamed("debian")
	if err != nil {
		panic(err)
	}
	return reference.Domain(named)
}()

func TestTheBuiltInFrontendRunsUnlessAnotherIsWantedAndReachable(t *testing.T) {
	for name, c := range map[string]struct {
		dockerfile string
		online     bool
		builtIn    bool
		note       string
	}{
		"no syntax line":            {"FROM debian:12\n", true, true, ""},
		"stock":                     {"# syntax=docker/dockerfile:1\nFROM debian:12\n", true, true, ""},
		"stock, no tag":             {"# syntax=docker/dockerfile\nFROM x\n", true, true, ""},
		"stock, full name":          {"# syntax = " + defaultRegistry + "/docker/dockerfile:1.7\nFROM x\n", true, true, ""},
		"labs, online":              {"# syntax=docker/dockerfile:1-labs\nFROM x\n", true, false, ""},
		"labs, offline":             {"# syntax=docker/dockerfile:1-labs\nFROM x\n", false, true, "No registry is reachable"},
		"another, online":           {"# syntax=example.org/front:2\nFROM x\n", true, false, ""},
		"another, offline":          {"# syntax=example.org/front:2\nFROM x\n", false, true, `"example.org/front:2"`},
		"not a name, online":        {"# syntax=:::\nFROM x\n", true, false, ""},
		"in a comment further down": {"FROM x\n# syntax=example.org/front:2\n", true, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(c.dockerfile), 0o600))
			builtIn, note, err := useBuiltIn(Build{Context: dir, Online: c.online})
			require.NoError(t, err)
			require.Equal(t, c.builtIn, builtIn)
			require.Contains(t, note, c.note)
			require.Equal(t, c.note == "", note == "")
		})
	}
}

func TestADockerfileThatLinksOutOfTheContextIsNotRead(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Symlink("/etc/hostname", filepath.Join(dir, "Dockerfile")))
	_, _, err := useBuiltIn(Build{Context: dir})
	require.ErrorContains(t, err, "escapes")
}

func put(t *testing.T, s *exportStore, body string) error {
	t.Helper()
	d := digest.FromString(body)
	w, err := s.Writer(t.Context(), content.WithRef(d.String()), content.WithDescriptor(ocispecs.Descriptor{Digest: d, Size: int64(len(body))}))
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write([]byte(body)); err != nil {
		return err
	}
	return w.Commit(t.Context(), int64(len(body)), d)
}

func TestBlobsOfTheBasesCountAsPresent(t *testing.T) {
	bases, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	layer := ocitest.Tar(t, ocitest.File("a", "base"))
	ocitest.Write(t, bases, "", map[string]v1.Image{"": ocitest.Image(t, v1.Config{}, layer)})
	s, err := newExportStore(out, bases, 10)
	require.NoError(t, err)
	require.True(t, cerrdefs.IsAlreadyExists(put(t, s, string(layer))))
	require.NoError(t, put(t, s, "small"))
	require.NoError(t, s.failure(), "a blob that is present is no failure")
	require.FileExists(t, filepath.Join(out, "blobs/sha256", digest.FromString("small").Encoded()))
}

func TestTheExportIsBounded(t *testing.T) {
	s, err := newExportStore(filepath.Join(t.TempDir(), "out"), "", 10)
	require.NoError(t, err)
	require.NoError(t, put(t, s, "123456789"))
	require.ErrorIs(t, put(t, s, "abc"), ErrDiskFull)
	require.ErrorIs(t, s.failure(), ErrDiskFull)

	s, err = newExportStore(filepath.Join(t.TempDir(), "out"), "", 1<<20)
	require.NoError(t, err)
	s.writers = 1
	require.NoError(t, put(t, s, "the last blob"))
	require.ErrorIs(t, put(t, s, "one more"), ErrDiskFull)
}

func TestABuilderCannotLieAboutDigestsNorChangeContent(t *testing.T) {
	s, err := newExportStore(filepath.Join(t.TempDir(), "out"), "", 100)
	require.NoError(t, err)
	require.NoError(t, put(t, s, "good"))
	d := digest.FromString("good")
	require.True(t, cerrdefs.IsPermissionDenied(s.Delete(t.Context(), d)))
	_, err = s.Update(t.Context(), content.Info{Digest: d})
	require.True(t, cerrdefs.IsPermissionDenied(err))

	w, err := s.Writer(t.Context(), content.WithRef("lie"))
	require.NoError(t, err)
	_, err = w.Write([]byte("evil"))
	require.NoError(t, err)
	require.Error(t, w.Commit(t.Context(), 4, digest.FromString("nice")))
}

func TestFaultsOfTheDockerfileAreToldFromOurs(t *testing.T) {
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("time is up"))
	for name, c := range map[string]struct {
		ctx   context.Context
		err   error
		store error
		want  error
	}{
		"a failing RUN":    {t.Context(), errors.New(`process "/bin/sh -c false" did not complete successfully: exit code: 1`), nil, ErrDockerfile},
		"builder disk":     {t.Context(), errors.New("write /var/lib/x: no space left on device"), nil, ErrDiskFull},
		"host disk":        {t.Context(), errors.New("failed to copy"), &os.PathError{Op: "write", Err: syscall.ENOSPC}, ErrDiskFull},
		"builder is gone":  {t.Context(), status.Error(codes.Unavailable, "connection reset"), nil, nil},
		"cancelled by us":  {cancelled, errors.New("context canceled"), nil, nil},
		"host disk broken": {t.Context(), errors.New("failed to copy"), syscall.EIO, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &exportStore{}
			if c.store != nil {
				_ = s.fail(c.store)
			}
			var log bytes.Buffer
			err := classify(c.ctx, c.err, s, &log)
			require.Error(t, err)
			require.Equal(t, c.want == ErrDockerfile, errors.Is(err, ErrDockerfile))
			require.Equal(t, c.want == ErrDiskFull, errors.Is(err, ErrDiskFull))
			if c.want == ErrDockerfile {
				require.Contains(t, log.String(), "exit code: 1")
			}
		})
	}
}

func TestProgressIsPlainTextAndBounded(t *testing.T) {
	var log bytes.Buffer
	began := 0
	updates := make(chan *client.SolveStatus)
	done := make(chan error)
	go func() { done <- show(updates, &log, func() { began++ }) }()
	run, export, now := digest.FromString("run"), digest.FromString("export"), time.Now()
	updates <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: run, Name: "[2/2] RUN echo hello", Started: &now}}}
	updates <- &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: run, Data: []byte("hello\n"), Timestamp: now}}}
	for range 3 {
		updates <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: export, Name: "exporting to oci image format", Started: &now}}}
	}
	line := []byte(strings.Repeat("x", 1<<20) + "\n")
	for range 40 {
		updates <- &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: run, Data: line, Timestamp: now}}}
	}
	close(updates)
	require.NoError(t, <-done)
	require.Contains(t, log.String(), "RUN echo hello\n")
	require.Regexp(t, `#\d+ [0-9.]+ hello\n`, log.String())
	require.Contains(t, log.String(), "no longer shown")
	require.Less(t, log.Len(), maxProgress+1<<20)
	require.Equal(t, 1, began)
}

func TestADisplayThatPanicsIsAnError(t *testing.T) {
	require.ErrorContains(t, guard(func() error { panic("index out of range") }), "unexpected data")
}

func FuzzTheSyntaxLineOfAStranger(f *testing.F) {
	f.Add("# syntax=docker/dockerfile:1\nFROM x\n")
	f.Add("#!/bin/sh\n// syntax=a@sha256:0\n")
	f.Add("{\"syntax\": \"x\"}")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600))
		builtIn, _, err := useBuiltIn(Build{Context: dir})
		require.NoError(t, err)
		require.True(t, builtIn, "offline nothing is pulled")
	})
}

func FuzzTheDescriptorOfAHostileDaemon(f *testing.F) {
	encode := base64.StdEncoding.EncodeToString
	f.Add(encode([]byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1}`)))
	f.Add(encode([]byte(`{"digest":"sha256:../../x"}`)))
	f.Fuzz(func(t *testing.T, encoded string) {
		s := &exportStore{dir: t.TempDir()}
		if err := s.finish(encoded); err != nil {
			return
		}
		_, err := layout.ImageIndexFromPath(s.dir)
		require.NoError(t, err)
	})
}
