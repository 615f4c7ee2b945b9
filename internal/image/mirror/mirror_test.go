package mirror

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/image/ocitest"
)

// serve starts a mirror of debian:12, which is debian:bookworm too, and of python:3-slim.
func serve(t *testing.T, upstream *Upstream) (host string, debian v1.Image) {
	t.Helper()
	mirror, debian := newMirror(t, upstream)
	return listen(t, mirror), debian
}

// listen serves a mirror over HTTP.
func listen(t *testing.T, mirror *Mirror) (host string) {
	t.Helper()
	server := httptest.NewServer(mirror)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func newMirror(t *testing.T, upstream *Upstream) (mirror *Mirror, debian v1.Image) {
	t.Helper()
	dir := t.TempDir()
	debian = ocitest.Image(t, v1.Config{Cmd: []string{"bash"}}, ocitest.Tar(t, ocitest.File("etc/debian_version", "12.11\n")))
	python := ocitest.Image(t, v1.Config{Cmd: []string{"python3"}}, ocitest.Tar(t, ocitest.File("usr/bin/python3", "x")))
	ocitest.Write(t, dir, assets.RefName, map[string]v1.Image{"debian:12": debian, "debian:bookworm": debian, "python:3-slim": python})
	mirror, err := New(dir, upstream)
	require.NoError(t, err)
	require.Equal(t, dir, mirror.Dir())
	require.ElementsMatch(t, []string{"debian:12", "debian:bookworm", "python:3-slim"}, mirror.Names())
	return mirror, debian
}

func pull(t *testing.T, ref string) (v1.Image, error) {
	t.Helper()
	parsed, err := name.ParseReference(ref, name.Insecure)
	require.NoError(t, err)
	return remote.Image(parsed)
}

func TestARealClientPullsByTagAndByDigest(t *testing.T) {
	host, want := serve(t, Offline())
	digest, err := want.Digest()
	require.NoError(t, err)
	for _, ref := range []string{":12", ":bookworm", "@" + digest.String()} {
		img, err := pull(t, host+"/library/debian"+ref)
		require.NoError(t, err)
		layers, err := img.Layers()
		require.NoError(t, err)
		content, err := layers[0].Compressed()
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, content) // the client checks the digest
		require.NoError(t, err)
		got, err := img.Digest()
		require.NoError(t, err)
		require.Equal(t, digest, got)
	}
}

func TestUnknownImagesAreNotFound(t *testing.T) {
	host, _ := serve(t, Offline())
	for _, ref := range []string{"library/debian:11", "library/alpine:3", "debian:12",
		"library/python@sha256:" + strings.Repeat("0", 64)} {
		_, err := pull(t, host+"/"+ref)
		require.ErrorContains(t, err, "Not Found", ref)
	}
}

func TestOnlyTheLayoutIsServedAndOnlyRead(t *testing.T) {
	host, img := serve(t, Offline())
	layers, err := img.Layers()
	require.NoError(t, err)
	layer, err := layers[0].Digest()
	require.NoError(t, err)
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/v2/", http.StatusOK},
		{http.MethodHead, "/v2/library/debian/blobs/" + layer.String(), http.StatusOK},
		{http.MethodGet, "/", http.StatusNotFound},
		{http.MethodGet, "/v2/library/debian/tags/list", http.StatusNotFound},
		{http.MethodGet, "/v2/library/debian/blobs/sha256:../../index.json", http.StatusNotFound},
		{http.MethodGet, "/v2/library/debian/manifests/" + layer.String(), http.StatusNotFound},
		{http.MethodGet, "/v2/x", http.StatusNotFound},
		{http.MethodPost, "/v2/library/debian/blobs/uploads/", http.StatusMethodNotAllowed},
		{http.MethodPut, "/v2/library/debian/manifests/12", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/v2/library/debian/manifests/12", http.StatusMethodNotAllowed},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+host+c.path, strings.NewReader(""))
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, c.want, response.StatusCode, "%s %s", c.method, c.path)
	}
}

