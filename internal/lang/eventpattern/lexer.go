package eventpattern

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

type token uint8

const (
	endOfInput token = iota
	startObject
	endObject
	startArray
	endArray
	fieldName
	stringValue
	numberValue
	trueValue
	falseValue
	nullValue
)

const maxDepth = 1000 // of nesting, in patterns and documents

// lexer reads the tokens of a pattern. AWS's errors tell where its reader stood, so this one moves as that one does: with
// a field's name it reads up to the start of the value, and of a string no more than the opening quote until its text is
// asked for.
type lexer struct {
	src     string
	pos     int
	tok     token
	name    string // of the last fieldName
	ahead   bool   // tok was followed by next, which is read
	next    token
	start   int    // of the last number or string
	open    bool   // the last string is read up to its opening quote
	value   string // the last string or number, if not open
	nesting []byte // open brackets
	comma   bool   // a value came before in the innermost bracket
	err     error
}

// syntaxError is text that is no JSON.
type syntaxError struct {
	reason string
	at     int
}

func (e *syntaxError) Error() string { return e.reason }

func (l *lexer) broken(at int, format string, args ...any) token {
	if l.err == nil {
		l.err = &syntaxError{fmt.Sprintf(format, args...), at}
	}
	l.ahead, l.open, l.pos = false, false, len(l.src)
	l.tok = endOfInput
	return endOfInput
}

// advance reads the next token. It is endOfInput at the end and after an error, which is in err.
func (l *lexer) advance() token {
	if l.err != nil {
		return endOfInput
	}
	if l.ahead {
		l.ahead = false
		l.tok = l.next
		return l.tok
	}
	l.text()
	if l.err != nil {
		return endOfInput
	}
	l.space()
	if len(l.nesting) == 0 {
		if l.pos == len(l.src) {
			l.tok = endOfInput
			return endOfInput
		}
		l.tok = l.scan()
		return l.tok
	}
	inner := l.nesting[len(l.nesting)-1]
	if l.pos == len(l.src) {
		kind := "Object"
		if inner == '[' {
			kind = "Array"
		}
		return l.broken(l.pos, "Unexpected end-of-input: expected close marker for %s", kind)
	}
	c := l.src[l.pos]
	if c == ']' && inner == '[' || c == '}' && inner == '{' {
		l.pos++
		l.nesting = l.nesting[:len(l.nesting)-1]
		l.comma = true
		l.tok = endArray
		if c == '}' {
			l.tok = endObject
		}
		return l.tok
	}
	if l.comma {
		if c != ',' {
			kind := "Object entries"
			if inner == '[' {
				kind = "Array entries"
			}
			return l.broken(l.pos, "Unexpected character (%s): was expecting comma to separate %s", l.char(), kind)
		}
		l.pos++
		l.space()
	}
	if inner == '[' {
		l.tok = l.scan()
		return l.tok
	}
	if l.pos == len(l.src) {
		return l.broken(l.pos, "Unexpected end-of-input within/between Object entries")
	}
	if l.src[l.pos] != '"' {
		return l.broken(l.pos, "Unexpected character (%s): was expecting double-quote to start field name", l.char())
	}
	l.pos++
	l.open = true
	l.name = l.text()
	l.space()
	if l.err != nil {
		return endOfInput
	}
	if l.pos == len(l.src) || l.src[l.pos] != ':' {
		if l.pos == len(l.src) {
			return l.broken(l.pos, "Unexpected end-of-input within/between Object entries")
		}
		return l.broken(l.pos, "Unexpected character (%s): was expecting a colon to separate field name and value", l.char())
	}
	l.pos++
	l.space()
	l.next = l.scan()
	if l.err != nil {
		return endOfInput
	}
	l.ahead = true
	l.tok = fieldName
	return l.tok
}

