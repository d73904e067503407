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
	re, err := regexp.Compile(`\A(?:` + translate(java) + `)\z`)
	return pattern{match: re}, err
}

// posix are Java's names of ASCII classes that RE2 has under POSIX names.
var posix = strings.NewReplacer(`Lower`, `lower`, `Upper`, `upper`, `ASCII`, `ascii`, `Alpha`, `alpha`, `Digit`, `digit`, `Alnum`, `alnum`,
	`Punct`, `punct`, `Graph`, `graph`, `Print`, `print`, `Blank`, `blank`, `Cntrl`, `cntrl`, `XDigit`, `xdigit`, `Space`, `space`)

// translate rewrites what RE2 spells otherwise: \uXXXX, surrogate pairs among them, and \p{Print} and its like.
func translate(java string) string {
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
