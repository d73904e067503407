package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

func getRole(r kv.Reader, account, name string) (*role, error) {
	rec, ok, err := kv.GetJSON[role](r, roleKey(account, name))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, noSuchRole(name)
	}
	return &rec, nil
}

// changeRole loads a role, lets f change it, and stores it. Service-linked roles are refused.
func (s *Service) changeRole(ctx context.Context, name string, f func(tx kv.Tx, r *role) error) (*role, error) {
	return s.describeRole(ctx, name, func(tx kv.Tx, r *role) error {
		if err := r.protected(ctx); err != nil {
			return err
		}
		return f(tx, r)
	})
}

// describeRole is changeRole for what may be changed of service-linked roles too: description and tags.
func (s *Service) describeRole(ctx context.Context, name string, f func(tx kv.Tx, r *role) error) (*role, error) {
	var r *role
	err := s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if r, err = getRole(tx, account(ctx), name); err != nil {
			return err
		}
		if err := f(tx, r); err != nil {
			return err
		}
		return kv.SetJSON(tx, roleKey(account(ctx), name), r)
	})
	return r, err
}

func (s *Service) readRole(ctx context.Context, name string) (r *role, err error) {
	err = s.db.View(ctx, func(rd kv.Reader) (err error) {
		r, err = getRole(rd, account(ctx), name)
		return err
	})
	return r, err
}

func (r *role) out(account string) *iamapi.Role {
	out := &iamapi.Role{
		Path:                     new(r.Path),
		RoleName:                 new(r.Name),
		RoleId:                   new(r.ID),
		Arn:                      new(entityARN(account, "role", r.Path, r.Name)),
		CreateDate:               new(r.Created),
		AssumeRolePolicyDocument: encoded(r.Trust),
		MaxSessionDuration:       new(r.MaxSession),
		Tags:                     tagsOut(r.Tags),
	}
	if r.Description != "" {
		out.Description = new(r.Description)
	}
	out.PermissionsBoundary = boundaryOut(r.Boundary)
	return out
}

