package pebblekv

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	// maxGroupBytes is how much may wait in one group before the next one starts, so
	// that a small transaction does not wait for many large ones.
	maxGroupBytes = 4 << 20
	// patience is how often an Update loses to others before it asks for a turn.
	patience = 3
)

// generation is a state of the store that is durable and that readers see, and the keys
// that were written to reach it.
type generation struct {
	engine   *engine
	snapshot *pebble.Snapshot
	refs     int // Views and Updates that read it, and one while it is current; under DB.mu

	written map[uint64]struct{} // hashes of keys; a collision only makes an Update run again
	foreign bool                // the first of another engine: only who reads it may commit there
	next    atomic.Pointer[generation]
}

// wrote reports whether any of the keys with these hashes was written to reach g.
func (g *generation) wrote(hashes []uint64) bool {
	if g.foreign {
		return true
	}
	for _, h := range hashes {
		if _, ok := g.written[h]; ok {
			return true
		}
	}
	return false
}

// errConflict is how an attempt says that a key that it read was written since.
var errConflict = errors.New("pebblekv: conflict")

// request is an Update that waits for the committer.
type request struct {
	tx      *tx
	answer  chan error
	settled bool // it is committed, and answer says so; under engine.mu

	// An Update that has lost too often first asks for a turn: the committer closes
	// turn, commits nothing until ready closes, and then takes tx before all others,
	// so that it cannot lose again. A nil tx means that it has nothing to commit.
	turn, ready chan struct{}
}

// queue is what waits for the committer.
type queue struct {
	mu     sync.Mutex
	wake   sync.Cond
	ready  []*request
	turns  []*request
	closed bool
}

func (q *queue) init() { q.wake.L = &q.mu }

func (q *queue) push(r *request) {
	q.mu.Lock()
	if r.turn != nil {
		q.turns = append(q.turns, r)
	} else {
		q.ready = append(q.ready, r)
	}
	q.mu.Unlock()
	q.wake.Signal()
}

// wait returns when something is there, with the request whose turn it is, if any. It
// returns false when the queue is closed and empty.
func (q *queue) wait() (first *request, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready)+len(q.turns) == 0 {
		if q.closed {
			return nil, false
		}
		q.wake.Wait()
	}
	if len(q.turns) > 0 {
		first, q.turns = q.turns[0], q.turns[1:]
	}
	return first, true
}

// take appends to group what is ready, up to maxGroupBytes.
func (q *queue) take(group []*request) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	size, n := 0, 0
	for n < len(q.ready) && (n == 0 || size < maxGroupBytes) {
		size += q.ready[n].tx.bytes
		n++
	}
	group = append(group, q.ready[:n]...)
	if q.ready = q.ready[n:]; len(q.ready) == 0 {
		q.ready = nil
	}
	return group
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake.Signal()
}

// Update implements kv.DB.
func (db *DB) Update(ctx context.Context, fn func(kv.Tx) error) error {
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.running.Done()
	for attempt := 0; ; attempt++ {
		var err error
		if attempt < patience {
			err = db.attempt(ctx, fn, nil)
		} else {
			err = db.takeTurn(ctx, fn)
		}
		if err != errConflict {
			return err
		}
	}
}

