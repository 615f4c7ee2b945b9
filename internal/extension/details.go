package extension

import (
	"context"
	"errors"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// microVM tells what GetMicrovm does not.
func (h *Handler) microVM(ctx context.Context, c awsapi.Caller, id, rawQuery string) (*MicroVM, error) {
	if err := noQuery(rawQuery); err != nil {
		return nil, err
	}
	vm, err := h.ownMicroVM(ctx, c, id)
	if err != nil {
		return nil, err
	}
	out := &MicroVM{MicrovmID: vm.ID, Traffic: Traffic(vm.Traffic)}
	if vm.State == store.VMSuspended {
		out.SuspendedAt = at(vm.SuspendedAt)
	}
	version, err := h.Store.Version(ctx, vm.ImageID, vm.ImageVersion)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if size, ok := microvm.SizeOf(version.Config.MinimumMemoryMiB); ok {
		out.MemoryMiB, out.CPUs = &size.MemoryMiB, &size.CPUs
	}
	if d, ok := h.MicroVMs.Details(vm.ID); ok {
		out.Generation, out.LastTrafficAt, out.VMMPid = d.Generation, at(d.LastTraffic), nonzero(d.VMMPID)
		out.Traffic, out.Networks = Traffic(d.Traffic), d.Networks
		out.DiskBytes, out.CheckpointBytes = nonzero(d.DiskBytes), nonzero(d.CheckpointBytes)
	}
	return out, nil
}

// build tells of a build what GetMicrovmImageBuild does, and more.
func (h *Handler) build(ctx context.Context, c awsapi.Caller, id, rawQuery string) (*Build, error) {
	if err := noQuery(rawQuery); err != nil {
		return nil, err
	}
	b, image, err := h.ownBuild(ctx, c, id)
	if err != nil {
		return nil, err
	}
	return &Build{
		BuildID: b.ID, ImageARN: arn.Image{Region: image.Region, Account: image.AccountID, Name: image.Name}.String(),
		ImageVersion: b.Version, State: b.State, StateReason: b.StateReason,
		CreatedAt: awsapi.At(b.CreatedAt), EndedAt: at(b.EndedAt), Phases: wirePhases(b.Phases),
		CodeBytes: b.CodeBytes, MemoryBytes: b.MemoryBytes, DiskBytes: b.DiskBytes, LogTail: linesOf(b.LogTail),
	}, nil
}

func linesOf(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}

// ownBuild finds a build of one of the caller's images.
func (h *Handler) ownBuild(ctx context.Context, c awsapi.Caller, id string) (store.Build, store.Image, error) {
	missing := awsapi.NotFound("MicroVMImageBuild not found: %s", id)
	b, err := h.Store.Build(ctx, id)
	if err != nil {
		return b, store.Image{}, orMissing(err, missing)
	}
	image, err := h.Store.Image(ctx, b.ImageID)
	if err == nil && (image.AccountID != c.AccountID || image.Region != c.Region) {
		return b, image, missing
	}
	return b, image, orMissing(err, missing)
}
