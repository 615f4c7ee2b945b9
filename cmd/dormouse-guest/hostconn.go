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
	// lengthSize is what stands before a frame, in bytes.
	lengthSize = 4
)

// hostConn is a connection from the host until it is known what for. Mostly its first read
// brings everything, and it never needs memory of its own.
type hostConn struct {
	server *server
	fd     int
	in     []byte // what came before and is not used yet
}

// greet serves a new connection.
func greet(s *server, fd int) {
	if rest, done := takeIn(s, fd, nil); !done {
		c := &hostConn{server: s, fd: fd, in: rest}
		if s.loop.watch(fd, c) != nil {
			s.hangUp(fd)
			return
		}
		s.loop.expire(c, preambleLimit)
	}
}

func (c *hostConn) ready() {
	rest, done := takeIn(c.server, c.fd, c.in)
	if done {
		c.server.loop.forget(c)
		return
	}
	c.in = rest
}

func (c *hostConn) expired() { c.server.hangUp(c.fd) }

// takeIn reads until it is known what the connection is for, behind what came before. It returns
// a copy of what came if that is not enough yet; else the connection is in other hands.
func takeIn(s *server, fd int, before []byte) (rest []byte, done bool) {
	buffer := s.loop.buffer
	have := copy(buffer, before)
	for {
		if have == len(buffer) {
			// Only a restore or a hook may send that much before it is answered.
			if len(buffer) > guest.PreambleSize+lengthSize+guest.MaxFrame {
				return nil, s.hangUp(fd)
			}
			s.loop.buffer = make([]byte, 2*len(buffer))
			copy(s.loop.buffer, buffer)
			buffer = s.loop.buffer
		}
		n, errno := rawRead(fd, buffer[have:])
		switch {
		case errno == unix.EAGAIN:
			return append([]byte(nil), buffer[:have]...), false
		case errno == unix.EINTR:
			continue
		case errno != 0 || n == 0:
			return nil, s.hangUp(fd)
		}
		have += n
		if s.dispatch(fd, buffer[:have]) {
			return nil, true
		}
	}
}

// dispatch passes a connection on when in says enough; in is only valid during the call.
func (s *server) dispatch(fd int, in []byte) bool {
	if len(in) < guest.PreambleSize {
		return false
	}
	preamble, err := guest.ParsePreamble(in[:guest.PreambleSize])
	if err != nil || !s.knows(&preamble) {
		return s.hangUp(fd)
	}
	in = in[guest.PreambleSize:]
	switch preamble.Op {
	case guest.OpForward:
		s.loop.release(fd)
		startRelay(s, fd, preamble.Port, in)
	case guest.OpRestore, guest.OpHook:
		frame, complete, err := cutFrame(in)
		if err != nil {
			return s.hangUp(fd)
		}
		if !complete {
			return false
		}
		s.loop.release(fd)
		if preamble.Op == guest.OpRestore {
			startRestore(s, fd, frame)
		} else {
			s.serveHook(fd, frame)
		}
	default:
		s.loop.release(fd)
		go s.serveSlow(preamble.Op, os.NewFile(uintptr(fd), "host"), append([]byte(nil), in...))
	}
	return true
}

// serveHook calls a hook for the host; frame is valid during the call.
func (s *server) serveHook(host int, frame []byte) {
	request, err := guest.ParseHookRequest(frame)
	if err != nil {
		s.hangUp(host)
		return
	}
	callHook(s.loop, &request, func(reply *guest.HookReply) {
		message := append(s.loop.buffer[:0], 0, 0, 0, 0) //nolint:gocritic // the buffer is whoever's turn it is
		s.answer(host, guest.AppendHookReply(message, reply), 0)
	})
}

// answer sends a last message, which ends with a frame that begins at frameAt and whose length is filled in
// here, and hangs up. It is far smaller than an empty socket buffer: a host that cannot take it is gone.
func (s *server) answer(host int, message []byte, frameAt int) {
	binary.BigEndian.PutUint32(message[frameAt:], uint32(len(message)-frameAt-lengthSize))
	rawWrite(host, message)
	s.hangUp(host)
}

// hangUp ends a connection without an answer. It returns true: that is a way to be done with one.
func (s *server) hangUp(fd int) bool {
	s.loop.close(fd)
	s.connections.Add(-1)
	return true
}

// cutFrame returns the body of the frame that in begins with.
func cutFrame(in []byte) (body []byte, complete bool, err error) {
	if len(in) < lengthSize {
		return nil, false, nil
	}
	size := binary.BigEndian.Uint32(in)
	if size > guest.MaxFrame {
		return nil, false, guest.ErrFrameSize
	}
	if in = in[lengthSize:]; len(in) < int(size) {
		return nil, false, nil
	}
	return in[:size], true, nil
}
