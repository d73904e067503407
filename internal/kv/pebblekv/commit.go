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
	// While groups are on their way to the disk the next one starts once so many
	// transactions wait, or so many bytes: enough to be worth a group, and few enough
	// that little is left to do when the disk is free again.
	worthTransactions = 8
	worthBytes        = 64 << 10
	// maxFlight is how many groups may be on their way to the disk.
	maxFlight = 16
	// patience is how often an Update loses to others before it asks for a turn.
	patience = 3
)

// generation is a state of the store, and the keys that were written to reach it. Readers
// see it when it is durable.
type generation struct {
	engine   *engine
	number   uint64 // of those that readers see each is above the one before
	snapshot *pebble.Snapshot
	refs     int // Views and Updates that read it, and one while it is current; under DB.mu

	written map[uint64]struct{} // hashes of keys; a collision only makes an Update run again
	swept   bool                // ranges were discarded as well
	foreign bool                // the first of another engine: only who reads it may commit there
	durable atomic.Bool
	next    atomic.Pointer[generation] // which may not be durable yet
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
	tx     *tx
	lost   bool       // there was a conflict
	answer chan error // takes one

	// An Update that has lost too often first asks for a turn: the committer closes
	// turn, commits nothing until ready closes, and then takes tx before all others,
	// so that it cannot lose again. A nil tx means that it has nothing to commit.
	turn, ready chan struct{}
}

// group is transactions that share an fsync.
type group struct {
	requests []*request
	batch    *pebble.Batch // what the transactions write that did not lose; nil if nothing
	next     *generation   // the state with that in it
}

// answer answers each request; those that lost only if there is no error.
func (g *group) answer(err error) {
	for _, r := range g.requests {
		if err == nil && r.lost {
			r.answer <- errConflict
		} else {
			r.answer <- err
		}
	}
}

// pipeline is the transactions of an engine that are not durable yet: those that wait for
// the committer, and the groups in flight, which it has given to Pebble.
type pipeline struct {
	mu     sync.Mutex
	wake   sync.Cond // of mu, for the committer
	ready  []*request
	bytes  int // of what is ready
	turns  []*request
	flight []*group // in order
	closed bool
	failed error // nothing becomes durable any more. What was in flight may be in the log, although it was not acknowledged
}

func (p *pipeline) init() { p.wake.L = &p.mu }

// push leaves a request to the committer, or answers it if there is none any more.
func (p *pipeline) push(r *request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.failed != nil:
		r.answer <- p.failed
		return
	case r.turn != nil:
		p.turns = append(p.turns, r)
	default:
		p.ready = append(p.ready, r)
		p.bytes += r.tx.bytes
	}
	if p.worthLocked() {
		p.wake.Signal()
	}
}

// worthLocked reports whether there is something that the committer should do.
func (p *pipeline) worthLocked() bool {
	switch {
	case len(p.flight) == 0:
		return len(p.ready)+len(p.turns) > 0
	case len(p.turns) > 0 || len(p.flight) >= maxFlight:
		return false // when nothing is in flight; when something has landed
	}
	return len(p.ready) >= worthTransactions || p.bytes >= worthBytes
}

// wait returns when there is something to do, with the request whose turn it is, if any. It
// returns false when the pipeline is closed and nothing waits.
func (p *pipeline) wait() (first *request, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.worthLocked() {
		if p.closed && len(p.ready)+len(p.turns) == 0 {
			return nil, false
		}
		p.wake.Wait()
	}
	if len(p.turns) > 0 {
		first, p.turns = p.turns[0], p.turns[1:]
	}
	return first, true
}

// take appends to all what is ready, up to maxGroupBytes.
func (p *pipeline) take(all []*request) []*request {
	p.mu.Lock()
	defer p.mu.Unlock()
	size, n := 0, 0
	for n < len(p.ready) && (n == 0 || size < maxGroupBytes) {
		size += p.ready[n].tx.bytes
		n++
	}
	all = append(all, p.ready[:n]...)
	p.bytes -= size
	if p.ready = p.ready[n:]; len(p.ready) == 0 {
		p.ready = nil
	}
	return all
}

// begin puts a group in flight. If nothing becomes durable any more it answers the group and returns false.
func (p *pipeline) begin(g *group) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		g.answer(p.failed)
		return false
	}
	p.flight = append(p.flight, g)
	return true
}

// land publishes the first group in flight, which is durable. It does nothing and returns false if the store has failed: then
// the group is answered already, and in doubt whatever Pebble says.
func (p *pipeline) land(g *group, publish func(*generation)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return false
	}
	p.flight[0] = nil
	if p.flight = p.flight[1:]; len(p.flight) == 0 {
		p.flight = nil
	}
	if g.next != nil {
		publish(g.next)
	}
	if p.worthLocked() {
		p.wake.Signal()
	}
	return true
}

