package main

import (
	"context"
	"fmt"

	"github.com/dormouse-dev/dormouse/internal/extension"
)

// operations counts, by name, what was done to a microVM from its first to its last phase.
func (d *dataPlane) operations(ctx context.Context, vm microVM) (map[string]int, error) {
	done := map[string]int{}
	in := extension.EventsInput{Subject: vm.id, MaxResults: 1000}
	for {
		page, err := d.events.Events(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read the events of %s: %w", vm.id, err)
		}
		for _, e := range page.Events {
			if len(e.Phases) > 0 {
				done[e.Operation]++
			}
		}
		if page.NextToken == nil {
			return done, nil
		}
		in.NextToken = *page.NextToken
	}
}
