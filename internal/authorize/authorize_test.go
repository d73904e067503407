package authorize

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

const (
	account = "111122223333"
	other   = "444455556666"
	bobARN  = "arn:aws:iam::" + account + ":user/team/bob"
	roleARN = "arn:aws:iam::" + account + ":role/service/worker"
	fnARN   = "arn:aws:lambda:us-east-1:" + account + ":function:f"
)

// world is Identities and Resources in maps.
type world struct {
	identities map[string]*Identity
	managed    map[string]*iampolicy.Compiled
	policies   map[string]*iampolicy.Compiled
	tags       map[string]map[string]string
	err        error
}

func (w *world) Identity(_ context.Context, arn string) (*Identity, error) {
	return w.identities[arn], w.err
}
func (w *world) ManagedPolicy(_ context.Context, arn string) (*iampolicy.Compiled, error) {
	return w.managed[arn], w.err
}
func (w *world) ARN(_ context.Context, account, kind, name string) (string, error) {
	for arn := range w.identities {
		if strings.HasPrefix(arn, "arn:aws:iam::"+account+":"+kind+"/") && strings.HasSuffix(arn, "/"+name) {
			return arn, nil
		}
	}
	return "arn:aws:iam::" + account + ":" + kind + "/" + name, nil
}
func (w *world) Policy(_ context.Context, arn string) (*iampolicy.Compiled, error) {
	return w.policies[arn], w.err
}
func (w *world) Tags(_ context.Context, arn string) (map[string]string, error) {
	return w.tags[arn], w.err
}

func policy(t testing.TB, kind iampolicy.Kind, id string, statements ...string) *iampolicy.Compiled {
	t.Helper()
	p, err := iampolicy.Parse(`{"Version":"2012-10-17","Statement":[`+strings.Join(statements, ",")+`]}`, kind)
	if err != nil {
		t.Fatal(err, statements)
	}
	return iampolicy.Compile(p, id)
}

func identity(t testing.TB, statements ...string) []*iampolicy.Compiled {
	if len(statements) == 0 {
		return nil
	}
	return []*iampolicy.Compiled{policy(t, iampolicy.Identity, "inline", statements...)}
}

func allow(action, resource string) string {
	return fmt.Sprintf(`{"Effect":"Allow","Action":%q,"Resource":%q}`, action, resource)
}

func newAuthorizer(t testing.TB, w *world, d Deps) *Authorizer {
	t.Helper()
	d.Services = contracts
	a, err := New(d)
	if err != nil {
		t.Fatal(err)
	}
	a.RegisterIdentities(w)
	a.RegisterResources("lambda", w)
	return a
}

func as(t testing.TB, p call.Principal) context.Context {
	return call.With(t.Context(), &call.Info{
		Account: account, Region: "us-east-1", Principal: p, RequestID: call.NewRequestID(), SourceIP: "10.1.2.3", UserAgent: "aws-cli/1",
		Time: time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC),
	})
}

func bob() call.Principal {
	return call.Principal{Type: call.User, ARN: bobARN, UserID: "AIDABOB", AccessKeyID: "AKIA"}
}

func worker(s call.Session) call.Principal {
	s.Issuer = roleARN
	return call.Principal{Type: call.AssumedRole, ARN: "arn:aws:sts::" + account + ":assumed-role/worker/s1", UserID: "AROAWORKER:s1", Session: &s}
}

// bobWith is a world in which bob has a policy.
func bobWith(t testing.TB, statements ...string) *world {
	return &world{identities: map[string]*Identity{
		bobARN:  {ARN: bobARN, ID: "AIDABOB", Policies: identity(t, statements...), Tags: map[string]string{"Team": "red"}},
		roleARN: {ARN: roleARN, ID: "AROAWORKER", Tags: map[string]string{"Team": "blue"}},
	}, policies: map[string]*iampolicy.Compiled{}, tags: map[string]map[string]string{}, managed: map[string]*iampolicy.Compiled{}}
}

const streamARN = "arn:aws:kinesis:us-east-1:" + account + ":stream/s"

