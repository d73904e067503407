package logs

import (
	"context"
	"maps"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// maxTags is how many tags a log group may have.
const maxTags = 50

func (s *Service) tagResource(ctx context.Context, in *logsapi.TagResourceInput) (*logsapi.TagResourceOutput, error) {
	name, err := scopeOf(ctx).taggedGroup(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, s.addTags(ctx, name, in.Tags, func() *apierr.Error {
		return logsapi.ErrTooManyTagsException("A resource can have no more than %d tags.", maxTags).With("resourceName", *in.ResourceArn)
	})
}

func (s *Service) untagResource(ctx context.Context, in *logsapi.UntagResourceInput) (*logsapi.UntagResourceOutput, error) {
	name, err := scopeOf(ctx).taggedGroup(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, s.removeTags(ctx, name, in.TagKeys)
}

func (s *Service) listTagsForResource(ctx context.Context, in *logsapi.ListTagsForResourceInput) (*logsapi.ListTagsForResourceOutput, error) {
	name, err := scopeOf(ctx).taggedGroup(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags, err := s.tags(ctx, name)
	return &logsapi.ListTagsForResourceOutput{Tags: tags}, err
}

func (s *Service) tagLogGroup(ctx context.Context, in *logsapi.TagLogGroupInput) (*logsapi.TagLogGroupOutput, error) {
	return nil, s.addTags(ctx, *in.LogGroupName, in.Tags, func() *apierr.Error {
		return logsapi.ErrInvalidParameterException("A resource can have no more than %d tags.", maxTags)
	})
}

func (s *Service) untagLogGroup(ctx context.Context, in *logsapi.UntagLogGroupInput) (*logsapi.UntagLogGroupOutput, error) {
	return nil, s.removeTags(ctx, *in.LogGroupName, in.Tags)
}

func (s *Service) listTagsLogGroup(ctx context.Context, in *logsapi.ListTagsLogGroupInput) (*logsapi.ListTagsLogGroupOutput, error) {
	tags, err := s.tags(ctx, *in.LogGroupName)
	return &logsapi.ListTagsLogGroupOutput{Tags: tags}, err
}

// taggedGroup returns the name of the group that an ARN names. Destinations, which AWS can tag too, are not served.
func (sc scope) taggedGroup(resource string) (string, error) {
	if !strings.HasPrefix(resource, "arn:") {
		return "", logsapi.ErrInvalidParameterException("%s is not an ARN.", resource)
	}
	return sc.groupName(resource)
}

func (s *Service) tags(ctx context.Context, name string) (tags map[string]string, err error) {
	sc := scopeOf(ctx)
	err = s.db.View(ctx, func(r kv.Reader) error {
		g, err := sc.getGroup(r, name)
		if err != nil {
			return err
		}
		if tags = g.Tags; tags == nil {
			tags = map[string]string{}
		}
		return nil
	})
	return tags, err
}

func (s *Service) addTags(ctx context.Context, name string, tags map[string]string, tooMany func() *apierr.Error) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	return s.updateGroup(ctx, name, func(g *logGroup) error {
		if g.Tags == nil {
			g.Tags = map[string]string{}
		}
		maps.Copy(g.Tags, tags)
		if len(g.Tags) > maxTags {
			return tooMany()
		}
		return nil
	})
}

func (s *Service) removeTags(ctx context.Context, name string, keys []string) error {
	return s.updateGroup(ctx, name, func(g *logGroup) error {
		for _, k := range keys {
			delete(g.Tags, k)
		}
		return nil
	})
}

func checkTags(tags map[string]string) error {
	for k := range tags {
		if len(k) >= 4 && strings.EqualFold(k[:4], "aws:") {
			return logsapi.ErrInvalidParameterException("aws: prefixed tag key names are not allowed for external use.")
		}
	}
	return nil
}
