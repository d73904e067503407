package sqs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/queue"
)

func text(kind, value string) sqsapi.MessageAttributeValue {
	return sqsapi.MessageAttributeValue{DataType: &kind, StringValue: &value}
}

// The digests are AWS's, as recorded.
func TestDigests(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", map[string]string{"VisibilityTimeout": "0"})
	sent := do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("msg"), MessageAttributes: map[string]sqsapi.MessageAttributeValue{
		"Help.Me": text("String", "Me"), "Hello": text("String", "There"), "General": text("String", "Kenobi"),
	}})
	if *sent.MD5OfMessageAttributes != "4c360f3fdafd970e05fae2f149d997f5" || *sent.MD5OfMessageBody != "6e2baaf3b97dbeef01c0043275f9a0e7" || sent.MD5OfMessageSystemAttributes != nil {
		t.Errorf("%s %s", *sent.MD5OfMessageAttributes, *sent.MD5OfMessageBody)
	}
	for _, c := range []struct {
		names  []string
		digest string
		chosen string
	}{
		{nil, "", ""},
		{[]string{"All"}, "4c360f3fdafd970e05fae2f149d997f5", "General Hello Help.Me"},
		{[]string{"*"}, "4c360f3fdafd970e05fae2f149d997f5", "General Hello Help.Me"},
		{[]string{".*"}, "4c360f3fdafd970e05fae2f149d997f5", "General Hello Help.Me"},
		{[]string{"Foo", "Help"}, "", ""},
		{[]string{"Hello", "General"}, "fca026605781cb4126a1e9044df24232", "General Hello"},
		{[]string{"Foo", "Hello"}, "a311262e065454b75da111d535b8dacd", "Hello"},
		{[]string{"Hel.*"}, "83fee93c1bcd8b9a5a923ffacdc636c7", "Hello Help.Me"},
		{[]string{"AWS."}, "", ""},
		{[]string{"..foo"}, "", ""},
	} {
		m := w.receive(&sqsapi.ReceiveMessageInput{QueueUrl: url, MessageAttributeNames: c.names})[0]
		digest := ""
		if m.MD5OfMessageAttributes != nil {
			digest = *m.MD5OfMessageAttributes
		}
		var chosen []string
		for k := range m.MessageAttributes {
			chosen = append(chosen, k)
		}
		slices.Sort(chosen)
		if digest != c.digest || strings.Join(chosen, " ") != c.chosen {
			t.Errorf("%v: %s %v", c.names, digest, chosen)
		}
	}
	binary := []attribute{{"attr1", "Binary", true, "traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01"}}
	if got := attributesMD5(binary); got != "8cbe4db156db8a94db8b801b7addb984" {
		t.Error(got)
	}
	traced := do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), MessageSystemAttributes: map[string]sqsapi.MessageSystemAttributeValue{
		"AWSTraceHeader": {DataType: new("String"), StringValue: new("Root=1-5759e988-bd862e3fe1be46a994272793")},
	}})
	if traced.MD5OfMessageSystemAttributes == nil || traced.MD5OfMessageAttributes != nil {
		t.Errorf("%+v", traced)
	}
}

