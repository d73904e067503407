package iam

import (
	"fmt"
	"sync"
	"testing"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

func identities(t testing.TB) (*Service, *smithy.Mux) {
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

// Whatever is changed, the next look sees it.
func TestIdentity(t *testing.T) {
	s, mux := identities(t)
	ctx := call.With(t.Context(), &call.Info{Account: "000000000001", Region: "us-east-1"})
	const arn = "arn:aws:iam::000000000001:role/a/b/Worker"
	look := func() (policies int, boundary, tag string) {
		t.Helper()
		id, err := s.Identity(ctx, arn)
		if err != nil || id == nil {
			t.Fatal(id, err)
		}
		if id.Boundary != nil {
			boundary = id.Boundary.ID()
		}
		return len(id.Policies), boundary, id.Tags["k"]
	}
	if id, err := s.Identity(ctx, arn); id != nil || err != nil {
		t.Fatal(id, err)
	}
	must[*iamapi.CreateRoleOutput](t)(iamapi.CreateRole.Call(ctx, mux, &iamapi.CreateRoleInput{RoleName: new("Worker"), Path: new("/a/b/"), AssumeRolePolicyDocument: new(trust)}))
	if n, b, _ := look(); n != 0 || b != "" {
		t.Error(n, b)
	}
	id, _ := s.Identity(ctx, arn)
	if id.Trust == nil || id.ID[:4] != "AROA" || id.ARN != arn {
		t.Errorf("%+v", id)
	}
	if again, _ := s.Identity(ctx, arn); again != id {
		t.Error("made again though nothing changed")
	}
	for _, wrong := range []string{"arn:aws:iam::000000000001:role/Worker", "arn:aws:iam::000000000002:role/a/b/Worker", "arn:aws:iam::000000000001:user/a/b/Worker", "worker", "", "arn:aws:iam::000000000001:role/a/b/worker"} {
		if id, err := s.Identity(ctx, wrong); id != nil || err != nil {
			t.Errorf("%q: %+v %v", wrong, id, err)
		}
	}
	if got, _ := s.ARN(ctx, "000000000001", "role", "worker"); got != arn {
		t.Error(got)
	}
	if got, _ := s.ARN(ctx, "000000000001", "role", "none"); got != "arn:aws:iam::000000000001:role/none" {
		t.Error(got)
	}
	must[*iamapi.PutRolePolicyOutput](t)(iamapi.PutRolePolicy.Call(ctx, mux, &iamapi.PutRolePolicyInput{RoleName: new("worker"), PolicyName: new("p"), PolicyDocument: new(allow)}))
	must[*iamapi.AttachRolePolicyOutput](t)(iamapi.AttachRolePolicy.Call(ctx, mux, &iamapi.AttachRolePolicyInput{RoleName: new("worker"), PolicyArn: new(basic)}))
	must[*iamapi.PutRolePermissionsBoundaryOutput](t)(iamapi.PutRolePermissionsBoundary.Call(ctx, mux, &iamapi.PutRolePermissionsBoundaryInput{RoleName: new("worker"), PermissionsBoundary: new(admin)}))
	must[*iamapi.TagRoleOutput](t)(iamapi.TagRole.Call(ctx, mux, &iamapi.TagRoleInput{RoleName: new("worker"), Tags: []iamapi.Tag{{Key: new("k"), Value: new("v")}}}))
	if n, b, v := look(); n != 2 || b != admin || v != "v" {
		t.Error(n, b, v)
	}
	p := must[*iamapi.CreatePolicyOutput](t)(iamapi.CreatePolicy.Call(ctx, mux, &iamapi.CreatePolicyInput{PolicyName: new("m"), PolicyDocument: new(allow), Tags: []iamapi.Tag{{Key: new("a"), Value: new("b")}}}))
	if c, err := s.ManagedPolicy(ctx, *p.Policy.Arn); c == nil || c.Len() != 1 || err != nil {
		t.Error(c, err)
	}
	if tags, err := s.Tags(ctx, *p.Policy.Arn); tags["a"] != "b" || err != nil {
		t.Error(tags, err)
	}
	two := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"},{"Effect":"Allow","Action":"sqs:*","Resource":"*"}]}`
	must[*iamapi.CreatePolicyVersionOutput](t)(iamapi.CreatePolicyVersion.Call(ctx, mux, &iamapi.CreatePolicyVersionInput{PolicyArn: p.Policy.Arn, PolicyDocument: &two}))
	if c, _ := s.ManagedPolicy(ctx, *p.Policy.Arn); c.Len() != 1 {
		t.Error("a version that is not the default holds")
	}
	must[*iamapi.SetDefaultPolicyVersionOutput](t)(iamapi.SetDefaultPolicyVersion.Call(ctx, mux, &iamapi.SetDefaultPolicyVersionInput{PolicyArn: p.Policy.Arn, VersionId: new("v2")}))
	if c, _ := s.ManagedPolicy(ctx, *p.Policy.Arn); c.Len() != 2 {
		t.Error("the default version does not hold")
	}
	for _, none := range []string{absent, "arn:aws:iam::aws:policy/Nothing", "nonsense", "arn:aws:s3:::b"} {
		if c, err := s.ManagedPolicy(ctx, none); c != nil || err != nil {
			t.Errorf("%s: %v %v", none, c, err)
		}
	}
}

// A look that begins after a change was acknowledged never sees what was before it, however many look at the same time.
func TestIdentityIsNeverOld(t *testing.T) {
	s, mux := identities(t)
	ctx := call.With(t.Context(), &call.Info{Account: "000000000001", Region: "us-east-1"})
	const arn = "arn:aws:iam::000000000001:role/r"
	must[*iamapi.CreateRoleOutput](t)(iamapi.CreateRole.Call(ctx, mux, &iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust)}))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.Identity(ctx, arn); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 50 {
		want := fmt.Sprint(i)
		must[*iamapi.TagRoleOutput](t)(iamapi.TagRole.Call(ctx, mux, &iamapi.TagRoleInput{RoleName: new("r"), Tags: []iamapi.Tag{{Key: new("k"), Value: &want}}}))
		if id, err := s.Identity(ctx, arn); err != nil || id.Tags["k"] != want {
			t.Fatalf("after the change to %s: %v %v", want, id.Tags, err)
		}
	}
	close(done)
	wg.Wait()
}