func TestAnInterruptedPullContinuesWithARange(t *testing.T) {
	host, img := serve(t, Offline())
	config, err := img.ConfigName()
	require.NoError(t, err)
	want, err := img.RawConfigFile()
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/v2/library/debian/blobs/"+config.String(), nil)
	require.NoError(t, err)
	request.Header.Set("Range", "bytes=5-")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusPartialContent, response.StatusCode)
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, want[5:], got)
}

func TestWhereTheRegistryAnswersTheMirrorIsEmpty(t *testing.T) {
	var status atomic.Int32
	var asked atomic.Int32
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	defer registry.Close()
	clock := clockwork.NewFakeClock()
	mirror, _ := newMirror(t, NewUpstream(registry.URL+"/v2/", clock))
	host, local := listen(t, mirror), listen(t, mirror.Local())

	status.Store(http.StatusUnauthorized)
	_, err := pull(t, host+"/library/debian:12")
	require.ErrorContains(t, err, "Not Found")
	_, err = pull(t, local+"/library/debian:12")
	require.NoError(t, err, "who cannot ask the registry gets it here")
	require.EqualValues(t, 1, asked.Load(), "the answer is believed for a while")

	for _, portal := range []int32{http.StatusForbidden, http.StatusFound, http.StatusBadGateway} {
		status.Store(portal)
		clock.Advance(probeEvery)
		_, err = pull(t, host+"/library/debian:12")
		require.NoError(t, err, "HTTP %d is not a registry", portal)
	}
}

func TestAnUnreachableRegistryIsNotWaitedForTwice(t *testing.T) {
	upstream := NewUpstream("http://127.0.0.1:1/v2/", clockwork.NewFakeClock())
	require.False(t, upstream.Reachable(t.Context()))
	first := upstream.asked
	require.False(t, upstream.Reachable(t.Context()))
	require.Equal(t, first, upstream.asked)
}

func TestACallerThatGaveUpLearnsNothing(t *testing.T) {
	upstream := NewUpstream("http://127.0.0.1:1/v2/", clockwork.NewFakeClockAt(time.Unix(1, 0)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.False(t, upstream.Reachable(ctx))
	require.True(t, upstream.asked.IsZero())
}

func TestTheDefaultRegistryComesFromTheReferenceLibrary(t *testing.T) {
	upstream, err := DefaultUpstream(clockwork.NewRealClock())
	require.NoError(t, err)
	require.Regexp(t, `^https://[a-z0-9.-]+/v2/$`, upstream.url)
}

func TestALayoutWithoutNamesIsRefused(t *testing.T) {
	dir := t.TempDir()
	ocitest.Write(t, dir, "", map[string]v1.Image{"": ocitest.Image(t, v1.Config{}, ocitest.Tar(t))})
	_, err := New(dir, Offline())
	require.ErrorContains(t, err, "name")
	_, err = New(t.TempDir(), Offline())
	require.Error(t, err)
}

func FuzzABuilderGetsOnlyKnownContent(f *testing.F) {
	dir := f.TempDir()
	img := ocitest.Image(f, v1.Config{}, ocitest.Tar(f, ocitest.File("a", "x")))
	ocitest.Write(f, dir, assets.RefName, map[string]v1.Image{"debian:12": img})
	mirror, err := New(dir, Offline())
	require.NoError(f, err)
	digest, err := img.Digest()
	require.NoError(f, err)
	f.Add("GET", "/v2/library/debian/manifests/12")
	f.Add("HEAD", "/v2/library/debian/blobs/"+digest.String())
	f.Add("GET", "/v2/a/blobs/sha256:../../index.json")
	f.Fuzz(func(t *testing.T, method, path string) {
		request := &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{}}
		answer := httptest.NewRecorder()
		mirror.ServeHTTP(answer, request.WithContext(t.Context()))
		if answer.Code == http.StatusOK && method == http.MethodGet && path != "/v2/" {
			sent, _, err := v1.SHA256(answer.Body)
			require.NoError(t, err)
			require.True(t, mirror.blobs[sent], "%s is not of the layout", path)
		}
		require.Less(t, answer.Code, http.StatusInternalServerError)
	})
}
