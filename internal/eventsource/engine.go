package eventsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	pollInterval    = time.Second   // of sources that are no Wakers
	longestDelivery = 6 * time.Hour // how long a destination that fails is tried
	leastDeliveries = 300           // how often at least: the server may have been away, or the clock set
	fatesKept       = 10_000        // of one mapping
	trimEvery       = 512           // commits with fates
)

// Options are what an Engine works with. All but Log are required.
type Options struct {
	Sources     Sources
	Invoker     Invoker
	Destination Destination
	Log         *slog.Logger // nil discards
}

// Engine runs mappings. Its methods may be called concurrently.
type Engine struct {
	db          kv.DB
	sources     Sources
	invoker     Invoker
	destination Destination
	log         *slog.Logger
	deliveries  *durable.Queue
	group       *group.Group

	mu       sync.Mutex
	ctx      context.Context // of Run; nil before
	stopping bool
	mappings map[string]*running
	polled   map[string]interface{ poll() } // those whose source is no Waker
	polling  bool

	fated  atomic.Int64 // commits with fates
	mapped atomic.Int64 // mappings
}

// running is a mapping that the engine has.
type running struct {
	mu      sync.Mutex // serializes start, stop and change
	mapping *Mapping
	runner  runner // written under the engine's mutex too, as started is
	started bool
	removed bool
}

// runner runs the mapping of one kind of source.
type runner interface {
	start()
	stop() // waits for what is in flight
	set(m *Mapping)
	counts() *tally
	// shards tells how those of a stream do, in order.
	shardStatus(now time.Time) []ShardStatus
	explain(ctx context.Context, id string, fates []Fate) (Outcome, error)
	// outcomes are those of records that arrived from one time to another, up to most; more says that there are others.
	outcomes(ctx context.Context, from, to time.Time, most int, fates []Fate) (all []Outcome, more bool, err error)
	// waiting returns what was not done yet, up to most of each shard.
	waiting(ctx context.Context, most int) ([]shardRecords, error)
	// load reads what is stored, for one that is not started.
	load(ctx context.Context) error
}

// New returns an engine over a store. It does nothing before Run.
func New(db kv.DB, opts Options) *Engine {
	e := &Engine{
		db: db, sources: opts.Sources, invoker: opts.Invoker, destination: opts.Destination, log: opts.Log,
		mappings: map[string]*running{}, polled: map[string]interface{ poll() }{},
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.group = group.New(context.Background())
	e.deliveries = durable.New(db, root, e.deliver, durable.Options{PerLane: 4, Log: e.log})
	return e
}

// Run runs the mappings that are set, and those that are set later, until ctx ends. Then it lets what was decided be stored, and returns. It must be called once.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	e.ctx = ctx
	waiting := make([]*running, 0, len(e.mappings))
	for _, r := range e.mappings {
		waiting = append(waiting, r)
	}
	e.mu.Unlock()
	for _, r := range waiting {
		e.begin(r)
	}
	err := e.deliveries.Run(ctx)
	e.mu.Lock()
	e.stopping = true
	all := make([]*running, 0, len(e.mappings))
	for _, r := range e.mappings {
		all = append(all, r)
	}
	e.mu.Unlock()
	var wg sync.WaitGroup
	for _, r := range all {
		wg.Go(func() { e.end(r) })
	}
	wg.Wait()
	e.group.Stop()
	return err
}

// spawn runs f beside, with a context that ends when Run's does. It reports false when nothing may be started.
func (e *Engine) spawn(f func(ctx context.Context)) bool {
	e.mu.Lock()
	ctx := e.ctx
	e.mu.Unlock()
	if ctx == nil {
		return false
	}
	return e.group.Go(func(context.Context) { f(ctx) })
}

// Set starts a mapping, or changes the parameters of one that runs: they hold from its next batches on. The error is that of opening the source.
func (e *Engine) Set(m *Mapping) error {
	for {
		e.mu.Lock()
		r := e.mappings[m.ID]
		if r == nil {
			r = &running{}
			e.mappings[m.ID] = r
			e.mapped.Add(1)
		}
		e.mu.Unlock()
		r.mu.Lock()
		if r.removed {
			r.mu.Unlock()
			continue
		}
		err := e.set(r, m)
		r.mu.Unlock()
		return err
	}
}

func (e *Engine) set(r *running, m *Mapping) error {
	if r.runner != nil && r.mapping.SourceARN == m.SourceARN && !reopens(r.mapping, m) {
		r.mapping = m
		r.runner.set(m)
	} else {
		source, err := e.sources.Open(m)
		if err != nil {
			if r.runner == nil {
				e.drop(m.ID, r)
			}
			return err
		}
		next, err := e.runner(m, source)
		if err != nil {
			return err
		}
		e.halt(r)
		e.mu.Lock()
		r.mapping, r.runner = m, next
		delete(e.polled, m.ID)
		if p, ok := next.(interface{ poll() }); ok {
			if _, wakes := source.(Waker); !wakes {
				e.polled[m.ID] = p
			}
		}
		e.mu.Unlock()
	}
	e.launch(r)
	return nil
}

// reopens reports whether a change needs the source to be opened anew: what it renders depends on whether there are a filter and a window, and who reads
// on the function.
func reopens(a, b *Mapping) bool {
	return (a.Filter == nil) != (b.Filter == nil) || (a.Window > 0) != (b.Window > 0) || a.FunctionARN != b.FunctionARN
}

