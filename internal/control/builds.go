package control

import (
	"context"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// The service model has one architecture and one chipset, and every build must name them,
// whatever the processor of this host is. A version has one build here, that of the newest
// generation, where the service has one per generation (spec/behaviour.md 1).
const (
	architecture      = awsapi.ArchitectureArm64
	chipset           = awsapi.ChipsetGraviton
	chipsetGeneration = "4"
)

// GetMicrovmImageBuild reads a build with the sizes of what it made.
func (s *Service) GetMicrovmImageBuild(ctx context.Context, in *awsapi.GetMicrovmImageBuildInput) (*awsapi.GetMicrovmImageBuildOutput, error) {
	ctx, c := begin(ctx)
	i, v, err := s.version(ctx, c, in.ImageIdentifier, in.ImageVersion, "GetMicrovmImageBuild")
	if err != nil {
		return nil, err
	}
	missing := awsapi.NotFound("MicroVMImageBuild not found for MicroVMImage: %s, Version: %s, BuildId: %s", imageARN(i), v.Version, in.BuildId)
	b, err := s.store.Build(ctx, in.BuildId)
	if err != nil {
		return nil, orRefusal(err, missing)
	}
	if b.ImageID != i.ID || b.Version != v.Version {
		return nil, missing
	}
	w := buildOf(imageARN(i))(b)
	return &awsapi.GetMicrovmImageBuildOutput{
		ImageArn: w.ImageArn, ImageVersion: w.ImageVersion, BuildId: w.BuildId, BuildState: w.BuildState,
		Architecture: w.Architecture, Chipset: w.Chipset, ChipsetGeneration: w.ChipsetGeneration,
		CreatedAt: w.CreatedAt, StateReason: w.StateReason, SnapshotBuild: sizes(b),
	}, nil
}

// ListMicrovmImageBuilds lists the builds of a version.
func (s *Service) ListMicrovmImageBuilds(ctx context.Context, in *awsapi.ListMicrovmImageBuildsInput) (*awsapi.ListMicrovmImageBuildsOutput, error) {
	ctx, c := begin(ctx)
	i, v, err := s.version(ctx, c, in.ImageIdentifier, in.ImageVersion, "ListMicrovmImageBuilds")
	if err != nil {
		return nil, err
	}
	generation := chipsetGeneration
	if in.ChipsetGeneration != nil {
		generation = *in.ChipsetGeneration
	}
	filters := map[string]string{"image": i.ID, "version": v.Version, "generation": generation}
	l, err := s.listing(c, "ListMicrovmImageBuilds", filters, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	if generation != chipsetGeneration {
		return &awsapi.ListMicrovmImageBuildsOutput{}, nil
	}
	builds, cursor, err := s.store.ListBuilds(ctx, i.ID, v.Version, l.page)
	if err != nil {
		return nil, err
	}
	return &awsapi.ListMicrovmImageBuildsOutput{Items: wire(builds, buildOf(imageARN(i))), NextToken: l.next(cursor)}, nil
}

func buildOf(image arn.Image) func(store.Build) awsapi.MicrovmImageBuildSummary {
	return func(b store.Build) awsapi.MicrovmImageBuildSummary {
		return awsapi.MicrovmImageBuildSummary{
			ImageArn: image.String(), ImageVersion: b.Version, BuildId: b.ID, BuildState: awsapi.BuildState(b.State),
			Architecture: architecture, Chipset: chipset, ChipsetGeneration: chipsetGeneration,
			CreatedAt: awsapi.At(b.CreatedAt), StateReason: optional(b.StateReason),
		}
	}
}

// sizes is null while nothing was built; a build whose app was never ready has only the code's
// (spec/api.md GetMicrovmImageBuild).
func sizes(b store.Build) *awsapi.SnapshotBuild {
	if b.CodeBytes == 0 && b.MemoryBytes == 0 && b.DiskBytes == 0 {
		return nil
	}
	known := func(bytes int64) *int64 {
		if bytes == 0 {
			return nil
		}
		return &bytes
	}
	return &awsapi.SnapshotBuild{
		CodeInstallSizeInBytes:    known(b.CodeBytes),
		MemorySnapshotSizeInBytes: known(b.MemoryBytes),
		DiskSnapshotSizeInBytes:   known(b.DiskBytes),
	}
}
