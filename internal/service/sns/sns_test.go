package sns

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/gate"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/target"
)

const (
	account = "111122223333"
	region  = "eu-central-1"
)

// world is a service with the queues, functions and endpoints around it. They answer what answer says.
type world struct {
	t    *testing.T
	db   kv.DB
	gate *gate.Gate
	sns  *Service
	stop func()

	mu        sync.Mutex
	delivered []delivered
	answer    func(d *delivered) error // nil: all take everything
	begin     time.Time
	mail      []Letter
}

// delivered is one try of a delivery.
type delivered struct {
	at        time.Duration // since begin
	to        string        // name of the queue or function, URL or address
	body      string
	header    http.Header
	sqs       *sqsapi.SendMessageInput
	principal string
}

// testSigner is the key of all worlds: to make one takes long.
var testSigner = sync.OnceValues(func() (signerRow, error) { return newSigner(time.Now()) })

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	row, err := testSigner()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(context.Background(), func(tx kv.Tx) error { return kv.SetJSON(tx, signerKey(), row) }); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, begin: time.Now()}
	w.start()
	t.Cleanup(func() {
		w.stop()
		db.Close()
	})
	return w
}

// start runs a service on the store; one that runs is stopped before.
func (w *world) start() {
	w.t.Helper()
	if w.stop != nil {
		w.stop()
	}
	mux := smithy.NewMux()
	log := slog.New(slog.DiscardHandler)
	w.gate = gate.New(mux, gate.Authenticated{}, log)
	sqsapi.SendMessage.Handle(mux, func(ctx context.Context, in *sqsapi.SendMessageInput) (*sqsapi.SendMessageOutput, error) {
		return nil, w.take(&delivered{to: (*in.QueueUrl)[strings.LastIndexByte(*in.QueueUrl, '/')+1:], body: *in.MessageBody, sqs: in, principal: call.From(ctx).Principal.Service})
	})
	lambdaapi.Invoke.Handle(mux, func(ctx context.Context, in *lambdaapi.InvokeInput) (*lambdaapi.InvokeOutput, error) {
		return nil, w.take(&delivered{to: *in.FunctionName, body: string(in.Payload), principal: call.From(ctx).Principal.Service})
	})
	var err error
	w.sns, err = New(Deps{
		DB: w.db, Targets: target.New(w.gate, mux.Served), URL: func() string { return "http://here" }, Client: &http.Client{Transport: w}, Mail: w, Log: log,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.sns.Register(mux)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.sns.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != context.Canceled {
			w.t.Errorf("Run: %v", err)
		}
		w.stop = func() {}
	}
}

func (w *world) take(d *delivered) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	d.at = time.Since(w.begin)
	w.delivered = append(w.delivered, *d)
	if w.answer != nil {
		return w.answer(d)
	}
	return nil
}

// RoundTrip implements http.RoundTripper. An answer that is an *apierr.Error has its status.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	b, _ := io.ReadAll(r.Body)
	err := w.take(&delivered{to: r.URL.String(), body: string(b), header: r.Header})
	status := http.StatusOK
	if err != nil {
		e, ok := err.(*apierr.Error)
		if !ok {
			return nil, err
		}
		status = e.Status
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader("")), Header: http.Header{}, Request: r}, nil
}

// Send implements Mail.
func (w *world) Send(_ context.Context, l *Letter) error {
	w.mu.Lock()
	w.mail = append(w.mail, *l)
	w.mu.Unlock()
	return w.take(&delivered{to: l.To, body: l.Text})
}

// all takes what was delivered.
func (w *world) all() []delivered {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.delivered
	w.delivered = nil
	return all
}

func (w *world) ctx() context.Context {
	return call.With(w.t.Context(), &call.Info{
		Account: account, Region: region, RequestID: call.NewRequestID(), Time: time.Now(),
		Principal: call.Principal{Type: call.Root, ARN: "arn:aws:iam::" + account + ":root", UserID: account},
	})
}

