package authorize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// Deps is what an Authorizer needs.
type Deps struct {
	Services []*smithy.Service
	DB       kv.DB        // keeps what was used and refused; nil keeps it in memory only
	Log      *slog.Logger // nil discards

	// Dev lets sessions of roles that do not exist do everything.
	Dev bool
}

// Authorizer is the gate's Authorizer. Its methods may be called concurrently once everything is registered.
type Authorizer struct {
	rules      map[*smithy.OpInfo]*rule
	denials    map[string]denial // by the prefix of the action
	identities Identities
	resources  map[string]Resources
	dev        bool
	log        *slog.Logger
	pool       sync.Pool

	documents  Documents // inline session policies
	refusals   refusals
	used       used
	db         kv.DB
	recordings chan struct{} // wakes Run
}

// New returns an Authorizer. Identities, and Resources of the services that have policies or tags, are registered before the
// first call.
func New(d Deps) (*Authorizer, error) {
	a := &Authorizer{
		rules: map[*smithy.OpInfo]*rule{}, denials: map[string]denial{}, identities: nobody{}, resources: map[string]Resources{},
		dev: d.Dev, log: d.Log, db: d.DB, recordings: make(chan struct{}, 1),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.used.init()
	a.pool.New = func() any {
		e := &evaluation{}
		e.add = func(resource string) {
			e.asked = append(e.asked, asked{e.check, resource, e.display})
			e.display = ""
		}
		return e
	}
	for _, svc := range d.Services {
		rules, err := compile(svc)
		if err != nil {
			return nil, err
		}
		for op, r := range rules {
			a.rules[op] = r
		}
		a.denials[svc.SigningName] = denialOf(svc)
	}
	return a, nil
}

// RegisterIdentities says who knows the users and roles. Without it there are none.
func (a *Authorizer) RegisterIdentities(i Identities) { a.identities = i }

// RegisterResources says who knows the policies and tags of the resources of a service, as ARNs name it ("lambda").
func (a *Authorizer) RegisterResources(service string, r Resources) { a.resources[service] = r }

// Knows reports whether the tables have a line for an operation. Others are asked for by their name, on all resources.
func (a *Authorizer) Knows(op *smithy.OpInfo) bool { return a.rules[op] != nil && a.rules[op].line }

// denial is how a service refuses: services that speak JSON answer 400 to everything.
type denial struct {
	code   string
	status int
	token  string // code for credentials that do not hold any more
}

// authorizationError is how services refuse that have an error of their own for it.
const authorizationError = "AuthorizationErrorException"

func denialOf(svc *smithy.Service) denial {
	switch {
	case svc.ErrorShape(authorizationError) != nil: // SNS
		return denial{authorizationError, http.StatusForbidden, "InvalidClientTokenId"}
	case svc.QueryCompatible, slices.Contains(svc.Protocols, smithy.Query), slices.Contains(svc.Protocols, smithy.RESTXML):
		return denial{"AccessDenied", http.StatusForbidden, "InvalidClientTokenId"}
	case slices.Contains(svc.Protocols, smithy.RESTJSON):
		return denial{"AccessDeniedException", http.StatusForbidden, "UnrecognizedClientException"}
	}
	return denial{"AccessDeniedException", http.StatusBadRequest, "UnrecognizedClientException"}
}

// Authorize implements gate.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, op *smithy.OpInfo, in any) error {
	info := call.From(ctx)
	if info.Principal.Type == call.Service {
		return nil
	}
	r := a.rules[op]
	switch {
	case r == nil:
		return fmt.Errorf("authorize: no rule for %s", op)
	case len(r.checks) == 0:
		return nil
	}
	value := reflect.ValueOf(in).Elem()
	if info.Principal.Type == call.Root && !r.mayReachOut(value, info.Account) {
		return nil
	}
	if err := restricted(&info.Principal, op); err != nil {
		return err
	}
	e := a.pool.Get().(*evaluation)
	defer a.put(e)
	e.a, e.ctx, e.info, e.caller, e.in = a, ctx, info, &info.Principal, value
	e.denial = denialOf(op.Service)
	for i := range r.checks {
		c := &r.checks[i]
		if c.when != nil {
			if _, given := c.when.value(value); !given {
				continue
			}
		}
		e.check = c
		n := len(e.asked)
		for j := range c.forms {
			c.forms[j].make(e, &c.forms[j], e.add)
		}
		if len(e.asked) == n && !c.also {
			e.add("*") // the input names none
		}
	}
	d, denied, err := e.decide()
	if err != nil || denied == nil {
		return err
	}
	return a.refuse(e, op.Action(), d, denied, e.denial)
}

// mayReachOut reports whether an input may name something of another account.
func (r *rule) mayReachOut(in reflect.Value, account string) bool {
	for i := range r.names {
		v, ok := r.names[i].value(in)
		if !ok {
			continue
		}
		switch v.Kind() {
		case reflect.String:
			s := v.String()
			if named, ok := tokenARN(s); ok {
				s = named
			}
			if strings.Contains(s, ":") && !isQueueOf(s, account) {
				return true
			}
		case reflect.Slice:
			return true
		}
	}
	return false
}

