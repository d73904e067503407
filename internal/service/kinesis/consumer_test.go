package kinesis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
)

func TestConsumers(t *testing.T) {
	w, end := start(t, false)
	defer end()
	w.create("s", 1)
	arn := new(streamARN)
	c := w.consumer("b")
	if !strings.HasPrefix(*c, streamARN+"/consumer/b:1") {
		t.Errorf("ARN %s", *c)
	}
	fail(w, kinesisapi.RegisterStreamConsumer, kinesisapi.RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: new("b")}, "ResourceInUseException", "already exists")
	w.consumer("a")
	w.consumer("c")
	d := do(w, kinesisapi.DescribeStreamConsumer, kinesisapi.DescribeStreamConsumerInput{StreamARN: arn, ConsumerName: new("b")}).ConsumerDescription
	want(t, "description", *d.ConsumerARN+*d.StreamARN+*d.ConsumerStatus, *c+streamARN+"ACTIVE")
	do(w, kinesisapi.DescribeStreamConsumer, kinesisapi.DescribeStreamConsumerInput{ConsumerARN: c})
	fail(w, kinesisapi.DescribeStreamConsumer, kinesisapi.DescribeStreamConsumerInput{ConsumerARN: c, ConsumerName: new("b")}, "InvalidArgumentException", "either")
	fail(w, kinesisapi.DescribeStreamConsumer, kinesisapi.DescribeStreamConsumerInput{StreamARN: arn, ConsumerName: new("x")}, "ResourceNotFoundException", "Consumer x, account 123456789012 not found.")
	fail(w, kinesisapi.DescribeStreamConsumer, kinesisapi.DescribeStreamConsumerInput{ConsumerARN: new(*c + "0")}, "ResourceNotFoundException", "not found")
	var names []string
	for in := (kinesisapi.ListStreamConsumersInput{StreamARN: arn, MaxResults: new(int32(2))}); ; {
		out := do(w, kinesisapi.ListStreamConsumers, in)
		for _, c := range out.Consumers {
			names = append(names, *c.ConsumerName)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	want(t, "names", names, "[a b c]")
	fail(w, kinesisapi.DeleteStream, kinesisapi.DeleteStreamInput{StreamName: new("s")}, "ResourceInUseException", "consumers")
	do(w, kinesisapi.DeregisterStreamConsumer, kinesisapi.DeregisterStreamConsumerInput{ConsumerARN: c})
	w.await(func() bool {
		return len(do(w, kinesisapi.ListStreamConsumers, kinesisapi.ListStreamConsumersInput{StreamARN: arn}).Consumers) == 2
	})
	for i := range 18 {
		w.consumer(fmt.Sprint("x", i))
	}
	fail(w, kinesisapi.RegisterStreamConsumer, kinesisapi.RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: new("z")}, "LimitExceededException", "20 consumers")
	do(w, kinesisapi.DeleteStream, kinesisapi.DeleteStreamInput{StreamName: new("s"), EnforceConsumerDeletion: new(true)})
}

// consumer registers a consumer of s and waits for it.
func (w *world) consumer(name string) *string {
	w.t.Helper()
	c := do(w, kinesisapi.RegisterStreamConsumer, kinesisapi.RegisterStreamConsumerInput{StreamARN: new(streamARN), ConsumerName: &name}).Consumer
	want(w.t, "status", *c.ConsumerStatus, "CREATING")
	w.await(func() bool {
		return *do(w, kinesisapi.DescribeStreamConsumer, kinesisapi.DescribeStreamConsumerInput{ConsumerARN: c.ConsumerARN}).ConsumerDescription.ConsumerStatus == "ACTIVE"
	})
	return c.ConsumerARN
}

type subscription struct {
	events chan *kinesisapi.SubscribeToShardEvent // closed at the end
	err    error                                  // valid then
	cancel context.CancelFunc
}

