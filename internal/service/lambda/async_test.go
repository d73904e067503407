package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
	deliver "github.com/mayflyhq/mayfly/internal/target"
)

// sink takes deliveries.
type sink struct {
	mu     sync.Mutex
	refuse func(arn string) error
	got    []delivered
	tries  int
}

type delivered struct {
	target    string
	principal string
	event     deliver.Event
}

func (s *sink) Check(arn string) error {
	if _, err := deliver.KindOf(arn); err != nil {
		return err
	}
	if strings.Contains(arn, ":events:") {
		return apierr.New("NotImplemented", 501, "Mayfly does not serve events:PutEvents yet.")
	}
	return nil
}

func (s *sink) Deliver(ctx context.Context, arn string, e *deliver.Event) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.refuse != nil {
		if err := s.refuse(arn); err != nil {
			return "", err
		}
	}
	s.got = append(s.got, delivered{arn, call.From(ctx).Principal.ARN, *e})
	return "", nil
}

const (
	queueARN = "arn:aws:sqs:eu-central-1:111122223333:results"
	deadARN  = "arn:aws:sqs:eu-central-1:111122223333:dead"
	topicARN = "arn:aws:sns:eu-central-1:111122223333:results"
	eventID  = "11111111-2222-4333-8444-555555555555"
)

// anyRole lets every role be assumed.
type anyRole struct{ fakeRoles }

func (anyRole) Assumable(context.Context, string, string) (bool, error) { return true, nil }

// everybody may do everything but what is named.
type everybody struct{ but string }

func (e everybody) Check(_ context.Context, r authorize.Request) error {
	if r.Action == e.but {
		return apierr.New("AccessDenied", 403, "no")
	}
	return nil
}

// A dead-letter queue is refused that the role may not send to.
func TestDeadLetterRole(t *testing.T) {
	w := newWorld(t, func(d *Deps) { d.Roles, d.Checker = anyRole{}, everybody{but: "sqs:SendMessage"} })
	w.run()
	w.created("f", func(in *lambdaapi.CreateFunctionInput) {
		in.DeadLetterConfig = &lambdaapi.DeadLetterConfig{TargetArn: new(topicARN)}
	})
	dead := func(target string) *lambdaapi.UpdateFunctionConfigurationInput {
		return &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), DeadLetterConfig: &lambdaapi.DeadLetterConfig{TargetArn: &target}}
	}
	_, err := lambdaapi.UpdateFunctionConfiguration.Call(context.Background(), w, dead(queueARN))
	if e := apierr.From(err); e == nil || e.Code != "InvalidParameterValueException" || e.Message != "The provided execution role does not have permissions to call SendMessage on SQS" {
		t.Error(err)
	}
	if _, err := lambdaapi.UpdateFunctionConfiguration.Call(context.Background(), w, dead("")); err != nil {
		t.Error(err)
	}
}

// asyncWorld has a function f whose deliveries go to a sink. It must be made in a bubble.
func asyncWorld(t *testing.T, change ...func(*lambdaapi.CreateFunctionInput)) (*world, *sink) {
	to := &sink{}
	w := newWorld(t, func(d *Deps) { d.Destinations, d.Roles, d.Checker = to, anyRole{}, everybody{} })
	w.run()
	w.created("f", change...)
	return w, to
}

// send invokes f asynchronously.
func (w *world) send(name, payload string) {
	w.t.Helper()
	info := call.From(as(context.Background(), testAccount, testRegion))
	info.RequestID, info.Trace = eventID, "Root=1-2-3"
	out := must(lambdaapi.Invoke.Call(call.With(context.Background(), info), w, &lambdaapi.InvokeInput{
		FunctionName: &name, InvocationType: new("Event"), Payload: []byte(payload),
	}))(w.t)
	if *out.StatusCode != 202 || out.Payload != nil || out.ExecutedVersion != nil {
		w.t.Errorf("answer %+v", out)
	}
}

