package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/edge"
)

// listen serves w publicly on loopback until the test ends.
func (w *world) listen(t testing.TB) (addr string) {
	t.Helper()
	ln, err := w.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.Serve(ln) }()
	t.Cleanup(func() {
		w.Close()
		if err := <-done; err != nil {
			t.Error("Serve:", err)
		}
	})
	return ln.Addr().String()
}

func TestHTTP2(t *testing.T) {
	w := newWorld(t, nil)
	addr := w.listen(t)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(protocol == "HTTP/1.1")
		tr.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
		defer tr.CloseIdleConnections()
		cfg := w.config("http://"+addr, w.root.AccessKeyID, w.root.SecretAccessKey, "")
		cfg.HTTPClient = &http.Client{Transport: tr}
		payload := bytes.Repeat([]byte("1"), 30<<10)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				out, err := lambda.NewFromConfig(cfg).Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("f"), Payload: payload})
				if err != nil || !bytes.Equal(out.Payload, payload) {
					t.Errorf("%s: %v", protocol, err)
				}
			})
		}
		wg.Wait()
		resp, err := cfg.HTTPClient.Do(newRequest("http://"+addr, "GET", "/_mayfly/health", "", "", ""))
		if err != nil || resp.Proto != protocol {
			t.Errorf("%s: %v, %v", protocol, resp, err)
			continue
		}
		resp.Body.Close()
	}
}

// slowCaller performs calls only when released.
type slowCaller struct{ entered, release chan struct{} }

func (c slowCaller) Call(ctx context.Context, op *smithy.OpInfo, in, out any) error {
	c.entered <- struct{}{}
	<-c.release
	return nil
}

func TestShutdown(t *testing.T) {
	slow := slowCaller{make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(o *edge.Options) { o.Caller = slow })
	addr := w.listen(t)
	sandbox, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sandboxDone := make(chan error, 1)
	go func() { sandboxDone <- w.ServeSandbox(sandbox) }()

	post := func(addr string) *http.Response {
		r := newRequest("http://"+addr, "POST", "/2015-03-31/functions/f/invocations", "application/json", "", "{}")
		w.sign(r, "lambda", "{}")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return &http.Response{}
		}
		resp.Body.Close()
		return resp
	}
	underWay := make(chan *http.Response, 1)
	go func() { underWay <- post(addr) }()
	<-slow.entered
	stopped := make(chan error, 1)
	go func() { stopped <- w.Shutdown(t.Context()) }()
	for { // until it stops
		resp, err := http.Get("http://" + addr + "/_mayfly/health")
		if err != nil {
			t.Fatal(err)
		}
		var health struct{ Status string }
		json.NewDecoder(resp.Body).Decode(&health)
		resp.Body.Close()
		if health.Status == "stopping" && resp.StatusCode == 503 {
			break
		}
	}
	if resp := post(addr); resp.StatusCode != 503 || !resp.Close || resp.Header.Get("X-Amzn-Errortype") != "ServiceUnavailable" {
		t.Errorf("a new call while stopping: %d %v", resp.StatusCode, resp.Header)
	}
	inside := make(chan *http.Response, 1)
	go func() { inside <- post(sandbox.Addr().String()) }()
	<-slow.entered // sandboxes are still served
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown returned %v with a call under way", err)
	default:
	}
	slow.release <- struct{}{}
	slow.release <- struct{}{}
	if resp := <-underWay; resp.StatusCode != 200 {
		t.Errorf("the call under way: %d", resp.StatusCode)
	}
	if resp := <-inside; resp.StatusCode != 200 {
		t.Errorf("the call from inside: %d", resp.StatusCode)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the listener is still open")
	}
	w.Close()
	if err := <-sandboxDone; err != nil {
		t.Errorf("ServeSandbox: %v", err)
	}
}

func TestShutdownGivesUp(t *testing.T) {
	slow := slowCaller{make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(o *edge.Options) { o.Caller = slow })
	addr := w.listen(t)
	done := make(chan error, 1)
	go func() {
		r := newRequest("http://"+addr, "POST", "/2015-03-31/functions/f/invocations", "application/json", "", "{}")
		w.sign(r, "lambda", "{}")
		_, err := http.DefaultClient.Do(r)
		done <- err
	}()
	<-slow.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v", err)
	}
	if err := <-done; err == nil {
		t.Error("the call that was broken off has an answer")
	}
	close(slow.release)
}

