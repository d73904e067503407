package eventpattern

import (
	"math"
	"strings"
)

// Scope says what a filter policy is about.
type Scope uint8

const (
	MessageAttributes Scope = iota
	MessageBody
)

// MaxPolicySize is the most bytes that a filter policy may have.
const MaxPolicySize = 256 << 10

const (
	maxPolicyKeys         = 5
	maxPolicyCombinations = 150
)

// FilterPolicy is the compiled filter policy of a subscription. It is immutable and may be used concurrently.
type FilterPolicy struct {
	pattern *Pattern
	all     bool // the empty policy, which accepts everything
}

// ParseFilterPolicy compiles a filter policy. It has at most 256 KiB, 5 keys at its top, which in the scope
// MessageAttributes have no objects below them, and 150 combinations of values: the product of the lengths of its arrays,
// each multiplied by its depth, summed over the alternatives of its $ors. Errors are of type *Error. {} accepts every
// message.
func ParseFilterPolicy(policyText []byte, scope Scope) (*FilterPolicy, error) {
	if len(policyText) > MaxPolicySize {
		return nil, &Error{Dialect: policy, Reason: "Filter policy is too long"}
	}
	p, err := Parse(policy, policyText)
	if err != nil {
		return nil, err
	}
	f := &FilterPolicy{pattern: p}
	for _, b := range p.branches {
		f.all = f.all || len(b.leaves) == 0
		if scope == MessageAttributes && b.nested {
			return nil, &Error{Dialect: policy, bare: true, Reason: "Filter policy scope MessageAttributes does not support nested filter policy"}
		}
	}
	return f, nil
}

// checkSyntax gives up if the text is no JSON, which SNS says before anything else.
func (c *compiler) checkSyntax() {
	check := &compiler{lexer: lexer{src: c.src}, dialect: policy}
	for check.token() != endOfInput {
	}
}

// checkPolicy gives up if a filter policy is beyond the limits.
func (c *compiler) checkPolicy(rules []rule) {
	total := 0
	for _, r := range rules {
		tops, combinations := map[string]bool{}, 1
		for _, f := range r {
			tops[f.top] = true
			combinations = min(combinations*f.values.count*f.depth, math.MaxInt32)
		}
		if len(tops) > maxPolicyKeys {
			c.failPlain("Filter policy can not have more than 5 keys")
		}
		total += combinations
	}
	if total > maxPolicyCombinations {
		c.failPlain("Filter policy is too complex")
	}
}

// Attribute is a message attribute.
type Attribute struct {
	Type  string // String, String.Array, Number or Binary, perhaps with a label of the sender's after a dot
	Value string
}

// MatchAttributes reports whether a message with these attributes is accepted. Binary attributes do not count, nor a
// String.Array that is no JSON array.
func (f *FilterPolicy) MatchAttributes(attributes map[string]Attribute) bool {
	if f.all {
		return true
	}
	m := matchers.Get().(*matcher)
	defer m.free()
	for _, b := range f.pattern.branches {
		m.begin(b)
		for name, a := range attributes {
			if n := b.root.path([]byte(name)); n != nil {
				m.attribute(n, a)
			}
		}
		if m.satisfied(0, len(b.leaves)) {
			return true
		}
	}
	return false
}

func (m *matcher) attribute(n *node, a Attribute) {
	base, label, _ := strings.Cut(a.Type, ".")
	switch {
	case base == "Number":
		if strings.Trim(a.Value, "0123456789+-.eE") == "" { // no "inf", which is a number to the parser
			m.set(n, scalar{kind: numeral, text: []byte(a.Value)})
		}
	case base == "String" && label == "Array":
		if m.doc.parse([]byte(a.Value)) && m.doc.nodes[0].kind == array {
			m.elements(n, 0)
		}
	case base == "String":
		m.set(n, scalar{kind: text, text: []byte(a.Value)})
	}
}

// MatchBody reports whether a message with this body is accepted. A body that is no JSON object is not.
func (f *FilterPolicy) MatchBody(body []byte) bool {
	return f.all || f.pattern.Match(body)
}
