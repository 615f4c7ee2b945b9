package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dormouse-dev/dormouse/bench/payload"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// steady is a VM that is suspended again and again while clients keep asking it.
type steady struct {
	rounds   int             // that were completed
	wanted   int             // rounds
	took     []time.Duration // of each round: suspend, wake by traffic, verification
	requests int
	slowest  time.Duration // request
	failures []failure
	sent     uint64         // messages of writers
	arrived  payload.Totals // what the guest says of them
	forgot   []string       // what the guest did not find as it was, by round
	suspends int            // events
	wakes    int            // events
	broken   error          // why not all rounds were made
}

func (d *dataPlane) measureSteady(ctx context.Context) (s *steady, err error) {
	s = &steady{wanted: d.bench.options.steadyRounds}
	fmt.Println(s.wanted, "rounds of suspend and wake under traffic")
	vm, _, err := d.product.launch(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.product.terminate(ctx, vm)) }()
	flow := startTraffic(ctx, func() *way { return d.product.endpoint(vm) })
	s.broken = s.suspendAndWake(ctx, d.product, vm, flow)
	flow.stop()
	s.requests, s.slowest, s.failures, s.sent = flow.requests, flow.slowest, flow.failures, flow.sent
	if err := s.settleAccounts(ctx, d, vm); err != nil {
		return nil, err
	}
	for _, f := range s.failures[:min(len(s.failures), maxErrors)] {
		fmt.Printf("round %d: %s: %s\n", f.Round, f.Request, f.Error)
	}
	return s, nil
}

// suspendAndWake makes the rounds. The guest is asked about itself in each of them: what it still has of
// what it was told to remember.
func (s *steady) suspendAndWake(ctx context.Context, p *product, vm microVM, flow *traffic) error {
	check := newMemento(p.endpoint(vm))
	defer check.way.close()
	if err := check.step(ctx); err != nil {
		return err
	}
	for round := 1; round <= s.wanted; round++ {
		flow.round.Store(int64(round))
		began := time.Now()
		if _, err := p.api.SuspendMicrovm(ctx, &awsapi.SuspendMicrovmInput{MicrovmIdentifier: vm.id}); err != nil {
			return fmt.Errorf("round %d: suspend: %w", round, err)
		}
		if err := p.await(ctx, vm, awsapi.MicrovmStateRunning); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if err := flow.await(ctx); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if err := check.step(ctx); err != nil {
			return fmt.Errorf("round %d: ask the guest what it remembers: %w", round, err)
		}
		s.took = append(s.took, time.Since(began))
		for _, what := range check.forgotten {
			s.forgot = append(s.forgot, fmt.Sprintf("round %d: %s", round, what))
		}
		s.rounds = round
		if round%20 == 0 {
			fmt.Printf("round %d: %d requests failed, %d times something was forgotten\n", round, flow.failed.Load(), len(s.forgot))
		}
	}
	return nil
}

// settleAccounts compares what was sent and done with what guest and daemon say of it.
func (s *steady) settleAccounts(ctx context.Context, d *dataPlane, vm microVM) error {
	way := d.product.endpoint(vm)
	defer way.close()
	answer, err := way.ask(ctx, http.MethodGet, "/accounts", nil)
	if err != nil {
		return fmt.Errorf("ask the guest for its accounts: %w", err)
	}
	if err := json.Unmarshal(answer, &s.arrived); err != nil {
		return err
	}
	done, err := d.operations(ctx, vm)
	s.suspends, s.wakes = done["suspend"], done["resume"]
	return err
}

// memento checks step by step what the guest remembers.
type memento struct {
	way          *way
	nonce        string
	round        uint64
	memory, disk *payload.Record
	forgotten    []string // in the last step
}

func newMemento(w *way) *memento {
	return &memento{way: w, memory: payload.NewMemory(), disk: payload.NewDisk()}
}

// step has the guest sum up what it has, and change a part of it.
func (m *memento) step(ctx context.Context) error {
	answer, err := m.way.ask(ctx, http.MethodPost, fmt.Sprintf("/step?round=%d", m.round+1), nil)
	if err != nil {
		return err
	}
	var found payload.Remembered
	if err := json.Unmarshal(answer, &found); err != nil {
		return err
	}
	m.compare(found)
	m.round++
	m.memory.Advance(m.round)
	m.disk.Advance(m.round)
	return nil
}

func (m *memento) compare(found payload.Remembered) {
	m.forgotten = nil
	if m.nonce == "" {
		m.nonce = found.Nonce
	}
	for _, part := range []struct {
		what  string
		right bool
	}{
		{"which guest it is", found.Nonce == m.nonce},
		{"the round", found.Round == m.round},
		{"memory", found.Memory == payload.Sum(m.memory.Bytes())},
		{"disk", found.Disk == payload.Sum(m.disk.Bytes())},
	} {
		if !part.right {
			m.forgotten = append(m.forgotten, part.what)
		}
	}
}
