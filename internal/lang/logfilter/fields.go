package logfilter

import "strings"

// fields is a space-delimited pattern: conditions on the fields before and after the ellipsis, nil where a field may be
// anything.
type fields struct {
	head, tail []func(string) bool
	ellipsis   bool
}

func compileFields(p string) (matcher, error) {
	if p[len(p)-1] != ']' {
		return nil, unclosed(p, "[", "]")
	}
	c := &cursor{s: p[:len(p)-1], i: 1}
	f := &fields{}
	regexes := 0
	for {
		c.space()
		if at := c.i; c.take("...") {
			if f.ellipsis {
				return nil, invalid(at, "more than one ellipsis")
			}
			f.ellipsis = true
		} else {
			cond, err := c.field(&regexes)
			if err != nil {
				return nil, err
			}
			if f.ellipsis {
				f.tail = append(f.tail, cond)
			} else {
				f.head = append(f.head, cond)
			}
		}
		c.space()
		if c.end() {
			return f, nil
		}
		if !c.take(",") {
			return nil, invalid(c.i, "a comma is missing between fields")
		}
	}
}

// field reads one field: nothing, a name, or conditions that all name the same field.
func (c *cursor) field(regexes *int) (func(string) bool, error) {
	start := c.i
	c.word(isAlnum)
	if c.space(); c.end() || c.peek() == ',' {
		return nil, nil
	}
	c.i = start
	name := ""
	return expression(c, func(c *cursor) (func(string) bool, error) {
		at := c.i
		n := c.word(isAlnum)
		switch {
		case n == "":
			return nil, invalid(at, "a field name is missing")
		case name != "" && n != name:
			return nil, invalid(at, "a condition names another field than the one in its place")
		}
		name = n
		t, err := c.comparison(regexes)
		if err != nil {
			return nil, err
		}
		return func(value string) bool { return t.match(value, true) }, nil
	})
}

func (f *fields) match(message string) bool {
	rest := strings.TrimSpace(message)
	for i, cond := range f.head {
		if rest == "" {
			return false
		}
		value, after := cutField(rest)
		if i == len(f.head)-1 && !f.ellipsis && after != "" {
			value, after = rest, ""
		}
		if cond != nil && !cond(value) {
			return false
		}
		rest = after
	}
	if len(f.tail) == 0 {
		return true
	}
	var room [32]string
	values := room[:0]
	for rest != "" {
		var value string
		value, rest = cutField(rest)
		values = append(values, value)
	}
	if len(values) < len(f.tail) {
		return false
	}
	values = values[len(values)-len(f.tail):]
	for i, cond := range f.tail {
		if cond != nil && !cond(values[i]) {
			return false
		}
	}
	return true
}

// cutField splits the first field from s, which starts with no blank. What stands between [ and ] or two double quotes is
// one field.
func cutField(s string) (field, rest string) {
	closing := byte(0)
	switch s[0] {
	case '[':
		closing = ']'
	case '"':
		closing = '"'
	}
	if closing != 0 {
		if n := strings.IndexByte(s[1:], closing); n >= 0 {
			if end := n + 2; end == len(s) || isSpace(s[end]) {
				return s[1 : n+1], trimLeft(s[end:])
			}
		}
	}
	n := strings.IndexAny(s, " \t\r\n")
	if n < 0 {
		return s, ""
	}
	return s[:n], trimLeft(s[n:])
}

func trimLeft(s string) string { return strings.TrimLeft(s, " \t\r\n") }
