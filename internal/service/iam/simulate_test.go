package iam

import (
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
)

func TestSimulate(t *testing.T) {
	_, c := startService(t)
	const document = `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"},
    {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*", "Condition": {"StringNotEquals": {"aws:PrincipalTag/team": "ops"}}}
  ]
}`
	out := do(c, iamapi.SimulateCustomPolicy, &iamapi.SimulateCustomPolicyInput{
		PolicyInputList: []string{document}, ActionNames: []string{"s3:GetObject", "s3:DeleteObject"},
		ResourceArns: []string{"arn:aws:s3:::b/k", "arn:aws:s3:::c/k"},
	})
	type row struct{ action, resource, decision string }
	var got []row
	for _, r := range out.EvaluationResults {
		got = append(got, row{*r.EvalActionName, *r.EvalResourceName, *r.EvalDecision})
	}
	want := []row{
		{"s3:GetObject", "arn:aws:s3:::b/k", "allowed"}, {"s3:GetObject", "arn:aws:s3:::c/k", "implicitDeny"},
		{"s3:DeleteObject", "arn:aws:s3:::b/k", "explicitDeny"}, {"s3:DeleteObject", "arn:aws:s3:::c/k", "explicitDeny"},
	}
	if len(got) != len(want) {
		t.Fatalf("results = %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("result %d = %v, want %v", i, got[i], want[i])
		}
	}
	first := out.EvaluationResults[0]
	if len(first.MatchedStatements) != 1 || *first.MatchedStatements[0].SourcePolicyId != "PolicyInputList.1" || *first.MatchedStatements[0].StartPosition.Line != 4 ||
		*first.MatchedStatements[0].StartPosition.Column != 5 {
		t.Errorf("matched = %+v", first.MatchedStatements)
	}
	if len(first.MissingContextValues) != 1 || first.MissingContextValues[0] != "aws:principaltag/team" {
		t.Errorf("missing = %q", first.MissingContextValues)
	}
	out = do(c, iamapi.SimulateCustomPolicy, &iamapi.SimulateCustomPolicyInput{
		PolicyInputList: []string{document}, ActionNames: []string{"s3:DeleteObject"}, ResourceArns: []string{"arn:aws:s3:::b/k"},
		ContextEntries: []iamapi.ContextEntry{{ContextKeyName: new("aws:PrincipalTag/team"), ContextKeyValues: []string{"ops"}, ContextKeyType: new("string")}},
	})
	if *out.EvaluationResults[0].EvalDecision != "allowed" {
		t.Errorf("with the tag: %s", *out.EvaluationResults[0].EvalDecision)
	}
	c.fails("InvalidInputException", func() error {
		_, err := iamapi.SimulateCustomPolicy.Call(c.ctx, c.mux, &iamapi.SimulateCustomPolicyInput{PolicyInputList: []string{"{"}, ActionNames: []string{"s3:GetObject"}})
		return err
	})
}

func TestSimulatePrincipal(t *testing.T) {
	_, c := startService(t)
	do(c, iamapi.CreateUser, &iamapi.CreateUserInput{UserName: new("u"), PermissionsBoundary: new("arn:aws:iam::aws:policy/ReadOnlyAccess")})
	do(c, iamapi.CreateGroup, &iamapi.CreateGroupInput{GroupName: new("g")})
	do(c, iamapi.AddUserToGroup, &iamapi.AddUserToGroupInput{GroupName: new("g"), UserName: new("u")})
	do(c, iamapi.PutGroupPolicy, &iamapi.PutGroupPolicyInput{GroupName: new("g"), PolicyName: new("p"), PolicyDocument: new(allow)})
	out := do(c, iamapi.SimulatePrincipalPolicy, &iamapi.SimulatePrincipalPolicyInput{
		PolicySourceArn: new("arn:aws:iam::000000000001:user/u"), ActionNames: []string{"s3:PutObject", "s3:GetObject", "sqs:SendMessage"}, MaxItems: new(int32(2)),
	})
	put := out.EvaluationResults[0]
	if *put.EvalDecision != "implicitDeny" || *put.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary ||
		len(put.MatchedStatements) != 1 || *put.MatchedStatements[0].SourcePolicyId != "group_g_p" {
		t.Errorf("PutObject = %+v", put)
	}
	if get := out.EvaluationResults[1]; *get.EvalDecision != "allowed" || !*get.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary {
		t.Errorf("GetObject = %+v", get)
	}
	if len(out.EvaluationResults) != 2 || !*out.IsTruncated {
		t.Errorf("%d results, truncated %v", len(out.EvaluationResults), *out.IsTruncated)
	}
	out = do(c, iamapi.SimulatePrincipalPolicy, &iamapi.SimulatePrincipalPolicyInput{
		PolicySourceArn: new("arn:aws:iam::000000000001:user/u"), ActionNames: []string{"s3:PutObject", "s3:GetObject", "sqs:SendMessage"}, Marker: out.Marker,
	})
	if len(out.EvaluationResults) != 1 || *out.EvaluationResults[0].EvalActionName != "sqs:SendMessage" {
		t.Errorf("second page = %+v", out.EvaluationResults)
	}
	keys := do(c, iamapi.GetContextKeysForPrincipalPolicy, &iamapi.GetContextKeysForPrincipalPolicyInput{PolicySourceArn: new("arn:aws:iam::000000000001:group/g"),
		PolicyInputList: []string{strings.Replace(allow, `"*"`, `"arn:aws:s3:::${aws:username}"`, 1)}})
	if len(keys.ContextKeyNames) != 1 || keys.ContextKeyNames[0] != "aws:username" {
		t.Errorf("keys = %q", keys.ContextKeyNames)
	}
}

