package microvm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	// maxProcesses bounds the shells and commands of one microVM that run at once; the agent allows twice
	// as many, for those that are still ending.
	maxProcesses = guest.MaxExecs / 2
	// hangUpLimit is how long a suspend waits for processes to end that were hung up on: the agent gives
	// them a second, and then ends them by force. It goes on with that after the wake.
	hangUpLimit = 3 * time.Second
)

// ErrProcesses means that a microVM runs as many shells and commands as it may.
var ErrProcesses = fmt.Errorf("a microVM may run %d shells and commands at once", maxProcesses)

// ErrAsleep is what a shell or command ends with when its microVM is suspended.
var ErrAsleep = errors.New("microVM suspended")

// processes are the shells and commands that run in a microVM on behalf of its clients.
type processes struct {
	mu   sync.Mutex
	open map[*Process]struct{} // guarded by mu
}

// Process is a shell or a command that runs in a microVM. It must be closed.
type Process struct {
	*guest.Process // nil until it has started
	vm             *vm
	begun          chan struct{} // closed when it has started, or has not
}

// Exec runs a shell, or a command if the request names one, beside the app. It ends with the lease's
// generation: Next then says ErrAsleep or ErrGone. Errors: ErrStale, ErrProcesses, a guest.AgentError.
func (l *Lease) Exec(ctx context.Context, r guest.ExecRequest) (*Process, error) {
	p := &Process{vm: l.gate.v, begun: make(chan struct{})}
	if err := l.gate.v.processes.enter(p, l); err != nil {
		return nil, err
	}
	defer close(p.begun)
	started, err := l.session.exec(ctx, r)
	if err != nil {
		l.gate.v.processes.leave(p)
		if l.Stale() {
			err = errors.Join(ErrStale, err)
		}
		return nil, err
	}
	counts := l.gate.v.m.cfg.IdleCounts
	if len(r.Args) == 0 && counts.Shell || len(r.Args) > 0 && counts.Exec {
		started.Moved = func(int) { l.gate.v.touch() }
	}
	l.gate.v.processes.started(p, started, l)
	return p, nil
}

// enter takes a place for a process of a session that still serves.
func (s *processes) enter(p *Process, l *Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case l.Stale():
		return ErrStale
	case len(s.open) >= maxProcesses:
		return ErrProcesses
	case s.open == nil:
		s.open = make(map[*Process]struct{})
	}
	s.open[p] = struct{}{}
	return nil
}

// started completes an entry. If the session has stopped serving meanwhile, the process is hung up on.
func (s *processes) started(p *Process, process *guest.Process, l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Process = process
	if now := l.gate.v.view.Load(); now.session != l.session {
		cause := ErrAsleep
		if now.rec.State == store.VMTerminating || now.rec.State == store.VMTerminated {
			cause = ErrGone
		}
		process.HangUp(cause)
	}
}

func (s *processes) leave(p *Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, p)
}

// hangUp ends all processes of a microVM that no longer serves. Those that are being started end as soon
// as they have.
func (s *processes) hangUp(cause error) (ending []*Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.open {
		if p.Process != nil {
			p.HangUp(cause)
		}
		ending = append(ending, p)
	}
	return ending
}

// endProcesses ends the shells and commands of a microVM that is about to sleep, so that none is left
// half dead in it. Without any it costs nothing.
func (v *vm) endProcesses() {
	ending := v.processes.hangUp(ErrAsleep)
	if len(ending) == 0 {
		return
	}
	limit := v.m.clock.NewTimer(hangUpLimit)
	defer limit.Stop()
	for _, p := range ending {
		if !v.within(p.begun, limit) || p.Process != nil && !v.within(p.Over(), limit) {
			return
		}
	}
}

// within waits until done is closed, or tells that it is not in time.
func (v *vm) within(done <-chan struct{}, limit clockwork.Timer) bool {
	select {
	case <-done:
		return true
	case <-limit.Chan():
	case <-v.life.Done():
	}
	return false
}

// Close ends the process, if it has not ended. It has its place until it has.
func (p *Process) Close() error {
	err := p.Process.Close()
	go func() {
		<-p.Over()
		p.vm.processes.leave(p)
	}()
	return err
}
