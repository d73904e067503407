// Package sigv4 verifies and makes AWS Signature Version 4: the Authorization header, presigned URLs, and bodies that
// are signed whole, in chunks, with trailers or not at all.
//
// A server reads a request in three steps. Parse takes the signature out of the request, so that the caller can find
// the secret of its key and the service it is for. Signature.Check compares it with the clock and the endpoint.
// Verifier.Verify (body in memory) or Verifier.Open (body as a stream) recomputes it. The wording of every error is
// AWS's; its code differs from protocol to protocol and is the caller's to choose by Kind.
//
// Source of the rules: the AWS General Reference, "Signature Version 4 signing process", and the Amazon S3 API
// Reference, "Authenticating Requests (AWS Signature Version 4)".
package sigv4

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Algorithm is the only algorithm that is accepted. SigV4A (AWS4-ECDSA-P256-SHA256) is refused with AWS's error.
const Algorithm = "AWS4-HMAC-SHA256"

// The values of x-amz-content-sha256 that are not a digest.
const (
	UnsignedPayload          = "UNSIGNED-PAYLOAD"
	StreamingPayload         = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	StreamingPayloadTrailer  = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	StreamingUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	EmptyPayload             = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
)

const (
	timeFormat = "20060102T150405Z"
	terminator = "aws4_request"

	// MaxExpires is the longest life of a presigned URL.
	MaxExpires = 7 * 24 * time.Hour
)

// Kind is what is wrong with a signature.
type Kind int

// The kinds of signature error.
const (
	Missing         Kind = iota + 1 // no signature at all
	Incomplete                      // a part is missing or malformed
	Invalid                         // signed in a way that cannot hold: for another region, service or day, or with the host left out
	Expired                         // signed too long ago
	NotYetValid                     // signed in the future
	URLExpired                      // a presigned URL past its X-Amz-Expires
	BadExpires                      // X-Amz-Expires is not 1 to 604800
	Mismatch                        // the signature differs from what the secret gives
	UnsignedHeaders                 // headers that must be signed are not
	ContentMismatch                 // the body is not what x-amz-content-sha256 says
	IncompleteBody                  // the body ends early, is too long, or is not chunked as announced
	Unsupported                     // a way of signing that is not served
)

// Error is a signature that does not hold.
type Error struct {
	Kind    Kind
	Message string // AWS's text, to be shown to the caller

	// CanonicalRequest and StringToSign are what the server computed, of a Mismatch: for the server's log.
	CanonicalRequest, StringToSign string
}

func (e *Error) Error() string { return "sigv4: " + e.Message }

func errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// MessageMismatch is AWS's text for a signature that the secret does not give.
const MessageMismatch = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."

// Signature is the signature of one request, as the request states it. Nothing in it is verified yet.
type Signature struct {
	AccessKeyID   string
	SessionToken  string // of temporary credentials
	Date          string // of the scope: YYYYMMDD
	Region        string
	Service       string // the signing name: "lambda", "s3"
	Time          time.Time
	Presigned     bool
	Expires       time.Duration // of a presigned URL; 0 if it does not say
	ContentSHA256 string        // x-amz-content-sha256 as stated: a digest, one of the constants, or empty

	terminator    string
	amzDate       string // Time as it was signed
	signedHeaders string // "host;x-amz-date"
	signature     string // 64 hexadecimal digits, lower case
}

// Parse takes the signature out of r, from its Authorization header or its query. An error is an *Error of Kind
// Missing, Incomplete, Invalid, BadExpires or Unsupported; the Signature then holds whatever could be read, so that the
// caller can tell which service was meant.
func Parse(r *http.Request) (Signature, error) {
	auth := r.Header.Get("Authorization")
	inQuery := strings.HasPrefix(r.URL.RawQuery, "X-Amz-Algorithm") || strings.Contains(r.URL.RawQuery, "&X-Amz-Algorithm")
	switch {
	case auth != "" && inQuery:
		return Signature{}, errorf(Invalid, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case inQuery:
		return parseQuery(r)
	case strings.HasPrefix(auth, "AWS4-"):
		return parseHeader(r, auth)
	case strings.HasPrefix(auth, "AWS ") || strings.Contains(r.URL.RawQuery, "AWSAccessKeyId="):
		return Signature{}, errorf(Unsupported, "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
	}
	return Signature{ContentSHA256: r.Header.Get("X-Amz-Content-Sha256")}, errorf(Missing, "Missing Authentication Token")
}

func parseHeader(r *http.Request, auth string) (Signature, error) {
	s := Signature{
		SessionToken:  r.Header.Get("X-Amz-Security-Token"),
		ContentSHA256: r.Header.Get("X-Amz-Content-Sha256"),
	}
	algorithm, rest, _ := strings.Cut(auth, " ")
	var credential string
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return s, errorf(Incomplete, "'%s' not a valid key=value pair (missing equal-sign) in Authorization header: '%s'.", part, auth)
		}
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			s.signedHeaders = value
		case "Signature":
			s.signature = value
		}
	}
	date := r.Header.Get("X-Amz-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	if credential == "" || s.signature == "" || s.signedHeaders == "" || date == "" {
		s.splitCredential(credential)
		return s, missingFromHeader(auth, credential, s.signature, s.signedHeaders, date)
	}
	return s, s.complete(algorithm, credential, date)
}

