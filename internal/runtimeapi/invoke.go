package runtimeapi

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// Invocation is one event for the function. After Invoke neither it nor its Event may be changed or reused, even if it was
// aborted: a slow client may still be receiving it.
type Invocation struct {
	RequestID       string
	InvokedARN      string // as invoked, with the qualifier if there was one
	TraceID         string // X-Amzn-Trace-Id
	ClientContext   string // JSON
	CognitoIdentity string // JSON
	TenantID        string
	ContentType     string    // of Event; empty means application/json
	Deadline        time.Time // told to the processes; nothing here ends at it
	Event           []byte    // at most MaxPayload bytes, checked by the caller

	// Stream asks for a streamed response as it comes: of a runtime that says it streams, or whose response has no length.
	// Otherwise a function that streams is buffered.
	Stream bool
}

// Response is what the runtime answered, a function error included.
type Response struct {
	Body        []byte // owned by the receiver; nil if Stream is set
	ContentType string // as the runtime sent it

	// Stream is the body of a streamed response. It is read at the reader's pace, which slows the function down, and
	// ends with io.EOF, or with a *StreamError if the function failed on the way, or with the cause of an Abort. The
	// receiver reads it to the end or closes it, else the invocation does not end. Closing it early throws the rest away
	// and leaves the function running, as AWS does when a client goes away.
	Stream io.ReadCloser

	// ErrorType is not empty if the invocation failed: the runtime's own type, normalised to Runtime.* or Function.*,
	// or one of ErrorTooLarge, ErrorTruncated and ErrorResponseMode. Body is then the error document, unchanged.
	ErrorType string
	XRayCause []byte // JSON, at most 64 KiB, or nil
}

// Error types that come from here and not from the runtime.
const (
	ErrorTooLarge     = "Function.ResponseSizeTooLarge"     // more than Options.MaxResponse or MaxStream
	ErrorTruncated    = "Runtime.TruncatedResponse"         // the body ended early, and the runtime was not found dead within 100 ms
	ErrorResponseMode = "Runtime.InvalidResponseModeHeader" // unknown response mode; the body is empty
)

// StreamError ends a Stream whose function failed after its first byte.
type StreamError struct {
	Type string // as Response.ErrorType
	Body []byte // the error document, may be empty
}

func (e *StreamError) Error() string { return "runtimeapi: stream failed: " + e.Type }

// errHungUp ends streams at Close and Reset.
var errHungUp = errors.New("runtimeapi: environment reset")

// Times of an invocation. A step that did not happen has the zero time.
type Times struct {
	Start         time.Time // Invoke, or the end of the init phase if that came later
	ResponseStart time.Time // the head of the runtime's response arrived
	ResponseEnd   time.Time // its last byte arrived
	RuntimeNext   time.Time // the runtime asked for the next event
	ExtensionNext time.Time // the last of the INVOKE extensions did; zero if there are none
	ProducedBytes int64     // bytes of the response
}

// Running is an invocation under way. Its methods may be called concurrently.
type Running struct {
	s         *Server
	inv       *Invocation
	responded chan struct{}
	done      chan struct{}

	// Guarded by s.mu; response is fixed once responded is closed, times once done is.
	response  *Response
	stream    *io.PipeWriter // of a streamed response
	times     Times
	delivered bool
	late      bool // Invoke came before the init phase was over
	ended     bool // done is closed
	waiting   int  // INVOKE extensions that have not asked for their next event

	streamFailure string // the type of the StreamError that ended stream
}

// Responded is closed when the response is there, for a streamed one as soon as it begins, and at Abort.
func (r *Running) Responded() <-chan struct{} { return r.responded }

// Response is valid after Responded: the response, or nil if the invocation was aborted before there was one.
func (r *Running) Response() *Response { return r.response }

// Done is closed when the response is in and the runtime and all INVOKE extensions have asked for their next event, and at
// Abort. After that the next Invoke is allowed.
func (r *Running) Done() <-chan struct{} { return r.done }

// Times returns what is known so far; after Done it does not change.
func (r *Running) Times() Times {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.times
}

// StreamFailure returns the error type of a streamed response that failed after it had begun, or "". After Done it does not
// change.
func (r *Running) StreamFailure() string {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.streamFailure
}

// Abort ends the invocation if it is not done: a later response to it is refused as InvalidRequestID, a stream under way
// ends with cause, which must not be nil. It returns the response if that had come before, else nil. The processes do not
// notice; the owner kills them and calls Reset.
func (r *Running) Abort(cause error) *Response {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.abort(cause)
	if r.s.running == r {
		r.s.running = nil
	}
	return r.response
}

// abort closes what waits. The caller holds mu.
func (r *Running) abort(cause error) {
	if r.ended {
		return
	}
	r.ended = true
	if r.stream != nil {
		r.stream.CloseWithError(cause)
	}
	if r.response == nil {
		close(r.responded)
	}
	close(r.done)
}

