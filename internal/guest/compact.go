package guest

import (
	"encoding/binary"
	"errors"
	"time"
)

// The compact forms of OpRestore and OpHook. All numbers are big endian; text and body carry their length.
//
//	hook request:    name 1+n | port 2 | timeout 8 | body 4+n
//	hook reply:      status 2 | timed out 1 | error 2+n
//	restore request: entropy 64 | secret 32 | machine-id 16 | hostname 1+n | hook request
//	restore reply:   error 2+n | agent 8 | hook ran 8 | hook reply

// ErrCompact says that a compact frame is cut short, too long or has members out of bounds.
var ErrCompact = errors.New("guest: bad compact frame")

const (
	// MaxHostname is HOST_NAME_MAX of Linux, in bytes.
	MaxHostname = 64
	// MaxHookName holds the longest hook name, "terminate", with room to spare.
	MaxHookName = 32
	// MaxErrorText bounds every error text in a reply, in bytes; longer ones are cut.
	MaxErrorText = 1024
)

// AppendHookRequest adds the compact form of r to b.
func AppendHookRequest(b []byte, r *HookRequest) ([]byte, error) {
	if len(r.Name) > MaxHookName || r.Port < 0 || r.Port > 0xffff || r.Timeout < 0 || len(r.Body) > MaxFrame/2 {
		return nil, ErrCompact
	}
	b = append(b, byte(len(r.Name)))
	b = append(b, r.Name...)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Port))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Timeout))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Body)))
	return append(b, r.Body...), nil
}

// ParseHookRequest is the inverse of AppendHookRequest. Body shares memory with b.
func ParseHookRequest(b []byte) (r HookRequest, err error) {
	c := cursor{rest: b}
	c.hookRequest(&r)
	return r, c.end()
}

// AppendHookReply adds the compact form of r to b.
func AppendHookReply(b []byte, r *HookReply) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(r.Status))
	timedOut := byte(0)
	if r.TimedOut {
		timedOut = 1
	}
	return appendText(append(b, timedOut), r.Error)
}

// ParseHookReply is the inverse of AppendHookReply.
func ParseHookReply(b []byte) (r HookReply, err error) {
	c := cursor{rest: b}
	c.hookReply(&r)
	return r, c.end()
}

// AppendRestoreRequest adds the compact form of r, without the time, to b.
func AppendRestoreRequest(b []byte, r *RestoreRequest) ([]byte, error) {
	if len(r.Hostname) > MaxHostname {
		return nil, ErrCompact
	}
	b = append(b, r.Entropy[:]...)
	b = append(b, r.Secret[:]...)
	b = append(b, r.MachineID[:]...)
	b = append(b, byte(len(r.Hostname)))
	b = append(b, r.Hostname...)
	return AppendHookRequest(b, &r.Hook)
}

// ParseRestoreRequest is the inverse of AppendRestoreRequest. Hook.Body shares memory with b.
func ParseRestoreRequest(b []byte) (r RestoreRequest, err error) {
	c := cursor{rest: b}
	copy(r.Entropy[:], c.take(len(r.Entropy)))
	copy(r.Secret[:], c.take(len(r.Secret)))
	copy(r.MachineID[:], c.take(len(r.MachineID)))
	r.Hostname = c.text(1, MaxHostname)
	c.hookRequest(&r.Hook)
	return r, c.end()
}

// AppendRestoreReply adds the compact form of r to b.
func AppendRestoreReply(b []byte, r *RestoreReply) []byte {
	b = appendText(b, r.Error)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Agent))
	b = binary.BigEndian.AppendUint64(b, uint64(r.HookRan))
	return AppendHookReply(b, &r.Hook)
}

// ParseRestoreReply is the inverse of AppendRestoreReply.
func ParseRestoreReply(b []byte) (r RestoreReply, err error) {
	c := cursor{rest: b}
	r.Error = c.text(2, MaxErrorText)
	r.Agent = c.duration()
	r.HookRan = c.duration()
	c.hookReply(&r.Hook)
	return r, c.end()
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

// end returns an error if a member was missing or out of bounds, or if something is left.
func (c *cursor) end() error {
	if c.bad || len(c.rest) != 0 {
		return ErrCompact
	}
	return nil
}

func (c *cursor) hookRequest(r *HookRequest) {
	r.Name = c.text(1, MaxHookName)
	r.Port = int(c.uint(2))
	r.Timeout = c.duration()
	n := int(c.uint(4))
	if n > MaxFrame/2 {
		c.bad = true
	} else if n > 0 {
		r.Body = c.take(n)
	}
}

func (c *cursor) hookReply(r *HookReply) {
	r.Status = int(c.uint(2))
	timedOut := c.uint(1)
	r.TimedOut = timedOut == 1
	c.bad = c.bad || timedOut > 1
	r.Error = c.text(2, MaxErrorText)
}

// duration takes nanoseconds, which are never negative.
func (c *cursor) duration() time.Duration {
	d := time.Duration(c.uint(8))
	c.bad = c.bad || d < 0
	return d
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
