package sqs

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// The name of a deleted queue is free again after 60 seconds, and what is made under it is empty.
func TestNamesAreReused(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q", nil)
		w.send(url, "old")
		do(w, sqsapi.DeleteQueue, &sqsapi.DeleteQueueInput{QueueUrl: url})
		refused(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m")}, "QueueDoesNotExist", "The specified queue does not exist.")
		w.sleep(time.Minute - time.Millisecond)
		w.restart()
		refused(w, sqsapi.CreateQueue, &sqsapi.CreateQueueInput{QueueName: new("q")}, "QueueDeletedRecently", "You must wait 60 seconds after deleting a queue before you can create another with the same name.")
		w.sleep(time.Millisecond)
		w.create("q", nil)
		w.wantBodies(url, "")
		w.wantCounts(url, "0", "0", "0")
	})
}

// A purge takes everything: what is visible, in flight and delayed. There is one a minute.
func TestPurge(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q", nil)
		w.send(url, "a", "b")
		flying := w.one(url)
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("late"), DelaySeconds: new(int32(10))})
		do(w, sqsapi.PurgeQueue, &sqsapi.PurgeQueueInput{QueueUrl: url})
		w.wantCounts(url, "0", "0", "0")
		w.remove(url, flying) // does no harm
		w.send(url, "c")
		w.wantBodies(url, "c")
		refused(w, sqsapi.PurgeQueue, &sqsapi.PurgeQueueInput{QueueUrl: url}, "PurgeQueueInProgress", "Only one PurgeQueue operation on q is allowed every 60 seconds.")
		w.sleep(time.Minute)
		w.wantBodies(url, "c")
		do(w, sqsapi.PurgeQueue, &sqsapi.PurgeQueueInput{QueueUrl: url})
		w.sleep(time.Hour)
		w.wantBodies(url, "")
		w.restart()
		w.wantBodies(url, "")
	})
}

func TestVisibility(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q", map[string]string{"VisibilityTimeout": "20"})
		w.send(url, "a")
		began := time.Now()
		first := w.one(url)
		w.sleep(20*time.Second - time.Nanosecond)
		w.wantBodies(url, "")
		w.sleep(time.Nanosecond)
		second := w.one(url)
		if *second.ReceiptHandle == *first.ReceiptHandle || second.Attributes["ApproximateReceiveCount"] != "2" ||
			second.Attributes["ApproximateFirstReceiveTimestamp"] != strconv.FormatInt(began.UnixMilli(), 10) {
			w.t.Errorf("%+v", second)
		}
		// A change counts from now on, whatever was before.
		w.hide(url, second, 100)
		w.sleep(50 * time.Second)
		w.hide(url, second, 5)
		w.restart()
		w.wantBodies(url, "")
		w.sleep(5 * time.Second)
		third := w.one(url)
		w.hide(url, third, 0)
		fourth := w.one(url)
		// Who comes too late is not told, as recorded.
		w.sleep(20*time.Second + time.Millisecond)
		w.hide(url, fourth, 10)
		// Twelve hours in all.
		fifth := w.one(url)
		w.hide(url, fifth, 43200)
		w.sleep(11 * time.Hour)
		refused(w, sqsapi.ChangeMessageVisibility, &sqsapi.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: fifth.ReceiptHandle, VisibilityTimeout: new(int32(3601))}, invalidValue,
			"Value 3601 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]")
		w.hide(url, fifth, 3600)
		w.wantCounts(url, "0", "1", "0")
		w.sleep(time.Hour)
		w.wantCounts(url, "1", "0", "0")
		w.remove(url, fifth) // an old handle deletes as long as nobody minds
		w.wantCounts(url, "0", "0", "0")
	})
}

