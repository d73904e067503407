package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// BenchmarkTopic publishes messages of 1 KiB to a topic with ten queues, through the gate. What is counted are messages that
// were acknowledged, with all their deliveries durable, and at "delivered" those that are in all ten queues, from the first publish
// to the last delivery. "raw" is synced commits of the message alone to Pebble, "signed" the envelope, of which each is signed once.
func BenchmarkTopic(b *testing.B) {
	for _, clients := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("c=%d/raw", clients), func(b *testing.B) { rawCommits(b, clients, 1, false) })
		for _, form := range []string{"plain", "signed"} {
			b.Run(fmt.Sprintf("c=%d/%s", clients, form), func(b *testing.B) { fanOut(b, clients, form == "plain") })
		}
	}
}

const fan = 10

func fanOut(b *testing.B, clients int, raw bool) {
	i := startQueues(b)
	q := i.gateQueues(b)
	topic, err := snsapi.CreateTopic.Call(q.ctx, q.caller, &snsapi.CreateTopicInput{Name: new("bench")})
	if err != nil {
		b.Fatal(err)
	}
	var urls []string
	for n := range fan {
		name := fmt.Sprint("fan", n)
		url, err := q.create(name, false)
		if err != nil {
			b.Fatal(err)
		}
		urls = append(urls, url)
		queue := arn.New("sqs", i.Root().Region, i.Root().Account, name).String()
		policy, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": map[string]any{
			"Effect": "Allow", "Principal": map[string]string{"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": queue,
			"Condition": map[string]any{"ArnEquals": map[string]string{"aws:SourceArn": *topic.TopicArn}}}})
		if _, err := sqsapi.SetQueueAttributes.Call(q.ctx, q.caller, &sqsapi.SetQueueAttributesInput{QueueUrl: &url, Attributes: map[string]string{"Policy": string(policy)}}); err != nil {
			b.Fatal(err)
		}
		if _, err := snsapi.Subscribe.Call(q.ctx, q.caller, &snsapi.SubscribeInput{
			TopicArn: topic.TopicArn, Protocol: new("sqs"), Endpoint: &queue, Attributes: map[string]string{"RawMessageDelivery": strconv.FormatBool(raw)},
		}); err != nil {
			b.Fatal(err)
		}
	}
	begin := time.Now()
	spread(b, clients, b.N, func(int) (int, error) {
		_, err := snsapi.Publish.Call(q.ctx, q.caller, &snsapi.PublishInput{TopicArn: topic.TopicArn, Message: &queueBody})
		return 1, err
	})
	for _, url := range urls {
		deadline := time.Now().Add(time.Minute)
		for n := waiting(b, q.ctx, q.caller, url); n < b.N; n = waiting(b, q.ctx, q.caller, url) {
			if time.Now().After(deadline) {
				b.Fatalf("%s has %d of %d messages", url, n, b.N)
			}
			time.Sleep(time.Millisecond)
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "delivered/s")
}

// waiting counts the messages that can be received from a queue.
func waiting(b *testing.B, ctx context.Context, caller smithy.Caller, url string) int {
	out, err := sqsapi.GetQueueAttributes.Call(ctx, caller, &sqsapi.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []string{"ApproximateNumberOfMessages"}})
	if err != nil {
		b.Fatal(err)
	}
	n, _ := strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"])
	return n
}
