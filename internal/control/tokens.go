package control

import (
	"context"
	"errors"
	"time"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// authHeader is the header a token travels in, and its key in the answer (spec/behaviour.md 8).
const authHeader = "X-aws-proxy-auth"

// CreateMicrovmAuthToken makes a token that opens some ports of a microVM for up to an hour. It
// can be made before the microVM runs and while it sleeps.
func (s *Service) CreateMicrovmAuthToken(ctx context.Context, in *awsapi.CreateMicrovmAuthTokenInput) (*awsapi.CreateMicrovmAuthTokenOutput, error) {
	ctx, c := begin(ctx)
	vm, err := s.microVM(ctx, c, in.MicrovmIdentifier)
	if err != nil {
		return nil, err
	}
	if vm.State == store.VMTerminating || vm.State == store.VMTerminated {
		return nil, awsapi.Conflict("The MicroVM %s is in state %s, which does not allow this operation.", vm.ID, vm.State)
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
