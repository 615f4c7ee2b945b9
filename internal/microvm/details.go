package microvm

import (
	"context"
	"time"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Details are what is known of a microVM beyond its record. Sizes are bytes on the host, 0 when
// there is no such file.
type Details struct {
	Generation      uint64 // launches and resumes since the daemon started
	LastTraffic     time.Time
	DiskBytes       int64
	CheckpointBytes int64
	VMMPID          int // 0 without a VMM
	Traffic         store.Traffic
	Networks        []string // named networks that its connectors lead into now
}

// States tells how many microVMs there are in each state. Those that ended some time ago are not counted.
func (m *Manager) States() map[string]int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	states := map[string]int{}
	for _, v := range m.vms {
		states[v.state()]++
	}
	return states
}

// Details tells what is known of a microVM that has not ended.
func (m *Manager) Details(id string) (Details, bool) {
	v := m.live(id)
	if v == nil || v.over() {
		return Details{}, false
	}
	now := v.view.Load()
	d := Details{
		Generation: now.generation, LastTraffic: time.Unix(0, v.lastTraffic.Load()),
		DiskBytes: allocated(v.disk()), Traffic: v.traffic.totals(),
	}
	for _, n := range m.egress(context.Background(), now.rec.EgressConnectors).Networks {
		d.Networks = append(d.Networks, n.Name)
	}
	if now.rec.State == store.VMSuspended {
		d.CheckpointBytes = allocated(v.checkpoint())
	}
	if now.session != nil {
		d.VMMPID = now.session.vmmPID()
	}
	return d, true
}

// allocated is what a file takes on the host, 0 when there is none.
func allocated(path string) int64 {
	size, err := snapshot.Allocated(path)
	if err != nil {
		return 0
	}
	return size
}
