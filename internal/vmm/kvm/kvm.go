// Package kvm finds out whether this host's KVM really runs guest kernels in hardware.
package kvm

import (
	"context"
	"fmt"
	"time"
)

// MinSpeed is how many instructions per second ring-0 guest code must reach. Processors do thousands
// of millions; hosts that emulate guest kernels in software stay far below this, and distribution
// kernels die on them although /dev/kvm opens.
const MinSpeed = 100e6

// Device is where the kernel offers KVM.
const Device = "/dev/kvm"

// loopInstructions take one second at MinSpeed, which is therefore all the time a probe needs.
const (
	loopInstructions = 100_000_000
	perIteration     = 2 // dec, jnz
	timeout          = time.Second
)

// Speed is what a probe measured.
type Speed struct {
	Instructions uint64 // run by the guest
	Elapsed      time.Duration
}

// PerSecond is the guest's speed in instructions per second.
func (s Speed) PerSecond() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Instructions) / s.Elapsed.Seconds()
}

// Usable returns nil when KVM is there and fast enough to run guests, else why it is not.
func Usable(ctx context.Context) error {
	speed, err := Probe(ctx)
	if err != nil {
		return err
	}
	if speed.PerSecond() < MinSpeed {
		return fmt.Errorf("%s runs kernel code of guests at %.1f million instructions/s, so it is emulated in software (%.0f million needed)",
			Device, speed.PerSecond()/1e6, float64(MinSpeed)/1e6)
	}
	return nil
}
