package eventsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

const (
	streamARN   = "arn:aws:kinesis:us-east-1:111122223333:stream/s"
	queueARN    = "arn:aws:sqs:us-east-1:111122223333:q"
	functionARN = "arn:aws:lambda:us-east-1:111122223333:function:f:live"
	deadARN     = "arn:aws:sqs:us-east-1:111122223333:dead"
)

// memStream is a Stream and Waker in memory.
type memStream struct {
	mu     sync.Mutex
	next   int // sequence number
	shards []*memShard
	reads  int
	fail   error
	skew   time.Duration // of its clock
	born   int           // sequence number behind which it began

	awake     map[int]func(string)
	listeners int
}

type memShard struct {
	Shard
	records []Record
	closed  bool
}

func newStream(shards ...string) *memStream {
	s := &memStream{awake: map[int]func(string){}}
	for _, id := range shards {
		s.shards = append(s.shards, &memShard{Shard: Shard{ID: id}})
	}
	return s
}

func (s *memStream) shard(id string) *memShard {
	for _, sh := range s.shards {
		if sh.ID == id {
			return sh
		}
	}
	return nil
}

// put adds records with a key and returns their sequence numbers.
func (s *memStream) put(shard, key string, data ...string) (ids []string) {
	s.mu.Lock()
	sh := s.shard(shard)
	for _, d := range data {
		s.next++
		id := strconv.Itoa(s.next)
		ids = append(ids, id)
		js, _ := json.Marshal(map[string]string{"id": id, "key": key, "data": d, "shard": shard})
		sh.records = append(sh.records, Record{ID: id, Key: key, Arrival: time.Now().Add(s.skew), JSON: js, Data: []byte(d)})
	}
	s.mu.Unlock()
	s.tell(shard)
	return ids
}

func (s *memStream) tell(shard string) {
	s.mu.Lock()
	var all []func(string)
	for _, f := range s.awake {
		all = append(all, f)
	}
	s.mu.Unlock()
	for _, f := range all {
		f(shard)
	}
}

// reshard closes shards and adds one whose parents they are.
func (s *memStream) reshard(child string, parents ...string) {
	s.mu.Lock()
	for _, p := range parents {
		s.shard(p).closed = true
	}
	s.shards = append(s.shards, &memShard{Shard: Shard{ID: child, Parents: parents}})
	s.mu.Unlock()
	for _, p := range parents {
		s.tell(p)
	}
}

// expire removes the records that arrived before a time.
func (s *memStream) expire(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shards {
		sh.records = slices.DeleteFunc(sh.records, func(r Record) bool { return r.Arrival.Before(before) })
	}
}

// remove removes shards without a word.
func (s *memStream) remove(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards = slices.DeleteFunc(s.shards, func(x *memShard) bool { return slices.Contains(ids, x.ID) })
}

// again deletes the stream and makes one of the same name with other shards, whose sequence numbers begin where the test likes.
func (s *memStream) again(next int, shards ...Shard) {
	s.mu.Lock()
	s.shards = nil
	s.mu.Unlock()
	s.tell("")
	s.mu.Lock()
	s.next, s.born = next, next
	for _, sh := range shards {
		s.shards = append(s.shards, &memShard{Shard: sh})
	}
	s.mu.Unlock()
	s.tell("")
}

func (s *memStream) OnArrival(f func(string)) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners++
	n := s.listeners
	s.awake[n] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.awake, n)
	}
}

func (s *memStream) Shards(context.Context) (all []Shard, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shards {
		all = append(all, sh.Shard)
	}
	return all, s.fail
}

func (s *memStream) Read(_ context.Context, shard string, from Position, max int) (p Page, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	sh := s.shard(shard)
	if s.fail != nil || sh == nil {
		return p, errors.Join(ErrGone, s.fail)
	}
	if from.After != "" && compare(from.After, strconv.Itoa(s.born)) < 0 {
		return p, ErrGone // a number of another stream
	}
	i := slices.IndexFunc(sh.records, func(r Record) bool { return compare(r.ID, from.After) > 0 && !r.Arrival.Before(from.At) })
	if i < 0 {
		i = len(sh.records)
	}
	p.Records = slices.Clone(sh.records[i:min(i+max, len(sh.records))])
	p.More = i+max < len(sh.records)
	p.End = sh.closed && !p.More
	return p, nil
}

