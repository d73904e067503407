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
	return nil, s.changeTags(ctx, "TagResource", in.Resource, func(tags map[string]string) error {
		maps.Copy(tags, in.Tags)
		return checkTags(tags, s.limits.Tags)
	})
}

func (s *Service) untagResource(ctx context.Context, in *lambdaapi.UntagResourceInput) (*lambdaapi.UntagResourceOutput, error) {
	return nil, s.changeTags(ctx, "UntagResource", in.Resource, func(tags map[string]string) error {
		for _, k := range in.TagKeys {
			delete(tags, k)
		}
		return nil
	})
}

func (s *Service) listTags(ctx context.Context, in *lambdaapi.ListTagsInput) (*lambdaapi.ListTagsOutput, error) {
	t, err := findTagged(ctx, "ListTags", in.Resource)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListTagsOutput{Tags: map[string]string{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		tags, _, err := t.read(r)
		if err == nil {
			maps.Copy(out.Tags, *tags)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Service) changeTags(ctx context.Context, operation string, resource *string, change func(map[string]string) error) error {
	t, err := findTagged(ctx, operation, resource)
	if err != nil {
		return err
	}
	if t.mapping != "" {
		return s.changeMappingTags(ctx, t, change)
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		tags, write, err := t.read(tx)
		if err != nil {
			return err
		}
		if *tags == nil {
			*tags = map[string]string{}
		}
		if err := change(*tags); err != nil {
			return err
		}
		return write(tx)
	})
}

// changeMappingTags changes the tags of an event source mapping, which goes on by other rules if they say so.
func (s *Service) changeMappingTags(ctx context.Context, t *tagged, change func(map[string]string) error) error {
	edit := func(r kv.Reader) (before, after *mapping, err error) {
		if before, err = t.taggedMapping(r, t.mapping); err != nil {
			return nil, nil, err
		}
		m := *before
		if m.Tags = maps.Clone(m.Tags); m.Tags == nil {
			m.Tags = map[string]string{}
		}
		if err := change(m.Tags); err != nil {
			return nil, nil, err
		}
		was, _ := before.extras()
		if is, err := m.extras(); err != nil {
			return nil, nil, err
		} else if is != was {
			if before.moving() {
				return nil, nil, lambdaapi.ErrResourceInUseException("Cannot update the event source mapping because it is in use.")
			}
			m.State, m.LastModified = mappingUpdating, s.now()
		}
		return before, &m, nil
	}
	var before, m *mapping
	if err := s.db.View(ctx, func(r kv.Reader) (err error) { before, m, err = edit(r); return err }); err != nil {
		return err
	}
	if to := m.destination(); to != "" && to != before.destination() {
		v, err := s.mappedVersion(ctx, t.scope, reference{name: m.Function, qualifier: m.Qualifier})
		if err == nil {
			err = s.checkMapping(ctx, t.scope, m, v)
		}
		if err != nil {
			return err
		}
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		before, after, err := edit(tx)
		if err != nil {
			return err
		}
		return putMapping(tx, t.scope, before, after)
	})
}

// taggedMapping reads a mapping whose tags are meant.
func (c scope) taggedMapping(r kv.Reader, uuid string) (*mapping, error) {
	m, err := get[mapping](r, c.mappingKey(uuid))
	if err == nil && m == nil {
		err = lambdaapi.ErrResourceNotFoundException("Event source mapping not found: %s", c.mappingARN(uuid))
	}
	return m, err
}

// tagged is a resource that may have tags.
type tagged struct {
	scope
	function    string // its name, or
	codeSigning string // its ID, or
	mapping     string // its UUID
}

// read reads the resource and returns where its tags are; write stores it.
func (t *tagged) read(r kv.Reader) (tags *map[string]string, write func(kv.Tx) error, err error) {
	if t.codeSigning != "" {
		s, err := t.scope.codeSigning(r, t.codeSigning)
		if err != nil {
			return nil, nil, err
		}
		return &s.Tags, func(tx kv.Tx) error { return kv.SetJSON(tx, t.codeSigningKey(s.ID), s) }, nil
	}
	if t.mapping != "" { // changeMappingTags writes them
		m, err := t.taggedMapping(r, t.mapping)
		if err != nil {
			return nil, nil, err
		}
		return &m.Tags, nil, nil
	}
	f, err := t.scope.function(r, t.function)
	if err != nil {
		return nil, nil, err
	}
	return &f.Tags, func(tx kv.Tx) error { return kv.SetJSON(tx, t.functionKey(f.Name), f) }, nil
}

// findTagged reads the ARN of a resource that may have tags.
func findTagged(ctx context.Context, operation string, resource *string) (*tagged, error) {
	given := deref(resource)
	a, err := arn.Parse(given)
	if err != nil {
		return nil, lambdaapi.ErrResourceNotFoundException("Resource not found: %s", given)
	}
	switch kind, id, _ := strings.Cut(a.Resource, ":"); kind {
	case "function":
		c, ref, err := locate(ctx, operation, resource, nil)
		if err == nil && ref.qualifier != "" {
			err = lambdaapi.ErrInvalidParameterValueException("Tags on function aliases and versions are not supported. Please specify a function ARN.")
		}
		return &tagged{scope: c, function: ref.name}, err
	case "code-signing-config":
		c, id, err := locateCodeSigning(ctx, operation, resource)
		return &tagged{scope: c, codeSigning: id}, err
	case "event-source-mapping":
		c := scopeOf(ctx)
		switch {
		case a.Region != c.region:
			return nil, lambdaapi.ErrResourceNotFoundException("Event source mapping not found: %s", given)
		case a.Account != c.account:
			return nil, errDenied(ctx, operation, given)
		}
		return &tagged{scope: c, mapping: id}, nil
	}
	return nil, lambdaapi.ErrResourceNotFoundException("Resource not found: %s", given)
}
