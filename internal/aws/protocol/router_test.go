package protocol_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/s3api"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/protocol/protocoltest/cloudwatchapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

var services = []*smithy.Service{
	s3api.Service, lambdaapi.Service, logsapi.Service, iamapi.Service, stsapi.Service,
	sqsapi.Service, kinesisapi.Service, cloudwatchapi.Service,
}

func TestMatch(t *testing.T) {
	r := protocol.NewRouter(services...)
	form := "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, method, path, query, signing string
		header                             map[string]string
		body                               string
		want, code                         string
	}{
		{name: "lambda list", method: "GET", path: "/2015-03-31/functions", signing: "lambda", want: "lambda:ListFunctions"},
		{name: "lambda list with slash", method: "GET", path: "/2015-03-31/functions/", signing: "lambda", want: "lambda:ListFunctions"},
		{name: "unsigned", method: "POST", path: "/2015-03-31/functions/f/invocations", want: "lambda:Invoke"},
		{name: "arn escaped", method: "GET", path: "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af/configuration", want: "lambda:GetFunctionConfiguration"},
		{name: "arn raw", method: "GET", path: "/2017-03-31/tags/arn:aws:lambda:us-east-1:123456789012:function:f", want: "lambda:ListTags"},
		{name: "query literal", method: "GET", path: "/2018-10-31/layers", query: "find=LayerVersion&Arn=x", want: "lambda:GetLayerVersionByArn"},
		{name: "no query literal", method: "GET", path: "/2018-10-31/layers", query: "Marker=x", want: "lambda:ListLayers"},
		{name: "query literal value", method: "GET", path: "/2019-09-30/functions/f/provisioned-concurrency", query: "List=ALL", want: "lambda:ListProvisionedConcurrencyConfigs"},
		{name: "one label short", method: "GET", path: "/2019-09-30/functions/f/provisioned-concurrency", query: "Qualifier=1", want: "lambda:GetProvisionedConcurrencyConfig"},
		{name: "empty label", method: "GET", path: "/2015-03-31/functions//configuration", signing: "lambda", code: "UnknownOperationException"},
		{name: "wrong method", method: "PATCH", path: "/2015-03-31/functions/f", signing: "lambda", code: "UnknownOperationException"},
		{name: "broken escape", method: "GET", path: "/2015-03-31/functions/%zz", signing: "lambda", code: "UnknownOperationException"},
		{name: "target", method: "POST", path: "/", header: map[string]string{"X-Amz-Target": "Logs_20140328.PutLogEvents"}, want: "logs:PutLogEvents"},
		{name: "unknown target", method: "POST", path: "/", header: map[string]string{"X-Amz-Target": "Logs_20140328.Nothing"}, code: "UnknownOperationException"},
		{name: "another's target", method: "POST", path: "/", signing: "lambda", header: map[string]string{"X-Amz-Target": "Logs_20140328.PutLogEvents"}, code: "UnknownOperationException"},
		{name: "query", method: "POST", path: "/", header: map[string]string{"Content-Type": form + "; charset=utf-8"}, body: "Action=GetCallerIdentity&Version=2011-06-15", want: "sts:GetCallerIdentity"},
		{name: "query in the URL", method: "GET", path: "/", query: "Action=GetUser&Version=2010-05-08", want: "iam:GetUser"},
		{name: "query by signing name", method: "POST", path: "/", signing: "sqs", header: map[string]string{"Content-Type": form}, body: "Action=SendMessage&Version=2012-11-05", want: "sqs:SendMessage"},
		{name: "queue in the path", method: "POST", path: "/123456789012/q", signing: "sqs", header: map[string]string{"Content-Type": form}, body: "Action=ReceiveMessage", want: "sqs:ReceiveMessage"},
		{name: "no such action", method: "POST", path: "/", signing: "iam", header: map[string]string{"Content-Type": form}, body: "Action=Fly&Version=2010-05-08", code: "InvalidAction"},
		{name: "no action", method: "POST", path: "/", signing: "iam", header: map[string]string{"Content-Type": form}, body: "x=y", code: "MissingAction"},
		{name: "posted by curl", method: "POST", path: "/2015-03-31/functions/f/invocations", header: map[string]string{"Content-Type": form}, body: `{"a":1}`, want: "lambda:Invoke"},
		{name: "a form for no one", method: "POST", path: "/", header: map[string]string{"Content-Type": form}, body: "x=y", code: "UnknownOperationException"},
		{name: "cbor", method: "POST", path: "/service/GraniteServiceVersion20100801/operation/ListMetrics", header: map[string]string{"Smithy-Protocol": "rpc-v2-cbor"}, want: "cloudwatch:ListMetrics"},
		{name: "cbor unknown", method: "POST", path: "/service/GraniteServiceVersion20100801/operation/Nope", header: map[string]string{"Smithy-Protocol": "rpc-v2-cbor"}, code: "UnknownOperationException"},
		{name: "s3 root", method: "GET", path: "/", signing: "s3", want: "s3:ListBuckets"},
		{name: "s3 bucket", method: "GET", path: "/b/", query: "list-type=2", signing: "s3", want: "s3:ListObjectsV2"},
		{name: "s3 object", method: "PUT", path: "/b/a/b%20c//d/", want: "s3:PutObject"},
		{name: "s3 copy", method: "PUT", path: "/b/k", header: map[string]string{"X-Amz-Copy-Source": "/b/k2"}, want: "s3:CopyObject"},
		{name: "s3 part", method: "PUT", path: "/b/k", query: "partNumber=1&uploadId=u", want: "s3:UploadPart"},
		{name: "s3 uploads", method: "POST", path: "/b/k", query: "uploads", want: "s3:CreateMultipartUpload"},
		{name: "s3 complete", method: "POST", path: "/b/k", query: "uploadId=u", want: "s3:CompleteMultipartUpload"},
		{name: "s3 location", method: "GET", path: "/b", query: "location", signing: "s3", want: "s3:GetBucketLocation"},
		{name: "not served", method: "GET", path: "/", signing: "braket", code: "NotImplemented"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := &protocol.Request{Method: c.method, Path: c.path, Query: c.query, Header: http.Header{}, Body: []byte(c.body)}
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			call, err := r.Match(req, c.signing)
			if apierr.Code(err) != c.code {
				t.Fatalf("error %v, want code %q", err, c.code)
			}
			if err != nil {
				if res := call.EncodeError(err, "id"); res.Status < 400 {
					t.Errorf("status %d", res.Status)
				}
				return
			}
			if call.Op.Action() != c.want {
				t.Errorf("matched %s, want %s", call.Op, c.want)
			}
		})
	}
}

