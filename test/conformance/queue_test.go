package conformance

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
)

// queues drives queues with the SDK for Go, which verifies the digests of what it gets and knows errors by their types.
func queues(t *testing.T, s *instance) {
	c := sqs.NewFromConfig(s.sdk())
	create := func(t *testing.T, name string, attributes map[string]string) *string {
		t.Helper()
		q, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			t.Fatal(err)
		}
		return q.QueueUrl
	}

	t.Run("errors", func(t *testing.T) {
		url := create(t, "sdk-errors", nil)
		_, err := c.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("nobody")})
		expect[*types.QueueDoesNotExist](t, err)
		_, err = c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("sdk-errors"), Attributes: map[string]string{"DelaySeconds": "1"}})
		expect[*types.QueueNameExists](t, err)
		_, err = c.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: url, Entries: []types.SendMessageBatchRequestEntry{}})
		expect[*types.EmptyBatchRequest](t, err)
		_, err = c.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: aws.String("garbage")})
		expect[*types.ReceiptHandleIsInvalid](t, err)
		_, err = c.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: url, Attributes: map[string]string{"Nonsense": "1"}})
		expect[*types.InvalidAttributeName](t, err)
		_, err = c.CancelMessageMoveTask(t.Context(), &sqs.CancelMessageMoveTaskInput{TaskHandle: aws.String("eyJ0YXNrSWQiOiIxIiwic291cmNlQXJuIjoiYXJuOmF3czpzcXM6dXMtZWFzdC0xOjAwMDAwMDAwMDAwMDpub2JvZHkifQ==")})
		expect[*types.ResourceNotFoundException](t, err)
		_, err = c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: 11})
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "InvalidParameterValue" {
			t.Errorf("11 messages: %v", err)
		}
	})

	t.Run("messages", func(t *testing.T) {
		url := create(t, "sdk-messages", nil)
		attributes := map[string]types.MessageAttributeValue{
			"text":   {DataType: aws.String("String"), StringValue: aws.String("é")},
			"number": {DataType: aws.String("Number.int"), StringValue: aws.String("1")},
			"bytes":  {DataType: aws.String("Binary"), BinaryValue: []byte{0, 255}},
		}
		sent, err := c.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("bödy"), MessageAttributes: attributes})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: url, WaitTimeSeconds: 20, MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		if err != nil || len(got.Messages) != 1 {
			t.Fatalf("%d messages, %v", len(got.Messages), err)
		}
		m := got.Messages[0]
		if *m.MessageId != *sent.MessageId || *m.Body != "bödy" || len(m.MessageAttributes) != 3 || !slices.Equal(m.MessageAttributes["bytes"].BinaryValue, []byte{0, 255}) || m.Attributes["ApproximateReceiveCount"] != "1" {
			t.Errorf("received %+v", m)
		}
		if _, err := c.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 60}); err != nil {
			t.Error(err)
		}
		if _, err := c.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle}); err != nil {
			t.Error(err)
		}
	})

	// Many senders and receivers of a FIFO queue: every group in its order, nothing twice, nothing lost.
	t.Run("order", func(t *testing.T) {
		const groups, each = 4, 25
		url := create(t, "sdk-order.fifo", map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "300"})
		var senders, receivers sync.WaitGroup
		for g := range groups {
			senders.Go(func() {
				for i := range each {
					if _, err := c.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageGroupId: aws.String(fmt.Sprint(g)), MessageBody: aws.String(fmt.Sprintf("%d %d", g, i))}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var mu sync.Mutex
		var total int
		next := map[int]int{}
		for range 3 {
			receivers.Go(func() {
				for {
					mu.Lock()
					done := total >= groups*each
					mu.Unlock()
					if done {
						return
					}
					got, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: 10, WaitTimeSeconds: 1})
					if err != nil {
						t.Error(err)
						return
					}
					for _, m := range got.Messages {
						var g, i int
						fmt.Sscan(*m.Body, &g, &i)
						mu.Lock()
						if next[g] != i {
							t.Errorf("group %d: message %d and not %d", g, i, next[g])
						}
						next[g]++
						total++
						mu.Unlock()
						if _, err := c.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle}); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		senders.Wait()
		receivers.Wait()
	})
}

func expect[E error](t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[E](err); !ok {
		t.Errorf("%v is no %T", err, *new(E))
	}
}

// inventoryQueues writes down what queues there are, without how many messages they hold, which changes by itself.
func (s *instance) inventoryQueues(w io.Writer) {
	s.t.Helper()
	c := sqs.NewFromConfig(s.sdk())
	queues := sqs.NewListQueuesPaginator(c, &sqs.ListQueuesInput{MaxResults: aws.Int32(100)})
	for queues.HasMorePages() {
		page, err := queues.NextPage(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, url := range page.QueueUrls {
			got, err := c.GetQueueAttributes(s.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
			if err != nil {
				s.t.Fatal(err)
			}
			tags, err := c.ListQueueTags(s.t.Context(), &sqs.ListQueueTagsInput{QueueUrl: &url})
			if err != nil {
				s.t.Fatal(err)
			}
			maps.DeleteFunc(got.Attributes, func(name, _ string) bool { return strings.HasPrefix(name, "Approximate") })
			fmt.Fprintln(w, got.Attributes, tags.Tags)
		}
	}
}
