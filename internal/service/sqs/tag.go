package sqs

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Limits of tags. Source: the developer guide, cost allocation tags.
const (
	maxTags     = 50
	maxTagKey   = 128 // characters
	maxTagValue = 256
)

// checkTags checks tags for the queue of a name, which has some others already.
func checkTags(name string, tags map[string]string, others int) error {
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		n := utf8.RuneCountInString(k)
		switch {
		case n == 0 || n > maxTagKey:
			return invalidParameter("Tag keys must be between 1 and 128 characters in length.")
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return invalidParameter("Tag keys must not begin with aws:, which is reserved.")
		case utf8.RuneCountInString(tags[k]) > maxTagValue:
			return invalidParameter("Tag values must be between 0 and 256 characters in length.")
		}
	}
	if len(tags)+others > maxTags {
		return invalidParameter("Too many tags added for queue %s.", name)
	}
	return nil
}

func (s *Service) tagQueue(ctx context.Context, in *sqsapi.TagQueueInput) (*sqsapi.TagQueueOutput, error) {
	if len(in.Tags) == 0 {
		return nil, missing("Tags")
	}
	return nil, s.editTags(ctx, in.QueueUrl, func(name string, tags map[string]string) error {
		for k := range in.Tags {
			delete(tags, k)
		}
		err := checkTags(name, in.Tags, len(tags))
		maps.Copy(tags, in.Tags)
		return err
	})
}

func (s *Service) untagQueue(ctx context.Context, in *sqsapi.UntagQueueInput) (*sqsapi.UntagQueueOutput, error) {
	if len(in.TagKeys) == 0 {
		return nil, missing("TagKeys")
	}
	return nil, s.editTags(ctx, in.QueueUrl, func(_ string, tags map[string]string) error {
		for _, k := range in.TagKeys {
			delete(tags, k)
		}
		return nil
	})
}

func (s *Service) editTags(ctx context.Context, url *string, edit func(name string, tags map[string]string) error) error {
	sc, name, err := own(ctx, url)
	if err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.get(tx, sc, name)
		if err != nil {
			return err
		}
		r := q.record
		if r.Tags = maps.Clone(r.Tags); r.Tags == nil {
			r.Tags = map[string]string{}
		}
		if err := edit(name, r.Tags); err != nil {
			return err
		}
		return sc.set(tx, name, &r)
	})
}

func (s *Service) listQueueTags(ctx context.Context, in *sqsapi.ListQueueTagsInput) (*sqsapi.ListQueueTagsOutput, error) {
	sc, name, err := own(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	q, err := s.view(ctx, sc, name)
	if err != nil || len(q.record.Tags) == 0 {
		return &sqsapi.ListQueueTagsOutput{}, err
	}
	return &sqsapi.ListQueueTagsOutput{Tags: maps.Clone(q.record.Tags)}, nil
}