// runs records when the function runs and lets it answer.
func (w *world) runs(answer func(n int, req *fleet.Request) (*fleet.Response, error)) *[]string {
	begin := time.Now()
	var all []string
	w.invoker.serve = func(fn *fleet.Function, req *fleet.Request) (*fleet.Response, error) {
		all = append(all, fmt.Sprintf("%s %s %s %t %s", time.Since(begin), req.RequestID, req.InvokedARN, req.Background, req.Payload))
		return answer(len(all), req)
	}
	return &all
}

func (w *world) noQueue() {
	w.t.Helper()
	w.db.View(context.Background(), func(r kv.Reader) error {
		for e, err := range r.Scan(kv.Prefix("durable")) {
			w.t.Errorf("left in the queue: %s %v", kv.Format(e.Key), err)
		}
		return nil
	})
}

func (w *world) configure(in *lambdaapi.PutFunctionEventInvokeConfigInput) {
	w.t.Helper()
	if in.FunctionName == nil {
		in.FunctionName = new("f")
	}
	must(lambdaapi.PutFunctionEventInvokeConfig.Call(context.Background(), w, in))(w.t)
}

func destinations(success, failure string) *lambdaapi.DestinationConfig {
	d := &lambdaapi.DestinationConfig{}
	if success != "" {
		d.OnSuccess = &lambdaapi.OnSuccess{Destination: &success}
	}
	if failure != "" {
		d.OnFailure = &lambdaapi.OnFailure{Destination: &failure}
	}
	return d
}

func failing(int, *fleet.Request) (*fleet.Response, error) {
	return &fleet.Response{FunctionError: "Unhandled", Payload: []byte(`{"errorMessage":"no","errorType":"E"}`)}, nil
}

// A function that fails runs three times with one request id, after AWS's waits; then both its destinations are told.
func TestEventRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := asyncWorld(t, func(in *lambdaapi.CreateFunctionInput) {
			in.DeadLetterConfig = &lambdaapi.DeadLetterConfig{TargetArn: new(deadARN)}
		})
		w.configure(&lambdaapi.PutFunctionEventInvokeConfigInput{DestinationConfig: destinations(topicARN, queueARN)})
		got := w.runs(failing)
		w.send("f", `{"a": 1}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []string{}
		for _, at := range []string{"0s", "1m0s", "3m0s"} {
			want = append(want, at+" "+eventID+" "+testARN+`f true {"a": 1}`)
		}
		if !slices.Equal(*got, want) {
			t.Errorf("ran\n%s\nwant\n%s", strings.Join(*got, "\n"), strings.Join(want, "\n"))
		}
		if len(to.got) != 2 {
			t.Fatalf("delivered %+v", to.got)
		}
		slices.SortFunc(to.got, func(a, b delivered) int { return -strings.Compare(a.target, b.target) })
		var rec record
		json.Unmarshal(to.got[0].event.Body, &rec)
		const form = `{"version":"1.0","timestamp":"%s","requestContext":{"requestId":"` + eventID + `","functionArn":"` + testARN +
			`f:$LATEST","condition":"RetriesExhausted","approximateInvokeCount":3},"requestPayload":{"a":1},` +
			`"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"responsePayload":{"errorMessage":"no","errorType":"E"}}`
		if body := fmt.Sprintf(form, rec.Timestamp); string(to.got[0].event.Body) != body || to.got[0].target != queueARN || to.got[0].principal != testRole {
			t.Errorf("delivered %s %s as %s\nwant %s", to.got[0].target, to.got[0].event.Body, to.got[0].principal, body)
		}
		dead := to.got[1]
		attributes := []deliver.Attribute{{Name: "RequestID", Type: "String", Value: eventID}, {Name: "ErrorCode", Type: "Number", Value: "200"}, {Name: "ErrorMessage", Type: "String", Value: "no"}}
		if dead.target != deadARN || string(dead.event.Body) != `{"a": 1}` || !slices.Equal(dead.event.Attributes, attributes) {
			t.Errorf("dead letter %+v", dead)
		}
		w.noQueue()
	})
}

