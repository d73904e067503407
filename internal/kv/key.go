package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// A part of a key is one tag byte and what follows it. Tags lie between 0x01 and
// 0xFD, so that 0xFF can continue a string and Prefix can bound a range.
//
//	0x02  []byte   its bytes, 0x00 written as 0x00 0xFF, then 0x00
//	0x03  string   the same
//	0x0C..0x13     negative integer of 8..1 bytes: big-endian, less all ones
//	0x14           the integer 0
//	0x15..0x1C     positive integer of 1..8 bytes, big-endian
//	0x20  false
//	0x21  true
//	0x28  time     seconds since 1970, 8 bytes, sign bit flipped; nanoseconds, 4 bytes
const (
	tagBytes  = 0x02
	tagString = 0x03
	tagZero   = 0x14
	tagFalse  = 0x20
	tagTrue   = 0x21
	tagTime   = 0x28
)

// Key returns the key of a tuple. Keys sort as their tuples do, part by part:
// integers by value, strings and bytes byte by byte with the shorter first, false
// before true, times by instant, and a tuple before those that continue it.
// Between parts of different kinds the order is []byte, string, integer, bool,
// time. Integers of all types share one order, so Key(int64(1)) and Key(uint64(1))
// are the same key.
//
// A part is a string, []byte, int, int32, int64, uint32, uint64, bool or time.Time
// (to the nanosecond, without its zone); Key panics on anything else, as that is
// an error in the program.
func Key(parts ...any) []byte {
	n := 0
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			n += len(p) + 2
		case []byte:
			n += len(p) + 2
		default:
			n += 9
		}
	}
	k := make([]byte, 0, n)
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			k = appendBytes(append(k, tagString), p)
		case []byte:
			k = appendBytes(append(k, tagBytes), p)
		case int:
			k = appendInt(k, int64(p))
		case int32:
			k = appendInt(k, int64(p))
		case int64:
			k = appendInt(k, p)
		case uint32:
			k = appendUint(k, uint64(p))
		case uint64:
			k = appendUint(k, p)
		case bool:
			if p {
				k = append(k, tagTrue)
			} else {
				k = append(k, tagFalse)
			}
		case time.Time:
			k = append(k, tagTime)
			k = binary.BigEndian.AppendUint64(k, uint64(p.Unix())^1<<63)
			k = binary.BigEndian.AppendUint32(k, uint32(p.Nanosecond()))
		default:
			panic(fmt.Sprintf("kv: a key has no parts of type %T", p))
		}
	}
	return k
}

func appendBytes[S string | []byte](k []byte, s S) []byte {
	for i := range len(s) {
		k = append(k, s[i])
		if s[i] == 0 {
			k = append(k, 0xFF)
		}
	}
	return append(k, 0)
}

func appendUint(k []byte, u uint64) []byte {
	n := (bits.Len64(u) + 7) / 8
	k = append(k, byte(tagZero+n))
	for i := n - 1; i >= 0; i-- {
		k = append(k, byte(u>>(8*i)))
	}
	return k
}

func appendInt(k []byte, v int64) []byte {
	if v >= 0 {
		return appendUint(k, uint64(v))
	}
	u := -uint64(v) // the magnitude, right for the least int64 too
	n := (bits.Len64(u) + 7) / 8
	k = append(k, byte(tagZero-n))
	for i := n - 1; i >= 0; i-- {
		k = append(k, ^byte(u>>(8*i)))
	}
	return k
}

var errDecode = errors.New("kv: key does not have these parts")

