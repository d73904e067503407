package logs

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// The limits of PutLogEvents, from the API reference. That of 10,000 events is in the model.
const (
	maxBatchBytes = 1 << 20 // of all messages and eventOverhead for each
	maxEventBytes = 1 << 20 // likewise, of one
	maxBatchSpan  = 24 * time.Hour
	maxAge        = 14 * 24 * time.Hour
	maxAhead      = 2 * time.Hour
)

var packers = sync.Pool{New: func() any { return new(packer) }}

func (s *Service) putLogEvents(ctx context.Context, in *logsapi.PutLogEventsInput) (*logsapi.PutLogEventsOutput, error) {
	if err := checkBatch(in.LogEvents); err != nil {
		return nil, err
	}
	sc := scopeOf(ctx)
	now := time.Now().UnixMilli()
	p := packers.Get().(*packer)
	defer func() {
		if p.small() {
			packers.Put(p)
		}
	}()
	var (
		g        *logGroup
		st       *logStream
		accepted []logsapi.InputLogEvent
		rejected *logsapi.RejectedLogEventsInfo
		chunks   []packed
	)
	err := s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if g, err = sc.getGroup(tx, *in.LogGroupName); err != nil {
			return err
		}
		if st, err = sc.getStream(tx, g.ID, *in.LogStreamName); err != nil {
			return err
		}
		fit, info := sift(in.LogEvents, now, g.Retention)
		if err := checkSpan(fit); err != nil {
			return err
		}
		if chunks == nil || len(fit) != len(accepted) { // the group's retention may have changed since the last try
			chunks = p.pack(fit, now)
		}
		accepted, rejected = fit, info
		if len(fit) == 0 {
			return nil
		}
		return sc.write(tx, g, st, chunks, *fit[len(fit)-1].Timestamp, now)
	})
	if err != nil {
		return nil, err
	}
	s.tails.publish(g, st, accepted, now)
	return &logsapi.PutLogEventsOutput{NextSequenceToken: new(st.sequenceToken()), RejectedLogEventsInfo: rejected}, nil
}

// write adds chunks to a stream and brings its row and its place in the index of last events up to date.
func (sc scope) write(tx kv.Tx, g *logGroup, st *logStream, chunks []packed, last, now int64) error {
	oldLast, isNew := st.Last, st.Chunks == 0
	for i := range chunks {
		c := &chunks[i]
		e := indexEntry{first: c.first, ingested: now, stream: st.ID, seq: st.Chunks, size: c.size, span: c.span, name: st.Name}
		tx.Set(sc.chunkKey(g.ID, st.ID, c.first, st.Chunks), c.value)
		tx.Set(sc.timeKey(g.ID, &e), e.value())
		st.Chunks++
		st.Bytes += c.size
		st.Span = max(st.Span, c.span)
	}
	if first := chunks[0].first; isNew || first < st.First {
		st.First = first
	}
	st.Ingested = now
	if isNew || last > st.Last {
		st.Last = last
		tx.Delete(sc.lastKey(g.ID, oldLast, st.Name))
		tx.Set(sc.lastKey(g.ID, last, st.Name), nil)
	}
	return sc.setStream(tx, g.ID, st)
}

// sequenceToken is what AWS used to require of the next batch, and still returns.
func (st *logStream) sequenceToken() string { return fmt.Sprintf("%056d", st.Chunks) }

// checkBatch checks order and sizes.
func checkBatch(events []logsapi.InputLogEvent) error {
	total := 0
	for i := range events {
		e := &events[i]
		if i > 0 && *e.Timestamp < *events[i-1].Timestamp {
			return logsapi.ErrInvalidParameterException("Log events in a single PutLogEvents request must be in chronological order.")
		}
		size := len(*e.Message) + eventOverhead
		if size > maxEventBytes {
			return logsapi.ErrInvalidParameterException("Log event too large: %d bytes exceeds limit of %d", size, maxEventBytes)
		}
		total += size
	}
	if total > maxBatchBytes {
		return logsapi.ErrInvalidParameterException("Upload too large: %d bytes exceeds limit of %d", total, maxBatchBytes)
	}
	return nil
}

// sift returns the events that are neither too old, nor past the retention, nor too far in the future, and says which
// are. The events are in order, so each kind is a run.
func sift(events []logsapi.InputLogEvent, now int64, retention int32) ([]logsapi.InputLogEvent, *logsapi.RejectedLogEventsInfo) {
	before := func(ts int64) int {
		return sort.Search(len(events), func(i int) bool { return *events[i].Timestamp >= ts })
	}
	tooOld := before(now - maxAge.Milliseconds())
	expired := before(horizon(now, retention))
	tooNew := before(now + maxAhead.Milliseconds() + 1)
	if tooOld == 0 && expired == 0 && tooNew == len(events) {
		return events, nil
	}
	info := &logsapi.RejectedLogEventsInfo{}
	if tooOld > 0 {
		info.TooOldLogEventEndIndex = new(int32(tooOld))
	}
	if expired > 0 && expired > tooOld {
		info.ExpiredLogEventEndIndex = new(int32(expired))
	}
	if tooNew < len(events) {
		info.TooNewLogEventStartIndex = new(int32(tooNew))
	}
	return events[min(max(tooOld, expired), tooNew):tooNew], info
}

func checkSpan(events []logsapi.InputLogEvent) error {
	if n := len(events); n > 0 && *events[n-1].Timestamp-*events[0].Timestamp > maxBatchSpan.Milliseconds() {
		return logsapi.ErrInvalidParameterException("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	}
	return nil
}
