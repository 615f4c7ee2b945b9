package control

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// version finds a version of one of the caller's images. A missing image reads as a missing version.
func (s *Service) version(ctx context.Context, c awsapi.Caller, identifier, version, action string) (store.Image, store.ImageVersion, error) {
	name, err := ownImage(c, identifier, action)
	if err != nil {
		return store.Image{}, store.ImageVersion{}, err
	}
	missing := versionNotFound(name, version)
	i, err := s.store.ImageByName(ctx, c.AccountID, c.Region, name.Name)
	if err != nil {
		return store.Image{}, store.ImageVersion{}, orRefusal(err, missing)
	}
	v, err := s.store.Version(ctx, i.ID, version)
	return i, v, orRefusal(err, missing)
}

// GetMicrovmImageVersion reads a version with everything it was built with.
func (s *Service) GetMicrovmImageVersion(ctx context.Context, in *awsapi.GetMicrovmImageVersionInput) (*awsapi.GetMicrovmImageVersionOutput, error) {
	ctx, c := begin(ctx)
	i, v, err := s.version(ctx, c, in.ImageIdentifier, in.ImageVersion, "GetMicrovmImageVersion")
	if err != nil {
		return nil, err
	}
	out := awsapi.GetMicrovmImageVersionOutput(versionOf(i)(v))
	return &out, nil
}

// ListMicrovmImageVersions lists the versions of an image, newest first.
func (s *Service) ListMicrovmImageVersions(ctx context.Context, in *awsapi.ListMicrovmImageVersionsInput) (*awsapi.ListMicrovmImageVersionsOutput, error) {
	ctx, c := begin(ctx)
	i, err := s.image(ctx, c, in.ImageIdentifier, "ListMicrovmImageVersions")
	if err != nil {
		return nil, err
	}
	l, err := s.listing(c, "ListMicrovmImageVersions", map[string]string{"image": i.ID}, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	versions, cursor, err := s.store.ListVersions(ctx, i.ID, l.page)
	if err != nil {
		return nil, err
	}
	return &awsapi.ListMicrovmImageVersionsOutput{Items: wire(versions, versionOf(i)), NextToken: l.next(cursor)}, nil
}

// versionOf writes the versions of an image. stateReason stays null, also on failed ones: the
// reason is on the build (spec/behaviour.md 4.2).
func versionOf(i store.Image) func(store.ImageVersion) awsapi.MicrovmImageVersionSummary {
	return func(v store.ImageVersion) awsapi.MicrovmImageVersionSummary {
		out := awsapi.MicrovmImageVersionSummary{
			ImageArn: imageARN(i).String(), ImageVersion: v.Version,
			State: awsapi.MicrovmImageVersionState(v.State), Status: awsapi.MicrovmImageVersionStatus(v.Status),
			CreatedAt: awsapi.At(v.CreatedAt), UpdatedAt: optionalTime(v.UpdatedAt),
			BaseImageArn: v.Config.BaseImageARN, BaseImageVersion: optional(v.Config.BaseImageVersion),
			BuildRoleArn: v.Config.BuildRoleARN, CodeArtifact: awsapi.CodeArtifact{Uri: &v.Config.ArtifactURI},
			EgressNetworkConnectors:  v.Config.EgressConnectors,
			Resources:                []awsapi.Resources{{MinimumMemoryInMiB: int32(v.Config.MinimumMemoryMiB)}},
			Logging:                  echo[*awsapi.Logging](v.Config.WireLogging),
			Hooks:                    echo[*awsapi.Hooks](v.Config.WireHooks),
			CpuConfigurations:        echo[[]awsapi.CpuConfiguration](v.Config.WireCPU),
			AdditionalOsCapabilities: echo[[]awsapi.Capability](v.Config.WireCapabilities),
			EnvironmentVariables:     v.Config.Environment,
			Tags:                     i.Tags,
		}
		if v.Config.HasDescription {
			out.Description = &v.Config.Description
		}
		return out
	}
}

// echo reads a member that was stored as it was sent; null where none was.
func echo[T any](stored []byte) (member T) {
	if stored == nil {
		return member
	}
	if err := json.Unmarshal(stored, &member); err != nil {
		panic("control: a stored wire form does not parse: " + err.Error())
	}
	return member
}

// UpdateMicrovmImageVersion lets a version be run, or not. MicroVMs that run go on.
func (s *Service) UpdateMicrovmImageVersion(ctx context.Context, in *awsapi.UpdateMicrovmImageVersionInput) (*awsapi.UpdateMicrovmImageVersionOutput, error) {
	ctx, c := begin(ctx)
	i, v, err := s.version(ctx, c, in.ImageIdentifier, in.ImageVersion, "UpdateMicrovmImageVersion")
	if err != nil {
		return nil, err
	}
	if v.State != store.VersionSuccessful {
		return nil, awsapi.Conflict("The version %s of MicroVM image %s is in state %s, which does not allow this operation.", v.Version, imageARN(i), v.State)
	}
	e := store.Event{Subject: i.ID, Cause: "api", RequestID: c.RequestID, At: s.clock.Now()}
	v, err = s.store.SetVersionStatus(ctx, i.ID, in.ImageVersion, string(in.Status), e)
	switch {
	case errors.Is(err, store.ErrConflict):
		return nil, s.busy(ctx, i)
	case err != nil:
		return nil, orRefusal(err, versionNotFound(imageARN(i), in.ImageVersion))
	}
	out := awsapi.UpdateMicrovmImageVersionOutput(versionOf(i)(v))
	return &out, nil
}

// busy is the refusal of a change to an image with which something goes on.
func (s *Service) busy(ctx context.Context, i store.Image) error {
	now, err := s.store.Image(ctx, i.ID)
	if err != nil {
		return orRefusal(err, imageNotFound(imageARN(i)))
	}
	return awsapi.Conflict("MicroVM Image is already in state: %s", now.State)
}

// DeleteMicrovmImageVersion begins to remove a version. It is found, and its image UPDATING, until
// that is done.
func (s *Service) DeleteMicrovmImageVersion(ctx context.Context, in *awsapi.DeleteMicrovmImageVersionInput) (*awsapi.DeleteMicrovmImageVersionOutput, error) {
	ctx, c := begin(ctx)
	i, v, err := s.version(ctx, c, in.ImageIdentifier, in.ImageVersion, "DeleteMicrovmImageVersion")
	if err != nil {
		return nil, err
	}
	deleting := &awsapi.DeleteMicrovmImageVersionOutput{
		ImageIdentifier: in.ImageIdentifier, ImageVersion: v.Version, State: awsapi.MicrovmImageVersionStateDeleting,
	}
	if v.State == store.VersionDeleting { // the operation is idempotent
		return deleting, nil
	}
	err = s.images.DeleteVersion(ctx, i.ID, v.Version)
	switch {
	case errors.Is(err, store.ErrLastVersion):
		return nil, awsapi.Validation("This is the last version. Please delete the entire image")
	case errors.Is(err, store.ErrInUse):
		return nil, awsapi.Validation("Cannot delete microvm image version with running microvms.")
	case errors.Is(err, store.ErrConflict):
		return nil, s.busy(ctx, i)
	case err != nil:
		return nil, orRefusal(err, versionNotFound(imageARN(i), v.Version))
	}
	return deleting, nil
}