// scan reads a value, of a string no more than the opening quote.
func (l *lexer) scan() token {
	if l.pos == len(l.src) {
		return l.broken(l.pos, "Unexpected end-of-input")
	}
	l.comma = true
	switch c := l.src[l.pos]; {
	case c == '{' || c == '[':
		l.pos++
		if len(l.nesting) == maxDepth {
			return l.broken(l.pos, "Document nesting depth (%d) exceeds the maximum allowed (%d, from `StreamReadConstraints.getMaxNestingDepth()`)", maxDepth+1, maxDepth)
		}
		l.nesting = append(l.nesting, c)
		l.comma = false
		if c == '{' {
			return startObject
		}
		return startArray
	case c == '"':
		l.pos++
		l.open = true
		return stringValue
	case c == '-' || '0' <= c && c <= '9':
		n := numberLength(l.src[l.pos:])
		if n == 0 {
			return l.broken(l.pos, "Unexpected character (%s) in numeric value", l.char())
		}
		l.value = l.src[l.pos : l.pos+n]
		l.pos += n
		return numberValue
	case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '$':
		start := l.pos
		for l.pos < len(l.src) && (isWord(l.src[l.pos])) {
			l.pos++
		}
		switch word := l.src[start:l.pos]; word {
		case "true":
			return trueValue
		case "false":
			return falseValue
		case "null":
			return nullValue
		default:
			return l.broken(l.pos, "Unrecognized token '%s': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')", word)
		}
	}
	return l.broken(l.pos, "Unexpected character (%s): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')", l.char())
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

// text returns the last string or number as text; of other tokens it returns what they look like.
func (l *lexer) text() string {
	if !l.open {
		switch l.tok {
		case startObject:
			return "{"
		case endObject:
			return "}"
		case startArray:
			return "["
		case endArray:
			return "]"
		case trueValue:
			return "true"
		case falseValue:
			return "false"
		case nullValue:
			return "null"
		}
		return l.value
	}
	n, escaped := stringLength(l.src[l.pos:])
	if n < 0 {
		at := l.pos - n - 1
		switch {
		case at >= len(l.src):
			l.broken(len(l.src), "Unexpected end-of-input: was expecting closing quote for a string value")
		case l.src[at] < 0x20:
			l.broken(at, "Illegal unquoted character ((CTRL-CHAR, code %d)): has to be escaped using backslash to be included in string value", l.src[at])
		default:
			l.broken(at, "Unrecognized character escape %s", strconv.QuoteRune(rune(l.src[at])))
		}
		return ""
	}
	l.value = l.src[l.pos : l.pos+n]
	if escaped {
		l.value = string(unescape(nil, []byte(l.value)))
	}
	l.pos += n + 1
	l.open = false
	return l.value
}

func (l *lexer) space() {
	for l.pos < len(l.src) && isSpace(l.src[l.pos]) {
		l.pos++
	}
}

// char shows the character at pos as AWS's messages do.
func (l *lexer) char() string {
	r, _ := utf8.DecodeRuneInString(l.src[l.pos:])
	if r < 0x20 {
		return fmt.Sprintf("(CTRL-CHAR, code %d)", r)
	}
	return fmt.Sprintf("'%c' (code %d)", r, r)
}

// place describes an offset: 500 characters of the source, the line, and the column in UTF-16 units.
func (l *lexer) place(at int, source bool) string {
	at = min(at, len(l.src))
	line, begin := 1, 0
	for i := 0; i < at; i++ {
		if l.src[i] == '\n' || l.src[i] == '\r' && !(i+1 < len(l.src) && l.src[i+1] == '\n') {
			line, begin = line+1, i+1
		}
	}
	column := 1
	for _, r := range l.src[begin:at] {
		column += max(utf16.RuneLen(r), 1)
	}
	if !source {
		return fmt.Sprintf("\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: %d, column: %d]", line, column)
	}
	shown, rest := l.src, ""
	if units := utf16Length(l.src); units > 500 {
		n := 0
		for i, r := range l.src {
			if n += max(utf16.RuneLen(r), 1); n > 500 {
				shown = l.src[:i]
				break
			}
		}
		rest = fmt.Sprintf("[truncated %d chars]", units-500)
	}
	return fmt.Sprintf("\n at [Source: (String)\"%s\"%s; line: %d, column: %d]", shown, rest, line, column)
}

func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// numberLength is how long the JSON number at the start of s is, 0 if there is none.
func numberLength[S ~string | ~[]byte](s S) int {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	digits := func() bool {
		start := i
		for i < len(s) && '0' <= s[i] && s[i] <= '9' {
			i++
		}
		return i > start
	}
	start := i
	if !digits() || s[start] == '0' && i > start+1 {
		return 0
	}
	if i < len(s) && s[i] == '.' {
		if i++; !digits() {
			return 0
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		if i++; i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	if i < len(s) && isWord(s[i]) {
		return 0
	}
	return i
}

// stringLength is how far the closing quote of a string is from the end of its opening one, and whether there are escapes
// before it. If the string is not well-formed, it is -1 minus how far the place of the fault is.
func stringLength[S ~string | ~[]byte](s S) (n int, escaped bool) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i, escaped
		case c < 0x20:
			return -1 - i, false
		case c == '\\':
			escaped = true
			if i++; i == len(s) {
				return -1 - i, false
			}
			switch s[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i >= len(s) || hexValue(s[i]) < 0 {
						return -1 - i, false
					}
				}
			default:
				return -1 - i, false
			}
		}
	}
	return -1 - len(s), false
}

func hexValue(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}

// unescape appends what a well-formed string means.
func unescape(to, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			to = append(to, s[i])
			continue
		}
		i++
		if s[i] != 'u' {
			if k := strings.IndexByte("bfnrt", s[i]); k >= 0 {
				to = append(to, "\b\f\n\r\t"[k])
			} else {
				to = append(to, s[i])
			}
			continue
		}
		r := hex4(s[i+1:])
		i += 4
		if utf16.IsSurrogate(r) && i+6 < len(s) && s[i+1] == '\\' && s[i+2] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(s[i+3:])); pair != utf8.RuneError {
				r = pair
				i += 6
			}
		}
		to = utf8.AppendRune(to, r)
	}
	return to
}

func hex4(s []byte) rune {
	return hexValue(s[0])<<12 | hexValue(s[1])<<8 | hexValue(s[2])<<4 | hexValue(s[3])
}
