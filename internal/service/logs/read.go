package logs

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// The most that one page of GetLogEvents and FilterLogEvents holds.
const (
	maxPageEvents = 10_000
	maxPageBytes  = 1 << 20 // of messages; one event is always let through
)

// event is an event as read.
type event struct {
	pos      position
	ingested int64
	message  string
}

func (s *Service) getLogEvents(ctx context.Context, in *logsapi.GetLogEventsInput) (*logsapi.GetLogEventsOutput, error) {
	sc := scopeOf(ctx)
	name, err := sc.namedGroup(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	limit := int(num(in.Limit, maxPageEvents))
	var out *logsapi.GetLogEventsOutput
	err = s.db.View(ctx, func(r kv.Reader) error {
		g, err := sc.getGroup(r, name)
		if err != nil {
			return err
		}
		st, err := sc.getStream(r, g.ID, *in.LogStreamName)
		if err != nil {
			return err
		}
		w := window{sc: sc, group: g.ID, stream: st.ID, span: st.Span, limit: limit}
		w.from.ts = min(max(num(in.StartTime, 0), horizon(time.Now().UnixMilli(), g.Retention)), maxTimestamp)
		w.to = lastPosition
		if in.EndTime != nil {
			w.to = position{ts: *in.EndTime}
		}
		// Where an empty page stands: at the end that reading starts from, so that what comes later is not missed.
		at := w.from
		if in.NextToken != nil {
			p, direction, err := parseToken(*in.NextToken, st.ID)
			if err != nil {
				return err
			}
			at = p
			if direction == 'f' {
				w.from = later(w.from, p)
			} else {
				w.backward, w.to = true, earlier(w.to, p)
			}
		} else {
			w.backward = !is(in.StartFromHead)
		}
		events, err := w.read(r)
		if err != nil {
			return err
		}
		first, last := at, at
		if n := len(events); n > 0 {
			first, last = events[0].pos, events[n-1].pos.after()
		}
		out = &logsapi.GetLogEventsOutput{
			Events:            outputs(events),
			NextForwardToken:  new(last.token('f', st.ID)),
			NextBackwardToken: new(first.token('b', st.ID)),
		}
		return nil
	})
	return out, err
}

func outputs(events []event) []logsapi.OutputLogEvent {
	out := make([]logsapi.OutputLogEvent, len(events))
	for i := range events {
		e := &events[i]
		out[i] = logsapi.OutputLogEvent{Timestamp: &e.pos.ts, Message: &e.message, IngestionTime: &e.ingested}
	}
	return out
}

func earlier(p, q position) position {
	if p.compare(q) < 0 {
		return p
	}
	return q
}

func later(p, q position) position {
	if p.compare(q) > 0 {
		return p
	}
	return q
}

// window is a part of a stream: the first events in [from, to), or the last ones if backward, at most limit and maxPageBytes.
type window struct {
	sc            scope
	group, stream int64
	span          int64 // of the stream's chunks, at most
	from, to      position
	backward      bool
	limit         int
}

// read returns the events of the window in order. Chunks come by the time of their first event and may overlap, though none
// spans more than span. So an event is settled, which means that none still to be read goes before it (backward: behind
// it), when the scan has come to chunks that lie behind it (backward: that much before it).
func (w *window) read(r kv.Reader) ([]event, error) {
	if w.from.compare(w.to) >= 0 {
		return nil, nil
	}
	rg := w.sc.chunks(w.group, w.stream, w.from.ts-w.span, w.to.ts)
	if w.backward {
		rg = rg.Backward()
	}
	var events []event
	bytes := 0
	for e, err := range r.Scan(rg) {
		if err != nil {
			return nil, err
		}
		first, seq, err := decodeChunkKey(e.Key)
		if err != nil {
			return nil, err
		}
		if (len(events) >= w.limit || bytes >= maxPageBytes) && w.enough(events, first, seq) {
			break
		}
		c, err := openChunk(first, e.Value)
		if err != nil {
			return nil, err
		}
		for idx := 0; ; idx++ {
			ts, message, done, err := c.next()
			if err != nil {
				return nil, err
			}
			if done {
				break
			}
			pos := position{ts, seq, idx}
			if pos.compare(w.from) >= 0 && pos.compare(w.to) < 0 {
				events = append(events, event{pos, c.ingested, message})
				bytes += len(message)
			}
		}
	}
	slices.SortFunc(events, func(a, b event) int { return a.pos.compare(b.pos) })
	return w.cut(events), nil
}

// enough reports whether a page's worth of events is settled when the chunk (first, seq) comes next.
func (w *window) enough(events []event, first, seq int64) bool {
	edge, side := position{ts: first, seq: seq}, -1
	if w.backward {
		edge, side = position{first + w.span, seq, math.MaxInt}, 1
		if w.span > 0 {
			edge.seq = math.MaxInt64 // an earlier chunk may reach as far and have come later
		}
	}
	n, bytes := 0, 0
	for i := range events {
		if e := &events[i]; e.pos.compare(edge) == side {
			n++
			bytes += len(e.message)
		}
	}
	return n >= w.limit || bytes >= maxPageBytes
}

// cut leaves what fits in a page, at the end where reading starts.
func (w *window) cut(events []event) []event {
	n, bytes := 0, 0
	for ; n < len(events) && n < w.limit; n++ {
		e := &events[n]
		if w.backward {
			e = &events[len(events)-1-n]
		}
		if bytes += len(e.message); n > 0 && bytes > maxPageBytes {
			break
		}
	}
	if w.backward {
		return events[len(events)-n:]
	}
	return events[:n]
}