func TestOpenIDConnectProviders(t *testing.T) {
	_, c := startService(t)
	for _, bad := range []string{"ftp://x.example", "http://x.example", "https://x.example?q=1", "nothing"} {
		c.fails("InvalidInputException", func() error {
			_, err := iamapi.CreateOpenIDConnectProvider.Call(c.ctx, c.mux, &iamapi.CreateOpenIDConnectProviderInput{Url: &bad})
			return err
		})
	}
	const at = "arn:aws:iam::000000000001:oidc-provider/token.example.com/realm"
	in := &iamapi.CreateOpenIDConnectProviderInput{Url: new("https://token.example.com/realm"), ClientIDList: []string{"a"}, ThumbprintList: []string{strings.Repeat("0", 40)}}
	if out := do(c, iamapi.CreateOpenIDConnectProvider, in); *out.OpenIDConnectProviderArn != at {
		t.Errorf("arn = %s", *out.OpenIDConnectProviderArn)
	}
	c.fails("EntityAlreadyExistsException", func() error {
		_, err := iamapi.CreateOpenIDConnectProvider.Call(c.ctx, c.mux, in)
		return err
	})
	do(c, iamapi.AddClientIDToOpenIDConnectProvider, &iamapi.AddClientIDToOpenIDConnectProviderInput{OpenIDConnectProviderArn: new(at), ClientID: new("b")})
	do(c, iamapi.RemoveClientIDFromOpenIDConnectProvider, &iamapi.RemoveClientIDFromOpenIDConnectProviderInput{OpenIDConnectProviderArn: new(at), ClientID: new("a")})
	if p := do(c, iamapi.GetOpenIDConnectProvider, &iamapi.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: new(at)}); *p.Url != "token.example.com/realm" ||
		len(p.ClientIDList) != 1 || p.ClientIDList[0] != "b" {
		t.Errorf("provider = %+v", p)
	}
	if l := do(c, iamapi.ListOpenIDConnectProviders, &iamapi.ListOpenIDConnectProvidersInput{}); len(l.OpenIDConnectProviderList) != 1 {
		t.Errorf("providers = %+v", l)
	}
	for range 2 {
		do(c, iamapi.DeleteOpenIDConnectProvider, &iamapi.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: new(at)})
	}
	c.fails("NoSuchEntityException", func() error {
		_, err := iamapi.GetOpenIDConnectProvider.Call(c.ctx, c.mux, &iamapi.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: new(at)})
		return err
	})
}

