package control

import (
	"context"
	"maps"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// maxTags is how many tags AWS lets a resource have. Neither the service model nor the guide has a
// limit of this service's own.
const maxTags = 50

// tooManyTags has another code in the tag operations, which are older than this service.
func tooManyTags(code awsapi.ErrorCode) *awsapi.Error {
	return awsapi.Errorf(code, "A resource can have at most %d tags.", maxTags)
}

// taggedResource is an image or a network connector: nothing else here has tags.
type taggedResource struct {
	kind    store.Taggable
	id      string
	tags    map[string]string
	missing *awsapi.Error
}

// tagged finds what a tag operation is about. The form of the ARN was checked with the request.
func (s *Service) tagged(ctx context.Context, c awsapi.Caller, resource, action string) (taggedResource, error) {
	if _, err := arn.ParseConnector(resource); err == nil {
		connector, err := s.connector(ctx, c, resource, action)
		return taggedResource{store.TaggedConnector, connector.ID, connector.Tags, connectorNotFound(resource)}, err
	}
	if _, err := arn.ParseImage(resource); err != nil {
		return taggedResource{}, awsapi.NotFound("Resource not found: %s", resource)
	}
	i, err := s.image(ctx, c, resource, action)
	return taggedResource{store.TaggedImage, i.ID, i.Tags, imageNotFound(imageARN(i))}, err
}

// ListTags reads the tags of an image or a network connector, {} when it has none.
func (s *Service) ListTags(ctx context.Context, in *awsapi.ListTagsInput) (*awsapi.ListTagsOutput, error) {
	ctx, c := begin(ctx)
	r, err := s.tagged(ctx, c, in.Resource, "ListTags")
	if err != nil {
		return nil, err
	}
	return &awsapi.ListTagsOutput{Tags: presentTags(r.tags)}, nil
}

// TagResource adds tags; the value of a tag it has already is replaced.
func (s *Service) TagResource(ctx context.Context, in *awsapi.TagResourceInput) (*awsapi.TagResourceOutput, error) {
	err := s.editTags(ctx, in.Resource, "TagResource", func(tags map[string]string) { maps.Copy(tags, in.Tags) })
	return &awsapi.TagResourceOutput{}, err
}

// UntagResource takes tags off; those that are not there are no error.
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
	r, err := s.tagged(ctx, c, resource, action)
	if err != nil {
		return err
	}
	err = s.store.EditTags(ctx, r.kind, r.id, func(tags map[string]string) (map[string]string, error) {
		none, before := tags == nil, len(tags)
		if none {
			tags = make(map[string]string)
		}
		edit(tags)
		if none && len(tags) == 0 {
			return nil, nil // null where there were none (the row "tags of a resource without any" of Decisions)
		}
		if len(tags) > maxTags && len(tags) > before {
			return nil, tooManyTags(awsapi.InvalidParameterValueException)
		}
		return tags, nil
	})
	return orRefusal(err, r.missing)
}
