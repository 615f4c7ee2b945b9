package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// Outcome is how a step ended.
type Outcome string

// Outcomes.
const (
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	Inexpressible Outcome = "not expressible" // the client refuses to send this, or has no such service
	NotRun        Outcome = "not run"         // it needs what an earlier step did not get
)

// StepResult is how a step ended with a client.
type StepResult struct {
	Promise   string
	Operation string // "" of a request to a VM
	Error     string // name of the error it provokes, "" of a success
	Outcome   Outcome
	Reason    string // why it has not passed
}

const (
	// waitLimit bounds a wait for a state, a build being the longest: for a slow machine under load.
	waitLimit = 8 * time.Minute
	pollEvery = 250 * time.Millisecond
)

// runner takes the steps with one client.
type runner struct {
	client    *client
	driver    *sdk.Driver
	endpoints *endpoints
	vars      variables
	unknown   map[string]bool // what steps would have kept that the client cannot express
}

// take takes one step.
func (r *runner) take(ctx context.Context, s step) StepResult {
	result := StepResult{Promise: s.promise, Operation: s.operation}
	if s.refusal != nil {
		result.Error = s.refusal.name
	}
	result.Outcome, result.Reason = r.outcome(ctx, s)
	if result.Outcome == Inexpressible {
		for name := range s.keep {
			r.unknown[name] = true
		}
	}
	return result
}

func (r *runner) outcome(ctx context.Context, s step) (Outcome, string) {
	if ctx.Err() != nil {
		return NotRun, "the run was stopped"
	}
	if reason := r.cannot(s); reason != "" {
		return Inexpressible, reason
	}
	filled, err := r.vars.expand(s)
	if err == nil {
		err = r.check(ctx, filled)
	}
	var needs unset
	var unsent *unsentError
	switch {
	case err == nil:
		return Passed, ""
	case errors.As(err, &needs) && needs.within(r.unknown):
		return Inexpressible, "it cannot make what this needs"
	case errors.As(err, &needs):
		return NotRun, err.Error()
	case errors.As(err, &unsent) && s.refusal != nil:
		return Inexpressible, err.Error()
	}
	return Failed, err.Error()
}

// cannot says why it is known beforehand that the client cannot take a step, "" if it can.
func (r *runner) cannot(s step) string {
	if s.operation != "" && !r.client.has(serviceOf(s.operation)) {
		return fmt.Sprintf("%s has no client for %s", r.client.origin, serviceOf(s.operation))
	}
	return s.lacks[r.client.slug]
}

// unsentError is what a client says that did not even send a request.
type unsentError struct{ why *sdk.Error }

func (e *unsentError) Error() string { return e.why.Message }

// check makes the call or request of a step and tells why its promise does not hold.
func (r *runner) check(ctx context.Context, s step) error {
	if s.request != nil {
		if s.request.typed != "" {
			return r.endpoints.openShell(ctx, *s.request)
		}
		return r.endpoints.check(ctx, *s.request, s.want)
	}
	if s.until != nil || s.gone {
		return r.await(ctx, s)
	}
	output, err := r.call(s)
	if err := judge(s, output, err); err != nil {
		return err
	}
	for name, path := range s.keep {
		kept := at(output, path)
		if kept == nil {
			return fmt.Errorf("the output has no %s: %s", path, show(output))
		}
		r.vars[name] = kept
	}
	return nil
}

// judge compares what a call led to with what a step wants.
func judge(s step, output any, err error) error {
	var refusal *sdk.Error
	switch {
	case err != nil && !errors.As(err, &refusal):
		return err
	case refusal != nil && refusal.Status == 0:
		return &unsentError{refusal}
	case s.refusal != nil && refusal == nil:
		return fmt.Errorf("it succeeded and should be a %s", s.refusal.name)
	case s.refusal != nil:
		return s.refusal.matches(refusal)
	case refusal != nil:
		return refusal
	}
	return compare(output, s.want)
}

// await repeats a call until its output is what the step waits for.
func (r *runner) await(ctx context.Context, s step) error {
	deadline := time.Now().Add(waitLimit)
	for {
		output, err := r.call(s)
		problem := err
		switch {
		case s.gone && err == nil:
			problem = errors.New("it is still there")
		case s.gone:
			problem = judge(s, output, err)
		case err == nil:
			problem = compare(output, s.until)
		}
		if problem == nil {
			return compare(output, s.want)
		}
		if err != nil || time.Now().After(deadline) || ended(output) && s.until != nil {
			return fmt.Errorf("waited in vain: %w", problem)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// ended tells whether something is in a state in which nothing will happen any more, so that
// whoever waits for another one need not wait on.
func ended(output any) bool {
	switch at(output, "state") {
	case "TERMINATED", "CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED", "FAILED":
		return true
	}
	return false
}

// call makes the call of a step, or the calls of the client's paginator.
func (r *runner) call(s step) (any, error) {
	client := r.driver.Service(serviceOf(s.operation))
	if s.as.config != nil {
		client = client.With(*s.as.config)
	}
	in := s.input
	if in == nil {
		in = object{}
	}
	var output any
	if s.pageSize == 0 {
		err := client.Try(s.operation, in, &output)
		return output, err
	}
	var pages []any
	if err := client.TryPages(s.operation, in, s.pageSize, &pages); err != nil {
		return nil, err
	}
	items := []any{}
	for _, page := range pages {
		for _, list := range []string{"items", "NetworkConnectors"} {
			some, _ := at(page, list).([]any)
			if len(some) > s.pageSize && !r.client.merges {
				return nil, fmt.Errorf("a page has %d items instead of %d", len(some), s.pageSize)
			}
			items = append(items, some...)
		}
	}
	return object{"pages": pages, "items": items}, nil
}
