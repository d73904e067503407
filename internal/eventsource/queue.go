package eventsource

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// How AWS scales the pollers of a queue: batches in flight at first and at most, and how many more each second while all are busy.
const (
	firstPollers     = 5
	mostPollers      = 1250
	growth           = 300.0 / 60
	provisionedPer   = 10 // batches of one provisioned poller
	provisionedSpeed = 1000.0 / 60

	describeEvery  = time.Minute      // how long a queue's attributes are believed
	visibilitySlop = 30 * time.Second // added to window and timeout of the function
)

// queue runs a mapping whose source is a Queue. Each poller is a goroutine that takes a batch, sees it through, and takes the next, until it finds nothing.
type queue struct {
	engine  *Engine
	mapping atomic.Pointer[Mapping]
	source  Queue
	tally   tally
	recent  recent
	cancel  func()        // of the registration with a Waker
	bell    chan struct{} // rings for the poller that waits for a batch to fill

	turnstile turnstile

	arrived atomic.Bool

	mu         sync.Mutex
	active     bool
	began      time.Time
	done       chan struct{} // closed by stop
	pollers    int
	collecting bool    // a poller waits for a batch to fill
	ceiling    float64 // how many pollers there may be now
	since      time.Time
	groups     map[string][]*batch // that are in flight, with what was taken of them meanwhile
	paused     time.Time           // take nothing before
	misreads   int                 // Takes in a row that failed
	refusals   int                 // invocations in a row that the service refused
	timer      *time.Timer
	times      []time.Time // when to look again, in order; the timer is set for the first
	visibility time.Duration
	described  time.Time
	running    sync.WaitGroup
}

func (q *queue) counts() *tally { return &q.tally }

func (q *queue) shardStatus(time.Time) []ShardStatus { return nil }

func (q *queue) start() {
	q.mu.Lock()
	q.active, q.done, q.began = true, make(chan struct{}), time.Now()
	q.mu.Unlock()
	if w, ok := q.source.(Waker); ok {
		q.cancel = w.OnArrival(func(string) { q.poll() })
	}
	q.poll()
}

func (q *queue) stop() {
	if q.cancel != nil {
		q.cancel()
	}
	q.mu.Lock()
	q.active = false
	close(q.done)
	if q.timer != nil {
		q.timer.Stop()
	}
	q.mu.Unlock()
	q.running.Wait()
	q.tally.last.flush()
}

func (q *queue) set(m *Mapping) {
	q.mapping.Store(m)
	q.mu.Lock()
	q.paused = time.Time{} // what there was trouble with may be another now
	q.mu.Unlock()
	q.poll()
}

// poll looks for messages, now or when there may be another poller.
func (q *queue) poll() {
	q.arrived.Store(true)
	select {
	case q.bell <- struct{}{}:
	default:
	}
	q.mu.Lock()
	q.add()
	q.mu.Unlock()
}

// limits are how many pollers a mapping begins with, may have, and gains each second.
func (m *Mapping) limits() (first, most, speed float64) {
	first, most, speed = firstPollers, mostPollers, growth
	if m.MaxPollers > 0 {
		first, most, speed = float64(max(m.MinPollers, 1)*provisionedPer), float64(m.MaxPollers*provisionedPer), provisionedSpeed
	}
	if m.MaxConcurrency > 0 {
		most = float64(m.MaxConcurrency)
	}
	return min(first, most), most, speed
}

// add starts a poller if there may be one more. mu is held.
func (q *queue) add() {
	now := time.Now()
	if !q.active || q.collecting {
		return
	}
	if now.Before(q.paused) {
		q.at(q.paused)
		return
	}
	first, most, speed := q.mapping.Load().limits()
	if q.pollers == 0 && q.ceiling < first {
		q.ceiling = first
	}
	if float64(q.pollers+1) > q.ceiling {
		// All are busy, and have been since.
		if q.since.IsZero() {
			q.since = now
		}
		q.ceiling = min(q.ceiling+speed*now.Sub(q.since).Seconds(), most)
		q.since = now
		if float64(q.pollers+1) > q.ceiling {
			if float64(q.pollers+1) <= most {
				q.at(now.Add(time.Duration(float64(time.Second) / speed)))
			}
			return
		}
	} else {
		q.since = time.Time{}
	}
	q.ceiling = min(q.ceiling, most)
	q.pollers++
	q.running.Add(1)
	if !q.engine.spawn(func(ctx context.Context) {
		defer q.running.Done()
		q.run(ctx)
	}) {
		q.running.Done()
		q.pollers--
	}
}

