package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// mountVolume gives a path of the app's root a folder of the writable disk, which is empty, with the
// owner and mode that the image's has. A folder with something in it stays what it is: it would have to be
// copied, and what a volume is for (the upper layers of nested containers, which an overlay cannot have on
// an overlay) begins empty.
func mountVolume(root *imageRoot, index int, path string) error {
	if !filepath.IsAbs(path) {
		return errors.New("not an absolute path")
	}
	if err := root.mkdirAll(path, 0o755); err != nil {
		return err
	}
	fd, err := root.open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	folder := os.NewFile(uintptr(fd), path)
	defer folder.Close()
	if names, _ := folder.Readdirnames(1); len(names) > 0 {
		return nil
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	source := filepath.Join(dataDir, "volumes", strconv.Itoa(index))
	if err := os.MkdirAll(source, 0o755); err != nil {
		return err
	}
	if err := os.Chown(source, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(source, stat.Mode&0o7777); err != nil {
		return err
	}
	return root.bindDir(source, path)
}
