package main

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// connectLimit is how long an app may leave a connection in its full backlog.
const connectLimit = 20 * time.Second

// relay joins a connection of the host with one to the app.
type relay struct {
	server     *server
	connecting bool
	closed     bool
	family     uint16 // of the app's side, which is at this port
	port       uint16
	up         stream // host to app
	down       stream // app to host
}

// startRelay takes over the host's connection; early is what came behind the preamble, valid now only.
func startRelay(s *server, host int, port uint16, early []byte) {
	app, family, errno := dialLoopback(port)
	if errno != 0 && errno != unix.EALREADY {
		refuse(s, host, errno)
		return
	}
	r := &relay{server: s, connecting: errno != 0, family: family, port: port}
	r.up = stream{from: host, to: app, pending: early}
	r.down = stream{from: app, to: host}
	if r.connecting {
		s.loop.expire(r, connectLimit)
	} else {
		r.connected()
	}
	r.up.keep()
	if s.loop.watch(host, r) != nil || s.loop.watch(app, r) != nil {
		s.loop.forget(r)
		r.close()
	}
}

// connected tells the host and passes on what it sent early. Failures show up again in ready,
// which the first event of the new descriptors calls.
func (r *relay) connected() {
	r.connecting = false
	rawWrite(r.up.from, []byte{byte(guest.ForwardOK)})
	r.up.flush()
}

func (r *relay) ready() {
	if r.closed || r.connecting && !r.checkConnected() {
		return
	}
	l := r.server.loop
	up, down := r.up.pump(l.buffer), r.down.pump(l.buffer)
	switch {
	case up == broken || down == broken, r.up.ended && r.down.ended:
		r.close()
	case up == busy || down == busy:
		l.again(r)
	}
}

// checkConnected finds out what became of a connection attempt; it returns whether there is a connection.
func (r *relay) checkConnected() bool {
	switch errno := rawConnect(r.up.to, r.family, r.port); errno {
	case unix.EALREADY:
		return false
	case 0, unix.EISCONN:
		r.server.loop.forget(r)
		r.connected()
		return true
	default:
		r.server.loop.forget(r)
		r.giveUp(errno)
		return false
	}
}

// expired ends a connection attempt that takes too long.
func (r *relay) expired() { r.giveUp(unix.ETIMEDOUT) }

func (r *relay) giveUp(errno unix.Errno) {
	r.closed = true
	r.server.loop.close(r.up.to)
	r.server.loop.release(r.up.from)
	refuse(r.server, r.up.from, errno)
}

func (r *relay) close() {
	r.closed = true
	r.server.loop.close(r.up.from)
	r.server.loop.close(r.up.to)
	r.server.connections.Add(-1)
}

// dialLoopback connects to the app: on IPv4, and on IPv6 if nothing listens there. EALREADY comes with a
// descriptor and says that the connection is still being made, because the app's backlog is full.
func dialLoopback(port uint16) (fd int, family uint16, errno unix.Errno) {
	fd, errno = dial(unix.AF_INET, port)
	if errno != unix.ECONNREFUSED {
		return fd, unix.AF_INET, errno
	}
	fd, errno = dial(unix.AF_INET6, port)
	return fd, unix.AF_INET6, errno
}

func dial(family, port uint16) (int, unix.Errno) {
	fd, err := unix.Socket(int(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		return -1, errno
	}
	errno := rawSetOption(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	if errno == 0 {
		errno = rawConnect(fd, family, port)
	}
	if errno == unix.EINPROGRESS {
		// The kernel completes a loopback connection on the way out of the first call.
		errno = rawConnect(fd, family, port)
	}
	if errno != 0 && errno != unix.EALREADY {
		rawClose(fd)
		return -1, errno
	}
	return fd, errno
}

// refuse tells why there is no connection.
func refuse(s *server, host int, errno unix.Errno) {
	status := guest.ForwardFailed
	if errno == unix.ECONNREFUSED {
		status = guest.ForwardRefused
	}
	rawWrite(host, []byte{byte(status)})
	rawShutdown(host)
	go func() {
		defer s.connections.Add(-1)
		drain(host)
	}()
}