// TestSandboxListener closes with the listener, and keeps functions away from what is not for them.
func TestSandboxListener(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) {
		o.Dev = true
		o.Reset = func(context.Context) error { t.Error("a function has reset"); return nil }
		o.Internal = map[string]edge.Internal{"GET /_mayfly/code/{id}": {Access: edge.Presigned, Handler: http.HandlerFunc(echoPath)}}
	})
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	done := make(chan error, 1)
	go func() { done <- w.ServeSandbox(ln) }()
	url := "http://" + ln.Addr().String()
	for path, want := range map[string]int{"/_mayfly/reset": 403, "/_mayfly/health": 404, "/_mayfly/code/1": 403, "/2015-03-31/functions/f/invocations": 200} {
		resp, err := http.Post(url+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if path == "/_mayfly/code/1" {
			want = 404 // GET only
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	bufio.NewReader(conn).ReadByte() // accepted, and open
	ln.Close()
	if err := <-done; err != nil {
		t.Errorf("ServeSandbox = %v", err)
	}
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection outlived its listener")
	}
}

func TestDevIsLoopbackOnly(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.Dev = true })
	if _, err := w.Listen(t.Context(), "0.0.0.0:0"); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("Listen on all addresses: %v", err)
	}
	if err := w.Serve(fakeListener{}); err == nil || !strings.Contains(err.Error(), "192.0.2.1:80 is not one") {
		t.Errorf("Serve on another address: %v", err)
	}
	w.listen(t)
	for !strings.Contains(w.log.String(), "accepted as root") {
		time.Sleep(time.Millisecond)
	}
}

type fakeListener struct{ net.Listener }

func (fakeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }
func (fakeListener) Close() error   { return nil }

