package durable

import (
	"bytes"
	"container/heap"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	firstWindow = 16          // items of a lane that run at once, to begin with
	turn        = 16          // items that a lane may begin before others have their turn
	longestNap  = time.Minute // after that the clock is looked at again
	clockSlack  = time.Second // a clock that is less behind was not set back
)

// runner is the part of a queue that lives in memory.
type runner struct {
	now func() time.Time

	mu      sync.Mutex
	byName  map[string]*lane // those that have items, as far as known
	ready   []*lane          // have to be read, in order of their turns
	later   timetable        // whose first item is due later
	running int              // items of all lanes

	looked   time.Time // when the clock was last looked at, for its monotonic part
	lookedAt time.Time // what it said

	wake   chan struct{}
	failed chan error
}

func newRunner() runner {
	return runner{now: time.Now, byName: map[string]*lane{}, wake: make(chan struct{}, 1), failed: make(chan error, 1)}
}

// lane is what is known of a lane's rows. runner.mu guards it, and only Run reads rows.
type lane struct {
	name    string
	cursor  []byte            // nothing before this key waits; nil is the beginning
	woken   []byte            // first key added since the last read; nil if none
	more    bool              // there may be due items behind cursor
	at      time.Time         // when the first item is due; zero if none is known
	index   int               // in later, -1 if not there
	queued  bool              // in ready
	reading bool              // by Run
	running map[string]*entry // by key
	window  int               // how many may run
	held    bool
	holds   int // in a row
	turnOf  int // counts holds, so that an old one ends nothing
}

// Wake looks at items whose transaction has been committed. Tickets may be of any queue's Add, of this one only those count.
func (q *Queue) Wake(tickets ...Ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range tickets {
		if t.key == nil || !q.laneRange(t.lane).Contains(t.key) {
			continue
		}
		l := q.laneLocked(t.lane)
		if l.woken == nil || bytes.Compare(t.key, l.woken) < 0 {
			l.woken = t.key
		}
		q.queueLocked(l)
	}
}

func (q *Queue) laneLocked(name string) *lane {
	l := q.byName[name]
	if l == nil {
		l = &lane{name: name, index: -1, running: map[string]*entry{}, window: min(firstWindow, q.opts.PerLane)}
		q.byName[name] = l
	}
	return l
}

// queueLocked lets l have its turn if there may be something to start, and forgets it if there is nothing to it.
func (q *Queue) queueLocked(l *lane) {
	if l.queued || l.reading || l.held || len(l.running) >= l.window {
		return
	}
	switch {
	case l.more || l.woken != nil:
		l.queued = true
		q.ready = append(q.ready, l)
		q.rouse()
	case len(l.running) == 0 && l.at.IsZero():
		delete(q.byName, l.name)
	}
}

