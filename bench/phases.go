package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// requestPhase is what the daemon's phases leave of the time the client measured: the API call,
// the token, TLS, the way to the app and back, and what the client itself does.
const requestPhase = "request"

// operation is one launch, suspend or wake as the client timed it, split into the daemon's phases
// and the rest. The phases add up to the total.
type operation struct {
	total  time.Duration
	phases []store.Phase
	detail string // of the event
}

// recordLimit is how long the daemon may take to record an operation: a VM serves its first
// request while the record is still being written.
const recordLimit = 5 * time.Second

// lastOperation reads the newest event of that name that has phases.
func (p *product) lastOperation(ctx context.Context, vm microVM, name string, total time.Duration) (operation, error) {
	for deadline := time.Now().Add(recordLimit); ; time.Sleep(50 * time.Millisecond) {
		event, err := p.lastEvent(ctx, vm, name)
		if errors.Is(err, errNoEvent) && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			return operation{}, fmt.Errorf("read the events of %s: %w", vm.id, err)
		}
		phases, err := complete(event.Phases, total)
		return operation{total: total, phases: phases, detail: event.Detail}, err
	}
}

var errNoEvent = errors.New("no such event has phases")

func (p *product) lastEvent(ctx context.Context, vm microVM, operation string) (store.Event, error) {
	out, err := p.daemon.command(ctx, "events", vm.id, "--output", "json")
	if err != nil {
		return store.Event{}, err
	}
	var events []extension.Event // newest first
	if err := json.Unmarshal(out, &events); err != nil {
		return store.Event{}, err
	}
	for _, e := range events {
		if e.Operation != operation || len(e.Phases) == 0 {
			continue
		}
		found := store.Event{Operation: e.Operation, Detail: e.Detail}
		for _, phase := range e.Phases {
			found.Phases = append(found.Phases, store.Phase{Name: phase.Name, Duration: time.Duration(phase.Seconds * float64(time.Second))})
		}
		return found, nil
	}
	return store.Event{}, fmt.Errorf("%s: %w", operation, errNoEvent)
}

// complete adds the rest of total as a phase. Phases that exceed what the client measured around
// them would be wrong.
func complete(phases []store.Phase, total time.Duration) ([]store.Phase, error) {
	rest := total
	for _, phase := range phases {
		rest -= phase.Duration
	}
	if rest < 0 {
		return nil, fmt.Errorf("the phases %v take longer than the %v around them", phases, total)
	}
	return append(phases, store.Phase{Name: requestPhase, Duration: rest}), nil
}

// phaseRow is one phase of all rounds.
type phaseRow struct {
	Name   string `json:"name"`
	P50    ms     `json:"p50_ms"`
	Median ms     `json:"median_round_ms"` // in the round whose total is the p50: these add up to it
}

// phaseTable summarizes the phases of all rounds. Medians of parts do not add up to the median of
// the whole, so it also shows the parts of one round: that of the median.
func phaseTable(operations []operation) []phaseRow {
	var order []string
	samples := map[string][]time.Duration{}
	totals := make([]time.Duration, 0, len(operations))
	for _, o := range operations {
		totals = append(totals, o.total)
		for _, phase := range o.phases {
			if samples[phase.Name] == nil {
				order = append(order, phase.Name)
			}
			samples[phase.Name] = append(samples[phase.Name], phase.Duration)
		}
	}
	rows := make([]phaseRow, len(order))
	median := medianRound(operations, percentile(totals, 50))
	for i, name := range order {
		rows[i] = phaseRow{Name: name, P50: ms(percentile(samples[name], 50)), Median: ms(median[name])}
	}
	return rows
}

func medianRound(operations []operation, total time.Duration) map[string]time.Duration {
	phases := map[string]time.Duration{}
	for _, o := range operations {
		if o.total == total {
			for _, phase := range o.phases {
				phases[phase.Name] = phase.Duration
			}
			break
		}
	}
	return phases
}

// dirtyBytes reads what a suspend saved of the guest's memory from the text of its event.
func (o operation) dirtyBytes() (bytes int64, err error) {
	if _, err := fmt.Sscanf(o.detail, "%d bytes dirty", &bytes); err != nil {
		return 0, fmt.Errorf("the suspend does not tell its dirty bytes: %q", o.detail)
	}
	return bytes, nil
}