func (e *Engine) runner(m *Mapping, source any) (runner, error) {
	switch source := source.(type) {
	case Stream:
		s := &stream{engine: e, source: source, shards: map[string]*shard{}, tally: tally{since: time.Now().UTC()}}
		s.mapping.Store(m)
		s.tally.last.engine, s.tally.last.mapping = e, m.ID
		return s, nil
	case Queue:
		q := &queue{engine: e, source: source, groups: map[string][]*batch{}, bell: make(chan struct{}, 1), tally: tally{since: time.Now().UTC()}}
		q.mapping.Store(m)
		q.tally.last.engine, q.tally.last.mapping = e, m.ID
		return q, nil
	}
	return nil, fmt.Errorf("eventsource: %T is neither a Queue nor a Stream", source)
}

// begin starts a mapping that was set before Run.
func (e *Engine) begin(r *running) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.launch(r)
}

func (e *Engine) launch(r *running) {
	e.mu.Lock()
	starts := e.ctx != nil && !e.stopping && !r.started && r.runner != nil && !r.removed
	r.started = r.started || starts
	e.startPolling()
	e.mu.Unlock()
	if starts {
		r.runner.start()
	}
}

func (e *Engine) end(r *running) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.halt(r)
}

func (e *Engine) halt(r *running) {
	e.mu.Lock()
	started := r.started
	r.started = false
	e.mu.Unlock()
	if started {
		r.runner.stop()
	}
}

func (e *Engine) drop(id string, r *running) {
	r.removed = true
	e.mapped.Add(-1)
	e.mu.Lock()
	delete(e.mappings, id)
	delete(e.polled, id)
	e.mu.Unlock()
}

// Stop disables a mapping: it starts nothing more and returns when what was in flight has ended and is stored. Set goes on where it was.
func (e *Engine) Stop(id string) {
	e.mu.Lock()
	r := e.mappings[id]
	e.mu.Unlock()
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.removed {
		e.halt(r)
		e.drop(id, r)
	}
}

// Remove stops a mapping and forgets how far it came. What is on its way to a destination still arrives.
func (e *Engine) Remove(ctx context.Context, id string) error {
	e.Stop(id)
	return forget(ctx, e.db, id)
}

// Status tells how a mapping does. One that the engine does not have is not running; its result is that of when it ran. It does not wait for
// one that stops.
func (e *Engine) Status(ctx context.Context, id string) Status {
	e.mu.Lock()
	var now runner
	var s Status
	if r := e.mappings[id]; r != nil {
		now, s.Running = r.runner, r.started
	}
	e.mu.Unlock()
	if now != nil {
		now.counts().status(&s)
		at := time.Now()
		s.Shards = now.shardStatus(at)
		for _, sh := range s.Shards {
			s.Metrics.IteratorAge = max(s.Metrics.IteratorAge, sh.Age)
			s.Metrics.WindowState = max(s.Metrics.WindowState, sh.WindowState)
		}
	}
	if s.Result == "" {
		s.Result = e.storedResult(ctx, id)
	}
	if s.Result == "" {
		s.Result = ResultNone
	}
	return s
}

// startPolling starts the goroutine that polls for all sources that are no Wakers; it ends when there are none. mu is held.
func (e *Engine) startPolling() {
	if e.polling || len(e.polled) == 0 || e.ctx == nil || e.stopping {
		return
	}
	ctx := e.ctx
	e.polling = e.group.Go(func(context.Context) {
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			e.mu.Lock()
			if len(e.polled) == 0 {
				e.polling = false
				e.mu.Unlock()
				return
			}
			all := make([]interface{ poll() }, 0, len(e.polled))
			for _, p := range e.polled {
				all = append(all, p)
			}
			e.mu.Unlock()
			for _, p := range all {
				p.poll()
			}
		}
	})
}

// store writes what became of records that were given up, and queues what their destination gets.
func (e *Engine) store(tx kv.Tx, mapping string, fates []Fate, deliveries []*Delivery) error {
	for _, f := range fates {
		if err := kv.SetJSON(tx, fateKey(mapping, f.Time, f.Shard, f.Last), f); err != nil {
			return err
		}
	}
	if len(fates) > 0 && e.fated.Add(1)%trimEvery == 0 {
		e.spawn(func(ctx context.Context) { e.trim(ctx, mapping) })
	}
	for _, d := range deliveries {
		state, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if err := e.deliveries.Add(tx, d.Destination, durable.Item{ID: call.NewRequestID(), State: state, Body: d.Body}); err != nil {
			return err
		}
	}
	return nil
}

// deliver runs one delivery of the work queue.
func (e *Engine) deliver(ctx context.Context, w *durable.Work) durable.Outcome {
	var d Delivery
	if err := json.Unmarshal(w.State, &d); err != nil {
		e.log.Error("delivery to a destination cannot be read", "id", w.ID, "err", err)
		return durable.Done(nil)
	}
	d.Body = w.Body
	id, err := e.destination.Deliver(ctx, &d)
	if err == nil {
		e.delivered(d.MappingID)
		return durable.Done(d.sent(Sent{State: SentDelivered, ID: id, Attempts: w.Attempt}))
	}
	failed := Sent{State: SentPending, Attempts: w.Attempt + 1, Error: brief(err.Error())}
	switch {
	case ctx.Err() != nil:
		return durable.Hold(time.Millisecond, nil)
	case errors.Is(err, ErrGone) || w.Attempt >= leastDeliveries && time.Since(w.First) > longestDelivery:
		e.log.Error("delivery to a destination given up", "mapping", d.MappingID, "destination", d.Destination, "err", err)
		failed.State = SentLost
		return durable.Done(d.sent(failed))
	}
	return durable.Retry(backoff(w.Attempt+1), w.State, d.sent(failed))
}

// delivered counts a record that reached a mapping's destination.
func (e *Engine) delivered(mapping string) {
	e.mu.Lock()
	var now runner
	if r := e.mappings[mapping]; r != nil {
		now = r.runner
	}
	e.mu.Unlock()
	if now != nil {
		now.counts().delivered()
	}
}
