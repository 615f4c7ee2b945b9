package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func (f *fake) ListMicrovms(_ context.Context, in *awsapi.ListMicrovmsInput) (*awsapi.ListMicrovmsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &awsapi.ListMicrovmsOutput{}
	for _, vm := range f.vms {
		if in.ImageIdentifier == nil || *in.ImageIdentifier == vm.ImageArn {
			out.Items = append(out.Items, awsapi.MicrovmItem{
				MicrovmId: vm.MicrovmId, State: vm.State, ImageArn: vm.ImageArn, ImageVersion: vm.ImageVersion, StartedAt: vm.StartedAt})
		}
	}
	return out, nil
}

// vm calls do with a microVM.
func (f *fake) vm(id string, do func(*awsapi.GetMicrovmOutput)) (awsapi.GetMicrovmOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, vm := range f.vms {
		if vm.MicrovmId == id {
			do(vm)
			return *vm, nil
		}
	}
	return awsapi.GetMicrovmOutput{}, awsapi.NotFound("MicroVM not found: %s", id)
}

func (f *fake) GetMicrovm(_ context.Context, in *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) {
	vm, err := f.vm(in.MicrovmIdentifier, func(*awsapi.GetMicrovmOutput) {})
	if f.stuck != nil {
		f.stuck()
		vm.State = awsapi.MicrovmStatePending
	}
	return &vm, err
}

func (f *fake) SuspendMicrovm(_ context.Context, in *awsapi.SuspendMicrovmInput) (*awsapi.SuspendMicrovmOutput, error) {
	_, err := f.vm(in.MicrovmIdentifier, func(vm *awsapi.GetMicrovmOutput) { vm.State = awsapi.MicrovmStateSuspended })
	return &awsapi.SuspendMicrovmOutput{}, err
}

func (f *fake) ResumeMicrovm(_ context.Context, in *awsapi.ResumeMicrovmInput) (*awsapi.ResumeMicrovmOutput, error) {
	_, err := f.vm(in.MicrovmIdentifier, func(vm *awsapi.GetMicrovmOutput) { vm.State = awsapi.MicrovmStateRunning })
	return &awsapi.ResumeMicrovmOutput{}, err
}

func (f *fake) TerminateMicrovm(_ context.Context, in *awsapi.TerminateMicrovmInput) (*awsapi.TerminateMicrovmOutput, error) {
	_, err := f.vm(in.MicrovmIdentifier, func(vm *awsapi.GetMicrovmOutput) {
		vm.State = awsapi.MicrovmStateTerminated
		if f.purges {
			f.vms = slices.DeleteFunc(f.vms, func(other *awsapi.GetMicrovmOutput) bool { return other == vm })
		}
	})
	return &awsapi.TerminateMicrovmOutput{}, err
}

func (f *fake) RunMicrovm(_ context.Context, in *awsapi.RunMicrovmInput) (*awsapi.RunMicrovmOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ran = append(f.ran, in)
	vm := f.addVM(firstVM, in.ImageIdentifier[strings.LastIndexByte(in.ImageIdentifier, ':')+1:], awsapi.MicrovmStateRunning)
	vm.IdlePolicy, vm.IngressNetworkConnectors = in.IdlePolicy, in.IngressNetworkConnectors
	out := awsapi.RunMicrovmOutput(*vm)
	out.State = awsapi.MicrovmStatePending
	return &out, nil
}

func (f *fake) CreateMicrovmAuthToken(_ context.Context, in *awsapi.CreateMicrovmAuthTokenInput) (*awsapi.CreateMicrovmAuthTokenOutput, error) {
	return &awsapi.CreateMicrovmAuthTokenOutput{AuthToken: map[string]string{authHeader: "token-of-" + in.MicrovmIdentifier}}, nil
}

func (f *fake) CreateMicrovmShellAuthToken(_ context.Context, in *awsapi.CreateMicrovmShellAuthTokenInput) (*awsapi.CreateMicrovmShellAuthTokenOutput, error) {
	vm, err := f.vm(in.MicrovmIdentifier, func(*awsapi.GetMicrovmOutput) {})
	if err == nil && !hasShell(&vm) {
		err = awsapi.Validation("Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.")
	}
	if err != nil {
		return nil, err
	}
	return &awsapi.CreateMicrovmShellAuthTokenOutput{AuthToken: map[string]string{authHeader: "shell-token"}}, nil
}

