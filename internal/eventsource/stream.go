package eventsource

import (
	"context"
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

func (s *stream) start() {
	s.mu.Lock()
	s.active = true
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
	s.poll()
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
		fresh, err = s.load(ctx, m, shards)
	}
	begin, gone := s.listed(ctx, shards, fresh, err)
	for _, sh := range begin {
		sh.start()
	}
	if len(gone) > 0 {
		s.forget(ctx, m, gone)
	}
}

// listed takes in a list of shards, and returns those that may begin and those that are gone.
func (s *stream) listed(ctx context.Context, shards []Shard, fresh []*shard, err error) (begin, gone []*shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listing = false
	if !s.active || ctx.Err() != nil {
		return nil, nil
	}
	if err != nil {
		s.failures++
		s.tally.trouble(err)
		s.timer = time.AfterFunc(readBackoff(s.failures), s.refresh)
		return nil, nil
	}
	s.failures = 0
	for _, sh := range fresh {
		s.shards[sh.id] = sh
	}
	for id, sh := range s.shards {
		if !slices.ContainsFunc(shards, func(x Shard) bool { return x.ID == id }) {
			delete(s.shards, id)
			gone = append(gone, sh)
		}
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
	return begin, gone
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

// load makes the shards that are not known yet, with what is stored of them.
func (s *stream) load(ctx context.Context, m *Mapping, infos []Shard) (fresh []*shard, err error) {
	s.mu.Lock()
	infos = slices.DeleteFunc(slices.Clone(infos), func(x Shard) bool { return s.shards[x.ID] != nil })
	s.mu.Unlock()
	if len(infos) == 0 {
		return nil, nil
	}
	err = s.engine.db.View(ctx, func(r kv.Reader) error {
		fresh = nil
		for _, info := range infos {
			row, found, err := kv.GetJSON[shardRow](r, shardKey(m.ID, info.ID))
			if err != nil {
				return err
			}
			if !found {
				fresh = append(fresh, newShard(s, info, nil, nil, m.Start, m.lanes()))
				continue
			}
			var windows []*window
			for rec, err := range kv.ScanJSON[*window](r, windowRange(m.ID, info.ID)) {
				if err != nil {
					return err
				}
				windows = append(windows, rec.Value)
			}
			fresh = append(fresh, newShard(s, info, &row, windows, m.Start, m.lanes()))
		}
		return nil
	})
	return fresh, err
}

// forget removes what is stored of shards that the stream does not have any more.
func (s *stream) forget(ctx context.Context, m *Mapping, gone []*shard) {
	for _, sh := range gone {
		sh.stop()
	}
	err := s.engine.db.Update(ctx, func(tx kv.Tx) error {
		for _, sh := range gone {
			tx.Delete(shardKey(m.ID, sh.id))
			for e, err := range tx.Scan(windowRange(m.ID, sh.id)) {
				if err != nil {
					return err
				}
				tx.Delete(e.Key)
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.engine.log.Error("shards that are gone not forgotten", "mapping", m.ID, "err", err)
	}
}

// lanes is the number of lanes of each shard.
func (m *Mapping) lanes() int {
	if m.Aggregate.Size > 0 {
		return 1
	}
	return max(m.Parallelization, 1)
}
