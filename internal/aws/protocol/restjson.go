package protocol

import (
	"net/http"
	"reflect"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// restJSON is the REST JSON protocol: Lambda, API Gateway, X-Ray and others.
type restJSON struct{}

var jsonFormat = bodyFormat{
	contentType: "application/json",
	decode:      decodeJSON,
	encode: func(b []byte, sh *smithy.Shape, v reflect.Value, _, _ string) []byte {
		return appendJSONStruct(b, sh, v)
	},
}

func (restJSON) Protocol() smithy.Protocol { return smithy.RESTJSON }

func (restJSON) DecodeRequest(op *smithy.OpInfo, r *Request, in any) error {
	return decodeRESTRequest(op, r, in, jsonFormat)
}

func (restJSON) EncodeResponse(op *smithy.OpInfo, out any, requestID string) (*Response, error) {
	r, err := encodeRESTResponse(op, out, jsonFormat)
	if err == nil {
		r.Header[requestIDHeader] = []string{requestID}
	}
	return r, err
}

// EncodeError says the error's name in a header and not in the body, as Lambda does.
func (restJSON) EncodeError(svc *smithy.Service, e *apierr.Error, requestID string) *Response {
	h := errorHeader(e, "application/json", requestID)
	h["X-Amzn-Errortype"] = []string{e.Code}
	return &Response{Status: e.HTTPStatus(), Header: h, Body: appendJSONError(nil, svc, headerMembers(svc, e, h), "")}
}

func (restJSON) EncodeRequest(op *smithy.OpInfo, in any) (*Request, error) {
	return encodeRESTRequest(op, in, jsonFormat)
}

func (restJSON) DecodeResponse(op *smithy.OpInfo, r *Response, out any) error {
	if r.Status < http.StatusMultipleChoices {
		return decodeRESTResponse(op, r, out, jsonFormat)
	}
	if err := r.readAll(); err != nil {
		return err
	}
	return addHeaderMembers(op.Service, decodeJSONError(op.Service, r.Status, r.Header.Get("X-Amzn-Errortype"), r.Body), r.Header)
}
