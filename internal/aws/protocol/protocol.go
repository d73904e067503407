// Package protocol speaks the wire protocols of AWS: JSON 1.0 and 1.1, Query, REST JSON, REST XML, Smithy RPC v2 CBOR, and the
// event streams inside them. Codecs are driven by the shape tables of package smithy and know no service.
//
// The server side is Router.Match, then Call.Decode, then Call.Encode or Call.EncodeError. The client side is Client, a smithy.Caller
// over HTTP. Codecs hold no state and are safe for concurrent use; values decoded from a body may share its bytes.
package protocol

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// Request is an HTTP request as codecs see it.
type Request struct {
	Method string
	Path   string // escaped, as on the request line
	Query  string // without the question mark
	Header http.Header
	// Body is the whole body. Whoever reads it from the network enforces the limit of its size.
	Body []byte
	// Stream is the body of an operation whose input has a streaming member (see Call.Streams); nil if Body is used.
	Stream io.ReadCloser

	labels []label // of the matched route
}

type label struct{ name, value string }

// NewRequest returns r as a Request, without its body.
func NewRequest(r *http.Request) *Request {
	return &Request{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Header: r.Header}
}

// IsForm reports whether the body is a form, as the Query protocol sends: Match must see it to find the operation.
func (r *Request) IsForm() bool {
	return mediaType(r.Header.Get("Content-Type")) == "application/x-www-form-urlencoded"
}

// Response is an HTTP response as codecs see it.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	// Stream writes a body of unknown length: a streaming blob or an event stream. It flushes after every piece, and is nil if
	// Body is the whole body. Its error comes too late for the caller to see other than as a broken body.
	Stream func(w io.Writer) error
	// Reader is the body where the response came over HTTP; the decoder reads or hands it on, and closes it.
	Reader io.ReadCloser
}

// WriteTo sends the response.
func (r *Response) WriteTo(w http.ResponseWriter) error {
	h := w.Header()
	for k, v := range r.Header {
		h[k] = v
	}
	if r.Stream == nil {
		if r.Status != http.StatusNoContent && r.Status != http.StatusNotModified {
			h["Content-Length"] = []string{strconv.Itoa(len(r.Body))}
		}
		w.WriteHeader(r.Status)
		_, err := w.Write(r.Body)
		if err == http.ErrBodyNotAllowed {
			err = nil
		}
		return err
	}
	w.WriteHeader(r.Status)
	f, _ := w.(http.Flusher)
	return r.Stream(flushWriter{w, f})
}

// flushWriter sends every write on its way at once.
type flushWriter struct {
	io.Writer
	f http.Flusher
}

func (w flushWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if w.f != nil {
		w.f.Flush()
	}
	return n, err
}

// Codec is one protocol.
type Codec interface {
	Protocol() smithy.Protocol
	// DecodeRequest fills in, a pointer to the operation's input. Malformed requests are SerializationException or what the protocol says.
	DecodeRequest(op *smithy.OpInfo, r *Request, in any) error
	// EncodeResponse writes out, a pointer to the operation's output.
	EncodeResponse(op *smithy.OpInfo, out any, requestID string) (*Response, error)
	// EncodeError writes an error of a service.
	EncodeError(svc *smithy.Service, err *apierr.Error, requestID string) *Response
	// EncodeRequest and DecodeResponse are the client's side.
	EncodeRequest(op *smithy.OpInfo, in any) (*Request, error)
	// DecodeResponse fills out from a successful response, or returns the *apierr.Error of a failed one.
	DecodeResponse(op *smithy.OpInfo, r *Response, out any) error
}

// CodecFor returns the codec of a protocol for a service.
func CodecFor(svc *smithy.Service, p smithy.Protocol) Codec {
	switch p {
	case smithy.JSON:
		return awsJSON{svc.JSONVersion}
	case smithy.Query:
		return awsQuery{}
	case smithy.RESTJSON:
		return restJSON{}
	case smithy.RESTXML:
		return restXML{}
	default:
		return rpcCBOR{}
	}
}

// Call is a request whose operation is known.
type Call struct {
	Service *smithy.Service // never nil after a match without error
	Op      *smithy.OpInfo
	Codec   Codec // never nil: errors are written in the protocol that the request seems to speak
	Request *Request
}

// Streams reports whether the input has a member that is read as it arrives: the caller then gives Request.Stream in place of Request.Body.
func (c *Call) Streams() bool {
	m, _ := c.Op.Input.PayloadMember()
	return m != nil && (m.Streaming || m.Shape.EventStream)
}

// Decode fills in, a pointer to the operation's input. The error is an *apierr.Error.
func (c *Call) Decode(in any) error {
	if c.Op.Compressible && strings.EqualFold(c.Request.Header.Get("Content-Encoding"), "gzip") {
		body, err := inflate(c.Request.Body)
		if err != nil {
			return serialization("The request body is not valid gzip.").Because(err)
		}
		c.Request.Body = body
	}
	return c.Codec.DecodeRequest(c.Op, c.Request, in)
}

// maxInflated bounds what a compressed body may grow to: ten times the largest body that an operation with compressed bodies takes.
const maxInflated = 10 << 20

func inflate(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, maxInflated+1))
	if err == nil && len(out) > maxInflated {
		err = errors.New("larger than the limit when inflated")
	}
	return out, err
}

// Encode writes out, a pointer to the operation's output.
func (c *Call) Encode(out any, requestID string) *Response {
	r, err := c.Codec.EncodeResponse(c.Op, out, requestID)
	if err != nil {
		return c.EncodeError(err, requestID)
	}
	return r
}

// EncodeError writes any error; one that is no *apierr.Error goes out as InternalFailure.
func (c *Call) EncodeError(err error, requestID string) *Response {
	return c.Codec.EncodeError(c.Service, apierr.From(err), requestID)
}

// serialization is AWS's error for a body that does not fit the input's shape.
func serialization(message string) *apierr.Error {
	return &apierr.Error{Code: "SerializationException", Status: http.StatusBadRequest, Message: message}
}