func TestServiceLinkedRoles(t *testing.T) {
	_, c := startService(t)
	r := do(c, iamapi.CreateServiceLinkedRole, &iamapi.CreateServiceLinkedRoleInput{AWSServiceName: new("lambda.application-autoscaling.amazonaws.com")}).Role
	if *r.Arn != "arn:aws:iam::000000000001:role/aws-service-role/lambda.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency" {
		t.Errorf("arn = %s", *r.Arn)
	}
	c.fails("InvalidInputException", func() error {
		_, err := iamapi.CreateServiceLinkedRole.Call(c.ctx, c.mux, &iamapi.CreateServiceLinkedRoleInput{AWSServiceName: new("lambda.application-autoscaling.amazonaws.com")})
		return err
	})
	c.fails("UnmodifiableEntityException", func() error {
		_, err := iamapi.PutRolePolicy.Call(c.ctx, c.mux, &iamapi.PutRolePolicyInput{RoleName: r.RoleName, PolicyName: new("p"), PolicyDocument: new(allow)})
		return err
	})
	c.fails("UnmodifiableEntityException", func() error {
		_, err := iamapi.DeleteRole.Call(c.ctx, c.mux, &iamapi.DeleteRoleInput{RoleName: r.RoleName})
		return err
	})
	task := do(c, iamapi.DeleteServiceLinkedRole, &iamapi.DeleteServiceLinkedRoleInput{RoleName: r.RoleName}).DeletionTaskId
	if s := do(c, iamapi.GetServiceLinkedRoleDeletionStatus, &iamapi.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: task}); *s.Status != "SUCCEEDED" {
		t.Errorf("status = %s", *s.Status)
	}
	c.fails("NoSuchEntityException", func() error {
		_, err := iamapi.GetServiceLinkedRoleDeletionStatus.Call(c.ctx, c.mux, &iamapi.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: new("task/other")})
		return err
	})
}

func TestAccount(t *testing.T) {
	_, c := startService(t)
	do(c, iamapi.CreateAccountAlias, &iamapi.CreateAccountAliasInput{AccountAlias: new("one")})
	do(c, iamapi.CreateAccountAlias, &iamapi.CreateAccountAliasInput{AccountAlias: new("two")})
	if l := do(c, iamapi.ListAccountAliases, &iamapi.ListAccountAliasesInput{}); len(l.AccountAliases) != 1 || l.AccountAliases[0] != "two" {
		t.Errorf("aliases = %q", l.AccountAliases)
	}
	do(c, iamapi.DeleteAccountAlias, &iamapi.DeleteAccountAliasInput{AccountAlias: new("two")})
	c.fails("NoSuchEntityException", func() error {
		_, err := iamapi.DeleteAccountAlias.Call(c.ctx, c.mux, &iamapi.DeleteAccountAliasInput{AccountAlias: new("two")})
		return err
	})

	do(c, iamapi.CreateUser, &iamapi.CreateUserInput{UserName: new("u")})
	do(c, iamapi.CreateGroup, &iamapi.CreateGroupInput{GroupName: new("g")})
	do(c, iamapi.CreateRole, &iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust)})
	do(c, iamapi.AttachRolePolicy, &iamapi.AttachRolePolicyInput{RoleName: new("r"), PolicyArn: new(basic)})
	do(c, iamapi.CreatePolicy, &iamapi.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allow)})
	if m := do(c, iamapi.GetAccountSummary, &iamapi.GetAccountSummaryInput{}).SummaryMap; m["Users"] != 1 || m["Roles"] != 1 || m["Groups"] != 1 || m["Policies"] != 1 {
		t.Errorf("summary = %v", m)
	}
	d := do(c, iamapi.GetAccountAuthorizationDetails, &iamapi.GetAccountAuthorizationDetailsInput{Filter: []string{"User", "Role", "Group", "LocalManagedPolicy"}})
	if len(d.UserDetailList) != 1 || len(d.GroupDetailList) != 1 || len(d.RoleDetailList) != 1 || len(d.Policies) != 1 || len(d.RoleDetailList[0].AttachedManagedPolicies) != 1 {
		t.Errorf("details = %+v", d)
	}
}

// Service-linked roles have AWS's policies, which no other role may have.
func TestServiceRolePolicies(t *testing.T) {
	_, c := startService(t)
	for service, known := range serviceRoles {
		name := do(c, iamapi.CreateServiceLinkedRole, &iamapi.CreateServiceLinkedRoleInput{AWSServiceName: new(service)}).Role.RoleName
		held := do(c, iamapi.ListAttachedRolePolicies, &iamapi.ListAttachedRolePoliciesInput{RoleName: name}).AttachedPolicies
		if len(held) != 1 || *held[0].PolicyName != known.policy {
			t.Fatalf("%s has %+v", *name, held)
		}
		do(c, iamapi.GetPolicy, &iamapi.GetPolicyInput{PolicyArn: held[0].PolicyArn})
		do(c, iamapi.DeleteServiceLinkedRole, &iamapi.DeleteServiceLinkedRoleInput{RoleName: name})
	}
	do(c, iamapi.CreateUser, &iamapi.CreateUserInput{UserName: new("u")})
	c.fails("PolicyNotAttachableException", func() error {
		_, err := iamapi.AttachUserPolicy.Call(c.ctx, c.mux, &iamapi.AttachUserPolicyInput{UserName: new("u"), PolicyArn: new(serviceRolePolicies + "AWSLambdaReplicator")})
		return err
	})
}

