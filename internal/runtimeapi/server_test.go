package runtimeapi

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		if os.Getenv("RAW_CLIENT") != "" {
			runRaw()
		} else {
			runFunction()
		}
		return // this is the test binary, started as a bootstrap
	}
	goleak.VerifyTestMain(m)
}

// env is a server on loopback with an HTTP client that plays the processes.
type env struct {
	*Server
	t      testing.TB
	addr   string
	client *http.Client
}

func start(t testing.TB, opt Options) *env {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if opt.FunctionName == "" {
		opt.FunctionName, opt.FunctionVersion, opt.Handler, opt.AccountID = "fn", "$LATEST", "app.handler", "123456789012"
	}
	s := New(opt)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	tr := &http.Transport{}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return &env{Server: s, t: t, addr: ln.Addr().String(), client: &http.Client{Transport: tr}}
}

// Reset also lets the client forget the connections that are gone.
func (e *env) Reset() {
	e.Server.Reset()
	e.client.CloseIdleConnections()
}

// reply is an HTTP response that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// do makes a request; headers come in pairs.
func (e *env) do(method, path, body string, headers ...string) reply {
	e.t.Helper()
	r, err := e.try(method, path, strings.NewReader(body), headers...)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (e *env) try(method, path string, body io.Reader, headers ...string) (reply, error) {
	req, err := http.NewRequest(method, "http://"+e.addr+path, body)
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b)}, err
}

func (e *env) next() reply { return e.do("GET", "/2018-06-01/runtime/invocation/next", "") }

// nextAsync opens the runtime's long poll.
func (e *env) nextAsync() <-chan reply {
	return e.async("GET", "/2018-06-01/runtime/invocation/next", "")
}

func (e *env) async(method, path, body string, headers ...string) <-chan reply {
	c := make(chan reply, 1)
	go func() {
		r, err := e.try(method, path, strings.NewReader(body), headers...)
		if err != nil {
			r = reply{status: -1, body: err.Error()}
		}
		c <- r
	}()
	return c
}

func (e *env) respond(id, body string, headers ...string) reply {
	e.t.Helper()
	return e.do("POST", "/2018-06-01/runtime/invocation/"+id+"/response", body, headers...)
}

func (e *env) wants(r reply, status int, body string) {
	e.t.Helper()
	if r.status != status || r.body != body {
		e.t.Fatalf("got %d %s, want %d %s", r.status, r.body, status, body)
	}
}

// wantsError checks the form of an error reply.
func (e *env) wantsError(r reply, status int, errorType, message string) {
	e.t.Helper()
	want, _ := json.Marshal(errorDocument{message, errorType})
	e.wants(r, status, string(want))
	if ct := r.header.Get("Content-Type"); ct != "application/json" {
		e.t.Fatalf("content type %q", ct)
	}
}

const okBody = `{"status":"OK"}`

func wait(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(2 * time.Minute):
		t.Fatalf("waited in vain for %s", what)
	}
}

func (e *env) invoke(inv *Invocation) *Running {
	e.t.Helper()
	r, err := e.Invoke(inv)
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

func TestInvoke(t *testing.T) {
	e := start(t, Options{})
	wait(t, "registration", e.ExtensionsRegistered())
	got := e.nextAsync()
	wait(t, "ready", e.Ready())
	deadline := time.UnixMilli(1700000000123)
	r := e.invoke(&Invocation{
		RequestID: "id-1", InvokedARN: "arn:aws:lambda:us-east-1:123456789012:function:fn:1", TraceID: "Root=1-2-3",
		ClientContext: "{\n\"a\":1}", CognitoIdentity: `{"cognitoIdentityId":"i"}`, TenantID: "blue",
		Deadline: deadline, Event: []byte(`{"n":1}`),
	})
	n := <-got
	e.wants(n, 200, `{"n":1}`)
	for name, want := range map[string]string{
		"Content-Type":                        "application/json",
		"Lambda-Runtime-Aws-Request-Id":       "id-1",
		"Lambda-Runtime-Deadline-Ms":          strconv.FormatInt(deadline.UnixMilli(), 10),
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:fn:1",
		"Lambda-Runtime-Trace-Id":             "Root=1-2-3",
		"Lambda-Runtime-Client-Context":       `{ "a":1}`,
		"Lambda-Runtime-Cognito-Identity":     `{"cognitoIdentityId":"i"}`,
		"Lambda-Runtime-Aws-Tenant-Id":        "blue",
	} {
		if got := n.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := e.Invoke(&Invocation{RequestID: "id-2"}); err != ErrBusy {
		t.Errorf("second Invoke: %v", err)
	}
	e.wants(e.respond("id-1", `"hello"`, "Content-Type", "application/json"), 202, okBody)
	wait(t, "response", r.Responded())
	if resp := r.Response(); string(resp.Body) != `"hello"` || resp.ErrorType != "" || resp.ContentType != "application/json" {
		t.Errorf("response %+v", resp)
	}
	select {
	case <-r.Done():
		t.Error("done before next")
	default:
	}
	got = e.nextAsync()
	wait(t, "done", r.Done())
	ts := r.Times()
	if ts.ProducedBytes != 7 || !ts.ResponseEnd.After(ts.Start) || ts.RuntimeNext.Before(ts.ResponseEnd) || !ts.ExtensionNext.IsZero() {
		t.Errorf("times %+v", ts)
	}

	r = e.invoke(&Invocation{RequestID: "id-3", ContentType: "text/plain", Event: []byte("x")})
	n = <-got
	if n.header.Get("Content-Type") != "text/plain" {
		t.Errorf("content type %q", n.header.Get("Content-Type"))
	}
	for _, name := range []string{"Trace-Id", "Client-Context", "Cognito-Identity", "Aws-Tenant-Id", "Invoked-Function-Arn"} {
		if _, ok := n.header["Lambda-Runtime-"+name]; ok {
			t.Errorf("empty %s was sent", name)
		}
	}
	e.wants(e.do("POST", "/2018-06-01/runtime/invocation/id-3/error", `{"errorMessage":"m","errorType":"T"}`,
		"Lambda-Runtime-Function-Error-Type", "Function.Bad"), 202, okBody)
	wait(t, "response", r.Responded())
	if resp := r.Response(); string(resp.Body) != `{"errorMessage":"m","errorType":"T"}` || resp.ErrorType != "Function.Bad" {
		t.Errorf("response %+v", resp)
	}
}
