package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/eventsource/sources"
	"github.com/mayflyhq/mayfly/internal/gate"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/service/kinesis"
	"github.com/mayflyhq/mayfly/internal/service/sqs"
)

// stage is streams, queues and event source mappings as the server puts them together, in a bubble of synctest. The function is Go.
type stage struct {
	t        *testing.T
	ctx      context.Context
	gate     *gate.Gate
	engine   *eventsource.Engine
	function func(*stage, *event) (answer string, err error) // fails with errStaged, or with what Lambda refuses with
	end      func()

	mu        sync.Mutex
	processed []string
	given     []string // up: bodies of failure records
}

// note remembers what was processed.
func (s *stage) note(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processed = append(s.processed, texts...)
}

// got is what was processed, and how much was given up.
func (s *stage) got() (processed, given []string) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.processed), slices.Clone(s.given)
}

// event is one invocation.
type event struct {
	Records []struct {
		Kinesis struct{ PartitionKey, SequenceNumber, Data string }
		Body    string
	}
	texts []string // data or bodies
}

var errStaged = errors.New("the function fails")

func (s *stage) Invoke(_ context.Context, _ *eventsource.Mapping, _ string, payload []byte) (*eventsource.Answer, error) {
	e := &event{}
	if err := json.Unmarshal(payload, e); err != nil {
		s.t.Error(err)
	}
	for _, r := range e.Records {
		text := r.Body
		if r.Kinesis.Data != "" {
			b, err := base64.StdEncoding.DecodeString(r.Kinesis.Data)
			if err != nil {
				s.t.Error(err)
			}
			text = string(b)
		}
		e.texts = append(e.texts, text)
	}
	answer, err := s.function(s, e)
	if errors.Is(err, errStaged) {
		return &eventsource.Answer{RequestID: "r", Status: 200, FunctionError: "Unhandled"}, nil
	}
	return &eventsource.Answer{RequestID: "r", Status: 200, Payload: []byte(answer)}, err
}

func (s *stage) Deliver(_ context.Context, d *eventsource.Delivery) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = append(s.given, string(d.Body))
	return "", nil
}

func (s *stage) May(context.Context, string, string, string) (string, error) {
	return "arn:aws:iam::000000000000:role/r", nil
}

