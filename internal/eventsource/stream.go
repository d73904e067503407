package eventsource

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// stream runs a mapping whose source is a Stream: it finds the shards and lets each begin when its parents are drained.
type stream struct {
	engine  *Engine
	mapping atomic.Pointer[Mapping]
	source  Stream
	tally   tally
	batches doneBatches

	turnstile turnstile
	done      chan struct{} // closed by stop

	mu       sync.Mutex
	active   bool
	shards   map[string]*shard
	listing  bool
	again    bool // list once more when the listing ends
	failures int
	timer    *time.Timer
	cancel   func() // of the registration with a Waker
	running  sync.WaitGroup
}

func (s *stream) counts() *tally { return &s.tally }

func (s *stream) start() {
	s.mu.Lock()
	s.active, s.done = true, make(chan struct{})
	s.mu.Unlock()
	if w, ok := s.source.(Waker); ok {
		s.cancel = w.OnArrival(s.arrived)
	}
	s.refresh()
}

func (s *stream) stop() {
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Lock()
	s.active = false
	close(s.done)
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.running.Wait()
	s.mu.Lock()
	shards := s.all()
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, sh := range shards {
		wg.Go(sh.stop)
	}
	wg.Wait()
	s.tally.last.flush()
}

func (s *stream) all() (shards []*shard) {
	for _, sh := range s.shards {
		shards = append(shards, sh)
	}
	return shards
}

// arrived serves a Waker.
func (s *stream) arrived(id string) {
	s.mu.Lock()
	sh := s.shards[id]
	s.mu.Unlock()
	if sh == nil {
		s.refresh()
		s.poll()
		return
	}
	sh.wake()
}

// poll makes all shards read.
func (s *stream) poll() {
	s.mu.Lock()
	shards := s.all()
	s.mu.Unlock()
	for _, sh := range shards {
		sh.wake()
	}
}

// set takes new parameters for the next batches.
func (s *stream) set(m *Mapping) {
	s.mapping.Store(m)
	s.mu.Lock()
	shards := s.all()
	s.mu.Unlock()
	for _, sh := range shards {
		sh.again()
	}
}

// refresh lists the shards, starts those that may begin, as the children of one that is drained, and forgets those that are gone. It does not block.
func (s *stream) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.active {
		return
	}
	if s.listing {
		s.again = true
		return
	}
	s.startListing()
}

// startListing lists the shards beside. mu is held.
func (s *stream) startListing() {
	s.running.Add(1)
	s.listing = s.engine.spawn(func(ctx context.Context) {
		defer s.running.Done()
		s.list(ctx)
	})
	if !s.listing {
		s.running.Done()
	}
}

func (s *stream) list(ctx context.Context) {
	m := s.mapping.Load()
	shards, err := s.source.Shards(ctx)
	var fresh []*shard
	if err == nil {
		s.leave(ctx, m, shards)
		var stale []string
		if fresh, stale, err = s.stored(ctx, m, shards); err == nil && len(stale) > 0 {
			err = s.erase(ctx, m, stale)
		}
	}
	for _, sh := range s.listed(ctx, fresh, err) {
		sh.start()
	}
}

// listed takes in the shards that a list has shown, and returns those that may begin.
func (s *stream) listed(ctx context.Context, fresh []*shard, err error) (begin []*shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listing = false
	if !s.active || ctx.Err() != nil {
		return nil
	}
	if err != nil {
		s.failures++
		s.tally.trouble(err)
		s.timer = time.AfterFunc(readBackoff(s.failures), s.refresh)
		return nil
	}
	s.failures = 0
	for _, sh := range fresh {
		s.shards[sh.id] = sh
	}
	for _, sh := range s.shards {
		if s.mayBegin(sh) {
			begin = append(begin, sh)
		}
	}
	if s.again {
		s.again = false
		s.startListing()
	}
	return begin
}

// mayBegin reports whether a shard's parents, as far as there are any, have nothing left.
func (s *stream) mayBegin(sh *shard) bool {
	for _, p := range sh.parent {
		if parent := s.shards[p]; parent != nil && !parent.isDrained() {
			return false
		}
	}
	return true
}

func (s *shard) isDrained() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drained && !s.dirty && !s.committing
}

