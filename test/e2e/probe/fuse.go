package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// hello is the content of the only file of the file system in user space.
const hello = "hello from user space\n"

// Operations of linux/fuse.h.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseRelease = 18
	fuseFlush   = 25
	fuseInit    = 26
)

// tryFUSE mounts a file system that this process serves, and reads the file in it.
func tryFUSE() error {
	dir, err := scratch()
	if err != nil {
		return err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("probe", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	go serveFUSE(fd)
	// Not os.ReadFile: it asks the kernel to poll the file, which asks serveFUSE, and on one CPU Go's
	// scheduler waits for the answer itself.
	file, err := unix.Open(filepath.Join(dir, "hello"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	content := make([]byte, 100)
	n, err := unix.Read(file, content)
	if err == nil && string(content[:n]) != hello {
		err = errors.New("the file holds something else")
	}
	return err
}

func serveFUSE(fd int) {
	request := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, request)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		operation := binary.NativeEndian.Uint32(request[4:])
		if operation == fuseForget {
			continue
		}
		body, errno := replyFUSE(operation, binary.NativeEndian.Uint64(request[16:]), request[40:n])
		reply := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		reply = binary.NativeEndian.AppendUint32(reply, uint32(-int32(errno)))
		reply = append(reply, request[8:16]...) // the request's id
		_, _ = unix.Write(fd, append(reply, body...))
	}
}

func replyFUSE(operation uint32, node uint64, arguments []byte) ([]byte, unix.Errno) {
	switch operation {
	case fuseInit: // version 7.31, no features, writes of 4 KiB
		reply := make([]byte, 64)
		binary.NativeEndian.PutUint32(reply, 7)
		binary.NativeEndian.PutUint32(reply[4:], 31)
		binary.NativeEndian.PutUint32(reply[20:], 4096)
		return reply, 0
	case fuseLookup:
		if string(arguments) != "hello\x00" {
			return nil, unix.ENOENT
		}
		entry := make([]byte, 40)
		entry[0] = 2 // node
		return append(entry, fuseAttributes(2)...), 0
	case fuseGetattr:
		return append(make([]byte, 16), fuseAttributes(node)...), 0
	case fuseOpen:
		return make([]byte, 16), 0
	case fuseRead:
		offset := binary.NativeEndian.Uint64(arguments[8:])
		return []byte(hello)[min(offset, uint64(len(hello))):], 0
	case fuseRelease, fuseFlush:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

// fuseAttributes are those of the root, node 1, or of the file.
func fuseAttributes(node uint64) []byte {
	a := make([]byte, 88)
	a[0] = byte(node)
	mode := uint32(unix.S_IFDIR | 0o755)
	if node != 1 {
		mode = unix.S_IFREG | 0o644
		binary.NativeEndian.PutUint64(a[8:], uint64(len(hello)))
	}
	binary.NativeEndian.PutUint32(a[60:], mode)
	binary.NativeEndian.PutUint32(a[64:], 1) // links
	return a
}
