package main

import (
	"golang.org/x/sys/unix"
)

// turn bounds what one direction moves before others have their turn, in reads.
const turn = 16

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
		n, errno := rawRead(s.from, buffer)
		switch {
		case errno == unix.EAGAIN:
			return idle
		case errno == unix.EINTR:
		case errno != 0:
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
		n, errno := rawWrite(s.to, s.pending)
		switch {
		case errno == unix.EAGAIN:
			return idle
		case errno == unix.EINTR:
			continue
		case errno != 0:
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
