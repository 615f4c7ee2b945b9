package main

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// maxHeader bounds the header of a hook's answer, in bytes.
const maxHeader = 64 << 10

var (
	errAnswer  = errors.New("the answer is not HTTP")
	errHeader  = errors.New("the header of the answer is too long")
	errCut     = errors.New("the connection ended before the answer")
	errNoHook  = errors.New("no such hook")
	errTimeout = errors.New("no answer in time")
	errRefused = errors.New("connection refused")
)

// hookCall is one attempt at a lifecycle hook (spec/behaviour.md section 5), in the loop.
//
// It writes HTTP by hand because it is part of the restore: net/http would add megabytes to the agent, and
// thousands of cold functions to every launch (see loop).
type hookCall struct {
	loop    *loop
	fd      int
	request []byte // not written yet
	header  []byte // of the answer, so far
	whole   bool   // nothing of the answer is still to come
	reply   guest.HookReply
	done    func(*guest.HookReply)
}

// callHook calls a hook once and then done, with what became of it.
func callHook(l *loop, r *guest.HookRequest, done func(*guest.HookReply)) {
	h := &hookCall{loop: l, fd: -1, done: done}
	if !validHook(r.Name) || r.Port <= 0 || r.Port > 0xffff {
		h.fail(errNoHook)
		h.finish()
		return
	}
	fd, errno := dial(unix.AF_INET, uint16(r.Port))
	if errno == unix.ECONNREFUSED {
		h.fail(errRefused)
		h.finish()
		return
	}
	if errno != 0 && errno != unix.EALREADY {
		h.fail(errno)
		h.finish()
		return
	}
	h.fd = fd
	h.request = appendHookRequest(make([]byte, 0, 256+len(r.Body)), r)
	h.header = make([]byte, 0, 1024)
	if err := l.watch(fd, h); err != nil {
		h.fail(err)
		h.finish()
		return
	}
	l.expire(h, r.Timeout)
	h.ready()
}

func (h *hookCall) ready() {
	if h.step() {
		h.loop.forget(h)
		h.finish()
	}
}

func (h *hookCall) expired() {
	h.reply = guest.HookReply{TimedOut: true, Error: errTimeout.Error()}
	h.finish()
}

// finish closes the connection and passes the reply on. The status decides; what is left of the answer is
// read behind everybody's back.
func (h *hookCall) finish() {
	switch {
	case h.fd < 0:
	case h.whole:
		h.loop.close(h.fd)
	default:
		h.loop.release(h.fd)
		go drain(h.fd)
	}
	h.done(&h.reply)
}

// step goes on as far as it can without waiting and tells whether the reply is there.
func (h *hookCall) step() bool {
	for len(h.request) > 0 {
		n, errno := rawWrite(h.fd, h.request)
		switch errno {
		case 0:
			h.request = h.request[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			return h.fail(errno)
		}
	}
	for {
		if len(h.header) == cap(h.header) {
			if len(h.header) >= maxHeader {
				return h.fail(errHeader)
			}
			h.header = append(make([]byte, 0, 2*cap(h.header)), h.header...)
		}
		n, errno := rawRead(h.fd, h.header[len(h.header):cap(h.header)])
		switch {
		case errno == unix.EAGAIN:
			return false
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return h.fail(errno)
		case n == 0:
			return h.fail(errCut)
		}
		h.header = h.header[:len(h.header)+n]
		status, size, err := parseAnswer(h.header)
		if err != nil {
			return h.fail(err)
		}
		if size > 0 {
			h.reply.Status = status
			h.whole = bodyComplete(h.header[:size], len(h.header)-size)
			return true
		}
	}
}

// fail ends the call without a status.
func (h *hookCall) fail(err error) bool {
	h.reply = guest.HookReply{Error: err.Error()}
	return true
}

func validHook(name string) bool {
	switch name {
	case "ready", "validate", "run", "resume", "suspend", "terminate":
		return true
	}
	return false
}

// appendHookRequest adds the request as AWS sends it: no user agent, a content type only with a body.
func appendHookRequest(b []byte, r *guest.HookRequest) []byte {
	b = append(b, "POST /aws/lambda-microvms/runtime/v1/"...)
	b = append(b, r.Name...)
	b = append(b, " HTTP/1.1\r\nHost: localhost:"...)
	b = strconv.AppendInt(b, int64(r.Port), 10)
	if len(r.Body) > 0 {
		b = append(b, "\r\nContent-Type: application/json"...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, r.Body...)
}

// parseAnswer looks for a complete header in b and returns its status and where it ends; size is 0
// while it is not complete. Interim answers (1xx) are passed over.
func parseAnswer(b []byte) (status, size int, err error) {
	for at := 0; ; at += size {
		status, size, err = parseHeader(b[at:])
		if err != nil || size == 0 {
			return 0, 0, err
		}
		if status >= 200 {
			return status, at + size, nil
		}
	}
}

// parseHeader looks at the start of b for one complete header and returns its status and its
// size with the empty line, in bytes; size is 0 while it is not complete.
func parseHeader(b []byte) (status, size int, err error) {
	const start = "HTTP/1.x NNN"
	for i := range min(len(b), len(start)) {
		c, digit := b[i], b[i] >= '0' && b[i] <= '9'
		switch start[i] {
		case 'x', 'N':
			if !digit {
				return 0, 0, errAnswer
			}
		default:
			if c != start[i] {
				return 0, 0, errAnswer
			}
		}
	}
	if len(b) <= len(start) {
		return 0, 0, nil
	}
	status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if c := b[len(start)]; status < 100 || c != ' ' && c != '\r' && c != '\n' {
		return 0, 0, errAnswer
	}
	return status, headerSize(b), nil
}

// headerSize returns the size of the header b begins with, or 0. Bare newlines are taken too.
func headerSize(b []byte) int {
	line := 0 // where this line began
	for i, c := range b {
		if c != '\n' {
			continue
		}
		if line > 0 && (i == line || i == line+1 && b[line] == '\r') {
			return i + 1
		}
		line = i + 1
	}
	return 0
}

// bodyComplete tells whether have bytes are the whole body that a header announces.
func bodyComplete(header []byte, have int) bool {
	for line := range bytes.Lines(header) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			return err == nil && have >= length
		}
	}
	return false
}
