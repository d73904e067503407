package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
)

const pythonCredentials = `
import os
def handler(event, context):
    return {k: os.environ["AWS_" + k] for k in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")}
`

// What a function was refused is explained, and what it did becomes its policy; both outlive a restart of the server.
func TestPolicies(t *testing.T) {
	need(t, "python3")
	data, stop := serve(t)
	expect(t, 0, []string{"Nothing was refused."}, "why-denied", "--data", data)
	create(t, data, "f", "python3.13", "app.handler", folder(t, map[string]string{"app.py": pythonCredentials}))
	a := &app{data: data}
	root, err := a.target()
	if err != nil {
		t.Fatal(err)
	}
	fn, err := lambdaapi.GetFunctionConfiguration.Call(t.Context(), root.client(), &lambdaapi.GetFunctionConfigurationInput{FunctionName: new("f")})
	if err != nil {
		t.Fatal(err)
	}
	role := (*fn.Role)[strings.LastIndexByte(*fn.Role, '/')+1:]
	put := func(document string) {
		t.Helper()
		if _, err := iamapi.PutRolePolicy.Call(t.Context(), root.client(), &iamapi.PutRolePolicyInput{RoleName: &role, PolicyName: new("p"), PolicyDocument: &document}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := iamapi.DeleteRolePolicy.Call(t.Context(), root.client(), &iamapi.DeleteRolePolicyInput{RoleName: &role, PolicyName: new("everything")}); err != nil {
		t.Fatal(err)
	}
	var key struct {
		ID     string `json:"ACCESS_KEY_ID"`
		Secret string `json:"SECRET_ACCESS_KEY"`
		Token  string `json:"SESSION_TOKEN"`
	}
	if err := json.Unmarshal([]byte(expect(t, 0, nil, "invoke", "f", "-q", "--data", data)), &key); err != nil {
		t.Fatal(err)
	}
	session := *root
	session.credentials = sigv4.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret, SessionToken: key.Token}

	expect(t, 0, []string{`"Version": "2012-10-17"`, "logs:PutLogEvents"}, "policy", "f", "--data", data) // its log at least
	list := func() error {
		_, err := lambdaapi.ListVersionsByFunction.Call(t.Context(), session.client(), &lambdaapi.ListVersionsByFunctionInput{FunctionName: new("f")})
		return err
	}
	if err := list(); apierr.Code(err) != "AccessDeniedException" {
		t.Fatal(err)
	}
	put(`{"Version":"2012-10-17","Statement":{"Sid":"Elsewhere","Effect":"Allow","Action":"lambda:ListVersionsByFunction","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"mars"}}}}`)
	if err := list(); apierr.Code(err) != "AccessDeniedException" {
		t.Fatal(err)
	}
	told := []string{
		"lambda:ListVersionsByFunction", "assumed-role/" + role + "/f", *fn.FunctionArn, "because no identity-based policy allows",
		"Statement Elsewhere", "StringEquals aws:RequestedRegion", "aws iam put-role-policy --role-name " + role, `"Effect": "Allow"`,
	}
	expect(t, 0, told, "why-denied", "--last", "1", "--data", data)
	expect(t, 0, []string{"Nothing was refused."}, "why-denied", "--principal", "nobody", "--data", data)
	expect(t, 1, []string{"at least one"}, "why-denied", "--last", "0", "--data", data)
	var refused []authorize.Refusal
	if err := json.Unmarshal([]byte(expect(t, 0, nil, "why-denied", "--json", "--data", data)), &refused); err != nil || len(refused) != 2 || refused[0].Fix.Policy == nil {
		t.Fatalf("%+v %v", refused, err)
	}

	// What is proposed, put as it is, helps.
	document, _ := json.Marshal(refused[0].Fix.Policy)
	put(string(document))
	if err := list(); err != nil {
		t.Fatal(err)
	}
	put(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"lambda:*","Resource":"*"}}`)
	if err := list(); err != nil {
		t.Fatal(err)
	}
	if status := stop(); status != 0 {
		t.Errorf("serve ended with %d", status)
	}

	stop = serveOn(t, data)
	expect(t, 0, told, "why-denied", "--last", "1", "--data", data)
	out := expect(t, 0, []string{`"Action": "lambda:ListVersionsByFunction"`, `"Resource": "` + *fn.FunctionArn + `"`}, "policy", "f", "--data", data)
	if out != expect(t, 0, nil, "policy", "f", "--data", data) {
		t.Error("the policy is another each time")
	}
	var p authorize.Proposal
	if err := json.Unmarshal([]byte(expect(t, 0, nil, "policy", "f", "--json", "--data", data)), &p); err != nil || p.Holder != *fn.Role || p.Since.IsZero() || len(p.Uses) != 4 {
		t.Errorf("%+v %v", p, err)
	}
	expect(t, 1, []string{"ResourceNotFoundException"}, "policy", "none", "--data", data)
	if status := stop(); status != 0 {
		t.Errorf("serve ended with %d", status)
	}
}
