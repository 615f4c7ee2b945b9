// Package telemetry measures what launches, suspends, resumes and builds spend their time on.
package telemetry

import (
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// Phases splits the time of one operation into consecutive phases: each begins where the one
// before ended, so they add up to the total. It is safe for concurrent use.
type Phases struct {
	clock clockwork.Clock

	mu    sync.Mutex // guards all below
	start time.Time  // of the present phase
	name  string
	done  []store.Phase
}

// Begin starts measuring, with the first phase.
func Begin(clock clockwork.Clock, name string) *Phases {
	return &Phases{clock: clock, start: clock.Now(), name: name}
}

// Next ends the present phase and begins another.
func (p *Phases) Next(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	p.name = name
}

// Split ends the present phase as two: tail of its end belongs to a phase of that name. The
// guest reports some times itself; what is left is the way there and back.
func (p *Phases) Split(name string, tail time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	last := &p.done[len(p.done)-1]
	tail = min(max(tail, 0), last.Duration)
	last.Duration -= tail
	p.done = append(p.done, store.Phase{Name: name, Duration: tail})
	p.name = ""
}

// End ends the present phase and returns all of them.
func (p *Phases) End() []store.Phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	p.name = ""
	return append([]store.Phase(nil), p.done...)
}

// end closes the present phase; its time goes to the last one when it has no name.
func (p *Phases) end() {
	now := p.clock.Now()
	spent := now.Sub(p.start)
	p.start = now
	if p.name == "" && len(p.done) > 0 {
		p.done[len(p.done)-1].Duration += spent
		return
	}
	p.done = append(p.done, store.Phase{Name: p.name, Duration: spent})
}
