package control

import (
	"context"
	"time"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// microVM finds one of the caller's microVMs. Those of other accounts and regions are not found.
func (s *Service) microVM(ctx context.Context, c awsapi.Caller, id string) (store.MicroVM, error) {
	vm, err := s.store.MicroVM(ctx, id)
	if err == nil && (vm.AccountID != c.AccountID || vm.Region != c.Region) {
		err = store.ErrNotFound
	}
	return vm, orRefusal(err, vmNotFound(id))
}

func vmNotFound(id string) *awsapi.Error { return awsapi.NotFound("MicroVM not found: %s", id) }

// GetMicrovm reads a microVM, also after it was terminated.
func (s *Service) GetMicrovm(ctx context.Context, in *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) {
	ctx, c := begin(ctx)
	vm, err := s.microVM(ctx, c, in.MicrovmIdentifier)
	if err != nil {
		return nil, err
	}
	return s.describe(vm), nil
}

func (s *Service) describe(vm store.MicroVM) *awsapi.GetMicrovmOutput {
	out := &awsapi.GetMicrovmOutput{
		MicrovmId: vm.ID, State: awsapi.MicrovmState(vm.State), StateReason: optional(vm.StateReason),
		Endpoint: s.endpoints.Host(vm), ImageArn: vm.ImageARN, ImageVersion: vm.ImageVersion,
		StartedAt: awsapi.At(vm.StartedAt), TerminatedAt: optionalTime(vm.TerminatedAt),
		MaximumDurationInSeconds: seconds(vm.MaximumDuration), ExecutionRoleArn: optional(vm.ExecutionRoleARN),
		IngressNetworkConnectors: vm.IngressConnectors, EgressNetworkConnectors: vm.EgressConnectors,
	}
	if vm.Idle != nil {
		out.IdlePolicy = &awsapi.IdlePolicy{
			MaxIdleDurationSeconds:   seconds(vm.Idle.MaxIdle),
			SuspendedDurationSeconds: seconds(vm.Idle.MaxSuspended),
			AutoResumeEnabled:        vm.Idle.AutoResume,
		}
	}
	return out
}

func seconds(d time.Duration) int32 { return int32(d / time.Second) }

// ListMicrovms lists the caller's microVMs, newest first, terminated ones included.
func (s *Service) ListMicrovms(ctx context.Context, in *awsapi.ListMicrovmsInput) (*awsapi.ListMicrovmsOutput, error) {
	ctx, c := begin(ctx)
	var filter store.VMFilter
	if in.ImageVersion != nil {
		filter.ImageVersion = *in.ImageVersion
	}
	if in.ImageIdentifier != nil {
		// An image that is gone still has its terminated microVMs, so it is not looked up.
		image, err := ownImage(c, *in.ImageIdentifier, "ListMicrovms")
		if err != nil {
			return nil, err
		}
		filter.ImageARN = image.String()
	}
	filters := map[string]string{"image": filter.ImageARN, "version": filter.ImageVersion}
	l, err := s.listing(c, "ListMicrovms", filters, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	vms, cursor, err := s.store.ListMicroVMs(ctx, c.AccountID, c.Region, filter, l.page)
	if err != nil {
		return nil, err
	}
	return &awsapi.ListMicrovmsOutput{Items: wire(vms, itemOfVM), NextToken: l.next(cursor)}, nil
}

func itemOfVM(vm store.MicroVM) awsapi.MicrovmItem {
	return awsapi.MicrovmItem{
		MicrovmId: vm.ID, State: awsapi.MicrovmState(vm.State),
		ImageArn: vm.ImageARN, ImageVersion: vm.ImageVersion, StartedAt: awsapi.At(vm.StartedAt),
	}
}