// missingFromHeader lists what an Authorization header lacks, as AWS does: in this order, and with the header's digest
// in place of the header, which may hold a secret.
func missingFromHeader(auth, credential, signature, signedHeaders, date string) *Error {
	var b strings.Builder
	for _, p := range []struct{ name, value string }{{"Credential", credential}, {"Signature", signature}, {"SignedHeaders", signedHeaders}} {
		if p.value == "" {
			b.WriteString("Authorization header requires '" + p.name + "' parameter. ")
		}
	}
	if date == "" {
		b.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	sum := sha256.Sum256([]byte(auth))
	b.WriteString("(Hashed with SHA-256 and encoded with Base64) Authorization=" + base64.StdEncoding.EncodeToString(sum[:]))
	return &Error{Kind: Incomplete, Message: b.String()}
}

func parseQuery(r *http.Request) (Signature, error) {
	s := Signature{Presigned: true, ContentSHA256: r.Header.Get("X-Amz-Content-Sha256")}
	var algorithm, credential, date, expires string
	for rest := r.URL.RawQuery; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		name, raw, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		value, err := url.QueryUnescape(raw)
		if err != nil {
			return s, errorf(Incomplete, "The query-string parameter '%s' is not properly escaped.", name)
		}
		switch name {
		case "X-Amz-Algorithm":
			algorithm = value
		case "X-Amz-Credential":
			credential = value
		case "X-Amz-Signature":
			s.signature = value
		case "X-Amz-SignedHeaders":
			s.signedHeaders = value
		case "X-Amz-Date":
			date = value
		case "X-Amz-Expires":
			expires = value
		case "X-Amz-Security-Token":
			s.SessionToken = value
		case "X-Amz-Content-Sha256":
			s.ContentSHA256 = value
		}
	}
	var missing strings.Builder
	for _, p := range []struct{ name, value string }{{"X-Amz-Algorithm", algorithm}, {"X-Amz-Credential", credential},
		{"X-Amz-Signature", s.signature}, {"X-Amz-SignedHeaders", s.signedHeaders}, {"X-Amz-Date", date}} {
		if p.value == "" {
			missing.WriteString("AWS query-string parameters must include '" + p.name + "'. ")
		}
	}
	if missing.Len() > 0 {
		s.splitCredential(credential)
		return s, errorf(Incomplete, "%sRe-examine the query-string parameters.", missing.String())
	}
	if err := s.complete(algorithm, credential, date); err != nil {
		return s, err
	}
	if expires != "" {
		n, err := strconv.Atoi(expires)
		switch {
		case err != nil:
			return s, errorf(BadExpires, "X-Amz-Expires should be a number")
		case n < 0:
			return s, errorf(BadExpires, "X-Amz-Expires must be non-negative")
		case n == 0:
			return s, errorf(BadExpires, "X-Amz-Expires must be at least 1 second")
		case n > int(MaxExpires/time.Second):
			return s, errorf(BadExpires, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
		}
		s.Expires = time.Duration(n) * time.Second
	}
	return s, nil
}

// splitCredential reads "key/date/region/service/aws4_request" as far as it goes and reports whether it has five parts.
func (s *Signature) splitCredential(credential string) bool {
	var ok bool
	rest := strings.TrimRight(credential, "/")
	for _, p := range []*string{&s.AccessKeyID, &s.Date, &s.Region, &s.Service} {
		if *p, rest, ok = strings.Cut(rest, "/"); !ok {
			return false
		}
	}
	s.terminator = rest
	return !strings.Contains(rest, "/")
}

// complete reads what both forms have in common, in the order in which AWS finds fault.
func (s *Signature) complete(algorithm, credential, date string) error {
	whole := s.splitCredential(credential)
	t, err := time.Parse(timeFormat, date)
	if err == nil && len(date) == len(timeFormat) {
		s.amzDate = date
	} else if t, err = http.ParseTime(date); err == nil {
		t = t.UTC()
		s.amzDate = t.Format(timeFormat)
	} else {
		return errorf(Incomplete, "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", date)
	}
	s.Time = t
	if !signs(s.signedHeaders, "host") && !signs(s.signedHeaders, ":authority") {
		return errorf(Invalid, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if algorithm != Algorithm {
		return errorf(Incomplete, "Unsupported AWS 'algorithm': '%s' (only AWS4-HMAC-SHA256 for now). ", algorithm)
	}
	if !whole {
		return errorf(Incomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", credential)
	}
	return nil
}

// signs reports whether name, in lower case, is in a list of signed headers.
func signs(list, name string) bool {
	for list != "" {
		var h string
		h, list, _ = strings.Cut(list, ";")
		if strings.EqualFold(h, name) {
			return true
		}
	}
	return false
}

// Rules is what an endpoint demands of a signature.
type Rules struct {
	Service string        // the signing name; empty accepts any
	Region  string        // empty accepts any
	Skew    time.Duration // allowed between the two clocks
}

// RulesFor returns the rules of an AWS service by its signing name: clocks may differ by 5 minutes, with S3 by 15.
func RulesFor(service string) Rules {
	r := Rules{Service: service, Skew: 5 * time.Minute}
	if isS3(service) {
		r.Skew = 15 * time.Minute
	}
	return r
}

// isS3 reports whether a signing name has S3's rules: the path is encoded once, the body's digest is always stated.
func isS3(service string) bool {
	switch service {
	case "s3", "s3express", "s3-object-lambda", "s3-outposts":
		return true
	}
	return false
}

// Check compares s with the clock and with what the endpoint demands; it needs no secret. The error is an *Error of
// Kind Expired, NotYetValid, URLExpired or Invalid.
func (s *Signature) Check(now time.Time, rules Rules) error {
	now = now.UTC()
	minutes := int(rules.Skew / time.Minute)
	if s.Presigned && s.Expires > 0 {
		if now.After(s.Time.Add(s.Expires)) {
			if isS3(s.Service) {
				return errorf(URLExpired, "Request has expired")
			}
			return errorf(URLExpired, "Signature expired: %s is now earlier than %s (%s - %d sec.)", s.amzDate,
				now.Add(-s.Expires).Format(timeFormat), now.Format(timeFormat), int(s.Expires/time.Second))
		}
	} else if oldest := now.Add(-rules.Skew); s.Time.Before(oldest.Truncate(time.Second)) {
		return errorf(Expired, "Signature expired: %s is now earlier than %s (%s - %d min.)", s.amzDate,
			oldest.Format(timeFormat), now.Format(timeFormat), minutes)
	}
	if newest := now.Add(rules.Skew); s.Time.After(newest) {
		return errorf(NotYetValid, "Signature not yet current: %s is still later than %s (%s + %d min.)", s.amzDate,
			newest.Format(timeFormat), now.Format(timeFormat), minutes)
	}
	var wrong []string
	if s.Region == "" || rules.Region != "" && s.Region != rules.Region {
		wrong = append(wrong, fmt.Sprintf("Credential should be scoped to a valid region, not '%s'.", s.Region))
	}
	if rules.Service != "" && s.Service != rules.Service {
		wrong = append(wrong, fmt.Sprintf("Credential should be scoped to correct service: '%s'.", rules.Service))
	}
	if s.terminator != terminator {
		wrong = append(wrong, fmt.Sprintf("Credential should be scoped with a valid terminator: 'aws4_request', not '%s'.", s.terminator))
	}
	if day := s.amzDate[:8]; s.Date != day {
		wrong = append(wrong, fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", s.Date, day, s.amzDate))
	}
	if wrong != nil {
		return &Error{Kind: Invalid, Message: strings.Join(wrong, " ")}
	}
	return nil
}

// Streaming reports whether the body is in chunks that carry signatures or trailers, so that only Verifier.Open can
// read it.
func (s *Signature) Streaming() bool { return strings.HasPrefix(s.ContentSHA256, "STREAMING-") }