func TestDelay(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q", map[string]string{"DelaySeconds": "10"})
		w.send(url, "queue's")
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("own"), DelaySeconds: new(int32(900))})
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("none"), DelaySeconds: new(int32(0))})
		w.wantCounts(url, "1", "0", "2")
		w.remove(url, w.wantBodies(url, "none")...)
		w.set(url, map[string]string{"DelaySeconds": "0"}) // what was sent keeps its delay
		w.sleep(10*time.Second - time.Nanosecond)
		w.wantBodies(url, "")
		w.sleep(time.Nanosecond)
		w.remove(url, w.wantBodies(url, "queue's")...)
		w.restart()
		w.sleep(889 * time.Second)
		w.wantBodies(url, "")
		w.sleep(time.Second)
		w.wantBodies(url, "own")
	})
}

// The delay of a FIFO queue holds for what was sent before it was set, too.
func TestDelayOfFIFO(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q.fifo", map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true"})
		w.put(url, "g", "a")
		w.set(url, map[string]string{"DelaySeconds": "30"})
		w.wantBodies(url, "")
		w.wantCounts(url, "0", "0", "1")
		w.sleep(30 * time.Second)
		w.wantBodies(url, "a")
	})
}

func TestLongPolls(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q", map[string]string{"ReceiveMessageWaitTimeSeconds": "20"})
		poll := func() <-chan string {
			got := make(chan string, 1)
			began := time.Now()
			go func() {
				out, err := sqsapi.ReceiveMessage.Call(w.ctx, w.gate, &sqsapi.ReceiveMessageInput{QueueUrl: url})
				answer := apierr.Code(err)
				if err == nil {
					answer = bodies(out.Messages)
				}
				got <- fmt.Sprintf("%s after %s", answer, time.Since(began))
			}()
			return got
		}
		want := func(got <-chan string, want string) {
			w.t.Helper()
			if s := <-got; s != want {
				w.t.Errorf("%s, want %s", s, want)
			}
		}
		want(poll(), " after 20s")
		p := poll()
		w.sleep(7 * time.Second)
		w.send(url, "at once")
		want(p, "at once after 7s")
		p = poll()
		want(p, " after 20s")
		want(poll(), "at once after 10s") // its visibility ends
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("delayed"), DelaySeconds: new(int32(5))})
		want(poll(), "delayed after 5s")
		p = poll() // goes on over a purge
		w.sleep(2 * time.Second)
		do(w, sqsapi.PurgeQueue, &sqsapi.PurgeQueueInput{QueueUrl: url})
		w.sleep(2 * time.Second)
		w.send(url, "new")
		want(p, "new after 4s")
		p = poll()
		w.sleep(time.Second)
		do(w, sqsapi.DeleteQueue, &sqsapi.DeleteQueueInput{QueueUrl: url})
		want(p, "QueueDoesNotExist after 1s")
	})
}

// A server that stops lets nobody wait.
func TestEndPolls(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q", map[string]string{"ReceiveMessageWaitTimeSeconds": "20"})
		began := time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			w.s.EndPolls()
		}()
		w.wantBodies(url, "")
		if d := time.Since(began); d != 3*time.Second {
			w.t.Errorf("after %s", d)
		}
		w.wantBodies(url, "")
		w.send(url, "a")
		w.wantBodies(url, "a")
		if d := time.Since(began); d != 3*time.Second {
			w.t.Errorf("after %s", d)
		}
	})
}

// A poll whose caller goes away takes nothing with it.
func TestPollGivenUp(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q", nil)
		ctx, cancel := context.WithCancel(w.ctx)
		ended := make(chan error)
		go func() {
			_, err := sqsapi.ReceiveMessage.Call(ctx, w.gate, &sqsapi.ReceiveMessageInput{QueueUrl: url, WaitTimeSeconds: new(int32(20))})
			ended <- err
		}()
		w.sleep(time.Second)
		cancel()
		if <-ended == nil {
			w.t.Error("no error")
		}
		w.send(url, "a")
		w.wantBodies(url, "a")
	})
}

