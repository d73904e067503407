package eventpattern

import "strings"

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

// item is one value or one member's name. Members and elements follow their object or array in the order of the text, each
// member as its name and its value.
type item struct {
	kind       kind
	escaped    bool // a string with backslashes
	start, end int  // of its text, without the quotes of a string
	next       int  // the item after this value and all that is in it
}

// document is JSON read into a flat list, which is reused so that matching need not allocate.
type document struct {
	src   []byte
	nodes []item
}

// parse reads one JSON value. It returns false for what is not well-formed, or nested deeper than 1,000.
func (d *document) parse(src []byte) bool {
	d.src, d.nodes = src, d.nodes[:0]
	i := d.value(d.space(0), 0)
	return i >= 0 && d.space(i) == len(src)
}

func (d *document) space(i int) int {
	for i < len(d.src) && isSpace(d.src[i]) {
		i++
	}
	return i
}

// value reads the value at i and returns the place behind it, -1 if there is none.
func (d *document) value(i, depth int) int {
	if i >= len(d.src) || depth > maxDepth {
		return -1
	}
	at := len(d.nodes)
	switch c := d.src[i]; c {
	case '"':
		return d.string(i)
	case '{', '[':
		k, closing := object, byte('}')
		if c == '[' {
			k, closing = array, ']'
		}
		d.nodes = append(d.nodes, item{kind: k})
		i = d.space(i + 1)
		for first := true; ; first = false {
			if i >= len(d.src) {
				return -1
			}
			if d.src[i] == closing && first {
				break
			}
			if !first {
				if d.src[i] == closing {
					break
				}
				if d.src[i] != ',' {
					return -1
				}
				i = d.space(i + 1)
			}
			if k == object {
				if i >= len(d.src) || d.src[i] != '"' {
					return -1
				}
				if i = d.string(i); i < 0 {
					return -1
				}
				if i = d.space(i); i >= len(d.src) || d.src[i] != ':' {
					return -1
				}
				i = d.space(i + 1)
			}
			if i = d.value(i, depth+1); i < 0 {
				return -1
			}
			i = d.space(i)
		}
		d.nodes[at].next = len(d.nodes)
		return i + 1
	case 't':
		return d.word(i, "true", boolTrue)
	case 'f':
		return d.word(i, "false", boolFalse)
	case 'n':
		return d.word(i, "null", null)
	}
	n := numberLength(d.src[i:])
	if n == 0 {
		return -1
	}
	d.nodes = append(d.nodes, item{kind: numeral, start: i, end: i + n, next: at + 1})
	return i + n
}

func (d *document) string(i int) int {
	n, escaped := stringLength(d.src[i+1:])
	if n < 0 {
		return -1
	}
	d.nodes = append(d.nodes, item{kind: text, escaped: escaped, start: i + 1, end: i + 1 + n, next: len(d.nodes) + 1})
	return i + n + 2
}

func (d *document) word(i int, word string, k kind) int {
	if !strings.HasPrefix(string(d.src[i:min(i+len(word), len(d.src))]), word) {
		return -1
	}
	d.nodes = append(d.nodes, item{kind: k, start: i, end: i + len(word), next: len(d.nodes) + 1})
	return i + len(word)
}

// object returns where the object is that a member of the root is, 0 if there is none.
func (d *document) object(name string) int {
	for i := 1; i < d.nodes[0].next; i = d.nodes[i+1].next {
		if string(d.text(d.nodes[i])) == name && d.nodes[i+1].kind == object {
			return i + 1
		}
	}
	return 0
}

// text returns an item's text, without escapes.
func (d *document) text(it item) []byte {
	s := d.src[it.start:it.end]
	if it.escaped {
		return unescape(make([]byte, 0, len(s)), s)
	}
	return s
}