func (f *fake) ListMicrovmImages(_ context.Context, in *awsapi.ListMicrovmImagesInput) (*awsapi.ListMicrovmImagesOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &awsapi.ListMicrovmImagesOutput{}
	for _, i := range f.images {
		if in.NameFilter == nil || strings.Contains(i.Name, *in.NameFilter) {
			out.Items = append(out.Items, *i)
		}
	}
	return out, nil
}

func (f *fake) GetMicrovmImage(_ context.Context, in *awsapi.GetMicrovmImageInput) (*awsapi.GetMicrovmImageOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.images {
		if i.ImageArn == in.ImageIdentifier {
			return &awsapi.GetMicrovmImageOutput{Name: i.Name, ImageArn: i.ImageArn, State: i.State, CreatedAt: i.CreatedAt}, nil
		}
	}
	return nil, awsapi.NotFound("MicroVMImage not found for MicroVMImageID: %s", in.ImageIdentifier)
}

func (f *fake) DeleteMicrovmImage(_ context.Context, in *awsapi.DeleteMicrovmImageInput) (*awsapi.DeleteMicrovmImageOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, vm := range f.vms {
		if vm.ImageArn == in.ImageIdentifier && vm.State != awsapi.MicrovmStateTerminated {
			return nil, awsapi.Validation("Cannot delete microvm image with running microvms.")
		}
	}
	f.images = slices.DeleteFunc(f.images, func(i *awsapi.MicrovmImageSummary) bool { return i.ImageArn == in.ImageIdentifier })
	return &awsapi.DeleteMicrovmImageOutput{ImageIdentifier: in.ImageIdentifier, State: awsapi.MicrovmImageStateDeleting}, nil
}

func (f *fake) version(image string) awsapi.MicrovmImageVersionSummary {
	return awsapi.MicrovmImageVersionSummary{
		ImageArn: image, ImageVersion: "1.0", State: awsapi.MicrovmImageVersionStateSuccessful, Status: awsapi.MicrovmImageVersionStatusActive,
		Resources: []awsapi.Resources{{MinimumMemoryInMiB: f.memory}}, CreatedAt: awsapi.At(time.Now()),
	}
}

func (f *fake) GetMicrovmImageVersion(_ context.Context, in *awsapi.GetMicrovmImageVersionInput) (*awsapi.GetMicrovmImageVersionOutput, error) {
	v := awsapi.GetMicrovmImageVersionOutput(f.version(in.ImageIdentifier))
	return &v, nil
}

func (f *fake) ListMicrovmImageVersions(_ context.Context, in *awsapi.ListMicrovmImageVersionsInput) (*awsapi.ListMicrovmImageVersionsOutput, error) {
	return &awsapi.ListMicrovmImageVersionsOutput{Items: []awsapi.MicrovmImageVersionSummary{f.version(in.ImageIdentifier)}}, nil
}

func (f *fake) CreateMicrovmImage(_ context.Context, in *awsapi.CreateMicrovmImageInput) (*awsapi.CreateMicrovmImageOutput, error) {
	if f.onCreate != nil {
		f.onCreate()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.created = append(f.created, in)
	i := f.addImage(in.Name)
	return &awsapi.CreateMicrovmImageOutput{ImageArn: i.ImageArn, Name: i.Name, ImageVersion: "1.0", State: awsapi.MicrovmImageStateCreating}, nil
}

func (f *fake) UpdateMicrovmImage(_ context.Context, in *awsapi.UpdateMicrovmImageInput) (*awsapi.UpdateMicrovmImageOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updated = append(f.updated, in)
	return &awsapi.UpdateMicrovmImageOutput{ImageArn: in.ImageIdentifier, ImageVersion: "2.0", State: awsapi.MicrovmImageStateUpdating}, nil
}

func (f *fake) ListMicrovmImageBuilds(_ context.Context, in *awsapi.ListMicrovmImageBuildsInput) (*awsapi.ListMicrovmImageBuildsOutput, error) {
	return &awsapi.ListMicrovmImageBuildsOutput{Items: []awsapi.MicrovmImageBuildSummary{{
		ImageArn: in.ImageIdentifier, ImageVersion: in.ImageVersion, BuildId: buildUUID, BuildState: awsapi.BuildStateInProgress}}}, nil
}

func (f *fake) GetMicrovmImageBuild(_ context.Context, in *awsapi.GetMicrovmImageBuildInput) (*awsapi.GetMicrovmImageBuildOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &awsapi.GetMicrovmImageBuildOutput{
		ImageArn: in.ImageIdentifier, ImageVersion: in.ImageVersion, BuildId: in.BuildId, BuildState: awsapi.BuildState(f.build.State)}, nil
}
