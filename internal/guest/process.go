package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// execLimit bounds the start of a process, which is code that nobody has run since the restore.
const execLimit = 30 * time.Second

// leaveLimit is how long a process that was let go is waited for; the agent gives it a second.
const leaveLimit = 3 * time.Second

// errHungUp is the error of a process that was left by whoever had it.
var errHungUp = errors.New("guest: process was hung up on")

// Process is a process of OpExec, as the host has it. Its methods may be called at once, but for Next,
// which one goroutine calls, all the time: it also takes in what lets Input go on.
type Process struct {
	// Moved is called with the number of bytes of every piece of input and output; nil: it is not.
	Moved func(bytes int)

	conn net.Conn

	reading chan struct{} // of size 1; full while somebody reads
	buffer  []byte        // of Next

	writing sync.Mutex // held while a frame is written

	mu    sync.Mutex
	room  int           // guarded by mu: bytes of input that may be sent now
	more  chan struct{} // of size 1: there is room again
	over  chan struct{} // closed with ended
	hung  chan struct{} // closed with cause
	cause error         // guarded by mu: why it was hung up on
	ended error         // guarded by mu: what Next says from now on; nil while the process lives
}

// Exec runs a process. It returns when that runs, or an AgentError that says why it does not.
func (c *Client) Exec(ctx context.Context, r ExecRequest) (*Process, error) {
	if err := r.check(); err != nil {
		return nil, AgentError(err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, execLimit)
	defer cancel()
	p, err := c.exec(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("run a process: %w", err)
	}
	return p, nil
}

func (c *Client) exec(ctx context.Context, r ExecRequest) (p *Process, err error) {
	conn, err := c.open(ctx, OpExec, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	defer abortWith(ctx, conn, &err)()
	if err := WriteJSON(conn, r); err != nil {
		return nil, err
	}
	p = &Process{
		conn: conn, reading: make(chan struct{}, 1), buffer: make([]byte, ExecPiece+1), room: ExecWindow,
		more: make(chan struct{}, 1), over: make(chan struct{}), hung: make(chan struct{}),
	}
	first, err := ReadExecFrame(conn, p.buffer)
	switch {
	case err != nil:
		return nil, err
	case first.Kind == ExecFailed:
		return nil, AgentError(first.Data[:min(len(first.Data), MaxErrorText)])
	case first.Kind != ExecStarted:
		return nil, ErrExecFrame
	}
	return p, nil
}

// ExecOutput is what a process says: a piece of output, or that it has ended.
type ExecOutput struct {
	Stderr bool
	Data   []byte // valid until the next call of Next
	Exited bool
	Code   int // 128+signal when a signal ended it
}

// Next returns what the process says next. After the end it returns io.EOF; if there was no end, what
// broke the connection, or what HangUp was given.
func (p *Process) Next() (ExecOutput, error) { return p.next(p.buffer) }

// next is Next with a buffer of the caller's.
func (p *Process) next(buffer []byte) (ExecOutput, error) {
	p.reading <- struct{}{}
	defer func() { <-p.reading }()
	for {
		if err := p.why(); err != nil {
			return ExecOutput{}, err
		}
		f, err := ReadExecFrame(p.conn, buffer)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the last frame is ExecExit
			}
			return ExecOutput{}, p.end(err)
		}
		switch f.Kind {
		case ExecStdout, ExecStderr:
			p.moved(len(f.Data))
			return ExecOutput{Stderr: f.Kind == ExecStderr, Data: f.Data}, nil
		case ExecTaken:
			if !p.taken(int(f.Number)) {
				return ExecOutput{}, p.end(ErrExecFrame)
			}
		case ExecExit:
			_ = p.end(io.EOF)
			return ExecOutput{Exited: true, Code: int(f.Number)}, nil
		default:
			return ExecOutput{}, p.end(ErrExecFrame)
		}
	}
}

// taken makes room for n bytes of input. A guest cannot make more than there was.
func (p *Process) taken(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > ExecWindow-p.room {
		return false
	}
	p.room += n
	select {
	case p.more <- struct{}{}:
	default:
	}
	return true
}

// Input sends bytes to the process. It waits while the process does not take them.
func (p *Process) Input(data []byte) error {
	for len(data) > 0 {
		n, err := p.reserve(min(len(data), ExecPiece))
		if err != nil {
			return err
		}
		if err := p.send(&ExecFrame{Kind: ExecInput, Data: data[:n]}); err != nil {
			return err
		}
		p.moved(n)
		data = data[n:]
	}
	return nil
}

// reserve waits for room for up to n bytes of input.
func (p *Process) reserve(n int) (int, error) {
	for {
		p.mu.Lock()
		if p.room > 0 {
			n = min(n, p.room)
			p.room -= n
			if p.room > 0 { // for another who waits
				select {
				case p.more <- struct{}{}:
				default:
				}
			}
			p.mu.Unlock()
			return n, nil
		}
		p.mu.Unlock()
		select {
		case <-p.more:
		case <-p.hung:
			return 0, p.Cause()
		case <-p.over:
			return 0, p.why()
		}
	}
}

// EndInput says that no more input comes.
func (p *Process) EndInput() error { return p.send(&ExecFrame{Kind: ExecInputEnd}) }

// Resize gives the process's terminal a size.
func (p *Process) Resize(cols, rows uint16) error {
	return p.send(&ExecFrame{Kind: ExecResize, Cols: cols, Rows: rows})
}

// Signal sends a signal to the process group that was started.
func (p *Process) Signal(number uint8) error {
	return p.send(&ExecFrame{Kind: ExecSignal, Number: uint32(number)})
}

func (p *Process) send(f *ExecFrame) error {
	frame := f.Append(make([]byte, 0, frameHeader+1+4+len(f.Data)))
	p.writing.Lock()
	defer p.writing.Unlock()
	if err := p.why(); err != nil {
		return err
	}
	if _, err := p.conn.Write(frame); err != nil {
		return err
	}
	return nil
}

func (p *Process) moved(n int) {
	if p.Moved != nil {
		p.Moved(n)
	}
}

// HangUp has the agent end the process and all its session, and Next return cause once that has
// happened. It does not wait.
func (p *Process) HangUp(cause error) {
	p.mu.Lock()
	if p.cause == nil {
		p.cause = cause
		close(p.hung)
	}
	p.mu.Unlock()
	if half, ok := p.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	_ = p.end(cause)
}

// Close lets go of the process. If it lives, the agent ends it and all its session, which Close does not
// wait for: see Over. The connection is only closed behind that, because a VM that is paused at this moment
// might not have heard of it.
func (p *Process) Close() error {
	p.HangUp(errHungUp)
	_ = p.conn.SetReadDeadline(time.Now().Add(leaveLimit))
	go func() {
		buffer := make([]byte, len(p.buffer)) // what Next returned last may still be in use
		for {
			if _, err := p.next(buffer); err != nil {
				return
			}
		}
	}()
	return nil
}

// Over is closed when the process has ended, or has not ended in time after it was let go.
func (p *Process) Over() <-chan struct{} { return p.over }

// HungUp is closed when HangUp was called; Cause then says what it was given.
func (p *Process) HungUp() <-chan struct{} { return p.hung }

// Cause is what HangUp was given, nil if it was not called.
func (p *Process) Cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

// end makes err, or what HangUp was given, the last word if there is none yet.
func (p *Process) end(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		if p.cause != nil && !errors.Is(err, io.EOF) {
			err = p.cause
		}
		p.ended = err
		close(p.over)
		_ = p.conn.Close()
	}
	return p.ended
}

// why is the last word, nil while there is none.
func (p *Process) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}