// respond hands the response over. The caller holds mu and has checked that there was none.
func (r *Running) respond(resp *Response) {
	r.response = resp
	close(r.responded)
}

// checkDone ends the invocation if everyone is finished. The caller holds mu.
func (r *Running) checkDone() {
	if r.times.ResponseEnd.IsZero() || r.times.RuntimeNext.IsZero() || r.waiting > 0 || r.ended {
		return
	}
	r.ended = true
	r.s.running = nil
	close(r.done)
}

// Invoke gives inv to the runtime and the INVOKE extensions, as soon as the init phase is over. It does not wait for
// anything. ErrBusy means that the invocation before is not done, ErrClosed that Close or Shutdown was called.
func (s *Server) Invoke(inv *Invocation) (*Running, error) {
	r := &Running{s: s, inv: inv, responded: make(chan struct{}), done: make(chan struct{})}
	s.mu.Lock()
	if s.closed || s.stopping {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if s.running != nil {
		s.mu.Unlock()
		return nil, ErrBusy
	}
	s.running = r
	r.times.Start = time.Now()
	r.late = !s.isReady()
	d := s.deliver()
	s.wg.Add(1) // for the goroutines of send
	s.mu.Unlock()
	d.send()
	s.wg.Done()
	return r, nil
}

// delivery is a set of answers to long polls, decided under mu and written without it.
type delivery struct {
	runtime    *conn
	inv        *Invocation
	extensions []extensionAnswer
}

type extensionAnswer struct {
	conn *conn
	id   string // of the event; empty for SHUTDOWN
	body []byte
}

// deliver takes the polls that the pending invocation answers. The caller holds mu and calls send after it let go.
func (s *Server) deliver() (d delivery) {
	r := s.running
	if r == nil || !s.isReady() {
		return d
	}
	if !r.delivered {
		r.delivered = true
		if r.late {
			r.times.Start = time.Now()
		}
		var body []byte
		for _, e := range s.extensions {
			if !e.invoke {
				continue
			}
			if body == nil {
				body = invokeEvent(r.inv)
			}
			e.state = extensionRunning
			e.owes = r
			r.waiting++
			if a, ok := e.answer(body, newID()); ok {
				d.extensions = append(d.extensions, a)
			}
		}
	}
	// A runtime that has answered waits for the next event, not for this one again, while extensions are still at it.
	if s.poll != nil && r.times.ResponseEnd.IsZero() && (s.state == ready || s.state == running) {
		d.runtime, d.inv = s.poll, r.inv
		s.poll = nil
		s.state = running
	}
	return d
}

// send writes the answers.
func (d *delivery) send() {
	if d.runtime != nil {
		d.runtime.answerNext(d.inv)
	}
	for _, a := range d.extensions {
		a.conn.answerEvent(a.id, a.body)
	}
}

// answerNext answers the runtime's poll with inv.
func (c *conn) answerNext(inv *Invocation) {
	b := append(c.out[:0], "HTTP/1.1 200 OK\r\nContent-Type: "...)
	if inv.ContentType == "" {
		b = append(b, "application/json"...)
	} else {
		b = appendValue(b, inv.ContentType)
	}
	b = append(b, "\r\nLambda-Runtime-Aws-Request-Id: "...)
	b = appendValue(b, inv.RequestID)
	b = append(b, "\r\nLambda-Runtime-Deadline-Ms: "...)
	b = strconv.AppendInt(b, inv.Deadline.UnixMilli(), 10)
	b = appendHeader(b, "Lambda-Runtime-Invoked-Function-Arn", inv.InvokedARN)
	b = appendHeader(b, "Lambda-Runtime-Trace-Id", inv.TraceID)
	b = appendHeader(b, "Lambda-Runtime-Client-Context", inv.ClientContext)
	b = appendHeader(b, "Lambda-Runtime-Cognito-Identity", inv.CognitoIdentity)
	b = appendHeader(b, "Lambda-Runtime-Aws-Tenant-Id", inv.TenantID)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(inv.Event)), 10)
	c.out = append(b, "\r\n\r\n"...)
	c.answer(inv.Event)
}

// appendHeader appends a header line, without its end, unless the value is empty.
func appendHeader(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, "\r\n"...)
	b = append(b, name...)
	b = append(b, ": "...)
	return appendValue(b, value)
}

// appendValue appends a header's value with control characters as spaces, so that no value ends its line: in JSON, the
// longest of the values, a line break between tokens means nothing more than a space.
func appendValue(b []byte, v string) []byte {
	if strings.IndexFunc(v, isControl) < 0 {
		return append(b, v...)
	}
	for i := range len(v) {
		if isControl(rune(v[i])) {
			b = append(b, ' ')
		} else {
			b = append(b, v[i])
		}
	}
	return b
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