// AWS-managed policies are counted in each account.
func TestAttachmentsOfAWSManagedPolicies(t *testing.T) {
	_, c := startService(t)
	do(c, iamapi.CreateUser, &iamapi.CreateUserInput{UserName: new("u"), PermissionsBoundary: new(admin)})
	do(c, iamapi.AttachUserPolicy, &iamapi.AttachUserPolicyInput{UserName: new("u"), PolicyArn: new(basic)})
	if p := do(c, iamapi.GetPolicy, &iamapi.GetPolicyInput{PolicyArn: new(basic)}).Policy; *p.AttachmentCount != 1 || *p.PermissionsBoundaryUsageCount != 0 {
		t.Errorf("attached %d, boundary %d", *p.AttachmentCount, *p.PermissionsBoundaryUsageCount)
	}
	list := func(usage string) string {
		in := &iamapi.ListPoliciesInput{Scope: new("AWS"), OnlyAttached: new(true), PolicyUsageFilter: &usage}
		if l := do(c, iamapi.ListPolicies, in).Policies; len(l) == 1 {
			return *l[0].Arn
		}
		return ""
	}
	if a, b := list("PermissionsPolicy"), list("PermissionsBoundary"); a != basic || b != admin {
		t.Errorf("attached: %s; boundary: %s", a, b)
	}
	if d := do(c, iamapi.GetAccountAuthorizationDetails, &iamapi.GetAccountAuthorizationDetailsInput{Filter: []string{"AWSManagedPolicy"}}); len(d.Policies) != 2 {
		t.Errorf("%d AWS-managed policies in use", len(d.Policies))
	}
	if *managed()["AdministratorAccess"].out(awsAccount).PermissionsBoundaryUsageCount != 0 {
		t.Error("one account's count is in the data of all")
	}
}

// A simulation is evaluated page by page.
func TestSimulatePages(t *testing.T) {
	_, c := startService(t)
	in := &iamapi.SimulateCustomPolicyInput{
		PolicyInputList: []string{allow}, ActionNames: []string{"s3:GetObject", "sqs:SendMessage", "s3:PutObject"}, ResourceArns: []string{"arn:aws:s3:::a", "arn:aws:s3:::b"},
		MaxItems: new(int32(4)),
	}
	var got []string
	for {
		out := do(c, iamapi.SimulateCustomPolicy, in)
		for _, r := range out.EvaluationResults {
			got = append(got, *r.EvalActionName+" "+strings.TrimPrefix(*r.EvalResourceName, "arn:aws:s3:::")+" "+*r.EvalDecision)
		}
		if !*out.IsTruncated {
			break
		}
		in.Marker = out.Marker
	}
	want := "s3:GetObject a allowed, s3:GetObject b allowed, sqs:SendMessage a implicitDeny, sqs:SendMessage b implicitDeny, s3:PutObject a allowed, s3:PutObject b allowed"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got %s", s)
	}
	in.Marker = new("nowhere")
	c.fails("InvalidInputException", func() error { _, err := iamapi.SimulateCustomPolicy.Call(c.ctx, c.mux, in); return err })
}

// What users do not have is not there, of users that are.
func TestOtherCredentials(t *testing.T) {
	_, c := startService(t)
	do(c, iamapi.CreateUser, &iamapi.CreateUserInput{UserName: new("u")})
	do(c, iamapi.ListMFADevices, &iamapi.ListMFADevicesInput{UserName: new("u")})
	do(c, iamapi.ListSSHPublicKeys, &iamapi.ListSSHPublicKeysInput{UserName: new("u")})
	do(c, iamapi.ListSigningCertificates, &iamapi.ListSigningCertificatesInput{UserName: new("u")})
	do(c, iamapi.ListServiceSpecificCredentials, &iamapi.ListServiceSpecificCredentialsInput{UserName: new("u")})
	do(c, iamapi.ListVirtualMFADevices, &iamapi.ListVirtualMFADevicesInput{})
	c.fails("NoSuchEntityException", func() error {
		_, err := iamapi.GetLoginProfile.Call(c.ctx, c.mux, &iamapi.GetLoginProfileInput{UserName: new("u")})
		return err
	})
	c.fails("NoSuchEntityException", func() error {
		_, err := iamapi.ListSSHPublicKeys.Call(c.ctx, c.mux, &iamapi.ListSSHPublicKeysInput{UserName: new("nobody")})
		return err
	})
}
