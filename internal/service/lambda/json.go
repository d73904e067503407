package lambda

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
)

// checkJSON checks that a payload is one JSON value in UTF-8, without changing or decoding it. Duplicate names are
// legal, as they are on AWS.
func checkJSON(b []byte) error {
	if validJSON(b) {
		return nil
	}
	// The place is AWS's parser's, which names no source either (recorded 2025-11).
	what, at := describeJSON(b)
	line := 1 + bytes.Count(b[:at], []byte("\n"))
	column := at - (bytes.LastIndexByte(b[:at], '\n') + 1) + 1
	return lambdaapi.ErrInvalidRequestContentException(
		"Could not parse request body into json: Could not parse payload into json: %s\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: %d, column: %d]",
		what, line, column)
}

func validJSON(b []byte) bool { return jsontext.Value(b).IsValid(jsontext.AllowDuplicateNames(true)) }

func isObject(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) && validJSON(b)
}

const expected = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"

// describeJSON says what is wrong with invalid JSON, and at which byte.
func describeJSON(b []byte) (what string, at int) {
	d := jsontext.NewDecoder(bytes.NewReader(b), jsontext.AllowDuplicateNames(true))
	d.SkipValue() // stops at what is wrong, or at what follows the one value
	at = int(d.InputOffset())
	for at < len(b) && bytes.IndexByte([]byte(" \t\r\n,:"), b[at]) >= 0 {
		at++
	}
	if at >= len(b) {
		return "Unexpected end-of-input", len(b)
	}
	c := b[at]
	if r, n := utf8.DecodeRune(b[at:]); c >= 0x80 && r == utf8.RuneError && n == 1 {
		return fmt.Sprintf("Unexpected character ((CTRL-CHAR, code %d)): expected a valid value %s", c, expected), at
	}
	if letter(c) {
		end := at
		for end < len(b) && (letter(b[end]) || digit(b[end]) || b[end] == '_') {
			end++
		}
		if bad := bytes.IndexFunc(b[at:min(len(b), end+1)], func(r rune) bool { return r == utf8.RuneError }); bad >= 0 {
			return fmt.Sprintf("Invalid UTF-8 start byte 0x%x", b[at+bad]), at + bad
		}
		return fmt.Sprintf("Unrecognized token '%s': was expecting %s", b[at:end], expected), at
	}
	if c < 0x20 {
		return fmt.Sprintf("Unexpected character ((CTRL-CHAR, code %d)): expected a valid value %s", c, expected), at
	}
	return fmt.Sprintf("Unexpected character ('%c' (code %d)): expected a valid value %s", rune(c), c, expected), at
}
