package queue

import (
	"container/heap"
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Delete removes messages that were taken, all in one transaction. The errors are one for each lease: nil if the message is not there any
// more, or ErrLease. A standard queue removes it whichever take the lease is of; a FIFO queue only while the message is in flight
// with this lease.
func (q *Queue) Delete(ctx context.Context, leases ...Lease) ([]error, error) {
	errs := make([]error, len(leases))
	if q.kind == FIFO {
		q.mu.Lock()
		if err := q.loadLocked(ctx); err != nil {
			q.mu.Unlock()
			return nil, err
		}
		for i, l := range leases {
			if e := q.entries[l.ID]; e == nil || e.state != flying || e.takes != l.Takes {
				errs[i] = ErrLease
			}
		}
		q.mu.Unlock()
	}
	refused := errs
	err := q.s.db.Update(ctx, func(tx kv.Tx) error {
		errs = make([]error, len(leases))
		for i, l := range leases {
			if refused[i] == nil {
				if _, err := q.Remove(tx, l.ID); err != nil {
					return err
				}
			} else if _, there, err := tx.Get(q.headerKey(l.ID)); err != nil {
				return err
			} else if there {
				errs[i] = refused[i]
			}
		}
		return nil
	})
	return errs, err
}

// Remove removes a message in a transaction of the caller, whoever took it. It reports whether the message was there. If the transaction
// is not committed the message stays in flight as it is.
func (q *Queue) Remove(tx kv.Tx, id ID) (bool, error) {
	e, there, err := q.header(tx, id)
	if err != nil {
		return false, err
	}
	if there {
		tx.Delete(q.headerKey(id))
		tx.Delete(q.bodyKey(e.body))
	}
	q.leave(tx, id, there)
	return there, nil
}

// leave takes note of a message that is not there any more once tx is committed.
func (q *Queue) leave(tx kv.Tx, id ID, removed bool) {
	tx.OnEnd(func(committed bool) {
		if !committed {
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.phase != loaded {
			return
		}
		if removed {
			q.total--
		}
		if e := q.entries[id]; e != nil {
			q.removeLocked(e)
		}
	})
}

// header reads a header in a transaction.
func (q *Queue) header(r kv.Reader, id ID) (*entry, bool, error) {
	row, there, err := r.Get(q.headerKey(id))
	if err != nil || !there {
		return nil, false, err
	}
	e := &entry{id: id, index: -1}
	return e, true, e.decode(row)
}

// Postpone keeps a message that was taken for later, in a transaction of the caller: it can be taken again after a delay, under a new ID and with a
// new note. It reports whether the message was there.
func (q *Queue) Postpone(tx kv.Tx, id ID, delay time.Duration, note []byte) (bool, error) {
	old, there, err := q.header(tx, id)
	if err != nil || !there {
		q.leave(tx, id, false)
		return false, err
	}
	e := &entry{body: old.body, group: old.group, note: note, delay: max(0, delay), sent: old.sent, first: old.first, taken: old.taken, takes: old.takes, index: -1}
	if err := q.place(tx, e, q.s.opts.now()); err != nil {
		return false, err
	}
	tx.Delete(q.headerKey(id))
	tx.Set(q.headerKey(e.id), e.encode())
	q.leave(tx, id, true)
	return true, nil
}

// Release lets messages be taken again that were taken without a commit.
func (q *Queue) Release(ids ...ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if e := q.entries[id]; e != nil {
			q.backLocked(e, released)
		}
	}
}

// Held delivers messages again that are still in flight by these takes; others are left out.
func (q *Queue) Held(ctx context.Context, leases ...Lease) ([]Delivery, error) {
	q.mu.Lock()
	if err := q.loadLocked(ctx); err != nil {
		q.mu.Unlock()
		return nil, err
	}
	var held []entry
	for _, l := range leases {
		if e := q.entries[l.ID]; e != nil && e.state == flying && e.takes == l.Takes && e.index >= 0 {
			held = append(held, *e)
		}
	}
	q.mu.Unlock()
	var ds []Delivery
	err := q.s.db.View(ctx, func(r kv.Reader) error {
		for i := range held {
			body, ok, err := r.Get(q.bodyKey(held[i].body))
			if err != nil {
				return err
			}
			if ok {
				ds = append(ds, held[i].delivery(body))
			}
		}
		return nil
	})
	return ds, err
}

// Visibility is a change of how long a message that was taken stays in flight, from now on. At 0 it can be taken again at once.
type Visibility struct {
	Lease
	Timeout time.Duration
}

// SetVisibility changes how long messages stay in flight, all in one transaction. The errors are one for each change: nil; ErrVisible
// if the message is not in flight; ErrGone if it was deleted; on a FIFO queue ErrLease if it is by another take; or ErrTotal beyond
// MaxVisibility after the take.
func (q *Queue) SetVisibility(ctx context.Context, changes ...Visibility) ([]error, error) {
	q.mu.Lock()
	if err := q.loadLocked(ctx); err != nil {
		q.mu.Unlock()
		return nil, err
	}
	errs := make([]error, len(changes))
	held := make([]*entry, len(changes))
	now := q.s.opts.now()
	for i, c := range changes {
		switch e := q.entries[c.ID]; {
		case e == nil || e.state != flying:
			errs[i] = ErrVisible
		case q.kind == FIFO && e.takes != c.Takes:
			errs[i] = ErrLease
		case e.index < 0:
			errs[i] = ErrVisible // it is being taken again just now
		case now.Add(c.Timeout).Sub(time.Unix(0, e.taken)) > MaxVisibility:
			errs[i] = ErrTotal
		default:
			heap.Remove(&q.alarms, e.index) // it does not end meanwhile
			held[i] = e
		}
	}
	q.mu.Unlock()
	visible := make([]int64, len(changes))
	deleted := make([]bool, len(changes))
	err := q.s.db.Update(ctx, func(tx kv.Tx) error {
		now := q.s.opts.now()
		for i, c := range changes {
			e, there, err := q.header(tx, c.ID)
			if err != nil {
				return err
			}
			deleted[i] = !there
			if !there || held[i] == nil {
				continue
			}
			visible[i] = now.Add(max(0, c.Timeout)).UnixNano()
			e.visible = visible[i]
			tx.Set(q.headerKey(c.ID), e.encode())
		}
		return nil
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, e := range held {
		if err == nil && deleted[i] {
			errs[i] = ErrGone
		}
		switch {
		case e == nil:
		case q.entries[e.id] != e || e.state != flying:
			if errs[i] == nil {
				errs[i] = ErrVisible
			}
		case err != nil:
			q.alarmLocked(e, e.until)
		case changes[i].Timeout <= 0:
			e.visible = visible[i]
			q.landLocked(e)
		default:
			e.visible = visible[i]
			q.alarmLocked(e, time.Now().Add(changes[i].Timeout))
		}
	}
	return errs, err
}

// sweep is how many messages an Expire removes in one transaction.
const sweep = 500

// Expire removes the messages at the head that were sent before a time, and returns how many.
func (q *Queue) Expire(ctx context.Context, before time.Time) (n int, err error) {
	for _, rg := range []kv.Range{
		{Start: q.headers().Start, End: q.headerKey(ID{Due: 1})},
		{Start: q.headerKey(ID{Due: 1}), End: q.headers().End},
	} {
		for {
			var ids []ID
			err := q.s.db.View(ctx, func(r kv.Reader) error {
				for x, err := range r.Scan(rg) {
					if err != nil {
						return err
					}
					e, err := decode(x)
					if err != nil {
						return err
					}
					if e.sent >= before.UnixNano() || len(ids) == sweep {
						break
					}
					ids = append(ids, e.id)
				}
				return nil
			})
			if err != nil || len(ids) == 0 {
				if err != nil {
					return n, err
				}
				break
			}
			removed := 0
			err = q.s.db.Update(ctx, func(tx kv.Tx) error {
				removed = 0
				for _, id := range ids {
					there, err := q.Remove(tx, id)
					if err != nil {
						return err
					}
					if there {
						removed++
					}
				}
				return nil
			})
			if err != nil {
				return n, err
			}
			n += removed
			rg.Start = append(q.headerKey(ids[len(ids)-1]), 0)
		}
	}
	return n, nil
}