func TestNotReady(t *testing.T) {
	e := edge.New(edge.Options{Root: credential.New(), Services: []*smithy.Service{lambdaapi.Service}, Log: slog.New(slog.DiscardHandler), Version: "1.2.3"})
	get := func(method, path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		e.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		return rec
	}
	if rec := get("GET", "/_mayfly/health"); rec.Code != 503 || strings.TrimSpace(rec.Body.String()) != `{"services":["lambda"],"status":"starting","version":"1.2.3"}` {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := get("GET", "/2015-03-31/functions"); rec.Code != 503 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	e.Ready()
	if rec := get("GET", "/_mayfly/health"); rec.Code != 200 || strings.TrimSpace(rec.Body.String()) != `{"services":["lambda"],"status":"running","version":"1.2.3"}` {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := get("POST", "/_mayfly/health"); rec.Code != 405 {
		t.Errorf("POST: %d", rec.Code)
	}
	e.Close()
	e.Ready() // too late
	if rec := get("GET", "/_mayfly/health"); rec.Code != 503 || !strings.Contains(rec.Body.String(), "stopping") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func echoPath(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s", r.URL.Path, call.From(r.Context()).Principal.ARN, b)
}

func TestInternal(t *testing.T) {
	resets := 0
	setup := func(dev bool) (*world, *httptest.Server) {
		w := newWorld(t, func(o *edge.Options) {
			o.Dev = dev
			o.Internal = map[string]edge.Internal{
				"POST /_mayfly/usage":    {Access: edge.RootOnly, Handler: http.HandlerFunc(echoPath)},
				"GET /_mayfly/code/{id}": {Access: edge.Presigned, Handler: http.HandlerFunc(echoPath)},
				"GET /_mayfly/open":      {Access: edge.Open, Handler: http.HandlerFunc(echoPath)},
			}
			if dev {
				o.Reset = func(context.Context) error {
					if resets++; resets > 1 {
						return errors.New("it is stuck")
					}
					return nil
				}
			}
		})
		s, _ := w.start(t)
		return w, s
	}
	w, s := setup(false)
	const root = "arn:aws:iam::000000000000:root"
	request := func(method, path, body string) *http.Request { return newRequest(s.URL, method, path, "", "", body) }
	presign := func(path string) *http.Request {
		ctx := call.With(t.Context(), &call.Info{Host: strings.TrimPrefix(s.URL, "http://")})
		u, err := edge.Presigner{Root: w.root}.URL(ctx, path, 10*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequest("GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	session, _ := w.issuer.Issue(assumed(t, time.Now().Add(time.Hour)))
	for _, c := range []struct {
		name    string
		request *http.Request
		change  func(r *http.Request)
		status  int
		body    string
	}{
		{"root", request("POST", "/_mayfly/usage", "x"), func(r *http.Request) { w.sign(r, edge.SigningName, "x") }, 200, "/_mayfly/usage " + root + " x"},
		{"root, another body", request("POST", "/_mayfly/usage", "x"), func(r *http.Request) { w.sign(r, edge.SigningName, "y") }, 403, "signature we calculated"},
		{"root, another service", request("POST", "/_mayfly/usage", ""), func(r *http.Request) { w.sign(r, "lambda", "") }, 403, "Credential should be scoped to correct service: 'mayfly'."},
		{"unsigned", request("POST", "/_mayfly/usage", ""), nil, 403, "Missing Authentication Token"},
		{"a role", request("POST", "/_mayfly/usage", ""), func(r *http.Request) {
			w.signer(session.AccessKeyID, session.SecretAccessKey, session.SessionToken, 0)(r, edge.SigningName, nil)
		}, 403, "not authorized"},
		{"unknown key", request("POST", "/_mayfly/usage", ""), func(r *http.Request) { w.signer("AKIAX", "x", "", 0)(r, edge.SigningName, nil) }, 403, "security token"},
		{"too large", request("POST", "/_mayfly/usage", strings.Repeat("x", 1<<20+1)), func(r *http.Request) { w.sign(r, edge.SigningName, strings.Repeat("x", 1<<20+1)) }, 413, "smaller"},
		{"presigned", presign("/_mayfly/code/a%2Fb?v=1"), nil, 200, "/_mayfly/code/a/b " + root},
		{"presigned, from a path", presign("/_mayfly/code/ab"), func(r *http.Request) { r.URL.Path = "/_mayfly/code/cd" }, 403, "signature"},
		{"presigned, unsigned", request("GET", "/_mayfly/code/ab", ""), nil, 403, "Missing"},
		{"presigned, in the header", request("GET", "/_mayfly/code/ab", ""), func(r *http.Request) { w.sign(r, edge.SigningName, "") }, 403, "Missing"},
		{"presigned, not meant so", presign("/_mayfly/usage"), func(r *http.Request) { r.Method = "POST" }, 403, "Missing"},
		{"open", request("GET", "/_mayfly/open", ""), nil, 200, "/_mayfly/open"},
		{"unknown", request("GET", "/_mayfly/x", ""), nil, 404, "Mayfly has no GET /_mayfly/x."},
		{"reset", request("POST", "/_mayfly/reset", ""), func(r *http.Request) { w.sign(r, edge.SigningName, "") }, 404, "Mayfly has no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change != nil {
				c.change(c.request)
			}
			resp := do(t, s, c.request)
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != c.status || !strings.Contains(string(body), c.body) || resp.Header.Get("X-Amzn-Requestid") == "" {
				t.Errorf("%d %s; want %d %s", resp.StatusCode, body, c.status, c.body)
			}
		})
	}

	// In development mode root's endpoints ask for nothing; presigned ones stay closed, and reset exists.
	w, s = setup(true)
	for _, c := range []struct {
		name    string
		request *http.Request
		status  int
	}{
		{"unsigned", request("POST", "/_mayfly/usage", ""), 200},
		{"reset", request("POST", "/_mayfly/reset", ""), 200},
		{"reset fails", request("POST", "/_mayfly/reset", ""), 500},
		{"reset by GET", request("GET", "/_mayfly/reset", ""), 404},
		{"presigned", presign("/_mayfly/code/ab"), 200},
		{"unsigned", request("GET", "/_mayfly/code/ab", ""), 403},
	} {
		if resp := do(t, s, c.request); resp.StatusCode != c.status {
			t.Errorf("development, %s: %d, want %d", c.name, resp.StatusCode, c.status)
		}
	}
}

func TestPresignerExpires(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) {
		o.Internal = map[string]edge.Internal{"/_mayfly/code/{id}": {Access: edge.Presigned, Handler: http.HandlerFunc(echoPath)}}
	})
	synctest.Test(t, func(t *testing.T) {
		u, err := edge.Presigner{Root: w.root, Addr: "127.0.0.1:4566"}.URL(context.Background(), "/_mayfly/code/ab", 10*time.Minute)
		if err != nil || !strings.HasPrefix(u, "http://127.0.0.1:4566/_mayfly/code/ab?") {
			t.Fatal(u, err)
		}
		get := func() int {
			rec := httptest.NewRecorder()
			r := httptest.NewRequest("GET", u, nil)
			r.RequestURI = strings.TrimPrefix(u, "http://127.0.0.1:4566")
			w.ServeHTTP(rec, r)
			return rec.Code
		}
		time.Sleep(10 * time.Minute)
		if code := get(); code != 200 {
			t.Errorf("at the end of its time: %d", code)
		}
		time.Sleep(time.Second)
		if code := get(); code != 403 {
			t.Errorf("after its time: %d", code)
		}
	})
}

// pipeListener hands out the server's ends of pipes.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4566} }

// TestSlowClients keeps the server waiting for each part of a request.
func TestSlowClients(t *testing.T) {
	head := func(w *world, length int) string {
		r := newRequest("http://h", "POST", "/2015-03-31/functions/f/invocations", "application/json", "", "")
		w.sign(r, "lambda", "") // never verified: the body does not come
		return fmt.Sprintf("POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nX-Amz-Date: %s\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n",
			r.Header.Get("X-Amz-Date"), r.Header.Get("Authorization"), length)
	}
	for name, c := range map[string]struct {
		send func(w *world) string
		wait time.Duration
		want string
	}{
		"nothing":   {func(*world) string { return "" }, 21 * time.Second, ""},
		"headers":   {func(*world) string { return "GET / HTTP/1.1\r\nHost:" }, 21 * time.Second, ""},
		"body":      {func(w *world) string { return head(w, 10) + "{" }, 31 * time.Second, "HTTP/1.1 408 "},
		"long body": {func(w *world) string { return head(w, 1<<20) + "{" }, 30*time.Second + 65*time.Second, "HTTP/1.1 408 "},
		"idle":      {func(*world) string { return "GET /_mayfly/health HTTP/1.1\r\nHost: h\r\n\r\n" }, 3*time.Minute + time.Second, "HTTP/1.1 200 OK"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				ln := newPipeListener()
				served := make(chan error, 1)
				go func() { served <- w.Serve(ln) }()
				conn := ln.dial()
				start := time.Now()
				go io.WriteString(conn, c.send(w))
				got, _ := io.ReadAll(conn) // until the server closes
				if took := time.Since(start); took > c.wait || !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 4") {
					t.Errorf("closed after %v with %q", took, got)
				}
				conn.Close()
				w.Close()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestClientThatDoesNotRead takes the beginning of an endless stream and no more.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ln := newPipeListener()
		served := make(chan error, 1)
		go func() { served <- w.Serve(ln) }()
		conn := ln.dial()
		r := newRequest("http://h", "POST", "/2021-11-15/functions/endless/response-streaming-invocations", "application/json", "", "0123456789")
		w.sign(r, "lambda", "0123456789")
		r.Write(conn)
		first := make([]byte, 12)
		if io.ReadFull(conn, first); string(first) != "HTTP/1.1 200" {
			t.Fatalf("%s", first)
		}
		start := time.Now()
		for w.last() == nil || w.last().RequestID != "" {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took > 40*time.Second {
			t.Errorf("the stream ended after %v", took)
		}
		conn.Close()
		w.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// raw sends bytes to a server and returns all it answers.
func raw(t testing.TB, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	io.WriteString(conn, request)
	b, _ := io.ReadAll(conn)
	return string(b)
}

func TestMalformedRequests(t *testing.T) {
	w := newWorld(t, nil)
	addr := w.listen(t)
	const rest = " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
	for _, c := range []struct{ name, request, want string }{
		{"not HTTP", "hello, are you there?\r\n\r\n", "HTTP/1.1 400 "},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400 "},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
		{"two lengths", "POST /" + rest + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", "HTTP/1.1 400 "},
		{"a header of 2 MiB", "GET /" + rest + "X: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"a path of 2 MiB", "GET /" + strings.Repeat("x", 2<<20) + rest + "\r\n", "HTTP/1.1 431 "},
		{"bad escape", "GET /%zz" + rest + "\r\n", "HTTP/1.1 400 "},
		{"dots", "GET /../../etc/passwd" + rest + "\r\n", "HTTP/1.1 403 "},
		{"asterisk", "OPTIONS *" + rest + "\r\n", "HTTP/1.1 200 "},
		{"absolute", "GET http://lambda.us-east-1.amazonaws.com/2015-03-31/functions" + rest + "\r\n", "HTTP/1.1 403 "},
		{"connect", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", "HTTP/1.1 403 "},
		{"bad chunks", "POST /2015-03-31/functions/f/invocations" + rest + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 403 "},
		{"null in the path", "GET /\x00" + rest + "\r\n", "HTTP/1.1 400 "},
		{"upgrade", "GET /" + rest + "Upgrade: h2c\r\n\r\n", "HTTP/1.1 403 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := raw(t, addr, c.request); !strings.HasPrefix(got, c.want) {
				t.Errorf("%.200q, want %s", got, c.want)
			}
		})
	}
}

// TestExpectContinue refuses a body before it is sent, and asks for one that is welcome.
func TestExpectContinue(t *testing.T) {
	w := newWorld(t, nil)
	addr := w.listen(t)
	send := func(length int, body string) string {
		r := newRequest("http://h", "POST", "/2015-03-31/functions/f/invocations", "application/json", "", body)
		w.sign(r, "lambda", body)
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		fmt.Fprintf(conn, "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nX-Amz-Date: %s\r\nAuthorization: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
			r.Header.Get("X-Amz-Date"), r.Header.Get("Authorization"), length)
		br := bufio.NewReader(conn)
		first, _ := br.ReadString('\n')
		if strings.Contains(first, "100 Continue") {
			br.ReadString('\n')
			io.WriteString(conn, body)
			second, _ := br.ReadString('\n')
			return first + second
		}
		return first
	}
	if got := send(2, "{}"); got != "HTTP/1.1 100 Continue\r\nHTTP/1.1 200 OK\r\n" {
		t.Errorf("a welcome body: %q", got)
	}
	if got := send(10<<20, ""); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("a large body: %q", got)
	}
}

// FuzzEdge sends any bytes to the server. It must answer with HTTP or close, never hang, crash, or perform a call.
func FuzzEdge(f *testing.F) {
	f.Add([]byte("GET /_mayfly/health HTTP/1.1\r\nHost: h\r\n\r\n"))
	f.Add([]byte("POST /?Action=GetCallerIdentity HTTP/1.1\r\nHost: sts.amazonaws.com\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\nAction=%zz"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: Logs_20140328.CreateLogGroup\r\nContent-Encoding: gzip\r\nContent-Type: application/x-amz-json-1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
	f.Add([]byte("PUT /b/k HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261124T120000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=a/20261124/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=ab\r\nX-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nX-Amz-Decoded-Content-Length: 9\r\nContent-Length: 3\r\n\r\n5\r\n"))
	f.Add([]byte("GET /x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a HTTP/1.1\r\nHost: h\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	f.Add([]byte("POST /service/GraniteServiceVersion20100801/operation/PutMetricData HTTP/1.1\r\nHost: h\r\nSmithy-Protocol: rpc-v2-cbor\r\nContent-Length: 1\r\n\r\n\xbf"))
	called := false
	w := newWorld(f, func(o *edge.Options) { o.Caller = callerFunc(func() { called = true }) })
	ln := newPipeListener()
	go w.Serve(ln)
	f.Cleanup(func() { w.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := ln.dial()
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		go conn.Write(b)
		go func() { // nothing more comes
			time.Sleep(5 * time.Millisecond)
			conn.Close()
		}()
		got, _ := io.ReadAll(conn)
		if len(got) > 0 && !bytes.HasPrefix(got, []byte("HTTP/1.")) && !bytes.HasPrefix(b, []byte("PRI * HTTP/2.0")) {
			t.Errorf("answered %.100q", got)
		}
		if strings.Contains(w.log.String(), "level=ERROR") {
			t.Fatalf("an internal error: %s", w.log.String())
		}
		if called && !bytes.Contains(b, []byte("WebIdentity")) && !bytes.Contains(b, []byte("SAML")) {
			t.Error("a call without a signature")
		}
	})
}

type callerFunc func()

func (f callerFunc) Call(context.Context, *smithy.OpInfo, any, any) error { f(); return nil }

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEdgeInvoke measures a signed Invoke through the whole front door over loopback TCP, and a bare net/http echo
// beside it.
func BenchmarkEdgeInvoke(b *testing.B) {
	w := newWorld(b, nil)
	body := `{"key1":"value1","key2":"value2"}`
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{
		{"echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, _ := io.ReadAll(r.Body)
			w.Write(p)
		})},
		{"edge", w},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := httptest.NewServer(c.handler)
			defer s.Close()
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			br := bufio.NewReader(conn)
			r := newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "application/json", "", body)
			w.sign(r, "lambda", body)
			var wire bytes.Buffer
			r.Write(&wire)
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() { // a raw client, so that the server's share shows
				conn.Write(wire.Bytes())
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					b.Fatal(err)
				}
				if n, _ := io.Copy(io.Discard, resp.Body); resp.StatusCode != 200 || n != int64(len(body)) {
					b.Fatal(resp.StatusCode, n)
				}
			}
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-us/op") // client included
		})
	}
	b.Run("handler", func(b *testing.B) { // without the network
		r := newRequest("http://h", "POST", "/2015-03-31/functions/f/invocations", "application/json", "", body)
		w.sign(r, "lambda", body)
		b.ReportAllocs()
		for b.Loop() {
			q := *r
			q.RequestURI = "/2015-03-31/functions/f/invocations"
			q.Body = io.NopCloser(strings.NewReader(body))
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, &q)
			if rec.Code != 200 {
				b.Fatal(rec.Code, rec.Body)
			}
		}
	})
}
