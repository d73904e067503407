package kinesis

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/commitlog"
)

// The most that a GetRecords returns.
const (
	maxReadRecords = 10_000
	maxReadBytes   = 10 << 20
)

func (s *Service) getShardIterator(ctx context.Context, in *kinesisapi.GetShardIteratorInput) (*kinesisapi.GetShardIteratorOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	st, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := st.checkID(in.StreamId); err != nil {
		return nil, err
	}
	sh, err := st.readable(*in.ShardId)
	if err != nil {
		return nil, err
	}
	from, err := s.position(ctx, st, sh, *in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp, "GetShardIterator")
	if err != nil {
		return nil, err
	}
	return &kinesisapi.GetShardIteratorOutput{ShardIterator: s.sealIterator(name.arn(), iterator{st.UID, sh.index, from})}, nil
}

// readable is a shard that clients see.
func (st *stream) readable(id string) (*shard, error) {
	index, ok := parseShardID(id)
	if !ok {
		return nil, errNoShard(st.ref, id)
	}
	for _, sh := range st.shown() {
		if sh.index == index {
			return sh, nil
		}
	}
	return nil, errShardMissing(st.ref, shardID(index))
}

// position is where in a shard a reader begins.
func (s *Service) position(ctx context.Context, st *stream, sh *shard, kind string, sequence *string, at *time.Time, operation string) (uint64, error) {
	switch kind {
	case kinesisapi.ShardIteratorTypeTrimHorizon, kinesisapi.ShardIteratorTypeLatest:
		if sequence != nil {
			return 0, kinesisapi.ErrInvalidArgumentException("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "+
				"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and also a StartingSequenceNumber.", kind)
		}
		if kind == kinesisapi.ShardIteratorTypeLatest {
			return s.recordLog(st, sh.index).Tail(ctx)
		}
		return sh.Start, nil
	case kinesisapi.ShardIteratorTypeAtTimestamp:
		if at == nil {
			return 0, kinesisapi.ErrInvalidArgumentException("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
		}
		if now := time.Now(); at.After(now) {
			return 0, kinesisapi.ErrInvalidArgumentException("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %d, currentTimestampInMillis: %d",
				at.UnixMilli(), now.UnixMilli())
		}
		// Nothing that is yet to come lies before it, although the clock was set back.
		tail, err := s.recordLog(st, sh.index).Tail(ctx)
		return max(sh.Start, min(commitlog.At(*at), tail)), err
	}
	if sequence == nil {
		return 0, kinesisapi.ErrInvalidArgumentException("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "+
			"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and no StartingSequenceNumber.", kind)
	}
	n, err := parseNumber(*sequence)
	switch {
	case err != nil:
		return 0, kinesisapi.ErrInvalidArgumentException("StartingSequenceNumber %s used in %s on shard %s in stream %s under account %s is invalid.",
			*sequence, operation, shardID(sh.index), st.ref.name, st.ref.account)
	case n.shard != sh.index:
		return 0, kinesisapi.ErrInvalidArgumentException("Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s", shardID(n.shard), shardID(sh.index))
	case n.uid != st.UID:
		return 0, kinesisapi.ErrInvalidArgumentException("StartingSequenceNumber %s used in %s on shard %s in stream %s under account %s is invalid because it did not come from this stream.",
			*sequence, operation, shardID(sh.index), st.ref.name, st.ref.account)
	}
	if kind == kinesisapi.ShardIteratorTypeAfterSequenceNumber {
		n.position++
	}
	return n.position, nil
}

func (s *Service) getRecords(ctx context.Context, in *kinesisapi.GetRecordsInput) (*kinesisapi.GetRecordsOutput, error) {
	token := *in.ShardIterator
	if n := len(token); n > 2 && token[0] == '"' && token[n-1] == '"' {
		token = token[1 : n-1] // as AWS does
	}
	arn, it, at, err := s.unsealIterator(token)
	now := time.Now()
	switch {
	case err == errExpired:
		return nil, kinesisapi.ErrExpiredIteratorException("Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the tolerated delay of %d milliseconds.",
			at.UTC().Format(time.UnixDate), now.UTC().Format(time.UnixDate), tokenLife.Milliseconds())
	case err != nil || in.StreamARN != nil && *in.StreamARN != arn:
		return nil, kinesisapi.ErrInvalidArgumentException("Invalid ShardIterator.")
	}
	name, _, err := parseARN(arn)
	if err != nil {
		return nil, err
	}
	st, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := st.checkID(in.StreamId); err != nil {
		return nil, err
	}
	if st.UID != it.uid || st.shard(it.shard) == nil {
		return nil, errShardMissing(name, shardID(it.shard))
	}
	key := shardKey{it.uid, it.shard}
	// What reads for event source mappings is told of records when they arrive and reads each once: the limits are for those who poll.
	unlimited := s.unlimited || call.From(ctx).Principal.Type == call.Service
	if !unlimited && !s.limits.read(key, now) {
		return nil, errRate(name, it.shard)
	}
	page, err := s.read(ctx, st, it.shard, it.position, int(or(in.Limit, maxReadRecords)), maxReadBytes)
	if err != nil {
		return nil, err
	}
	if !unlimited {
		s.limits.sent(key, page.bytes, now)
	}
	s.subs.polled(key, page.behind, now)
	out := &kinesisapi.GetRecordsOutput{Records: page.records, MillisBehindLatest: &page.behind}
	if page.ended {
		out.ChildShards = page.children
	} else {
		out.NextShardIterator = s.sealIterator(arn, iterator{it.uid, it.shard, page.next})
	}
	return out, nil
}

// page is what a shard holds from a position on.
type page struct {
	records  []kinesisapi.Record // never nil
	bytes    int
	next     uint64
	behind   int64 // ms behind the tip of the shard
	ended    bool  // nothing will follow
	children []kinesisapi.ChildShard
}

// read reads a shard. What is past the retention is passed over, whether or not it was trimmed.
func (s *Service) read(ctx context.Context, st *stream, index uint32, from uint64, records, bytes int) (p page, err error) {
	b, err := s.recordLog(st, index).Read(ctx, max(from, st.horizon()), records, bytes)
	if err != nil {
		return p, err
	}
	p.records, p.next = make([]kinesisapi.Record, 0, len(b.Records)), max(from, b.Next)
	if len(b.Records) == 0 {
		p.next = from // the horizon moves on by itself
	}
	var arrived *time.Time // shared by records that came together
	for i := range b.Records {
		r := &b.Records[i]
		key, data, encrypted, end, err := decodeRecord(r.Data)
		if err != nil {
			return p, err
		}
		if end {
			p.ended = true
			break
		}
		if arrived == nil || !arrived.Equal(r.Time) {
			arrived = &r.Time
		}
		rec := kinesisapi.Record{
			SequenceNumber: new(number{r.Position, index, st.UID}.String()), ApproximateArrivalTimestamp: arrived, Data: data, PartitionKey: &key,
		}
		if encrypted {
			rec.EncryptionType = new(kinesisapi.EncryptionTypeKms)
		}
		p.bytes += len(data) + len(key)
		p.records = append(p.records, rec)
	}
	sh := st.shard(index)
	if sh.State == shardClosed && b.Pending.IsZero() {
		p.ended = true // also when the end itself was trimmed
	}
	if p.ended {
		if sh.State != shardClosed { // it ended since st was loaded
			if st, err = s.view(ctx, st.ref); err != nil {
				return p, err
			}
		}
		p.children = st.childShards(sh)
		return p, nil
	}
	if !b.Pending.IsZero() {
		p.behind = max(1, time.Since(b.Pending).Milliseconds())
	}
	return p, nil
}
