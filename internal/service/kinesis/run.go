package kinesis

import (
	"context"
	"errors"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	retryAfter    = time.Second // of what failed for a reason of ours, such as a store that takes no writes
	trimInterval  = time.Minute
	scaleInterval = time.Minute // between two times that a stream on demand grows
)

// runTasks finishes what streams have begun.
func (s *Service) runTasks(ctx context.Context) {
	for range s.db.Watch(ctx, allTasks()) {
		for !s.runAll(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryAfter):
			}
		}
	}
}

// runAll works on every stream that has begun something. It reports whether nothing failed.
func (s *Service) runAll(ctx context.Context) bool {
	var names []ref
	err := s.db.View(ctx, func(r kv.Reader) error {
		names = nil
		for e, err := range r.Scan(kv.Prefix(taskTable)) {
			if err != nil {
				return err
			}
			name, err := decodeRef(e.Key)
			if err != nil {
				return err
			}
			names = append(names, name)
		}
		return nil
	})
	for _, name := range names {
		if e := s.finish(ctx, name); e != nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, kv.ErrClosed) {
		s.log.Error("streams not brought on: trying again", "err", err)
		return false
	}
	return true
}

// finish ends what a stream has begun.
func (s *Service) finish(ctx context.Context, name ref) error {
	err := s.db.Update(ctx, func(tx kv.Tx) error {
		if _, there, err := tx.Get(name.taskKey()); err != nil || !there {
			return err
		}
		tx.Delete(name.taskKey())
		old, err := s.load(tx, name)
		if err != nil || old == nil {
			return err
		}
		st := old.clone()
		if st.Status == kinesisapi.StreamStatusDeleting {
			for _, sh := range st.shards {
				s.recordLog(st, sh.index).Drop(tx)
				tx.Delete(name.shardKey(st.UID, sh.index))
			}
			tx.Delete(name.versionKey())
			tx.Delete(name.streamKey())
			return nil
		}
		var changed []*shard
		if st.Resharding {
			if changed, err = s.reopen(tx, st); err != nil {
				return err
			}
		}
		st.Status = kinesisapi.StreamStatusActive
		var consumers []consumer
		for _, c := range st.Consumers {
			if c.Status != kinesisapi.ConsumerStatusDeleting {
				c.Status = kinesisapi.ConsumerStatusActive
				consumers = append(consumers, c)
			}
		}
		st.Consumers = consumers
		return st.store(tx, changed...)
	})
	if err == nil {
		s.arrivals.ring(name, "")
	}
	return err
}

// reopen writes the ends of the shards that are sealed and opens those that follow them. Parents have lower indexes than their children.
func (s *Service) reopen(tx kv.Tx, st *stream) (changed []*shard, err error) {
	now := time.Now().UnixMilli()
	st.Resharding = false
	for _, sh := range st.shards {
		switch sh.State {
		case shardSealed:
			// Every put that saw the shard open has committed or will run again: its transaction read the version that sealed it.
			if sh.End, err = s.recordLog(st, sh.index).Append(tx, []byte{shardEnd}); err != nil {
				return nil, err
			}
			sh.State, sh.Closed = shardClosed, now
		case shardComing:
			floor := uint64(0)
			for _, p := range sh.Parent {
				if parent := st.shard(p); parent != nil {
					floor = max(floor, parent.End)
				}
			}
			sh.State, sh.Start, sh.Opened = shardOpen, floor+1, now
			if len(st.children(sh.index)) > 0 { // one that stands between two scales holds nothing
				sh.State, sh.End, sh.Closed = shardClosed, floor+2, now
			}
			s.recordLog(st, sh.index).Begin(tx, floor)
		default:
			continue
		}
		changed = append(changed, sh)
	}
	return changed, nil
}

// trim removes what is past its retention.
func (s *Service) trim(ctx context.Context) {
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	for {
		if err := s.trimAll(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("records past their retention not removed: trying again in a minute", "err", err)
		}
		s.limits.forget(time.Now())
		s.subs.forget(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.trimNow:
		}
	}
}

func (s *Service) trimAll(ctx context.Context) error {
	var all []*stream
	if err := s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(allStreams()) {
			if err != nil {
				return err
			}
			name, err := decodeRef(e.Key)
			if err != nil {
				return err
			}
			st, err := s.load(r, name)
			if err != nil {
				return err
			}
			if st != nil {
				all = append(all, st)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, st := range all {
		horizon, gone := st.horizon(), false
		for _, sh := range st.shards {
			if sh.State == shardComing {
				continue
			}
			gone = gone || sh.expired(st)
			if _, err := s.recordLog(st, sh.index).Trim(ctx, horizon); err != nil {
				return err
			}
		}
		if gone {
			if err := s.removeShards(ctx, st.ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// expired reports whether all that a shard held is past the retention.
func (sh *shard) expired(st *stream) bool {
	return sh.State == shardClosed && sh.Closed < time.Now().Add(-time.Duration(st.Retention)*time.Hour).UnixMilli()
}

// removeShards removes the shards of a stream that are closed and hold nothing any more.
func (s *Service) removeShards(ctx context.Context, name ref) error {
	return s.db.Update(ctx, func(tx kv.Tx) error {
		old, err := s.load(tx, name)
		if err != nil || old == nil {
			return err
		}
		st := old.clone()
		for _, sh := range st.shards {
			if sh.expired(st) {
				s.recordLog(st, sh.index).Drop(tx)
				tx.Delete(name.shardKey(st.UID, sh.index))
			}
		}
		return st.store(tx)
	})
}

// throttled notes that a stream on demand has too few shards for what comes.
func (s *Service) throttled(name ref) {
	s.scaleMu.Lock()
	s.scale[name] = struct{}{}
	s.scaleMu.Unlock()
	select {
	case s.scaleNow <- struct{}{}:
	default:
	}
}

// scaleUp doubles the shards of streams on demand that were throttled.
func (s *Service) scaleUp(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.scaleNow:
		}
		s.scaleMu.Lock()
		names := s.scale
		s.scale = map[ref]struct{}{}
		s.scaleMu.Unlock()
		for name := range names {
			if err := s.double(ctx, name); err != nil && ctx.Err() == nil {
				s.log.Error("a stream on demand did not grow", "stream", name.arn(), "err", err)
			}
		}
	}
}

func (s *Service) double(ctx context.Context, name ref) error {
	return s.db.Update(ctx, func(tx kv.Tx) error {
		old, err := s.load(tx, name)
		if err != nil || old == nil || old.Mode != kinesisapi.StreamModeOnDemand || old.active() != nil {
			return err
		}
		st := old.clone()
		for _, sh := range st.open {
			if sh.Opened > time.Now().Add(-scaleInterval).UnixMilli() {
				return nil
			}
		}
		n := min(2*len(st.open), maxOnDemandShards)
		if n <= len(st.open) {
			return nil
		}
		p := newPlan(st)
		p.scale(n)
		return p.begin(tx)
	})
}

// trimSoon has what is past its retention removed now.
func (s *Service) trimSoon() {
	select {
	case s.trimNow <- struct{}{}:
	default:
	}
}
