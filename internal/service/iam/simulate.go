package iam

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// source is a policy of a simulation.
type source struct {
	id, kind string // as answers name it
	document string
	compiled *iampolicy.Compiled
}

// simulation is the policies of a simulation and what it is asked.
type simulation struct {
	sources  map[string]*source // by id
	policies iampolicy.Policies
	caller   iampolicy.Caller
	owner    string // account of the resources; empty: the caller's
	context  iampolicy.Values
}

func newSimulation(entries []iamapi.ContextEntry) *simulation {
	sim := &simulation{sources: map[string]*source{}, context: iampolicy.Values{}}
	for _, e := range entries {
		if e.ContextKeyName != nil {
			sim.context.Set(*e.ContextKeyName, e.ContextKeyValues...)
		}
	}
	return sim
}

// Types of policies as AWS's answers name them.
const (
	iamPolicy      = "IAM Policy"
	resourcePolicy = "Resource Policy"
)

// add parses and keeps a policy.
func (sim *simulation) add(id, kind, document string, grammar iampolicy.Kind) (*iampolicy.Compiled, error) {
	p, err := iampolicy.Parse(document, grammar)
	if err != nil {
		return nil, iamapi.ErrInvalidInputException("Invalid policy input: %s", err.Error())
	}
	src := &source{id, kind, document, iampolicy.Compile(p, id)}
	sim.sources[id] = src
	return src.compiled, nil
}

func (sim *simulation) addIdentity(id, document string) error {
	c, err := sim.add(id, iamPolicy, document, iampolicy.Identity)
	if err == nil {
		sim.policies.Identity = append(sim.policies.Identity, c)
	}
	return err
}

// request are the members that both operations share.
type request struct {
	inputs, boundaries, actions, resources []string
	resourcePolicy, owner, caller          *string
	marker                                 *string
	max                                    *int32
}

func (s *Service) simulateCustomPolicy(ctx context.Context, in *iamapi.SimulateCustomPolicyInput) (*iamapi.SimulatePolicyResponse, error) {
	return simulate(ctx, newSimulation(in.ContextEntries), &request{
		in.PolicyInputList, in.PermissionsBoundaryPolicyInputList, in.ActionNames, in.ResourceArns, in.ResourcePolicy, in.ResourceOwner, in.CallerArn, in.Marker, in.MaxItems,
	})
}

func (s *Service) simulatePrincipalPolicy(ctx context.Context, in *iamapi.SimulatePrincipalPolicyInput) (*iamapi.SimulatePolicyResponse, error) {
	sim := newSimulation(in.ContextEntries)
	if err := s.db.View(ctx, func(r kv.Reader) error { return sim.addPrincipal(r, account(ctx), *in.PolicySourceArn) }); err != nil {
		return nil, err
	}
	caller := in.CallerArn
	if caller == nil {
		caller = in.PolicySourceArn
	}
	return simulate(ctx, sim, &request{
		in.PolicyInputList, in.PermissionsBoundaryPolicyInputList, in.ActionNames, in.ResourceArns, in.ResourcePolicy, in.ResourceOwner, caller, in.Marker, in.MaxItems,
	})
}

// addPrincipal adds the policies of a user with its groups, a group or a role.
func (sim *simulation) addPrincipal(r kv.Reader, account, principalARN string) error {
	a, err := arn.Parse(principalARN)
	kind, rest, ok := strings.Cut(a.Resource, "/")
	if err != nil || !ok || a.Service != "iam" || a.Account != account {
		return iamapi.ErrInvalidInputException("Invalid Entity Arn: %s does not clearly define entity type and name.", principalARN)
	}
	name := rest[strings.LastIndexByte(rest, '/')+1:]
	boundary := ""
	switch kind {
	case "user":
		u, err := getUser(r, account, name)
		if err != nil {
			return err
		}
		boundary = u.Boundary
		if err := sim.addPermissions(r, account, "user_"+u.Name, &u.permissions); err != nil {
			return err
		}
		for _, name := range u.Groups {
			g, err := getGroup(r, account, name)
			if err != nil {
				return err
			}
			if err := sim.addPermissions(r, account, "group_"+g.Name, &g.permissions); err != nil {
				return err
			}
		}
	case "group":
		g, err := getGroup(r, account, name)
		if err != nil {
			return err
		}
		if err := sim.addPermissions(r, account, "group_"+g.Name, &g.permissions); err != nil {
			return err
		}
	case "role":
		v, err := getRole(r, account, name)
		if err != nil {
			return err
		}
		boundary = v.Boundary
		if err := sim.addPermissions(r, account, "role_"+v.Name, &v.permissions); err != nil {
			return err
		}
	default:
		return iamapi.ErrInvalidInputException("Invalid Entity Arn: %s does not clearly define entity type and name.", principalARN)
	}
	if boundary == "" {
		return nil
	}
	document, name, err := defaultDocument(r, account, boundary)
	if err != nil {
		return err
	}
	sim.policies.Boundary, err = sim.add("boundary_"+name, iamPolicy, document, iampolicy.Identity)
	return err
}

