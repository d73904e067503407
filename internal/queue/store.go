package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Keys, all of tuples:
//
//	queue, family, "ceiling"              numbers of messages below this one may have been used
//	queue, family, "h", id, due, seq      header
//	queue, family, "b", id, due, seq      body, under the ID that the message had first
const prefix = "queue"

func (s *Queues) ceilingKey() []byte { return kv.Key(prefix, s.family, "ceiling") }

func (s *Queues) headers() kv.Range { return kv.Prefix(prefix, s.family, "h") }

func (s *Queues) headersOf(id string) kv.Range { return kv.Prefix(prefix, s.family, "h", id) }

func (q *Queue) headers() kv.Range { return q.s.headersOf(q.id) }

func (q *Queue) bodies() kv.Range { return kv.Prefix(prefix, q.s.family, "b", q.id) }

func (q *Queue) headerKey(id ID) []byte { return kv.Key(prefix, q.s.family, "h", q.id, id.Due, id.Seq) }

func (q *Queue) bodyKey(id ID) []byte { return kv.Key(prefix, q.s.family, "b", q.id, id.Due, id.Seq) }

const headerVersion = 1

// encode returns the header row: a version and numbers, then the group and the note.
func (e *entry) encode() []byte {
	b := make([]byte, 0, 48+len(e.group)+len(e.note))
	b = append(b, headerVersion)
	var body ID // nothing if it is where it was first
	if e.body != e.id {
		body = e.body
	}
	for _, n := range []int64{e.sent, e.first, e.taken, e.visible, int64(e.delay), int64(e.takes), body.Due} {
		b = binary.AppendVarint(b, n)
	}
	b = binary.AppendUvarint(b, body.Seq)
	b = binary.AppendUvarint(b, uint64(len(e.group)))
	b = append(b, e.group...)
	return append(b, e.note...)
}

var errHeader = errors.New("queue: header is not valid")

// decode reads a header row.
func decode(row kv.Entry) (*entry, error) {
	e := &entry{index: -1}
	if err := kv.Decode(row.Key, nil, nil, nil, nil, &e.id.Due, &e.id.Seq); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if err := e.decode(row.Value); err != nil {
		return nil, fmt.Errorf("%w: at %s", err, kv.Format(row.Key))
	}
	return e, nil
}

func (e *entry) decode(b []byte) error {
	if len(b) == 0 || b[0] != headerVersion {
		return errHeader
	}
	b = b[1:]
	var delay, takes int64
	for _, n := range []*int64{&e.sent, &e.first, &e.taken, &e.visible, &delay, &takes, &e.body.Due} {
		v, l := binary.Varint(b)
		if l <= 0 {
			return errHeader
		}
		*n, b = v, b[l:]
	}
	e.delay, e.takes = time.Duration(delay), int(takes)
	for _, n := range []*uint64{&e.body.Seq} {
		v, l := binary.Uvarint(b)
		if l <= 0 {
			return errHeader
		}
		*n, b = v, b[l:]
	}
	group, l := binary.Uvarint(b)
	if l <= 0 || group > uint64(len(b)-l) {
		return errHeader
	}
	b = b[l:]
	e.group = string(b[:group])
	if b = b[group:]; len(b) > 0 {
		e.note = b
	}
	if e.body == (ID{}) {
		e.body = e.id
	}
	return nil
}
