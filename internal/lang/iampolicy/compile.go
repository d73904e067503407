package iampolicy

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Compiled is a policy made ready for evaluation. It is immutable and may be used by any number of goroutines.
type Compiled struct {
	id         string
	statements []statement
}

type statement struct {
	source       *Statement
	index        int // in the policy
	sid          string
	deny         bool
	notAction    bool
	notResource  bool
	notPrincipal bool
	actions      []pattern
	resources    []pattern // none: any resource, as in trust policies
	principal    *Principal
	conditions   []condition
}

// Compile makes a policy that Parse returned ready for evaluation. The id is how decisions name it: the ARN of a managed
// policy, the name of an inline one.
func Compile(p *Policy, id string) *Compiled {
	c := &Compiled{id: id, statements: make([]statement, len(p.Statements))}
	variables := p.Version == version2012
	for i := range p.Statements {
		c.statements[i] = compileStatement(&p.Statements[i], variables)
		c.statements[i].index = i
	}
	return c
}

func compileStatement(in *Statement, variables bool) statement {
	s := statement{
		source: in, sid: in.Sid, deny: in.Effect == "Deny",
		notAction: in.NotAction != nil, notResource: in.NotResource != nil, notPrincipal: in.NotPrincipal != nil,
		principal: in.Principal,
	}
	if s.notPrincipal {
		s.principal = in.NotPrincipal
	}
	for _, a := range slices.Concat(in.Action, in.NotAction) {
		s.actions = append(s.actions, compilePattern(a, syntax{wildcards: true, fold: true}))
	}
	for _, r := range slices.Concat(in.Resource, in.NotResource) {
		s.resources = append(s.resources, compilePattern(r, syntax{wildcards: true, variables: variables}))
	}
	for _, name := range slices.Sorted(maps.Keys(in.Condition)) {
		o, ok := parseOperator(name)
		for _, key := range slices.Sorted(maps.Keys(in.Condition[name])) {
			c := compileCondition(o, key, in.Condition[name][key], variables)
			if !ok { // of a Policy that Parse did not make: what cannot be understood allows nothing
				c = condition{operator: operator{negated: true}, values: []value{{bad: true}}}
			}
			c.name = name + " " + key
			s.conditions = append(s.conditions, c)
		}
	}
	return s
}

// Len is the number of statements.
func (c *Compiled) Len() int { return len(c.statements) }

// Narrow returns the policies with only those statements that can apply to an action on a resource, whoever asks and whatever the condition
// keys are. They decide on that action and resource as the policies do, and on no other.
func Narrow(policies []*Compiled, action, resource string) []*Compiled {
	out := make([]*Compiled, len(policies))
	for i, c := range policies {
		n := &Compiled{id: c.id}
		for j := range c.statements {
			if c.statements[j].mayApply(action, resource) {
				n.statements = append(n.statements, c.statements[j])
			}
		}
		out[i] = n
	}
	return out
}

func (s *statement) mayApply(action, resource string) bool {
	if anyMatch(s.actions, action, nil) == s.notAction {
		return false
	}
	for i := range s.resources {
		if !s.resources[i].resolves(nil) {
			return true // it has variables
		}
	}
	return s.resources == nil || anyMatch(s.resources, resource, nil) != s.notResource
}

// ID returns the id given to Compile.
func (c *Compiled) ID() string { return c.id }

