package protocol

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// bodyFormat is what differs between REST JSON and REST XML.
type bodyFormat struct {
	contentType string
	// decode fills a struct from a whole body.
	decode func(body []byte, sh *smithy.Shape, v reflect.Value) error
	// encode writes a struct as a whole body; root and ns are its element's name and namespace where a document has those.
	encode func(b []byte, sh *smithy.Shape, v reflect.Value, root, ns string) []byte
}

// decodeRESTRequest fills the input from the path, query, headers and body.
func decodeRESTRequest(op *smithy.OpInfo, r *Request, in any, format bodyFormat) error {
	v := structOf(in)
	sh := op.Input
	if sh.HasBody() {
		if err := format.decode(r.Body, sh, v); err != nil {
			return err
		}
	}
	var query url.Values
	for i := range sh.Members {
		m := &sh.Members[i]
		if m.Location == smithy.InBody {
			continue
		}
		f := v.Field(i)
		var err error
		switch m.Location {
		case smithy.InURI:
			for _, l := range r.labels {
				if l.name == m.WireName() {
					err = setText(m, f, l.value)
				}
			}
		case smithy.InQuery:
			if query == nil {
				if r.Query == "" {
					continue
				}
				if query, err = url.ParseQuery(r.Query); err != nil {
					return serialization("The query string is malformed.").Because(err)
				}
			}
			err = setQuery(m, f, query)
		case smithy.InHeader:
			err = setHeader(m, f, r.Header[m.Header()])
		case smithy.InHeaders:
			setPrefixHeaders(m, f, r.Header)
		case smithy.InPayload:
			body := r.Stream
			if body == nil && (m.Streaming || m.Shape.EventStream) {
				body = io.NopCloser(bytes.NewReader(r.Body))
			}
			err = setPayload(m, f, r.Body, body, format)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setPayload fills the member that is the whole body. stream is the body of members that are read as they arrive.
func setPayload(m *smithy.Member, f reflect.Value, body []byte, stream io.ReadCloser, format bodyFormat) error {
	sh := m.Shape
	switch {
	case sh.EventStream:
		f.Addr().Interface().(smithy.StreamSetter).SetEvents(decodeEvents(nil, sh, stream, format))
	case m.Streaming:
		f.Set(reflect.ValueOf(stream))
	case len(body) == 0:
	case sh.Kind == smithy.Blob || sh.Kind == smithy.Document:
		f.SetBytes(body)
	case sh.Kind == smithy.String:
		setString(f, string(body))
	case sh.Kind == smithy.Structure:
		return format.decode(body, sh, alloc(f))
	default:
		return serialization("The payload can not be read.")
	}
	return nil
}

func setQuery(m *smithy.Member, f reflect.Value, query url.Values) error {
	if m.Shape.Kind == smithy.Map {
		mv := reflect.MakeMap(f.Type())
		for k, vs := range query {
			elem := reflect.New(f.Type().Elem()).Elem()
			if elem.Kind() == reflect.Slice {
				elem.Set(reflect.ValueOf(vs))
			} else {
				elem.SetString(vs[0])
			}
			mv.SetMapIndex(reflect.ValueOf(k), elem)
		}
		f.Set(mv)
		return nil
	}
	vs, ok := query[m.WireName()]
	switch {
	case !ok:
		return nil
	case m.Shape.Kind == smithy.List:
		return setTexts(m, f, vs)
	}
	if vs[0] == "" && m.Shape.Kind != smithy.String {
		return nil
	}
	return setText(m, f, vs[0])
}

func setHeader(m *smithy.Member, f reflect.Value, vs []string) error {
	if len(vs) == 0 {
		return nil
	}
	if m.Shape.Kind != smithy.List {
		if vs[0] == "" && m.Shape.Kind != smithy.String {
			return nil
		}
		return setText(m, f, vs[0])
	}
	var parts []string
	for _, v := range vs {
		parts = append(parts, splitHeader(v, m.Shape.Elem.Shape.Kind == smithy.Timestamp)...)
	}
	return setTexts(m, f, parts)
}

// splitHeader splits a list at its commas: outside of quotes, and for dates at every second one.
func splitHeader(s string, dates bool) []string {
	var parts []string
	start, quoted, commas := 0, false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			if commas++; !dates || commas%2 == 0 {
				parts = append(parts, s[start:i])
				start = i + 1
			}
		}
	}
	parts = append(parts, s[start:])
	for i, p := range parts {
		p = strings.TrimSpace(p)
		if len(p) >= 2 && p[0] == '"' && p[len(p)-1] == '"' {
			p = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(p[1 : len(p)-1])
		}
		parts[i] = p
	}
	return parts
}

func setPrefixHeaders(m *smithy.Member, f reflect.Value, h http.Header) {
	prefix := strings.ToLower(m.LocationName)
	var mv reflect.Value
	for k, vs := range h {
		k = strings.ToLower(k)
		if len(k) <= len(prefix) || !strings.HasPrefix(k, prefix) || len(vs) == 0 {
			continue
		}
		if !mv.IsValid() {
			mv = reflect.MakeMap(f.Type())
		}
		mv.SetMapIndex(reflect.ValueOf(k[len(prefix):]), reflect.ValueOf(strings.Join(vs, ",")).Convert(f.Type().Elem()))
	}
	if mv.IsValid() {
		f.Set(mv)
	}
}

func setTexts(m *smithy.Member, f reflect.Value, texts []string) error {
	list := reflect.MakeSlice(f.Type(), len(texts), len(texts))
	for i, s := range texts {
		if err := setText(&m.Shape.Elem, list.Index(i), s); err != nil {
			return err
		}
	}
	f.Set(list)
	return nil
}

// setText fills a member or element of a simple kind from a header, label, query parameter, form value or XML text.
func setText(m *smithy.Member, v reflect.Value, s string) error {
	sh := m.Shape
	if sh.Kind != smithy.String {
		s = strings.TrimSpace(s)
	}
	ok := true
	switch sh.Kind {
	case smithy.String:
		setString(v, s)
	case smithy.Boolean:
		switch {
		case strings.EqualFold(s, "true"), s == "1":
			setBool(v, true)
		case strings.EqualFold(s, "false"), s == "0":
			setBool(v, false)
		default:
			ok = false
		}
	case smithy.Integer, smithy.Long:
		var n int64
		if n, ok = parseInt(s, sh.Kind); ok {
			setInt(v, n)
		}
	case smithy.Float, smithy.Double:
		var f float64
		if f, ok = parseFloat(s); ok {
			setFloat(v, f)
		}
	case smithy.Timestamp:
		t, good := parseTime(s)
		if ok = good; ok {
			setTime(v, t)
		}
	case smithy.Blob:
		b, err := base64.StdEncoding.DecodeString(s)
		if ok = err == nil && v.Kind() == reflect.Slice; ok {
			v.SetBytes(b)
		}
	default:
		ok = false
	}
	if !ok {
		return serialization(fmt.Sprintf("'%s' can not be converted to %s", s, javaTypes[sh.Kind]))
	}
	return nil
}

// appendText writes a simple value as text.
func appendText(b []byte, m *smithy.Member, v reflect.Value, def smithy.TimestampFormat) []byte {
	switch sh := m.Shape; sh.Kind {
	case smithy.String:
		return append(b, v.String()...)
	case smithy.Boolean:
		return strconv.AppendBool(b, v.Bool())
	case smithy.Integer, smithy.Long:
		return strconv.AppendInt(b, v.Int(), 10)
	case smithy.Float, smithy.Double:
		return appendFloat(b, v.Float(), sh.Kind)
	case smithy.Timestamp:
		return appendTime(b, timeIn(v), m.TimeFormat(def))
	default:
		return base64.StdEncoding.AppendEncode(b, v.Bytes())
	}
}

func text(m *smithy.Member, v reflect.Value, def smithy.TimestampFormat) string {
	if m.Shape.Kind == smithy.String {
		return v.String()
	}
	return string(appendText(nil, m, v, def))
}

// setHeaders writes a member that travels in headers.
func setHeaders(h http.Header, m *smithy.Member, f reflect.Value) {
	switch {
	case m.Location == smithy.InHeaders:
		for it := f.MapRange(); it.Next(); {
			h[textproto.CanonicalMIMEHeaderKey(m.LocationName+it.Key().String())] = []string{cleanHeader(it.Value().String())}
		}
	case m.Shape.Kind == smithy.List:
		var parts []string
		for i := range f.Len() {
			p := text(&m.Shape.Elem, f.Index(i), smithy.HTTPDate)
			if m.Shape.Elem.Shape.Kind == smithy.String && strings.ContainsAny(p, `,"`) {
				p = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p) + `"`
			}
			parts = append(parts, p)
		}
		h[m.Header()] = []string{cleanHeader(strings.Join(parts, ", "))}
	default:
		h[m.Header()] = []string{cleanHeader(text(m, deref(f), smithy.HTTPDate))}
	}
}

