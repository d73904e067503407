package lambda

import (
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
)

func (w *world) permit(change func(*lambdaapi.AddPermissionInput)) (string, error) {
	w.t.Helper()
	in := &lambdaapi.AddPermissionInput{FunctionName: new("f"), StatementId: new("s"), Action: new("lambda:InvokeFunction"), Principal: new("*")}
	change(in)
	out, err := lambdaapi.AddPermission.Call(w.t.Context(), w, in)
	if err != nil {
		return "", err
	}
	return *out.Statement, nil
}

func TestPermissionStatements(t *testing.T) {
	type in = lambdaapi.AddPermissionInput
	w := newWorld(t)
	w.run()
	w.created("f")
	for what, c := range map[string]struct {
		change func(*in)
		want   string
	}{
		"service": {func(i *in) {
			i.Principal, i.SourceArn, i.SourceAccount = new("s3.amazonaws.com"), new("arn:aws:s3:::b"), new("444455556666")
		}, `{"Sid":"ID","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"ARN","Condition":{"StringEquals":{"AWS:SourceAccount":"444455556666"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"}}}`},
		"account": {func(i *in) { i.Principal = new("444455556666") },
			`{"Sid":"ID","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":"lambda:InvokeFunction","Resource":"ARN"}`},
		"role": {func(i *in) { i.Principal, i.Action = new("arn:aws:iam::444455556666:role/r"), new("lambda:*") },
			`{"Sid":"ID","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:role/r"},"Action":"lambda:*","Resource":"ARN"}`},
		"URL": {func(i *in) { i.Action, i.FunctionUrlAuthType = new("lambda:InvokeFunctionUrl"), new("NONE") },
			`{"Sid":"ID","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunctionUrl","Resource":"ARN","Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}}`},
		"via URL": {func(i *in) { i.InvokedViaFunctionUrl = new(true) },
			`{"Sid":"ID","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction","Resource":"ARN","Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`},
		"organization": {func(i *in) { i.PrincipalOrgID = new("o-abcdefghij") },
			`{"Sid":"ID","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction","Resource":"ARN","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-abcdefghij"}}}`},
		"skill": {func(i *in) {
			i.Principal, i.EventSourceToken = new("alexa-appkit.amazon.com"), new("amzn1.ask.skill.x")
		}, `{"Sid":"ID","Effect":"Allow","Principal":{"Service":"alexa-appkit.amazon.com"},"Action":"lambda:InvokeFunction","Resource":"ARN","Condition":{"StringEquals":{"lambda:EventSourceToken":"amzn1.ask.skill.x"}}}`},
	} {
		id := strings.ReplaceAll(what, " ", "_")
		got, err := w.permit(func(i *in) { i.StatementId = &id; c.change(i) })
		want := strings.NewReplacer("ID", id, "ARN", testARN+"f").Replace(c.want)
		if what == "organization" { // the key has ID in it
			want = strings.Replace(strings.Replace(c.want, `"Sid":"ID"`, `"Sid":"`+id+`"`, 1), "ARN", testARN+"f", 1)
		}
		if err != nil || got != want {
			t.Errorf("%s: %s, %v\nwant %s", what, got, err, want)
		}
	}
}