// Decode reads the parts of a key that Key made into pointers of the types that
// Key takes (*string, *[]byte, *int64 and so on); nil skips a part. It fails if
// the key has more, fewer or other parts, or an integer does not fit.
func Decode(key []byte, into ...any) error {
	rest := key
	for i, dst := range into {
		var part any
		var err error
		if part, rest, err = next(rest); err == nil {
			err = assign(dst, part)
		}
		if err != nil {
			return fmt.Errorf("%w: part %d of %s", errDecode, i, Format(key))
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: more than %d in %s", errDecode, len(into), Format(key))
	}
	return nil
}

// Parts returns the parts of a key: string, []byte, bool, time.Time in UTC, int64,
// or uint64 where the integer is larger than an int64 can be.
func Parts(key []byte) ([]any, error) {
	var parts []any
	for rest := key; len(rest) > 0; {
		part, r, err := next(rest)
		if err != nil {
			return nil, err
		}
		parts, rest = append(parts, part), r
	}
	return parts, nil
}

// Format returns a key as a person reads it: its parts as Go writes them with a
// slash between, or its bytes quoted if Key did not make it.
func Format(key []byte) string {
	prefix := ""
	body := key
	if len(key) > 0 && key[0] == guardTag {
		prefix, body = "guard:", key[1:]
	}
	parts, err := Parts(body)
	if err != nil {
		return strconv.Quote(string(key))
	}
	s := make([]string, len(parts))
	for i, p := range parts {
		switch p := p.(type) {
		case string:
			s[i] = strconv.Quote(p)
		case []byte:
			s[i] = fmt.Sprintf("0x%x", p)
		case time.Time:
			s[i] = p.Format(time.RFC3339Nano)
		default:
			s[i] = fmt.Sprint(p)
		}
	}
	return prefix + strings.Join(s, "/")
}

// next splits the first part off a key. Only what Key writes is accepted, so that
// every key has one tuple and every tuple one key.
func next(k []byte) (part any, rest []byte, err error) {
	if len(k) == 0 {
		return nil, nil, errDecode
	}
	tag, k := k[0], k[1:]
	switch {
	case tag == tagString:
		b, rest, err := nextBytes(k)
		return string(b), rest, err
	case tag == tagBytes:
		return nextBytesPart(k)
	case tag >= tagZero-8 && tag <= tagZero+8:
		return nextInt(int(tag)-tagZero, k)
	case tag == tagFalse, tag == tagTrue:
		return tag == tagTrue, k, nil
	case tag == tagTime && len(k) >= 12:
		sec, nsec := int64(binary.BigEndian.Uint64(k)^1<<63), binary.BigEndian.Uint32(k[8:])
		if nsec >= 1e9 {
			return nil, nil, errDecode
		}
		return time.Unix(sec, int64(nsec)).UTC(), k[12:], nil
	}
	return nil, nil, errDecode
}

func nextBytesPart(k []byte) (any, []byte, error) {
	b, rest, err := nextBytes(k)
	return b, rest, err
}

func nextBytes(k []byte) (b, rest []byte, err error) {
	b = []byte{}
	for i := 0; i < len(k); i++ {
		switch {
		case k[i] != 0:
			b = append(b, k[i])
		case i+1 < len(k) && k[i+1] == 0xFF:
			b = append(b, 0)
			i++
		default:
			return b, k[i+1:], nil
		}
	}
	return nil, nil, errDecode
}

// nextInt reads an integer of n bytes, negative if n is.
func nextInt(n int, k []byte) (any, []byte, error) {
	size := max(n, -n)
	if len(k) < size {
		return nil, nil, errDecode
	}
	var u uint64
	for _, b := range k[:size] {
		if n < 0 {
			b = ^b
		}
		u = u<<8 | uint64(b)
	}
	rest := k[size:]
	switch {
	case bits.Len64(u) <= 8*(size-1) && size > 0:
		return nil, nil, errDecode // a shorter form exists
	case n >= 0 && u <= math.MaxInt64:
		return int64(u), rest, nil
	case n >= 0:
		return u, rest, nil
	case u <= 1<<63:
		return int64(-u), rest, nil
	}
	return nil, nil, errDecode
}

// assign stores part where dst points if the types agree and the value fits.
func assign(dst, part any) error {
	ok := true
	switch d := dst.(type) {
	case nil:
	case *string:
		*d, ok = part.(string)
	case *[]byte:
		*d, ok = part.([]byte)
	case *bool:
		*d, ok = part.(bool)
	case *time.Time:
		*d, ok = part.(time.Time)
	case *int64:
		*d, ok = part.(int64)
	case *int:
		v, isInt := part.(int64)
		*d, ok = int(v), isInt && int64(int(v)) == v
	case *int32:
		v, isInt := part.(int64)
		*d, ok = int32(v), isInt && int64(int32(v)) == v
	case *uint32:
		v, isInt := part.(int64)
		*d, ok = uint32(v), isInt && int64(uint32(v)) == v
	case *uint64:
		if v, isInt := part.(int64); isInt {
			*d, ok = uint64(v), v >= 0
		} else {
			*d, ok = part.(uint64)
		}
	default:
		panic(fmt.Sprintf("kv: a key has no parts of type %T", dst))
	}
	if !ok {
		return errDecode
	}
	return nil
}
