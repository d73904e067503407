package sqs

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
)

// put sends messages of a group.
func (w *world) put(url *string, group string, bodies ...string) (out []*sqsapi.SendMessageOutput) {
	w.t.Helper()
	for _, b := range bodies {
		out = append(out, do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: &b, MessageGroupId: &group}))
	}
	return out
}

func (w *world) fifo(attributes map[string]string) *string {
	w.t.Helper()
	all := map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "30"}
	for k, v := range attributes {
		all[k] = v
	}
	return w.create("q.fifo", all)
}

// Groups come in order, and wait for what is in flight: from the first such message on, as recorded.
func TestGroups(t *testing.T) {
	timed(t, func(w *world) {
		url := w.fifo(nil)
		w.put(url, "1", "1a", "1b", "1c")
		w.put(url, "2", "2a")
		first := w.one(url)
		if *first.Body != "1a" {
			w.t.Fatal(*first.Body)
		}
		w.remove(url, w.wantBodies(url, "2a")...)
		w.wantBodies(url, "")
		w.remove(url, first)
		both := w.wantBodies(url, "1b 1c")
		w.hide(url, both[1], 100)
		w.sleep(30 * time.Second)
		w.remove(url, w.wantBodies(url, "1b")...)
		w.put(url, "1", "1d")
		w.wantBodies(url, "")
		w.restart()
		w.wantBodies(url, "")
		w.sleep(70 * time.Second)
		w.wantBodies(url, "1c 1d")
	})
}

// A handle deletes only while its receive holds.
func TestExpiredHandles(t *testing.T) {
	timed(t, func(w *world) {
		url := w.fifo(nil)
		w.put(url, "g", "a")
		m := w.one(url)
		w.sleep(31 * time.Second)
		refused(w, sqsapi.DeleteMessage, &sqsapi.DeleteMessageInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle}, invalidValue,
			"Value "+*m.ReceiptHandle+" for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.")
		again := w.one(url)
		refused(w, sqsapi.DeleteMessage, &sqsapi.DeleteMessageInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle}, invalidValue, "")
		w.hide(url, again, 60)
		w.sleep(59 * time.Second)
		w.remove(url, again, again)
	})
}

// A deduplication id holds for five minutes: the sender gets the first message's ids.
func TestDeduplication(t *testing.T) {
	timed(t, func(w *world) {
		url := w.fifo(nil)
		send := func(group, body, id string) *sqsapi.SendMessageOutput {
			in := &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: &body, MessageGroupId: &group}
			if id != "" {
				in.MessageDeduplicationId = &id
			}
			return do(w, sqsapi.SendMessage, in)
		}
		first := send("g", "a", "id")
		if len(*first.SequenceNumber) != 20 {
			w.t.Error(*first.SequenceNumber)
		}
		same := func(o *sqsapi.SendMessageOutput) bool {
			return *o.MessageId == *first.MessageId && *o.SequenceNumber == *first.SequenceNumber
		}
		w.remove(url, w.one(url))
		// Over other groups, other bodies, deletion and a restart, up to the last moment.
		for range 4 {
			w.sleep(time.Minute)
			if !same(send("other", "b", "id")) {
				w.t.Error("it was added again")
			}
		}
		w.restart()
		w.sleep(time.Minute - time.Nanosecond)
		if !same(send("g", "a", "id")) {
			w.t.Error("it was added again")
		}
		w.wantCounts(url, "0", "0", "0")
		w.sleep(time.Nanosecond)
		later := send("g", "a", "id")
		if same(later) || *later.SequenceNumber <= *first.SequenceNumber {
			w.t.Errorf("%+v", later)
		}
		// By content, which is the body alone.
		one, two := send("g", "body", ""), send("h", "body", "")
		if *one.MessageId != *two.MessageId {
			w.t.Error("one body, two messages")
		}
		m := w.wantBodies(url, "a body")
		if d := m[1].Attributes["MessageDeduplicationId"]; len(d) != 64 {
			w.t.Error(d)
		}
		w.set(url, map[string]string{"ContentBasedDeduplication": "false"})
		refused(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("x"), MessageGroupId: new("g")}, invalidValue, "")
	})
}

