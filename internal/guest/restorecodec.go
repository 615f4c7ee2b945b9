package guest

import (
	"encoding/binary"
	"errors"
	"time"
)

// The compact form of OpRestore. All numbers are big endian; text and body carry their length.
//
//	request: entropy 64 | secret 32 | machine-id 16 | hostname 1+n | hook name 1+n |
//	         hook port 2 | hook timeout 8 | hook body 4+n
//	reply:   error 2+n | hook status 2 | timed out 1 | hook error 2+n | agent 8 | hook ran 8

// ErrRestoreFrame says that an OpRestore frame is cut short, too long or has members out of bounds.
var ErrRestoreFrame = errors.New("guest: bad restore frame")

const (
	// MaxHostname is HOST_NAME_MAX of Linux, in bytes.
	MaxHostname = 64
	// MaxHookName holds the longest hook name, "terminate", with room to spare.
	MaxHookName = 32
	// MaxErrorText bounds every error text in a reply, in bytes; longer ones are cut.
	MaxErrorText = 1024
)

// AppendRestoreRequest adds the compact form of r to b.
func AppendRestoreRequest(b []byte, r *RestoreRequest) ([]byte, error) {
	if len(r.Hostname) > MaxHostname || len(r.Hook.Name) > MaxHookName ||
		r.Hook.Port < 0 || r.Hook.Port > 0xffff || r.Hook.Timeout < 0 || len(r.Hook.Body) > MaxFrame/2 {
		return nil, ErrRestoreFrame
	}
	b = append(b, r.Entropy[:]...)
	b = append(b, r.Secret[:]...)
	b = append(b, r.MachineID[:]...)
	b = append(b, byte(len(r.Hostname)))
	b = append(b, r.Hostname...)
	b = append(b, byte(len(r.Hook.Name)))
	b = append(b, r.Hook.Name...)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Hook.Port))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Hook.Timeout))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Hook.Body)))
	return append(b, r.Hook.Body...), nil
}

// ParseRestoreRequest is the inverse of AppendRestoreRequest. Hook.Body shares memory with b.
func ParseRestoreRequest(b []byte) (RestoreRequest, error) {
	var r RestoreRequest
	c := cursor{rest: b}
	copy(r.Entropy[:], c.take(len(r.Entropy)))
	copy(r.Secret[:], c.take(len(r.Secret)))
	copy(r.MachineID[:], c.take(len(r.MachineID)))
	r.Hostname = c.text(1, MaxHostname)
	r.Hook.Name = c.text(1, MaxHookName)
	r.Hook.Port = int(c.uint(2))
	r.Hook.Timeout = time.Duration(c.uint(8))
	if n := int(c.uint(4)); n > 0 {
		r.Hook.Body = c.take(n)
	}
	if c.bad || len(c.rest) != 0 || r.Hook.Timeout < 0 || len(r.Hook.Body) > MaxFrame/2 {
		return RestoreRequest{}, ErrRestoreFrame
	}
	return r, nil
}

// AppendRestoreReply adds the compact form of r to b.
func AppendRestoreReply(b []byte, r *RestoreReply) []byte {
	b = appendText(b, r.Error)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Hook.Status))
	timedOut := byte(0)
	if r.Hook.TimedOut {
		timedOut = 1
	}
	b = append(b, timedOut)
	b = appendText(b, r.Hook.Error)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Agent))
	return binary.BigEndian.AppendUint64(b, uint64(r.HookRan))
}

// ParseRestoreReply is the inverse of AppendRestoreReply.
func ParseRestoreReply(b []byte) (RestoreReply, error) {
	var r RestoreReply
	c := cursor{rest: b}
	r.Error = c.text(2, MaxErrorText)
	r.Hook.Status = int(c.uint(2))
	timedOut := c.uint(1)
	r.Hook.TimedOut = timedOut == 1
	r.Hook.Error = c.text(2, MaxErrorText)
	r.Agent = time.Duration(c.uint(8))
	r.HookRan = time.Duration(c.uint(8))
	if c.bad || len(c.rest) != 0 || timedOut > 1 || r.Agent < 0 || r.HookRan < 0 {
		return RestoreReply{}, ErrRestoreFrame
	}
	return r, nil
}

func appendText(b []byte, s string) []byte {
	s = s[:min(len(s), MaxErrorText)]
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// cursor takes members off the front of a frame and remembers whether one was missing.
type cursor struct {
	rest []byte
	bad  bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.rest) {
		c.bad, c.rest = true, nil
		return nil
	}
	taken := c.rest[:n:n]
	c.rest = c.rest[n:]
	return taken
}

// uint takes a big endian number of n bytes.
func (c *cursor) uint(n int) (v uint64) {
	for _, b := range c.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// text takes a length of n bytes and that much text, at most limit bytes.
func (c *cursor) text(n, limit int) string {
	size := int(c.uint(n))
	if size > limit {
		c.bad = true
		return ""
	}
	return string(c.take(size))
}
