// Package logfilter compiles CloudWatch Logs filter patterns and matches log messages with them.
//
// A pattern has one of four forms, told apart by its first character:
//
//	ERROR -Timeout "exact phrase"                   terms: all, ?optional, -excluded; case-sensitive substrings
//	%[Ff]ail|[Ee]rror%                              one regular expression
//	{ $.status >= 500 && $.path = "/api/*" }        conditions on a JSON message
//	[ip, user, ..., status = 4*, bytes > 1000]      conditions on the fields of a space-delimited message
//
// An empty pattern matches everything. The forms, their limits and their meaning follow "Filter pattern syntax" in the
// CloudWatch Logs User Guide. Where that page is silent, this package decides so:
//
//   - A comparison, != included, is false for a property that is missing, null, a boolean, an object or an array.
//   - Values compare as numbers where operand and value are both numbers, which a JSON string never is, else as text.
//   - A * is a wildcard at the start and at the end of an operand, also inside quotes, and itself elsewhere.
//   - A wildcard selector is satisfied by any of the values that it selects.
//   - Without an ellipsis, the last field of a space-delimited pattern takes the rest of the message.
//
// The package is pure: no clock, no context, no I/O.
package logfilter

import (
	"strings"
	"unicode/utf8"
)

// MaxLength is the most characters that a pattern may have.
const MaxLength = 1024

// Filter is a compiled pattern. It is immutable and may be used concurrently.
type Filter struct {
	all bool // the empty pattern, which needs no look at the message
	m   matcher
}

type matcher interface{ match(message string) bool }

// Compile reads a pattern. Its errors are of type *Error.
func Compile(pattern string) (*Filter, error) {
	if utf8.RuneCountInString(pattern) > MaxLength {
		return nil, invalid(0, "longer than 1024 characters")
	}
	p := strings.TrimSpace(pattern)
	if p == "" {
		return &Filter{all: true}, nil
	}
	var m matcher
	var err error
	switch p[0] {
	case '{':
		m, err = compileJSON(p)
	case '[':
		m, err = compileFields(p)
	case '%':
		m, err = compileStandaloneRegex(p)
	default:
		m, err = compileTerms(p)
	}
	if err != nil {
		return nil, err
	}
	return &Filter{m: m}, nil
}

// Match reports whether the message satisfies the pattern.
func (f *Filter) Match(message string) bool { return f.all || f.m.match(message) }

// All reports whether the filter is of the empty pattern, which matches every message.
func (f *Filter) All() bool { return f.all }

// Error says that a pattern is not valid.
type Error struct {
	Message string // in AWS's words, to be shown in an InvalidParameterException
	Offset  int    // in bytes, where in the trimmed pattern
	Reason  string // what is wrong there
}

// Error returns the message in AWS's words.
func (e *Error) Error() string { return e.Message }

func invalid(offset int, reason string) *Error {
	return &Error{Message: "Invalid filter pattern", Offset: offset, Reason: reason}
}

func unclosed(p, open, end string) *Error {
	return &Error{
		Message: "If a filter pattern starts with '" + open + "' it must end with '" + end + "'",
		Offset:  len(p), Reason: end + " is missing",
	}
}