// cleanHeader keeps line breaks, with which a value would become more headers, out of headers.
func cleanHeader(s string) string {
	if strings.ContainsAny(s, "\r\n\x00") {
		return strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ").Replace(s)
	}
	return s
}

// encodeRESTResponse writes the output to the status, the headers and the body.
func encodeRESTResponse(op *smithy.OpInfo, out any, format bodyFormat) (*Response, error) {
	v := structOf(out)
	sh := op.Output
	r := &Response{Status: op.Code, Header: make(http.Header, 6)}
	for i := range sh.Members {
		m := &sh.Members[i]
		f := v.Field(i)
		if m.Location == smithy.InBody || !present(f) {
			continue
		}
		switch m.Location {
		case smithy.InHeader, smithy.InHeaders:
			setHeaders(r.Header, m, f)
		case smithy.InStatusCode:
			r.Status = int(f.Elem().Int())
		}
	}
	contentType := ""
	if m, i := sh.PayloadMember(); m != nil {
		contentType = encodePayload(r, m, v.Field(i), format)
	} else if sh.HasBody() {
		contentType = format.contentType
		root := sh.XMLName
		if root == "" {
			root = op.Name + "Result"
		}
		r.Body = format.encode(nil, sh, v, root, namespace(op, sh))
	}
	if contentType != "" && r.Header["Content-Type"] == nil && r.Status != http.StatusNoContent {
		r.Header["Content-Type"] = []string{contentType}
	}
	return r, nil
}

