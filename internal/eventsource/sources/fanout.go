package sources

import (
	"context"
	"errors"
	"sync"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

// fanOut is a stream that is read as one of its consumers with enhanced fan-out: by a subscription to each shard, in the throughput that the consumer has for
// itself. A subscription ends after five minutes, when another takes it over, or when the consumer goes; the read after that makes a new one.
//
// A goroutine for each subscription waits for what the shard gets, and holds up to two events of it.
type fanOut struct {
	*stream
	arrivals Arrivals // of shards; may be nil

	ctx     context.Context // of the subscriptions
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	tell func(shard string)
	subs map[string]*subscription // by shard
}

// subscription is one to a shard. Its reader, of which there is one at a time, owns what follows events.
type subscription struct {
	cancel context.CancelFunc
	events chan *kinesisapi.SubscribeToShardEvent // closed at the end
	failed error                                  // why it ended; valid when events is closed

	at      eventsource.Position // where the next read begins
	left    []kinesisapi.Record  // that an event brought and no read took yet
	pending bool                 // another event is about to come: none came yet, or the last was behind the tip
	ended   bool                 // so is the shard
}

func newFanOut(s *stream, arrivals Arrivals) *fanOut {
	f := &fanOut{stream: s, arrivals: arrivals, subs: map[string]*subscription{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// OnArrival implements eventsource.Waker, for one registration: its end ends the subscriptions.
func (f *fanOut) OnArrival(tell func(shard string)) (stop func()) {
	f.mu.Lock()
	f.tell = tell
	f.mu.Unlock()
	unlisten := func() {}
	if f.arrivals != nil {
		unlisten = f.arrivals.OnArrival(f.arn, func(shard string) {
			if shard == "" { // others are told by their subscription
				tell("")
			}
		})
	}
	return func() {
		unlisten()
		f.mu.Lock()
		f.cancel()
		f.mu.Unlock()
		f.running.Wait()
	}
}

// arrived tells that a subscription has brought something, or has ended.
func (f *fanOut) arrived(shard string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tell != nil && f.ctx.Err() == nil {
		f.tell(shard)
	}
}

// Read implements eventsource.Stream. From another position than where the last read of the shard ended it subscribes anew.
func (f *fanOut) Read(ctx context.Context, shard string, from eventsource.Position, most int) (page eventsource.Page, err error) {
	role, err := f.roles.May(ctx, f.function, f.reading, f.source)
	if err != nil {
		f.end(shard)
		return page, err
	}
	f.readWith(role)
	for {
		f.mu.Lock()
		sub := f.subs[shard]
		f.mu.Unlock()
		fresh := sub == nil || sub.at != from
		if fresh {
			if sub, err = f.subscribe(shard, from); err != nil {
				return page, streamError(err)
			}
		}
		open, err := sub.fetch(ctx)
		if err != nil {
			return page, err
		}
		if open {
			sub.take(&page, most, f.former(shard, role))
			return page, nil
		}
		f.end(shard)
		switch {
		case sub.failed != nil:
			return page, streamError(sub.failed)
		case fresh:
			return page, errors.New("the subscription ended before it brought anything")
		}
	}
}

// fetch sees to it that the reader has what there is to take. It waits only for what is on its way, and reports false once the subscription is over.
func (s *subscription) fetch(ctx context.Context) (open bool, err error) {
	if len(s.left) > 0 || s.ended {
		return true, nil
	}
	var e *kinesisapi.SubscribeToShardEvent
	if s.pending {
		select {
		case e = <-s.events:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	} else {
		select {
		case e = <-s.events:
		default:
			return true, nil
		}
	}
	if e == nil {
		return false, nil
	}
	s.left, s.pending, s.ended = e.Records, behind(e), e.ContinuationSequenceNumber == nil
	return true, nil
}

func behind(e *kinesisapi.SubscribeToShardEvent) bool {
	return e.MillisBehindLatest != nil && *e.MillisBehindLatest > 0
}

// take moves up to most records to a page.
func (s *subscription) take(page *eventsource.Page, most int, form func(*kinesisapi.Record) eventsource.Record) {
	n := min(most, len(s.left))
	page.Records = make([]eventsource.Record, n)
	for i := range page.Records {
		page.Records[i] = form(&s.left[i])
	}
	if n > 0 {
		s.at = eventsource.Position{After: page.Records[n-1].ID}
	}
	if s.left = s.left[n:]; len(s.left) == 0 {
		s.left = nil
	}
	page.End = s.ended && s.left == nil
	page.More = s.left != nil || s.pending && !s.ended
}

// end ends the subscription to a shard, if there is one.
func (f *fanOut) end(shard string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sub := f.subs[shard]; sub != nil {
		sub.cancel()
		delete(f.subs, shard)
	}
}

// subscribe makes a subscription to a shard, in the place of another one.
func (f *fanOut) subscribe(shard string, from eventsource.Position) (*subscription, error) {
	f.end(shard)
	ctx, cancel := context.WithCancel(call.AsService(f.ctx, "lambda", f.account, f.region))
	in := &kinesisapi.SubscribeToShardInput{ConsumerARN: &f.source, ShardId: &shard, StartingPosition: &kinesisapi.StartingPosition{}}
	in.StartingPosition.Type, in.StartingPosition.SequenceNumber, in.StartingPosition.Timestamp = starting(from)
	out, err := kinesisapi.SubscribeToShard.Call(ctx, f.caller, in)
	if err != nil {
		cancel()
		return nil, err
	}
	sub := &subscription{cancel: cancel, events: make(chan *kinesisapi.SubscribeToShardEvent, 1), at: from, pending: true}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ctx.Err(); err != nil {
		cancel()
		for range out.EventStream { // so that it ends
			break
		}
		return nil, err
	}
	f.subs[shard] = sub
	f.running.Go(func() {
		defer f.arrived(shard)
		defer close(sub.events)
		defer cancel()
		waited := true // the reader waits for an event
		for e, err := range out.EventStream {
			if err != nil {
				sub.failed = err
				return
			}
			x := e.SubscribeToShardEvent
			if x == nil || len(x.Records) == 0 && x.ContinuationSequenceNumber != nil && !waited {
				continue // a sign of life
			}
			waited = behind(x)
			select {
			case sub.events <- x:
			case <-ctx.Done():
				return
			}
			f.arrived(shard)
		}
	})
	return sub, nil
}