// setStage opens the store in fs and puts everything on it.
func setStage(t *testing.T, fs vfs.FS, function func(*stage, *event) (string, error)) *stage {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{Dir: "store", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &stage{t: t, function: function}
	s.ctx = call.With(t.Context(), &call.Info{Account: "000000000000", Region: "us-east-1", Host: "localhost", Principal: call.Principal{Type: call.Root}})
	mux := smithy.NewMux()
	s.gate = gate.New(mux, gate.Authenticated{}, log)
	queues, err := sqs.New(sqs.Deps{DB: db, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	streams, err := kinesis.New(kinesis.Deps{DB: db, Unlimited: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	queues.Register(mux)
	streams.Register(mux)
	s.engine = eventsource.New(db, eventsource.Options{
		Sources: sources.New(sources.Deps{Caller: s.gate, Roles: s, Queues: queues, Streams: streams}), Invoker: s, Destination: s, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	services, stop := context.WithCancel(context.Background())
	var engine sync.WaitGroup
	engine.Go(func() { s.engine.Run(ctx) })
	wg.Go(func() { queues.Run(services) })
	wg.Go(func() { streams.Run(services) })
	s.end = func() {
		cancel()
		engine.Wait()
		stop()
		wg.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	return s
}

// must performs an operation.
func must[In, Out any](s *stage, op smithy.Op[In, Out], in In) *Out {
	s.t.Helper()
	out, err := op.Call(s.ctx, s.gate, &in)
	if err != nil {
		s.t.Fatalf("%s: %v", op.Info.Name, err)
	}
	return out
}

const (
	stagedStream = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	stagedQueue  = "arn:aws:sqs:us-east-1:000000000000:q"
)

func (s *stage) mapTo(source string, change func(*eventsource.Mapping)) *eventsource.Mapping {
	s.t.Helper()
	m := &eventsource.Mapping{
		ID: "m", Account: "000000000000", Region: "us-east-1", SourceARN: source, FunctionARN: "arn:aws:lambda:us-east-1:000000000000:function:f",
		BatchSize: 10, MaxRetries: -1, OnFailure: "arn:aws:sqs:us-east-1:000000000000:dead",
	}
	if change != nil {
		change(m)
	}
	if err := s.engine.Set(m); err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *stage) active() {
	s.t.Helper()
	for *must(s, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{StreamName: new("s")}).StreamDescriptionSummary.StreamStatus != kinesisapi.StreamStatusActive {
		time.Sleep(time.Millisecond)
	}
}

func (s *stage) create(shards int32) {
	s.t.Helper()
	must(s, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: new("s"), ShardCount: &shards})
	s.active()
}

func (s *stage) put(key string, data ...string) {
	s.t.Helper()
	for _, d := range data {
		must(s, kinesisapi.PutRecord, kinesisapi.PutRecordInput{StreamName: new("s"), PartitionKey: &key, Data: []byte(d)})
	}
}

// open are the shards that take records, in the order of their ranges.
func (s *stage) open() (all []kinesisapi.Shard) {
	s.t.Helper()
	for _, sh := range must(s, kinesisapi.ListShards, kinesisapi.ListShardsInput{StreamName: new("s")}).Shards {
		if sh.SequenceNumberRange.EndingSequenceNumber == nil {
			all = append(all, sh)
		}
	}
	slices.SortFunc(all, func(a, b kinesisapi.Shard) int {
		return number(a.HashKeyRange.StartingHashKey).Cmp(number(b.HashKeyRange.StartingHashKey))
	})
	return all
}

func number(s *string) *big.Int { n, _ := new(big.Int).SetString(*s, 10); return n }

// middle is where a shard is split in halves.
func middle(r *kinesisapi.HashKeyRange) *string {
	sum := number(r.StartingHashKey)
	sum.Add(sum, number(r.EndingHashKey))
	return new(sum.Rsh(sum, 1).String())
}

// Shards are split, merged and scaled while producers put and records fail: each key's records are processed in order over parents and children, each once,
// and those that fail for ever alone are given up.
func TestReshardUnderLoad(t *testing.T) {
	for _, c := range []struct {
		factor int
		latest bool
		report bool
	}{{1, false, false}, {10, true, false}, {10, false, true}, {1, true, true}} {
		t.Run(fmt.Sprintf("factor %d latest %t report %t", c.factor, c.latest, c.report), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { reshardUnderLoad(t, c.factor, c.latest, c.report) })
		})
	}
}

func reshardUnderLoad(t *testing.T, factor int, latest, report bool) {
	const keys, each = 60, 40
	var mu sync.Mutex
	got := map[string][]string{}
	busy := map[string]bool{}
	tried := map[string]int{}
	delays := rand.New(rand.NewPCG(1, 2))
	s := setStage(t, vfs.NewMem(), func(_ *stage, e *event) (string, error) {
		mu.Lock()
		for _, r := range e.Records {
			if busy[r.Kinesis.PartitionKey] {
				t.Errorf("two batches with the key %s at once", r.Kinesis.PartitionKey)
			}
		}
		for _, r := range e.Records {
			busy[r.Kinesis.PartitionKey] = true
		}
		wait := time.Duration(delays.IntN(20)) * time.Millisecond
		mu.Unlock()
		time.Sleep(wait)
		mu.Lock()
		defer mu.Unlock()
		for _, r := range e.Records {
			delete(busy, r.Kinesis.PartitionKey)
		}
		at := len(e.Records)
		for i, text := range e.texts {
			if strings.HasSuffix(text, "bad") || strings.HasSuffix(text, "once") && tried[text] == 0 {
				tried[text]++
				at = i
				break
			}
		}
		if at < len(e.Records) && !report {
			return "", errStaged
		}
		for i := range at {
			key := e.Records[i].Kinesis.PartitionKey
			got[key] = append(got[key], e.texts[i])
		}
		if at < len(e.Records) {
			return fmt.Sprintf(`{"batchItemFailures":[{"itemIdentifier":%q}]}`, e.Records[at].Kinesis.SequenceNumber), nil
		}
		return "", nil
	})
	defer s.end()
	s.create(2)
	if latest {
		s.put("key0", "before")
		time.Sleep(time.Second)
	}
	s.mapTo(stagedStream, func(m *eventsource.Mapping) {
		m.Parallelization, m.MaxRetries, m.Bisect, m.ReportItemFailures = factor, 2, !report, report
		if latest {
			m.Start.At = time.Now()
		}
	})
	var producers sync.WaitGroup
	for p := range 4 {
		producers.Go(func() {
			for i := range each {
				for k := p; k < keys; k += 4 {
					text := fmt.Sprintf("%d-%02d", k, i)
					switch {
					case k%20 == 3 && i%15 == 7:
						text += "bad"
					case k%6 == 1 && i%9 == 2:
						text += "once"
					}
					s.put(fmt.Sprint("key", k), text)
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	for round := range 8 {
		time.Sleep(200 * time.Millisecond)
		open := s.open()
		switch round % 4 {
		case 0: // in two halves
			sh := open[0]
			must(s, kinesisapi.SplitShard, kinesisapi.SplitShardInput{StreamName: new("s"), ShardToSplit: sh.ShardId, NewStartingHashKey: middle(sh.HashKeyRange)})
		case 1:
			must(s, kinesisapi.UpdateShardCount, kinesisapi.UpdateShardCountInput{StreamName: new("s"), TargetShardCount: new(int32(len(open) + 2)), ScalingType: new("UNIFORM_SCALING")})
		case 2:
			must(s, kinesisapi.MergeShards, kinesisapi.MergeShardsInput{StreamName: new("s"), ShardToMerge: open[1].ShardId, AdjacentShardToMerge: open[2].ShardId})
		case 3:
			must(s, kinesisapi.UpdateShardCount, kinesisapi.UpdateShardCountInput{StreamName: new("s"), TargetShardCount: new(int32((len(open) + 1) / 2)), ScalingType: new("UNIFORM_SCALING")})
		}
		s.active()
	}
	producers.Wait()
	time.Sleep(2 * time.Minute)
	_, given := s.got()
	bad := 0
	for k := range keys {
		var want []string
		for i := range each {
			text := fmt.Sprintf("%d-%02d", k, i)
			switch {
			case k%20 == 3 && i%15 == 7:
				bad++
				continue
			case k%6 == 1 && i%9 == 2:
				text += "once"
			}
			want = append(want, text)
		}
		if all := got[fmt.Sprint("key", k)]; !slices.Equal(all, want) {
			t.Errorf("key %d: %v, want %v", k, all, want)
		}
	}
	if len(given) != bad {
		t.Errorf("given up %d times, want %d", len(given), bad)
	}
	for _, g := range given {
		if !strings.Contains(g, `"batchSize":1,`) {
			t.Errorf("given up: %s", g)
		}
	}
}

// A stream that is deleted while a poison record of it is tried again, and made again under its name, is read from its beginning.
func TestStreamIsMadeAgain(t *testing.T) {
	for _, disabled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := setStage(t, vfs.NewMem(), func(s *stage, e *event) (string, error) {
				if slices.Contains(e.texts, "bad") {
					return "", errStaged
				}
				s.note(e.texts...)
				return "", nil
			})
			defer s.end()
			s.create(2)
			latest := func(m *eventsource.Mapping) { m.Start.At = time.Now() }
			m := s.mapTo(stagedStream, latest)
			s.put("k", "a", "b")
			time.Sleep(time.Second)
			s.put("k", "bad")
			time.Sleep(time.Minute)
			if disabled {
				s.engine.Stop(m.ID)
			}
			must(s, kinesisapi.DeleteStream, kinesisapi.DeleteStreamInput{StreamName: new("s")})
			time.Sleep(10 * time.Minute) // what is tried again is so for an hour at least
			synctest.Wait()
			s.create(1)
			s.put("k", "c")
			if disabled {
				s.mapTo(stagedStream, func(n *eventsource.Mapping) { *n = *m })
			}
			time.Sleep(time.Second)
			s.put("k", "d")
			time.Sleep(time.Minute)
			synctest.Wait()
			if got, _ := s.got(); fmt.Sprint(got) != "[a b c d]" {
				t.Errorf("disabled %t: %v", disabled, got)
			}
		})
	}
}

// A poison record without a limit of retries blocks its shard until the stream's retention has passed, which may change meanwhile.
func TestPoisonUntilRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		s := setStage(t, vfs.NewMem(), func(s *stage, e *event) (string, error) {
			if slices.Contains(e.texts, "bad") {
				tries.Add(1)
				return "", errStaged
			}
			s.note(e.texts...)
			return "", nil
		})
		defer s.end()
		s.create(1)
		s.mapTo(stagedStream, func(m *eventsource.Mapping) { m.BatchSize = 2 })
		s.put("k", "bad")
		time.Sleep(12 * time.Hour)
		must(s, kinesisapi.IncreaseStreamRetentionPeriod, kinesisapi.IncreaseStreamRetentionPeriodInput{StreamName: new("s"), RetentionPeriodHours: new(int32(36))})
		time.Sleep(18 * time.Hour)
		s.put("k", "a")
		time.Sleep(5 * time.Hour)
		got, given := s.got()
		if n := tries.Load(); len(got)+len(given) > 0 || n < 34*60 || n > 36*60 {
			t.Errorf("after 35 hours: %d tries, processed %v, given up %v", n, got, given)
		}
		time.Sleep(time.Hour + 3*time.Minute)
		if got, given = s.got(); fmt.Sprint(got) != "[a]" || len(given) != 1 || !strings.Contains(given[0], "RecordAgeExceeded") {
			t.Errorf("after 36 hours: processed %v, given up %v", got, given)
		}
	})
}

// A mapping that begins with LATEST loses nothing that comes later, although the clock is set back and shards are split then: each bubble begins at the same time.
func TestLatestAndClockSetBack(t *testing.T) {
	fs := vfs.NewMem()
	var got []string
	var begin time.Time
	play := func(f func(s *stage)) {
		synctest.Test(t, func(t *testing.T) {
			s := setStage(t, fs, func(s *stage, e *event) (string, error) { s.note(e.texts...); return "", nil })
			defer s.end()
			f(s)
			time.Sleep(time.Minute)
			more, _ := s.got()
			got = append(got, more...)
		})
	}
	latest := func(m *eventsource.Mapping) { m.Start.At = begin }
	play(func(s *stage) {
		time.Sleep(24 * time.Hour)
		s.create(1)
		s.put("k", "before")
		time.Sleep(time.Second)
		begin = time.Now()
		s.mapTo(stagedStream, latest)
	})
	play(func(s *stage) {
		s.mapTo(stagedStream, latest)
		synctest.Wait()
		s.put("k", "a", "b")
		sh := s.open()[0]
		must(s, kinesisapi.SplitShard, kinesisapi.SplitShardInput{StreamName: new("s"), ShardToSplit: sh.ShardId, NewStartingHashKey: middle(sh.HashKeyRange)})
		s.active()
		s.put("k", "c")
	})
	play(func(s *stage) {
		s.put("k", "d")
		s.mapTo(stagedStream, latest)
	})
	if fmt.Sprint(got) != "[a b c d]" {
		t.Errorf("processed %v", got)
	}
}

// A queue that is deleted under its mapping and made again is read as soon as something is in it; what the function had of the old one does no harm.
func TestQueueIsMadeAgain(t *testing.T) {
	for _, name := range []string{"q", "q.fifo"} {
		synctest.Test(t, func(t *testing.T) {
			var first atomic.Bool
			s := setStage(t, vfs.NewMem(), func(s *stage, e *event) (string, error) {
				if first.CompareAndSwap(false, true) {
					time.Sleep(3 * time.Minute) // it ends when there is another queue
				}
				s.note(e.texts...)
				return "", nil
			})
			defer s.end()
			attributes := map[string]string{"VisibilityTimeout": "900"}
			group := (*string)(nil)
			if strings.HasSuffix(name, ".fifo") {
				attributes["FifoQueue"], attributes["ContentBasedDeduplication"], group = "true", "true", new("g")
			}
			create := func() *string {
				return must(s, sqsapi.CreateQueue, sqsapi.CreateQueueInput{QueueName: &name, Attributes: attributes}).QueueUrl
			}
			url := create()
			send := func(body string) {
				must(s, sqsapi.SendMessage, sqsapi.SendMessageInput{QueueUrl: url, MessageBody: &body, MessageGroupId: group})
			}
			s.mapTo("arn:aws:sqs:us-east-1:000000000000:"+name, nil)
			send("a")
			time.Sleep(time.Second)
			send("lost")
			if group == nil {
				time.Sleep(time.Second)
			}
			must(s, sqsapi.DeleteQueue, sqsapi.DeleteQueueInput{QueueUrl: url})
			time.Sleep(2 * time.Minute)
			create()
			send("b")
			time.Sleep(20 * time.Minute) // the function may have the group yet: then it is invisible for once
			send("c")
			time.Sleep(time.Minute)
			got, _ := s.got()
			got = slices.DeleteFunc(got, func(x string) bool { return x == "lost" }) // a standard queue may have given it by then
			slices.Sort(got)
			if fmt.Sprint(got) != "[a b c]" {
				t.Errorf("%s: processed %v", name, got)
			}
			n := must(s, sqsapi.GetQueueAttributes, sqsapi.GetQueueAttributesInput{QueueUrl: url, AttributeNames: []string{"All"}}).Attributes
			if n["ApproximateNumberOfMessages"] != "0" || n["ApproximateNumberOfMessagesNotVisible"] != "0" {
				t.Errorf("%s: %v are left", name, n)
			}
		})
	}
}

// Messages of a FIFO queue with a delay reach the function when it is over, and no later.
func TestDelayedFIFOQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s := setStage(t, vfs.NewMem(), func(s *stage, _ *event) (string, error) {
			s.note(time.Since(begin).Truncate(time.Second).String())
			return "", nil
		})
		defer s.end()
		url := must(s, sqsapi.CreateQueue, sqsapi.CreateQueueInput{QueueName: new("q.fifo"), Attributes: map[string]string{
			"FifoQueue": "true", "ContentBasedDeduplication": "true", "DelaySeconds": "60", "VisibilityTimeout": "30",
		}}).QueueUrl
		s.mapTo(stagedQueue+".fifo", nil)
		for _, group := range []string{"a", "b"} {
			must(s, sqsapi.SendMessage, sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m" + group), MessageGroupId: &group})
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Hour)
		if at, _ := s.got(); fmt.Sprint(at) != "[1m0s 1m10s]" {
			t.Errorf("invoked after %v", at)
		}
	})
}

// A batch that finds no capacity goes back to its queue and counts as received, until the queue's redrive policy takes it; what then comes is processed.
func TestThrottledQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var free atomic.Bool
		s := setStage(t, vfs.NewMem(), func(s *stage, e *event) (string, error) {
			if !free.Load() {
				return "", apierr.New("TooManyRequestsException", 429, "Rate Exceeded.")
			}
			s.note(e.texts...)
			return "", nil
		})
		defer s.end()
		dead := must(s, sqsapi.CreateQueue, sqsapi.CreateQueueInput{QueueName: new("dead")}).QueueUrl
		url := must(s, sqsapi.CreateQueue, sqsapi.CreateQueueInput{QueueName: new("q"), Attributes: map[string]string{
			"VisibilityTimeout": "30", "RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":5}`,
		}}).QueueUrl
		s.mapTo(stagedQueue, nil)
		send := func(body string) {
			must(s, sqsapi.SendMessage, sqsapi.SendMessageInput{QueueUrl: url, MessageBody: &body})
		}
		send("early")
		time.Sleep(100 * time.Second) // received four times
		send("late")
		time.Sleep(70 * time.Second)
		free.Store(true)
		time.Sleep(2 * time.Minute)
		if got, _ := s.got(); fmt.Sprint(got) != "[late]" {
			t.Errorf("processed %v", got)
		}
		m := must(s, sqsapi.ReceiveMessage, sqsapi.ReceiveMessageInput{QueueUrl: dead, MessageSystemAttributeNames: []string{"All"}}).Messages
		if len(m) != 1 || *m[0].Body != "early" {
			t.Errorf("dead letters: %+v", m)
		}
	})
}
