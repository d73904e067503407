package queue

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/sequence"
)

// loadLocked reads the headers of a queue that was not used yet: it counts them, and finds those in flight. It unlocks meanwhile.
func (q *Queue) loadLocked(ctx context.Context) error {
	for q.phase != loaded {
		if q.dropped {
			return ErrDropped
		}
		if !q.idleLocked(ctx) {
			if err := ctx.Err(); err != nil {
				return err
			}
			continue
		}
		if err := q.readAllLocked(ctx); err != nil {
			return err
		}
	}
	if q.dropped {
		return ErrDropped
	}
	return nil
}

// idleLocked reports whether no load or fill runs. If one does it waits for its end.
func (q *Queue) idleLocked(ctx context.Context) bool {
	if q.busy == nil {
		return true
	}
	busy := q.busy
	q.mu.Unlock()
	select {
	case <-busy:
	case <-ctx.Done():
	}
	q.mu.Lock()
	return false
}

// scan runs fn, which reads rows, without the lock. It reports whether what was read still counts.
func (q *Queue) scanLocked(ctx context.Context, fn func(r kv.Reader) error) (bool, error) {
	epoch := q.epoch
	busy := make(chan struct{})
	q.busy = busy
	q.mu.Unlock()
	err := q.s.db.View(ctx, fn)
	q.mu.Lock()
	q.busy = nil
	close(busy)
	return q.epoch == epoch, err
}

func (q *Queue) readAllLocked(ctx context.Context) error {
	if q.seq == nil {
		var floor uint64
		err := q.s.db.View(ctx, func(r kv.Reader) (err error) {
			floor, err = q.s.startAbove(r)
			return err
		})
		if err != nil {
			return err
		}
		q.seq = sequence.New(floor)
	}
	q.phase = loading
	q.horizon = q.seq.Settled()
	horizon := q.horizon
	for _, e := range q.early { // they reported themselves before the load
		if e.id.Seq >= horizon {
			e.state, e.index = ready, -1
			q.reportLocked(e)
		}
	}
	var (
		now     = q.s.opts.now()
		total   int
		delayed = map[int64]int{}
		flying  []*entry
		first   uint64 // without a delay
		late    *entry // with one
	)
	valid, err := q.scanLocked(ctx, func(r kv.Reader) error {
		for x, err := range r.Scan(q.headers()) {
			if err != nil {
				return err
			}
			e, err := decode(x)
			if err != nil {
				return err
			}
			if e.id.Seq >= horizon {
				continue
			}
			total++
			if e.id.Due == 0 && first == 0 {
				first = e.id.Seq
			}
			if e.id.Due > 0 && late == nil {
				late = e
			}
			switch {
			case e.visible > now.UnixNano():
				flying = append(flying, e)
			case e.id.Due > 0 && e.takes == 0:
				delayed[e.id.Due/1e9]++
			}
		}
		return nil
	})
	if !valid || err != nil {
		if valid {
			q.reset()
		}
		return err
	}
	q.phase = loaded
	q.total += total
	for second, n := range delayed {
		q.delayed[second] += n
	}
	for _, e := range flying {
		q.entries[e.id] = e
		if q.kind == FIFO {
			q.groupLocked(e)
		}
		q.flyLocked(e)
		q.untilLocked(e)
	}
	if late != nil {
		q.late = late.id
		q.delayLocked(late)
	}
	q.cursor = first
	if first == 0 {
		q.cursor, q.complete = horizon, q.let <= horizon
	}
	q.armLocked()
	q.settleLocked()
	return nil
}

// fillLocked reads headers that come next, one window of them. It unlocks meanwhile.
func (q *Queue) fillLocked(ctx context.Context) error {
	if !q.idleLocked(ctx) || !q.moreLocked() {
		return ctx.Err()
	}
	var (
		from, to = q.cursor, q.seq.Settled()
		late     = q.late
		lateTo   = q.s.opts.now().UnixNano() + 1
		found    []*entry
		nextLate *entry
		window   = q.s.opts.Window
		reached  = true // to
	)
	if q.lateLocked() {
		lateTo = max(lateTo, q.nextLate+1)
	}
	complete := q.complete
	valid, err := q.scanLocked(ctx, func(r kv.Reader) error {
		if !complete && from < to {
			n := 0
			for x, err := range r.Scan(kv.Range{Start: q.headerKey(ID{Seq: from}), End: q.headerKey(ID{Seq: to})}) {
				if err != nil {
					return err
				}
				e, err := decode(x)
				if err != nil {
					return err
				}
				if n == window {
					to, reached = e.id.Seq, false
					break
				}
				n++
				found = append(found, e)
			}
		}
		n := 0
		for x, err := range r.Scan(kv.Range{Start: q.headerKey(late), End: q.headers().End}) {
			if err != nil {
				return err
			}
			e, err := decode(x)
			if err != nil {
				return err
			}
			if e.id.Due >= lateTo || n >= window {
				nextLate = e
				break
			}
			n++
			found = append(found, e)
		}
		return nil
	})
	if !valid || err != nil {
		return err
	}
	for _, e := range found {
		if q.entries[e.id] != nil {
			continue
		}
		q.enterLocked(e)
	}
	if !complete {
		q.cursor = max(q.cursor, to)
		q.complete = reached && q.let <= q.cursor
	}
	behind := ID{Due: lateTo}
	q.nextLate = 0
	if nextLate != nil {
		if nextLate.id.before(behind) {
			behind = nextLate.id
		}
		q.delayLocked(nextLate)
	}
	if q.late.before(behind) {
		q.late = behind
	}
	q.armLocked()
	q.settleLocked()
	return nil
}

// untilLocked lets a message fly until the time in its header, but no longer than it was to fly when it was taken: the clock may have been set back.
func (q *Queue) untilLocked(e *entry) {
	wait := time.Duration(e.visible - q.s.opts.now().UnixNano())
	q.alarmLocked(e, time.Now().Add(min(wait, time.Duration(e.visible-e.taken), MaxVisibility)))
}

// rewindLocked forgets a message that is still there, so that it is found again.
func (q *Queue) rewindLocked(e *entry) {
	q.removeLocked(e)
	if e.id.Due > 0 {
		if e.id.before(q.late) {
			q.late = e.id
		}
		if q.nextLate == 0 || e.id.Due < q.nextLate {
			q.delayLocked(e)
		}
		return
	}
	q.cursor, q.complete = min(q.cursor, e.id.Seq), false
}
