package main

import (
	"encoding/binary"
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// This file runs first after every restore: plain system calls, no fmt, nothing that is not
// needed (see loop for why).

// Requests of random(4), linux/random.h.
const (
	rndAddEntropy = 0x40085203
	rndReseedCRNG = 0x5207
)

// restoring is a restore whose hook is under way.
type restoring struct {
	server *server
	host   int
	hook   *hookCall
	began  time.Time // of the hook
	reply  guest.RestoreReply
}

// startRestore makes the restored VM itself again and starts its hook.
func startRestore(s *server, host int, frame []byte) {
	r := &restoring{server: s, host: host, began: time.Now()}
	request, err := guest.ParseRestoreRequest(frame)
	if err == nil {
		err = s.fixUp(&request)
	}
	now := time.Now()
	r.reply.Agent = now.Sub(r.began)
	r.began = now
	if err != nil {
		r.reply.Error = err.Error()
		r.answer()
		return
	}
	if request.Hook.Name == "" {
		r.answer()
		return
	}
	hook, done := startHook(&request.Hook)
	r.hook = hook
	if done || s.loop.watch(hook.fd, r) != nil {
		r.hookDone()
		return
	}
	s.loop.expire(r, request.Hook.Timeout)
}

func (r *restoring) ready() {
	if r.hook.step() {
		r.server.loop.forget(r)
		r.hookDone()
	}
}

func (r *restoring) expired() {
	r.hook.timeOut()
	r.hookDone()
}

func (r *restoring) hookDone() {
	r.reply.Hook = r.hook.reply
	r.reply.HookRan = time.Since(r.began)
	r.answer()
	if r.hook.fd >= 0 {
		r.server.loop.release(r.hook.fd)
	}
	r.hook.finish()
}

// answer sends the reply. It is far smaller than an empty socket buffer: a host that cannot take it
// is gone.
func (r *restoring) answer() {
	message := guest.AppendRestoreReply(r.server.loop.buffer[:lengthSize], &r.reply)
	binary.BigEndian.PutUint32(message, uint32(len(message)-lengthSize))
	rawWrite(r.host, message)
	r.server.loop.close(r.host)
	r.server.connections.Add(-1)
}

func (s *server) fixUp(r *guest.RestoreRequest) error {
	if err := setClock(r.UnixNanos); err != nil {
		return err
	}
	if err := s.random.add(&r.Entropy); err != nil {
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
	if err := rawSetClock(&now); err != nil {
		return errors.New("set the clock: " + err.Error())
	}
	return nil
}

// randomPool is the kernel's, held open so that a restore need not look it up.
type randomPool int

func openRandomPool() (randomPool, error) {
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	return randomPool(fd), err
}

// add mixes fresh random bytes in and makes the kernel's generator use them at once. Without
// that, two VMs of one snapshot would hand out the same random numbers.
func (p randomPool) add(entropy *[64]byte) error {
	info := struct { // struct rand_pool_info
		bits, bytes int32
		data        [64]byte
	}{int32(len(entropy) * 8), int32(len(entropy)), *entropy}
	if err := rawIoctl(int(p), rndAddEntropy, unsafe.Pointer(&info)); err != nil {
		return errors.New("add entropy: " + err.Error())
	}
	if err := rawIoctl(int(p), rndReseedCRNG, nil); err != nil {
		return errors.New("reseed the random generator: " + err.Error())
	}
	return nil
}
