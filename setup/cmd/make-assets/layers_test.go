package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

// tarEntry is a header and what follows it.
type tarEntry struct {
	header  tar.Header
	content string
}

func file(name, content string, mode int64, changed time.Time) tarEntry {
	return tarEntry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, ModTime: changed}, content}
}

func writeTar(t *testing.T, entries ...tarEntry) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.tar")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	for _, e := range entries {
		e.header.Size = int64(len(e.content))
		require.NoError(t, w.WriteHeader(&e.header))
		_, err := io.WriteString(w, e.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return path
}

func TestALayerHoldsOnlyWhatDiffersFromTheOneBelow(t *testing.T) {
	morning, evening := time.Unix(1000, 0), time.Unix(2000, 0)
	lower := writeTar(t,
		file("./etc/same", "a", 0o644, morning),
		file("./etc/changed", "a", 0o644, morning),
		file("./etc/mode", "a", 0o644, morning),
	)
	upper := writeTar(t,
		file("./etc/same", "a", 0o644, evening),
		file("./etc/changed", "b", 0o644, morning),
		file("./etc/mode", "a", 0o755, morning),
		file("./etc/new", "c", 0o644, morning),
	)
	out := filepath.Join(t.TempDir(), "layer.tar")
	require.NoError(t, diffTars(lower, upper, out))

	layer := map[string]string{}
	require.NoError(t, eachEntry(out, func(header *tar.Header, content io.Reader) error {
		data, err := io.ReadAll(content)
		layer[header.Name] = string(data)
		return err
	}))
	require.Equal(t, map[string]string{"etc/changed": "b", "etc/mode": "a", "etc/new": "c"}, layer)
}

func TestTheLayoutResolvesEveryNameToItsImageWithUncompressedLayers(t *testing.T) {
	debian, python := writeTar(t, file("a", "1", 0o644, time.Unix(1, 0))), writeTar(t, file("b", "2", 0o644, time.Unix(1, 0)))
	dir := filepath.Join(t.TempDir(), "layout")
	require.NoError(t, writeLayout(dir, []image{
		{names: []string{"debian:12", "debian:bookworm"}, layers: []string{debian}, cmd: []string{"bash"}},
		{names: []string{"python:3-slim"}, layers: []string{debian, python}, cmd: []string{"python3"}},
	}))

	index, err := layout.ImageIndexFromPath(dir)
	require.NoError(t, err)
	require.NoError(t, validate.Index(index, validate.Fast)) // its slow way reads layers as gzip
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	byName := map[string]v1.Image{}
	for _, descriptor := range manifest.Manifests {
		img, err := index.Image(descriptor.Digest)
		require.NoError(t, err)
		byName[descriptor.Annotations[assets.RefName]] = img
	}
	require.Len(t, byName, 3)
	require.Equal(t, []string{"bash"}, config(t, byName["debian:bookworm"]).Config.Cmd)
	require.Equal(t, []string{"python3"}, config(t, byName["python:3-slim"]).Config.Cmd)

	layers, err := byName["python:3-slim"].Layers()
	require.NoError(t, err)
	require.Len(t, layers, 2)
	for _, layer := range layers {
		kind, err := layer.MediaType()
		require.NoError(t, err)
		require.Equal(t, types.OCIUncompressedLayer, kind)
	}
	base, err := byName["debian:12"].Layers()
	require.NoError(t, err)
	require.Equal(t, digest(t, base[0]), digest(t, layers[0]), "the images share the layer")
}

func config(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	file, err := img.ConfigFile()
	require.NoError(t, err)
	return file
}

func digest(t *testing.T, layer v1.Layer) v1.Hash {
	t.Helper()
	hash, err := layer.Digest()
	require.NoError(t, err)
	return hash
}
