package smithy

import (
	"regexp"
	"strconv"
	"strings"
)

// Patterns in the models are Java's; ours are RE2. Most are valid in both. What RE2 spells otherwise is translated, and the few with
// lookaround, which it has not, are written by hand as a pattern and another that must not be found.

// pattern is a compiled constraint.
type pattern struct {
	match *regexp.Regexp // must match the whole string; nil accepts everything
	not   *regexp.Regexp // must not be found; nil if there is none
}

func (p pattern) matches(s string) bool {
	return (p.match == nil || p.match.MatchString(s)) && (p.not == nil || !p.not.MatchString(s))
}

// byHand are the patterns that can not be translated, each as a pattern for the whole string and one that must not be found in it.
var byHand = map[string][2]string{
	`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`:              {`[a-zA-Z0-9-_]+`, `\A[0-9]+\z`},
	`((?!^\d+$)^[0-9a-zA-Z-_]+$)`:               {`[0-9a-zA-Z-_]+`, `\A\d+\z`},
	`[0-9A-Za-z\.\-_]*(?<!\.)`:                  {`[0-9A-Za-z.\-_]*`, `\.\z`},
	`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`: {`[_a-zA-Z0-9][^$]*`, `\Asystem\.`},
	`^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`: {`[a-z0-9][a-z0-9-]{1,61}[a-z0-9]`, `--`},
	`^(?!\s*$).+`:                                 {`.+`, `\A\s*\z`},
	`^(?=.*[a-zA-Z_\-\.])[a-zA-Z0-9_\-\.]+$`:      {`[a-zA-Z0-9_\-.]+`, `\A[0-9]+\z`},
	`(?!\s*$).+|(\$(\.[\w/_-]+(\[(\d+|\*)\])*)*)`: {`.+`, `\A\s*\z`},
}

// compilePattern returns the constraint that a model's pattern stands for.
func compilePattern(java string) (pattern, error) {
	if h, ok := byHand[java]; ok {
		return pattern{regexp.MustCompile(`\A(?:` + h[0] + `)\z`), regexp.MustCompile(h[1])}, nil
	}
	var p pattern
	var err error
	if not, rest, ok := leadingNot(java); ok {
		java = rest
		if p.not, err = regexp.Compile(`\A(?:` + translate(not) + `)`); err != nil {
			return pattern{}, err
		}
	}
	p.match, err = regexp.Compile(`\A(?:` + translate(java) + `)\z`)
	return p, err
}

// leadingNot takes apart a pattern that begins with (?!not), at the very start or after ^, and has no alternatives besides what follows it.
func leadingNot(java string) (not, rest string, ok bool) {
	s, found := strings.CutPrefix(strings.TrimPrefix(java, "^"), "(?!")
	if !found {
		return "", "", false
	}
	depth, end := 1, -1 // inside the lookahead until end
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '[':
			for i++; i < len(s) && s[i] != ']'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 && end < 0 {
				end = i
			}
		case '|':
			if end >= 0 && depth == 0 {
				return "", "", false
			}
		}
	}
	if end < 0 {
		return "", "", false
	}
	return s[:end], s[end+1:], true
}

// longRepeat is a repeat beyond RE2's limit of 1000.
var longRepeat = regexp.MustCompile(`\{(\d{1,3}),\d{4,}\}`)

// posix are Java's names of ASCII classes that RE2 has under POSIX names.
var posix = strings.NewReplacer(`Lower`, `lower`, `Upper`, `upper`, `ASCII`, `ascii`, `Alpha`, `alpha`, `Digit`, `digit`, `Alnum`, `alnum`,
	`Punct`, `punct`, `Graph`, `graph`, `Print`, `print`, `Blank`, `blank`, `Cntrl`, `cntrl`, `XDigit`, `xdigit`, `Space`, `space`)

// translate rewrites what RE2 spells otherwise: \uXXXX, surrogate pairs among them, and \p{Print} and its like. Upper bounds of repeats beyond
// RE2's limit go: the models bound the length besides.
func translate(java string) string {
	java = longRepeat.ReplaceAllString(java, `{$1,}`)
	var b strings.Builder
	class := false
	for i := 0; i < len(java); i++ {
		c := java[i]
		switch {
		case c == '[':
			class = true
		case c == ']':
			class = false
		case c != '\\' || i+1 == len(java):
		case java[i+1] == 'u':
			r, ok := hex4(java, i)
			if !ok {
				break
			}
			i += 5
			if r >= 0xD800 && r < 0xDC00 {
				if low, ok := hex4(java, i+1); ok && low >= 0xDC00 && low < 0xE000 {
					r = 0x10000 + (r-0xD800)<<10 + (low - 0xDC00)
					i += 6
				}
			}
			b.WriteString(`\x{` + strconv.FormatInt(r, 16) + `}`)
			continue
		case java[i+1] == 'p' && i+2 < len(java) && java[i+2] == '{':
			end := strings.IndexByte(java[i:], '}')
			if end < 0 {
				break
			}
			name := java[i+3 : i+end]
			if p := posix.Replace(name); p != name && strings.ToLower(name) == p {
				p = "[:" + p + ":]"
				if !class {
					p = "[" + p + "]"
				}
				b.WriteString(p)
				i += end
				continue
			}
		default:
			b.WriteByte(c)
			i++
			c = java[i]
		}
		b.WriteByte(c)
	}
	return b.String()
}

// hex4 reads \uXXXX at i.
func hex4(s string, i int) (int64, bool) {
	if i+6 > len(s) || s[i] != '\\' || s[i+1] != 'u' {
		return 0, false
	}
	r, err := strconv.ParseInt(s[i+2:i+6], 16, 32)
	return r, err == nil
}

// pattern compiles the shape's pattern at first use. One that does not compile accepts everything; tests keep it out of contracts.
func (s *Shape) pattern() pattern {
	s.patternOnce.Do(func() {
		if p, err := compilePattern(s.Pattern); err == nil {
			s.compiled = p
		}
	})
	return s.compiled
}

// CheckPattern reports whether the shape's pattern is understood.
func (s *Shape) CheckPattern() error {
	if s.Pattern == "" {
		return nil
	}
	_, err := compilePattern(s.Pattern)
	return err
}
