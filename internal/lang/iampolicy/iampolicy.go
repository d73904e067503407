// Package iampolicy is the IAM policy language: it parses policy documents and holds them to the grammar, with IAM's own
// words for what is wrong, and decides what policies say of a request.
//
// A policy is parsed, compiled once and evaluated often: Parse, Compile, Evaluate. The package knows no clock and no
// store: whoever calls it gives the policies that apply, and the facts of the request as values.
package iampolicy

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Policy is a parsed policy document.
type Policy struct {
	Version    string // "2012-10-17" or "2008-10-17", the default
	ID         string
	Statements []Statement
}

// Statement is one statement of a policy. Of each pair Action and NotAction, Resource and NotResource, Principal and
// NotPrincipal at most one is set.
type Statement struct {
	Sid          string
	Effect       string // "Allow" or "Deny"
	Principal    *Principal
	NotPrincipal *Principal
	Action       []string
	NotAction    []string
	Resource     []string
	NotResource  []string
	Condition    map[string]map[string][]string // operator, key, values
}

// Principal is whom a statement of a resource or trust policy speaks of.
type Principal struct {
	Any           bool // "*"
	AWS           []string
	Service       []string
	Federated     []string
	CanonicalUser []string
}

// Kind is what a policy is attached to, which decides what its statements must have.
type Kind int

// The kinds of policies.
const (
	Identity Kind = iota // of a user, group or role, and managed policies: no principals
	Trust                // of a role: principals, and no resources
	Resource             // of a resource: principals
)

// Error is a fault of a policy document, in IAM's words (MalformedPolicyDocument).
type Error struct{ Message string }

func (e *Error) Error() string { return e.Message }

var errSyntax = &Error{"Syntax errors in policy."}

const (
	version2012 = "2012-10-17"
	version2008 = "2008-10-17"
)

// Parse reads a document. The names of its elements are case-sensitive and each may stand once. The error is an *Error.
func Parse(document string, kind Kind) (*Policy, error) {
	var raw struct {
		Version   *string
		ID        *string `json:"Id"`
		Statement statements
	}
	if !jsontext.Value(document).IsValid() {
		if kind == Trust {
			return nil, &Error{"This policy contains invalid Json"}
		}
		return nil, errSyntax
	}
	if err := json.Unmarshal([]byte(document), &raw, json.RejectUnknownMembers(true)); err != nil {
		return nil, asError(err)
	}
	p := &Policy{Version: version2008, Statements: raw.Statement}
	if raw.Version != nil {
		p.Version = *raw.Version
		if p.Version != version2012 && p.Version != version2008 {
			return nil, errSyntax
		}
	}
	if raw.ID != nil {
		p.ID = *raw.ID
	}
	if kind == Identity && p.Version != version2012 && usesVariables(document) {
		return nil, &Error{"Policy document must be version 2012-10-17 or greater."}
	}
	if len(p.Statements) == 0 {
		return nil, errSyntax
	}
	seen := map[string]bool{}
	for i := range p.Statements {
		s := &p.Statements[i]
		if err := s.check(kind); err != nil {
			return nil, err
		}
		if s.Sid != "" && seen[s.Sid] {
			return nil, &Error{"Statement IDs (SID) in a single policy must be unique."}
		}
		seen[s.Sid] = true
	}
	return p, nil
}

func usesVariables(document string) bool { return strings.Contains(document, "${") }

func asError(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return errSyntax
}

// statements is one statement or a list.
type statements []Statement

// UnmarshalJSONFrom reads an object or an array of objects.
func (s *statements) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case jsontext.KindBeginObject:
		*s = make(statements, 1)
		return json.UnmarshalDecode(d, &(*s)[0])
	case jsontext.KindBeginArray:
		return json.UnmarshalDecode(d, (*[]Statement)(s))
	}
	return errSyntax
}

// UnmarshalJSONFrom reads a statement, refusing elements that the grammar does not have.
func (s *Statement) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		return errSyntax
	}
	var raw struct {
		Sid, Effect             string
		Principal, NotPrincipal *Principal
		Action, NotAction       texts
		Resource, NotResource   texts
		Condition               map[string]map[string]values
	}
	if err := json.UnmarshalDecode(d, &raw); err != nil {
		return err
	}
	*s = Statement{
		Sid: raw.Sid, Effect: raw.Effect, Principal: raw.Principal, NotPrincipal: raw.NotPrincipal,
		Action: raw.Action, NotAction: raw.NotAction, Resource: raw.Resource, NotResource: raw.NotResource,
	}
	if raw.Condition != nil {
		s.Condition = make(map[string]map[string][]string, len(raw.Condition))
		for operator, keys := range raw.Condition {
			s.Condition[operator] = make(map[string][]string, len(keys))
			for key, list := range keys {
				s.Condition[operator][key] = list
			}
		}
	}
	return nil
}

// UnmarshalJSONFrom reads "*" or an object of lists.
func (p *Principal) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case jsontext.KindString:
		var s string
		if err := json.UnmarshalDecode(d, &s); err != nil {
			return err
		}
		if s != "*" {
			return &Error{"Invalid principal in policy: \"STAR\":\"" + s + "\""}
		}
		*p = Principal{Any: true}
		return nil
	case jsontext.KindBeginObject:
		var raw struct{ AWS, Service, Federated, CanonicalUser texts }
		if err := json.UnmarshalDecode(d, &raw); err != nil {
			return &Error{"Invalid principal in policy"}
		}
		*p = Principal{AWS: raw.AWS, Service: raw.Service, Federated: raw.Federated, CanonicalUser: raw.CanonicalUser}
		return nil
	}
	return &Error{"Invalid principal in policy"}
}

// texts is one string or a list of strings.
type texts []string

// UnmarshalJSONFrom reads a string or an array of strings.
func (t *texts) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var v values
	if err := v.read(d, false); err != nil {
		return err
	}
	*t = texts(v)
	return nil
}

// values is one value of a condition or a list. Numbers and booleans are taken as they are written.
type values []string

// UnmarshalJSONFrom reads a scalar or an array of scalars.
func (v *values) UnmarshalJSONFrom(d *jsontext.Decoder) error { return v.read(d, true) }

func (v *values) read(d *jsontext.Decoder, scalars bool) error {
	*v = values{}
	list := d.PeekKind() == jsontext.KindBeginArray
	if list {
		if _, err := d.ReadToken(); err != nil {
			return err
		}
	}
	for !list || d.PeekKind() != jsontext.KindEndArray {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		switch token.Kind() {
		case jsontext.KindString:
		case jsontext.KindNumber, jsontext.KindTrue, jsontext.KindFalse:
			if !scalars {
				return errSyntax
			}
		default:
			return errSyntax
		}
		if *v = append(*v, token.String()); !list {
			return nil
		}
	}
	_, err := d.ReadToken()
	return err
}