func (w *world) subscribe(consumer, shard *string, position kinesisapi.StartingPosition) *subscription {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	out, err := kinesisapi.SubscribeToShard.Call(ctx, w, &kinesisapi.SubscribeToShardInput{ConsumerARN: consumer, ShardId: shard, StartingPosition: &position})
	if err != nil {
		w.t.Fatal(err)
	}
	s := &subscription{events: make(chan *kinesisapi.SubscribeToShardEvent, 1000), cancel: cancel}
	go func() {
		defer close(s.events)
		for e, err := range out.EventStream {
			if err != nil {
				s.err = err
				return
			}
			s.events <- e.SubscribeToShardEvent
		}
	}()
	return s
}

func (s *subscription) next(t *testing.T) string {
	t.Helper()
	synctest.Wait()
	select {
	case e, ok := <-s.events:
		if !ok {
			return fmt.Sprint("ended ", s.err)
		}
		text := datas(e.Records)
		for _, c := range e.ChildShards {
			text += " child " + (*c.ShardId)[19:]
		}
		if (e.ContinuationSequenceNumber == nil) != (len(e.ChildShards) > 0) {
			t.Errorf("continuation %v with children %v", e.ContinuationSequenceNumber, e.ChildShards)
		}
		return text
	default:
		return "nothing"
	}
}

func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, end := start(t, false)
		defer end()
		w.create("s", 1)
		c := w.consumer("c")
		w.put("s", "k", "a")
		at := w.put("s", "k", "b").SequenceNumber
		sub := w.subscribe(c, sh(0), kinesisapi.StartingPosition{Type: new("TRIM_HORIZON")})
		began := time.Now()
		want(t, "first", sub.next(t), "a b")
		want(t, "then", sub.next(t), "nothing")
		w.put("s", "k", "c")
		want(t, "pushed at once", sub.next(t), "c")
		again := kinesisapi.SubscribeToShardInput{ConsumerARN: c, ShardId: sh(0), StartingPosition: &kinesisapi.StartingPosition{Type: new("LATEST")}}
		fail(w, kinesisapi.SubscribeToShard, again, "ResourceInUseException", "Another active subscription")
		time.Sleep(5 * time.Second)
		want(t, "heartbeat", sub.next(t), "")

		// Another subscription takes over after five seconds.
		second := w.subscribe(c, sh(0), kinesisapi.StartingPosition{Type: new("AFTER_SEQUENCE_NUMBER"), SequenceNumber: at})
		want(t, "second", second.next(t), "c")
		synctest.Wait()
		want(t, "first", sub.next(t), "ended ResourceInUseException: Another subscription took over for shard shardId-000000000000 in stream s under account 123456789012.")
		want(t, "first lasted", time.Since(began), 5*time.Second)
		other := w.subscribe(w.consumer("d"), sh(0), kinesisapi.StartingPosition{Type: new("LATEST")})
		want(t, "another consumer", other.next(t), "")

		// Five minutes are all.
		began = time.Now()
		n := 0
		for e := range second.events {
			if n++; len(e.Records) > 0 {
				t.Errorf("records %s", datas(e.Records))
			}
		}
		if took := time.Since(began); second.err != nil || took > 5*time.Minute || took < 4*time.Minute+50*time.Second || n < 50 || n > 65 {
			t.Errorf("%d heartbeats, then %v after %v", n, second.err, took)
		}
		for range other.events {
		}

		// The continuation goes on where the last event was, also when none had records.
		third := w.subscribe(c, sh(0), kinesisapi.StartingPosition{Type: new("LATEST")})
		synctest.Wait()
		e := <-third.events
		third.cancel()
		synctest.Wait()
		want(t, "cancelled", third.next(t), "ended <nil>")
		w.put("s", "k", "d")
		time.Sleep(10 * time.Second)
		third = w.subscribe(c, sh(0), kinesisapi.StartingPosition{Type: new("AFTER_SEQUENCE_NUMBER"), SequenceNumber: e.ContinuationSequenceNumber})
		want(t, "continued", third.next(t), "d")

		// The end of the shard.
		do(w, kinesisapi.SplitShard, kinesisapi.SplitShardInput{StreamName: new("s"), ShardToSplit: sh(0), NewStartingHashKey: new("1000")})
		want(t, "end", third.next(t), " child 1 child 2")
		want(t, "end", third.next(t), "ended <nil>")
		w.active("s")

		// A consumer that goes, and a stream.
		time.Sleep(10 * time.Second)
		fourth := w.subscribe(c, sh(1), kinesisapi.StartingPosition{Type: new("LATEST")})
		want(t, "fourth", fourth.next(t), "")
		do(w, kinesisapi.DeregisterStreamConsumer, kinesisapi.DeregisterStreamConsumerInput{ConsumerARN: c})
		time.Sleep(6 * time.Second)
		if got := fourth.next(t); !strings.HasPrefix(got, "ended ResourceNotFoundException: Consumer") {
			t.Errorf("deregistered: %s", got)
		}
		fifth := w.subscribe(w.consumer("e"), sh(1), kinesisapi.StartingPosition{Type: new("LATEST")})
		want(t, "fifth", fifth.next(t), "")
		do(w, kinesisapi.DeleteStream, kinesisapi.DeleteStreamInput{StreamName: new("s"), EnforceConsumerDeletion: new(true)})
		if got := fifth.next(t); !strings.HasPrefix(got, "ended ResourceNotFoundException: Stream s") {
			t.Errorf("deleted: %s", got)
		}
	})
}