func TestMessagesRefused(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", map[string]string{"MaximumMessageSize": "1024"})
	fifo := w.create("q.fifo", map[string]string{"FifoQueue": "true"})
	attributes := func(name string, v sqsapi.MessageAttributeValue) *sqsapi.SendMessageInput {
		return &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), MessageAttributes: map[string]sqsapi.MessageAttributeValue{name: v}}
	}
	eleven := &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), MessageAttributes: map[string]sqsapi.MessageAttributeValue{}}
	for i := range 11 {
		eleven.MessageAttributes[fmt.Sprint("a", i)] = text("String", "x")
	}
	const ids = " can only include alphanumeric and punctuation characters. 1 to 128 in length."
	const types = "The type of message (user) attribute 'X' is invalid. You must use only the following supported type prefixes: Binary, Number, String."
	for _, c := range []struct {
		in            *sqsapi.SendMessageInput
		code, message string
	}{
		{&sqsapi.SendMessageInput{QueueUrl: url}, missingOne, "The request must contain the parameter MessageBody."},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("")}, missingOne, "The request must contain the parameter MessageBody."},
		{&sqsapi.SendMessageInput{MessageBody: new("m")}, missingOne, "The request must contain the parameter QueueUrl."},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("a\x00")}, "InvalidMessageContents", "Invalid binary character '#x0' was found in the message body, the set of allowed characters is #x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]."},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("a\uFFFF")}, "InvalidMessageContents", "Invalid binary character '#xFFFF' was found in the message body, the set of allowed characters is #x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]."},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("a\xff")}, "InvalidMessageContents", ""},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new(strings.Repeat("a", 1025))}, invalidValue, "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), DelaySeconds: new(int32(901))}, invalidValue, "Value 901 for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), MessageGroupId: new("")}, invalidValue, "Value  for parameter MessageGroupId is invalid. Reason: MessageGroupId" + ids},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), MessageGroupId: new("group 123")}, invalidValue, "Value group 123 for parameter MessageGroupId is invalid. Reason: MessageGroupId" + ids},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), MessageDeduplicationId: new("x")}, invalidValue, "Value x for parameter MessageDeduplicationId is invalid. Reason: The request includes a parameter that is not valid for this queue type."},
		{&sqsapi.SendMessageInput{QueueUrl: fifo, MessageBody: new("m"), MessageGroupId: new("g"), MessageDeduplicationId: new("d"), DelaySeconds: new(int32(2))}, invalidValue, "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type."},
		{&sqsapi.SendMessageInput{QueueUrl: fifo, MessageBody: new("m"), MessageDeduplicationId: new("d")}, missingOne, "The request must contain the parameter MessageGroupId."},
		{&sqsapi.SendMessageInput{QueueUrl: fifo, MessageBody: new("m"), MessageGroupId: new("g")}, invalidValue, "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"},
		{eleven, invalidValue, "Number of message attributes [11] exceeds the allowed maximum [10]."},
		{attributes("X", text("String", "")), invalidValue, "Message (user) attribute 'X' must contain a non-empty value of type 'String'."},
		{attributes("X", sqsapi.MessageAttributeValue{}), invalidValue, "The message (user) attribute 'X' must contain a non-empty message attribute value."},
		{attributes("X", text("", "v")), invalidValue, "The message (user) attribute 'X' must contain a non-empty message attribute type."},
		{attributes("X", text("Text", "v")), invalidValue, types},
		{attributes("X", text("Stringy", "v")), invalidValue, types},
		{attributes("X", text("Number", "v")), invalidValue, "Can't cast the value of message (user) attribute 'X' to a number."},
		{attributes("X", text("Binary", "v")), invalidValue, "Message (user) attribute 'X' must contain a non-empty value of type 'Binary'."},
		{attributes("X", sqsapi.MessageAttributeValue{DataType: new("String"), BinaryValue: []byte("v")}), invalidValue, "Message (user) attribute 'X' must contain a non-empty value of type 'String'."},
		{attributes("X", sqsapi.MessageAttributeValue{DataType: new("String"), StringListValues: []string{"v"}}), invalidValue, "Message attribute list values in SendMessage operation are not supported."},
		{attributes("X", text("String", "\x01")), invalidValue, ""},
		{attributes("AWS.x", text("String", "v")), invalidValue, "You can't use message attribute names beginning with 'AWS.' or 'Amazon'. These strings are reserved for internal use."},
		{attributes("amazon.x", text("String", "v")), invalidValue, ""},
		{attributes(".x", text("String", "v")), invalidValue, ""},
		{attributes("x.", text("String", "v")), invalidValue, ""},
		{attributes("x..y", text("String", "v")), invalidValue, ""},
		{attributes("x y", text("String", "v")), invalidValue, ""},
		{attributes("", text("String", "v")), invalidValue, "The request must contain non-empty message (user) attribute names."},
		{attributes(strings.Repeat("x", 257), text("String", "v")), invalidValue, "Message (user) attribute name must be shorter than 256 bytes."},
		{attributes("x", text("String."+strings.Repeat("x", 250), "v")), invalidValue, "Message (user) attribute type must be shorter than 256 bytes."},
		{&sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), MessageSystemAttributes: map[string]sqsapi.MessageSystemAttributeValue{"Hello": {DataType: new("String"), StringValue: new("x")}}}, invalidValue, "Message system attribute name 'Hello' is invalid."},
	} {
		refused(w, sqsapi.SendMessage, c.in, c.code, c.message)
	}
	w.wantCounts(url, "0", "0", "0")
	for _, v := range []string{"1", "-1.5", "1e10", " 7 ", "0.00000000000000000001", "+3", strings.Repeat("9", 38)} {
		do(w, sqsapi.SendMessage, attributes("n", text("Number.int", v)))
	}
	for _, v := range []string{"", ".", "e1", "1e", "--1", "0x10", "1,0", "NaN", strings.Repeat("9", 39)} {
		refused(w, sqsapi.SendMessage, attributes("n", text("Number", v)), invalidValue, "")
	}
}

