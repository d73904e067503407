package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

func noSuchUser(name string) error {
	return iamapi.ErrNoSuchEntityException("The user with name %s cannot be found.", name)
}

func getUser(r kv.Reader, account, name string) (*user, error) {
	rec, ok, err := kv.GetJSON[user](r, userKey(account, name))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, noSuchUser(name)
	}
	return &rec, nil
}

// changeUser loads a user, lets f change it, and stores it.
func (s *Service) changeUser(ctx context.Context, name string, f func(tx kv.Tx, u *user) error) (u *user, err error) {
	err = s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if u, err = getUser(tx, account(ctx), name); err != nil {
			return err
		}
		if err := f(tx, u); err != nil {
			return err
		}
		return kv.SetJSON(tx, userKey(account(ctx), u.Name), u)
	})
	return u, err
}

func (s *Service) readUser(ctx context.Context, name string) (u *user, err error) {
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		u, err = getUser(r, account(ctx), name)
		return err
	})
	return u, err
}

// userName is the user that an operation means which leaves out the name: the caller.
func (s *Service) userName(ctx context.Context, given *string) (string, error) {
	if given != nil {
		return *given, nil
	}
	p := call.From(ctx).Principal
	if p.Type == call.User {
		return p.ARN[strings.LastIndexByte(p.ARN, '/')+1:], nil
	}
	return "", apierr.New("ValidationError", 400, "Must specify userName when calling with non-User credentials")
}

func (u *user) out(account string) *iamapi.User {
	return &iamapi.User{
		Path: new(u.Path), UserName: new(u.Name), UserId: new(u.ID), Arn: new(entityARN(account, "user", u.Path, u.Name)),
		CreateDate: new(u.Created), PermissionsBoundary: boundaryOut(u.Boundary), Tags: tagsOut(u.Tags),
	}
}

func (s *Service) createUser(ctx context.Context, in *iamapi.CreateUserInput) (*iamapi.CreateUserOutput, error) {
	tags, err := addTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	u := &user{Name: *in.UserName, ID: newID("AIDA"), Path: path(in.Path), Created: now(), Tags: tags}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		u.Boundary = ""
		if err := unusedUser(tx, account(ctx), u.Name); err != nil {
			return err
		}
		if in.PermissionsBoundary != nil {
			if err := setBoundary(tx, account(ctx), &u.Boundary, *in.PermissionsBoundary); err != nil {
				return err
			}
		}
		return kv.SetJSON(tx, userKey(account(ctx), u.Name), u)
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateUserOutput{User: u.out(account(ctx))}, nil
}

func unusedUser(r kv.Reader, account, name string) error {
	if _, ok, err := r.Get(userKey(account, name)); err != nil {
		return err
	} else if ok {
		return iamapi.ErrEntityAlreadyExistsException("User with name %s already exists.", name)
	}
	return nil
}

// getUser answers the root user with the account itself.
func (s *Service) getUser(ctx context.Context, in *iamapi.GetUserInput) (*iamapi.GetUserOutput, error) {
	if p := call.From(ctx).Principal; in.UserName == nil && p.Type == call.Root {
		created := s.started
		return &iamapi.GetUserOutput{User: &iamapi.User{
			Path: new("/"), UserName: new("root"), UserId: new(account(ctx)), Arn: new(p.ARN), CreateDate: &created,
		}}, nil
	}
	name, err := s.userName(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	u, err := s.readUser(ctx, name)
	if err != nil {
		return nil, err
	}
	return &iamapi.GetUserOutput{User: u.out(account(ctx))}, nil
}

func (s *Service) listUsers(ctx context.Context, in *iamapi.ListUsersInput) (*iamapi.ListUsersOutput, error) {
	users := []iamapi.User{}
	err := s.db.View(ctx, func(r kv.Reader) error {
		for rec, err := range kv.ScanJSON[user](r, userRange(account(ctx))) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(rec.Value.Path, path(in.PathPrefix)) {
				out := rec.Value.out(account(ctx))
				out.Tags, out.PermissionsBoundary = nil, nil // AWS: ListUsers leaves them out
				users = append(users, *out)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	byName := func(u iamapi.User) string { return *u.UserName }
	slices.SortFunc(users, func(a, b iamapi.User) int { return cmp.Compare(byName(a), byName(b)) })
	out := &iamapi.ListUsersOutput{}
	out.Users, out.IsTruncated, out.Marker = page(users, byName, in.Marker, in.MaxItems)
	return out, nil
}

// updateUser renames and moves. Groups and access keys name the user, so they are written with it.
func (s *Service) updateUser(ctx context.Context, in *iamapi.UpdateUserInput) (*iamapi.UpdateUserOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		u, err := getUser(tx, account(ctx), *in.UserName)
		if err != nil {
			return err
		}
		if in.NewPath != nil {
			u.Path = *in.NewPath
		}
		if old := u.Name; in.NewUserName != nil && *in.NewUserName != old {
			u.Name = *in.NewUserName
			if !strings.EqualFold(u.Name, old) {
				if err := unusedUser(tx, account(ctx), u.Name); err != nil {
					return err
				}
			}
			tx.Delete(userKey(account(ctx), old))
			for _, name := range u.Groups {
				err := changeGroup(tx, account(ctx), name, func(g *group) error {
					g.Users[slices.Index(g.Users, old)] = u.Name
					return nil
				})
				if err != nil {
					return err
				}
			}
			for _, id := range u.Keys {
				if err := changeKey(tx, id, func(k *accessKey) { k.User = u.Name }); err != nil {
					return err
				}
			}
		}
		return kv.SetJSON(tx, userKey(account(ctx), u.Name), u)
	})
}

func (s *Service) deleteUser(ctx context.Context, in *iamapi.DeleteUserInput) (*iamapi.DeleteUserOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		u, err := getUser(tx, account(ctx), *in.UserName)
		switch {
		case err != nil:
			return err
		case len(u.Keys) > 0:
			return iamapi.ErrDeleteConflictException("Cannot delete entity, must delete access keys first.")
		case len(u.Groups) > 0:
			return iamapi.ErrDeleteConflictException("Cannot delete entity, must remove users from group first.")
		}
		if err := u.mayDelete(); err != nil {
			return err
		}
		if err := countBoundary(tx, account(ctx), u.Boundary, -1); err != nil {
			return err
		}
		tx.Delete(userKey(account(ctx), u.Name))
		return nil
	})
}

