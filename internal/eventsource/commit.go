package eventsource

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// maxMessage is how much of an error is kept for people, in bytes.
const maxMessage = 1 << 10

// brief cuts an error for people.
func brief(s string) string { return s[:min(len(s), maxMessage)] }

// row is the state of the shard as it is stored. mu is held.
func (s *shard) row() *shardRow {
	r := &shardRow{First: s.first, Base: s.base, Read: s.read, Newest: s.newest, Drained: s.drained}
	resume := s.resume()
	old := s.old[:0:0]
	for _, o := range s.old {
		for _, done := range o.Done {
			if compare(resume, done) < 0 {
				old = append(old, o)
				break
			}
		}
	}
	s.old, r.Old = old, old
	for _, l := range s.lanes {
		x := laneRow{Done: s.doneOf(l)}
		for _, it := range l.items {
			x.Items = append(x.Items, it.row())
		}
		r.Lanes = append(r.Lanes, x)
	}
	return r
}

// startCommit stores the state if it has changed, together with what was given up. One commit of a shard runs at a time, beside invocations:
// after a crash what followed the last one is done again.
func (s *shard) startCommit(now time.Time) (wait time.Time) {
	if s.committing || !s.dirty {
		return
	}
	if now.Before(s.commitAfter) {
		return s.commitAfter
	}
	e, m := s.stream.engine, s.stream.mapping.Load()
	row, err := json.Marshal(s.row())
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	states := map[int64][]byte{}
	for id, w := range s.windows {
		if w.dirty {
			w.dirty = false
			if states[id], err = json.Marshal(w); err != nil {
				e.log.Error("state of a window cannot be stored", "mapping", m.ID, "shard", s.id, "err", err)
				delete(states, id)
			}
		}
	}
	closed, losses := s.closed, s.losses
	s.closed, s.losses, s.dirty, s.committing = nil, nil, false, true
	fates := m.fates(s.id, losses, now)
	deliveries := make([]*Delivery, 0, len(losses))
	for _, x := range losses {
		if d := m.delivery(s.id, x, now); d != nil {
			deliveries = append(deliveries, d)
		}
	}
	for _, l := range s.lanes {
		l.stores = l.ahead
	}
	started := s.spawn(func(ctx context.Context) {
		// What was decided is stored even while the engine stops.
		err := e.db.Update(context.WithoutCancel(ctx), func(tx kv.Tx) error {
			tx.Set(shardKey(m.ID, s.id), row)
			for _, id := range closed {
				tx.Delete(windowKey(m.ID, s.id, id))
			}
			for id, state := range states {
				tx.Set(windowKey(m.ID, s.id, id), state)
			}
			return e.store(tx, m.ID, fates, deliveries)
		})
		s.committed(err, closed, losses, states)
	})
	if !started {
		s.committing, s.dirty = false, true
		s.losses, s.closed = append(losses, s.losses...), append(closed, s.closed...)
	}
	return
}

// committed goes on after a commit.
func (s *shard) committed(err error, closed []int64, losses []*loss, states map[int64][]byte) {
	s.mu.Lock()
	s.committing = false
	if err != nil {
		s.stream.engine.log.Error("progress of an event source mapping not stored: trying again", "mapping", s.stream.mapping.Load().ID, "shard", s.id, "err", err)
		s.dirty, s.losses, s.closed = true, append(losses, s.losses...), append(closed, s.closed...)
		for id := range states {
			if w := s.windows[id]; w != nil {
				w.dirty = true
			}
		}
		s.commitAfter = time.Now().Add(time.Second)
		if errors.Is(err, kv.ErrClosed) {
			s.active = false
		}
		s.step()
		s.unlock()
		return
	}
	for _, l := range s.lanes {
		l.ahead -= l.stores
		l.stores = 0
	}
	drained := s.drained && !s.dirty
	s.step()
	if !s.active {
		s.startCommit(time.Now())
	}
	s.unlock()
	if drained {
		s.stream.refresh()
	}
}