func TestReceiveRefused(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", nil)
	for _, c := range []struct {
		in      sqsapi.ReceiveMessageInput
		message string
	}{
		{sqsapi.ReceiveMessageInput{MaxNumberOfMessages: new(int32(11))}, "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."},
		{sqsapi.ReceiveMessageInput{MaxNumberOfMessages: new(int32(0))}, "Value 0 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."},
		{sqsapi.ReceiveMessageInput{WaitTimeSeconds: new(int32(21))}, "Value 21 for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."},
		{sqsapi.ReceiveMessageInput{WaitTimeSeconds: new(int32(-1))}, "Value -1 for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."},
		{sqsapi.ReceiveMessageInput{VisibilityTimeout: new(int32(43201))}, "Value 43201 for parameter VisibilityTimeout is invalid. Reason: Must be >= 0 and <= 43200, if provided."},
	} {
		c.in.QueueUrl = url
		refused(w, sqsapi.ReceiveMessage, &c.in, invalidValue, c.message)
	}
	refused(w, sqsapi.ReceiveMessage, &sqsapi.ReceiveMessageInput{QueueUrl: url, AttributeNames: []string{"X"}}, "InvalidAttributeName", "Unknown Attribute X.")
}

func TestHandles(t *testing.T) {
	w := newWorld(t)
	url, other := w.create("q", nil), w.create("other", nil)
	w.send(url, "a")
	m := w.one(url)
	for _, h := range []string{"x", "garbage==", *m.ReceiptHandle + "A", strings.Repeat("A", 55) + "="} {
		refused(w, sqsapi.DeleteMessage, &sqsapi.DeleteMessageInput{QueueUrl: url, ReceiptHandle: &h}, "ReceiptHandleIsInvalid", `The input receipt handle "`+h+`" is not a valid receipt handle.`)
	}
	refused(w, sqsapi.DeleteMessage, &sqsapi.DeleteMessageInput{QueueUrl: other, ReceiptHandle: m.ReceiptHandle}, "ReceiptHandleIsInvalid", "")
	refused(w, sqsapi.DeleteMessage, &sqsapi.DeleteMessageInput{QueueUrl: url}, missingOne, "The request must contain the parameter ReceiptHandle.")
	for _, v := range []int32{-1, 43201} {
		refused(w, sqsapi.ChangeMessageVisibility, &sqsapi.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: &v}, invalidValue, fmt.Sprintf("Value %d for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200.", v))
	}
	w.remove(url, m, m)
	w.wantCounts(url, "0", "0", "0")
	refused(w, sqsapi.ChangeMessageVisibility, &sqsapi.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: new(int32(1))}, invalidValue,
		"Value "+*m.ReceiptHandle+" for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change.")
}

