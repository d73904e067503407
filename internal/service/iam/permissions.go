package iam

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// permissions are the policies of a role, user or group. They are part of its record: AWS bounds both, so it stays small.
type permissions struct {
	Inline   map[string]string `json:"inline,omitempty"`   // policy name to document
	Attached []string          `json:"attached,omitempty"` // policy ARNs, in order of attachment
}

// holder is what AWS says of the policies of one kind of entity.
type holder struct {
	kind   string // in messages
	inline int    // characters of all inline policies together, without white space
	quota  string // name of the quota for attached policies
}

var (
	ofRole  = holder{"role", 10240, "PoliciesPerRole"}
	ofUser  = holder{"user", 2048, "PoliciesPerUser"}
	ofGroup = holder{"group", 5120, "PoliciesPerGroup"}
)

func (p *permissions) put(h holder, owner, name, document string) error {
	if p.Inline == nil {
		p.Inline = map[string]string{}
	}
	p.Inline[name] = document
	total := 0
	for _, d := range p.Inline {
		total += size(d)
	}
	if total > h.inline {
		return iamapi.ErrLimitExceededException("Maximum policy size of %d bytes exceeded for %s %s", h.inline, h.kind, owner)
	}
	return nil
}

// document returns an inline policy as answers have it.
func (p *permissions) document(h holder, name string) (*string, error) {
	d, ok := p.Inline[name]
	if !ok {
		return nil, iamapi.ErrNoSuchEntityException("The %s policy with name %s cannot be found.", h.kind, name)
	}
	return encoded(d), nil
}

func (p *permissions) remove(h holder, name string) error {
	if _, err := p.document(h, name); err != nil {
		return err
	}
	delete(p.Inline, name)
	return nil
}

func (p *permissions) inlineNames() []string {
	names := slices.AppendSeq([]string{}, maps.Keys(p.Inline))
	slices.Sort(names)
	return names
}

func (p *permissions) attach(tx kv.Tx, account string, h holder, policyARN string) error {
	if slices.Contains(p.Attached, policyARN) {
		return nil
	}
	if ok, err := policyExists(tx, account, policyARN); err != nil {
		return err
	} else if !ok {
		return noSuchPolicy(policyARN)
	}
	if strings.HasPrefix(policyARN, serviceRolePolicies) {
		return iamapi.ErrPolicyNotAttachableException("Cannot attach a Service Role Policy to a Customer Role.")
	}
	if len(p.Attached) >= maxAttached {
		return iamapi.ErrLimitExceededException("Cannot exceed quota for %s: %d", h.quota, maxAttached)
	}
	p.Attached = append(p.Attached, policyARN)
	return countAttachment(tx, account, policyARN, 1)
}

func (p *permissions) detach(tx kv.Tx, account, policyARN string) error {
	i := slices.Index(p.Attached, policyARN)
	if i < 0 {
		return iamapi.ErrNoSuchEntityException("Policy %s was not found.", policyARN)
	}
	p.Attached = slices.Delete(p.Attached, i, i+1)
	return countAttachment(tx, account, policyARN, -1)
}

// attached lists the attached policies whose path begins with a prefix, by ARN.
func (p *permissions) attached(prefix *string) []iamapi.AttachedPolicy {
	list := []iamapi.AttachedPolicy{}
	for _, a := range p.Attached {
		at, name := splitPolicyARN(a)
		if prefix == nil || strings.HasPrefix(at, *prefix) {
			list = append(list, iamapi.AttachedPolicy{PolicyName: new(name), PolicyArn: new(a)})
		}
	}
	slices.SortFunc(list, func(a, b iamapi.AttachedPolicy) int { return cmp.Compare(*a.PolicyArn, *b.PolicyArn) })
	return list
}

func policyARNOf(p iamapi.AttachedPolicy) string { return *p.PolicyArn }

// mayDelete refuses the deletion of an entity that has policies.
func (p *permissions) mayDelete() error {
	switch {
	case len(p.Attached) > 0:
		return iamapi.ErrDeleteConflictException("Cannot delete entity, must detach all policies first.")
	case len(p.Inline) > 0:
		return iamapi.ErrDeleteConflictException("Cannot delete entity, must delete policies first.")
	}
	return nil
}

// setBoundary makes a managed policy the boundary in a record.
func setBoundary(tx kv.Tx, account string, boundary *string, policyARN string) error {
	if ok, err := policyExists(tx, account, policyARN); err != nil {
		return err
	} else if !ok {
		return iamapi.ErrNoSuchEntityException("Scope ARN: %s does not exist or is not attachable.", policyARN)
	}
	if err := countBoundary(tx, account, *boundary, -1); err != nil {
		return err
	}
	*boundary = policyARN
	return countBoundary(tx, account, policyARN, 1)
}

func boundaryOut(policyARN string) *iamapi.AttachedPermissionsBoundary {
	if policyARN == "" {
		return nil
	}
	return &iamapi.AttachedPermissionsBoundary{PermissionsBoundaryType: new("Policy"), PermissionsBoundaryArn: new(policyARN)}
}