func (sim *simulation) addPermissions(r kv.Reader, account, owner string, p *permissions) error {
	for _, name := range slices.Sorted(maps.Keys(p.Inline)) {
		if err := sim.addIdentity(owner+"_"+name, p.Inline[name]); err != nil {
			return err
		}
	}
	for _, policyARN := range p.Attached {
		document, name, err := defaultDocument(r, account, policyARN)
		if err != nil {
			return err
		}
		if err := sim.addIdentity(name, document); err != nil {
			return err
		}
	}
	return nil
}

// defaultDocument reads the default version of a managed policy.
func defaultDocument(r kv.Reader, account, policyARN string) (document, name string, err error) {
	p, _, err := findPolicy(r, account, policyARN)
	if err != nil {
		return "", "", err
	}
	v, _ := p.version(versionName(p.Default))
	return v.Document, p.Name, nil
}

func simulate(ctx context.Context, sim *simulation, q *request) (*iamapi.SimulatePolicyResponse, error) {
	for i, document := range q.inputs {
		if err := sim.addIdentity(fmt.Sprintf("PolicyInputList.%d", i+1), document); err != nil {
			return nil, err
		}
	}
	for i, document := range q.boundaries {
		c, err := sim.add(fmt.Sprintf("PermissionsBoundaryPolicyInputList.%d", i+1), iamPolicy, document, iampolicy.Identity)
		if err != nil {
			return nil, err
		}
		sim.policies.Boundary = c
	}
	sim.caller = iampolicy.Caller{Type: iampolicy.User, Account: account(ctx), ARN: entityARN(account(ctx), "user", "/", "simulated")}
	if q.caller != nil {
		a, err := arn.Parse(*q.caller)
		if err != nil {
			return nil, iamapi.ErrInvalidInputException("Invalid caller ARN: %s", *q.caller)
		}
		sim.caller.ARN, sim.caller.Account = *q.caller, a.Account
		if strings.HasPrefix(a.Resource, "role/") {
			sim.caller.Type, sim.caller.Issuer = iampolicy.RoleSession, *q.caller
		}
	}
	if q.resourcePolicy != nil {
		if q.caller == nil {
			return nil, iamapi.ErrInvalidInputException("CallerArn is required when ResourcePolicy is specified.")
		}
		c, err := sim.add("ResourcePolicy", resourcePolicy, *q.resourcePolicy, iampolicy.Resource)
		if err != nil {
			return nil, err
		}
		sim.policies.Resource = c
	}
	if q.owner != nil {
		sim.owner = *q.owner
		if a, err := arn.Parse(*q.owner); err == nil {
			sim.owner = a.Account
		}
	}
	resources := q.resources
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	// Results are in the order of the question: a marker is the place of the last one returned. Only those of the page are evaluated.
	next, all := 0, len(q.actions)*len(resources)
	if q.marker != nil {
		n, err := strconv.Atoi(*q.marker)
		if err != nil || n < 1 || n > all {
			return nil, iamapi.ErrInvalidInputException("Invalid Marker.")
		}
		next = n
	}
	end := next + defaultPage
	if q.max != nil {
		end = next + int(*q.max)
	}
	out := &iamapi.SimulatePolicyResponse{EvaluationResults: []iamapi.EvaluationResult{}, IsTruncated: new(end < all)}
	for i := next; i < min(end, all); i++ {
		out.EvaluationResults = append(out.EvaluationResults, sim.evaluate(q.actions[i/len(resources)], resources[i%len(resources)], len(q.resources) > 0))
	}
	if end < all {
		out.Marker = new(strconv.Itoa(end))
	}
	return out, nil
}

