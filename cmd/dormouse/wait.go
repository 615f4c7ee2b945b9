package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

const (
	// waitEvery is how often a state is asked for; the API allows 100 such calls a second (spec/api.md 5).
	waitEvery = 50 * time.Millisecond
	// waitLimit bounds the wait for a microVM: hooks may take a minute (spec/behaviour.md 5), and slow disks.
	waitLimit = 3 * time.Minute
)

// poll asks until done says true, ctx ends or asking fails.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// await waits until a microVM is in a state. One that ends instead is an error that says why.
func (s *session) await(ctx context.Context, id string, wanted awsapi.MicrovmState) (vm *awsapi.GetMicrovmOutput, err error) {
	limited, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	err = poll(limited, func() (bool, error) {
		if vm, err = s.API.GetMicrovm(limited, &awsapi.GetMicrovmInput{MicrovmIdentifier: id}); err != nil {
			return false, err
		}
		if vm.State == awsapi.MicrovmStateTerminated && wanted != vm.State {
			return false, &failure{
				fmt.Errorf("%s ended instead: %s", shortID(id), orElse(value(vm.StateReason), "no reason is known")),
				"what its app wrote: " + s.command("logs %s", shortID(id)),
			}
		}
		return vm.State == wanted, nil
	})
	if limited.Err() != nil && ctx.Err() == nil {
		return vm, fmt.Errorf("%s is not %s after %s", shortID(id), wanted, waitLimit)
	}
	return vm, err
}

// value is what a pointer points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// isGone tells whether the API says that something is not there.
func isGone(err error) bool {
	var refusal *awsapi.Error
	return errors.As(err, &refusal) && refusal.Status() == http.StatusNotFound
}
