package kinesis

import (
	"errors"
	"math/bits"
	"strconv"
	"strings"
)

// A sequence number is an integer of 186 bits, written in decimal, which makes 56 digits that begin with 49:
//
//	bit 185        1
//	bits 115..178  position in the shard's log
//	bits 83..114   index of the shard
//	bits 20..82    uid of the stream
//	bits 0..19     numberKind
//
// So numbers of a shard are in the order of the log, and it shows if one is used with another shard or stream.
type number struct {
	position uint64
	shard    uint32
	uid      int64 // of 63 bits
}

const numberKind = 2

// digits of a chunk, and what a chunk counts to.
const (
	chunkDigits = 19
	chunkBase   = 1e19
)

func (n number) words() (high, mid, low uint64) {
	uid := uint64(n.uid)
	return 1<<57 | n.position>>13, n.position<<51 | uint64(n.shard)<<19 | uid>>44, uid<<20 | numberKind
}

// String writes the number in decimal.
func (n number) String() string {
	w := [3]uint64{}
	w[0], w[1], w[2] = n.words()
	var b [3 * chunkDigits]byte
	for end := len(b); end > 0; end -= chunkDigits {
		var rest uint64
		for i := range w {
			w[i], rest = bits.Div64(rest, w[i], chunkBase)
		}
		for i := end - 1; i >= end-chunkDigits; i-- {
			b[i] = byte('0' + rest%10)
			rest /= 10
		}
	}
	return string(b[1:]) // 57 digits of which the first is 0
}

var errNumber = errors.New("kinesis: not a sequence number")

// parseNumber reads what String writes.
func parseNumber(s string) (n number, err error) {
	if len(s) != 3*chunkDigits-1 {
		return n, errNumber
	}
	s = "0" + s
	var w [3]uint64
	for ; s != ""; s = s[chunkDigits:] {
		digit := uint64(0)
		for _, c := range []byte(s[:chunkDigits]) {
			if c < '0' || c > '9' {
				return n, errNumber
			}
			digit = digit*10 + uint64(c-'0')
		}
		carry := digit
		for i := 2; i >= 0; i-- {
			hi, lo := bits.Mul64(w[i], chunkBase)
			lo, c := bits.Add64(lo, carry, 0)
			w[i], carry = lo, hi+c
		}
		if carry != 0 {
			return n, errNumber
		}
	}
	n.position = w[0]<<13 | w[1]>>51
	n.shard = uint32(w[1] >> 19)
	n.uid = int64(w[1]&(1<<19-1)<<44 | w[2]>>20)
	if high, mid, low := n.words(); high != w[0] || mid != w[1] || low != w[2] {
		return number{}, errNumber
	}
	return n, nil
}

// shardID is the name of the shard of an index.
func shardID(index uint32) string {
	s := strconv.FormatUint(uint64(index), 10)
	return "shardId-000000000000"[:20-len(s)] + s
}

// parseShardID reads a shard's index. AWS takes the number alone as well, and what stands before a hyphen may be anything.
func parseShardID(s string) (uint32, bool) {
	if _, number, ok := strings.Cut(s, "-"); ok {
		s = number
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}
