package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

const (
	// waitEvery is how often a state is asked for; the API allows 100 such calls a second (spec/api.md 5).
	// What takes long is asked for less often, and at last every waitMost.
	waitEvery = 50 * time.Millisecond
	waitMost  = time.Second
	// callLimit bounds a call that is not given up when somebody presses Ctrl-C.
	callLimit = 30 * time.Second
	// waitLimit bounds the wait for a microVM: hooks may take a minute (spec/behaviour.md 5), and slow disks.
	waitLimit = 3 * time.Minute
)

// poll asks until done says true, ctx ends or asking fails. To be told that one asks too often is no failure.
func poll(ctx context.Context, done func() (bool, error)) error {
	began := time.Now()
	for {
		ok, err := done()
		pause := min(max(waitEvery, time.Since(began)/10), waitMost)
		if isThrottled(err) {
			ok, err, pause = false, nil, waitMost
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// uninterrupted is for a call that begins something: an interrupt comes too late for it, so that nothing
// begins of which nobody is told.
func uninterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), callLimit)
}

// await waits until a microVM is in a state. One that ends instead is an error that says why. Where it is
// the end that is awaited, a microVM of which nothing is left has come to it; it is nil then.
func (s *session) await(ctx context.Context, id string, wanted awsapi.MicrovmState) (vm *awsapi.GetMicrovmOutput, err error) {
	limited, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	err = poll(limited, func() (bool, error) {
		vm, err = s.API.GetMicrovm(limited, &awsapi.GetMicrovmInput{MicrovmIdentifier: id})
		if wanted == awsapi.MicrovmStateTerminated && isGone(err) {
			return true, nil
		}
		if err != nil {
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
	switch {
	case ctx.Err() != nil:
		return vm, &interrupted{fmt.Sprintf("%s goes on to be %s; look: %s", shortID(id), wanted, s.command("ps -a"))}
	case limited.Err() != nil:
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

// each does something with several things by their names, whatever becomes of the others. Failures are told
// as they come, and the first one's status is that of all; an interrupt leaves the rest alone.
func (s *session) each(ctx context.Context, names []string, do func(name string) error) error {
	var first error
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return &interrupted{"interrupted before " + strings.Join(names[i:], ", ")}
		}
		err := do(name)
		if err == nil {
			continue
		}
		if len(names) == 1 {
			return err
		}
		if status := report(s.screen.Err, s.flags, err); first == nil {
			first = status
		}
	}
	return first
}

// isThrottled tells whether the API says that it is asked too often.
func isThrottled(err error) bool {
	var refusal *awsapi.Error
	return errors.As(err, &refusal) && refusal.Status() == http.StatusTooManyRequests
}

// isGone tells whether the API says that something is not there.
func isGone(err error) bool {
	var refusal *awsapi.Error
	return errors.As(err, &refusal) && refusal.Status() == http.StatusNotFound
}
