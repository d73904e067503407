package sns

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
)

// checkTags returns tags as a map.
func checkTags(tags []snsapi.Tag) (map[string]string, error) {
	if len(tags) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		if _, twice := m[str(t.Key)]; twice {
			return nil, invalid("Duplicated keys are not allowed.")
		}
		if len(*t.Key) >= 4 && strings.EqualFold((*t.Key)[:4], "aws:") {
			return nil, invalid("Tag keys cannot start with aws:")
		}
		m[*t.Key] = str(t.Value)
	}
	if len(m) > maxTags {
		return nil, errTooManyTags()
	}
	return m, nil
}

func errTooManyTags() *apierr.Error {
	return snsapi.ErrTagLimitExceededException("Could not complete request: tag quota of per resource exceeded")
}

// tagged finds the topic whose tags an operation means. These operations have an error of their own for what does not exist.
func tagged(ctx context.Context, resource *string) (topicName, error) {
	return parseTopic(call.From(ctx).Region, "ResourceArn", str(resource))
}

func errNoResource(err error) error {
	if apierr.Code(err) == "NotFoundException" {
		return snsapi.ErrResourceNotFoundException("Resource does not exist")
	}
	return err
}

func (s *Service) tagResource(ctx context.Context, in *snsapi.TagResourceInput) (*snsapi.TagResourceOutput, error) {
	name, err := tagged(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags, err := checkTags(in.Tags)
	if err != nil {
		return nil, err
	}
	return nil, errNoResource(s.updateTopic(ctx, name, func(t *topic) error {
		if t.Tags == nil {
			t.Tags = map[string]string{}
		}
		maps.Copy(t.Tags, tags)
		if len(t.Tags) > maxTags {
			return errTooManyTags()
		}
		return nil
	}))
}

func (s *Service) untagResource(ctx context.Context, in *snsapi.UntagResourceInput) (*snsapi.UntagResourceOutput, error) {
	name, err := tagged(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, errNoResource(s.updateTopic(ctx, name, func(t *topic) error {
		for _, k := range in.TagKeys {
			delete(t.Tags, k)
		}
		return nil
	}))
}

func (s *Service) listTagsForResource(ctx context.Context, in *snsapi.ListTagsForResourceInput) (*snsapi.ListTagsForResourceOutput, error) {
	name, err := tagged(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	v, err := s.view(ctx, name)
	if err != nil {
		return nil, errNoResource(err)
	}
	out := &snsapi.ListTagsForResourceOutput{Tags: []snsapi.Tag{}}
	for _, k := range slices.Sorted(maps.Keys(v.topic.Tags)) {
		out.Tags = append(out.Tags, snsapi.Tag{Key: new(k), Value: new(v.topic.Tags[k])})
	}
	return out, nil
}
