package httpevent

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

var allowInvalid = jsontext.AllowInvalidUTF8(true)

// Response is what a function answers.
type Response struct {
	Status  int               // 200 to 599
	Headers map[string]string // names as the function wrote them
	Cookies []string          // values of Set-Cookie
	Body    []byte
}

// ErrMalformed is returned for a response that has a form which cannot be understood. The client sees status 502.
var ErrMalformed = errors.New("httpevent: malformed response")

type response struct {
	Status  jsontext.Value            `json:"statusCode"`
	Headers map[string]jsontext.Value `json:"headers"`
	Cookies []string                  `json:"cookies"`
	Body    jsontext.Value            `json:"body"`
	Base64  bool                      `json:"isBase64Encoded"`
}

// ParseResponse reads what a function returned. JSON without a statusCode is the body itself, of type application/json and with
// status 200; a text is the body without its quotes. The error is ErrMalformed.
func ParseResponse(payload []byte) (*Response, error) {
	v := jsontext.Value(payload)
	if !v.IsValid(jsontext.AllowDuplicateNames(true)) {
		return nil, ErrMalformed
	}
	inferred := &Response{Status: 200, Headers: map[string]string{"Content-Type": "application/json"}, Body: payload}
	switch v.Kind() {
	case '{':
	case '"':
		s, err := text(v)
		inferred.Body = []byte(s)
		return inferred, err
	default:
		return inferred, nil
	}
	var probe struct {
		Status jsontext.Value `json:"statusCode"`
	}
	if err := json.Unmarshal(v, &probe, jsontext.AllowDuplicateNames(true), allowInvalid); err != nil {
		return nil, ErrMalformed
	}
	if probe.Status == nil {
		return inferred, nil
	}
	r, in, err := parse(v)
	if err != nil {
		return nil, err
	}
	switch in.Body.Kind() {
	case 0, 'n':
	case '"':
		s, err := text(in.Body)
		if err != nil {
			return nil, err
		}
		r.Body = []byte(s)
		if in.Base64 {
			if r.Body, err = base64.StdEncoding.DecodeString(s); err != nil {
				return nil, ErrMalformed
			}
		}
	default:
		return nil, ErrMalformed
	}
	if !r.has("Content-Type") {
		r.Headers["Content-Type"] = "application/json"
	}
	return r, nil
}

// IsStreamType reports whether a content type says that a streamed response begins with a prelude: status, headers and cookies as
// JSON, and 8 NULs before the body.
func IsStreamType(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/vnd.awslambda.http-integration-response")
}

// ParsePrelude reads the prelude of a streamed response: status, headers and cookies. Without a statusCode the
// status is 200. The error is ErrMalformed.
func ParsePrelude(prelude []byte) (*Response, error) {
	v := jsontext.Value(bytes.TrimSpace(prelude))
	if len(v) == 0 {
		v = jsontext.Value("{}")
	}
	if !v.IsValid(jsontext.AllowDuplicateNames(true)) || v.Kind() != '{' {
		return nil, ErrMalformed
	}
	r, _, err := parse(v)
	if err == nil && !r.has("Content-Type") {
		r.Headers["Content-Type"] = "application/octet-stream"
	}
	return r, err
}

func parse(v jsontext.Value) (*Response, *response, error) {
	var in response
	if err := json.Unmarshal(v, &in, jsontext.AllowDuplicateNames(true), allowInvalid); err != nil {
		return nil, nil, ErrMalformed
	}
	r := &Response{Status: 200, Headers: map[string]string{}, Cookies: in.Cookies}
	if in.Status != nil && in.Status.Kind() != 'n' {
		if json.Unmarshal(in.Status, &r.Status, json.StringifyNumbers(in.Status.Kind() == '"')) != nil {
			return nil, nil, ErrMalformed
		}
	}
	if r.Status < 200 || r.Status > 599 {
		return nil, nil, ErrMalformed
	}
	for name, value := range in.Headers {
		if !token(name) {
			return nil, nil, ErrMalformed
		}
		switch value.Kind() {
		case '"':
			s, err := text(value)
			if err != nil {
				return nil, nil, err
			}
			r.Headers[name] = s
		case '0', 't', 'f':
			r.Headers[name] = string(value)
		case 'n':
		default:
			return nil, nil, ErrMalformed
		}
		if strings.ContainsAny(r.Headers[name], "\r\n\x00") {
			return nil, nil, ErrMalformed
		}
	}
	for _, c := range in.Cookies {
		if strings.ContainsAny(c, "\r\n\x00") {
			return nil, nil, ErrMalformed
		}
	}
	return r, &in, nil
}

func (r *Response) has(name string) bool {
	for n := range r.Headers {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

func text(v jsontext.Value) (string, error) {
	var s string
	if json.Unmarshal(v, &s, allowInvalid) != nil {
		return "", ErrMalformed
	}
	return s, nil
}

// token reports whether s can be the name of a header.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
