package kinesis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/service/kinesis"
)

const (
	account   = "123456789012"
	region    = "eu-west-1"
	streamARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/s"
)

// world is a service with its store. It validates as the gate does.
type world struct {
	t       testing.TB
	ctx     context.Context
	db      kv.DB
	service *kinesis.Service
	mux     *smithy.Mux
	stop    func()
}

// Call implements smithy.Caller.
func (w *world) Call(ctx context.Context, op *smithy.OpInfo, in, out any) error {
	if err := w.mux.Validate(op, in); err != nil {
		return err
	}
	return w.mux.Call(ctx, op, in, out)
}

func open(t testing.TB, db kv.DB, unlimited bool) *world {
	t.Helper()
	s, err := kinesis.New(kinesis.Deps{DB: db, Unlimited: unlimited})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, service: s, mux: smithy.NewMux()}
	w.ctx = call.With(context.Background(), &call.Info{Account: account, Region: region, Principal: call.Principal{Type: call.Root}})
	s.Register(w.mux)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	w.stop = func() { cancel(); <-done }
	return w
}

// start opens a service on a store in memory, for the time of the test or of its bubble.
func start(t testing.TB, unlimited bool) (w *world, end func()) {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	w = open(t, db, unlimited)
	return w, func() { w.stop(); db.Close() }
}

// sleeper is a world whose server is away while time passes, for nothing that ticks makes long times short in a bubble.
type sleeper struct {
	*world
	fs vfs.FS
}

func startSleeper(t *testing.T, unlimited bool) *sleeper {
	s := &sleeper{fs: vfs.NewMem()}
	s.wake(t, unlimited)
	return s
}

func (s *sleeper) wake(t *testing.T, unlimited bool) {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{Dir: "store", FS: s.fs})
	if err != nil {
		t.Fatal(err)
	}
	s.world = open(t, db, unlimited)
}

func (s *sleeper) end() {
	s.stop()
	s.db.Close()
}

// sleep stops the server, sleeps, and starts it again.
func (s *sleeper) sleep(t *testing.T, d time.Duration) {
	t.Helper()
	s.end()
	time.Sleep(d)
	s.wake(t, true)
	synctest.Wait() // what is past its retention is removed
}

// do performs an operation that must succeed.
func do[In, Out any](w *world, op smithy.Op[In, Out], in In) *Out {
	w.t.Helper()
	out, err := op.Call(w.ctx, w, &in)
	if err != nil {
		w.t.Fatalf("%s: %v", op.Info, err)
	}
	return out
}

// fail performs an operation that must fail with a code, and a message that has a text.
func fail[In, Out any](w *world, op smithy.Op[In, Out], in In, code, text string) {
	w.t.Helper()
	_, err := op.Call(w.ctx, w, &in)
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Message, text) {
		w.t.Errorf("%s: %v, want %s: %s", op.Info, err, code, text)
	}
}

// create makes a stream and waits for it.
func (w *world) create(name string, shards int32) {
	w.t.Helper()
	do(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: &name, ShardCount: &shards})
	w.active(name)
}

// active waits until a stream is ACTIVE.
func (w *world) active(name string) {
	w.t.Helper()
	w.await(func() bool {
		d := do(w, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{StreamName: &name}).StreamDescriptionSummary
		return *d.StreamStatus == "ACTIVE"
	})
}

func (w *world) await(ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("it does not come to pass")
		}
	}
}

func (w *world) put(name, key, data string) *kinesisapi.PutRecordOutput {
	w.t.Helper()
	return do(w, kinesisapi.PutRecord, kinesisapi.PutRecordInput{StreamName: &name, PartitionKey: &key, Data: []byte(data)})
}

func (w *world) shards(name string) []kinesisapi.Shard {
	w.t.Helper()
	return do(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{StreamName: &name}).Shards
}

func (w *world) iterator(in kinesisapi.GetShardIteratorInput) *string {
	w.t.Helper()
	if in.StreamName == nil && in.StreamARN == nil {
		in.StreamName = new("s")
	}
	return do(w, kinesisapi.GetShardIterator, in).ShardIterator
}

// drain reads a shard from an iterator until its tip or its end.
func (w *world) drain(it *string) (records []kinesisapi.Record, last *kinesisapi.GetRecordsOutput) {
	w.t.Helper()
	for {
		last = do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it})
		records = append(records, last.Records...)
		if it = last.NextShardIterator; it == nil || *last.MillisBehindLatest == 0 {
			return records, last
		}
	}
}

func (w *world) read(shard string) (records []kinesisapi.Record, last *kinesisapi.GetRecordsOutput) {
	w.t.Helper()
	return w.drain(w.iterator(kinesisapi.GetShardIteratorInput{ShardId: &shard, ShardIteratorType: new("TRIM_HORIZON")}))
}

func datas(records []kinesisapi.Record) string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Data))
	}
	return strings.Join(all, " ")
}

func want(t testing.TB, what string, got, wanted any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("%s: %v, want %v", what, got, wanted)
	}
}

func sh(n int) *string { return new(fmt.Sprintf("shardId-%012d", n)) }
