package runtimeapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	inlineAnswer = 64 << 10  // an event up to this size is written by whoever invokes, at once
	keepOut      = 16 << 10  // bytes that a connection keeps for writing
	drainLimit   = 256 << 10 // bytes of an unwanted body that are read to keep the connection
	drainLarge   = 64 << 20  // bytes of an oversized response that are read before it is refused
)

// Status lines of refusals.
const (
	statusBadRequest = "400 Bad Request"
	statusForbidden  = "403 Forbidden"
)

// conn is one connection. Its goroutine reads requests and answers them, except that a long poll is answered by whoever has
// the event: meanwhile the goroutine waits for the client's next request, so that it notices when the client goes away and
// no goroutine must be woken for an event to leave.
type conn struct {
	s          *Server
	generation int
	nc         net.Conn
	raw        syscall.RawConn // of nc, nil if it has none
	closed     chan struct{}
	idle       atomic.Bool  // between requests and without a poll
	used       atomic.Int64 // when it last became idle, Unix nanoseconds

	in      reader
	req     request
	body    body
	polling bool // the last request was a long poll; its answer must be awaited before the next reply

	// out holds what is being written. It belongs to the goroutine, or while a long poll is open to its answerer, who
	// gives it back with a token in answered.
	out      []byte
	answered chan struct{}

	tryOut   []byte // argument and results of try
	tryN     int
	tryErr   error
	try      func(fd uintptr) bool
	isClosed atomic.Bool
}

func newConn(s *Server, nc net.Conn, generation int) *conn {
	c := &conn{s: s, generation: generation, nc: nc, closed: make(chan struct{}), answered: make(chan struct{}, 1)}
	c.in.src = nc
	c.idle.Store(true)
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.try = raw, c.tryWrite
		}
	}
	return c
}

// close ends the connection; its goroutine notices. It may be called more than once and by anyone.
func (c *conn) close() {
	if c.isClosed.CompareAndSwap(false, true) {
		close(c.closed)
		c.nc.Close()
	}
}

// serve answers requests until the connection ends.
func (c *conn) serve() {
	defer c.s.wg.Done()
	defer c.s.forget(c)
	for {
		if !c.polling {
			c.used.Store(time.Now().UnixNano())
			c.idle.Store(true)
		}
		err := c.in.head(&c.req)
		c.idle.Store(false)
		var last string
		switch err {
		case nil:
		case errMalformed:
			last = statusBadRequest
		case errHeadTooLong:
			last = "431 Request Header Fields Too Large"
		case errVersion:
			last = "505 HTTP Version Not Supported"
		default: // the client is gone, and its poll with it
			return
		}
		if c.polling {
			select {
			case <-c.answered:
				c.polling = false
			case <-c.closed:
				return
			}
		}
		if last != "" {
			c.lastWords(last)
			return
		}
		c.body.begin(&c.in, &c.req)
		if c.req.expect && !c.body.done {
			c.body.proceed = c.proceed
		}
		c.s.route(c)
		if c.req.close && c.polling {
			// The answer comes from elsewhere; the connection ends after it, or when the client hangs up.
			c.endAfterAnswer()
			return
		}
		if c.req.close || c.isClosed.Load() || c.body.proceed != nil || !c.body.discard(drainLimit) {
			c.hangUp()
			return
		}
		c.in.shrink()
	}
}

// endAfterAnswer waits until the long poll is answered or the client is gone.
func (c *conn) endAfterAnswer() {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, c.nc)
	}()
	select {
	case <-c.answered:
		c.hangUp()
	case <-c.closed:
	case <-gone:
	}
	c.close()
	<-gone
}

// hangUp closes the connection so that the client still gets the reply: bytes that it has sent and nobody read would reset
// the connection and could take the reply with it.
func (c *conn) hangUp() {
	if tc, ok := c.nc.(interface{ CloseWrite() error }); ok && tc.CloseWrite() == nil {
		c.nc.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		io.CopyN(io.Discard, c.nc, drainLimit)
	}
}

// proceed asks a client that waits for it to send the body.
func (c *conn) proceed() error {
	_, err := c.nc.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	return err
}

