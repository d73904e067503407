package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func getProfile(r kv.Reader, account, name string) (*instanceProfile, error) {
	rec, ok, err := kv.GetJSON[instanceProfile](r, profileKey(account, name))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, iamapi.ErrNoSuchEntityException("Instance Profile %s cannot be found.", name)
	}
	return &rec, nil
}

// changeProfile loads an instance profile, lets f change it, and stores it.
func (s *Service) changeProfile(ctx context.Context, name string, f func(tx kv.Tx, p *instanceProfile) error) error {
	return s.db.Update(ctx, func(tx kv.Tx) error {
		p, err := getProfile(tx, account(ctx), name)
		if err != nil {
			return err
		}
		if err := f(tx, p); err != nil {
			return err
		}
		return kv.SetJSON(tx, profileKey(account(ctx), p.Name), p)
	})
}

func (p *instanceProfile) out(r kv.Reader, account string) (*iamapi.InstanceProfile, error) {
	out := &iamapi.InstanceProfile{
		Path: new(p.Path), InstanceProfileName: new(p.Name), InstanceProfileId: new(p.ID),
		Arn: new(entityARN(account, "instance-profile", p.Path, p.Name)), CreateDate: new(p.Created), Roles: []iamapi.Role{}, Tags: tagsOut(p.Tags),
	}
	if p.Role != "" {
		role, err := getRole(r, account, p.Role)
		if err != nil {
			return nil, err
		}
		one := role.out(account)
		one.Tags, one.PermissionsBoundary, one.MaxSessionDuration, one.Description = nil, nil, nil, nil
		out.Roles = append(out.Roles, *one)
	}
	return out, nil
}

func (s *Service) createInstanceProfile(ctx context.Context, in *iamapi.CreateInstanceProfileInput) (*iamapi.CreateInstanceProfileOutput, error) {
	tags, err := addTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	p := &instanceProfile{Name: *in.InstanceProfileName, ID: newID("AIPA"), Path: path(in.Path), Created: now(), Tags: tags}
	out := &iamapi.CreateInstanceProfileOutput{}
	return out, s.db.Update(ctx, func(tx kv.Tx) error {
		key := profileKey(account(ctx), p.Name)
		if _, ok, err := tx.Get(key); err != nil {
			return err
		} else if ok {
			return iamapi.ErrEntityAlreadyExistsException("Instance Profile %s already exists.", p.Name)
		}
		if out.InstanceProfile, err = p.out(tx, account(ctx)); err != nil {
			return err
		}
		return kv.SetJSON(tx, key, p)
	})
}

func (s *Service) getInstanceProfile(ctx context.Context, in *iamapi.GetInstanceProfileInput) (*iamapi.GetInstanceProfileOutput, error) {
	out := &iamapi.GetInstanceProfileOutput{}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		p, err := getProfile(r, account(ctx), *in.InstanceProfileName)
		if err != nil {
			return err
		}
		out.InstanceProfile, err = p.out(r, account(ctx))
		return err
	})
}

// profiles lists the instance profiles that a filter takes, by name.
func (s *Service) profiles(ctx context.Context, filter func(*instanceProfile) bool) (list []iamapi.InstanceProfile, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		list = []iamapi.InstanceProfile{}
		for rec, err := range kv.ScanJSON[instanceProfile](r, profileRange(account(ctx))) {
			if err != nil {
				return err
			}
			if !filter(&rec.Value) {
				continue
			}
			out, err := rec.Value.out(r, account(ctx))
			if err != nil {
				return err
			}
			out.Tags = nil // AWS: lists leave them out
			list = append(list, *out)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b iamapi.InstanceProfile) int { return cmp.Compare(profileName(a), profileName(b)) })
	return list, err
}

func profileName(p iamapi.InstanceProfile) string { return *p.InstanceProfileName }

func (s *Service) listInstanceProfiles(ctx context.Context, in *iamapi.ListInstanceProfilesInput) (*iamapi.ListInstanceProfilesOutput, error) {
	list, err := s.profiles(ctx, func(p *instanceProfile) bool { return strings.HasPrefix(p.Path, path(in.PathPrefix)) })
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListInstanceProfilesOutput{}
	out.InstanceProfiles, out.IsTruncated, out.Marker = page(list, profileName, in.Marker, in.MaxItems)
	return out, nil
}

