package eventpattern

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// maxBranches is how many alternatives the $ors of a pattern may multiply to.
const maxBranches = 1000

// maxFields bounds the fields of all branches together, and with it the memory of a pattern.
const maxFields = 1 << 18

// step is a part of a path in the text of a pattern, in a tree of all paths.
type step struct {
	name string
	kids []*step
	byN  map[string]*step
	id   int
}

func (s *step) kid(c *compiler, name string) *step {
	if k := s.byN[name]; k != nil {
		return k
	}
	c.steps++
	k := &step{name: name, id: c.steps}
	if s.byN == nil {
		s.byN = map[string]*step{}
	}
	s.byN[name] = k
	s.kids = append(s.kids, k)
	return k
}

// rule maps paths to what a branch asks of them.
type rule map[int]field

type field struct {
	values *values
	depth  int // of the objects in the pattern
	top    string
}

type compiler struct {
	lexer
	dialect Dialect
	steps   int
	fields  int
	nested  bool // an object as a field's value
}

// failure is carried by panics from the depth of the grammar to compile.
type failure struct{ *Error }

// compile reads a pattern.
func compile(dialect Dialect, src string) (branches []*branch, err error) {
	c := &compiler{lexer: lexer{src: src}, dialect: dialect}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = p.Error
		default:
			panic(p)
		}
	}()
	if dialect == policy {
		c.checkSyntax()
	}
	root := &step{}
	if c.token() != startObject {
		c.fail("Filter is not an object")
	}
	rules := c.object(root, []rule{{}}, 1, "", false)
	if c.advance() != endOfInput || c.err != nil {
		c.check()
		c.fail("Unexpected content after the pattern")
	}
	if dialect == policy {
		c.checkPolicy(rules)
	}
	for _, r := range rules {
		b := &branch{nested: c.nested}
		b.root = b.build(root, r)
		branches = append(branches, b)
	}
	return branches, nil
}

// build makes the tree of one branch.
func (b *branch) build(s *step, r rule) *node {
	n := &node{name: s.name, lo: len(b.leaves)}
	if f, ok := r[s.id]; ok {
		n.leaf = f.values
		b.leaves = append(b.leaves, f.values)
	}
	for _, k := range s.kids {
		if kid := b.build(k, r); kid.hi > kid.lo {
			n.kids = append(n.kids, kid)
		}
	}
	if len(n.kids) > manyKids {
		n.byName = map[string]*node{}
		for _, k := range n.kids {
			n.byName[k.name] = k
		}
	}
	n.hi = len(b.leaves)
	return n
}

// fail gives up with a reason, and the place where the reader stands.
func (c *compiler) fail(reason string) {
	panic(failure{&Error{Dialect: c.dialect, Reason: reason + c.place(c.pos, true)}})
}

// failTwice gives up as AWS does inside of a list: it says the place twice.
func (c *compiler) failTwice(reason string) {
	place := c.place(c.pos, true)
	panic(failure{&Error{Dialect: c.dialect, Reason: reason + place + place}})
}

// failPlain gives up without a place.
func (c *compiler) failPlain(reason string) {
	panic(failure{&Error{Dialect: c.dialect, Reason: reason}})
}

// check gives up if the text is no JSON.
func (c *compiler) check() {
	if e, ok := c.err.(*syntaxError); ok {
		if c.dialect == policy {
			panic(failure{&Error{Dialect: policy, Reason: "failed to parse JSON. " + e.reason + c.place(e.at, false)}})
		}
		panic(failure{&Error{Dialect: c.dialect, Reason: e.reason + c.place(e.at, true)}})
	}
}

// token reads the next token.
func (c *compiler) token() token {
	t := c.advance()
	c.check()
	return t
}

// string returns the text of the current token.
func (c *compiler) string() string {
	s := c.text()
	c.check()
	return s
}

// object reads the fields of an object that has begun and adds them to each of the rules.
func (c *compiler) object(at *step, rules []rule, depth int, top string, inOr bool) []rule {
	for empty := true; ; empty = false {
		if c.token() == endObject {
			if empty && !(c.dialect == policy && depth == 1) {
				c.fail("Empty objects are not allowed")
			}
			return rules
		}
		name := c.name
		if name == "$or" {
			rules = c.or(at, rules, depth, top)
			continue
		}
		if inOr && isReserved(name) {
			c.fail(name + " is Ruler reserved fieldName which cannot be used inside $or.")
		}
		head := top
		if depth == 1 {
			head = name
		}
		s := at
		for part := range strings.SplitSeq(name, ".") {
			s = s.kid(c, part)
		}
		switch c.token() {
		case startObject:
			c.nested = true
			rules = c.object(s, rules, depth+1, head, inOr)
		case startArray:
			v := c.values()
			if c.fields += len(rules); c.fields > maxFields {
				c.failPlain("Rule is too complex")
			}
			for _, r := range rules {
				r[s.id] = field{v, depth, head}
			}
		default:
			c.fail(fmt.Sprintf(`"%s" must be an object or an array`, name))
		}
	}
}

