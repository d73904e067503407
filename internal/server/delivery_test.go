package server

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/mayflyhq/mayfly/internal/eventsource"
	queues "github.com/mayflyhq/mayfly/internal/service/sqs"
)

const (
	queueARN = "arn:aws:sqs:us-east-1:000000000000:q"
	deadARN  = "arn:aws:sqs:us-east-1:000000000000:dead"
)

// What a mapping knows of a message and where that is make one answer.
func TestPlace(t *testing.T) {
	next := time.Now().Add(time.Minute).UTC()
	here := func(s queues.PlaceState) []queues.Place {
		p := queues.Place{Queue: queueARN, State: s, Receives: 2}
		if s != queues.Visible {
			p.Until = next
		}
		return []queues.Place{p}
	}
	dead := []queues.Place{{Queue: deadARN, Source: queueARN, State: queues.Visible}}
	elsewhere := []queues.Place{{Queue: "arn:aws:sqs:us-east-1:000000000000:another", State: queues.Visible}}
	behind := []queues.Place{{Queue: queueARN, State: queues.Visible, Behind: "m0", BehindUntil: next}}
	for _, c := range []struct {
		name     string
		known    eventsource.State
		places   []queues.Place
		complete bool
		want     eventsource.State
		next     bool
		why      string
	}{
		{"not taken", eventsource.Unknown, here(queues.Visible), true, eventsource.Waiting, false, "has not taken it"},
		{"not due", eventsource.Unknown, here(queues.Delayed), true, eventsource.Waiting, true, "delay"},
		{"with others", eventsource.Unknown, here(queues.InFlight), true, eventsource.Waiting, true, "another consumer"},
		{"in a group", eventsource.Unknown, behind, true, eventsource.Waiting, true, "in its group"},
		{"failed", eventsource.Failed, here(queues.InFlight), true, eventsource.Failed, true, ""},
		{"failed and back", eventsource.Failed, here(queues.Visible), true, eventsource.Failed, false, "visible in its queue again"},
		{"in the function", eventsource.InFlight, here(queues.InFlight), true, eventsource.InFlight, false, ""},
		{"just processed", eventsource.Processed, here(queues.InFlight), true, eventsource.Processed, false, "being deleted"},
		{"processed", eventsource.Processed, nil, true, eventsource.Processed, false, ""},
		{"dead", eventsource.Failed, dead, true, eventsource.DeadLettered, false, "dead-letter queue"},
		{"dead before a start", eventsource.Unknown, dead, true, eventsource.DeadLettered, false, "dead-letter queue"},
		{"gone", eventsource.Failed, elsewhere, true, eventsource.Gone, false, "purged"},
		{"perhaps gone", eventsource.Failed, nil, false, eventsource.Failed, false, ""},
		{"just sent", eventsource.InFlight, nil, true, eventsource.InFlight, false, ""},
		{"unknown", eventsource.Unknown, nil, true, eventsource.Unknown, false, ""},
	} {
		o := eventsource.Outcome{State: c.known}
		place(&o, queueARN, c.places, c.complete)
		if o.State != c.want || o.Next.IsZero() == c.next || (o.Why == "") != (c.why == "") || !strings.Contains(o.Why, c.why) {
			t.Errorf("%s: %+v", c.name, o)
		}
	}
	o := eventsource.Outcome{State: eventsource.Failed}
	if place(&o, "arn:aws:kinesis:us-east-1:000000000000:stream/s", nil, true); o.State != eventsource.Failed {
		t.Errorf("of a stream: %+v", o)
	}
}

