package protocol

import (
	"bytes"
	"encoding/xml"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// XML bodies, shared by REST XML and by the responses of Query.

// xmlNames tells which of a member's names the protocol uses.
type xmlNames struct {
	of     func(*smithy.Member) string
	member func(*smithy.Shape, string) int
}

var (
	wireNames = xmlNames{(*smithy.Member).WireName, (*smithy.Shape).MemberByWire}
	formNames = xmlNames{(*smithy.Member).FormName, (*smithy.Shape).MemberByForm}
)

// elementName is the name of a list's elements or of a map's keys or values.
func elementName(m *smithy.Member, def string) string {
	if m.LocationName != "" {
		return m.LocationName
	}
	return def
}

// flatName is the element that a flattened list repeats: its elements' own name if they have one.
func (x xmlNames) flatName(m *smithy.Member) string {
	if m.Shape.Kind == smithy.List && m.Shape.Elem.LocationName != "" {
		return m.Shape.Elem.LocationName
	}
	return x.of(m)
}

func flattened(m *smithy.Member) bool { return m.Flattened || m.Shape.Flattened }

// appendElement writes <name>…</name> for a structure or simple value, with namespace and attributes.
func (x xmlNames) appendElement(b []byte, name, ns string, m *smithy.Member, v reflect.Value) []byte {
	b = append(b, '<')
	b = append(b, name...)
	b = appendNamespace(b, "", ns)
	sh := m.Shape
	if sh.Kind == smithy.Structure {
		b = x.appendAttributes(b, sh, v)
	}
	b = append(b, '>')
	switch sh.Kind {
	case smithy.Structure:
		b = x.appendMembers(b, sh, v)
	case smithy.List:
		for i := range v.Len() {
			b = x.appendElement(b, elementName(&sh.Elem, "member"), sh.Elem.XMLNamespace, &sh.Elem, v.Index(i))
		}
	case smithy.Map:
		for _, k := range sortedKeys(v) {
			b = append(b, "<entry>"...)
			b = x.appendEntry(b, sh, v, k)
			b = append(b, "</entry>"...)
		}
	case smithy.String:
		b = appendXMLText(b, v.String())
	default:
		b = appendText(b, m, v, smithy.DateTime)
	}
	b = append(b, "</"...)
	b = append(b, name...)
	return append(b, '>')
}

func appendNamespace(b []byte, prefix, ns string) []byte {
	if ns == "" {
		return b
	}
	b = append(b, " xmlns"...)
	if prefix != "" {
		b = append(append(b, ':'), prefix...)
	}
	b = append(b, `="`...)
	return append(appendXMLText(b, ns), '"')
}

func (x xmlNames) appendAttributes(b []byte, sh *smithy.Shape, v reflect.Value) []byte {
	if sh.XMLPrefix != "" {
		b = appendNamespace(b, sh.XMLPrefix, sh.XMLNamespace)
	}
	for i := range sh.Members {
		m := &sh.Members[i]
		if f := v.Field(i); m.XMLAttribute && present(f) {
			b = append(append(append(b, ' '), x.of(m)...), `="`...)
			b = append(appendXMLText(b, text(m, deref(f), smithy.DateTime)), '"')
		}
	}
	return b
}

// appendMembers writes the members of a structure that are elements.
func (x xmlNames) appendMembers(b []byte, sh *smithy.Shape, v reflect.Value) []byte {
	for i := range sh.Members {
		m := &sh.Members[i]
		f := v.Field(i)
		if m.Location != smithy.InBody || m.XMLAttribute || !present(f) {
			continue
		}
		if !flattened(m) {
			b = x.appendElement(b, x.of(m), m.XMLNamespace, m, deref(f))
			continue
		}
		name := x.flatName(m)
		if m.Shape.Kind == smithy.Map {
			for _, k := range sortedKeys(f) {
				b = append(append(append(b, '<'), name...), '>')
				b = x.appendEntry(b, m.Shape, f, k)
				b = append(append(append(b, "</"...), name...), '>')
			}
			continue
		}
		for i := range f.Len() {
			b = x.appendElement(b, name, m.XMLNamespace, &m.Shape.Elem, f.Index(i))
		}
	}
	return b
}

func (x xmlNames) appendEntry(b []byte, sh *smithy.Shape, mv reflect.Value, key string) []byte {
	k := reflect.ValueOf(key)
	b = x.appendElement(b, elementName(&sh.Key, "key"), "", &sh.Key, k)
	return x.appendElement(b, elementName(&sh.Elem, "value"), "", &sh.Elem, mv.MapIndex(k))
}

// appendXMLText escapes s for element content and attributes. Characters that XML 1.0 cannot hold become U+FFFD.
func appendXMLText(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '"':
			b = append(b, "&quot;"...)
		case r == '\r':
			b = append(b, "&#xD;"...)
		case r < ' ' && r != '\t' && r != '\n', r == 0xFFFE, r == 0xFFFF, r == utf8.RuneError:
			b = append(b, "\uFFFD"...)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return b
}

// maxXMLDepth bounds the nesting of documents; AWS's deepest shapes have about ten levels.
const maxXMLDepth = 100

// xmlDecoder reads one document.
type xmlDecoder struct {
	*xml.Decoder
	names xmlNames
	depth int
}

func malformedXML(err error) error {
	e := apierr.New("MalformedXML", 400, "The XML you provided was not well-formed or did not validate against our published schema.")
	if err != nil {
		e = e.Because(err)
	}
	return e
}

func newXMLDecoder(body []byte, names xmlNames) *xmlDecoder {
	return &xmlDecoder{Decoder: xml.NewDecoder(bytes.NewReader(body)), names: names}
}

// root reads up to the document's first element.
func (d *xmlDecoder) root() (xml.StartElement, error) {
	for {
		t, err := d.Token()
		if err != nil {
			return xml.StartElement{}, malformedXML(err)
		}
		if se, ok := t.(xml.StartElement); ok {
			return se, nil
		}
	}
}

// decodeXML fills the struct v from a document whose root is the structure. An empty body is an empty structure.
func decodeXML(body []byte, sh *smithy.Shape, v reflect.Value, names xmlNames) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := newXMLDecoder(body, names)
	start, err := d.root()
	if err != nil {
		return err
	}
	if err := d.structure(start, sh, v); err != nil {
		return err
	}
	return d.end()
}

