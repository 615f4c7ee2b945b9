package guest

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// ErrPreamble says that a connection did not begin as one to the agent does.
var ErrPreamble = errors.New("guest: bad preamble")

// Preamble is the start of every connection to the agent.
type Preamble struct {
	Op     Op
	Port   uint16 // OpForward only, else 0
	Secret [SecretSize]byte
}

// Append adds the PreambleSize bytes of p to b.
func (p *Preamble) Append(b []byte) []byte {
	b = append(b, Magic...)
	b = append(b, byte(p.Op), 0)
	b = binary.BigEndian.AppendUint16(b, p.Port)
	return append(b, p.Secret[:]...)
}

// ParsePreamble is the inverse of Append; the secret is not judged here.
func ParsePreamble(b []byte) (Preamble, error) {
	if len(b) != PreambleSize || string(b[:4]) != Magic || b[5] != 0 {
		return Preamble{}, ErrPreamble
	}
	p := Preamble{Op: Op(b[4]), Port: binary.BigEndian.Uint16(b[6:8])}
	if p.Op < OpForward || p.Op > OpExec || (p.Port != 0) != (p.Op == OpForward) {
		return Preamble{}, ErrPreamble
	}
	copy(p.Secret[:], b[8:])
	return p, nil
}

// Knows tells in constant time whether p carries the secret.
func (p *Preamble) Knows(secret *[SecretSize]byte) bool {
	return subtle.ConstantTimeCompare(p.Secret[:], secret[:]) == 1
}