// An iterator of another account's stream leads there, also for root.
func TestIteratorOfAnotherAccount(t *testing.T) {
	in := &kinesisapi.GetRecordsInput{ShardIterator: new(base64.StdEncoding.EncodeToString([]byte("arn:aws:kinesis:us-east-1:" + other + ":stream/s\x00sealed")))}
	root := call.Principal{Type: call.Root, ARN: "arn:aws:iam::" + account + ":root", UserID: account}
	a := newAuthorizer(t, bobWith(t, allow("*", "*")), Deps{})
	for _, p := range []call.Principal{bob(), root} {
		if e, ok := errors.AsType[*apierr.Error](a.Authorize(as(t, p), kinesisapi.GetRecords.Info, in)); !ok || e.Code != "AccessDeniedException" {
			t.Errorf("%s: %v", p.ARN, e)
		}
	}
}

var invoke = &lambdaapi.InvokeInput{FunctionName: new("f")}

func TestResources(t *testing.T) {
	for _, c := range []struct {
		op   *smithy.OpInfo
		in   any
		want string // what is asked, "action resource" joined by ", "
	}{
		{lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("f")}, "lambda:InvokeFunction " + fnARN},
		{lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("f:prod")}, "lambda:InvokeFunction " + fnARN + ":prod"},
		{lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("f"), Qualifier: new("$LATEST")}, "lambda:InvokeFunction " + fnARN + ":$LATEST"},
		{lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new(other + ":function:g"), Qualifier: new("7")}, "lambda:InvokeFunction arn:aws:lambda:us-east-1:" + other + ":function:g:7"},
		{lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("arn:aws:lambda:eu-west-1:" + other + ":function:g")}, "lambda:InvokeFunction arn:aws:lambda:eu-west-1:" + other + ":function:g"},
		{lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("not a name")}, "lambda:InvokeFunction *"},
		{lambdaapi.InvokeAsync.Info, &lambdaapi.InvokeAsyncInput{FunctionName: new("f")}, "lambda:InvokeFunction " + fnARN},
		{lambdaapi.ListFunctions.Info, &lambdaapi.ListFunctionsInput{}, "lambda:ListFunctions *"},
		{lambdaapi.GetLayerVersion.Info, &lambdaapi.GetLayerVersionInput{LayerName: new("l"), VersionNumber: new(int64(3))}, "lambda:GetLayerVersion arn:aws:lambda:us-east-1:" + account + ":layer:l:3"},
		{lambdaapi.ListTags.Info, &lambdaapi.ListTagsInput{Resource: new(fnARN)}, "lambda:ListTags " + fnARN},
		{lambdaapi.DeleteEventSourceMapping.Info, &lambdaapi.DeleteEventSourceMappingInput{UUID: new("u")}, "lambda:DeleteEventSourceMapping arn:aws:lambda:us-east-1:" + account + ":event-source-mapping:u"},
		{lambdaapi.CreateFunction.Info, &lambdaapi.CreateFunctionInput{FunctionName: new("f"), Role: new(roleARN), Tags: map[string]string{"a": "b"},
			Layers: []string{"arn:aws:lambda:us-east-1:" + other + ":layer:l:1"}},
			"lambda:CreateFunction " + fnARN + ", iam:PassRole " + roleARN + ", lambda:GetLayerVersion arn:aws:lambda:us-east-1:" + other + ":layer:l:1, lambda:TagResource " + fnARN},
		{lambdaapi.UpdateFunctionConfiguration.Info, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f")}, "lambda:UpdateFunctionConfiguration " + fnARN},
		{logsapi.PutLogEvents.Info, &logsapi.PutLogEventsInput{LogGroupName: new("/g"), LogStreamName: new("s")}, "logs:PutLogEvents arn:aws:logs:us-east-1:" + account + ":log-group:/g:log-stream:s"},
		{logsapi.FilterLogEvents.Info, &logsapi.FilterLogEventsInput{LogGroupIdentifier: new("arn:aws:logs:us-east-1:" + account + ":log-group:/g:*")}, "logs:FilterLogEvents arn:aws:logs:us-east-1:" + account + ":log-group:/g:log-stream:"},
		{logsapi.ListTagsForResource.Info, &logsapi.ListTagsForResourceInput{ResourceArn: new("arn:aws:logs:us-east-1:" + account + ":log-group:/g")}, "logs:ListTagsForResource arn:aws:logs:us-east-1:" + account + ":log-group:/g"},
		{logsapi.DescribeLogGroups.Info, &logsapi.DescribeLogGroupsInput{}, "logs:DescribeLogGroups arn:aws:logs:us-east-1:" + account + ":log-group::log-stream:"},
		{iamapi.GetRole.Info, &iamapi.GetRoleInput{RoleName: new("worker")}, "iam:GetRole " + roleARN},
		{iamapi.GetRole.Info, &iamapi.GetRoleInput{RoleName: new("none")}, "iam:GetRole arn:aws:iam::" + account + ":role/none"},
		{iamapi.GetUser.Info, &iamapi.GetUserInput{}, "iam:GetUser " + bobARN},
		{iamapi.CreateUser.Info, &iamapi.CreateUserInput{UserName: new("u"), Path: new("/a/b/"), Tags: []iamapi.Tag{{Key: new("k"), Value: new("v")}}},
			"iam:CreateUser arn:aws:iam::" + account + ":user/a/b/u, iam:TagUser arn:aws:iam::" + account + ":user/a/b/u"},
		{iamapi.ListRoles.Info, &iamapi.ListRolesInput{}, "iam:ListRoles arn:aws:iam::" + account + ":role/"},
		{iamapi.GetPolicy.Info, &iamapi.GetPolicyInput{PolicyArn: new("arn:aws:iam::aws:policy/X")}, "iam:GetPolicy arn:aws:iam::aws:policy/X"},
		{stsapi.AssumeRole.Info, &stsapi.AssumeRoleInput{RoleArn: new(roleARN), SourceIdentity: new("me")}, "sts:AssumeRole " + roleARN + ", sts:SetSourceIdentity " + roleARN},
		{stsapi.GetCallerIdentity.Info, &stsapi.GetCallerIdentityInput{}, ""},
		{kinesisapi.PutRecord.Info, &kinesisapi.PutRecordInput{StreamName: new("s")}, "kinesis:PutRecord " + streamARN},
		{kinesisapi.PutRecord.Info, &kinesisapi.PutRecordInput{StreamARN: new(streamARN)}, "kinesis:PutRecord " + streamARN},
		{kinesisapi.PutRecord.Info, &kinesisapi.PutRecordInput{StreamId: new("aaaaaaaaaaaaaaaaaaaa-aaa")}, "kinesis:PutRecord *"},
		{kinesisapi.CreateStream.Info, &kinesisapi.CreateStreamInput{StreamName: new("s"), Tags: map[string]string{"a": "b"}}, "kinesis:CreateStream " + streamARN + ", kinesis:AddTagsToStream " + streamARN},
		{kinesisapi.GetRecords.Info, &kinesisapi.GetRecordsInput{ShardIterator: new(base64.StdEncoding.EncodeToString([]byte(streamARN + "\x00sealed")))}, "kinesis:GetRecords " + streamARN},
		{kinesisapi.GetRecords.Info, &kinesisapi.GetRecordsInput{ShardIterator: new("AAAA")}, "kinesis:GetRecords *"},
		{kinesisapi.ListShards.Info, &kinesisapi.ListShardsInput{NextToken: new(base64.StdEncoding.EncodeToString([]byte(streamARN + "\x00sealed")))}, "kinesis:ListShards " + streamARN},
		{kinesisapi.SubscribeToShard.Info, &kinesisapi.SubscribeToShardInput{ConsumerARN: new(streamARN + "/consumer/c:1")}, "kinesis:SubscribeToShard " + streamARN + "/consumer/c:1"},
		{kinesisapi.DescribeStreamConsumer.Info, &kinesisapi.DescribeStreamConsumerInput{StreamARN: new(streamARN), ConsumerName: new("c")}, "kinesis:DescribeStreamConsumer " + streamARN + "/consumer/c:*"},
	} {
		w := bobWith(t, allow("*", "*"))
		// Trust policies and other accounts say yes to everything, so that all is asked.
		w.identities[roleARN].Trust = policy(t, iampolicy.Trust, "trust", `{"Effect":"Allow","Principal":"*","Action":"sts:*"}`)
		for _, arn := range []string{"arn:aws:lambda:us-east-1:" + other + ":function:g:7", "arn:aws:lambda:eu-west-1:" + other + ":function:g", "arn:aws:lambda:us-east-1:" + other + ":layer:l:1"} {
			w.policies[arn] = policy(t, iampolicy.Resource, "resource", `{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`)
		}
		a := newAuthorizer(t, w, Deps{})
		if err := a.Authorize(as(t, bob()), c.op, c.in); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		uses, _ := a.Used(bobARN)
		var got []string
		for _, u := range uses {
			got = append(got, u.Action+" "+u.Resource)
		}
		want := strings.Split(c.want, ", ")
		slices.Sort(want)
		if slices.Sort(got); strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s asks for\n %s, want\n %s", c.op, got, want)
		}
	}
}

