package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// Item is work to add.
type Item struct {
	ID    string          // the same on every run: the idempotency key
	Due   time.Time       // when to run it; zero means at once
	Delay time.Duration   // instead of Due: how long to wait
	State json.RawMessage // small, read with the header; a Retry may replace it
	Body  []byte          // at most kv.MaxValueBytes, read only to run the item
}

// Work is an item that runs.
type Work struct {
	Lane    string
	ID      string
	Attempt int       // earlier runs that ended with Retry
	First   time.Time // when the item was added
	State   json.RawMessage
	Body    []byte
}

// Handler runs one item. It is called concurrently. When ctx ends it should return Hold soon.
type Handler func(ctx context.Context, w *Work) Outcome

// Outcome is what becomes of an item: Done, Retry or Hold.
type Outcome struct {
	kind  kind
	delay time.Duration
	until <-chan struct{}
	state json.RawMessage
	write Write
}

// Write is what an outcome writes in the transaction that settles its item. It may run again, as functions given to kv.Update may.
type Write func(tx kv.Tx) error

type kind int

const (
	hold kind = iota
	done
	retry
)

// Done removes the item. write may be nil.
func Done(write Write) Outcome { return Outcome{kind: done, write: write} }

// Retry keeps the item with a new state and runs it again after a delay. write may be nil.
func Retry(delay time.Duration, state json.RawMessage, write Write) Outcome {
	return Outcome{kind: retry, delay: max(delay, 0), state: state, write: write}
}

// Hold leaves the item as it is and lets its lane rest: until one of the lane's other items that run has ended, or if none runs until
// the delay is over or the channel, which may be nil, is closed. A delay of 0 lets the queue choose: 1 s at first, and twice as
// long after each further Hold in a row, up to 5 minutes.
func Hold(delay time.Duration, until <-chan struct{}) Outcome {
	return Outcome{kind: hold, delay: delay, until: until}
}

// Options bound a queue. Zero values mean the defaults.
type Options struct {
	Parallel int // items that run at once, of all lanes; 128
	PerLane  int // of one lane; Parallel
	// First and Longest bound the waits that Hold chooses; 1 s and 5 min.
	First, Longest time.Duration
	Log            *slog.Logger // nil discards
}

// Queue is a durable queue. Its methods may be called concurrently.
type Queue struct {
	db     kv.DB
	name   string
	handle Handler
	opts   Options
	log    *slog.Logger
	lanes  *queue.Queues // one queue a lane
	runner
}

// New returns the queue of a name, which no other Queue of the store may have. Nothing runs before Run.
func New(db kv.DB, name string, handle Handler, opts Options) *Queue {
	if opts.Parallel <= 0 {
		opts.Parallel = 128
	}
	if opts.PerLane <= 0 {
		opts.PerLane = opts.Parallel
	}
	if opts.First <= 0 {
		opts.First = time.Second
	}
	if opts.Longest <= 0 {
		opts.Longest = 5 * time.Minute
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue{db: db, name: name, handle: handle, opts: opts, log: opts.Log, runner: newRunner()}
	q.lanes = queue.New(db, "work."+name, queue.Options{Window: window, Ready: q.ready})
	return q
}

// window is how many headers of a lane are kept in memory ahead.
const window = 256

// note is what is kept of an item in its header.
type note struct {
	ID      string          `json:"i"`
	Attempt int             `json:"n,omitempty"` // runs that ended with Retry
	State   json.RawMessage `json:"s,omitempty"`
}

func (q *Queue) lane(name string) *queue.Queue { return q.lanes.Queue(name, queue.Standard) }

// Add writes an item in a transaction. It runs after the commit. Add reads nothing, so it conflicts with nothing.
func (q *Queue) Add(tx kv.Tx, lane string, item Item) error {
	n, err := json.Marshal(note{ID: item.ID, State: item.State})
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	delay := item.Delay
	if !item.Due.IsZero() {
		delay = time.Until(item.Due)
	}
	_, err = q.lane(lane).Add(tx, queue.Message{Delay: delay, Note: n, Body: item.Body})
	return err
}

// settle commits an outcome, again and again until the store takes it or ctx ends.
func (q *Queue) settle(ctx context.Context, x *running, o Outcome) (err error) {
	wait := 10 * time.Millisecond
	for {
		// What was decided is written even during a stop: the work is done, and must not be done again for nothing.
		err = q.commit(context.WithoutCancel(ctx), x, o)
		if err == nil || ctx.Err() != nil || errors.Is(err, kv.ErrClosed) {
			return err
		}
		if errors.Is(err, kv.ErrTooLarge) || errors.Is(err, kv.ErrKey) {
			q.log.Error("outcome of queued work cannot be stored: it will run again", "queue", q.name, "lane", x.Lane, "id", x.ID, "err", err)
			o = Retry(q.opts.Longest, x.State, nil)
			continue
		}
		level := slog.LevelError
		if errors.Is(err, kv.ErrFailed) {
			level = slog.LevelDebug // the store tells of it itself
		}
		q.log.Log(ctx, level, "outcome of queued work not stored: trying again", "queue", q.name, "lane", x.Lane, "id", x.ID, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, 5*time.Second)
		}
	}
}

func (q *Queue) commit(ctx context.Context, x *running, o Outcome) error {
	return q.db.Update(ctx, func(tx kv.Tx) (err error) {
		lane, there := q.lane(x.Lane), false
		if o.kind == done {
			there, err = lane.Remove(tx, x.message)
		} else {
			var n []byte
			if n, err = json.Marshal(note{ID: x.ID, Attempt: x.Attempt + 1, State: o.state}); err != nil {
				return err
			}
			there, err = lane.Postpone(tx, x.message, o.delay, n)
		}
		if err != nil || !there || o.write == nil {
			return err // what is not there was settled already
		}
		return o.write(tx)
	})
}
