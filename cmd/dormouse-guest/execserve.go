package main

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// quietAfterExit is how long a process that has ended may leave its output silent while another one
// still has it open: who started that one in the background does not want to wait for it.
const quietAfterExit = 200 * time.Millisecond

// serveExec runs a process for the host until it ends or the host hangs up.
func (s *server) serveExec(conn io.ReadWriter) {
	var request guest.ExecRequest
	if guest.ReadJSON(conn, &request) != nil {
		return
	}
	to := &execConn{ReadWriter: conn}
	defer s.execs.Add(-1)
	if s.execs.Add(1) > guest.MaxExecs {
		to.fail(errManyExecs)
		return
	}
	p, err := s.exec(&request)
	if err != nil {
		to.fail(err)
		return
	}
	p.serve(to)
}

// execConn is the host's connection of one process.
type execConn struct {
	io.ReadWriter
	writing sync.Mutex
}

func (c *execConn) send(f *guest.ExecFrame) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.Write(f.Append(nil))
	return err
}

func (c *execConn) fail(err error) {
	text := err.Error()
	_ = c.send(&guest.ExecFrame{Kind: guest.ExecFailed, Data: []byte(text[:min(len(text), guest.MaxErrorText)])})
}

// serve carries bytes until the process ends, and tells the host how; or until the host hangs up, and
// then ends the process and all its session.
func (p *process) serve(to *execConn) {
	defer p.close()
	hungUp, ended := make(chan struct{}), make(chan struct{}) // ended is closed behind the process
	input := newExecInput()
	if to.send(&guest.ExecFrame{Kind: guest.ExecStarted}) != nil {
		p.endSession()
		return
	}
	go func() {
		defer close(hungUp)
		p.obey(to, input, ended)
	}()
	go p.feed(to, input)
	defer input.end()

	said := make(chan struct{})
	outputs := []*os.File{p.stdout, p.stderr}
	if p.stderr == nil {
		outputs = outputs[:1]
	}
	go func() {
		defer close(said)
		var all sync.WaitGroup
		for i, from := range outputs {
			all.Go(func() { tell(to, []guest.ExecKind{guest.ExecStdout, guest.ExecStderr}[i], from, ended) })
		}
		all.Wait()
	}()

	select {
	case status := <-p.exit:
		close(ended)
		for _, from := range outputs {
			_ = from.SetReadDeadline(time.Now().Add(quietAfterExit))
		}
		select {
		case <-said:
			_ = to.send(&guest.ExecFrame{Kind: guest.ExecExit, Number: exitCode(status)})
		case <-hungUp:
		}
	case <-hungUp:
		p.endSession()
	}
}

// tell sends what the process says, to its end, or once the process has ended to the first silence.
func tell(to *execConn, kind guest.ExecKind, from *os.File, ended <-chan struct{}) {
	buffer := make([]byte, guest.ExecPiece)
	for {
		n, err := from.Read(buffer)
		if n > 0 && to.send(&guest.ExecFrame{Kind: kind, Data: buffer[:n]}) != nil {
			return // the host has hung up
		}
		if err != nil {
			return // EIO is how a terminal says that nobody has it open
		}
		select {
		case <-ended:
			_ = from.SetReadDeadline(time.Now().Add(quietAfterExit))
		default:
		}
	}
}

// obey does what the host says until it hangs up, or says what makes no sense.
func (p *process) obey(to *execConn, input *execInput, ended <-chan struct{}) {
	buffer := make([]byte, guest.ExecPiece+1)
	for {
		f, err := guest.ReadExecFrame(to, buffer)
		if err != nil {
			return
		}
		switch f.Kind {
		case guest.ExecInput:
			if !input.add(f.Data) {
				return
			}
		case guest.ExecInputEnd:
			input.end()
		case guest.ExecResize:
			_ = p.resize(f.Cols, f.Rows)
		case guest.ExecSignal:
			select {
			case <-ended: // the number may be somebody else's
			default:
				_ = unix.Kill(-p.pid, unix.Signal(f.Number))
			}
		default:
			return
		}
	}
}

// endOfInput is what a terminal takes for the end of input at the beginning of a line (VEOF, termios(3)).
const endOfInput = 4

// feed writes input to the process. What it does not want is taken all the same.
func (p *process) feed(to *execConn, input *execInput) {
	var failed error
	for {
		data, more := input.next()
		if !more {
			break
		}
		for rest := data; len(rest) > 0 && failed == nil; {
			n := min(len(rest), guest.ExecPiece)
			_, failed = p.stdin.Write(rest[:n])
			rest = rest[n:]
		}
		input.took()
		if to.send(&guest.ExecFrame{Kind: guest.ExecTaken, Number: uint32(len(data))}) != nil {
			return
		}
	}
	if !p.tty {
		_ = p.stdin.Close()
	} else if failed == nil {
		_, _ = p.stdin.Write([]byte{endOfInput})
	}
}

func exitCode(status unix.WaitStatus) uint32 {
	if status.Signaled() {
		return 128 + uint32(status.Signal())
	}
	return uint32(status.ExitStatus())
}

// execInput holds what the host has sent and the process has not taken, at most guest.ExecWindow.
type execInput struct {
	changed chan struct{} // of size 1

	mu    sync.Mutex
	held  []byte // guarded by mu
	owed  int    // guarded by mu: bytes that next returned and that are not taken yet
	ended bool   // guarded by mu
}

func newExecInput() *execInput { return &execInput{changed: make(chan struct{}, 1)} }

// add tells whether the host kept to the window.
func (i *execInput) add(data []byte) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.held)+i.owed+len(data) > guest.ExecWindow {
		return false
	}
	if !i.ended {
		i.held = append(i.held, data...)
	}
	i.wake()
	return true
}

func (i *execInput) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.wake()
}

func (i *execInput) wake() {
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// took says that what next returned has been taken. It comes before the host is told.
func (i *execInput) took() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.owed = 0
}

// next waits for input; false is its end.
func (i *execInput) next() ([]byte, bool) {
	for {
		i.mu.Lock()
		data, ended := i.held, i.ended
		i.held, i.owed = nil, len(data)
		i.mu.Unlock()
		if len(data) > 0 {
			return data, true
		}
		if ended {
			return nil, false
		}
		<-i.changed
	}
}