// or reads the objects of an $or: each of the rules goes on with each of them.
func (c *compiler) or(at *step, rules []rule, depth int, top string) (all []rule) {
	if c.token() != startArray {
		c.fail("It must be an Array followed with $or.")
	}
	objects := 0
	for ; c.token() != endArray; objects++ {
		if c.tok != startObject {
			c.fail("Only JSON object is allowed in array of $or relationship.")
		}
		copies := make([]rule, len(rules))
		for i, r := range rules {
			copies[i] = make(rule, len(r))
			for id, f := range r {
				copies[i][id] = f
			}
			if c.fields += len(r); c.fields > maxFields {
				c.failPlain("Rule is too complex")
			}
		}
		all = append(all, c.orObject(at, copies, depth, top)...)
		if len(all) > maxBranches {
			c.failPlain("Rule is too complex")
		}
	}
	if objects < 2 {
		c.fail("There must have at least 2 Objects in $or relationship.")
	}
	return all
}

// orObject reads one object of an $or, which may not be empty even in a filter policy.
func (c *compiler) orObject(at *step, rules []rule, depth int, top string) []rule {
	before := c.pos
	rules = c.object(at, rules, depth, top, true)
	if c.dialect == policy && strings.TrimSpace(c.src[before:c.pos]) == "}" {
		c.fail("Empty objects are not allowed")
	}
	return rules
}

// isReserved reports whether a name may not be a field's inside of an $or.
func isReserved(name string) bool {
	switch name {
	case "exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr",
		"=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case",
		"date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range",
		"ip-address-in-range", "ip-address-not-in-range":
		return true
	}
	return false
}

// values reads the alternatives of a field, whose array has begun.
func (c *compiler) values() *values {
	v := &values{}
	for {
		switch c.token() {
		case endArray:
			if v.count == 0 {
				c.fail("Empty arrays are not allowed")
			}
			return v
		case startObject:
			c.expression(v)
		case stringValue:
			s := c.string()
			v.addString(s)
			if looksLikeAddress(s) {
				if a, err := netip.ParseAddr(s); err == nil {
					v.addrs = append(v.addrs, a)
				}
			}
		case numberValue:
			v.addNumber(c.string())
		case trueValue:
			v.isTrue = true
		case falseValue:
			v.isFalse = true
		case nullValue:
			v.isNull = true
		default:
			c.fail("Match value must be String, number, true, false, or null")
		}
		v.count++
	}
}

// expression reads {"operator": operand}, of which the brace has been read.
func (c *compiler) expression(v *values) {
	if c.token() != fieldName {
		c.fail("Match expression name not found")
	}
	operator := c.name
	switch operator {
	case "exactly":
		v.addString(c.operand("exact match pattern must be a string"))
	case "prefix", "suffix":
		c.affix(v, operator)
	case "equals-ignore-case":
		v.ops = append(v.ops, op{kind: opEqualFold, runes: foldAll(c.operand("equals-ignore-case match pattern must be a string"))})
	case "wildcard":
		v.ops = append(v.ops, c.wildcard(c.operand("wildcard match pattern must be a string")))
	case "cidr":
		network, err := parseCIDR(c.operand("prefix match pattern must be a string"))
		if err != "" {
			c.failPlain(err)
		}
		v.ops = append(v.ops, op{kind: opCIDR, network: network})
	case "numeric":
		if c.token() != startArray {
			c.fail("Value of numeric must be an array.")
		}
		v.ops = append(v.ops, c.numeric())
		c.end("Too many elements in numeric expression")
		return
	case "anything-but":
		c.anythingBut(v)
		c.end("Too many elements in numeric expression")
		return
	case "exists":
		switch c.token() {
		case trueValue:
			v.exists = true
		case falseValue:
			v.absent = true
		default:
			c.fail("exists match pattern must be either true or false.")
		}
	default:
		c.fail("Unrecognized match type " + operator)
	}
	c.end("Only one key allowed in match expression")
}

// end reads the end of an object.
func (c *compiler) end(otherwise string) {
	if c.token() != endObject {
		c.fail(otherwise)
	}
}

// operand reads a string.
func (c *compiler) operand(otherwise string) string {
	if c.token() != stringValue {
		c.fail(otherwise)
	}
	return c.string()
}

func (c *compiler) wildcard(s string) op {
	parts, err := parseWildcard(s)
	if err != "" {
		c.fail(err)
	}
	return op{kind: opWildcard, parts: parts}
}

