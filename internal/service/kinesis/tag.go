package kinesis

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// maxTags is how many tags a stream or consumer has at most.
const maxTags = 50

// noTag reports whether a tag must not have a character.
func noTag(r rune) bool {
	return !unicode.In(r, unicode.Letter, unicode.Mark, unicode.Digit) && !strings.ContainsRune(" _.:/=+-%@", r)
}

// checkTags refuses tags that AWS does not take.
func checkTags(name ref, tags map[string]string) error {
	for k, v := range tags {
		if strings.ContainsFunc(k+v, noTag) {
			return kinesisapi.ErrInvalidArgumentException("Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
		}
		if strings.Contains(k+v, "%") {
			return kinesisapi.ErrInvalidArgumentException("Failed to add tags to stream %s under account %s because some tags contained illegal characters. "+
				"The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'.", name.name, name.account)
		}
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return kinesisapi.ErrInvalidArgumentException("Failed to add tags to stream %s under account %s because tag keys cannot begin with aws:.", name.name, name.account)
		}
	}
	if len(tags) > maxTags {
		return errTooManyTags(name)
	}
	return nil
}

func errTooManyTags(name ref) error {
	return kinesisapi.ErrInvalidArgumentException("Failed to add tags to stream %s under account %s because a given stream cannot have more than %d tags associated with it.",
		name.name, name.account, maxTags)
}

// tagged returns old tags with more and without those of some keys.
func tagged(name ref, old, more map[string]string, without []string) (map[string]string, error) {
	if err := checkTags(name, more); err != nil {
		return nil, err
	}
	tags := maps.Clone(old)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, more)
	for _, k := range without {
		delete(tags, k)
	}
	if len(tags) > maxTags {
		return nil, errTooManyTags(name)
	}
	return tags, nil
}

func sortedTags(tags map[string]string) []kinesisapi.Tag {
	all := []kinesisapi.Tag{}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		all = append(all, kinesisapi.Tag{Key: &k, Value: new(tags[k])})
	}
	return all
}

func (s *Service) addTagsToStream(ctx context.Context, in *kinesisapi.AddTagsToStreamInput) (*kinesisapi.AddTagsToStreamOutput, error) {
	return nil, s.tagStream(ctx, in.StreamName, in.StreamARN, in.StreamId, in.Tags, nil)
}

func (s *Service) removeTagsFromStream(ctx context.Context, in *kinesisapi.RemoveTagsFromStreamInput) (*kinesisapi.RemoveTagsFromStreamOutput, error) {
	return nil, s.tagStream(ctx, in.StreamName, in.StreamARN, in.StreamId, nil, in.TagKeys)
}

func (s *Service) tagStream(ctx context.Context, name, streamARN, id *string, more map[string]string, without []string) error {
	r, err := named(ctx, name, streamARN, id)
	if err != nil {
		return err
	}
	return s.update(ctx, r, func(tx kv.Tx, st *stream) (err error) {
		if err := st.checkID(id); err != nil {
			return err
		}
		if st.Tags, err = tagged(r, st.Tags, more, without); err != nil {
			return err
		}
		return st.store(tx)
	})
}

func (s *Service) listTagsForStream(ctx context.Context, in *kinesisapi.ListTagsForStreamInput) (*kinesisapi.ListTagsForStreamOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	st, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := st.checkID(in.StreamId); err != nil {
		return nil, err
	}
	tags := sortedTags(st.Tags)
	if in.ExclusiveStartTagKey != nil {
		tags = slices.DeleteFunc(tags, func(t kinesisapi.Tag) bool { return *t.Key <= *in.ExclusiveStartTagKey })
	}
	more := false
	if n := int(or(in.Limit, maxTags)); len(tags) > n {
		tags, more = tags[:n], true
	}
	return &kinesisapi.ListTagsForStreamOutput{Tags: tags, HasMoreTags: &more}, nil
}

// resource is a stream or a consumer that an ARN names.
type resource struct {
	st       *stream
	consumer *consumer // nil: the stream itself
}

// resource finds what an ARN names in a stream that is loaded.
func (st *stream) resource(arn, consumerID string) (resource, error) {
	if consumerID == "" {
		return resource{st: st}, nil
	}
	for i := range st.Consumers {
		if c := &st.Consumers[i]; c.id() == consumerID {
			return resource{st, c}, nil
		}
	}
	return resource{}, errNoConsumer(arn, st.ref.account)
}

func (r resource) tags() map[string]string {
	if r.consumer != nil {
		return r.consumer.Tags
	}
	return r.st.Tags
}

func (r resource) policy() *string {
	if r.consumer != nil {
		return &r.consumer.Policy
	}
	return &r.st.Policy
}

// withResource changes what an ARN names.
func (s *Service) withResource(ctx context.Context, arn string, id *string, f func(name ref, r resource) error) error {
	name, consumerID, err := parseARN(arn)
	if err != nil {
		return kinesisapi.ErrInvalidArgumentException("%s is not the ARN of a stream or consumer.", arn)
	}
	return s.update(ctx, name, func(tx kv.Tx, st *stream) error {
		if err := st.checkID(id); err != nil {
			return err
		}
		r, err := st.resource(arn, consumerID)
		if err != nil {
			return err
		}
		if err := f(name, r); err != nil {
			return err
		}
		return st.store(tx)
	})
}

// viewResource finds what an ARN names.
func (s *Service) viewResource(ctx context.Context, arn string, id *string) (resource, error) {
	name, consumerID, err := parseARN(arn)
	if err != nil {
		return resource{}, kinesisapi.ErrInvalidArgumentException("%s is not the ARN of a stream or consumer.", arn)
	}
	st, err := s.view(ctx, name)
	if err != nil {
		return resource{}, err
	}
	if err := st.checkID(id); err != nil {
		return resource{}, err
	}
	return st.resource(arn, consumerID)
}

func (s *Service) tagResource(ctx context.Context, in *kinesisapi.TagResourceInput) (*kinesisapi.TagResourceOutput, error) {
	return nil, s.retag(ctx, *in.ResourceARN, in.StreamId, in.Tags, nil)
}

func (s *Service) untagResource(ctx context.Context, in *kinesisapi.UntagResourceInput) (*kinesisapi.UntagResourceOutput, error) {
	return nil, s.retag(ctx, *in.ResourceARN, in.StreamId, nil, in.TagKeys)
}

func (s *Service) retag(ctx context.Context, arn string, id *string, more map[string]string, without []string) error {
	return s.withResource(ctx, arn, id, func(name ref, r resource) error {
		tags, err := tagged(name, r.tags(), more, without)
		if err != nil {
			return err
		}
		if r.consumer != nil {
			r.consumer.Tags = tags
		} else {
			r.st.Tags = tags
		}
		return nil
	})
}

func (s *Service) listTagsForResource(ctx context.Context, in *kinesisapi.ListTagsForResourceInput) (*kinesisapi.ListTagsForResourceOutput, error) {
	r, err := s.viewResource(ctx, *in.ResourceARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	return &kinesisapi.ListTagsForResourceOutput{Tags: sortedTags(r.tags())}, nil
}
