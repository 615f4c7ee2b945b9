package control

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// versionRequest is what a request to build an image version says about the version.
type versionRequest struct {
	baseImage, buildRole string
	artifact             awsapi.CodeArtifact
	baseImageVersion     *string
	description          *string
	logging              *awsapi.Logging
	egress               []string
	cpu                  []awsapi.CpuConfiguration
	resources            []awsapi.Resources
	capabilities         []awsapi.Capability
	hooks                *awsapi.Hooks
	environment          map[string]string
}

func versionRequestOfCreate(in *awsapi.CreateMicrovmImageInput) versionRequest {
	return versionRequest{
		baseImage: in.BaseImageArn, buildRole: in.BuildRoleArn, artifact: in.CodeArtifact,
		baseImageVersion: in.BaseImageVersion, description: in.Description, logging: in.Logging,
		egress: in.EgressNetworkConnectors, cpu: in.CpuConfigurations, resources: in.Resources,
		capabilities: in.AdditionalOsCapabilities, hooks: in.Hooks, environment: in.EnvironmentVariables,
	}
}

func versionRequestOfUpdate(in *awsapi.UpdateMicrovmImageInput) versionRequest {
	return versionRequest{
		baseImage: in.BaseImageArn, buildRole: in.BuildRoleArn, artifact: in.CodeArtifact,
		baseImageVersion: in.BaseImageVersion, description: in.Description, logging: in.Logging,
		egress: in.EgressNetworkConnectors, cpu: in.CpuConfigurations, resources: in.Resources,
		capabilities: in.AdditionalOsCapabilities, hooks: in.Hooks, environment: in.EnvironmentVariables,
	}
}

// config checks a request and fills in its defaults (spec/api.md CreateMicrovmImage), which are
// the same for an update: it has nothing of the version before. Sizes and
// the artifact's form were checked with the request itself.
func (r versionRequest) config(c awsapi.Caller, action string) (store.ImageConfig, error) {
	base, err := baseVersion(c, r.baseImage, r.baseImageVersion)
	if err != nil {
		return store.ImageConfig{}, err
	}
	if err := ownRole(c, r.buildRole); err != nil {
		return store.ImageConfig{}, err
	}
	if err := checkEnvironment(r.environment); err != nil {
		return store.ImageConfig{}, err
	}
	connectors := r.egress
	if len(connectors) == 0 {
		connectors = []string{arn.ManagedConnector(c.Region, internetEgress).String()}
	}
	if err := egress.check(c, connectors, action); err != nil {
		return store.ImageConfig{}, err
	}
	config := store.ImageConfig{
		BaseImageARN: r.baseImage, BaseImageVersion: base, BuildRoleARN: r.buildRole, ArtifactURI: *r.artifact.Uri,
		MinimumMemoryMiB: awsapi.DefaultMemoryMiB, AllCapabilities: slices.Contains(r.capabilities, awsapi.CapabilityAll),
		Environment: r.environment, EgressConnectors: connectors, Hooks: hooks(r.hooks),
	}
	if r.description != nil {
		config.Description, config.HasDescription = *r.description, true
	}
	if len(r.resources) > 0 {
		config.MinimumMemoryMiB = int(r.resources[0].MinimumMemoryInMiB)
	}
	return config, r.keepWireForms(&config)
}

// keepWireForms stores the members that are echoed exactly as they were sent.
func (r versionRequest) keepWireForms(config *store.ImageConfig) (err error) {
	for _, member := range []struct {
		to   *[]byte
		sent any
		nil  bool
	}{
		{&config.WireLogging, r.logging, r.logging == nil},
		{&config.WireHooks, r.hooks, r.hooks == nil},
		{&config.WireCPU, r.cpu, r.cpu == nil},
		{&config.WireCapabilities, r.capabilities, r.capabilities == nil},
	} {
		if member.nil {
			continue
		}
		if *member.to, err = json.Marshal(member.sent); err != nil {
			return fmt.Errorf("keep request: %w", err)
		}
	}
	return nil
}

// reservedKeys are the environment variables that the platform sets (spec/behaviour.md 4.4). That
// AWS_REGION is refused is known of the live service; a value for the others would have no effect.
var reservedKeys = []string{
	"AWS_REGION",
	"AWS_LAMBDA_MICROVM_IMAGE_NAME", "AWS_LAMBDA_MICROVM_IMAGE_ARN", "AWS_LAMBDA_MICROVM_IMAGE_VERSION",
}

func checkEnvironment(environment map[string]string) error {
	var used []string
	for _, key := range reservedKeys {
		if _, ok := environment[key]; ok {
			used = append(used, key)
		}
	}
	if len(used) > 0 {
		return awsapi.Validation("The environment variables you have provided contain reserved keys that cannot be set. "+
			"Reserved keys used in this request: %s", strings.Join(used, ", "))
	}
	return nil
}

// hooks turns the hooks of a request into what calls them. A hook is disabled unless it is enabled.
func hooks(h *awsapi.Hooks) store.Hooks {
	if h == nil {
		h = &awsapi.Hooks{}
	}
	vm, image := h.MicrovmHooks, h.MicrovmImageHooks
	if vm == nil {
		vm = &awsapi.MicrovmHooks{}
	}
	if image == nil {
		image = &awsapi.MicrovmImageHooks{}
	}
	out := store.Hooks{
		Ready:     hook(image.Ready, image.ReadyTimeoutInSeconds, awsapi.DefaultImageHookSeconds),
		Validate:  hook(image.Validate, image.ValidateTimeoutInSeconds, awsapi.DefaultImageHookSeconds),
		Run:       hook(vm.Run, vm.RunTimeoutInSeconds, awsapi.DefaultVMHookSeconds),
		Resume:    hook(vm.Resume, vm.ResumeTimeoutInSeconds, awsapi.DefaultVMHookSeconds),
		Suspend:   hook(vm.Suspend, vm.SuspendTimeoutInSeconds, awsapi.DefaultVMHookSeconds),
		Terminate: hook(vm.Terminate, vm.TerminateTimeoutInSeconds, awsapi.DefaultVMHookSeconds),
	}
	if h.Port != nil {
		out.Port = int(*h.Port)
	}
	return out
}

func hook(state *awsapi.HookState, seconds *int32, defaultSeconds int32) store.Hook {
	if seconds == nil {
		seconds = &defaultSeconds
	}
	return store.Hook{
		Enabled: state != nil && *state == awsapi.HookStateEnabled,
		Timeout: time.Duration(*seconds) * time.Second,
	}
}