func BenchmarkIdentity(b *testing.B) {
	s, mux := identities(b)
	ctx := call.With(b.Context(), &call.Info{Account: "000000000001", Region: "us-east-1"})
	if _, err := iamapi.CreateRole.Call(ctx, mux, &iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust)}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if id, err := s.Identity(ctx, "arn:aws:iam::000000000001:role/r"); id == nil || err != nil {
			b.Fatal(err)
		}
	}
}

// Who makes up key ids cannot push the policies of others out of memory.
func TestUnknownKeysCostNobodyTheirPolicies(t *testing.T) {
	s, mux := identities(t)
	ctx := call.With(t.Context(), &call.Info{Account: "000000000001", Region: "us-east-1"})
	must[*iamapi.CreateRoleOutput](t)(iamapi.CreateRole.Call(ctx, mux, &iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust)}))
	must[*authorize.Identity](t)(s.Identity(ctx, "arn:aws:iam::000000000001:role/r"))
	for range maxCompiledEntries + 10 {
		if _, err := s.Find(ctx, credential.NewKeyID("AKIA", "000000000001"), ""); err != credential.ErrUnknownKey {
			t.Fatal(err)
		}
	}
	if len(s.compiled.identities) != 1 || len(s.compiled.keys) > maxCompiledEntries {
		t.Errorf("%d identities and %d keys are in memory", len(s.compiled.identities), len(s.compiled.keys))
	}
}
