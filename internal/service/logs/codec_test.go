package logs

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
)

func unpack(t *testing.T, first int64, value []byte) (ts []int64, messages []string, ingested int64) {
	t.Helper()
	c, err := openChunk(first, value)
	if err != nil {
		t.Fatal(err)
	}
	for {
		at, m, done, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return ts, messages, c.ingested
		}
		ts, messages = append(ts, at), append(messages, m)
	}
}

func TestPack(t *testing.T) {
	const minute = int64(60_000)
	big := strings.Repeat("0123456789", 20_000)
	for _, c := range []struct {
		name   string
		ts     []int64
		msg    string
		chunks int
	}{
		{"one", []int64{5}, "x", 1},
		{"within a minute", []int64{5, 5, 5 + minute}, "x", 1},
		{"over a minute", []int64{5, 5 + minute + 1}, "x", 2},
		{"large", []int64{5, 5, 5}, big, 2},
		{"compressible", make([]int64, 1000), "the same line again and again", 1},
	} {
		var events []logsapi.InputLogEvent
		for i := range c.ts {
			events = append(events, logsapi.InputLogEvent{Timestamp: &c.ts[i], Message: &c.msg})
		}
		var p packer
		for range 2 { // reused
			var ts []int64
			size, stored := int64(0), 0
			chunks := p.pack(events, 77)
			for _, ch := range chunks {
				at, messages, ingested := unpack(t, ch.first, ch.value)
				ts = append(ts, at...)
				size += ch.size
				stored += len(ch.value)
				if ingested != 77 || slices.ContainsFunc(messages, func(m string) bool { return m != c.msg }) {
					t.Errorf("%s: other content", c.name)
				}
			}
			if want := int64(len(c.ts) * (len(c.msg) + eventOverhead)); !slices.Equal(ts, c.ts) || len(chunks) != c.chunks || size != want {
				t.Errorf("%s: %d chunks of %d events and %d bytes, want %d of %d and %d", c.name, len(chunks), len(ts), size, c.chunks, len(c.ts), want)
			}
			if c.name == "compressible" && stored > 3000 {
				t.Errorf("%s: %d bytes stored", c.name, stored)
			}
		}
	}
}

func FuzzChunk(f *testing.F) {
	var p packer
	for _, m := range []string{"x", strings.Repeat("abc ", 1000)} {
		f.Add(int64(1000), p.pack([]logsapi.InputLogEvent{{Timestamp: new(int64(1000)), Message: &m}, {Timestamp: new(int64(2000)), Message: &m}}, 3)[0].value)
	}
	f.Add(int64(0), []byte{})
	f.Add(int64(0), []byte{1, 0x80})
	f.Add(int64(0), []byte{2, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, first int64, value []byte) {
		c, err := openChunk(first, value)
		for n := 0; err == nil; n++ {
			var done bool
			if _, _, done, err = c.next(); done {
				return
			}
			if n > 1<<22 {
				t.Fatal("no end")
			}
		}
	})
}

func FuzzTokens(f *testing.F) {
	p := position{ts: 1_700_000_000_000, seq: 3, idx: 4}
	f.Add(p.token('f', 99), int64(99))
	f.Add(p.token('b', math.MaxInt64), int64(math.MaxInt64))
	f.Add((&spot{position: p, ingested: 5, stream: 6}).token(7), int64(7))
	f.Add("f/"+strings.Repeat("9", 56), int64(1))
	f.Fuzz(func(t *testing.T, token string, id int64) {
		if p, direction, err := parseToken(token, id); err == nil {
			again, _, err := parseToken(p.token(direction, id), id)
			if err != nil || again != p {
				t.Errorf("position %+v comes back as %+v, %v", p, again, err)
			}
		}
		if p, err := parseSpot(token, id); err == nil {
			again, err := parseSpot(p.token(id), id)
			if err != nil || again != p {
				t.Errorf("spot %+v comes back as %+v, %v", p, again, err)
			}
		}
	})
}
