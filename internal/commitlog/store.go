package commitlog

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// The rows of a log, whose keys begin with the family and the id:
//
//	family, id             -> meta: what the log was before its first chunk
//	family, id, position   -> chunk, under the position of its last record

// chunkBytes is the most that the records of a chunk hold together, unless it is a single one. A reader that takes one record at a
// time reads each chunk as often as it has records.
const chunkBytes = 64 << 10

// maxPosition is above every position that the clock gives until the year 2262.
const maxPosition = 1 << 63

// chunkVersion opens every chunk.
const chunkVersion = 1

func (l *Log) metaKey() []byte { return kv.Key(l.logs.family, l.id) }

func (l *Log) key(position uint64) []byte { return kv.Key(l.logs.family, l.id, position) }

func (l *Log) all() kv.Range { return kv.Prefix(l.logs.family, l.id) }

// rest is the chunks with records at or behind from.
func (l *Log) rest(from uint64) kv.Range {
	r := l.all()
	r.Start = l.key(from)
	return r
}

// upTo is the chunks whose records all lie before a position.
func (l *Log) upTo(before uint64) kv.Range {
	r := l.all()
	r.End = l.key(before)
	return r
}

// meta is the last position that was trimmed or that another log had before this one, and what there was up to it.
type meta struct {
	last  uint64
	total total
}

func (m meta) encode() []byte {
	b := binary.AppendUvarint(nil, m.last)
	b = binary.AppendUvarint(b, m.total.records)
	return binary.AppendUvarint(b, m.total.bytes)
}

func decodeMeta(b []byte) (m meta, err error) {
	d := decoder{rest: b}
	m.last, m.total.records, m.total.bytes = d.uvarint(), d.uvarint(), d.uvarint()
	if d.bad || len(d.rest) > 0 || m.last > maxPosition {
		return m, fmt.Errorf("commitlog: the beginning of a log is corrupt: %x", b)
	}
	return m, nil
}

// chunk is one row. Its value is the version, how many records and bytes the log had before it, the time in milliseconds since 1970 (zigzag), the number
// of records, the length of each, and the records; all numbers are uvarints.
type chunk struct {
	last   uint64 // position of the last record
	before total
	time   time.Time
	count  int
	bytes  int
	sizes  []byte // encoded
	data   []byte
}

// total is what the log had when the chunk was written, the chunk included.
func (c *chunk) total() total {
	return total{c.before.records + uint64(c.count), c.before.bytes + uint64(c.bytes)}
}

// encodeChunk encodes records of size bytes together.
func encodeChunk(before total, at time.Time, size int, records [][]byte) []byte {
	b := make([]byte, 0, 1+4*binary.MaxVarintLen64+len(records)*3+size)
	b = append(b, chunkVersion)
	b = binary.AppendUvarint(b, before.records)
	b = binary.AppendUvarint(b, before.bytes)
	b = binary.AppendVarint(b, at.UnixMilli())
	b = binary.AppendUvarint(b, uint64(len(records)))
	for _, r := range records {
		b = binary.AppendUvarint(b, uint64(len(r)))
	}
	for _, r := range records {
		b = append(b, r...)
	}
	return b
}

func decodeChunk(e kv.Entry) (c chunk, err error) {
	if err := kv.Decode(e.Key, nil, nil, &c.last); err != nil {
		return c, err
	}
	d := decoder{rest: e.Value}
	version := d.byte()
	c.before.records, c.before.bytes = d.uvarint(), d.uvarint()
	c.time = time.UnixMilli(d.varint()).UTC()
	count := d.uvarint()
	if version != chunkVersion || d.bad || count == 0 || count > uint64(len(d.rest)) || count > c.last || c.last > maxPosition {
		return c, corrupt(e.Key)
	}
	c.count = int(count)
	sizes := d.rest
	sum := uint64(0)
	for range count {
		n := d.uvarint()
		if sum += n; d.bad || n > math.MaxInt32 {
			return c, corrupt(e.Key)
		}
	}
	if sum != uint64(len(d.rest)) {
		return c, corrupt(e.Key)
	}
	c.sizes, c.data, c.bytes = sizes[:len(sizes)-len(d.rest)], d.rest, int(sum)
	return c, nil
}

// records yields the records of a chunk that was decoded.
func (c *chunk) records() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		sizes, data := decoder{rest: c.sizes}, c.data
		first := c.last - uint64(c.count) + 1
		for i := range c.count {
			n := int(sizes.uvarint())
			if !yield(Record{first + uint64(i), c.time, data[:n:n]}) {
				return
			}
			data = data[n:]
		}
	}
}

func corrupt(key []byte) error {
	return fmt.Errorf("commitlog: the chunk at %s is corrupt", kv.Format(key))
}

// decoder reads numbers off a slice; bad is set when there is none.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.bad = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}
