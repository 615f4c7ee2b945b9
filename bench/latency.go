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

// inARow is how many requests go one way before the next has its turn: a connection that is kept alive is in
// use, while changing at each request would find caches that two other guests have just filled.
const inARow = 25

// measureLatency sends requests over all ways in turn, one at a time.
func measureLatency(ctx context.Context, ways []*way, requests int) (*latency, error) {
	fmt.Println(requests, "small requests on each way")
	l := &latency{took: map[string][]time.Duration{}}
	for block := range (warmUps + requests + inARow - 1) / inARow {
		for _, w := range inTurn(ways, block) {
			for n := block * inARow; n < (block+1)*inARow; n++ {
				began := time.Now()
				if err := w.fetch(ctx, uint64(n), smallAnswer); err != nil {
					return nil, fmt.Errorf("%s: %w", w.name, err)
				}
				if took := time.Since(began); n >= warmUps {
					l.took[w.name] = append(l.took[w.name], took)
				}
			}
		}
	}
	for _, q := range l.timing().Ways {
		fmt.Printf("%-9s p50 %v, p99 %v\n", q.Way, q.P50, q.P99)
	}
	return l, nil
}
