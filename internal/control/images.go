package control

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// imageARN is the name of a stored image.
func imageARN(i store.Image) arn.Image {
	return arn.Image{Region: i.Region, Account: i.AccountID, Name: i.Name}
}

// image finds one of the caller's images by the identifier of a request.
func (s *Service) image(ctx context.Context, c awsapi.Caller, identifier, action string) (store.Image, error) {
	name, err := ownImage(c, identifier, action)
	if err != nil {
		return store.Image{}, err
	}
	i, err := s.store.ImageByName(ctx, c.AccountID, c.Region, name.Name)
	return i, orRefusal(err, imageNotFound(name))
}

// firstVersion is the number of the version an image is created with (spec/api.md 1.6).
const firstVersion = "1.0"

// CreateMicrovmImage begins to build version 1.0 of a new image.
func (s *Service) CreateMicrovmImage(ctx context.Context, in *awsapi.CreateMicrovmImageInput) (*awsapi.CreateMicrovmImageOutput, error) {
	ctx, c := begin(ctx)
	parameters := *in
	parameters.ClientToken = nil
	id := uuid.NewString()
	token, err := s.clientToken(c, "CreateMicrovmImage", in.ClientToken, parameters, made{id, firstVersion})
	if err != nil {
		return nil, err
	}
	return once(ctx, s, token, func() (*awsapi.CreateMicrovmImageOutput, error) {
		if len(in.Tags) > maxTags {
			return nil, tooManyTags(awsapi.ValidationException)
		}
		config, err := versionRequestOfCreate(in).config(c, "CreateMicrovmImage")
		if err != nil {
			return nil, err
		}
		i, v, err := s.images.Create(ctx, store.Image{
			ID: id, AccountID: c.AccountID, Region: c.Region, Name: in.Name, Tags: in.Tags,
		}, config, token)
		if errors.Is(err, store.ErrExists) {
			return nil, awsapi.Validation("A MicroVM image with the name '%s' already exists in this account", in.Name)
		}
		if err != nil {
			return nil, orQuota(err)
		}
		return createdImage(i, v), nil
	}, func(used store.ClientToken) (*awsapi.CreateMicrovmImageOutput, error) {
		i, v, err := s.imageVersion(ctx, used.ResultID, used.ResultVersion)
		if err != nil {
			return nil, orRefusal(err, resultGone())
		}
		return createdImage(i, v), nil
	})
}

// imageVersion reads what a client token made.
func (s *Service) imageVersion(ctx context.Context, imageID, version string) (store.Image, store.ImageVersion, error) {
	i, err := s.store.Image(ctx, imageID)
	if err != nil {
		return store.Image{}, store.ImageVersion{}, err
	}
	v, err := s.store.Version(ctx, imageID, version)
	return i, v, err
}

func createdImage(i store.Image, v store.ImageVersion) *awsapi.CreateMicrovmImageOutput {
	w := versionOf(i)(v)
	return &awsapi.CreateMicrovmImageOutput{
		ImageArn: w.ImageArn, Name: i.Name, State: awsapi.MicrovmImageState(i.State), ImageVersion: w.ImageVersion,
		LatestActiveImageVersion: optional(i.LatestActiveVersion), LatestFailedImageVersion: optional(i.LatestFailedVersion),
		CreatedAt: awsapi.At(i.CreatedAt), UpdatedAt: optionalTime(i.UpdatedAt),
		BaseImageArn: w.BaseImageArn, BaseImageVersion: w.BaseImageVersion, BuildRoleArn: w.BuildRoleArn,
		CodeArtifact: w.CodeArtifact, Description: w.Description, Logging: w.Logging,
		EgressNetworkConnectors: w.EgressNetworkConnectors, CpuConfigurations: w.CpuConfigurations, Resources: w.Resources,
		AdditionalOsCapabilities: w.AdditionalOsCapabilities, Hooks: w.Hooks,
		EnvironmentVariables: w.EnvironmentVariables, Tags: w.Tags,
	}
}

