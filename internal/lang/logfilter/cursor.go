package logfilter

import "strings"

// cursor reads a pattern from left to right.
type cursor struct {
	s string
	i int
}

func (c *cursor) end() bool { return c.i >= len(c.s) }

// peek returns the next byte, 0 at the end.
func (c *cursor) peek() byte {
	if c.end() {
		return 0
	}
	return c.s[c.i]
}

func (c *cursor) space() {
	for !c.end() && isSpace(c.s[c.i]) {
		c.i++
	}
}

// take skips text if it comes next.
func (c *cursor) take(text string) bool {
	if !strings.HasPrefix(c.s[c.i:], text) {
		return false
	}
	c.i += len(text)
	return true
}

// word reads the longest run of bytes that satisfy ok.
func (c *cursor) word(ok func(byte) bool) string {
	start := c.i
	for !c.end() && ok(c.s[c.i]) {
		c.i++
	}
	return c.s[start:c.i]
}

// quoted reads a string between quotes, in which a backslash escapes the quote and itself.
func (c *cursor) quoted(quote byte) (string, error) {
	open := c.i
	c.i++
	var b strings.Builder
	for !c.end() {
		ch := c.s[c.i]
		c.i++
		switch {
		case ch == quote:
			return b.String(), nil
		case ch == '\\' && (c.peek() == quote || c.peek() == '\\'):
			ch = c.s[c.i]
			c.i++
		}
		b.WriteByte(ch)
	}
	return "", invalid(open, "the quote is not closed")
}

// expression reads conditions joined by && and ||, where && binds tighter and parentheses tighter still. leaf reads one
// condition on a subject.
func expression[S any](c *cursor, leaf func(*cursor) (func(S) bool, error)) (func(S) bool, error) {
	return joined(c, "||", func() (func(S) bool, error) {
		return joined(c, "&&", func() (func(S) bool, error) {
			c.space()
			if !c.take("(") {
				return leaf(c)
			}
			inner, err := expression(c, leaf)
			if err != nil {
				return nil, err
			}
			if !c.take(")") {
				return nil, invalid(c.i, ") is missing")
			}
			return inner, nil
		})
	})
}

// joined reads operands separated by op. It leaves the cursor on the first byte that is neither.
func joined[S any](c *cursor, op string, operand func() (func(S) bool, error)) (func(S) bool, error) {
	var all []func(S) bool
	for {
		f, err := operand()
		if err != nil {
			return nil, err
		}
		all = append(all, f)
		c.space()
		if !c.take(op) {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	stopAt := op == "||" // one true decides an or, one false an and
	return func(s S) bool {
		for _, f := range all {
			if f(s) == stopAt {
				return stopAt
			}
		}
		return !stopAt
	}, nil
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isAlnum(b byte) bool {
	return isDigit(b) || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || b == '_'
}
