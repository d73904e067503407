package lambda

import (
	"context"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// policy is who may use a function, a version or an alias beside those whose own policies say so. One without statements does not exist.
type policy struct {
	Statements []permission `json:"statements"`
}

// permission is one statement, as it was asked for.
type permission struct {
	ID        string `json:"id"`
	Action    string `json:"action"`
	Principal string `json:"principal"`

	SourceARN      string `json:"sourceArn,omitempty"`
	SourceAccount  string `json:"sourceAccount,omitempty"`
	Token          string `json:"token,omitempty"`
	OrganizationID string `json:"organizationId,omitempty"`
	URLAuthType    string `json:"urlAuthType,omitempty"`
	ViaURL         *bool  `json:"viaUrl,omitempty"`
}

// permissionStatement is a permission as AWS writes it.
type permissionStatement struct {
	Sid       string
	Effect    string
	Principal any
	Action    string
	Resource  string
	Condition *permissionCondition `json:",omitempty"`
}

type permissionCondition struct {
	StringEquals *equalTo          `json:",omitempty"`
	Bool         map[string]string `json:",omitempty"`
	ArnLike      map[string]string `json:",omitempty"`
}

type equalTo struct {
	SourceAccount  string `json:"AWS:SourceAccount,omitempty"`
	OrganizationID string `json:"aws:PrincipalOrgID,omitempty"`
	URLAuthType    string `json:"lambda:FunctionUrlAuthType,omitempty"`
	Token          string `json:"lambda:EventSourceToken,omitempty"`
}

func (p *permission) document(resource string) permissionStatement {
	d := permissionStatement{Sid: p.ID, Effect: "Allow", Action: p.Action, Resource: resource}
	switch {
	case p.Principal == "*":
		d.Principal = "*"
	case isAccount(p.Principal):
		d.Principal = map[string]string{"AWS": rootARN(p.Principal)}
	case strings.HasPrefix(p.Principal, "arn:"):
		d.Principal = map[string]string{"AWS": p.Principal}
	default:
		d.Principal = map[string]string{"Service": p.Principal}
	}
	var c permissionCondition
	if e := (equalTo{p.SourceAccount, p.OrganizationID, p.URLAuthType, p.Token}); e != (equalTo{}) {
		c.StringEquals = &e
	}
	if p.ViaURL != nil {
		c.Bool = map[string]string{"lambda:InvokedViaFunctionUrl": "false"}
		if *p.ViaURL {
			c.Bool["lambda:InvokedViaFunctionUrl"] = "true"
		}
	}
	if p.SourceARN != "" {
		c.ArnLike = map[string]string{"AWS:SourceArn": p.SourceARN}
	}
	if c.StringEquals != nil || c.Bool != nil || c.ArnLike != nil {
		d.Condition = &c
	}
	return d
}

// document is the policy as JSON.
func (p *policy) document(resource string) string {
	d := struct {
		Version   string
		ID        string `json:"Id"`
		Statement []permissionStatement
	}{"2012-10-17", "default", []permissionStatement{}}
	for i := range p.Statements {
		d.Statement = append(d.Statement, p.Statements[i].document(resource))
	}
	return mustJSON(d)
}

func isAccount(s string) bool { return len(s) == 12 && all(s, digit) }

// isPrincipal reports whether AddPermission takes a principal: an account, its root, a user, a role, a session of one, a service, or everyone.
func isPrincipal(s string) bool {
	if s == "*" || isAccount(s) {
		return true
	}
	for _, domain := range []string{".amazonaws.com", ".amazon.com", ".amazonaws.com.cn"} { // alexa-appkit.amazon.com has its own
		if host, ok := strings.CutSuffix(s, domain); ok {
			return host != "" && all(host, func(c byte) bool { return letter(c) || digit(c) || c == '.' || c == '-' })
		}
	}
	a, err := arn.Parse(s)
	if err != nil || a.Region != "" || !isAccount(a.Account) {
		return false
	}
	kind, name, _ := strings.Cut(a.Resource, "/")
	switch {
	case strings.ContainsAny(name, "*?"):
		return false
	case a.Service == "iam":
		return a.Resource == "root" || (kind == "user" || kind == "role") && name != ""
	case a.Service == "sts":
		return (kind == "assumed-role" || kind == "federated-user") && name != ""
	}
	return false
}

const policyKind = "policy"

func getPolicyRow(r kv.Reader, c scope, name, qualifier string) (*policy, error) {
	p, err := get[policy](r, c.hangingKey(name, qualifier, policyKind))
	if err == nil && p == nil {
		p = &policy{}
	}
	return p, err
}

// holder is what has a policy: $LATEST, a version or an alias. Its revision changes with the policy.
type holder struct {
	version *version
	alias   *alias
}

func (c scope) holder(r kv.Reader, ref reference) (h holder, err error) {
	if ref.qualifier == "" || isVersion(ref.qualifier) {
		h.version, err = c.find(r, ref.name, ref.qualifier)
		return h, err
	}
	if _, err := c.find(r, ref.name, ""); err != nil {
		return h, err
	}
	if strings.Contains(ref.qualifier, "$") { // may be asked for, and is no alias's name
		return h, lambdaapi.ErrResourceNotFoundException("Function not found: %s", c.qualifiedARN(ref.name, ref.qualifier))
	}
	h.alias, err = getAlias(r, c, ref.name, ref.qualifier)
	if err == nil && h.alias == nil {
		err = lambdaapi.ErrResourceNotFoundException("Cannot find alias arn: %s", c.qualifiedARN(ref.name, ref.qualifier))
	}
	return h, err
}

func (h *holder) revision() string {
	if h.alias != nil {
		return h.alias.RevisionID
	}
	return h.version.RevisionID
}

// revise gives the holder of a policy a new revision.
func (h *holder) revise(tx kv.Tx, c scope) error {
	revision := call.NewRequestID()
	if h.alias != nil {
		h.alias.RevisionID = revision
		return kv.SetJSON(tx, c.aliasKey(h.alias.Function, h.alias.Name), h.alias)
	}
	after := *h.version
	after.RevisionID = revision
	return putVersion(tx, c, h.version, &after)
}

// locatePolicy finds out whose policy a call means.
func locatePolicy(ctx context.Context, operation string, name, qualifier *string) (scope, reference, error) {
	c, ref, err := locate(ctx, operation, name, qualifier)
	if err == nil && ref.qualifier == latest {
		err = lambdaapi.ErrInvalidParameterValueException("We currently do not support adding policies for $LATEST.")
	}
	return c, ref, err
}

func (s *Service) addPermission(ctx context.Context, in *lambdaapi.AddPermissionInput) (*lambdaapi.AddPermissionOutput, error) {
	c, ref, err := locatePolicy(ctx, "AddPermission", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	added := permission{
		ID: deref(in.StatementId), Action: deref(in.Action), Principal: deref(in.Principal), SourceARN: deref(in.SourceArn),
		SourceAccount: deref(in.SourceAccount), Token: deref(in.EventSourceToken), OrganizationID: deref(in.PrincipalOrgID),
		URLAuthType: deref(in.FunctionUrlAuthType), ViaURL: in.InvokedViaFunctionUrl,
	}
	switch {
	case !isPrincipal(added.Principal):
		return nil, lambdaapi.ErrInvalidParameterValueException("The provided principal was invalid. Please check the principal and try again.")
	case added.URLAuthType != "" && added.Action != "lambda:InvokeFunctionUrl":
		return nil, lambdaapi.ErrInvalidParameterValueException("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
	case added.ViaURL != nil && added.Action != "lambda:InvokeFunction":
		return nil, lambdaapi.ErrInvalidParameterValueException("InvokedViaFunctionUrl is only supported for lambda:InvokeFunction action")
	}
	resource := c.qualifiedARN(ref.name, ref.qualifier)
	defer s.targets.change(c, ref.name)()
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		h, err := c.holder(tx, ref)
		if err != nil {
			return err
		}
		if err := samePermissions(h.revision(), in.RevisionId); err != nil {
			return err
		}
		p, err := getPolicyRow(tx, c, ref.name, ref.qualifier)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(p.Statements, func(s permission) bool { return s.ID == added.ID }) {
			return lambdaapi.ErrResourceConflictException(
				"The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", added.ID)
		}
		p.Statements = append(p.Statements, added)
		if size := len(p.document(resource)); size > maxPolicy {
			return lambdaapi.ErrPolicyLengthExceededException("The final policy size (%d) is bigger than the limit (%d).", size, maxPolicy)
		}
		if err := h.revise(tx, c); err != nil {
			return err
		}
		return c.hang(tx, ref.name, ref.qualifier, policyKind, p)
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.AddPermissionOutput{Statement: new(mustJSON(added.document(resource)))}, nil
}

func samePermissions(have string, want *string) error {
	if want == nil || *want == "" || *want == have {
		return nil
	}
	return lambdaapi.ErrPreconditionFailedException(
		"The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id")
}

func (s *Service) removePermission(ctx context.Context, in *lambdaapi.RemovePermissionInput) (*lambdaapi.RemovePermissionOutput, error) {
	c, ref, err := locatePolicy(ctx, "RemovePermission", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	defer s.targets.change(c, ref.name)()
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		if f, err := getFunction(tx, c, ref.name); err != nil || f == nil {
			if err == nil {
				err = lambdaapi.ErrResourceNotFoundException("No policy found for: %s", c.qualifiedARN(ref.name, ""))
			}
			return err
		}
		h, err := c.holder(tx, ref)
		if err != nil {
			return err
		}
		p, err := getPolicyRow(tx, c, ref.name, ref.qualifier)
		if err != nil {
			return err
		}
		if len(p.Statements) == 0 {
			return errNoPolicy()
		}
		i := slices.IndexFunc(p.Statements, func(s permission) bool { return s.ID == deref(in.StatementId) })
		if i < 0 {
			return lambdaapi.ErrResourceNotFoundException("Statement %s is not found in resource policy.", deref(in.StatementId))
		}
		if err := samePermissions(h.revision(), in.RevisionId); err != nil {
			return err
		}
		if err := h.revise(tx, c); err != nil {
			return err
		}
		p.Statements = slices.Delete(p.Statements, i, i+1)
		if len(p.Statements) == 0 {
			tx.Delete(c.hangingKey(ref.name, ref.qualifier, policyKind))
			return nil
		}
		return c.hang(tx, ref.name, ref.qualifier, policyKind, p)
	})
}

func (s *Service) getPolicy(ctx context.Context, in *lambdaapi.GetPolicyInput) (*lambdaapi.GetPolicyOutput, error) {
	c, ref, err := locate(ctx, "GetPolicy", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if ref.qualifier == latest {
		ref.qualifier = ""
	}
	out := &lambdaapi.GetPolicyOutput{}
	err = s.db.View(ctx, func(r kv.Reader) error {
		// AWS does not tell apart what has no policy and what does not exist.
		p, err := getPolicyRow(r, c, ref.name, ref.qualifier)
		if err != nil {
			return err
		}
		if len(p.Statements) == 0 {
			return lambdaapi.ErrResourceNotFoundException("The resource you requested does not exist.")
		}
		h, err := c.holder(r, ref)
		if err != nil {
			return err
		}
		out.Policy, out.RevisionId = new(p.document(c.qualifiedARN(ref.name, ref.qualifier))), new(h.revision())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// FunctionPolicy returns the policy of a function, version or alias with an ARN, nil if it has none or does not exist. It answers
// from memory as long as the function is not changed. The error is trouble of the store.
func (s *Service) FunctionPolicy(ctx context.Context, resource string) (*iampolicy.Compiled, error) {
	f, ok := arn.ParseFunction(resource)
	if !ok || f.Account == "" || f.Region == "" {
		return nil, nil
	}
	c := scope{f.Account, f.Region}
	qualifier := f.Qualifier
	if qualifier == latest {
		qualifier = ""
	}
	if p, ok := s.targets.policy(c, f.Name, qualifier); ok {
		return p, nil
	}
	turn := s.targets.now()
	var found *iampolicy.Compiled
	exists := false
	err := s.db.View(ctx, func(r kv.Reader) error {
		if _, err := c.holder(r, reference{name: f.Name, qualifier: qualifier}); err != nil {
			if apierr.Code(err) == "ResourceNotFoundException" {
				return nil
			}
			return err
		}
		exists = true
		p, err := getPolicyRow(r, c, f.Name, qualifier)
		if err != nil || len(p.Statements) == 0 {
			return err
		}
		id := c.qualifiedARN(f.Name, qualifier)
		parsed, err := iampolicy.Parse(p.document(id), iampolicy.Resource)
		if err == nil {
			found = iampolicy.Compile(parsed, id)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if exists { // names that callers make up take no memory
		s.targets.putPolicy(c, f.Name, qualifier, found, turn)
	}
	return found, nil
}
