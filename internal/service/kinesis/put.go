package kinesis

import (
	"context"
	"errors"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// maxPutBytes is the most that the records of a PutRecords have together, partition keys included.
const maxPutBytes = 10 << 20

// entry is one record on its way into a shard.
type entry struct {
	key, explicit *string
	data          []byte

	shard    *shard
	refused  bool // its shard is at its limit
	position uint64
}

func (s *Service) putRecord(ctx context.Context, in *kinesisapi.PutRecordInput) (*kinesisapi.PutRecordOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	entries := []entry{{key: in.PartitionKey, explicit: in.ExplicitHashKey, data: in.Data}}
	st, err := s.put(ctx, name, in.StreamId, in.SequenceNumberForOrdering, entries)
	if err != nil {
		return nil, err
	}
	e := &entries[0]
	if e.refused {
		return nil, errRate(name, e.shard.index)
	}
	out := &kinesisapi.PutRecordOutput{ShardId: new(shardID(e.shard.index)), SequenceNumber: new(st.number(e.shard, e.position))}
	if st.KeyID != "" {
		out.EncryptionType = st.encryption()
	}
	return out, nil
}

func (s *Service) putRecords(ctx context.Context, in *kinesisapi.PutRecordsInput) (*kinesisapi.PutRecordsOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(in.Records))
	for i := range in.Records {
		r := &in.Records[i]
		entries[i] = entry{key: r.PartitionKey, explicit: r.ExplicitHashKey, data: r.Data}
	}
	st, err := s.put(ctx, name, in.StreamId, nil, entries)
	if err != nil {
		return nil, err
	}
	out := &kinesisapi.PutRecordsOutput{Records: make([]kinesisapi.PutRecordsResultEntry, len(entries))}
	failed := int32(0)
	ids := map[uint32]*string{}
	for i := range entries {
		e, r := &entries[i], &out.Records[i]
		if e.refused {
			failed++
			r.ErrorCode, r.ErrorMessage = new("ProvisionedThroughputExceededException"), new(rateText(name, e.shard.index))
			continue
		}
		id := ids[e.shard.index]
		if id == nil {
			id = new(shardID(e.shard.index))
			ids[e.shard.index] = id
		}
		r.ShardId, r.SequenceNumber = id, new(st.number(e.shard, e.position))
	}
	out.FailedRecordCount = &failed
	if st.KeyID != "" {
		out.EncryptionType = st.encryption()
	}
	return out, nil
}

// check refuses records that are too large, or whose hash key is none.
func (st *stream) check(entries []entry) error {
	most, sum := int(st.MaxRecord)<<10, 0
	for i := range entries {
		e := &entries[i]
		size := len(e.data) + len(*e.key)
		if sum += size; size > most {
			if len(entries) == 1 {
				return kinesisapi.ErrValidationException("1 validation error detected: Value at 'data' failed to satisfy constraint: Member must have length less than or equal to %d", most)
			}
			return kinesisapi.ErrValidationException("1 validation error detected: Value at 'records.%d.member.data' failed to satisfy constraint: Member must have length less than or equal to %d", i+1, most)
		}
	}
	if sum > maxPutBytes {
		return kinesisapi.ErrInvalidArgumentException("Records size exceeds %d MB limit", maxPutBytes>>20)
	}
	return nil
}

// errChanged is how a put says that the stream changed since its records were given to shards.
var errChanged = errors.New("kinesis: the stream changed")

// put writes the entries that are not refused, all in one transaction, and returns the stream that they went to. It begins with the stream as it
// was when it was last seen: the transaction says if that is not how it is.
func (s *Service) put(ctx context.Context, name ref, id, ordering *string, entries []entry) (*stream, error) {
	keys, err := hashKeys(entries)
	if err != nil {
		return nil, err
	}
	metered := s.unlimited
	for st := s.snapshots.get(name); ; st = nil {
		seen := st != nil
		if !seen {
			if st, err = s.view(ctx, name); err != nil {
				return nil, err
			}
		}
		routed, err := st.admit(id, ordering, entries, keys)
		switch {
		case err != nil && seen:
			continue // it may be otherwise by now
		case err != nil:
			return nil, err
		case !routed: // a shard is just being split or merged
			if err := s.awaitOpen(ctx, name); err != nil {
				return nil, err
			}
			continue
		}
		if !metered {
			metered = true
			s.meter(st, entries)
		}
		if err := s.append(ctx, st, entries); err != errChanged {
			return st, err
		}
	}
}