// An event keeps the qualifier that it was sent to: its alias is asked on each attempt which version runs, and its own configuration holds.
func TestEventToAlias(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w, to := asyncWorld(t)
		for i := range 2 {
			must(lambdaapi.UpdateFunctionConfiguration.Call(ctx, w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(10 + i))}))(t)
			w.settled("f")
			must(lambdaapi.PublishVersion.Call(ctx, w, &lambdaapi.PublishVersionInput{FunctionName: new("f")}))(t)
			time.Sleep(time.Second)
		}
		must(lambdaapi.CreateAlias.Call(ctx, w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
		w.configure(&lambdaapi.PutFunctionEventInvokeConfigInput{Qualifier: new("live"), MaximumRetryAttempts: new(int32(1)), DestinationConfig: destinations("", queueARN)})
		var versions []string
		w.invoker.serve = func(fn *fleet.Function, req *fleet.Request) (*fleet.Response, error) {
			versions = append(versions, fn.Version+" "+req.InvokedARN)
			return failing(0, req)
		}
		w.send("f:live", "1")
		time.Sleep(30 * time.Second)
		must(lambdaapi.UpdateAlias.Call(ctx, w, &lambdaapi.UpdateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("2")}))(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		var rec record
		if len(to.got) == 1 {
			json.Unmarshal(to.got[0].event.Body, &rec)
		}
		if want := []string{"1 " + testARN + "f:live", "2 " + testARN + "f:live"}; !slices.Equal(versions, want) || rec.RequestContext.FunctionARN != testARN+"f:live" || rec.ResponseContext.ExecutedVersion != "2" {
			t.Errorf("ran %v, record %+v", versions, to.got)
		}
		w.noQueue()
	})
}

// Payloads that do not fit a target are left out of its record; others come through as they are.
func TestRecordSizes(t *testing.T) {
	w := &durable.Work{ID: eventID, Body: fmt.Appendf(nil, `"%s<&>"`, strings.Repeat("x", 200<<10))}
	e := &event{Account: testAccount, Region: testRegion, Name: "f"}
	large := strings.Repeat("\x00", 6<<20)
	for target, c := range map[string]struct {
		answer string
		whole  bool
	}{
		queueARN:         {`"` + strings.Repeat("y", 200<<10) + `"`, true},
		topicARN:         {`"` + strings.Repeat("y", 200<<10) + `"`, false},
		testARN + "g":    {`"` + strings.Repeat("y", 900<<10) + `"`, false},
		"arn:aws:s3:::b": {`"` + strings.Repeat("y", 6<<20) + `"`, true},
		"arn:aws:s3:::c": {large, false},
	} {
		all := deliveries(w, e, &eventInvoke{OnFailure: target}, testRole, "", conditionRetries, &response{payload: []byte(c.answer)}, time.Unix(0, 0))
		if got := strings.Contains(string(all[0].body), `x<&>"`); got != c.whole || len(all[0].body) > kv.MaxValueBytes {
			t.Errorf("%s: %t, %d bytes", target, got, len(all[0].body))
		}
	}
}

func TestEventSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := asyncWorld(t)
		w.configure(&lambdaapi.PutFunctionEventInvokeConfigInput{DestinationConfig: destinations(queueARN, topicARN)})
		w.runs(func(n int, req *fleet.Request) (*fleet.Response, error) {
			if n == 1 {
				return failing(n, req)
			}
			return &fleet.Response{Payload: []byte("not json")}, nil
		})
		w.send("f", "")
		time.Sleep(time.Hour)
		synctest.Wait()
		var rec map[string]any
		if len(to.got) != 1 || to.got[0].target != queueARN {
			t.Fatalf("delivered %+v", to.got)
		}
		json.Unmarshal(to.got[0].event.Body, &rec)
		delete(rec, "timestamp")
		b, _ := json.Marshal(rec)
		if want := `{"requestContext":{"approximateInvokeCount":2,"condition":"Success","functionArn":"` + testARN + `f:$LATEST","requestId":"` + eventID +
			`"},"requestPayload":{},"responseContext":{"executedVersion":"$LATEST","statusCode":200},"responsePayload":"not json","version":"1.0"}`; string(b) != want {
			t.Errorf("record %s\nwant %s", b, want)
		}
		w.noQueue()
	})
}

