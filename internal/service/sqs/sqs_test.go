package sqs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/gate"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

const account, region = "111122223333", "us-east-1"

// world is the service on a store in memory, called through a gate.
type world struct {
	t    testing.TB
	db   kv.DB
	s    *Service
	gate *gate.Gate
	ctx  context.Context
	stop func()
}

func newWorld(t testing.TB) *world {
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, ctx: as(context.Background(), account)}
	w.restart()
	t.Cleanup(func() {
		w.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func as(ctx context.Context, account string) context.Context {
	return call.With(ctx, &call.Info{
		Account: account, Region: region, Host: "127.0.0.1:4566",
		Principal: call.Principal{Type: call.Root, ARN: "arn:aws:iam::" + account + ":root", UserID: account},
	})
}

// restart forgets everything that is not in the store.
func (w *world) restart() {
	if w.stop != nil {
		w.stop()
	}
	var err error
	if w.s, err = New(Deps{DB: w.db}); err != nil {
		w.t.Fatal(err)
	}
	mux := smithy.NewMux()
	w.s.Register(mux)
	w.gate = gate.New(mux, gate.Authenticated{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.s.Run(ctx)
	}()
	w.stop = func() { cancel(); <-ended }
}

// timed runs a test under a clock of its own.
func timed(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t)) })
}

// sleep lets time pass, and what was due then happen.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// do performs an operation that succeeds.
func do[In, Out any](w *world, op smithy.Op[In, Out], in *In) *Out {
	w.t.Helper()
	out, err := op.Call(w.ctx, w.gate, in)
	if err != nil {
		w.t.Fatalf("%s: %v", op.Info.Name, err)
	}
	return out
}

// refused performs an operation that fails, with a message unless that is "".
func refused[In, Out any](w *world, op smithy.Op[In, Out], in *In, code, message string) {
	w.t.Helper()
	_, err := op.Call(w.ctx, w.gate, in)
	e := apierr.From(err)
	if e == nil || e.Code != code || message != "" && e.Message != message {
		w.t.Errorf("%s: %v, want %s: %s", op.Info.Name, err, code, message)
	}
}

const (
	invalidValue = "InvalidParameterValueException"
	missingOne   = "MissingRequiredParameterException"
)

func (w *world) create(name string, attributes map[string]string) *string {
	w.t.Helper()
	return do(w, sqsapi.CreateQueue, &sqsapi.CreateQueueInput{QueueName: &name, Attributes: attributes}).QueueUrl
}

func (w *world) attributes(url *string, names ...string) map[string]string {
	w.t.Helper()
	if names == nil {
		names = []string{"All"}
	}
	return do(w, sqsapi.GetQueueAttributes, &sqsapi.GetQueueAttributesInput{QueueUrl: url, AttributeNames: names}).Attributes
}

func (w *world) set(url *string, attributes map[string]string) {
	w.t.Helper()
	do(w, sqsapi.SetQueueAttributes, &sqsapi.SetQueueAttributesInput{QueueUrl: url, Attributes: attributes})
}

// counts are visible, in flight, delayed.
func (w *world) counts(url *string) (n [3]string) {
	w.t.Helper()
	a := w.attributes(url)
	for i, k := range []string{"", "NotVisible", "Delayed"} {
		n[i] = a["ApproximateNumberOfMessages"+k]
	}
	return n
}

func (w *world) wantCounts(url *string, visible, flying, delayed string) {
	w.t.Helper()
	if got := w.counts(url); got != [3]string{visible, flying, delayed} {
		w.t.Errorf("counts %v, want %s %s %s", got, visible, flying, delayed)
	}
}

func (w *world) send(url *string, bodies ...string) {
	w.t.Helper()
	for _, b := range bodies {
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: &b})
	}
}

func (w *world) receive(in *sqsapi.ReceiveMessageInput) []sqsapi.Message {
	w.t.Helper()
	if in.MaxNumberOfMessages == nil {
		in.MaxNumberOfMessages = new(int32(10))
	}
	return do(w, sqsapi.ReceiveMessage, in).Messages
}

func (w *world) from(url *string) []sqsapi.Message {
	w.t.Helper()
	return w.receive(&sqsapi.ReceiveMessageInput{QueueUrl: url, AttributeNames: []string{"All"}})
}

// one receives one message.
func (w *world) one(url *string) sqsapi.Message {
	w.t.Helper()
	ms := w.receive(&sqsapi.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: new(int32(1)), AttributeNames: []string{"All"}})
	if len(ms) != 1 {
		w.t.Fatalf("%d messages, want one", len(ms))
	}
	return ms[0]
}

