package main

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// versions lists the versions of an image, newest first; only one if the reference names it.
func (s *session) versions(ctx context.Context, image reference.Image) (all []awsapi.MicrovmImageVersionSummary, err error) {
	in := awsapi.ListMicrovmImageVersionsInput{ImageIdentifier: image.ARN}
	for {
		out, err := s.API.ListMicrovmImageVersions(ctx, &in)
		if err != nil {
			return nil, err
		}
		for _, v := range out.Items {
			if image.Version == "" || v.ImageVersion == image.Version {
				all = append(all, v)
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	slices.SortFunc(all, func(a, b awsapi.MicrovmImageVersionSummary) int {
		return cmp.Compare(major(b.ImageVersion), major(a.ImageVersion))
	})
	if len(all) == 0 && image.Version != "" {
		return nil, &reference.NotFoundError{Kind: "version of an image", Text: image.String()}
	}
	return all, nil
}

// major is the number before the point.
func major(version string) int {
	text, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(text)
	return n
}

// lastBuild finds the newest build of the newest version of an image, or of the version it names.
func (s *session) lastBuild(ctx context.Context, image reference.Image) (awsapi.MicrovmImageBuildSummary, error) {
	versions, err := s.versions(ctx, image)
	if err != nil {
		return awsapi.MicrovmImageBuildSummary{}, err
	}
	for _, v := range versions {
		out, err := s.API.ListMicrovmImageBuilds(ctx, &awsapi.ListMicrovmImageBuildsInput{ImageIdentifier: image.ARN, ImageVersion: v.ImageVersion})
		if err != nil {
			return awsapi.MicrovmImageBuildSummary{}, err
		}
		if len(out.Items) > 0 {
			return out.Items[0], nil
		}
	}
	return awsapi.MicrovmImageBuildSummary{}, &reference.NotFoundError{Kind: "build of image", Text: image.String()}
}
