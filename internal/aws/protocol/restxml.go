package protocol

import (
	"fmt"
	"net/http"
	"reflect"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// restXML is the REST XML protocol, which is S3's.
type restXML struct{}

const xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

var xmlFormat = bodyFormat{
	contentType: "application/xml",
	decode: func(body []byte, sh *smithy.Shape, v reflect.Value) error {
		return decodeXML(body, sh, v, wireNames)
	},
	encode: func(b []byte, sh *smithy.Shape, v reflect.Value, root, ns string) []byte {
		return wireNames.appendElement(append(b, xmlHeader...), root, ns, &smithy.Member{Shape: sh}, v)
	},
}

// formatOf is xmlFormat, except for the operation whose output is not a structure but the one member of it.
func formatOf(op *smithy.OpInfo) bodyFormat {
	if !op.Unwrapped {
		return xmlFormat
	}
	f := xmlFormat
	f.encode = func(b []byte, sh *smithy.Shape, v reflect.Value, _, ns string) []byte {
		m := &sh.Members[0]
		b = append(b, xmlHeader...)
		if !present(v.Field(0)) {
			b = append(append(b, '<'), m.WireName()...)
			return append(appendNamespace(b, "", ns), "/>"...)
		}
		return wireNames.appendElement(b, m.WireName(), ns, m, deref(v.Field(0)))
	}
	f.decode = func(body []byte, sh *smithy.Shape, v reflect.Value) error {
		d := newXMLDecoder(body, wireNames)
		start, err := d.root()
		if err != nil {
			return err
		}
		return d.value(start, &sh.Members[0], v.Field(0))
	}
	return f
}

func (restXML) Protocol() smithy.Protocol { return smithy.RESTXML }

func (restXML) DecodeRequest(op *smithy.OpInfo, r *Request, in any) error {
	return decodeRESTRequest(op, r, in, xmlFormat)
}

func (restXML) EncodeResponse(op *smithy.OpInfo, out any, requestID string) (*Response, error) {
	r, err := encodeRESTResponse(op, out, formatOf(op))
	if err == nil {
		r.Header["X-Amz-Request-Id"] = []string{requestID}
	}
	return r, err
}

// EncodeError writes <Error> without a wrapper. Members of the error follow its code and message.
func (restXML) EncodeError(svc *smithy.Service, e *apierr.Error, requestID string) *Response {
	h := errorHeader(e, "application/xml", requestID)
	h["X-Amz-Request-Id"] = h[requestIDHeader]
	delete(h, requestIDHeader)
	e = headerMembers(svc, e, h)
	b := append([]byte(xmlHeader), "<Error><Code>"...)
	b = appendXMLText(b, queryCode(svc, e))
	b = append(b, "</Code><Message>"...)
	b = appendXMLText(b, e.Message)
	b = append(b, "</Message>"...)
	b = appendErrorMembers(b, e)
	b = append(b, "<RequestId>"...)
	b = appendXMLText(b, requestID)
	b = append(b, "</RequestId></Error>"...)
	return &Response{Status: e.HTTPStatus(), Header: h, Body: b}
}

func appendErrorMembers(b []byte, e *apierr.Error) []byte {
	for _, k := range sortedKeys(reflect.ValueOf(e.Members)) {
		b = append(append(append(b, '<'), k...), '>')
		b = appendXMLText(b, fmt.Sprint(e.Members[k]))
		b = append(append(append(b, "</"...), k...), '>')
	}
	return b
}

func (restXML) EncodeRequest(op *smithy.OpInfo, in any) (*Request, error) {
	return encodeRESTRequest(op, in, xmlFormat)
}

func (restXML) DecodeResponse(op *smithy.OpInfo, r *Response, out any) error {
	if r.Status < http.StatusMultipleChoices {
		return decodeRESTResponse(op, r, out, formatOf(op))
	}
	if err := r.readAll(); err != nil {
		return err
	}
	return addHeaderMembers(op.Service, decodeXMLError(op.Service, r.Status, "", r.Body), r.Header)
}
