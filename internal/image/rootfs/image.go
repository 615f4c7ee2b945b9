package rootfs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxDocument bounds index, manifest and configuration, in bytes (registries allow 4 MiB manifests).
const maxDocument = 4 << 20

// image is one image of a layout on disk, with manifest and configuration checked.
type image struct {
	layout string
	layers []v1.Descriptor
	config v1.Config
}

// openImage finds the one image of the layout that this host can run.
func openImage(layout string) (*image, error) {
	data, err := readBounded(filepath.Join(layout, "index.json"))
	if err != nil {
		return nil, fmt.Errorf("read image layout: %w", err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: index.json: %v", ErrInvalid, err)
	}
	descriptor, err := choose(layout, index.Manifests)
	if err != nil {
		return nil, err
	}
	return openManifest(layout, descriptor)
}

// choose picks the image for this platform, looking into one nested index.
func choose(layout string, candidates []v1.Descriptor) (v1.Descriptor, error) {
	if len(candidates) == 1 && candidates[0].MediaType.IsIndex() {
		data, err := readDocument(layout, candidates[0])
		if err != nil {
			return v1.Descriptor{}, err
		}
		index, err := v1.ParseIndexManifest(bytes.NewReader(data))
		if err != nil {
			return v1.Descriptor{}, fmt.Errorf("%w: image index: %v", ErrInvalid, err)
		}
		candidates = index.Manifests
	}
	for _, d := range candidates {
		if d.MediaType.IsImage() && (d.Platform == nil || runsHere(d.Platform.OS, d.Platform.Architecture)) {
			return d, nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("%w: nothing in it is for linux/%s", ErrPlatform, runtime.GOARCH)
}

func runsHere(os, arch string) bool { return os == "linux" && arch == runtime.GOARCH }

func openManifest(layout string, d v1.Descriptor) (*image, error) {
	data, err := readDocument(layout, d)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: manifest: %v", ErrInvalid, err)
	}
	if data, err = readDocument(layout, manifest.Config); err != nil {
		return nil, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: configuration: %v", ErrInvalid, err)
	}
	if !runsHere(config.OS, config.Architecture) {
		return nil, fmt.Errorf("%w: it is for %s/%s, this host runs linux/%s", ErrPlatform, config.OS, config.Architecture, runtime.GOARCH)
	}
	return &image{layout: layout, layers: manifest.Layers, config: config.Config}, nil
}

func (i *image) start() (Start, error) {
	args := append(append([]string{}, i.config.Entrypoint...), i.config.Cmd...)
	if len(args) == 0 {
		return Start{}, ErrNoCommand
	}
	var volumes []string
	for volume := range i.config.Volumes {
		volumes = append(volumes, path.Clean("/"+volume))
	}
	slices.Sort(volumes) // a folder before what is in it
	return Start{
		Volumes: volumes,
		Args:    args,
		Env:     i.config.Env,
		WorkDir: path.Clean("/" + i.config.WorkingDir),
		User:    i.config.User,
	}, nil
}

// readDocument reads a small blob and checks it against its digest.
func readDocument(layout string, d v1.Descriptor) ([]byte, error) {
	data, err := readBounded(blobPath(layout, d.Digest))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("hash %s: %w", d.Digest, err)
	}
	if digest != d.Digest {
		return nil, wrongDigest(d.Digest)
	}
	return data, nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%w: a document of more than %d bytes", ErrInvalid, maxDocument)
	}
	return data, err
}

// blobPath is safe to join: v1.Hash holds an algorithm name and hex digits only once parsed.
func blobPath(layout string, h v1.Hash) string {
	return filepath.Join(layout, "blobs", h.Algorithm, h.Hex)
}

func wrongDigest(h v1.Hash) error {
	return fmt.Errorf("%w: the content of %s has another digest", ErrInvalid, h)
}
