package kv_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

func TestKeyOrder(t *testing.T) {
	// Ascending; equal neighbours are not allowed.
	tuples := [][]any{
		{},
		{[]byte{}},
		{[]byte{}, int64(1)},
		{[]byte{0}},
		{[]byte{0, 0}},
		{[]byte{0, 1}},
		{[]byte{1}},
		{[]byte{0xFF}},
		{[]byte{0xFF, 0xFF}},
		{""},
		{"", ""},
		{"", "a"},
		{"", int64(0)},
		{"\x00"},
		{"\x00", "a"},
		{"\x00\x00"},
		{"\x00\xff"},
		{"a"},
		{"a", []byte("z")},
		{"a", "a"},
		{"a", time.Unix(0, 0)},
		{"a\x00"},
		{"a\x00b"},
		{"a\x01"},
		{"aa"},
		{"b"},
		{"\xff"},
		{int64(math.MinInt64)},
		{int64(math.MinInt64 + 1)},
		{int64(-1 << 32)},
		{int64(-65536)},
		{int64(-65535)},
		{int64(-256)},
		{int64(-255)},
		{-1},
		{0},
		{0, "after"},
		{uint32(1)},
		{int32(255)},
		{256},
		{int64(math.MaxInt64)},
		{uint64(math.MaxInt64 + 1)},
		{uint64(math.MaxUint64)},
		{false},
		{true},
		{time.Time{}},
		{time.Unix(-1, 999_999_999)},
		{time.Unix(0, 0)},
		{time.Unix(0, 1)},
		{time.Unix(1, 0)},
		{time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
	}
	for i := 1; i < len(tuples); i++ {
		if bytes.Compare(kv.Key(tuples[i-1]...), kv.Key(tuples[i]...)) >= 0 {
			t.Errorf("Key%v does not sort before Key%v", tuples[i-1], tuples[i])
		}
	}
	for _, a := range tuples {
		prefix := kv.Prefix(a...)
		for _, b := range tuples {
			key := kv.Key(b...)
			if want := len(b) > len(a) && bytes.HasPrefix(key, kv.Key(a...)) && samePrefix(a, b); prefix.Contains(key) != want {
				t.Errorf("Prefix%q.Contains(Key%q) = %v", a, b, !want)
			}
		}
		if prefix.Contains(kv.GuardFor(a...)) {
			t.Errorf("Prefix%v contains its own guard", a)
		}
	}
}

func samePrefix(a, b []any) bool {
	for i := range a {
		if compareParts(a[i], b[i]) != 0 {
			return false
		}
	}
	return true
}

func TestDecode(t *testing.T) {
	at := time.Date(2026, 11, 24, 5, 6, 7, 89, time.FixedZone("X", 3600))
	key := kv.Key("s\x00", []byte{0, 1}, -5, uint64(math.MaxUint64), true, at, int32(7), uint32(9))
	var (
		s   string
		b   []byte
		i   int
		u   uint64
		yes bool
		tm  time.Time
		i32 int32
		u32 uint32
	)
	if err := kv.Decode(key, &s, &b, &i, &u, &yes, &tm, &i32, &u32); err != nil {
		t.Fatal(err)
	}
	if s != "s\x00" || !bytes.Equal(b, []byte{0, 1}) || i != -5 || u != math.MaxUint64 || !yes || !tm.Equal(at) || i32 != 7 || u32 != 9 {
		t.Errorf("decoded %q %v %d %d %v %v %d %d", s, b, i, u, yes, tm, i32, u32)
	}
	if err := kv.Decode(kv.Key("a", "b"), nil, &s); err != nil || s != "b" {
		t.Errorf("with a skipped part: %q, %v", s, err)
	}
	var i64 int64
	for _, bad := range []struct {
		key  []byte
		into []any
	}{
		{kv.Key("a"), nil},
		{kv.Key("a"), []any{&s, &s}},
		{kv.Key("a"), []any{&i}},
		{kv.Key(-1), []any{&u}},
		{kv.Key(uint64(math.MaxUint64)), []any{&i64}},
		{kv.Key(1 << 40), []any{&i32}},
		{kv.Key(1 << 40), []any{&u32}},
		{[]byte{0x03, 'a'}, []any{&s}},
		{[]byte{0x15, 0}, []any{&i}},
		{[]byte{0x16, 1}, []any{&i}},
		{[]byte{0x0C, 0, 0, 0, 0, 0, 0, 0, 0}, []any{&i64}},
		{[]byte{0x7F}, []any{nil}},
	} {
		if err := kv.Decode(bad.key, bad.into...); err == nil {
			t.Errorf("Decode(%q) into %T took it", bad.key, bad.into)
		}
	}
}

func TestFormat(t *testing.T) {
	for want, key := range map[string][]byte{
		`"fn"/-3/true/0x00ff`:    kv.Key("fn", -3, true, []byte{0, 255}),
		`guard:"fn"`:             kv.GuardFor("fn"),
		`"\x7fraw"`:              []byte("\x7fraw"),
		`2026-01-02T03:04:05.6Z`: kv.Key(time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)),
	} {
		if got := kv.Format(key); got != want {
			t.Errorf("Format(%q) = %s, want %s", key, got, want)
		}
	}
}

