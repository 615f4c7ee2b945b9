package buildkit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	cerrdefs "github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	digest "github.com/opencontainers/go-digest"
)

const (
	descriptorKey = exptypes.ExporterImageDescriptorKey
	// maxWriters bounds the blobs a builder may begin: an image has at most 127 layers.
	maxWriters = 1024
)

// exportStore is the content store buildkitd exports into, over the session. It takes new blobs
// up to a limit; nothing in it can be changed or removed from there.
type exportStore struct {
	content.Store
	dir string

	// mu guards the fields below.
	mu      sync.Mutex
	left    int64 // bytes that may still be written
	writers int   // blobs that may still begin
	failed  error
}

// newExportStore makes dir. Blobs of the layout bases are linked to, so that they count as
// present and are not transferred.
func newExportStore(dir, bases string, maxBytes int64) (*exportStore, error) {
	blobs := filepath.Join(dir, "blobs", string(digest.SHA256))
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return nil, fmt.Errorf("make image layout: %w", err)
	}
	if bases != "" {
		if err := linkBlobs(bases, blobs); err != nil {
			return nil, fmt.Errorf("link base images: %w", err)
		}
	}
	local, err := contentlocal.NewStore(dir)
	if err != nil {
		return nil, fmt.Errorf("make image layout: %w", err)
	}
	return &exportStore{Store: local, dir: dir, left: maxBytes, writers: maxWriters}, nil
}

func linkBlobs(bases, blobs string) error {
	from, err := filepath.Abs(filepath.Join(bases, "blobs", string(digest.SHA256)))
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if digest.NewDigestFromEncoded(digest.SHA256, entry.Name()).Validate() != nil {
			continue
		}
		if err := os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(blobs, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// finish makes the folder a layout whose one image is the one described.
func (s *exportStore) finish(encoded string) error {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return fmt.Errorf("descriptor of the built image: %w", err)
	}
	var d v1.Descriptor
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("descriptor of the built image: %w", err)
	}
	path, err := layout.Write(s.dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write image layout: %w", err)
	}
	if err := path.AppendDescriptor(v1.Descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest, Platform: d.Platform}); err != nil {
		return fmt.Errorf("write image layout: %w", err)
	}
	return nil
}

// failure is what went wrong on this side, which buildkitd only reports back as a text.
func (s *exportStore) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *exportStore) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w: %v", ErrDiskFull, err)
	}
	if s.failed == nil {
		s.failed = err
	}
	return err
}

// Writer begins a blob.
func (s *exportStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	s.mu.Lock()
	s.writers--
	over := s.writers < 0
	s.mu.Unlock()
	if over {
		return nil, s.fail(fmt.Errorf("%w: more than %d blobs", ErrDiskFull, maxWriters))
	}
	w, err := s.Store.Writer(ctx, opts...)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return nil, s.fail(fmt.Errorf("receive image: %w", err))
		}
		return nil, err // above all: the blob is present
	}
	return &exportWriter{Writer: w, store: s}, nil
}

// Delete is refused.
func (s *exportStore) Delete(context.Context, digest.Digest) error {
	return fmt.Errorf("delete exported content: %w", cerrdefs.ErrPermissionDenied)
}

// Update is refused.
func (s *exportStore) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, fmt.Errorf("update exported content: %w", cerrdefs.ErrPermissionDenied)
}

type exportWriter struct {
	content.Writer
	store *exportStore
}

func (w *exportWriter) Write(p []byte) (int, error) {
	w.store.mu.Lock()
	w.store.left -= int64(len(p))
	over := w.store.left < 0
	w.store.mu.Unlock()
	if over {
		return 0, w.store.fail(fmt.Errorf("%w: the image has too many bytes", ErrDiskFull))
	}
	n, err := w.Writer.Write(p)
	if err != nil {
		return n, w.store.fail(fmt.Errorf("receive image: %w", err))
	}
	return n, nil
}

// isDiskFull looks for the builder's full disk in an error that came as a text.
func isDiskFull(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), syscall.ENOSPC.Error())
}
