package fleet

import (
	"encoding/json"
	"fmt"
	"time"
)

// failure is an invocation that ended without an answer of the function's own, or an init that failed.
type failure struct {
	kind    string // the errorType of telemetry and of REPORT: "Runtime.ExitError", "Sandbox.Timedout", ...
	status  string // "error", "timeout" or "failure", as telemetry has it
	payload []byte // what the caller gets
	line    string // what the log gets, without newline at the end; may be empty
}

// unhandled is the only value of X-Amz-Function-Error that current runtimes produce.
const unhandled = "Unhandled"

// The payloads of platform errors print errorType first, that of an oversized response errorMessage first, as AWS's do.
type platformError struct {
	ErrorType    string `json:"errorType"`
	ErrorMessage string `json:"errorMessage"`
}

func platformPayload(kind, message string) []byte {
	b, _ := json.Marshal(platformError{kind, message}) // two strings cannot fail
	return b
}

// exitFailure describes a runtime that ended before it answered. exit is empty for status 0.
func exitFailure(requestID, exit string, outOfMemory bool) *failure {
	why := "Runtime exited without providing a reason"
	if exit != "" {
		why = "Runtime exited with error: " + exit
	}
	message := "RequestId: " + requestID + " Error: " + why
	f := &failure{kind: "Runtime.ExitError", status: "error"}
	f.payload = platformPayload(f.kind, message)
	f.line = message + "\nRuntime.ExitError"
	if outOfMemory {
		f.kind = "Runtime.OutOfMemory"
	}
	return f
}

// entrypointFailure describes an archive without any program to start.
func entrypointFailure(requestID, message string) *failure {
	text := "RequestId: " + requestID + " Error: " + message
	return &failure{
		kind:    "Runtime.InvalidEntrypoint",
		status:  "error",
		payload: platformPayload("Runtime.InvalidEntrypoint", text),
		line:    text + "\nRuntime.InvalidEntrypoint",
	}
}

// timeoutFailure describes an invocation that used up the function's timeout.
func timeoutFailure(requestID string, timeout time.Duration, at time.Time) *failure {
	text := fmt.Sprintf("Task timed out after %.2f seconds", timeout.Seconds())
	return &failure{
		kind:    "Sandbox.Timedout",
		status:  "timeout",
		payload: platformPayload("Sandbox.Timedout", "RequestId: "+requestID+" Error: "+text),
		line:    at.UTC().Format(lineTime) + " " + requestID + " " + text + "\n",
	}
}

// reportedFailure is an error that the runtime or an extension posted itself.
func reportedFailure(kind string, payload []byte) *failure {
	return &failure{kind: kind, status: "error", payload: payload}
}

// extensionFailure describes an extension that crashed, or said that it failed.
func extensionFailure(requestID, kind, name, exit string) *failure {
	text := "RequestId: " + requestID + " Error: " + name + ": " + exit
	return &failure{kind: kind, status: "error", payload: platformPayload(kind, text), line: text + "\n" + kind}
}

// stopFailure describes an invocation that a stop of the server cut off.
func stopFailure(requestID string) *failure {
	message := "RequestId: " + requestID + " Error: The server was stopped before the invocation ended"
	return &failure{kind: "Sandbox.Failure", status: "failure", payload: platformPayload("Sandbox.Failure", message), line: message}
}

// oversizedPayload is what the caller gets for a response over limit bytes.
func oversizedPayload(limit int64) []byte {
	b, _ := json.Marshal(struct {
		ErrorMessage string `json:"errorMessage"`
		ErrorType    string `json:"errorType"`
	}{
		fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", limit),
		"Function.ResponseSizeTooLarge",
	})
	return b
}

// lineTime is the form of times at the start of log lines.
const lineTime = "2006-01-02T15:04:05.000Z"
