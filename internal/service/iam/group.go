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

// maxGroups is AWS's default quota of groups that a user may be in.
const maxGroups = 10

func getGroup(r kv.Reader, account, name string) (*group, error) {
	rec, ok, err := kv.GetJSON[group](r, groupKey(account, name))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, iamapi.ErrNoSuchEntityException("The group with name %s cannot be found.", name)
	}
	return &rec, nil
}

// changeGroup loads a group, lets f change it, and stores it.
func changeGroup(tx kv.Tx, account, name string, f func(g *group) error) error {
	g, err := getGroup(tx, account, name)
	if err != nil {
		return err
	}
	if err := f(g); err != nil {
		return err
	}
	return kv.SetJSON(tx, groupKey(account, g.Name), g)
}

func (s *Service) changeGroup(ctx context.Context, name string, f func(tx kv.Tx, g *group) error) error {
	return s.db.Update(ctx, func(tx kv.Tx) error {
		return changeGroup(tx, account(ctx), name, func(g *group) error { return f(tx, g) })
	})
}

func (s *Service) readGroup(ctx context.Context, name string) (g *group, err error) {
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		g, err = getGroup(r, account(ctx), name)
		return err
	})
	return g, err
}

func (g *group) out(account string) *iamapi.Group {
	return &iamapi.Group{
		Path: new(g.Path), GroupName: new(g.Name), GroupId: new(g.ID), Arn: new(entityARN(account, "group", g.Path, g.Name)), CreateDate: new(g.Created),
	}
}

func unusedGroup(r kv.Reader, account, name string) error {
	if _, ok, err := r.Get(groupKey(account, name)); err != nil {
		return err
	} else if ok {
		return iamapi.ErrEntityAlreadyExistsException("Group with name %s already exists.", name)
	}
	return nil
}

