package main

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

const (
	// connectLimit is how long an app may leave a connection in its full backlog.
	connectLimit = 20 * time.Second
	// turn bounds what one direction moves before others have their turn, in reads.
	turn = 16
)

// relay joins a connection of the host with one to the app.
type relay struct {
	server     *server
	connecting bool
	closed     bool
	up         stream // host to app
	down       stream // app to host
}

// startRelay takes over the host's connection; early is what came behind the preamble, valid now only.
func startRelay(s *server, host int, port uint16, early []byte) {
	app, err := dialLoopback(port)
	if err != nil && err != unix.EINPROGRESS {
		refuse(s, host, err)
		return
	}
	r := &relay{server: s, connecting: err == unix.EINPROGRESS}
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
	app, host := r.up.to, r.up.from
	if _, err := unix.Getpeername(app); err == nil {
		r.server.loop.forget(r)
		r.connected()
		return true
	}
	if code, err := unix.GetsockoptInt(app, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
		r.server.loop.forget(r)
		r.server.loop.close(app)
		r.server.loop.release(host)
		refuse(r.server, host, unix.Errno(code))
	}
	return false
}

// expired ends a connection attempt that takes too long.
func (r *relay) expired() {
	r.server.loop.close(r.up.to)
	r.server.loop.release(r.up.from)
	refuse(r.server, r.up.from, unix.ETIMEDOUT)
}

func (r *relay) close() {
	r.closed = true
	r.server.loop.close(r.up.from)
	r.server.loop.close(r.up.to)
	r.server.connections.Add(-1)
}

// stream is one direction of a relay.
type stream struct {
	from, to int
	pending  []byte // read and not written yet
	eof      bool   // from is at its end
	ended    bool   // and to was told so
}

// progress is where a stream stands after a turn.
type progress int

const (
	idle   progress = iota // waits for an event
	busy                   // there may be more at once
	broken                 // one side failed
)

// pump moves what can be moved without waiting, at most one turn.
func (s *stream) pump(buffer []byte) progress {
	for range turn {
		if state := s.flush(); state != busy || s.ended {
			return state
		}
		n, err := rawRead(s.from, buffer)
		switch {
		case err == unix.EAGAIN:
			return idle
		case err == unix.EINTR:
		case err != nil:
			return broken
		case n == 0:
			s.eof = true
		default:
			s.pending = buffer[:n]
			if state := s.flush(); state != busy {
				s.keep()
				return state
			}
		}
	}
	return busy
}

// keep makes what is pending the stream's own: the buffer is everybody's.
func (s *stream) keep() {
	if len(s.pending) > 0 {
		s.pending = append([]byte(nil), s.pending...)
	}
}

// flush writes what is pending and passes the end on. It returns busy when nothing is left to write.
func (s *stream) flush() progress {
	for len(s.pending) > 0 {
		n, err := rawWrite(s.to, s.pending)
		switch {
		case err == unix.EAGAIN:
			return idle
		case err == unix.EINTR:
			continue
		case err != nil:
			return broken
		}
		s.pending = s.pending[n:]
	}
	s.pending = nil
	if s.eof && !s.ended {
		s.ended = true
		rawShutdown(s.to)
	}
	return busy
}

// dialLoopback begins a connection to the app: on IPv4, and on IPv6 if nothing listens there.
// EINPROGRESS comes with a descriptor, and is rare: a loopback connection is made at once.
func dialLoopback(port uint16) (int, error) {
	fd, err := dialLoopback4(port)
	if err == unix.ECONNREFUSED {
		to := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(port), Addr: [16]byte{15: 1}}
		fd, err = dial(unix.AF_INET6, unsafe.Pointer(&to), unix.SizeofSockaddrInet6)
	}
	return fd, err
}

func dialLoopback4(port uint16) (int, error) {
	to := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(port), Addr: [4]byte{127, 0, 0, 1}}
	return dial(unix.AF_INET, unsafe.Pointer(&to), unix.SizeofSockaddrInet4)
}

// networkOrder turns a port into what a socket address has: big endian, whatever the machine is.
func networkOrder(port uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(port >> 8), byte(port)})
}

func dial(family int, to unsafe.Pointer, size uintptr) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = rawSetOption(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	if err == nil {
		err = rawConnect(fd, to, size)
	}
	if err != nil && err != unix.EINPROGRESS {
		rawClose(fd)
		return -1, err
	}
	return fd, err
}

// refuse tells why there is no connection.
func refuse(s *server, host int, err error) {
	status := guest.ForwardFailed
	if err == unix.ECONNREFUSED {
		status = guest.ForwardRefused
	}
	rawWrite(host, []byte{byte(status)})
	rawShutdown(host)
	go func() {
		defer s.connections.Add(-1)
		drain(host)
	}()
}
