package objectstore

import (
	"crypto/md5"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// copyBuffer is what one upload or assembly holds in memory, in bytes.
const copyBuffer = 128 << 10

// blobs are the contents of the objects: immutable files, written once, named by chance.
//
//	blobs/ab/ab12…   contents, referred to by the index
//	incoming/…       being written; emptied at start
//	uploads/ID/…     parts of multipart uploads; emptied at start
type blobs struct{ dir string }

// blob is a finished file of blobs.
type blob struct {
	name string
	size int64
	md5  []byte
}

func openBlobs(dir string) (*blobs, error) {
	b := &blobs{dir: dir}
	for _, sub := range []string{"incoming", "uploads"} {
		if err := os.RemoveAll(filepath.Join(dir, sub)); err != nil {
			return nil, err
		}
	}
	for _, sub := range []string{"blobs", "incoming", "uploads"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *blobs) path(name string) string { return filepath.Join(b.dir, "blobs", name[:2], name) }

// incoming makes an empty file that commit turns into a blob.
func (b *blobs) incoming() (*os.File, error) {
	return os.OpenFile(filepath.Join(b.dir, "incoming", newName()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// write stores what r has, at most limit bytes; also feeds it to the writers given.
func (b *blobs) write(r io.Reader, limit int64, also ...io.Writer) (*blob, error) {
	f, err := b.incoming()
	if err != nil {
		return nil, storageError("create object file", err)
	}
	defer discard(f)
	sum := md5.New()
	w := io.MultiWriter(append(also, sum, f)...)
	n, err := io.CopyBuffer(onlyWriter{w}, io.LimitReader(r, limit+1), make([]byte, copyBuffer))
	if err != nil {
		return nil, storageError("write object", err)
	}
	if n > limit {
		return nil, errTooLarge(limit)
	}
	done := &blob{name: newName(), size: n, md5: sum.Sum(nil)}
	return done, b.commit(f, done.name)
}

// commit makes f durable under its final name.
func (b *blobs) commit(f *os.File, name string) error {
	if err := f.Sync(); err != nil {
		return storageError("sync object", err)
	}
	if err := b.makeShard(name); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), b.path(name)); err != nil {
		return storageError("rename object", err)
	}
	return syncDir(filepath.Dir(b.path(name)))
}

// link gives an existing blob a second name: a copy without copying.
func (b *blobs) link(from string) (string, error) {
	name := newName()
	if err := b.makeShard(name); err != nil {
		return "", err
	}
	if err := os.Link(b.path(from), b.path(name)); err != nil {
		return "", storageError("link object", err)
	}
	return name, syncDir(filepath.Dir(b.path(name)))
}

func (b *blobs) makeShard(name string) error {
	shard := filepath.Dir(b.path(name))
	err := os.Mkdir(shard, 0o700)
	if os.IsExist(err) {
		return nil
	}
	if err != nil {
		return storageError("create object folder", err)
	}
	return syncDir(filepath.Dir(shard))
}

func (b *blobs) remove(name string) error { return os.Remove(b.path(name)) }

// sweep removes the blobs that the index does not know: what a crash left between a blob's
// rename and its row, or between a row's removal and its blob's.
func (b *blobs) sweep(known func(name string) (bool, error)) error {
	return filepath.WalkDir(filepath.Join(b.dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		keep, err := known(d.Name())
		if err != nil || keep {
			return err
		}
		return os.Remove(path)
	})
}

// discard closes f and removes its name, if it still has that one.
func discard(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

func newName() string {
	id := uuid.New()
	return fmt.Sprintf("%x", id[:])
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return storageError("open folder", err)
	}
	defer f.Close()
	if err := unix.Fsync(int(f.Fd())); err != nil {
		return storageError("sync folder", err)
	}
	return nil
}

// onlyWriter hides ReadFrom, which would allocate a buffer of its own.
type onlyWriter struct{ io.Writer }
