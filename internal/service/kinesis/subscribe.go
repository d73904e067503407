package kinesis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/commitlog"
)

const (
	subscribeLife  = 5 * time.Minute // of one subscription
	subscribeLease = 5 * time.Second // in which a consumer may not subscribe to the shard again
	heartbeat      = 5 * time.Second // between events without records
	eventBytes     = 1 << 20         // of the records of one event, unless it is a single one
	eventRecords   = 10_000
)

// subscriptions are those that are open, and who read shards lately.
type subscriptions struct {
	mu    sync.Mutex
	open  map[subscriber]*subscription
	polls map[shardKey]poll
	over  bool // no subscription lasts any more
}

// subscriber is a consumer at a shard.
type subscriber struct {
	consumer string // ARN
	shard    shardKey
}

type subscription struct {
	began  time.Time
	cancel context.CancelCauseFunc
	behind int64 // ms, as of the last event
	ended  bool
}

// poll is what a GetRecords last found.
type poll struct {
	at     time.Time
	behind int64 // ms
}

func (s *subscriptions) polled(k shardKey, behind int64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polls == nil {
		s.polls = map[shardKey]poll{}
	}
	s.polls[k] = poll{at, behind}
}

// EndSubscriptions ends the subscriptions that are open, and those to come at once. It is for a server that stops and waits for what is under way.
func (s *Service) EndSubscriptions() {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	s.subs.over = true
	for _, sub := range s.subs.open {
		sub.cancel(nil)
	}
}

var errTakenOver = errors.New("kinesis: the consumer subscribed to the shard again")

// begin takes the subscription over from who has it, or returns nil if that is too early.
func (s *subscriptions) begin(k subscriber, cancel context.CancelCauseFunc) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[subscriber]*subscription{}
	}
	now := time.Now()
	for old, sub := range s.open { // those that ended lately still count
		if sub.ended && now.Sub(sub.began) >= subscribeLease {
			delete(s.open, old)
		}
	}
	if old := s.open[k]; old != nil {
		if now.Sub(old.began) < subscribeLease {
			return nil
		}
		old.cancel(errTakenOver)
	}
	sub := &subscription{began: now, cancel: cancel}
	s.open[k] = sub
	if s.over {
		cancel(nil)
	}
	return sub
}

func (s *subscriptions) end(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.ended = true
}

func (s *subscriptions) sent(sub *subscription, behind int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.behind = behind
}

func (s *Service) subscribeToShard(ctx context.Context, in *kinesisapi.SubscribeToShardInput) (*kinesisapi.SubscribeToShardOutput, error) {
	name, find, err := findConsumer(ctx, nil, nil, in.ConsumerARN, in.StreamId)
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
	if c.Status != kinesisapi.ConsumerStatusActive {
		return nil, kinesisapi.ErrResourceInUseException("Consumer %s under stream %s is not ACTIVE, instead in state %s.", c.Name, name.name, c.Status)
	}
	sh, err := st.readable(*in.ShardId)
	if err != nil {
		return nil, err
	}
	start := in.StartingPosition
	from, err := s.position(ctx, st, sh, *start.Type, start.SequenceNumber, start.Timestamp, "SubscribeToShard")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	sub := s.subs.begin(subscriber{*in.ConsumerARN, shardKey{st.UID, sh.index}}, cancel)
	if sub == nil {
		cancel(nil)
		return nil, kinesisapi.ErrResourceInUseException("Another active subscription exists for this consumer: %s:%s:%s:%s", name.account, name.name, shardID(sh.index), c.Name)
	}
	return &kinesisapi.SubscribeToShardOutput{EventStream: func(yield func(*kinesisapi.SubscribeToShardEventStream, error) bool) {
		defer cancel(nil)
		defer s.subs.end(sub)
		s.feed(ctx, name, *in.ConsumerARN, sh.index, st.UID, from, sub, yield)
	}}, nil
}

// feed gives a subscriber what a shard has and gets, until it ends, the subscription's time is over, or somebody takes it over.
func (s *Service) feed(ctx context.Context, name ref, consumerARN string, index uint32, uid int64, from uint64, sub *subscription, yield func(*kinesisapi.SubscribeToShardEventStream, error) bool) {
	ctx, cancel := context.WithDeadline(ctx, sub.began.Add(subscribeLife))
	defer cancel()
	var out bucket // of the consumer at this shard
	for first := true; ; first = false {
		st, err := s.view(ctx, name)
		if err == nil && (st.UID != uid || st.shard(index) == nil) {
			err = errShardMissing(name, shardID(index))
		}
		if err == nil {
			_, consumerID, _ := parseARN(consumerARN)
			_, err = st.resource(consumerARN, consumerID) // it may have been deregistered
		}
		var p page
		if err == nil {
			p, err = s.read(ctx, st, index, from, eventRecords, eventBytes)
		}
		if err != nil {
			s.endFeed(ctx, name, index, err, yield)
			return
		}
		moved := p.next > from
		from = p.next
		if first || moved || p.ended || len(p.records) > 0 || time.Since(out.at) >= heartbeat {
			e := &kinesisapi.SubscribeToShardEvent{Records: p.records, MillisBehindLatest: &p.behind, ChildShards: p.children}
			if !p.ended {
				e.ContinuationSequenceNumber = new(st.number(st.shard(index), max(from, st.shard(index).Start+1)-1))
			}
			s.subs.sent(sub, p.behind)
			out.drain(time.Now(), readBytes)
			out.used += float64(p.bytes)
			if !yield(&kinesisapi.SubscribeToShardEventStream{SubscribeToShardEvent: e}, nil) || p.ended {
				return
			}
		}
		if over := out.used - readBytes; over > 0 && !s.unlimited {
			select {
			case <-time.After(time.Duration(over / readBytes * float64(time.Second))):
			case <-ctx.Done():
			}
		}
		if p.behind > 0 && ctx.Err() == nil {
			continue // there is more
		}
		wait, stop := context.WithTimeout(ctx, heartbeat)
		err = s.recordLog(st, index).Wait(wait, max(from, st.horizon()))
		stop()
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) && err != commitlog.ErrDropped {
			s.endFeed(ctx, name, index, err, yield)
			return
		}
		if ctx.Err() != nil {
			s.endFeed(ctx, name, index, ctx.Err(), yield)
			return
		}
	}
}

// endFeed ends a subscription that did not come to the end of its shard: without a word if its time is over or the client went away.
func (s *Service) endFeed(ctx context.Context, name ref, index uint32, err error, yield func(*kinesisapi.SubscribeToShardEventStream, error) bool) {
	switch {
	case context.Cause(ctx) == errTakenOver:
		yield(nil, kinesisapi.ErrResourceInUseException("Another subscription took over for shard %s in stream %s under account %s.", shardID(index), name.name, name.account))
	case ctx.Err() != nil:
	default:
		yield(nil, err)
	}
}