func TestDecisions(t *testing.T) {
	const denied = "User: " + bobARN + " is not authorized to perform: lambda:InvokeFunction on resource: " + fnARN
	cond := func(c string) string {
		return `{"Effect":"Allow","Action":"lambda:*","Resource":"*","Condition":` + c + `}`
	}
	for _, c := range []struct {
		name       string
		statements []string
		change     func(*world)
		want       string // message, "" for allowed
	}{
		{"nothing", nil, nil, denied + " because no identity-based policy allows the lambda:InvokeFunction action"},
		{"allowed", []string{allow("lambda:InvokeFunction", fnARN)}, nil, ""},
		{"another function", []string{allow("lambda:InvokeFunction", fnARN+"2")}, nil, denied + " because no identity-based policy allows the lambda:InvokeFunction action"},
		{"denied", []string{allow("*", "*"), `{"Effect":"Deny","Action":"lambda:Invoke*","Resource":"*"}`}, nil, denied + " with an explicit deny in an identity-based policy"},
		{"boundary", []string{allow("*", "*")}, func(w *world) {
			w.identities[bobARN].Boundary = policy(t, iampolicy.Identity, "arn:aws:iam::"+account+":policy/b", allow("s3:*", "*"))
		}, denied + " because no permissions boundary allows the lambda:InvokeFunction action"},
		{"boundary denies", []string{allow("*", "*")}, func(w *world) {
			w.identities[bobARN].Boundary = policy(t, iampolicy.Identity, "b", allow("*", "*"), `{"Effect":"Deny","Action":"lambda:*","Resource":"*"}`)
		}, denied + " with an explicit deny in a permissions boundary"},
		{"resource policy", nil, func(w *world) {
			w.policies[fnARN] = policy(t, iampolicy.Resource, "p", `{"Effect":"Allow","Principal":{"AWS":"`+bobARN+`"},"Action":"lambda:InvokeFunction","Resource":"`+fnARN+`"}`)
		}, ""},
		{"resource policy denies", []string{allow("*", "*")}, func(w *world) {
			w.policies[fnARN] = policy(t, iampolicy.Resource, "p", `{"Effect":"Deny","Principal":"*","Action":"lambda:InvokeFunction","Resource":"`+fnARN+`"}`)
		}, denied + " with an explicit deny in a resource-based policy"},
		{"source address", []string{cond(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)}, nil, ""},
		{"other source address", []string{cond(`{"IpAddress":{"aws:SourceIp":"10.9.0.0/16"}}`)}, nil, denied + " because no identity-based policy allows the lambda:InvokeFunction action"},
		{"principal's tag", []string{cond(`{"StringEquals":{"aws:PrincipalTag/team":"red"}}`)}, nil, ""},
		{"resource's tag", []string{cond(`{"StringEquals":{"aws:ResourceTag/Owner":"${aws:PrincipalTag/Team}"}}`)}, func(w *world) { w.tags[fnARN] = map[string]string{"owner": "red"} }, ""},
		{"resource without the tag", []string{cond(`{"StringEquals":{"aws:ResourceTag/Owner":"red"}}`)}, nil, denied + " because no identity-based policy allows the lambda:InvokeFunction action"},
		{"name in the resource", []string{allow("lambda:*", "arn:aws:lambda:*:*:function:${aws:username}")}, nil, denied + " because no identity-based policy allows the lambda:InvokeFunction action"},
		{"time", []string{cond(`{"DateLessThan":{"aws:CurrentTime":"2026-11-24T08:00:00Z"},"NumericGreaterThan":{"aws:EpochTime":"1700000000"}}`)}, nil, ""},
		{"region", []string{cond(`{"StringEquals":{"aws:RequestedRegion":"us-east-1","aws:PrincipalAccount":"` + account + `","aws:PrincipalType":"User","aws:username":"bob","aws:userid":"AIDABOB","aws:ResourceAccount":"` + account + `"},"Bool":{"aws:PrincipalIsAWSService":"false","aws:ViaAWSService":"false","aws:SecureTransport":"false"},"ArnEquals":{"aws:PrincipalArn":"` + bobARN + `"},"StringLike":{"aws:UserAgent":"aws-cli*"},"Null":{"aws:TokenIssueTime":"true","aws:MultiFactorAuthPresent":"true","aws:FederatedProvider":"true"}}`)}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := bobWith(t, c.statements...)
			if c.change != nil {
				c.change(w)
			}
			a := newAuthorizer(t, w, Deps{})
			err := a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, invoke)
			answers(t, err, "AccessDeniedException", c.want)
			if refused := a.Refusals(account, "bob", 10); (len(refused) == 1) != (c.want != "") {
				t.Errorf("remembered: %+v", refused)
			}
		})
	}
}

