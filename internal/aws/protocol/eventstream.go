package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

const eventStreamType = "application/vnd.amazon.eventstream"

// encodeEvents returns what writes a stream. Protocols that put everything in the body send the rest of the output first, as initial.
func encodeEvents(sh *smithy.Shape, events smithy.AnyStream, initial []byte, format bodyFormat) func(io.Writer) error {
	return func(w io.Writer) error {
		// Each message goes out in one write, so that it is flushed whole.
		var buf bytes.Buffer
		enc := eventstream.NewEncoder()
		send := func(m eventstream.Message) error {
			buf.Reset()
			if err := enc.Encode(&buf, m); err != nil {
				return err
			}
			_, err := w.Write(buf.Bytes())
			return err
		}
		if initial != nil {
			m := eventstream.Message{Payload: initial}
			m.Headers.Set(":message-type", eventstream.StringValue("event"))
			m.Headers.Set(":event-type", eventstream.StringValue("initial-response"))
			m.Headers.Set(":content-type", eventstream.StringValue(format.contentType))
			if err := send(m); err != nil {
				return err
			}
		}
		if events.IsNil() {
			return nil
		}
		for e, err := range events.Events() {
			var m eventstream.Message
			if err != nil {
				m = encodeException(sh, apierr.From(err), format)
			} else if m, err = encodeEvent(sh, reflect.ValueOf(e).Elem(), format); err != nil {
				return err
			}
			if err := send(m); err != nil {
				return err
			}
		}
		return nil
	}
}

// encodeEvent writes the one event that the union v holds.
func encodeEvent(union *smithy.Shape, v reflect.Value, format bodyFormat) (eventstream.Message, error) {
	for i := range v.NumField() {
		f := v.Field(i)
		if !present(f) {
			continue
		}
		member := &union.Members[i]
		sh := member.Shape
		var m eventstream.Message
		m.Headers.Set(":message-type", eventstream.StringValue("event"))
		m.Headers.Set(":event-type", eventstream.StringValue(member.WireName()))
		contentType := ""
		body := sh.HasBody()
		f = deref(f)
		for j := range sh.Members {
			em := &sh.Members[j]
			ef := f.Field(j)
			switch em.Location {
			case smithy.InEventHeader:
				if present(ef) {
					m.Headers.Set(em.WireName(), eventHeader(em, deref(ef)))
				}
			case smithy.InEventBody:
				switch em.Shape.Kind {
				case smithy.Blob:
					m.Payload, contentType = ef.Bytes(), "application/octet-stream"
				case smithy.String:
					if present(ef) {
						m.Payload, contentType = []byte(ef.Elem().String()), "text/plain"
					}
				default:
					if present(ef) {
						m.Payload, contentType = format.encode(nil, em.Shape, deref(ef), rootName(em), ""), format.contentType
					}
				}
			}
		}
		if body {
			m.Payload, contentType = format.encode(nil, sh, f, sh.Name, ""), format.contentType
		}
		if contentType != "" {
			m.Headers.Set(":content-type", eventstream.StringValue(contentType))
		}
		return m, nil
	}
	return eventstream.Message{}, fmt.Errorf("an event of %s has no member set", union.Name)
}

func eventHeader(m *smithy.Member, v reflect.Value) eventstream.Value {
	switch m.Shape.Kind {
	case smithy.Boolean:
		return eventstream.BoolValue(v.Bool())
	case smithy.Integer:
		return eventstream.Int32Value(int32(v.Int()))
	case smithy.Long:
		return eventstream.Int64Value(v.Int())
	case smithy.Timestamp:
		return eventstream.TimestampValue(timeIn(v))
	case smithy.Blob:
		return eventstream.BytesValue(v.Bytes())
	}
	return eventstream.StringValue(text(m, v, smithy.DateTime))
}

// encodeException ends a stream with an exception of its model, or with an error message for any other.
func encodeException(union *smithy.Shape, e *apierr.Error, format bodyFormat) (m eventstream.Message) {
	for i := range union.Members {
		member := &union.Members[i]
		if member.Shape.Error == nil || member.Shape.Name != e.Code {
			continue
		}
		m.Headers.Set(":message-type", eventstream.StringValue("exception"))
		m.Headers.Set(":exception-type", eventstream.StringValue(member.WireName()))
		m.Headers.Set(":content-type", eventstream.StringValue(format.contentType))
		m.Payload = encodeErrorBody(member.Shape, e, format)
		return m
	}
	m.Headers.Set(":message-type", eventstream.StringValue("error"))
	m.Headers.Set(":error-code", eventstream.StringValue(e.Code))
	m.Headers.Set(":error-message", eventstream.StringValue(e.Message))
	return m
}

// encodeErrorBody writes an error's message under its name in the model.
func encodeErrorBody(sh *smithy.Shape, e *apierr.Error, format bodyFormat) []byte {
	name := "message"
	if i := sh.MessageMember(); i >= 0 {
		name = sh.Members[i].WireName()
	}
	switch format.contentType {
	case cborType, targetCBORType:
		return encodeCBORMap(map[string]any{name: e.Message})
	case "application/xml":
		b := append([]byte("<Error><"), name...)
		b = appendXMLText(append(b, '>'), e.Message)
		return append(append(append(b, "</"...), name...), "></Error>"...)
	}
	b := appendJSONString([]byte("{"), name)
	return append(appendJSONString(append(b, ':'), e.Message), '}')
}

