package main

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the loop. None of them blocks, so none is announced to the Go scheduler (RawSyscall):
// it would take any that is slow, as all are while cold, for a blocked one, and start another thread.
// They return 0 for success; a number is compared faster than an error.

// rawRead reads from fd; 0 bytes without an error are its end.
func rawRead(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

// rawReadStamped reads from a socket with SO_TIMESTAMPNS and tells when the last bytes came, by the wall
// clock of this machine in nanoseconds; 0 if the kernel does not say.
func rawReadStamped(fd int, p []byte) (n int, came int64, errno unix.Errno) {
	var control struct {
		header unix.Cmsghdr
		stamp  unix.Timespec
		room   [32]byte
	}
	vector := unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))}
	message := unix.Msghdr{Iov: &vector, Iovlen: 1, Control: (*byte)(unsafe.Pointer(&control)), Controllen: uint64(unsafe.Sizeof(control))}
	size, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)), 0)
	if control.header.Level == unix.SOL_SOCKET && control.header.Type == unix.SCM_TIMESTAMPNS {
		came = control.stamp.Nano()
	}
	return int(size), came, errno
}

// rawWrite writes to fd.
func rawWrite(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

// rawPwrite writes to fd from its beginning.
func rawPwrite(fd int, p []byte) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	return errno
}

// rawTruncate cuts a file to a size in bytes.
func rawTruncate(fd, size int) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_FTRUNCATE, uintptr(fd), uintptr(size), 0)
	return errno
}

// rawClose closes fd. An error has no consequence: the descriptor is gone either way.
func rawClose(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// rawAccept takes the next connection of an IPv4 listener, and tells who it is from.
func rawAccept(listener int) (fd int, from [4]byte, errno unix.Errno) {
	var peer unix.RawSockaddrInet4
	size := uint32(unix.SizeofSockaddrInet4)
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&peer)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), peer.Addr, errno
}

// rawConnect begins a connection to loopback, or tells what became of it when called again.
func rawConnect(fd int, family, port uint16) unix.Errno {
	order := binary.NativeEndian.Uint16([]byte{byte(port >> 8), byte(port)}) // big endian in any case
	if family == unix.AF_INET6 {
		to := unix.RawSockaddrInet6{Family: family, Port: order, Addr: [16]byte{15: 1}}
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to)), unsafe.Sizeof(to))
		return errno
	}
	to := unix.RawSockaddrInet4{Family: family, Port: order, Addr: [4]byte{127, 0, 0, 1}}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to)), unsafe.Sizeof(to))
	return errno
}

// rawSetOption sets a socket option that is a number.
func rawSetOption(fd, level, option int, value int32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}

// rawShutdown ends the sending direction of a connection.
func rawShutdown(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// rawSetClock sets the wall clock.
func rawSetClock(now *unix.Timespec) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(now)), 0)
	return errno
}

// rawSetHostname names the machine.
func rawSetHostname(name string) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SETHOSTNAME, uintptr(unsafe.Pointer(unsafe.StringData(name))), uintptr(len(name)), 0)
	return errno
}

// rawIoctl passes a pointer, or nil, to a driver.
func rawIoctl(fd int, request uintptr, argument unsafe.Pointer) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument))
	return errno
}
