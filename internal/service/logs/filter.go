package logs

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/logfilter"
)

// What one call of FilterLogEvents looks at before it answers with what it has and a token for the rest.
const (
	maxScanBytes  = 16 << 20 // of events, whether they match or not
	maxScanChunks = 50_000   // in the index, whether or not their streams are asked for
)

func (s *Service) filterLogEvents(ctx context.Context, in *logsapi.FilterLogEventsInput) (*logsapi.FilterLogEventsOutput, error) {
	sc := scopeOf(ctx)
	name, err := sc.namedGroup(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if in.LogStreamNames != nil && in.LogStreamNamePrefix != nil {
		return nil, logsapi.ErrInvalidParameterException("logStreamNames and logStreamNamePrefix are mutually exclusive parameters.")
	}
	filter, err := compileFilter(in.FilterPattern)
	if err != nil {
		return nil, err
	}
	out := &logsapi.FilterLogEventsOutput{SearchedLogStreams: []logsapi.SearchedLogStream{}}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		g, err := sc.getGroup(r, name)
		if err != nil {
			return err
		}
		sr := search{
			r: r, sc: sc, group: g.ID, filter: filter, limit: int(num(in.Limit, maxPageEvents)),
			end:     min(num(in.EndTime, maxTimestamp), maxTimestamp),
			streams: map[int64]*string{},
		}
		sr.from.ts = max(num(in.StartTime, 0), horizon(time.Now().UnixMilli(), g.Retention))
		if in.NextToken != nil {
			p, err := parseSpot(*in.NextToken, g.ID)
			if err != nil {
				return err
			}
			if p.compare(&sr.from) > 0 {
				sr.from = p
			}
		}
		if err := sr.choose(in.LogStreamNames, in.LogStreamNamePrefix); err != nil {
			return err
		}
		next, err := sr.run()
		if err != nil {
			return err
		}
		out.Events = sr.outputs()
		if next != nil {
			out.NextToken = new(next.token(g.ID))
		}
		return nil
	})
}

// spot is the place of an event among those of its group: by timestamp, then by ingestion time, then by stream and its place
// there. As a boundary it stands just before that place.
type spot struct {
	position
	ingested, stream int64
}

func (p *spot) compare(q *spot) int {
	if c := cmp.Compare(p.ts, q.ts); c != 0 {
		return c
	}
	if c := cmp.Compare(p.ingested, q.ingested); c != 0 {
		return c
	}
	if c := cmp.Compare(p.stream, q.stream); c != 0 {
		return c
	}
	return p.position.compare(q.position)
}

// token is the boundary p in a group.
func (p *spot) token(group int64) string {
	b := []byte{1}
	for _, v := range []int64{group, p.ts, p.ingested, p.stream, p.seq, int64(p.idx)} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseSpot(token string, group int64) (p spot, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) == 0 || b[0] != 1 {
		return p, errBadToken()
	}
	b = b[1:]
	var v [6]int64
	for i := range v {
		u, n := binary.Uvarint(b)
		if n <= 0 || u > math.MaxInt64 {
			return p, errBadToken()
		}
		v[i], b = int64(u), b[n:]
	}
	if len(b) > 0 || v[0] != group || v[5] > math.MaxInt32 {
		return p, errBadToken()
	}
	return spot{position: position{ts: v[1], seq: v[4], idx: int(v[5])}, ingested: v[2], stream: v[3]}, nil
}

// match is an event that a search found.
type match struct {
	spot
	message string
	stream  *string // name
}

// search looks for events in a group in the order of time.
type search struct {
	r      kv.Reader
	sc     scope
	group  int64
	filter *logfilter.Filter
	from   spot
	end    int64 // ms, inclusive
	limit  int

	only    bool              // streams holds all that are asked for
	streams map[int64]*string // names of streams by id; nil for those that do not exist any more
	found   []match
	bytes   int // of messages in found
}

// choose limits the search to streams with these names, or with names that begin with prefix.
func (sr *search) choose(names []string, prefix *string) error {
	sr.only = names != nil || prefix != nil
	for _, name := range names {
		st, err := sr.sc.getStream(sr.r, sr.group, name)
		if err != nil {
			return err
		}
		sr.streams[st.ID] = &st.Name
	}
	if prefix == nil {
		return nil
	}
	for rec, err := range kv.ScanJSON[logStream](sr.r, sr.sc.streams(sr.group, *prefix)) {
		if err != nil {
			return err
		}
		name, err := streamName(rec.Key)
		if err != nil {
			return err
		}
		if rec.Value.Chunks > 0 && rec.Value.Last >= sr.from.ts && rec.Value.First <= sr.end {
			sr.streams[rec.Value.ID] = &name
		}
	}
	return nil
}

