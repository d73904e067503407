package iam

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// together runs f n times at once and counts its successes. What fails must fail as a client's fault.
func together(t *testing.T, n int, f func(i int) error) int {
	t.Helper()
	var wg sync.WaitGroup
	var done atomic.Int32
	for i := range n {
		wg.Go(func() {
			err := f(i)
			if e, ok := errors.AsType[*apierr.Error](err); err != nil && (!ok || e.Status >= http.StatusInternalServerError) {
				t.Error(err)
			}
			if err == nil {
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return int(done.Load())
}

// Names are unique and limits hold, however many try at the same time.
func TestOfManyOneWins(t *testing.T) {
	_, c := startService(t)
	spell := func(i int) *string { return new([]string{"name", "Name", "NAME", "nAME"}[i%4]) }
	for what, create := range map[string]func(i int) error{
		"users": func(i int) error {
			_, err := iamapi.CreateUser.Call(c.ctx, c.mux, &iamapi.CreateUserInput{UserName: spell(i)})
			return err
		},
		"groups": func(i int) error {
			_, err := iamapi.CreateGroup.Call(c.ctx, c.mux, &iamapi.CreateGroupInput{GroupName: spell(i)})
			return err
		},
		"roles": func(i int) error {
			_, err := iamapi.CreateRole.Call(c.ctx, c.mux, &iamapi.CreateRoleInput{RoleName: spell(i), AssumeRolePolicyDocument: new(trust)})
			return err
		},
		"policies": func(i int) error {
			_, err := iamapi.CreatePolicy.Call(c.ctx, c.mux, &iamapi.CreatePolicyInput{PolicyName: spell(i), PolicyDocument: new(allow)})
			return err
		},
	} {
		if n := together(t, 8, create); n != 1 {
			t.Errorf("%d %s of one name", n, what)
		}
	}
	n := together(t, 8, func(int) error {
		_, err := iamapi.CreateAccessKey.Call(c.ctx, c.mux, &iamapi.CreateAccessKeyInput{UserName: new("name")})
		return err
	})
	if n != maxKeys {
		t.Errorf("%d access keys", n)
	}
}

// While a policy is attached and detached, another tries to delete it: it is never gone where it is attached.
func TestAttachedPoliciesAreNeverGone(t *testing.T) {
	_, c := startService(t)
	const arn = "arn:aws:iam::000000000001:policy/p"
	do(c, iamapi.CreateRole, &iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust)})
	for round := range 20 {
		do(c, iamapi.CreatePolicy, &iamapi.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allow)})
		together(t, 2, func(i int) (err error) {
			if i == 0 {
				_, err = iamapi.AttachRolePolicy.Call(c.ctx, c.mux, &iamapi.AttachRolePolicyInput{RoleName: new("r"), PolicyArn: new(arn)})
			} else {
				_, err = iamapi.DeletePolicy.Call(c.ctx, c.mux, &iamapi.DeletePolicyInput{PolicyArn: new(arn)})
			}
			return err
		})
		attached := len(do(c, iamapi.ListAttachedRolePolicies, &iamapi.ListAttachedRolePoliciesInput{RoleName: new("r")}).AttachedPolicies) == 1
		p, err := iamapi.GetPolicy.Call(c.ctx, c.mux, &iamapi.GetPolicyInput{PolicyArn: new(arn)})
		if attached != (err == nil) || err == nil && *p.Policy.AttachmentCount != 1 {
			t.Fatalf("round %d: attached %t, policy %+v %v", round, attached, p, err)
		}
		if attached {
			do(c, iamapi.DetachRolePolicy, &iamapi.DetachRolePolicyInput{RoleName: new("r"), PolicyArn: new(arn)})
			do(c, iamapi.DeletePolicy, &iamapi.DeletePolicyInput{PolicyArn: new(arn)})
		}
	}
}

// Where a statement is said to stand, there is one.
func FuzzStatementAt(f *testing.F) {
	f.Add(allow)
	f.Add("{\"Statement\" :\n [ {\"Effect\":\"Deny\", \"Action\":\"*\",\"Resource\":\"*\"} ,\n\t{\"Sid\":\"é\",\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}],\"Version\":\"2012-10-17\"}")
	f.Add(`{"Id":"Statement","Stat\u0065ment":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`)
	f.Fuzz(func(t *testing.T, document string) {
		p, err := iampolicy.Parse(document, iampolicy.Identity)
		if err != nil {
			return
		}
		lines := strings.Split(document, "\n")
		for i := range p.Statements {
			start, end := statementAt(document, i)
			if start == nil || end == nil {
				t.Fatalf("statement %d of %q is nowhere", i, document)
			}
			if first := lines[*start.Line-1][*start.Column-1]; first != '{' {
				t.Fatalf("statement %d of %q begins with %q", i, document, first)
			}
			if last := lines[*end.Line-1][*end.Column-2]; last != '}' {
				t.Fatalf("statement %d of %q ends with %q", i, document, last)
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	s, mux := identities(b)
	ctx := call.With(b.Context(), &call.Info{Account: "000000000001", Region: "us-east-1"})
	if _, err := iamapi.CreateUser.Call(ctx, mux, &iamapi.CreateUserInput{UserName: new("u")}); err != nil {
		b.Fatal(err)
	}
	k, err := iamapi.CreateAccessKey.Call(ctx, mux, &iamapi.CreateAccessKeyInput{UserName: new("u")})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Find(ctx, *k.AccessKey.AccessKeyId, ""); err != nil {
				b.Error(err)
			}
		}
	})
}
