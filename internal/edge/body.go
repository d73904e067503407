package edge

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

const (
	largeBody = 64 << 10 // bodies above it count against Options.MaxBodies
	minRate   = 16 << 10 // bytes per second below which a client is too slow
)

// patience is how long a body of n bytes may take on the wire.
func patience(n int64) time.Duration {
	return 30*time.Second + time.Duration(n/minRate)*time.Second
}

// timedBody is a request body that must arrive in time, whoever reads it: net/http itself reads away what a handler
// left. Once it is there the deadline goes, because net/http takes a read that fails while the handler runs for a caller
// that went away.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func newTimedBody(w http.ResponseWriter, r *http.Request) *timedBody {
	b := &timedBody{r.Body, http.NewResponseController(w)}
	b.control.SetReadDeadline(time.Now().Add(patience(max(r.ContentLength, 0))))
	return b
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// A limit is the largest body of an operation, and the error for a larger one.
type limit struct {
	bytes    int64
	tooLarge func(size int64) *apierr.Error
}

func entityTooLarge(max int64, operation string) limit {
	return limit{max, func(int64) *apierr.Error {
		return apierr.New("RequestEntityTooLargeException", http.StatusRequestEntityTooLarge, "Request must be smaller than %d bytes for the %s operation", max, operation)
	}}
}

// The limits of Query requests, whose operation is unknown until the body was read; and of those without a signature,
// which may bring a SAML assertion.
var (
	formLimit      = entityTooLarge(defaultLimit, "requested")
	anonymousLimit = entityTooLarge(256<<10, "requested")
)

const (
	defaultLimit     = 16 << 20
	maxLambdaCode    = 70_167_211 // of requests that bring a function's or layer's archive, base64 in JSON
	maxInvokePayload = 6 << 20
	maxAsyncPayload  = 1 << 20
)

// limitFor returns the limit of an operation. Source of Lambda's: its quotas, and the texts of its errors.
func limitFor(op *smithy.OpInfo, h http.Header) limit {
	if op.Service.Name != "lambda" {
		return entityTooLarge(defaultLimit, op.Name)
	}
	switch op.Name {
	case "CreateFunction", "UpdateFunctionCode", "PublishLayerVersion":
		return entityTooLarge(maxLambdaCode, op.Name)
	case "Invoke", "InvokeWithResponseStream":
		if h.Get("X-Amz-Invocation-Type") == lambdaapi.InvocationTypeEvent {
			return invokeLimit(maxAsyncPayload, "Event")
		}
		return invokeLimit(maxInvokePayload, "RequestResponse")
	case "InvokeAsync":
		return invokeLimit(maxAsyncPayload, "Event")
	}
	return entityTooLarge(maxInvokePayload, op.Name)
}

func invokeLimit(max int64, invocation string) limit {
	return limit{max, func(size int64) *apierr.Error {
		return lambdaapi.ErrRequestTooLargeException("%d byte payload is too large for the %s invocation type (limit %d bytes)", size, invocation, max)
	}}
}

// A requestBody is the body of one request on its way from the network to the codec.
type requestBody struct {
	e        *Edge
	w        http.ResponseWriter
	r        *http.Request
	sig      *sigv4.Signature
	secret   string // verifies sig; empty if nothing is to be verified
	raw      []byte // as the client sent it; nil before read
	form     []byte // of a compressed form, what was compressed
	reserved int64  // of Options.MaxBodies
}

// reserve takes n bytes of what all requests together may hold.
func (b *requestBody) reserve(n int64) error {
	if n <= largeBody {
		return nil
	}
	b.reserved += n
	if b.e.bodies.Add(n) > b.e.opts.MaxBodies {
		return apierr.New("ServiceUnavailable", http.StatusServiceUnavailable, "Too many large requests at the same time. Try again later.")
	}
	return nil
}

// release gives back what was reserved.
func (b *requestBody) release() {
	b.e.bodies.Add(-b.reserved)
	b.reserved = 0
}

