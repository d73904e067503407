package kinesis

import (
	"bytes"
	"math/big"
	"testing"
)

// Sequence numbers are the integers that their comment says, in decimal.
func FuzzNumber(f *testing.F) {
	f.Add(uint64(1795500000250000000), uint32(7), int64(1)<<62, "49114440583563284282398970009664644097394653442488664066")
	f.Add(uint64(0), uint32(0), int64(0), "0")
	f.Add(^uint64(0), ^uint32(0), int64(1)<<62, "99999999999999999999999999999999999999999999999999999999")
	f.Fuzz(func(t *testing.T, position uint64, index uint32, uid int64, text string) {
		if uid < 0 {
			uid = ^uid
		}
		n := number{position, index, uid}
		wanted := new(big.Int).Lsh(big.NewInt(1), 185)
		wanted.Or(wanted, new(big.Int).Lsh(new(big.Int).SetUint64(position), 115))
		wanted.Or(wanted, new(big.Int).Lsh(new(big.Int).SetUint64(uint64(index)), 83))
		wanted.Or(wanted, new(big.Int).Lsh(big.NewInt(uid), 20))
		wanted.Or(wanted, big.NewInt(numberKind))
		s := n.String()
		if s != wanted.String() || len(s) != 56 || s[:2] != "49" {
			t.Errorf("%+v is %s, want %s", n, s, wanted)
		}
		if again, err := parseNumber(s); err != nil || again != n {
			t.Errorf("%s is %+v again, %v; want %+v", s, again, err, n)
		}
		if n, err := parseNumber(text); err == nil && n.String() != text {
			t.Errorf("%q is read as %s", text, n)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, encryptedRecord, "key", []byte("data")), "k", []byte("d"))
	f.Add([]byte{shardEnd}, "", []byte(nil))
	f.Add([]byte{0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}, "", []byte(nil))
	f.Fuzz(func(t *testing.T, b []byte, key string, data []byte) {
		_, _, _, _, _ = decodeRecord(b)
		made := appendRecord(nil, plainRecord, key, data)
		k, d, encrypted, end, err := decodeRecord(made)
		if err != nil || k != key || !bytes.Equal(d, data) || encrypted || end || len(made) > recordSize(key, data) {
			t.Errorf("%q %x is %q %x, %v", key, data, k, d, err)
		}
	})
}

func FuzzHashKey(f *testing.F) {
	f.Add("340282366920938463463374607431768211455", uint64(1), uint64(0))
	f.Add("-1", uint64(0), ^uint64(0))
	f.Fuzz(func(t *testing.T, s string, hi, lo uint64) {
		if h, err := parseHashKey(s); err == nil && h.big().Sign() < 0 {
			t.Errorf("%q", s)
		}
		h := hashKey{hi, lo}
		if again, err := parseHashKey(h.String()); err != nil || again != h || h.next().prev() != h || h != maxHashKey && !h.less(h.next()) {
			t.Errorf("%v", h)
		}
	})
}

func TestBoundary(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 1000, 20_000} {
		last := hashKey{}
		for i := range n {
			b := boundary(i, n)
			if i > 0 && !last.less(b) || i == 0 && b != last {
				t.Fatalf("%d of %d is %v after %v", i, n, b, last)
			}
			last = b
		}
	}
}

func TestShardID(t *testing.T) {
	for index, id := range map[uint32]string{0: "shardId-000000000000", 42: "shardId-000000000042", 1<<31 - 1: "shardId-002147483647"} {
		if got := shardID(index); got != id {
			t.Errorf("%d is %s", index, got)
		}
		if got, ok := parseShardID(id); !ok || got != index {
			t.Errorf("%s is %d", id, got)
		}
	}
	for _, bad := range []string{"", "shardId-", "shardId-x", "shardId-4294967296", "shardId--1"} {
		if _, ok := parseShardID(bad); ok {
			t.Errorf("%q is a shard", bad)
		}
	}
	for _, short := range []string{"7", "shardId-7", "x-00007", "-7"} {
		if n, ok := parseShardID(short); !ok || n != 7 {
			t.Errorf("%q is no shard", short)
		}
	}
}
