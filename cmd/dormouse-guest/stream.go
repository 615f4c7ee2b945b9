package main

import (
	"golang.org/x/sys/unix"
)

const (
	// turn bounds what one direction moves before others have their turn, in reads.
	turn = 16
	// bulkAfter is how much a stream moves by read and write, in bytes, before it gets a pipe for splice(2):
	// that leaves the bytes in the kernel, but is more cold code in front of a first answer.
	bulkAfter = 512 << 10
)

// stream is one direction of a relay.
type stream struct {
	from, to int
	pending  []byte // read and not written yet
	eof      bool   // from is at its end
	ended    bool   // and to was told so
	moved    int    // bytes read, until there is a pipe
	bulk     *pipe  // nil: by read and write
}

// pipe holds bytes on their way between two sockets, inside the kernel.
type pipe struct {
	out, in int // descriptors
	full    int // bytes in it
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
	if s.bulk != nil {
		return s.splice()
	}
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
			s.moved += n
			s.pending = buffer[:n]
			if state := s.flush(); state != busy {
				s.keep()
				return state
			}
		}
	}
	if s.moved >= bulkAfter {
		s.openPipe()
	}
	return busy
}

// openPipe makes the stream go on by splice, or by copying if there is no pipe to be had.
func (s *stream) openPipe() {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) == nil {
		s.bulk = &pipe{out: fds[0], in: fds[1]}
	}
}

// splice does what pump does without touching the bytes.
func (s *stream) splice() progress {
	for range turn {
		for s.bulk.full > 0 {
			n, errno := rawSplice(s.bulk.out, s.to, s.bulk.full)
			switch {
			case errno == unix.EAGAIN:
				return idle
			case errno == unix.EINTR:
				continue
			case errno != 0:
				return broken
			}
			s.bulk.full -= n
		}
		if state := s.flush(); s.ended {
			return state
		}
		n, errno := rawSplice(s.from, s.bulk.in, bufferSize)
		switch {
		case errno == unix.EAGAIN: // the pipe is empty, so it is the socket that has nothing
			return idle
		case errno == unix.EINTR:
		case errno != 0:
			return broken
		case n == 0:
			s.eof = true
		}
		s.bulk.full += max(n, 0)
	}
	return busy
}

func (s *stream) close() {
	if s.bulk != nil {
		rawClose(s.bulk.out)
		rawClose(s.bulk.in)
	}
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