func TestReason(t *testing.T) {
	trouble := func(code, text string) *eventsource.Trouble {
		return &eventsource.Trouble{Since: time.Now(), Count: 3, Code: code, Error: text}
	}
	for want, x := range map[string]MappingStatus{
		"": {},
		"The mapping is disabled: it reads nothing until it is enabled.": {State: "Disabled", Reading: trouble("", "x")},
		"The mapping is disabling":                                       {State: "Disabling"},
		"may not read the source, 3 times":                               {Reading: trouble("AccessDenied", "no"), Invoking: trouble("", "x")},
		"The source could not be read, 3 times":                          {Reading: trouble("", "no")},
		"no free capacity":                                               {Invoking: trouble("TooManyRequestsException", "Rate Exceeded.")},
		"recursive loop":                                                 {Invoking: trouble("RecursiveInvocationException", "loop")},
		"could not be invoked":                                           {Invoking: trouble("ServiceException", "x")},
		"The function fails, 3 times":                                    {Invoking: trouble("", `{"errorMessage":"no","errorType":"ValueError"}`)},
		": ValueError: no":                                               {Invoking: trouble("", `{"errorMessage":"no","errorType":"ValueError"}`)},
	} {
		if x.State == "" {
			x.State = "Enabled"
		}
		x.Oldest = new(time.Now())
		if got := x.reason(""); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q, not %q", got, want)
		}
	}
	x := MappingStatus{State: "Enabled", Shards: []eventsource.ShardStatus{{ID: "a"}, {ID: "b", State: eventsource.ShardFailing, Failing: "1", Attempts: 2, Error: "no"}}}
	if got := x.reason(""); !strings.HasPrefix(got, "The batch from 1 of b fails, 2 times so far") {
		t.Errorf("one shard: %q", got)
	}
	x = MappingStatus{State: "Enabled", Invoking: trouble("", "no")}
	if got := x.reason(""); got != "" {
		t.Errorf("with nothing left: %q", got)
	}
	if got := x.reason("The queue q does not exist."); got != "The queue q does not exist." {
		t.Errorf("missing: %q", got)
	}
}

// A mapping is listed and measured, and what is missing is said first.
func TestMappingsAndMetrics(t *testing.T) {
	i := start(t, Config{Metrics: "127.0.0.1:0"})
	ctx := t.Context()
	i.create("f", lambda.CreateFunctionInput{Code: echoCode(t)})
	made, err := sqs.NewFromConfig(i.sdk()).CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("q")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := i.lambda().CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("f"), EventSourceArn: aws.String(queueARN)})
	if err != nil {
		t.Fatal(err)
	}
	i.enabled(m.UUID)
	if _, err := sqs.NewFromConfig(i.sdk()).SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: aws.String("a")}); err != nil {
		t.Fatal(err)
	}
	list := func() MappingStatus {
		var all []MappingStatus
		i.operator("mappings", &all)
		if len(all) != 1 {
			t.Fatalf("mappings %+v", all)
		}
		return all[0]
	}
	eventually(t, "the message", func() bool { return list().Metrics.Deleted == 1 })
	if x := list(); x.Since == nil || x.Reason != "" || x.Waiting != 0 || x.Oldest != nil || x.Metrics.Batches != 1 {
		t.Errorf("%+v", x)
	}
	url := "http://" + i.metrics.Addr().String() + "/metrics"
	scrape := func(host string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	eventually(t, "the bill", func() bool { // which follows the answer
		_, text := scrape("")
		return strings.Contains(text, `mayfly_function_invocations_total{region="us-east-1",function="f"} 1`+"\n")
	})
	status, text := scrape("")
	of := `{mapping="` + *m.UUID + `",source="` + queueARN + `",function="arn:aws:lambda:us-east-1:000000000000:function:f"} `
	for _, want := range []string{
		"# TYPE mayfly_mapping_batches_total counter\nmayfly_mapping_batches_total" + of + "1\n", "mayfly_mapping_enabled" + of + "1\n", "mayfly_mapping_oldest_age_seconds" + of + "0\n",
		`mayfly_queue_messages{region="us-east-1",queue="q",state="visible"} 0` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%d: no %s in\n%s", status, want, text)
		}
	}
	seen := map[string]bool{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "# TYPE "); ok {
			if name, _, _ = strings.Cut(name, " "); seen[name] {
				t.Errorf("%s comes twice", name)
			}
			seen[name] = true
		}
	}
	if status, _ := scrape("elsewhere.example"); status != http.StatusForbidden {
		t.Errorf("another host is answered with %d", status)
	}
	if _, err := listenMetrics(ctx, "0.0.0.0:0"); err == nil {
		t.Error("metrics for everybody")
	}

	if _, err := i.lambda().DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if got := list().Reason; !strings.Contains(got, "function:f does not exist") {
		t.Errorf("without the function: %q", got)
	}
}
