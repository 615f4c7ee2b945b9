package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// loop is one thread that does all that is hot: it accepts the host's connections, fixes the VM up
// after a restore, calls the hook and relays to the app.
//
// It uses epoll and plain system calls, not package net with a goroutine per connection. After a
// restore without hardware virtualization no code is translated yet, so a launch pays for every branch that
// is taken for the first time: goroutine hand-over, the runtime's poller, timers and threads
// were two thirds of what the agent ran between the restore and the first answer. Everything
// that is not hot (calls, events) leaves the loop for ordinary Go.
type loop struct {
	epoll    int
	watchers []watcher // by descriptor
	timed    []timer
	more     []watcher // have more to do than one turn
	buffer   []byte    // for whoever reads now
}

// watcher is told about its descriptors. Events are edge-triggered: a watcher goes on until
// the kernel says EAGAIN.
type watcher interface {
	ready()
	expired()
}

type timer struct {
	w  watcher
	at time.Time
}

// bufferSize is how much one read takes, in bytes.
const bufferSize = 64 << 10

func newLoop() (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	return &loop{epoll: epoll, watchers: make([]watcher, 64), timed: make([]timer, 0, 16), buffer: make([]byte, bufferSize)}, nil
}

// watch tells w whenever fd may have become readable, writable or broken.
func (l *loop) watch(fd int, w watcher) error {
	for fd >= len(l.watchers) {
		l.watchers = append(l.watchers, make([]watcher, len(l.watchers))...)
	}
	l.watchers[fd] = w
	const events = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// release stops watching fd without closing it.
func (l *loop) release(fd int) {
	if fd < len(l.watchers) && l.watchers[fd] != nil {
		l.watchers[fd] = nil
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// close closes fd, which ends watching it.
func (l *loop) close(fd int) {
	if fd < len(l.watchers) {
		l.watchers[fd] = nil
	}
	rawClose(fd)
}

// expire sets w's deadline, in place of the one it had.
func (l *loop) expire(w watcher, after time.Duration) {
	l.forget(w)
	l.timed = append(l.timed, timer{w, time.Now().Add(after)})
}

// forget removes w's deadline.
func (l *loop) forget(w watcher) {
	for i := range l.timed {
		if l.timed[i].w == w {
			last := len(l.timed) - 1
			l.timed[i] = l.timed[last]
			l.timed[last] = timer{}
			l.timed = l.timed[:last]
			return
		}
	}
}

// again makes w ready in the next round: it stopped in the middle to let others have their turn.
func (l *loop) again(w watcher) { l.more = append(l.more, w) }

// run serves for ever; it only returns when epoll is broken.
func (l *loop) run() error {
	var events [32]unix.EpollEvent
	for {
		n, err := unix.EpollWait(l.epoll, events[:], l.timeout())
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for events: %w", err)
		}
		for i := range max(n, 0) {
			// A watcher that went away earlier in this round may have left its descriptor's number to
			// another one: being ready is a hint, and a wrong one costs an EAGAIN.
			if w := l.watchers[events[i].Fd]; w != nil {
				w.ready()
			}
		}
		l.expireDue()
		l.takeTurns()
	}
}

// timeout is how long epoll may wait, in milliseconds, -1 for ever.
func (l *loop) timeout() int {
	if len(l.more) > 0 {
		return 0
	}
	if len(l.timed) == 0 {
		return -1
	}
	next := l.timed[0].at
	for _, t := range l.timed[1:] {
		if t.at.Before(next) {
			next = t.at
		}
	}
	return max(0, int((time.Until(next)+time.Millisecond-1)/time.Millisecond))
}

func (l *loop) expireDue() {
	if len(l.timed) == 0 {
		return
	}
	now := time.Now()
	for i := 0; i < len(l.timed); {
		if w := l.timed[i].w; !l.timed[i].at.After(now) {
			l.forget(w) // moves another one to place i
			w.expired()
		} else {
			i++
		}
	}
}

// takeTurns goes on with those that had more to do; some of them may be closed by now.
func (l *loop) takeTurns() {
	turns := l.more
	l.more = nil
	for _, w := range turns {
		w.ready()
	}
}
