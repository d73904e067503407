package iam

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

const (
	trust  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	allow  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	basic  = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
	admin  = "arn:aws:iam::aws:policy/AdministratorAccess"
	absent = "arn:aws:iam::000000000001:policy/absent"
)

func start(t *testing.T) (context.Context, *smithy.Mux) {
	_, mux := newService(t)
	return call.With(t.Context(), &call.Info{Account: "000000000001", Region: "us-east-1"}), mux
}

func newService(t *testing.T) (*Service, *smithy.Mux) {
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := New(Deps{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	mux := smithy.NewMux()
	s.Register(mux)
	return s, mux
}

// caller calls operations and fails the test where they do.
type caller struct {
	t   *testing.T
	ctx context.Context
	mux *smithy.Mux
}

func do[In, Out any](c *caller, op smithy.Op[In, Out], in *In) *Out {
	c.t.Helper()
	out, err := op.Call(c.ctx, c.mux, in)
	if err != nil {
		c.t.Fatalf("%s: %v", op.Info.Name, err)
	}
	return out
}

func (c *caller) fails(code string, f func() error) {
	c.t.Helper()
	wantCode(c.t, f(), code)
}

// wantCode fails the test unless err is the API error with a code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok || e.Code != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestRole(t *testing.T) {
	ctx, m := start(t)
	in := &iamapi.CreateRoleInput{
		RoleName: new("App"), AssumeRolePolicyDocument: new(trust), Path: new("/team/"), Description: new("d"),
		Tags: []iamapi.Tag{{Key: new("k"), Value: new("v")}},
	}
	r := must[*iamapi.CreateRoleOutput](t)(iamapi.CreateRole.Call(ctx, m, in)).Role
	if *r.Arn != "arn:aws:iam::000000000001:role/team/App" || !strings.HasPrefix(*r.RoleId, "AROA") || len(*r.RoleId) != 21 || *r.MaxSessionDuration != 3600 {
		t.Errorf("role %s %s %d", *r.Arn, *r.RoleId, *r.MaxSessionDuration)
	}
	in.RoleName = new("APP")
	_, err := iamapi.CreateRole.Call(ctx, m, in)
	wantCode(t, err, "EntityAlreadyExistsException")

	must[*iamapi.UpdateRoleOutput](t)(iamapi.UpdateRole.Call(ctx, m, &iamapi.UpdateRoleInput{RoleName: new("App"), MaxSessionDuration: new(int32(7200))}))
	got := must[*iamapi.GetRoleOutput](t)(iamapi.GetRole.Call(ctx, m, &iamapi.GetRoleInput{RoleName: new("App")})).Role
	document, err := url.PathUnescape(*got.AssumeRolePolicyDocument)
	if err != nil || document != trust || *got.MaxSessionDuration != 7200 || *got.Description != "d" || len(got.Tags) != 1 {
		t.Errorf("GetRole: %s %+v", document, got)
	}

	must[*iamapi.TagRoleOutput](t)(iamapi.TagRole.Call(ctx, m, &iamapi.TagRoleInput{RoleName: new("App"), Tags: []iamapi.Tag{{Key: new("a"), Value: new("1")}, {Key: new("K"), Value: new("2")}}}))
	must[*iamapi.UntagRoleOutput](t)(iamapi.UntagRole.Call(ctx, m, &iamapi.UntagRoleInput{RoleName: new("App"), TagKeys: []string{"a"}}))
	tags := must[*iamapi.ListRoleTagsOutput](t)(iamapi.ListRoleTags.Call(ctx, m, &iamapi.ListRoleTagsInput{RoleName: new("App")})).Tags
	if len(tags) != 1 || *tags[0].Key != "K" || *tags[0].Value != "2" {
		t.Errorf("tags %+v", tags)
	}

	must[*iamapi.DeleteRoleOutput](t)(iamapi.DeleteRole.Call(ctx, m, &iamapi.DeleteRoleInput{RoleName: new("App")}))
	_, err = iamapi.GetRole.Call(ctx, m, &iamapi.GetRoleInput{RoleName: new("App")})
	wantCode(t, err, "NoSuchEntityException")
}

func TestRolePolicies(t *testing.T) {
	ctx, m := start(t)
	name := new("r")
	must[*iamapi.CreateRoleOutput](t)(iamapi.CreateRole.Call(ctx, m, &iamapi.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: new(trust)}))
	must[*iamapi.PutRolePolicyOutput](t)(iamapi.PutRolePolicy.Call(ctx, m, &iamapi.PutRolePolicyInput{RoleName: name, PolicyName: new("p"), PolicyDocument: new(allow)}))
	p := must[*iamapi.GetRolePolicyOutput](t)(iamapi.GetRolePolicy.Call(ctx, m, &iamapi.GetRolePolicyInput{RoleName: name, PolicyName: new("p")}))
	if d, _ := url.PathUnescape(*p.PolicyDocument); d != allow {
		t.Errorf("inline policy %s", d)
	}
	for _, a := range []string{basic, admin, basic} {
		must[*iamapi.AttachRolePolicyOutput](t)(iamapi.AttachRolePolicy.Call(ctx, m, &iamapi.AttachRolePolicyInput{RoleName: name, PolicyArn: new(a)}))
	}
	_, err := iamapi.AttachRolePolicy.Call(ctx, m, &iamapi.AttachRolePolicyInput{RoleName: name, PolicyArn: new(absent)})
	wantCode(t, err, "NoSuchEntityException")
	list := must[*iamapi.ListAttachedRolePoliciesOutput](t)(iamapi.ListAttachedRolePolicies.Call(ctx, m, &iamapi.ListAttachedRolePoliciesInput{RoleName: name}))
	if len(list.AttachedPolicies) != 2 || *list.AttachedPolicies[1].PolicyName != "AWSLambdaBasicExecutionRole" {
		t.Errorf("attached %+v", list.AttachedPolicies)
	}

	_, err = iamapi.DeleteRole.Call(ctx, m, &iamapi.DeleteRoleInput{RoleName: name})
	wantCode(t, err, "DeleteConflictException")
	for _, a := range []string{basic, admin} {
		must[*iamapi.DetachRolePolicyOutput](t)(iamapi.DetachRolePolicy.Call(ctx, m, &iamapi.DetachRolePolicyInput{RoleName: name, PolicyArn: new(a)}))
	}
	_, err = iamapi.DetachRolePolicy.Call(ctx, m, &iamapi.DetachRolePolicyInput{RoleName: name, PolicyArn: new(basic)})
	wantCode(t, err, "NoSuchEntityException")
	_, err = iamapi.DeleteRole.Call(ctx, m, &iamapi.DeleteRoleInput{RoleName: name})
	wantCode(t, err, "DeleteConflictException")
	must[*iamapi.DeleteRolePolicyOutput](t)(iamapi.DeleteRolePolicy.Call(ctx, m, &iamapi.DeleteRolePolicyInput{RoleName: name, PolicyName: new("p")}))
	must[*iamapi.DeleteRoleOutput](t)(iamapi.DeleteRole.Call(ctx, m, &iamapi.DeleteRoleInput{RoleName: name}))
}

