package protocol

import (
	"cmp"
	"encoding/xml"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// awsQuery is the Query protocol: a form in, XML out. IAM, STS, SNS and CloudFormation speak it, and so do old clients of SQS and CloudWatch.
type awsQuery struct{}

// formNode is a tree of parameters: Tags.member.1.Key is four levels.
type formNode struct {
	value string
	kids  map[string]*formNode
}

// maxFormDepth bounds the levels of a parameter's name.
const maxFormDepth = 32

func (r *Request) form() (url.Values, error) {
	q, err := url.ParseQuery(r.Query)
	if err != nil || !r.IsForm() {
		return q, err
	}
	form, err := url.ParseQuery(string(r.Body))
	for k, v := range q {
		if _, ok := form[k]; !ok {
			form[k] = v
		}
	}
	return form, err
}

func formTree(form url.Values) (*formNode, error) {
	root := &formNode{}
	for k, vs := range form {
		n := root
		parts := strings.Split(k, ".")
		if len(parts) > maxFormDepth {
			return nil, malformedInput("Too many levels in " + k)
		}
		for _, p := range parts {
			kid := n.kids[p]
			if kid == nil {
				if n.kids == nil {
					n.kids = map[string]*formNode{}
				}
				kid = &formNode{}
				n.kids[p] = kid
			}
			n = kid
		}
		n.value = vs[0]
	}
	return root, nil
}

func malformedInput(message string) *apierr.Error {
	return apierr.New("MalformedInput", http.StatusBadRequest, "%s", message)
}

func (awsQuery) Protocol() smithy.Protocol { return smithy.Query }

func (awsQuery) DecodeRequest(op *smithy.OpInfo, r *Request, in any) error {
	form, err := r.form()
	if err != nil {
		return malformedInput("The form is malformed.").Because(err)
	}
	root, err := formTree(form)
	if err != nil {
		return err
	}
	return root.structure(op.Input, structOf(in))
}

func (n *formNode) structure(sh *smithy.Shape, v reflect.Value) error {
	for i := range sh.Members {
		m := &sh.Members[i]
		if m.Location == smithy.InEvents || i >= v.NumField() {
			continue
		}
		kid := n.kids[m.FormName()]
		if kid == nil && flattened(m) && m.Shape.Kind == smithy.List {
			kid = n.kids[formNames.flatName(m)]
		}
		if kid == nil {
			continue
		}
		if err := kid.member(m, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

func (n *formNode) member(m *smithy.Member, v reflect.Value) error {
	sh := m.Shape
	switch sh.Kind {
	case smithy.Structure:
		return n.structure(sh, alloc(v))
	case smithy.List:
		from := n
		for _, name := range [...]string{"member", sh.Elem.LocationName} {
			if kid := n.kids[name]; kid != nil && !flattened(m) {
				from = kid
			}
		}
		items := from.numbered()
		list := reflect.MakeSlice(v.Type(), len(items), len(items))
		for i, item := range items {
			if err := item.member(&sh.Elem, list.Index(i)); err != nil {
				return err
			}
		}
		v.Set(list)
		return nil
	case smithy.Map:
		from := n
		if kid := n.kids["entry"]; kid != nil && !flattened(m) {
			from = kid
		}
		mv := reflect.MakeMap(v.Type())
		entries := from.numbered()
		if len(entries) == 0 && from.kids[elementName(&sh.Key, "key")] != nil {
			entries = []*formNode{from} // an only entry may come without its number
		}
		for _, entry := range entries {
			key, val := entry.kids[elementName(&sh.Key, "key")], entry.kids[elementName(&sh.Elem, "value")]
			if key == nil {
				return malformedInput("A map entry of " + m.Name + " has no key.")
			}
			elem := reflect.New(v.Type().Elem()).Elem()
			if val != nil {
				if err := val.member(&sh.Elem, elem); err != nil {
					return err
				}
			}
			mv.SetMapIndex(reflect.ValueOf(key.value), elem)
		}
		v.Set(mv)
		return nil
	case smithy.Document:
		return nil
	}
	if n.value == "" && sh.Kind != smithy.String && sh.Kind != smithy.Blob {
		return nil
	}
	if err := setText(m, v, n.value); err != nil {
		return malformedInput(apierr.From(err).Message)
	}
	return nil
}

// numbered are the kids whose names are numbers, in order. Gaps close.
func (n *formNode) numbered() []*formNode {
	type item struct {
		n    int
		node *formNode
	}
	var items []item
	for k, kid := range n.kids {
		if i, err := strconv.Atoi(k); err == nil && i >= 0 {
			items = append(items, item{i, kid})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return a.n - b.n })
	nodes := make([]*formNode, len(items))
	for i, it := range items {
		nodes[i] = it.node
	}
	return nodes
}

func (awsQuery) EncodeResponse(op *smithy.OpInfo, out any, requestID string) (*Response, error) {
	b := append([]byte("<"), op.Name...)
	b = append(b, "Response"...)
	b = appendNamespace(b, "", op.Service.XMLNamespace)
	b = append(b, '>')
	if len(op.Output.Members) > 0 || op.ResultWrapper != "" {
		b = formNames.appendElement(b, resultWrapper(op), "", &smithy.Member{Shape: op.Output}, structOf(out))
	}
	b = append(b, "<ResponseMetadata><RequestId>"...)
	b = appendXMLText(b, requestID)
	b = append(b, "</RequestId></ResponseMetadata></"...)
	b = append(b, op.Name...)
	b = append(b, "Response>"...)
	return &Response{Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/xml"}, requestIDHeader: {requestID}}, Body: b}, nil
}

func resultWrapper(op *smithy.OpInfo) string {
	if op.ResultWrapper != "" {
		return op.ResultWrapper
	}
	return op.Name + "Result"
}

func (awsQuery) EncodeError(svc *smithy.Service, e *apierr.Error, requestID string) *Response {
	if e.Code == "UnknownOperationException" { // AWS's front end says it, not the service
		return &Response{Status: e.HTTPStatus(), Header: errorHeader(e, "text/xml", requestID), Body: []byte("<UnknownOperationException/>\n")}
	}
	ns := ""
	if svc != nil {
		ns = svc.XMLNamespace
	}
	b := appendNamespace([]byte("<ErrorResponse"), "", ns)
	b = append(b, "><Error><Type>"...)
	b = append(b, faultName(e.Fault)...)
	b = append(b, "</Type><Code>"...)
	b = appendXMLText(b, queryCode(svc, e))
	b = append(b, "</Code><Message>"...)
	b = appendXMLText(b, cmp.Or(e.QueryMessage, e.Message))
	b = append(b, "</Message>"...)
	b = appendErrorMembers(b, e)
	b = append(b, "</Error><RequestId>"...)
	b = appendXMLText(b, requestID)
	b = append(b, "</RequestId></ErrorResponse>"...)
	return &Response{Status: e.HTTPStatus(), Header: errorHeader(e, "text/xml", requestID), Body: b}
}

// queryJSON is the Query protocol for who accepts JSON: a form in, the same structure in JSON out.
type queryJSON struct{ awsQuery }

// queryCodec is the codec for a Query request.
func queryCodec(req *Request) Codec {
	if mediaType(req.Header.Get("Accept")) == "application/json" {
		return queryJSON{}
	}
	return awsQuery{}
}

// Action is the operation that a Query request asks for, whether there is one of that name or not.
func (c *Call) Action() string {
	form, _ := c.Request.form()
	return form.Get("Action")
}

// IsQuery reports whether a codec is one of the Query protocol.
func IsQuery(c Codec) bool { return c.Protocol() == smithy.Query }

func (queryJSON) EncodeResponse(op *smithy.OpInfo, out any, requestID string) (*Response, error) {
	b := appendJSONString([]byte("{"), op.Name+"Response")
	b = append(b, ":{"...)
	if len(op.Output.Members) > 0 || op.ResultWrapper != "" {
		b = appendJSONString(b, resultWrapper(op))
		b = append(b, ':')
		b = appendJSONStruct(b, op.Output, structOf(out))
		b = append(b, ',')
	}
	b = append(b, `"ResponseMetadata":{"RequestId":`...)
	b = append(appendJSONString(b, requestID), "}}}"...)
	return &Response{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}, requestIDHeader: {requestID}}, Body: b}, nil
}

func (queryJSON) EncodeError(svc *smithy.Service, e *apierr.Error, requestID string) *Response {
	b := append([]byte(`{"Error":{"Code":`), appendJSONString(nil, queryCode(svc, e))...)
	b = appendJSONString(append(b, `,"Message":`...), cmp.Or(e.QueryMessage, e.Message))
	b = appendJSONString(append(b, `,"Type":`...), faultName(e.Fault))
	b = appendJSONString(append(b, `},"RequestId":`...), requestID)
	return &Response{Status: e.HTTPStatus(), Header: errorHeader(e, "application/json", requestID), Body: append(b, '}')}
}

func (awsQuery) EncodeRequest(op *smithy.OpInfo, in any) (*Request, error) {
	form := url.Values{"Action": {op.Name}, "Version": {op.Service.APIVersion}}
	formStruct(form, "", op.Input, structOf(in))
	return &Request{
		Method: http.MethodPost,
		Path:   "/",
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}},
		Body:   []byte(form.Encode()),
	}, nil
}

func formStruct(form url.Values, prefix string, sh *smithy.Shape, v reflect.Value) {
	for i := range sh.Members {
		m := &sh.Members[i]
		if f := v.Field(i); m.Location != smithy.InEvents && present(f) {
			name := m.FormName()
			if flattened(m) {
				name = formNames.flatName(m)
			}
			formMember(form, prefix+name, m, deref(f))
		}
	}
}

func formMember(form url.Values, name string, m *smithy.Member, v reflect.Value) {
	sh := m.Shape
	switch sh.Kind {
	case smithy.Structure:
		formStruct(form, name+".", sh, v)
	case smithy.List:
		if v.Len() == 0 {
			form.Set(name, "")
		}
		if !flattened(m) {
			name += "." + elementName(&sh.Elem, "member")
		}
		for i := range v.Len() {
			formMember(form, name+"."+strconv.Itoa(i+1), &sh.Elem, v.Index(i))
		}
	case smithy.Map:
		if !flattened(m) {
			name += ".entry"
		}
		for i, k := range sortedKeys(v) {
			entry := name + "." + strconv.Itoa(i+1) + "."
			form.Set(entry+elementName(&sh.Key, "key"), k)
			formMember(form, entry+elementName(&sh.Elem, "value"), &sh.Elem, v.MapIndex(reflect.ValueOf(k)))
		}
	default:
		form.Set(name, text(m, v, smithy.DateTime))
	}
}

func (awsQuery) DecodeResponse(op *smithy.OpInfo, r *Response, out any) error {
	if err := r.readAll(); err != nil {
		return err
	}
	if r.Status >= http.StatusMultipleChoices {
		return decodeXMLError(op.Service, r.Status, "", r.Body)
	}
	d := newXMLDecoder(r.Body, formNames)
	if _, err := d.root(); err != nil {
		return err
	}
	return d.children(func(se xml.StartElement) error {
		if se.Name.Local == resultWrapper(op) {
			return d.structure(se, op.Output, structOf(out))
		}
		return d.skip()
	})
}
