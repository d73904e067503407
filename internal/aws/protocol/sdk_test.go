package protocol_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/s3api"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/protocol/protocoltest/cloudwatchapi"
	mayfly "github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// server serves mux as the edge does, without signatures: the clients' own are ignored but for the service's name.
func server(t *testing.T, mux *mayfly.Mux) string {
	router := protocol.NewRouter(services...)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := protocol.NewRequest(r)
		if req.IsForm() {
			req.Body, _ = io.ReadAll(r.Body)
		}
		signing := ""
		if scope := strings.Split(r.Header.Get("Authorization"), "/"); len(scope) > 3 {
			signing = scope[3]
		}
		call, err := router.Match(req, signing)
		var res *protocol.Response
		if err == nil {
			if call.Streams() {
				req.Stream = r.Body
			} else if !req.IsForm() {
				req.Body, _ = io.ReadAll(r.Body)
			}
			in, out := call.Op.NewInput(), call.Op.NewOutput()
			if err = call.Decode(in); err == nil {
				if err = mux.Validate(call.Op, in); err == nil {
					err = mux.Call(r.Context(), call.Op, in, out)
				}
			}
			if err == nil {
				res = call.Encode(out, "0f4a9d9e-0000-4000-8000-000000000001")
			}
		}
		if err != nil {
			res = call.EncodeError(err, "0f4a9d9e-0000-4000-8000-000000000001")
		}
		_ = res.WriteTo(w)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// config is the SDK's configuration for a server: every host name leads there, one try each.
func config(t *testing.T, endpoint string) aws.Config {
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, u.Host)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return aws.Config{
		Region:                     "eu-west-1",
		BaseEndpoint:               &endpoint,
		Credentials:                credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		RetryMaxAttempts:           1,
		HTTPClient:                 &http.Client{Transport: tr},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	}
}