func (w *world) anonymous() context.Context {
	return call.With(w.t.Context(), &call.Info{Account: account, Region: "us-east-1", RequestID: call.NewRequestID(), Time: time.Now()})
}

func (w *world) topic(name string, attributes map[string]string) string {
	w.t.Helper()
	if strings.HasSuffix(name, fifoSuffix) {
		if attributes == nil {
			attributes = map[string]string{}
		}
		attributes["FifoTopic"] = "true"
	}
	out, err := snsapi.CreateTopic.Call(w.ctx(), w.gate, &snsapi.CreateTopicInput{Name: &name, Attributes: attributes})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.TopicArn
}

func (w *world) subscribe(topic, protocol, endpoint string, attributes map[string]string) string {
	w.t.Helper()
	out, err := snsapi.Subscribe.Call(w.ctx(), w.gate, &snsapi.SubscribeInput{
		TopicArn: &topic, Protocol: &protocol, Endpoint: &endpoint, Attributes: attributes, ReturnSubscriptionArn: new(true)})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.SubscriptionArn
}

func queueARN(name string) string { return "arn:aws:sqs:" + region + ":" + account + ":" + name }

func functionARN(name string) string {
	return "arn:aws:lambda:" + region + ":" + account + ":function:" + name
}

func (w *world) publish(in *snsapi.PublishInput) *snsapi.PublishOutput {
	w.t.Helper()
	out, err := snsapi.Publish.Call(w.ctx(), w.gate, in)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// rows counts the rows of a table.
func (w *world) rows(table ...any) (n int) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Prefix(table...)) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// empty fails if anything is left of messages.
func (w *world) empty() {
	w.t.Helper()
	for _, table := range []string{messageTable, pendingTable} {
		if n := w.rows(table); n != 0 {
			w.t.Errorf("%d rows of %s are left", n, table)
		}
	}
	for _, family := range []string{"work.sns", "work.sns.post", "work.sns.ordered"} {
		for _, kind := range []string{"h", "b"} {
			if n := w.rows("queue", family, kind); n != 0 {
				w.t.Errorf("%d rows of %s are left", n, family)
			}
		}
	}
}

// confirmed subscribes an HTTP endpoint and follows the link.
func (w *world) confirmed(topic, endpoint string, attributes map[string]string) string {
	w.t.Helper()
	protocol, _, _ := strings.Cut(endpoint, ":")
	arn := w.subscribe(topic, protocol, endpoint, attributes)
	synctest.Wait()
	for _, d := range w.all() {
		if d.to == endpoint {
			w.follow(d.body)
			return arn
		}
	}
	w.t.Fatal("the endpoint was not asked")
	return ""
}

// follow confirms as whoever visits the link in a confirmation.
func (w *world) follow(body string) {
	w.t.Helper()
	var m struct{ TopicArn, Token string }
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		w.t.Fatal(err)
	}
	if _, err := snsapi.ConfirmSubscription.Call(w.anonymous(), w.gate, &snsapi.ConfirmSubscriptionInput{TopicArn: &m.TopicArn, Token: &m.Token}); err != nil {
		w.t.Fatal(err)
	}
}

// verify checks the signature of a message as AWS's SDKs do.
func (w *world) verify(body string) {
	w.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		w.t.Fatal(err)
	}
	names := []string{"Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"}
	var text bytes.Buffer
	for _, n := range names {
		if v, ok := m[n].(string); ok {
			text.WriteString(n + "\n" + v + "\n")
		}
	}
	url, _ := m["SigningCertURL"].(string)
	file, ok := strings.CutPrefix(url, "http://here"+CertificatePath)
	if !ok || !strings.HasSuffix(file, ".pem") {
		w.t.Fatalf("the certificate is at %q", url)
	}
	b, err := w.sns.Certificate(context.Background(), file)
	if err != nil || b == nil {
		w.t.Fatalf("no certificate %s: %v", file, err)
	}
	block, _ := pem.Decode(b)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	signed, _ := base64.StdEncoding.DecodeString(m["Signature"].(string))
	hash, sum := crypto.SHA1, sha1.Sum(text.Bytes())
	digest := sum[:]
	if m["SignatureVersion"] == "2" {
		s := sha256.Sum256(text.Bytes())
		hash, digest = crypto.SHA256, s[:]
	}
	if err := rsa.VerifyPKCS1v15(cert.PublicKey.(*rsa.PublicKey), hash, digest, signed); err != nil {
		w.t.Errorf("signature of %s: %v", body, err)
	}
}