// namespace is the namespace of a document's root.
func namespace(op *smithy.OpInfo, sh *smithy.Shape) string {
	if sh.XMLNamespace != "" && sh.XMLPrefix == "" {
		return sh.XMLNamespace
	}
	return op.Service.XMLNamespace
}

// encodePayload writes the member that is the whole body, and returns its Content-Type. Streams go to r, whole bodies too.
func encodePayload(r *Response, m *smithy.Member, f reflect.Value, format bodyFormat) string {
	sh := m.Shape
	if sh.EventStream {
		r.Stream = encodeEvents(sh, f.Interface().(smithy.AnyStream), nil, format)
		return eventStreamType
	}
	if !present(f) {
		if sh.Kind == smithy.Structure {
			return format.contentType
		}
		return ""
	}
	switch {
	case m.Streaming:
		r.Stream = copyStream(f.Interface().(io.ReadCloser))
		return "application/octet-stream"
	case sh.Kind == smithy.Blob:
		r.Body = f.Bytes()
		if format.contentType == "application/json" { // the payloads of Invoke are JSON and say so
			return format.contentType
		}
		return "application/octet-stream"
	case sh.Kind == smithy.Document:
		r.Body = f.Bytes()
	case sh.Kind == smithy.String:
		r.Body = []byte(f.Elem().String())
		return "text/plain"
	default:
		r.Body = format.encode(nil, sh, deref(f), rootName(m), m.XMLNamespace)
	}
	return format.contentType
}

// rootName is the element of a payload member.
func rootName(m *smithy.Member) string {
	switch {
	case m.LocationName != "":
		return m.LocationName
	case m.Shape.XMLName != "":
		return m.Shape.XMLName
	}
	return m.Shape.Name
}

