package main

import (
	"errors"
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// This file runs first after every restore. A VMM without hardware virtualization then has not
// translated any code yet, so every branch, library and system call taken for the first time
// adds to the time before the first answer: plain system calls, a binary codec, no fmt.

// Requests of random(4), linux/random.h.
const (
	rndAddEntropy = 0x40085203
	rndReseedCRNG = 0x5207
)

// serveRestore makes the restored VM itself again, runs its hook and tells how it went.
func (s *server) serveRestore(conn *net.TCPConn) {
	frame, err := guest.ReadFrame(conn)
	if err != nil {
		return
	}
	began := time.Now()
	request, err := guest.ParseRestoreRequest(frame)
	if err != nil {
		return
	}
	var reply guest.RestoreReply
	if err := s.fixUp(&request); err != nil {
		reply.Error = err.Error()
	}
	reply.Agent = time.Since(began)
	if reply.Error == "" && request.Hook.Name != "" {
		hookBegan := time.Now()
		reply.Hook = callHook(&request.Hook)
		reply.HookRan = time.Since(hookBegan)
	}
	guest.WriteFrame(conn, guest.AppendRestoreReply(make([]byte, 0, 64), &reply))
}

func (s *server) fixUp(r *guest.RestoreRequest) error {
	if err := setClock(r.UnixNanos); err != nil {
		return err
	}
	if err := addEntropy(&r.Entropy); err != nil {
		return err
	}
	s.rotate(r.Secret)
	if r.Hostname != "" {
		if err := s.identity.setHostname(r.Hostname); err != nil {
			return err
		}
	}
	if r.MachineID != [16]byte{} {
		return s.identity.setMachineID(r.MachineID)
	}
	return nil
}

// setClock sets the wall clock; the monotonic clock goes on from where the VM was stopped.
func setClock(unixNanos int64) error {
	if unixNanos <= 0 {
		return errors.New("the wall clock is missing")
	}
	now := unix.NsecToTimespec(unixNanos)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		return errors.New("set the clock: " + err.Error())
	}
	return nil
}

// addEntropy mixes fresh random bytes into the kernel's pool and makes its generator use them at
// once. Without that, two VMs of one snapshot would hand out the same random numbers.
func addEntropy(entropy *[64]byte) error {
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.New("open the random pool: " + err.Error())
	}
	defer unix.Close(fd)
	info := struct { // struct rand_pool_info
		bits, bytes int32
		data        [64]byte
	}{int32(len(entropy) * 8), int32(len(entropy)), *entropy}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), rndAddEntropy, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return errors.New("add entropy: " + errno.Error())
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), rndReseedCRNG, 0); errno != 0 {
		return errors.New("reseed the random generator: " + errno.Error())
	}
	return nil
}
