package microvm

import (
	"context"
	"time"
)

// Which requests a suspend or terminate waits for, before the app's hook and DrainLimit at most:
// those that have a lease and whose response has not ended, but for
//
//   - streams: upgraded connections, event streams, and responses of unknown length that have been
//     going on for streamAge. They end when the client wants, not by themselves.
//   - silent ones: where no byte has moved through the endpoint for silence, as before every
//     suspend of an idle microVM, requests that are as old as that. Open but silent streams must
//     not keep a microVM up (spec/behaviour.md 10), and waiting for them would be for nothing.
const (
	streamAge = time.Second
	silence   = time.Minute // the shortest idle period (spec/behaviour.md 10)
)

// Response tells how a response ends.
type Response int

const (
	Sized   Response = iota // by itself: its length is known
	Unsized                 // by itself or never
	Stream                  // never: an upgraded connection or a stream of events
)

// letRequestsEnd returns when the requests in flight have ended, within bounds. No new ones may be
// let in. It calls waits if there is something to wait for.
func (v *vm) letRequestsEnd(ctx context.Context, s running, waits func()) {
	ended := v.gate.await(v.m.clock.Now(), time.Unix(0, v.lastTraffic.Load()))
	if ended == nil {
		return
	}
	waits()
	limit := v.m.clock.NewTimer(v.m.cfg.DrainLimit)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.Chan():
	case <-s.vmmDone():
	case <-ctx.Done():
	}
}

// await returns a channel that is closed when those inside who count have left; nil if there are none.
func (g *gate) await(now, lastTraffic time.Time) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.awaited = nil
	for l := range g.inside {
		if l.counts(now, lastTraffic) {
			if g.awaited == nil {
				g.awaited = map[*Lease]struct{}{}
			}
			g.awaited[l] = struct{}{}
		}
	}
	if len(g.awaited) == 0 {
		return nil
	}
	g.empty = make(chan struct{})
	return g.empty
}

// counts tells whether a suspend waits for a request. The caller holds the gate's mu.
func (l *Lease) counts(now, lastTraffic time.Time) bool {
	switch {
	case now.Sub(lastTraffic) >= silence && now.Sub(l.taken) >= silence:
		return false
	case l.answeredAt.IsZero():
		return true
	case l.response == Unsized:
		return now.Sub(l.answeredAt) < streamAge
	}
	return l.response == Sized
}

// left notes that a request needs no more waiting for. The caller holds mu.
func (g *gate) left(l *Lease) {
	if _, awaited := g.awaited[l]; !awaited {
		return
	}
	delete(g.awaited, l)
	if len(g.awaited) == 0 {
		close(g.empty)
	}
}
