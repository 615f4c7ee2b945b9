package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the loop. None of them blocks, so none is announced to the Go scheduler (RawSyscall):
// it would take any that is slow, as all are while cold, for a blocked one, and start another thread.

// rawRead reads from fd; 0 bytes without an error are its end.
func rawRead(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return result(n, errno)
}

// rawWrite writes to fd.
func rawWrite(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return result(n, errno)
}

// rawPwrite writes to fd from its beginning.
func rawPwrite(fd int, p []byte) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	return check(errno)
}

// rawTruncate cuts a file to a size in bytes.
func rawTruncate(fd, size int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_FTRUNCATE, uintptr(fd), uintptr(size), 0)
	return check(errno)
}

// rawClose closes fd. An error has no consequence: the descriptor is gone either way.
func rawClose(fd int) {
	unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// rawAccept takes the next connection of an IPv4 listener, and tells who it is from.
func rawAccept(listener int) (fd int, from [4]byte, err error) {
	var peer unix.RawSockaddrInet4
	size := uint32(unix.SizeofSockaddrInet4)
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&peer)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	fd, err = result(n, errno)
	return fd, peer.Addr, err
}

// rawConnect begins a connection.
func rawConnect(fd int, to unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(to), size)
	return check(errno)
}

// rawSetOption sets a socket option that is a number.
func rawSetOption(fd, level, option int, value int32) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return check(errno)
}

// rawShutdown ends the sending direction of a connection.
func rawShutdown(fd int) {
	unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// rawSetClock sets the wall clock.
func rawSetClock(now *unix.Timespec) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(now)), 0)
	return check(errno)
}

// rawSetHostname names the machine.
func rawSetHostname(name string) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SETHOSTNAME, uintptr(unsafe.Pointer(unsafe.StringData(name))), uintptr(len(name)), 0)
	return check(errno)
}

// rawIoctl passes a pointer, or nil, to a driver.
func rawIoctl(fd int, request uintptr, argument unsafe.Pointer) error {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument))
	return check(errno)
}

func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func check(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
