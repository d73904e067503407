package protocol

import (
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// errorShape is the shape of an error, or nil: svc is nil for requests that match no service.
func errorShape(svc *smithy.Service, code string) *smithy.Shape {
	if svc == nil {
		return nil
	}
	return svc.ErrorShape(code)
}

// queryCode is the code that the Query protocol sends for an error, and QueryCompatible services in a header.
func queryCode(svc *smithy.Service, e *apierr.Error) string {
	if sh := errorShape(svc, e.Code); sh != nil && sh.Error.Code != "" {
		return sh.Error.Code
	}
	return e.Code
}

// faultName is how Query names whose fault it is.
func faultName(f apierr.Fault) string {
	if f == apierr.Server {
		return "Receiver"
	}
	return "Sender"
}

// receivedError is an error that a client got: its code without namespace, in the model's spelling, its message, and the members beyond.
func receivedError(svc *smithy.Service, status int, code string, members map[string]any) *apierr.Error {
	// Codes come as "Code", "namespace#Code" and "Code:http://…".
	code = code[strings.IndexByte(code, '#')+1:]
	code, _, _ = strings.Cut(code, ":")
	if code == "" {
		code = strings.ReplaceAll(http.StatusText(status), " ", "")
	}
	e := &apierr.Error{Code: code, Status: status, Members: members}
	if status >= http.StatusInternalServerError {
		e.Fault = apierr.Server
	}
	if sh := errorShape(svc, code); sh != nil {
		e.Code = sh.Name
	}
	for _, k := range [...]string{"message", "Message", "errorMessage"} {
		if s, ok := members[k].(string); ok {
			e.Message = s
			delete(members, k)
			break
		}
	}
	if len(e.Members) == 0 {
		e.Members = nil
	}
	return e
}

// errorHeader is the header of every error: those that come with it, and the request's id.
func errorHeader(e *apierr.Error, contentType, requestID string) http.Header {
	h := make(http.Header, 4+len(e.Header))
	for k, v := range e.Header {
		h[k] = v
	}
	if contentType != "" {
		h["Content-Type"] = []string{contentType}
	}
	h[requestIDHeader] = []string{requestID}
	return h
}

// headerMembers moves the members of an error that REST protocols send as headers from the body, where all are, to h: Lambda's
// retryAfterSeconds is Retry-After. It returns the error without them.
func headerMembers(svc *smithy.Service, e *apierr.Error, h http.Header) *apierr.Error {
	sh := errorShape(svc, e.Code)
	if sh == nil || len(e.Members) == 0 {
		return e
	}
	rest := *e
	rest.Members = maps.Clone(e.Members)
	for k, v := range e.Members {
		if i := sh.Member(k); i >= 0 && sh.Members[i].Location == smithy.InHeader {
			h[sh.Members[i].Header()] = []string{cleanHeader(fmt.Sprint(v))}
			delete(rest.Members, k)
		}
	}
	return &rest
}

// addHeaderMembers gives a received error the members that came as headers.
func addHeaderMembers(svc *smithy.Service, e *apierr.Error, h http.Header) *apierr.Error {
	sh := errorShape(svc, e.Code)
	if sh == nil {
		return e
	}
	for i := range sh.Members {
		if m := &sh.Members[i]; m.Location == smithy.InHeader && len(h[m.Header()]) > 0 {
			e = e.With(m.Name, h[m.Header()][0])
		}
	}
	return e
}

// requestIDHeader is x-amzn-RequestId in Go's canonical form; names of headers have no case.
const requestIDHeader = "X-Amzn-Requestid"
