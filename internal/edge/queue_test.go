package edge

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// Query requests to the URL of a queue are of that queue, unless they name another, and may ask only for what is done with queues.
func TestQueueURLs(t *testing.T) {
	const queue = "/111122223333/q"
	const form = "application/x-www-form-urlencoded"
	router := protocol.NewRouter(iamapi.Service, snsapi.Service, sqsapi.Service)
	for _, c := range []struct {
		method, target, body string
		want                 string // the queue's URL, or the error's message
	}{
		{"GET", queue + "?Action=SendMessage&MessageBody=m", "", "http://example.com" + queue},
		{"POST", queue, "Action=AddPermission&Label=l", "http://example.com" + queue}, // SNS has it too
		{"POST", queue, "Action=SendMessage&QueueUrl=http%3A%2F%2Fh%2F111122223333%2Fother", "http://h/111122223333/other"},
		{"GET", "/x" + queue + "/?Action=ReceiveMessage&QueueUrl=other", "", "other"},
		{"GET", queue + "?Action=CreateQueue&QueueName=x", "", "The action CreateQueue is not valid for this endpoint."},
		{"GET", queue + "?Action=Nonsense", "", "The action Nonsense is not valid for this endpoint."},
	} {
		r := httptest.NewRequest(c.method, c.target, strings.NewReader(c.body))
		if c.body != "" {
			r.Header.Set("Content-Type", form)
		}
		if !isQueueRequest(r) {
			t.Errorf("%s %s is no request to a queue", c.method, c.target)
		}
		req := protocol.NewRequest(r)
		req.Body = []byte(c.body)
		call, err := router.Match(req, "sqs")
		if err = nameQueue(call, r.Host, err); err != nil {
			if got := apierr.From(err).Message; got != c.want {
				t.Errorf("%s %s %s: %s", c.method, c.target, c.body, got)
			}
			continue
		}
		in := call.Op.NewInput()
		if err := call.Decode(in); err != nil {
			t.Fatal(err)
		}
		var got *string
		switch in := in.(type) {
		case *sqsapi.SendMessageInput:
			got = in.QueueUrl
		case *sqsapi.AddPermissionInput:
			got = in.QueueUrl
		case *sqsapi.ReceiveMessageInput:
			got = in.QueueUrl
		}
		if got == nil || *got != c.want {
			t.Errorf("%s %s %s: %v, want %s", c.method, c.target, c.body, got, c.want)
		}
	}
	for _, target := range []string{"/", queue, "/1111/q?Action=SendMessage", "/111122223333?Action=x"} {
		if isQueueRequest(httptest.NewRequest("GET", target, nil)) {
			t.Errorf("%s is a request to a queue", target)
		}
	}
}

func TestQueueHosts(t *testing.T) {
	e := New(Options{Services: []*smithy.Service{sqsapi.Service}, Log: slog.New(slog.DiscardHandler)})
	for host, want := range map[string][2]string{
		"sqs.eu-west-1.amazonaws.com":        {"sqs", "eu-west-1"},
		"eu-west-1.queue.amazonaws.com:4566": {"sqs", "eu-west-1"},
		"queue.amazonaws.com":                {"sqs", ""},
		"sqs.localhost:4566":                 {"sqs", ""},
	} {
		if name, region := e.byHost(host); [2]string{name, region} != want {
			t.Errorf("%s: %s %s", host, name, region)
		}
	}
}
