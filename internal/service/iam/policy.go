package iam

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// splitPolicyARN returns path and name of a policy's ARN.
func splitPolicyARN(policyARN string) (path, name string) {
	a, _ := arn.Parse(policyARN)
	r := strings.TrimPrefix(a.Resource, "policy")
	i := strings.LastIndexByte(r, '/')
	return r[:i+1], r[i+1:]
}

// findPolicy reads the policy with an ARN; own says that it belongs to the account.
func findPolicy(r kv.Reader, account, policyARN string) (p *policy, own bool, err error) {
	a, err := arn.Parse(policyARN)
	if err != nil || a.Service != "iam" || a.Region != "" || !strings.HasPrefix(a.Resource, "policy/") {
		return nil, false, iamapi.ErrInvalidInputException("ARN %s is not valid.", policyARN)
	}
	path, name := splitPolicyARN(policyARN)
	missing := iamapi.ErrNoSuchEntityException("Policy %s was not found.", policyARN)
	switch a.Account {
	case awsAccount:
		if p := managed()[name]; p != nil && p.Path == path {
			return p, false, nil
		}
		return nil, false, missing
	case account:
		rec, ok, err := kv.GetJSON[policy](r, policyKey(account, name))
		if err != nil {
			return nil, false, err
		}
		if !ok || rec.Path != path || rec.Name != name {
			return nil, false, missing
		}
		return &rec, true, nil
	}
	return nil, false, missing
}

func policyExists(r kv.Reader, account, policyARN string) (bool, error) {
	_, _, err := findPolicy(r, account, policyARN)
	if isNoSuchEntity(err) {
		return false, nil
	}
	return err == nil, err
}

// changePolicy loads a policy of the account, lets f change it, and stores it.
func (s *Service) changePolicy(ctx context.Context, policyARN string, f func(tx kv.Tx, p *policy) error) (p *policy, err error) {
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		found, own, err := findPolicy(tx, account(ctx), policyARN)
		if err != nil {
			return err
		}
		if !own {
			return accessDenied(ctx, policyARN)
		}
		p = found
		if err := f(tx, p); err != nil {
			return err
		}
		return kv.SetJSON(tx, policyKey(account(ctx), p.Name), p)
	})
	return p, err
}

func (s *Service) readPolicy(ctx context.Context, policyARN string) (p *policy, own bool, err error) {
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		p, own, err = findPolicy(r, account(ctx), policyARN)
		return err
	})
	return p, own, err
}

// countAttachment keeps a policy's AttachmentCount. Those of AWS-managed policies are counted when somebody asks: see managedIn.
func countAttachment(tx kv.Tx, account, policyARN string, n int32) error {
	return count(tx, account, policyARN, func(p *policy) { p.Attachments += n })
}

func countBoundary(tx kv.Tx, account, policyARN string, n int32) error {
	if policyARN == "" {
		return nil
	}
	return count(tx, account, policyARN, func(p *policy) { p.Boundaries += n })
}

func count(tx kv.Tx, account, policyARN string, f func(*policy)) error {
	p, own, err := findPolicy(tx, account, policyARN)
	if err != nil || !own {
		return err
	}
	f(p)
	return kv.SetJSON(tx, policyKey(account, p.Name), p)
}

func (p *policy) out(owner string) *iamapi.Policy {
	out := &iamapi.Policy{
		PolicyName:                    new(p.Name),
		PolicyId:                      new(p.ID),
		Arn:                           new(entityARN(owner, "policy", p.Path, p.Name)),
		Path:                          new(p.Path),
		DefaultVersionId:              new(versionName(p.Default)),
		AttachmentCount:               new(p.Attachments),
		PermissionsBoundaryUsageCount: new(p.Boundaries),
		IsAttachable:                  new(true),
		CreateDate:                    new(p.Created),
		UpdateDate:                    new(p.Updated),
		Tags:                          tagsOut(p.Tags),
	}
	if p.Description != "" {
		out.Description = new(p.Description)
	}
	return out
}

func owner(ctx context.Context, own bool) string {
	if own {
		return account(ctx)
	}
	return awsAccount
}

