package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// sdk configures the AWS SDK for Go for a server.
func (s *instance) sdk() aws.Config {
	return aws.Config{
		Region:       s.vars["AWS_REGION"],
		BaseEndpoint: aws.String(s.vars["AWS_ENDPOINT_URL"]),
		Credentials:  credentials.NewStaticCredentialsProvider(s.vars["AWS_ACCESS_KEY_ID"], s.vars["AWS_SECRET_ACCESS_KEY"], ""),
	}
}

// role makes the role of the tests' functions, which may do everything, unless a start before made it.
func (s *instance) role() {
	s.t.Helper()
	c, name := iam.NewFromConfig(s.sdk()), aws.String("suite")
	_, err := c.CreateRole(s.t.Context(), &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(trust)})
	if exists, ok := errors.AsType[*iamtypes.EntityAlreadyExistsException](err); err != nil && (!ok || exists == nil) {
		s.t.Fatal(err)
	}
	if _, err := c.PutRolePolicy(s.t.Context(), &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("everything"), PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)}); err != nil {
		s.t.Fatal(err)
	}
}

// createFunction makes a function of the bootstrap program.
func (s *instance) createFunction(ctx context.Context, name string, code []byte) error {
	c := lambda.NewFromConfig(s.sdk())
	_, err := c.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String("arn:aws:iam::000000000000:role/suite"), Runtime: types.RuntimeProvidedal2023,
		Handler: aws.String("bootstrap"), Code: &types.FunctionCode{ZipFile: code}, Publish: true,
	})
	return err
}

func (s *instance) awaitActive(ctx context.Context, name string) error {
	c := lambda.NewFromConfig(s.sdk())
	return lambda.NewFunctionActiveV2Waiter(c, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 50*time.Millisecond
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &name}, time.Minute)
}

// inventory is everything that a server keeps: functions, roles, log events, and the bill.
func (s *instance) inventory() string {
	s.t.Helper()
	ctx := s.t.Context()
	var b strings.Builder
	functions := lambda.NewListFunctionsPaginator(lambda.NewFromConfig(s.sdk()), &lambda.ListFunctionsInput{FunctionVersion: types.FunctionVersionAll})
	for functions.HasMorePages() {
		page, err := functions.NextPage(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, f := range page.Functions {
			fmt.Fprintln(&b, *f.FunctionArn, *f.RevisionId, *f.CodeSha256)
		}
	}
	roles := iam.NewListRolesPaginator(iam.NewFromConfig(s.sdk()), &iam.ListRolesInput{})
	for roles.HasMorePages() {
		page, err := roles.NextPage(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, r := range page.Roles {
			fmt.Fprintln(&b, *r.Arn, *r.RoleId)
		}
	}
	logs := cloudwatchlogs.NewFromConfig(s.sdk())
	groups := cloudwatchlogs.NewDescribeLogGroupsPaginator(logs, &cloudwatchlogs.DescribeLogGroupsInput{})
	for groups.HasMorePages() {
		page, err := groups.NextPage(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, g := range page.LogGroups {
			fmt.Fprintln(&b, *g.LogGroupName)
			for _, message := range events(s.t, logs, *g.LogGroupName) {
				fmt.Fprintf(&b, "\t%q\n", message)
			}
		}
	}
	s.inventoryQueues(&b)
	fmt.Fprintln(&b, s.mayfly("usage", "--json"))
	return b.String()
}

func events(t *testing.T, logs *cloudwatchlogs.Client, group string) (messages []string) {
	t.Helper()
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(logs, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &group})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			messages = append(messages, *e.Message)
		}
	}
	return messages
}

// TestKill kills a server while it acknowledges writes of several kinds, and looks for every one of them afterwards.
func TestKill(t *testing.T) {
	s := newInstance(t)
	s.start()
	code := archive(t, "bootstrap", "#!/bin/sh\n")
	const group, stream = "/conformance/kill", "stream"
	logs := cloudwatchlogs.NewFromConfig(s.sdk())
	if _, err := logs.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String(group)}); err != nil {
		t.Fatal(err)
	}
	if _, err := logs.CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String(group), LogStreamName: aws.String(stream)}); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	acknowledged := map[string][]string{}
	enough := make(chan struct{})
	const wanted = 60
	total := 0
	write := func(kind string, one func(name string) error) func() {
		return func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%s-%d", kind, i)
				if one(name) != nil {
					return
				}
				mu.Lock()
				acknowledged[kind] = append(acknowledged[kind], name)
				if total++; total == wanted {
					close(enough)
				}
				mu.Unlock()
			}
		}
	}
	var writers sync.WaitGroup
	writers.Go(write("function", func(name string) error {
		return s.createFunction(t.Context(), name, code)
	}))
	writers.Go(write("role", func(name string) error {
		_, err := iam.NewFromConfig(s.sdk()).CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(trust)})
		return err
	}))
	writers.Go(write("event", func(name string) error {
		_, err := logs.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{
			LogGroupName: aws.String(group), LogStreamName: aws.String(stream),
			LogEvents: []logstypes.InputLogEvent{{Timestamp: aws.Int64(time.Now().UnixMilli()), Message: &name}},
		})
		return err
	}))
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Error("too few writes are acknowledged in a minute")
	}
	s.kill()
	writers.Wait()
	crashed := s.sandbox

	s.start()
	for _, name := range acknowledged["function"] {
		if err := s.awaitActive(t.Context(), name); err != nil {
			t.Errorf("function %s: %v", name, err)
		}
	}
	for _, name := range acknowledged["role"] {
		if _, err := iam.NewFromConfig(s.sdk()).GetRole(t.Context(), &iam.GetRoleInput{RoleName: &name}); err != nil {
			t.Errorf("role %s: %v", name, err)
		}
	}
	found := events(t, cloudwatchlogs.NewFromConfig(s.sdk()), group)
	for _, name := range acknowledged["event"] {
		if !slices.Contains(found, name) {
			t.Errorf("event %s is lost", name)
		}
	}
	t.Logf("acknowledged: %d functions, %d roles, %d events", len(acknowledged["function"]), len(acknowledged["role"]), len(acknowledged["event"]))
	s.stop()
	// The next server tidies up after one that crashed.
	if left := crashed.left(); len(left) > 0 {
		t.Errorf("the crashed server left behind:\n%s", strings.Join(left, "\n"))
	}
}

// TestSecondServer starts a server on a data directory that another one uses.
func TestSecondServer(t *testing.T) {
	s := newInstance(t)
	s.start()
	second, out := s.command("serve", "--data", s.data, "--listen", "127.0.0.1:0")
	if second.Run() == nil || !strings.Contains(out.String(), s.data) || !strings.Contains(out.String(), "in use") {
		t.Errorf("a second server on the same data says %q", out)
	}
	s.stop()
}