// TestServiceNotServed looks at the error as clients of the service would read it.
func TestServiceNotServed(t *testing.T) {
	r := protocol.NewRouter()
	for signing, want := range map[string]string{
		"s3":     "<Error><Code>NotImplemented</Code><Message>Mayfly does not serve the service s3 yet.</Message>",
		"braket": `{"message":"Mayfly does not serve the service braket yet."}`,
	} {
		call, err := r.Match(&protocol.Request{Method: "GET", Path: "/", Header: http.Header{}}, signing)
		if res := call.EncodeError(err, "id"); res.Status != http.StatusNotImplemented || !strings.Contains(string(res.Body), want) {
			t.Errorf("%s: %d %s", signing, res.Status, res.Body)
		}
	}
}

// TestRoutes matches every REST operation of every service by a request made for it.
func TestRoutes(t *testing.T) {
	r := protocol.NewRouter(services...)
	for _, svc := range services {
		if !svc.Speaks(smithy.RESTJSON) && !svc.Speaks(smithy.RESTXML) {
			continue
		}
		for i := range svc.Ops {
			op := &svc.Ops[i]
			in := op.NewInput()
			fill(in, op.Input)
			req, err := protocol.CodecFor(svc, svc.Protocols[0]).EncodeRequest(op, in)
			if err != nil {
				t.Fatal(err)
			}
			call, err := r.Match(req, svc.SigningName)
			if err != nil {
				t.Errorf("%s %s?%s: %v", req.Method, req.Path, req.Query, err)
			} else if call.Op != op {
				t.Errorf("%s %s?%s: matched %s, want %s", req.Method, req.Path, req.Query, call.Op, op)
			}
		}
	}
}
