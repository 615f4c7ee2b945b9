// Package ocitest makes small container images for tests.
package ocitest

import (
	"archive/tar"
	"bytes"
	"io"
	"runtime"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
)

// Entry is one tar entry: Body is the content of a file (its Size is set from it).
type Entry struct {
	tar.Header
	Body string
}

// File, Dir, Symlink, Hardlink and Whiteout are the usual entries.
func File(name, body string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}

func Dir(name string, mode int64) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, ""}
}

func Symlink(name, target string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

func Hardlink(name, target string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}, ""}
}

func Whiteout(name string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, ""}
}

// Tar is an uncompressed layer.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		header := e.Header
		header.Size = int64(len(e.Body))
		if header.ModTime.IsZero() {
			header.ModTime = time.Unix(1_700_000_000, 0)
		}
		require.NoError(t, w.WriteHeader(&header))
		_, err := io.WriteString(w, e.Body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// Layer makes a layer of a blob whose media type may claim anything about it.
func Layer(blob []byte, kind types.MediaType) v1.Layer { return static.NewLayer(blob, kind) }

// Image makes an image of uncompressed layers for this host's platform.
func Image(t testing.TB, config v1.Config, layers ...[]byte) v1.Image {
	t.Helper()
	var made []v1.Layer
	for _, blob := range layers {
		made = append(made, Layer(blob, types.OCIUncompressedLayer))
	}
	return ImageOf(t, config, made...)
}

// ImageOf is Image with layers made by Layer.
func ImageOf(t testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	require.NoError(t, err)
	file, err := img.ConfigFile()
	require.NoError(t, err)
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	img, err = mutate.ConfigFile(img, file)
	require.NoError(t, err)
	return img
}

// Write writes images into an OCI layout folder; the keys are values of the annotation, which
// "" leaves out.
func Write(t testing.TB, dir, annotation string, images map[string]v1.Image) {
	t.Helper()
	path, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	for ref, img := range images {
		var options []layout.Option
		if annotation != "" {
			options = append(options, layout.WithAnnotations(map[string]string{annotation: ref}))
		}
		require.NoError(t, path.AppendImage(img, options...))
	}
}