// What ends an event before its retries do.
func TestEventEnds(t *testing.T) {
	for name, c := range map[string]struct {
		config    *lambdaapi.PutFunctionEventInvokeConfigInput
		answer    func(n int, req *fleet.Request) (*fleet.Response, error)
		runs      int
		condition string
		invokes   int
	}{
		"no retries": {&lambdaapi.PutFunctionEventInvokeConfigInput{MaximumRetryAttempts: new(int32(0))}, failing, 1, "RetriesExhausted", 1},
		"age before the first retry": {&lambdaapi.PutFunctionEventInvokeConfigInput{MaximumEventAgeInSeconds: new(int32(60))},
			func(n int, req *fleet.Request) (*fleet.Response, error) {
				time.Sleep(time.Second)
				return failing(n, req)
			}, 1, "EventAgeExceeded", 1},
		"age before the second": {&lambdaapi.PutFunctionEventInvokeConfigInput{MaximumEventAgeInSeconds: new(int32(120))}, failing, 2, "EventAgeExceeded", 2},
		"switched off": {&lambdaapi.PutFunctionEventInvokeConfigInput{}, func(int, *fleet.Request) (*fleet.Response, error) {
			return nil, &fleet.ThrottledError{Reason: "ReservedFunctionConcurrentInvocationLimitExceeded"}
		}, 1, "ZeroReservedConcurrency", 0},
		"throttled to the end": {&lambdaapi.PutFunctionEventInvokeConfigInput{MaximumEventAgeInSeconds: new(int32(60))}, func(int, *fleet.Request) (*fleet.Response, error) {
			return nil, &fleet.ThrottledError{Reason: "ConcurrentInvocationLimitExceeded", RetryAfter: time.Second}
		}, 6, "EventAgeExceeded", 0},
		"troubled to the end": {&lambdaapi.PutFunctionEventInvokeConfigInput{MaximumEventAgeInSeconds: new(int32(60))}, func(int, *fleet.Request) (*fleet.Response, error) {
			return nil, io.ErrUnexpectedEOF
		}, 6, "EventAgeExceeded", 0},
		"throttles take no retries": {&lambdaapi.PutFunctionEventInvokeConfigInput{}, func(n int, req *fleet.Request) (*fleet.Response, error) {
			if n%2 == 1 {
				return nil, &fleet.ThrottledError{Reason: "ConcurrentInvocationLimitExceeded", RetryAfter: time.Second}
			}
			return failing(n, req)
		}, 6, "RetriesExhausted", 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, to := asyncWorld(t)
				c.config.DestinationConfig = destinations("", queueARN)
				w.configure(c.config)
				got := w.runs(c.answer)
				w.send("f", "1")
				time.Sleep(7 * time.Hour)
				synctest.Wait()
				if len(*got) != c.runs || len(to.got) != 1 {
					t.Fatalf("ran\n%s\ndelivered %+v", strings.Join(*got, "\n"), to.got)
				}
				var rec record
				json.Unmarshal(to.got[0].event.Body, &rec)
				if rec.RequestContext.Condition != c.condition || rec.RequestContext.ApproxInvoke != c.invokes {
					t.Errorf("record %s", to.got[0].event.Body)
				}
				w.noQueue()
			})
		})
	}
}

