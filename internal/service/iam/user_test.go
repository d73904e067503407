package iam

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
)

// startService is start with the service itself.
func startService(t *testing.T) (*Service, *caller) {
	s, mux := newService(t)
	ctx := call.With(t.Context(), &call.Info{Account: "000000000001", Region: "us-east-1", Principal: credential.RootPrincipal("000000000001", "AKIAROOT")})
	return s, &caller{t, ctx, mux}
}

func TestUsers(t *testing.T) {
	s, c := startService(t)
	_ = s
	create := func(name, path string) *iamapi.User {
		return do(c, iamapi.CreateUser, &iamapi.CreateUserInput{UserName: &name, Path: &path, Tags: []iamapi.Tag{{Key: new("k"), Value: new("v")}}}).User
	}
	u := create("Ann", "/staff/")
	if *u.Arn != "arn:aws:iam::000000000001:user/staff/Ann" || !strings.HasPrefix(*u.UserId, "AIDA") || len(*u.UserId) != 21 {
		t.Errorf("user = %+v", u)
	}
	c.fails("EntityAlreadyExistsException", func() error {
		_, err := iamapi.CreateUser.Call(c.ctx, c.mux, &iamapi.CreateUserInput{UserName: new("ann")})
		return err
	})
	create("Bob", "/")
	list := do(c, iamapi.ListUsers, &iamapi.ListUsersInput{MaxItems: new(int32(1))})
	if len(list.Users) != 1 || *list.Users[0].UserName != "Ann" || !*list.IsTruncated || list.Users[0].Tags != nil {
		t.Errorf("first page = %+v", list)
	}
	list = do(c, iamapi.ListUsers, &iamapi.ListUsersInput{Marker: list.Marker})
	if len(list.Users) != 1 || *list.Users[0].UserName != "Bob" || *list.IsTruncated {
		t.Errorf("second page = %+v", list)
	}
	if l := do(c, iamapi.ListUsers, &iamapi.ListUsersInput{PathPrefix: new("/staff/")}); len(l.Users) != 1 {
		t.Errorf("under /staff/ = %+v", l.Users)
	}
	if root := do(c, iamapi.GetUser, &iamapi.GetUserInput{}).User; *root.Arn != "arn:aws:iam::000000000001:root" {
		t.Errorf("root = %+v", root)
	}

	// What hangs on a user keeps it from being deleted, in AWS's words.
	name := new("Ann")
	do(c, iamapi.CreateGroup, &iamapi.CreateGroupInput{GroupName: new("Ops")})
	do(c, iamapi.AddUserToGroup, &iamapi.AddUserToGroupInput{GroupName: new("Ops"), UserName: name})
	do(c, iamapi.AddUserToGroup, &iamapi.AddUserToGroupInput{GroupName: new("Ops"), UserName: name})
	do(c, iamapi.AttachUserPolicy, &iamapi.AttachUserPolicyInput{UserName: name, PolicyArn: new(basic)})
	do(c, iamapi.PutUserPolicy, &iamapi.PutUserPolicyInput{UserName: name, PolicyName: new("p"), PolicyDocument: new(allow)})
	key := do(c, iamapi.CreateAccessKey, &iamapi.CreateAccessKeyInput{UserName: name}).AccessKey
	remove := func(want string) {
		t.Helper()
		_, err := iamapi.DeleteUser.Call(c.ctx, c.mux, &iamapi.DeleteUserInput{UserName: name})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("delete: %v, want %q", err, want)
		}
	}
	remove("must delete access keys first")
	do(c, iamapi.DeleteAccessKey, &iamapi.DeleteAccessKeyInput{UserName: name, AccessKeyId: key.AccessKeyId})
	remove("must remove users from group first")
	if groups := do(c, iamapi.ListGroupsForUser, &iamapi.ListGroupsForUserInput{UserName: name}); len(groups.Groups) != 1 {
		t.Errorf("groups = %+v", groups.Groups)
	}

	// Renaming follows into the group.
	do(c, iamapi.UpdateUser, &iamapi.UpdateUserInput{UserName: name, NewUserName: new("Anna"), NewPath: new("/x/")})
	name = new("Anna")
	if g := do(c, iamapi.GetGroup, &iamapi.GetGroupInput{GroupName: new("ops")}); len(g.Users) != 1 || *g.Users[0].Arn != "arn:aws:iam::000000000001:user/x/Anna" {
		t.Errorf("members = %+v", g.Users)
	}
	do(c, iamapi.UpdateGroup, &iamapi.UpdateGroupInput{GroupName: new("Ops"), NewGroupName: new("Dev")})
	c.fails("DeleteConflictException", func() error {
		_, err := iamapi.DeleteGroup.Call(c.ctx, c.mux, &iamapi.DeleteGroupInput{GroupName: new("Dev")})
		return err
	})
	do(c, iamapi.RemoveUserFromGroup, &iamapi.RemoveUserFromGroupInput{GroupName: new("Dev"), UserName: name})
	do(c, iamapi.DeleteGroup, &iamapi.DeleteGroupInput{GroupName: new("Dev")})

	remove("must detach all policies first")
	do(c, iamapi.DetachUserPolicy, &iamapi.DetachUserPolicyInput{UserName: name, PolicyArn: new(basic)})
	remove("must delete policies first")
	do(c, iamapi.DeleteUserPolicy, &iamapi.DeleteUserPolicyInput{UserName: name, PolicyName: new("p")})
	do(c, iamapi.DeleteUser, &iamapi.DeleteUserInput{UserName: name})
	c.fails("NoSuchEntityException", func() error {
		_, err := iamapi.GetUser.Call(c.ctx, c.mux, &iamapi.GetUserInput{UserName: name})
		return err
	})
}