// Keys returns the condition keys that the policy asks for, in conditions and in variables: in lower case, sorted, each
// once.
func (c *Compiled) Keys() []string {
	keys := map[string]bool{}
	add := func(patterns ...pattern) {
		for _, p := range patterns {
			for _, run := range p.runs {
				for _, e := range run {
					if e.variable {
						keys[e.key] = true
					}
				}
			}
		}
	}
	for _, s := range c.statements {
		add(s.resources...)
		for _, c := range s.conditions {
			if c.key != "" {
				keys[c.key] = true
			}
			for _, v := range c.values {
				add(v.pattern)
				add(v.arn.parts[:]...)
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// grant is how strongly a resource's policy allows a caller, weakest first.
type grant uint8

const (
	noGrant   grant = iota
	toAccount       // the caller's account, whose own policies must then allow
	toIssuer        // the role or user behind a session: boundary and session policies still limit it
	toCaller        // the caller itself, or everyone
)

// applies reports whether the statement speaks of the request, and how directly of its caller.
func (s *statement) applies(r *Request) (grant, bool) {
	if anyMatch(s.actions, r.Action, nil) == s.notAction {
		return noGrant, false
	}
	if s.resources != nil {
		matched := anyMatch(s.resources, r.Resource, r.Context)
		if matched == s.notResource {
			return noGrant, false
		}
		if s.notResource && !s.deny { // a variable without a value must not widen what is allowed
			for i := range s.resources {
				if !s.resources[i].resolves(r.Context) {
					return noGrant, false
				}
			}
		}
	}
	g := toCaller
	if s.principal != nil {
		if s.notPrincipal {
			if s.principal.exempts(&r.Caller) {
				return noGrant, false
			}
		} else if g = s.principal.names(&r.Caller); g == noGrant {
			return noGrant, false
		}
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r.Context, s.deny) {
			return noGrant, false
		}
	}
	return g, true
}

func anyMatch(patterns []pattern, s string, c Context) bool {
	for i := range patterns {
		if patterns[i].match(s, c) {
			return true
		}
	}
	return false
}

// names returns how directly a Principal names a caller.
func (p *Principal) names(c *Caller) grant {
	if p.Any {
		return toCaller
	}
	g := noGrant
	for _, s := range p.AWS {
		g = max(g, c.named(s))
	}
	switch c.Type {
	case Service:
		if slices.Contains(p.Service, c.Name) {
			return toCaller
		}
	case WebIdentity:
		if slices.Contains(p.Federated, c.Name) {
			return toCaller
		}
	}
	return g
}

// named returns how directly one value of Principal.AWS names the caller. There are no wildcards in it but "*".
func (c *Caller) named(s string) grant {
	if s == "*" {
		return toCaller
	}
	switch c.Type {
	case Root, User, RoleSession, FederatedUserSession:
	default:
		return noGrant
	}
	switch {
	case s == "":
		return noGrant
	case s == c.ARN:
		return toCaller
	case s == c.Issuer:
		return toIssuer
	case c.ID != "" && s == c.ID:
		return toCaller
	case len(c.ID) > len(s) && c.ID[len(s)] == ':' && c.ID[:len(s)] == s && c.Type != Root:
		return toIssuer
	case c.Account != "" && accountOf(s) == c.Account:
		return toAccount
	}
	return noGrant
}

// accountOf returns the account that a principal of the form 123456789012 or arn:aws:iam::123456789012:root is.
func accountOf(s string) string {
	if isAccount(s) {
		return s
	}
	rest, ok := strings.CutSuffix(s, ":root")
	if !ok || !strings.HasPrefix(rest, "arn:") {
		return ""
	}
	if before, account, ok := cutLast(rest, "::"); ok && strings.HasSuffix(before, ":iam") && isAccount(account) {
		return account
	}
	return ""
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func isAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

// exempts reports whether a NotPrincipal spares the caller. A caller is several principals at once (the session, its
// role, their account), and all of them must be listed.
func (p *Principal) exempts(c *Caller) bool {
	if p.Any || slices.Contains(p.AWS, "*") {
		return true
	}
	switch c.Type {
	case Service, WebIdentity:
		return p.names(c) == toCaller
	case Anonymous:
		return false
	}
	var account, issuer, caller bool
	for _, s := range p.AWS {
		switch c.named(s) {
		case toCaller:
			caller = true
			account = account || c.Type == Root
		case toIssuer:
			issuer = true
		case toAccount:
			account = true
			caller = caller || c.Type == Root
		}
	}
	return account && caller && (issuer || c.Issuer == "")
}

// Grant is one pair of patterns of a statement that allows: an action and a resource. Its conditions are not part of it.
type Grant struct {
	Action, Resource string

	action, resource pattern
	any              bool // NotAction or NotResource: the patterns are exceptions
}

// String is "action on resource".
func (g *Grant) String() string { return g.Action + " on " + g.Resource }

// Covers reports whether the patterns match an action and a resource. Variables in them match nothing.
func (g *Grant) Covers(action, resource string) bool {
	return g.any || g.action.match(action, nil) && g.resource.match(resource, nil)
}

// Grants returns what the statements of a policy allow, pair by pair. For a statement with NotAction or NotResource it is one
// grant, which covers everything.
func (c *Compiled) Grants() iter.Seq[*Grant] {
	return func(yield func(*Grant) bool) {
		for i := range c.statements {
			s := &c.statements[i]
			if s.deny {
				continue
			}
			if s.notAction || s.notResource {
				if !yield(&Grant{Action: "*", Resource: "*", any: true}) {
					return
				}
				continue
			}
			for a := range s.actions {
				for r := range s.resources {
					g := &Grant{Action: s.source.Action[a], Resource: s.source.Resource[r], action: s.actions[a], resource: s.resources[r]}
					if !yield(g) {
						return
					}
				}
			}
		}
	}
}
