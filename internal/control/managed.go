package control

import (
	"context"
	"slices"
	"time"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// managedName is the managed base image, which stands for our guest (spec/behaviour.md 1).
const managedName = "al2023-1"

// managedVersions are bare integers, newest first; versions of images echo them as "1.0" (spec/api.md 1.6).
var managedVersions = []string{"1", "0"}

// managedSince is the day the service opened (spec/behaviour.md 13): the same on every server and
// at every start.
var managedSince = awsapi.At(time.Date(2026, time.June, 22, 0, 0, 0, 0, time.UTC))

// ListManagedMicrovmImages lists the one managed image.
func (s *Service) ListManagedMicrovmImages(ctx context.Context, in *awsapi.ListManagedMicrovmImagesInput) (*awsapi.ListManagedMicrovmImagesOutput, error) {
	_, c := begin(ctx)
	l, err := s.listing(c, "ListManagedMicrovmImages", nil, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	items, next := cut(l, []awsapi.ManagedMicrovmImageSummary{
		{ImageArn: arn.ManagedImage(c.Region, managedName).String(), CreatedAt: managedSince, UpdatedAt: &managedSince},
	})
	return &awsapi.ListManagedMicrovmImagesOutput{Items: items, NextToken: next}, nil
}

// ListManagedMicrovmImageVersions lists the versions of the managed image, newest first.
func (s *Service) ListManagedMicrovmImageVersions(ctx context.Context, in *awsapi.ListManagedMicrovmImageVersionsInput) (*awsapi.ListManagedMicrovmImageVersionsOutput, error) {
	_, c := begin(ctx)
	image, err := arn.ParseImage(in.ImageIdentifier)
	if err != nil {
		return nil, awsapi.Validation("Invalid ARN format: %s", in.ImageIdentifier)
	}
	if image != arn.ManagedImage(c.Region, managedName) {
		return nil, imageNotFound(image)
	}
	l, err := s.listing(c, "ListManagedMicrovmImageVersions", nil, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	available := awsapi.ManagedMicrovmImageVersionStatusAvailable
	items, next := cut(l, wire(managedVersions, func(version string) awsapi.ManagedMicrovmImageVersion {
		return awsapi.ManagedMicrovmImageVersion{
			ImageArn: in.ImageIdentifier, ImageVersion: version,
			CreatedAt: managedSince, UpdatedAt: &managedSince, Status: &available,
		}
	}))
	return &awsapi.ListManagedMicrovmImageVersionsOutput{Items: items, NextToken: next}, nil
}

// baseVersion checks the base image of a build request and returns the version to echo.
func baseVersion(c awsapi.Caller, base string, version *string) (string, error) {
	image, err := arn.ParseImage(base)
	if err != nil {
		return "", awsapi.Validation("Invalid ARN format: %s", base)
	}
	wanted := managedVersions[0]
	if version != nil {
		wanted = *version
	}
	if image != arn.ManagedImage(c.Region, managedName) || !slices.Contains(managedVersions, wanted) {
		return "", awsapi.Validation("No managed MicroVM Image with arn %s and version %s is available", base, wanted)
	}
	return wanted + ".0", nil
}
