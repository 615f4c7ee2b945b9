// Package rootfs turns a container image into the read-only ext4 file a microVM boots from.
package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
)

var (
	// ErrInvalid means that the image contradicts itself or the image specification.
	ErrInvalid = errors.New("invalid container image")
	// ErrTooLarge means that the image does not fit the disk it is meant for.
	ErrTooLarge = errors.New("container image is too large")
	// ErrNoCommand means that the image says not what to start: it has neither ENTRYPOINT nor CMD.
	ErrNoCommand = errors.New("container image has neither ENTRYPOINT nor CMD")
	// ErrPlatform means that the image was made for another operating system or processor.
	ErrPlatform = errors.New("container image is for another platform")
)

// Start is what the image wants to be started, from its configuration.
type Start struct {
	Args    []string // ENTRYPOINT followed by CMD, never empty
	Env     []string // KEY=VALUE
	WorkDir string   // absolute
	User    string   // as in the Dockerfile: "", name, uid, name:group, uid:gid
	Volumes []string // absolute, in order
}

// Write flattens the one image of an OCI image layout into an ext4 file of at most maxBytes at
// dst, which appears whole or not at all. Every blob is checked against its digest. The file has
// no free space: it is meant to be mounted read-only, below an overlay.
//
// Layers are applied to a tree in memory first and only what survives is written. A library's
// streaming extract (go-containerregistry's mutate.Extract goes from the top layer down) loses
// content here: when an upper layer removes or replaces a file, the other hard links to it keep
// the old content, which such a stream has skipped by then.
func Write(ctx context.Context, layout, dst string, maxBytes int64) (Start, error) {
	image, err := openImage(layout)
	if err != nil {
		return Start{}, err
	}
	start, err := image.start()
	if err != nil {
		return Start{}, err
	}
	budget := &readBudget{left: readFactor * maxBytes}
	t := newTree(int(maxBytes / bytesPerInode))
	for i := range image.layers {
		if err := image.readLayer(ctx, i, budget, t.apply); err != nil {
			return Start{}, err
		}
	}
	plan, err := t.plan(len(image.layers))
	if err != nil {
		return Start{}, err
	}
	if plan.bytes > maxBytes {
		return Start{}, fmt.Errorf("%w: %d bytes of at most %d", ErrTooLarge, plan.bytes, maxBytes)
	}
	budget.left = readFactor * maxBytes
	stream := func(w *tar.Writer) error { return image.emit(ctx, plan, budget, w) }
	if err := writeExt4(dst, maxBytes, stream); err != nil {
		return Start{}, err
	}
	return start, nil
}

const (
	// bytesPerInode bounds the files of an image by the size of its disk, at the density
	// mke2fs uses (inode_ratio in mke2fs.conf).
	bytesPerInode = 16 << 10
	// readFactor bounds what is unpacked from all layers together, as a multiple of the disk:
	// layers may hide what lower ones hold.
	readFactor = 4
)
