package runtimeapi

import (
	"encoding/json"
	"strings"
)

// normalizeErrorType keeps a runtime's error type if it is Runtime.Xx or Function.Xx in letters. Anything else becomes
// Function.Unknown or Runtime.Unknown, so that the value can stand in logs and metrics.
func normalizeErrorType(t string) string {
	name, ok := strings.CutPrefix(t, "Runtime.")
	function := false
	if !ok {
		name, function = strings.CutPrefix(t, "Function.")
	}
	if (ok || function) && len(t) <= 256 && isErrorName(name) {
		return t
	}
	if function {
		return "Function.Unknown"
	}
	return "Runtime.Unknown"
}

// isErrorName reports whether s is a capital letter followed by at least one letter.
func isErrorName(s string) bool {
	if len(s) < 2 || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// causeContentType marks an error document that carries its X-Ray cause in it.
const causeContentType = "application/vnd.aws.lambda.error.cause+json"

// maxCause is the size of an X-Ray document.
const maxCause = 64 << 10

// cause is the error cause that X-Ray understands.
type cause struct {
	Exceptions []exception `json:"exceptions"`
	WorkingDir string      `json:"working_directory"`
	Paths      []string    `json:"paths"`
	Message    string      `json:"message,omitempty"`
}

type exception struct {
	Message string  `json:"message,omitempty"`
	Type    string  `json:"type,omitempty"`
	Stack   []frame `json:"stack,omitempty"`
}

type frame struct {
	Path  string `json:"path,omitempty"`
	Line  int    `json:"line,omitempty"`
	Label string `json:"label,omitempty"`
}

// cleanCause returns the cause with what X-Ray understands and no more, or nil if doc is not a cause or says nothing. One
// that is too large loses exceptions and paths by and by, and at last the ends of its strings.
func cleanCause(doc []byte) []byte {
	if len(doc) == 0 {
		return nil
	}
	var c cause
	if json.Unmarshal(doc, &c) != nil {
		return nil
	}
	if c.WorkingDir == "" && c.Message == "" && len(c.Paths) == 0 && len(c.Exceptions) == 0 {
		return nil
	}
	out := encode(c)
	for _, tenths := range []int{8, 6, 4, 2} {
		if len(out) <= maxCause {
			return out
		}
		cropped := c
		cropped.Exceptions = c.Exceptions[:len(c.Exceptions)*tenths/10]
		cropped.Paths = c.Paths[:len(c.Paths)*tenths/10]
		out = encode(cropped)
	}
	// Escapes can make a string several times longer in JSON than its bytes, hence the halving.
	for length := (maxCause - 4096) / 2; len(out) > maxCause; length /= 2 {
		out = encode(cause{Message: crop(c.Message, length), WorkingDir: crop(c.WorkingDir, length)})
	}
	return out
}

// crop shortens s to length bytes, the last three of them dots.
func crop(s string, length int) string {
	if len(s) <= length {
		return s
	}
	return strings.ToValidUTF8(s[:length-3], "") + "..."
}

// splitCause takes an error document of causeContentType apart, into the document for the caller and the cause for X-Ray.
func splitCause(doc []byte) (body, xray []byte, contentType string) {
	var d struct {
		Message    string          `json:"errorMessage"`
		Type       string          `json:"errorType"`
		StackTrace []string        `json:"stackTrace"`
		Cause      json.RawMessage `json:"errorCause"`
	}
	if json.Unmarshal(doc, &d) != nil {
		return []byte(`"Invalid error body"`), nil, "application/octet-stream"
	}
	body = encode(struct {
		Message    string   `json:"errorMessage"`
		Type       string   `json:"errorType"`
		StackTrace []string `json:"stackTrace,omitempty"`
	}{d.Message, d.Type, d.StackTrace})
	return body, cleanCause(d.Cause), "application/json"
}

// encode marshals values that cannot fail to.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
