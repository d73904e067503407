package authorize

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// Refusal is one call that was not allowed, and what would allow it.
type Refusal struct {
	Time      time.Time `json:"time"`
	RequestID string    `json:"requestId,omitempty"`
	Account   string    `json:"account"` // of the caller
	Principal string    `json:"principal"`
	Function  string    `json:"function,omitempty"`  // whose environment called
	Operation string    `json:"operation,omitempty"` // empty for what is no operation
	Action    string    `json:"action"`
	Resource  string    `json:"resource"`

	// Reason is how AWS ends its message. PolicyType is the type of policy that denies, or in which an Allow is missing.
	Reason     string `json:"reason"`
	PolicyType string `json:"policyType"`
	Denies     bool   `json:"denies"`              // a statement denies; otherwise one that allows is missing
	Policy     string `json:"policy,omitempty"`    // of the statement that denies: name or ARN
	Statement  string `json:"statement,omitempty"` // its Sid, or its number from 1

	// Nearly are statements that would allow the call but for a condition or the principal they name, in a sentence each.
	Nearly []string `json:"nearly,omitempty"`

	Keys map[string][]string `json:"keys"` // the condition keys that the call had
	Fix  Fix                 `json:"fix"`
}

// Fix is what would allow a call.
type Fix struct {
	Advice string    `json:"advice"`           // where it belongs, in a sentence
	Policy *Document `json:"policy,omitempty"` // nil where nothing that is added helps
}

// maxRefusals is how many refusals are kept.
const maxRefusals = 256

// refusals keeps the last refusals, in memory and in the store.
type refusals struct {
	mu     sync.Mutex
	last   []Refusal // oldest first
	number uint64    // of the newest
	stored uint64    // newest that is in the store
}

// Keys: authorize/refused/<number>. Numbers rise.

func refusalKey(n uint64) []byte { return kv.Key("authorize", "refused", int64(n)) }

func (r *refusals) add(f Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) >= maxRefusals {
		r.last = slices.Delete(r.last, 0, len(r.last)-maxRefusals+1)
	}
	r.last = append(r.last, f)
	r.number++
}

