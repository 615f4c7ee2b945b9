package endpoint

import (
	"context"
	"io"
	"sync"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// fakeProcess is a process of a guest, whose other side is the test.
type fakeProcess struct {
	request guest.ExecRequest
	says    chan guest.ExecOutput // closed: the connection breaks
	told    chan string           // what it was told, in words; of some size
	deaf    chan struct{}         // not nil: takes no input until it is closed
	ended   error                 // not nil: what it is told fails, because it has ended
	hung    chan struct{}
	closed  chan struct{}

	once  sync.Once
	mu    sync.Mutex
	cause error // guarded by mu
}

func (l *fakeLease) Exec(_ context.Context, r guest.ExecRequest) (Process, error) {
	l.vm.mu.Lock()
	defer l.vm.mu.Unlock()
	if l.generation != l.vm.generation {
		return nil, ErrStale
	}
	if l.vm.execErr != nil {
		return nil, l.vm.execErr
	}
	p := &fakeProcess{
		request: r, says: make(chan guest.ExecOutput), told: make(chan string, 100),
		hung: make(chan struct{}), closed: make(chan struct{}),
	}
	l.vm.processes <- p
	return p, nil
}

func (p *fakeProcess) Next() (guest.ExecOutput, error) {
	select {
	case out := <-p.says:
		return out, nil
	case <-p.hung:
		return guest.ExecOutput{}, p.Cause()
	case <-p.closed:
		return guest.ExecOutput{}, io.ErrClosedPipe
	}
}

func (p *fakeProcess) Input(data []byte) error {
	p.mu.Lock()
	deaf, ended := p.deaf, p.ended
	p.mu.Unlock()
	if ended != nil {
		p.told <- "<in vain>"
		return ended
	}
	if deaf != nil {
		p.told <- "<waits>"
		select {
		case <-deaf:
		case <-p.closed:
			return io.ErrClosedPipe
		}
	}
	p.told <- string(data)
	return nil
}

func (p *fakeProcess) EndInput() error { p.told <- "<eof>"; return nil }

func (p *fakeProcess) Resize(cols, rows uint16) error {
	p.told <- "<" + string(rune('0'+cols%10)) + "x" + string(rune('0'+rows%10)) + ">"
	return nil
}

func (p *fakeProcess) Signal(number uint8) error {
	p.told <- "<signal " + string(rune('0'+number)) + ">"
	return nil
}

func (p *fakeProcess) HungUp() <-chan struct{} { return p.hung }

func (p *fakeProcess) Cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

func (p *fakeProcess) hangUp(cause error) {
	p.mu.Lock()
	p.cause = cause
	p.mu.Unlock()
	close(p.hung)
}

func (p *fakeProcess) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
