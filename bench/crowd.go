package main

import (
	"context"
	"sync"
	"time"
)

// crowd is many VMs of one image.
type crowd struct {
	vms    []microVM       // those that answered
	times  []time.Duration // of each, from the start of all to its first answer
	failed []error
}

// burst launches n VMs at the same moment.
func (p *product) burst(ctx context.Context, n int) *crowd {
	var (
		c       = new(crowd)
		mu      sync.Mutex // guards c
		running sync.WaitGroup
	)
	for range n {
		running.Go(func() {
			vm, took, err := p.launch(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				c.failed = append(c.failed, err)
				return
			}
			c.vms, c.times = append(c.vms, vm), append(c.times, took)
		})
	}
	running.Wait()
	return c
}
