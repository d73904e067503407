package commitlog

import (
	"bytes"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// A chunk or beginning that is not ours is an error and no panic; one that is accepted holds what it says.
func FuzzDecode(f *testing.F) {
	chunk := encodeChunk(total{3, 500}, time.UnixMilli(1795500000250), 5, [][]byte{[]byte("a"), nil, []byte("bbbb")})
	f.Add(chunk, uint64(7))
	f.Add(chunk[:len(chunk)-1], uint64(7))
	f.Add(chunk, uint64(2))
	f.Add(meta{last: 1 << 60, total: total{1, 2}}.encode(), uint64(1))
	f.Add([]byte{1, 0, 0, 0, 0}, uint64(1))
	f.Add(append([]byte{1, 0, 0, 0}, bytes.Repeat([]byte{0xFF}, 9)...), uint64(1))
	f.Fuzz(func(t *testing.T, value []byte, position uint64) {
		if m, err := decodeMeta(value); err == nil && m.last > maxPosition {
			t.Errorf("a beginning at %d", m.last)
		}
		c, err := decodeChunk(kv.Entry{Key: kv.Key("f", "id", position), Value: value})
		if err != nil {
			return
		}
		var records [][]byte
		size, next := 0, position-uint64(c.count)+1
		for r := range c.records() {
			if r.Position != next {
				t.Errorf("position %d, want %d", r.Position, next)
			}
			next++
			size += len(r.Data)
			records = append(records, r.Data)
		}
		if next != position+1 || size != c.bytes || len(records) != c.count {
			t.Errorf("%d records of %d bytes, the chunk says %d of %d", len(records), size, c.count, c.bytes)
		}
		again, err := decodeChunk(kv.Entry{Key: kv.Key("f", "id", position), Value: encodeChunk(c.before, c.time, size, records)})
		if err != nil || !bytes.Equal(again.data, c.data) || again.before != c.before || !again.time.Equal(c.time) {
			t.Errorf("%+v is %+v when read again: %v", c, again, err)
		}
	})
}
