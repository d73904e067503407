package runtimeapi

import (
	"encoding/base64"
	"fmt"
	"io"
	"time"
)

// runtimeState is where the runtime is between its requests. The names appear in replies.
type runtimeState string

const (
	started      runtimeState = "Started"
	initFailed   runtimeState = "InitError"
	ready        runtimeState = "Ready"
	running      runtimeState = "Running"
	responding   runtimeState = "InvocationResponse"
	postingError runtimeState = "InvocationErrorResponse"
	responseSent runtimeState = "RuntimeResponseSentState"
)

// refuseTransition replies that the runtime may not do this now.
func (c *conn) refuseTransition(from, to runtimeState) {
	c.refuse(statusForbidden, "InvalidStateTransition",
		fmt.Sprintf("State transition from %s to %s failed for runtime. Error: State transition is not allowed", from, to))
}

func (c *conn) refuseRequestID() {
	c.refuse(statusBadRequest, "InvalidRequestID", "Invalid request ID")
}

// refuseTooLarge replies to a body over limit, which is read to the end if it has one.
func (c *conn) refuseTooLarge(limit int64) {
	if c.body.proceed == nil {
		c.body.discard(drainLarge)
	}
	c.refuse("413 Request Entity Too Large", "RequestEntityTooLarge",
		fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", limit))
}

// refuseTruncated replies to a body that ended early, as far as anyone listens.
func (c *conn) refuseTruncated() {
	c.req.close = true
	c.refuse(statusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

// outdated reports whether c belongs to processes that were killed, or the server is closed, and closes c then. The caller
// holds mu.
func (s *Server) outdated(c *conn) bool {
	if c.generation != s.generation || s.closed {
		c.close()
		return true
	}
	return false
}

// runtimeNext serves GET /runtime/invocation/next: it opens the runtime's long poll, or answers it if there is an event.
func (s *Server) runtimeNext(c *conn) {
	now := time.Now()
	s.mu.Lock()
	if s.outdated(c) {
		s.mu.Unlock()
		return
	}
	switch from := s.state; from {
	case started, ready:
		s.state = ready
	case responseSent:
		s.state = ready
		if r := s.running; r != nil && !r.times.ResponseEnd.IsZero() {
			r.times.RuntimeNext = now
			r.checkDone()
		}
	case running:
		// The runtime never saw the event or asks again, and gets the same one, unless that was aborted.
		if s.running == nil {
			s.state = ready
		}
	default:
		s.mu.Unlock()
		c.refuseTransition(from, ready)
		return
	}
	if s.poll != nil { // its client gave up on it without closing it
		s.poll.close()
	}
	s.poll = c
	c.polling = true
	s.checkReady()
	d := s.deliver()
	s.mu.Unlock()
	d.send()
}

// claim lets the post in hand answer the running invocation, which moves the runtime to state to, or refuses it and
// returns nil.
func (s *Server) claim(c *conn, to runtimeState) *Running {
	now := time.Now()
	s.mu.Lock()
	if s.outdated(c) {
		s.mu.Unlock()
		return nil
	}
	r, from := s.running, s.state
	switch {
	case from == started || from == initFailed: // no event was ever asked for
		s.mu.Unlock()
		c.refuseTransition(from, to)
		return nil
	case r == nil || string(c.req.path) != r.inv.RequestID || from == responseSent:
		s.mu.Unlock()
		c.refuseRequestID()
		return nil
	case from != running:
		s.mu.Unlock()
		c.refuseTransition(from, to)
		return nil
	}
	s.state = to
	r.times.ResponseStart = now
	s.mu.Unlock()
	return r
}

// settle makes resp the response of r, complete with n bytes; nil stands for the stream that began before. It reports
// false, and replies, if r was aborted meanwhile.
func (s *Server) settle(c *conn, r *Running, resp *Response, n int64) bool {
	now := time.Now()
	s.mu.Lock()
	if s.outdated(c) {
		s.mu.Unlock()
		return false
	}
	if s.running != r {
		s.state = responseSent
		s.mu.Unlock()
		c.refuseRequestID()
		return false
	}
	s.state = responseSent
	r.times.ResponseEnd = now
	r.times.ProducedBytes = n
	if resp != nil {
		r.respond(resp)
	}
	s.mu.Unlock()
	return true
}

// mourn gives the owner a moment to find the runtime dead, whose end is then the truth about r, before r ends as truncated.
func (c *conn) mourn(r *Running) {
	t := time.NewTimer(mourning)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.done:
	case <-c.closed:
	}
}

// mourning is the time in which the end of a process becomes known.
const mourning = 100 * time.Millisecond

// invocationResponse serves POST /runtime/invocation/{id}/response.
func (s *Server) invocationResponse(c *conn) {
	r := s.claim(c, responding)
	if r == nil {
		return
	}
	contentType := c.req.contentType
	switch c.req.responseMode {
	case "":
		// AWS's client for Go never says that it streams: it sends whatever it has in chunks. So who asked for a stream gets one.
		if r.inv.Stream && c.req.chunked {
			s.streamResponse(c, r)
			return
		}
	case "streaming":
		if r.inv.Stream {
			s.streamResponse(c, r)
			return
		}
	default:
		if s.settle(c, r, &Response{ContentType: contentType, ErrorType: ErrorResponseMode, Body: []byte{}}, 0) {
			c.refuse(statusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode")
		}
		return
	}
	limit := s.opt.MaxResponse
	switch body, err := c.body.readAll(limit); err {
	case nil:
		resp := &Response{Body: body, ContentType: contentType}
		if c.body.errorType != "" { // the handler's stream failed after it had begun
			resp = &Response{Body: c.body.errorDocument(), ContentType: "application/json", ErrorType: normalizeErrorType(c.body.errorType)}
		}
		if s.settle(c, r, resp, int64(len(body))) {
			c.accepted()
		}
	case errTooLarge:
		if s.settle(c, r, tooLarge(limit), 0) {
			c.refuseTooLarge(limit)
		}
	default:
		c.mourn(r)
		if s.settle(c, r, &Response{ContentType: contentType, ErrorType: ErrorTruncated, Body: []byte{}}, 0) {
			c.refuseTruncated()
		}
	}
}

// tooLarge is the function error for a response over limit, in the words and the order of AWS.
func tooLarge(limit int64) *Response {
	return &Response{ErrorType: ErrorTooLarge, ContentType: "application/json", Body: tooLargeDocument(limit)}
}

func tooLargeDocument(limit int64) []byte {
	return fmt.Appendf(nil, `{"errorMessage":"Response payload size exceeded maximum allowed payload size (%d bytes).","errorType":"%s"}`,
		limit, ErrorTooLarge)
}

// errorDocument returns the error document that came in the trailers.
func (b *body) errorDocument() []byte {
	doc, err := base64.StdEncoding.DecodeString(b.errorBody)
	if err != nil {
		return []byte{}
	}
	return doc
}

// invocationError serves POST /runtime/invocation/{id}/error.
func (s *Server) invocationError(c *conn) {
	r := s.claim(c, postingError)
	if r == nil {
		return
	}
	resp := &Response{
		ContentType: c.req.contentType,
		ErrorType:   normalizeErrorType(c.req.errorType),
		XRayCause:   cleanCause([]byte(c.req.xrayCause)),
	}
	limit := s.opt.MaxResponse
	switch body, err := c.body.readAll(limit); err {
	case nil:
		resp.Body = body
		if resp.ContentType == causeContentType {
			resp.Body, resp.XRayCause, resp.ContentType = splitCause(body)
		}
		if s.settle(c, r, resp, int64(len(body))) {
			c.accepted()
		}
	case errTooLarge:
		if s.settle(c, r, tooLarge(limit), 0) {
			c.refuseTooLarge(limit)
		}
	default:
		resp.Body = []byte{}
		if s.settle(c, r, resp, 0) {
			c.refuseTruncated()
		}
	}
}

// initError serves POST /runtime/init/error.
func (s *Server) initError(c *conn) {
	s.mu.Lock()
	if s.outdated(c) {
		s.mu.Unlock()
		return
	}
	if from := s.state; from != started {
		s.mu.Unlock()
		c.refuseTransition(from, initFailed)
		return
	}
	s.state = initFailed
	s.mu.Unlock()

	f := Failure{
		Source:      "runtime",
		Type:        normalizeErrorType(c.req.errorType),
		ContentType: c.req.contentType,
		XRayCause:   cleanCause([]byte(c.req.xrayCause)),
	}
	body, err := c.body.readAll(s.opt.MaxResponse)
	f.Body = body
	if err == nil && f.ContentType == causeContentType {
		f.Body, f.XRayCause, f.ContentType = splitCause(body)
	}
	f.At = time.Now()
	s.mu.Lock()
	if s.outdated(c) {
		s.mu.Unlock()
		return
	}
	s.fail(f)
	s.mu.Unlock()
	switch err {
	case nil:
		c.accepted()
	case errTooLarge:
		c.refuseTooLarge(s.opt.MaxResponse)
	default:
		c.refuseTruncated()
	}
}

// streamResponse hands a streamed response over as it comes.
func (s *Server) streamResponse(c *conn, r *Running) {
	pr, pw := io.Pipe()
	s.mu.Lock()
	if s.outdated(c) {
		s.mu.Unlock()
		return
	}
	if s.running != r {
		s.mu.Unlock()
		c.refuseRequestID()
		return
	}
	r.stream = pw
	r.respond(&Response{Stream: pr, ContentType: c.req.contentType})
	s.mu.Unlock()

	limit := s.opt.MaxStream
	p := pace{rate: s.opt.StreamRate, burst: s.opt.StreamBurst}
	buf := make([]byte, 32<<10)
	var total int64
	for {
		n, err := c.body.Read(buf)
		switch {
		case n > 0 && total+int64(n) > limit:
			n = int(limit - total)
			pw.Write(buf[:n])
			if s.settleStream(c, r, pw, limit, &StreamError{Type: ErrorTooLarge, Body: tooLargeDocument(limit)}) {
				c.refuseTooLarge(limit)
			}
			return
		case n > 0:
			total += int64(n)
			p.wait(int64(n), c.closed, r.done)
			pw.Write(buf[:n]) // fails when the reader went away: the function goes on all the same
		case err == io.EOF:
			var failed *StreamError
			if c.body.errorType != "" {
				failed = &StreamError{Type: normalizeErrorType(c.body.errorType), Body: c.body.errorDocument()}
			}
			if s.settleStream(c, r, pw, total, failed) {
				c.accepted()
			}
			return
		case err != nil:
			c.mourn(r)
			if s.settleStream(c, r, pw, total, &StreamError{Type: ErrorTruncated}) {
				c.refuseTruncated()
			}
			return
		}
	}
}

// settleStream ends the stream of r after n bytes, with failed if that is not nil, as settle does.
func (s *Server) settleStream(c *conn, r *Running, pw *io.PipeWriter, n int64, failed *StreamError) bool {
	if failed != nil {
		s.mu.Lock()
		r.streamFailure = failed.Type
		s.mu.Unlock()
	}
	if !s.settle(c, r, nil, n) {
		return false
	}
	if failed != nil {
		pw.CloseWithError(failed)
	} else {
		pw.Close()
	}
	return true
}