func (s *Service) createRole(ctx context.Context, in *iamapi.CreateRoleInput) (*iamapi.CreateRoleOutput, error) {
	if err := checkDocument(*in.AssumeRolePolicyDocument, iampolicy.Trust, maxTrustDocument, "ACLSizePerRole"); err != nil {
		return nil, err
	}
	tags, err := addTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	r := &role{
		Name: *in.RoleName, ID: newID("AROA"), Path: path(in.Path), Trust: *in.AssumeRolePolicyDocument,
		MaxSession: defaultMaxSession, Created: now(), Tags: tags,
	}
	if in.Description != nil {
		r.Description = *in.Description
	}
	if in.MaxSessionDuration != nil {
		r.MaxSession = *in.MaxSessionDuration
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		key := roleKey(account(ctx), r.Name)
		if _, ok, err := tx.Get(key); err != nil {
			return err
		} else if ok {
			return iamapi.ErrEntityAlreadyExistsException("Role with name %s already exists.", r.Name)
		}
		if in.PermissionsBoundary != nil {
			if err := setBoundary(tx, account(ctx), &r.Boundary, *in.PermissionsBoundary); err != nil {
				return err
			}
		}
		return kv.SetJSON(tx, key, r)
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateRoleOutput{Role: r.out(account(ctx))}, nil
}

func (s *Service) getRole(ctx context.Context, in *iamapi.GetRoleInput) (*iamapi.GetRoleOutput, error) {
	r, err := s.readRole(ctx, *in.RoleName)
	if err != nil {
		return nil, err
	}
	out := r.out(account(ctx))
	out.RoleLastUsed = &iamapi.RoleLastUsed{}
	return &iamapi.GetRoleOutput{Role: out}, nil
}

func (s *Service) listRoles(ctx context.Context, in *iamapi.ListRolesInput) (*iamapi.ListRolesOutput, error) {
	roles := []iamapi.Role{}
	err := s.db.View(ctx, func(r kv.Reader) error {
		for rec, err := range kv.ScanJSON[role](r, roleRange(account(ctx))) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(rec.Value.Path, path(in.PathPrefix)) {
				out := rec.Value.out(account(ctx))
				out.Tags, out.PermissionsBoundary = nil, nil // AWS: ListRoles leaves them out
				roles = append(roles, *out)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(roles, func(a, b iamapi.Role) int { return cmp.Compare(*a.RoleName, *b.RoleName) })
	out := &iamapi.ListRolesOutput{}
	out.Roles, out.IsTruncated, out.Marker = page(roles, func(r iamapi.Role) string { return *r.RoleName }, in.Marker, in.MaxItems)
	return out, nil
}

func (s *Service) updateRole(ctx context.Context, in *iamapi.UpdateRoleInput) (*iamapi.UpdateRoleOutput, error) {
	_, err := s.describeRole(ctx, *in.RoleName, func(_ kv.Tx, r *role) error {
		if in.Description != nil {
			r.Description = *in.Description
		}
		if in.MaxSessionDuration != nil {
			if err := r.protected(ctx); err != nil {
				return err
			}
			r.MaxSession = *in.MaxSessionDuration
		}
		return nil
	})
	return &iamapi.UpdateRoleOutput{}, err
}

func (s *Service) updateRoleDescription(ctx context.Context, in *iamapi.UpdateRoleDescriptionInput) (*iamapi.UpdateRoleDescriptionOutput, error) {
	r, err := s.describeRole(ctx, *in.RoleName, func(_ kv.Tx, r *role) error {
		r.Description = *in.Description
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.UpdateRoleDescriptionOutput{Role: r.out(account(ctx))}, nil
}

func (s *Service) updateAssumeRolePolicy(ctx context.Context, in *iamapi.UpdateAssumeRolePolicyInput) (*iamapi.UpdateAssumeRolePolicyOutput, error) {
	if err := checkDocument(*in.PolicyDocument, iampolicy.Trust, maxTrustDocument, "ACLSizePerRole"); err != nil {
		return nil, err
	}
	_, err := s.changeRole(ctx, *in.RoleName, func(_ kv.Tx, r *role) error {
		r.Trust = *in.PolicyDocument
		return nil
	})
	return nil, err
}

func (s *Service) deleteRole(ctx context.Context, in *iamapi.DeleteRoleInput) (*iamapi.DeleteRoleOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		r, err := getRole(tx, account(ctx), *in.RoleName)
		if err != nil {
			return err
		}
		if err := r.protected(ctx); err != nil {
			return err
		}
		if len(r.Profiles) > 0 {
			return iamapi.ErrDeleteConflictException("Cannot delete entity, must remove roles from instance profile first.")
		}
		if err := r.mayDelete(); err != nil {
			return err
		}
		if err := countBoundary(tx, account(ctx), r.Boundary, -1); err != nil {
			return err
		}
		tx.Delete(roleKey(account(ctx), r.Name))
		return nil
	})
}

func (s *Service) putRolePermissionsBoundary(ctx context.Context, in *iamapi.PutRolePermissionsBoundaryInput) (*iamapi.PutRolePermissionsBoundaryOutput, error) {
	_, err := s.changeRole(ctx, *in.RoleName, func(tx kv.Tx, r *role) error {
		return setBoundary(tx, account(ctx), &r.Boundary, *in.PermissionsBoundary)
	})
	return nil, err
}

func (s *Service) deleteRolePermissionsBoundary(ctx context.Context, in *iamapi.DeleteRolePermissionsBoundaryInput) (*iamapi.DeleteRolePermissionsBoundaryOutput, error) {
	_, err := s.changeRole(ctx, *in.RoleName, func(tx kv.Tx, r *role) error {
		old := r.Boundary
		r.Boundary = ""
		return countBoundary(tx, account(ctx), old, -1)
	})
	return nil, err
}

// Tags.

func (s *Service) tagRole(ctx context.Context, in *iamapi.TagRoleInput) (*iamapi.TagRoleOutput, error) {
	_, err := s.describeRole(ctx, *in.RoleName, func(_ kv.Tx, r *role) (err error) {
		r.Tags, err = addTags(r.Tags, in.Tags)
		return err
	})
	return nil, err
}

func (s *Service) untagRole(ctx context.Context, in *iamapi.UntagRoleInput) (*iamapi.UntagRoleOutput, error) {
	_, err := s.describeRole(ctx, *in.RoleName, func(_ kv.Tx, r *role) error {
		r.Tags = removeTags(r.Tags, in.TagKeys)
		return nil
	})
	return nil, err
}

func (s *Service) listRoleTags(ctx context.Context, in *iamapi.ListRoleTagsInput) (*iamapi.ListRoleTagsOutput, error) {
	r, err := s.readRole(ctx, *in.RoleName)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListRoleTagsOutput{}
	out.Tags, out.IsTruncated, out.Marker = pageTags(r.Tags, in.Marker, in.MaxItems)
	return out, nil
}

func pageTags(tags []tag, marker *string, max *int32) ([]iamapi.Tag, *bool, *string) {
	sorted := slices.SortedFunc(slices.Values(tags), func(a, b tag) int { return cmp.Compare(a.Key, b.Key) })
	some, truncated, next := page(sorted, func(t tag) string { return t.Key }, marker, max)
	return append([]iamapi.Tag{}, tagsOut(some)...), truncated, next
}

// Policies.

func (s *Service) putRolePolicy(ctx context.Context, in *iamapi.PutRolePolicyInput) (*iamapi.PutRolePolicyOutput, error) {
	if err := checkGrammar(*in.PolicyDocument, iampolicy.Identity); err != nil {
		return nil, err
	}
	_, err := s.changeRole(ctx, *in.RoleName, func(_ kv.Tx, r *role) error {
		return r.put(ofRole, r.Name, *in.PolicyName, *in.PolicyDocument)
	})
	return nil, err
}

func (s *Service) getRolePolicy(ctx context.Context, in *iamapi.GetRolePolicyInput) (*iamapi.GetRolePolicyOutput, error) {
	r, err := s.readRole(ctx, *in.RoleName)
	if err != nil {
		return nil, err
	}
	d, err := r.document(ofRole, *in.PolicyName)
	return &iamapi.GetRolePolicyOutput{RoleName: new(r.Name), PolicyName: in.PolicyName, PolicyDocument: d}, err
}

func (s *Service) listRolePolicies(ctx context.Context, in *iamapi.ListRolePoliciesInput) (*iamapi.ListRolePoliciesOutput, error) {
	r, err := s.readRole(ctx, *in.RoleName)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListRolePoliciesOutput{}
	out.PolicyNames, out.IsTruncated, out.Marker = page(r.inlineNames(), itself, in.Marker, in.MaxItems)
	return out, nil
}

func (s *Service) deleteRolePolicy(ctx context.Context, in *iamapi.DeleteRolePolicyInput) (*iamapi.DeleteRolePolicyOutput, error) {
	_, err := s.changeRole(ctx, *in.RoleName, func(_ kv.Tx, r *role) error { return r.remove(ofRole, *in.PolicyName) })
	return nil, err
}

func (s *Service) attachRolePolicy(ctx context.Context, in *iamapi.AttachRolePolicyInput) (*iamapi.AttachRolePolicyOutput, error) {
	_, err := s.changeRole(ctx, *in.RoleName, func(tx kv.Tx, r *role) error { return r.attach(tx, account(ctx), ofRole, *in.PolicyArn) })
	return nil, err
}

func (s *Service) detachRolePolicy(ctx context.Context, in *iamapi.DetachRolePolicyInput) (*iamapi.DetachRolePolicyOutput, error) {
	_, err := s.changeRole(ctx, *in.RoleName, func(tx kv.Tx, r *role) error { return r.detach(tx, account(ctx), *in.PolicyArn) })
	return nil, err
}

func (s *Service) listAttachedRolePolicies(ctx context.Context, in *iamapi.ListAttachedRolePoliciesInput) (*iamapi.ListAttachedRolePoliciesOutput, error) {
	r, err := s.readRole(ctx, *in.RoleName)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListAttachedRolePoliciesOutput{}
	out.AttachedPolicies, out.IsTruncated, out.Marker = page(r.attached(in.PathPrefix), policyARNOf, in.Marker, in.MaxItems)
	return out, nil
}
