package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

const (
	// maxHeader bounds the header of a hook's answer, in bytes.
	maxHeader = 64 << 10
	// maxDrain and drainTime bound what is read of an answer nobody wants, in bytes and time.
	maxDrain  = 64 << 10
	drainTime = 2 * time.Second
)

var errAnswer = errors.New("the hook's answer is not HTTP")

// callHook makes one attempt at a lifecycle hook, spec/behaviour.md section 5.
//
// It writes HTTP by hand because it is part of the restore (see restore.go): net/http would add
// megabytes to the agent and thousands of cold functions to every launch.
func callHook(r *guest.HookRequest) (reply guest.HookReply) {
	deadline := time.Now().Add(r.Timeout)
	status, err := exchangeHook(r, deadline)
	if err != nil {
		reply.TimedOut = errors.Is(err, os.ErrDeadlineExceeded)
		reply.Error = err.Error()
	}
	reply.Status = status
	return reply
}

func exchangeHook(r *guest.HookRequest, deadline time.Time) (status int, err error) {
	if !validHook(r.Name) || r.Port <= 0 || r.Port > 0xffff {
		return 0, errors.New("no such hook")
	}
	conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback4, uint16(r.Port))))
	if err != nil {
		if errors.Is(err, unix.ECONNREFUSED) {
			err = errors.New("connection refused")
		}
		return 0, err
	}
	conn.SetDeadline(deadline)
	if _, err := conn.Write(appendHookRequest(make([]byte, 0, 256+len(r.Body)), r)); err != nil {
		conn.Close()
		return 0, err
	}
	status, err = readStatus(conn)
	if err != nil {
		conn.Close()
		return 0, err
	}
	// The status decides. The rest of the answer is read behind the caller's back, so that an app
	// that is still writing it meets an orderly end.
	go func() {
		defer conn.Close()
		conn.CloseWrite()
		drain(conn)
	}()
	return status, nil
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
		b = append(b, "\r\ncontent-type: application/json"...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, r.Body...)
}

// readStatus reads up to the end of an answer's header and returns its status code.
// Interim answers (1xx) are passed over.
func readStatus(r io.Reader) (int, error) {
	buffer := make([]byte, 1024)
	have := 0
	for {
		n, err := r.Read(buffer[have:])
		have += n
		status, size, bad := parseHeader(buffer[:have])
		for size > 0 && status < 200 { // interim: look at what follows it
			have = copy(buffer, buffer[size:have])
			status, size, bad = parseHeader(buffer[:have])
		}
		switch {
		case bad:
			return 0, errAnswer
		case size > 0:
			return status, nil
		case err == io.EOF:
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case have == maxHeader:
			return 0, errors.New("the header of the hook's answer is too long")
		case have == len(buffer):
			buffer = append(buffer, make([]byte, min(len(buffer), maxHeader-len(buffer)))...)
		}
	}
}

// parseHeader looks for one complete header at the start of b: its status and its size in bytes with
// the empty line, size 0 when it is not complete yet.
func parseHeader(b []byte) (status, size int, bad bool) {
	const start = "HTTP/1.x NNN"
	for i := 0; i < min(len(b), len(start)); i++ {
		switch c := b[i]; start[i] {
		case 'x':
			bad = bad || c != '0' && c != '1'
		case 'N':
			bad = bad || c < '0' || c > '9'
		default:
			bad = bad || c != start[i]
		}
	}
	if bad || len(b) <= len(start) {
		return 0, 0, bad
	}
	if c := b[len(start)]; c != ' ' && c != '\r' && c != '\n' {
		return 0, 0, true
	}
	status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if status < 100 {
		return 0, 0, true
	}
	return status, headerEnd(b), false
}

// headerEnd returns the size of a header with its empty line, or 0. Bare newlines are taken too.
func headerEnd(b []byte) int {
	lineBegin := 0
	for i, c := range b {
		if c != '\n' {
			continue
		}
		if length := i - lineBegin; lineBegin > 0 && (length == 0 || length == 1 && b[lineBegin] == '\r') {
			return i + 1
		}
		lineBegin = i + 1
	}
	return 0
}

// drain reads what still comes, within bounds.
func drain(conn *net.TCPConn) {
	conn.SetReadDeadline(time.Now().Add(drainTime))
	var buffer [4096]byte
	for total := 0; total < maxDrain; {
		n, err := conn.Read(buffer[:])
		if err != nil {
			return
		}
		total += n
	}
}