// end refuses what follows the root, other than space and comments.
func (d *xmlDecoder) end() error {
	for {
		t, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return malformedXML(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			return malformedXML(nil)
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return malformedXML(nil)
			}
		}
	}
}

// children calls f for each child element of the element whose start was just read, up to and including its end.
func (d *xmlDecoder) children(f func(xml.StartElement) error) error {
	if d.depth++; d.depth > maxXMLDepth {
		return malformedXML(nil)
	}
	defer func() { d.depth-- }()
	for {
		t, err := d.Token()
		if err != nil {
			return malformedXML(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			if err := f(t); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

func (d *xmlDecoder) skip() error {
	if err := d.Skip(); err != nil {
		return malformedXML(err)
	}
	return nil
}

// text reads the content of an element that holds only text.
func (d *xmlDecoder) text() (string, error) {
	var one []byte
	for {
		t, err := d.Token()
		if err != nil {
			return "", malformedXML(err)
		}
		switch t := t.(type) {
		case xml.CharData:
			one = append(one, t...)
		case xml.EndElement:
			return string(one), nil
		case xml.StartElement:
			return "", malformedXML(nil)
		}
	}
}

func (d *xmlDecoder) structure(start xml.StartElement, sh *smithy.Shape, v reflect.Value) error {
	for i := range sh.Members {
		m := &sh.Members[i]
		if !m.XMLAttribute {
			continue
		}
		name := d.names.of(m)
		for _, a := range start.Attr {
			if a.Name.Local == name[strings.IndexByte(name, ':')+1:] && a.Name.Space != "xmlns" {
				if err := setText(m, v.Field(i), a.Value); err != nil {
					return err
				}
			}
		}
	}
	return d.children(func(se xml.StartElement) error {
		i := d.member(sh, se.Name.Local)
		if i < 0 || i >= v.NumField() || sh.Members[i].Location != smithy.InBody {
			return d.skip()
		}
		m, f := &sh.Members[i], v.Field(i)
		if !flattened(m) {
			return d.value(se, m, f)
		}
		if m.Shape.Kind == smithy.Map {
			return d.entry(m.Shape, f)
		}
		return d.element(se, m.Shape, f)
	})
}

// member finds the member that an element of a structure holds.
func (d *xmlDecoder) member(sh *smithy.Shape, name string) int {
	if i := d.names.member(sh, name); i >= 0 {
		return i
	}
	for i := range sh.Members {
		if m := &sh.Members[i]; flattened(m) && d.names.flatName(m) == name {
			return i
		}
	}
	return -1
}

// element appends one element to a list.
func (d *xmlDecoder) element(start xml.StartElement, sh *smithy.Shape, list reflect.Value) error {
	return d.value(start, &sh.Elem, grow(list))
}

// entry reads a map's key and value into mv.
func (d *xmlDecoder) entry(sh *smithy.Shape, mv reflect.Value) error {
	if mv.IsNil() {
		mv.Set(reflect.MakeMap(mv.Type()))
	}
	var key string
	elem := reflect.New(mv.Type().Elem()).Elem()
	keyName, valueName := elementName(&sh.Key, "key"), elementName(&sh.Elem, "value")
	err := d.children(func(se xml.StartElement) (err error) {
		switch se.Name.Local {
		case keyName:
			key, err = d.text()
			return err
		case valueName:
			return d.value(se, &sh.Elem, elem)
		}
		return d.skip()
	})
	if err == nil {
		mv.SetMapIndex(reflect.ValueOf(key), elem)
	}
	return err
}

func (d *xmlDecoder) value(start xml.StartElement, m *smithy.Member, v reflect.Value) error {
	sh := m.Shape
	switch sh.Kind {
	case smithy.Structure:
		return d.structure(start, sh, alloc(v))
	case smithy.List:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		name := elementName(&sh.Elem, "member")
		return d.children(func(se xml.StartElement) error {
			if se.Name.Local != name {
				return d.skip()
			}
			return d.element(se, sh, v)
		})
	case smithy.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		return d.children(func(se xml.StartElement) error {
			if se.Name.Local != "entry" {
				return d.skip()
			}
			return d.entry(sh, v)
		})
	case smithy.Document:
		return d.skip()
	}
	s, err := d.text()
	if err != nil {
		return err
	}
	if sh.Kind != smithy.String && strings.TrimSpace(s) == "" && sh.Kind != smithy.Blob {
		return nil
	}
	return setText(m, v, s)
}

// decodeXMLError reads an error: <Error> alone, as S3, or inside <ErrorResponse> with the request's id.
func decodeXMLError(svc *smithy.Service, status int, code string, body []byte) *apierr.Error {
	d := newXMLDecoder(body, wireNames)
	members := map[string]any{}
	var read func(se xml.StartElement) error
	read = func(se xml.StartElement) error {
		switch se.Name.Local {
		case "ErrorResponse", "Error", "Errors", "Response":
			return d.children(read)
		}
		s, err := d.text()
		if err == nil {
			members[se.Name.Local] = s
		}
		return err
	}
	if start, err := d.root(); err == nil {
		_ = read(start) // what was read before an error is still worth showing
	}
	if s, ok := members["Code"].(string); ok && code == "" {
		code = s
	}
	for _, k := range [...]string{"Code", "Type", "RequestId", "RequestID", "HostId"} {
		delete(members, k)
	}
	return receivedError(svc, status, code, members)
}