// handle registers a handler that records its input and answers out and err.
func handle[In, Out any](mux *mayfly.Mux, op mayfly.Op[In, Out], out *Out, err error) *In {
	got := new(In)
	op.Handle(mux, func(_ context.Context, in *In) (*Out, error) {
		*got = *in
		return out, err
	})
	return got
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, sameValues); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestLambdaClient(t *testing.T) {
	mux := mayfly.NewMux()
	invoke := handle(mux, lambdaapi.Invoke, &lambdaapi.InvokeOutput{StatusCode: new(int32(200)), Payload: []byte(`{"ok": [1, 2]}`), ExecutedVersion: new("$LATEST"), LogResult: new("bG9n")}, nil)
	create := handle(mux, lambdaapi.CreateFunction, &lambdaapi.FunctionConfiguration{
		FunctionName: new("f"), MemorySize: new(int32(128)), Architectures: []string{"x86_64"}, LastModified: new("2026-11-24T06:00:00.000+0000"),
		Environment: &lambdaapi.EnvironmentResponse{Variables: map[string]string{}}, State: new(lambdaapi.StatePending), Layers: []lambdaapi.Layer{},
	}, nil)
	list := handle(mux, lambdaapi.ListFunctions, &lambdaapi.ListFunctionsOutput{Functions: []lambdaapi.FunctionConfiguration{}, NextMarker: new("m+/=")}, nil)
	esm := handle(mux, lambdaapi.CreateEventSourceMapping, &lambdaapi.EventSourceMappingConfiguration{UUID: new("u"), LastModified: new(time.UnixMilli(1795500000123).UTC())}, nil)
	get := handle(mux, lambdaapi.GetFunction, nil, lambdaapi.ErrResourceNotFoundException("Function not found: %s", "arn"))
	handle(mux, lambdaapi.DeleteFunction, &lambdaapi.DeleteFunctionOutput{StatusCode: new(int32(204))}, nil)
	tags := handle(mux, lambdaapi.ListTags, &lambdaapi.ListTagsOutput{Tags: map[string]string{"a b": "ü"}}, nil)
	handle(mux, lambdaapi.InvokeAsync, nil, lambdaapi.ErrTooManyRequestsException("Rate Exceeded.").
		With("Reason", "ReservedFunctionConcurrentInvocationLimitExceeded").With("retryAfterSeconds", "1"))

	c := lambda.NewFromConfig(config(t, server(t, mux)))
	ctx := t.Context()

	out, err := c.Invoke(ctx, &lambda.InvokeInput{
		FunctionName: new("arn:aws:lambda:eu-west-1:123456789012:function:f"), Qualifier: new("$LATEST"), Payload: []byte(`{"a":1}`),
		LogType: lambdatypes.LogTypeTail, InvocationType: lambdatypes.InvocationTypeRequestResponse, ClientContext: new("e30="),
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "invoke input", *invoke, lambdaapi.InvokeInput{
		FunctionName: new("arn:aws:lambda:eu-west-1:123456789012:function:f"), Qualifier: new("$LATEST"), Payload: []byte(`{"a":1}`),
		LogType: new("Tail"), InvocationType: new("RequestResponse"), ClientContext: new("e30="),
	})
	if string(out.Payload) != `{"ok": [1, 2]}` || out.StatusCode != 200 || *out.ExecutedVersion != "$LATEST" || *out.LogResult != "bG9n" || out.FunctionError != nil {
		t.Errorf("invoke output: %+v", out)
	}
	if id, _ := middleware.GetRequestIDMetadata(out.ResultMetadata); id != "0f4a9d9e-0000-4000-8000-000000000001" {
		t.Errorf("request id %q", id)
	}

	f, err := c.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: new("f"), Role: new("arn:aws:iam::123456789012:role/r"), Runtime: lambdatypes.RuntimeProvidedal2023, Handler: new("bootstrap"),
		Code:    &lambdatypes.FunctionCode{ZipFile: []byte("PK\x03\x04\xff")},
		Timeout: new(int32(30)), Publish: true, Environment: &lambdatypes.Environment{Variables: map[string]string{"AB": "<&>\u2028"}},
		Tags: map[string]string{"k": "v"}, Layers: []string{}, EphemeralStorage: &lambdatypes.EphemeralStorage{Size: new(int32(512))},
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "create input", *create, lambdaapi.CreateFunctionInput{
		FunctionName: new("f"), Role: new("arn:aws:iam::123456789012:role/r"), Runtime: new("provided.al2023"), Handler: new("bootstrap"),
		Code:    &lambdaapi.FunctionCode{ZipFile: []byte("PK\x03\x04\xff")},
		Timeout: new(int32(30)), Publish: new(true), Environment: &lambdaapi.Environment{Variables: map[string]string{"AB": "<&>\u2028"}},
		Tags: map[string]string{"k": "v"}, Layers: []string{}, EphemeralStorage: &lambdaapi.EphemeralStorage{Size: new(int32(512))},
	})
	if *f.MemorySize != 128 || f.State != lambdatypes.StatePending || f.Environment == nil || f.Layers == nil || f.FileSystemConfigs != nil || *f.LastModified != "2026-11-24T06:00:00.000+0000" {
		t.Errorf("create output: %+v", f)
	}

	l, err := c.ListFunctions(ctx, &lambda.ListFunctionsInput{MaxItems: new(int32(7)), Marker: new("x&y=z"), FunctionVersion: lambdatypes.FunctionVersionAll})
	if err != nil || l.Functions == nil || *l.NextMarker != "m+/=" {
		t.Errorf("list: %+v, %v", l, err)
	}
	same(t, "list input", *list, lambdaapi.ListFunctionsInput{MaxItems: new(int32(7)), Marker: new("x&y=z"), FunctionVersion: new("ALL")})

	at := time.UnixMilli(1795500000500).UTC()
	m, err := c.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: new("f"), StartingPositionTimestamp: &at, ParallelizationFactor: new(int32(2))})
	if err != nil || !m.LastModified.Equal(time.UnixMilli(1795500000123)) {
		t.Errorf("mapping: %+v, %v", m, err)
	}
	if !esm.StartingPositionTimestamp.Equal(at) {
		t.Errorf("timestamp %v", esm.StartingPositionTimestamp)
	}

	_, err = c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: new("f:1")})
	if nf, ok := errors.AsType[*lambdatypes.ResourceNotFoundException](err); !ok || *nf.Message != "Function not found: arn" || *nf.Type != "User" || *get.FunctionName != "f:1" {
		t.Errorf("typed error: %v", err)
	}
	_, err = c.InvokeAsync(ctx, &lambda.InvokeAsyncInput{FunctionName: new("f"), InvokeArgs: strings.NewReader("{}")})
	if tm, ok := errors.AsType[*lambdatypes.TooManyRequestsException](err); !ok || tm.Reason != lambdatypes.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded || *tm.RetryAfterSeconds != "1" {
		t.Errorf("throttled: %v", err)
	}
	if _, err := c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: new("f")}); err != nil {
		t.Error(err)
	}
	tg, err := c.ListTags(ctx, &lambda.ListTagsInput{Resource: new("arn:aws:lambda:eu-west-1:123456789012:function:f")})
	if err != nil || tg.Tags["a b"] != "ü" || *tags.Resource != "arn:aws:lambda:eu-west-1:123456789012:function:f" {
		t.Errorf("tags: %v, %v", tg, err)
	}
	_, err = c.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: new("f"), Name: new("a")})
	if e := apiError(err); e.ErrorCode() != "NotImplemented" || e.ErrorMessage() != "Mayfly does not serve lambda:GetAlias yet." {
		t.Errorf("not served: %v", err)
	}
	_, err = c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(0))})
	if e := apiError(err); e.ErrorCode() != "ValidationException" || !strings.HasPrefix(e.ErrorMessage(), "1 validation error detected: Value '0' at 'timeout'") {
		t.Errorf("invalid: %v", err)
	}
}

