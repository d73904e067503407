package protocol

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// JSON bodies, shared by the JSON and REST JSON protocols and by the payloads of their event streams.

// appendJSONStruct writes a structure. The members that belong elsewhere in an HTTP message are left out.
func appendJSONStruct(b []byte, sh *smithy.Shape, v reflect.Value) []byte {
	b = append(b, '{')
	first := true
	for i := range sh.Members {
		m := &sh.Members[i]
		if m.Location != smithy.InBody || m.Shape.EventStream {
			continue
		}
		f := v.Field(i)
		if !present(f) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendJSONString(b, m.WireName())
		b = append(b, ':')
		b = appendJSON(b, m, deref(f))
	}
	return append(b, '}')
}

func appendJSON(b []byte, m *smithy.Member, v reflect.Value) []byte {
	sh := m.Shape
	switch sh.Kind {
	case smithy.Structure:
		return appendJSONStruct(b, sh, v)
	case smithy.List:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, &sh.Elem, v.Index(i))
		}
		return append(b, ']')
	case smithy.Map:
		b = append(b, '{')
		for i, k := range sortedKeys(v) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSONString(b, k)
			b = append(b, ':')
			b = appendJSON(b, &sh.Elem, v.MapIndex(reflect.ValueOf(k).Convert(v.Type().Key())))
		}
		return append(b, '}')
	case smithy.String:
		return appendJSONString(b, v.String())
	case smithy.Blob:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"')
	case smithy.Boolean:
		return strconv.AppendBool(b, v.Bool())
	case smithy.Integer, smithy.Long:
		return strconv.AppendInt(b, v.Int(), 10)
	case smithy.Float, smithy.Double:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return append(appendFloat(append(b, '"'), f, sh.Kind), '"')
		}
		return appendFloat(b, f, sh.Kind)
	case smithy.Timestamp:
		f := m.TimeFormat(smithy.EpochSeconds)
		if f == smithy.EpochSeconds {
			return appendTime(b, timeIn(v), f)
		}
		return append(appendTime(append(b, '"'), timeIn(v), f), '"')
	default:
		if v.Len() == 0 {
			return append(b, "null"...)
		}
		return append(b, v.Bytes()...)
	}
}

// appendJSONString quotes s; bytes that are not UTF-8 become U+FFFD.
func appendJSONString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // the error only reports invalid UTF-8
	return b
}

var jsonOptions = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// jsonDecoder reads one JSON value. Decoders are reused: most bodies are small and the buffers are not.
type jsonDecoder struct {
	*jsontext.Decoder
	r bytes.Buffer
}

var jsonDecoders = sync.Pool{New: func() any {
	d := &jsonDecoder{}
	d.Decoder = jsontext.NewDecoder(&d.r, jsonOptions...)
	return d
}}

// decodeJSON fills the struct v from a body that is one JSON object. An empty body is an empty object.
func decodeJSON(body []byte, sh *smithy.Shape, v reflect.Value) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := jsonDecoders.Get().(*jsonDecoder)
	defer func() {
		d.r = bytes.Buffer{}
		d.Reset(&d.r, jsonOptions...)
		jsonDecoders.Put(d)
	}()
	d.r = *bytes.NewBuffer(body)
	d.Reset(&d.r, jsonOptions...)
	if k := d.PeekKind(); k != '{' && k != '[' {
		return serialization("")
	}
	if err := d.structure(sh, v); err != nil {
		return err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return serialization("")
	}
	return nil
}

// structure fills a struct. Unknown names are skipped, null is absence.
func (d *jsonDecoder) structure(sh *smithy.Shape, v reflect.Value) error {
	if err := d.open('{', "Expected null"); err != nil {
		return err
	}
	set := 0
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return syntax(err)
		}
		i := sh.MemberByWire(name.String())
		if i < 0 || sh.Members[i].Location != smithy.InBody || i >= v.NumField() || d.PeekKind() == 'n' {
			if err := d.SkipValue(); err != nil {
				return syntax(err)
			}
			continue
		}
		set++
		if err := d.value(&sh.Members[i], v.Field(i)); err != nil {
			return err
		}
	}
	if sh.Union && set > 1 {
		return serialization("Unexpected field found in union")
	}
	_, err := d.ReadToken()
	return syntax(err)
}

// open reads the start of an object or list, or says in AWS's words what is wrong about what is there. scalar is the message for scalars.
func (d *jsonDecoder) open(want jsontext.Kind, scalar string) error {
	switch k := d.PeekKind(); k {
	case want:
		_, err := d.ReadToken()
		return syntax(err)
	case 0:
		_, err := d.ReadToken()
		return syntax(err)
	case '[':
		return serialization("Start of list found where not expected")
	case '{':
		return serialization("Start of structure or map found where not expected.")
	default:
		return serialization(scalar)
	}
}