func (s *Service) listInstanceProfilesForRole(ctx context.Context, in *iamapi.ListInstanceProfilesForRoleInput) (*iamapi.ListInstanceProfilesForRoleOutput, error) {
	r, err := s.readRole(ctx, *in.RoleName)
	if err != nil {
		return nil, err
	}
	list, err := s.profiles(ctx, func(p *instanceProfile) bool { return p.Role == r.Name })
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListInstanceProfilesForRoleOutput{}
	out.InstanceProfiles, out.IsTruncated, out.Marker = page(list, profileName, in.Marker, in.MaxItems)
	return out, nil
}

func (s *Service) deleteInstanceProfile(ctx context.Context, in *iamapi.DeleteInstanceProfileInput) (*iamapi.DeleteInstanceProfileOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		p, err := getProfile(tx, account(ctx), *in.InstanceProfileName)
		if err != nil {
			return err
		}
		if p.Role != "" {
			return iamapi.ErrDeleteConflictException("Cannot delete entity, must remove roles from instance profile first.")
		}
		tx.Delete(profileKey(account(ctx), p.Name))
		return nil
	})
}

// The role's record has the names of its profiles, so that it is not deleted while it has any.

func (s *Service) addRoleToInstanceProfile(ctx context.Context, in *iamapi.AddRoleToInstanceProfileInput) (*iamapi.AddRoleToInstanceProfileOutput, error) {
	return nil, s.changeProfile(ctx, *in.InstanceProfileName, func(tx kv.Tx, p *instanceProfile) error {
		r, err := getRole(tx, account(ctx), *in.RoleName)
		if err != nil {
			return err
		}
		if p.Role != "" {
			return iamapi.ErrLimitExceededException("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
		}
		p.Role = r.Name
		r.Profiles = append(r.Profiles, p.Name)
		return kv.SetJSON(tx, roleKey(account(ctx), r.Name), r)
	})
}

func (s *Service) removeRoleFromInstanceProfile(ctx context.Context, in *iamapi.RemoveRoleFromInstanceProfileInput) (*iamapi.RemoveRoleFromInstanceProfileOutput, error) {
	return nil, s.changeProfile(ctx, *in.InstanceProfileName, func(tx kv.Tx, p *instanceProfile) error {
		r, err := getRole(tx, account(ctx), *in.RoleName)
		if err != nil {
			return err
		}
		if p.Role != r.Name {
			return noSuchRole(*in.RoleName)
		}
		p.Role = ""
		r.Profiles = slices.DeleteFunc(r.Profiles, func(n string) bool { return n == p.Name })
		return kv.SetJSON(tx, roleKey(account(ctx), r.Name), r)
	})
}

// Tags.

func (s *Service) tagInstanceProfile(ctx context.Context, in *iamapi.TagInstanceProfileInput) (*iamapi.TagInstanceProfileOutput, error) {
	return nil, s.changeProfile(ctx, *in.InstanceProfileName, func(_ kv.Tx, p *instanceProfile) (err error) {
		p.Tags, err = addTags(p.Tags, in.Tags)
		return err
	})
}

func (s *Service) untagInstanceProfile(ctx context.Context, in *iamapi.UntagInstanceProfileInput) (*iamapi.UntagInstanceProfileOutput, error) {
	return nil, s.changeProfile(ctx, *in.InstanceProfileName, func(_ kv.Tx, p *instanceProfile) error {
		p.Tags = removeTags(p.Tags, in.TagKeys)
		return nil
	})
}

func (s *Service) listInstanceProfileTags(ctx context.Context, in *iamapi.ListInstanceProfileTagsInput) (*iamapi.ListInstanceProfileTagsOutput, error) {
	out := &iamapi.ListInstanceProfileTagsOutput{}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		p, err := getProfile(r, account(ctx), *in.InstanceProfileName)
		if err == nil {
			out.Tags, out.IsTruncated, out.Marker = pageTags(p.Tags, in.Marker, in.MaxItems)
		}
		return err
	})
}
