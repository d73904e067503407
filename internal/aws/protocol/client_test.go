package protocol_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/s3api"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/protocol/protocoltest/cloudwatchapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// TestClient calls one operation of each protocol with our own client.
func TestClient(t *testing.T) {
	mux := smithy.NewMux()
	invoke := handle(mux, lambdaapi.Invoke, &lambdaapi.InvokeOutput{StatusCode: new(int32(200)), Payload: []byte("2"), FunctionError: new("Unhandled")}, nil)
	logs := handle(mux, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsOutput{LogGroups: []logsapi.LogGroup{{LogGroupName: new("g")}}}, nil)
	role := handle(mux, iamapi.GetRole, nil, iamapi.ErrNoSuchEntityException("The role with name r cannot be found."))
	handle(mux, cloudwatchapi.GetDashboard, &cloudwatchapi.GetDashboardOutput{DashboardName: new("d")}, nil)
	s3api.PutObject.Handle(mux, func(_ context.Context, in *s3api.PutObjectInput) (*s3api.PutObjectOutput, error) {
		b, err := io.ReadAll(in.Body)
		return &s3api.PutObjectOutput{ETag: new(string(b))}, err
	})
	throttle := handle(mux, lambdaapi.GetFunction, nil, lambdaapi.ErrTooManyRequestsException("slow down").With("retryAfterSeconds", "7"))

	var signed []string
	c := &protocol.Client{Endpoint: server(t, mux) + "/", Sign: func(_ context.Context, r *http.Request, name string, body []byte) error {
		signed = append(signed, name)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20261124/eu-west-1/"+name+"/aws4_request")
		return nil
	}}
	ctx := t.Context()

	out, err := lambdaapi.Invoke.Call(ctx, c, &lambdaapi.InvokeInput{FunctionName: new("f:1"), Payload: []byte("1"), LogType: new("Tail")})
	if err != nil || string(out.Payload) != "2" || *out.FunctionError != "Unhandled" || *invoke.FunctionName != "f:1" || string(invoke.Payload) != "1" || *invoke.LogType != "Tail" {
		t.Errorf("invoke: %+v, %v", out, err)
	}
	groups, err := logsapi.DescribeLogGroups.Call(ctx, c, &logsapi.DescribeLogGroupsInput{LogGroupNamePrefix: new("/aws")})
	if err != nil || *groups.LogGroups[0].LogGroupName != "g" || *logs.LogGroupNamePrefix != "/aws" {
		t.Errorf("logs: %+v, %v", groups, err)
	}
	_, err = iamapi.GetRole.Call(ctx, c, &iamapi.GetRoleInput{RoleName: new("r")})
	if e, ok := errors.AsType[*apierr.Error](err); !ok || e.Code != "NoSuchEntityException" || e.Status != 404 || e.Message != "The role with name r cannot be found." || *role.RoleName != "r" {
		t.Errorf("iam: %#v", err)
	}
	if d, err := cloudwatchapi.GetDashboard.Call(ctx, c, &cloudwatchapi.GetDashboardInput{DashboardName: new("d")}); err != nil || *d.DashboardName != "d" {
		t.Errorf("cbor: %+v, %v", d, err)
	}
	if p, err := s3api.PutObject.Call(ctx, c, &s3api.PutObjectInput{Bucket: new("b"), Key: new("a/b c"), Body: io.NopCloser(strings.NewReader("body"))}); err != nil || *p.ETag != "body" {
		t.Errorf("s3: %+v, %v", p, err)
	}
	_, err = lambdaapi.GetFunction.Call(ctx, c, &lambdaapi.GetFunctionInput{FunctionName: new("f")})
	if e := apierr.From(err); e.Code != "TooManyRequestsException" || e.Members["retryAfterSeconds"] != "7" || e.Members["Type"] != "User" || *throttle.FunctionName != "f" {
		t.Errorf("throttled: %#v", e)
	}
	same(t, "signing names", signed, []string{"lambda", "logs", "iam", "monitoring", "s3", "lambda"})

	if _, err := lambdaapi.GetFunction.Call(ctx, c, &lambdaapi.GetFunctionInput{}); err == nil || apierr.Code(err) != "" {
		t.Errorf("an empty label: %v", err)
	}
	c.Sign = func(context.Context, *http.Request, string, []byte) error { return errors.New("no key") }
	if _, err := lambdaapi.ListFunctions.Call(ctx, c, &lambdaapi.ListFunctionsInput{}); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("signing: %v", err)
	}
	gone := &protocol.Client{Endpoint: "http://127.0.0.1:1"}
	if _, err := lambdaapi.ListFunctions.Call(ctx, gone, &lambdaapi.ListFunctionsInput{}); err == nil || apierr.Code(err) != "" || !strings.HasPrefix(err.Error(), "lambda:ListFunctions: ") {
		t.Errorf("no server: %v", err)
	}
}

