package logfilter

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
)

// comparison is an operator and its operand: = "text*", != %regex%, >= 500.
type comparison struct {
	op          string // one of = != < <= > >=
	re          *regexp.Regexp
	text        string // the operand without the wildcards at its ends
	left, right bool   // a wildcard at the start, at the end
	num         number
	isNum       bool
}

// match compares the text of a value. numeric says that the value may be read as a number.
func (t *comparison) match(value string, numeric bool) bool {
	switch t.op {
	case "=":
		return t.equal(value, numeric)
	case "!=":
		return !t.equal(value, numeric)
	}
	if !numeric {
		return false
	}
	v, ok := parseNumber(value)
	if !ok {
		return false
	}
	c := v.compare(t.num)
	switch t.op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

func (t *comparison) equal(value string, numeric bool) bool {
	switch {
	case t.re != nil:
		return t.re.MatchString(value)
	case t.left && t.right:
		return strings.Contains(value, t.text)
	case t.left:
		return strings.HasSuffix(value, t.text)
	case t.right:
		return strings.HasPrefix(value, t.text)
	case value == t.text:
		return true
	case !t.isNum || !numeric:
		return false
	}
	v, ok := parseNumber(value)
	return ok && v.compare(t.num) == 0
}

// comparison reads an operator and an operand. regexes counts the regular expressions of the pattern.
func (c *cursor) comparison(regexes *int) (*comparison, error) {
	t := &comparison{}
	c.space()
	for _, op := range []string{"!=", "<=", ">=", "=", "<", ">"} {
		if c.take(op) {
			t.op = op
			break
		}
	}
	if t.op == "" {
		return nil, invalid(c.i, "an operator (= != < <= > >=) is missing")
	}
	c.space()
	start := c.i
	switch c.peek() {
	case '%':
		if *regexes++; *regexes > maxRegexes {
			return nil, invalid(start, "more than 2 regular expressions")
		}
		n := strings.IndexByte(c.s[start+1:], '%')
		if n < 0 {
			return nil, invalid(start, "the regular expression is not closed by %")
		}
		re, err := compileRegex(c.s[start+1:start+1+n], start+1)
		if err != nil {
			return nil, err
		}
		t.re, c.i = re, start+n+2
	case '"':
		text, err := c.quoted('"')
		if err != nil {
			return nil, err
		}
		t.text = text
	default:
		t.text = c.word(isBareOperand)
		if t.text == "" {
			return nil, invalid(start, "an operand is missing, or needs double quotes")
		}
		t.num, t.isNum = parseNumber(t.text)
	}
	if t.op != "=" && t.op != "!=" && !t.isNum {
		return nil, invalid(start, t.op+" needs a number")
	}
	if !t.isNum && t.re == nil {
		t.text, t.left = strings.CutPrefix(t.text, "*")
		t.text, t.right = strings.CutSuffix(t.text, "*")
	}
	return t, nil
}

// isBareOperand holds for the characters that an operand may have without quotes: those of words, numbers, host names,
// addresses and wildcards.
func isBareOperand(b byte) bool { return isAlnum(b) || strings.IndexByte(".*+-:/", b) >= 0 }

// number is an integer where it fits, so that large identifiers compare exactly, else a float.
type number struct {
	i     int64
	f     float64
	isInt bool
}

// parseNumber reads an integer or decimal with optional sign and exponent, and nothing else that strconv would take.
func parseNumber(s string) (number, bool) {
	for i := range len(s) {
		if b := s[i]; !isDigit(b) && b != '+' && b != '-' && b != '.' && b != 'e' && b != 'E' {
			return number{}, false
		}
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return number{i: i, f: float64(i), isInt: true}, true
	}
	f, err := strconv.ParseFloat(s, 64)
	return number{f: f}, err == nil
}

func (a number) compare(b number) int {
	if a.isInt && b.isInt {
		return cmp.Compare(a.i, b.i)
	}
	return cmp.Compare(a.f, b.f)
}
