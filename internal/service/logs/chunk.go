package logs

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
)

// A chunk is a run of events of one stream in the order of their timestamps. Its value is
//
//	1 byte   format: plainChunk, or s2Chunk where the events are in an S2 block
//	uvarint  ingestion time, ms
//	each event:
//	  uvarint  timestamp less that of the event before, ms; less that in the key for the first
//	  uvarint  length of the message
//	  bytes    message
const (
	plainChunk = 1
	s2Chunk    = 2
)

const (
	chunkSpan      = 60_000    // ms, the most between the first and the last event
	chunkBytes     = 256 << 10 // from which on no further event is added
	maxChunkBytes  = chunkBytes + 2*maxEventBytes
	compressAbove  = 512 // bytes; below, compression saves nothing on the pages that the store writes
	eventOverhead  = 26  // bytes that AWS counts for an event besides its message
	maxPooledBytes = 4 << 20
)

var errCorrupt = errors.New("logs: a chunk is corrupt")

// packed is a chunk ready to be written.
type packed struct {
	first, span, size int64
	value             []byte
}

// packer turns events into chunks. It is reused; the chunks are valid until the next call.
type packer struct {
	chunks   []packed
	raw, out []byte
}

func (p *packer) pack(events []logsapi.InputLogEvent, ingested int64) []packed {
	p.chunks, p.out = p.chunks[:0], p.out[:0]
	for len(events) > 0 {
		first, prev, size := *events[0].Timestamp, *events[0].Timestamp, int64(0)
		raw, n := p.raw[:0], 0
		for ; n < len(events) && len(raw) < chunkBytes; n++ {
			e := &events[n]
			if *e.Timestamp-first > chunkSpan {
				break
			}
			raw = binary.AppendUvarint(raw, uint64(*e.Timestamp-prev))
			raw = binary.AppendUvarint(raw, uint64(len(*e.Message)))
			raw = append(raw, *e.Message...)
			prev = *e.Timestamp
			size += int64(len(*e.Message)) + eventOverhead
		}
		p.raw, events = raw, events[n:]
		p.chunks = append(p.chunks, packed{first: first, span: prev - first, size: size, value: p.seal(raw, ingested)})
	}
	return p.chunks
}

// seal appends the chunk of these events to p.out, and returns it.
func (p *packer) seal(raw []byte, ingested int64) []byte {
	start := len(p.out)
	p.out = binary.AppendUvarint(append(p.out, plainChunk), uint64(ingested))
	body := len(p.out)
	if len(raw) >= compressAbove {
		p.out = slices.Grow(p.out, s2.MaxEncodedLen(len(raw)))
		block := s2.Encode(p.out[body:cap(p.out)], raw)
		if len(block) < len(raw)-len(raw)/8 {
			p.out[start] = s2Chunk
			p.out = p.out[:body+len(block)]
			return p.out[start:]
		}
	}
	p.out = append(p.out, raw...)
	return p.out[start:]
}

// small reports whether p may be kept for reuse.
func (p *packer) small() bool { return cap(p.raw)+cap(p.out) <= maxPooledBytes }

// chunk reads the events of a chunk one after the other.
type chunk struct {
	ingested int64
	ts       int64
	rest     string
}

func openChunk(first int64, value []byte) (*chunk, error) {
	ingested, raw, err := chunkHead(value)
	if err != nil {
		return nil, err
	}
	if value[0] == s2Chunk {
		n, err := s2.DecodedLen(raw)
		if err == nil && n <= maxChunkBytes {
			raw, err = s2.Decode(nil, raw)
		}
		if err != nil || n > maxChunkBytes {
			return nil, errCorrupt
		}
	}
	return &chunk{ingested: ingested, ts: first, rest: string(raw)}, nil
}

// chunkHead returns when a chunk was ingested, and its events as they are stored.
func chunkHead(value []byte) (ingested int64, body []byte, err error) {
	if len(value) == 0 || value[0] != plainChunk && value[0] != s2Chunk {
		return 0, nil, errCorrupt
	}
	v, n := binary.Uvarint(value[1:])
	if n <= 0 {
		return 0, nil, errCorrupt
	}
	return int64(v), value[1+n:], nil
}

// next returns the next event; done says that there is none. All messages share the memory of the chunk.
func (c *chunk) next() (ts int64, message string, done bool, err error) {
	if c.rest == "" {
		return 0, "", true, nil
	}
	delta, err := c.uvarint()
	if err != nil {
		return 0, "", false, err
	}
	n, err := c.uvarint()
	if err != nil || n > uint64(len(c.rest)) {
		return 0, "", false, errCorrupt
	}
	c.ts += int64(delta)
	message, c.rest = c.rest[:n], c.rest[n:]
	return c.ts, message, false, nil
}

func (c *chunk) uvarint() (uint64, error) {
	var v uint64
	for i := 0; i < len(c.rest) && i < binary.MaxVarintLen64; i++ {
		b := c.rest[i]
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			c.rest = c.rest[i+1:]
			return v, nil
		}
	}
	return 0, errCorrupt
}