// isQueueOf reports whether s is the URL of a queue of an account.
func isQueueOf(s, account string) bool {
	q, ok := arn.ParseQueueURL(s)
	return ok && q.Account == account
}

// restricted refuses what temporary credentials of users cannot do, whatever policies say: IAM without a second factor, and IAM
// at all for federated users.
func restricted(p *call.Principal, op *smithy.OpInfo) error {
	if op.Service.Name != "iam" || p.Session == nil {
		return nil
	}
	if p.Type == call.FederatedUser || p.Type == call.User && !p.Session.MFA {
		return apierr.New("InvalidClientTokenId", http.StatusForbidden, "The security token included in the request is invalid")
	}
	return nil
}

// Check implements Checker.
func (a *Authorizer) Check(ctx context.Context, r Request) error {
	info := call.From(ctx)
	e := a.pool.Get().(*evaluation)
	defer a.put(e)
	e.a, e.ctx, e.info, e.caller, e.extra = a, ctx, info, &info.Principal, r.Keys
	if r.Caller != nil {
		e.caller = r.Caller
	}
	action := check{action: r.Action}
	e.check = &action
	e.add(r.Resource)
	prefix, _, _ := strings.Cut(r.Action, ":")
	known, ok := a.denials[prefix]
	if !ok {
		known = denial{"AccessDeniedException", http.StatusForbidden, "UnrecognizedClientException"}
	}
	e.denial = known
	d, denied, err := e.decide()
	if err != nil || denied == nil {
		return err
	}
	return a.refuse(e, "", d, denied, e.denial)
}

func (a *Authorizer) put(e *evaluation) {
	e.reset()
	a.pool.Put(e)
}

// decide asks for everything in e.asked. It returns what is denied, or nil.
func (e *evaluation) decide() (d iampolicy.Decision, denied *asked, err error) {
	if e.err != nil {
		return d, nil, e.err
	}
	subject, err := e.principal()
	if err != nil {
		return d, nil, err
	}
	everything := e.a.dev && e.identity == nil && e.caller.Type == call.AssumedRole
	for i := range e.asked {
		q := &e.asked[i]
		if !everything {
			e.check = q.check
			e.ask(q)
			d = iampolicy.Evaluate(&e.request, &e.policies)
			if e.err != nil {
				return d, nil, e.err
			}
		}
		allowed := everything || d.Allowed
		if subject != "" {
			e.a.used.record(e, subject, q.check.action, q.resource, allowed)
		}
		if !allowed {
			return d, q, nil
		}
	}
	return d, nil, nil
}

// principal finds the policies of the caller. The subject is whose use is recorded: the function, else the role or user.
func (e *evaluation) principal() (subject string, err error) {
	p, s := e.caller, e.caller.Session
	c := &e.request.Caller
	*c = iampolicy.Caller{ARN: p.ARN, ID: p.UserID, Account: accountOf(p.ARN)}
	switch p.Type {
	case call.Root:
		c.Type = iampolicy.Root
		return "", nil
	case call.User:
		c.Type, subject = iampolicy.User, p.ARN
	case call.AssumedRole:
		c.Type = iampolicy.RoleSession
	case call.FederatedUser:
		c.Type = iampolicy.FederatedUserSession
	case call.Service:
		c.Type, c.Name, c.ARN, c.Account = iampolicy.Service, p.Service, "", ""
		return "", nil
	case call.WebIdentity:
		c.Type, c.Account = iampolicy.WebIdentity, ""
		if c.Name = p.ARN; s != nil && s.Provider != "" {
			c.Name = s.Provider
		}
		return "", nil
	default:
		c.Type, c.Account = iampolicy.Anonymous, ""
		return "", nil
	}
	if s != nil && p.Type != call.User {
		subject, c.Issuer = s.Issuer, s.Issuer
	}
	if e.identity = e.lookup(subject); e.identity != nil && !sameIdentity(e.identity, p) {
		e.identity = nil
		if p.Type != call.FederatedUser && !e.a.dev {
			return "", apierr.New(e.denial.token, e.denial.status, "The security token included in the request is invalid.")
		}
	}
	if id := e.identity; id != nil {
		e.policies.Boundary = id.Boundary
	}
	if s != nil {
		if s.Function != "" {
			subject = s.Function
		}
		if err := e.sessionPolicies(s); err != nil {
			return "", err
		}
	}
	return subject, e.err
}

// sameIdentity reports whether a role or user is still the one that the credentials were made for, and not one of the same
// name that came after it.
func sameIdentity(id *Identity, p *call.Principal) bool {
	switch p.Type {
	case call.AssumedRole:
		rest, ok := strings.CutPrefix(p.UserID, id.ID)
		return ok && strings.HasPrefix(rest, ":")
	case call.User:
		return p.UserID == id.ID
	}
	return true
}

