// Package apierr holds the one error type that crosses an API: a coded AWS error.
//
// A handler returns an *Error, usually from a constructor of a generated contract package, and the protocol codec
// writes it in the protocol's form. Any other error becomes InternalFailure, whose cause is kept for the log
// and never shown to the caller.
package apierr

import (
	"errors"
	"fmt"
	"net/http"
)

// Fault says who is to blame, and so whether trying again helps.
type Fault uint8

const (
	// Client is the caller's fault: HTTP 4xx, "Sender" in the Query protocol.
	Client Fault = iota
	// Server is our fault: HTTP 5xx, "Receiver" in the Query protocol.
	Server
)

// Error is an AWS API error. It is immutable once returned and safe for concurrent use.
type Error struct {
	// Code is the name of the error's shape in the service's model ("ResourceNotFoundException"), or one
	// of the codes common to all services ("ValidationException"). Codecs turn it into the code that their protocol
	// sends: IAM's NoSuchEntityException goes out as NoSuchEntity.
	Code    string
	Message string
	// QueryMessage is the message in the Query protocol, for services that word it differently there; mostly empty.
	QueryMessage string
	// Status is the HTTP status. Zero means 400 for a client fault and 500 for a server fault.
	Status int
	Fault  Fault
	// Members are members of the error's shape beyond its message, by their names in the model: Lambda's Type
	// and Reason, for example. Values are strings, bools, float64s, []any or map[string]any.
	Members map[string]any
	// Header holds HTTP headers that go with the error, by canonical name, such as Retry-After. Nil for most.
	Header http.Header
	// Cause is kept for the log. It never reaches the caller.
	Cause error
}

// New returns a client error with a code, an HTTP status and a formatted message.
// Statuses of 500 and above make it a server fault.
func New(code string, status int, format string, args ...any) *Error {
	e := &Error{Code: code, Status: status, Message: fmt.Sprintf(format, args...)}
	if status >= 500 {
		e.Fault = Server
	}
	return e
}

// Error describes the error for logs; it includes the cause.
func (e *Error) Error() string {
	s := e.Code
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Cause != nil {
		s += " (cause: " + e.Cause.Error() + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// HTTPStatus is Status, or the default status of the fault.
func (e *Error) HTTPStatus() int {
	switch {
	case e.Status != 0:
		return e.Status
	case e.Fault == Server:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// With returns a copy of e with one more member, as in
//
//	return nil, lambdaapi.ErrTooManyRequestsException("Rate Exceeded.").With("Reason", "ReservedFunctionConcurrentInvocationLimitExceeded")
func (e *Error) With(member string, value any) *Error {
	c := *e
	c.Members = make(map[string]any, len(e.Members)+1)
	for k, v := range e.Members {
		c.Members[k] = v
	}
	c.Members[member] = value
	return &c
}

// Because returns a copy of e that keeps cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// From returns the coded error in err's chain. Anything else becomes InternalFailure with status 500
// and err as its cause. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{
		Code:    "InternalFailure",
		Status:  http.StatusInternalServerError,
		Fault:   Server,
		Message: "The request processing has failed because of an unknown error, exception or failure.",
		Cause:   err,
	}
}

// Code returns the code of the coded error in err's chain, or "" if there is none.
func Code(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}