func TestRanges(t *testing.T) {
	r := kv.BeginsWith("fn", "ab")
	for tuple, want := range map[*[]any]bool{
		{"fn", "ab"}:      true,
		{"fn", "ab", 1}:   true,
		{"fn", "abc"}:     true,
		{"fn", "ab\x00"}:  true,
		{"fn", "ab\xff"}:  true,
		{"fn", "aa\xff"}:  false,
		{"fn", "ac"}:      false,
		{"fn", "a"}:       false,
		{"fn"}:            false,
		{"fn\x00", "abc"}: false,
	} {
		if got := r.Contains(kv.Key(*tuple...)); got != want {
			t.Errorf("BeginsWith contains %q: %v", *tuple, got)
		}
	}
	if !kv.BeginsWith("fn", "").Contains(kv.Key("fn", "x")) || kv.BeginsWith("fn", "").Contains(kv.Key("fn", 1)) {
		t.Error("an empty beginning is not that of every string")
	}
	if r := kv.RawPrefix([]byte{0xFE, 0xFF}); !bytes.Equal(r.End, []byte{0xFF}) {
		t.Errorf("RawPrefix ends at %x", r.End)
	}
	if r := kv.RawPrefix([]byte{0xFF}); r.End != nil {
		t.Errorf("RawPrefix of the last byte ends at %x", r.End)
	}
}

func TestMarker(t *testing.T) {
	for _, r := range []kv.Range{kv.Prefix("fn", "123456789012"), kv.Prefix("fn", "123456789012").Backward(), {}, {Reverse: true}, kv.BeginsWith("fn", "123")} {
		key := kv.Key("fn", "123456789012", "name")
		m := r.Marker(key)
		rest, err := r.Resume(m)
		if err != nil {
			t.Fatal(err)
		}
		if rest.Contains(key) {
			t.Errorf("%v: the rest still has the key", r)
		}
		before, after := kv.Key("fn", "123456789012", "nam"), kv.Key("fn", "123456789012", "name", 1)
		if rest.Contains(before) != r.Reverse || rest.Contains(after) == r.Reverse {
			t.Errorf("%v: resumed on the wrong side", r)
		}
	}
	r := kv.Prefix("fn", "1")
	for _, bad := range []string{"!", "_w", r.Marker(kv.Key("fn", "2", "x")) + "A", kv.Range{}.Marker(kv.Key("other", "x"))} {
		if rest, err := r.Resume(bad); err == nil && r.Contains(rest.Start) {
			continue // a key of the range, though none that was listed
		} else if !errors.Is(err, kv.ErrMarker) {
			t.Errorf("Resume(%q) = %v, %v", bad, rest, err)
		}
	}
}