func (q *Queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run gives what is due to the handler until ctx ends; then it waits for the handlers that run. It returns an error only if the store
// fails. It may be called once.
func (q *Queue) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := group.New(ctx)
	defer g.Wait()
	defer cancel()
	var names []string
	err := q.db.View(ctx, func(r kv.Reader) (err error) {
		names, err = q.lanes(r)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	q.mu.Lock()
	for _, name := range names {
		l := q.laneLocked(name)
		l.more, l.cursor = true, nil
		q.queueLocked(l)
	}
	q.mu.Unlock()

	timer := time.NewTimer(longestNap)
	defer timer.Stop()
	for {
		l, n := q.next()
		if l != nil {
			if err := q.serve(ctx, g, l, n); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			continue
		}
		var due <-chan time.Time
		if nap, some := q.nap(); some {
			timer.Reset(nap)
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-q.failed:
			return err
		case <-q.wake:
		case <-due:
		}
	}
}

// next takes the lane whose turn it is, and how many of its items may begin.
func (q *Queue) next() (l *lane, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now().Round(0)
	if since := time.Since(q.looked); !q.looked.IsZero() && now.Before(q.lookedAt.Add(since-clockSlack)) {
		now = q.later.last() // the clock was set back: all lanes are read again, and their delays begin anew
	}
	q.looked, q.lookedAt = time.Now(), q.now().Round(0)
	for len(q.later) > 0 && !q.later[0].at.After(now) {
		l := q.later[0]
		heap.Remove(&q.later, 0)
		l.at, l.more = time.Time{}, true
		q.queueLocked(l)
	}
	free := q.opts.Parallel - q.running
	if free <= 0 {
		return nil, 0
	}
	for len(q.ready) > 0 {
		l := q.ready[0]
		q.ready[0] = nil
		if q.ready = q.ready[1:]; len(q.ready) == 0 {
			q.ready = nil
		}
		l.queued = false
		if n := min(free, turn, l.window-len(l.running)); n > 0 && !l.held {
			l.reading = true
			return l, n
		}
	}
	return nil, 0
}

// nap is how long nothing becomes due. It reports false if nothing will.
func (q *Queue) nap() (time.Duration, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.later) == 0 {
		return 0, false
	}
	return min(max(0, q.later[0].at.Sub(q.now())), longestNap), true
}

// serve reads a lane and starts up to n of its items.
func (q *Queue) serve(ctx context.Context, g *group.Group, l *lane, n int) error {
	q.mu.Lock()
	rg := q.laneRange(l.name)
	if l.woken != nil && bytes.Compare(l.woken, l.cursor) < 0 {
		l.cursor = l.woken
	}
	l.woken, l.more = nil, false
	if l.cursor != nil {
		rg.Start = l.cursor
	}
	if l.index >= 0 {
		heap.Remove(&q.later, l.index)
		l.at = time.Time{}
	}
	busy := make(map[string]bool, len(l.running))
	for k := range l.running {
		busy[k] = true
	}
	q.mu.Unlock()

	var (
		due    []*entry
		first  *entry // that is not due
		cursor []byte
		more   bool
	)
	now := q.now()
	err := q.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(rg) {
			if err != nil {
				return err
			}
			if busy[string(e.Key)] {
				cursor = append(slices.Clip(e.Key), 0)
				continue
			}
			x, err := readEntry(e)
			if err != nil {
				return err
			}
			if x.due.After(now) {
				first = x
				return nil
			}
			if len(due) == n {
				more = true
				return nil
			}
			due = append(due, x)
			cursor = append(slices.Clip(e.Key), 0)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if first != nil && first.Delay > 0 && first.Written.After(now.Add(clockSlack)) {
		if err := q.again(ctx, first); err != nil {
			return err
		}
		first, more = nil, true
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	l.reading = false
	if cursor != nil {
		l.cursor = cursor
	}
	l.more = l.more || more
	if first != nil {
		l.at = first.due
		heap.Push(&q.later, l)
	}
	for _, x := range due {
		l.running[string(x.key)] = x
		q.running++
		g.Go(func(ctx context.Context) { q.run(ctx, g, l, x) })
	}
	q.queueLocked(l)
	return nil
}

// again lets the delay of an item begin anew, since the clock was set back over its beginning.
func (q *Queue) again(ctx context.Context, x *entry) error {
	return q.db.Update(ctx, func(tx kv.Tx) error {
		if _, there, err := tx.Get(x.key); err != nil || !there {
			return err
		}
		tx.Delete(x.key)
		_, err := q.postpone(tx, x, x.Attempt, x.Delay, x.State)
		return err
	})
}

// run runs one item and settles it.
func (q *Queue) run(ctx context.Context, g *group.Group, l *lane, x *entry) {
	o, err := q.outcome(ctx, x)
	var tickets []Ticket
	if err == nil && o.kind != hold {
		tickets, err = q.settle(ctx, x, o)
	}
	if err != nil && ctx.Err() == nil {
		select {
		case q.failed <- fmt.Errorf("durable: %s: %w", q.name, err):
		default:
		}
	}
	if err != nil {
		o = Hold(0, nil)
	}

	q.mu.Lock()
	delete(l.running, string(x.key))
	q.running--
	if o.kind == hold {
		if l.woken == nil || bytes.Compare(x.key, l.woken) < 0 {
			l.woken = x.key // it waits again
		}
		l.window = max(1, len(l.running))
		if len(l.running) == 0 && ctx.Err() == nil {
			q.restLocked(g, l, o)
		}
	} else {
		l.held, l.holds = false, 0
		l.turnOf++
		l.window = min(l.window+1, q.opts.PerLane)
	}
	q.queueLocked(l)
	q.rouse() // one more may run, of any lane
	q.mu.Unlock()
	q.Wake(tickets...)
}

// restLocked holds a lane.
func (q *Queue) restLocked(g *group.Group, l *lane, o Outcome) {
	delay := o.delay
	if delay <= 0 {
		delay = q.opts.First << min(l.holds, 20)
		delay = min(delay, q.opts.Longest)
	}
	l.held = true
	l.holds++
	l.turnOf++
	mine := l.turnOf
	g.Go(func(ctx context.Context) {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-o.until:
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if l.turnOf == mine {
			l.held = false
			q.queueLocked(l)
		}
	})
}

// outcome calls the handler. What panics is tried again.
func (q *Queue) outcome(ctx context.Context, x *entry) (o Outcome, err error) {
	body, ok, err := q.body(ctx, x)
	if err != nil {
		return o, err
	}
	if !ok {
		return Done(nil), nil
	}
	defer func() {
		if p := recover(); p != nil {
			q.log.Error("queued work panicked", "queue", q.name, "lane", x.lane, "id", x.id, "panic", p, "stack", string(debug.Stack()))
			o, err = Retry(min(q.opts.First<<min(x.Attempt, 20), q.opts.Longest), x.State, nil), nil
		}
	}()
	return q.handle(ctx, &Work{Lane: x.lane, ID: x.id, Attempt: x.Attempt, First: x.First, State: x.State, Body: body}), nil
}

// timetable is a heap of lanes by the time when they are due.
type timetable []*lane

// last is the latest time.
func (t timetable) last() (at time.Time) {
	for _, l := range t {
		if l.at.After(at) {
			at = l.at
		}
	}
	return at
}

func (t timetable) Len() int           { return len(t) }
func (t timetable) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timetable) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}
func (t *timetable) Push(x any) {
	l := x.(*lane)
	l.index = len(*t)
	*t = append(*t, l)
}
func (t *timetable) Pop() any {
	old := *t
	l := old[len(old)-1]
	old[len(old)-1] = nil
	l.index = -1
	*t = old[:len(old)-1]
	return l
}