func code(err error) string { return apierr.Code(err) }

// refused fails unless an error has a code and a message.
func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	e := apierr.From(err)
	if e == nil || e.Code != code || e.Message != message {
		t.Errorf("answered %v, want %s: %s", err, code, message)
	}
}

// Each protocol gets the message in its form, once, and nothing of it is left.
func TestForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", map[string]string{"DisplayName": "Desk"})
		w.subscribe(topic, "sqs", queueARN("q"), nil)
		w.subscribe(topic, "sqs", queueARN("raw"), map[string]string{"RawMessageDelivery": "true"})
		w.subscribe(topic, "lambda", functionARN("f"), nil)
		w.confirmed(topic, "http://e/x", nil)
		w.confirmed(topic, "https://e/raw", map[string]string{"RawMessageDelivery": "true"})
		box := w.subscribe(topic, "email", "a@example.com", nil)
		synctest.Wait()
		var token string
		if _, rest, ok := strings.Cut(w.all()[0].body, "&Token="); ok {
			token = strings.TrimSpace(rest)
		}
		if _, err := snsapi.ConfirmSubscription.Call(w.ctx(), w.gate, &snsapi.ConfirmSubscriptionInput{TopicArn: &topic, Token: &token}); err != nil {
			t.Fatal(err)
		}
		w.publish(&snsapi.PublishInput{
			TopicArn: &topic, Subject: new("s"), MessageStructure: new("json"), Message: new(`{"default":"text <&>","email":"dear","nobody":"x"}`),
			MessageAttributes: map[string]snsapi.MessageAttributeValue{
				"a": {DataType: new("String"), StringValue: new("v")}, "b": {DataType: new("Binary"), BinaryValue: []byte{1, 0xFF}}},
		})
		synctest.Wait()
		got := map[string]delivered{}
		for _, d := range w.all() {
			if _, twice := got[d.to]; twice {
				t.Errorf("%s got it twice", d.to)
			}
			got[d.to] = d
		}
		if len(got) != 6 {
			t.Fatalf("%d of 6 got it: %v", len(got), got)
		}
		for _, to := range []string{"q", "http://e/x"} {
			w.verify(got[to].body)
			if b := got[to].body; !strings.HasPrefix(b, "{\n  \"Type\" : \"Notification\",\n  \"MessageId\" : \"") || !strings.Contains(b, "\n  \"Message\" : \"text <&>\",\n") ||
				!strings.HasSuffix(b, ",\n  \"MessageAttributes\" : {\n    \"a\" : {\"Type\":\"String\",\"Value\":\"v\"},\n    \"b\" : {\"Type\":\"Binary\",\"Value\":\"Af8=\"}\n  }\n}") {
				t.Errorf("%s got %s", to, b)
			}
		}
		if d := got["q"]; d.principal != "sns.amazonaws.com" || len(d.sqs.MessageAttributes) != 0 {
			t.Errorf("the queue got %+v", d)
		}
		raw := got["raw"].sqs
		if a := raw.MessageAttributes; *raw.MessageBody != "text <&>" || len(a) != 2 || *a["a"].StringValue != "v" || !bytes.Equal(a["b"].BinaryValue, []byte{1, 0xFF}) || a["b"].StringValue != nil {
			t.Errorf("the raw queue got %+v", raw)
		}
		var event struct {
			Records []struct {
				EventSource, EventVersion, EventSubscriptionArn string
				Sns                                             map[string]any
			}
		}
		if err := json.Unmarshal([]byte(got[functionARN("f")].body), &event); err != nil || len(event.Records) != 1 {
			t.Fatalf("the function got %s: %v", got[functionARN("f")].body, err)
		}
		if r := event.Records[0]; r.EventSource != "aws:sns" || r.EventVersion != "1.0" || r.Sns["Message"] != "text <&>" || r.Sns["SigningCertUrl"] == nil || r.Sns["UnsubscribeUrl"] == nil {
			t.Errorf("the function got %+v", r)
		}
		h := got["http://e/x"].header
		if h.Get("X-Amz-Sns-Message-Type") != "Notification" || h.Get("X-Amz-Sns-Topic-Arn") != topic || h.Get("X-Amz-Sns-Rawdelivery") != "" || h.Get("Content-Type") != plainText {
			t.Errorf("the endpoint got %v", h)
		}
		if d := got["https://e/raw"]; d.body != "text <&>" || d.header.Get("X-Amz-Sns-Rawdelivery") != "true" {
			t.Errorf("the raw endpoint got %+v", d)
		}
		l := w.mail[len(w.mail)-1]
		if l.Name != "Desk" || l.Subject != "s" || !strings.HasPrefix(l.Text, "dear\n") || !strings.Contains(l.Text, box) {
			t.Errorf("the mail box got %+v", l)
		}
		w.empty()
	})
}