// GetMicrovmImage reads an image; what it was built with is on its versions.
func (s *Service) GetMicrovmImage(ctx context.Context, in *awsapi.GetMicrovmImageInput) (*awsapi.GetMicrovmImageOutput, error) {
	ctx, c := begin(ctx)
	i, err := s.image(ctx, c, in.ImageIdentifier, "GetMicrovmImage")
	if err != nil {
		return nil, err
	}
	return &awsapi.GetMicrovmImageOutput{
		ImageArn: imageARN(i).String(), Name: i.Name, State: awsapi.MicrovmImageState(i.State),
		LatestActiveImageVersion: optional(i.LatestActiveVersion), LatestFailedImageVersion: optional(i.LatestFailedVersion),
		CreatedAt: awsapi.At(i.CreatedAt), UpdatedAt: optionalTime(i.UpdatedAt), Tags: presentTags(i.Tags),
	}, nil
}

// presentTags is {} for an untagged image; Create and the versions say null (spec/api.md GetMicrovmImage).
func presentTags(tags map[string]string) map[string]string {
	if tags == nil {
		return map[string]string{}
	}
	return tags
}

// ListMicrovmImages lists the caller's images, newest first. The name filter is applied after
// paging, as the live service does: a page can be empty and not be the last.
func (s *Service) ListMicrovmImages(ctx context.Context, in *awsapi.ListMicrovmImagesInput) (*awsapi.ListMicrovmImagesOutput, error) {
	ctx, c := begin(ctx)
	var part string
	if in.NameFilter != nil {
		part = *in.NameFilter
	}
	l, err := s.listing(c, "ListMicrovmImages", map[string]string{"nameFilter": part}, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	images, cursor, err := s.store.ListImages(ctx, c.AccountID, c.Region, l.page)
	if err != nil {
		return nil, err
	}
	out := &awsapi.ListMicrovmImagesOutput{NextToken: l.next(cursor)}
	for _, i := range images {
		if strings.Contains(i.Name, part) {
			out.Items = append(out.Items, summaryOfImage(i))
		}
	}
	return out, nil
}

func summaryOfImage(i store.Image) awsapi.MicrovmImageSummary {
	return awsapi.MicrovmImageSummary{
		ImageArn: imageARN(i).String(), Name: i.Name, State: awsapi.MicrovmImageState(i.State), CreatedAt: awsapi.At(i.CreatedAt),
		LatestActiveImageVersion: optional(i.LatestActiveVersion), LatestFailedImageVersion: optional(i.LatestFailedVersion),
	}
}

// DeleteMicrovmImage begins to remove an image with all its versions. It is found until that is done.
func (s *Service) DeleteMicrovmImage(ctx context.Context, in *awsapi.DeleteMicrovmImageInput) (*awsapi.DeleteMicrovmImageOutput, error) {
	ctx, c := begin(ctx)
	i, err := s.image(ctx, c, in.ImageIdentifier, "DeleteMicrovmImage")
	if err != nil {
		return nil, err
	}
	deleting := &awsapi.DeleteMicrovmImageOutput{ImageIdentifier: in.ImageIdentifier, State: awsapi.MicrovmImageStateDeleting}
	if i.State == store.ImageDeleting { // the operation is idempotent
		return deleting, nil
	}
	err = s.images.Delete(ctx, i.ID)
	switch {
	case errors.Is(err, store.ErrInUse):
		return nil, awsapi.Validation("Cannot delete microvm image with running microvms.")
	case errors.Is(err, store.ErrConflict):
		return nil, awsapi.Validation("Cannot delete MicroVM image in its current state: %s", in.ImageIdentifier)
	case err != nil:
		return nil, orRefusal(err, imageNotFound(imageARN(i)))
	}
	return deleting, nil
}
