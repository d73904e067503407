package authorize

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Document is a policy to print.
type Document struct {
	Version   string
	Statement []Statement
}

// Statement is a statement to print.
type Statement struct {
	Sid       string `json:",omitempty"`
	Effect    string
	Principal map[string]string `json:",omitempty"`
	Action    Texts
	Resource  Texts `json:",omitempty"`
}

// Texts is printed as a text where there is one, else as a list.
type Texts []string

// MarshalJSON implements json.Marshaler.
func (t Texts) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Texts) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = Texts{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// Proposal is the smallest policy for what somebody did.
type Proposal struct {
	Subject string    `json:"subject"` // ARN of the function, role or user
	Holder  string    `json:"holder"`  // ARN of the role or user that needs the policy
	Since   time.Time `json:"since"`   // when the watch began
	Policy  *Document `json:"policy"`  // nil if nothing was used
	Uses    []Use     `json:"uses"`

	// Unused are what the holder's policies allow and the subject never used, each "action pattern on resource pattern".
	Unused []string `json:"unused"`
}

// Propose makes the policy of a function, role or user from what it did: what was allowed and, with denied, what was refused too. The
// holder is the role or user whose policies count. More are uses that did not pass the gate.
func (a *Authorizer) Propose(ctx context.Context, subject, holder string, denied bool, more ...Use) (*Proposal, error) {
	p := &Proposal{Subject: subject, Holder: holder, Uses: []Use{}, Unused: []string{}}
	uses, since := a.Used(subject)
	p.Since = since
	for _, u := range append(uses, more...) {
		if denied || !u.Denied {
			p.Uses = append(p.Uses, u)
		}
	}
	sortUses(p.Uses)
	p.Policy = documentOf(p.Uses)
	id, err := a.identities.Identity(ctx, holder)
	if err != nil || id == nil {
		return p, err
	}
	for _, c := range id.Policies {
		for g := range c.Grants() {
			if !slices.ContainsFunc(p.Uses, func(u Use) bool { return g.Covers(u.Action, u.Resource) }) {
				p.Unused = append(p.Unused, g.String())
			}
		}
	}
	slices.Sort(p.Unused)
	p.Unused = slices.Compact(p.Unused)
	return p, nil
}

// documentOf groups uses: actions of the same resources stand in one statement.
func documentOf(uses []Use) *Document {
	if len(uses) == 0 {
		return nil
	}
	resources := map[string][]string{} // by action
	for _, u := range uses {
		resources[u.Action] = append(resources[u.Action], asPattern(u.Resource))
	}
	type group struct{ actions, resources []string }
	groups := map[string]*group{}
	for action, on := range resources {
		slices.Sort(on)
		on = slices.Compact(on)
		if slices.Contains(on, "*") {
			on = []string{"*"}
		}
		service, _, _ := strings.Cut(action, ":")
		k := service + " " + strings.Join(on, " ")
		if groups[k] == nil {
			groups[k] = &group{resources: on}
		}
		groups[k].actions = append(groups[k].actions, action)
	}
	d := &Document{Version: "2012-10-17"}
	for _, g := range groups {
		slices.Sort(g.actions)
		d.Statement = append(d.Statement, Statement{Effect: "Allow", Action: g.actions, Resource: g.resources})
	}
	slices.SortFunc(d.Statement, func(a, b Statement) int {
		return cmp.Or(slices.Compare(a.Action, b.Action), slices.Compare(a.Resource, b.Resource))
	})
	return d
}

func sortUses(uses []Use) {
	slices.SortFunc(uses, func(a, b Use) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Resource, b.Resource))
	})
}
