package floor

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copySparse copies the data of a sparse file and leaves its holes: as a reflink where the file
// system has them, else inside the kernel.
func copySparse(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	copied, err := os.Create(to)
	if err != nil {
		return err
	}
	defer copied.Close()
	if unix.IoctlFileClone(int(copied.Fd()), int(source.Fd())) == nil {
		return nil
	}
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if err := copied.Truncate(info.Size()); err != nil {
		return err
	}
	for end := int64(0); ; {
		begin, err := source.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole is left
		}
		if err != nil {
			return err
		}
		if end, err = source.Seek(begin, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := source.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := copied.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(copied, source, end-begin); err != nil { // copy_file_range
			return err
		}
	}
}
