// Package iampolicy reads the IAM policy language: it parses policy documents and holds them to the grammar, with IAM's
// own words for what is wrong.
package iampolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
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

// Parse reads a document. The error is an *Error.
func Parse(document string, kind Kind) (*Policy, error) {
	var raw struct {
		Version   *string
		ID        *string `json:"Id"`
		Statement statements
	}
	if !json.Valid([]byte(document)) {
		if kind == Trust {
			return nil, &Error{"This policy contains invalid Json"}
		}
		return nil, errSyntax
	}
	d := json.NewDecoder(strings.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(&raw); err != nil {
		return nil, asError(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errSyntax
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

// check holds a statement to the grammar of its kind.
func (s *Statement) check(kind Kind) error {
	if s.Effect != "Allow" && s.Effect != "Deny" {
		if s.Effect == "" {
			return &Error{"Missing required field Effect"}
		}
		return &Error{"Invalid effect: " + s.Effect}
	}
	if strings.ContainsFunc(s.Sid, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	}) && kind == Identity {
		return &Error{"Statement IDs (SID) can only contain letters and digits."} // IAM's policies only: others allow more
	}
	if len(s.Action)+len(s.NotAction) == 0 {
		return &Error{"Policy statement must contain actions."}
	}
	if s.Action != nil && s.NotAction != nil || s.Resource != nil && s.NotResource != nil || s.Principal != nil && s.NotPrincipal != nil {
		return errSyntax
	}
	for _, a := range slices.Concat(s.Action, s.NotAction) {
		if a == "*" {
			continue
		}
		vendor, name, ok := strings.Cut(a, ":")
		switch {
		case !ok:
			return &Error{"Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."}
		case vendor == "" || name == "" || strings.ContainsAny(vendor, "*? "):
			return &Error{"Vendor " + vendor + " is not valid"}
		}
	}
	hasPrincipal, hasResource := s.Principal != nil || s.NotPrincipal != nil, len(s.Resource)+len(s.NotResource) > 0
	switch kind {
	case Identity:
		if hasPrincipal {
			return &Error{"Policy document should not specify a principal."}
		}
		if !hasResource {
			return &Error{"Policy statement must contain resources."}
		}
		for _, r := range slices.Concat(s.Resource, s.NotResource) {
			if r != "*" && !strings.HasPrefix(r, "arn:") && !strings.HasPrefix(r, "*") && !strings.HasPrefix(r, "${") {
				return &Error{"Resource " + r + " must be in ARN format or \"*\"."}
			}
		}
	case Trust:
		if s.Resource != nil || s.NotResource != nil {
			return &Error{"Has prohibited field Resource"}
		}
		if !hasPrincipal {
			return &Error{"Missing required field Principal"}
		}
		for _, a := range s.Action {
			if !strings.HasPrefix(strings.ToLower(a), "sts:") {
				return &Error{"AssumeRole policy may only specify STS AssumeRole actions."}
			}
		}
	case Resource:
		if !hasPrincipal {
			return &Error{"Missing required field Principal"}
		}
	}
	return nil
}

// statements is one statement or a list.
type statements []Statement

func (s *statements) UnmarshalJSON(b []byte) error {
	if first(b) != '[' {
		var one Statement
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		*s = statements{one}
		return nil
	}
	return json.Unmarshal(b, (*[]Statement)(s))
}

// UnmarshalJSON reads a statement, refusing fields that the grammar does not have.
func (s *Statement) UnmarshalJSON(b []byte) error {
	var raw struct {
		Sid, Effect             string
		Principal, NotPrincipal *Principal
		Action, NotAction       texts
		Resource, NotResource   texts
		Condition               map[string]map[string]texts
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&raw); err != nil {
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
			for key, values := range keys {
				s.Condition[operator][key] = values
			}
		}
	}
	return nil
}

// UnmarshalJSON reads "*" or an object of lists.
func (p *Principal) UnmarshalJSON(b []byte) error {
	if first(b) == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		if s != "*" {
			return &Error{"Invalid principal in policy: \"STAR\":\"" + s + "\""}
		}
		*p = Principal{Any: true}
		return nil
	}
	var raw struct{ AWS, Service, Federated, CanonicalUser texts }
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&raw); err != nil {
		return &Error{"Invalid principal in policy"}
	}
	*p = Principal{AWS: raw.AWS, Service: raw.Service, Federated: raw.Federated, CanonicalUser: raw.CanonicalUser}
	return nil
}

// texts is one string or a list. Numbers and booleans, which conditions allow, are taken as they are written.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	if first(b) != '[' {
		s, err := text(b)
		*t = texts{s}
		return err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*t = make(texts, len(list))
	for i, m := range list {
		s, err := text(m)
		if err != nil {
			return err
		}
		(*t)[i] = s
	}
	return nil
}

func text(b []byte) (string, error) {
	switch first(b) {
	case '"':
		var s string
		err := json.Unmarshal(b, &s)
		return s, err
	case '{', '[', 'n', 0:
		return "", errSyntax
	}
	return string(bytes.TrimSpace(b)), nil
}

func first(b []byte) byte {
	if b = bytes.TrimSpace(b); len(b) > 0 {
		return b[0]
	}
	return 0
}
