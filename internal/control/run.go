package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// RunMicrovm launches a microVM and returns at once, with the state PENDING.
func (s *Service) RunMicrovm(ctx context.Context, in *awsapi.RunMicrovmInput) (*awsapi.RunMicrovmOutput, error) {
	ctx, c := begin(ctx)
	if !strings.HasPrefix(in.ImageIdentifier, "arn:") {
		return nil, awsapi.Validation("Malformed ARN - doesn't start with 'arn:'")
	}
	parameters := *in
	parameters.ClientToken = nil
	id := "microvm-" + uuid.NewString()
	token, err := s.clientToken(c, "RunMicrovm", in.ClientToken, parameters, made{id: id})
	if err != nil {
		return nil, err
	}
	vm, err := once(ctx, s, token, func() (store.MicroVM, error) {
		spec, err := s.runSpec(ctx, c, in)
		if err != nil {
			return store.MicroVM{}, err
		}
		spec.VM.ID, spec.Token = id, token
		vm, err := s.microvms.Run(ctx, spec)
		switch {
		case errors.Is(err, microvm.ErrCapacity):
			return store.MicroVM{}, awsapi.InsufficientCapacity("There is not enough capacity on this host to run another MicroVM. Please try again later.").WithCause(err)
		case errors.Is(err, store.ErrConflict): // it cannot be run any more since runSpec read it
			return store.MicroVM{}, noActiveVersion(in).WithCause(err)
		}
		return vm, orQuota(err)
	}, func(used store.ClientToken) (store.MicroVM, error) {
		vm, err := s.store.MicroVM(ctx, used.ResultID)
		return vm, orRefusal(err, resultGone())
	})
	if err != nil {
		return nil, err
	}
	out := awsapi.RunMicrovmOutput(*s.describe(vm))
	return &out, nil
}

// runSpec checks a request and fills in its defaults (spec/api.md RunMicrovm).
func (s *Service) runSpec(ctx context.Context, c awsapi.Caller, in *awsapi.RunMicrovmInput) (microvm.RunSpec, error) {
	i, v, err := s.runnable(ctx, c, in)
	if err != nil {
		return microvm.RunSpec{}, err
	}
	vm := store.MicroVM{
		AccountID: c.AccountID, Region: c.Region, ImageID: i.ID, ImageARN: imageARN(i).String(), ImageVersion: v.Version,
		MemoryMiB: v.Config.MinimumMemoryMiB, IngressConnectors: in.IngressNetworkConnectors, EgressConnectors: in.EgressNetworkConnectors,
		MaximumDuration: awsapi.DefaultDurationSeconds * time.Second,
		Idle:            idlePolicy(in.IdlePolicy),
	}
	if len(vm.IngressConnectors) == 0 {
		vm.IngressConnectors = []string{arn.ManagedConnector(c.Region, httpIngress).String()}
	}
	if len(vm.EgressConnectors) == 0 {
		vm.EgressConnectors = v.Config.EgressConnectors
	}
	if err := ingress.check(c, vm.IngressConnectors, "PassNetworkConnector"); err != nil {
		return microvm.RunSpec{}, err
	}
	if err := egress.check(c, vm.EgressConnectors, "PassNetworkConnector"); err != nil {
		return microvm.RunSpec{}, err
	}
	if in.RunHookPayload != nil {
		if !v.Config.Hooks.Run.Enabled {
			return microvm.RunSpec{}, awsapi.Validation("The run hook must be enabled on the MicroVM image version to use runHookPayload.")
		}
		vm.RunHookPayload, vm.HasPayload = *in.RunHookPayload, true
	}
	if in.ExecutionRoleArn != nil {
		if err := ownRole(c, *in.ExecutionRoleArn); err != nil {
			return microvm.RunSpec{}, err
		}
		vm.ExecutionRoleARN = *in.ExecutionRoleArn
	}
	if in.MaximumDurationInSeconds != nil {
		vm.MaximumDuration = time.Duration(*in.MaximumDurationInSeconds) * time.Second
	}
	if in.Logging != nil {
		if vm.WireLogging, err = json.Marshal(in.Logging); err != nil {
			return microvm.RunSpec{}, fmt.Errorf("keep request: %w", err)
		}
	}
	return microvm.RunSpec{VM: vm, Version: v}, nil
}

// runnable finds the version a request is for: the one it names, else the newest that can be run.
func (s *Service) runnable(ctx context.Context, c awsapi.Caller, in *awsapi.RunMicrovmInput) (store.Image, store.ImageVersion, error) {
	i, err := s.image(ctx, c, in.ImageIdentifier, "RunMicrovm")
	if err != nil {
		return store.Image{}, store.ImageVersion{}, err
	}
	if !slices.Contains(store.RunnableImageStates, i.State) {
		return store.Image{}, store.ImageVersion{}, noActiveVersion(in)
	}
	if in.ImageVersion == nil {
		v, err := s.store.NewestRunnableVersion(ctx, i.ID)
		return i, v, orRefusal(err, noActiveVersion(in))
	}
	v, err := s.store.Version(ctx, i.ID, *in.ImageVersion)
	if err != nil {
		return store.Image{}, store.ImageVersion{}, orRefusal(err, noActiveVersion(in))
	}
	if v.State != store.VersionSuccessful || v.Status != store.StatusActive {
		return store.Image{}, store.ImageVersion{}, noActiveVersion(in)
	}
	return i, v, nil
}

func noActiveVersion(in *awsapi.RunMicrovmInput) *awsapi.Error {
	if in.ImageVersion != nil {
		return awsapi.NotFound("No active version found for MicroVM image %s and version %s", in.ImageIdentifier, *in.ImageVersion)
	}
	return awsapi.NotFound("No active version found for MicroVM image %s", in.ImageIdentifier)
}

func idlePolicy(p *awsapi.IdlePolicy) *store.IdlePolicy {
	if p == nil {
		return nil
	}
	return &store.IdlePolicy{
		MaxIdle:      time.Duration(p.MaxIdleDurationSeconds) * time.Second,
		MaxSuspended: time.Duration(p.SuspendedDurationSeconds) * time.Second,
		AutoResume:   p.AutoResumeEnabled,
	}
}