// An access key works while it is active and its user exists, and its user is known by the name that it has now.
func TestAccessKeys(t *testing.T) {
	s, c := startService(t)
	do(c, iamapi.CreateUser, &iamapi.CreateUserInput{UserName: new("u")})
	k := do(c, iamapi.CreateAccessKey, &iamapi.CreateAccessKeyInput{UserName: new("u")}).AccessKey
	id := *k.AccessKeyId
	if used := do(c, iamapi.GetAccessKeyLastUsed, &iamapi.GetAccessKeyLastUsedInput{AccessKeyId: &id}); used.AccessKeyLastUsed.LastUsedDate != nil {
		t.Errorf("used before use: %+v", used.AccessKeyLastUsed)
	}
	found, err := s.Find(c.ctx, id, "")
	if err != nil || found.Secret != *k.SecretAccessKey || found.Principal.ARN != "arn:aws:iam::000000000001:user/u" || found.Principal.Type != call.User {
		t.Fatalf("Find = %+v, %v", found, err)
	}
	if _, err := s.Find(c.ctx, id, "token"); !errors.Is(err, credential.ErrInvalidToken) {
		t.Errorf("with a token: %v", err)
	}
	if used := do(c, iamapi.GetAccessKeyLastUsed, &iamapi.GetAccessKeyLastUsedInput{AccessKeyId: &id}); used.AccessKeyLastUsed.LastUsedDate == nil || *used.UserName != "u" {
		t.Errorf("after use: %+v", used)
	}
	do(c, iamapi.UpdateAccessKey, &iamapi.UpdateAccessKeyInput{UserName: new("u"), AccessKeyId: &id, Status: new("Inactive")})
	if _, err := s.Find(c.ctx, id, ""); !errors.Is(err, credential.ErrUnknownKey) {
		t.Errorf("inactive: %v", err)
	}
	do(c, iamapi.UpdateAccessKey, &iamapi.UpdateAccessKeyInput{UserName: new("u"), AccessKeyId: &id, Status: new("Active")})
	do(c, iamapi.UpdateUser, &iamapi.UpdateUserInput{UserName: new("u"), NewUserName: new("v")})
	if found, err := s.Find(c.ctx, id, ""); err != nil || found.Principal.ARN != "arn:aws:iam::000000000001:user/v" {
		t.Errorf("renamed: %+v, %v", found, err)
	}
	do(c, iamapi.CreateAccessKey, &iamapi.CreateAccessKeyInput{UserName: new("v")})
	c.fails("LimitExceededException", func() error {
		_, err := iamapi.CreateAccessKey.Call(c.ctx, c.mux, &iamapi.CreateAccessKeyInput{UserName: new("v")})
		return err
	})
	if l := do(c, iamapi.ListAccessKeys, &iamapi.ListAccessKeysInput{UserName: new("v")}); len(l.AccessKeyMetadata) != 2 {
		t.Errorf("keys = %+v", l.AccessKeyMetadata)
	}
	do(c, iamapi.DeleteAccessKey, &iamapi.DeleteAccessKeyInput{UserName: new("v"), AccessKeyId: &id})
	if _, err := s.Find(c.ctx, id, ""); !errors.Is(err, credential.ErrUnknownKey) {
		t.Errorf("deleted: %v", err)
	}
	c.fails("NoSuchEntityException", func() error {
		_, err := iamapi.DeleteAccessKey.Call(c.ctx, c.mux, &iamapi.DeleteAccessKeyInput{UserName: new("v"), AccessKeyId: &id})
		return err
	})
}

