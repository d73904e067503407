package protocol

import (
	"net/http"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// awsJSON is JSON 1.0 or 1.1: the operation in X-Amz-Target, everything else in the body.
type awsJSON struct{ version string }

func (c awsJSON) contentType() string { return "application/x-amz-json-" + c.version }

func (awsJSON) Protocol() smithy.Protocol { return smithy.JSON }

// DecodeRequest refuses an empty body: operations without input take {}.
func (awsJSON) DecodeRequest(op *smithy.OpInfo, r *Request, in any) error {
	if len(r.Body) == 0 {
		return serialization("")
	}
	return decodeJSON(r.Body, op.Input, structOf(in))
}

func (c awsJSON) EncodeResponse(op *smithy.OpInfo, out any, requestID string) (*Response, error) {
	h := http.Header{"Content-Type": {c.contentType()}, requestIDHeader: {requestID}}
	return encodeRPC(op, out, h, jsonFormat), nil
}

func (c awsJSON) EncodeError(svc *smithy.Service, e *apierr.Error, requestID string) *Response {
	h := errorHeader(e, c.contentType(), requestID)
	return &Response{Status: e.HTTPStatus(), Header: h, Body: appendJSONError(nil, svc, e, errorType(h, svc, e))}
}

// errorType is the error's name in the body. Services that once spoke Query say its old code in a header, and whether the name is the service's or
// that of what all services stand on.
func errorType(h http.Header, svc *smithy.Service, e *apierr.Error) string {
	if svc == nil || !svc.QueryCompatible {
		return e.Code
	}
	h["X-Amzn-Query-Error"] = []string{queryCode(svc, e) + ";" + faultName(e.Fault)}
	if sh := errorShape(svc, e.Code); sh != nil && sh.Declared() {
		return "com.amazonaws." + svc.Name + "#" + e.Code
	}
	return "com.amazon.coral.service#" + e.Code
}

func (c awsJSON) EncodeRequest(op *smithy.OpInfo, in any) (*Request, error) {
	return &Request{
		Method: http.MethodPost,
		Path:   "/",
		Header: http.Header{"Content-Type": {c.contentType()}, "X-Amz-Target": {op.Service.TargetPrefix + "." + op.Name}},
		Body:   appendJSONStruct(nil, op.Input, structOf(in)),
	}, nil
}

func (awsJSON) DecodeResponse(op *smithy.OpInfo, r *Response, out any) error {
	return decodeRPC(op, r, out, jsonFormat, decodeJSONError)
}

// encodeRPC writes the output of a protocol whose bodies hold everything. If a member is an event stream, the others go in the stream's first message.
func encodeRPC(op *smithy.OpInfo, out any, h http.Header, format bodyFormat) *Response {
	v := structOf(out)
	r := &Response{Status: http.StatusOK, Header: h}
	m, i := op.Output.StreamMember()
	if m == nil {
		r.Body = format.encode(nil, op.Output, v, "", "")
		return r
	}
	h["Content-Type"] = []string{eventStreamType}
	initial := format.encode(nil, op.Output, v, "", "")
	r.Stream = encodeEvents(m.Shape, v.Field(i).Interface().(smithy.AnyStream), initial, format)
	return r
}

func decodeRPC(op *smithy.OpInfo, r *Response, out any, format bodyFormat, decodeError func(*smithy.Service, int, string, []byte) *apierr.Error) error {
	if r.Status < http.StatusMultipleChoices {
		v := structOf(out)
		if m, i := op.Output.StreamMember(); m != nil {
			events, err := openEvents(op.Output, v, m.Shape, r.Reader, format)
			if err == nil {
				v.Field(i).Addr().Interface().(smithy.StreamSetter).SetEvents(events)
			}
			return err
		}
		if err := r.readAll(); err != nil {
			return err
		}
		return format.decode(r.Body, op.Output, v)
	}
	if err := r.readAll(); err != nil {
		return err
	}
	code, _, _ := strings.Cut(r.Header.Get("X-Amzn-Errortype"), ":")
	return decodeError(op.Service, r.Status, code, r.Body)
}
