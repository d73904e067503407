// Package target delivers an event to what an ARN names: one table from ARN to operation, called through the gate for the principal of the
// context.
//
//	arn:aws:lambda:...:function:name[:qualifier]   lambda:Invoke with the type Event
//	arn:aws:sqs:...:queue                          sqs:SendMessage
//	arn:aws:sns:...:topic                          sns:Publish
//	arn:aws:events:...:event-bus/name              events:PutEvents
//	arn:aws:kinesis:...:stream/name                kinesis:PutRecord
//	arn:aws:s3:::bucket                            s3:PutObject
//
// It tries once. Whoever must not lose the event keeps it in a durable.Queue.
package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

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
)

// ErrUnknown is returned for an ARN that names nothing which takes events.
var ErrUnknown = errors.New("target: no operation delivers to this ARN")

// Kind is the service of a target, as its ARN names it.
type Kind string

// The kinds of targets.
const (
	Lambda      Kind = "lambda"
	SQS         Kind = "sqs"
	SNS         Kind = "sns"
	EventBridge Kind = "events"
	Kinesis     Kind = "kinesis"
	S3          Kind = "s3"
)

// Attribute is an attribute of a message. It reaches SQS and SNS only.
type Attribute struct {
	Name, Type, Value string // Type is String, Number or Binary, perhaps with a label; the Value of a Binary is its bytes
}

func (a *Attribute) binary() bool { return a.Type == "Binary" || strings.HasPrefix(a.Type, "Binary.") }

// Event is what is delivered.
type Event struct {
	Body       []byte // the message, the payload, the detail or the object
	Attributes []Attribute

	// Source, DetailType and Resources are of EventBridge's entry; Key is of S3's object.
	Source, DetailType string
	Resources          []string
	Key                string

	// PartitionKey is of Kinesis's record; the empty one stands for one that no other event has.
	PartitionKey string

	// Group and Duplicate are the message group and deduplication ids of a message to SQS or SNS; they may be empty.
	Group, Duplicate string

	// Trace is the X-Amzn-Trace-Id that goes with the event; it may be empty.
	Trace string
}

// Targets delivers events. Its methods may be called concurrently.
type Targets struct {
	caller smithy.Caller
	served func(*smithy.OpInfo) bool
}

// New returns Targets that call through caller, usually the gate. served says which operations have a handler.
func New(caller smithy.Caller, served func(*smithy.OpInfo) bool) *Targets {
	return &Targets{caller, served}
}

// KindOf reads what an ARN names. FIFO queues and topics are like others. The error is ErrUnknown.
func KindOf(target string) (Kind, error) {
	a, err := arn.Parse(target)
	if err != nil {
		return "", ErrUnknown
	}
	ok := a.Account != "" && a.Region != ""
	switch k := Kind(a.Service); k {
	case Lambda:
		_, named := arn.ParseFunction(target)
		if ok && named && strings.HasPrefix(a.Resource, "function:") {
			return k, nil
		}
	case SQS, SNS:
		if ok && !strings.ContainsAny(a.Resource, ":/") {
			return k, nil
		}
	case EventBridge:
		if name, is := strings.CutPrefix(a.Resource, "event-bus/"); ok && is && name != "" {
			return k, nil
		}
	case Kinesis:
		if name, is := strings.CutPrefix(a.Resource, "stream/"); ok && is && name != "" && !strings.Contains(name, "/") {
			return k, nil
		}
	case S3:
		if a.Account == "" && a.Region == "" && !strings.ContainsAny(a.Resource, ":/") {
			return k, nil
		}
	}
	return "", ErrUnknown
}

func operation(k Kind) *smithy.OpInfo {
	switch k {
	case Lambda:
		return lambdaapi.Invoke.Info
	case SQS:
		return sqsapi.SendMessage.Info
	case SNS:
		return snsapi.Publish.Info
	case EventBridge:
		return eventsapi.PutEvents.Info
	case Kinesis:
		return kinesisapi.PutRecord.Info
	case S3:
		return s3api.PutObject.Info
	}
	return nil
}

// Check says whether events can be delivered to a target here: nil, ErrUnknown, or an *apierr.Error with the code NotImplemented that names the
// operation which is not served. Whether the resource exists it does not know.
func (t *Targets) Check(target string) error {
	k, err := KindOf(target)
	if err != nil {
		return err
	}
	if op := operation(k); !t.served(op) {
		return smithy.NotImplemented(op)
	}
	return nil
}