// Deliveries are tried again; what the target refuses is given up soon, what fails later.
func TestDeliveries(t *testing.T) {
	for name, c := range map[string]struct {
		refuse func(n int) error
		tries  int
		got    int
	}{
		"denied": {func(int) error { return apierr.New("AccessDenied", 403, "no") }, 3, 0},
		"trouble": {func(n int) error {
			if n < 5 {
				return apierr.New("InternalFailure", 500, "no")
			}
			return nil
		}, 5, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, to := asyncWorld(t)
				to.refuse = func(string) error { return c.refuse(to.tries) }
				w.configure(&lambdaapi.PutFunctionEventInvokeConfigInput{DestinationConfig: destinations(queueARN, "")})
				w.send("f", "1")
				time.Sleep(7 * time.Hour)
				synctest.Wait()
				if to.tries != c.tries || len(to.got) != c.got {
					t.Errorf("%d tries, delivered %+v", to.tries, to.got)
				}
				w.noQueue()
			})
		})
	}
}

// Accepted events outlive the service; new code and new configurations hold for the retries of old events.
func TestEventsSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := asyncWorld(t)
		var revisions []string
		serve := func(fn *fleet.Function, req *fleet.Request) (*fleet.Response, error) {
			revisions = append(revisions, fn.Revision)
			return failing(0, req)
		}
		w.invoker.serve = serve
		w.send("f", "1")
		time.Sleep(30 * time.Second)
		w.restart()
		w.run()
		must(lambdaapi.UpdateFunctionConfiguration.Call(context.Background(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(9))}))(t)
		w.settled("f")
		w.configure(&lambdaapi.PutFunctionEventInvokeConfigInput{MaximumRetryAttempts: new(int32(1)), DestinationConfig: destinations("", queueARN)})
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(revisions) != 2 || revisions[0] == revisions[1] || len(to.got) != 1 {
			t.Errorf("ran %v, delivered %+v", revisions, to.got)
		}
		w.send("f", "1")
		time.Sleep(time.Second)
		must(lambdaapi.DeleteFunction.Call(context.Background(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(revisions) != 3 || len(to.got) != 1 {
			t.Errorf("ran %v after its deletion", revisions)
		}
		w.noQueue()
	})
}