func apiError(err error) smithy.APIError {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e
	}
	return &smithy.GenericAPIError{Code: fmt.Sprintf("not an API error: %v", err)}
}

func TestLambdaStreamClient(t *testing.T) {
	mux := mayfly.NewMux()
	type event = lambdaapi.InvokeWithResponseStreamResponseEvent
	lambdaapi.InvokeWithResponseStream.Handle(mux, func(_ context.Context, in *lambdaapi.InvokeWithResponseStreamInput) (*lambdaapi.InvokeWithResponseStreamOutput, error) {
		return &lambdaapi.InvokeWithResponseStreamOutput{
			ExecutedVersion: new("3"),
			EventStream: func(yield func(*event, error) bool) {
				for _, s := range []string{"one", "two"} {
					if !yield(&event{PayloadChunk: &lambdaapi.InvokeResponseStreamUpdate{Payload: []byte(s)}}, nil) {
						return
					}
				}
				yield(&event{InvokeComplete: &lambdaapi.InvokeWithResponseStreamCompleteEvent{ErrorCode: new("Oops"), LogResult: new("bG9n")}}, nil)
			},
		}, nil
	})
	endpoint := server(t, mux)
	c := lambda.NewFromConfig(config(t, endpoint))
	out, err := c.InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: new("f")}) // a body may cost the SDK its connection
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	s := out.GetStream()
	for e := range s.Events() {
		switch e := e.(type) {
		case *lambdatypes.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			got = append(got, string(e.Value.Payload))
		case *lambdatypes.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			got = append(got, *e.Value.ErrorCode, *e.Value.LogResult)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	same(t, "events", got, []string{"one", "two", "Oops", "bG9n"})
	if *out.ExecutedVersion != "3" {
		t.Errorf("version %s", *out.ExecutedVersion)
	}

	// Our own client reads the same.
	ours, err := lambdaapi.InvokeWithResponseStream.Call(t.Context(), &protocol.Client{Endpoint: endpoint}, &lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("f"), Payload: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	for e, err := range ours.EventStream {
		switch {
		case err != nil:
			t.Fatal(err)
		case e.PayloadChunk != nil:
			got = append(got, string(e.PayloadChunk.Payload))
		default:
			got = append(got, *e.InvokeComplete.ErrorCode, *e.InvokeComplete.LogResult)
		}
	}
	same(t, "events", got, []string{"one", "two", "Oops", "bG9n"})
}

func TestLogsClient(t *testing.T) {
	mux := mayfly.NewMux()
	put := handle(mux, logsapi.PutLogEvents, &logsapi.PutLogEventsOutput{NextSequenceToken: new("t")}, nil)
	handle(mux, logsapi.CreateLogGroup, nil, logsapi.ErrResourceAlreadyExistsException("The specified log group already exists"))
	type event = logsapi.StartLiveTailResponseStream
	logsapi.StartLiveTail.Handle(mux, func(context.Context, *logsapi.StartLiveTailInput) (*logsapi.StartLiveTailOutput, error) {
		return &logsapi.StartLiveTailOutput{ResponseStream: func(yield func(*event, error) bool) {
			if !yield(&event{SessionStart: &logsapi.LiveTailSessionStart{SessionId: new("s"), LogGroupIdentifiers: []string{"g"}}}, nil) {
				return
			}
			if !yield(&event{SessionUpdate: &logsapi.LiveTailSessionUpdate{SessionResults: []logsapi.LiveTailSessionLogEvent{{Message: new("hello")}}}}, nil) {
				return
			}
			yield(nil, logsapi.ErrSessionTimeoutException("three hours are over"))
		}}, nil
	})
	c := cloudwatchlogs.NewFromConfig(config(t, server(t, mux)))
	ctx := t.Context()
	out, err := c.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), LogEvents: []logstypes.InputLogEvent{{Message: new("a\nb\x01"), Timestamp: new(int64(1795500000123))}}})
	if err != nil || *out.NextSequenceToken != "t" {
		t.Fatalf("%v, %v", out, err)
	}
	same(t, "put", *put, logsapi.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), LogEvents: []logsapi.InputLogEvent{{Message: new("a\nb\x01"), Timestamp: new(int64(1795500000123))}}})
	_, err = c.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: new("g")})
	if e, ok := errors.AsType[*logstypes.ResourceAlreadyExistsException](err); !ok || *e.Message != "The specified log group already exists" {
		t.Errorf("typed error: %v", err)
	}

	tail, err := c.StartLiveTail(ctx, &cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{"arn:aws:logs:eu-west-1:123456789012:log-group:g"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	s := tail.GetStream()
	for e := range s.Events() {
		switch e := e.(type) {
		case *logstypes.StartLiveTailResponseStreamMemberSessionStart:
			got = append(got, *e.Value.SessionId, e.Value.LogGroupIdentifiers[0])
		case *logstypes.StartLiveTailResponseStreamMemberSessionUpdate:
			got = append(got, *e.Value.SessionResults[0].Message)
		}
	}
	same(t, "events", got, []string{"s", "g", "hello"})
	if e, ok := errors.AsType[*logstypes.SessionTimeoutException](s.Err()); !ok || *e.Message != "three hours are over" {
		t.Errorf("exception: %v", s.Err())
	}
	s.Close()
}

func TestIAMClient(t *testing.T) {
	mux := mayfly.NewMux()
	at := time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	create := handle(mux, iamapi.CreateRole, &iamapi.CreateRoleOutput{Role: &iamapi.Role{
		RoleName: new("r"), Path: new("/"), Arn: new("arn:aws:iam::123456789012:role/r"), RoleId: new("AROA"), CreateDate: &at,
		AssumeRolePolicyDocument: new("%7B%7D"), Tags: []iamapi.Tag{{Key: new("a"), Value: new("<&>")}},
	}}, nil)
	handle(mux, iamapi.GetRole, nil, iamapi.ErrNoSuchEntityException("The role with name %s cannot be found.", "x"))
	handle(mux, iamapi.DeleteRole, nil, nil)
	handle(mux, iamapi.ListRoles, &iamapi.ListRolesOutput{Roles: []iamapi.Role{}, IsTruncated: new(false)}, nil)
	c := iam.NewFromConfig(config(t, server(t, mux)))
	ctx := t.Context()
	out, err := c.CreateRole(ctx, &iam.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(`{"a": "b&c=d+e"}`), MaxSessionDuration: new(int32(3600)), Tags: []iamtypes.Tag{{Key: new("a"), Value: new("ü")}, {Key: new("b"), Value: new("")}}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "create", *create, iamapi.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(`{"a": "b&c=d+e"}`), MaxSessionDuration: new(int32(3600)), Tags: []iamapi.Tag{{Key: new("a"), Value: new("ü")}, {Key: new("b"), Value: new("")}}})
	if !out.Role.CreateDate.Equal(at) || *out.Role.Tags[0].Value != "<&>" || *out.Role.Arn != "arn:aws:iam::123456789012:role/r" {
		t.Errorf("output: %+v", out.Role)
	}
	_, err = c.GetRole(ctx, &iam.GetRoleInput{RoleName: new("x")})
	if e, ok := errors.AsType[*iamtypes.NoSuchEntityException](err); !ok || *e.Message != "The role with name x cannot be found." {
		t.Errorf("typed error: %v", err)
	}
	if _, err := c.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: new("r")}); err != nil {
		t.Error(err)
	}
	if l, err := c.ListRoles(ctx, &iam.ListRolesInput{}); err != nil || len(l.Roles) != 0 {
		t.Errorf("%v, %v", l, err)
	}
	_, err = c.TagRole(ctx, &iam.TagRoleInput{RoleName: new("r"), Tags: []iamtypes.Tag{{Key: new("k*"), Value: new("v")}}})
	if e := apiError(err); e.ErrorCode() != "ValidationError" || !strings.HasPrefix(e.ErrorMessage(), "1 validation error detected: Value at 'tags.1.member.key'") {
		t.Errorf("invalid: %v", err)
	}
}

