package logfilter

import (
	"regexp"
	"strings"
)

// maxRegexes is how many regular expressions a JSON or space-delimited pattern may have.
const maxRegexes = 2

type standaloneRegex struct{ re *regexp.Regexp }

func compileStandaloneRegex(p string) (matcher, error) {
	if n := strings.IndexByte(p[1:], '%'); n < 0 || n != len(p)-2 {
		return nil, invalid(0, "a regular expression outside { } and [ ] must be the whole pattern, between two %")
	}
	re, err := compileRegex(p[1:len(p)-1], 1)
	return standaloneRegex{re}, err
}

// match leaves out the newline that ends most log lines, so that $ finds the end of the line.
func (r standaloneRegex) match(message string) bool {
	return r.re.MatchString(strings.TrimSuffix(message, "\n"))
}

// compileRegex compiles the dialect of filter patterns: letters, digits, blanks, the symbols : _ # = @ / ; , - and the
// operators ^ $ ? [ ] { } | * + . with the escapes \d \D \s \S \w \W, \xhh, and \ before a symbol or an operator. offset
// is where src starts in its pattern.
func compileRegex(src string, offset int) (*regexp.Regexp, error) {
	const symbols, operators = " :_#=@/;,-", "^$?[]{}|*+.\\"
	if src == "" {
		return nil, invalid(offset, "the regular expression is empty")
	}
	var b strings.Builder
	for i, inClass := 0, false; i < len(src); i++ {
		ch := src[i]
		switch {
		case ch == '\\':
			n := 2
			switch {
			case i+1 >= len(src):
				return nil, invalid(offset+i, "nothing after the backslash")
			case src[i+1] == 'x':
				n = 4
				if i+4 > len(src) || !isASCIIHex(src[i+2:i+4]) {
					return nil, invalid(offset+i, `\x needs two hexadecimal digits of an ASCII character`)
				}
			case strings.IndexByte("dDsSwW"+symbols+operators, src[i+1]) < 0:
				return nil, invalid(offset+i, "this escape is not supported")
			}
			b.WriteString(quoteEscape(src[i : i+n]))
			i += n - 1
			continue
		case !isAlnum(ch) && strings.IndexByte(symbols+operators, ch) < 0:
			return nil, invalid(offset+i, "this character is not supported in a regular expression")
		case ch == '[':
			if inClass { // a plain character there; escaped, since Go would read [: as the start of a named class
				b.WriteByte('\\')
			}
			inClass = true
		case ch == ']':
			inClass = false
		case ch == '{' && !inClass:
			n := strings.IndexByte(src[i:], '}')
			if n < 0 {
				return nil, invalid(offset+i, "} is missing")
			}
			low, high, comma := strings.Cut(strings.ReplaceAll(src[i+1:i+n], " ", ""), ",")
			if !isDigits(low) || !isDigits(high) || low == "" && high == "" {
				return nil, invalid(offset+i, "a repetition has the form {m,n}")
			}
			if low == "" {
				low = "0"
			}
			b.WriteString("{" + low)
			if comma {
				b.WriteString("," + high)
			}
			b.WriteByte('}')
			i += n
			continue
		}
		b.WriteByte(ch)
	}
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil, invalid(offset, err.Error())
	}
	return re, nil
}

// quoteEscape drops the backslash before characters that Go's syntax does not let be escaped.
func quoteEscape(esc string) string {
	if len(esc) == 2 && (esc[1] == '_' || esc[1] == ' ') {
		return esc[1:]
	}
	return esc
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

func isASCIIHex(s string) bool {
	return '0' <= s[0] && s[0] <= '7' && strings.IndexByte("0123456789abcdefABCDEF", s[1]) >= 0
}