func TestEventInvokeConfig(t *testing.T) {
	to := &sink{}
	w := newWorld(t, func(d *Deps) { d.Destinations = to })
	w.run()
	w.created("f")
	w.created("g")
	ctx := t.Context()
	type put = lambdaapi.PutFunctionEventInvokeConfigInput
	show := func(c *lambdaapi.FunctionEventInvokeConfig, err error) string {
		t.Helper()
		if err != nil {
			t.Error(err)
			return ""
		}
		return fmt.Sprint(*c.FunctionArn, " ", c.MaximumRetryAttempts != nil, " ", deref(c.MaximumEventAgeInSeconds), " ",
			deref(c.DestinationConfig.OnSuccess.Destination), " ", deref(c.DestinationConfig.OnFailure.Destination))
	}
	if got := show(lambdaapi.PutFunctionEventInvokeConfig.Call(ctx, w, &put{FunctionName: new("f"), MaximumRetryAttempts: new(int32(0)), DestinationConfig: destinations(queueARN, "")})); got != testARN+"f:$LATEST true 0 "+queueARN+" " {
		t.Error(got)
	}
	if got := show(lambdaapi.UpdateFunctionEventInvokeConfig.Call(ctx, w, &lambdaapi.UpdateFunctionEventInvokeConfigInput{FunctionName: new("f"), MaximumEventAgeInSeconds: new(int32(60)), DestinationConfig: destinations("", testARN+"g")})); got != testARN+"f:$LATEST true 60 "+queueARN+" "+testARN+"g" {
		t.Error(got)
	}
	if got := show(lambdaapi.PutFunctionEventInvokeConfig.Call(ctx, w, &put{FunctionName: new("f"), MaximumEventAgeInSeconds: new(int32(61))})); got != testARN+"f:$LATEST false 61  " {
		t.Error(got)
	}
	must(lambdaapi.PublishVersion.Call(ctx, w, &lambdaapi.PublishVersionInput{FunctionName: new("f")}))(t)
	must(lambdaapi.CreateAlias.Call(ctx, w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
	for _, q := range []string{"1", "live"} {
		must(lambdaapi.PutFunctionEventInvokeConfig.Call(ctx, w, &put{FunctionName: new("f"), Qualifier: &q, MaximumRetryAttempts: new(int32(1))}))(t)
	}
	list := func(marker *string) (arns []string, next *string) {
		out := must(lambdaapi.ListFunctionEventInvokeConfigs.Call(ctx, w, &lambdaapi.ListFunctionEventInvokeConfigsInput{FunctionName: new("f"), MaxItems: new(int32(2)), Marker: marker}))(t)
		for _, c := range out.FunctionEventInvokeConfigs {
			arns = append(arns, strings.TrimPrefix(*c.FunctionArn, testARN))
		}
		return arns, out.NextMarker
	}
	first, next := list(nil)
	rest, end := list(next)
	if all := append(first, rest...); !slices.Equal(all, []string{"f:$LATEST", "f:1", "f:live"}) || end != nil {
		t.Errorf("listed %v", all)
	}
	must(lambdaapi.DeleteAlias.Call(ctx, w, &lambdaapi.DeleteAliasInput{FunctionName: new("f"), Name: new("live")}))(t)
	if all, _ := list(nil); !slices.Equal(all, []string{"f:$LATEST", "f:1"}) {
		t.Errorf("after the alias has gone: %v", all)
	}
	must(lambdaapi.DeleteFunctionEventInvokeConfig.Call(ctx, w, &lambdaapi.DeleteFunctionEventInvokeConfigInput{FunctionName: new("f:1")}))(t)

	const param, gone = "InvalidParameterValueException", "ResourceNotFoundException"
	for name, c := range map[string]struct {
		in     put
		code   string
		status int
		text   string
	}{
		"nothing":        {put{FunctionName: new("f")}, param, 400, "You must specify at least one of error handling or destination setting."},
		"no function":    {put{FunctionName: new("nope"), MaximumRetryAttempts: new(int32(1))}, gone, 404, "The function doesn't exist."},
		"no alias":       {put{FunctionName: new("f:nope"), MaximumRetryAttempts: new(int32(1))}, gone, 404, "The function doesn't exist."},
		"retries":        {put{FunctionName: new("f"), MaximumRetryAttempts: new(int32(3))}, "ValidationException", 400, "1 validation error detected: Value '3' at 'maximumRetryAttempts' failed to satisfy constraint: Member must have value less than or equal to 2"},
		"age":            {put{FunctionName: new("f"), MaximumEventAgeInSeconds: new(int32(59))}, "ValidationException", 400, "1 validation error detected: Value '59' at 'maximumEventAgeInSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60"},
		"itself":         {put{FunctionName: new("f"), DestinationConfig: destinations(testARN+"f:1", "")}, param, 400, "You can't specify the function as a destination for itself."},
		"unknown":        {put{FunctionName: new("f"), DestinationConfig: destinations("", testARN+"nope")}, param, 400, "The destination ARN " + testARN + "nope is invalid."},
		"other service":  {put{FunctionName: new("f"), DestinationConfig: destinations("arn:aws:iam::111122223333:role/r", "")}, param, 400, "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:iam::111122223333:role/r), onFailure=null) is invalid."},
		"S3 for success": {put{FunctionName: new("f"), DestinationConfig: destinations("arn:aws:s3:::b", "")}, param, 400, "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::b), onFailure=null) is invalid."},
		"FIFO":           {put{FunctionName: new("f"), DestinationConfig: destinations("", queueARN+".fifo")}, param, 400, "The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination=" + queueARN + ".fifo)) is invalid."},
		"not served":     {put{FunctionName: new("f"), DestinationConfig: destinations("", "arn:aws:events:eu-central-1:111122223333:event-bus/default")}, param, 400, "The destination ARN arn:aws:events:eu-central-1:111122223333:event-bus/default cannot be used: Mayfly does not serve events:PutEvents yet."},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lambdaapi.PutFunctionEventInvokeConfig.Call(ctx, w, &c.in)
			wantError(t, err, c.code, c.status, c.text)
		})
	}
	name := new("f:1")
	missing := "The function " + testARN + "f:1 doesn't have an EventInvokeConfig"
	for _, err := range []error{
		second(lambdaapi.GetFunctionEventInvokeConfig.Call(ctx, w, &lambdaapi.GetFunctionEventInvokeConfigInput{FunctionName: name})),
		second(lambdaapi.DeleteFunctionEventInvokeConfig.Call(ctx, w, &lambdaapi.DeleteFunctionEventInvokeConfigInput{FunctionName: name})),
		second(lambdaapi.UpdateFunctionEventInvokeConfig.Call(ctx, w, &lambdaapi.UpdateFunctionEventInvokeConfigInput{FunctionName: name, MaximumRetryAttempts: new(int32(1))})),
	} {
		wantError(t, err, gone, 404, missing)
	}
}

