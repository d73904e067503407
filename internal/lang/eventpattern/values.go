package eventpattern

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// values are the alternatives of one field.
type values struct {
	strings  []string            // exact, if there are few
	set      map[string]struct{} // exact, if there are many
	addrs    []netip.Addr        // of the exact strings, those that are addresses
	numbers  []float64
	literals []string // numbers by their text
	isTrue   bool
	isFalse  bool
	isNull   bool
	exists   bool // any value
	absent   bool // or none
	ops      []op
	count    int // of alternatives in the text
}

type opKind uint8

const (
	opPrefix opKind = iota
	opSuffix
	opEqualFold
	opPrefixFold
	opSuffixFold
	opWildcard
	opRange
	opCIDR
	opNot
)

// op is an alternative other than an exact value.
type op struct {
	kind             opKind
	text             string   // opPrefix, opSuffix
	runes            []rune   // the folds: in lower case or the like
	parts            [][]byte // opWildcard: what is between the wildcards
	low, high        float64  // opRange
	lowOpen, topOpen bool
	network          netip.Prefix // opCIDR
	not              *values      // opNot
}

// scalar is a value of a document.
type scalar struct {
	kind   kind
	text   []byte // without escapes
	parsed bool
	number float64 // NaN if it is no finite double
	tried  bool
	addr   netip.Addr // invalid if it is none
}

func (s *scalar) float() float64 {
	if !s.parsed {
		s.parsed = true
		s.number = toNumber(string(s.text))
	}
	return s.number
}

// toNumber returns NaN for what is no finite number.
func toNumber(text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

func (s *scalar) address() netip.Addr {
	if !s.tried {
		s.tried = true
		if looksLikeAddress(s.text) {
			s.addr, _ = netip.ParseAddr(string(s.text))
		}
	}
	return s.addr
}

func looksLikeAddress[S ~string | ~[]byte](s S) bool {
	if len(s) < 2 || len(s) > 45 {
		return false
	}
	separator := false
	for i := range len(s) {
		c := s[i]
		if c == ':' || c == '.' {
			separator = true
		} else if hexValue(c) < 0 {
			return false
		}
	}
	return separator
}

const manyStrings = 8

func (v *values) addString(s string) {
	if v.set != nil {
		v.set[s] = struct{}{}
		return
	}
	if v.strings = append(v.strings, s); len(v.strings) > manyStrings {
		v.set = map[string]struct{}{}
		for _, s := range v.strings {
			v.set[s] = struct{}{}
		}
		v.strings = nil
	}
}

func (v *values) addNumber(literal string) {
	if f := toNumber(literal); !math.IsNaN(f) {
		v.numbers = append(v.numbers, f)
	} else {
		v.literals = append(v.literals, literal)
	}
}

// match reports whether any alternative holds for a value.
func (v *values) match(s *scalar) bool {
	if v.exists {
		return true
	}
	switch s.kind {
	case text:
		if v.set != nil {
			if _, ok := v.set[string(s.text)]; ok {
				return true
			}
		}
		for _, exact := range v.strings {
			if exact == string(s.text) {
				return true
			}
		}
		if len(v.addrs) > 0 {
			if a := s.address(); a.IsValid() && slices.Contains(v.addrs, a) {
				return true
			}
		}
	case numeral:
		if len(v.numbers) > 0 && slices.Contains(v.numbers, s.float()) {
			return true
		}
		for _, l := range v.literals {
			if l == string(s.text) {
				return true
			}
		}
	case boolTrue:
		if v.isTrue {
			return true
		}
	case boolFalse:
		if v.isFalse {
			return true
		}
	case null:
		if v.isNull {
			return true
		}
	}
	for i := range v.ops {
		if v.ops[i].match(s) {
			return true
		}
	}
	return false
}

func (o *op) match(s *scalar) bool {
	switch o.kind {
	case opNot:
		return !o.not.match(s)
	case opRange:
		if s.kind != numeral {
			return false
		}
		f := s.float()
		return (f > o.low || f == o.low && !o.lowOpen) && (f < o.high || f == o.high && !o.topOpen)
	}
	if s.kind != text {
		return false
	}
	switch o.kind {
	case opPrefix:
		return len(s.text) >= len(o.text) && string(s.text[:len(o.text)]) == o.text
	case opSuffix:
		return len(s.text) >= len(o.text) && string(s.text[len(s.text)-len(o.text):]) == o.text
	case opEqualFold:
		rest, ok := cutPrefixFold(s.text, o.runes)
		return ok && len(rest) == 0
	case opPrefixFold:
		_, ok := cutPrefixFold(s.text, o.runes)
		return ok
	case opSuffixFold:
		return hasSuffixFold(s.text, o.runes)
	case opCIDR:
		a := s.address()
		return a.IsValid() && o.network.Contains(a)
	case opWildcard:
		return matchWildcard(s.text, o.parts)
	}
	return false
}

// fold is the least of the characters that differ in case only.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r // K and S have larger relatives, no smaller ones
	}
	least := r
	for n := unicode.SimpleFold(r); n != r; n = unicode.SimpleFold(n) {
		least = min(least, n)
	}
	return least
}

