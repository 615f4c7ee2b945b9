package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// ExecRequest asks for a process in the app's container: its namespaces, root directory, cgroup and
// capabilities, as root, with the environment of the image. Without Args it is a shell of the image,
// /bin/bash or else /bin/sh.
type ExecRequest struct {
	Args []string `json:"args,omitempty"`
	// TTY gives the process a terminal of its own, on which output and errors are one. Until it is
	// resized it has no size (spec/behaviour.md 9), unless Cols and Rows say one.
	TTY  bool   `json:"tty,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
	Rows uint16 `json:"rows,omitempty"`
}

// check refuses what cannot be run.
func (r *ExecRequest) check() error {
	size := 0
	for _, arg := range r.Args {
		size += len(arg) + 1
		for _, b := range []byte(arg) {
			if b == 0 {
				return errors.New("an argument contains a zero byte")
			}
		}
	}
	switch {
	case len(r.Args) > MaxExecArgs || size > MaxExecArgBytes:
		return fmt.Errorf("a command may have %d arguments of %d bytes together", MaxExecArgs, MaxExecArgBytes)
	case len(r.Args) > 0 && r.Args[0] == "":
		return errors.New("the command is empty")
	}
	return nil
}

// Bounds of OpExec.
const (
	MaxExecArgs     = 1024
	MaxExecArgBytes = 128 << 10
	// ExecPiece is how many bytes of input or output one frame carries at most.
	ExecPiece = 32 << 10
	// ExecWindow is how many bytes of input the host may send that the process has not taken yet. So
	// the agent never stops reading, and sees a resize, a signal or the end of the connection at once.
	ExecWindow = 256 << 10
	// MaxExecs bounds the processes of OpExec in one VM.
	MaxExecs = 64
)

// ExecKind says what a frame of OpExec is.
type ExecKind byte

// From the host.
const (
	ExecInput    ExecKind = 'i' // bytes for the process
	ExecInputEnd ExecKind = 'e' // no more of them; on a terminal, the character that says so
	ExecResize   ExecKind = 'r' // columns 2 | rows 2
	ExecSignal   ExecKind = 's' // number 1; for the process group that was started
)

// From the agent.
const (
	ExecStarted ExecKind = 'S' // first, or ExecFailed
	ExecFailed  ExecKind = 'F' // first and last: a text for people
	ExecStdout  ExecKind = 'o' // bytes; on a terminal, everything
	ExecStderr  ExecKind = 'x'
	ExecTaken   ExecKind = 't' // 4: bytes of input that the process has taken since the last such frame
	ExecExit    ExecKind = 'X' // last: code 4, 128+signal when a signal ended it
)

// ExecFrame is one frame of OpExec after the request. Its body is the kind (1) and the rest, big endian.
type ExecFrame struct {
	Kind ExecKind
	Data []byte // ExecInput, ExecStdout, ExecStderr, ExecFailed
	// Number is the code of ExecExit, the number of ExecSignal, the bytes of ExecTaken.
	Number     uint32
	Cols, Rows uint16
}

// ErrExecFrame says that a frame of OpExec is none, or is out of bounds.
var ErrExecFrame = errors.New("guest: bad exec frame")

// Append adds f, with its length, to b.
func (f *ExecFrame) Append(b []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, byte(f.Kind))
	switch f.Kind {
	case ExecInput, ExecStdout, ExecStderr, ExecFailed:
		b = append(b, f.Data...)
	case ExecResize:
		b = binary.BigEndian.AppendUint16(b, f.Cols)
		b = binary.BigEndian.AppendUint16(b, f.Rows)
	case ExecSignal:
		b = append(b, byte(f.Number))
	case ExecTaken, ExecExit:
		b = binary.BigEndian.AppendUint32(b, f.Number)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-frameHeader))
	return b
}

// ReadExecFrame reads one frame into buffer, which must hold ExecPiece+1 bytes; Data shares its memory.
// io.EOF means that the other side closed between two frames.
func ReadExecFrame(r io.Reader, buffer []byte) (f ExecFrame, err error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return f, err
	}
	size := binary.BigEndian.Uint32(header[:])
	if size == 0 || size > ExecPiece+1 || int(size) > len(buffer) {
		return f, ErrExecFrame
	}
	body := buffer[:size]
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return f, err
	}
	return parseExecFrame(body)
}

func parseExecFrame(body []byte) (ExecFrame, error) {
	f := ExecFrame{Kind: ExecKind(body[0])}
	c := cursor{rest: body[1:]}
	switch f.Kind {
	case ExecInput, ExecStdout, ExecStderr, ExecFailed:
		f.Data = c.take(len(c.rest))
	case ExecResize:
		f.Cols, f.Rows = uint16(c.uint(2)), uint16(c.uint(2))
	case ExecSignal:
		f.Number = uint32(c.uint(1))
	case ExecTaken, ExecExit:
		f.Number = uint32(c.uint(4))
	case ExecInputEnd, ExecStarted:
	default:
		return f, ErrExecFrame
	}
	if c.end() != nil || f.Kind == ExecExit && f.Number > math.MaxUint8 {
		return f, ErrExecFrame
	}
	return f, nil
}
