package iampolicy

import "iter"

// result is what the policies of one type say of a request.
type result struct {
	denied  bool
	grant   grant // of the strongest statement that allows
	policy  *Compiled
	by      *statement
	present bool // there are policies of this type
}

// ask reads every statement of a policy: the first that denies settles it, else the strongest that allows.
func (out *result) ask(c *Compiled, r *Request) {
	if c == nil || out.denied {
		return
	}
	out.present = true
	for i := range c.statements {
		s := &c.statements[i]
		if !s.deny && out.grant == toCaller {
			continue // nothing stronger can come but a deny
		}
		g, ok := s.applies(r)
		switch {
		case !ok:
		case s.deny:
			out.denied, out.policy, out.by = true, c, s
			return
		case g > out.grant:
			out.grant, out.policy, out.by = g, c, s
		}
	}
}

func ask(policies []*Compiled, r *Request) result {
	var out result
	for _, c := range policies {
		out.ask(c, r)
	}
	return out
}

func (out *result) decide(t PolicyType, allowed bool) Decision {
	d := Decision{Allowed: allowed, ExplicitDeny: out.denied, Type: t, Match: Match{Type: t, Statement: -1}}
	if out.policy != nil && (allowed || out.denied) {
		d.Match = Match{t, out.policy.id, out.by.index, out.by.sid, out.denied}
	}
	return d
}

// missing is the implicit deny for want of a policy of a type that allows.
func missing(t PolicyType) Decision {
	return Decision{Type: t, Match: Match{Type: t, Statement: -1}}
}

// Evaluate decides on a request as AWS's policy evaluation logic does: a statement that denies, in any policy, settles
// it; service control policies must allow; then what the resource's and the identity's policies grant is joined within an
// account and both must grant across accounts; a permissions boundary and session policies limit what the identity is
// granted, and what the resource's policy grants to a role rather than to its session. A service, an anonymous caller
// and a web identity have no policies of their own: the resource's must allow.
//
// It allocates nothing and may run concurrently.
func Evaluate(r *Request, p *Policies) Decision {
	resourceType, resourcePolicy := ResourcePolicy, p.Resource
	if p.Trust != nil {
		resourceType, resourcePolicy = TrustPolicy, p.Trust
	}
	entity := false // has policies of its own
	switch r.Caller.Type {
	case Root, User, RoleSession, FederatedUserSession:
		entity = true
	}

	// Every policy is read for denials before anything is allowed.
	var resource, identity, boundary, session result
	organized := true
	if entity {
		for _, level := range p.ServiceControl {
			control := ask(level, r)
			if control.denied {
				return control.decide(ServiceControlPolicy, false)
			}
			organized = organized && control.grant != noGrant
		}
	}
	if resource.ask(resourcePolicy, r); resource.denied {
		return resource.decide(resourceType, false)
	}
	if entity {
		if identity = ask(p.Identity, r); identity.denied {
			return identity.decide(IdentityPolicy, false)
		}
		if boundary.ask(p.Boundary, r); boundary.denied {
			return boundary.decide(BoundaryPolicy, false)
		}
		if session = ask(p.Session, r); session.denied {
			return session.decide(SessionPolicy, false)
		}
	}
	if !organized {
		return missing(ServiceControlPolicy)
	}
	if !entity {
		return resource.decide(resourceType, resource.grant != noGrant)
	}

	sameAccount := r.ResourceAccount == "" || r.ResourceAccount == r.Caller.Account
	if resource.grant == noGrant && (!sameAccount || p.Trust != nil) {
		return missing(resourceType)
	}
	if sameAccount && resource.grant == toCaller {
		return resource.decide(resourceType, true)
	}
	// The session of a role is granted what the role is; a user's federated session is not the user.
	byResource := sameAccount && resource.grant == toIssuer
	if r.Caller.Type == Root {
		if resource.grant != noGrant && resource.policy != nil {
			return resource.decide(resourceType, true)
		}
		return Decision{Allowed: true, Match: Match{Statement: -1}}
	}
	if !byResource && identity.grant == noGrant {
		return missing(IdentityPolicy)
	}
	if boundary.present && boundary.grant == noGrant {
		return missing(BoundaryPolicy)
	}
	// Without session policies a federated user's session has only what resources grant to it.
	if (session.present || r.Caller.Type == FederatedUserSession) && session.grant == noGrant {
		return missing(SessionPolicy)
	}
	if byResource {
		return resource.decide(resourceType, true)
	}
	return identity.decide(IdentityPolicy, true)
}

// Matches returns every statement of the policies that applies to the request, whatever is decided: those that deny
// and those that allow, type by type. It is for explaining and simulating, and costs more than Evaluate.
func Matches(r *Request, p *Policies) iter.Seq[Match] {
	return func(yield func(Match) bool) {
		each := func(t PolicyType, policies ...*Compiled) bool {
			for _, c := range policies {
				if c == nil {
					continue
				}
				for i := range c.statements {
					if _, ok := c.statements[i].applies(r); ok && !yield(Match{t, c.id, i, c.statements[i].sid, c.statements[i].deny}) {
						return false
					}
				}
			}
			return true
		}
		for _, level := range p.ServiceControl {
			if !each(ServiceControlPolicy, level...) {
				return
			}
		}
		_ = each(ResourcePolicy, p.Resource) && each(TrustPolicy, p.Trust) && each(IdentityPolicy, p.Identity...) &&
			each(BoundaryPolicy, p.Boundary) && each(SessionPolicy, p.Session...)
	}
}

// Miss is a statement that allows the action of a request on its resource, but not this request.
type Miss struct {
	Match
	Principal bool   // it names other principals
	Condition string // else the first condition that is not met: "StringEquals aws:RequestTag/team"
}

// Misses returns the statements of the policies that would allow a request if its principal or its condition keys were others. It is for explaining.
func Misses(r *Request, p *Policies) iter.Seq[Miss] {
	return func(yield func(Miss) bool) {
		each := func(t PolicyType, policies ...*Compiled) bool {
			for _, c := range policies {
				if c == nil {
					continue
				}
				for i := range c.statements {
					s := &c.statements[i]
					if s.deny {
						continue
					}
					if m, ok := s.misses(r); ok {
						m.Match = Match{t, c.id, s.index, s.sid, false}
						if !yield(m) {
							return false
						}
					}
				}
			}
			return true
		}
		_ = each(ResourcePolicy, p.Resource) && each(TrustPolicy, p.Trust) && each(IdentityPolicy, p.Identity...) &&
			each(BoundaryPolicy, p.Boundary) && each(SessionPolicy, p.Session...)
	}
}

// misses reports whether only principal or conditions keep the statement from the request, and what.
func (s *statement) misses(r *Request) (m Miss, ok bool) {
	if anyMatch(s.actions, r.Action, nil) == s.notAction || s.resources != nil && anyMatch(s.resources, r.Resource, r.Context) == s.notResource {
		return m, false
	}
	if s.principal != nil && (s.notPrincipal && s.principal.exempts(&r.Caller) || !s.notPrincipal && s.principal.names(&r.Caller) == noGrant) {
		m.Principal = true
		return m, true
	}
	for i := range s.conditions {
		if c := &s.conditions[i]; !c.holds(r.Context, false) {
			m.Condition = c.name
			return m, true
		}
	}
	return m, false
}