// admit refuses what the stream does not take, and gives each entry to its shard; it reports false if one has none.
func (st *stream) admit(id, ordering *string, entries []entry, keys []hashKey) (routed bool, err error) {
	if st.Status == kinesisapi.StreamStatusCreating || st.Status == kinesisapi.StreamStatusDeleting {
		return false, errNoStream(st.ref)
	}
	if err := st.checkID(id); err != nil {
		return false, err
	}
	if err := st.check(entries); err != nil {
		return false, err
	}
	if ordering != nil {
		if n, err := parseNumber(*ordering); err != nil || n.uid != st.UID {
			return false, kinesisapi.ErrInvalidArgumentException("ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s under account %s is invalid.", *ordering, st.ref.name, st.ref.account)
		}
	}
	for i := range entries {
		if entries[i].refused {
			continue
		}
		if entries[i].shard = st.route(keys[i]); entries[i].shard == nil {
			return false, nil
		}
	}
	return true, nil
}

func hashKeys(entries []entry) ([]hashKey, error) {
	keys := make([]hashKey, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.explicit == nil {
			keys[i] = hashOf(*e.key)
			continue
		}
		h, err := parseHashKey(*e.explicit)
		if err != nil {
			return nil, kinesisapi.ErrInvalidArgumentException("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", *e.explicit)
		}
		keys[i] = h
	}
	return keys, nil
}

// awaitOpen returns when a stream's shards are no longer being split or merged.
func (s *Service) awaitOpen(ctx context.Context, name ref) error {
	for range s.db.Watch(ctx, name.versionKey()) {
		if st, err := s.view(ctx, name); err != nil || !st.Resharding {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return kv.ErrClosed
}

// meter refuses the entries that are above the limits of their shards.
func (s *Service) meter(st *stream, entries []entry) {
	now := time.Now()
	for i := range entries {
		e := &entries[i]
		e.refused = !s.limits.write(shardKey{st.UID, e.shard.index}, len(e.data)+len(*e.key), now)
		if e.refused && st.Mode == kinesisapi.StreamModeOnDemand {
			s.throttled(st.ref)
		}
	}
}

// append writes entries to the logs of their shards, in the order in which they came.
func (s *Service) append(ctx context.Context, st *stream, entries []entry) error {
	kind := byte(plainRecord)
	if st.KeyID != "" {
		kind = encryptedRecord
	}
	size := 0
	byShard := map[uint32][]int{}
	var order []uint32
	for i := range entries {
		e := &entries[i]
		if e.refused {
			continue
		}
		size += recordSize(*e.key, e.data)
		if byShard[e.shard.index] == nil {
			order = append(order, e.shard.index)
		}
		byShard[e.shard.index] = append(byShard[e.shard.index], i)
	}
	if len(order) == 0 {
		return nil
	}
	arena := make([]byte, 0, size)
	records := make([][][]byte, len(order))
	for i, index := range order {
		records[i] = make([][]byte, 0, len(byShard[index]))
		for _, j := range byShard[index] {
			start := len(arena)
			arena = appendRecord(arena, kind, *entries[j].key, entries[j].data)
			records[i] = append(records[i], arena[start:])
		}
	}
	err := s.db.Update(ctx, func(tx kv.Tx) error {
		version, _, err := tx.Get(st.ref.versionKey())
		if err != nil {
			return err
		}
		if string(version) != st.version {
			return errChanged
		}
		for i, index := range order {
			first, err := s.recordLog(st, index).Append(tx, records[i]...)
			if err != nil {
				return err
			}
			for n, j := range byShard[index] {
				entries[j].position = first + uint64(n)
			}
		}
		return nil
	})
	if err == nil {
		for _, index := range order {
			s.arrivals.ring(st.ref, shardID(index))
		}
	}
	return err
}