// A signature of version 2 is SHA-256's, and the key survives a restart.
func TestSignatureVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		w.subscribe(topic, "sqs", queueARN("q"), nil)
		send := func() string {
			w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
			synctest.Wait()
			body := w.all()[0].body
			w.verify(body)
			return body
		}
		first := send()
		w.start()
		if !strings.Contains(first, `"SignatureVersion" : "1"`) {
			t.Error(first)
		}
		w.verify(first)
		if _, err := snsapi.SetTopicAttributes.Call(w.ctx(), w.gate, &snsapi.SetTopicAttributesInput{TopicArn: &topic, AttributeName: new("SignatureVersion"), AttributeValue: new("2")}); err != nil {
			t.Fatal(err)
		}
		if second := send(); !strings.Contains(second, `"SignatureVersion" : "2"`) {
			t.Error(second)
		}
	})
}

func times(all []delivered) (at []time.Duration) {
	for _, d := range all {
		at = append(at, d.at.Round(time.Millisecond))
	}
	return at
}

// An endpoint that fails is tried again after the effective policy; then the message goes to the dead-letter queue. Others do not wait for it.
func TestBackOff(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name, topicPolicy, policy string
		status                    int
		want                      []time.Duration
	}{
		{"default", "", "", 500, []time.Duration{0, 20 * s, 40 * s, 60 * s}},
		{"too many", "", "", 429, []time.Duration{0, 20 * s, 40 * s, 60 * s}},
		{"refused", "", "", 403, []time.Duration{0}},
		{"redirect", "", "", 302, []time.Duration{0}},
		{"phases", "", `{"healthyRetryPolicy":{"minDelayTarget":1,"maxDelayTarget":5,"numRetries":8,"numNoDelayRetries":2,"numMinDelayRetries":1,"numMaxDelayRetries":2}}`, 500,
			[]time.Duration{0, 0, 0, 1 * s, 2 * s, 5 * s, 10 * s, 15 * s, 20 * s}},
		{"of the topic", `{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":2,"maxDelayTarget":2,"numRetries":1}}}`, "", 503, []time.Duration{0, 2 * s}},
		{"overridden", `{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":2,"maxDelayTarget":2,"numRetries":1}}}`, `{"healthyRetryPolicy":{"numRetries":0}}`, 503, []time.Duration{0}},
		{"no overrides", `{"http":{"disableSubscriptionOverrides":true,"defaultHealthyRetryPolicy":{"minDelayTarget":2,"maxDelayTarget":2,"numRetries":1}}}`,
			`{"healthyRetryPolicy":{"numRetries":0}}`, 503, []time.Duration{0, 2 * s}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				topic := w.topic("t", map[string]string{"DeliveryPolicy": c.topicPolicy})
				attributes := map[string]string{"RedrivePolicy": `{"deadLetterTargetArn":"` + queueARN("dead") + `"}`}
				if c.policy != "" {
					attributes["DeliveryPolicy"] = c.policy
				}
				w.confirmed(topic, "http://slow", attributes)
				w.subscribe(topic, "sqs", queueARN("q"), nil)
				w.answer = func(d *delivered) error {
					if d.to == "http://slow" {
						return apierr.New("x", c.status, "no")
					}
					return nil
				}
				w.begin = time.Now()
				w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
				time.Sleep(time.Hour)
				synctest.Wait()
				by := map[string][]delivered{}
				for _, d := range w.all() {
					by[d.to] = append(by[d.to], d)
				}
				if got := times(by["http://slow"]); !slices.Equal(got, c.want) {
					t.Errorf("tried at %v, want %v", got, c.want)
				}
				if got := times(by["q"]); !slices.Equal(got, []time.Duration{0}) {
					t.Errorf("the queue got it at %v", got)
				}
				if d := by["dead"]; len(d) != 1 || d[0].body != by["http://slow"][0].body {
					t.Errorf("the dead-letter queue got %v", d)
				}
				w.empty()
			})
		})
	}
}

