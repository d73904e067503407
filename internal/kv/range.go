package kv

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
)

// Range is the keys k with Start <= k < End in byte order, or against it if
// Reverse. An empty Start is the first key, an empty End is past the last one.
type Range struct {
	Start, End []byte
	Reverse    bool
}

// Prefix returns the range of the keys that continue the key of parts with at
// least one more part: Prefix("a") holds Key("a", "b") and Key("a", 1, true), and
// neither Key("a") nor Key("ab"). Prefix() holds every key that Key returns.
func Prefix(parts ...any) Range {
	k := Key(parts...)
	// Tags lie between 0x01 and 0xFD, and 0xFF continues a string that has more
	// bytes than the last of parts.
	return Range{Start: append(slices.Clip(k), 0x01), End: append(slices.Clip(k), 0xFE)}
}

// BeginsWith returns the range of the keys whose first parts are those given,
// except for the last one, a string or []byte, with which their part only has to
// begin: BeginsWith("a", "b") holds Key("a", "b"), Key("a", "bc") and
// Key("a", "bc", 1). It panics if the last part is neither.
func BeginsWith(parts ...any) Range {
	k := Key(parts...)
	switch parts[len(parts)-1].(type) {
	case string, []byte:
	default:
		panic("kv: BeginsWith needs a string or []byte as its last part")
	}
	k = k[:len(k)-1] // the terminator
	return Range{Start: k, End: successor(k)}
}

// RawPrefix returns the range of the keys that begin with these bytes.
func RawPrefix(prefix []byte) Range {
	return Range{Start: bytes.Clone(prefix), End: successor(prefix)}
}

// successor returns the first key after all those that begin with prefix, or nil
// if there is none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xFF {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

// Contains reports whether key lies in the range.
func (r Range) Contains(key []byte) bool {
	return bytes.Compare(key, r.Start) >= 0 && (len(r.End) == 0 || bytes.Compare(key, r.End) < 0)
}

// Backward returns the same keys in descending order.
func (r Range) Backward() Range {
	r.Reverse = true
	return r
}

// After returns what is left of the range behind key, in the range's direction.
func (r Range) After(key []byte) Range {
	if r.Reverse {
		if len(r.End) == 0 || bytes.Compare(key, r.End) < 0 {
			r.End = bytes.Clone(key)
		}
		return r
	}
	if next := append(slices.Clip(key), 0); bytes.Compare(next, r.Start) > 0 {
		r.Start = next
	}
	return r
}

// ErrMarker answers a marker that [Range.Marker] did not make for this range.
var ErrMarker = errors.New("kv: marker is not valid")

// Marker returns the paging token that stands for key in this range: printable,
// and without the part of the key that all keys of the range share.
func (r Range) Marker(key []byte) string {
	return base64.RawURLEncoding.EncodeToString(key[min(len(r.shared()), len(key)):])
}

// Resume returns what is left of the range behind the key of marker, or ErrMarker.
// The empty marker is the beginning.
func (r Range) Resume(marker string) (Range, error) {
	if marker == "" {
		return r, nil
	}
	rest, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil {
		return r, ErrMarker
	}
	key := append(bytes.Clone(r.shared()), rest...)
	if !r.Contains(key) {
		return r, ErrMarker
	}
	return r.After(key), nil
}

// shared returns the longest prefix that Start and End have in common.
func (r Range) shared() []byte {
	n := 0
	for n < len(r.Start) && n < len(r.End) && r.Start[n] == r.End[n] {
		n++
	}
	return r.Start[:n]
}

// Page returns up to limit entries of rg behind marker, and the marker of the next
// page, empty after the last one.
func Page(r Reader, rg Range, marker string, limit int) (entries []Entry, next string, err error) {
	rest, err := rg.Resume(marker)
	if err != nil {
		return nil, "", err
	}
	for e, err := range r.Scan(rest) {
		if err != nil {
			return nil, "", err
		}
		if len(entries) >= limit {
			if len(entries) > 0 {
				next = rg.Marker(entries[len(entries)-1].Key)
			}
			break
		}
		entries = append(entries, e)
	}
	return entries, next, nil
}
