package control

import (
	"context"
	"errors"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// UpdateMicrovmImage begins to build the next version of an image, from what the request says
// alone. Until it is built, the versions before are the ones that run.
func (s *Service) UpdateMicrovmImage(ctx context.Context, in *awsapi.UpdateMicrovmImageInput) (*awsapi.UpdateMicrovmImageOutput, error) {
	ctx, c := begin(ctx)
	found, err := s.image(ctx, c, in.ImageIdentifier, "UpdateMicrovmImage")
	if err != nil {
		return nil, err
	}
	parameters := *in
	parameters.ClientToken = nil
	token, err := s.clientToken(c, "UpdateMicrovmImage", in.ClientToken, parameters, made{id: found.ID}) // its version is made later
	if err != nil {
		return nil, err
	}
	return once(ctx, s, token, func() (*awsapi.UpdateMicrovmImageOutput, error) {
		config, err := versionRequestOfUpdate(in).config(c, "UpdateMicrovmImage")
		if err != nil {
			return nil, err
		}
		i, v, err := s.images.Update(ctx, found.ID, config, token)
		if errors.Is(err, store.ErrConflict) {
			return nil, s.busy(ctx, found)
		}
		if err != nil {
			return nil, orQuota(orRefusal(err, imageNotFound(imageARN(found))))
		}
		return updatedImage(i, v), nil
	}, func(used store.ClientToken) (*awsapi.UpdateMicrovmImageOutput, error) {
		i, v, err := s.imageVersion(ctx, used.ResultID, used.ResultVersion)
		if err != nil {
			return nil, orRefusal(err, resultGone())
		}
		return updatedImage(i, v), nil
	})
}

func updatedImage(i store.Image, v store.ImageVersion) *awsapi.UpdateMicrovmImageOutput {
	w := versionOf(i)(v)
	return &awsapi.UpdateMicrovmImageOutput{
		ImageArn: w.ImageArn, Name: i.Name, State: awsapi.MicrovmImageState(i.State), ImageVersion: w.ImageVersion,
		LatestActiveImageVersion: optional(i.LatestActiveVersion), LatestFailedImageVersion: optional(i.LatestFailedVersion),
		CreatedAt: awsapi.At(i.CreatedAt), UpdatedAt: awsapi.At(i.UpdatedAt),
		BaseImageArn: w.BaseImageArn, BaseImageVersion: w.BaseImageVersion, BuildRoleArn: w.BuildRoleArn,
		CodeArtifact: w.CodeArtifact, Description: w.Description, Logging: w.Logging,
		EgressNetworkConnectors: w.EgressNetworkConnectors, CpuConfigurations: w.CpuConfigurations, Resources: w.Resources,
		AdditionalOsCapabilities: w.AdditionalOsCapabilities, Hooks: w.Hooks, EnvironmentVariables: w.EnvironmentVariables,
	}
}