func answers(t *testing.T, err error, code, message string) {
	t.Helper()
	if message == "" {
		if err != nil {
			t.Error("refused:", err)
		}
		return
	}
	e := apierr.From(err)
	if e == nil || e.Code != code || e.Message != message || e.HTTPStatus() != 403 {
		t.Errorf("got  %v\nwant %s: %s", err, code, message)
	}
}

func TestSessions(t *testing.T) {
	w := bobWith(t)
	w.identities[roleARN].Policies = identity(t, allow("lambda:InvokeFunction", "*"), allow("logs:*", "*"))
	w.managed["arn:aws:iam::aws:policy/Logs"] = policy(t, iampolicy.Identity, "Logs", allow("logs:*", "*"))
	a := newAuthorizer(t, w, Deps{})
	try := func(s call.Session) error {
		return a.Authorize(as(t, worker(s)), lambdaapi.Invoke.Info, invoke)
	}
	no := "User: arn:aws:sts::" + account + ":assumed-role/worker/s1 is not authorized to perform: lambda:InvokeFunction on resource: " + fnARN + " "
	document := func(s string) []string { return []string{`{"Version":"2012-10-17","Statement":[` + s + `]}`} }
	answers(t, try(call.Session{}), "", "")
	for range 2 { // the second time it is compiled
		answers(t, try(call.Session{Policies: document(allow("logs:*", "*"))}), "AccessDeniedException", no+"because no session policy allows the lambda:InvokeFunction action")
		answers(t, try(call.Session{Policies: document(allow("lambda:*", "*"))}), "", "")
	}
	answers(t, try(call.Session{PolicyARNs: []string{"arn:aws:iam::aws:policy/Logs"}}), "AccessDeniedException", no+"because no session policy allows the lambda:InvokeFunction action")
	answers(t, try(call.Session{PolicyARNs: []string{"arn:aws:iam::aws:policy/Gone"}}), "AccessDeniedException", no+"because no session policy allows the lambda:InvokeFunction action")

	// Tags of the session win over the role's.
	w.identities[roleARN].Policies = identity(t, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/Team":"green","aws:SourceIdentity":"me"}}}`)
	answers(t, try(call.Session{Tags: map[string]string{"team": "green"}, SourceIdentity: "me"}), "", "")
	answers(t, try(call.Session{SourceIdentity: "me"}), "AccessDeniedException", no+"because no identity-based policy allows the lambda:InvokeFunction action")

	// A role that was deleted and made again is another one.
	w.identities[roleARN].ID = "AROAOTHER"
	answers(t, try(call.Session{}), "UnrecognizedClientException", "The security token included in the request is invalid.")
	answers(t, a.Authorize(as(t, worker(call.Session{})), iamapi.ListRoles.Info, &iamapi.ListRolesInput{}), "InvalidClientTokenId", "The security token included in the request is invalid.")
	delete(w.identities, roleARN)
	answers(t, try(call.Session{}), "AccessDeniedException", no+"because no identity-based policy allows the lambda:InvokeFunction action")
	answers(t, newAuthorizer(t, w, Deps{Dev: true}).Authorize(as(t, worker(call.Session{})), lambdaapi.Invoke.Info, invoke), "", "")
}

func TestUsersSessionsMayNotUseIAM(t *testing.T) {
	a := newAuthorizer(t, bobWith(t, allow("*", "*")), Deps{})
	p := bob()
	p.Session = &call.Session{Issuer: bobARN}
	answers(t, a.Authorize(as(t, p), iamapi.ListRoles.Info, &iamapi.ListRolesInput{}), "InvalidClientTokenId", "The security token included in the request is invalid")
	p.Session = &call.Session{Issuer: bobARN, MFA: true}
	answers(t, a.Authorize(as(t, p), iamapi.ListRoles.Info, &iamapi.ListRolesInput{}), "", "")
	answers(t, a.Authorize(as(t, p), lambdaapi.Invoke.Info, invoke), "", "")
}

func TestCrossAccount(t *testing.T) {
	arn := "arn:aws:lambda:us-east-1:" + other + ":function:g"
	in := &lambdaapi.InvokeInput{FunctionName: &arn}
	w := bobWith(t)
	a := newAuthorizer(t, w, Deps{})
	no := "User: " + bobARN + " is not authorized to perform: lambda:InvokeFunction on resource: " + arn + " because no "
	root := call.Principal{Type: call.Root, ARN: "arn:aws:iam::" + account + ":root", UserID: account}
	rootNo := "User: " + root.ARN + " is not authorized to perform: lambda:InvokeFunction on resource: " + arn + " because no "
	answers(t, a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, in), "AccessDeniedException", no+"resource-based policy allows the lambda:InvokeFunction action")
	answers(t, a.Authorize(as(t, root), lambdaapi.Invoke.Info, in), "AccessDeniedException", rootNo+"resource-based policy allows the lambda:InvokeFunction action")
	w.policies[arn] = policy(t, iampolicy.Resource, "p", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+account+`:root"},"Action":"lambda:InvokeFunction","Resource":"`+arn+`"}`)
	answers(t, a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, in), "AccessDeniedException", no+"identity-based policy allows the lambda:InvokeFunction action")
	answers(t, a.Authorize(as(t, root), lambdaapi.Invoke.Info, in), "", "")
	w.identities[bobARN].Policies = identity(t, allow("lambda:*", "*"))
	answers(t, a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, in), "", "")
}

