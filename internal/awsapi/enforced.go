package awsapi

import (
	"slices"
	"strconv"
	"strings"
)

// Rules of the service that its model lacks: serverEnforced in spec/model.json. Those that need
// more than the request to decide, and the defaults, are for the backend to apply.

// Limits and defaults of the service.
const (
	MaxTokenMinutes         = 60    // lifetime of an endpoint or shell token, minutes
	MaxIdleSeconds          = 28800 // idlePolicy.maxIdleDurationSeconds
	DefaultDurationSeconds  = 28800 // maximumDurationInSeconds
	DefaultMemoryMiB        = 2048  // resources[0].minimumMemoryInMiB
	DefaultVMHookSeconds    = 1     // run, resume, suspend and terminate hooks
	DefaultImageHookSeconds = 30    // ready and validate hooks
)

// The managed connectors of a request that names none. A microVM's way out is then that of its
// image version.
const (
	DefaultIngress     = "HTTP_INGRESS"
	DefaultImageEgress = "INTERNET_EGRESS"
)

// MemorySizesMiB are the values minimumMemoryInMiB can have.
var MemorySizesMiB = []int32{512, 1024, 2048, 4096, 8192}

// enforce checks an input that already meets the constraints of the model.
func enforce(in any) *Error {
	switch in := in.(type) {
	case *CreateMicrovmAuthTokenInput:
		if refusal := enforceTokenLifetime(in.ExpirationInMinutes); refusal != nil {
			return refusal
		}
		return enforcePorts(in.AllowedPorts)
	case *CreateMicrovmShellAuthTokenInput:
		return enforceTokenLifetime(in.ExpirationInMinutes)
	case *RunMicrovmInput:
		return enforceIdlePolicy(in.IdlePolicy)
	case *CreateMicrovmImageInput:
		return enforceImage(in.BaseImageArn, in.CodeArtifact, in.Resources, in.Hooks)
	case *UpdateMicrovmImageInput:
		return enforceImage(in.BaseImageArn, in.CodeArtifact, in.Resources, in.Hooks)
	case *CreateNetworkConnectorInput:
		return enforceNewConnector(in)
	case *UpdateNetworkConnectorInput:
		return enforceConnectorChange(in)
	}
	return nil
}

// enforceNewConnector refuses what lambda-core's model allows to be absent and the live service
// does not (spec/api.md 6). SDKs fill in the client token.
func enforceNewConnector(in *CreateNetworkConnectorInput) *Error {
	var c checker
	c.vpcEgress(in.Configuration.VpcEgressConfiguration)
	if in.OperatorRole == nil {
		c.missing(new(shape), "OperatorRole")
	}
	if in.ClientToken == nil {
		c.missing(new(shape), "ClientToken")
	}
	return c.refusal()
}

// enforceConnectorChange: a new configuration replaces the old one, so it has to be as complete.
func enforceConnectorChange(in *UpdateNetworkConnectorInput) *Error {
	var c checker
	if in.Configuration != nil {
		c.vpcEgress(in.Configuration.VpcEgressConfiguration)
	}
	return c.refusal()
}

func (c *checker) vpcEgress(v *NetworkConnectorVpcEgressConfiguration) {
	const path = "Configuration.VpcEgressConfiguration."
	if v.NetworkProtocol == nil {
		c.missing(new(shape), path+"NetworkProtocol")
	}
	if v.AssociatedComputeResourceTypes == nil {
		c.missing(new(shape), path+"AssociatedComputeResourceTypes")
	}
}

func enforceTokenLifetime(minutes int32) *Error {
	if minutes > MaxTokenMinutes {
		return Validation("ExpirationMinutes %d exceeded max allowed of %d.", minutes, MaxTokenMinutes)
	}
	return nil
}

// enforcePorts refuses a range that allows nothing; the live service's answer is not known.
func enforcePorts(ports []PortSpecification) *Error {
	for _, p := range ports {
		if p.Range != nil && p.Range.StartPort > p.Range.EndPort {
			return Validation("Invalid port range: startPort %d is greater than endPort %d.", p.Range.StartPort, p.Range.EndPort)
		}
	}
	return nil
}

func enforceIdlePolicy(p *IdlePolicy) *Error {
	if p != nil && p.MaxIdleDurationSeconds > MaxIdleSeconds {
		return Validation("maxIdleDurationSeconds %d exceeded max allowed of %d.", p.MaxIdleDurationSeconds, MaxIdleSeconds)
	}
	return nil
}

// s3URI is s3://bucket/key, with a bucket name as S3 allows it.
var s3URI = wholeString(`s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+`)

func enforceImage(base string, code CodeArtifact, resources []Resources, hooks *Hooks) *Error {
	if !s3URI.whole().MatchString(*code.Uri) {
		return Validation("CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>")
	}
	for _, r := range resources {
		if !slices.Contains(MemorySizesMiB, r.MinimumMemoryInMiB) {
			return Validation("The requested memory size of %d MiB is not supported by base MicroVM image %s. Supported memory sizes in MiB are: [%s].",
				r.MinimumMemoryInMiB, base, memorySizes())
		}
	}
	if hooks != nil && hooks.Port == nil && anyHookEnabled(hooks) {
		return Validation("hooks.port is required when a lifecycle hook is ENABLED.")
	}
	return nil
}

func memorySizes() string {
	texts := make([]string, len(MemorySizesMiB))
	for i, size := range MemorySizesMiB {
		texts[i] = strconv.Itoa(int(size))
	}
	return strings.Join(texts, ", ")
}

func anyHookEnabled(h *Hooks) bool {
	var states []*HookState
	if vm := h.MicrovmHooks; vm != nil {
		states = append(states, vm.Run, vm.Resume, vm.Suspend, vm.Terminate)
	}
	if image := h.MicrovmImageHooks; image != nil {
		states = append(states, image.Ready, image.Validate)
	}
	return slices.ContainsFunc(states, func(s *HookState) bool { return s != nil && *s == HookStateEnabled })
}