// AWS's policy for queues and functions: 100,015 retries in 23 days.
func TestCallRetries(t *testing.T) {
	p := callRetries()
	var total time.Duration
	n := 0
	for d, ok := p.delay(0); ok; d, ok = p.delay(n) {
		total += d
		n++
	}
	if n != 100_015 || total < 23*24*time.Hour || total > 24*24*time.Hour {
		t.Errorf("%d retries in %v", n, total)
	}
	m := mailRetries()
	n, total = 0, 0
	for d, ok := m.delay(0); ok; d, ok = m.delay(n) {
		total += d
		n++
	}
	if n != 50 || total < 6*time.Hour || total > 8*time.Hour {
		t.Errorf("mail: %d retries in %v", n, total)
	}
}

// A queue that does not answer is tried again, over a restart; one that refuses is not.
func TestQueueRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		w.subscribe(topic, "sqs", queueARN("q"), nil)
		w.subscribe(topic, "sqs", queueARN("gone"), nil)
		fail := true
		w.answer = func(d *delivered) error {
			if d.to == "gone" {
				return apierr.New("AWS.SimpleQueueService.NonExistentQueue", 400, "no")
			}
			if fail {
				return apierr.New("InternalFailure", 500, "no")
			}
			return nil
		}
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
		time.Sleep(time.Minute)
		w.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		w.mu.Lock()
		fail = false
		w.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		gone, tries := 0, 0
		for _, d := range w.all() {
			if d.to == "gone" {
				gone++
			} else {
				tries++
			}
		}
		if gone != 1 || tries < 12 || tries > 25 {
			t.Errorf("%d tries of the queue that is gone, %d of the other", gone, tries)
		}
		w.empty()
	})
}

// Messages of one group arrive in order of their numbers, whoever publishes and whatever fails, and groups do not wait for one another.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t.fifo", map[string]string{"ContentBasedDeduplication": "true"})
		w.subscribe(topic, "sqs", queueARN("q.fifo"), map[string]string{"RawMessageDelivery": "true"})
		failures := map[string]int{}
		ok := map[string][]string{}
		w.answer = func(d *delivered) error {
			g := *d.sqs.MessageGroupId
			if failures[d.body]++; failures[d.body] < 3 && strings.HasSuffix(d.body, "7") {
				return apierr.New("InternalFailure", 500, "no")
			}
			ok[g] = append(ok[g], d.body)
			return nil
		}
		numbers := map[string]string{}
		var wg sync.WaitGroup
		for _, publisher := range []string{"a", "b", "c"} {
			wg.Go(func() {
				for i := range 20 {
					text := publisher + "-" + string(rune('a'+i)) + "-" + string(rune('0'+i%10))
					g := "g" + string(rune('0'+i%2))
					out, err := snsapi.Publish.Call(w.ctx(), w.gate, &snsapi.PublishInput{TopicArn: &topic, Message: &text, MessageGroupId: &g})
					if err != nil {
						t.Error(err)
						return
					}
					w.mu.Lock()
					numbers[text] = *out.SequenceNumber
					w.mu.Unlock()
				}
			})
		}
		wg.Wait()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		n := 0
		for g, list := range ok {
			n += len(list)
			if !slices.IsSortedFunc(list, func(a, b string) int { return strings.Compare(numbers[a], numbers[b]) }) {
				t.Errorf("group %s got %v", g, list)
			}
		}
		if n != 60 {
			t.Errorf("%d of 60 arrived", n)
		}
		if got := w.rows(duplicateTable) + w.rows(groupTable) + w.rows(expiryTable); got != 0 {
			t.Errorf("after 10 minutes %d rows remember what was published", got)
		}
	})
}