// at looks for messages again at a time, or up to 50 ms later. mu is held.
func (q *queue) at(t time.Time) {
	const grain = 50 * time.Millisecond
	t = q.began.Add((t.Sub(q.began) + grain - 1).Truncate(grain)) // by the monotonic clock: the other one may be set meanwhile
	i, found := slices.BinarySearchFunc(q.times, t, time.Time.Compare)
	if !q.active || found {
		return
	}
	q.times = slices.Insert(q.times, i, t)
	if i == 0 {
		q.arm()
	}
}

// arm sets the timer for the first of times. mu is held.
func (q *queue) arm() {
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	if len(q.times) == 0 {
		q.times = nil
		return
	}
	q.timer = time.AfterFunc(time.Until(q.times[0]), func() {
		q.mu.Lock()
		if !q.active {
			q.mu.Unlock()
			return
		}
		now, n := time.Now(), 0
		for n < len(q.times) && !q.times[n].After(now) {
			n++
		}
		q.times = q.times[n:]
		q.arm()
		q.mu.Unlock()
		q.poll()
	})
}

// run is a poller.
func (q *queue) run(ctx context.Context) {
	for {
		m := q.mapping.Load()
		q.arrived.Store(false)
		b, err := q.collect(ctx, m)
		q.mu.Lock()
		if err != nil && ctx.Err() == nil {
			q.misreads++
			q.paused = time.Now().Add(readBackoff(q.misreads))
			q.at(q.paused)
			q.tally.trouble(err)
		}
		if b == nil || len(b.records) == 0 {
			if b != nil && b.again || err == nil && q.arrived.Load() && q.active && !q.collecting && !time.Now().Before(q.paused) && float64(q.pollers) <= q.ceiling {
				q.mu.Unlock()
				continue
			}
			q.pollers--
			if q.pollers == 0 {
				q.ceiling, q.since = 0, time.Time{}
			}
			q.mu.Unlock()
			return
		}
		q.misreads = 0
		q.add() // there may be more
		q.mu.Unlock()
		b.process(ctx)
		_, most, _ := q.mapping.Load().limits()
		q.mu.Lock()
		q.ceiling = min(q.ceiling, most)
		if !q.active || float64(q.pollers) > q.ceiling || time.Now().Before(q.paused) {
			q.pollers--
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
	}
}

// describe returns the queue's visibility timeout, as it was a minute ago at most.
func (q *queue) describe(ctx context.Context) (time.Duration, error) {
	q.mu.Lock()
	v, fresh := q.visibility, !q.described.IsZero() && time.Since(q.described) < describeEvery
	q.mu.Unlock()
	if fresh {
		return v, nil
	}
	v, _, err := q.source.Describe(ctx)
	if err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if q.described.IsZero() {
		q.at(now.Add(v)) // what was in flight when the engine was killed appears again then
	}
	q.visibility, q.described = v, now
	return v, nil
}

// collect takes messages until the batch is full or its window over; nil or an empty batch if there are none. Messages that the filter does not
// take are deleted and do not count.
func (q *queue) collect(ctx context.Context, m *Mapping) (*batch, error) {
	visibility, err := q.describe(ctx)
	if err != nil {
		return nil, err
	}
	b := &batch{queue: q, m: m, visibility: visibility, taken: time.Now()}
	hidden := time.Duration(0)
	if m.Window > 0 {
		q.mu.Lock()
		if q.collecting {
			q.mu.Unlock()
			return nil, nil
		}
		q.collecting = true
		q.mu.Unlock()
		defer func() {
			q.mu.Lock()
			q.collecting = false
			q.mu.Unlock()
		}()
		if m.Timeout > 0 && m.Window+m.Timeout > visibility {
			hidden = m.Window + m.Timeout + visibilitySlop
			b.visibility = hidden
		}
	}
	var over <-chan time.Time
	for {
		found, err := q.source.Take(ctx, m.BatchSize-len(b.records), hidden)
		if err != nil {
			b.release(ctx)
			return nil, err
		}
		q.tally.read(len(found))
		kept := b.filter(ctx, found)
		b.again = len(found) > 0
		if b.add(kept); b.full() || m.Window == 0 {
			return b, nil
		}
		if len(b.records) == 0 {
			if len(found) > 0 {
				continue
			}
			return b, nil
		}
		if over == nil {
			b.taken = time.Now()
			timer := time.NewTimer(m.Window)
			defer timer.Stop()
			over = timer.C
		}
		if len(found) > 0 {
			select {
			case <-over:
				return b, nil
			default:
				continue
			}
		}
		select {
		case <-q.bell:
		case <-over:
			return b, nil
		case <-q.done:
			b.release(ctx)
			return nil, nil
		case <-ctx.Done():
			b.release(ctx)
			return nil, ctx.Err()
		}
	}
}

// batch is messages that were taken.
type batch struct {
	queue      *queue
	m          *Mapping
	records    []Record
	bytes      int
	again      bool // the last Take found something, if only for the filter
	taken      time.Time
	visibility time.Duration
	groups     []string          // that it holds
	blocked    map[string]string // groups of which a message was left, by the first one: what follows it waits, too
	whole      *Split            // the batch, once a failure has split it
}

func (b *batch) add(records []Record) {
	b.records = append(b.records, records...)
	b.bytes += size(records)
}

func (b *batch) full() bool {
	return len(b.records) >= b.m.BatchSize || b.bytes >= MaxPayload-envelope
}

// filter deletes the messages that the mapping's filter does not take, and returns the others.
func (b *batch) filter(ctx context.Context, found []Record) []Record {
	if b.m.Filter == nil || len(found) == 0 {
		return found
	}
	var kept, rest []Record
	for i := range found {
		if b.m.Filter.Match(&found[i]) {
			kept = append(kept, found[i])
		} else {
			rest = append(rest, found[i])
		}
	}
	if len(rest) > 0 {
		b.queue.tally.filtered(len(rest))
		b.queue.recent.note(rest, Outcome{State: Filtered}, b.queue.engine.kept())
		b.delete(ctx, rest)
	}
	return kept
}

// release returns messages at once that the function will not get now.
func (b *batch) release(ctx context.Context) {
	if len(b.records) > 0 {
		if err := b.queue.source.Hide(context.WithoutCancel(ctx), b.records, 0); err != nil {
			b.queue.engine.log.Debug("messages not returned: they appear again after their visibility timeout", "mapping", b.m.ID, "err", err)
		}
		b.records = nil
	}
}

// delete deletes messages. Those that cannot be deleted appear again.
func (b *batch) delete(ctx context.Context, records []Record) {
	ctx = context.WithoutCancel(ctx)
	var err error
	for n := range 3 {
		if err = b.queue.source.Delete(ctx, records); err == nil {
			b.queue.tally.deleted(len(records))
			return
		}
		if errors.Is(err, ErrGone) {
			return
		}
		time.Sleep(backoff(n + 1))
	}
	b.queue.engine.log.Warn("messages not deleted: they will be processed again", "mapping", b.m.ID, "messages", len(records), "err", err)
	b.queue.tally.trouble(err)
}

// hold takes the groups of the batch, and sets messages aside whose group is in flight: they became visible while the function has the group, since their
// visibility timeout was too short for it or somebody ended it.
func (b *batch) hold() {
	q := b.queue
	var behind []Record
	defer func() {
		if len(behind) > 0 {
			q.recent.note(behind, Outcome{State: Waiting, Why: "the function has other messages of its group"}, q.engine.kept())
		}
	}()
	q.mu.Lock()
	defer q.mu.Unlock()
	aside := map[string]*batch{}
	b.records = slices.DeleteFunc(b.records, func(r Record) bool {
		if r.Key == "" || slices.Contains(b.groups, r.Key) {
			return false
		}
		waiting, held := q.groups[r.Key]
		if !held {
			q.groups[r.Key] = nil
			b.groups = append(b.groups, r.Key)
			return false
		}
		if aside[r.Key] == nil {
			aside[r.Key] = &batch{queue: q, m: b.m, taken: b.taken, visibility: b.visibility}
			q.groups[r.Key] = append(waiting, aside[r.Key])
			q.at(b.taken.Add(b.visibility))
		}
		aside[r.Key].records = append(aside[r.Key].records, r)
		behind = append(behind, r)
		return true
	})
}

// unhold lets the groups go, and returns what was taken of them meanwhile.
func (b *batch) unhold() (waiting []*batch) {
	q := b.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, g := range b.groups {
		waiting = append(waiting, q.groups[g]...)
		delete(q.groups, g)
	}
	return waiting
}

// process sees a batch through, and what was taken of its groups meanwhile: every message is deleted, given up, or left to appear again.
func (b *batch) process(ctx context.Context) {
	for todo := []*batch{b}; len(todo) > 0; {
		next := todo[0]
		if next != b && !next.inTime(ctx) {
			next.release(ctx)
			b.queue.poll()
			todo = todo[1:]
			continue
		}
		next.hold()
		next.through(ctx)
		todo = append(todo[1:], next.unhold()...)
	}
}

// inTime reports whether a batch that waited may still be invoked, and the function has its time before the messages appear again.
func (b *batch) inTime(ctx context.Context) bool {
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	return b.queue.active && ctx.Err() == nil && time.Since(b.taken)+b.m.Timeout <= b.visibility
}

func (b *batch) through(ctx context.Context) {
	if n := slices.IndexFunc(b.records, b.expired); n >= 0 {
		var old []Record
		b.records = slices.DeleteFunc(slices.Clone(b.records), func(r Record) bool {
			if b.expired(r) {
				old = append(old, r)
				return true
			}
			return false
		})
		b.lose(ctx, &loss{records: old, condition: expired, invokes: 1})
	}
	if len(b.records) > 0 {
		b.queue.recent.note(b.records, Outcome{State: InFlight}, b.queue.engine.kept())
	}
	// What does not fit in one event is invoked in several.
	for rest := b.records; len(rest) > 0; {
		n, bytes := 0, 0
		for n < len(rest) && (n == 0 || bytes+len(rest[n].JSON)+1 <= MaxPayload-envelope) {
			bytes += len(rest[n].JSON) + 1
			n++
		}
		b.whole = nil
		if !b.invoke(ctx, rest[:n]) {
			b.abandon(ctx, rest[n:])
			return
		}
		rest = rest[n:]
	}
}

// invokeHalves invokes the function with the halves of some messages.
func (b *batch) invokeHalves(ctx context.Context, records []Record) bool {
	half := len(records) / 2
	if !b.invoke(ctx, records[:half]) {
		b.abandon(ctx, records[half:])
		return false
	}
	return b.invoke(ctx, records[half:])
}

// abandon returns messages with which it is of no use to go on: at once if the mapping or the engine stops, and else with those before them.
func (b *batch) abandon(ctx context.Context, records []Record) {
	stopping := ctx.Err() != nil
	select {
	case <-b.queue.done:
		stopping = true
	default:
	}
	if stopping {
		b.records = records
		b.release(ctx)
		return
	}
	b.leave(records, Outcome{State: Waiting, Why: "the function could not be invoked with what was taken before it"})
}

// expired reports whether a message is older than the mapping allows.
func (b *batch) expired(r Record) bool {
	return b.m.MaxAge > 0 && time.Since(r.Arrival) >= b.m.MaxAge
}

// invoke invokes the function with some of the messages. It reports false if it is of no use to go on with others.
func (b *batch) invoke(ctx context.Context, records []Record) bool {
	q := b.queue
	if len(b.blocked) > 0 {
		behind := map[string][]Record{}
		records = slices.DeleteFunc(slices.Clone(records), func(r Record) bool {
			first := b.blocked[r.Key]
			if first != "" {
				behind[first] = append(behind[first], r)
			}
			return first != ""
		})
		for first, some := range behind {
			b.leave(some, Outcome{State: Waiting, Behind: first, Why: "a message before it in its group failed"})
		}
		if len(records) == 0 {
			return true
		}
	}
	payload, trace := event(records), trace(records)
	for n := 1; ; n++ {
		if n > 1 {
			q.recent.note(records, Outcome{State: InFlight, Split: b.whole}, q.engine.kept())
		}
		q.tally.begin(len(records), n > 1 || records[0].Receives > 1)
		answer, err := q.engine.invoker.Invoke(ctx, b.m, trace, payload)
		q.tally.end()
		if err == nil {
			q.mu.Lock()
			q.refusals = 0
			q.mu.Unlock()
			b.settle(ctx, records, answer)
			return true
		}
		if ctx.Err() != nil {
			b.records = records
			b.release(ctx)
			return false
		}
		q.tally.problem(err)
		if (tooLarge(err) || looping(err)) && len(records) > 1 {
			return b.invokeHalves(ctx, records)
		}
		if looping(err) { // alone: the others go on
			b.drop(ctx, records[0], err)
			return true
		}
		// Other batches wait too; so does this one, for as long as there is time left for the function before its messages appear again.
		wait, left, freed := troubleBackoff(n), b.visibility/2-time.Since(b.taken), freedOf(err)
		if freed != nil {
			wait = min(heldFor, left)
		}
		q.mu.Lock()
		if throttled(err) {
			q.ceiling, q.since = max(q.ceiling/2, 1), time.Now()
		} else if !tooLarge(err) {
			q.refusals++
			q.paused = time.Now().Add(min(time.Second<<min(q.refusals-1, 6), time.Minute))
			q.at(q.paused)
		}
		q.mu.Unlock()
		state := Failed
		if throttled(err) {
			state = Throttled
		}
		if state == Failed || wait > left || left <= 0 {
			b.leave(records, Outcome{State: state, Error: explained(err)})
			return false
		}
		q.recent.note(records, Outcome{State: Throttled, Error: explained(err), Next: time.Now().Add(wait).UTC(), Split: b.whole}, q.engine.kept())
		if !q.hold(ctx, b, freed, wait) {
			b.records = records
			b.release(ctx)
			return false
		}
	}
}

// hold waits with a batch that was refused until another try may help, and for a time at most. It reports false if the mapping stops.
func (q *queue) hold(ctx context.Context, b *batch, freed <-chan struct{}, most time.Duration) bool {
	pass := make(chan struct{})
	if freed != nil {
		q.turnstile.wait(q.engine.spawn, q.done, freed, b, func() { close(pass) })
		defer q.turnstile.leave(b)
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-pass:
	case <-timer.C:
	case <-q.done:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// settle applies an answer to the messages of an invocation.
func (b *batch) settle(ctx context.Context, records []Record, a *Answer) {
	q := b.queue
	if a.FunctionError == "" {
		r, err := parseAnswer(a.Payload, b.m.ReportItemFailures, false)
		var ok, bad []Record
		if err == nil {
			ok, bad, err = r.divide(records)
		}
		if err == nil {
			q.tally.ok(len(bad))
			if len(ok) > 0 {
				q.recent.note(ok, Outcome{State: Processed, RequestID: a.RequestID, Split: b.whole}, q.engine.kept())
				b.delete(ctx, ok)
			}
			b.fail(ctx, bad, a, "the function reported this message in batchItemFailures")
			return
		}
		q.tally.failed(len(records), err.Error())
		b.split(ctx, records, a, err.Error())
		return
	}
	message := brief(string(a.Payload))
	q.tally.failed(len(records), message)
	b.split(ctx, records, a, message)
}

// split invokes the halves of a batch that failed, if the mapping says so, and otherwise leaves it.
func (b *batch) split(ctx context.Context, records []Record, a *Answer, message string) {
	if !b.m.Bisect || len(records) == 1 || ctx.Err() != nil {
		b.fail(ctx, records, a, message)
		return
	}
	b.queue.tally.bisected()
	if b.whole == nil {
		b.whole = &Split{First: records[0].ID, Last: records[len(records)-1].ID, Records: len(records)}
	}
	half := len(records) / 2
	for _, at := range []int{0, half} {
		part := records[at:]
		// Each half has the whole visibility timeout for itself, and the other one waits hidden.
		if err := b.queue.source.Hide(ctx, part, b.visibility); err != nil {
			b.fail(ctx, part, a, message)
			return
		}
		if at == 0 {
			part = records[:half]
		}
		b.taken = time.Now()
		if !b.invoke(ctx, part) {
			if at == 0 {
				b.abandon(ctx, records[half:])
			}
			return
		}
	}
}

// fail gives up those of some messages that were received too often, and leaves the others to appear again.
func (b *batch) fail(ctx context.Context, records []Record, a *Answer, message string) {
	var over, left []Record
	for _, r := range records {
		if b.m.MaxRetries >= 0 && r.Receives > b.m.MaxRetries {
			over = append(over, r)
		} else {
			left = append(left, r)
		}
	}
	if len(over) > 0 {
		b.lose(ctx, &loss{records: over, condition: exhausted, invokes: over[0].Receives, request: a.RequestID, response: answered(a), message: message})
	}
	b.leave(left, Outcome{State: Failed, RequestID: a.RequestID, Error: message})
}

// drop gives a message up that is part of a loop, if the mapping says how often it may be tried, and otherwise leaves it to the queue's redrive policy.
func (b *batch) drop(ctx context.Context, r Record, err error) {
	b.queue.tally.looped()
	b.queue.engine.log.Warn("recursive loop stopped", "mapping", b.m.ID, "function", b.m.FunctionARN, "message", r.ID, "receives", r.Receives)
	if b.m.MaxRetries >= 0 && r.Receives > b.m.MaxRetries {
		b.lose(ctx, &loss{records: []Record{r}, condition: recursive, invokes: r.Receives, message: err.Error()})
		return
	}
	b.leave([]Record{r}, Outcome{State: Failed, Condition: recursive, Error: explained(err)})
}

// trace is the trace header of the invocation that gets some messages.
func trace(records []Record) string {
	if len(records) == 1 {
		return records[0].Trace
	}
	traces := make([]string, len(records))
	for i := range records {
		traces[i] = records[i].Trace
	}
	return call.JoinTraces(traces)
}

// leave lets messages appear again after their visibility timeout.
func (b *batch) leave(records []Record, o Outcome) {
	if len(records) == 0 {
		return
	}
	for i := range records {
		if key := records[i].Key; key != "" && b.blocked[key] == "" {
			if b.blocked == nil {
				b.blocked = map[string]string{}
			}
			b.blocked[key] = records[i].ID
		}
	}
	o.Split = b.whole
	o.Next = b.taken.Add(b.visibility)
	b.queue.recent.note(records, o, b.queue.engine.kept())
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	b.queue.at(o.Next)
}

// lose gives messages up: what their destination gets is stored, then they are deleted.
func (b *batch) lose(ctx context.Context, x *loss) {
	if len(x.records) == 0 {
		return
	}
	q, now := b.queue, time.Now()
	x.split = b.whole
	fates := b.m.fates("", []*loss{x}, now)
	var deliveries []*Delivery
	if d := b.m.delivery("", x, now); d != nil {
		deliveries = append(deliveries, d)
	}
	err := q.engine.db.Update(context.WithoutCancel(ctx), func(tx kv.Tx) error { return q.engine.store(tx, b.m.ID, fates, deliveries) })
	if err != nil {
		q.engine.log.Error("messages that were given up not stored: they appear again", "mapping", b.m.ID, "err", err)
		b.leave(x.records, Outcome{State: Failed, Error: x.message})
		return
	}
	q.tally.dropped(len(x.records))
	q.recent.note(x.records, Outcome{State: Dropped, Condition: x.condition, RequestID: x.request, Error: x.message, Destination: b.m.OnFailure, Split: b.whole}, q.engine.kept())
	b.delete(ctx, x.records)
}
