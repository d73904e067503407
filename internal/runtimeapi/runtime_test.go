package runtimeapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	nextPath      = "/2018-06-01/runtime/invocation/next"
	initErrorPath = "/2018-06-01/runtime/init/error"
)

func responsePath(id string) string { return "/2018-06-01/runtime/invocation/" + id + "/response" }
func errorPath(id string) string    { return "/2018-06-01/runtime/invocation/" + id + "/error" }

func transition(from, to runtimeState) string {
	return fmt.Sprintf("State transition from %s to %s failed for runtime. Error: State transition is not allowed", from, to)
}

// begin starts an environment with an invocation that the runtime has taken.
func begin(t testing.TB, opt Options, inv *Invocation) (*env, *Running) {
	e := start(t, opt)
	got := e.nextAsync()
	wait(t, "ready", e.Ready())
	r := e.invoke(inv)
	if n := <-got; n.status != 200 {
		t.Fatalf("next: %+v", n)
	}
	return e, r
}

func TestWhoMayCallWhatWhen(t *testing.T) {
	e := start(t, Options{})
	e.wants(e.do("GET", "/2018-06-01/ping", ""), 200, "pong")
	e.wantsError(e.respond("x", "1"), 403, "InvalidStateTransition", transition("Started", "InvocationResponse"))
	e.wantsError(e.do("POST", errorPath("x"), "1"), 403, "InvalidStateTransition", transition("Started", "InvocationErrorResponse"))

	got := e.nextAsync()
	wait(t, "ready", e.Ready())
	e.wantsError(e.respond("x", "1"), 400, "InvalidRequestID", "Invalid request ID")
	e.wantsError(e.do("POST", initErrorPath, "{}"), 403, "InvalidStateTransition", transition("Ready", "InitError"))
	e.invoke(&Invocation{RequestID: "a", Event: []byte("1")})
	<-got
	e.wantsError(e.respond("b", "1"), 400, "InvalidRequestID", "Invalid request ID")
	e.wants(e.next(), 200, "1") // asked again: the same event
	e.wants(e.respond("a", "1"), 202, okBody)
	e.wantsError(e.respond("a", "1"), 400, "InvalidRequestID", "Invalid request ID")
	e.wantsError(e.do("POST", errorPath("a"), "1"), 400, "InvalidRequestID", "Invalid request ID")

	for _, path := range []string{"/", "/2018-06-01/runtime/invocation/response", "/2018-06-01/runtime/invocation/a/b/response",
		"/2018-06-01/runtime/restore/next", "/2021-04-23/credentials", "/2018-06-01/runtime/invocation/a"} {
		if r := e.do("GET", path, ""); r.status != 404 {
			t.Errorf("GET %s: %d", path, r.status)
		}
	}
	for _, path := range []string{nextPath, "/2020-01-01/extension/event/next"} {
		if r := e.do("POST", path, ""); r.status != 405 {
			t.Errorf("POST %s: %d", path, r.status)
		}
	}
	if r := e.do("GET", responsePath("a"), ""); r.status != 405 {
		t.Errorf("GET response: %d", r.status)
	}
}

func TestInitError(t *testing.T) {
	e := start(t, Options{})
	doc := `{"errorMessage":"no","errorType":"Boom"}`
	e.wants(e.do("POST", initErrorPath, doc, "Lambda-Runtime-Function-Error-Type", "Runtime.ImportModuleError", "Content-Type", "application/json"), 202, okBody)
	f := <-e.Failure()
	if f.Source != "runtime" || f.Type != "Runtime.ImportModuleError" || string(f.Body) != doc || f.ContentType != "application/json" || f.At.IsZero() {
		t.Errorf("failure %+v", f)
	}
	e.wantsError(e.do("POST", initErrorPath, doc), 403, "InvalidStateTransition", transition("InitError", "InitError"))
	e.wantsError(e.next(), 403, "InvalidStateTransition", transition("InitError", "Ready"))
	e.wantsError(e.respond("x", ""), 403, "InvalidStateTransition", transition("InitError", "InvocationResponse"))

	e.Reset()
	got := e.nextAsync()
	wait(t, "ready", e.Ready())
	e.invoke(&Invocation{RequestID: "a", Event: []byte("1")})
	e.wants(<-got, 200, "1")
}

