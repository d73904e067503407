package lambda

import (
	"context"
	"maps"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func (s *Service) tagResource(ctx context.Context, in *lambdaapi.TagResourceInput) (*lambdaapi.TagResourceOutput, error) {
	if len(in.Tags) == 0 {
		return nil, lambdaapi.ErrInvalidParameterValueException("An error occurred and the request cannot be processed.")
	}
	return nil, s.changeTags(ctx, "TagResource", in.Resource, func(f *function) error {
		tags := maps.Clone(f.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		maps.Copy(tags, in.Tags)
		f.Tags = tags
		return checkTags(tags, s.limits.Tags)
	})
}

func (s *Service) untagResource(ctx context.Context, in *lambdaapi.UntagResourceInput) (*lambdaapi.UntagResourceOutput, error) {
	return nil, s.changeTags(ctx, "UntagResource", in.Resource, func(f *function) error {
		for _, k := range in.TagKeys {
			delete(f.Tags, k)
		}
		return nil
	})
}

func (s *Service) listTags(ctx context.Context, in *lambdaapi.ListTagsInput) (*lambdaapi.ListTagsOutput, error) {
	c, name, err := taggable(ctx, "ListTags", in.Resource)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListTagsOutput{Tags: map[string]string{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		f, err := getFunction(r, c, name)
		if err != nil {
			return err
		}
		if f == nil {
			return errNoFunction(c.qualifiedARN(name, ""))
		}
		maps.Copy(out.Tags, f.Tags)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Service) changeTags(ctx context.Context, operation string, resource *string, change func(*function) error) error {
	c, name, err := taggable(ctx, operation, resource)
	if err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		f, err := getFunction(tx, c, name)
		if err != nil {
			return err
		}
		if f == nil {
			return errNoFunction(c.qualifiedARN(name, ""))
		}
		if err := change(f); err != nil {
			return err
		}
		return kv.SetJSON(tx, c.functionKey(name), f)
	})
}

// taggable reads the ARN of a tagged resource: functions are the only ones here.
func taggable(ctx context.Context, operation string, resource *string) (scope, string, error) {
	given := deref(resource)
	if a, err := arn.Parse(given); err != nil || !strings.HasPrefix(a.Resource, "function:") {
		return scope{}, "", lambdaapi.ErrResourceNotFoundException("Resource not found: %s", given)
	}
	c, ref, err := locate(ctx, operation, resource, nil)
	if err == nil && ref.qualifier != "" {
		err = lambdaapi.ErrInvalidParameterValueException("Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	return c, ref.name, err
}
