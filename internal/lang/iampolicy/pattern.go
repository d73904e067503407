package iampolicy

import (
	"strings"
	"unicode/utf8"
)

// pattern is a compiled text of a policy: literals, wildcards and policy variables. The value of a variable is matched
// as it is written: a star that a caller puts into a tag is a star, never a wildcard.
type pattern struct {
	shape shape
	text  string    // for exact and prefix
	runs  [][]piece // for general: what stands between the stars
	fold  bool      // case is ignored; literals are in lower case
}

type shape uint8

const (
	general  shape = iota
	exact          // text
	prefix         // text*
	anything       // *
	never          // matches nothing: a value that the grammar of its operator does not have
)

// piece is a literal, one character of any kind (neither text nor key), or a variable.
type piece struct {
	text     string
	key      string // of a variable, in lower case
	fallback string // of a variable
	variable bool
	defaults bool // a variable with a fallback
}

// syntax says what of the language a text is read with.
type syntax struct {
	wildcards bool // * and ?
	variables bool // ${...}
	fold      bool
}

// compilePattern reads a text. What looks like a variable and is none is a literal.
func compilePattern(s string, x syntax) pattern {
	if x.fold {
		s = lower(s)
	}
	run := []piece{}
	var literal strings.Builder
	p := pattern{fold: x.fold}
	flush := func() {
		if literal.Len() > 0 {
			run = append(run, piece{text: literal.String()})
			literal.Reset()
		}
	}
	plain, stars := true, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '*' && x.wildcards:
			flush()
			if stars++; len(run) > 0 || len(p.runs) == 0 { // neighbouring stars are one
				p.runs, run = append(p.runs, run), []piece{}
			}
		case c == '?' && x.wildcards:
			flush()
			run, plain = append(run, piece{}), false
		case c == '$' && x.variables && strings.HasPrefix(s[i:], "${"):
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				literal.WriteByte(c)
				continue
			}
			v, ok := variable(s[i+2 : i+end])
			switch {
			case !ok:
				literal.WriteString(s[i : i+end+1])
			case v.variable:
				flush()
				run, plain = append(run, v), false
			default:
				literal.WriteString(v.text)
			}
			i += end
		default:
			literal.WriteByte(c)
		}
	}
	flush()
	p.runs = append(p.runs, run)
	if plain {
		text := func(r []piece) string {
			if len(r) == 0 {
				return ""
			}
			return r[0].text
		}
		switch {
		case stars == 0:
			p.shape, p.text, p.runs = exact, text(p.runs[0]), nil
		case len(p.runs) == 2 && len(p.runs[1]) == 0:
			p.shape, p.text, p.runs = prefix, text(p.runs[0]), nil
			if p.text == "" {
				p.shape = anything
			}
		}
	}
	return p
}

// variable reads what stands in ${...}: one of * ? $, which stand for themselves, or a key with an optional fallback in
// single quotes.
func variable(s string) (piece, bool) {
	switch s {
	case "*", "?", "$":
		return piece{text: s}, true
	}
	key, fallback, defaults := strings.Cut(s, ",")
	key = strings.TrimSpace(key)
	if key == "" || strings.ContainsAny(key, "${*?'") {
		return piece{}, false
	}
	if fallback = strings.TrimSpace(fallback); defaults {
		if len(fallback) < 2 || fallback[0] != '\'' || fallback[len(fallback)-1] != '\'' {
			return piece{}, false
		}
		fallback = fallback[1 : len(fallback)-1]
	}
	return piece{key: lower(key), fallback: fallback, variable: true, defaults: defaults}, true
}

// resolves reports whether every variable of the pattern has a value in the request, and the pattern can match at all.
func (p *pattern) resolves(c Context) bool {
	for _, run := range p.runs {
		for i := range run {
			if run[i].variable {
				if _, ok := run[i].value(c); !ok {
					return false
				}
			}
		}
	}
	return p.shape != never
}

// value is the text of a variable. A key of several values is no variable.
func (p *piece) value(c Context) (string, bool) {
	if c != nil {
		if v, ok := c.Values(p.key); ok && len(v) == 1 {
			return v[0], true
		}
	}
	return p.fallback, p.defaults
}

