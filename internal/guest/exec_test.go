package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestExecFramesGolden(t *testing.T) {
	for want, f := range map[string]ExecFrame{
		"00000003" + "69" + "6869":     {Kind: ExecInput, Data: []byte("hi")},
		"00000001" + "65":              {Kind: ExecInputEnd},
		"00000005" + "72" + "00780028": {Kind: ExecResize, Cols: 120, Rows: 40},
		"00000002" + "73" + "0f":       {Kind: ExecSignal, Number: 15},
		"00000001" + "53":              {Kind: ExecStarted},
		"00000002" + "46" + "21":       {Kind: ExecFailed, Data: []byte("!")},
		"00000001" + "6f":              {Kind: ExecStdout, Data: []byte{}},
		"00000002" + "78" + "00":       {Kind: ExecStderr, Data: []byte{0}},
		"00000005" + "74" + "00010000": {Kind: ExecTaken, Number: 65536},
		"00000005" + "58" + "000000ff": {Kind: ExecExit, Number: 255},
	} {
		raw := f.Append(nil)
		if got := hex.EncodeToString(raw); got != want {
			t.Errorf("%c: got %s, want %s", f.Kind, got, want)
		}
		back, err := ReadExecFrame(bytes.NewReader(raw), make([]byte, ExecPiece+1))
		if err != nil || !reflect.DeepEqual(back, f) {
			t.Errorf("%c: read %+v, %v", f.Kind, back, err)
		}
	}
}

