package main

import (
	"bytes"
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

const (
	// clockLimit is how long the host may take to tell the time.
	clockLimit = 10 * time.Second
	// clockGood is how quick an answer must be to be taken, unless it is the last; a warm one takes 1-3 ms.
	// The time itself is late by less than that.
	clockGood = 15 * time.Millisecond
)

// restoring is a restore under way: names and entropy, then the clock, then the hook, then the reply.
type restoring struct {
	server  *server
	host    int
	request guest.RestoreRequest
	reply   guest.RestoreReply
	failed  error     // why the guest could not be fixed up
	began   time.Time // the restore, later the hook
	asked   int64     // when the host was asked for the time last, by the clock before
	asking  int       // how often it was
}

// startRestore takes over the host's connection; frame is valid during the call. It asks for the time
// first and does the rest while the answer is on its way.
func startRestore(s *server, host int, frame []byte) {
	r := &restoring{server: s, host: host, began: time.Now()}
	var err error
	if r.request, err = guest.ParseRestoreRequest(frame); err != nil {
		s.hangUp(host)
		return
	}
	r.request.Hook.Body = bytes.Clone(r.request.Hook.Body)
	r.askTime()
	r.failed = s.fixMachine(&r.request)
	s.rotate(r.request.Secret)
	if r.readClock() {
		return
	}
	if s.loop.watch(host, r) != nil {
		s.hangUp(host)
		return
	}
	s.loop.expire(r, clockLimit)
}

func (r *restoring) askTime() {
	r.asking++
	r.asked = time.Now().UnixNano()
	rawWrite(r.host, []byte{guest.ClockRequest})
}

func (r *restoring) ready() {
	if r.readClock() {
		r.server.loop.forget(r)
	}
}

// readClock takes the time the host answers with, if it is there, and goes on. The kernel knows when the
// answer came, so it does not matter how long it waited for the rest; the way to here took less than 1 ms.
func (r *restoring) readClock() bool {
	var answer [8]byte
	n, came, errno := rawReadStamped(r.host, answer[:])
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return false
	}
	if n != len(answer) { // eight bytes in one segment are never split
		r.server.hangUp(r.host)
		return true
	}
	now := time.Now()
	if came == 0 {
		came = now.UnixNano() // a kernel that does not say
	}
	if came-r.asked > int64(clockGood) && r.asking < guest.MaxClockRequests {
		r.askTime()
		return false
	}
	r.server.loop.release(r.host)
	if r.failed == nil {
		r.failed = r.server.setClock(int64(binary.BigEndian.Uint64(answer[:])) + now.UnixNano() - came)
	}
	r.reply.Agent = now.Sub(r.began)
	r.runHook(now)
	return true
}

// expired gives up on a host that does not tell the time.
func (r *restoring) expired() { r.server.hangUp(r.host) }

// runHook calls the hook, if there is one and the guest is fit for it, and answers.
func (r *restoring) runHook(now time.Time) {
	if r.failed != nil {
		r.reply.Error = r.failed.Error()
	}
	if r.failed != nil || r.request.Hook.Name == "" {
		r.answer()
		return
	}
	r.began = now
	callHook(r.server.loop, &r.request.Hook, func(reply *guest.HookReply) {
		r.reply.Hook = *reply
		r.reply.HookRan = time.Since(r.began)
		r.answer()
	})
}

func (r *restoring) answer() {
	message := append(r.server.loop.buffer[:0], guest.ClockDone, 0, 0, 0, 0) //nolint:gocritic // the buffer is whoever's turn it is
	r.server.answer(r.host, guest.AppendRestoreReply(message, &r.reply), 1)
}

// fixUp gives the machine its own randomness and names.
func (s *server) fixUp(r *guest.RestoreRequest) error {
	if err := s.random.add(&r.Entropy); err != nil {
		return err
	}
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
	if errno := rawSetClock(&now); errno != 0 {
		return errors.New("set the clock: " + errno.Error())
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
	if errno := rawIoctl(int(p), rndAddEntropy, unsafe.Pointer(&info)); errno != 0 {
		return errors.New("add entropy: " + errno.Error())
	}
	if errno := rawIoctl(int(p), rndReseedCRNG, nil); errno != 0 {
		return errors.New("reseed the random generator: " + errno.Error())
	}
	return nil
}