func foldAll(s string) []rune {
	runes := []rune(s)
	for i, r := range runes {
		runes[i] = fold(r)
	}
	return runes
}

func cutPrefixFold(s []byte, folded []rune) ([]byte, bool) {
	for _, want := range folded {
		r, n := utf8.DecodeRune(s)
		if n == 0 || fold(r) != want {
			return s, false
		}
		s = s[n:]
	}
	return s, true
}

func hasSuffixFold(s []byte, folded []rune) bool {
	for _, want := range slices.Backward(folded) {
		r, n := utf8.DecodeLastRune(s)
		if n == 0 || fold(r) != want {
			return false
		}
		s = s[:len(s)-n]
	}
	return true
}

// matchWildcard matches parts with anything between them. Taking each part where it comes first is enough, so that no
// wildcard is ever tried again.
func matchWildcard(s []byte, parts [][]byte) bool {
	if len(parts) == 1 {
		return bytes.Equal(s, parts[0])
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !bytes.HasPrefix(s, first) || !bytes.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := bytes.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}

// parseWildcard splits a wildcard pattern into the parts between its wildcards. The reason why it is not one is in err.
func parseWildcard(s string) (parts [][]byte, err string) {
	var part []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '*':
			if i+1 < len(s) && s[i+1] == '*' {
				return nil, "Consecutive wildcard characters at pos " + strconv.Itoa(utf16Length(s[:i])+1)
			}
			parts = append(parts, part)
			part = nil
		case s[i] == '\\':
			if i+1 == len(s) || s[i+1] != '*' && s[i+1] != '\\' {
				return nil, "Invalid escape character at pos " + strconv.Itoa(utf16Length(s[:i])+1)
			}
			i++
			part = append(part, s[i])
		default:
			part = append(part, s[i])
		}
	}
	return append(parts, part), ""
}

// parseCIDR reads a network. The reason why it is not one is in err.
func parseCIDR(s string) (network netip.Prefix, err string) {
	address, mask, ok := strings.Cut(strings.TrimRight(s, "/"), "/")
	if !ok || strings.Contains(mask, "/") {
		return network, "Malformed CIDR, one '/' required"
	}
	bits, e := strconv.Atoi(mask)
	if e != nil {
		return network, "Malformed CIDR, mask bits must be an integer"
	}
	if bits < 0 {
		return network, "Malformed CIDR, mask bits must not be negative"
	}
	if !looksLikeAddress(address) {
		return network, "Nonstandard IP address: " + address
	}
	a, e := netip.ParseAddr(address)
	switch {
	case e != nil:
		return network, "Invalid IP address: " + address
	case a.Is4() && bits > 31:
		return network, "IPv4 mask bits must be < 32"
	case bits > 127:
		return network, "IPv6 mask bits must be < 128"
	}
	return netip.PrefixFrom(a, bits).Masked(), ""
}
