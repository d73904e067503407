package sqs

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
)

// FuzzWire sends anything to every operation, in both protocols. What comes back is an answer, or an error that blames the caller.
func FuzzWire(f *testing.F) {
	const url = `"QueueUrl":"http://h/111122223333/q"`
	for _, s := range []struct{ operation, body string }{
		{"SendMessage", `{` + url + `,"MessageBody":"m","MessageAttributes":{"a":{"DataType":"Number","StringValue":"1e5"},"b":{"DataType":"Binary","BinaryValue":"AA=="}}}`},
		{"SendMessage", `{"QueueUrl":"http://h/111122223333/q.fifo","MessageBody":"m","MessageGroupId":"g","MessageDeduplicationId":"d"}`},
		{"SendMessageBatch", `{` + url + `,"Entries":[{"Id":"a","MessageBody":"m"},{"Id":"b","MessageBody":"","DelaySeconds":-1}]}`},
		{"ReceiveMessage", `{` + url + `,"MaxNumberOfMessages":10,"MessageAttributeNames":["a.*"],"AttributeNames":["All"],"VisibilityTimeout":0}`},
		{"ReceiveMessage", `{"QueueUrl":"q.fifo","ReceiveRequestAttemptId":"x"}`},
		{"DeleteMessage", `{` + url + `,"ReceiptHandle":"AAAA"}`},
		{"DeleteMessageBatch", `{` + url + `,"Entries":[{"Id":"a","ReceiptHandle":""}]}`},
		{"ChangeMessageVisibility", `{` + url + `,"ReceiptHandle":"AVU0","VisibilityTimeout":1}`},
		{"ChangeMessageVisibilityBatch", `{` + url + `,"Entries":[{"Id":"a","ReceiptHandle":"x","VisibilityTimeout":1}]}`},
		{"CreateQueue", `{"QueueName":"x.fifo","Attributes":{"FifoQueue":"true","RedrivePolicy":"{\"maxReceiveCount\":\"3\",\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:111122223333:q.fifo\"}"},"tags":{"a":"b"}}`},
		{"SetQueueAttributes", `{` + url + `,"Attributes":{"Policy":"{\"Statement\":[]}","RedriveAllowPolicy":"{\"redrivePermission\":\"byQueue\",\"sourceQueueArns\":[\"x\"]}"}}`},
		{"GetQueueAttributes", `{` + url + `,"AttributeNames":["All","X"]}`},
		{"AddPermission", `{` + url + `,"Label":"l","AWSAccountIds":["111122223333"],"Actions":["*"]}`},
		{"RemovePermission", `{` + url + `,"Label":"l"}`},
		{"TagQueue", `{` + url + `,"Tags":{"k":"v"}}`},
		{"StartMessageMoveTask", `{"SourceArn":"arn:aws:sqs:us-east-1:111122223333:q"}`},
		{"CancelMessageMoveTask", `{"TaskHandle":"eyJ0YXNrSWQiOiJ4Iiwic291cmNlQXJuIjoiYXJuOmF3czpzcXM6dXMtZWFzdC0xOjExMTEyMjIyMzMzMzpxIn0="}`},
		{"ListMessageMoveTasks", `{"SourceArn":"arn:aws:sqs:us-east-1:111122223333:q","MaxResults":3}`},
		{"ListQueues", `{"QueueNamePrefix":"q","MaxResults":1,"NextToken":"AAAA"}`},
		{"ListDeadLetterSourceQueues", `{` + url + `}`},
		{"PurgeQueue", `{` + url + `}`},
		{"DeleteQueue", `{"QueueUrl":"http://h/111122223333/x"}`},
		{"SendMessage", "QueueUrl=q&MessageBody=m&MessageAttribute.1.Name=a&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=v"},
		{"SendMessageBatch", "QueueUrl=q&SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=m&SendMessageBatchRequestEntry.3.Id=b"},
		{"CreateQueue", "QueueName=y&Attribute.Name=DelaySeconds&Attribute.Value=900&Tag.1.Key=a&Tag.1.Value=b"},
		{"GetQueueAttributes", "QueueUrl=q&AttributeName.1=All"},
	} {
		f.Add(s.operation, []byte(s.body))
	}
	w := newWorld(f)
	w.create("q", nil)
	w.create("q.fifo", map[string]string{"FifoQueue": "true"})
	router := protocol.NewRouter(sqsapi.Service)
	f.Fuzz(func(t *testing.T, operation string, body []byte) {
		req := &protocol.Request{Method: http.MethodPost, Path: "/", Header: http.Header{}, Body: body}
		if strings.HasPrefix(string(body), "{") {
			req.Header.Set("Content-Type", "application/x-amz-json-1.0")
			req.Header.Set("X-Amz-Target", "AmazonSQS."+operation)
		} else {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Body = append([]byte("Action="+operation+"&"), body...)
		}
		c, err := router.Match(req, "sqs")
		if err != nil {
			return
		}
		in, out := c.Op.NewInput(), c.Op.NewOutput()
		if c.Decode(in) != nil {
			return
		}
		if r, ok := in.(*sqsapi.ReceiveMessageInput); ok && r.WaitTimeSeconds != nil && *r.WaitTimeSeconds > 0 && *r.WaitTimeSeconds <= maxWait {
			r.WaitTimeSeconds = nil // fuzzing does not wait
		}
		if sc, name, err := parseURL(w.ctx, new("q")); err == nil { // nor do receives that the queue makes wait
			if q, err := w.s.view(w.ctx, sc, name); err == nil && q.settings.wait > 0 {
				w.set(new("q"), map[string]string{"ReceiveMessageWaitTimeSeconds": "0"})
			}
		}
		err = w.gate.Call(w.ctx, c.Op, in, out)
		if e := apierr.From(err); e != nil {
			if e.HTTPStatus() >= 500 {
				t.Errorf("%s: %v", operation, e)
			}
			c.EncodeError(err, "id")
			return
		}
		if r := c.Encode(out, "id"); r.Status != http.StatusOK {
			t.Errorf("%s: the answer is not encoded: %s", operation, r.Body)
		}
	})
}
