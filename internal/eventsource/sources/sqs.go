package sources

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

// perCall is how many messages one operation takes of those that Mayfly calls for itself.
const perCall = 10_000

// queue implements eventsource.Queue.
type queue struct {
	caller   smithy.Caller
	roles    Roles
	function string
	arn      string
	url      string
	account  string
	region   string
	fifo     bool
	gathered bool // through a filter or in a window
}

func (s *Sources) openQueue(m *eventsource.Mapping, a arn.ARN) *queue {
	return &queue{
		caller: s.deps.Caller, roles: s.deps.Roles, function: m.FunctionARN, arn: m.SourceARN, account: a.Account, region: a.Region,
		url:      "https://sqs." + a.Region + ".amazonaws.com/" + a.Account + "/" + a.Resource,
		fifo:     strings.HasSuffix(a.Resource, ".fifo"),
		gathered: m.Filter != nil || m.Window > 0,
	}
}

// may returns a context for one action on the queue, which the function's role must be allowed. The call is Lambda's own, which is not held to ten messages.
func (q *queue) may(ctx context.Context, action string) (context.Context, error) {
	if _, err := q.roles.May(ctx, q.function, action, q.arn); err != nil {
		return nil, err
	}
	return call.AsService(ctx, "lambda", q.account, q.region), nil
}

// Take implements eventsource.Queue.
func (q *queue) Take(ctx context.Context, most int, visibility time.Duration) ([]eventsource.Record, error) {
	ctx, err := q.may(ctx, "sqs:ReceiveMessage")
	if err != nil {
		return nil, err
	}
	in := &sqsapi.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: new(int32(min(perCall, most))), WaitTimeSeconds: new(int32(0)),
		MessageSystemAttributeNames: []string{"All"}, MessageAttributeNames: []string{"All"},
	}
	if visibility > 0 {
		in.VisibilityTimeout = new(int32((visibility + time.Second - 1) / time.Second))
	}
	out, err := sqsapi.ReceiveMessage.Call(ctx, q.caller, in)
	if err != nil {
		return nil, queueError(err)
	}
	all := make([]eventsource.Record, len(out.Messages))
	for i := range out.Messages {
		all[i] = q.record(&out.Messages[i])
	}
	return all, nil
}

func queueError(err error) error {
	if code := apierr.Code(err); strings.HasSuffix(code, "NonExistentQueue") || code == "QueueDoesNotExist" {
		return fmt.Errorf("%w: %w", eventsource.ErrGone, err)
	}
	return err
}

// attributeOrder is the order in which AWS shows the system attributes of a message; others follow by name.
var attributeOrder = []string{
	"DeadLetterQueueSourceArn", "ApproximateReceiveCount", "AWSTraceHeader", "SentTimestamp", "SequenceNumber", "MessageGroupId", "SenderId",
	"MessageDeduplicationId", "ApproximateFirstReceiveTimestamp",
}

// record forms what a function gets of a message. The order of members is AWS's (recorded).
func (q *queue) record(m *sqsapi.Message) eventsource.Record {
	r := eventsource.Record{ID: *m.MessageId, Handle: *m.ReceiptHandle, Data: []byte(*m.Body), Receives: 1}
	r.Trace = m.Attributes["AWSTraceHeader"]
	r.Receives, _ = strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
	if ms, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64); err == nil {
		r.Arrival = time.UnixMilli(ms)
	}
	if q.fifo {
		r.Key = m.Attributes["MessageGroupId"]
	}
	b := make([]byte, 0, len(*m.Body)+len(*m.Body)/8+700)
	b = appendMember(append(b, '{'), "messageId", *m.MessageId)
	b = appendMember(append(b, ','), "receiptHandle", *m.ReceiptHandle)
	b = appendMember(append(b, ','), "body", *m.Body)
	b = append(b, `,"attributes":{`...)
	shown := 0
	attribute := func(name string) {
		if v, ok := m.Attributes[name]; ok {
			if shown > 0 {
				b = append(b, ',')
			}
			shown++
			b = appendMember(b, name, v)
		}
	}
	for _, name := range attributeOrder {
		attribute(name)
	}
	if shown < len(m.Attributes) {
		for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
			if !slices.Contains(attributeOrder, name) {
				attribute(name)
			}
		}
	}
	b = append(b, `},"messageAttributes":{`...)
	for i, name := range slices.Sorted(maps.Keys(m.MessageAttributes)) {
		if i > 0 {
			b = append(b, ',')
		}
		v := m.MessageAttributes[name]
		b, _ = jsontext.AppendQuote(b, name)
		b = append(b, ':', '{')
		switch {
		case v.StringValue != nil:
			b = append(appendMember(b, "stringValue", *v.StringValue), ',')
		case v.BinaryValue != nil:
			b = append(b, `"binaryValue":"`...)
			b = append(base64.StdEncoding.AppendEncode(b, v.BinaryValue), `",`...)
		}
		b = append(b, `"stringListValues":[],"binaryListValues":[],`...)
		b = append(appendMember(b, "dataType", *v.DataType), '}')
	}
	b = append(b, '}')
	switch {
	case m.MD5OfMessageAttributes != nil:
		b = appendMember(append(b, ','), "md5OfMessageAttributes", *m.MD5OfMessageAttributes)
	case q.gathered: // AWS: not where batches are handed on as they were received (recorded)
		b = append(b, `,"md5OfMessageAttributes":null`...)
	}
	b = appendMember(append(b, ','), "md5OfBody", *m.MD5OfBody)
	b = append(b, `,"eventSource":"aws:sqs"`...)
	b = appendMember(append(b, ','), "eventSourceARN", q.arn)
	b = appendMember(append(b, ','), "awsRegion", q.region)
	r.JSON = append(b, '}')
	return r
}