func (s *Service) createGroup(ctx context.Context, in *iamapi.CreateGroupInput) (*iamapi.CreateGroupOutput, error) {
	g := &group{Name: *in.GroupName, ID: newID("AGPA"), Path: path(in.Path), Created: now()}
	err := s.db.Update(ctx, func(tx kv.Tx) error {
		if err := unusedGroup(tx, account(ctx), g.Name); err != nil {
			return err
		}
		return kv.SetJSON(tx, groupKey(account(ctx), g.Name), g)
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateGroupOutput{Group: g.out(account(ctx))}, nil
}

// getGroup answers with a page of the group's users.
func (s *Service) getGroup(ctx context.Context, in *iamapi.GetGroupInput) (*iamapi.GetGroupOutput, error) {
	var out *iamapi.GetGroupOutput
	err := s.db.View(ctx, func(r kv.Reader) error {
		g, err := getGroup(r, account(ctx), *in.GroupName)
		if err != nil {
			return err
		}
		users := []iamapi.User{}
		for _, name := range g.Users {
			u, err := getUser(r, account(ctx), name)
			if err != nil {
				return err
			}
			one := u.out(account(ctx))
			one.Tags, one.PermissionsBoundary = nil, nil
			users = append(users, *one)
		}
		byName := func(u iamapi.User) string { return *u.UserName }
		slices.SortFunc(users, func(a, b iamapi.User) int { return cmp.Compare(byName(a), byName(b)) })
		out = &iamapi.GetGroupOutput{Group: g.out(account(ctx))}
		out.Users, out.IsTruncated, out.Marker = page(users, byName, in.Marker, in.MaxItems)
		return nil
	})
	return out, err
}

func (s *Service) listGroups(ctx context.Context, in *iamapi.ListGroupsInput) (*iamapi.ListGroupsOutput, error) {
	groups := []iamapi.Group{}
	err := s.db.View(ctx, func(r kv.Reader) error {
		for rec, err := range kv.ScanJSON[group](r, groupRange(account(ctx))) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(rec.Value.Path, path(in.PathPrefix)) {
				groups = append(groups, *rec.Value.out(account(ctx)))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListGroupsOutput{}
	out.Groups, out.IsTruncated, out.Marker = pageGroups(groups, in.Marker, in.MaxItems)
	return out, nil
}

func pageGroups(groups []iamapi.Group, marker *string, max *int32) ([]iamapi.Group, *bool, *string) {
	byName := func(g iamapi.Group) string { return *g.GroupName }
	slices.SortFunc(groups, func(a, b iamapi.Group) int { return cmp.Compare(byName(a), byName(b)) })
	return page(groups, byName, marker, max)
}

func (s *Service) listGroupsForUser(ctx context.Context, in *iamapi.ListGroupsForUserInput) (*iamapi.ListGroupsForUserOutput, error) {
	groups := []iamapi.Group{}
	err := s.db.View(ctx, func(r kv.Reader) error {
		u, err := getUser(r, account(ctx), *in.UserName)
		if err != nil {
			return err
		}
		for _, name := range u.Groups {
			g, err := getGroup(r, account(ctx), name)
			if err != nil {
				return err
			}
			groups = append(groups, *g.out(account(ctx)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListGroupsForUserOutput{}
	out.Groups, out.IsTruncated, out.Marker = pageGroups(groups, in.Marker, in.MaxItems)
	return out, nil
}

// updateGroup renames and moves. The members name the group, so they are written with it.
func (s *Service) updateGroup(ctx context.Context, in *iamapi.UpdateGroupInput) (*iamapi.UpdateGroupOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		g, err := getGroup(tx, account(ctx), *in.GroupName)
		if err != nil {
			return err
		}
		if in.NewPath != nil {
			g.Path = *in.NewPath
		}
		if old := g.Name; in.NewGroupName != nil && *in.NewGroupName != old {
			g.Name = *in.NewGroupName
			if !strings.EqualFold(g.Name, old) {
				if err := unusedGroup(tx, account(ctx), g.Name); err != nil {
					return err
				}
			}
			tx.Delete(groupKey(account(ctx), old))
			for _, name := range g.Users {
				u, err := getUser(tx, account(ctx), name)
				if err != nil {
					return err
				}
				u.Groups[slices.Index(u.Groups, old)] = g.Name
				if err := kv.SetJSON(tx, userKey(account(ctx), u.Name), u); err != nil {
					return err
				}
			}
		}
		return kv.SetJSON(tx, groupKey(account(ctx), g.Name), g)
	})
}

func (s *Service) deleteGroup(ctx context.Context, in *iamapi.DeleteGroupInput) (*iamapi.DeleteGroupOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		g, err := getGroup(tx, account(ctx), *in.GroupName)
		if err != nil {
			return err
		}
		if len(g.Users) > 0 {
			return iamapi.ErrDeleteConflictException("Cannot delete entity, must remove users from group first.")
		}
		if err := g.mayDelete(); err != nil {
			return err
		}
		tx.Delete(groupKey(account(ctx), g.Name))
		return nil
	})
}

// Members.

func (s *Service) addUserToGroup(ctx context.Context, in *iamapi.AddUserToGroupInput) (*iamapi.AddUserToGroupOutput, error) {
	return nil, s.changeMember(ctx, *in.GroupName, *in.UserName, func(g *group, u *user) error {
		if slices.Contains(g.Users, u.Name) {
			return nil
		}
		if len(u.Groups) >= maxGroups {
			return iamapi.ErrLimitExceededException("Cannot exceed quota for GroupsPerUser: %d", maxGroups)
		}
		g.Users, u.Groups = append(g.Users, u.Name), append(u.Groups, g.Name)
		return nil
	})
}

// removeUserFromGroup answers well for a user that is no member, as AWS does.
func (s *Service) removeUserFromGroup(ctx context.Context, in *iamapi.RemoveUserFromGroupInput) (*iamapi.RemoveUserFromGroupOutput, error) {
	return nil, s.changeMember(ctx, *in.GroupName, *in.UserName, func(g *group, u *user) error {
		g.Users = slices.DeleteFunc(g.Users, func(n string) bool { return n == u.Name })
		u.Groups = slices.DeleteFunc(u.Groups, func(n string) bool { return n == g.Name })
		return nil
	})
}

func (s *Service) changeMember(ctx context.Context, groupName, userName string, f func(g *group, u *user) error) error {
	_, err := s.changeUser(ctx, userName, func(tx kv.Tx, u *user) error {
		return changeGroup(tx, account(ctx), groupName, func(g *group) error { return f(g, u) })
	})
	return err
}

// Policies.

func (s *Service) putGroupPolicy(ctx context.Context, in *iamapi.PutGroupPolicyInput) (*iamapi.PutGroupPolicyOutput, error) {
	if err := checkGrammar(*in.PolicyDocument, iampolicy.Identity); err != nil {
		return nil, err
	}
	return nil, s.changeGroup(ctx, *in.GroupName, func(_ kv.Tx, g *group) error {
		return g.put(ofGroup, g.Name, *in.PolicyName, *in.PolicyDocument)
	})
}

func (s *Service) getGroupPolicy(ctx context.Context, in *iamapi.GetGroupPolicyInput) (*iamapi.GetGroupPolicyOutput, error) {
	g, err := s.readGroup(ctx, *in.GroupName)
	if err != nil {
		return nil, err
	}
	d, err := g.document(ofGroup, *in.PolicyName)
	return &iamapi.GetGroupPolicyOutput{GroupName: new(g.Name), PolicyName: in.PolicyName, PolicyDocument: d}, err
}

func (s *Service) listGroupPolicies(ctx context.Context, in *iamapi.ListGroupPoliciesInput) (*iamapi.ListGroupPoliciesOutput, error) {
	g, err := s.readGroup(ctx, *in.GroupName)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListGroupPoliciesOutput{}
	out.PolicyNames, out.IsTruncated, out.Marker = page(g.inlineNames(), itself, in.Marker, in.MaxItems)
	return out, nil
}

func (s *Service) deleteGroupPolicy(ctx context.Context, in *iamapi.DeleteGroupPolicyInput) (*iamapi.DeleteGroupPolicyOutput, error) {
	return nil, s.changeGroup(ctx, *in.GroupName, func(_ kv.Tx, g *group) error { return g.remove(ofGroup, *in.PolicyName) })
}

func (s *Service) attachGroupPolicy(ctx context.Context, in *iamapi.AttachGroupPolicyInput) (*iamapi.AttachGroupPolicyOutput, error) {
	return nil, s.changeGroup(ctx, *in.GroupName, func(tx kv.Tx, g *group) error { return g.attach(tx, account(ctx), ofGroup, *in.PolicyArn) })
}

func (s *Service) detachGroupPolicy(ctx context.Context, in *iamapi.DetachGroupPolicyInput) (*iamapi.DetachGroupPolicyOutput, error) {
	return nil, s.changeGroup(ctx, *in.GroupName, func(tx kv.Tx, g *group) error { return g.detach(tx, account(ctx), *in.PolicyArn) })
}

func (s *Service) listAttachedGroupPolicies(ctx context.Context, in *iamapi.ListAttachedGroupPoliciesInput) (*iamapi.ListAttachedGroupPoliciesOutput, error) {
	g, err := s.readGroup(ctx, *in.GroupName)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListAttachedGroupPoliciesOutput{}
	out.AttachedPolicies, out.IsTruncated, out.Marker = page(g.attached(in.PathPrefix), policyARNOf, in.Marker, in.MaxItems)
	return out, nil
}