// A duplicate within five minutes is accepted and not delivered; the scope may be the topic or the group.
func TestDeduplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for scope, want := range map[string]int{"Topic": 1, "MessageGroup": 2} {
			topic := w.topic("t"+scope+".fifo", map[string]string{"FifoThroughputScope": scope})
			w.subscribe(topic, "sqs", queueARN("q.fifo"), nil)
			var ids []string
			send := func(group string) {
				out := w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m"), MessageGroupId: &group, MessageDeduplicationId: new("d")})
				ids = append(ids, *out.MessageId+*out.SequenceNumber)
			}
			send("a")
			send("a")
			send("b")
			synctest.Wait()
			if got := w.all(); len(got) != want || ids[0] != ids[1] || (ids[0] == ids[2]) != (want == 1) {
				t.Errorf("%s: %d deliveries, ids %v", scope, len(got), ids)
			}
			time.Sleep(deduplication + time.Second)
			send("a")
			synctest.Wait()
			if got := w.all(); len(got) != 1 {
				t.Errorf("%s: %d deliveries after five minutes", scope, len(got))
			}
		}
	})
}

// An endpoint gets messages once it has confirmed. Whoever follows the link in a message ends that, and the endpoint can take it back.
func TestConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		out, err := snsapi.Subscribe.Call(w.ctx(), w.gate, &snsapi.SubscribeInput{TopicArn: &topic, Protocol: new("http"), Endpoint: new("http://e")})
		if err != nil || *out.SubscriptionArn != "pending confirmation" {
			t.Fatalf("%v %v", out, err)
		}
		synctest.Wait()
		first := w.all()
		w.verify(first[0].body)
		if h := first[0].header; h.Get("X-Amz-Sns-Message-Type") != "SubscriptionConfirmation" {
			t.Errorf("headers %v", h)
		}
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
		synctest.Wait()
		if got := w.all(); len(got) != 0 {
			t.Errorf("before it confirmed it got %v", got)
		}
		arn := w.subscribe(topic, "http", "http://e", nil) // asks once more
		synctest.Wait()
		again := w.all()
		guess := strings.Replace(arn[strings.LastIndexByte(arn, ':')+1:], "-", "", -1) + strings.Repeat("00", tokenBytes-16)
		for token, message := range map[string]string{guess: "Invalid parameter: Token", "12ab": "Invalid parameter: Token", "x": "Invalid token"} {
			_, err = snsapi.ConfirmSubscription.Call(w.anonymous(), w.gate, &snsapi.ConfirmSubscriptionInput{TopicArn: &topic, Token: &token})
			refused(t, err, "InvalidParameterException", message)
		}
		w.follow(first[0].body)
		w.follow(again[0].body)
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
		synctest.Wait()
		if got := w.all(); len(got) != 1 || got[0].header.Get("X-Amz-Sns-Subscription-Arn") != arn {
			t.Errorf("it got %v", got)
		}
		if _, err := snsapi.Unsubscribe.Call(w.anonymous(), w.gate, &snsapi.UnsubscribeInput{SubscriptionArn: &arn}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ended := w.all()
		if len(ended) != 1 || ended[0].header.Get("X-Amz-Sns-Message-Type") != "UnsubscribeConfirmation" {
			t.Fatalf("it was told %v", ended)
		}
		w.verify(ended[0].body)
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
		w.follow(ended[0].body)
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("again")})
		synctest.Wait()
		if got := w.all(); len(got) != 1 || !strings.Contains(got[0].body, "again") {
			t.Errorf("it got %v", got)
		}
		a, err := snsapi.GetTopicAttributes.Call(w.ctx(), w.gate, &snsapi.GetTopicAttributesInput{TopicArn: &topic})
		if err != nil || a.Attributes["SubscriptionsConfirmed"] != "1" || a.Attributes["SubscriptionsDeleted"] != "1" {
			t.Errorf("%v %v", a, err)
		}
	})
}

