package main

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

// image is one image of the layout: its references, its layers (tar files, lowest first) and its configuration.
type image struct {
	names  []string
	layers []string
	env    []string
	cmd    []string
}

// writeLayout makes an OCI image layout. Layers stay uncompressed: unpacking gzip in a builder
// without hardware virtualization takes longer than reading the bytes.
func writeLayout(dir string, images []image) error {
	out, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("start image layout: %w", err)
	}
	for _, i := range images {
		img, err := i.build()
		if err != nil {
			return fmt.Errorf("image %s: %w", i.names[0], err)
		}
		for _, name := range i.names {
			err := out.AppendImage(img,
				layout.WithAnnotations(map[string]string{assets.RefName: name}),
				layout.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
			if err != nil {
				return fmt.Errorf("image %s: %w", name, err)
			}
		}
	}
	return makeReadable(dir)
}

// makeReadable lets other users read the layers, as they may read the rest of a shared asset folder.
func makeReadable(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Chmod(path, 0o644)
	})
}

func (i image) build() (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	now := v1.Time{Time: time.Now().UTC().Truncate(time.Second)}
	for _, path := range i.layers {
		layer, err := newTarLayer(path)
		if err != nil {
			return nil, err
		}
		history := v1.History{Created: now, CreatedBy: "dormouse make setup, from Debian packages"}
		img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: history, MediaType: types.OCIUncompressedLayer})
		if err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", runtime.GOARCH, now
	if runtime.GOARCH == "arm64" {
		config.Variant = "v8"
	}
	config.Config = v1.Config{Env: i.env, Cmd: i.cmd}
	return mutate.ConfigFile(img, config)
}

// tarLayer is a v1.Layer that stays as it is on disk. (The library's own tarball layers are always compressed.)
type tarLayer struct {
	path   string
	digest v1.Hash
	size   int64
}

var _ v1.Layer = (*tarLayer)(nil)

func newTarLayer(path string) (*tarLayer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	digest, size, err := v1.SHA256(f)
	return &tarLayer{path: path, digest: digest, size: size}, err
}

func (l *tarLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *tarLayer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l *tarLayer) Size() (int64, error)                 { return l.size, nil }
func (l *tarLayer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (l *tarLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l *tarLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.path) }

// diffTars writes to out what the root in the tar file upper has and the one in lower has not, or has
// otherwise: the layer that makes upper out of lower. Nothing is ever removed, because upper has
// lower's packages and more.
func diffTars(lower, upper, out string) error {
	have := map[string]entryKey{}
	err := eachEntry(lower, func(header *tar.Header, content io.Reader) error {
		key, err := keyOf(header, content)
		have[header.Name] = key
		return err
	})
	if err != nil {
		return err
	}
	changed := map[string]bool{}
	err = eachEntry(upper, func(header *tar.Header, content io.Reader) error {
		key, err := keyOf(header, content)
		if old, ok := have[header.Name]; !ok || old != key {
			changed[header.Name] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	return copyEntries(upper, out, changed)
}

// entryKey is what makes two entries the same; the time of the last change does not.
type entryKey struct {
	kind     byte
	mode     int64
	uid, gid int
	link     string
	xattrs   string
	content  [sha256.Size]byte
}

func keyOf(header *tar.Header, content io.Reader) (entryKey, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, content); err != nil {
		return entryKey{}, err
	}
	xattrs := maps.Clone(header.PAXRecords)
	maps.DeleteFunc(xattrs, func(key, _ string) bool { return key == "mtime" || key == "atime" || key == "ctime" })
	return entryKey{
		kind: header.Typeflag, mode: header.Mode, uid: header.Uid, gid: header.Gid, link: header.Linkname,
		xattrs:  fmt.Sprint(xattrs), // fmt sorts the keys
		content: [sha256.Size]byte(hash.Sum(nil)),
	}, nil
}

func eachEntry(tarFile string, visit func(*tar.Header, io.Reader) error) error {
	f, err := os.Open(tarFile)
	if err != nil {
		return err
	}
	defer f.Close()
	return walkTar(f, visit)
}

// copyEntries copies the wanted entries of one tar file to a new one.
func copyEntries(from, to string, wanted map[string]bool) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	err = eachEntry(from, func(header *tar.Header, content io.Reader) error {
		if !wanted[header.Name] {
			return nil
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err := io.Copy(w, content)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}