// name returns the name of the stream of a chunk, or nil if it is not asked for or deleted.
func (sr *search) name(e *indexEntry) (*string, error) {
	if name, ok := sr.streams[e.stream]; ok || sr.only {
		return name, nil
	}
	st, ok, err := kv.GetJSON[logStream](sr.r, sr.sc.streamKey(sr.group, e.name))
	if err != nil {
		return nil, err
	}
	var name *string
	if ok && st.ID == e.stream {
		name = &e.name
	}
	sr.streams[e.stream] = name
	return name, nil
}

// run fills found and returns the boundary of what is left, nil if nothing is. The index is in the order of spots, so a
// match is settled, as in window.read, when the scan has come to chunks that lie behind it.
func (sr *search) run() (*spot, error) {
	scanned, entries := int64(0), 0
	for entry, err := range sr.r.Scan(sr.sc.times(sr.group, sr.from.ts-chunkSpan, sr.end)) {
		if err != nil {
			return nil, err
		}
		e, err := decodeIndexEntry(entry)
		if err != nil {
			return nil, err
		}
		here := spot{position{ts: e.first, seq: e.seq}, e.ingested, e.stream}
		end := spot{position{e.first + e.span, e.seq, math.MaxInt}, e.ingested, e.stream}
		if end.compare(&sr.from) < 0 {
			continue
		}
		if (len(sr.found) >= sr.limit || sr.bytes >= maxPageBytes) && sr.enough(&here) {
			return sr.cut(&here), nil
		}
		if here.compare(&sr.from) > 0 { // what is read again does not count, so that every page gets further
			if scanned >= maxScanBytes || entries >= maxScanChunks {
				return sr.cut(&here), nil
			}
			entries++
		}
		name, err := sr.name(&e)
		if err != nil {
			return nil, err
		}
		if name == nil {
			continue
		}
		if entries > 0 {
			scanned += e.size
		}
		if err := sr.chunk(&e, name); err != nil {
			return nil, err
		}
	}
	return sr.cut(nil), nil
}

// chunk adds the matches in one chunk.
func (sr *search) chunk(e *indexEntry, name *string) error {
	value, ok, err := sr.r.Get(sr.sc.chunkKey(sr.group, e.stream, e.first, e.seq))
	if err != nil || !ok {
		return err
	}
	c, err := openChunk(e.first, value)
	if err != nil {
		return err
	}
	for idx := 0; ; idx++ {
		ts, message, done, err := c.next()
		if err != nil || done || ts > sr.end {
			return err
		}
		at := spot{position{ts, e.seq, idx}, c.ingested, e.stream}
		if ts < sr.from.ts || at.compare(&sr.from) < 0 || !sr.filter.Match(message) {
			continue
		}
		if !sr.filter.All() {
			message = strings.Clone(message) // one match must not keep its whole chunk in memory
		}
		sr.found = append(sr.found, match{at, message, name})
		sr.bytes += len(message)
	}
}

// enough reports whether a page's worth of matches lies before next.
func (sr *search) enough(next *spot) bool {
	n, bytes := 0, 0
	for i := range sr.found {
		if m := &sr.found[i]; m.compare(next) < 0 {
			n++
			bytes += len(m.message)
		}
	}
	return n >= sr.limit || bytes >= maxPageBytes
}

// cut sorts the matches and leaves those before next, which is nil at the end, that fit in a page. It returns the boundary
// of what is left, nil if nothing is.
func (sr *search) cut(next *spot) *spot {
	slices.SortFunc(sr.found, func(a, b match) int { return a.compare(&b.spot) })
	n, bytes := 0, 0
	for ; n < len(sr.found) && (next == nil || sr.found[n].compare(next) < 0); n++ {
		if bytes += len(sr.found[n].message); n == sr.limit || n > 0 && bytes > maxPageBytes {
			next = new(sr.found[n].spot)
			break
		}
	}
	sr.found = sr.found[:n]
	return next
}

func (sr *search) outputs() []logsapi.FilteredLogEvent {
	out := make([]logsapi.FilteredLogEvent, len(sr.found))
	for i := range sr.found {
		m := &sr.found[i]
		out[i] = logsapi.FilteredLogEvent{
			LogStreamName: m.stream, Timestamp: &m.ts, Message: &m.message, IngestionTime: &m.ingested,
			EventId: new(m.eventID(m.spot.stream)),
		}
	}
	return out
}