// Deliver performs the target's operation once, for the principal of ctx and in the target's region. It returns what the target calls the
// event: the id of a message or of EventBridge's event, a sequence number, an object's key; nothing for functions. Its errors are ErrUnknown or the
// operation's own.
func (t *Targets) Deliver(ctx context.Context, target string, e *Event) (id string, err error) {
	k, err := KindOf(target)
	if err != nil {
		return "", err
	}
	a, _ := arn.Parse(target)
	info := *call.From(ctx)
	if a.Region != "" {
		info.Region = a.Region
	}
	if e.Trace != "" {
		info.Trace = e.Trace
	}
	ctx = call.With(ctx, &info)
	switch k {
	case Lambda:
		_, err = lambdaapi.Invoke.Call(ctx, t.caller, &lambdaapi.InvokeInput{
			FunctionName: &target, InvocationType: new(lambdaapi.InvocationTypeEvent), Payload: e.Body,
		})
	case SQS:
		in := &sqsapi.SendMessageInput{
			QueueUrl:          new("https://sqs." + a.Region + ".amazonaws.com/" + a.Account + "/" + a.Resource),
			MessageBody:       new(string(e.Body)),
			MessageAttributes: map[string]sqsapi.MessageAttributeValue{},
		}
		for _, x := range e.Attributes {
			v := sqsapi.MessageAttributeValue{DataType: new(x.Type)}
			if x.binary() {
				v.BinaryValue = []byte(x.Value)
			} else {
				v.StringValue = new(x.Value)
			}
			in.MessageAttributes[x.Name] = v
		}
		in.MessageGroupId, in.MessageDeduplicationId = some(e.Group), some(e.Duplicate)
		if e.Trace != "" {
			in.MessageSystemAttributes = map[string]sqsapi.MessageSystemAttributeValue{
				"AWSTraceHeader": {DataType: new("String"), StringValue: new(e.Trace)},
			}
		}
		out, err := sqsapi.SendMessage.Call(ctx, t.caller, in)
		if err != nil {
			return "", err
		}
		return text(out.MessageId), nil
	case SNS:
		in := &snsapi.PublishInput{TopicArn: &target, Message: new(string(e.Body)), MessageAttributes: map[string]snsapi.MessageAttributeValue{}}
		for _, x := range e.Attributes {
			v := snsapi.MessageAttributeValue{DataType: new(x.Type)}
			if x.binary() {
				v.BinaryValue = []byte(x.Value)
			} else {
				v.StringValue = new(x.Value)
			}
			in.MessageAttributes[x.Name] = v
		}
		in.MessageGroupId, in.MessageDeduplicationId = some(e.Group), some(e.Duplicate)
		out, err := snsapi.Publish.Call(ctx, t.caller, in)
		if err != nil {
			return "", err
		}
		return text(out.MessageId), nil
	case EventBridge:
		return t.putEvent(ctx, target, e)
	case Kinesis:
		key := e.PartitionKey
		if key == "" {
			key = call.NewRequestID()
		}
		out, err := kinesisapi.PutRecord.Call(ctx, t.caller, &kinesisapi.PutRecordInput{StreamARN: &target, PartitionKey: &key, Data: e.Body})
		if err != nil {
			return "", err
		}
		return text(out.SequenceNumber), nil
	case S3:
		_, err = s3api.PutObject.Call(ctx, t.caller, &s3api.PutObjectInput{
			Bucket: new(a.Resource), Key: new(e.Key), Body: io.NopCloser(bytes.NewReader(e.Body)),
			ContentLength: new(int64(len(e.Body))), ContentType: new("application/json"),
		})
		id = e.Key
	}
	return id, err
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// some is a member that is left out if it is empty.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// putEvent puts one entry, whose failure is in the answer.
func (t *Targets) putEvent(ctx context.Context, bus string, e *Event) (id string, err error) {
	entry := eventsapi.PutEventsRequestEntry{
		Source: new(e.Source), DetailType: new(e.DetailType), Resources: e.Resources, Detail: new(string(e.Body)), EventBusName: &bus,
	}
	if e.Trace != "" {
		entry.TraceHeader = new(e.Trace)
	}
	out, err := eventsapi.PutEvents.Call(ctx, t.caller, &eventsapi.PutEventsInput{Entries: []eventsapi.PutEventsRequestEntry{entry}})
	if err != nil {
		return "", err
	}
	if out.FailedEntryCount == nil || *out.FailedEntryCount == 0 {
		if len(out.Entries) > 0 {
			id = text(out.Entries[0].EventId)
		}
		return id, nil
	}
	code, message := "InternalFailure", "The entry was not put."
	if len(out.Entries) > 0 && out.Entries[0].ErrorCode != nil {
		code = *out.Entries[0].ErrorCode
		if m := out.Entries[0].ErrorMessage; m != nil {
			message = *m
		}
	}
	status := http.StatusBadRequest
	if code == "InternalFailure" || code == "ThrottlingException" || code == "InternalException" {
		status = http.StatusServiceUnavailable
	}
	return "", apierr.New(code, status, "%s", message)
}

// Permanent reports whether trying again is in vain unless somebody changes something: the caller is to blame, and not for being too fast.
func Permanent(err error) bool {
	if errors.Is(err, ErrUnknown) {
		return true
	}
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok {
		return false
	}
	status := e.HTTPStatus()
	return status == http.StatusNotImplemented || status >= 400 && status < 500 && status != http.StatusTooManyRequests && !strings.Contains(e.Code, "Throttl") && !strings.Contains(e.Code, "ThroughputExceeded")
}
