package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fitrim is FITRIM of linux/fs.h, _IOWR('X', 121, struct fstrim_range).
const fitrim = 0xc0185879

// quiesce makes the guest small before its memory becomes an image's snapshot.
// The agent's own heap stays as it is: the megabyte or two would cost page faults and the set-up of spans
// right after every restore.
func (s *server) quiesce() error {
	unix.Sync()
	if err := trim(dataDir); err != nil {
		return fmt.Errorf("trim the data disk: %w", err)
	}
	// 3: page cache, dentries and inodes.
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return fmt.Errorf("drop caches: %w", err)
	}
	return nil
}

// trim tells the VMM which blocks of a file system are free.
func trim(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	all := struct{ start, length, minimum uint64 }{0, ^uint64(0), 0} // struct fstrim_range
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fitrim, uintptr(unsafe.Pointer(&all)))
	if errno != 0 && errno != unix.EOPNOTSUPP { // a VMM without discard
		return errno
	}
	return nil
}