func (s *Service) createPolicy(ctx context.Context, in *iamapi.CreatePolicyInput) (*iamapi.CreatePolicyOutput, error) {
	if err := checkDocument(*in.PolicyDocument, iampolicy.Identity, maxManagedDocument, "PolicySize"); err != nil {
		return nil, err
	}
	tags, err := addTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	at := now()
	p := &policy{
		Name: *in.PolicyName, ID: newID("ANPA"), Path: path(in.Path), Created: at, Updated: at, Default: 1, Last: 1,
		Versions: []version{{1, *in.PolicyDocument, at}}, Tags: tags,
	}
	if in.Description != nil {
		p.Description = *in.Description
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		key := policyKey(account(ctx), p.Name)
		if _, ok, err := tx.Get(key); err != nil {
			return err
		} else if ok {
			return iamapi.ErrEntityAlreadyExistsException("A policy called %s already exists. Duplicate names are not allowed.", p.Name)
		}
		return kv.SetJSON(tx, key, p)
	})
	if err != nil {
		return nil, err
	}
	out := p.out(account(ctx))
	out.Description = nil // AWS: the answer of CreatePolicy does not have it
	return &iamapi.CreatePolicyOutput{Policy: out}, nil
}

func (s *Service) getPolicy(ctx context.Context, in *iamapi.GetPolicyInput) (*iamapi.GetPolicyOutput, error) {
	out := &iamapi.GetPolicyOutput{}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		p, own, err := findPolicy(r, account(ctx), *in.PolicyArn)
		if err != nil {
			return err
		}
		if !own {
			if p, err = p.inAccount(r, account(ctx)); err != nil {
				return err
			}
		}
		out.Policy = p.out(owner(ctx, own))
		return nil
	})
}

func (s *Service) listPolicies(ctx context.Context, in *iamapi.ListPoliciesInput) (*iamapi.ListPoliciesOutput, error) {
	scope := "All"
	if in.Scope != nil {
		scope = *in.Scope
	}
	var list []iamapi.Policy
	add := func(p *policy, owner string) {
		attached := p.Attachments > 0
		if in.PolicyUsageFilter != nil && *in.PolicyUsageFilter == "PermissionsBoundary" {
			attached = p.Boundaries > 0
		}
		if in.OnlyAttached != nil && *in.OnlyAttached && !attached || !strings.HasPrefix(p.Path, path(in.PathPrefix)) {
			return
		}
		out := p.out(owner)
		out.Description, out.Tags = nil, nil // AWS: ListPolicies leaves them out
		list = append(list, *out)
	}
	err := s.db.View(ctx, func(r kv.Reader) error {
		list = []iamapi.Policy{}
		if scope != "Local" {
			all, err := managedIn(r, account(ctx))
			if err != nil {
				return err
			}
			for _, p := range all {
				add(p, awsAccount)
			}
		}
		if scope == "AWS" {
			return nil
		}
		return each(r, policyRange(account(ctx)), func(p *policy) { add(p, account(ctx)) })
	})
	if err != nil {
		return nil, err
	}
	byARN := func(p iamapi.Policy) string { return *p.Arn }
	slices.SortFunc(list, func(a, b iamapi.Policy) int { return cmp.Compare(byARN(a), byARN(b)) })
	out := &iamapi.ListPoliciesOutput{}
	out.Policies, out.IsTruncated, out.Marker = page(list, byARN, in.Marker, in.MaxItems)
	return out, nil
}

func (s *Service) deletePolicy(ctx context.Context, in *iamapi.DeletePolicyInput) (*iamapi.DeletePolicyOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		p, own, err := findPolicy(tx, account(ctx), *in.PolicyArn)
		switch {
		case err != nil:
			return err
		case !own:
			return accessDenied(ctx, *in.PolicyArn)
		case p.Attachments > 0 || p.Boundaries > 0:
			return iamapi.ErrDeleteConflictException("Cannot delete a policy attached to entities.")
		case len(p.Versions) > 1:
			return iamapi.ErrDeleteConflictException("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
		}
		tx.Delete(policyKey(account(ctx), p.Name))
		return nil
	})
}

// Versions.

func (p *policy) version(name string) (version, bool) {
	i := slices.IndexFunc(p.Versions, func(v version) bool { return versionName(v.Number) == name })
	if i < 0 {
		return version{}, false
	}
	return p.Versions[i], true
}