func TestManagedPolicy(t *testing.T) {
	ctx, m := start(t)
	p := must[*iamapi.CreatePolicyOutput](t)(iamapi.CreatePolicy.Call(ctx, m, &iamapi.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allow)})).Policy
	if *p.Arn != "arn:aws:iam::000000000001:policy/p" || *p.DefaultVersionId != "v1" {
		t.Errorf("policy %s %s", *p.Arn, *p.DefaultVersionId)
	}
	_, err := iamapi.CreatePolicy.Call(ctx, m, &iamapi.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allow)})
	wantCode(t, err, "EntityAlreadyExistsException")
	for i := range 4 {
		v := must[*iamapi.CreatePolicyVersionOutput](t)(iamapi.CreatePolicyVersion.Call(ctx, m,
			&iamapi.CreatePolicyVersionInput{PolicyArn: p.Arn, PolicyDocument: new(allow), SetAsDefault: new(i == 1)}))
		if want := fmt.Sprintf("v%d", i+2); *v.PolicyVersion.VersionId != want {
			t.Errorf("version %s, want %s", *v.PolicyVersion.VersionId, want)
		}
	}
	_, err = iamapi.CreatePolicyVersion.Call(ctx, m, &iamapi.CreatePolicyVersionInput{PolicyArn: p.Arn, PolicyDocument: new(allow)})
	wantCode(t, err, "LimitExceededException")
	_, err = iamapi.DeletePolicyVersion.Call(ctx, m, &iamapi.DeletePolicyVersionInput{PolicyArn: p.Arn, VersionId: new("v3")})
	wantCode(t, err, "DeleteConflictException")
	_, err = iamapi.DeletePolicy.Call(ctx, m, &iamapi.DeletePolicyInput{PolicyArn: p.Arn})
	wantCode(t, err, "DeleteConflictException")
	for _, v := range []string{"v1", "v2", "v4", "v5"} {
		must[*iamapi.DeletePolicyVersionOutput](t)(iamapi.DeletePolicyVersion.Call(ctx, m, &iamapi.DeletePolicyVersionInput{PolicyArn: p.Arn, VersionId: new(v)}))
	}

	must[*iamapi.CreateRoleOutput](t)(iamapi.CreateRole.Call(ctx, m, &iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust), PermissionsBoundary: p.Arn}))
	must[*iamapi.AttachRolePolicyOutput](t)(iamapi.AttachRolePolicy.Call(ctx, m, &iamapi.AttachRolePolicyInput{RoleName: new("r"), PolicyArn: p.Arn}))
	got := must[*iamapi.GetPolicyOutput](t)(iamapi.GetPolicy.Call(ctx, m, &iamapi.GetPolicyInput{PolicyArn: p.Arn})).Policy
	if *got.AttachmentCount != 1 || *got.PermissionsBoundaryUsageCount != 1 || *got.DefaultVersionId != "v3" {
		t.Errorf("counts %d %d, default %s", *got.AttachmentCount, *got.PermissionsBoundaryUsageCount, *got.DefaultVersionId)
	}
	roles := must[*iamapi.ListEntitiesForPolicyOutput](t)(iamapi.ListEntitiesForPolicy.Call(ctx, m, &iamapi.ListEntitiesForPolicyInput{PolicyArn: p.Arn})).PolicyRoles
	if len(roles) != 1 || *roles[0].RoleName != "r" {
		t.Errorf("entities %+v", roles)
	}
	_, err = iamapi.DeletePolicy.Call(ctx, m, &iamapi.DeletePolicyInput{PolicyArn: p.Arn})
	wantCode(t, err, "DeleteConflictException")
	must[*iamapi.DetachRolePolicyOutput](t)(iamapi.DetachRolePolicy.Call(ctx, m, &iamapi.DetachRolePolicyInput{RoleName: new("r"), PolicyArn: p.Arn}))
	must[*iamapi.DeleteRoleOutput](t)(iamapi.DeleteRole.Call(ctx, m, &iamapi.DeleteRoleInput{RoleName: new("r")}))
	must[*iamapi.DeletePolicyOutput](t)(iamapi.DeletePolicy.Call(ctx, m, &iamapi.DeletePolicyInput{PolicyArn: p.Arn}))
	_, err = iamapi.GetPolicy.Call(ctx, m, &iamapi.GetPolicyInput{PolicyArn: p.Arn})
	wantCode(t, err, "NoSuchEntityException")
	_, err = iamapi.DeletePolicy.Call(ctx, m, &iamapi.DeletePolicyInput{PolicyArn: new(basic)})
	wantCode(t, err, "AccessDenied")
}