// lastWords replies to what could not be understood.
func (c *conn) lastWords(status string) {
	c.nc.Write([]byte("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
	c.hangUp()
}

// reply answers the request in hand with a status line's rest, an optional complete header line, and a body.
func (c *conn) reply(status, header, contentType, body string) {
	b := append(c.out[:0], "HTTP/1.1 "...)
	b = append(b, status...)
	if contentType != "" {
		b = append(b, "\r\nContent-Type: "...)
		b = append(b, contentType...)
	}
	b = append(b, header...)
	if c.req.close {
		b = append(b, "\r\nConnection: close"...)
	} else if c.req.minor == 0 {
		b = append(b, "\r\nConnection: keep-alive"...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	c.out = append(b, body...)
	if _, err := c.nc.Write(c.out); err != nil {
		c.close()
	}
}

// accepted replies that a post was taken.
func (c *conn) accepted() {
	c.reply("202 Accepted", "", "application/json", `{"status":"OK"}`)
}

// refuse replies with an error in the form of the Runtime API. The body of the request is read first where that is cheap,
// since many clients do not look for a reply while they send.
func (c *conn) refuse(status, errorType, message string) {
	if c.body.proceed != nil || !c.body.discard(drainLimit) {
		c.req.close = true
	}
	doc, err := json.Marshal(errorDocument{Message: message, Type: errorType})
	if err != nil {
		panic(err) // two strings always marshal
	}
	c.reply(status, "", "application/json", string(doc))
}

// errorDocument is an error reply of the APIs.
type errorDocument struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

// answer writes c.out and body as the answer to the open long poll without blocking: what the socket does not take at once
// is written by a goroutine.
func (c *conn) answer(body []byte) {
	if len(body) <= inlineAnswer {
		c.out = append(c.out, body...)
		body = nil
		if c.raw != nil {
			c.tryOut = c.out
			err := c.raw.Write(c.try)
			n := c.tryN
			c.tryOut = nil
			if err != nil || c.tryErr != nil {
				c.close()
				n = len(c.out)
			}
			if n == len(c.out) {
				c.endAnswer()
				return
			}
			c.finishAnswer(c.out[n:], nil)
			return
		}
	}
	c.finishAnswer(c.out, body)
}

// finishAnswer writes the rest of an answer from a goroutine. Whoever answers is counted in wg already.
func (c *conn) finishAnswer(head, body []byte) {
	c.s.wg.Go(func() {
		parts := net.Buffers{head, body}
		if _, err := parts.WriteTo(c.nc); err != nil {
			c.close()
		}
		c.endAnswer()
	})
}

// endAnswer gives the connection back to its goroutine.
func (c *conn) endAnswer() {
	if cap(c.out) > keepOut {
		c.out = nil
	}
	c.answered <- struct{}{}
}

// tryWrite writes what the socket takes.
func (c *conn) tryWrite(fd uintptr) bool {
	c.tryN, c.tryErr = 0, nil
	for {
		n, err := syscall.Write(int(fd), c.tryOut)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
		case err != nil:
			c.tryErr = err
		default:
			c.tryN = n
		}
		return true
	}
}

// route finds what a request asks for and answers it, or leaves it to the one who has the event.
func (s *Server) route(c *conn) {
	var want method
	var serve func(*conn)
	switch string(c.req.path) {
	case "/2018-06-01/runtime/invocation/next":
		want, serve = methodGet, s.runtimeNext
	case "/2018-06-01/runtime/init/error":
		want, serve = methodPost, s.initError
	case "/2020-01-01/extension/event/next":
		want, serve = methodGet, s.extensionNext
	case "/2020-01-01/extension/register":
		want, serve = methodPost, s.register
	case "/2020-01-01/extension/init/error":
		want, serve = methodPost, s.extensionInitError
	case "/2020-01-01/extension/exit/error":
		want, serve = methodPost, s.extensionExitError
	case "/2022-07-01/telemetry":
		want, serve = methodPut, s.subscribeTelemetry
	case "/2020-08-15/logs":
		want, serve = methodPut, s.subscribeLogs
	case "/2018-06-01/ping", "/ping":
		want, serve = methodGet, s.ping
	default:
		if rest, ok := bytes.CutPrefix(c.req.path, []byte("/2018-06-01/runtime/invocation/")); ok {
			if id, ok := bytes.CutSuffix(rest, []byte("/response")); ok && bytes.IndexByte(id, '/') < 0 {
				want, serve = methodPost, s.invocationResponse
				c.req.path = id
			} else if id, ok := bytes.CutSuffix(rest, []byte("/error")); ok && bytes.IndexByte(id, '/') < 0 {
				want, serve = methodPost, s.invocationError
				c.req.path = id
			}
		}
	}
	switch {
	case serve == nil:
		c.refuse("404 Not Found", "NotFound", "No such route")
	case want != c.req.method:
		c.refuse("405 Method Not Allowed", "MethodNotAllowed", "Method not allowed")
	default:
		serve(c)
	}
}

func (s *Server) ping(c *conn) { c.reply("200 OK", "", "text/plain; charset=utf-8", "pong") }