// FuzzKeyOrder compares the order of keys with that of their tuples, and reads them back.
func FuzzKeyOrder(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, "a\x00", "a", int64(-1), uint64(1)<<63)
	}
	f.Fuzz(func(t *testing.T, seed uint64, s1, s2 string, i int64, u uint64) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		tuple := func() []any {
			parts := make([]any, rnd.IntN(4))
			for n := range parts {
				parts[n] = []any{
					s1, s2, s1 + s2, s1[:rnd.IntN(len(s1)+1)], []byte(s1), []byte(s2), i, i >> rnd.IntN(64), u, u >> rnd.IntN(64), -i,
					int(i), int32(i), uint32(u), true, false, time.Unix(i>>16, int64(u%1e9)), time.Unix(0, i),
				}[rnd.IntN(18)]
			}
			return parts
		}
		a, b := tuple(), tuple()
		ka, kb := kv.Key(a...), kv.Key(b...)
		if got, want := bytes.Compare(ka, kb), compareTuples(a, b); got != want {
			t.Errorf("Key%v and Key%v compare as %d, their tuples as %d", a, b, got, want)
		}
		if got := kv.Prefix(a...).Contains(kb); got != (len(b) > len(a) && compareTuples(a, b[:min(len(a), len(b))]) == 0) {
			t.Errorf("Prefix%v contains %v: %v", a, b, got)
		}
		parts, err := kv.Parts(ka)
		if err != nil {
			t.Fatal(err)
		}
		if compareTuples(parts, a) != 0 || len(parts) != len(a) {
			t.Errorf("Parts(Key%v) = %v", a, parts)
		}
	})
}

// FuzzParts reads arbitrary bytes, and writes again what could be read.
func FuzzParts(f *testing.F) {
	f.Add(kv.Key("a\x00b", []byte{0}, -1, uint64(math.MaxUint64), true, time.Unix(1, 2)))
	f.Add([]byte{0x03, 0, 0xFF})
	f.Add([]byte{0x0C, 0xFF, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x28, 1, 2})
	f.Fuzz(func(t *testing.T, key []byte) {
		parts, err := kv.Parts(key)
		if err != nil {
			return
		}
		if again := kv.Key(parts...); !bytes.Equal(again, key) {
			t.Errorf("Key(Parts(%x)...) = %x", key, again)
		}
		_ = kv.Format(key)
	})
}

func compareTuples(a, b []any) int {
	for i := range min(len(a), len(b)) {
		if c := compareParts(a[i], b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// compareParts is the order that the documentation of Key gives.
func compareParts(a, b any) int {
	ka, kb := kind(a), kind(b)
	if ka != kb {
		return cmp.Compare(ka, kb)
	}
	switch a := a.(type) {
	case []byte:
		return bytes.Compare(a, b.([]byte))
	case string:
		return cmp.Compare(a, b.(string))
	case bool:
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) // "false" < "true"
	case time.Time:
		return a.Compare(b.(time.Time))
	}
	na, nb := integer(a), integer(b)
	if c := cmp.Compare(na.high, nb.high); c != 0 {
		return c
	}
	return cmp.Compare(na.low, nb.low)
}

func kind(p any) int {
	switch p.(type) {
	case []byte:
		return 0
	case string:
		return 1
	case bool:
		return 3
	case time.Time:
		return 4
	}
	return 2
}

// int65 holds every int64 and uint64: high is -1 for negative ones.
type int65 struct {
	high int
	low  uint64
}

func integer(p any) int65 {
	signed := func(v int64) int65 {
		if v < 0 {
			return int65{-1, uint64(v)}
		}
		return int65{0, uint64(v)}
	}
	switch p := p.(type) {
	case int:
		return signed(int64(p))
	case int32:
		return signed(int64(p))
	case int64:
		return signed(p)
	case uint32:
		return int65{0, uint64(p)}
	case uint64:
		return int65{0, p}
	}
	panic(fmt.Sprintf("%T", p))
}
