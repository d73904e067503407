package logs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// The tables. Each key continues with the account and the region, and then:
const (
	groupTable   = "logs.group"   // name -> group
	streamTable  = "logs.stream"  // group id, name -> stream
	lastTable    = "logs.last"    // group id, time of the last event, stream name -> nothing
	chunkTable   = "logs.chunk"   // group id, stream id, time of the first event, sequence -> chunk
	timeTable    = "logs.time"    // group id, time of the first event, ingestion time, stream id, sequence -> size and span of the chunk, stream name
	deletedTable = "logs.deleted" // group id, stream id or 0 for all of the group -> nothing
)

// scope is the account and region that everything lies in.
type scope struct{ account, region string }

func scopeOf(ctx context.Context) scope {
	i := call.From(ctx)
	return scope{i.Account, i.Region}
}

// logGroup is a log group as stored.
type logGroup struct {
	ID        int64             `json:"id"`
	Created   int64             `json:"created"`             // ms
	Retention int32             `json:"retention,omitempty"` // days; 0 is for ever
	Class     string            `json:"class"`
	KMSKey    string            `json:"kmsKey,omitempty"`
	Protected bool              `json:"protected,omitempty"` // from deletion
	Tags      map[string]string `json:"tags,omitempty"`

	Name string `json:"-"` // in the key
}

// logStream is a log stream as stored. First, Last and Ingested mean nothing while Chunks is 0.
type logStream struct {
	ID       int64 `json:"id"`
	Created  int64 `json:"created"`            // ms
	First    int64 `json:"first,omitempty"`    // timestamp of the first event, ms
	Last     int64 `json:"last,omitempty"`     // timestamp of the last event, ms
	Ingested int64 `json:"ingested,omitempty"` // when the last event came, ms
	Chunks   int64 `json:"chunks,omitempty"`   // chunks written so far; the sequence of the next one
	Bytes    int64 `json:"bytes,omitempty"`    // of the events that are stored
	Span     int64 `json:"span,omitempty"`     // ms, the most between the first and the last event of a chunk

	Name string `json:"-"` // in the key
}

// newID returns a random positive id.
func newID() int64 {
	var b [8]byte
	rand.Read(b[:])
	return int64(binary.BigEndian.Uint64(b[:])>>1) | 1
}

func (sc scope) groupKey(name string) []byte {
	return kv.Key(groupTable, sc.account, sc.region, name)
}

// groups is the range of the groups whose names begin with prefix.
func (sc scope) groups(prefix string) kv.Range {
	return kv.BeginsWith(groupTable, sc.account, sc.region, prefix)
}

// allGroups is the range of the groups of all accounts and regions.
func allGroups() kv.Range { return kv.Prefix(groupTable) }

func decodeGroupKey(key []byte) (sc scope, name string, err error) {
	err = kv.Decode(key, nil, &sc.account, &sc.region, &name)
	return sc, name, err
}

func (sc scope) streamKey(group int64, name string) []byte {
	return kv.Key(streamTable, sc.account, sc.region, group, name)
}

// streams is the range of the streams of a group whose names begin with prefix.
func (sc scope) streams(group int64, prefix string) kv.Range {
	return kv.BeginsWith(streamTable, sc.account, sc.region, group, prefix)
}

func streamName(key []byte) (name string, err error) {
	err = kv.Decode(key, nil, nil, nil, nil, &name)
	return name, err
}

func (sc scope) lastKey(group, last int64, name string) []byte {
	return kv.Key(lastTable, sc.account, sc.region, group, last, name)
}

// lasts is the range of the streams of a group by the time of their last event.
func (sc scope) lasts(group int64) kv.Range {
	return kv.Prefix(lastTable, sc.account, sc.region, group)
}

func lastName(key []byte) (name string, err error) {
	err = kv.Decode(key, nil, nil, nil, nil, nil, &name)
	return name, err
}

func (sc scope) chunkKey(group, stream, first, seq int64) []byte {
	return kv.Key(chunkTable, sc.account, sc.region, group, stream, first, seq)
}