// A user's policies are its own and those of its groups.
func TestIdentityOfUser(t *testing.T) {
	s, c := startService(t)
	do(c, iamapi.CreateUser, &iamapi.CreateUserInput{UserName: new("u"), PermissionsBoundary: new(admin)})
	do(c, iamapi.CreateGroup, &iamapi.CreateGroupInput{GroupName: new("g")})
	const userARN = "arn:aws:iam::000000000001:user/u"
	policies := func() []string {
		id, err := s.Identity(c.ctx, userARN)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, p := range id.Policies {
			ids = append(ids, p.ID())
		}
		slices.Sort(ids)
		return ids
	}
	if p := policies(); len(p) != 0 {
		t.Errorf("policies = %q", p)
	}
	do(c, iamapi.PutGroupPolicy, &iamapi.PutGroupPolicyInput{GroupName: new("g"), PolicyName: new("inline"), PolicyDocument: new(allow)})
	do(c, iamapi.AttachGroupPolicy, &iamapi.AttachGroupPolicyInput{GroupName: new("g"), PolicyArn: new(basic)})
	do(c, iamapi.PutUserPolicy, &iamapi.PutUserPolicyInput{UserName: new("u"), PolicyName: new("own"), PolicyDocument: new(allow)})
	do(c, iamapi.AddUserToGroup, &iamapi.AddUserToGroupInput{GroupName: new("g"), UserName: new("u")})
	if p := policies(); !slices.Equal(p, []string{basic, "inline", "own"}) {
		t.Errorf("policies = %q", p)
	}
	if id, err := s.Identity(c.ctx, userARN); err != nil || id.Boundary == nil || id.Boundary.ID() != admin {
		t.Errorf("identity = %+v, %v", id, err)
	}
	do(c, iamapi.RemoveUserFromGroup, &iamapi.RemoveUserFromGroupInput{GroupName: new("g"), UserName: new("u")})
	if p := policies(); !slices.Equal(p, []string{"own"}) {
		t.Errorf("policies = %q", p)
	}
	out := do(c, iamapi.ListEntitiesForPolicy, &iamapi.ListEntitiesForPolicyInput{PolicyArn: new(basic)})
	if len(out.PolicyGroups) != 1 || len(out.PolicyUsers) != 0 {
		t.Errorf("entities = %+v", out)
	}
}

func TestInstanceProfiles(t *testing.T) {
	_, c := startService(t)
	do(c, iamapi.CreateRole, &iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust)})
	do(c, iamapi.CreateInstanceProfile, &iamapi.CreateInstanceProfileInput{InstanceProfileName: new("p")})
	do(c, iamapi.AddRoleToInstanceProfile, &iamapi.AddRoleToInstanceProfileInput{InstanceProfileName: new("p"), RoleName: new("r")})
	c.fails("LimitExceededException", func() error {
		_, err := iamapi.AddRoleToInstanceProfile.Call(c.ctx, c.mux, &iamapi.AddRoleToInstanceProfileInput{InstanceProfileName: new("p"), RoleName: new("r")})
		return err
	})
	p := do(c, iamapi.GetInstanceProfile, &iamapi.GetInstanceProfileInput{InstanceProfileName: new("p")}).InstanceProfile
	if len(p.Roles) != 1 || *p.Roles[0].RoleName != "r" {
		t.Errorf("profile = %+v", p)
	}
	if l := do(c, iamapi.ListInstanceProfilesForRole, &iamapi.ListInstanceProfilesForRoleInput{RoleName: new("r")}); len(l.InstanceProfiles) != 1 {
		t.Errorf("profiles = %+v", l.InstanceProfiles)
	}
	for _, conflict := range []func() error{
		func() error {
			_, err := iamapi.DeleteRole.Call(c.ctx, c.mux, &iamapi.DeleteRoleInput{RoleName: new("r")})
			return err
		},
		func() error {
			_, err := iamapi.DeleteInstanceProfile.Call(c.ctx, c.mux, &iamapi.DeleteInstanceProfileInput{InstanceProfileName: new("p")})
			return err
		},
	} {
		c.fails("DeleteConflictException", conflict)
	}
	do(c, iamapi.RemoveRoleFromInstanceProfile, &iamapi.RemoveRoleFromInstanceProfileInput{InstanceProfileName: new("p"), RoleName: new("r")})
	do(c, iamapi.DeleteInstanceProfile, &iamapi.DeleteInstanceProfileInput{InstanceProfileName: new("p")})
	do(c, iamapi.DeleteRole, &iamapi.DeleteRoleInput{RoleName: new("r")})
}