// leave forgets the shards that the stream does not have any more, and those in whose place others of the same names are: the stream was deleted and
// made again. What the function has of them ends first.
func (s *stream) leave(ctx context.Context, m *Mapping, infos []Shard) {
	var gone []*shard
	s.mu.Lock()
	for id, sh := range s.shards {
		i := slices.IndexFunc(infos, func(x Shard) bool { return x.ID == id })
		if i >= 0 && !another(sh.first, infos[i].First) {
			continue
		}
		if i >= 0 {
			s.engine.log.Warn("the stream was made again: the shard is read anew", "mapping", m.ID, "shard", id)
		}
		delete(s.shards, id)
		gone = append(gone, sh)
	}
	s.mu.Unlock()
	if len(gone) > 0 {
		s.forget(ctx, m, gone)
	}
}

// another reports whether two first sequence numbers are of different shards.
func another(a, b string) bool { return a != "" && b != "" && a != b }

// stored makes the shards that are not known yet, with what is stored of them. Those that follow a shard that is known came after the mapping, which
// reads them from their beginning; others from where it starts. stale are those in whose place others were.
func (s *stream) stored(ctx context.Context, m *Mapping, infos []Shard) (fresh []*shard, stale []string, err error) {
	known := map[string]bool{}
	s.mu.Lock()
	for id := range s.shards {
		known[id] = true
	}
	s.mu.Unlock()
	infos = slices.DeleteFunc(slices.Clone(infos), func(x Shard) bool { return known[x.ID] })
	if len(infos) == 0 {
		return nil, nil, nil
	}
	err = s.engine.db.View(ctx, func(r kv.Reader) error {
		fresh, stale = nil, nil
		begun, started := maps.Clone(known), map[string]bool{}
		for _, info := range infos {
			row, found, err := kv.GetJSON[shardRow](r, shardKey(m.ID, info.ID))
			if err != nil {
				return err
			}
			if found && another(row.First, info.First) {
				stale, found = append(stale, info.ID), false
			}
			if !found {
				started[info.ID] = true
				continue
			}
			begun[info.ID] = true
			var windows []*window
			for rec, err := range kv.ScanJSON[*window](r, windowRange(m.ID, info.ID)) {
				if err != nil {
					return err
				}
				windows = append(windows, rec.Value)
			}
			fresh = append(fresh, newShard(s, info, &row, windows, m.Start, m.lanes()))
		}
		for later := true; later; { // than the mapping; and so are the shards that follow those
			later = false
			for _, info := range infos {
				if !started[info.ID] {
					continue
				}
				follows, err := s.follows(r, m, info, begun, started)
				if err != nil {
					return err
				}
				if follows {
					later, begun[info.ID] = true, true
					delete(started, info.ID)
					fresh = append(fresh, newShard(s, info, nil, nil, Position{}, m.lanes()))
				}
			}
		}
		for _, info := range infos {
			if started[info.ID] {
				fresh = append(fresh, newShard(s, info, nil, nil, m.Start, m.lanes()))
			}
		}
		return nil
	})
	return fresh, stale, err
}

// follows reports whether one of a shard's parents was begun. One that the stream does not have any more was if there is a row of it.
func (s *stream) follows(r kv.Reader, m *Mapping, info Shard, begun, started map[string]bool) (bool, error) {
	for _, p := range info.Parents {
		if begun[p] {
			return true, nil
		}
		if started[p] {
			continue
		}
		if _, found, err := r.Get(shardKey(m.ID, p)); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// forget removes what is stored of shards that the stream does not have any more.
func (s *stream) forget(ctx context.Context, m *Mapping, gone []*shard) {
	var ids []string
	for _, sh := range gone {
		sh.stop()
		ids = append(ids, sh.id)
	}
	if err := s.erase(ctx, m, ids); err != nil && ctx.Err() == nil {
		s.engine.log.Error("shards that are gone not forgotten", "mapping", m.ID, "err", err)
	}
}

// erase removes the rows of shards.
func (s *stream) erase(ctx context.Context, m *Mapping, ids []string) error {
	return s.engine.db.Update(ctx, func(tx kv.Tx) error {
		for _, id := range ids {
			tx.Delete(shardKey(m.ID, id))
			for e, err := range tx.Scan(windowRange(m.ID, id)) {
				if err != nil {
					return err
				}
				tx.Delete(e.Key)
			}
		}
		return nil
	})
}

// lanes is the number of lanes of each shard.
func (m *Mapping) lanes() int {
	if m.Aggregate.Size > 0 {
		return 1
	}
	return max(m.Parallelization, 1)
}
