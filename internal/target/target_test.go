package target_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/eventsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/s3api"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/target"
)

const (
	function = "arn:aws:lambda:eu-central-1:111122223333:function:f:live"
	queue    = "arn:aws:sqs:eu-west-1:111122223333:q"
	topic    = "arn:aws:sns:eu-central-1:111122223333:t"
	bus      = "arn:aws:events:eu-central-1:111122223333:event-bus/default"
	stream   = "arn:aws:kinesis:eu-west-1:111122223333:stream/s"
	bucket   = "arn:aws:s3:::b"
)

// TestDeliver shows the exact input of each operation.
func TestDeliver(t *testing.T) {
	mux := smithy.NewMux()
	var got string
	note := func(ctx context.Context, format string, args ...any) {
		info := call.From(ctx)
		got = fmt.Sprintf(info.Region+" "+info.Trace+" "+info.Principal.ARN+" "+format, args...)
	}
	lambdaapi.Invoke.Handle(mux, func(ctx context.Context, in *lambdaapi.InvokeInput) (*lambdaapi.InvokeOutput, error) {
		note(ctx, "%s %s %s", *in.FunctionName, *in.InvocationType, in.Payload)
		return nil, nil
	})
	sqsapi.SendMessage.Handle(mux, func(ctx context.Context, in *sqsapi.SendMessageInput) (*sqsapi.SendMessageOutput, error) {
		a := in.MessageAttributes["RequestID"]
		note(ctx, "%s %s %d %s=%s %s", *in.QueueUrl, *in.MessageBody, len(in.MessageAttributes), *a.DataType, *a.StringValue, *in.MessageSystemAttributes["AWSTraceHeader"].StringValue)
		return nil, nil
	})
	snsapi.Publish.Handle(mux, func(ctx context.Context, in *snsapi.PublishInput) (*snsapi.PublishOutput, error) {
		a := in.MessageAttributes["RequestID"]
		note(ctx, "%s %s %s=%s", *in.TopicArn, *in.Message, *a.DataType, *a.StringValue)
		return nil, nil
	})
	var failed *int32
	eventsapi.PutEvents.Handle(mux, func(ctx context.Context, in *eventsapi.PutEventsInput) (*eventsapi.PutEventsOutput, error) {
		e := in.Entries[0]
		note(ctx, "%d %s %s %s %s %s %s", len(in.Entries), *e.EventBusName, *e.Source, *e.DetailType, e.Resources, *e.Detail, *e.TraceHeader)
		return &eventsapi.PutEventsOutput{FailedEntryCount: failed, Entries: []eventsapi.PutEventsResultEntry{{ErrorCode: new("NotAuthorizedForSource"), ErrorMessage: new("no")}}}, nil
	})
	s3api.PutObject.Handle(mux, func(ctx context.Context, in *s3api.PutObjectInput) (*s3api.PutObjectOutput, error) {
		b, _ := io.ReadAll(in.Body)
		note(ctx, "%s %s %s %d %s", *in.Bucket, *in.Key, b, *in.ContentLength, *in.ContentType)
		return nil, nil
	})
	kinesisapi.PutRecord.Handle(mux, func(ctx context.Context, in *kinesisapi.PutRecordInput) (*kinesisapi.PutRecordOutput, error) {
		note(ctx, "%s %s %s", *in.StreamARN, *in.PartitionKey, in.Data)
		return nil, nil
	})
	to := target.New(mux, mux.Served)
	ctx := call.With(t.Context(), &call.Info{Account: "111122223333", Region: "eu-central-1", Principal: call.Principal{ARN: "role"}})
	e := &target.Event{
		Body: []byte("{}"), Attributes: []target.Attribute{{Name: "RequestID", Type: "String", Value: "id"}},
		Source: "lambda", DetailType: "kind", Resources: []string{"r"}, Key: "k", PartitionKey: "p", Trace: "Root=1",
	}
	for arn, want := range map[string]string{
		function: "eu-central-1 Root=1 role " + function + " Event {}",
		queue:    "eu-west-1 Root=1 role https://sqs.eu-west-1.amazonaws.com/111122223333/q {} 1 String=id Root=1",
		topic:    "eu-central-1 Root=1 role " + topic + " {} String=id",
		bus:      "eu-central-1 Root=1 role 1 " + bus + " lambda kind [r] {} Root=1",
		stream:   "eu-west-1 Root=1 role " + stream + " p {}",
		bucket:   "eu-central-1 Root=1 role b k {} 2 application/json",
	} {
		if err := to.Check(arn); err != nil {
			t.Errorf("%s: %v", arn, err)
		}
		if _, err := to.Deliver(ctx, arn, e); err != nil || got != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", arn, err, got, want)
		}
	}
	failed = new(int32(1))
	if _, err := to.Deliver(ctx, bus, e); apierr.Code(err) != "NotAuthorizedForSource" || !target.Permanent(err) {
		t.Errorf("an entry that was not put: %v", err)
	}
}

