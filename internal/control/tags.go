package control

import (
	"context"
	"maps"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// maxTags is how many tags AWS lets a resource have.
const maxTags = 50

// tagged finds the image a tag operation is about: of this service only images have tags. The
// form of the ARN was checked with the request.
func (s *Service) tagged(ctx context.Context, c awsapi.Caller, resource, action string) (store.Image, error) {
	if _, err := arn.ParseImage(resource); err != nil {
		return store.Image{}, awsapi.NotFound("Resource not found: %s", resource)
	}
	return s.image(ctx, c, resource, action)
}

// ListTags reads the tags of an image, {} when it has none.
func (s *Service) ListTags(ctx context.Context, in *awsapi.ListTagsInput) (*awsapi.ListTagsOutput, error) {
	ctx, c := begin(ctx)
	i, err := s.tagged(ctx, c, in.Resource, "ListTags")
	if err != nil {
		return nil, err
	}
	return &awsapi.ListTagsOutput{Tags: presentTags(i)}, nil
}

// TagResource adds tags to an image; the value of a tag it has already is replaced.
func (s *Service) TagResource(ctx context.Context, in *awsapi.TagResourceInput) (*awsapi.TagResourceOutput, error) {
	err := s.editTags(ctx, in.Resource, "TagResource", func(tags map[string]string) { maps.Copy(tags, in.Tags) })
	return &awsapi.TagResourceOutput{}, err
}

// UntagResource takes tags off an image; those it does not have are no error.
func (s *Service) UntagResource(ctx context.Context, in *awsapi.UntagResourceInput) (*awsapi.UntagResourceOutput, error) {
	err := s.editTags(ctx, in.Resource, "UntagResource", func(tags map[string]string) {
		for _, key := range in.TagKeys {
			delete(tags, key)
		}
	})
	return &awsapi.UntagResourceOutput{}, err
}

func (s *Service) editTags(ctx context.Context, resource, action string, edit func(map[string]string)) error {
	ctx, c := begin(ctx)
	i, err := s.tagged(ctx, c, resource, action)
	if err != nil {
		return err
	}
	err = s.store.EditTags(ctx, i.ID, func(tags map[string]string) (map[string]string, error) {
		if tags == nil {
			tags = make(map[string]string)
		}
		before := len(tags)
		edit(tags)
		if len(tags) > maxTags && len(tags) > before {
			return nil, awsapi.Errorf(awsapi.InvalidParameterValueException, "A resource can have at most %d tags.", maxTags)
		}
		return tags, nil
	})
	return orRefusal(err, imageNotFound(imageARN(i)))
}