func TestExecFramesThatAreOffAreRefused(t *testing.T) {
	for name, raw := range map[string]string{
		"empty": "00000000", "no kind": "0000000100", "too long": "00008002" + strings.Repeat("6f", 32770),
		"short resize": "0000000372" + "0078", "long exit": "0000000658" + "0000000000", "exit of 256": "0000000558" + "00000100",
		"end with data": "00000002" + "6500", "signal": "0000000373" + "0f0f",
	} {
		b, err := hex.DecodeString(raw)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := ReadExecFrame(bytes.NewReader(b), make([]byte, ExecPiece+1)); !errors.Is(err, ErrExecFrame) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	buffer := make([]byte, ExecPiece+1)
	if _, err := ReadExecFrame(strings.NewReader("\x00\x00\x00\x09ocut"), buffer); err != io.ErrUnexpectedEOF {
		t.Errorf("cut: %v", err)
	}
	if _, err := ReadExecFrame(strings.NewReader(""), buffer); err != io.EOF {
		t.Errorf("end: %v", err)
	}
}

func FuzzReadExecFrame(f *testing.F) {
	for _, frame := range []ExecFrame{{Kind: ExecInput, Data: []byte("x")}, {Kind: ExecResize, Cols: 1, Rows: 2}, {Kind: ExecExit, Number: 3}} {
		f.Add(frame.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ReadExecFrame(bytes.NewReader(b), make([]byte, ExecPiece+1))
		if err != nil {
			return
		}
		if raw := frame.Append(nil); !bytes.HasPrefix(b, raw) {
			t.Fatalf("%x was taken as %+v", b, frame)
		}
	})
}

// hostile is an agent that starts a process and then says what it is given.
func hostile(t *testing.T, says []byte) *Process {
	t.Helper()
	c := New(dialTo(func(conn net.Conn) {
		readPreamble(conn)
		var r ExecRequest
		if ReadJSON(conn, &r) != nil {
			return
		}
		conn.Write((&ExecFrame{Kind: ExecStarted}).Append(nil))
		go io.Copy(io.Discard, conn)
		conn.Write(says)
	}), [SecretSize]byte{})
	p, err := c.Exec(testContext(t), ExecRequest{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestAnAgentThatBreaksTheProtocolIsLeft(t *testing.T) {
	for name, f := range map[string]ExecFrame{
		"takes what was not sent": {Kind: ExecTaken, Number: 1}, "sends input": {Kind: ExecInput, Data: []byte("x")},
		"starts twice": {Kind: ExecStarted}, "fails after the start": {Kind: ExecFailed, Data: []byte("x")},
	} {
		p := hostile(t, f.Append(nil))
		if _, err := p.Next(); !errors.Is(err, ErrExecFrame) {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.Input([]byte("x")); err == nil {
			t.Errorf("%s: input was still sent", name)
		}
	}
	p := hostile(t, nil)
	if _, err := p.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an end without an exit: %v", err)
	}
}

// halfClosing is a connection that can end one way only, as those through a network stack can.
type halfClosing struct{ net.Conn }

func (halfClosing) CloseWrite() error { return nil }

func TestOutputThatIsStillBeingPassedOnStaysWhenTheProcessIsLetGo(t *testing.T) {
	first := (&ExecFrame{Kind: ExecStdout, Data: []byte("first")}).Append(nil)
	p := hostile(t, (&ExecFrame{Kind: ExecStdout, Data: []byte("other")}).Append(first))
	p.conn = halfClosing{p.conn}
	out, err := p.Next()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	<-p.Over()
	if string(out.Data) != "first" {
		t.Errorf("it became %q", out.Data)
	}
}

func FuzzProcess(f *testing.F) {
	f.Add((&ExecFrame{Kind: ExecStdout, Data: []byte("x")}).Append(nil))
	f.Add((&ExecFrame{Kind: ExecExit, Number: 1}).Append((&ExecFrame{Kind: ExecTaken}).Append(nil)))
	f.Fuzz(func(t *testing.T, says []byte) {
		p := hostile(t, says)
		for {
			out, err := p.Next()
			if err != nil {
				return
			}
			if len(out.Data) > ExecPiece || out.Code < 0 || out.Code > 255 {
				t.Fatalf("%+v", out)
			}
		}
	})
}

func TestInputIsBoundedByTheWindow(t *testing.T) {
	got := make(chan int, 1)
	more := make(chan struct{})
	c := New(dialTo(func(conn net.Conn) {
		readPreamble(conn)
		var r ExecRequest
		ReadJSON(conn, &r)
		conn.Write((&ExecFrame{Kind: ExecStarted}).Append(nil))
		buffer, total := make([]byte, ExecPiece+1), 0
		for {
			f, err := ReadExecFrame(conn, buffer)
			if err != nil {
				return
			}
			total += len(f.Data)
			if total == ExecWindow {
				got <- total
				<-more
				conn.Write((&ExecFrame{Kind: ExecTaken, Number: ExecWindow}).Append(nil))
			}
			if total == ExecWindow+1 {
				got <- total
			}
		}
	}), [SecretSize]byte{})
	p, err := c.Exec(testContext(t), ExecRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	sent := make(chan error, 1)
	go func() { sent <- p.Input(make([]byte, ExecWindow+1)) }()
	<-got
	select {
	case err := <-sent:
		t.Fatalf("more than the window was sent: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(more)
	go p.Next()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	<-got
}

func TestWhatCannotBeRunIsNotSent(t *testing.T) {
	c := New(func(context.Context, uint16) (net.Conn, error) { panic("dialled") }, [SecretSize]byte{})
	for name, args := range map[string][]string{
		"no name": {""}, "a zero byte": {"ls", "a\x00b"}, "too many": make([]string, MaxExecArgs+1), "too long": {strings.Repeat("x", MaxExecArgBytes)},
	} {
		var refused AgentError
		if _, err := c.Exec(testContext(t), ExecRequest{Args: args}); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExecTellsWhyAProcessDidNotStart(t *testing.T) {
	c := New(dialTo(func(conn net.Conn) {
		readPreamble(conn)
		var r ExecRequest
		ReadJSON(conn, &r)
		conn.Write((&ExecFrame{Kind: ExecFailed, Data: []byte("the image has no shell")}).Append(nil))
	}), [SecretSize]byte{})
	_, err := c.Exec(testContext(t), ExecRequest{})
	var refused AgentError
	if !errors.As(err, &refused) || refused != "the image has no shell" {
		t.Errorf("%v", err)
	}
}

// Every number in the frames is big endian and bounded by its place.
func TestExecFrameLengthCountsTheKind(t *testing.T) {
	raw := (&ExecFrame{Kind: ExecStdout, Data: make([]byte, ExecPiece)}).Append(nil)
	if binary.BigEndian.Uint32(raw) != ExecPiece+1 {
		t.Errorf("length %d", binary.BigEndian.Uint32(raw))
	}
}
