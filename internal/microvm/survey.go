package microvm

import (
	"sync"

	"github.com/dormouse-dev/dormouse/internal/netstack"
)

// Survey is what all microVMs together are and do.
type Survey struct {
	States  map[string]int // microVMs by state
	Parked  int64          // requests that wait for a microVM
	VMMs    []int          // process ids
	Network netstack.Counters
}

// counted is what of a microVM's network was added to the totals: sessions end, and totals must not go back.
type counted struct {
	mu      sync.Mutex // guards all below
	session running
	last    netstack.Counters
	ended   bool // all of session was added
}

// totals are the sums over all sessions, those that ended included.
type totals struct {
	mu  sync.Mutex // guards sum
	sum netstack.Counters
}

// Survey looks at all microVMs.
func (m *Manager) Survey() Survey {
	survey := Survey{States: m.States()}
	m.mu.RLock()
	vms := make([]*vm, 0, len(m.vms))
	for _, v := range m.vms {
		vms = append(vms, v)
	}
	m.mu.RUnlock()
	for _, v := range vms {
		survey.Parked += int64(v.gate.parked())
		if s := v.view.Load().session; s != nil {
			survey.VMMs = append(survey.VMMs, s.vmmPID())
			v.count(s, false)
		}
	}
	m.network.mu.Lock()
	defer m.network.mu.Unlock()
	survey.Network = m.network.sum
	moved := m.Traffic() // counted over sessions already
	survey.Network.EgressSent, survey.Network.EgressReceived, survey.Network.Denied = moved.EgressOut, moved.EgressIn, moved.Denied
	return survey
}

// count adds what a session's network did since the last time; last says that nothing more will follow.
func (v *vm) count(s running, last bool) {
	v.counted.mu.Lock()
	defer v.counted.mu.Unlock()
	c := &v.counted
	if !last && v.view.Load().session != s {
		return // it is over: that is, or will be, counted by the call for its end
	}
	if c.session != s {
		c.session, c.last, c.ended = s, netstack.Counters{}, false
	}
	if c.ended {
		return
	}
	now := s.counters()
	v.m.network.add(now, c.last)
	c.last, c.ended = now, last
}

func (t *totals) add(now, before netstack.Counters) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.FramesIn += now.FramesIn - before.FramesIn
	t.sum.FramesOut += now.FramesOut - before.FramesOut
	t.sum.BytesIn += now.BytesIn - before.BytesIn
	t.sum.BytesOut += now.BytesOut - before.BytesOut
}
