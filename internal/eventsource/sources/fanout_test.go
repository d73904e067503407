package sources

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

// subscribed is a shard with a consumer: what is sent reaches its subscription.
type subscribed struct {
	t      *testing.T
	begun  []string // where subscriptions began
	refuse error
	events chan any // *kinesisapi.SubscribeToShardEvent, error, or nil for the end
	open   atomic.Int32
}

func (s *subscribed) mux() *smithy.Mux {
	mux := smithy.NewMux()
	kinesisapi.SubscribeToShard.Handle(mux, func(ctx context.Context, in *kinesisapi.SubscribeToShardInput) (*kinesisapi.SubscribeToShardOutput, error) {
		from := *in.StartingPosition.Type
		if n := in.StartingPosition.SequenceNumber; n != nil {
			from += " " + *n
		}
		if at := in.StartingPosition.Timestamp; at != nil {
			from += " " + strconv.FormatInt(at.Unix(), 10)
		}
		if *in.ConsumerARN != streamID+"/consumer/c:1" || *in.ShardId != "a" || call.From(ctx).Principal.Type != call.Service {
			s.t.Errorf("subscribed to %s of %s", *in.ShardId, *in.ConsumerARN)
		}
		s.begun = append(s.begun, from)
		if s.refuse != nil {
			return nil, s.refuse
		}
		return &kinesisapi.SubscribeToShardOutput{EventStream: smithy.Stream[kinesisapi.SubscribeToShardEventStream](s.feed(ctx))}, nil
	})
	return mux
}

