package iampolicy

// Request is what is asked: one action on one resource. An operation that touches several resources, or needs several
// actions, is authorized once for each of them, since each has its own policy and tags; all must be allowed.
//
// A Request is only read, and only while an evaluation runs.
type Request struct {
	// Action is service:Name, in any case: "lambda:InvokeFunction".
	Action string

	// Resource is the ARN, without wildcards, or "*" for an action that has no resource: then only the resource patterns
	// that match the text "*" apply.
	Resource string

	// ResourceAccount is the account that owns the resource, twelve digits; empty is the caller's own. It decides between
	// the rules for one account and those across accounts.
	ResourceAccount string

	// Caller is who asks.
	Caller Caller

	// Context holds the condition keys; nil is none.
	Context Context
}

// Context holds the condition keys of a request with their values. Keys are always asked for in lower case
// ("aws:sourceip", "aws:principaltag/team"), so an implementation may form values only when a policy wants them. It must
// give the same answer each time during one evaluation.
//
// Values are text. Dates are ISO 8601 (2026-11-24T07:00:00Z) or seconds since 1970, booleans "true" and "false",
// addresses without a port, numbers decimal, binary values in base64 with padding. A key that the request does not have is
// absent (false), which is not the same as an empty value; a key that may have several values and has none is present
// and empty.
//
// The evaluation adds no key of its own: what AWS calls global keys (aws:PrincipalArn, aws:username, aws:CurrentTime,
// ...) are the caller's to give.
type Context interface {
	Values(key string) (values []string, ok bool)
}

// Values is a Context held in a map. Its keys must be in lower case, which Set sees to.
type Values map[string][]string

// Values returns the values of a key in lower case.
func (v Values) Values(key string) ([]string, bool) { s, ok := v[key]; return s, ok }

// Set gives a key, in any case, its values.
func (v Values) Set(key string, values ...string) { v[lower(key)] = values }

// Caller is who makes a request, as far as policies may speak of it.
type Caller struct {
	Type    CallerType
	Account string // of root, users and sessions; empty for others

	// ARN of the caller: arn:aws:iam::A:root, arn:aws:iam::A:user/path/name, arn:aws:sts::A:assumed-role/name/session
	// (without the role's path) or arn:aws:sts::A:federated-user/name.
	ARN string

	// Issuer is the ARN, with its path, of the role that a RoleSession is of, or of the user that made a
	// FederatedUserSession.
	Issuer string

	// ID is the unique identifier: AIDA... of a user, AROA...:session of a session. It may be empty.
	ID string

	// Name is the service's for a Service ("s3.amazonaws.com"), the identity provider's for a WebIdentity (domain of the
	// issuer, or ARN of the provider).
	Name string
}

// CallerType is the kind of a caller.
type CallerType int

// The kinds of callers.
const (
	Anonymous            CallerType = iota // unsigned
	Root                                   // of an account, which may do everything there that nothing denies
	User                                   // IAM user, also with a session token of GetSessionToken
	RoleSession                            // an assumed role
	FederatedUserSession                   // of GetFederationToken
	Service                                // an AWS service on its own behalf
	WebIdentity                            // whom an identity provider vouches for: AssumeRoleWithWebIdentity, -WithSAML
)

// Policies are all policies that apply to a request. They are only read.
type Policies struct {
	Identity []*Compiled // attached to the user and its groups, or to the role, inline and managed
	Boundary *Compiled   // of the user or role; nil: none
	Session  []*Compiled // passed when the session was made, of which one must allow; empty: none were passed

	// Resource is the policy of the resource; nil: it has none.
	Resource *Compiled

	// Trust is the policy of the role that is to be assumed, instead of Resource: without an allow in it nobody may, not
	// even in the same account.
	Trust *Compiled

	// ServiceControl are the policies of the organization: from its root through each unit to the account, at each of
	// which one must allow. Empty: the account is in no organization.
	ServiceControl [][]*Compiled
}

// PolicyType is the part that a policy plays in a decision.
type PolicyType int

// The types of policies, in the order in which they are asked.
const (
	NoPolicy PolicyType = iota
	ServiceControlPolicy
	ResourcePolicy
	TrustPolicy
	IdentityPolicy
	BoundaryPolicy
	SessionPolicy
)

// String names a type in the words of AWS's messages.
func (t PolicyType) String() string {
	switch t {
	case ServiceControlPolicy:
		return "service control policy"
	case ResourcePolicy:
		return "resource-based policy"
	case TrustPolicy:
		return "role trust policy"
	case IdentityPolicy:
		return "identity-based policy"
	case BoundaryPolicy:
		return "permissions boundary"
	case SessionPolicy:
		return "session policy"
	}
	return "policy"
}

// Match is a statement that applies to a request.
type Match struct {
	Type      PolicyType
	PolicyID  string // as given to Compile
	Statement int    // index in the policy, from 0; -1 is no statement
	Sid       string // may be empty
	Deny      bool
}

// Decision is what policies say of a request.
type Decision struct {
	Allowed bool

	// ExplicitDeny is set where a statement denies; otherwise what is not allowed lacks one that allows.
	ExplicitDeny bool

	// Type is the type of policy that decided: of the statement that allows or denies, or the type in which one that
	// allows is missing. NoPolicy: the caller is root.
	Type PolicyType

	// Match is the statement that allows or denies. Its Statement is -1 where there is none.
	Match Match
}

// Reason says why a request with this action is denied, in AWS's words for the end of an error message: "with an explicit
// deny in an identity-based policy", "because no identity-based policy allows the lambda:InvokeFunction action".
func (d *Decision) Reason(action string) string {
	switch {
	case d.Allowed:
		return ""
	case d.ExplicitDeny && d.Type == TrustPolicy:
		return "with an explicit deny in the role trust policy"
	case d.ExplicitDeny && d.Type == IdentityPolicy:
		return "with an explicit deny in an identity-based policy"
	case d.ExplicitDeny:
		return "with an explicit deny in a " + d.Type.String()
	}
	return "because no " + d.Type.String() + " allows the " + action + " action"
}

// Message is the whole text of AWS's AccessDenied for the request.
func (d *Decision) Message(r *Request) string {
	who, on := r.Caller.ARN, ""
	if who == "" {
		who = r.Caller.Name
	}
	if who == "" {
		who = "anonymous"
	}
	if r.Resource != "" {
		on = " on resource: " + r.Resource
	}
	return "User: " + who + " is not authorized to perform: " + r.Action + on + " " + d.Reason(r.Action)
}