func TestAccept(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	_, err := lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("f"), InvocationType: new("Event"), Payload: make([]byte, 1<<20+1)})
	wantError(t, err, "RequestTooLargeException", 413, "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)")
	_, err = lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("f"), InvocationType: new("Event"), Payload: []byte("{")})
	if apierr.Code(err) != "InvalidRequestContentException" {
		t.Error(err)
	}
	_, err = lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("nope"), InvocationType: new("Event")})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+testARN+"nope:$LATEST")
	out := must(lambdaapi.InvokeAsync.Call(t.Context(), w, &lambdaapi.InvokeAsyncInput{FunctionName: new("f"), InvokeArgs: io.NopCloser(strings.NewReader("1"))}))(t)
	if *out.Status != 202 {
		t.Errorf("status %d", *out.Status)
	}
}

func TestRecursion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := asyncWorld(t)
		w.configure(&lambdaapi.PutFunctionEventInvokeConfigInput{DestinationConfig: destinations("", queueARN)})
		// The function invokes itself as an SDK does in it: with the trace that it got.
		var mu sync.Mutex
		var ran int
		var refused []error
		invoke := func(kind, trace string) {
			info := *call.From(as(context.Background(), testAccount, testRegion))
			info.Trace = trace
			_, err := lambdaapi.Invoke.Call(call.With(context.Background(), &info), w, &lambdaapi.InvokeInput{FunctionName: new("f"), InvocationType: &kind})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				refused = append(refused, err)
			}
		}
		loop := func(kind string) int {
			ran = 0
			w.invoker.serve = func(_ *fleet.Function, req *fleet.Request) (*fleet.Response, error) {
				if ran++; ran < 100 {
					go invoke(kind, req.Trace)
				}
				return &fleet.Response{}, nil
			}
			invoke(kind, "Root=1-2-3")
			time.Sleep(time.Minute)
			synctest.Wait()
			return ran
		}
		n := loop("Event")
		var rec record
		if len(to.got) == 1 {
			json.Unmarshal(to.got[0].event.Body, &rec)
		}
		if n != 16 || rec.RequestContext.Condition != "RecursiveInvocation" || len(refused) != 0 {
			t.Errorf("ran %d times, delivered %+v, %v", n, to.got, refused)
		}
		if n := loop("RequestResponse"); n != 16 || len(refused) != 1 {
			t.Fatalf("ran %d times, %v", n, refused)
		}
		wantError(t, refused[0], "RecursiveInvocationException", 400, recursionMessage)
		must(lambdaapi.PutFunctionRecursionConfig.Call(context.Background(), w, &lambdaapi.PutFunctionRecursionConfigInput{FunctionName: new("f"), RecursiveLoop: new("Allow")}))(t)
		got := must(lambdaapi.GetFunctionRecursionConfig.Call(context.Background(), w, &lambdaapi.GetFunctionRecursionConfigInput{FunctionName: new("f")}))(t)
		if n := loop("Event"); n != 100 || *got.RecursiveLoop != "Allow" {
			t.Errorf("allowed, it ran %d times", n)
		}
		w.noQueue()
	})
}