// match reports whether s has the form of the pattern. A pattern with a variable that the request does not have
// matches nothing.
func (p *pattern) match(s string, c Context) bool {
	switch p.shape {
	case anything:
		return true
	case never:
		return false
	case exact:
		return len(s) == len(p.text) && p.starts(s, p.text)
	case prefix:
		return p.starts(s, p.text)
	}
	n, ok := p.run(p.runs[0], s, c)
	if !ok {
		return false
	}
	if s = s[n:]; len(p.runs) == 1 {
		return s == ""
	}
	last := len(p.runs) - 1
	for _, run := range p.runs[1:last] {
		at, n := p.find(run, s, c, false)
		if at < 0 {
			return false
		}
		s = s[at+n:]
	}
	if len(p.runs[last]) == 0 {
		return true
	}
	at, _ := p.find(p.runs[last], s, c, true)
	return at >= 0
}

// find returns where in s the run first is, and its length; with end, where it is and reaches to the end of s.
func (p *pattern) find(run []piece, s string, c Context, end bool) (at, n int) {
	literal := ""
	if len(run) > 0 && !p.fold {
		literal = run[0].text // empty for what is no literal
	}
	if end && literal != "" && len(run) == 1 {
		if strings.HasSuffix(s, literal) {
			return len(s) - len(literal), len(literal)
		}
		return -1, 0
	}
	for at := 0; at <= len(s); {
		if literal != "" {
			skip := strings.Index(s[at:], literal)
			if skip < 0 {
				return -1, 0
			}
			at += skip
		}
		if n, ok := p.run(run, s[at:], c); ok && (!end || at+n == len(s)) {
			return at, n
		}
		_, w := utf8.DecodeRuneInString(s[at:])
		at += max(w, 1)
	}
	return -1, 0
}

// run matches a run at the start of s and returns the length of what it takes.
func (p *pattern) run(run []piece, s string, c Context) (int, bool) {
	n := 0
	for i := range run {
		switch e := &run[i]; {
		case e.variable:
			v, ok := e.value(c)
			if !ok || !strings.HasPrefix(s[n:], v) && !(p.fold && len(s)-n >= len(v) && strings.EqualFold(s[n:n+len(v)], v)) {
				return 0, false
			}
			n += len(v)
		case e.text == "":
			if n == len(s) {
				return 0, false
			}
			_, w := utf8.DecodeRuneInString(s[n:])
			n += w
		default:
			if !p.starts(s[n:], e.text) {
				return 0, false
			}
			n += len(e.text)
		}
	}
	return n, true
}

func (p *pattern) starts(s, start string) bool {
	if !p.fold {
		return strings.HasPrefix(s, start)
	}
	if len(s) < len(start) {
		return false
	}
	for i := range len(start) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != start[i] {
			return false
		}
	}
	return true
}

// lower is ASCII's lower case: names of actions and keys have no other letters.
func lower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if b[j] >= 'A' && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// arnPattern matches ARNs part by part: a wildcard does not reach over the first five colons.
type arnPattern struct {
	parts [6]pattern
	any   bool // "*" alone
	bad   bool // fewer than six parts
}

func compileARN(s string, variables bool) arnPattern {
	if s == "*" {
		return arnPattern{any: true}
	}
	var p arnPattern
	x := syntax{wildcards: true, variables: variables}
	start, n, inside := 0, 0, false
	for i := 0; i < len(s) && n < 5; i++ {
		switch {
		case variables && strings.HasPrefix(s[i:], "${"):
			inside = true
		case s[i] == '}':
			inside = false
		case s[i] == ':' && !inside:
			p.parts[n] = compilePattern(s[start:i], x)
			start, n = i+1, n+1
		}
	}
	p.parts[5] = compilePattern(s[start:], x)
	p.bad = n < 5
	return p
}

func (p *arnPattern) resolves(c Context) bool {
	if p.any || p.bad {
		return p.any
	}
	for i := range p.parts {
		if !p.parts[i].resolves(c) {
			return false
		}
	}
	return true
}

func (p *arnPattern) match(s string, c Context) bool {
	if p.any || p.bad {
		return p.any
	}
	for i := range 5 {
		part, rest, ok := strings.Cut(s, ":")
		if !ok || !p.parts[i].match(part, c) {
			return false
		}
		s = rest
	}
	return p.parts[5].match(s, c)
}