func bodies(ms []sqsapi.Message) string {
	var all []string
	for _, m := range ms {
		all = append(all, *m.Body)
	}
	return strings.Join(all, " ")
}

func (w *world) wantBodies(url *string, want string) []sqsapi.Message {
	w.t.Helper()
	ms := w.from(url)
	if got := bodies(ms); got != want {
		w.t.Errorf("received %q, want %q", got, want)
	}
	return ms
}

func (w *world) remove(url *string, ms ...sqsapi.Message) {
	w.t.Helper()
	for _, m := range ms {
		do(w, sqsapi.DeleteMessage, &sqsapi.DeleteMessageInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle})
	}
}

func (w *world) hide(url *string, m sqsapi.Message, seconds int32) {
	w.t.Helper()
	do(w, sqsapi.ChangeMessageVisibility, &sqsapi.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: &seconds})
}

func redrive(dead string, most int) string {
	return fmt.Sprintf(`{"deadLetterTargetArn":"arn:aws:sqs:%s:%s:%s","maxReceiveCount":%d}`, region, account, dead, most)
}

// Attributes have AWS's defaults and limits, and its words for what is wrong.
func TestAttributes(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", map[string]string{"VisibilityTimeout": "20"})
	got := w.attributes(url)
	for _, k := range []string{"CreatedTimestamp", "LastModifiedTimestamp"} {
		if got[k] == "" {
			t.Errorf("no %s", k)
		}
		delete(got, k)
	}
	want := map[string]string{ // as recorded
		"ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesDelayed": "0", "ApproximateNumberOfMessagesNotVisible": "0", "DelaySeconds": "0",
		"MaximumMessageSize": "1048576", "MessageRetentionPeriod": "345600", "QueueArn": "arn:aws:sqs:us-east-1:111122223333:q",
		"ReceiveMessageWaitTimeSeconds": "0", "SqsManagedSseEnabled": "true", "VisibilityTimeout": "20",
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for k, n := range numbers {
		if k == "KmsDataKeyReusePeriodSeconds" {
			continue
		}
		for _, v := range []int{n.min, n.max} {
			w.set(url, map[string]string{k: fmt.Sprint(v)})
			if got := w.attributes(url, k)[k]; got != fmt.Sprint(v) {
				t.Errorf("%s is %s", k, got)
			}
		}
		for _, v := range []string{fmt.Sprint(n.min - 1), fmt.Sprint(n.max + 1), "", "x", "1.5", "+1", " 1"} {
			refused(w, sqsapi.SetQueueAttributes, &sqsapi.SetQueueAttributesInput{QueueUrl: url, Attributes: map[string]string{k: v}},
				"InvalidAttributeValue", "Invalid value for the parameter "+k+".")
		}
	}
	w.set(url, map[string]string{"KmsMasterKeyId": "k", "KmsDataKeyReusePeriodSeconds": "6000"})
	if got := w.attributes(url, "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled"); !maps.Equal(got, map[string]string{"KmsMasterKeyId": "k", "KmsDataKeyReusePeriodSeconds": "6000", "SqsManagedSseEnabled": "false"}) {
		t.Errorf("%v", got)
	}
	w.set(url, map[string]string{"SqsManagedSseEnabled": "true"})
	if got := w.attributes(url, "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled"); !maps.Equal(got, map[string]string{"SqsManagedSseEnabled": "true"}) {
		t.Errorf("%v", got)
	}
	for _, c := range []struct {
		attributes    map[string]string
		code, message string
	}{
		{map[string]string{"FifoQueue": "true"}, "InvalidAttributeName", "Unknown Attribute FifoQueue."},
		{map[string]string{"ContentBasedDeduplication": "true"}, "InvalidAttributeName", "Unknown Attribute ContentBasedDeduplication."},
		{map[string]string{"DeduplicationScope": "queue"}, "InvalidAttributeName", "You can specify the DeduplicationScope only when FifoQueue is set to true."},
		{map[string]string{"QueueArn": "x"}, "InvalidAttributeName", "Unknown Attribute QueueArn."},
		{map[string]string{"Policy": "{}"}, "InvalidAttributeValue", "Invalid value for the parameter Policy."},
		{map[string]string{"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "true"}, "InvalidAttributeName", "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE."},
		{map[string]string{"RedrivePolicy": "x"}, "InvalidAttributeValue", "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a valid JSON map."},
		{map[string]string{"RedrivePolicy": "{}"}, invalidValue, "Value {} for parameter RedrivePolicy is invalid. Reason: Redrive policy does not contain mandatory attribute: maxReceiveCount."},
		{map[string]string{"RedrivePolicy": redrive("d", 0)}, invalidValue, "Value " + redrive("d", 0) + " for parameter RedrivePolicy is invalid. Reason: Invalid value for maxReceiveCount: 0, valid values are from 1 to 1000 both inclusive."},
		{map[string]string{"RedrivePolicy": redrive("d", 1)}, invalidValue, "Value " + redrive("d", 1) + " for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist."},
		{map[string]string{"RedrivePolicy": redrive("d.fifo", 1)}, invalidValue, "Value " + redrive("d.fifo", 1) + " for parameter RedrivePolicy is invalid. Reason: Dead-letter queue must be same type of queue as the source.."},
		{map[string]string{"RedrivePolicy": redrive("q", 1)}, invalidValue, ""},
		{map[string]string{"RedriveAllowPolicy": `{"redrivePermission":"byQueue"}`}, invalidValue, `Value {"redrivePermission":"byQueue"} for parameter RedriveAllowPolicy is invalid. Reason: Amazon SQS can't create the redrive allow policy. When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values.`},
		{nil, missingOne, "The request must contain the parameter Attribute.Name."},
	} {
		refused(w, sqsapi.SetQueueAttributes, &sqsapi.SetQueueAttributesInput{QueueUrl: url, Attributes: c.attributes}, c.code, c.message)
	}
	refused(w, sqsapi.GetQueueAttributes, &sqsapi.GetQueueAttributesInput{QueueUrl: url, AttributeNames: []string{"X"}}, "InvalidAttributeName", "Unknown Attribute X.")
	fifo := w.create("q.fifo", map[string]string{"FifoQueue": "true"})
	refused(w, sqsapi.SetQueueAttributes, &sqsapi.SetQueueAttributesInput{QueueUrl: fifo, Attributes: map[string]string{"FifoThroughputLimit": "perMessageGroupId"}}, "InvalidAttributeValue", "")
	w.set(fifo, map[string]string{"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"})
	refused(w, sqsapi.SetQueueAttributes, &sqsapi.SetQueueAttributesInput{QueueUrl: fifo, Attributes: map[string]string{"FifoQueue": "false"}}, "InvalidAttributeValue", "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.")
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	const standard = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
	const fifo = "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length."
	for _, c := range []struct {
		name    string
		fifo    bool
		message string
	}{
		{strings.Repeat("a", 81), false, standard}, {"a.b", false, standard}, {"a.fifo", false, standard}, {"ü", false, standard}, {"a b", false, standard},
		{"a", true, fifo}, {".fifo", true, fifo}, {strings.Repeat("a", 76) + ".fifo", true, fifo}, {"a.b.fifo", true, fifo},
	} {
		in := &sqsapi.CreateQueueInput{QueueName: &c.name}
		if c.fifo {
			in.Attributes = map[string]string{"FifoQueue": "true"}
		}
		refused(w, sqsapi.CreateQueue, in, invalidValue, c.message)
	}
	w.create(strings.Repeat("a", 80), nil)
	w.create(strings.Repeat("a", 75)+".fifo", map[string]string{"FifoQueue": "true"})
	url := w.create("q", map[string]string{"DelaySeconds": "1"})
	if *url != "http://127.0.0.1:4566/111122223333/q" {
		t.Error(*url)
	}
	// Created again with what it has, it is the same.
	for _, a := range []map[string]string{nil, {"DelaySeconds": "1"}, {"VisibilityTimeout": "30"}} {
		if again := w.create("q", a); *again != *url {
			t.Error(*again)
		}
	}
	refused(w, sqsapi.CreateQueue, &sqsapi.CreateQueueInput{QueueName: new("q"), Attributes: map[string]string{"ReceiveMessageWaitTimeSeconds": "0", "DelaySeconds": "2"}},
		"QueueNameExists", "A queue already exists with the same name and a different value for attribute DelaySeconds")
	for _, u := range []string{"q", "https://sqs.us-east-1.amazonaws.com/111122223333/q", "http://localhost/x/111122223333/q", *url} {
		w.attributes(&u)
	}
	for u, code := range map[string]string{
		"http://127.0.0.1:4566/111122223333/nobody": "QueueDoesNotExist", "http://127.0.0.1:4566/444455556666/q": "QueueDoesNotExist", "nobody": "QueueDoesNotExist",
		"https://sqs.eu-west-1.amazonaws.com/111122223333/q": "InvalidAddress", "http://127.0.0.1:4566/q": "InvalidAddress",
	} {
		refused(w, sqsapi.GetQueueAttributes, &sqsapi.GetQueueAttributesInput{QueueUrl: &u}, code, "")
	}
	refused(w, sqsapi.GetQueueAttributes, &sqsapi.GetQueueAttributesInput{}, missingOne, "The request must contain the parameter QueueUrl.")
	refused(w, sqsapi.GetQueueUrl, &sqsapi.GetQueueUrlInput{QueueName: new("q"), QueueOwnerAWSAccountId: new("444455556666")}, "QueueDoesNotExist", "The specified queue does not exist.")
}

func TestList(t *testing.T) {
	w := newWorld(t)
	for i := range 25 {
		w.create(fmt.Sprintf("p-%02d", i), nil)
	}
	w.create("other", nil)
	var all []string
	in := &sqsapi.ListQueuesInput{QueueNamePrefix: new("p-"), MaxResults: new(int32(10))}
	for pages := 1; ; pages++ {
		out := do(w, sqsapi.ListQueues, in)
		all = append(all, out.QueueUrls...)
		if in.NextToken = out.NextToken; in.NextToken == nil {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(all) != 25 || !slices.IsSorted(all) {
		t.Errorf("%v", all)
	}
	if out := do(w, sqsapi.ListQueues, &sqsapi.ListQueuesInput{}); len(out.QueueUrls) != 26 || out.NextToken != nil {
		t.Errorf("%d queues", len(out.QueueUrls))
	}
	refused(w, sqsapi.ListQueues, &sqsapi.ListQueuesInput{NextToken: new("x!")}, invalidValue, "")
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	url := do(w, sqsapi.CreateQueue, &sqsapi.CreateQueueInput{QueueName: new("q"), Tags: map[string]string{"a": "1"}}).QueueUrl
	do(w, sqsapi.TagQueue, &sqsapi.TagQueueInput{QueueUrl: url, Tags: map[string]string{"a": "2", "b": ""}})
	do(w, sqsapi.UntagQueue, &sqsapi.UntagQueueInput{QueueUrl: url, TagKeys: []string{"b", "c"}})
	if got := do(w, sqsapi.ListQueueTags, &sqsapi.ListQueueTagsInput{QueueUrl: url}).Tags; !maps.Equal(got, map[string]string{"a": "2"}) {
		t.Errorf("%v", got)
	}
	if got, err := w.s.Tags(w.ctx, "arn:aws:sqs:us-east-1:111122223333:q"); err != nil || got["a"] != "2" {
		t.Errorf("%v %v", got, err)
	}
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint(i)] = ""
	}
	refused(w, sqsapi.TagQueue, &sqsapi.TagQueueInput{QueueUrl: url, Tags: many}, invalidValue, "Too many tags added for queue q.")
	for _, k := range []string{"", strings.Repeat("k", 129), "aws:x"} {
		refused(w, sqsapi.TagQueue, &sqsapi.TagQueueInput{QueueUrl: url, Tags: map[string]string{k: ""}}, invalidValue, "")
	}
	do(w, sqsapi.UntagQueue, &sqsapi.UntagQueueInput{QueueUrl: url, TagKeys: []string{"a"}})
	if got := do(w, sqsapi.ListQueueTags, &sqsapi.ListQueueTagsInput{QueueUrl: url}).Tags; got != nil {
		t.Errorf("%v", got)
	}
}

// AddPermission and RemovePermission write the policy as AWS does.
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", nil)
	add := func(label string, accounts []string, actions ...string) *sqsapi.AddPermissionInput {
		return &sqsapi.AddPermissionInput{QueueUrl: url, Label: &label, AWSAccountIds: accounts, Actions: actions}
	}
	do(w, sqsapi.AddPermission, add("one", []string{"444455556666", account}, "ReceiveMessage"))
	do(w, sqsapi.AddPermission, add("two", []string{account}, "SendMessage", "*"))
	want := `{"Version":"2008-10-17","Id":"arn:aws:sqs:us-east-1:111122223333:q/SQSDefaultPolicy","Statement":[` +
		`{"Sid":"one","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::444455556666:root","arn:aws:iam::111122223333:root"]},"Action":"SQS:ReceiveMessage","Resource":"arn:aws:sqs:us-east-1:111122223333:q"},` +
		`{"Sid":"two","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["SQS:SendMessage","SQS:*"],"Resource":"arn:aws:sqs:us-east-1:111122223333:q"}]}`
	if got := w.attributes(url)["Policy"]; got != want {
		t.Errorf("%s", got)
	}
	if p, err := w.s.Policy(w.ctx, "arn:aws:sqs:us-east-1:111122223333:q"); err != nil || p == nil {
		t.Errorf("%v %v", p, err)
	}
	refused(w, sqsapi.AddPermission, add("one", []string{account}, "SendMessage"), invalidValue, "Value one for parameter Label is invalid. Reason: Already exists.")
	refused(w, sqsapi.AddPermission, add("x", []string{account}, "CreateQueue"), invalidValue, "Value SQS:CreateQueue for parameter ActionName is invalid. Reason: Only the queue owner is allowed to invoke this action.")
	refused(w, sqsapi.AddPermission, add("x", nil, "SendMessage"), invalidValue, "Value [] for parameter PrincipalId is invalid. Reason: Unable to verify.")
	refused(w, sqsapi.AddPermission, add("x", []string{account}, "1", "2", "3", "4", "5", "6", "7", "8"), "OverLimit", "8 Actions were found, maximum allowed is 7.")
	remove := func(label string) *sqsapi.RemovePermissionInput {
		return &sqsapi.RemovePermissionInput{QueueUrl: url, Label: &label}
	}
	do(w, sqsapi.RemovePermission, remove("one"))
	do(w, sqsapi.RemovePermission, remove("two"))
	if got, ok := w.attributes(url)["Policy"]; ok {
		t.Errorf("%s", got)
	}
	refused(w, sqsapi.RemovePermission, remove("two"), invalidValue, "Value two for parameter Label is invalid. Reason: can't find label.")
	if p, err := w.s.Policy(w.ctx, "arn:aws:sqs:us-east-1:111122223333:q"); err != nil || p != nil {
		t.Errorf("%v %v", p, err)
	}
	w.set(url, map[string]string{"Policy": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"sqs:*","Resource":"*"}}`})
	do(w, sqsapi.AddPermission, add("three", []string{account}, "SendMessage"))
	var d document
	if err := json.Unmarshal([]byte(w.attributes(url)["Policy"]), &d); err != nil || len(d.Statement) != 2 || d.Version != "2012-10-17" {
		t.Errorf("%v %+v", err, d)
	}
}

// What only the owner may do, others may not, whatever the gate lets through.
func TestOwner(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", nil)
	w.send(url, "a")
	w.ctx = as(context.Background(), "444455556666")
	w.wantBodies(url, "a")
	const denied = "AccessDenied"
	refused(w, sqsapi.DeleteQueue, &sqsapi.DeleteQueueInput{QueueUrl: url}, denied, "Access to the resource "+*url+" is denied.")
	refused(w, sqsapi.SetQueueAttributes, &sqsapi.SetQueueAttributesInput{QueueUrl: url, Attributes: map[string]string{"DelaySeconds": "1"}}, denied, "")
	refused(w, sqsapi.TagQueue, &sqsapi.TagQueueInput{QueueUrl: url, Tags: map[string]string{"a": "b"}}, denied, "")
	refused(w, sqsapi.AddPermission, &sqsapi.AddPermissionInput{QueueUrl: url}, denied, "")
	refused(w, sqsapi.StartMessageMoveTask, &sqsapi.StartMessageMoveTaskInput{SourceArn: new("arn:aws:sqs:us-east-1:111122223333:q")}, "ResourceNotFoundException", "")
}

func TestOverview(t *testing.T) {
	timed(t, func(w *world) {
		dead := w.create("dead", nil)
		url := w.create("q", map[string]string{"RedrivePolicy": redrive("dead", 3)})
		w.send(url, "a", "b", "c")
		w.one(url)
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("d"), DelaySeconds: new(int32(9))})
		sent := time.Now().UTC()
		got, err := w.s.Overviews(w.ctx, account)
		if err != nil {
			w.t.Fatal(err)
		}
		want := []Overview{
			{Region: region, Name: "dead", Sources: []string{"q"}},
			{Region: region, Name: "q", Visible: 2, InFlight: 1, Delayed: 1, Oldest: &sent, DeadLetterQueue: "dead", MaxReceives: 3},
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			w.t.Errorf("%s\nwant %s", a, b)
		}
		_ = dead
	})
}
