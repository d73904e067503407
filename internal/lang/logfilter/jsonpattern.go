package logfilter

import "strconv"

// The most wildcard selectors in one property selector and in one pattern.
const (
	maxWildcardsPerSelector = 1
	maxWildcards            = 3
)

// jsonPattern is conditions on the properties of a JSON document.
type jsonPattern struct{ cond func(*document) bool }

func (p jsonPattern) match(message string) bool {
	d := parseDocument(message)
	if d == nil {
		return false
	}
	defer d.free()
	return p.cond(d)
}

func compileJSON(p string) (matcher, error) {
	if p[len(p)-1] != '}' {
		return nil, unclosed(p, "{", "}")
	}
	c := &cursor{s: p[:len(p)-1], i: 1}
	var regexes, wildcards int
	cond, err := expression(c, func(c *cursor) (func(*document) bool, error) {
		return c.property(&regexes, &wildcards)
	})
	if err != nil {
		return nil, err
	}
	if !c.end() {
		return nil, invalid(c.i, "&&, || or } is missing")
	}
	return jsonPattern{cond}, nil
}

// property reads one condition: a selector and a comparison, IS NULL, IS TRUE, IS FALSE or NOT EXISTS. AWS supports
// neither IS NOT nor EXISTS.
func (c *cursor) property(regexes, wildcards *int) (func(*document) bool, error) {
	sel, err := c.selector(wildcards)
	if err != nil {
		return nil, err
	}
	c.space()
	at := c.i
	switch c.word(isAlnum) {
	case "IS":
		c.space()
		at = c.i
		want, ok := map[string]kind{"NULL": null, "TRUE": boolTrue, "FALSE": boolFalse}[c.word(isAlnum)]
		if !ok {
			return nil, invalid(at, "IS needs NULL, TRUE or FALSE")
		}
		return func(d *document) bool {
			return d.any(sel, func(n *node) bool { return n.kind == want })
		}, nil
	case "NOT":
		c.space()
		at = c.i
		if c.word(isAlnum) != "EXISTS" {
			return nil, invalid(at, "NOT needs EXISTS")
		}
		return func(d *document) bool { return !d.any(sel, func(*node) bool { return true }) }, nil
	case "":
	default:
		return nil, invalid(at, "an operator is missing")
	}
	t, err := c.comparison(regexes)
	if err != nil {
		return nil, err
	}
	return func(d *document) bool {
		return d.any(sel, func(n *node) bool {
			switch n.kind {
			case text:
				return t.match(d.text(n), false)
			case numeral:
				return t.match(d.raw(n), true)
			}
			return false
		})
	}, nil
}

// step goes from a value to its member or element, or with wild to any of them.
type step struct {
	name  string
	index int // of an element; -1 for a member
	wild  bool
}

// selector reads $.name, $.name[0], $.*, $.name[*] or $.['any name'].
func (c *cursor) selector(wildcards *int) ([]step, error) {
	start := c.i
	if !c.take("$") {
		return nil, invalid(start, "a property selector starts with $.")
	}
	var sel []step
	wild := 0
	for {
		at := c.i
		dot := c.take(".")
		switch {
		case c.take("["):
			s, err := c.bracket()
			if err != nil {
				return nil, err
			}
			if dot && s.index >= 0 {
				return nil, invalid(at, "an element follows its property without a dot")
			}
			sel = append(sel, s)
		case dot && c.take("*"):
			sel = append(sel, step{index: -1, wild: true})
		case dot:
			name := c.word(func(b byte) bool { return isAlnum(b) || b == '-' })
			if name == "" {
				return nil, invalid(c.i, "a property name is missing")
			}
			sel = append(sel, step{name: name, index: -1})
		case len(sel) == 0:
			return nil, invalid(c.i, "a property selector starts with $.")
		default:
			if wild > maxWildcardsPerSelector {
				return nil, invalid(start, "more than 1 wildcard in a property selector")
			}
			if *wildcards += wild; *wildcards > maxWildcards {
				return nil, invalid(start, "more than 3 wildcards in a pattern")
			}
			return sel, nil
		}
		if sel[len(sel)-1].wild {
			wild++
		}
	}
}

// bracket reads what follows a [ in a selector: 0], *], 'name'] or "name"].
func (c *cursor) bracket() (step, error) {
	at := c.i
	s := step{index: -1}
	switch q := c.peek(); q {
	case '\'', '"':
		name, err := c.quoted(q)
		if err != nil {
			return s, err
		}
		s.name = name
	case '*':
		c.i++
		s.wild = true
	default:
		n, err := strconv.Atoi(c.word(isDigit))
		if err != nil {
			return s, invalid(at, "[ needs an index, * or a quoted name")
		}
		s.index = n
	}
	if !c.take("]") {
		return s, invalid(c.i, "] is missing")
	}
	return s, nil
}