func (sim *simulation) evaluate(action, resource string, specific bool) iamapi.EvaluationResult {
	r := &iampolicy.Request{Action: action, Resource: resource, ResourceAccount: sim.owner, Caller: sim.caller, Context: sim.context}
	d := iampolicy.Evaluate(r, &sim.policies)
	verdict := iamapi.PolicyEvaluationDecisionTypeImplicitDeny
	switch {
	case d.Allowed:
		verdict = iamapi.PolicyEvaluationDecisionTypeAllowed
	case d.ExplicitDeny:
		verdict = iamapi.PolicyEvaluationDecisionTypeExplicitDeny
	}
	out := iamapi.EvaluationResult{
		EvalActionName: &action, EvalResourceName: &resource, EvalDecision: &verdict,
		MatchedStatements: []iamapi.Statement{}, MissingContextValues: sim.missing(),
	}
	for m := range iampolicy.Matches(r, &sim.policies) {
		src := sim.sources[m.PolicyID]
		if m.Type == iampolicy.BoundaryPolicy || src == nil || d.ExplicitDeny && !m.Deny {
			continue
		}
		start, end := statementAt(src.document, m.Statement)
		out.MatchedStatements = append(out.MatchedStatements, iamapi.Statement{
			SourcePolicyId: &src.id, SourcePolicyType: &src.kind, StartPosition: start, EndPosition: end,
		})
	}
	if sim.policies.Boundary != nil {
		within := iampolicy.Evaluate(r, &iampolicy.Policies{Identity: []*iampolicy.Compiled{sim.policies.Boundary}})
		out.PermissionsBoundaryDecisionDetail = &iamapi.PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: &within.Allowed}
	}
	if specific {
		out.ResourceSpecificResults = []iamapi.ResourceSpecificResult{{
			EvalResourceName: &resource, EvalResourceDecision: &verdict, MatchedStatements: out.MatchedStatements,
			MissingContextValues: out.MissingContextValues, PermissionsBoundaryDecisionDetail: out.PermissionsBoundaryDecisionDetail,
		}}
	}
	return out
}

// missing lists the condition keys that the policies ask for and the simulation was not given.
func (sim *simulation) missing() []string {
	list := []string{}
	for _, key := range sim.keys() {
		if _, ok := sim.context.Values(key); !ok {
			list = append(list, key)
		}
	}
	return list
}

// keys lists the condition keys that the policies ask for.
func (sim *simulation) keys() []string {
	keys := map[string]bool{}
	for _, src := range sim.sources {
		for _, k := range src.compiled.Keys() {
			keys[k] = true
		}
	}
	return slices.AppendSeq([]string{}, slices.Values(slices.Sorted(maps.Keys(keys))))
}

// statementAt says where a statement stands in its document, lines and columns from 1.
func statementAt(document string, index int) (start, end *iamapi.Position) {
	d := jsontext.NewDecoder(strings.NewReader(document))
	d.ReadToken() // the document is valid: it was parsed
	for d.PeekKind() == jsontext.KindString {
		name, err := d.ReadToken()
		if err != nil {
			return nil, nil
		}
		if name.String() != "Statement" {
			d.SkipValue()
			continue
		}
		if d.PeekKind() == jsontext.KindBeginArray {
			d.ReadToken()
			for range index {
				d.SkipValue()
			}
		}
		v, err := d.ReadValue()
		if err != nil {
			return nil, nil
		}
		to := int(d.InputOffset())
		return position(document, to-len(v)), position(document, to)
	}
	return nil, nil
}

func position(document string, offset int) *iamapi.Position {
	before := document[:offset]
	line := strings.Count(before, "\n") + 1
	column := offset - strings.LastIndexByte(before, '\n')
	return &iamapi.Position{Line: new(int32(line)), Column: new(int32(column))}
}

// Context keys.

func (s *Service) getContextKeysForCustomPolicy(_ context.Context, in *iamapi.GetContextKeysForCustomPolicyInput) (*iamapi.GetContextKeysForPolicyResponse, error) {
	return contextKeys(newSimulation(nil), in.PolicyInputList)
}

func (s *Service) getContextKeysForPrincipalPolicy(ctx context.Context, in *iamapi.GetContextKeysForPrincipalPolicyInput) (*iamapi.GetContextKeysForPolicyResponse, error) {
	sim := newSimulation(nil)
	if err := s.db.View(ctx, func(r kv.Reader) error { return sim.addPrincipal(r, account(ctx), *in.PolicySourceArn) }); err != nil {
		return nil, err
	}
	return contextKeys(sim, in.PolicyInputList)
}

func contextKeys(sim *simulation, documents []string) (*iamapi.GetContextKeysForPolicyResponse, error) {
	for i, document := range documents {
		if err := sim.addIdentity(fmt.Sprintf("PolicyInputList.%d", i+1), document); err != nil {
			return nil, err
		}
	}
	return &iamapi.GetContextKeysForPolicyResponse{ContextKeyNames: sim.keys()}, nil
}
