package kinesis

import (
	"crypto/md5"
	"encoding/binary"
	"errors"
	"math/big"
	"math/bits"
)

// hashKey is a number of 128 bits, of which every shard has a range.
type hashKey struct{ hi, lo uint64 }

// maxHashKey is the last one.
var maxHashKey = hashKey{1<<64 - 1, 1<<64 - 1}

// hashOf is where a partition key lies.
func hashOf(partitionKey string) hashKey {
	sum := md5.Sum([]byte(partitionKey))
	return hashKey{binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:])}
}

var errHashKey = errors.New("kinesis: not a hash key")

// parseHashKey reads a decimal number.
func parseHashKey(s string) (hashKey, error) {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || n.Sign() < 0 || n.BitLen() > 128 {
		return hashKey{}, errHashKey
	}
	var b [16]byte
	n.FillBytes(b[:])
	return hashKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, nil
}

func (h hashKey) big() *big.Int {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], h.hi)
	binary.BigEndian.PutUint64(b[8:], h.lo)
	return new(big.Int).SetBytes(b[:])
}

func (h hashKey) String() string { return h.big().String() }

// MarshalText writes the decimal number.
func (h hashKey) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads it.
func (h *hashKey) UnmarshalText(b []byte) (err error) {
	*h, err = parseHashKey(string(b))
	return err
}

func (h hashKey) less(o hashKey) bool { return h.hi < o.hi || h.hi == o.hi && h.lo < o.lo }

// next is h+1; of the last one it is 0.
func (h hashKey) next() hashKey {
	lo, carry := bits.Add64(h.lo, 1, 0)
	hi, _ := bits.Add64(h.hi, 0, carry)
	return hashKey{hi, lo}
}

// prev is h-1; of 0 it is the last one.
func (h hashKey) prev() hashKey {
	lo, borrow := bits.Sub64(h.lo, 1, 0)
	hi, _ := bits.Sub64(h.hi, 0, borrow)
	return hashKey{hi, lo}
}

// boundary is the first hash key of the i-th of n ranges of equal size.
func boundary(i, n int) hashKey {
	b := new(big.Int).Lsh(big.NewInt(int64(i)), 128)
	b.Div(b, big.NewInt(int64(n)))
	h, _ := parseHashKey(b.String())
	return h
}
