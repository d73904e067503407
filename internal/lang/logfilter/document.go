package logfilter

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

type kind uint8

const (
	object kind = iota
	array
	text
	numeral
	boolTrue
	boolFalse
	null
)

// node is one value or member name of a document. Members and elements follow their object or array in the order of the
// text, each member as its name and its value.
type node struct {
	kind       kind
	escaped    bool // a string with backslashes
	start, end int  // its text, without the quotes of a string
	next       int  // the node after this value and all that is in it
}

// document is a message read as JSON into a flat list of nodes, which is reused so that matching need not allocate.
type document struct {
	src   string
	nodes []node
}

const (
	maxDepth       = 1000    // of nesting, and with it of the stack
	maxPooledNodes = 1 << 14 // a larger document's list is not kept
)

var documents = sync.Pool{New: func() any { return new(document) }}

// parseDocument reads an object or an array. It returns nil for any other text. The document is to be freed.
func parseDocument(src string) *document {
	i := skipSpace(src, 0)
	if i == len(src) || src[i] != '{' && src[i] != '[' {
		return nil
	}
	d := documents.Get().(*document)
	d.src, d.nodes = src, d.nodes[:0]
	i = d.value(i, 0)
	if i < 0 || skipSpace(src, i) != len(src) {
		d.free()
		return nil
	}
	return d
}

func (d *document) free() {
	d.src = ""
	if cap(d.nodes) <= maxPooledNodes {
		documents.Put(d)
	}
}

func (d *document) raw(n *node) string { return d.src[n.start:n.end] }

func (d *document) text(n *node) string {
	if n.escaped {
		return unescape(d.raw(n))
	}
	return d.raw(n)
}

// any reports whether ok holds for one of the values that sel selects. Of members with the same name the last counts.
func (d *document) any(sel []step, ok func(*node) bool) bool { return d.from(0, sel, ok) }

func (d *document) from(at int, sel []step, ok func(*node) bool) bool {
	n := &d.nodes[at]
	if len(sel) == 0 {
		return ok(n)
	}
	s := sel[0]
	switch n.kind {
	case object:
		found := -1
		for i := at + 1; i < n.next; i = d.nodes[i+1].next {
			switch {
			case s.wild:
				if d.from(i+1, sel[1:], ok) {
					return true
				}
			case s.index < 0 && d.text(&d.nodes[i]) == s.name:
				found = i + 1
			}
		}
		return found >= 0 && d.from(found, sel[1:], ok)
	case array:
		for i, k := at+1, 0; i < n.next; i, k = d.nodes[i].next, k+1 {
			if (s.wild || s.index == k) && d.from(i, sel[1:], ok) {
				return true
			}
		}
	}
	return false
}

// value reads the value at i, where no blank stands, and returns where it ends, or -1 if it is no value.
func (d *document) value(i, depth int) int {
	if i >= len(d.src) || depth > maxDepth {
		return -1
	}
	at := len(d.nodes)
	d.nodes = append(d.nodes, node{start: i})
	switch ch := d.src[i]; {
	case ch == '{' || ch == '[':
		i = d.members(i+1, depth, at, ch == '{')
	case ch == '"':
		d.nodes = d.nodes[:at]
		return d.str(i)
	case ch == '-' || isDigit(ch):
		d.nodes[at].kind = numeral
		i = scanNumber(d.src, i)
	default:
		i = d.literal(at, i)
	}
	if i >= 0 {
		d.nodes[at].end, d.nodes[at].next = i, len(d.nodes)
	}
	return i
}

// members reads what follows { or [, up to and with the bracket that closes it.
func (d *document) members(i, depth, at int, named bool) int {
	closing := byte('}')
	if !named {
		closing, d.nodes[at].kind = ']', array
	}
	if i = skipSpace(d.src, i); i < len(d.src) && d.src[i] == closing {
		return i + 1
	}
	for {
		if named {
			if i = d.str(skipSpace(d.src, i)); i < 0 {
				return -1
			}
			if i = skipSpace(d.src, i); i >= len(d.src) || d.src[i] != ':' {
				return -1
			}
			i++
		}
		if i = d.value(skipSpace(d.src, i), depth+1); i < 0 {
			return -1
		}
		if i = skipSpace(d.src, i); i >= len(d.src) {
			return -1
		}
		switch d.src[i] {
		case closing:
			return i + 1
		case ',':
			i++
		default:
			return -1
		}
	}
}

// str reads the string at i.
func (d *document) str(i int) int {
	if i >= len(d.src) || d.src[i] != '"' {
		return -1
	}
	n := node{kind: text, start: i + 1}
	for i++; i < len(d.src); i++ {
		switch ch := d.src[i]; {
		case ch == '"':
			n.end, n.next = i, len(d.nodes)+1
			d.nodes = append(d.nodes, n)
			return i + 1
		case ch < ' ':
			return -1
		case ch == '\\':
			n.escaped = true
			if i++; i >= len(d.src) {
				return -1
			}
			switch d.src[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if _, ok := hex4(d.src, i+1); !ok {
					return -1
				}
				i += 4
			default:
				return -1
			}
		}
	}
	return -1
}

func (d *document) literal(at, i int) int {
	for _, l := range [...]struct {
		text string
		kind kind
	}{{"true", boolTrue}, {"false", boolFalse}, {"null", null}} {
		if strings.HasPrefix(d.src[i:], l.text) {
			d.nodes[at].kind = l.kind
			return i + len(l.text)
		}
	}
	return -1
}

// scanNumber returns where the number at i ends, or -1 if it is not one of JSON.
func scanNumber(s string, i int) int {
	digits := func() bool {
		start := i
		for i < len(s) && isDigit(s[i]) {
			i++
		}
		return i > start
	}
	if s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return -1
	}
	if i < len(s) && s[i] == '.' {
		if i++; !digits() {
			return -1
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		if i++; i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return -1
		}
	}
	return i
}

func skipSpace(s string, i int) int {
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	return i
}

func hex4(s string, i int) (rune, bool) {
	if i+4 > len(s) {
		return 0, false
	}
	v, err := strconv.ParseUint(s[i:i+4], 16, 16)
	return rune(v), err == nil
}

// unescape decodes the text of a string that str has read.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		i++
		if n := strings.IndexByte("bfnrt", s[i]); n >= 0 {
			b = append(b, "\b\f\n\r\t"[n])
			continue
		}
		if s[i] != 'u' {
			b = append(b, s[i])
			continue
		}
		r, _ := hex4(s, i+1)
		i += 4
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if strings.HasPrefix(s[i+1:], `\u`) {
				low, _ = hex4(s, i+3)
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 6
			}
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}
