package sqs

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
)

// A message moves when it would be received once too often. It keeps its id, attributes, counts and the time when it was sent.
func TestDeadLetters(t *testing.T) {
	timed(t, func(w *world) {
		dead := w.create("dead", nil)
		url := w.create("q", map[string]string{"RedrivePolicy": redrive("dead", 2), "VisibilityTimeout": "0"})
		sent := time.Now()
		id := do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("a"), MessageAttributes: map[string]sqsapi.MessageAttributeValue{"k": text("String", "v")}}).MessageId
		w.wantBodies(url, "a")
		w.wantBodies(url, "a")
		w.wantBodies(dead, "")
		w.sleep(time.Hour)
		w.wantBodies(url, "")
		w.wantCounts(url, "0", "0", "0")
		m := w.receive(&sqsapi.ReceiveMessageInput{QueueUrl: dead, AttributeNames: []string{"All"}, MessageAttributeNames: []string{"All"}})[0]
		for k, want := range map[string]string{"ApproximateReceiveCount": "3", "DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:111122223333:q", "SentTimestamp": strconv.FormatInt(sent.UnixMilli(), 10)} {
			if m.Attributes[k] != want {
				w.t.Errorf("%s is %q", k, m.Attributes[k])
			}
		}
		if *m.MessageId != *id || len(m.MessageAttributes) != 1 {
			w.t.Errorf("%+v", m)
		}
		if got := do(w, sqsapi.ListDeadLetterSourceQueues, &sqsapi.ListDeadLetterSourceQueuesInput{QueueUrl: dead}).QueueUrls; len(got) != 1 || got[0] != *url {
			w.t.Errorf("%v", got)
		}
		// Without a dead-letter queue messages stay.
		do(w, sqsapi.DeleteQueue, &sqsapi.DeleteQueueInput{QueueUrl: dead})
		w.send(url, "b")
		for range 5 {
			w.wantBodies(url, "b")
		}
		w.set(url, map[string]string{"RedrivePolicy": ""})
		if _, ok := w.attributes(url)["RedrivePolicy"]; ok {
			w.t.Error("the policy is still there")
		}
	})
}

// The order of a group is kept in the dead-letter queue, and what was not received too often does not overtake.
func TestDeadLettersOfFIFO(t *testing.T) {
	timed(t, func(w *world) {
		dead := w.create("dead.fifo", map[string]string{"FifoQueue": "true"})
		url := w.fifo(map[string]string{"RedrivePolicy": redrive("dead.fifo", 1)})
		w.put(url, "g", "a", "b", "c")
		w.wantBodies(url, "a b c")
		w.sleep(30 * time.Second)
		w.put(url, "g", "d")
		w.wantBodies(url, "d")
		m := w.wantBodies(dead, "a b c")
		if m[0].Attributes["MessageGroupId"] != "g" || m[0].Attributes["SequenceNumber"] >= m[1].Attributes["SequenceNumber"] {
			w.t.Errorf("%v", m[0].Attributes)
		}
	})
}

func TestRedriveAllowPolicy(t *testing.T) {
	timed(t, func(w *world) {
		dead := w.create("dead", map[string]string{"RedriveAllowPolicy": `{"redrivePermission":"byQueue","sourceQueueArns":["arn:aws:sqs:us-east-1:111122223333:q"]}`})
		policy := map[string]string{"RedrivePolicy": redrive("dead", 1), "VisibilityTimeout": "0"}
		url := w.create("q", policy)
		refused(w, sqsapi.CreateQueue, &sqsapi.CreateQueueInput{QueueName: new("other"), Attributes: policy}, invalidValue, "")
		w.set(dead, map[string]string{"RedriveAllowPolicy": `{"redrivePermission":"denyAll"}`})
		w.send(url, "a")
		for range 3 {
			w.wantBodies(url, "a")
		}
		w.set(dead, map[string]string{"RedriveAllowPolicy": `{"redrivePermission":"allowAll"}`})
		w.wantBodies(url, "")
		w.wantBodies(dead, "a")
	})
}

// Retention counts from when a message was sent first, in the dead-letter queue too.
func TestRetentionOfDeadLetters(t *testing.T) {
	timed(t, func(w *world) {
		dead := w.create("dead", map[string]string{"MessageRetentionPeriod": "3600"})
		url := w.create("q", map[string]string{"RedrivePolicy": redrive("dead", 1), "VisibilityTimeout": "0"})
		w.send(url, "a")
		w.wantBodies(url, "a")
		w.sleep(59 * time.Minute)
		w.wantBodies(url, "")
		w.wantCounts(dead, "1", "0", "0")
		w.sleep(time.Minute + time.Second)
		w.wantBodies(dead, "")
	})
}