func (r *refusals) load(ctx context.Context, db kv.DB) error {
	var old []Refusal
	last := int64(0)
	err := db.View(ctx, func(rd kv.Reader) error {
		for rec, err := range kv.ScanJSON[numbered](rd, kv.Prefix("authorize", "refused")) {
			if err != nil {
				return err
			}
			old, last = append(old, rec.Value.Refusal), rec.Value.Number
		}
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = append(old, r.last...)
	r.number += uint64(last)
	r.stored = uint64(last)
	return err
}

// numbered is the record of a refusal.
type numbered struct {
	Number int64
	Refusal
}

func (r *refusals) store(ctx context.Context, db kv.DB) error {
	r.mu.Lock()
	from, to := r.stored, r.number
	if from == to {
		r.mu.Unlock()
		return nil
	}
	fresh := slices.Clone(r.last[len(r.last)-int(min(to-from, uint64(len(r.last)))):])
	r.mu.Unlock()
	err := db.Update(ctx, func(tx kv.Tx) error {
		for i, f := range fresh {
			n := to - uint64(len(fresh)-1-i)
			if err := kv.SetJSON(tx, refusalKey(n), numbered{int64(n), f}); err != nil {
				return err
			}
		}
		// In the store are the maxRefusals before from.
		for n := max(from, maxRefusals) - maxRefusals + 1; n <= from && n+maxRefusals <= to; n++ {
			tx.Delete(refusalKey(n))
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.stored = to
	r.mu.Unlock()
	return nil
}

// Refusals returns the last calls in an account that were refused, newest first: at most n, and only those whose principal or function
// has a text in its ARN.
func (a *Authorizer) Refusals(account, principal string, n int) []Refusal {
	a.refusals.mu.Lock()
	defer a.refusals.mu.Unlock()
	out := []Refusal{}
	for _, f := range slices.Backward(a.refusals.last) {
		if len(out) == n {
			break
		}
		if f.Account == account && (principal == "" || strings.Contains(f.Principal, principal) || strings.Contains(f.Function, principal)) {
			out = append(out, f)
		}
	}
	return out
}

// explain describes a refusal. It costs what it costs: the call has failed.
func (a *Authorizer) explain(e *evaluation, operation string, d *iampolicy.Decision, q *asked) Refusal {
	r := &e.request
	f := Refusal{
		Time: time.Now().UTC(), RequestID: e.info.RequestID, Account: e.info.Account, Principal: e.caller.ARN,
		Operation: operation, Action: r.Action, Resource: r.Resource,
		Reason: d.Reason(r.Action), PolicyType: d.Type.String(), Denies: d.ExplicitDeny,
		Keys: map[string][]string{},
	}
	if f.Principal == "" {
		f.Principal = r.Caller.Name
	}
	if e.caller.Session != nil {
		f.Function = e.caller.Session.Function
	}
	if d.ExplicitDeny {
		f.Policy, f.Statement = d.Match.PolicyID, statementName(d.Match)
	}
	e.eachKey(func(name string) {
		if v, ok := e.Values(strings.ToLower(name)); ok {
			f.Keys[name] = slices.Clone(v)
		}
	})
	if !d.ExplicitDeny {
		for m := range iampolicy.Misses(r, &e.policies) {
			if m.Type == d.Type {
				f.Nearly = append(f.Nearly, nearly(m))
			}
		}
	}
	e.err = nil // of tags that only this page wanted
	f.Fix = e.fix(d)
	return f
}

func nearly(m iampolicy.Miss) string {
	s := "Statement " + statementName(m.Match) + " of the " + m.Type.String()
	if m.PolicyID != "" {
		s += " " + m.PolicyID
	}
	if m.Principal {
		return s + " would allow it, but names other principals."
	}
	return s + " would allow it, but its condition is not met: " + m.Condition
}

func statementName(m iampolicy.Match) string {
	if m.Sid != "" {
		return m.Sid
	}
	return strconv.Itoa(m.Statement + 1)
}

// eachKey yields the condition keys that the call may have.
func (e *evaluation) eachKey(yield func(string)) {
	for _, k := range globalKeys {
		yield(k)
	}
	for k := range e.extra {
		if !slices.ContainsFunc(globalKeys, func(g string) bool { return strings.EqualFold(g, k) }) {
			yield(k)
		}
	}
	tags := func(prefix string, t map[string]string) {
		for k := range t {
			yield(prefix + k)
		}
	}
	tags("aws:ResourceTag/", e.resourceTags())
	if e.identity != nil && e.caller.Type != call.FederatedUser {
		tags("aws:PrincipalTag/", e.identity.Tags)
	}
	if e.caller.Session != nil {
		tags("aws:PrincipalTag/", e.caller.Session.Tags)
	}
	for _, k := range e.check.keys {
		yield(k.given)
	}
	if e.check.tags != nil {
		eachTag(e.in, e.check.tags, func(k, _ string) bool { yield("aws:RequestTag/" + k); return true })
	}
}

// fix proposes the smallest statement that would allow the request, and where it belongs.
func (e *evaluation) fix(d *iampolicy.Decision) Fix {
	r := &e.request
	if d.ExplicitDeny {
		where := "Statement " + statementName(d.Match) + " of the " + d.Type.String()
		if d.Match.PolicyID != "" {
			where += " " + d.Match.PolicyID
		}
		return Fix{Advice: where + " denies it. No other statement can allow it: narrow or remove this one."}
	}
	s := Statement{Effect: "Allow", Action: Texts{r.Action}, Resource: Texts{asPattern(r.Resource)}}
	who, kind := e.holder()
	fix := Fix{}
	switch d.Type {
	case iampolicy.ResourcePolicy:
		s.Principal = e.principalElement()
		fix.Advice = "Add the statement to the policy of the resource, which belongs to account " + r.ResourceAccount + "."
		if serviceOf(r.Resource) == "lambda" {
			fix.Advice = "Add it to the function's policy: aws lambda add-permission --function-name " + r.Resource + " --statement-id allow --action " + r.Action + " --principal " + e.principalName()
		}
	case iampolicy.TrustPolicy:
		s.Principal, s.Resource = e.principalElement(), nil
		fix.Advice = "Add the statement to the trust policy of " + r.Resource + " (aws iam update-assume-role-policy)."
	case iampolicy.BoundaryPolicy:
		fix.Advice = "Add the statement to the permissions boundary of " + who + "."
		if e.policies.Boundary != nil {
			fix.Advice = "Add the statement to " + e.policies.Boundary.ID() + ", the permissions boundary of " + who + "."
		}
	case iampolicy.SessionPolicy:
		fix.Advice = "Add the statement to the session policies with which the session was made."
	default:
		name := who[strings.LastIndexByte(who, '/')+1:]
		fix.Advice = "Attach the policy to " + kind + " " + name + ": aws iam put-" + kind + "-policy --" + kind + "-name " + name + " --policy-name NAME --policy-document FILE"
	}
	fix.Policy = &Document{Version: "2012-10-17", Statement: []Statement{s}}
	return fix
}

// holder is the role or user whose policies count.
func (e *evaluation) holder() (arn, kind string) {
	arn = e.caller.ARN
	if s := e.caller.Session; s != nil && s.Issuer != "" && e.caller.Type != call.User {
		arn = s.Issuer
	}
	if isRole(arn) {
		return arn, "role"
	}
	return arn, "user"
}

func (e *evaluation) principalElement() map[string]string {
	switch e.caller.Type {
	case call.Service:
		return map[string]string{"Service": e.caller.Service}
	case call.WebIdentity:
		return map[string]string{"Federated": e.request.Caller.Name}
	}
	return map[string]string{"AWS": e.principalName()}
}

func (e *evaluation) principalName() string {
	if e.caller.Type == call.Service {
		return e.caller.Service
	}
	arn, _ := e.holder()
	return arn
}

// asPattern is a resource as a policy should name it: the group-level operations of CloudWatch Logs ask for what the streams
// begin with.
func asPattern(resource string) string {
	if group, ok := strings.CutSuffix(resource, ":log-stream:"); ok && serviceOf(resource) == "logs" {
		return group + ":*"
	}
	return resource
}
