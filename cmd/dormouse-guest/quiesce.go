package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// fitrim is FITRIM of linux/fs.h, _IOWR('X', 121, struct fstrim_range).
const fitrim = 0xc0185879

// quiesce makes the guest small before its memory becomes an image's snapshot, and fit to be restored.
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
	return s.rehearse()
}

// rehearse goes through a restore that changes nothing: the first real one then finds its memory
// mapped and its kernel objects made.
func (s *server) rehearse() error {
	request := guest.RestoreRequest{Secret: s.present()}
	request.Hostname, request.MachineID = s.identity.present()
	rand.Read(request.Entropy[:])
	frame, err := guest.AppendRestoreRequest(nil, &request)
	if err != nil {
		return fmt.Errorf("rehearse a restore: %w", err)
	}
	parsed, err := guest.ParseRestoreRequest(frame)
	if err != nil {
		return fmt.Errorf("rehearse a restore: %w", err)
	}
	if err := s.fixUp(&parsed); err != nil {
		return fmt.Errorf("rehearse a restore: %w", err)
	}
	return setClock(time.Now().UnixNano())
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