func (s *Service) putUserPermissionsBoundary(ctx context.Context, in *iamapi.PutUserPermissionsBoundaryInput) (*iamapi.PutUserPermissionsBoundaryOutput, error) {
	_, err := s.changeUser(ctx, *in.UserName, func(tx kv.Tx, u *user) error {
		return setBoundary(tx, account(ctx), &u.Boundary, *in.PermissionsBoundary)
	})
	return nil, err
}

func (s *Service) deleteUserPermissionsBoundary(ctx context.Context, in *iamapi.DeleteUserPermissionsBoundaryInput) (*iamapi.DeleteUserPermissionsBoundaryOutput, error) {
	_, err := s.changeUser(ctx, *in.UserName, func(tx kv.Tx, u *user) error {
		old := u.Boundary
		u.Boundary = ""
		return countBoundary(tx, account(ctx), old, -1)
	})
	return nil, err
}

// Tags.

func (s *Service) tagUser(ctx context.Context, in *iamapi.TagUserInput) (*iamapi.TagUserOutput, error) {
	_, err := s.changeUser(ctx, *in.UserName, func(_ kv.Tx, u *user) (err error) {
		u.Tags, err = addTags(u.Tags, in.Tags)
		return err
	})
	return nil, err
}

func (s *Service) untagUser(ctx context.Context, in *iamapi.UntagUserInput) (*iamapi.UntagUserOutput, error) {
	_, err := s.changeUser(ctx, *in.UserName, func(_ kv.Tx, u *user) error {
		u.Tags = removeTags(u.Tags, in.TagKeys)
		return nil
	})
	return nil, err
}

func (s *Service) listUserTags(ctx context.Context, in *iamapi.ListUserTagsInput) (*iamapi.ListUserTagsOutput, error) {
	u, err := s.readUser(ctx, *in.UserName)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListUserTagsOutput{}
	out.Tags, out.IsTruncated, out.Marker = pageTags(u.Tags, in.Marker, in.MaxItems)
	return out, nil
}

// Policies.

func (s *Service) putUserPolicy(ctx context.Context, in *iamapi.PutUserPolicyInput) (*iamapi.PutUserPolicyOutput, error) {
	if err := checkGrammar(*in.PolicyDocument, iampolicy.Identity); err != nil {
		return nil, err
	}
	_, err := s.changeUser(ctx, *in.UserName, func(_ kv.Tx, u *user) error {
		return u.put(ofUser, u.Name, *in.PolicyName, *in.PolicyDocument)
	})
	return nil, err
}

func (s *Service) getUserPolicy(ctx context.Context, in *iamapi.GetUserPolicyInput) (*iamapi.GetUserPolicyOutput, error) {
	u, err := s.readUser(ctx, *in.UserName)
	if err != nil {
		return nil, err
	}
	d, err := u.document(ofUser, *in.PolicyName)
	return &iamapi.GetUserPolicyOutput{UserName: new(u.Name), PolicyName: in.PolicyName, PolicyDocument: d}, err
}

func (s *Service) listUserPolicies(ctx context.Context, in *iamapi.ListUserPoliciesInput) (*iamapi.ListUserPoliciesOutput, error) {
	u, err := s.readUser(ctx, *in.UserName)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListUserPoliciesOutput{}
	out.PolicyNames, out.IsTruncated, out.Marker = page(u.inlineNames(), itself, in.Marker, in.MaxItems)
	return out, nil
}

func (s *Service) deleteUserPolicy(ctx context.Context, in *iamapi.DeleteUserPolicyInput) (*iamapi.DeleteUserPolicyOutput, error) {
	_, err := s.changeUser(ctx, *in.UserName, func(_ kv.Tx, u *user) error { return u.remove(ofUser, *in.PolicyName) })
	return nil, err
}

func (s *Service) attachUserPolicy(ctx context.Context, in *iamapi.AttachUserPolicyInput) (*iamapi.AttachUserPolicyOutput, error) {
	_, err := s.changeUser(ctx, *in.UserName, func(tx kv.Tx, u *user) error { return u.attach(tx, account(ctx), ofUser, *in.PolicyArn) })
	return nil, err
}

func (s *Service) detachUserPolicy(ctx context.Context, in *iamapi.DetachUserPolicyInput) (*iamapi.DetachUserPolicyOutput, error) {
	_, err := s.changeUser(ctx, *in.UserName, func(tx kv.Tx, u *user) error { return u.detach(tx, account(ctx), *in.PolicyArn) })
	return nil, err
}

func (s *Service) listAttachedUserPolicies(ctx context.Context, in *iamapi.ListAttachedUserPoliciesInput) (*iamapi.ListAttachedUserPoliciesOutput, error) {
	u, err := s.readUser(ctx, *in.UserName)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListAttachedUserPoliciesOutput{}
	out.AttachedPolicies, out.IsTruncated, out.Marker = page(u.attached(in.PathPrefix), policyARNOf, in.Marker, in.MaxItems)
	return out, nil
}