// affix reads the operand of prefix or suffix: a string, or {"equals-ignore-case": string}.
func (c *compiler) affix(v *values, operator string) {
	plain, folded := opPrefix, opPrefixFold
	if operator == "suffix" {
		plain, folded = opSuffix, opSuffixFold
	}
	switch c.token() {
	case stringValue:
		v.ops = append(v.ops, op{kind: plain, text: c.string()})
	case startObject:
		if c.token() != fieldName {
			c.fail(strings.ToUpper(operator[:1]) + operator[1:] + " expression name not found")
		}
		if c.name != "equals-ignore-case" {
			c.fail("Unsupported " + operator + " pattern: " + c.name)
		}
		v.ops = append(v.ops, op{kind: folded, runes: foldAll(c.operand("equals-ignore-case match pattern must be a string"))})
		c.end("Only one key allowed in match expression")
	default:
		c.fail(operator + " match pattern must be a string")
	}
}

// numeric reads ["=", 1] or [">", 0, "<=", 5], of which the bracket has been read.
func (c *compiler) numeric() op {
	if c.token() != stringValue {
		c.fail("Invalid member in numeric match: " + c.string())
	}
	operator := c.string()
	is := c.token()
	o := op{kind: opRange, low: math.Inf(-1), high: math.Inf(1)}
	number := func(of string) float64 {
		if is != numberValue {
			c.fail("Value of " + of + " must be numeric")
		}
		f := toNumber(c.string())
		if math.IsNaN(f) {
			c.fail("Value of " + of + " is out of range: " + c.string())
		}
		return f
	}
	switch operator {
	case "=":
		o.low = number("equals")
		o.high = o.low
	case "<", "<=":
		o.high, o.topOpen = number(operator), operator == "<"
	case ">", ">=":
		o.low, o.lowOpen = number(operator), operator == ">"
		switch c.token() {
		case endArray:
			return o
		case stringValue:
		default:
			c.fail("Bad value in numeric range: " + c.string())
		}
		second := c.string()
		if second != "<" && second != "<=" {
			c.fail("Bad numeric range operator: " + second)
		}
		is = c.token()
		o.high, o.topOpen = number(second), second == "<"
		if c.token() != endArray {
			c.fail("Too many terms in numeric range expression")
		}
		if o.low >= o.high {
			c.fail("Bottom must be less than top")
		}
		return o
	default:
		c.fail("Unrecognized numeric range operator: " + operator)
	}
	if c.token() != endArray {
		c.fail("Too many elements in numeric expression")
	}
	return o
}

// anythingBut reads what a value must not be: a string or number, a list of either, or an object with a prefix, suffix,
// wildcard or equals-ignore-case, each a string or a list of strings.
func (c *compiler) anythingBut(v *values) {
	not := &values{}
	switch c.token() {
	case stringValue:
		not.addString(c.string())
	case numberValue:
		not.addNumber(c.string())
	case startArray:
		numbers, texts := false, false
		for c.token() != endArray {
			switch c.tok {
			case stringValue:
				not.addString(c.string())
				texts = true
			case numberValue:
				not.addNumber(c.string())
				numbers = true
			default:
				c.failTwice("Inside anything but list, start|null|boolean is not supported.")
			}
		}
		if numbers == texts {
			c.fail("Inside anything but list, either all values are number or string, mixed type is not supported")
		}
	case startObject:
		c.anythingButOperator(not)
	default:
		c.fail("Value of anything-but must be an array or single string/number value.")
	}
	v.ops = append(v.ops, op{kind: opNot, not: not})
}

func (c *compiler) anythingButOperator(not *values) {
	if c.token() != fieldName {
		c.fail("Anything-But expression name not found")
	}
	operator := c.name
	var mustBe string
	switch operator {
	case "prefix", "suffix":
		mustBe = "prefix/suffix match pattern must be a string"
		if c.dialect == policy && operator == "prefix" {
			mustBe = "prefix match pattern must be a string"
		}
	case "wildcard":
		mustBe = "wildcard match pattern must be a string"
	case "equals-ignore-case":
		mustBe = "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported."
	default:
		c.fail("Unsupported anything-but pattern: " + operator)
	}
	add := func(s string) {
		switch operator {
		case "prefix", "suffix":
			if s == "" {
				c.fail("Null prefix/suffix not allowed")
			}
			kind := opPrefix
			if operator == "suffix" {
				kind = opSuffix
			}
			not.ops = append(not.ops, op{kind: kind, text: s})
		case "wildcard":
			not.ops = append(not.ops, c.wildcard(s))
		default:
			not.ops = append(not.ops, op{kind: opEqualFold, runes: foldAll(s)})
		}
	}
	switch c.token() {
	case stringValue:
		add(c.string())
	case startArray:
		for c.token() != endArray {
			if c.tok != stringValue {
				c.failTwice(mustBe)
			}
			add(c.string())
		}
		if len(not.ops) == 0 {
			c.fail(mustBe)
		}
	case startObject:
		c.fail("Value of anything-but must be an array or single string/number value.")
	default:
		c.fail(mustBe)
	}
	c.end("Only one key allowed in match expression")
}