// openEvents reads the first message of a stream of a protocol that puts everything in the body: it holds the rest of the output.
func openEvents(out *smithy.Shape, v reflect.Value, union *smithy.Shape, r io.ReadCloser, format bodyFormat) (iter.Seq2[any, error], error) {
	first, err := eventstream.NewDecoder().Decode(r, nil)
	if errors.Is(err, io.EOF) {
		return decodeEvents(nil, union, r, format), nil
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("reading an event stream: %w", err)
	}
	if eventHeaderText(&first, ":event-type") != "initial-response" {
		return decodeEvents(&first, union, r, format), nil
	}
	if err := format.decode(first.Payload, out, v); err != nil {
		r.Close()
		return nil, err
	}
	return decodeEvents(nil, union, r, format), nil
}

// decodeEvents iterates over the events that r holds, after first if that is not nil. It closes r at the end.
func decodeEvents(first *eventstream.Message, union *smithy.Shape, r io.ReadCloser, format bodyFormat) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		defer r.Close()
		dec := eventstream.NewDecoder()
		for {
			var m eventstream.Message
			if first != nil {
				m, first = *first, nil
			} else {
				var err error
				m, err = dec.Decode(r, nil)
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					yield(nil, serialization("The event stream is malformed.").Because(err))
					return
				}
			}
			// Clients sign input streams by wrapping each event in a signed message, and end them with an empty one.
			if m.Headers.Get(":chunk-signature") != nil {
				if len(m.Payload) == 0 {
					return
				}
				inner, err := dec.Decode(bytes.NewReader(m.Payload), nil)
				if err != nil {
					yield(nil, serialization("The event stream is malformed.").Because(err))
					return
				}
				m = inner
			}
			e, err := decodeEvent(union, &m, format)
			if e == nil && err == nil {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// decodeEvent returns a pointer to the union with one member set; nil for an event that the model does not know.
func decodeEvent(union *smithy.Shape, m *eventstream.Message, format bodyFormat) (any, error) {
	switch eventHeaderText(m, ":message-type") {
	case "error":
		e := apierr.New(eventHeaderText(m, ":error-code"), 500, "")
		e.Message = eventHeaderText(m, ":error-message")
		return nil, e
	case "exception":
		code := eventHeaderText(m, ":exception-type")
		status := 400
		if i := union.MemberByWire(code); i >= 0 && union.Members[i].Shape.Error != nil {
			code, status = union.Members[i].Shape.Name, union.Members[i].Shape.Error.Status
		}
		switch format.contentType {
		case cborType, targetCBORType:
			return nil, decodeCBORError(nil, status, code, m.Payload)
		case "application/xml":
			return nil, decodeXMLError(nil, status, code, m.Payload)
		}
		return nil, decodeJSONError(nil, status, code, m.Payload)
	}
	i := union.MemberByWire(eventHeaderText(m, ":event-type"))
	if i < 0 || union.Members[i].Shape.Error != nil {
		return nil, nil
	}
	event := reflect.New(union.Type())
	sh := union.Members[i].Shape
	v := alloc(event.Elem().Field(i))
	if sh.HasBody() {
		if err := format.decode(m.Payload, sh, v); err != nil {
			return nil, err
		}
	}
	for j := range sh.Members {
		em := &sh.Members[j]
		f := v.Field(j)
		var err error
		switch em.Location {
		case smithy.InEventHeader:
			if h := m.Headers.Get(em.WireName()); h != nil {
				err = setEventHeader(em, f, h)
			}
		case smithy.InEventBody:
			err = setPayload(em, f, m.Payload, nil, format)
		}
		if err != nil {
			return nil, err
		}
	}
	return event.Interface(), nil
}

func setEventHeader(m *smithy.Member, f reflect.Value, h eventstream.Value) error {
	switch x := h.Get().(type) {
	case bool:
		if m.Shape.Kind == smithy.Boolean {
			setBool(f, x)
			return nil
		}
	case time.Time:
		if m.Shape.Kind == smithy.Timestamp {
			setTime(f, x.UTC())
			return nil
		}
	case []byte:
		if m.Shape.Kind == smithy.Blob {
			f.SetBytes(x)
			return nil
		}
	case string:
		return setText(m, f, x)
	case int8, int16, int32, int64:
		if n := reflect.ValueOf(x).Int(); (m.Shape.Kind == smithy.Integer || m.Shape.Kind == smithy.Long) && fits(n, m.Shape.Kind) {
			setInt(f, n)
			return nil
		}
	}
	return serialization("The header " + m.WireName() + " of an event has the wrong type.")
}

// eventHeaderText is a header of type string, or "".
func eventHeaderText(m *eventstream.Message, name string) string {
	if h := m.Headers.Get(name); h != nil {
		if s, ok := h.Get().(string); ok {
			return s
		}
	}
	return ""
}