// dead makes a dead-letter queue with messages that came from queues.
func (w *world) dead(messages int, sources ...string) (url *string, arn string) {
	w.t.Helper()
	url = w.create("dead", nil)
	for _, name := range sources {
		source := w.create(name, map[string]string{"RedrivePolicy": redrive("dead", 1)})
		for i := range messages {
			w.send(source, fmt.Sprint(name, i))
		}
		for {
			ms := w.from(source)
			for _, m := range ms {
				w.hide(source, m, 0)
			}
			if len(ms) == 0 {
				break
			}
		}
	}
	w.wantCounts(url, fmt.Sprint(messages*len(sources)), "0", "0")
	return url, "arn:aws:sqs:us-east-1:111122223333:dead"
}

func (w *world) task(arn string) sqsapi.ListMessageMoveTasksResultEntry {
	w.t.Helper()
	out := do(w, sqsapi.ListMessageMoveTasks, &sqsapi.ListMessageMoveTasksInput{SourceArn: &arn})
	if len(out.Results) != 1 {
		w.t.Fatalf("%d tasks", len(out.Results))
	}
	return out.Results[0]
}

func (w *world) wantTask(arn, status string, moved, toMove int64) sqsapi.ListMessageMoveTasksResultEntry {
	w.t.Helper()
	e := w.task(arn)
	if *e.Status != status || *e.ApproximateNumberOfMessagesMoved != moved || *e.ApproximateNumberOfMessagesToMove != toMove || (e.TaskHandle != nil) != (status == "RUNNING" || status == "CANCELLING") {
		w.t.Errorf("%s: %d of %d, want %s: %d of %d", *e.Status, *e.ApproximateNumberOfMessagesMoved, *e.ApproximateNumberOfMessagesToMove, status, moved, toMove)
	}
	return e
}

func TestMoveBack(t *testing.T) {
	timed(t, func(w *world) {
		dead, arn := w.dead(15, "one", "two")
		started := time.Now()
		do(w, sqsapi.StartMessageMoveTask, &sqsapi.StartMessageMoveTaskInput{SourceArn: &arn})
		synctest.Wait()
		e := w.wantTask(arn, "COMPLETED", 30, 30)
		if e.DestinationArn != nil || e.MaxNumberOfMessagesPerSecond != nil || *e.StartedTimestamp != started.UnixMilli() {
			w.t.Errorf("%+v", e)
		}
		w.wantCounts(dead, "0", "0", "0")
		for _, name := range []string{"one", "two"} {
			w.wantCounts(&name, "15", "0", "0")
			// They are new messages.
			if m := w.one(&name); m.Attributes["ApproximateReceiveCount"] != "1" || m.Attributes["DeadLetterQueueSourceArn"] != "" {
				w.t.Errorf("%v", m.Attributes)
			}
		}
	})
}

// A task moves as fast as it is told, goes on after a restart, and ends when it is cancelled.
func TestMoveSlowly(t *testing.T) {
	timed(t, func(w *world) {
		dead, arn := w.dead(10, "one")
		to := w.create("to", nil)
		in := &sqsapi.StartMessageMoveTaskInput{SourceArn: &arn, DestinationArn: new("arn:aws:sqs:us-east-1:111122223333:to"), MaxNumberOfMessagesPerSecond: new(int32(2))}
		handle := do(w, sqsapi.StartMessageMoveTask, in).TaskHandle
		w.sleep(1500 * time.Millisecond)
		if e := w.wantTask(arn, "RUNNING", 4, 10); *e.TaskHandle != *handle || *e.MaxNumberOfMessagesPerSecond != 2 {
			w.t.Errorf("%+v", e)
		}
		refused(w, sqsapi.StartMessageMoveTask, in, invalidValue, "There is already a task running. Only one active task is allowed for a source queue arn at a given time.")
		w.wantCounts(to, "4", "0", "0")
		w.wantCounts(dead, "6", "0", "0")
		w.restart()
		w.sleep(1500 * time.Millisecond)
		w.wantTask(arn, "RUNNING", 8, 10)
		if got := do(w, sqsapi.CancelMessageMoveTask, &sqsapi.CancelMessageMoveTaskInput{TaskHandle: handle}); *got.ApproximateNumberOfMessagesMoved != 8 {
			w.t.Errorf("%+v", got)
		}
		synctest.Wait()
		w.wantTask(arn, "CANCELLED", 8, 10)
		w.sleep(time.Minute)
		w.wantCounts(dead, "2", "0", "0")
		refused(w, sqsapi.CancelMessageMoveTask, &sqsapi.CancelMessageMoveTaskInput{TaskHandle: handle}, "ResourceNotFoundException", "")
		do(w, sqsapi.StartMessageMoveTask, in)
		w.sleep(3 * time.Second)
		w.wantCounts(to, "10", "0", "0")
		if out := do(w, sqsapi.ListMessageMoveTasks, &sqsapi.ListMessageMoveTasksInput{SourceArn: &arn, MaxResults: new(int32(10))}); len(out.Results) != 2 || *out.Results[0].Status != "COMPLETED" || *out.Results[1].Status != "CANCELLED" {
			w.t.Errorf("%+v", out)
		}
	})
}

