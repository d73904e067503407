package runtimeapi

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const (
	registerPath  = "/2020-01-01/extension/register"
	eventPath     = "/2020-01-01/extension/event/next"
	extInitPath   = "/2020-01-01/extension/init/error"
	extExitPath   = "/2020-01-01/extension/exit/error"
	telemetryPath = "/2022-07-01/telemetry"
	logsPath      = "/2020-08-15/logs"
)

// register registers an extension and returns its identifier.
func (e *env) register(name string, events ...string) string {
	e.t.Helper()
	r := e.do("POST", registerPath, string(encode(map[string]any{"events": events})), "Lambda-Extension-Name", name)
	if r.status != 200 {
		e.t.Fatalf("register %s: %+v", name, r)
	}
	id := r.header.Get("Lambda-Extension-Identifier")
	if uuid.Validate(id) != nil {
		e.t.Fatalf("identifier %q", id)
	}
	return id
}

func (e *env) eventAsync(id string) <-chan reply {
	return e.async("GET", eventPath, "", "Lambda-Extension-Identifier", id)
}

// until waits until an extension is in a state.
func (e *env) until(name, state string) {
	e.t.Helper()
	for range 5000 {
		for _, x := range e.Extensions() {
			if x.Name == name && x.State == state {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	e.t.Fatalf("%s never became %s", name, state)
}

func TestExtensions(t *testing.T) {
	var events []Event
	e := start(t, Options{Extensions: []string{"one", "two"}, Notify: func(e Event) { events = append(events, e) }})
	one := e.register("one", "INVOKE", "SHUTDOWN")
	select {
	case <-e.ExtensionsRegistered():
		t.Error("registered too early")
	default:
	}
	two := e.register("two")
	wait(t, "registration", e.ExtensionsRegistered())
	three := e.register("inner", "INVOKE")
	if one == two || two == three {
		t.Error("identifiers repeat")
	}

	ev1, ev2 := e.eventAsync(one), e.eventAsync(two)
	got := e.nextAsync()
	e.until("one", "Ready")
	e.until("two", "Ready")
	select {
	case <-e.Ready():
		t.Error("ready before all are")
	default:
	}
	ev3 := e.eventAsync(three)
	wait(t, "ready", e.Ready())

	deadline := time.UnixMilli(676051)
	r := e.invoke(&Invocation{RequestID: "a", InvokedARN: "arn:fn", TraceID: "Root=1", Deadline: deadline, Event: []byte("1")})
	want := `{"eventType":"INVOKE","deadlineMs":676051,"requestId":"a","invokedFunctionArn":"arn:fn","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}}`
	for _, c := range []<-chan reply{ev1, ev3} {
		v := <-c
		e.wants(v, 200, want)
		if uuid.Validate(v.header.Get("Lambda-Extension-Event-Identifier")) != nil {
			t.Errorf("event identifier %q", v.header)
		}
	}
	e.wants(<-got, 200, "1")
	e.wants(e.respond("a", "2"), 202, okBody)
	wait(t, "response", r.Responded())
	got = e.nextAsync()
	ev1 = e.eventAsync(one)
	e.until("one", "Ready")
	select {
	case <-r.Done():
		t.Error("done while an extension runs")
	case <-time.After(10 * time.Millisecond):
	}
	ev3 = e.eventAsync(three)
	wait(t, "done", r.Done())
	if ts := r.Times(); !ts.ExtensionNext.After(ts.RuntimeNext) {
		t.Errorf("times %+v", ts)
	}

	if _, err := e.Invoke(&Invocation{RequestID: "b", Event: []byte("3"), Deadline: deadline}); err != nil {
		t.Fatal(err)
	}
	e.wants(<-ev1, 200, `{"eventType":"INVOKE","deadlineMs":676051,"requestId":"b","invokedFunctionArn":""}`)
	<-ev3
	<-got

	told := e.Shutdown(ShutdownTimeout, deadline)
	if len(told) != 1 || told[0].Name != "one" || !told[0].External {
		t.Errorf("told %+v", told)
	}
	e.wants(<-e.eventAsync(one), 200, `{"eventType":"SHUTDOWN","deadlineMs":676051,"shutdownReason":"TIMEOUT"}`)
	if _, err := e.Invoke(&Invocation{}); err != ErrClosed {
		t.Errorf("Invoke after Shutdown: %v", err)
	}
	select {
	case v := <-ev2:
		t.Errorf("two got %+v", v)
	default:
	}

	e.Reset()
	e.wantsError(e.do("GET", eventPath, "", "Lambda-Extension-Identifier", one), 403, unknownIdentifier, "Unknown extension "+one)
	if again := e.register("one"); again == one {
		t.Error("the identifier outlived the reset")
	}

	var lines []string
	for _, v := range events {
		lines = append(lines, v.Type+" "+string(encode(v.Record)))
	}
	if want := []string{
		`platform.extension {"name":"one","state":"Ready","events":["INVOKE","SHUTDOWN"]}`,
		`platform.extension {"name":"two","state":"Ready","events":[]}`,
		`platform.extension {"name":"inner","state":"Ready","events":["INVOKE"]}`,
	}; !slices.Equal(lines, want) {
		t.Errorf("events %q", lines)
	}
}

func TestRegister(t *testing.T) {
	e := start(t, Options{Extensions: []string{"ext"}})
	reg := func(body string, headers ...string) reply { return e.do("POST", registerPath, body, headers...) }
	name := "Lambda-Extension-Name"
	e.wantsError(reg(`{}`), 403, invalidExtensionName, "Empty extension name")
	if r := reg(`{`, name, "ext"); r.status != 403 || !strings.Contains(r.body, invalidRequestFormat) {
		t.Errorf("bad JSON: %+v", r)
	}
	if r := reg(`{"configurationKeys":["k"]}`, name, "ext"); r.status != 403 || !strings.Contains(r.body, invalidRequestFormat) {
		t.Errorf("configuration keys: %+v", r)
	}
	if r := reg(strings.Repeat(" ", maxSmallBody+1), name, "ext"); r.status != 403 || !strings.Contains(r.body, invalidRequestFormat) {
		t.Errorf("large body: %+v", r)
	}
	e.wantsError(reg(`{"events":["RESTORE"]}`, name, "ext"), 403, invalidEventType, "RESTORE: ErrorInvalidEventType")
	e.wantsError(reg(`{"events":["INVOKE","SHUTDOWN"]}`, name, "inner"), 403, invalidEventType, "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")
	e.wants(reg(`{"events":["INVOKE"]}`, name, "ext"), 200, `{"functionName":"fn","functionVersion":"$LATEST","handler":"app.handler"}`)
	e.wantsError(reg(`{}`, name, "ext"), 403, invalidState,
		"State transition from Registered to Registered failed for extension ext. Error: State transition is not allowed")
	e.wants(reg(`{}`, name, "inner", "Lambda-Extension-Accept-Feature", "other, accountId"), 200,
		`{"functionName":"fn","functionVersion":"$LATEST","handler":"app.handler","accountId":"123456789012"}`)
	e.wantsError(reg(`{}`, name, "inner"), 403, invalidState, "Extension with this name already registered")
	for i := range MaxExtensions - 2 {
		e.register(fmt.Sprint("inner-", i))
	}
	e.wantsError(reg(`{}`, name, "more"), 403, tooManyExtensions, "Extension limit (10) reached")
	e.Reset()
	e.nextAsync()
	for e.do("POST", registerPath, `{}`, name, "x"+uuid.NewString()[:3]).status == 200 {
		time.Sleep(time.Millisecond)
	}
	e.wantsError(reg(`{}`, name, "late"), 403, registrationClosed, "Extension registration closed already")
}

func TestIdentifiers(t *testing.T) {
	e := start(t, Options{})
	for _, route := range [][2]string{{"GET", eventPath}, {"POST", extInitPath}, {"POST", extExitPath}, {"PUT", telemetryPath}, {"PUT", logsPath}} {
		header := "Lambda-Extension-Identifier"
		e.wantsError(e.do(route[0], route[1], ""), 403, missingIdentifier, "Missing Lambda-Extension-Identifier header")
		e.wantsError(e.do(route[0], route[1], "", header, "nonsense"), 403, invalidIdentifier, "Invalid Lambda-Extension-Identifier")
		id := newID()
		e.wantsError(e.do(route[0], route[1], "", header, id, "Lambda-Extension-Function-Error-Type", "x"), 403, unknownIdentifier, "Unknown extension "+id)
	}
}

func TestExtensionErrors(t *testing.T) {
	e := start(t, Options{Extensions: []string{"a", "b"}})
	idHeader, typeHeader := "Lambda-Extension-Identifier", "Lambda-Extension-Function-Error-Type"
	a, b := e.register("a", "INVOKE"), e.register("b", "SHUTDOWN")
	e.wantsError(e.do("POST", extInitPath, "{}", idHeader, a), 403, missingHeader, typeHeader+" not found")
	e.wants(e.do("POST", extInitPath, `{"errorMessage":"m"}`, idHeader, a, typeHeader, "Extension.Config"), 202, okBody)
	f := <-e.Failure()
	if f.Source != "a" || f.Type != "Extension.InitError" || f.Detail != "Extension.Config" || string(f.Body) != `{"errorMessage":"m"}` {
		t.Errorf("failure %+v", f)
	}
	e.wantsError(e.do("GET", eventPath, "", idHeader, a), 403, invalidState,
		"State transition from InitError to Ready failed for extension "+a+". Error: State transition is not allowed")
	e.wantsError(e.do("POST", extExitPath, "{}", idHeader, a, typeHeader, "x"), 403, invalidState,
		"State transition from InitError to ExitError failed for extension "+a+". Error: State transition is not allowed")
	e.wants(e.do("POST", extInitPath, "{}", idHeader, a, typeHeader, "again"), 202, okBody)

	poll := e.eventAsync(b)
	e.until("b", "Ready")
	e.wantsError(e.do("POST", extInitPath, "{}", idHeader, b, typeHeader, "x"), 403, invalidState,
		"State transition from Ready to InitError failed for extension "+b+". Error: State transition is not allowed")
	e.wantsError(e.do("GET", eventPath, "", idHeader, b), 403, invalidState,
		"State transition from Ready to Ready failed for extension "+b+". Error: State transition is not allowed")
	e.wants(e.do("POST", extExitPath, "", idHeader, b, typeHeader, "Extension.Bye"), 202, okBody)
	if f := <-e.Failure(); f.Source != "b" || f.Type != "Extension.ExitError" || f.Detail != "Extension.Bye" {
		t.Errorf("failure %+v", f)
	}
	if v := <-poll; v.status == 200 { // net/http asks again when it is cut off
		t.Errorf("the poll of an ended extension got %+v", v)
	}
	if told := e.Shutdown(ShutdownFailure, time.Now()); len(told) != 0 {
		t.Errorf("told %+v", told)
	}
}

// TestEventWaitsForThePoll gives events to an extension whose poll was lost.
func TestEventWaitsForThePoll(t *testing.T) {
	e := start(t, Options{Extensions: []string{"x"}})
	id := e.register("x", "INVOKE", "SHUTDOWN")
	nc := dialRaw(t, e.addr)
	fmt.Fprintf(nc.nc, "GET %s HTTP/1.1\r\nlambda-extension-identifier: %s\r\n\r\n", eventPath, id)
	e.until("x", "Ready")
	nc.nc.Close()
	for { // until the loss is noticed
		e.mu.Lock()
		lost := e.extensions[0].poll == nil
		e.mu.Unlock()
		if lost {
			break
		}
		time.Sleep(time.Millisecond)
	}
	got := e.nextAsync()
	wait(t, "ready", e.Ready())
	r := e.invoke(&Invocation{RequestID: "a", Event: []byte("1")})
	<-got
	e.wants(e.respond("a", "2"), 202, okBody)
	e.nextAsync()
	if v := <-e.eventAsync(id); !strings.Contains(v.body, `"requestId":"a"`) {
		t.Errorf("event %+v", v)
	}
	select {
	case <-r.Done():
		t.Error("done while the extension runs")
	default:
	}
	poll := e.eventAsync(id)
	wait(t, "done", r.Done())
	e.Shutdown(ShutdownSpindown, time.UnixMilli(5))
	e.wants(<-poll, 200, `{"eventType":"SHUTDOWN","deadlineMs":5,"shutdownReason":"SPINDOWN"}`)
	r.Abort(errors.New("late")) // changes nothing
}