func TestSTSClient(t *testing.T) {
	mux := mayfly.NewMux()
	handle(mux, stsapi.GetCallerIdentity, &stsapi.GetCallerIdentityOutput{Account: new("123456789012"), Arn: new("arn"), UserId: new("u")}, nil)
	exp := time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)
	handle(mux, stsapi.AssumeRole, &stsapi.AssumeRoleOutput{Credentials: &stsapi.Credentials{AccessKeyId: new("ASIA"), SecretAccessKey: new("s"), SessionToken: new("t"), Expiration: &exp}}, nil)
	c := sts.NewFromConfig(config(t, server(t, mux)))
	id, err := c.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *id.Account != "123456789012" || *id.UserId != "u" {
		t.Errorf("%v, %v", id, err)
	}
	r, err := c.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: new("arn:aws:iam::123456789012:role/r"), RoleSessionName: new("session")})
	if err != nil || !r.Credentials.Expiration.Equal(exp) {
		t.Errorf("%v, %v", r, err)
	}
}

func TestSQSClient(t *testing.T) {
	mux := mayfly.NewMux()
	send := handle(mux, sqsapi.SendMessage, &sqsapi.SendMessageOutput{MessageId: new("id"), MD5OfMessageBody: new("md5")}, nil)
	attrs := handle(mux, sqsapi.GetQueueAttributes, &sqsapi.GetQueueAttributesOutput{Attributes: map[string]string{"QueueArn": "arn", "DelaySeconds": "0"}}, nil)
	handle(mux, sqsapi.GetQueueUrl, nil, sqsapi.ErrQueueDoesNotExist("The specified queue does not exist."))
	handle(mux, sqsapi.ReceiveMessage, &sqsapi.ReceiveMessageOutput{Messages: []sqsapi.Message{{
		Body: new("b"), Attributes: map[string]string{"SentTimestamp": "1"}, MessageAttributes: map[string]sqsapi.MessageAttributeValue{"m": {DataType: new("Binary"), BinaryValue: []byte{1, 2}}},
	}}}, nil)
	batch := handle(mux, sqsapi.SendMessageBatch, &sqsapi.SendMessageBatchOutput{
		Successful: []sqsapi.SendMessageBatchResultEntry{{Id: new("1"), MessageId: new("m1"), MD5OfMessageBody: new("x")}},
		Failed:     []sqsapi.BatchResultErrorEntry{{Id: new("2"), Code: new("InternalError"), SenderFault: new(false)}},
	}, nil)
	endpoint := server(t, mux)
	c := sqs.NewFromConfig(config(t, endpoint), func(o *sqs.Options) { o.DisableMessageChecksumValidation = true })
	ctx := t.Context()
	want := sqsapi.SendMessageInput{
		QueueUrl: new(endpoint + "/123456789012/q"), MessageBody: new("hello <&>"), DelaySeconds: new(int32(3)),
		MessageAttributes: map[string]sqsapi.MessageAttributeValue{"a": {DataType: new("String"), StringValue: new("v")}, "b": {DataType: new("Binary"), BinaryValue: []byte{0, 255}}},
	}
	out, err := c.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: want.QueueUrl, MessageBody: want.MessageBody, DelaySeconds: 3,
		MessageAttributes: map[string]sqstypes.MessageAttributeValue{"a": {DataType: new("String"), StringValue: new("v")}, "b": {DataType: new("Binary"), BinaryValue: []byte{0, 255}}},
	})
	if err != nil || *out.MessageId != "id" {
		t.Fatalf("%v, %v", out, err)
	}
	same(t, "json send", *send, want)
	_, err = c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: new("q")})
	if e, ok := errors.AsType[*sqstypes.QueueDoesNotExist](err); !ok || e.ErrorCode() != "AWS.SimpleQueueService.NonExistentQueue" {
		t.Errorf("typed error: %v", err)
	}

	// The same from clients that still speak Query.
	post := func(form string) (int, string) {
		t.Helper()
		req, _ := http.NewRequestWithContext(ctx, "POST", endpoint+"/123456789012/q", strings.NewReader(form))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20261124/eu-west-1/sqs/aws4_request")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	*send = sqsapi.SendMessageInput{}
	status, body := post("Action=SendMessage&Version=2012-11-05&QueueUrl=" + url.QueryEscape(*want.QueueUrl) + "&MessageBody=hello+%3C%26%3E&DelaySeconds=3" +
		"&MessageAttribute.1.Name=a&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=v" +
		"&MessageAttribute.2.Name=b&MessageAttribute.2.Value.DataType=Binary&MessageAttribute.2.Value.BinaryValue=AP8%3D")
	same(t, "query send", *send, want)
	if status != 200 || body != `<SendMessageResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><SendMessageResult><MD5OfMessageBody>md5</MD5OfMessageBody><MessageId>id</MessageId></SendMessageResult><ResponseMetadata><RequestId>0f4a9d9e-0000-4000-8000-000000000001</RequestId></ResponseMetadata></SendMessageResponse>` {
		t.Errorf("%d %s", status, body)
	}
	_, body = post("Action=GetQueueAttributes&QueueUrl=u&AttributeName.1=QueueArn&AttributeName.2=DelaySeconds")
	same(t, "query attributes", *attrs, sqsapi.GetQueueAttributesInput{QueueUrl: new("u"), AttributeNames: []string{"QueueArn", "DelaySeconds"}})
	if !strings.Contains(body, "<Attribute><Name>QueueArn</Name><Value>arn</Value></Attribute>") {
		t.Error(body)
	}
	_, body = post("Action=ReceiveMessage&QueueUrl=u")
	if !strings.Contains(body, "<Message><Body>b</Body><Attribute><Name>SentTimestamp</Name><Value>1</Value></Attribute><MessageAttribute><Name>m</Name><Value><BinaryValue>AQI=</BinaryValue><DataType>Binary</DataType></Value></MessageAttribute></Message>") {
		t.Error(body)
	}
	_, body = post("Action=SendMessageBatch&QueueUrl=u&SendMessageBatchRequestEntry.1.Id=1&SendMessageBatchRequestEntry.1.MessageBody=x&SendMessageBatchRequestEntry.2.Id=2&SendMessageBatchRequestEntry.2.MessageBody=y")
	same(t, "query batch", *batch, sqsapi.SendMessageBatchInput{QueueUrl: new("u"), Entries: []sqsapi.SendMessageBatchRequestEntry{{Id: new("1"), MessageBody: new("x")}, {Id: new("2"), MessageBody: new("y")}}})
	if !strings.Contains(body, "<SendMessageBatchResultEntry><Id>1</Id>") || !strings.Contains(body, "<BatchResultErrorEntry><Id>2</Id>") {
		t.Error(body)
	}
	status, body = post("Action=GetQueueUrl&QueueName=q")
	if status != 400 || !strings.Contains(body, "<Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code>") {
		t.Errorf("%d %s", status, body)
	}
	status, body = post("Action=SendMessage&QueueUrl=u&MessageBody=x&DelaySeconds=soon")
	if status != 400 || !strings.Contains(body, "<Code>MalformedInput</Code>") {
		t.Errorf("%d %s", status, body)
	}
	status, body = post("Action=Fly&Version=2012-11-05")
	if status != 400 || !strings.Contains(body, "<Code>InvalidAction</Code><Message>Could not find operation Fly for version 2012-11-05</Message>") {
		t.Errorf("%d %s", status, body)
	}
}

