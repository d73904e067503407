package sqs

import (
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// Whoever waits for messages hears of those of a queue that is made only later, that is made again, whose visibility ends, and of no others.
func TestArrivals(t *testing.T) {
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := New(Deps{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	mux := smithy.NewMux()
	s.Register(mux)
	ctx := call.With(t.Context(), &call.Info{
		Account: "111122223333", Region: "eu-central-1", Host: "localhost:4566", Time: time.Now(),
		Principal: call.Principal{Type: call.Root, ARN: "arn:aws:iam::111122223333:root", UserID: "111122223333"},
	})
	rung := make(chan struct{}, 100)
	stop := s.OnArrival("arn:aws:sqs:eu-central-1:111122223333:q", func(string) { rung <- struct{}{} })
	heard := func(what string) {
		t.Helper()
		select {
		case <-rung:
		case <-time.After(2 * time.Minute):
			t.Fatal("not told of", what)
		}
		for len(rung) > 0 {
			<-rung
		}
	}
	create := func(name string) *string {
		t.Helper()
		out, err := sqsapi.CreateQueue.Call(ctx, mux, &sqsapi.CreateQueueInput{QueueName: &name})
		if err != nil {
			t.Fatal(err)
		}
		return out.QueueUrl
	}
	send := func(url *string) {
		t.Helper()
		if _, err := sqsapi.SendMessage.Call(ctx, mux, &sqsapi.SendMessageInput{QueueUrl: url, MessageBody: new("m")}); err != nil {
			t.Fatal(err)
		}
	}
	url, other := create("q"), create("other")
	send(url)
	heard("a message")
	if _, err := sqsapi.ReceiveMessage.Call(ctx, mux, &sqsapi.ReceiveMessageInput{QueueUrl: url, VisibilityTimeout: new(int32(1))}); err != nil {
		t.Fatal(err)
	}
	heard("a message whose visibility ended")
	if _, err := sqsapi.PurgeQueue.Call(ctx, mux, &sqsapi.PurgeQueueInput{QueueUrl: url}); err != nil {
		t.Fatal(err)
	}
	send(url)
	heard("a message after a purge")
	stop()
	send(url)
	send(other)
	if len(rung) > 0 || len(s.arrivals.bells)+len(s.arrivals.arns) > 0 {
		t.Error("told after stop", s.arrivals.bells, s.arrivals.arns)
	}
	// What is looked at is not received.
	for range 2 {
		got, err := s.Peek(ctx, "arn:aws:sqs:eu-central-1:111122223333:other", 10)
		if err != nil || len(got) != 1 || *got[0].Body != "m" || got[0].Attributes["ApproximateReceiveCount"] != "0" {
			t.Errorf("peeked %+v, %v", got, err)
		}
	}
	// One that begins to listen when there is the queue.
	s.OnArrival("arn:aws:sqs:eu-central-1:111122223333:q", func(string) { rung <- struct{}{} })
	send(other)
	if len(rung) > 0 {
		t.Error("told of another queue's message")
	}
	send(url)
	heard("a message")
}