func TestPassRole(t *testing.T) {
	create := func(role string) *lambdaapi.CreateFunctionInput {
		return &lambdaapi.CreateFunctionInput{FunctionName: new("f"), Role: &role}
	}
	w := bobWith(t, allow("lambda:*", "*"))
	a := newAuthorizer(t, w, Deps{})
	answers(t, a.Authorize(as(t, bob()), lambdaapi.CreateFunction.Info, create(roleARN)), "AccessDeniedException",
		"User: "+bobARN+" is not authorized to perform: iam:PassRole on resource: "+roleARN+" because no identity-based policy allows the iam:PassRole action")
	for service, want := range map[string]string{
		"lambda.amazonaws.com": "",
		"ec2.amazonaws.com":    "User: " + bobARN + " is not authorized to perform: iam:PassRole on resource: " + roleARN + " because no identity-based policy allows the iam:PassRole action",
	} {
		w.identities[bobARN].Policies = identity(t, allow("lambda:*", "*"),
			`{"Effect":"Allow","Action":"iam:PassRole","Resource":"*","Condition":{"StringEquals":{"iam:PassedToService":"`+service+`"},"ArnLike":{"iam:AssociatedResourceArn":"`+fnARN+`"}}}`)
		answers(t, a.Authorize(as(t, bob()), lambdaapi.CreateFunction.Info, create(roleARN)), "AccessDeniedException", want)
	}
	answers(t, a.Authorize(as(t, bob()), lambdaapi.CreateFunction.Info, create("arn:aws:iam::"+other+":role/r")), "AccessDeniedException", "Cross-account pass role is not allowed.")
}

