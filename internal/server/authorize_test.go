package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

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

// A function of another account may be invoked if its policy says so, and the caller's own policies do.
func TestCrossAccountInvoke(t *testing.T) {
	i := start(t, Config{Dev: true})
	const other = "444455556666"
	account := func(id, secret, token string) aws.Config {
		c := i.sdk()
		c.Credentials = credentials.NewStaticCredentialsProvider(id, secret, token)
		return c
	}
	owner, caller := lambda.NewFromConfig(account(other, "x", "")), i.lambda()
	name := aws.String("shared")
	if _, err := owner.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: name, Role: aws.String("arn:aws:iam::" + other + ":role/none"), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Code: echoCode(t)}); err != nil {
		t.Fatal(err)
	}
	if err := lambda.NewFunctionActiveV2Waiter(owner).Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: name}, time.Minute); err != nil {
		t.Fatal(err)
	}
	const arn = "arn:aws:lambda:us-east-1:" + other + ":function:shared"
	invoke := func(c *lambda.Client) error {
		out, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(arn), Payload: []byte(`{"a":1}`)})
		if err == nil && string(out.Payload) != `{"a":1}` {
			t.Errorf("answer %s", out.Payload)
		}
		return err
	}
	const no = "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:InvokeFunction on resource: " + arn + " because no resource-based policy allows the lambda:InvokeFunction action"
	wantCode(t, invoke(caller), "AccessDeniedException", no)
	grant := func(id, principal string) {
		t.Helper()
		if _, err := owner.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: name, StatementId: &id, Action: aws.String("lambda:InvokeFunction"), Principal: &principal}); err != nil {
			t.Fatal(err)
		}
	}
	grant("else", "123456789012")
	wantCode(t, invoke(caller), "AccessDeniedException", no)
	grant("us", "000000000000")
	if err := invoke(caller); err != nil {
		t.Error(err)
	}

	// A role of the account that was let in must be allowed to by its own policies.
	now := time.Now()
	role := i.putRole("caller", trustLambda)
	out, err := iam.NewFromConfig(i.sdk()).GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("caller")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := credential.Role{ARN: *role, ID: *out.Role.RoleId}.Assumed("s", call.Session{Issued: now, Expires: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	session, err := i.issuer.Issue(p)
	if err != nil {
		t.Fatal(err)
	}
	limited := lambda.NewFromConfig(account(session.AccessKeyID, session.SecretAccessKey, session.SessionToken))
	wantCode(t, invoke(limited), "AccessDeniedException", "User: arn:aws:sts::000000000000:assumed-role/caller/s is not authorized to perform: lambda:InvokeFunction on resource: "+arn+" because no identity-based policy allows")
	put := func(document string) {
		t.Helper()
		if _, err := iam.NewFromConfig(i.sdk()).PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("caller"), PolicyName: aws.String("p"), PolicyDocument: &document}); err != nil {
			t.Fatal(err)
		}
	}
	put(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"` + arn + `"}}`)
	if err := invoke(limited); err != nil {
		t.Error(err)
	}
	if _, err := owner.RemovePermission(t.Context(), &lambda.RemovePermissionInput{FunctionName: name, StatementId: aws.String("us")}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, invoke(limited), "AccessDeniedException", "User: arn:aws:sts::000000000000:assumed-role/caller/s is not authorized")
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
