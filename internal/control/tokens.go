package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// authHeader is the header a token travels in, and its key in the answer (spec/behaviour.md 8).
const authHeader = "X-aws-proxy-auth"

// CreateMicrovmAuthToken makes a token that opens some ports of a microVM for up to an hour. It
// can be made before the microVM runs and while it sleeps.
func (s *Service) CreateMicrovmAuthToken(ctx context.Context, in *awsapi.CreateMicrovmAuthTokenInput) (*awsapi.CreateMicrovmAuthTokenOutput, error) {
	vm, err := s.reachable(ctx, in.MicrovmIdentifier)
	if err != nil {
		return nil, err
	}
	token, err := s.tokens.Mint(vm.ID, portRanges(in.AllowedPorts), time.Duration(in.ExpirationInMinutes)*time.Minute)
	if errors.Is(err, endpoint.ErrTokenTooLong) {
		return nil, awsapi.Validation("The allowedPorts are too many to fit in one token; use ranges.").WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	return &awsapi.CreateMicrovmAuthTokenOutput{AuthToken: map[string]string{authHeader: token}}, nil
}

// CreateMicrovmShellAuthToken makes a token that opens a shell in a microVM, and none of its ports.
// The refusals but that of NO_INGRESS are the live service's (spec/api.md CreateMicrovmShellAuthToken).
func (s *Service) CreateMicrovmShellAuthToken(ctx context.Context, in *awsapi.CreateMicrovmShellAuthTokenInput) (*awsapi.CreateMicrovmShellAuthTokenOutput, error) {
	vm, err := s.reachable(ctx, in.MicrovmIdentifier)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool {
		return slices.Contains(vm.IngressConnectors, arn.ManagedConnector(vm.Region, name).String())
	}
	switch {
	case !has(shellIngress):
		return nil, awsapi.Validation("Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.")
	case has(noIngress):
		return nil, awsapi.Validation("NO_INGRESS closes the MicroVM to shells too; use HTTP_INGRESS and/or SHELL_INGRESS without it")
	case has(allIngress):
		return nil, awsapi.Validation("ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or SHELL_INGRESS instead")
	}
	token, err := s.tokens.MintShell(vm.ID, time.Duration(in.ExpirationInMinutes)*time.Minute)
	if err != nil {
		return nil, err
	}
	return &awsapi.CreateMicrovmShellAuthTokenOutput{AuthToken: map[string]string{authHeader: token}}, nil
}

// reachable finds one of the caller's microVMs that has not ended.
func (s *Service) reachable(ctx context.Context, id string) (store.MicroVM, error) {
	ctx, c := begin(ctx)
	vm, err := s.microVM(ctx, c, id)
	if err == nil && (vm.State == store.VMTerminating || vm.State == store.VMTerminated) {
		err = awsapi.Conflict("The MicroVM %s is in state %s, which does not allow this operation.", vm.ID, vm.State)
	}
	return vm, err
}

// portRanges reads the unions of a request; their values were checked with the request itself.
func portRanges(allowed []awsapi.PortSpecification) []endpoint.PortRange {
	var ranges []endpoint.PortRange
	for _, p := range allowed {
		switch {
		case p.Port != nil:
			ranges = append(ranges, endpoint.PortRange{uint16(*p.Port), uint16(*p.Port)})
		case p.Range != nil:
			ranges = append(ranges, endpoint.PortRange{uint16(p.Range.StartPort), uint16(p.Range.EndPort)})
		case p.AllPorts != nil:
			ranges = append(ranges, endpoint.AllPorts...)
		}
	}
	return ranges
}