func TestKinesisClient(t *testing.T) {
	mux := mayfly.NewMux()
	put := handle(mux, kinesisapi.PutRecords, &kinesisapi.PutRecordsOutput{Records: []kinesisapi.PutRecordsResultEntry{{SequenceNumber: new("1"), ShardId: new("s")}}, FailedRecordCount: new(int32(0))}, nil)
	type event = kinesisapi.SubscribeToShardEventStream
	kinesisapi.SubscribeToShard.Handle(mux, func(context.Context, *kinesisapi.SubscribeToShardInput) (*kinesisapi.SubscribeToShardOutput, error) {
		return &kinesisapi.SubscribeToShardOutput{EventStream: func(yield func(*event, error) bool) {
			if yield(&event{SubscribeToShardEvent: &kinesisapi.SubscribeToShardEvent{ContinuationSequenceNumber: new("9"), MillisBehindLatest: new(int64(0)), Records: []kinesisapi.Record{{Data: []byte("d"), PartitionKey: new("p"), SequenceNumber: new("1")}}}}, nil) {
				yield(nil, kinesisapi.ErrResourceInUseException("another consumer"))
			}
		}}, nil
	})
	c := kinesis.NewFromConfig(config(t, server(t, mux)))
	out, err := c.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: new("s"), Records: []kinesistypes.PutRecordsRequestEntry{{Data: []byte{0, 1}, PartitionKey: new("p")}}})
	if err != nil || *out.FailedRecordCount != 0 || *out.Records[0].ShardId != "s" {
		t.Fatalf("%v, %v", out, err)
	}
	same(t, "put", *put, kinesisapi.PutRecordsInput{StreamName: new("s"), Records: []kinesisapi.PutRecordsRequestEntry{{Data: []byte{0, 1}, PartitionKey: new("p")}}})
	sub, err := c.SubscribeToShard(t.Context(), &kinesis.SubscribeToShardInput{ConsumerARN: new("arn:aws:kinesis:eu-west-1:123456789012:stream/s/consumer/c:1"), ShardId: new("shardId-0"), StartingPosition: &kinesistypes.StartingPosition{Type: kinesistypes.ShardIteratorTypeLatest}})
	if err != nil {
		t.Fatal(err)
	}
	s := sub.GetStream()
	n := 0
	for e := range s.Events() {
		if e, ok := e.(*kinesistypes.SubscribeToShardEventStreamMemberSubscribeToShardEvent); ok && string(e.Value.Records[0].Data) == "d" && *e.Value.ContinuationSequenceNumber == "9" {
			n++
		}
	}
	if _, ok := errors.AsType[*kinesistypes.ResourceInUseException](s.Err()); !ok || n != 1 {
		t.Errorf("%d events, then %v", n, s.Err())
	}
	s.Close()
}

