package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Item is work to add.
type Item struct {
	ID    string          // unique in its lane while the item is there: the idempotency key
	Due   time.Time       // when to run it; zero means at once
	Delay time.Duration   // instead of Due: how long to wait
	Added time.Time       // orders items that are due at once; zero means now
	State json.RawMessage // small, read with the header; a Retry may replace it
	Body  []byte          // at most kv.MaxValueBytes, read only to run the item
}

// Ticket names an item that was added, for Wake.
type Ticket struct {
	lane string
	key  []byte
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

// Write is what an outcome writes in the transaction that settles its item. It may run again, as functions given to kv.Update
// may. It returns the tickets of what it added; the queues they are of are woken.
type Write func(tx kv.Tx) ([]Ticket, error)

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
	return &Queue{db: db, name: name, handle: handle, opts: opts, log: opts.Log, runner: newRunner()}
}

// Add writes an item in a transaction. It reads nothing, so it conflicts with nothing. Once that is committed the caller calls Wake.
func (q *Queue) Add(tx kv.Tx, lane string, item Item) (Ticket, error) {
	now := q.now()
	h := header{First: now, State: item.State}
	due := atOnce
	switch {
	case item.Delay > 0:
		h.Written, h.Delay = now, item.Delay
		due = now.Add(item.Delay)
	case !item.Due.IsZero():
		due = item.Due
	}
	added := item.Added
	if added.IsZero() {
		added = now
	}
	key := q.itemKey(lane, due, added, item.ID)
	if err := kv.SetJSON(tx, key, h); err != nil {
		return Ticket{}, err
	}
	tx.Set(q.bodyKey(lane, item.ID), item.Body)
	return Ticket{lane, key}, nil
}

// settle commits an outcome, again and again until the store takes it or ctx ends.
func (q *Queue) settle(ctx context.Context, x *entry, o Outcome) (tickets []Ticket, err error) {
	wait := 10 * time.Millisecond
	for {
		// What was decided is written even during a stop: the work is done, and must not be done again for nothing.
		tickets, err = q.commit(context.WithoutCancel(ctx), x, o)
		if err == nil || ctx.Err() != nil || errors.Is(err, kv.ErrClosed) || errors.Is(err, kv.ErrFailed) {
			return tickets, err
		}
		if errors.Is(err, kv.ErrTooLarge) || errors.Is(err, kv.ErrKey) {
			q.log.Error("outcome of queued work cannot be stored: it will run again", "queue", q.name, "lane", x.lane, "id", x.id, "err", err)
			o = Retry(q.opts.Longest, x.State, nil)
			continue
		}
		q.log.Error("outcome of queued work not stored: trying again", "queue", q.name, "lane", x.lane, "id", x.id, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, 5*time.Second)
		}
	}
}

func (q *Queue) commit(ctx context.Context, x *entry, o Outcome) (tickets []Ticket, err error) {
	err = q.db.Update(ctx, func(tx kv.Tx) error {
		tickets = nil
		if _, there, err := tx.Get(x.key); err != nil || !there {
			return err // settled already
		}
		tx.Delete(x.key)
		if o.kind == done {
			tx.Delete(q.bodyKey(x.lane, x.id))
		} else {
			t, err := q.postpone(tx, x, x.Attempt+1, o.delay, o.state)
			if err != nil {
				return err
			}
			tickets = append(tickets, t)
		}
		if o.write == nil {
			return nil
		}
		more, err := o.write(tx)
		tickets = append(tickets, more...)
		return err
	})
	return tickets, err
}

// postpone writes the header of an item whose delay begins now.
func (q *Queue) postpone(tx kv.Tx, x *entry, attempt int, delay time.Duration, state json.RawMessage) (Ticket, error) {
	now := q.now()
	key := q.itemKey(x.lane, now.Add(delay), x.added, x.id)
	err := kv.SetJSON(tx, key, header{Attempt: attempt, First: x.First, Written: now, Delay: delay, State: state})
	return Ticket{x.lane, key}, err
}

// body reads the body of an item. It reports false if the item is gone.
func (q *Queue) body(ctx context.Context, x *entry) (b []byte, ok bool, err error) {
	err = q.db.View(ctx, func(r kv.Reader) error {
		b, ok, err = r.Get(q.bodyKey(x.lane, x.id))
		return err
	})
	if err != nil {
		err = fmt.Errorf("durable: body of %s in %s: %w", x.id, x.lane, err)
	}
	return b, ok, err
}