// fail answers all that waits and all that is in flight. Pebble may never be done with that.
func (p *pipeline) fail(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = cause
	for _, g := range p.flight {
		g.answer(cause)
	}
	for _, r := range append(p.ready, p.turns...) {
		r.answer <- cause
	}
	p.ready, p.turns, p.bytes = nil, nil, 0
	p.wake.Signal()
}

// doubt is the groups that may be in the log although they were not acknowledged.
func (p *pipeline) doubt() []*group {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flight
}

func (p *pipeline) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.wake.Signal()
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
	if !t.validate(false) {
		return errConflict
	}
	r := &request{tx: t, answer: make(chan error, 1)}
	g.engine.pipeline.push(r)
	err = <-r.answer
	committed = err == nil
	return err
}

// takeTurn makes an attempt that cannot lose.
func (db *DB) takeTurn(ctx context.Context, fn func(kv.Tx) error) error {
	r := &request{turn: make(chan struct{}), ready: make(chan struct{}), answer: make(chan error, 1)}
	db.head().engine.pipeline.push(r)
	err := func() error {
		defer close(r.ready) // even if fn panics: the committer waits
		select {
		case <-r.turn:
			return db.attempt(ctx, fn, r)
		case <-ctx.Done():
			return ctx.Err()
		case err := <-r.answer: // the store has failed
			return err
		}
	}()
	if err != nil || r.tx == nil {
		return err
	}
	err = <-r.answer
	r.tx.end(err == nil)
	return err
}

// commitLoop is the committer.
func (db *DB) commitLoop(e *engine) {
	defer close(e.landing)
	tail := db.head() // the newest generation, durable or not
	for {
		first, ok := e.pipeline.wait()
		if !ok {
			return
		}
		g := &group{}
		if first != nil {
			close(first.turn)
			<-first.ready
			if first.tx != nil {
				g.requests = append(g.requests, first)
			}
		}
		if g.requests = e.pipeline.take(g.requests); len(g.requests) > 0 {
			tail = db.commit(e, g, tail)
		}
	}
}

// commit gives what the transactions of a group write that have no conflict to Pebble, as one batch. It returns the newest
// generation after that.
func (db *DB) commit(e *engine, g *group, tail *generation) *generation {
	size, keys := 0, 0
	for _, r := range g.requests {
		size += r.tx.bytes + 16*len(r.tx.writes)
		keys += len(r.tx.writes)
	}
	next := &generation{engine: e, number: tail.number + 1, refs: 1, written: make(map[uint64]struct{}, keys)}
	batch := e.pebble.NewBatchWithSize(size)
	for _, r := range g.requests {
		if r.lost = !r.tx.validate(true) || next.wrote(r.tx.reads); r.lost {
			continue
		}
		for _, d := range r.tx.discards {
			start, end := bounds(d)
			next.swept = true
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
	if batch.Empty() {
		_ = batch.Close() // only fails when closed twice
	} else {
		g.batch, g.next = batch, next
	}
	if !e.pipeline.begin(g) {
		return tail
	}
	if g.batch != nil {
		// If the log cannot be written this returns when nobody waits for it any more; see fuse.
		if err := e.pebble.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
			e.fuse.blow(err)
			return tail
		}
		// Pebble shows it already, and the next group is not in it yet.
		next.snapshot = e.pebble.NewSnapshot()
		tail.next.Store(next)
		tail = next
	}
	e.landing <- g
	return tail
}

// landLoop waits for the fsync of each group, shows it to readers, and answers.
func (db *DB) landLoop(e *engine) {
	for g := range e.landing {
		if g.batch != nil {
			if err := g.batch.SyncWait(); err != nil {
				e.fuse.blow(err)
			}
			_ = g.batch.Close()
		}
		switch {
		case e.pipeline.land(g, db.publish):
			db.watches.notify(g.requests)
			g.answer(nil)
		case g.next != nil:
			_ = g.next.snapshot.Close()
		}
	}
}

// publish makes next what readers see, with nothing in its snapshot that is not durable.
func (db *DB) publish(next *generation) {
	db.hot.advance(next)
	db.mu.Lock()
	prev := db.current
	db.current = next
	next.engine.readable++
	db.mu.Unlock()
	next.durable.Store(true)
	if prev != nil {
		prev.next.Store(next) // as it is already, unless next is the first of an engine
		db.release(prev)
	}
}