// What is not confirmed in two days is removed; what is, stays. A locked subscription is its owner's.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		w.subscribe(topic, "http", "http://pending", nil)
		synctest.Wait()
		w.all()
		stays := w.confirmed(topic, "http://stays", nil)
		locked := w.subscribe(topic, "http", "http://locked", nil)
		synctest.Wait()
		var m struct{ Token string }
		json.Unmarshal([]byte(w.all()[0].body), &m)
		if _, err := snsapi.ConfirmSubscription.Call(w.ctx(), w.gate, &snsapi.ConfirmSubscriptionInput{TopicArn: &topic, Token: &m.Token, AuthenticateOnUnsubscribe: new("true")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(confirmationTime + 2*time.Minute)
		synctest.Wait()
		out, err := snsapi.ListSubscriptionsByTopic.Call(w.ctx(), w.gate, &snsapi.ListSubscriptionsByTopicInput{TopicArn: &topic})
		if err != nil || len(out.Subscriptions) != 2 {
			t.Errorf("%v %v", out, err)
		}
		_, err = snsapi.Unsubscribe.Call(w.anonymous(), w.gate, &snsapi.UnsubscribeInput{SubscriptionArn: &locked})
		if code(err) != "AuthorizationErrorException" {
			t.Errorf("a stranger ends a locked subscription: %v", err)
		}
		for _, arn := range []string{stays, locked} {
			if _, err := snsapi.Unsubscribe.Call(w.ctx(), w.gate, &snsapi.UnsubscribeInput{SubscriptionArn: &arn}); err != nil {
				t.Error(err)
			}
		}
		if n := w.rows(subscriptionTable) + w.rows(ownedTable) + w.rows(expiryTable) + w.rows(cancelledTable); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

// An endpoint that limits its rate gets no more than that.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		w.confirmed(topic, "http://e", map[string]string{"DeliveryPolicy": `{"throttlePolicy":{"maxReceivesPerSecond":2}}`})
		w.begin = time.Now()
		for range 10 {
			w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		all := w.all()
		if len(all) != 10 || all[9].at < 4500*time.Millisecond || all[9].at > 10*time.Second {
			t.Errorf("got at %v", times(all))
		}
	})
}

// A topic that is deleted takes its subscriptions along, and what waits for them.
func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		for _, q := range []string{"a", "b"} {
			w.subscribe(topic, "sqs", queueARN(q), nil)
		}
		w.answer = func(*delivered) error { return apierr.New("InternalFailure", 500, "no") }
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
		for range 2 {
			if _, err := snsapi.DeleteTopic.Call(w.ctx(), w.gate, &snsapi.DeleteTopicInput{TopicArn: &topic}); err != nil {
				t.Fatal(err)
			}
		}
		w.topic("t", nil)
		out, err := snsapi.ListSubscriptions.Call(w.ctx(), w.gate, &snsapi.ListSubscriptionsInput{})
		if err != nil || len(out.Subscriptions) != 0 {
			t.Errorf("%v %v", out, err)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.empty()
	})
}

