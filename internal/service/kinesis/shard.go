package kinesis

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
)

// shown are the shards that clients see: those that are to come are there once they are open, and those whose records are all past their
// retention are gone.
func (st *stream) shown() (all []*shard) {
	horizon := time.Now().Add(-time.Duration(st.Retention) * time.Hour).UnixMilli()
	for _, sh := range st.shards {
		if sh.State != shardComing && (sh.State != shardClosed || sh.Closed >= horizon) {
			all = append(all, sh)
		}
	}
	return all
}

// after returns the shards behind one.
func (st *stream) after(shards []*shard, id string) ([]*shard, error) {
	index, ok := parseShardID(id)
	if !ok {
		return nil, errNoShard(st.ref, id)
	}
	i := slices.IndexFunc(shards, func(sh *shard) bool { return sh.index > index })
	if i < 0 {
		i = len(shards)
	}
	return shards[i:], nil
}

func (sh *shard) hashRange() *kinesisapi.HashKeyRange {
	return &kinesisapi.HashKeyRange{StartingHashKey: new(sh.First.String()), EndingHashKey: new(sh.Last.String())}
}

func (st *stream) describe(sh *shard) kinesisapi.Shard {
	d := kinesisapi.Shard{
		ShardId: new(shardID(sh.index)), HashKeyRange: sh.hashRange(),
		SequenceNumberRange: &kinesisapi.SequenceNumberRange{StartingSequenceNumber: new(st.number(sh, sh.Start))},
	}
	if len(sh.Parent) > 0 {
		d.ParentShardId = new(shardID(sh.Parent[0]))
	}
	if len(sh.Parent) > 1 {
		d.AdjacentParentShardId = new(shardID(sh.Parent[1]))
	}
	if sh.State == shardClosed {
		d.SequenceNumberRange.EndingSequenceNumber = new(st.number(sh, sh.End))
	}
	return d
}

// childShards are those that a reader goes on with behind the end of a shard.
func (st *stream) childShards(sh *shard) (all []kinesisapi.ChildShard) {
	for _, child := range st.children(sh.index) {
		c := kinesisapi.ChildShard{ShardId: new(shardID(child.index)), HashKeyRange: child.hashRange()}
		for _, p := range child.Parent {
			c.ParentShards = append(c.ParentShards, shardID(p))
		}
		all = append(all, c)
	}
	return all
}

// shardsPage is what the token of ListShards holds.
type shardsPage struct {
	UID    int64                   `json:"u"`
	After  string                  `json:"a"`
	Filter *kinesisapi.ShardFilter `json:"f,omitempty"`
}

func (s *Service) listShards(ctx context.Context, in *kinesisapi.ListShardsInput) (*kinesisapi.ListShardsOutput, error) {
	var name ref
	page := shardsPage{After: or(in.ExclusiveStartShardId, ""), Filter: in.ShardFilter}
	switch {
	case in.NextToken != nil:
		if in.StreamName != nil || in.ExclusiveStartShardId != nil || in.StreamCreationTimestamp != nil || in.ShardFilter != nil {
			return nil, kinesisapi.ErrInvalidArgumentException("NextToken and StreamName cannot be provided together.")
		}
		arn, b, _, err := s.unseal(shardsToken, *in.NextToken)
		if err == nil {
			err = json.Unmarshal(b, &page)
		}
		if err == nil {
			name, _, err = parseARN(arn)
		}
		if err != nil {
			return nil, tokenError(err)
		}
		if in.StreamARN != nil && *in.StreamARN != arn {
			return nil, tokenError(errToken)
		}
	case in.StreamName == nil && in.StreamARN == nil:
		return nil, kinesisapi.ErrInvalidArgumentException("Either NextToken or StreamName should be provided.")
	default:
		var err error
		if name, err = named(ctx, in.StreamName, in.StreamARN, in.StreamId); err != nil {
			return nil, err
		}
	}
	st, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := st.checkID(in.StreamId); err != nil {
		return nil, err
	}
	if page.UID != 0 && page.UID != st.UID || in.StreamCreationTimestamp != nil && in.StreamCreationTimestamp.Unix() != st.created().Unix() {
		return nil, errNoStream(name)
	}
	if st.Status == kinesisapi.StreamStatusCreating {
		return nil, errNotActive(st)
	}
	shards, err := st.filtered(page.Filter)
	if err != nil {
		return nil, err
	}
	if page.After != "" {
		if shards, err = st.after(shards, page.After); err != nil {
			return nil, err
		}
	}
	out := &kinesisapi.ListShardsOutput{Shards: []kinesisapi.Shard{}}
	if n := int(or(in.MaxResults, 1000)); len(shards) > n {
		shards = shards[:n]
		b, err := json.Marshal(shardsPage{st.UID, shardID(shards[n-1].index), page.Filter})
		if err != nil {
			return nil, err
		}
		out.NextToken = new(s.seal(shardsToken, name.arn(), b))
	}
	for _, sh := range shards {
		out.Shards = append(out.Shards, st.describe(sh))
	}
	return out, nil
}

// filtered returns the shards that a filter lets through.
func (st *stream) filtered(f *kinesisapi.ShardFilter) ([]*shard, error) {
	shards := st.shown()
	if f == nil {
		return shards, nil
	}
	switch *f.Type {
	case kinesisapi.ShardFilterTypeAfterShardId:
		if f.ShardId == nil {
			return nil, kinesisapi.ErrInvalidArgumentException("ShardId must be specified for a ShardFilter of type %s.", *f.Type)
		}
		return st.after(shards, *f.ShardId)
	case kinesisapi.ShardFilterTypeAtTimestamp, kinesisapi.ShardFilterTypeFromTimestamp:
		if f.Timestamp == nil {
			return nil, kinesisapi.ErrInvalidArgumentException("Timestamp must be specified for a ShardFilter of type %s.", *f.Type)
		}
	}
	horizon := time.Now().Add(-time.Duration(st.Retention) * time.Hour)
	at := horizon.UnixMilli()
	if f.Timestamp != nil {
		at = max(at, f.Timestamp.UnixMilli())
	}
	return slices.DeleteFunc(shards, func(sh *shard) bool {
		ended := sh.State == shardClosed
		switch *f.Type {
		case kinesisapi.ShardFilterTypeAtLatest:
			return ended
		case kinesisapi.ShardFilterTypeAtTrimHorizon: // those that were open when the oldest record came, or that the stream began with
			return len(sh.Parent) > 0 && sh.Opened > at
		case kinesisapi.ShardFilterTypeAtTimestamp:
			return sh.Opened > at && (len(sh.Parent) > 0 || at >= st.Created) || ended && sh.Closed < at
		case kinesisapi.ShardFilterTypeFromTimestamp:
			return ended && sh.Closed < at
		}
		return false
	}), nil
}

// pageOf is the payload of a token: a uid and a name.
func pageOf(uid int64, name string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(uid)), name...)
}
