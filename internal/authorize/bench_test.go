package authorize

import (
	"fmt"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/gate"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// fifty are as many statements, of which the last allows the call, with conditions as people write them.
func fifty(t testing.TB) []*iampolicy.Compiled {
	var s []string
	for i := range 48 {
		s = append(s, fmt.Sprintf(`{"Effect":"Allow","Action":["dynamodb:GetItem","dynamodb:Query","lambda:InvokeFunction"],"Resource":["arn:aws:dynamodb:us-east-1:%s:table/t%d","arn:aws:lambda:us-east-1:%[1]s:function:f%[2]d*"]}`, account, i))
	}
	s = append(s, `{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"},"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`)
	s = append(s, `{"Effect":"Allow","Action":"lambda:Invoke*","Resource":"arn:aws:lambda:*:*:function:f","Condition":{"StringEquals":{"aws:PrincipalTag/Team":["red","blue"]}}}`)
	return identity(t, s...)
}

func BenchmarkAuthorizeInvoke(b *testing.B) {
	w := bobWith(b)
	w.identities[bobARN].Policies = fifty(b)
	w.identities[roleARN].Policies = fifty(b)
	a := newAuthorizer(b, w, Deps{})
	in := &lambdaapi.InvokeInput{FunctionName: new("f")}
	for _, c := range []struct {
		name string
		auth gate.Authorizer
		p    call.Principal
	}{
		{"nobody asks", gate.Authenticated{}, bob()},
		{"root", a, call.Principal{Type: call.Root, ARN: "arn:aws:iam::" + account + ":root"}},
		{"user/50 statements", a, bob()},
		{"function/50 statements", a, worker(call.Session{Function: fnARN})},
	} {
		b.Run(c.name, func(b *testing.B) {
			ctx := as(b, c.p)
			b.ReportAllocs()
			for b.Loop() {
				if err := c.auth.Authorize(ctx, lambdaapi.Invoke.Info, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestAllocations(t *testing.T) {
	w := bobWith(t)
	w.identities[bobARN].Policies = fifty(t)
	a := newAuthorizer(t, w, Deps{})
	in := &lambdaapi.InvokeInput{FunctionName: new("f")}
	for _, c := range []struct {
		p    call.Principal
		most float64
	}{
		{call.Principal{Type: call.Root, ARN: "arn:aws:iam::" + account + ":root"}, 0},
		{bob(), 2}, // the function's ARN, and a pool that was emptied
	} {
		ctx := as(t, c.p)
		if n := testing.AllocsPerRun(200, func() {
			if err := a.Authorize(ctx, lambdaapi.Invoke.Info, in); err != nil {
				t.Fatal(err)
			}
		}); n > c.most && !raceEnabled {
			t.Errorf("%s: %v allocations, at most %v", c.p.ARN, n, c.most)
		}
	}
}