// Messages past the retention are not delivered, and removed in time.
func TestRetention(t *testing.T) {
	timed(t, func(w *world) {
		url := w.create("q", map[string]string{"MessageRetentionPeriod": "60"})
		w.send(url, "a")
		w.sleep(30 * time.Second)
		w.send(url, "b")
		w.sleep(30*time.Second + time.Millisecond)
		w.wantBodies(url, "b")
		long := w.create("long", map[string]string{"MessageRetentionPeriod": "7200"})
		w.send(long, "kept")
		w.sleep(2*time.Hour - time.Second)
		w.wantCounts(url, "0", "0", "0") // nobody asked for b, and it went
		w.remove(long, w.wantBodies(long, "kept")...)
	})
}

// What is not needed any more is removed from the store.
func TestSweep(t *testing.T) {
	timed(t, func(w *world) {
		fifo := map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true", "MessageRetentionPeriod": "60"}
		url := w.create("q.fifo", fifo)
		gone := w.create("gone.fifo", fifo)
		for range 3 {
			w.put(url, "g", "a", "b")
			w.put(gone, "g", "a", "b")
			do(w, sqsapi.ReceiveMessage, &sqsapi.ReceiveMessageInput{QueueUrl: url, ReceiveRequestAttemptId: new("x")})
			w.sleep(7 * time.Minute)
		}
		do(w, sqsapi.PurgeQueue, &sqsapi.PurgeQueueInput{QueueUrl: url})
		do(w, sqsapi.DeleteQueue, &sqsapi.DeleteQueueInput{QueueUrl: gone})
		w.sleep(20 * time.Minute)
		var left []string
		w.db.View(w.ctx, func(r kv.Reader) error {
			for e, err := range r.Scan(kv.Range{End: []byte{0xFD}}) {
				if err != nil {
					return err
				}
				left = append(left, kv.Format(e.Key))
			}
			return nil
		})
		// The queue, and the numbers of messages.
		if len(left) != 2 {
			w.t.Errorf("%v", left)
		}
	})
}

// After a restart with the clock set back (each bubble begins at the same time) nothing waits until the clock has caught up: names are free, purges
// allowed, and messages visible again after their visibility timeout, delayed ones after their delay.
func TestClockSetBack(t *testing.T) {
	fs := vfs.NewMem()
	bubble := func(f func(w *world)) {
		synctest.Test(t, func(t *testing.T) {
			db, err := pebblekv.Open(pebblekv.Options{Dir: "store", FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			w := &world{t: t, db: db, ctx: as(context.Background(), account)}
			w.restart()
			defer func() {
				w.stop()
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			f(w)
		})
	}
	var q, fifo *string
	bubble(func(w *world) {
		w.sleep(24 * time.Hour)
		do(w, sqsapi.DeleteQueue, &sqsapi.DeleteQueueInput{QueueUrl: w.create("gone", nil)})
		do(w, sqsapi.PurgeQueue, &sqsapi.PurgeQueueInput{QueueUrl: w.create("purged", nil)})
		q, fifo = w.create("q", nil), w.create("q.fifo", map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true", "DelaySeconds": "900"})
		w.send(q, "flying")
		w.one(q)
		do(w, sqsapi.SendMessage, &sqsapi.SendMessageInput{QueueUrl: q, MessageBody: new("delayed"), DelaySeconds: new(int32(900))})
		w.put(fifo, "g", "delayed")
	})
	bubble(func(w *world) {
		w.create("gone", nil)
		do(w, sqsapi.PurgeQueue, &sqsapi.PurgeQueueInput{QueueUrl: do(w, sqsapi.GetQueueUrl, &sqsapi.GetQueueUrlInput{QueueName: new("purged")}).QueueUrl})
		w.wantBodies(q, "")
		w.wantBodies(fifo, "")
		w.sleep(30 * time.Second)
		w.remove(q, w.wantBodies(q, "flying")...)
		w.sleep(870 * time.Second)
		w.wantBodies(q, "delayed")
		w.wantBodies(fifo, "delayed")
	})
}