// What a policy filters out is not even queued.
func TestFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		w.subscribe(topic, "sqs", queueARN("attributes"), map[string]string{"FilterPolicy": `{"kind":["order"]}`})
		w.subscribe(topic, "sqs", queueARN("body"), map[string]string{"FilterPolicy": `{"a":{"n":[{"numeric":[">",1]}]}}`, "FilterPolicyScope": "MessageBody"})
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new(`{"a":{"n":2}}`)})
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new(`x`), MessageAttributes: map[string]snsapi.MessageAttributeValue{"kind": {DataType: new("String"), StringValue: new("order")}}})
		synctest.Wait()
		var to []string
		for _, d := range w.all() {
			to = append(to, d.to)
		}
		slices.Sort(to)
		if !slices.Equal(to, []string{"attributes", "body"}) {
			t.Errorf("delivered to %v", to)
		}
		_, err := snsapi.Subscribe.Call(w.ctx(), w.gate, &snsapi.SubscribeInput{TopicArn: &topic, Protocol: new("sqs"), Endpoint: new(queueARN("x")), Attributes: map[string]string{"FilterPolicy": `{"a":{"b":["c"]}}`}})
		refused(t, err, "InvalidParameterException", "Invalid parameter: Attributes Reason: Filter policy scope MessageAttributes does not support nested filter policy")
	})
}

// Deliveries that need the key at once make one.
func TestOneKey(t *testing.T) {
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := signer{db: db}
	var wg sync.WaitGroup
	var mu sync.Mutex
	files := map[string]bool{}
	for range 8 {
		wg.Go(func() {
			_, file, err := s.ready(context.Background())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			files[file] = true
		})
	}
	wg.Wait()
	again := signer{db: db}
	if _, file, err := again.ready(context.Background()); err != nil || len(files) != 1 || !files[file] {
		t.Errorf("certificates %v and %s: %v", files, file, err)
	}
}

// A message whose last delivery had ended when the process died is removed by the next one, and one that still has a delivery stays.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		w.subscribe(topic, "sqs", queueARN("a"), nil)
		w.subscribe(topic, "sqs", queueARN("b"), nil)
		w.answer = func(d *delivered) error {
			if d.to == "b" {
				return apierr.New("InternalFailure", 500, "no")
			}
			return nil
		}
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("m")})
		synctest.Wait()
		w.stop()
		if err := w.db.Update(context.Background(), func(tx kv.Tx) error { tx.Set(messageKey("left"), []byte("{}")); return nil }); err != nil {
			t.Fatal(err)
		}
		w.start()
		time.Sleep(sweeping / 2)
		synctest.Wait()
		if n := w.rows(messageTable); n != 1 {
			t.Errorf("%d messages are stored, one has a delivery left", n)
		}
		w.mu.Lock()
		w.answer = nil
		w.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		w.empty()
	})
}

// A queue of another account is asked first, by a message in it.
func TestOtherAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		topic := w.topic("t", nil)
		arn := w.subscribe(topic, "sqs", "arn:aws:sqs:"+region+":444455556666:theirs", nil)
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("too early")})
		synctest.Wait()
		asked := w.all()
		if len(asked) != 1 || asked[0].to != "theirs" || !strings.Contains(asked[0].body, `"Type" : "SubscriptionConfirmation"`) {
			t.Fatalf("the queue got %v", asked)
		}
		w.verify(asked[0].body)
		w.follow(asked[0].body)
		w.publish(&snsapi.PublishInput{TopicArn: &topic, Message: new("now")})
		synctest.Wait()
		if got := w.all(); len(got) != 1 || !strings.Contains(got[0].body, `"Message" : "now"`) {
			t.Errorf("the queue got %v", got)
		}
		stranger := call.With(t.Context(), &call.Info{Account: "777788889999", Region: region, Principal: call.Principal{Type: call.Root, ARN: "arn:aws:iam::777788889999:root"}})
		_, err := snsapi.SetSubscriptionAttributes.Call(stranger, w.gate, &snsapi.SetSubscriptionAttributesInput{SubscriptionArn: &arn, AttributeName: new("RawMessageDelivery"), AttributeValue: new("true")})
		if code(err) != "AuthorizationErrorException" {
			t.Errorf("a stranger changes a subscription: %v", err)
		}
	})
}