func TestMalformedDocuments(t *testing.T) {
	ctx, m := start(t)
	_, err := iamapi.CreateRole.Call(ctx, m, &iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(`{`)})
	wantCode(t, err, "MalformedPolicyDocumentException")
	_, err = iamapi.CreatePolicy.Call(ctx, m, &iamapi.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(trust)})
	wantCode(t, err, "MalformedPolicyDocumentException")
	long := strings.Replace(allow, `"s3:*"`, `["s3:*"`+strings.Repeat(`,"s3:GetObject"`, 600)+`]`, 1)
	_, err = iamapi.CreatePolicy.Call(ctx, m, &iamapi.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(long)})
	wantCode(t, err, "LimitExceededException")
}

func TestPaging(t *testing.T) {
	ctx, m := start(t)
	for i := range 5 {
		must[*iamapi.CreateRoleOutput](t)(iamapi.CreateRole.Call(ctx, m, &iamapi.CreateRoleInput{RoleName: new(fmt.Sprint("r", i)), AssumeRolePolicyDocument: new(trust)}))
	}
	var names []string
	in := &iamapi.ListRolesInput{MaxItems: new(int32(2))}
	for {
		out := must[*iamapi.ListRolesOutput](t)(iamapi.ListRoles.Call(ctx, m, in))
		for _, r := range out.Roles {
			names = append(names, *r.RoleName)
		}
		if !*out.IsTruncated {
			break
		}
		in.Marker = out.Marker
	}
	if got := strings.Join(names, " "); got != "r0 r1 r2 r3 r4" {
		t.Errorf("roles in pages: %s", got)
	}
}

// The documents that come with the program obey the grammar.
func TestAWSManagedPolicies(t *testing.T) {
	ctx, m := start(t)
	out := must[*iamapi.ListPoliciesOutput](t)(iamapi.ListPolicies.Call(ctx, m, &iamapi.ListPoliciesInput{Scope: new("AWS"), MaxItems: new(int32(1000))}))
	if len(out.Policies) != len(managed()) || len(out.Policies) < 50 {
		t.Errorf("%d policies of %d", len(out.Policies), len(managed()))
	}
	ids := map[string]bool{}
	for _, p := range managed() {
		if _, err := iampolicy.Parse(p.Versions[0].Document, iampolicy.Identity); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if len(p.ID) != 21 || ids[p.ID] {
			t.Errorf("%s has the id %s", p.Name, p.ID)
		}
		ids[p.ID] = true
	}
	v := must[*iamapi.GetPolicyVersionOutput](t)(iamapi.GetPolicyVersion.Call(ctx, m, &iamapi.GetPolicyVersionInput{PolicyArn: new(admin), VersionId: new("v1")}))
	if d, _ := url.PathUnescape(*v.PolicyVersion.Document); !strings.Contains(d, `"Action":"*"`) {
		t.Errorf("AdministratorAccess is %s", d)
	}
}
