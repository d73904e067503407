package protocol

import (
	"fmt"
	"math"
	"net/http"
	"reflect"

	"github.com/aws/smithy-go/encoding/cbor"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// rpcCBOR is Smithy RPC v2 CBOR: the operation in the path, everything else in a CBOR body.
type rpcCBOR struct{}

const cborType = "application/cbor"

// cborTime is how a dialect of CBOR counts in timestamps, from 1970.
type cborTime int

const (
	cborSeconds cborTime = iota // with a fraction
	cborMillis                  // whole
)

var cborFormat = cborSeconds.format(cborType)

func (t cborTime) format(contentType string) bodyFormat {
	return bodyFormat{
		contentType: contentType,
		decode:      t.decode,
		encode: func(b []byte, sh *smithy.Shape, v reflect.Value, _, _ string) []byte {
			return append(b, cbor.Encode(t.encodeStruct(sh, v))...)
		},
	}
}

func cborHeader(h http.Header) http.Header {
	h["Content-Type"] = []string{cborType}
	h["Smithy-Protocol"] = []string{"rpc-v2-cbor"}
	return h
}

func (rpcCBOR) Protocol() smithy.Protocol { return smithy.CBOR }

func (rpcCBOR) DecodeRequest(op *smithy.OpInfo, r *Request, in any) error {
	return cborSeconds.decode(r.Body, op.Input, structOf(in))
}

func (rpcCBOR) EncodeResponse(op *smithy.OpInfo, out any, requestID string) (*Response, error) {
	return encodeRPC(op, out, cborHeader(http.Header{requestIDHeader: {requestID}}), cborFormat), nil
}

func (rpcCBOR) EncodeError(svc *smithy.Service, e *apierr.Error, requestID string) *Response {
	h := cborHeader(errorHeader(e, "", requestID))
	return &Response{Status: e.HTTPStatus(), Header: h, Body: encodeCBORError(h, svc, e)}
}

func encodeCBORError(h http.Header, svc *smithy.Service, e *apierr.Error) []byte {
	members := map[string]any{"__type": errorType(h, svc, e)}
	for k, v := range e.Members {
		members[k] = v
	}
	if e.Message != "" {
		name := "message"
		if sh := errorShape(svc, e.Code); sh != nil {
			if i := sh.MessageMember(); i >= 0 {
				name = sh.Members[i].WireName()
			}
		}
		members[name] = e.Message
	}
	return encodeCBORMap(members)
}

func (rpcCBOR) EncodeRequest(op *smithy.OpInfo, in any) (*Request, error) {
	r := &Request{
		Method: http.MethodPost,
		Path:   "/service/" + op.Service.TargetPrefix + "/operation/" + op.Name,
		Header: cborHeader(http.Header{"Accept": {cborType}}),
		Body:   cbor.Encode(cborSeconds.encodeStruct(op.Input, structOf(in))),
	}
	return r, nil
}

func (rpcCBOR) DecodeResponse(op *smithy.OpInfo, r *Response, out any) error {
	return decodeRPC(op, r, out, cborFormat, decodeCBORError)
}

// targetCBOR is JSON 1.1 with CBOR in place of JSON: the operation in X-Amz-Target, timestamps in milliseconds. The SDK for Java speaks it to
// Kinesis. No model names it; every service that speaks JSON takes it.
type targetCBOR struct{}

const targetCBORType = "application/x-amz-cbor-1.1"

var targetCBORFormat = cborMillis.format(targetCBORType)

func (targetCBOR) Protocol() smithy.Protocol { return smithy.JSON }

func (targetCBOR) DecodeRequest(op *smithy.OpInfo, r *Request, in any) error {
	if len(r.Body) == 0 {
		return serialization("")
	}
	return cborMillis.decode(r.Body, op.Input, structOf(in))
}

func (targetCBOR) EncodeResponse(op *smithy.OpInfo, out any, requestID string) (*Response, error) {
	h := http.Header{"Content-Type": {targetCBORType}, requestIDHeader: {requestID}}
	return encodeRPC(op, out, h, targetCBORFormat), nil
}

func (targetCBOR) EncodeError(svc *smithy.Service, e *apierr.Error, requestID string) *Response {
	h := errorHeader(e, targetCBORType, requestID)
	return &Response{Status: e.HTTPStatus(), Header: h, Body: encodeCBORError(h, svc, e)}
}

func (targetCBOR) EncodeRequest(op *smithy.OpInfo, in any) (*Request, error) {
	return &Request{
		Method: http.MethodPost,
		Path:   "/",
		Header: http.Header{"Content-Type": {targetCBORType}, "X-Amz-Target": {op.Service.TargetPrefix + "." + op.Name}},
		Body:   cbor.Encode(cborMillis.encodeStruct(op.Input, structOf(in))),
	}, nil
}

func (targetCBOR) DecodeResponse(op *smithy.OpInfo, r *Response, out any) error {
	return decodeRPC(op, r, out, targetCBORFormat, decodeCBORError)
}

func (t cborTime) encodeStruct(sh *smithy.Shape, v reflect.Value) cbor.Map {
	out := cbor.Map{}
	for i := range sh.Members {
		m := &sh.Members[i]
		if m.Location != smithy.InBody {
			continue
		}
		if f := v.Field(i); present(f) {
			out[m.Name] = t.encodeValue(m, deref(f))
		}
	}
	return out
}

func (t cborTime) encodeValue(m *smithy.Member, v reflect.Value) cbor.Value {
	sh := m.Shape
	switch sh.Kind {
	case smithy.Structure:
		return t.encodeStruct(sh, v)
	case smithy.List:
		list := make(cbor.List, v.Len())
		for i := range list {
			list[i] = t.encodeValue(&sh.Elem, v.Index(i))
		}
		return list
	case smithy.Map:
		mv := make(cbor.Map, v.Len())
		for it := v.MapRange(); it.Next(); {
			mv[it.Key().String()] = t.encodeValue(&sh.Elem, it.Value())
		}
		return mv
	case smithy.String:
		return cbor.String(v.String())
	case smithy.Boolean:
		return cbor.Bool(v.Bool())
	case smithy.Integer, smithy.Long:
		if n := v.Int(); n < 0 {
			return cbor.NegInt(uint64(-n))
		}
		return cbor.Uint(v.Int())
	case smithy.Float:
		return cbor.Float32(v.Float())
	case smithy.Double:
		return cbor.Float64(v.Float())
	case smithy.Timestamp:
		at := timeIn(v)
		count := at.Unix()
		if t == cborMillis {
			count = at.UnixMilli()
		} else if at.Nanosecond() != 0 {
			return &cbor.Tag{ID: 1, Value: cbor.Float64(float64(at.UnixMilli()) / 1000)}
		}
		if count < 0 {
			return &cbor.Tag{ID: 1, Value: cbor.NegInt(uint64(-count))}
		}
		return &cbor.Tag{ID: 1, Value: cbor.Uint(count)}
	case smithy.Blob:
		return cbor.Slice(v.Bytes())
	}
	return &cbor.Nil{}
}

// encodeCBORMap writes the members of an error: strings, numbers, bools and what they nest in.
func encodeCBORMap(members map[string]any) []byte { return cbor.Encode(cborAny(members)) }

func cborAny(v any) cbor.Value {
	switch v := v.(type) {
	case string:
		return cbor.String(v)
	case bool:
		return cbor.Bool(v)
	case float64:
		return cbor.Float64(v)
	case []any:
		list := cbor.List{}
		for _, e := range v {
			list = append(list, cborAny(e))
		}
		return list
	case map[string]any:
		m := cbor.Map{}
		for k, e := range v {
			m[k] = cborAny(e)
		}
		return m
	}
	return &cbor.Nil{}
}

// decodeCBOR fills the struct v. An empty body is an empty structure.
func (t cborTime) decode(body []byte, sh *smithy.Shape, v reflect.Value) error {
	if len(body) == 0 {
		return nil
	}
	val, err := cbor.Decode(body)
	if err != nil {
		return serialization("The CBOR body is malformed.").Because(err)
	}
	return t.set(&smithy.Member{Shape: sh}, v, val)
}

func (t cborTime) set(m *smithy.Member, v reflect.Value, val cbor.Value) error {
	sh := m.Shape
	switch val := val.(type) {
	case *cbor.Nil, *cbor.Undefined:
		return nil
	case cbor.Map:
		switch sh.Kind {
		case smithy.Structure:
			s := alloc(v)
			set := 0
			for i := range sh.Members {
				fm := &sh.Members[i]
				e, ok := val[fm.Name]
				if !ok || fm.Location != smithy.InBody || i >= s.NumField() {
					continue
				}
				if _, null := e.(*cbor.Nil); null {
					continue
				}
				set++
				if err := t.set(fm, s.Field(i), e); err != nil {
					return err
				}
			}
			if sh.Union && set > 1 {
				return serialization("Unexpected field found in union")
			}
			return nil
		case smithy.Map:
			mv := reflect.MakeMapWithSize(v.Type(), len(val))
			for k, e := range val {
				if _, null := e.(*cbor.Nil); null {
					continue
				}
				elem := reflect.New(v.Type().Elem()).Elem()
				if err := t.set(&sh.Elem, elem, e); err != nil {
					return err
				}
				mv.SetMapIndex(reflect.ValueOf(k), elem)
			}
			v.Set(mv)
			return nil
		}
	case cbor.List:
		if sh.Kind == smithy.List {
			list := reflect.MakeSlice(v.Type(), 0, len(val))
			for _, e := range val {
				if _, null := e.(*cbor.Nil); null {
					continue
				}
				n := list.Len()
				list = list.Slice(0, n+1)
				if err := t.set(&sh.Elem, list.Index(n), e); err != nil {
					return err
				}
			}
			v.Set(list)
			return nil
		}
	case cbor.String:
		if sh.Kind == smithy.String {
			setString(v, string(val))
			return nil
		}
	case cbor.Slice:
		if sh.Kind == smithy.Blob && !m.Streaming {
			v.SetBytes(val)
			return nil
		}
	case cbor.Bool:
		if sh.Kind == smithy.Boolean {
			setBool(v, bool(val))
			return nil
		}
	case cbor.Uint, cbor.NegInt:
		switch sh.Kind {
		case smithy.Integer, smithy.Long:
			if n, err := cbor.AsInt64(val); err == nil && fits(n, sh.Kind) {
				setInt(v, n)
				return nil
			}
		}
		return t.setNumber(m, v, val)
	case cbor.Float32, cbor.Float64:
		return t.setNumber(m, v, val)
	case *cbor.Tag:
		if sh.Kind == smithy.Timestamp && val.ID == 1 {
			return t.setNumber(m, v, val.Value)
		}
	}
	return cborMismatch(sh)
}

// setCBORNumber fills a float, a timestamp, or an integer from a float that is whole.
func (t cborTime) setNumber(m *smithy.Member, v reflect.Value, val cbor.Value) error {
	f, err := cbor.AsFloat64(val)
	if err != nil {
		return cborMismatch(m.Shape)
	}
	switch m.Shape.Kind {
	case smithy.Float, smithy.Double:
		setFloat(v, f)
		return nil
	case smithy.Timestamp:
		if t == cborMillis {
			f /= 1000
		}
		if at, ok := epoch(f); ok {
			setTime(v, at)
			return nil
		}
	case smithy.Integer, smithy.Long:
		if f == math.Trunc(f) && math.Abs(f) < 1<<53 && fits(int64(f), m.Shape.Kind) {
			setInt(v, int64(f))
			return nil
		}
	}
	return cborMismatch(m.Shape)
}

func cborMismatch(sh *smithy.Shape) error {
	return serialization(fmt.Sprintf("A CBOR value is not of type %s.", sh.Kind))
}

func decodeCBORError(svc *smithy.Service, status int, code string, body []byte) *apierr.Error {
	members := map[string]any{}
	if val, err := cbor.Decode(body); err == nil {
		if m, ok := val.(cbor.Map); ok {
			for k, v := range m {
				switch v := v.(type) {
				case cbor.String:
					members[k] = string(v)
				case cbor.Bool:
					members[k] = bool(v)
				default:
					if f, err := cbor.AsFloat64(v); err == nil {
						members[k] = f
					}
				}
			}
		}
	}
	if s, ok := members["__type"].(string); ok && code == "" {
		code = s
	}
	delete(members, "__type")
	return receivedError(svc, status, code, members)
}
