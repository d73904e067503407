// Package fleet runs functions: it starts execution environments, reuses them newest first, freezes them between
// invocations, resets them after failures, reaps idle ones, keeps concurrency within its limits, and meters what ran.
// It knows functions only as the immutable values that service/lambda hands to it.
package fleet

import (
	"errors"
	"time"
)

// Function is one version of a function as it was when the invocation was accepted. It must not be changed once it
// was given to Invoke; environments are shared only among invocations with the same ARN, Version and Revision.
type Function struct {
	Account, Region string
	Name            string
	ARN             string // without qualifier
	Version         string // "$LATEST" or a number
	Revision        string // differs whenever code or configuration differs
	Runtime         string // "provided.al2023", "nodejs22.x", "python3.13", ...
	Handler         string
	Architecture    string // "x86_64" or "arm64"
	RoleARN         string
	MemoryMB        int
	TmpMB           int
	Timeout         time.Duration
	Environment     map[string]string // the customer's variables
	Code            string            // host directory of the unpacked archive, mounted read-only at /var/task
	CodeSHA256      string            // base64, as in CodeSha256
	Layers          []string          // host directories merged at /opt, later ones over earlier ones

	LogGroup            string
	LogFormat           string // "Text" or "JSON"
	ApplicationLogLevel string // JSON only: TRACE, DEBUG, INFO, WARN, ERROR, FATAL
	SystemLogLevel      string // JSON only: DEBUG, INFO, WARN
}

// Request is one synchronous invocation.
type Request struct {
	RequestID       string
	InvokedARN      string // as invoked, with the qualifier if there was one
	Trace           string // X-Amzn-Trace-Id
	ClientContext   string // JSON, decoded from base64
	CognitoIdentity string // JSON
	TenantID        string
	ContentType     string // of Payload; empty means application/json
	Payload         []byte // at most 6 MiB, checked by the caller
	LogTail         bool   // collect the last 4 KiB of the invocation's log
}

// Response is what an invocation gave, a function error included.
type Response struct {
	Payload       []byte
	FunctionError string // "Unhandled", or empty on success
	LogTail       []byte // at most 4096 bytes, when asked for
}

// ThrottledError says that no environment may take the invocation now.
type ThrottledError struct {
	Reason string // AWS's ThrottleReason, such as ConcurrentInvocationLimitExceeded
}

func (e *ThrottledError) Error() string { return "fleet: throttled: " + e.Reason }

// ErrStopping is returned for invocations that arrive after Stop began.
var ErrStopping = errors.New("fleet: stopping")
