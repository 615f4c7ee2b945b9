package metrics

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	// memoryLimit bounds the measuring at one scrape: the kernel walks the pages of each process.
	memoryLimit = time.Second
	// memoryKeep is how long a measurement is good, however often somebody scrapes.
	memoryKeep = 10 * time.Second
)

// memory of processes, in bytes.
type memory struct{ private, shared int64 }

// memoryMeter measures the memory of VMMs. Those that there was no time for have what was measured last.
type memoryMeter struct {
	read  func(pid int) (memory, error)
	clock clockwork.Clock

	mu    sync.Mutex // guards all below
	known map[int]measurement
}

type measurement struct {
	memory
	at time.Time
}

// of adds up the memory of processes. One that has ended meanwhile has none.
func (m *memoryMeter) of(pids []int) (sum memory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := m.clock.Now()
	now := make(map[int]measurement, len(pids))
	for _, pid := range pids {
		last, measured := m.known[pid]
		if at := m.clock.Now(); (!measured || at.Sub(last.at) >= memoryKeep) && at.Sub(began) < memoryLimit {
			used, err := m.read(pid)
			if err != nil {
				continue
			}
			last = measurement{used, at}
		}
		now[pid] = last
		sum.private += last.private
		sum.shared += last.shared
	}
	m.known = now
	return sum
}

// readRollup reads what the kernel tells of a process's memory.
func readRollup(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	return parseRollup(text), nil
}

// parseRollup adds up the lines of smaps_rollup that are about private and shared memory.
func parseRollup(text []byte) (m memory) {
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) != 3 {
			continue
		}
		kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			continue
		}
		switch string(fields[0]) {
		case "Private_Clean:", "Private_Dirty:":
			m.private += kib << 10
		case "Shared_Clean:", "Shared_Dirty:":
			m.shared += kib << 10
		}
	}
	return m
}