func TestBatches(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", map[string]string{"MaximumMessageSize": "1024"})
	send := func(entries ...sqsapi.SendMessageBatchRequestEntry) *sqsapi.SendMessageBatchInput {
		return &sqsapi.SendMessageBatchInput{QueueUrl: url, Entries: entries}
	}
	entry := func(id, body string) sqsapi.SendMessageBatchRequestEntry {
		return sqsapi.SendMessageBatchRequestEntry{Id: &id, MessageBody: &body}
	}
	refused(w, sqsapi.SendMessageBatch, send(), "EmptyBatchRequest", "There should be at least one SendMessageBatchRequestEntry in the request.")
	refused(w, sqsapi.DeleteMessageBatch, &sqsapi.DeleteMessageBatchInput{QueueUrl: url}, "EmptyBatchRequest", "There should be at least one DeleteMessageBatchRequestEntry in the request.")
	refused(w, sqsapi.SendMessageBatch, send(slices.Repeat([]sqsapi.SendMessageBatchRequestEntry{entry("a", "x")}, 20)...), "TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent 20.")
	refused(w, sqsapi.SendMessageBatch, send(entry("a", "x"), entry("b", "x"), entry("a", "x")), "BatchEntryIdsNotDistinct", "Id a repeated.")
	for _, id := range []string{"", "a:b", strings.Repeat("a", 81)} {
		refused(w, sqsapi.SendMessageBatch, send(entry(id, "x")), "InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
	}
	refused(w, sqsapi.SendMessageBatch, send(entry("a", strings.Repeat("x", maxMessage)), entry("b", "x")), "BatchRequestTooLong", "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.")

	bad := entry("delay", "x")
	bad.DelaySeconds = new(int32(1000))
	out := do(w, sqsapi.SendMessageBatch, send(entry("1", "a"), entry("long", strings.Repeat("x", 1025)), bad, entry("empty", ""), entry("2", "b")))
	var failed []string
	for _, f := range out.Failed {
		failed = append(failed, *f.Id+" "+*f.Code+" "+*f.Message)
	}
	want := []string{
		"long InvalidParameterValue One or more parameters cannot be validated. Reason: Message must be shorter than 1024 bytes.",
		"delay InvalidParameterValue Value 1000 for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900.",
		"empty EmptyValue The request must contain the parameter MessageBody.",
	}
	if len(out.Successful) != 2 || !slices.Equal(failed, want) {
		t.Errorf("%+v\n%s", out.Successful, strings.Join(failed, "\n"))
	}
	ms := w.wantBodies(url, "a b")

	change := do(w, sqsapi.ChangeMessageVisibilityBatch, &sqsapi.ChangeMessageVisibilityBatchInput{QueueUrl: url, Entries: []sqsapi.ChangeMessageVisibilityBatchRequestEntry{
		{Id: new("1"), ReceiptHandle: ms[0].ReceiptHandle, VisibilityTimeout: new(int32(0))}, {Id: new("2"), ReceiptHandle: ms[1].ReceiptHandle, VisibilityTimeout: new(int32(50000))},
		{Id: new("3"), ReceiptHandle: ms[1].ReceiptHandle}, {Id: new("4"), ReceiptHandle: new("x"), VisibilityTimeout: new(int32(0))},
	}})
	if len(change.Successful) != 1 || len(change.Failed) != 3 || *change.Failed[2].Code != "ReceiptHandleIsInvalid" {
		t.Errorf("%+v", change)
	}
	w.wantCounts(url, "1", "1", "0")
	gone := do(w, sqsapi.DeleteMessageBatch, &sqsapi.DeleteMessageBatchInput{QueueUrl: url, Entries: []sqsapi.DeleteMessageBatchRequestEntry{
		{Id: new("1"), ReceiptHandle: ms[0].ReceiptHandle}, {Id: new("2"), ReceiptHandle: ms[1].ReceiptHandle}, {Id: new("3"), ReceiptHandle: new("x")},
	}})
	if len(gone.Successful) != 2 || len(gone.Failed) != 1 || !*gone.Failed[0].SenderFault {
		t.Errorf("%+v", gone)
	}
	w.wantCounts(url, "0", "0", "0")
}

func TestSystemAttributes(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", map[string]string{"VisibilityTimeout": "0"})
	do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m"), MessageGroupId: new("tenant"), MessageSystemAttributes: map[string]sqsapi.MessageSystemAttributeValue{
		"AWSTraceHeader": {DataType: new("String"), StringValue: new("Root=1")},
	}})
	if m := w.receive(&sqsapi.ReceiveMessageInput{QueueUrl: url})[0]; m.Attributes != nil {
		t.Errorf("%v without being asked", m.Attributes)
	}
	m := w.one(url)
	for k, want := range map[string]string{"SenderId": account, "ApproximateReceiveCount": "2", "MessageGroupId": "tenant", "AWSTraceHeader": "Root=1"} {
		if m.Attributes[k] != want {
			t.Errorf("%s is %q", k, m.Attributes[k])
		}
	}
	if len(m.Attributes) != 6 {
		t.Errorf("%v", m.Attributes)
	}
	some := w.receive(&sqsapi.ReceiveMessageInput{QueueUrl: url, MessageSystemAttributeNames: []string{"SenderId"}})[0]
	if len(some.Attributes) != 1 {
		t.Errorf("%v", some.Attributes)
	}
}

