package main

import (
	"context"
	"fmt"
	"time"
)

const (
	smallAnswer = 64  // bytes
	warmUps     = 300 // requests on each way before the clock runs: the guest's code is cold
)

// latency is how long small requests took on kept-alive connections, by way.
type latency struct {
	took map[string][]time.Duration
}

// measureLatency sends requests over all ways in turn, one at a time.
func measureLatency(ctx context.Context, ways []*way, requests int) (*latency, error) {
	fmt.Println(requests, "small requests on each way")
	l := &latency{took: map[string][]time.Duration{}}
	for n := range warmUps + requests {
		for _, w := range inTurn(ways, n) {
			began := time.Now()
			if err := w.fetch(ctx, uint64(n), smallAnswer); err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			if took := time.Since(began); n >= warmUps {
				l.took[w.name] = append(l.took[w.name], took)
			}
		}
	}
	for _, q := range l.timing().Ways {
		fmt.Printf("%-9s p50 %v, p99 %v\n", q.Way, q.P50, q.P99)
	}
	return l, nil
}
