package arn_test

import (
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/arn"
)

func TestParseQueueURL(t *testing.T) {
	const account = "111122223333"
	for _, c := range []struct {
		in   string
		want arn.QueueURL
		ok   bool
	}{
		{"http://127.0.0.1:4566/111122223333/q", arn.QueueURL{Account: account, Name: "q"}, true},
		{"http://localhost:4566/queue/us-east-1/111122223333/q.fifo", arn.QueueURL{Account: account, Name: "q.fifo"}, true},
		{"https://sqs.eu-west-1.amazonaws.com/111122223333/q", arn.QueueURL{Region: "eu-west-1", Account: account, Name: "q"}, true},
		{"https://eu-west-1.queue.amazonaws.com/111122223333/q", arn.QueueURL{Region: "eu-west-1", Account: account, Name: "q"}, true},
		{"https://queue.amazonaws.com/111122223333/q", arn.QueueURL{Region: "us-east-1", Account: account, Name: "q"}, true},
		{"https://sqs.eu-west-1.amazonaws.com/111122223333/a%2Db/", arn.QueueURL{Region: "eu-west-1", Account: account, Name: "a-b"}, true},
		{"q", arn.QueueURL{Name: "q"}, true},
		{"", arn.QueueURL{}, false},
		{"http://h/q", arn.QueueURL{}, false},
		{"http://h/1234/q", arn.QueueURL{}, false},
		{"http://h/111122223333/", arn.QueueURL{}, false},
		{"http://h/111122223333/a%2Fb", arn.QueueURL{}, false},
		{"http://h/111122223333/a%zz", arn.QueueURL{}, false},
		{"111122223333/q", arn.QueueURL{}, false},
		{"arn:aws:sqs:us-east-1:111122223333:q", arn.QueueURL{}, false},
	} {
		got, ok := arn.ParseQueueURL(c.in)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%q: %+v %t, want %+v %t", c.in, got, ok, c.want, c.ok)
		}
	}
}

func FuzzParseQueueURL(f *testing.F) {
	for _, s := range []string{"http://h/111122223333/q", "https://sqs.eu-west-1.amazonaws.com/111122223333/q?x", "q", "http://", "://", "http://h//%", "http://h/111122223333/%2e%2f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, ok := arn.ParseQueueURL(s)
		if !ok {
			return
		}
		if q.Name == "" || strings.ContainsAny(q.Name, ":/") || q.Account != "" && !arn.IsAccount(q.Account) || q.Account == "" && strings.Contains(s, "://") {
			t.Errorf("%q: %+v", s, q)
		}
	})
}
