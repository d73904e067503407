package queue

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Take says what to take.
type Take struct {
	Max        int           // messages; 1
	Visibility time.Duration // how long they are in flight; at 0 they can be taken again at once
	Wait       time.Duration // how long to wait for the first message
	Delay      time.Duration // of a FIFO queue: how long after they were sent messages cannot be taken at first
	Retention  time.Duration // messages that were sent longer ago are removed; 0 keeps all
	InFlight   int           // how many messages may be in flight, at most; 0 means any number
	Bytes      int           // of bodies, after which no further message is taken; 0 means any number. Not of volatile takes

	// Volatile takes are not written: messages are in flight until Release, Remove or Postpone, or until the process ends, and Takes does not count them.
	// Visibility and Dead do not apply.
	Volatile bool

	// Dead is called for each message in the transaction that takes it, and may write in that, to other queues too. If it returns true the
	// message leaves the queue and is not delivered. It may run again, as functions given to kv.Update may.
	Dead func(tx kv.Tx, d *Delivery) (bool, error)
}

// Take takes messages. It waits for the first, not for more: when the wait is over it returns none. The error is ErrInFlight,
// ErrDropped, ctx's or the store's.
func (q *Queue) Take(ctx context.Context, t Take) ([]Delivery, error) {
	var deadline time.Time
	if t.Wait > 0 {
		deadline = time.Now().Add(t.Wait)
	}
	for {
		picked, old, err := q.pick(ctx, &t, deadline)
		if err != nil || len(picked)+len(old) == 0 {
			return nil, err
		}
		var ds []Delivery
		if t.Volatile {
			ds, err = q.read(ctx, picked, old)
		} else {
			ds, err = q.lease(ctx, picked, old, &t)
		}
		if err != nil || len(ds) > 0 {
			return ds, err
		}
	}
}

