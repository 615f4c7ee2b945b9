package main

import (
	"encoding/binary"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

const (
	// preambleLimit is how long a connection may take to say what it is for.
	preambleLimit = 10 * time.Second
	// firstRead is how much a connection is read at first, in bytes: the preamble with a whole
	// restore request, or with the head of the first HTTP request, in one go.
	firstRead = 4096
)

// hostConn is a connection from the host until it is known what for.
type hostConn struct {
	server *server
	fd     int
	in     []byte // what came and is not used yet
	op     guest.Op
	port   uint16
}

// ready reads until the preamble, and of a restore the request, is complete.
func (c *hostConn) ready() {
	for {
		if len(c.in) == cap(c.in) {
			c.drop() // more than anybody may send before being answered
			return
		}
		n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
		switch {
		case err == unix.EAGAIN:
			c.wait()
			return
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			c.drop()
			return
		}
		c.in = c.in[:len(c.in)+n]
		if c.advance() {
			return
		}
	}
}

// wait stays for more, for a limited time.
func (c *hostConn) wait() {
	l := c.server.loop
	if l.watchers[min(c.fd, len(l.watchers)-1)] == watcher(c) {
		return
	}
	if l.watch(c.fd, c) != nil {
		c.drop()
		return
	}
	l.expire(c, preambleLimit)
}

func (c *hostConn) expired() { c.drop() }

// drop ends the connection without an answer.
func (c *hostConn) drop() {
	c.server.loop.forget(c)
	c.server.loop.close(c.fd)
	c.server.connections.Add(-1)
}

// advance does what the input allows and tells whether the connection is in other hands now.
func (c *hostConn) advance() bool {
	if c.op == 0 {
		if len(c.in) < guest.PreambleSize {
			return false
		}
		preamble, err := guest.ParsePreamble(c.in[:guest.PreambleSize])
		if err != nil || !c.server.knows(&preamble) {
			c.drop()
			return true
		}
		c.op, c.port = preamble.Op, preamble.Port
		c.in = c.in[guest.PreambleSize:]
	}
	switch c.op {
	case guest.OpForward:
		c.leave()
		startRelay(c.server, c.fd, c.port, c.in)
	case guest.OpRestore:
		frame, complete := c.frame()
		if !complete {
			return false
		}
		c.leave()
		startRestore(c.server, c.fd, frame)
	default:
		c.leave()
		go c.server.serveSlow(c.op, os.NewFile(uintptr(c.fd), "host"), c.in)
	}
	return true
}

// leave gives the connection to somebody else.
func (c *hostConn) leave() {
	c.server.loop.forget(c)
	c.server.loop.release(c.fd)
}

// frame returns the body of the one frame of OpRestore when it is complete, and makes room for it before.
func (c *hostConn) frame() ([]byte, bool) {
	const header = 4
	if len(c.in) < header {
		return nil, false
	}
	size := binary.BigEndian.Uint32(c.in)
	if size > guest.MaxFrame {
		c.in = c.in[:len(c.in):len(c.in)] // full: ready drops it
		return nil, false
	}
	whole := header + int(size)
	if len(c.in) >= whole {
		return c.in[header:whole], true
	}
	if cap(c.in) < whole {
		c.in = append(make([]byte, 0, whole), c.in...)
	}
	return nil, false
}