func TestCloudWatchClient(t *testing.T) {
	mux := mayfly.NewMux()
	put := handle(mux, cloudwatchapi.PutMetricData, nil, nil)
	at := time.UnixMilli(1795500000250).UTC()
	handle(mux, cloudwatchapi.GetMetricData, &cloudwatchapi.GetMetricDataOutput{MetricDataResults: []cloudwatchapi.MetricDataResult{{Id: new("m"), Values: []float64{1, 0.5, -3}, Timestamps: []time.Time{at}}}}, nil)
	handle(mux, cloudwatchapi.GetDashboard, nil, cloudwatchapi.ErrDashboardNotFoundError("no dashboard"))
	endpoint := server(t, mux)
	c := cloudwatch.NewFromConfig(config(t, endpoint))
	ctx := t.Context()
	data := make([]cwtypes.MetricDatum, 500) // enough that the client compresses it
	want := make([]cloudwatchapi.MetricDatum, len(data))
	for i := range data {
		name := fmt.Sprintf("metric-%d", i)
		data[i] = cwtypes.MetricDatum{MetricName: &name, Value: new(float64(i) / 4), Timestamp: &at, Unit: cwtypes.StandardUnitCount, Dimensions: []cwtypes.Dimension{{Name: new("d"), Value: new("v")}}}
		want[i] = cloudwatchapi.MetricDatum{MetricName: &name, Value: new(float64(i) / 4), Timestamp: &at, Unit: new("Count"), Dimensions: []cloudwatchapi.Dimension{{Name: new("d"), Value: new("v")}}}
	}
	if _, err := c.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: new("n"), MetricData: data}); err != nil {
		t.Fatal(err)
	}
	same(t, "put", *put, cloudwatchapi.PutMetricDataInput{Namespace: new("n"), MetricData: want})
	out, err := c.GetMetricData(ctx, &cloudwatch.GetMetricDataInput{StartTime: &at, EndTime: &at, MetricDataQueries: []cwtypes.MetricDataQuery{{Id: new("m"), ReturnData: new(true)}}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "values", out.MetricDataResults[0].Values, []float64{1, 0.5, -3})
	if !out.MetricDataResults[0].Timestamps[0].Equal(at) {
		t.Errorf("timestamp %v", out.MetricDataResults[0].Timestamps[0])
	}
	_, err = c.GetDashboard(ctx, &cloudwatch.GetDashboardInput{DashboardName: new("d")})
	if e, ok := errors.AsType[*cwtypes.DashboardNotFoundError](err); !ok || *e.Message != "no dashboard" {
		t.Errorf("typed error: %v", err)
	}
	var query mayfly.Caller = queryCaller{endpoint}
	got, err := cloudwatchapi.GetMetricData.Call(ctx, query, &cloudwatchapi.GetMetricDataInput{StartTime: &at, EndTime: &at, MetricDataQueries: []cloudwatchapi.MetricDataQuery{{Id: new("m")}}})
	if err != nil || len(got.MetricDataResults[0].Values) != 3 {
		t.Errorf("query: %v, %v", got, err)
	}
}