func TestAssumeRole(t *testing.T) {
	w := bobWith(t, allow("sts:*", "*"))
	a := newAuthorizer(t, w, Deps{})
	in := &stsapi.AssumeRoleInput{RoleArn: new(roleARN), RoleSessionName: new("s"), ExternalId: new("x1")}
	no := "User: " + bobARN + " is not authorized to perform: sts:AssumeRole on resource: "
	trust := func(s string) {
		w.identities[roleARN].Trust = policy(t, iampolicy.Trust, roleARN, s)
	}
	answers(t, a.Authorize(as(t, bob()), stsapi.AssumeRole.Info, in), "AccessDenied", no+roleARN)
	trust(`{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x1"}}}`)
	answers(t, a.Authorize(as(t, bob()), stsapi.AssumeRole.Info, in), "", "")
	in.ExternalId = new("x2")
	answers(t, a.Authorize(as(t, bob()), stsapi.AssumeRole.Info, in), "AccessDenied", no+roleARN)
	in.ExternalId, in.Tags = new("x1"), []stsapi.Tag{{Key: new("k"), Value: new("v")}}
	answers(t, a.Authorize(as(t, bob()), stsapi.AssumeRole.Info, in), "AccessDenied", "User: "+bobARN+" is not authorized to perform: sts:TagSession on resource: "+roleARN)
	trust(`{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["k"]},"StringEquals":{"aws:RequestTag/K":"v"}}}`)
	answers(t, a.Authorize(as(t, bob()), stsapi.AssumeRole.Info, in), "", "")
	in.RoleArn = new(roleARN + "none") // whether it exists is not told
	answers(t, a.Authorize(as(t, bob()), stsapi.AssumeRole.Info, in), "AccessDenied", no+roleARN+"none")

	// A service on its own behalf, and the bearer of a token.
	trust(`{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"aws:SourceAccount":"` + account + `"}}},
		{"Effect":"Allow","Principal":{"Federated":"id.example.com"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"id.example.com:aud":"me"}}}`)
	ask := func(action string, p call.Principal, keys ...string) error {
		v := iampolicy.Values{}
		for i := 0; i < len(keys); i += 2 {
			v.Set(keys[i], keys[i+1])
		}
		return a.Check(as(t, call.Principal{}), Request{Action: action, Resource: roleARN, Caller: &p, Keys: v})
	}
	service := func(s string) call.Principal { return call.Principal{Type: call.Service, Service: s, ARN: s} }
	answers(t, ask("sts:AssumeRole", service("lambda.amazonaws.com"), "aws:SourceAccount", account), "", "")
	if ask("sts:AssumeRole", service("lambda.amazonaws.com"), "aws:SourceAccount", other) == nil || ask("sts:AssumeRole", service("s3.amazonaws.com"), "aws:SourceAccount", account) == nil {
		t.Error("a service that is not trusted assumes the role")
	}
	web := call.Principal{Type: call.WebIdentity, ARN: "id.example.com", Session: &call.Session{Provider: "id.example.com", Subject: "u"}}
	answers(t, ask("sts:AssumeRoleWithWebIdentity", web, "id.example.com:aud", "me"), "", "")
	answers(t, ask("sts:AssumeRoleWithWebIdentity", web, "id.example.com:aud", "you"), "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
}

// A service that invokes a function for one of its resources is held to the function's policy.
func TestServiceInvokes(t *testing.T) {
	w := bobWith(t)
	a := newAuthorizer(t, w, Deps{})
	w.policies[fnARN] = policy(t, iampolicy.Resource, "p", `{"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"`+fnARN+`","Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"}}}`)
	for source, ok := range map[string]bool{"arn:aws:s3:::b": true, "arn:aws:s3:::c": false} {
		keys := iampolicy.Values{}
		keys.Set("aws:SourceArn", source)
		err := a.Check(call.AsService(t.Context(), "s3", account, "us-east-1"), Request{Action: "lambda:InvokeFunction", Resource: fnARN, Keys: keys})
		if (err == nil) != ok {
			t.Errorf("%s: %v", source, err)
		}
	}
	if err := a.Authorize(call.AsService(t.Context(), "s3", account, "us-east-1"), lambdaapi.Invoke.Info, invoke); err != nil {
		t.Error("a part of Mayfly may not perform an operation:", err)
	}
}

func TestDelegatedAdministration(t *testing.T) {
	const boundary = "arn:aws:iam::" + account + ":policy/limit"
	w := bobWith(t, `{"Effect":"Allow","Action":"iam:*","Resource":"*","Condition":{"StringEquals":{"iam:PermissionsBoundary":"`+boundary+`"}}}`)
	a := newAuthorizer(t, w, Deps{})
	attach := &iamapi.AttachRolePolicyInput{RoleName: new("worker"), PolicyArn: new("arn:aws:iam::aws:policy/X")}
	answers(t, a.Authorize(as(t, bob()), iamapi.AttachRolePolicy.Info, attach), "AccessDenied",
		"User: "+bobARN+" is not authorized to perform: iam:AttachRolePolicy on resource: role worker because no identity-based policy allows the iam:AttachRolePolicy action")
	w.identities[roleARN].Boundary = policy(t, iampolicy.Identity, boundary, allow("*", "*"))
	answers(t, a.Authorize(as(t, bob()), iamapi.AttachRolePolicy.Info, attach), "", "")
	create := &iamapi.CreateRoleInput{RoleName: new("n"), PermissionsBoundary: new(boundary)}
	answers(t, a.Authorize(as(t, bob()), iamapi.CreateRole.Info, create), "", "")
	create.PermissionsBoundary = nil
	if a.Authorize(as(t, bob()), iamapi.CreateRole.Info, create) == nil {
		t.Error("a role without the boundary was made")
	}
}

// attributed knows what mapping invokes what function.
type attributed struct{ *world }

func (attributed) Attribute(_ context.Context, arn, key string) (string, error) {
	if key != "lambda:functionarn" || !strings.HasSuffix(arn, ":event-source-mapping:of-f") {
		return "", nil
	}
	return fnARN, nil
}

// A condition on the function of an event source mapping holds for the one that it has and for the one that it shall have.
func TestFunctionOfMapping(t *testing.T) {
	w := bobWith(t, `{"Effect":"Allow","Action":"lambda:*","Resource":"*","Condition":{"ArnLike":{"lambda:FunctionArn":"`+fnARN+`"}}}`)
	a := newAuthorizer(t, w, Deps{})
	a.RegisterResources("lambda", attributed{w})
	get := func(uuid string) error {
		return a.Authorize(as(t, bob()), lambdaapi.GetEventSourceMapping.Info, &lambdaapi.GetEventSourceMappingInput{UUID: &uuid})
	}
	update := func(uuid string, function *string) error {
		return a.Authorize(as(t, bob()), lambdaapi.UpdateEventSourceMapping.Info, &lambdaapi.UpdateEventSourceMappingInput{UUID: &uuid, FunctionName: function})
	}
	create := func(function string) error {
		return a.Authorize(as(t, bob()), lambdaapi.CreateEventSourceMapping.Info, &lambdaapi.CreateEventSourceMappingInput{FunctionName: &function})
	}
	for i, err := range []error{get("of-f"), update("of-f", nil), update("of-f", new("f")), create("f")} {
		if err != nil {
			t.Error(i, err)
		}
	}
	for i, err := range []error{get("of-g"), update("of-g", nil), update("of-g", new("f")), update("of-f", new("g")), create("g")} {
		if apierr.Code(err) != "AccessDeniedException" {
			t.Error(i, err)
		}
	}
}

// Each service refuses in its own way.
func TestDenials(t *testing.T) {
	w := bobWith(t, allow("logs:CreateLogGroup", "*"))
	a := newAuthorizer(t, w, Deps{})
	no := "User: " + bobARN + " is not authorized to perform: "
	for _, c := range []struct {
		op      *smithy.OpInfo
		in      any
		code    string
		status  int
		message string
	}{
		{lambdaapi.Invoke.Info, invoke, "AccessDeniedException", 403, no + "lambda:InvokeFunction on resource: " + fnARN + " because no identity-based policy allows the lambda:InvokeFunction action"},
		{lambdaapi.ListFunctions.Info, &lambdaapi.ListFunctionsInput{}, "AccessDeniedException", 403, no + "lambda:ListFunctions on resource: * because no identity-based policy allows the lambda:ListFunctions action"},
		{logsapi.DeleteLogGroup.Info, &logsapi.DeleteLogGroupInput{LogGroupName: new("/a")}, "AccessDeniedException", 400,
			no + "logs:DeleteLogGroup on resource: arn:aws:logs:us-east-1:" + account + ":log-group:/a:log-stream: because no identity-based policy allows the logs:DeleteLogGroup action"},
		{logsapi.CreateLogGroup.Info, &logsapi.CreateLogGroupInput{LogGroupName: new("/a"), Tags: map[string]string{"a": "b"}}, "AccessDeniedException", 400,
			"User with accountId: " + account + " is not authorized to perform CreateLogGroup with Tags"},
		{iamapi.CreatePolicy.Info, &iamapi.CreatePolicyInput{PolicyName: new("p"), Path: new("/x/")}, "AccessDenied", 403, no + "iam:CreatePolicy on resource: policy p because no identity-based policy allows the iam:CreatePolicy action"},
		{stsapi.GetAccessKeyInfo.Info, &stsapi.GetAccessKeyInfoInput{}, "AccessDenied", 403, no + "sts:GetAccessKeyInfo on resource: * because no identity-based policy allows the sts:GetAccessKeyInfo action"},
	} {
		e := apierr.From(a.Authorize(as(t, bob()), c.op, c.in))
		if e == nil || e.Code != c.code || e.HTTPStatus() != c.status || e.Message != c.message {
			t.Errorf("%s: %v\nwant %d %s: %s", c.op, e, c.status, c.code, c.message)
		}
	}
}

func TestTroubleIsNoDecision(t *testing.T) {
	w := bobWith(t, allow("*", "*"))
	w.err = fmt.Errorf("disk on fire")
	a := newAuthorizer(t, w, Deps{})
	if e := apierr.From(a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, invoke)); e == nil || e.Code != "InternalFailure" {
		t.Error(e)
	}
}
