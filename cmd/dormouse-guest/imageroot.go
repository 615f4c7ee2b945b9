package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// imageRoot is the app's root seen from outside. Images are untrusted: every path is resolved by
// the kernel as if this were "/" (RESOLVE_IN_ROOT), so no symlink in it leads out.
type imageRoot struct{ fd int }

func openImageRoot(dir string) (*imageRoot, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &imageRoot{fd: fd}, nil
}

func (r *imageRoot) close() { unix.Close(r.fd) }

func (r *imageRoot) open(path string, flags int, mode uint32) (int, error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		// EAGAIN: the kernel could not rule out a race with a rename and asks to try again.
		fd, err := unix.Openat2(r.fd, path, how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// readFile reads a regular file of at most limit bytes.
func (r *imageRoot) readFile(path string, limit int64) ([]byte, error) {
	fd, err := r.open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", path, limit)
	}
	return io.ReadAll(io.LimitReader(file, limit))
}

// mkdirAll makes a folder and its parents, following the image's symlinks inside the image.
func (r *imageRoot) mkdirAll(path string, mode uint32) error {
	parent := "."
	for name := range strings.SplitSeq(filepath.Clean(strings.TrimLeft(path, "/")), "/") {
		child := filepath.Join(parent, name)
		if err := r.mkdir(parent, name, child, mode); err != nil {
			return &os.PathError{Op: "mkdir", Path: child, Err: err}
		}
		parent = child
	}
	return nil
}

func (r *imageRoot) mkdir(parent, name, child string, mode uint32) error {
	fd, err := r.open(child, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	fd, err = r.open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Mkdirat(fd, name, mode)
}

// bindFile mounts the file source on a path of the image, which becomes an empty regular file if
// it is none: distributions make /etc/resolv.conf a symlink into a /run that is not there.
func (r *imageRoot) bindFile(source, path string) error {
	dir, err := r.open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	name := filepath.Base(path)
	var stat unix.Stat_t
	err = unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = unix.Unlinkat(dir, name, 0)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	target, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return bindOver(source, target)
}

// bindDir mounts the folder source on a folder of the image, made if it is missing.
func (r *imageRoot) bindDir(source, path string) error {
	if err := r.mkdirAll(path, 0o755); err != nil {
		return err
	}
	target, err := r.open(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return bindOver(source, target)
}

func bindOver(source string, target int) error {
	return unix.Mount(source, "/proc/self/fd/"+strconv.Itoa(target), "", unix.MS_BIND, "")
}