func appendMember(b []byte, name, value string) []byte {
	b = append(append(append(b, '"'), name...), `":`...)
	b, _ = jsontext.AppendQuote(b, value) // what is no UTF-8 is replaced
	return b
}

// Delete implements eventsource.Queue. It goes on although ctx ends: what was processed must not come again.
func (q *queue) Delete(ctx context.Context, messages []eventsource.Record) error {
	ctx, err := q.may(context.WithoutCancel(ctx), "sqs:DeleteMessage")
	if err != nil {
		return err
	}
	var failed []error
	for some := range slices.Chunk(messages, perCall) {
		in := &sqsapi.DeleteMessageBatchInput{QueueUrl: &q.url}
		for i, m := range some {
			in.Entries = append(in.Entries, sqsapi.DeleteMessageBatchRequestEntry{Id: new(strconv.Itoa(i)), ReceiptHandle: new(m.Handle)})
		}
		out, err := sqsapi.DeleteMessageBatch.Call(ctx, q.caller, in)
		if err != nil {
			failed = append(failed, queueError(err))
			continue
		}
		failed = append(failed, entryErrors(out.Failed)...)
	}
	return errors.Join(failed...)
}

// Hide implements eventsource.Queue. Whoever may receive messages may return them: AWS's managed policy for functions that read queues allows no more.
func (q *queue) Hide(ctx context.Context, messages []eventsource.Record, visibility time.Duration) error {
	ctx, err := q.may(ctx, "sqs:ReceiveMessage")
	if err != nil {
		return err
	}
	var failed []error
	for some := range slices.Chunk(messages, perCall) {
		in := &sqsapi.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url}
		for i, m := range some {
			in.Entries = append(in.Entries, sqsapi.ChangeMessageVisibilityBatchRequestEntry{
				Id: new(strconv.Itoa(i)), ReceiptHandle: new(m.Handle), VisibilityTimeout: new(int32((visibility + time.Second - 1) / time.Second)),
			})
		}
		out, err := sqsapi.ChangeMessageVisibilityBatch.Call(ctx, q.caller, in)
		if err != nil {
			failed = append(failed, queueError(err))
			continue
		}
		failed = append(failed, entryErrors(out.Failed)...)
	}
	return errors.Join(failed...)
}

// entryErrors are the failures of a batch that were not the sender's: a message whose receipt is no longer valid is another's by now.
func entryErrors(failures []sqsapi.BatchResultErrorEntry) (all []error) {
	for _, f := range failures {
		if f.SenderFault != nil && *f.SenderFault {
			continue
		}
		message := ""
		if f.Message != nil {
			message = *f.Message
		}
		all = append(all, errors.New(*f.Code+": "+message))
	}
	return all
}

// Describe implements eventsource.Queue.
func (q *queue) Describe(ctx context.Context) (visibility time.Duration, fifo bool, err error) {
	ctx, err = q.may(ctx, "sqs:GetQueueAttributes")
	if err != nil {
		return 0, q.fifo, err
	}
	out, err := sqsapi.GetQueueAttributes.Call(ctx, q.caller, &sqsapi.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []string{"VisibilityTimeout"}})
	if err != nil {
		return 0, q.fifo, queueError(err)
	}
	n, err := strconv.Atoi(out.Attributes["VisibilityTimeout"])
	return time.Duration(n) * time.Second, q.fifo, err
}