// attempt runs fn on the current generation and commits. The answer to turn, if it is
// not nil, is left to the caller to wait for.
func (db *DB) attempt(ctx context.Context, fn func(kv.Tx) error, turn *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g := db.acquire()
	defer db.release(g)
	if err := g.engine.fuse.err(); err != nil {
		return err
	}
	t := &tx{reader: reader{db: db, ctx: ctx, generation: g}, seen: g}
	t.tracking = true
	committed := false
	defer func() {
		if turn == nil || turn.tx == nil {
			t.end(committed)
		}
	}()
	err := func() error {
		defer t.finish()
		return fn(t)
	}()
	if err == nil {
		err = t.err
	}
	if err != nil {
		return err
	}
	if len(t.writes)+len(t.discards) == 0 {
		committed = true
		return nil // What it read was one durable state: nothing to validate.
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if turn != nil {
		turn.tx = t
		return nil
	}
	if !t.validate() {
		return errConflict
	}
	r := &request{tx: t, answer: make(chan error, 1)}
	g.engine.queue.push(r)
	err = g.engine.wait(r)
	committed = err == nil
	return err
}

// takeTurn makes an attempt that cannot lose.
func (db *DB) takeTurn(ctx context.Context, fn func(kv.Tx) error) error {
	r := &request{turn: make(chan struct{}), ready: make(chan struct{}), answer: make(chan error, 1)}
	e := db.engine()
	e.queue.push(r)
	err := func() error {
		defer close(r.ready) // even if fn panics: the committer waits
		select {
		case <-r.turn:
			return db.attempt(ctx, fn, r)
		case <-ctx.Done():
			return ctx.Err()
		case <-e.fuse.blown:
			return e.fuse.err()
		}
	}()
	if err != nil || r.tx == nil {
		return err
	}
	err = e.wait(r)
	r.tx.end(err == nil)
	return err
}

// wait returns the committer's answer. If the store fails first that is the answer, for then the committer may not give one.
func (e *engine) wait(r *request) error {
	select {
	case err := <-r.answer:
		return err
	case <-e.fuse.blown:
	}
	e.mu.Lock()
	e.failed = true
	settled := r.settled
	e.mu.Unlock()
	if settled { // just before
		return <-r.answer
	}
	return e.fuse.err()
}

// commitLoop is the committer.
func (db *DB) commitLoop(e *engine) {
	var group []*request
	for {
		first, ok := e.queue.wait()
		if !ok {
			return
		}
		group = group[:0]
		if first != nil {
			close(first.turn)
			<-first.ready
			if first.tx != nil {
				group = append(group, first)
			}
		}
		group = e.queue.take(group)
		if len(group) > 0 {
			db.commit(e, group)
		}
		clear(group) // let go of the transactions
	}
}

// commit writes the transactions of the group that have no conflict as one batch, makes
// it durable, shows it to readers, and answers all.
func (db *DB) commit(e *engine, group []*request) {
	next := &generation{engine: e, refs: 1, written: make(map[uint64]struct{}, len(group))}
	size := 0
	for _, r := range group {
		size += r.tx.bytes + 16*len(r.tx.writes)
	}
	batch := e.pebble.NewBatchWithSize(size)
	lost := make([]bool, len(group))
	for i, r := range group {
		switch {
		case !r.tx.validate() || next.wrote(r.tx.reads):
			lost[i] = true
		default:
			for _, d := range r.tx.discards {
				start, end := bounds(d)
				_ = batch.DeleteRange(start, end, nil) // fails only on a closed batch, as Set and Delete
			}
			for key, w := range r.tx.writes {
				next.written[maphash.String(db.seed, key)] = struct{}{}
				if w.deleted {
					_ = batch.Delete([]byte(key), nil)
				} else {
					_ = batch.Set([]byte(key), w.value, nil)
				}
			}
		}
	}
	var err error
	if !batch.Empty() {
		won := make([]*request, 0, len(group))
		for i, r := range group {
			if !lost[i] {
				won = append(won, r)
			}
		}
		if err = db.write(e, batch, next, won); err == nil {
			db.watches.notify(group, lost)
		}
	}
	_ = batch.Close() // only fails when closed twice
	for i, r := range group {
		switch {
		case err != nil:
			r.answer <- err
		case lost[i]:
			r.answer <- errConflict
		default:
			r.answer <- nil
		}
	}
}

// write makes batch durable, which holds what won, and next what readers see.
func (db *DB) write(e *engine, batch *pebble.Batch, next *generation, won []*request) error {
	e.mu.Lock()
	if !e.failed {
		e.doubt = won
	}
	e.mu.Unlock()
	// The doubt is noted before: if the fuse blows after this, it is known.
	if err := e.fuse.err(); err != nil {
		return err
	}
	// If the log cannot be written Commit returns when nobody waits for it any more; see fuse.
	if err := batch.Commit(pebble.Sync); err != nil {
		e.fuse.blow(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fuse.err(); err != nil || e.failed {
		e.failed = true
		return err
	}
	e.doubt = nil
	for _, r := range won {
		r.settled = true
	}
	db.publish(next)
	return nil
}

// publish makes next what readers see, with nothing in Pebble that is not durable.
func (db *DB) publish(next *generation) {
	next.snapshot = next.engine.pebble.NewSnapshot()
	db.mu.Lock()
	prev := db.current
	db.current = next
	next.engine.readable++
	db.mu.Unlock()
	if prev != nil {
		prev.next.Store(next)
		db.release(prev)
	}
}
