package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
)

// slack is how much larger tar2ext4 may believe the disk to be, so that the limit of
// boundedFile, whose error can be told apart, is the one that is met. It is one descriptor
// block's worth of block groups at most.
const slack = 128 << 20 // bytes

// writeExt4 makes a file system of what stream writes, in a temporary file beside dst that is
// renamed when it is complete and durable.
func writeExt4(dst string, maxBytes int64, stream func(*tar.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(dst), ".rootfs-*")
	if err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	defer os.Remove(file.Name()) // fails once it is renamed
	defer file.Close()
	if err := convert(stream, &boundedFile{file: file, max: maxBytes}, maxBytes+slack); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	if err := commit(file, dst); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	return nil
}

func convert(stream func(*tar.Writer) error, out *boundedFile, diskBytes int64) error {
	pipe, feed := io.Pipe()
	fed := make(chan error, 1)
	go func() {
		w := tar.NewWriter(feed)
		err := stream(w)
		if err == nil {
			err = w.Close()
		}
		feed.CloseWithError(err)
		fed <- err
	}()
	err := tar2ext4.ConvertTarToExt4(pipe, out, tar2ext4.MaximumDiskSize(diskBytes))
	pipe.CloseWithError(io.ErrClosedPipe) // ends the stream when the conversion gave up
	if feedErr := <-fed; feedErr != nil && !errors.Is(feedErr, io.ErrClosedPipe) {
		return feedErr // the conversion's error is only its echo
	}
	switch {
	case err == nil || out.err != nil:
		return err
	default: // not the disk, so it is what ext4 cannot hold, such as 65 001 names of one file
		return fmt.Errorf("%w: %v", ErrInvalid, err)
	}
}

func commit(file *os.File, dst string) error {
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), dst); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(dst))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// boundedFile refuses to grow beyond max bytes. It wraps the file instead of embedding it,
// because os.File can be written to in more ways.
type boundedFile struct {
	file    *os.File
	at, max int64
	err     error // the first failure
}

func (f *boundedFile) Write(p []byte) (int, error) {
	if f.at+int64(len(p)) > f.max {
		return 0, f.failed(fmt.Errorf("%w: more than %d bytes", ErrTooLarge, f.max))
	}
	n, err := f.file.Write(p)
	f.at += int64(n)
	return n, f.failed(err)
}

func (f *boundedFile) Read(p []byte) (int, error) {
	n, err := f.file.Read(p)
	f.at += int64(n)
	return n, f.failed(err)
}

func (f *boundedFile) Seek(offset int64, whence int) (int64, error) {
	at, err := f.file.Seek(offset, whence)
	f.at = at
	return at, f.failed(err)
}

func (f *boundedFile) failed(err error) error {
	if f.err == nil {
		f.err = err
	}
	return err
}