// world is an engine with its surroundings in memory.
type world struct {
	t      *testing.T
	db     kv.DB
	engine *Engine
	source any
	stop   func()
	last   *Mapping // that was set

	mu       sync.Mutex
	function func(call invocation) (string, error) // answers a payload, or fails with errFunction or what the service answers
	calls    []invocation
	dead     []failureRecord
	refuse   error // of the destination
}

// invocation is one event that the function got.
type invocation struct {
	Records []seen `json:"Records"`
	Window  *struct {
		Start string `json:"start"`
		End   string `json:"end"`
	} `json:"window"`
	State json.RawMessage `json:"state"`
	Shard string          `json:"shardId"`
	Final bool            `json:"isFinalInvokeForWindow"`
	Early bool            `json:"isWindowTerminatedEarly"`

	at      time.Time
	failed  bool
	payload string
	trace   string
}

type seen struct{ ID, Key, Data, Shard string }

func (c *invocation) data() string {
	var s []string
	for _, r := range c.Records {
		s = append(s, r.Data)
	}
	return strings.Join(s, " ")
}

var (
	errFunction = errors.New("the function failed")
	errThrottle = apierr.New("TooManyRequestsException", 429, "Rate Exceeded.")
)

func (w *world) Open(*Mapping) (any, error) { return w.source, nil }

func (w *world) Invoke(ctx context.Context, _ *Mapping, trace string, payload []byte) (*Answer, error) {
	c := invocation{at: time.Now(), payload: string(payload), trace: trace}
	if err := json.Unmarshal(payload, &c); err != nil {
		w.t.Errorf("event %s: %v", payload, err)
	}
	w.mu.Lock()
	function := w.function
	w.mu.Unlock()
	answer, err := function(c)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	a := &Answer{RequestID: "request", Version: "$LATEST", Status: 200, Payload: []byte(answer)}
	if errors.Is(err, errFunction) {
		c.failed = true
		a.FunctionError, err = "Unhandled", nil
		a.Payload = []byte(`{"errorMessage":"no"}`)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	w.calls = append(w.calls, c)
	return a, nil
}

func (w *world) Deliver(_ context.Context, d *Delivery) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return "", w.refuse
	}
	var f failureRecord
	if err := json.Unmarshal(d.Body, &f); err != nil {
		w.t.Errorf("failure record %s: %v", d.Body, err)
	}
	w.dead = append(w.dead, f)
	return fmt.Sprint("delivered", len(w.dead)), nil
}

func newWorld(t *testing.T, source any, function func(invocation) (string, error)) *world {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, source: source, function: function}
	w.start()
	return w
}

// start runs an engine, a new one if the old one was stopped.
func (w *world) start() {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.engine = New(w.db, Options{Sources: w, Invoker: w, Destination: w})
	ended := make(chan error, 1)
	e := w.engine
	go func() { ended <- e.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) close() {
	w.stop()
	if err := w.db.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) set(m *Mapping) {
	w.t.Helper()
	w.last = m
	if err := w.engine.Set(m); err != nil {
		w.t.Fatal(err)
	}
}

// batches is what the function got, one string for each invocation, with an exclamation mark behind those that failed.
func (w *world) batches() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		s := c.data()
		if c.failed {
			s += "!"
		}
		all = append(all, s)
	}
	return all
}

func (w *world) expect(what string, got, want any) {
	w.t.Helper()
	if g, x := fmt.Sprint(got), fmt.Sprint(want); g != x {
		w.t.Errorf("%s:\n%s\nwant\n%s", what, g, x)
	}
}

// lost is the first and last sequence numbers of what reached the destination, with the condition and the count of invocations.
func (w *world) lost() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.dead {
		switch {
		case f.Kinesis != nil:
			all = append(all, fmt.Sprintf("%s-%s %d %s %d", f.Kinesis.First, f.Kinesis.Last, f.Kinesis.Size, f.RequestContext.Condition, f.RequestContext.Invokes))
		case f.SQS != nil:
			all = append(all, fmt.Sprintf("%s %s %d", strings.Join(f.SQS.Messages, ","), f.RequestContext.Condition, f.RequestContext.Invokes))
		}
	}
	return all
}

func mapping(change func(m *Mapping)) *Mapping {
	m := &Mapping{ID: "m", Account: "111122223333", Region: "us-east-1", SourceARN: streamARN, FunctionARN: functionARN, BatchSize: 100, MaxRetries: -1}
	if change != nil {
		change(m)
	}
	return m
}