func TestDeduplicationByGroup(t *testing.T) {
	timed(t, func(w *world) {
		url := w.fifo(map[string]string{"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"})
		w.put(url, "1", "same", "same")
		w.put(url, "2", "same")
		w.wantCounts(url, "2", "0", "0")
	})
}

// Of sends at the same time with one id, one adds a message.
func TestConcurrentDuplicates(t *testing.T) {
	w := newWorld(t)
	url := w.fifo(nil)
	const n = 16
	for round := range 20 {
		ids := make([]string, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				out, err := sqsapi.SendMessage.Call(w.ctx, w.gate, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new(fmt.Sprint(i)), MessageGroupId: new("g"), MessageDeduplicationId: new(fmt.Sprint(round))})
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = *out.MessageId + *out.SequenceNumber
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("%v", ids)
			}
		}
	}
	w.wantCounts(url, "20", "0", "0")
}

// The messages of a batch come in its order, and so do their numbers.
func TestBatchOrder(t *testing.T) {
	w := newWorld(t)
	url := w.fifo(nil)
	in := &sqsapi.SendMessageBatchInput{QueueUrl: url}
	for _, b := range []string{"a", "b", "a", "c"} {
		in.Entries = append(in.Entries, sqsapi.SendMessageBatchRequestEntry{Id: new(fmt.Sprint(len(in.Entries))), MessageBody: &b, MessageGroupId: new("g")})
	}
	out := do(w, sqsapi.SendMessageBatch, in)
	var numbers []string
	for _, s := range out.Successful {
		numbers = append(numbers, *s.SequenceNumber)
	}
	if numbers[0] != numbers[2] || numbers[0] >= numbers[1] || numbers[1] >= numbers[3] {
		t.Errorf("%v", numbers)
	}
	ms := w.wantBodies(url, "a b c")
	if ms[1].Attributes["SequenceNumber"] != numbers[1] {
		t.Errorf("%v", ms[1].Attributes)
	}
	in.Entries[1].MessageGroupId = nil
	refused(w, sqsapi.SendMessageBatch, in, invalidValue, "The request must contain the parameter MessageGroupId.")
}

// A receive that is tried again with its attempt's id gets the same messages, invisible anew, as long as none was touched.
func TestAttempts(t *testing.T) {
	timed(t, func(w *world) {
		url := w.fifo(nil)
		w.put(url, "1", "1a", "1b")
		w.put(url, "2", "2a")
		receive := func(id string, n int32) []sqsapi.Message {
			return w.receive(&sqsapi.ReceiveMessageInput{QueueUrl: url, ReceiveRequestAttemptId: &id, MaxNumberOfMessages: &n, AttributeNames: []string{"All"}})
		}
		first := receive("x", 2)
		w.sleep(20 * time.Second)
		again := receive("x", 2)
		if bodies(first) != bodies(again) || *first[0].ReceiptHandle != *again[0].ReceiptHandle || again[0].Attributes["ApproximateReceiveCount"] != "1" {
			w.t.Errorf("%s, then %s", bodies(first), bodies(again))
		}
		w.sleep(20 * time.Second) // the second try hid them for 30 seconds more
		if got := bodies(receive("other", 10)); got != "2a" {
			w.t.Error(got)
		}
		w.restart()
		if got := receive("x", 2); bodies(got) != "1a 1b" {
			w.t.Error(bodies(got))
		}
		w.remove(url, again[0])
		if got := bodies(receive("x", 2)); got != "" {
			w.t.Errorf("%s after a deletion", got)
		}
		w.sleep(5 * time.Minute)
		if got := bodies(receive("x", 10)); got != "1b 2a" && got != "2a 1b" {
			w.t.Error(got)
		}
	})
}

// Tenants of a standard queue take turns, as far as their messages are known.
func TestFairness(t *testing.T) {
	w := newWorld(t)
	url := w.create("q", nil)
	for i := range 50 {
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new(fmt.Sprint("noisy", i)), MessageGroupId: new("noisy")})
	}
	do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("quiet"), MessageGroupId: new("quiet")})
	if got := bodies(w.from(url)); !strings.Contains(got, "quiet") {
		t.Errorf("received %s", got)
	}
}