// value fills a member, element or map value.
func (d *jsonDecoder) value(m *smithy.Member, v reflect.Value) error {
	sh := m.Shape
	switch sh.Kind {
	case smithy.Structure:
		return d.structure(sh, alloc(v))
	case smithy.List:
		if err := d.open('[', "Expected list or null"); err != nil {
			return err
		}
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		for d.PeekKind() != ']' {
			if d.PeekKind() == 'n' { // AWS takes null elements for absent ones
				if err := d.SkipValue(); err != nil {
					return syntax(err)
				}
				continue
			}
			if err := d.value(&sh.Elem, grow(v)); err != nil {
				return err
			}
		}
		_, err := d.ReadToken()
		return syntax(err)
	case smithy.Map:
		if err := d.open('{', "Expected map or null"); err != nil {
			return err
		}
		mv := reflect.MakeMap(v.Type())
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return syntax(err)
			}
			key := reflect.ValueOf(name.String())
			if d.PeekKind() == 'n' {
				if err := d.SkipValue(); err != nil {
					return syntax(err)
				}
				continue
			}
			elem := reflect.New(v.Type().Elem()).Elem()
			if err := d.value(&sh.Elem, elem); err != nil {
				return err
			}
			mv.SetMapIndex(key, elem)
		}
		v.Set(mv)
		_, err := d.ReadToken()
		return syntax(err)
	case smithy.Document:
		raw, err := d.ReadValue()
		if err != nil {
			return syntax(err)
		}
		v.SetBytes(bytes.Clone(raw))
		return nil
	}
	return d.simple(m, v)
}

func (d *jsonDecoder) simple(m *smithy.Member, v reflect.Value) error {
	sh := m.Shape
	switch d.PeekKind() {
	case '[', '{':
		return d.open(0, "")
	}
	tok, err := d.ReadToken()
	if err != nil {
		return syntax(err)
	}
	kind := tok.Kind()
	switch sh.Kind {
	case smithy.String:
		if kind == '"' {
			setString(v, tok.String())
			return nil
		}
	case smithy.Boolean:
		switch kind {
		case 't', 'f':
			setBool(v, kind == 't')
			return nil
		}
	case smithy.Integer, smithy.Long:
		if kind == '0' {
			n, ok := parseInt(tok.String(), sh.Kind)
			if !ok { // AWS cuts fractions off
				if f, err := tok.Float(); err == nil && math.Abs(f) < 1<<63 {
					n, ok = int64(f), fits(int64(f), sh.Kind)
				}
			}
			if !ok {
				return serialization("")
			}
			setInt(v, n)
			return nil
		}
	case smithy.Float, smithy.Double:
		if kind == '0' {
			f, err := tok.Float()
			if err != nil {
				return serialization("")
			}
			setFloat(v, f)
			return nil
		}
		if kind == '"' {
			if f, ok := parseFloat(tok.String()); ok {
				setFloat(v, f)
				return nil
			}
		}
	case smithy.Timestamp:
		switch kind {
		case '0':
			if f, err := tok.Float(); err == nil {
				if t, ok := epoch(f); ok {
					setTime(v, t)
					return nil
				}
			}
		case '"':
			if t, ok := parseTime(tok.String()); ok {
				setTime(v, t)
				return nil
			}
		}
	case smithy.Blob:
		if kind == '"' {
			b, err := base64.StdEncoding.DecodeString(tok.String())
			if err != nil {
				return serialization("Invalid Base64 in a blob: " + err.Error())
			}
			if m.Streaming { // never in a body of its own
				return serialization("")
			}
			v.SetBytes(b)
			return nil
		}
	}
	return serialization(fmt.Sprintf("%s can not be converted to %s", jsonTokens[kind], javaTypes[sh.Kind]))
}

// The names that AWS's JSON parser gives to tokens and types.
var (
	jsonTokens = map[jsontext.Kind]string{'"': "STRING_VALUE", '0': "NUMBER_VALUE", 't': "TRUE_VALUE", 'f': "FALSE_VALUE", 'n': "NULL_VALUE"}
	javaTypes  = map[smithy.Kind]string{smithy.String: "a String", smithy.Boolean: "a Boolean", smithy.Integer: "an Integer", smithy.Long: "a Long",
		smithy.Float: "a Float", smithy.Double: "a Double", smithy.Timestamp: "a Timestamp", smithy.Blob: "a Blob"}
)

// syntax is the error for a body that is no JSON: AWS says no more than its code.
func syntax(err error) error {
	if err == nil {
		return nil
	}
	return serialization("").Because(err)
}

// appendJSONError writes an error's members: its type if typed, its message under the name that its shape gives it, and the others.
func appendJSONError(b []byte, svc *smithy.Service, e *apierr.Error, typ string) []byte {
	message := "message"
	if e.Code == "SerializationException" {
		message = "Message"
	}
	if sh := errorShape(svc, e.Code); sh != nil {
		if i := sh.MessageMember(); i >= 0 {
			message = sh.Members[i].WireName()
		}
	}
	b = append(b, '{')
	comma := func() {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
	}
	if typ != "" {
		b = append(b, `"__type":`...)
		b = appendJSONString(b, typ)
	}
	for _, k := range sortedKeys(reflect.ValueOf(e.Members)) {
		comma()
		b = appendJSONString(b, k)
		b = append(b, ':')
		v, err := json.Marshal(e.Members[k])
		if err != nil {
			v = []byte("null")
		}
		b = append(b, v...)
	}
	if e.Message != "" {
		comma()
		b = appendJSONString(b, message)
		b = append(b, ':')
		b = appendJSONString(b, e.Message)
	}
	return append(b, '}')
}

// decodeJSONError reads an error's body. code, from a header, wins over the body's.
func decodeJSONError(svc *smithy.Service, status int, code string, body []byte) *apierr.Error {
	var members map[string]any
	if json.Unmarshal(body, &members) != nil {
		members = nil
	}
	for _, k := range [...]string{"__type", "code"} {
		if s, ok := members[k].(string); ok {
			if code == "" {
				code = s
			}
			delete(members, k)
		}
	}
	return receivedError(svc, status, code, members)
}