func FuzzMessage(f *testing.F) {
	m := message{sender: "s", dedup: "d", trace: "t", source: "arn", receives: 3, body: "body", attributes: []attribute{{"a", "String", false, "v"}, {"b", "Binary", true, "\x00"}}}
	f.Add(m.encode())
	f.Add([]byte{})
	f.Add([]byte{messageVersion})
	f.Add(append(make([]byte, 17), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			return
		}
		again, err := decodeMessage(m.encode())
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%+v became %+v: %v", m, again, err)
		}
	})
}

func FuzzHandle(f *testing.F) {
	q := &queueState{record: record{ID: "0123456789abcdef", Purges: 2}}
	l := queue.Lease{ID: queue.ID{Due: 5, Seq: 1 << 60}, Takes: 3}
	f.Add(q.receiptHandle(l))
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		got, gone, err := q.lease(&s)
		if err == nil && !gone && q.receiptHandle(got) != s {
			t.Errorf("%q is another handle of %+v", s, got)
		}
	})
}

func TestHandleRoundTrip(t *testing.T) {
	q := &queueState{record: record{ID: newID(), Purges: 2}}
	l := queue.Lease{ID: queue.ID{Due: 5, Seq: 1 << 60}, Takes: 3}
	h := q.receiptHandle(l)
	if got, gone, err := q.lease(&h); err != nil || gone || got != l {
		t.Errorf("%+v %t %v", got, gone, err)
	}
	q.Purges++
	if _, gone, err := q.lease(&h); err != nil || !gone {
		t.Errorf("%t %v", gone, err)
	}
}

// Mayfly itself, which reads queues for functions, receives, returns and deletes as many messages at once as a batch may have.
func TestOwnBatches(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", nil)
	for range 15 {
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m")})
	}
	receive := &sqsapi.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: new(int32(10_000)), MessageSystemAttributeNames: []string{"All"}}
	refused(w, sqsapi.ReceiveMessage, receive, invalidValue, "Value 10000 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.")
	w.ctx = call.AsService(w.ctx, "lambda", account, region)
	for _, receives := range []string{"1", "2"} {
		got := do(w, sqsapi.ReceiveMessage, receive).Messages
		if len(got) != 15 || got[14].Attributes["ApproximateReceiveCount"] != receives {
			t.Fatalf("received %d: %+v", len(got), got)
		}
		hide, remove := &sqsapi.ChangeMessageVisibilityBatchInput{QueueUrl: url}, &sqsapi.DeleteMessageBatchInput{QueueUrl: url}
		for i := range got {
			hide.Entries = append(hide.Entries, sqsapi.ChangeMessageVisibilityBatchRequestEntry{Id: new("same"), ReceiptHandle: got[i].ReceiptHandle, VisibilityTimeout: new(int32(0))})
			remove.Entries = append(remove.Entries, sqsapi.DeleteMessageBatchRequestEntry{Id: new("same"), ReceiptHandle: got[i].ReceiptHandle})
		}
		if receives == "1" {
			do(w, sqsapi.ChangeMessageVisibilityBatch, hide)
		} else {
			do(w, sqsapi.DeleteMessageBatch, remove)
		}
	}
	if got := do(w, sqsapi.ReceiveMessage, receive).Messages; len(got) != 0 {
		t.Errorf("%d messages were not deleted", len(got))
	}
}