// chunks is the range of the chunks of a stream whose first event lies in [from, to].
func (sc scope) chunks(group, stream, from, to int64) kv.Range {
	return kv.Range{
		Start: kv.Key(chunkTable, sc.account, sc.region, group, stream, max(from, 0)),
		End:   kv.Key(chunkTable, sc.account, sc.region, group, stream, max(to, -1)+1),
	}
}

func decodeChunkKey(key []byte) (first, seq int64, err error) {
	err = kv.Decode(key, nil, nil, nil, nil, nil, &first, &seq)
	return first, seq, err
}

// indexEntry is a row of the time index.
type indexEntry struct {
	first, ingested, stream, seq int64
	size                         int64 // of the chunk's events
	span                         int64 // ms, from its first event to its last
	name                         string
}

func (sc scope) timeKey(group int64, e *indexEntry) []byte {
	return kv.Key(timeTable, sc.account, sc.region, group, e.first, e.ingested, e.stream, e.seq)
}

// value is two uvarints and the name.
func (e *indexEntry) value() []byte {
	b := make([]byte, 0, 2*binary.MaxVarintLen64+len(e.name))
	b = binary.AppendUvarint(b, uint64(e.size))
	b = binary.AppendUvarint(b, uint64(e.span))
	return append(b, e.name...)
}

// times is the range of the chunks of a group whose first event lies in [from, to].
func (sc scope) times(group, from, to int64) kv.Range {
	return kv.Range{
		Start: kv.Key(timeTable, sc.account, sc.region, group, max(from, 0)),
		End:   kv.Key(timeTable, sc.account, sc.region, group, max(to, -1)+1),
	}
}

func decodeIndexEntry(e kv.Entry) (x indexEntry, err error) {
	if err := kv.Decode(e.Key, nil, nil, nil, nil, &x.first, &x.ingested, &x.stream, &x.seq); err != nil {
		return x, err
	}
	rest := e.Value
	for _, p := range []*int64{&x.size, &x.span} {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return x, fmt.Errorf("logs: the index is corrupt at %s", kv.Format(e.Key))
		}
		*p, rest = int64(v), rest[n:]
	}
	x.name = string(rest)
	return x, nil
}

// deletedKey is the row that says what is to be removed: a stream of a group, or with stream 0 all of the group.
func (sc scope) deletedKey(group, stream int64) []byte {
	return kv.Key(deletedTable, sc.account, sc.region, group, stream)
}

func allDeleted() kv.Range { return kv.Prefix(deletedTable) }

func decodeDeletedKey(key []byte) (sc scope, group, stream int64, err error) {
	err = kv.Decode(key, nil, &sc.account, &sc.region, &group, &stream)
	return sc, group, stream, err
}

// remains are the ranges that hold what is left of a deleted group.
func (sc scope) remains(group int64) []kv.Range {
	var all []kv.Range
	for _, table := range []string{streamTable, lastTable, timeTable, chunkTable} {
		all = append(all, kv.Prefix(table, sc.account, sc.region, group))
	}
	return all
}

// remainsOfStream is the range that holds the chunks of a deleted stream; each has a row in the time index too.
func (sc scope) remainsOfStream(group, stream int64) kv.Range {
	return kv.Prefix(chunkTable, sc.account, sc.region, group, stream)
}

func (sc scope) getGroup(r kv.Reader, name string) (*logGroup, error) {
	g, ok, err := kv.GetJSON[logGroup](r, sc.groupKey(name))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoGroup()
	}
	g.Name = name
	return &g, nil
}

func (sc scope) getStream(r kv.Reader, group int64, name string) (*logStream, error) {
	st, ok, err := kv.GetJSON[logStream](r, sc.streamKey(group, name))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoStream()
	}
	st.Name = name
	return &st, nil
}

func (sc scope) setGroup(tx kv.Tx, g *logGroup) error {
	return kv.SetJSON(tx, sc.groupKey(g.Name), g)
}

func (sc scope) setStream(tx kv.Tx, group int64, st *logStream) error {
	return kv.SetJSON(tx, sc.streamKey(group, st.Name), st)
}

func (sc scope) groupARN(name string) string {
	return arn.New("logs", sc.region, sc.account, "log-group:"+name).String()
}

func (sc scope) streamARN(group, name string) string {
	return sc.groupARN(group) + ":log-stream:" + name
}