func TestPermissionLife(t *testing.T) {
	type in = lambdaapi.AddPermissionInput
	w := newWorld(t)
	w.run()
	w.created("f", func(i *lambdaapi.CreateFunctionInput) { i.Publish = new(true) })
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
	get := func(q *string) (*lambdaapi.GetPolicyOutput, error) {
		return lambdaapi.GetPolicy.Call(t.Context(), w, &lambdaapi.GetPolicyInput{FunctionName: new("f"), Qualifier: q})
	}
	remove := func(id string, change func(*lambdaapi.RemovePermissionInput)) error {
		i := &lambdaapi.RemovePermissionInput{FunctionName: new("f"), StatementId: &id}
		if change != nil {
			change(i)
		}
		_, err := lambdaapi.RemovePermission.Call(t.Context(), w, i)
		return err
	}
	_, err := get(nil)
	wantError(t, err, "ResourceNotFoundException", 404, "The resource you requested does not exist.")
	wantError(t, remove("s", nil), "ResourceNotFoundException", 404, "No policy is associated with the given resource.")
	wantError(t, remove("s", func(i *lambdaapi.RemovePermissionInput) { i.FunctionName = new("nope") }), "ResourceNotFoundException", 404, "No policy found for: "+testARN+"nope")

	for _, q := range []*string{nil, new("1"), new("live")} {
		resource := testARN + "f"
		if q != nil {
			resource += ":" + *q
		}
		if p := must(w.FunctionPolicy(t.Context(), resource))(t); p != nil {
			t.Errorf("%s has a policy", resource)
		}
		statement := must(w.permit(func(i *in) { i.Qualifier = q }))(t)
		if p := must(w.FunctionPolicy(t.Context(), resource))(t); p == nil {
			t.Errorf("%s has no policy", resource)
		}
		got := must(get(q))(t)
		if want := `{"Version":"2012-10-17","Id":"default","Statement":[` + statement + `]}`; *got.Policy != want || !strings.Contains(statement, `"Resource":"`+resource+`"`) {
			t.Errorf("policy of %s: %s\nwant %s", resource, *got.Policy, want)
		}
		_, err := w.permit(func(i *in) { i.Qualifier = q })
		wantError(t, err, "ResourceConflictException", 409, "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement.")
		_, err = w.permit(func(i *in) { i.Qualifier, i.StatementId, i.RevisionId = q, new("t"), new("old") })
		wantError(t, err, "PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id")
		must(w.permit(func(i *in) { i.Qualifier, i.StatementId, i.RevisionId = q, new("t"), got.RevisionId }))(t)
		wantError(t, remove("s", func(i *lambdaapi.RemovePermissionInput) { i.Qualifier, i.RevisionId = q, got.RevisionId }), "PreconditionFailedException", 412, "The Revision Id provided")
		wantError(t, remove("u", func(i *lambdaapi.RemovePermissionInput) { i.Qualifier = q }), "ResourceNotFoundException", 404, "Statement u is not found in resource policy.")
		for _, id := range []string{"s", "t"} {
			if err := remove(id, func(i *lambdaapi.RemovePermissionInput) { i.Qualifier = q }); err != nil {
				t.Error(err)
			}
		}
		if p := must(w.FunctionPolicy(t.Context(), resource))(t); p != nil {
			t.Errorf("%s still has a policy", resource)
		}
		must(w.permit(func(i *in) { i.Qualifier = q }))(t)
	}
	if got := must(get(nil))(t); *got.RevisionId != *w.configuration("f").RevisionId {
		t.Error("the policy's revision is not the function's")
	}

	// A policy goes with what has it.
	must(lambdaapi.DeleteAlias.Call(t.Context(), w, &lambdaapi.DeleteAliasInput{FunctionName: new("f"), Name: new("live")}))(t)
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
	if p := must(w.FunctionPolicy(t.Context(), testARN+"f:live"))(t); p != nil {
		t.Error("a new alias has the policy of an old one")
	}
	must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
	w.created("f")
	_, err = get(nil)
	wantError(t, err, "ResourceNotFoundException", 404, "The resource you requested does not exist.")
}

func TestPermissionErrors(t *testing.T) {
	type in = lambdaapi.AddPermissionInput
	w := newWorld(t)
	w.run()
	w.created("f")
	const param, missing = "InvalidParameterValueException", "ResourceNotFoundException"
	principal := "The provided principal was invalid. Please check the principal and try again."
	for what, c := range map[string]struct {
		change func(*in)
		code   string
		status int
		text   string
	}{
		"latest":         {func(i *in) { i.FunctionName = new("f:$LATEST") }, param, 400, "We currently do not support adding policies for $LATEST."},
		"principal":      {func(i *in) { i.Principal = new("me") }, param, 400, principal},
		"short account":  {func(i *in) { i.Principal = new("12345") }, param, 400, principal},
		"pattern":        {func(i *in) { i.Principal = new("arn:aws:iam::444455556666:user/*") }, param, 400, principal},
		"group":          {func(i *in) { i.Principal = new("arn:aws:iam::444455556666:group/g") }, param, 400, principal},
		"no function":    {func(i *in) { i.FunctionName = new("nope") }, missing, 404, "Function not found: " + testARN + "nope"},
		"no version":     {func(i *in) { i.Qualifier = new("7") }, missing, 404, "Function not found: " + testARN + "f:7"},
		"no alias":       {func(i *in) { i.Qualifier = new("a") }, missing, 404, "Cannot find alias arn: " + testARN + "f:a"},
		"URL's type":     {func(i *in) { i.FunctionUrlAuthType = new("NONE") }, param, 400, "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"},
		"action":         {func(i *in) { i.Action = new("s3:GetObject") }, "ValidationException", 400, "1 validation error detected: Value 's3:GetObject' at 'action'"},
		"statement's ID": {func(i *in) { i.StatementId = new("a b") }, "ValidationException", 400, "1 validation error detected: Value 'a b' at 'statementId'"},
		"two qualifiers": {func(i *in) { i.FunctionName, i.Qualifier = new("f:a"), new("b") }, param, 400, "The derived qualifier"},
	} {
		_, err := w.permit(c.change)
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		wantError(t, err, c.code, c.status, c.text)
	}
	_, err := w.permit(func(i *in) {
		i.StatementId, i.SourceArn = new("long"), new("arn:aws:s3:::"+strings.Repeat("b", 20_480))
	})
	wantError(t, err, "PolicyLengthExceededException", 400, "The final policy size (")
}
