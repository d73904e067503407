package kinesis

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// maxConsumers is how many consumers a stream has at most. Source: AWS's quotas.
const maxConsumers = 20

// id is what the consumer's ARN ends in.
func (c *consumer) id() string { return c.Name + ":" + strconv.FormatInt(c.Created, 10) }

func (c *consumer) arn(name ref) string { return name.arn() + "/consumer/" + c.id() }

func (c *consumer) created() *time.Time { return new(time.Unix(c.Created, 0)) }

func (c *consumer) describe(name ref) kinesisapi.Consumer {
	return kinesisapi.Consumer{ConsumerName: &c.Name, ConsumerARN: new(c.arn(name)), ConsumerStatus: &c.Status, ConsumerCreationTimestamp: c.created()}
}

func (s *Service) registerStreamConsumer(ctx context.Context, in *kinesisapi.RegisterStreamConsumerInput) (*kinesisapi.RegisterStreamConsumerOutput, error) {
	name, err := named(ctx, nil, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	if err := checkTags(name, in.Tags); err != nil {
		return nil, err
	}
	out := &kinesisapi.RegisterStreamConsumerOutput{}
	err = s.update(ctx, name, func(tx kv.Tx, st *stream) error {
		if err := st.checkID(in.StreamId); err != nil {
			return err
		}
		if st.Status == kinesisapi.StreamStatusCreating || st.Status == kinesisapi.StreamStatusDeleting {
			return errNotActive(st)
		}
		at, there := slices.BinarySearchFunc(st.Consumers, *in.ConsumerName, func(c consumer, n string) int { return strings.Compare(c.Name, n) })
		if there {
			return kinesisapi.ErrResourceInUseException("Consumer %s under stream %s already exists for account %s.", *in.ConsumerName, name.name, name.account)
		}
		if len(st.Consumers) >= maxConsumers {
			return kinesisapi.ErrLimitExceededException("Stream %s under account %s has %d consumers, which is the limit.", name.name, name.account, maxConsumers)
		}
		c := consumer{Name: *in.ConsumerName, Status: kinesisapi.ConsumerStatusCreating, Created: time.Now().Unix(), Tags: in.Tags}
		st.Consumers = slices.Insert(st.Consumers, at, c)
		out.Consumer = new(c.describe(name))
		tx.Set(name.taskKey(), nil)
		return st.store(tx)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// findConsumer finds a consumer by its ARN, or by its name and the stream's ARN.
func findConsumer(ctx context.Context, streamARN, consumerName, consumerARN, id *string) (name ref, find func(*stream) (*consumer, error), err error) {
	switch {
	case consumerARN != nil && (streamARN != nil || consumerName != nil):
		return name, nil, kinesisapi.ErrInvalidArgumentException("Specify either ConsumerARN or both StreamARN and ConsumerName.")
	case consumerARN != nil:
		name, consumerID, err := parseARN(*consumerARN)
		if err != nil || consumerID == "" {
			return name, nil, kinesisapi.ErrInvalidArgumentException("%s is not the ARN of a consumer.", *consumerARN)
		}
		return name, func(st *stream) (*consumer, error) {
			if err := st.checkID(id); err != nil {
				return nil, err
			}
			r, err := st.resource(*consumerARN, consumerID)
			return r.consumer, err
		}, nil
	case streamARN == nil || consumerName == nil:
		return name, nil, kinesisapi.ErrInvalidArgumentException("Specify either ConsumerARN or both StreamARN and ConsumerName.")
	}
	if name, err = named(ctx, nil, streamARN, id); err != nil {
		return name, nil, err
	}
	return name, func(st *stream) (*consumer, error) {
		if err := st.checkID(id); err != nil {
			return nil, err
		}
		for i := range st.Consumers {
			if st.Consumers[i].Name == *consumerName {
				return &st.Consumers[i], nil
			}
		}
		return nil, errNoConsumer(*consumerName, name.account)
	}, nil
}

func (s *Service) deregisterStreamConsumer(ctx context.Context, in *kinesisapi.DeregisterStreamConsumerInput) (*kinesisapi.DeregisterStreamConsumerOutput, error) {
	name, find, err := findConsumer(ctx, in.StreamARN, in.ConsumerName, in.ConsumerARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	return nil, s.update(ctx, name, func(tx kv.Tx, st *stream) error {
		c, err := find(st)
		if err != nil {
			return err
		}
		c.Status = kinesisapi.ConsumerStatusDeleting
		tx.Set(name.taskKey(), nil)
		return st.store(tx)
	})
}

func (s *Service) describeStreamConsumer(ctx context.Context, in *kinesisapi.DescribeStreamConsumerInput) (*kinesisapi.DescribeStreamConsumerOutput, error) {
	name, find, err := findConsumer(ctx, in.StreamARN, in.ConsumerName, in.ConsumerARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	st, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	c, err := find(st)
	if err != nil {
		return nil, err
	}
	return &kinesisapi.DescribeStreamConsumerOutput{ConsumerDescription: &kinesisapi.ConsumerDescription{
		ConsumerName: &c.Name, ConsumerARN: new(c.arn(name)), ConsumerStatus: &c.Status, ConsumerCreationTimestamp: c.created(), StreamARN: new(name.arn()),
	}}, nil
}

func (s *Service) listStreamConsumers(ctx context.Context, in *kinesisapi.ListStreamConsumersInput) (*kinesisapi.ListStreamConsumersOutput, error) {
	name, err := named(ctx, nil, in.StreamARN, in.StreamId)
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
	if in.StreamCreationTimestamp != nil && in.StreamCreationTimestamp.Unix() != st.created().Unix() {
		return nil, errNoStream(name)
	}
	after := ""
	if in.NextToken != nil {
		arn, b, _, err := s.unseal(consumersToken, *in.NextToken)
		if err == nil && (arn != name.arn() || len(b) < 8 || binary.BigEndian.Uint64(b) != uint64(st.UID)) {
			err = errToken
		}
		if err != nil {
			return nil, tokenError(err)
		}
		after = string(b[8:])
	}
	out := &kinesisapi.ListStreamConsumersOutput{Consumers: []kinesisapi.Consumer{}}
	for i := range st.Consumers {
		c := &st.Consumers[i]
		if c.Name <= after {
			continue
		}
		if n := int(or(in.MaxResults, 100)); len(out.Consumers) >= n {
			out.NextToken = new(s.seal(consumersToken, name.arn(), pageOf(st.UID, *out.Consumers[n-1].ConsumerName)))
			break
		}
		out.Consumers = append(out.Consumers, c.describe(name))
	}
	return out, nil
}