// A server that stops does not wait for subscriptions.
func TestEndSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, end := start(t, false)
		defer end()
		w.create("s", 2)
		c := w.consumer("c")
		first := w.subscribe(c, sh(0), kinesisapi.StartingPosition{Type: new("LATEST")})
		want(t, "first", first.next(t), "")
		began := time.Now()
		w.service.EndSubscriptions()
		want(t, "first", first.next(t), "ended <nil>")
		second := w.subscribe(c, sh(1), kinesisapi.StartingPosition{Type: new("LATEST")})
		for range second.events {
		}
		if second.err != nil || time.Since(began) > time.Second {
			t.Errorf("the second ended with %v after %v", second.err, time.Since(began))
		}
	})
}

// A consumer gets 2 MiB a second of a shard.
func TestSubscribeRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, end := start(t, false)
		defer end()
		w.create("s", 1)
		c := w.consumer("c")
		for range 10 {
			w.put("s", "k", strings.Repeat("x", 1<<20-1))
			time.Sleep(time.Second)
		}
		began := time.Now()
		sub := w.subscribe(c, sh(0), kinesisapi.StartingPosition{Type: new("TRIM_HORIZON")})
		for range 10 {
			if e := <-sub.events; len(e.Records) != 1 {
				t.Errorf("%d records", len(e.Records))
			}
		}
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("10 MiB took %v", took)
		}
		sub.cancel()
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, end := start(t, false)
		defer end()
		w.create("s", 2)
		c := w.consumer("c")
		w.put("s", "1", "abc")
		time.Sleep(time.Minute)
		w.put("s", "6", "de")
		w.read(*sh(0))
		sub := w.subscribe(c, sh(1), kinesisapi.StartingPosition{Type: new("TRIM_HORIZON")})
		want(t, "subscribed", sub.next(t), "abc")
		all, err := w.service.Stats(w.ctx, account)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		x := all[0]
		want(t, "stats", fmt.Sprint(x.Name, x.Region, x.Status, x.Shards, x.Records, *x.OldestMillis, *x.PollersMillis, x.Consumers), "seu-west-1ACTIVE2 2 60000 0 [{c ACTIVE 1 0}]")
		if x.Bytes < 5 || x.Bytes > 20 {
			t.Errorf("%d bytes", x.Bytes)
		}
		sub.cancel()
	})
}