func TestCheck(t *testing.T) {
	mux := smithy.NewMux()
	to := target.New(mux, mux.Served)
	for arn, op := range map[string]string{
		function: "lambda:Invoke", queue: "sqs:SendMessage", topic: "sns:Publish", bus: "events:PutEvents", stream: "kinesis:PutRecord", bucket: "s3:PutObject",
	} {
		if err := to.Check(arn); err == nil || err.Error() != "NotImplemented: Mayfly does not serve "+lambdaAction(op)+" yet." {
			t.Errorf("%s: %v", arn, err)
		}
	}
	for _, arn := range []string{
		"", "q", "arn:aws:sqs:eu-west-1:111122223333:", "arn:aws:sqs:eu-west-1::q", "arn:aws:sqs::111122223333:q", "arn:aws:sqs:eu-west-1:111122223333:q:r",
		"arn:aws:lambda:eu-west-1:111122223333:layer:l", "arn:aws:events:eu-west-1:111122223333:rule/r", "arn:aws:events:eu-west-1:111122223333:event-bus/",
		"arn:aws:kinesis:eu-west-1:111122223333:stream/s/consumer/c:1", "arn:aws:kinesis:eu-west-1:111122223333:stream/", "arn:aws:s3:::b/k", "arn:aws:s3:eu-west-1:111122223333:b", "arn:aws:iam::111122223333:role/r",
	} {
		if err := to.Check(arn); !errors.Is(err, target.ErrUnknown) {
			t.Errorf("Check(%q) = %v", arn, err)
		}
		if _, err := to.Deliver(t.Context(), arn, &target.Event{}); !errors.Is(err, target.ErrUnknown) || !target.Permanent(err) {
			t.Errorf("Deliver(%q) = %v", arn, err)
		}
	}
}

// lambdaAction is the action of an operation, which for Invoke has another name.
func lambdaAction(op string) string {
	if op == "lambda:Invoke" {
		return lambdaapi.Invoke.Info.Action()
	}
	return op
}

func TestPermanent(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{apierr.New("AccessDenied", 403, "no"), true},
		{apierr.New("NotImplemented", 501, "no"), true},
		{apierr.New("ThrottlingException", 400, "no"), false},
		{apierr.New("TooManyRequestsException", 429, "no"), false},
		{apierr.New("InternalFailure", 500, "no"), false},
		{io.ErrUnexpectedEOF, false},
	} {
		if got := target.Permanent(c.err); got != c.want {
			t.Errorf("Permanent(%v) = %t", c.err, got)
		}
	}
}

// FuzzKindOf: what is known as a target is the ARN of a resource that has a name, in one account and region unless it is a bucket.
func FuzzKindOf(f *testing.F) {
	for _, s := range []string{function, queue, topic, bus, bucket, "", "arn:aws:sqs:::q", "arn:aws:sqs:r:a:q:x", "arn:aws:s3:r:a:b", "arn:aws:kinesis:eu-west-1:111122223333:stream/s/consumer/c:1", "arn:aws:kinesis:eu-west-1:111122223333:stream/", "arn:aws:s3:::b/k",
		"arn:aws:events:r:a:event-bus/", "arn:aws:events:r:a:rule/x", "arn:aws:lambda:us-east-1:111122223333:layer:l", "arn:aws:lambda:us-east-1:111122223333:function:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := target.KindOf(s)
		if err != nil {
			if err != target.ErrUnknown || k != "" {
				t.Fatalf("KindOf(%q) = %q, %v", s, k, err)
			}
			return
		}
		a, err := arn.Parse(s)
		if err != nil || a.Service != string(k) || a.Resource == "" || (a.Account == "" || a.Region == "") != (k == target.S3) {
			t.Fatalf("KindOf(%q) = %q; its ARN is %+v, %v", s, k, a, err)
		}
	})
}