func (e *evaluation) sessionPolicies(s *call.Session) error {
	for _, document := range s.Policies {
		c, err := e.a.documents.Compile(document, iampolicy.Identity, "session policy")
		if err != nil {
			return fmt.Errorf("session policy: %w", err)
		}
		e.session = append(e.session, c)
	}
	for _, arn := range s.PolicyARNs {
		c, err := e.a.identities.ManagedPolicy(e.ctx, arn)
		if err != nil {
			return err
		}
		if c == nil {
			c = &iampolicy.Compiled{} // it is gone, and allows nothing
		}
		e.session = append(e.session, c)
	}
	e.policies.Session = e.session
	return nil
}

// nothing is the policy of what has none, where one is needed.
var nothing = &iampolicy.Compiled{}

// ask sets the request and the policies of its resource.
func (e *evaluation) ask(q *asked) {
	e.next()
	e.request.Action, e.request.Resource, e.request.Context = q.check.action, q.resource, e
	e.policies.Identity, e.policies.Resource, e.policies.Trust = nil, nil, nil
	if e.identity != nil {
		e.policies.Identity = e.identity.policies(q.check.action, q.resource)
	}
	account := accountOf(q.resource)
	if account == "" || account == "aws" {
		account = e.request.Caller.Account
	}
	e.request.ResourceAccount = account
	if strings.HasPrefix(q.check.action, "sts:") && isRole(q.resource) {
		e.policies.Trust = nothing
		if role := e.lookup(q.resource); role != nil && role.Trust != nil {
			e.policies.Trust = role.Trust
		}
		return
	}
	if r := e.a.resources[serviceOf(q.resource)]; r != nil {
		var err error
		if e.policies.Resource, err = r.Policy(e.ctx, q.resource); err != nil {
			e.fail(err)
		}
	}
}

// refuse remembers a refusal and puts it into AWS's words.
func (a *Authorizer) refuse(e *evaluation, operation string, d iampolicy.Decision, q *asked, how denial) error {
	a.refusals.add(a.explain(e, operation, &d, q))
	a.wake()
	return &apierr.Error{Code: how.code, Status: how.status, Message: message(e, &d, q)}
}

// message is AWS's. Who may not assume a role is not told why, unless a policy says so.
func message(e *evaluation, d *iampolicy.Decision, q *asked) string {
	switch {
	case strings.HasPrefix(q.check.action, "sts:AssumeRoleWith"):
		return "Not authorized to perform " + q.check.action
	case q.check.action == "iam:PassRole" && e.request.ResourceAccount != e.request.Caller.Account:
		return "Cross-account pass role is not allowed."
	case q.check.action == "logs:TagResource" && q.check.also:
		return "User with accountId: " + e.request.Caller.Account + " is not authorized to perform CreateLogGroup with Tags"
	}
	r := e.request
	if q.display != "" {
		r.Resource = q.display
	}
	if d.Type == iampolicy.TrustPolicy && !d.ExplicitDeny {
		return "User: " + r.Caller.ARN + " is not authorized to perform: " + r.Action + " on resource: " + r.Resource
	}
	switch service, name, _ := strings.Cut(r.Action, ":"); service { // as each writes it
	case "sns":
		r.Action = "SNS:" + name
	case "sqs":
		r.Action = strings.ToLower(r.Action)
	}
	return d.Message(&r)
}

func (a *Authorizer) wake() {
	select {
	case a.recordings <- struct{}{}:
	default:
	}
}

// linger is how long what was used or refused waits to be stored, so that much of it shares one write.
const linger = time.Second

// Run stores what was used and refused until ctx ends, and then what is left. A crash loses a second of it.
func (a *Authorizer) Run(ctx context.Context) error {
	if a.db == nil {
		<-ctx.Done()
		return nil
	}
	if err := a.load(ctx); err != nil { // it explains and proposes: nothing else depends on it
		a.log.Error("what was used and refused before is not known", "err", err)
	}
	for {
		select {
		case <-ctx.Done():
			return a.store(context.WithoutCancel(ctx))
		case <-a.recordings:
		}
		select {
		case <-ctx.Done():
		case <-time.After(linger):
		}
		if err := a.store(context.WithoutCancel(ctx)); err != nil {
			a.log.Error("what was used and refused is not stored, will try again", "err", err)
		}
	}
}

func (a *Authorizer) load(ctx context.Context) error {
	return errors.Join(a.refusals.load(ctx, a.db), a.used.load(ctx, a.db))
}

func (a *Authorizer) store(ctx context.Context) error {
	return errors.Join(a.refusals.store(ctx, a.db), a.used.store(ctx, a.db))
}

// nobody is Identities without any.
type nobody struct{}

func (nobody) Identity(context.Context, string) (*Identity, error) { return nil, nil }
func (nobody) ManagedPolicy(context.Context, string) (*iampolicy.Compiled, error) {
	return nil, nil
}
func (nobody) ARN(_ context.Context, account, kind, name string) (string, error) {
	return "arn:aws:iam::" + account + ":" + kind + "/" + name, nil
}

var _ Checker = (*Authorizer)(nil)
