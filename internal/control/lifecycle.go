package control

import (
	"context"
	"errors"
	"slices"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// SuspendMicrovm begins to suspend a microVM; one that is suspended stays so.
func (s *Service) SuspendMicrovm(ctx context.Context, in *awsapi.SuspendMicrovmInput) (*awsapi.SuspendMicrovmOutput, error) {
	err := s.move(ctx, in.MicrovmIdentifier, s.microvms.Suspend, store.VMSuspending, store.VMSuspended)
	return &awsapi.SuspendMicrovmOutput{}, err
}

// ResumeMicrovm begins to resume a microVM; one that runs goes on.
func (s *Service) ResumeMicrovm(ctx context.Context, in *awsapi.ResumeMicrovmInput) (*awsapi.ResumeMicrovmOutput, error) {
	err := s.move(ctx, in.MicrovmIdentifier, s.microvms.Resume, store.VMRunning)
	return &awsapi.ResumeMicrovmOutput{}, err
}

// TerminateMicrovm begins to end a microVM for good; one that has ended stays so.
func (s *Service) TerminateMicrovm(ctx context.Context, in *awsapi.TerminateMicrovmInput) (*awsapi.TerminateMicrovmOutput, error) {
	err := s.move(ctx, in.MicrovmIdentifier, s.microvms.Terminate, store.VMTerminating, store.VMTerminated)
	return &awsapi.TerminateMicrovmOutput{}, err
}

// move asks the manager for a change of state. A microVM that is in one of the states done has
// made it already, which is no error (spec/behaviour.md 2.2).
func (s *Service) move(ctx context.Context, id string, ask func(context.Context, string) error, done ...string) error {
	ctx, c := begin(ctx)
	vm, err := s.microVM(ctx, c, id)
	if err != nil {
		return err
	}
	// Only the end is final: otherwise the row may be some milliseconds behind the manager, which
	// lets requests through to a woken VM before it writes that it is RUNNING.
	if vm.State == store.VMTerminated {
		_, err := moved(vm, done)
		return err
	}
	err = ask(ctx, id)
	if !errors.Is(err, microvm.ErrConflict) && !errors.Is(err, microvm.ErrTerminated) && !errors.Is(err, microvm.ErrNotFound) {
		return err
	}
	// It has ended or cannot do this now: the row tells which.
	vm, readErr := s.microVM(ctx, c, id)
	if readErr != nil {
		return readErr
	}
	if settled, refusal := moved(vm, done); settled {
		return refusal
	}
	return awsapi.Conflict("The MicroVM %s is in state %s, which does not allow this operation.", id, vm.State).WithCause(err)
}

// moved tells whether the state of a microVM alone decides a request to change it, and how.
func moved(vm store.MicroVM, done []string) (settled bool, err error) {
	switch {
	case slices.Contains(done, vm.State):
		return true, nil
	case vm.State == store.VMTerminated:
		return true, awsapi.Validation("The MicroVM %s has been terminated and its state cannot be changed.", vm.ID)
	}
	return false, nil
}
