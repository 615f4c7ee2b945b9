package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dormouse-dev/dormouse/bench/floor"
)

// lifetime is how long a VM lives between its first answer and its suspend, in the product and in
// the floor: what the daemon does in the background after a launch has come to an end by then.
const lifetime = 1500 * time.Millisecond

// round is one VM's way through launch, suspend and wake.
type round struct {
	launch, suspend, wake operation
	dirty                 int64 // bytes that the suspend saved
}

// rounds measures product and floor in turn, so that what else goes on in this machine meets both.
func (b *bench) rounds(ctx context.Context) error {
	for n := range b.options.rounds {
		if err := b.settle(ctx); err != nil {
			return err
		}
		ours, err := b.productRound(ctx, b.product)
		if err != nil {
			return fmt.Errorf("round %d: %w", n+1, err)
		}
		if err := b.settle(ctx); err != nil {
			return err
		}
		bare, err := floor.Measure(ctx, b.snapshot, b.scratch, lifetime)
		if err != nil {
			return fmt.Errorf("round %d: floor: %w", n+1, err)
		}
		if err := b.settle(ctx); err != nil {
			return err
		}
		hooked, err := b.productRound(ctx, b.hooked)
		if err != nil {
			return fmt.Errorf("round %d: with hooks: %w", n+1, err)
		}
		b.ours, b.bare, b.oursHooked = append(b.ours, ours), append(b.bare, bare), append(b.oursHooked, hooked)
		fmt.Printf("round %2d: launch %v (floor %v), suspend %v (floor %v), wake %v (floor %v)\n", n+1,
			ms(ours.launch.total), ms(bare.Launch), ms(ours.suspend.total), ms(bare.Suspend), ms(ours.wake.total), ms(bare.Wake))
	}
	return nil
}

func (b *bench) productRound(ctx context.Context, p *product) (r round, err error) {
	vm, took, err := p.launch(ctx)
	if err != nil {
		return r, fmt.Errorf("launch: %w", err)
	}
	if r.launch, err = p.lastOperation(ctx, vm, "launch", took); err != nil {
		return r, err
	}
	time.Sleep(lifetime)
	if err := b.settle(ctx); err != nil {
		return r, err
	}
	if took, err = p.suspend(ctx, vm); err != nil {
		return r, fmt.Errorf("suspend: %w", err)
	}
	if r.suspend, err = p.lastOperation(ctx, vm, "suspend", took); err != nil {
		return r, err
	}
	if r.dirty, err = r.suspend.dirtyBytes(); err != nil {
		return r, err
	}
	if err := b.settle(ctx); err != nil {
		return r, err
	}
	if took, err = p.wake(ctx, vm); err != nil {
		return r, fmt.Errorf("wake: %w", err)
	}
	if r.wake, err = p.lastOperation(ctx, vm, "resume", took); err != nil {
		return r, err
	}
	return r, p.terminate(ctx, vm)
}

// settle waits until the daemon and its VMMs have nothing to do any more: what one measurement
// leaves to be done must not be paid for by the next. A guest that runs is never quite idle.
func (b *bench) settle(ctx context.Context) error {
	const (
		window = 100 * time.Millisecond
		quiet  = 10 * time.Millisecond // of CPU time, in a window
		most   = 10 * time.Second
	)
	for deadline := time.Now().Add(most); time.Now().Before(deadline); {
		pids := append(b.daemon.vmms(), b.daemon.pid())
		before := cpuTime(pids...)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(window):
		}
		if cpuTime(pids...)-before < quiet {
			return nil
		}
	}
	return nil
}
