package endpoint

import (
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"
)

// limiter holds each VM's traffic to the limits of its class. A nil limiter limits nothing.
type limiter struct {
	limits Limits
	clock  clockwork.Clock

	mu      sync.Mutex        // guards all below, what a tally says of itself, and clientConn.visits
	tallies map[string]*tally // by VM
	sweepAt int               // so many tallies
}

// tally is what a VM has used of its limits.
type tally struct {
	limit    Limit
	requests *rate.Limiter // nil without a limit
	bytes    *rate.Limiter // nil without a limit
	conns    int           // that have had a request for the VM and are open
	used     time.Time
}

// visits are the VMs for which a client's connection has had requests: nearly always one.
type visits struct {
	to    []*tally
	ended bool
}

const (
	// tallyLife is how long a tally lasts without a connection: after a second without requests or bytes it
	// says the same as a new one. What is open must not move bytes beside a second tally.
	tallyLife  = time.Minute
	firstSweep = 1000
)

func newLimiter(limits Limits, clock clockwork.Clock) *limiter {
	if len(limits) == 0 {
		return nil
	}
	return &limiter{limits: limits, clock: clock, tallies: map[string]*tally{}, sweepAt: firstSweep}
}

// admit counts a request that has passed its checks. It returns the VM's tally, nil where nothing is
// limited, or the answer to a request that is one too many.
func (l *limiter) admit(vm VM, by *clientConn) (*tally, *answer) {
	if l == nil {
		return nil, nil
	}
	limit, limited := l.limits[vm.MemoryClass()]
	if !limited {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	t := l.of(vm.ID(), limit, now)
	t.used = now
	if by != nil && !by.visits.ended && !slices.Contains(by.visits.to, t) {
		if limit.Connections > 0 && t.conns >= limit.Connections {
			return nil, &tooManyConnections
		}
		t.conns++
		by.visits.to = append(by.visits.to, t)
	}
	if t.requests != nil && !t.requests.AllowN(now, 1) {
		return nil, &tooManyRequests
	}
	return t, nil
}

// of finds or makes a VM's tally. The caller holds mu.
func (l *limiter) of(id string, limit Limit, now time.Time) *tally {
	if t := l.tallies[id]; t != nil {
		return t
	}
	if len(l.tallies) >= l.sweepAt {
		for id, t := range l.tallies {
			if t.conns == 0 && now.Sub(t.used) >= tallyLife {
				delete(l.tallies, id)
			}
		}
		l.sweepAt = max(2*len(l.tallies), firstSweep)
	}
	t := &tally{limit: limit, used: now}
	if limit.Requests > 0 {
		t.requests = rate.NewLimiter(rate.Limit(limit.Requests), limit.Requests)
	}
	if limit.Bandwidth > 0 {
		t.bytes = rate.NewLimiter(rate.Limit(limit.Bandwidth), limit.Bandwidth/burstsPerSecond)
	}
	l.tallies[id] = t
	return t
}

// leave notes that a connection has been closed.
func (l *limiter) leave(c *clientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range c.visits.to {
		t.conns--
	}
	c.visits = visits{ended: true}
}
