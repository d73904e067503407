package kinesis

import (
	"context"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// scalings is how often UpdateShardCount may be called for a stream in 24 hours.
const scalings = 10

// plan collects what becomes of a stream's shards. They are sealed at once, and those that follow them open when Run has written their ends.
type plan struct {
	st      *stream
	now     int64
	changed []*shard
}

func newPlan(st *stream) *plan { return &plan{st: st, now: time.Now().UnixMilli()} }

func (p *plan) touch(sh *shard) {
	if !slices.Contains(p.changed, sh) {
		p.changed = append(p.changed, sh)
	}
}

// add makes a shard that follows others.
func (p *plan) add(first, last hashKey, parents ...*shard) *shard {
	sh := &shard{State: shardComing, First: first, Last: last, Opened: p.now, index: p.st.NextShard}
	p.st.NextShard++
	for _, parent := range parents {
		if parent.State == shardOpen {
			parent.State = shardSealed
		}
		sh.Parent = append(sh.Parent, parent.index)
		p.touch(parent)
	}
	p.st.shards = append(p.st.shards, sh)
	p.touch(sh)
	return sh
}

func (p *plan) split(sh *shard, at hashKey) (low, high *shard) {
	return p.add(sh.First, at.prev(), sh), p.add(at, sh.Last, sh)
}

func (p *plan) merge(low, high *shard) *shard { return p.add(low.First, high.Last, low, high) }

// scale makes n ranges of equal size. Where they do not fit into those that there are, shards are split first and their parts then merged; those
// that stand between are never written to.
func (p *plan) scale(n int) {
	parts := slices.Clone(p.st.open)
	for i := 1; i < n; i++ {
		at := boundary(i, n)
		j := slices.IndexFunc(parts, func(sh *shard) bool { return !at.less(sh.First) && !sh.Last.less(at) })
		if parts[j].First == at {
			continue
		}
		low, high := p.split(parts[j], at)
		parts = slices.Replace(parts, j, j+1, low, high)
	}
	for i := range n {
		// All parts of a range, one into the next.
		last := maxHashKey
		if i < n-1 {
			last = boundary(i+1, n).prev()
		}
		for parts[0].Last.less(last) {
			parts = slices.Replace(parts, 0, 2, p.merge(parts[0], parts[1]))
		}
		parts = parts[1:]
	}
}

// begin writes the plan.
func (p *plan) begin(tx kv.Tx) error {
	p.st.Status = kinesisapi.StreamStatusUpdating
	p.st.Resharding = len(p.changed) > 0
	return p.st.begin(tx, p.changed...)
}

// pick is a shard that may be split or merged.
func (st *stream) pick(id string) (*shard, error) {
	index, ok := parseShardID(id)
	sh := st.shard(index)
	if !ok {
		return nil, errNoShard(st.ref, id)
	}
	if sh == nil || sh.State == shardComing {
		return nil, errNoShard(st.ref, shardID(index))
	}
	return sh, nil
}

func (st *stream) mayReshard(sh *shard) error {
	if sh.State != shardOpen {
		return kinesisapi.ErrInvalidArgumentException("Shard %s in stream %s under account %s has already been merged or split, and thus is not eligible for merging or splitting.",
			shardID(sh.index), st.ref.name, st.ref.account)
	}
	return nil
}

func (s *Service) splitShard(ctx context.Context, in *kinesisapi.SplitShardInput) (*kinesisapi.SplitShardOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	return nil, s.update(ctx, name, func(tx kv.Tx, st *stream) error {
		if err := st.checkID(in.StreamId); err != nil {
			return err
		}
		if st.Mode == kinesisapi.StreamModeOnDemand {
			return errOnDemand(name)
		}
		sh, err := st.pick(*in.ShardToSplit)
		if err != nil {
			return err
		}
		if err := st.active(); err != nil {
			return err
		}
		if err := st.mayReshard(sh); err != nil {
			return err
		}
		at, err := parseHashKey(*in.NewStartingHashKey)
		if err != nil || sh.First == sh.Last || !sh.First.next().less(at) || !at.less(sh.Last) {
			return kinesisapi.ErrInvalidArgumentException("NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not both greater than one plus the shard's StartingHashKey %s and less than the shard's EndingHashKey %s.",
				*in.NewStartingHashKey, shardID(sh.index), name.name, name.account, sh.First, sh.Last)
		}
		use, err := s.usage(tx, name.account, name.region)
		if err != nil {
			return err
		}
		if use.shards+1 > shardLimit {
			return errShardLimit(name, use.shards, 1)
		}
		p := newPlan(st)
		p.split(sh, at)
		return p.begin(tx)
	})
}

func (s *Service) mergeShards(ctx context.Context, in *kinesisapi.MergeShardsInput) (*kinesisapi.MergeShardsOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	return nil, s.update(ctx, name, func(tx kv.Tx, st *stream) error {
		if err := st.checkID(in.StreamId); err != nil {
			return err
		}
		if st.Mode == kinesisapi.StreamModeOnDemand {
			return errOnDemand(name)
		}
		a, err := st.pick(*in.ShardToMerge)
		if err != nil {
			return err
		}
		b, err := st.pick(*in.AdjacentShardToMerge)
		if err != nil {
			return err
		}
		if err := st.active(); err != nil {
			return err
		}
		for _, sh := range []*shard{a, b} {
			if err := st.mayReshard(sh); err != nil {
				return err
			}
		}
		if a == b || a.Last.next() != b.First { // nor does AWS take them the other way round
			return kinesisapi.ErrInvalidArgumentException("Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging",
				shardID(a.index), shardID(b.index), name.name, name.account)
		}
		p := newPlan(st)
		p.merge(a, b)
		return p.begin(tx)
	})
}

func (s *Service) updateShardCount(ctx context.Context, in *kinesisapi.UpdateShardCountInput) (*kinesisapi.UpdateShardCountOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	target := int(*in.TargetShardCount)
	var out *kinesisapi.UpdateShardCountOutput
	err = s.update(ctx, name, func(tx kv.Tx, st *stream) error {
		if err := st.checkID(in.StreamId); err != nil {
			return err
		}
		if st.Mode == kinesisapi.StreamModeOnDemand {
			return errOnDemand(name)
		}
		if err := st.active(); err != nil {
			return err
		}
		now := len(st.open)
		counts := "Current open shard count: %d, Target shard count: %d"
		switch {
		case target > maxStreamShards:
			return kinesisapi.ErrLimitExceededException("Target shard count or number of open shards cannot be greater than %d. "+counts, maxStreamShards, now, target)
		case target > 2*now:
			return kinesisapi.ErrLimitExceededException("UpdateShardCount cannot scale up over double your current open shard count. "+counts, now, target)
		case 2*target < now:
			return kinesisapi.ErrLimitExceededException("UpdateShardCount cannot scale down below half your current open shard count. "+counts, now, target)
		}
		use, err := s.usage(tx, name.account, name.region)
		if err != nil {
			return err
		}
		if target > now && use.shards+target-now > shardLimit {
			return errShardLimit(name, use.shards, target-now)
		}
		if st.Scaled, err = another(st.Scaled, scalings); err != nil {
			return err
		}
		p := newPlan(st)
		p.scale(target)
		out = &kinesisapi.UpdateShardCountOutput{
			StreamName: &name.name, StreamARN: new(name.arn()), CurrentShardCount: new(int32(now)), TargetShardCount: in.TargetShardCount,
		}
		return p.begin(tx)
	})
	return out, err
}

// another adds now to the times of something that may be done so often in 24 hours.
func another(times []int64, most int) ([]int64, error) {
	now := time.Now()
	times = slices.DeleteFunc(times, func(t int64) bool { return t <= now.Add(-24*time.Hour).UnixMilli() })
	if len(times) >= most {
		return nil, kinesisapi.ErrLimitExceededException("This operation can be performed %d times in a rolling 24 hour period for a stream.", most)
	}
	return append(times, now.UnixMilli()), nil
}