// TestMalformed holds the errors of bodies that do not fit, with AWS's words where they are known.
func TestMalformed(t *testing.T) {
	put := logsapi.PutLogEvents.Info
	group := logsapi.DescribeLogGroups.Info
	for _, c := range []struct {
		op         *smithy.OpInfo
		body, want string
	}{
		{put, ``, ""},
		{put, `{`, ""},
		{put, `1`, ""},
		{put, `{"logGroupName":"x",}`, ""},
		{put, `{} {}`, ""},
		{put, `[]`, "Start of list found where not expected"},
		{put, `{"logGroupName":1}`, "NUMBER_VALUE can not be converted to a String"},
		{put, `{"logGroupName":true}`, "TRUE_VALUE can not be converted to a String"},
		{put, `{"logGroupName":[]}`, "Start of list found where not expected"},
		{put, `{"logGroupName":{}}`, "Start of structure or map found where not expected."},
		{put, `{"logEvents":"x"}`, "Expected list or null"},
		{put, `{"logEvents":{}}`, "Start of structure or map found where not expected."},
		{put, `{"logEvents":["x"]}`, "Expected null"},
		{put, `{"entity":"x"}`, "Expected null"},
		{group, `{"limit":"1"}`, "STRING_VALUE can not be converted to an Integer"},
		{group, `{"limit":false}`, "FALSE_VALUE can not be converted to an Integer"},
		{group, `{"limit":99999999999}`, ""},
	} {
		codec := protocol.CodecFor(logsapi.Service, smithy.JSON)
		err := codec.DecodeRequest(c.op, &protocol.Request{Body: []byte(c.body)}, c.op.NewInput())
		if e := apierr.From(err); e == nil || e.Code != "SerializationException" || e.Status != 400 || e.Message != c.want {
			t.Errorf("%s: got %v, want %q", c.body, err, c.want)
		}
	}
	// null is absence, everywhere; fractions are cut off; what is unknown is skipped.
	var in logsapi.PutLogEventsInput
	err := protocol.CodecFor(logsapi.Service, smithy.JSON).DecodeRequest(put, &protocol.Request{Body: []byte(`{"logGroupName":null,"logEvents":[null,{"timestamp":1.9,"message":null}],"x":{"y":[1]}}`)}, &in)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "nulls", in, logsapi.PutLogEventsInput{LogEvents: []logsapi.InputLogEvent{{Timestamp: new(int64(1))}}})
}

// TestWire pins what goes over the wire, byte by byte, where clients other than the SDKs look at it.
func TestWire(t *testing.T) {
	notFound := lambdaapi.ErrResourceNotFoundException("Function not found: f")
	for _, c := range []struct {
		res    *protocol.Response
		status int
		header map[string]string
		body   string
	}{
		{
			protocol.CodecFor(lambdaapi.Service, smithy.RESTJSON).EncodeError(lambdaapi.Service, notFound, "id"), 404,
			map[string]string{"x-amzn-ErrorType": "ResourceNotFoundException", "x-amzn-RequestId": "id", "Content-Type": "application/json"},
			`{"Type":"User","Message":"Function not found: f"}`,
		},
		{
			protocol.CodecFor(lambdaapi.Service, smithy.RESTJSON).EncodeError(lambdaapi.Service, apierr.New("ValidationException", 400, "1 validation error"), "id"), 400,
			map[string]string{"x-amzn-ErrorType": "ValidationException"}, `{"message":"1 validation error"}`,
		},
		{
			protocol.CodecFor(logsapi.Service, smithy.JSON).EncodeError(logsapi.Service, logsapi.ErrResourceNotFoundException("no group"), "id"), 400,
			map[string]string{"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": "id"}, `{"__type":"ResourceNotFoundException","message":"no group"}`,
		},
		{
			protocol.CodecFor(logsapi.Service, smithy.JSON).EncodeError(logsapi.Service, apierr.From(errors.New("secret")), "id"), 500,
			nil, `{"__type":"InternalFailure","message":"The request processing has failed because of an unknown error, exception or failure."}`,
		},
		{
			protocol.CodecFor(iamapi.Service, smithy.Query).EncodeError(iamapi.Service, iamapi.ErrNoSuchEntityException("no <role>"), "id"), 404,
			map[string]string{"Content-Type": "text/xml", "x-amzn-RequestId": "id"},
			`<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>no &lt;role&gt;</Message></Error><RequestId>id</RequestId></ErrorResponse>`,
		},
		{
			protocol.CodecFor(s3api.Service, smithy.RESTXML).EncodeError(s3api.Service, s3api.ErrNoSuchKey("gone").With("Key", "k"), "id"), 404,
			map[string]string{"Content-Type": "application/xml", "x-amz-request-id": "id"},
			`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<Error><Code>NoSuchKey</Code><Message>gone</Message><Key>k</Key><RequestId>id</RequestId></Error>`,
		},
	} {
		if c.res.Status != c.status || string(c.res.Body) != c.body {
			t.Errorf("got  %d %s\nwant %d %s", c.res.Status, c.res.Body, c.status, c.body)
		}
		for k, v := range c.header {
			if got := c.res.Header.Get(k); got != v {
				t.Errorf("%s: got %q, want %q", k, got, v)
			}
		}
	}
	res, err := protocol.CodecFor(s3api.Service, smithy.RESTXML).EncodeResponse(s3api.GetBucketLocation.Info, &s3api.GetBucketLocationOutput{LocationConstraint: new("eu-west-1")}, "id")
	if want := `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">eu-west-1</LocationConstraint>`; err != nil || string(res.Body) != want {
		t.Errorf("got %s, want %s", res.Body, want)
	}
}