// Of tasks that are started at the same time one is.
func TestMoveOnce(t *testing.T) {
	timed(t, func(w *world) {
		_, arn := w.dead(3, "one")
		var started atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := sqsapi.StartMessageMoveTask.Call(w.ctx, w.gate, &sqsapi.StartMessageMoveTaskInput{SourceArn: &arn, MaxNumberOfMessagesPerSecond: new(int32(1))})
				if err == nil {
					started.Add(1)
				}
			})
		}
		wg.Wait()
		if n := started.Load(); n != 1 {
			w.t.Errorf("%d were started", n)
		}
	})
}

func TestMoveFails(t *testing.T) {
	timed(t, func(w *world) {
		dead, arn := w.dead(3, "one")
		to := w.create("to", nil)
		in := &sqsapi.StartMessageMoveTaskInput{SourceArn: &arn, DestinationArn: new("arn:aws:sqs:us-east-1:111122223333:to"), MaxNumberOfMessagesPerSecond: new(int32(1))}
		do(w, sqsapi.StartMessageMoveTask, in)
		w.sleep(500 * time.Millisecond)
		do(w, sqsapi.DeleteQueue, &sqsapi.DeleteQueueInput{QueueUrl: to})
		w.sleep(time.Second)
		if e := w.wantTask(arn, "FAILED", 1, 3); *e.FailureReason != "AWS.SimpleQueueService.NonExistentQueue" {
			w.t.Errorf("%+v", e)
		}
		w.wantCounts(dead, "2", "0", "0")
		w.remove(dead, w.from(dead)...)
		w.send(dead, "from nowhere")
		do(w, sqsapi.StartMessageMoveTask, &sqsapi.StartMessageMoveTaskInput{SourceArn: &arn})
		synctest.Wait()
		if e := w.wantTask(arn, "FAILED", 0, 1); *e.FailureReason != "CouldNotDetermineMessageSource" {
			w.t.Errorf("%+v", e)
		}
		w.wantBodies(dead, "from nowhere")
		do(w, sqsapi.DeleteQueue, &sqsapi.DeleteQueueInput{QueueUrl: dead})
		refused(w, sqsapi.ListMessageMoveTasks, &sqsapi.ListMessageMoveTasksInput{SourceArn: &arn}, "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist.")
	})
}

func TestMoveRefused(t *testing.T) {
	w := newWorld(t)
	w.create("plain", nil)
	w.dead(0, "one")
	const arn = "arn:aws:sqs:us-east-1:111122223333:"
	start := func(source, to string, rate int32) *sqsapi.StartMessageMoveTaskInput {
		in := &sqsapi.StartMessageMoveTaskInput{SourceArn: &source, MaxNumberOfMessagesPerSecond: &rate}
		if to != "" {
			in.DestinationArn = &to
		}
		return in
	}
	for _, c := range []struct {
		in            *sqsapi.StartMessageMoveTaskInput
		code, message string
	}{
		{start(arn+"plain", "", 1), invalidValue, "Source queue must be configured as a Dead Letter Queue."},
		{start(arn+"nobody", "", 1), "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist."},
		{start("nonsense", "", 1), invalidValue, "You must use this format to specify the SourceArn: arn:<partition>:<service>:<region>:<account-id>:<resource-id>"},
		{start(arn+"dead", arn+"nobody", 1), "ResourceNotFoundException", "The resource that you specified for the DestinationArn parameter doesn't exist."},
		{start(arn+"dead", "", 501), invalidValue, ""},
		{start(arn+"dead", "", 0), invalidValue, ""},
		{&sqsapi.StartMessageMoveTaskInput{}, missingOne, "The request must contain the parameter SourceArn."},
	} {
		refused(w, sqsapi.StartMessageMoveTask, c.in, c.code, c.message)
	}
	cancel := func(handle string) *sqsapi.CancelMessageMoveTaskInput {
		return &sqsapi.CancelMessageMoveTaskInput{TaskHandle: &handle}
	}
	refused(w, sqsapi.CancelMessageMoveTask, cancel("foobared"), invalidValue, "Value for parameter TaskHandle is invalid.")
	refused(w, sqsapi.CancelMessageMoveTask, cancel(encodeTaskHandle("x", arn+"nobody")), "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist.")
	refused(w, sqsapi.CancelMessageMoveTask, cancel(encodeTaskHandle("x", arn+"dead")), "ResourceNotFoundException", "Task does not exist.")
}