// encodeRESTRequest is decodeRESTRequest's inverse, for clients.
func encodeRESTRequest(op *smithy.OpInfo, in any, format bodyFormat) (*Request, error) {
	v := structOf(in)
	sh := op.Input
	r := &Request{Method: op.Method, Header: make(http.Header, 6)}
	query := url.Values{}
	path, literals, _ := strings.Cut(op.URI, "?")
	for i := range sh.Members {
		m := &sh.Members[i]
		f := v.Field(i)
		if m.Location == smithy.InURI {
			var val string
			if present(f) {
				val = text(m, deref(f), smithy.DateTime)
			}
			if val == "" {
				return nil, fmt.Errorf("%s: %s must not be empty", op, m.Name)
			}
			path = strings.Replace(path, "{"+m.WireName()+"}", escapeLabel(val, false), 1)
			path = strings.Replace(path, "{"+m.WireName()+"+}", escapeLabel(val, true), 1)
			continue
		}
		if !present(f) {
			continue
		}
		switch m.Location {
		case smithy.InQuery:
			addQuery(query, m, f)
		case smithy.InHeader, smithy.InHeaders:
			setHeaders(r.Header, m, f)
		}
	}
	contentType := ""
	if m, i := sh.PayloadMember(); m != nil {
		switch f := v.Field(i); {
		case m.Shape.EventStream:
			return nil, fmt.Errorf("%s: clients do not send event streams", op)
		case m.Streaming:
			r.Stream, _ = f.Interface().(io.ReadCloser)
			contentType = "application/octet-stream"
		default:
			var res Response
			contentType = encodePayload(&res, m, f, format)
			r.Body = res.Body
		}
	} else if sh.HasBody() {
		contentType = format.contentType
		root := op.InputName
		if root == "" {
			root = sh.Name
		}
		r.Body = format.encode(nil, sh, v, root, op.InputNamespace)
	}
	if contentType != "" && r.Header["Content-Type"] == nil {
		r.Header["Content-Type"] = []string{contentType}
	}
	r.Path = path
	r.Query = literals
	if q := query.Encode(); q != "" {
		if r.Query != "" {
			r.Query += "&"
		}
		r.Query += q
	}
	return r, nil
}

func addQuery(query url.Values, m *smithy.Member, f reflect.Value) {
	switch m.Shape.Kind {
	case smithy.List:
		for i := range f.Len() {
			query.Add(m.WireName(), text(&m.Shape.Elem, f.Index(i), smithy.DateTime))
		}
	case smithy.Map:
		for it := f.MapRange(); it.Next(); {
			if it.Value().Kind() != reflect.Slice {
				query.Add(it.Key().String(), it.Value().String())
				continue
			}
			for i := range it.Value().Len() {
				query.Add(it.Key().String(), it.Value().Index(i).String())
			}
		}
	default:
		query.Set(m.WireName(), text(m, deref(f), smithy.DateTime))
	}
}

// escapeLabel percent-encodes all but the unreserved characters of RFC 3986, and slashes if the label is greedy.
func escapeLabel(s string, greedy bool) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+16)
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || slices.Contains([]byte("-._~"), c) || greedy && c == '/' {
			b = append(b, c)
			continue
		}
		b = append(b, '%', hex[c>>4], hex[c&15])
	}
	return string(b)
}

// decodeRESTResponse fills the output of a successful response.
func decodeRESTResponse(op *smithy.OpInfo, r *Response, out any, format bodyFormat) error {
	v := structOf(out)
	sh := op.Output
	for i := range sh.Members {
		m := &sh.Members[i]
		f := v.Field(i)
		var err error
		switch m.Location {
		case smithy.InHeader:
			err = setHeader(m, f, r.Header[m.Header()])
		case smithy.InHeaders:
			setPrefixHeaders(m, f, r.Header)
		case smithy.InStatusCode:
			setInt(f, int64(r.Status))
		}
		if err != nil {
			return err
		}
	}
	m, i := sh.PayloadMember()
	if m != nil && (m.Streaming || m.Shape.EventStream) {
		return setPayload(m, v.Field(i), nil, r.Reader, format)
	}
	if err := r.readAll(); err != nil {
		return err
	}
	switch {
	case m != nil:
		return setPayload(m, v.Field(i), r.Body, nil, format)
	case sh.HasBody() && len(r.Body) > 0:
		return format.decode(r.Body, sh, v)
	}
	return nil
}

// readAll moves what Reader holds to Body.
func (r *Response) readAll() (err error) {
	if r.Reader == nil {
		return nil
	}
	r.Body, err = io.ReadAll(r.Reader)
	r.Reader.Close()
	r.Reader = nil
	return err
}