func TestInvokeBeforeReady(t *testing.T) {
	e := start(t, Options{})
	r := e.invoke(&Invocation{RequestID: "a", Event: []byte("1")})
	before := r.Times().Start
	time.Sleep(time.Millisecond)
	e.wants(e.next(), 200, "1")
	if !r.Times().Start.After(before) {
		t.Error("init counts as part of the invocation")
	}
}

func TestNextIsTakenByTheLiveConnection(t *testing.T) {
	e := start(t, Options{})
	var last *conn
	polled := func() { // waits for a new poll to come in
		for {
			e.mu.Lock()
			now := e.poll
			e.mu.Unlock()
			if now != nil && now != last {
				last = now
				return
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	for range 3 * maxConns { // a client that times out and polls again, without and with closing the old connection
		nc, err := net.Dial("tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, "GET "+nextPath+" HTTP/1.1\r\nHost: x\r\n\r\n")
		polled()
		if rand.IntN(2) == 0 {
			nc.Close()
		} else {
			defer nc.Close()
		}
	}
	wait(t, "ready", e.Ready())
	live := e.nextAsync()
	polled()
	e.invoke(&Invocation{RequestID: "a", Event: []byte("1")})
	e.wants(<-live, 200, "1")
	e.wants(e.respond("a", "2"), 202, okBody)
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name    string
		size    int
		chunked bool
		path    func(string) string
		ok      bool
	}{
		{"exact", MaxPayload, false, responsePath, true},
		{"exact chunked", MaxPayload, true, responsePath, true},
		{"over", MaxPayload + 1, false, responsePath, false},
		{"over chunked", MaxPayload + 1, true, responsePath, false},
		{"far over chunked", 3 * MaxPayload, true, responsePath, false},
		{"error over", MaxPayload + 1, false, errorPath, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, r := begin(t, Options{}, &Invocation{RequestID: "a"})
			var body io.Reader = strings.NewReader(strings.Repeat("x", tt.size))
			if tt.chunked {
				body = struct{ io.Reader }{body}
			}
			got, err := e.try("POST", tt.path("a"), body)
			if err != nil {
				t.Fatal(err)
			}
			wait(t, "response", r.Responded())
			if tt.ok {
				e.wants(got, 202, okBody)
				if n := len(r.Response().Body); n != tt.size || r.Times().ProducedBytes != int64(n) {
					t.Errorf("got %d bytes", n)
				}
				return
			}
			e.wantsError(got, 413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes).")
			want := `{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`
			if resp := r.Response(); resp.ErrorType != ErrorTooLarge || string(resp.Body) != want {
				t.Errorf("response %s %s", resp.ErrorType, resp.Body)
			}
			done := e.nextAsync()
			wait(t, "done", r.Done())
			e.invoke(&Invocation{RequestID: "b", Event: []byte("1")})
			e.wants(<-done, 200, "1")
		})
	}
}

func TestLargeEvent(t *testing.T) {
	e := start(t, Options{})
	event := bytes.Repeat([]byte("0123456789abcdef"), MaxPayload/16)
	got := e.nextAsync()
	wait(t, "ready", e.Ready())
	for range 3 {
		r := e.invoke(&Invocation{RequestID: "a", Event: event})
		n := <-got
		if n.body != string(event) {
			t.Fatalf("event of %d bytes arrived as %d", len(event), len(n.body))
		}
		e.wants(e.respond("a", n.body), 202, okBody)
		wait(t, "response", r.Responded())
		if !bytes.Equal(r.Response().Body, event) {
			t.Fatal("response differs")
		}
		got = e.nextAsync()
		wait(t, "done", r.Done())
	}
}

// TestReaderThatDoesNotRead gives a large event to a client that takes none of it: Invoke must not wait for it.
func TestReaderThatDoesNotRead(t *testing.T) {
	e := start(t, Options{})
	nc, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "GET "+nextPath+" HTTP/1.1\r\nHost: x\r\n\r\n")
	wait(t, "ready", e.Ready())
	r := e.invoke(&Invocation{RequestID: "a", Event: make([]byte, MaxPayload)})
	if r.Abort(errors.New("timeout")) != nil {
		t.Error("a response from nowhere")
	}
	wait(t, "done", r.Done())
	e.Reset()
}

func TestTruncatedResponse(t *testing.T) {
	for name, request := range map[string]string{
		"length":        "Content-Length: 10\r\n\r\n12345",
		"chunk":         "Transfer-Encoding: chunked\r\n\r\n5\r\n123",
		"between":       "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
		"bad chunk":     "Transfer-Encoding: chunked\r\n\r\n5\r\n12345XX0\r\n\r\n",
		"bad size":      "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
		"negative size": "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
		"huge size":     "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			e, r := begin(t, Options{}, &Invocation{RequestID: "a"})
			nc, err := net.Dial("tcp", e.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			io.WriteString(nc, "POST "+responsePath("a")+" HTTP/1.1\r\nHost: x\r\n"+request)
			nc.(*net.TCPConn).CloseWrite()
			wait(t, "response", r.Responded())
			if resp := r.Response(); resp.ErrorType != ErrorTruncated || len(resp.Body) != 0 {
				t.Errorf("response %+v", resp)
			}
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			e.wantsError(reply{resp.StatusCode, resp.Header, string(b)}, 400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
		})
	}
}

// TestCrashWhileResponding cuts a response off as a dying process does: its owner has the say about what that was.
func TestCrashWhileResponding(t *testing.T) {
	for _, mode := range []string{"", "Lambda-Runtime-Function-Response-Mode: streaming\r\n"} {
		e, r := begin(t, Options{}, &Invocation{RequestID: "a", Stream: true})
		nc, err := net.Dial("tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, "POST "+responsePath("a")+" HTTP/1.1\r\n"+mode+"Content-Length: 10\r\n\r\n12345")
		crash := errors.New("the runtime exited")
		if mode == "" {
			nc.Close()
			if r.Abort(crash) != nil || r.Response() != nil {
				t.Error("half a response was taken for one")
			}
			continue
		}
		wait(t, "response", r.Responded())
		nc.Close()
		r.Abort(crash)
		if _, err := io.ReadAll(r.Response().Stream); err != crash {
			t.Errorf("stream ended with %v", err)
		}
	}
}

func TestResponseMode(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a"})
	e.wantsError(e.respond("a", "x", "Lambda-Runtime-Function-Response-Mode", "buffered"), 400,
		"InvalidFunctionResponseMode", "Invalid function response mode")
	wait(t, "response", r.Responded())
	if resp := r.Response(); resp.ErrorType != "Runtime.InvalidResponseModeHeader" || len(resp.Body) != 0 {
		t.Errorf("response %+v", resp)
	}
	got := e.nextAsync()
	wait(t, "done", r.Done())

	r = e.invoke(&Invocation{RequestID: "b"}) // a streaming handler, a caller that is not
	<-got
	e.wants(e.respond("b", "whole", "Lambda-Runtime-Function-Response-Mode", "streaming"), 202, okBody)
	if resp := r.Response(); string(resp.Body) != "whole" || resp.Stream != nil {
		t.Errorf("response %+v", resp)
	}
	got = e.nextAsync()
	wait(t, "done", r.Done())

	r = e.invoke(&Invocation{RequestID: "c", Stream: true}) // and the other way round
	<-got
	e.wants(e.respond("c", "whole"), 202, okBody)
	if resp := r.Response(); string(resp.Body) != "whole" || resp.Stream != nil {
		t.Errorf("response %+v", resp)
	}
}

// streamer posts a streamed response piece by piece.
type streamer struct {
	t    *testing.T
	body *io.PipeWriter
	req  *http.Request
	got  chan reply
}

func (e *env) stream(id string) *streamer {
	pr, pw := io.Pipe()
	s := &streamer{t: e.t.(*testing.T), body: pw, got: make(chan reply, 1)}
	s.req, _ = http.NewRequest("POST", "http://"+e.addr+responsePath(id), pr)
	s.req.Header.Set("Lambda-Runtime-Function-Response-Mode", "streaming")
	s.req.Header.Set("Content-Type", "application/vnd.awslambda.http-integration-response")
	s.req.Trailer = http.Header{"Lambda-Runtime-Function-Error-Type": nil, "Lambda-Runtime-Function-Error-Body": nil}
	go func() {
		resp, err := e.client.Do(s.req)
		if err != nil {
			s.got <- reply{status: -1, body: err.Error()}
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		s.got <- reply{resp.StatusCode, resp.Header, string(b)}
	}()
	return s
}

func TestStream(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a", Stream: true})
	s := e.stream("a")
	io.WriteString(s.body, "one")
	wait(t, "response", r.Responded())
	resp := r.Response()
	if resp.Stream == nil || resp.ContentType != "application/vnd.awslambda.http-integration-response" {
		t.Fatalf("response %+v", resp)
	}
	b := make([]byte, 10)
	n, _ := resp.Stream.Read(b)
	if string(b[:n]) != "one" {
		t.Errorf("got %q", b[:n])
	}
	e.wantsError(e.respond("a", ""), 403, "InvalidStateTransition", transition("InvocationResponse", "InvocationResponse"))
	e.wantsError(e.next(), 403, "InvalidStateTransition", transition("InvocationResponse", "Ready"))
	io.WriteString(s.body, "two")
	go s.body.Close()
	rest, err := io.ReadAll(resp.Stream)
	if string(rest) != "two" || err != nil {
		t.Errorf("got %q %v", rest, err)
	}
	e.wants(<-s.got, 202, okBody)
	e.nextAsync()
	wait(t, "done", r.Done())
	if ts := r.Times(); ts.ProducedBytes != 6 || !ts.ResponseEnd.After(ts.ResponseStart) {
		t.Errorf("times %+v", ts)
	}
}

func TestStreamFails(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a", Stream: true})
	s := e.stream("a")
	io.WriteString(s.body, "one")
	wait(t, "response", r.Responded())
	s.req.Trailer.Set("Lambda-Runtime-Function-Error-Type", "Function.Broke")
	s.req.Trailer.Set("Lambda-Runtime-Function-Error-Body", "eyJlcnJvclR5cGUiOiJFIn0=")
	s.body.Close()
	got, err := io.ReadAll(r.Response().Stream)
	failed, ok := errors.AsType[*StreamError](err)
	if string(got) != "one" || !ok || failed.Type != "Function.Broke" || string(failed.Body) != `{"errorType":"E"}` {
		t.Errorf("got %q %v", got, err)
	}
	e.wants(<-s.got, 202, okBody)
}

func TestBufferedStreamFails(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a"})
	s := e.stream("a")
	io.WriteString(s.body, "one")
	s.req.Trailer.Set("Lambda-Runtime-Function-Error-Type", "Function.Broke")
	s.req.Trailer.Set("Lambda-Runtime-Function-Error-Body", "eyJlcnJvclR5cGUiOiJFIn0=")
	s.body.Close()
	wait(t, "response", r.Responded())
	if resp := r.Response(); resp.ErrorType != "Function.Broke" || string(resp.Body) != `{"errorType":"E"}` {
		t.Errorf("response %+v", resp)
	}
	e.wants(<-s.got, 202, okBody)
}

func TestStreamLimit(t *testing.T) {
	e, r := begin(t, Options{MaxStream: 100, StreamRate: -1}, &Invocation{RequestID: "a", Stream: true})
	s := e.stream("a")
	go func() {
		io.WriteString(s.body, strings.Repeat("x", 90))
		io.WriteString(s.body, strings.Repeat("y", 90))
		s.body.Close()
	}()
	wait(t, "response", r.Responded())
	got, err := io.ReadAll(r.Response().Stream)
	failed, ok := errors.AsType[*StreamError](err)
	if len(got) != 100 || !ok || failed.Type != ErrorTooLarge {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	e.wantsError(<-s.got, 413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (100 bytes).")
}

func TestStreamReaderGoesAway(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a", Stream: true})
	s := e.stream("a")
	io.WriteString(s.body, "one")
	wait(t, "response", r.Responded())
	r.Response().Stream.Close()
	io.WriteString(s.body, strings.Repeat("x", 1<<20))
	s.body.Close()
	e.wants(<-s.got, 202, okBody)
	e.nextAsync()
	wait(t, "done", r.Done())
	if n := r.Times().ProducedBytes; n != 3+1<<20 {
		t.Errorf("produced %d", n)
	}
}

func TestStreamAborted(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a", Stream: true})
	s := e.stream("a")
	io.WriteString(s.body, "one")
	wait(t, "response", r.Responded())
	stream := r.Response().Stream
	timeout := &StreamError{Type: "Sandbox.Timeout"}
	if resp := r.Abort(timeout); resp == nil || resp.Stream != stream {
		t.Errorf("abort returned %+v", resp)
	}
	if _, err := io.ReadAll(stream); err != timeout {
		t.Errorf("stream ended with %v", err)
	}
	s.body.Close()
	e.wantsError(<-s.got, 400, "InvalidRequestID", "Invalid request ID")
}

func TestStreamTruncated(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a", Stream: true})
	nc, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "POST "+responsePath("a")+" HTTP/1.1\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123")
	wait(t, "response", r.Responded())
	go nc.Close()
	got, err := io.ReadAll(r.Response().Stream)
	failed, ok := errors.AsType[*StreamError](err)
	if string(got) != "123" || !ok || failed.Type != ErrorTruncated {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{rate: StreamRate, burst: StreamBurst}
		begin := time.Now()
		for range (StreamBurst + 10*StreamRate) / (32 << 10) {
			p.wait(32<<10, nil, nil)
		}
		if d := time.Since(begin); d < 9990*time.Millisecond || d > 10010*time.Millisecond {
			t.Errorf("6 MiB and ten seconds' worth took %v", d)
		}
		time.Sleep(time.Second)
		begin = time.Now()
		p.wait(StreamRate, nil, nil)
		if d := time.Since(begin); d != 0 {
			t.Errorf("what was saved in a second took %v", d)
		}
		stop := make(chan struct{})
		close(stop)
		p.wait(100*StreamRate, stop, nil)
		if d := time.Since(begin); d != 0 {
			t.Errorf("stopping took %v", d)
		}
	})
}

func TestAbort(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a"})
	if resp := r.Abort(errors.New("timeout")); resp != nil {
		t.Errorf("response %+v", resp)
	}
	wait(t, "responded", r.Responded())
	wait(t, "done", r.Done())
	if r.Response() != nil {
		t.Error("a response from nowhere")
	}
	e.wantsError(e.respond("a", "late"), 400, "InvalidRequestID", "Invalid request ID")
	got := e.nextAsync()
	e.invoke(&Invocation{RequestID: "b", Event: []byte("2")})
	e.wants(<-got, 200, "2")
	if r.Abort(errors.New("again")) != nil {
		t.Error("aborting twice")
	}
}

// TestAbortRace lets responses, aborts, resets and polls run into each other.
func TestAbortRace(t *testing.T) {
	e := start(t, Options{})
	const rounds = 200
	for i := range rounds {
		id := fmt.Sprint("id-", i)
		got := e.nextAsync()
		r := e.invoke(&Invocation{RequestID: id, Event: []byte("1"), Stream: i%3 == 0})
		<-got
		var wg sync.WaitGroup
		wg.Go(func() {
			e.try("POST", responsePath(id), strings.NewReader("ok"), "Lambda-Runtime-Function-Response-Mode", "streaming")
		})
		wg.Go(func() { e.try("POST", errorPath(id), strings.NewReader("ok")) })
		wg.Go(func() { e.async("GET", nextPath, "") })
		var resp *Response
		wg.Go(func() {
			if i%2 == 0 {
				<-r.Responded()
			}
			resp = r.Abort(errors.New("timeout"))
		})
		wg.Go(func() {
			<-r.Responded()
			if resp := r.Response(); resp != nil && resp.Stream != nil {
				io.Copy(io.Discard, resp.Stream)
			}
		})
		if i%4 == 0 {
			wg.Go(e.Server.Reset)
		}
		wg.Wait()
		if resp != r.Response() {
			t.Fatal("Abort and Response disagree")
		}
		e.Reset()
	}
}

func TestResetForgetsDeadClients(t *testing.T) {
	e := start(t, Options{})
	for range 50 {
		// A process that connects, posts and is killed: the connection may still wait in the listener's queue.
		nc, err := net.Dial("tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, "POST "+initErrorPath+" HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
		nc.Close()
		e.Reset()
		failure := e.Failure()
		got := e.nextAsync()
		wait(t, "ready", e.Ready())
		select {
		case f := <-failure:
			t.Fatalf("failure of a dead process: %+v", f)
		default:
		}
		e.invoke(&Invocation{RequestID: "a", Event: []byte("1")})
		e.wants(<-got, 200, "1")
		e.Reset()
	}
}

func TestCloseEndsEverything(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a", Stream: true})
	s := e.stream("a")
	io.WriteString(s.body, "one")
	wait(t, "response", r.Responded())
	e.Close()
	if _, err := io.ReadAll(r.Response().Stream); err == nil {
		t.Error("the stream ended well")
	}
	s.body.Close()
	<-s.got
	if _, err := e.Invoke(&Invocation{}); err != ErrClosed {
		t.Errorf("Invoke: %v", err)
	}
}

func TestMalformedRequests(t *testing.T) {
	e := start(t, Options{})
	for in, want := range map[string]string{
		"nonsense\r\n\r\n":                    "400 Bad Request",
		"GET /2018-06-01/ping HTTP/3\r\n\r\n": "505 HTTP Version Not Supported",
		"GET / HTTP/1.1\r\nA: " + strings.Repeat("x", maxHead) + "\r\n\r\n":           "431 Request Header Fields Too Large",
		"GET /2018-06-01/ping HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n": "",
	} {
		nc, err := net.Dial("tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, in)
		nc.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(nc)
		nc.Close()
		status, _, _ := strings.Cut(strings.TrimPrefix(string(got), "HTTP/1.1 "), "\r\n")
		if status != want || err != nil {
			t.Errorf("%.40q: %q, %v", in, got, err)
		}
	}
}

// TestPipelining sends requests before the replies to earlier ones, a long poll among them.
func TestPipelining(t *testing.T) {
	e := start(t, Options{})
	nc, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "GET /ping HTTP/1.1\r\n\r\nGET "+nextPath+" HTTP/1.1\r\n\r\n"+
		"POST "+responsePath("a")+" HTTP/1.1\r\nContent-Length: 2\r\n\r\nokGET /ping HTTP/1.1\r\n\r\nnonsense\r\n\r\n")
	wait(t, "ready", e.Ready())
	r := e.invoke(&Invocation{RequestID: "a", Event: []byte("event")})
	wait(t, "response", r.Responded())
	if got := string(r.Response().Body); got != "ok" {
		t.Errorf("response %q", got)
	}
	br := bufio.NewReader(nc)
	for _, want := range []string{"200 pong", "200 event", "202 " + okBody, "200 pong", "400 "} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if got := fmt.Sprint(resp.StatusCode, " ", string(b)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestManyConnections(t *testing.T) {
	e := start(t, Options{})
	var open []net.Conn
	defer func() {
		for _, nc := range open {
			nc.Close()
		}
	}()
	for range 4 * maxConns {
		nc, err := net.Dial("tcp", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, nc)
	}
	e.wants(e.do("GET", "/2018-06-01/ping", ""), 200, "pong")
	e.mu.Lock()
	n := len(e.conns)
	e.mu.Unlock()
	if n > maxConns {
		t.Errorf("%d connections", n)
	}
}

func TestErrorTypes(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "Runtime.Unknown",
		"Custom":                              "Runtime.Unknown",
		"Custom.Error":                        "Runtime.Unknown",
		"Runtime.ExitError":                   "Runtime.ExitError",
		"Runtime.x":                           "Runtime.Unknown",
		"Runtime.X":                           "Runtime.Unknown",
		"Function.Some":                       "Function.Some",
		"Function.some":                       "Function.Unknown",
		"Function.":                           "Function.Unknown",
		"Function.A b":                        "Function.Unknown",
		"Runtime.Ab1":                         "Runtime.Unknown",
		"x Runtime.Ab":                        "Runtime.Unknown",
		"Runtime." + strings.Repeat("A", 300): "Runtime.Unknown",
	} {
		if got := normalizeErrorType(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCause(t *testing.T) {
	for in, want := range map[string]string{
		`{"working_directory":"/w","paths":["a"],"exceptions":[{"message":"m","type":"T","stack":[{"path":"p","line":3,"label":"l"}]}],"extra":1}`: `{"exceptions":[{"message":"m","type":"T","stack":[{"path":"p","line":3,"label":"l"}]}],"working_directory":"/w","paths":["a"]}`,
		`{"message":"m"}`: `{"exceptions":null,"working_directory":"","paths":null,"message":"m"}`,
		``:                "", `{`: "", `{}`: "", `[]`: "", `null`: "", `{"paths":[]}`: "", `{"paths":"a"}`: "", `{"other":1}`: "",
	} {
		if got := string(cleanCause([]byte(in))); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
	many := `{"working_directory":"/w","paths":["` + strings.Repeat(`p","`, 20000) + `"]}`
	got := cleanCause([]byte(many))
	if n := bytes.Count(got, []byte(`"p"`)); len(got) > maxCause || n != 16000 {
		t.Errorf("%d bytes, %d paths", len(got), n)
	}
	for _, r := range []string{"x", "\u2028", "é", "\x01"} {
		long := string(encode(cause{Message: strings.Repeat(r, 100000), WorkingDir: strings.Repeat(r, 100000), Paths: make([]string, 20000)}))
		if got := cleanCause([]byte(long)); len(got) > maxCause || len(got) < 2000 {
			t.Errorf("%q: %d bytes", r, len(got))
		}
	}
}

func TestErrorWithCause(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a"})
	e.wants(e.do("POST", errorPath("a"), `{"errorMessage":"m","errorType":"T","stackTrace":["s"],"errorCause":{"message":"c"},"more":1}`,
		"Content-Type", causeContentType, "Lambda-Runtime-Function-Error-Type", "Function.T"), 202, okBody)
	wait(t, "response", r.Responded())
	resp := r.Response()
	if string(resp.Body) != `{"errorMessage":"m","errorType":"T","stackTrace":["s"]}` || resp.ContentType != "application/json" ||
		string(resp.XRayCause) != `{"exceptions":null,"working_directory":"","paths":null,"message":"c"}` {
		t.Errorf("response %s %s %s", resp.ContentType, resp.Body, resp.XRayCause)
	}
	body, xray, ct := splitCause([]byte("nonsense"))
	if string(body) != `"Invalid error body"` || xray != nil || ct != "application/octet-stream" {
		t.Errorf("got %s %s %s", ct, body, xray)
	}
}

func TestErrorCauseHeader(t *testing.T) {
	e, r := begin(t, Options{}, &Invocation{RequestID: "a"})
	cause := `{"message":"` + strings.Repeat("c", 100<<10) + `"}`
	e.wants(e.do("POST", errorPath("a"), `"any JSON"`, "Lambda-Runtime-Function-XRay-Error-Cause", cause), 202, okBody)
	wait(t, "response", r.Responded())
	if resp := r.Response(); len(resp.XRayCause) < 1000 || len(resp.XRayCause) > maxCause || string(resp.Body) != `"any JSON"` {
		t.Errorf("%d bytes of cause", len(resp.XRayCause))
	}
}