// read reads the whole body, encoded as the client sent it. In signed chunks it may be a little larger than its limit,
// which holds for its content.
func (b *requestBody) read(l limit) error {
	length := b.r.ContentLength
	if length == 0 {
		b.raw = []byte{}
		return nil
	}
	if b.sig.Streaming() {
		l.bytes += l.bytes/32 + 64<<10
	}
	if length > l.bytes {
		if b.r.Header.Get("Expect") == "" { // the client sends already, and may not look for the answer before it is done
			b.discard()
		}
		return l.tooLarge(length)
	}
	if length < 0 {
		length = l.bytes
	}
	if err := b.reserve(length); err != nil {
		return err
	}
	if b.r.ContentLength > 0 && length <= 1<<20 {
		b.raw = make([]byte, length)
		_, err := io.ReadFull(b.r.Body, b.raw)
		return bodyError(err)
	}
	var buf bytes.Buffer // what a client only announces takes no memory
	n, err := buf.ReadFrom(io.LimitReader(b.r.Body, l.bytes+1))
	if err == nil && n > l.bytes {
		return l.tooLarge(n + b.discard())
	}
	b.raw = buf.Bytes()
	return bodyError(err)
}

// discard reads away what is left of a body, within reason, so that a client that sends before it looks finds the answer.
func (b *requestBody) discard() int64 {
	http.NewResponseController(b.w).SetReadDeadline(time.Now().Add(patience(0)))
	n, _ := io.CopyN(io.Discard, b.r.Body, 2*maxLambdaCode)
	return n
}

// receive gives the body of a request, read already or not, to its matched call, and checks the signature over it.
func (b *requestBody) receive(c *protocol.Call) error {
	if c.Streams() && isS3(c) { // objects of any size, verified while they are read
		stream, err := b.open(b.r)
		c.Request.Stream = stream
		return err
	}
	l := limitFor(c.Op, b.r.Header)
	if b.raw == nil {
		if err := b.read(l); err != nil {
			return err
		}
	}
	content, err := b.raw, error(nil)
	if b.sig.Streaming() {
		again := *b.r
		again.Body = newStream(b.raw)
		var stream io.Reader
		if stream, err = b.open(&again); err == nil {
			content, err = readLimited(stream, l)
		}
	} else if b.secret != "" {
		err = b.e.verifier.Verify(b.r, b.sig, b.secret, b.raw)
	}
	if b.form != nil {
		content = b.form
	}
	if c.Streams() {
		c.Request.Stream = newStream(content)
	} else {
		c.Request.Body = content
	}
	return err
}

// open returns the content of r's body as a stream that verifies itself while it is read.
func (b *requestBody) open(r *http.Request) (io.ReadCloser, error) {
	switch {
	case b.secret != "":
		return b.e.verifier.Open(r, b.sig, b.secret)
	case b.sig.Streaming():
		return sigv4.Decode(r, b.sig)
	}
	return r.Body, nil
}

// readForm reads a Query request's body into req, in which the router then finds the operation. SDKs may compress a
// whole large request; the codec undoes that for known operations, and here none is known yet.
func (b *requestBody) readForm(req *protocol.Request, l limit) error {
	if err := b.read(l); err != nil {
		return err
	}
	req.Body = b.raw
	if !strings.EqualFold(b.r.Header.Get("Content-Encoding"), "gzip") {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b.raw))
	if err == nil {
		b.form, err = readLimited(z, l)
	}
	if err != nil && apierr.Code(err) == "" {
		err = apierr.New("MalformedInput", http.StatusBadRequest, "The request body is not valid gzip.").Because(err)
	}
	req.Body = b.form
	req.Header = req.Header.Clone()
	req.Header.Del("Content-Encoding")
	return err
}

func readLimited(r io.Reader, l limit) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, l.bytes+1))
	if err == nil && int64(len(b)) > l.bytes {
		err = l.tooLarge(int64(len(b)))
	}
	return b, err
}

func newStream(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// bodyError is the error for a body that did not arrive.
func bodyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return apierr.New("RequestTimeout", http.StatusRequestTimeout, "Your socket connection to the server was not read from or written to within the timeout period.").Because(err)
	}
	return apierr.New("IncompleteBody", http.StatusBadRequest, "The request body terminated unexpectedly").Because(err)
}