func noSuchVersion(policyARN, version string) error {
	return iamapi.ErrNoSuchEntityException("Policy %s version %s does not exist or is not attachable.", policyARN, version)
}

func (p *policy) versionOut(v version, document bool) *iamapi.PolicyVersion {
	out := &iamapi.PolicyVersion{VersionId: new(versionName(v.Number)), IsDefaultVersion: new(v.Number == p.Default), CreateDate: new(v.Created)}
	if document {
		out.Document = encoded(v.Document)
	}
	return out
}

func (s *Service) createPolicyVersion(ctx context.Context, in *iamapi.CreatePolicyVersionInput) (*iamapi.CreatePolicyVersionOutput, error) {
	if err := checkDocument(*in.PolicyDocument, iampolicy.Identity, maxManagedDocument, "PolicySize"); err != nil {
		return nil, err
	}
	p, err := s.changePolicy(ctx, *in.PolicyArn, func(_ kv.Tx, p *policy) error {
		if len(p.Versions) >= maxVersions {
			return iamapi.ErrLimitExceededException("A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", maxVersions)
		}
		p.Last++
		p.Updated = now()
		p.Versions = append(p.Versions, version{p.Last, *in.PolicyDocument, p.Updated})
		if in.SetAsDefault != nil && *in.SetAsDefault {
			p.Default = p.Last
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreatePolicyVersionOutput{PolicyVersion: p.versionOut(p.Versions[len(p.Versions)-1], false)}, nil
}

func (s *Service) getPolicyVersion(ctx context.Context, in *iamapi.GetPolicyVersionInput) (*iamapi.GetPolicyVersionOutput, error) {
	p, _, err := s.readPolicy(ctx, *in.PolicyArn)
	if err != nil {
		return nil, err
	}
	v, ok := p.version(*in.VersionId)
	if !ok {
		return nil, noSuchVersion(*in.PolicyArn, *in.VersionId)
	}
	return &iamapi.GetPolicyVersionOutput{PolicyVersion: p.versionOut(v, true)}, nil
}

func (s *Service) listPolicyVersions(ctx context.Context, in *iamapi.ListPolicyVersionsInput) (*iamapi.ListPolicyVersionsOutput, error) {
	p, _, err := s.readPolicy(ctx, *in.PolicyArn)
	if err != nil {
		return nil, err
	}
	newestFirst := func(v version) string { return fmt.Sprintf("%010d", math.MaxInt32-v.Number) }
	versions := slices.SortedFunc(slices.Values(p.Versions), func(a, b version) int { return cmp.Compare(b.Number, a.Number) })
	out := &iamapi.ListPolicyVersionsOutput{Versions: []iamapi.PolicyVersion{}}
	versions, out.IsTruncated, out.Marker = page(versions, newestFirst, in.Marker, in.MaxItems)
	for _, v := range versions {
		out.Versions = append(out.Versions, *p.versionOut(v, false))
	}
	return out, nil
}

func (s *Service) setDefaultPolicyVersion(ctx context.Context, in *iamapi.SetDefaultPolicyVersionInput) (*iamapi.SetDefaultPolicyVersionOutput, error) {
	_, err := s.changePolicy(ctx, *in.PolicyArn, func(_ kv.Tx, p *policy) error {
		v, ok := p.version(*in.VersionId)
		if !ok {
			return noSuchVersion(*in.PolicyArn, *in.VersionId)
		}
		p.Default, p.Updated = v.Number, now()
		return nil
	})
	return nil, err
}

func (s *Service) deletePolicyVersion(ctx context.Context, in *iamapi.DeletePolicyVersionInput) (*iamapi.DeletePolicyVersionOutput, error) {
	_, err := s.changePolicy(ctx, *in.PolicyArn, func(_ kv.Tx, p *policy) error {
		v, ok := p.version(*in.VersionId)
		if !ok {
			return noSuchVersion(*in.PolicyArn, *in.VersionId)
		}
		if v.Number == p.Default {
			return iamapi.ErrDeleteConflictException("Cannot delete the default version of a policy.")
		}
		p.Versions = slices.DeleteFunc(p.Versions, func(o version) bool { return o.Number == v.Number })
		return nil
	})
	return nil, err
}

func (s *Service) listEntitiesForPolicy(ctx context.Context, in *iamapi.ListEntitiesForPolicyInput) (*iamapi.ListEntitiesForPolicyOutput, error) {
	if _, _, err := s.readPolicy(ctx, *in.PolicyArn); err != nil {
		return nil, err
	}
	usage, filter := deref(in.PolicyUsageFilter), deref(in.EntityFilter)
	uses := func(p *permissions, boundary, at string) bool {
		used := usage != iamapi.PolicyUsageTypePermissionsBoundary && slices.Contains(p.Attached, *in.PolicyArn) ||
			usage != iamapi.PolicyUsageTypePermissionsPolicy && boundary == *in.PolicyArn
		return used && strings.HasPrefix(at, path(in.PathPrefix))
	}
	all := []entity{}
	err := s.db.View(ctx, func(r kv.Reader) error {
		all = all[:0]
		wanted := func(kind string) bool { return filter == "" || filter == kind }
		for rec, err := range kv.ScanJSON[group](r, groupRange(account(ctx))) {
			if err != nil {
				return err
			}
			if v := &rec.Value; wanted(iamapi.EntityTypeGroup) && uses(&v.permissions, "", v.Path) {
				all = append(all, entity{iamapi.EntityTypeGroup, v.Name, v.ID})
			}
		}
		for rec, err := range kv.ScanJSON[role](r, roleRange(account(ctx))) {
			if err != nil {
				return err
			}
			if v := &rec.Value; wanted(iamapi.EntityTypeRole) && uses(&v.permissions, v.Boundary, v.Path) {
				all = append(all, entity{iamapi.EntityTypeRole, v.Name, v.ID})
			}
		}
		for rec, err := range kv.ScanJSON[user](r, userRange(account(ctx))) {
			if err != nil {
				return err
			}
			if v := &rec.Value; wanted(iamapi.EntityTypeUser) && uses(&v.permissions, v.Boundary, v.Path) {
				all = append(all, entity{iamapi.EntityTypeUser, v.Name, v.ID})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b entity) int { return cmp.Compare(a.key(), b.key()) })
	out := &iamapi.ListEntitiesForPolicyOutput{PolicyGroups: []iamapi.PolicyGroup{}, PolicyUsers: []iamapi.PolicyUser{}, PolicyRoles: []iamapi.PolicyRole{}}
	all, out.IsTruncated, out.Marker = page(all, entity.key, in.Marker, in.MaxItems)
	for _, e := range all {
		switch e.kind {
		case iamapi.EntityTypeGroup:
			out.PolicyGroups = append(out.PolicyGroups, iamapi.PolicyGroup{GroupName: &e.name, GroupId: &e.id})
		case iamapi.EntityTypeRole:
			out.PolicyRoles = append(out.PolicyRoles, iamapi.PolicyRole{RoleName: &e.name, RoleId: &e.id})
		case iamapi.EntityTypeUser:
			out.PolicyUsers = append(out.PolicyUsers, iamapi.PolicyUser{UserName: &e.name, UserId: &e.id})
		}
	}
	return out, nil
}

// entity is a user, group or role that uses a policy.
type entity struct{ kind, name, id string }

func (e entity) key() string { return e.kind + "/" + e.name }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Tags.

func (s *Service) tagPolicy(ctx context.Context, in *iamapi.TagPolicyInput) (*iamapi.TagPolicyOutput, error) {
	_, err := s.changePolicy(ctx, *in.PolicyArn, func(_ kv.Tx, p *policy) (err error) {
		p.Tags, err = addTags(p.Tags, in.Tags)
		return err
	})
	return nil, err
}

func (s *Service) untagPolicy(ctx context.Context, in *iamapi.UntagPolicyInput) (*iamapi.UntagPolicyOutput, error) {
	_, err := s.changePolicy(ctx, *in.PolicyArn, func(_ kv.Tx, p *policy) error {
		p.Tags = removeTags(p.Tags, in.TagKeys)
		return nil
	})
	return nil, err
}

func (s *Service) listPolicyTags(ctx context.Context, in *iamapi.ListPolicyTagsInput) (*iamapi.ListPolicyTagsOutput, error) {
	p, _, err := s.readPolicy(ctx, *in.PolicyArn)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListPolicyTagsOutput{}
	out.Tags, out.IsTruncated, out.Marker = pageTags(p.Tags, in.Marker, in.MaxItems)
	return out, nil
}