// queryCaller speaks Query with services whose first protocol is another.
type queryCaller struct{ endpoint string }

func (c queryCaller) Call(ctx context.Context, op *mayfly.OpInfo, in, out any) error {
	codec := protocol.CodecFor(op.Service, mayfly.Query)
	req, err := codec.EncodeRequest(op, in)
	if err != nil {
		return err
	}
	hr, err := http.NewRequestWithContext(ctx, req.Method, c.endpoint+req.Path, bytes.NewReader(req.Body))
	if err != nil {
		return err
	}
	hr.Header = req.Header
	res, err := http.DefaultClient.Do(hr)
	if err != nil {
		return err
	}
	return codec.DecodeResponse(op, &protocol.Response{Status: res.StatusCode, Header: res.Header, Reader: res.Body}, out)
}

func TestS3Client(t *testing.T) {
	mux := mayfly.NewMux()
	var mu sync.Mutex
	objects := map[string]string{}
	var put s3api.PutObjectInput
	s3api.PutObject.Handle(mux, func(_ context.Context, in *s3api.PutObjectInput) (*s3api.PutObjectOutput, error) {
		b, err := io.ReadAll(in.Body)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		put = *in
		objects[*in.Key] = string(b)
		return &s3api.PutObjectOutput{ETag: new(`"e"`)}, nil
	})
	at := time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	s3api.GetObject.Handle(mux, func(_ context.Context, in *s3api.GetObjectInput) (*s3api.GetObjectOutput, error) {
		mu.Lock()
		defer mu.Unlock()
		b, ok := objects[*in.Key]
		if !ok {
			return nil, s3api.ErrNoSuchKey("The specified key does not exist.").With("Key", *in.Key)
		}
		return &s3api.GetObjectOutput{Body: io.NopCloser(strings.NewReader(b)), ContentType: new("text/x-test"), LastModified: &at, Metadata: map[string]string{"k": "v"}}, nil
	})
	handle(mux, s3api.ListObjectsV2, &s3api.ListObjectsV2Output{Name: new("b"), IsTruncated: new(true), KeyCount: new(int32(2)), CommonPrefixes: []s3api.CommonPrefix{{Prefix: new("p/")}}, Contents: []s3api.Object{
		{Key: new("a&b"), Size: new(int64(1) << 40), LastModified: &at, ChecksumAlgorithm: []string{"CRC32", "SHA256"}}, {Key: new("c")},
	}}, nil)
	handle(mux, s3api.GetBucketLocation, &s3api.GetBucketLocationOutput{LocationConstraint: new("eu-west-1")}, nil)
	acl := handle(mux, s3api.PutBucketAcl, nil, nil)
	handle(mux, s3api.GetBucketAcl, &s3api.GetBucketAclOutput{Grants: []s3api.Grant{{Permission: new("READ"), Grantee: &s3api.Grantee{Type: new("Group"), URI: new("http://g")}}}}, nil)
	complete := handle(mux, s3api.CompleteMultipartUpload, &s3api.CompleteMultipartUploadOutput{Bucket: new("b"), Key: new("k"), ETag: new(`"x-2"`)}, nil)
	del := handle(mux, s3api.DeleteObjects, &s3api.DeleteObjectsOutput{Deleted: []s3api.DeletedObject{{Key: new("a")}}, Errors: []s3api.Error{{Key: new("b"), Code: new("AccessDenied")}}}, nil)
	attrs := handle(mux, s3api.GetObjectAttributes, &s3api.GetObjectAttributesOutput{ObjectSize: new(int64(3)), LastModified: &at}, nil)

	c := s3.NewFromConfig(config(t, server(t, mux)), func(o *s3.Options) { o.UsePathStyle = true })
	ctx := t.Context()
	key := "dir/ü b+c//d"
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: new("b"), Key: &key, Body: strings.NewReader("content"), ContentType: new("text/plain"), Metadata: map[string]string{"one": "1", "Two": "2"}, Expires: &at}); err != nil {
		t.Fatal(err)
	}
	if *put.Bucket != "b" || *put.Key != key || objects[key] != "content" || *put.ContentType != "text/plain" || put.Metadata["one"] != "1" || put.Metadata["two"] != "2" || *put.Expires != "Tue, 24 Nov 2026 06:00:00 GMT" || *put.ContentLength != 7 {
		t.Errorf("put: %+v %q", put, objects)
	}
	get, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: new("b"), Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(get.Body)
	if string(b) != "content" || *get.ContentType != "text/x-test" || !get.LastModified.Equal(at) || get.Metadata["k"] != "v" {
		t.Errorf("get: %q %+v", b, get)
	}
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: new("b"), Key: new("none")})
	if _, ok := errors.AsType[*s3types.NoSuchKey](err); !ok || apiError(err).ErrorMessage() != "The specified key does not exist." {
		t.Errorf("typed error: %v", err)
	}
	l, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: new("b"), Prefix: new("p")})
	if err != nil || len(l.Contents) != 2 || *l.Contents[0].Key != "a&b" || *l.Contents[0].Size != 1<<40 || len(l.Contents[0].ChecksumAlgorithm) != 2 || *l.CommonPrefixes[0].Prefix != "p/" || !*l.IsTruncated {
		t.Errorf("list: %+v, %v", l, err)
	}
	if loc, err := c.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: new("b")}); err != nil || loc.LocationConstraint != "eu-west-1" {
		t.Errorf("location: %+v, %v", loc, err)
	}
	if _, err := c.PutBucketAcl(ctx, &s3.PutBucketAclInput{Bucket: new("b"), AccessControlPolicy: &s3types.AccessControlPolicy{Grants: []s3types.Grant{{Permission: "READ", Grantee: &s3types.Grantee{Type: "CanonicalUser", ID: new("i")}}}}}); err != nil {
		t.Fatal(err)
	}
	same(t, "acl", acl.AccessControlPolicy, &s3api.AccessControlPolicy{Grants: []s3api.Grant{{Permission: new("READ"), Grantee: &s3api.Grantee{Type: new("CanonicalUser"), ID: new("i")}}}})
	if a, err := c.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: new("b")}); err != nil || a.Grants[0].Grantee.Type != "Group" || *a.Grants[0].Grantee.URI != "http://g" {
		t.Errorf("acl: %+v, %v", a, err)
	}
	m, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: new("b"), Key: new("k"), UploadId: new("u"), MultipartUpload: &s3types.CompletedMultipartUpload{Parts: []s3types.CompletedPart{{ETag: new("1"), PartNumber: new(int32(1))}, {ETag: new("2"), PartNumber: new(int32(2))}}}})
	if err != nil || *m.ETag != `"x-2"` {
		t.Errorf("complete: %+v, %v", m, err)
	}
	same(t, "parts", complete.MultipartUpload, &s3api.CompletedMultipartUpload{Parts: []s3api.CompletedPart{{ETag: new("1"), PartNumber: new(int32(1))}, {ETag: new("2"), PartNumber: new(int32(2))}}})
	d, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: new("b"), Delete: &s3types.Delete{Quiet: new(true), Objects: []s3types.ObjectIdentifier{{Key: new("a")}, {Key: new("b"), VersionId: new("1")}}}})
	if err != nil || *d.Deleted[0].Key != "a" || *d.Errors[0].Code != "AccessDenied" {
		t.Errorf("delete: %+v, %v", d, err)
	}
	same(t, "delete", del.Delete, &s3api.Delete{Quiet: new(true), Objects: []s3api.ObjectIdentifier{{Key: new("a")}, {Key: new("b"), VersionId: new("1")}}})
	at2, err := c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: new("b"), Key: new("k"), ObjectAttributes: []s3types.ObjectAttributes{"ETag", "ObjectSize"}})
	if err != nil || *at2.ObjectSize != 3 || !at2.LastModified.Equal(at) {
		t.Errorf("attributes: %+v, %v", at2, err)
	}
	same(t, "attributes", attrs.ObjectAttributes, []string{"ETag", "ObjectSize"})
}
