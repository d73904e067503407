// Package sources opens the event sources of AWS for the engine of event source mappings: queues of Amazon SQS and streams of Amazon Kinesis.
//
// Every read is an operation of the service, and the function's role must be allowed it, so that what the role may no longer do ends at once. The operation itself
// is on Lambda's own behalf, which is not held to ten messages nor to the limits of shards: the role is asked for ReceiveMessage and so on of a queue, and of a
// stream for GetRecords and for DescribeStream, as roles on AWS have it, instead of ListShards. A consumer with enhanced fan-out is read by SubscribeToShard.
package sources

import (
	"context"
	"fmt"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

// Roles makes calls in the name of functions. Its methods are safe for concurrent use.
type Roles interface {
	// May returns the ARN of the role of a function, named by its ARN with or without a qualifier, or the error that refuses an action of it on a resource.
	May(ctx context.Context, function, action, resource string) (role string, err error)
}

// Arrivals is a service that tells when something arrives in one of its resources. Its methods are safe for concurrent use.
type Arrivals interface {
	// OnArrival is eventsource.Waker's, for the queue or stream with an ARN.
	OnArrival(resource string, f func(shard string)) (stop func())
}

// Queues is Amazon SQS in this process.
type Queues interface {
	Arrivals
	// Peek returns up to most messages that could be received now, without receiving them.
	Peek(ctx context.Context, queue string, most int) ([]sqsapi.Message, error)
}

// Deps is what Sources need.
type Deps struct {
	Caller smithy.Caller // usually the gate
	Roles  Roles
	// Queues and Streams tell of arrivals. Without them the engine polls, and cannot look into queues.
	Queues  Queues
	Streams Arrivals
}

// Sources implements eventsource.Sources.
type Sources struct{ deps Deps }

// New returns Sources.
func New(d Deps) *Sources { return &Sources{d} }

// Open implements eventsource.Sources. It returns an eventsource.Queue or an eventsource.Stream.
func (s *Sources) Open(m *eventsource.Mapping) (any, error) {
	a, err := arn.Parse(m.SourceARN)
	if err != nil {
		return nil, fmt.Errorf("event source %q: %w", m.SourceARN, err)
	}
	switch a.Service {
	case "sqs":
		q := s.openQueue(m, a)
		if s.deps.Queues == nil {
			return q, nil
		}
		return wakingQueue{q, s.deps.Queues}, nil
	case "kinesis":
		st := s.openStream(m, a)
		switch {
		case st.source != st.arn:
			return newFanOut(st, s.deps.Streams), nil
		case s.deps.Streams == nil:
			return st, nil
		}
		return wakingStream{st, s.deps.Streams}, nil
	}
	return nil, fmt.Errorf("event source %s: nothing reads from %s", m.SourceARN, a.Service)
}

// wakingQueue and wakingStream are Wakers; a wakingQueue is a Peeker too.
type wakingQueue struct {
	*queue
	queues Queues
}

func (q wakingQueue) OnArrival(f func(string)) (stop func()) { return q.queues.OnArrival(q.arn, f) }

// Peek implements eventsource.Peeker.
func (q wakingQueue) Peek(ctx context.Context, most int) ([]eventsource.Record, error) {
	messages, err := q.queues.Peek(ctx, q.arn, most)
	if err != nil {
		return nil, queueError(err)
	}
	all := make([]eventsource.Record, len(messages))
	for i := range messages {
		all[i] = q.record(&messages[i])
	}
	return all, nil
}

type wakingStream struct {
	*stream
	arrivals Arrivals
}

func (s wakingStream) OnArrival(f func(string)) (stop func()) {
	return s.arrivals.OnArrival(s.stream.arn, f)
}
