package eventpattern

import (
	"bytes"
	"sync"
)

// branch is what remains of a pattern when one alternative of each $or is chosen: fields that must all match.
type branch struct {
	root   *node
	leaves []*values
	nested bool // there are objects as values
}

// node is a part of a path. The fields of a subtree have consecutive numbers.
type node struct {
	name   string
	kids   []*node
	byName map[string]*node // if there are many kids
	leaf   *values          // of the field that ends here, if one does
	lo, hi int              // the fields of the subtree
}

const manyKids = 8

func (n *node) find(name string) *node {
	if n.byName != nil {
		return n.byName[name]
	}
	for _, k := range n.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

func (n *node) findBytes(name []byte) *node {
	if n.byName != nil {
		return n.byName[string(name)]
	}
	for _, k := range n.kids {
		if k.name == string(name) {
			return k
		}
	}
	return nil
}

// path follows a name, whose dots separate parts.
func (n *node) path(name []byte) *node {
	for n != nil {
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			return n.findBytes(name)
		}
		n, name = n.findBytes(name[:dot]), name[dot+1:]
	}
	return nil
}

// state is what is known of a field. The order matters: when two places of the document belong to one field, more wins.
type state uint8

const (
	unseen  state = iota // there is no value
	seen                 // there are values, which do not match
	matched              // there is one that does
)

// matcher holds what matching needs.
type matcher struct {
	doc    document
	branch *branch
	states []state // of the branch's fields
	stack  []state // what array keeps for later
}

var matchers = sync.Pool{New: func() any { return new(matcher) }}

const maxPooled = 1 << 14 // items; a larger document's list is not kept

func (m *matcher) free() {
	m.doc.src, m.branch = nil, nil
	if cap(m.doc.nodes) > maxPooled {
		m.doc.nodes = nil
	}
	matchers.Put(m)
}

func (m *matcher) begin(b *branch) {
	m.branch = b
	if cap(m.states) < len(b.leaves) {
		m.states = make([]state, len(b.leaves))
	}
	m.states = m.states[:len(b.leaves)]
	clear(m.states)
	m.stack = m.stack[:0]
}

// satisfied reports whether the fields from lo to hi are.
func (m *matcher) satisfied(lo, hi int) bool {
	for i := lo; i < hi; i++ {
		if s := m.states[i]; s == seen || s == unseen && !m.branch.leaves[i].absent {
			return false
		}
	}
	return true
}

// chosen reports whether the fields from lo to hi are satisfied, and at least one by a value.
func (m *matcher) chosen(lo, hi int) bool {
	some := false
	for i := lo; i < hi; i++ {
		switch m.states[i] {
		case matched:
			some = true
		case seen:
			return false
		case unseen:
			if !m.branch.leaves[i].absent {
				return false
			}
		}
	}
	return some
}

func (m *matcher) set(n *node, s scalar) {
	if n.leaf == nil {
		return
	}
	i := n.lo // the field that ends at a node is the first of its subtree
	if m.states[i] == matched {
		return
	}
	m.states[i] = seen
	if n.leaf.match(&s) {
		m.states[i] = matched
	}
}

// walk takes the value at an item for the fields of a subtree.
func (m *matcher) walk(n *node, at int) {
	switch it := m.doc.nodes[at]; it.kind {
	case object:
		m.members(n, at, "")
	case array:
		m.elements(n, at)
	default:
		if n.leaf != nil {
			m.set(n, scalar{kind: it.kind, text: m.doc.text(it)})
		}
	}
}

// members takes an object's members but one for the subtrees that they belong to.
func (m *matcher) members(n *node, at int, except string) {
	if len(n.kids) == 0 {
		return
	}
	end := m.doc.nodes[at].next
	for i := at + 1; i < end; i = m.doc.nodes[i+1].next {
		name := m.doc.text(m.doc.nodes[i])
		if except != "" && string(name) == except {
			continue
		}
		if k := n.path(name); k != nil {
			m.walk(k, i+1)
		}
	}
}

// elements takes an array: the fields of the subtree must all match in one element. If there is none such, the fields that
// have a value anywhere in the array are seen.
func (m *matcher) elements(n *node, at int) {
	end := m.doc.nodes[at].next
	if n.hi == n.lo+1 { // one field needs no element in common
		for i := at + 1; i < end && m.states[n.lo] != matched; i = m.doc.nodes[i].next {
			m.walk(n, i)
		}
		return
	}
	lo, hi, base := n.lo, n.hi, len(m.stack)
	anywhere := base + hi - lo
	m.stack = append(m.stack, m.states[lo:hi]...) // what is known from elsewhere in the document
	m.stack = append(m.stack, m.states[lo:hi]...) // the same, and the values of all elements
	for i := at + 1; i < end; i = m.doc.nodes[i].next {
		if k := m.doc.nodes[i].kind; k > array && n.leaf == nil || k == object && len(n.kids) == 0 {
			continue
		}
		clear(m.states[lo:hi])
		m.walk(n, i)
		if m.chosen(lo, hi) {
			for j, elsewhere := range m.stack[base:anywhere] {
				m.states[lo+j] = max(m.states[lo+j], elsewhere)
			}
			m.stack = m.stack[:base]
			return
		}
		for j, s := range m.states[lo:hi] {
			if s != unseen {
				m.stack[anywhere+j] = max(m.stack[anywhere+j], seen)
			}
		}
	}
	copy(m.states[lo:hi], m.stack[anywhere:])
	m.stack = m.stack[:base]
}

// walkIn takes another matcher's document for the fields of a subtree.
func (m *matcher) walkIn(other *matcher, n *node) {
	own := m.doc
	m.doc = other.doc
	m.walk(n, 0)
	m.doc = own
}
