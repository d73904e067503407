package sns

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// FuzzMessage: whatever is accepted comes out of every form as it went in, and what is refused is refused in AWS's way.
func FuzzMessage(f *testing.F) {
	f.Add("text", "subject", "", "name", "String", "value", []byte{1})
	f.Add(`{"default":"a","sqs":"b","lambda":1}`, "", "json", "a.b", "Number", "1e5", []byte{})
	f.Add("\x00\u2028<&>\"\\", "a\nb", "xml", "..", "String.Array", `["a",1]`, []byte(nil))
	f.Add("\xff", "s", "", "é", "Binary.png", "", []byte("x"))
	f.Add(`{"default":null}`, "s", "json", strings.Repeat("n", 257), "Number", "0x1", []byte(nil))
	s := &Service{url: func() string { return "http://here" }}
	f.Fuzz(func(t *testing.T, text, subject, structure, name, kind, value string, binary []byte) {
		p := &parameters{message: &text, structure: &structure, attributes: map[string]snsapi.MessageAttributeValue{name: {DataType: &kind, StringValue: &value, BinaryValue: binary}}}
		if subject != "" {
			p.subject = &subject
		}
		m, size, err := newMessage(p)
		if err != nil {
			if e := apierr.From(err); e.HTTPStatus() != 400 || e.Message == "" {
				t.Fatalf("refused as %v", err)
			}
			return
		}
		if size > maxMessage || !utf8.ValidString(text) {
			t.Fatalf("%d bytes of %q are accepted", size, text)
		}
		m.ID, m.Time = "id", time.Unix(1e9, 0)
		stored, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		back := &message{}
		if err := json.Unmarshal(stored, back); err != nil {
			t.Fatal(err)
		}
		tp := &topic{name: topicName{"111122223333", "us-east-1", "t"}}
		to := &taker{subscription: &subscription{Protocol: protocolSQS, name: subscriptionName{tp.name, "id"}}}
		var e struct {
			Message, Subject  string
			MessageAttributes map[string]attribute
		}
		if err := json.Unmarshal(s.envelope(tp, to, back, &signature{version: "1"}), &e); err != nil {
			t.Fatal(err)
		}
		if e.Message != m.form(protocolSQS) || e.Subject != subject || e.MessageAttributes[name] != m.Attributes[name] {
			t.Fatalf("%+v became %+v", m, e)
		}
		var r struct {
			Records []struct {
				Sns struct {
					Message           string
					MessageAttributes map[string]attribute
				}
			}
		}
		if err := json.Unmarshal(s.record(tp, to, back, nil), &r); err != nil || r.Records[0].Sns.Message != e.Message || r.Records[0].Sns.MessageAttributes[name] != m.Attributes[name] {
			t.Fatalf("%+v became %+v: %v", m, r, err)
		}
	})
}

// FuzzDeliveryPolicy: an accepted policy takes at most an hour, its waits never go back, and what is shown is accepted again.
func FuzzDeliveryPolicy(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", "[]", `{"http":{}}`, `{"http":null}`, `{"http":{"defaultHealthyRetryPolicy":null}}`,
		`{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":1,"maxDelayTarget":60,"numRetries":50,"numNoDelayRetries":3,"numMinDelayRetries":2,"numMaxDelayRetries":35,"backoffFunction":"exponential"},"defaultThrottlePolicy":{"maxReceivesPerSecond":10}}}`,
		`{"healthyRetryPolicy":{"numRetries":100,"minDelayTarget":1,"maxDelayTarget":30,"backoffFunction":"geometric"},"throttlePolicy":null}`,
		`{"healthyRetryPolicy":{"numRetries":10,"minDelayTarget":1,"maxDelayTarget":30,"backoffFunction":"arithmetic"},"requestPolicy":{"headerContentType":"text/plain; charset=utf-8"}}`,
		`{"healthyRetryPolicy":{"numRetries":1e99}}`, `{"healthyRetryPolicy":{"numRetries":-1}}`, `{"requestPolicy":{"headerContentType":"text/plain\r\nx: y"}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseTopicDeliveryPolicy(text); err == nil {
			if _, err := parseTopicDeliveryPolicy(toJSON(d)); err != nil {
				t.Fatalf("%q is shown as %s: %v", text, toJSON(d), err)
			}
			if _, err := parseTopicDeliveryPolicy(d.effective()); err != nil {
				t.Fatalf("%q takes effect as %s: %v", text, d.effective(), err)
			}
		}
		h, err := httpDeliveryOf("", text)
		if err != nil {
			return
		}
		var total, last time.Duration
		for i := 0; ; i++ {
			d, ok := h.retries.delay(i)
			if !ok {
				break
			}
			if d < last || d < 0 {
				t.Fatalf("%q: wait %d is %v after %v", text, i, d, last)
			}
			last = d
			total += d
		}
		if total > maxBackOff || strings.ContainsAny(h.contentType, "\r\n") {
			t.Fatalf("%q: waits of %v, type %q", text, total, h.contentType)
		}
	})
}

// FuzzARN: what is taken for the ARN of a topic or a subscription prints as it was.
func FuzzARN(f *testing.F) {
	for _, s := range []string{
		"", "t", "arn:aws:sns:us-east-1:111122223333:t", "arn:aws:sns:us-east-1:111122223333:t:id", "arn:aws:sqs:us-east-1:111122223333:t", "arn:aws:sns:::", "arn:aws:sns:us-east-1::t:",
		"arn:aws:sns:us-east-1:111122223333:t:id:more", ":::::", "::::::",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseTopic("us-east-1", "TopicArn", text); err == nil && "arn:"+strings.Split(text, ":")[1]+strings.TrimPrefix(n.arn(), "arn:aws") != text {
			t.Fatalf("%q is %+v", text, n)
		}
		if n, err := parseSubscription("us-east-1", text); err == nil && "arn:"+strings.Split(text, ":")[1]+strings.TrimPrefix(n.arn(), "arn:aws") != text {
			t.Fatalf("%q is %+v", text, n)
		}
	})
}

// FuzzPolicy: permissions can be added to and removed from whatever policy a topic may have.
func FuzzPolicy(f *testing.F) {
	name := topicName{"111122223333", "us-east-1", "t"}
	for _, s := range []string{
		defaultPolicy(name), `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"sns:Publish","Resource":"*"}}`,
		`{"Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"NotAction":["SNS:Publish"],"Resource":"*"}]}`, "", "null", "[]", `{"Statement":[]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := checkPolicy(text, ""); err != nil {
			if apierr.From(err).Code != "InvalidParameterException" {
				t.Fatalf("refused as %v", err)
			}
			return
		}
		d, err := readDocument(text)
		if err != nil {
			t.Fatalf("%q cannot be taken apart: %v", text, err)
		}
		d.Statement = append(d.Statement, json.RawMessage(`{"Sid":"fuzz-added","Effect":"Allow","Principal":"*","Action":"SNS:Publish","Resource":"*"}`))
		if err := checkPolicy(toJSON(d), ""); err != nil {
			t.Fatalf("%q became %s: %v", text, toJSON(d), err)
		}
		if d.find("fuzz-added") < 0 {
			t.Fatal("the statement is not found")
		}
	})
}
