package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/queue"
)

const (
	firstWindow = 16 // items of a lane that run at once, to begin with
	turn        = 16 // items that a lane may begin before others have their turn
)

// runner is the part of a queue that decides what runs.
type runner struct {
	mu      sync.Mutex
	started bool
	byName  map[string]*lane // those that have something to run, or run something
	turns   []*lane          // may have something to run, in order of their turns
	free    int              // items that may be begun beside those that run
	wake    chan struct{}
	failed  chan error
}

func newRunner() runner {
	return runner{byName: map[string]*lane{}, wake: make(chan struct{}, 1), failed: make(chan error, 1)}
}

// lane is a lane of which something runs or may run. runner.mu guards it.
type lane struct {
	name    string
	more    bool // there may be something to take
	queued  bool // in turns
	taking  bool // by Run
	running int
	window  int // how many may run
	held    bool
	holds   int // in a row
	turnOf  int // counts holds, so that an old one ends nothing
}

// running is an item that runs.
type running struct {
	Work
	message queue.ID
}

// ready is told that a lane may have something to run.
func (q *Queue) ready(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.started {
		return // Run looks at all lanes
	}
	l := q.laneLocked(name)
	l.more = true
	q.queueLocked(l)
}

func (q *Queue) laneLocked(name string) *lane {
	l := q.byName[name]
	if l == nil {
		l = &lane{name: name, window: min(firstWindow, q.opts.PerLane)}
		q.byName[name] = l
	}
	return l
}

// queueLocked lets l have its turn if there may be something to start, and forgets it if there is nothing to it.
func (q *Queue) queueLocked(l *lane) {
	if l.queued || l.taking || l.held || l.running >= l.window {
		return
	}
	if l.more {
		l.queued = true
		q.turns = append(q.turns, l)
		q.rouse()
	} else if l.running == 0 && q.byName[l.name] == l {
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
	defer q.lanes.Close()
	g := group.New(ctx)
	defer g.Wait()
	defer cancel()
	q.mu.Lock()
	q.free, q.started = q.opts.Parallel, true
	q.mu.Unlock()
	var names []string
	err := q.db.View(ctx, func(r kv.Reader) (err error) {
		names, err = q.lanes.IDs(r)
		return err
	})
	for _, name := range names {
		q.ready(name)
	}
	for err == nil {
		if l, n := q.next(); l != nil {
			err = q.serve(ctx, g, l, n)
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case err = <-q.failed:
		case <-q.wake:
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// next takes the lane whose turn it is, and how many of its items may begin.
func (q *Queue) next() (l *lane, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.free > 0 && len(q.turns) > 0 {
		l := q.turns[0]
		q.turns[0] = nil
		if q.turns = q.turns[1:]; len(q.turns) == 0 {
			q.turns = nil
		}
		l.queued = false
		if n := min(q.free, turn, l.window-l.running); n > 0 && !l.held {
			l.taking, l.more = true, false
			return l, n
		}
	}
	return nil, 0
}

// serve starts up to n items of a lane.
func (q *Queue) serve(ctx context.Context, g *group.Group, l *lane, n int) error {
	ds, err := q.lane(l.name).Take(ctx, queue.Take{Max: n, Volatile: true})
	if err != nil {
		return err
	}
	items := make([]*running, len(ds))
	for i, d := range ds {
		var x note
		if err := json.Unmarshal(d.Note, &x); err != nil {
			return fmt.Errorf("durable: item %s of %s: %w", d.ID, l.name, err)
		}
		items[i] = &running{Work{Lane: l.name, ID: x.ID, Attempt: x.Attempt, First: d.Sent, State: x.State, Body: d.Body}, d.ID}
	}
	if len(ds) == 0 {
		q.lanes.Forget(l.name) // if it is empty
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l.taking = false
	l.more = l.more || len(ds) == n
	l.running += len(ds)
	q.free -= len(ds)
	for _, x := range items {
		g.Go(func(ctx context.Context) { q.run(ctx, g, l, x) })
	}
	q.queueLocked(l)
	return nil
}

// run runs one item and settles it.
func (q *Queue) run(ctx context.Context, g *group.Group, l *lane, x *running) {
	o := q.outcome(ctx, x)
	var err error
	if o.kind != hold {
		err = q.settle(ctx, x, o)
	}
	if err != nil {
		if ctx.Err() == nil {
			select {
			case q.failed <- fmt.Errorf("durable: %s: %w", q.name, err):
			default:
			}
		}
		o = Hold(0, nil)
	}

	q.mu.Lock()
	l.running--
	q.free++
	if o.kind == hold {
		l.window = max(1, l.running)
		if l.running == 0 && ctx.Err() == nil {
			q.restLocked(g, l, o)
		}
		l.more = true
	} else {
		l.held, l.holds = false, 0
		l.turnOf++
		l.window = min(l.window+1, q.opts.PerLane)
	}
	q.mu.Unlock()
	if o.kind == hold {
		q.lane(x.Lane).Release(x.message)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queueLocked(l)
	q.rouse() // one more may run, of any lane
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
func (q *Queue) outcome(ctx context.Context, x *running) (o Outcome) {
	defer func() {
		if p := recover(); p != nil {
			q.log.Error("queued work panicked", "queue", q.name, "lane", x.Lane, "id", x.ID, "panic", p, "stack", string(debug.Stack()))
			o = Retry(min(q.opts.First<<min(x.Attempt, 20), q.opts.Longest), x.State, nil)
		}
	}()
	return q.handle(ctx, &x.Work)
}
