package fleet

import (
	"io"

	"github.com/mayflyhq/mayfly/internal/runtimeapi"
)

// StreamError ends a Stream whose function failed after its first byte: by its own account, or because it timed out, exited
// or gave more than allowed. Body is the error document, as the Payload of a Response with FunctionError is.
type StreamError = runtimeapi.StreamError

// Stream is a response as it comes. Reading slows the function down to the reader's pace. It ends with io.EOF or a
// *StreamError, and then the invocation's slot of concurrency is free. It must be closed: what is left is then thrown away
// and the function runs on, as in Lambda when a client goes away; so it does when the context of the invocation ends. One
// goroutine reads it, any may close it.
type Stream struct {
	body    io.ReadCloser
	free    func()        // gives the slot back
	ended   chan struct{} // closed when the invocation is over
	logTail []byte        // fixed once ended is closed
}

// Read implements io.Reader. After Close its error is io.ErrClosedPipe.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err != nil && err != io.ErrClosedPipe { // who saw the end may invoke the next at once
		s.free()
	}
	return n, err
}

// Close implements io.Closer.
func (s *Stream) Close() error { return s.body.Close() }

// LogTail waits for the end of the invocation, which comes once the stream was read to its end or closed and the function's
// extensions are done, and returns the last 4096 bytes of its log if they were asked for.
func (s *Stream) LogTail() []byte {
	<-s.ended
	return s.logTail
}

// stream gives the caller a response that has only begun. The slot of concurrency stays taken until the end.
func (e *environment) stream(j *job, r *runtimeapi.Response) *Response {
	j.stream = &Stream{body: r.Stream, free: func() { e.f.answered(e, j) }, ended: make(chan struct{})}
	response := &Response{Stream: j.stream, ContentType: r.ContentType}
	j.answer <- answer{response, nil}
	return response
}
