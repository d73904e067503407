package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/gate"
)

// What is served without a line in the tables of package authorize could not be allowed resource by resource.
func TestServedOperationsHaveRules(t *testing.T) {
	c := start(t, Config{}).core.Load()
	for _, svc := range Services() {
		for op, served := range c.mux.Coverage(svc) {
			if served && !c.authorizer.Knows(op) {
				t.Errorf("internal/authorize/%s.txt has no line for %s", svc.Name, op.Name)
			}
		}
	}
}

// BenchmarkEnforcement measures what policies cost a warm invocation over HTTP: by a session of a role with 50 statements, with the gate
// letting everybody pass and with the authorizer, in turns.
func BenchmarkEnforcement(b *testing.B) {
	const payload = `{"hello":"world","n":1234567890}`
	i := start(b, Config{MemoryMB: 100_000})
	i.create("echo", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769)})
	client, name := iam.NewFromConfig(i.sdk()), aws.String("caller")
	role, err := client.CreateRole(b.Context(), &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(trustLambda)})
	if err != nil {
		b.Fatal(err)
	}
	var s []string
	for n := range 49 {
		s = append(s, fmt.Sprintf(`{"Effect":"Allow","Action":["dynamodb:GetItem","lambda:InvokeFunction"],"Resource":"arn:aws:lambda:*:*:function:f%d*"}`, n))
	}
	s = append(s, `{"Effect":"Allow","Action":"lambda:Invoke*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}}`)
	document := `{"Version":"2012-10-17","Statement":[` + strings.Join(s, ",") + `]}`
	if _, err := client.PutRolePolicy(b.Context(), &iam.PutRolePolicyInput{RoleName: name, PolicyName: name, PolicyDocument: &document}); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	p, err := credential.Role{ARN: *role.Role.Arn, ID: *role.Role.RoleId}.Assumed("bench", call.Session{Issued: now, Expires: now.Add(time.Hour)})
	if err != nil {
		b.Fatal(err)
	}
	session, err := i.issuer.Issue(p)
	if err != nil {
		b.Fatal(err)
	}
	request := i.signedAs(b, sigv4.Credentials{AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey, SessionToken: session.SessionToken},
		"/2015-03-31/functions/echo/invocations", payload)
	core := i.core.Load()
	for round := range 3 {
		for _, c := range []struct {
			name string
			auth gate.Authorizer
		}{{"open", gate.Authenticated{}}, {"enforced", core.authorizer}} {
			core.gate = gate.New(core.mux, c.auth, i.log) // nobody calls now
			b.Run(fmt.Sprintf("%s/%d", c.name, round+1), func(b *testing.B) { load(b, i.Addr().String(), request, payload, 8) })
		}
	}
}