// pick waits for messages and makes them fly. It returns nothing if there are none by the deadline.
func (q *Queue) pick(ctx context.Context, t *Take, deadline time.Time) (picked, old []*entry, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var timer *time.Timer
	for {
		if err := q.loadLocked(ctx); err != nil {
			return nil, nil, err
		}
		n := max(1, t.Max)
		if t.InFlight > 0 {
			if n = min(n, t.InFlight-q.flying); n <= 0 {
				return nil, nil, ErrInFlight
			}
		}
		now := q.s.opts.now()
		expired, delay := int64(math.MinInt64), time.Duration(0)
		if t.Retention > 0 {
			expired = now.Add(-t.Retention).UnixNano()
		}
		if q.kind == FIFO {
			delay = t.Delay
		}
		picked, old := q.pickLocked(n, expired, now, delay)
		if len(picked) < n && q.moreLocked() {
			err := q.fillLocked(ctx)
			if err == nil && len(picked)+len(old) == 0 {
				continue
			}
			if err == nil {
				p, o := q.pickLocked(n-len(picked), expired, now, delay)
				picked, old = append(picked, p...), append(old, o...)
			} else if len(picked)+len(old) == 0 {
				return nil, nil, err
			} // what there is can be given, and the error comes back
		}
		if len(picked)+len(old) > 0 {
			if len(q.turns) > 0 || q.moreLocked() {
				q.callLocked() // there is more for others
			}
			return picked, old, nil
		}
		wait := time.Until(deadline)
		if deadline.IsZero() || wait <= 0 {
			return nil, nil, nil
		}
		w := &waiter{wake: make(chan struct{})}
		q.waiters = append(q.waiters, w)
		q.armLocked()
		q.mu.Unlock()
		if timer == nil {
			timer = time.NewTimer(wait)
			defer timer.Stop()
		} else {
			timer.Reset(wait)
		}
		select {
		case <-w.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		q.mu.Lock()
		q.leaveLocked(w)
		if err := ctx.Err(); err != nil {
			select {
			case <-w.wake:
				q.callLocked() // for somebody else
			default:
			}
			return nil, nil, err
		}
	}
}

// lease commits that messages are in flight.
func (q *Queue) lease(ctx context.Context, picked, old []*entry, t *Take) ([]Delivery, error) {
	var (
		ds      []Delivery
		leased  []*entry
		updated []entry
		left    []*entry // they are here no more
		removed int      // of them by this transaction
		rest    []*entry // beyond the bytes
		bytes   int
	)
	err := q.s.db.Update(ctx, func(tx kv.Tx) error {
		ds, leased, updated, left, removed = ds[:0], leased[:0], updated[:0], left[:0], 0
		rest, bytes = nil, 0
		for _, e := range old {
			there, err := q.removeRows(tx, e)
			if err != nil {
				return err
			}
			if there {
				removed++
			}
		}
		now := q.s.opts.now()
		for i, e := range picked {
			if t.Bytes > 0 && bytes >= t.Bytes {
				rest = picked[i:]
				break
			}
			body, ok, err := tx.Get(q.bodyKey(e.body))
			if err != nil {
				return err
			}
			if !ok {
				left = append(left, e)
				continue
			}
			bytes += len(body)
			c := *e
			c.takes++
			c.taken, c.visible = now.UnixNano(), now.Add(max(0, t.Visibility)).UnixNano()
			if c.first == 0 {
				c.first = c.taken
			}
			d := c.delivery(body)
			if t.Dead != nil {
				dead, err := t.Dead(tx, &d)
				if err != nil {
					return err
				}
				if dead {
					tx.Delete(q.headerKey(e.id))
					tx.Delete(q.bodyKey(e.body))
					left = append(left, e)
					removed++
					continue
				}
			}
			tx.Set(q.headerKey(e.id), c.encode())
			ds, leased, updated = append(ds, d), append(leased, e), append(updated, c)
		}
		return nil
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		for _, e := range old {
			q.rewindLocked(e)
		}
		for _, e := range picked {
			q.backLocked(e, released)
		}
		return nil, err
	}
	if q.phase == loaded {
		q.total -= removed
	}
	for _, e := range left {
		q.removeLocked(e)
	}
	for _, e := range slices.Backward(rest) {
		q.backLocked(e, released)
	}
	for i, e := range leased {
		if q.entries[e.id] != e || e.state != flying {
			continue // it was deleted meanwhile
		}
		u := &updated[i]
		e.takes, e.first, e.taken, e.visible = u.takes, u.first, u.taken, u.visible
		if t.Visibility <= 0 {
			q.landLocked(e)
		} else {
			q.alarmLocked(e, time.Now().Add(t.Visibility))
		}
	}
	return ds, nil
}

// read delivers messages without a commit.
func (q *Queue) read(ctx context.Context, picked, old []*entry) ([]Delivery, error) {
	var ds []Delivery
	var left []*entry
	err := q.s.db.View(ctx, func(r kv.Reader) error {
		for _, e := range picked {
			_, ok, err := r.Get(q.headerKey(e.id)) // of one that was postponed the body alone is there
			if err != nil {
				return err
			}
			var body []byte
			if ok {
				if body, ok, err = r.Get(q.bodyKey(e.body)); err != nil {
					return err
				}
			}
			if ok {
				ds = append(ds, e.delivery(body))
			} else {
				left = append(left, e)
			}
		}
		return nil
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range old {
		q.rewindLocked(e)
	}
	if err != nil {
		for _, e := range picked {
			q.backLocked(e, released)
		}
		return nil, err
	}
	for _, e := range left {
		q.removeLocked(e)
	}
	return ds, nil
}

func (e *entry) delivery(body []byte) Delivery {
	d := Delivery{ID: e.id, Takes: e.takes, Group: e.group, Sent: time.Unix(0, e.sent), Note: e.note, Body: body}
	if e.first != 0 {
		d.First, d.Visible = time.Unix(0, e.first), time.Unix(0, e.visible)
	}
	return d
}

// removeRows removes a message in a transaction. It reports whether it was there.
func (q *Queue) removeRows(tx kv.Tx, e *entry) (bool, error) {
	_, there, err := tx.Get(q.headerKey(e.id))
	if there {
		tx.Delete(q.headerKey(e.id))
		tx.Delete(q.bodyKey(e.body))
	}
	return there, err
}
