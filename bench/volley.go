package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	volleyRounds = 3
	volleyAnswer = 256 // bytes
)

// volleys are many requests at the same moment, each over a connection of its own.
type volleys struct {
	requests int
	awake    []time.Duration // to a VM that runs, until the last is answered
	wake     []time.Duration // one request alone to a suspended VM
	asleep   []time.Duration // all to a suspended VM
	wakes    []int           // how often each of those woke it
	failed   []error         // of all volleys
}

func (d *dataPlane) measureVolleys(ctx context.Context) (v *volleys, err error) {
	v = &volleys{requests: d.bench.options.volley}
	fmt.Println(volleyRounds, "volleys of", v.requests, "requests to a running VM, and as many to a suspended one")
	vm, _, err := d.product.launch(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.product.terminate(ctx, vm)) }()
	v.fire(ctx, d.product.endpoint(vm)) // the first of all finds cold code
	v.failed = nil
	for range volleyRounds {
		v.awake = append(v.awake, v.fire(ctx, d.product.endpoint(vm)))
		if err := d.rest(ctx, vm); err != nil {
			return nil, err
		}
		took, err := d.product.wake(ctx, vm)
		if err != nil {
			return nil, err
		}
		v.wake = append(v.wake, took)
		if err := d.rest(ctx, vm); err != nil {
			return nil, err
		}
		before, err := d.operations(ctx, vm)
		if err != nil {
			return nil, err
		}
		v.asleep = append(v.asleep, v.fire(ctx, d.product.endpoint(vm)))
		if _, err := d.product.lastOperation(ctx, vm, "resume", time.Hour); err != nil { // it is recorded
			return nil, err
		}
		after, err := d.operations(ctx, vm)
		if err != nil {
			return nil, err
		}
		v.wakes = append(v.wakes, after["resume"]-before["resume"])
	}
	printErrors(v.failed)
	return v, nil
}

// rest suspends a VM after what happens right after a wake has happened.
func (d *dataPlane) rest(ctx context.Context, vm microVM) error {
	time.Sleep(lifetime)
	_, err := d.product.suspend(ctx, vm)
	return err
}

// fire sends all requests at once and returns when each has its answer.
func (v *volleys) fire(ctx context.Context, w *way) time.Duration {
	var (
		mu    sync.Mutex // guards v.failed
		start = make(chan struct{})
		all   sync.WaitGroup
	)
	for n := range v.requests {
		all.Go(func() {
			<-start
			if err := w.fetch(ctx, uint64(n), volleyAnswer); err != nil {
				mu.Lock()
				defer mu.Unlock()
				v.failed = append(v.failed, fmt.Errorf("request %d: %w", n, err))
			}
		})
	}
	began := time.Now()
	close(start)
	all.Wait()
	took := time.Since(began)
	w.close()
	return took
}

// excess is the time of a volley to a suspended VM, by that of one wake and a volley to a running one.
func (v *volleys) excess() *float64 {
	floor := percentile(v.wake, 50) + percentile(v.awake, 50)
	return ratio(float64(percentile(v.asleep, 50)), float64(floor))
}
