package sqs

import (
	"fmt"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
)

// Operators find a message wherever it is, and learn what it waits for.
func TestLocate(t *testing.T) {
	timed(t, func(w *world) {
		dead := w.create("dead", nil)
		url := w.create("q", map[string]string{"RedrivePolicy": redrive("dead", 1), "VisibilityTimeout": "30"})
		ordered := w.fifo(map[string]string{"VisibilityTimeout": "30"})
		begun := time.Now()
		put := func(url *string, in sqsapi.SendMessageInput) string {
			in.QueueUrl, in.MessageBody = url, new("m")
			return *do(w, sqsapi.SendMessage, &in).MessageId
		}
		place := func(id string) string {
			t.Helper()
			all, complete, err := w.s.Locate(w.ctx, account, id)
			if err != nil || !complete {
				t.Fatal(complete, err)
			}
			s := ""
			for _, p := range all {
				s += fmt.Sprint(p.Queue[len("arn:aws:sqs:us-east-1:111122223333:"):], " ", p.State, " ", p.Receives)
				if !p.Until.IsZero() {
					s += fmt.Sprint(" for ", time.Until(p.Until).Round(time.Second))
				}
				if p.Behind != "" {
					s += " behind " + p.Behind
				}
				if p.Source != "" {
					s += " of " + p.Source
				}
			}
			return s
		}
		expect := func(id, want string) {
			t.Helper()
			if got := place(id); got != want {
				t.Errorf("it is %q, not %q", got, want)
			}
		}
		a, late := put(url, sqsapi.SendMessageInput{}), put(url, sqsapi.SendMessageInput{DelaySeconds: new(int32(60))})
		one := put(ordered, sqsapi.SendMessageInput{MessageGroupId: new("g"), MessageDeduplicationId: new("1")})
		two := put(ordered, sqsapi.SendMessageInput{MessageGroupId: new("g"), MessageDeduplicationId: new("2")})
		expect(a, "q visible 0")
		expect(late, "q delayed 0 for 1m0s")
		expect(two, "q.fifo visible 0")
		w.wantBodies(url, "m")
		if got := w.receive(&sqsapi.ReceiveMessageInput{QueueUrl: ordered, MaxNumberOfMessages: new(int32(1))}); len(got) != 1 {
			t.Fatal(got)
		}
		expect(a, "q inFlight 1 for 30s")
		expect(one, "q.fifo inFlight 1 for 30s")
		expect(two, "q.fifo visible 0 behind "+one)
		w.sleep(31 * time.Second)
		expect(two, "q.fifo visible 0")
		w.wantBodies(url, "")
		expect(a, "dead visible 1 of arn:aws:sqs:us-east-1:111122223333:q")
		for _, id := range []string{"", "x", "00000000-0000-4000-8000-000000000000", "0000000000000000000000000000000000"} {
			expect(id, "")
		}

		places := func(queue string, from, to time.Time, most, want int, wantMore bool) {
			t.Helper()
			all, more, err := w.s.Places(w.ctx, "arn:aws:sqs:us-east-1:111122223333:"+queue, from, to, most)
			if err != nil || len(all) != want || more != wantMore {
				t.Errorf("%d places, more: %t, %v", len(all), more, err)
			}
		}
		places("q.fifo", begun, time.Time{}, 10, 2, false)
		places("q.fifo", time.Time{}, time.Time{}, 1, 1, true)
		places("q.fifo", begun.Add(time.Second), time.Time{}, 10, 0, false)
		places("dead", time.Time{}, begun, 10, 0, false)
		if _, _, err := w.s.Places(w.ctx, "arn:aws:sqs:us-east-1:111122223333:none", time.Time{}, time.Time{}, 1); err == nil {
			t.Error("places of no queue")
		}
		if n, oldest, err := w.s.Backlog(w.ctx, "arn:aws:sqs:us-east-1:111122223333:dead"); n != 1 || oldest == nil || !oldest.Equal(begun) || err != nil {
			t.Error(n, oldest, err)
		}
		do(w, sqsapi.PurgeQueue, &sqsapi.PurgeQueueInput{QueueUrl: dead})
		expect(a, "")
	})
}