func (s *subscribed) feed(ctx context.Context) iter.Seq2[*kinesisapi.SubscribeToShardEventStream, error] {
	return func(yield func(*kinesisapi.SubscribeToShardEventStream, error) bool) {
		s.open.Add(1)
		defer func() { s.open.Add(-1) }()
		for {
			select {
			case x := <-s.events:
				switch x := x.(type) {
				case nil:
					return
				case error:
					yield(nil, x)
					return
				case *kinesisapi.SubscribeToShardEvent:
					if !yield(&kinesisapi.SubscribeToShardEventStream{SubscribeToShardEvent: x}, nil) || x.ContinuationSequenceNumber == nil {
						return
					}
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// brings is an event with records, given by their sequence numbers.
func brings(behind int64, last bool, ids ...string) *kinesisapi.SubscribeToShardEvent {
	e := &kinesisapi.SubscribeToShardEvent{MillisBehindLatest: &behind, ContinuationSequenceNumber: new("9")}
	if last {
		e.ContinuationSequenceNumber = nil
	}
	for _, id := range ids {
		e.Records = append(e.Records, kinesisapi.Record{SequenceNumber: &id, PartitionKey: new("k"), Data: []byte("x"), ApproximateArrivalTimestamp: new(time.UnixMilli(1))})
	}
	return e
}

// A consumer with enhanced fan-out reads by subscriptions, which are renewed where the last read ended.
func TestFanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shard := &subscribed{t: t, events: make(chan any, 9)}
		streams := bell{}
		opened, err := New(Deps{Caller: shard.mux(), Roles: oneRole{}, Streams: streams}).Open(&eventsource.Mapping{SourceARN: streamID + "/consumer/c:1", FunctionARN: function})
		if err != nil {
			t.Fatal(err)
		}
		st := opened.(eventsource.Stream)
		var told atomic.Int32
		stop := opened.(eventsource.Waker).OnArrival(func(shard string) {
			if shard != "a" {
				t.Errorf("told of %q", shard)
			}
			told.Add(1)
		})
		var at eventsource.Position
		read := func(most int, want string) {
			t.Helper()
			synctest.Wait()
			page, err := st.Read(t.Context(), "a", at, most)
			got := ""
			for _, r := range page.Records {
				got += r.ID
				at = eventsource.Position{After: r.ID}
				if !strings.Contains(string(r.JSON), `"eventSourceARN":"`+streamID+`/consumer/c:1"`) {
					t.Errorf("record %s", r.JSON)
				}
			}
			if page.More {
				got += " more"
			}
			if page.End {
				got += " end"
			}
			if err != nil {
				got += err.Error()
			}
			if got != want {
				t.Errorf("read %q, want %q", got, want)
			}
		}
		rings := func(want int32) {
			t.Helper()
			synctest.Wait()
			if n := told.Swap(0); n != want {
				t.Errorf("told %d times, want %d", n, want)
			}
		}

		go func() { // the first event is waited for, and so is each that follows one behind the tip
			time.Sleep(time.Second)
			shard.events <- brings(50, false)
			time.Sleep(time.Second)
			shard.events <- brings(0, false, "1", "2", "3")
		}()
		read(2, " more")
		read(2, "12 more")
		read(2, "3")
		read(2, "")
		rings(2)
		shard.events <- brings(0, false) // a sign of life
		rings(0)
		streams[streamID]("b") // another's
		rings(0)
		shard.events <- brings(0, false, "4")
		rings(1)
		read(9, "4")
		shard.events <- nil // its five minutes are over
		rings(1)
		shard.events <- brings(0, false, "5")
		read(9, "5")
		rings(1)
		shard.events <- kinesisapi.ErrResourceInUseException("taken over")
		rings(1)
		shard.events <- brings(0, false, "6") // for the next
		read(9, "ResourceInUseException: taken over")
		shard.refuse = kinesisapi.ErrResourceInUseException("another")
		read(9, "ResourceInUseException: another")
		shard.refuse = nil
		read(9, "6")
		shard.events <- brings(0, true, "7", "8")
		read(1, "7 more")
		read(1, "8 end")
		read(1, " end")
		at = eventsource.Position{At: time.Unix(9, 0)} // somewhere else
		shard.events <- nil
		read(9, "the subscription ended before it brought anything")
		at = eventsource.Position{After: "8"}
		shard.refuse = kinesisapi.ErrResourceNotFoundException("no consumer")
		if _, err := st.Read(t.Context(), "a", at, 1); !errors.Is(err, eventsource.ErrGone) {
			t.Error(err)
		}
		shard.refuse = nil
		shard.events <- brings(0, false)
		read(9, "")
		if want := []string{
			"TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER 4", "AFTER_SEQUENCE_NUMBER 5", "AFTER_SEQUENCE_NUMBER 5", "AT_TIMESTAMP 9",
			"AFTER_SEQUENCE_NUMBER 8", "AFTER_SEQUENCE_NUMBER 8",
		}; !slices.Equal(slices.Compact(shard.begun), slices.Compact(want)) {
			t.Errorf("subscribed from %q", shard.begun)
		}
		told.Store(0)
		if stop(); shard.open.Load() != 0 || told.Load() != 0 || len(streams) != 0 {
			t.Errorf("%d subscriptions left, told %d times, %v", shard.open.Load(), told.Load(), streams)
		}
		if _, err := st.Read(t.Context(), "a", at, 1); err == nil {
			t.Error("read after the end")
		}
	})
}

// A role that may not subscribe any more ends the subscription.
func TestFanOutRefused(t *testing.T) {
	shard := &subscribed{t: t, events: make(chan any, 9)}
	roles := &oneConsumer{}
	opened, err := New(Deps{Caller: shard.mux(), Roles: roles}).Open(&eventsource.Mapping{SourceARN: streamID + "/consumer/c:1", FunctionARN: function})
	if err != nil {
		t.Fatal(err)
	}
	stop := opened.(eventsource.Waker).OnArrival(func(string) {})
	shard.events <- brings(0, false, "1")
	if page, err := opened.(eventsource.Stream).Read(t.Context(), "a", eventsource.Position{}, 9); err != nil || len(page.Records) != 1 {
		t.Error(page, err)
	}
	roles.refused = true
	if _, err := opened.(eventsource.Stream).Read(t.Context(), "a", eventsource.Position{After: "1"}, 9); err == nil {
		t.Error("read without permission")
	}
	opened.(*fanOut).running.Wait()
	if shard.open.Load() != 0 {
		t.Error("the subscription is open")
	}
	stop()
}

type oneConsumer struct{ refused bool }

func (r *oneConsumer) May(_ context.Context, _, action, resource string) (string, error) {
	if action != "kinesis:SubscribeToShard" || r.refused {
		return "", fmt.Errorf("may not %s on %s", action, resource)
	}
	return role, nil
}
