package runtimeapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// dialLocal stands for the environment's own loopback.
func dialLocal(ctx context.Context, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
}

func TestSubscriptionsAreChecked(t *testing.T) {
	e := start(t, Options{Extensions: []string{"x"}, Dial: dialLocal})
	id := e.register("x")
	const good = `{"schemaVersion":"2022-12-13","types":["platform"],"buffering":{"maxItems":1000,"maxBytes":262144,"timeoutMs":25},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080/path"}}`
	try := func(path, doc string) reply {
		return e.do("PUT", path, doc, "Lambda-Extension-Identifier", id)
	}
	for _, change := range [][2]string{
		{good, `nonsense`}, {`2022-12-13`, `2020-01-01`}, {`"2022-12-13"`, `""`},
		{`["platform"]`, `[]`}, {`["platform"]`, `["other"]`}, {`["platform"]`, `"platform"`},
		{`1000`, `999`}, {`1000`, `10001`}, {`262144`, `262143`}, {`262144`, `1048577`}, {`25`, `24`}, {`25`, `30001`},
		{`HTTP`, `UDP`}, {`http:`, `https:`}, {`sandbox.localdomain`, `localhost`}, {`sandbox.localdomain`, `sandbox@evil`},
		{`sandbox.localdomain`, `u:p@sandbox`}, {`8080`, `9001`}, {`8080`, `0`}, {`8080`, `99999`}, {`http://sandbox.localdomain:8080/path`, ``},
		{`"HTTP"`, `"TCP","port":0`}, {`"HTTP"`, `"TCP","port":9001`}, {`"HTTP"`, `"TCP","port":70000`},
		{`"protocol"`, `"method":"GET","protocol"`}, {`"protocol"`, `"encoding":"XML","protocol"`},
	} {
		doc := strings.Replace(good, change[0], change[1], 1)
		if doc == good {
			t.Fatalf("%q is not in the document", change[0])
		}
		var got errorDocument
		if r := try(telemetryPath, doc); r.status != 400 || json.Unmarshal([]byte(r.body), &got) != nil || got.Type != "ValidationError" || got.Message == "" {
			t.Errorf("%q for %q: %d %s", change[1], change[0], r.status, r.body)
		}
	}
	e.wants(try(telemetryPath, good), 200, `"OK"`)
	e.wants(try(telemetryPath, good), 200, `"OK"`)
	logs := strings.Replace(good, "2022-12-13", "2021-03-18", 1)
	if r := try(logsPath, logs); r.status != 400 || !strings.Contains(r.body, `"Logs.ValidationError"`) {
		t.Errorf("both APIs: %+v", r)
	}
	e.Reset()
	id = e.register("x")
	if r := try(logsPath, good); r.status != 400 || !strings.Contains(r.body, `"Logs.ValidationError"`) {
		t.Errorf("telemetry schema on Logs: %+v", r)
	}
	e.wants(try(logsPath, strings.Replace(good, `"schemaVersion":"2022-12-13",`, "", 1)), 200, `"OK"`)
	e.wants(try(logsPath, logs), 200, `"OK"`)

	e.eventAsync(id)
	e.nextAsync()
	wait(t, "ready", e.Ready())
	e.wantsError(try(logsPath, logs), 403, "Logs.SubscriptionClosed", "Logs API subscription is closed already")
	e.wantsError(try(telemetryPath, good), 403, "Telemetry.SubscriptionClosed", "Telemetry API subscription is closed already")
}

// collector is an extension's HTTP destination.
func collector(t *testing.T, status func() int) (uri string, batches chan []map[string]any) {
	batches = make(chan []map[string]any, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var batch []map[string]any
		if err := json.NewDecoder(r.Body).Decode(&batch); err != nil || r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", r.Method, r.Header, err)
		}
		if s := status(); s != 200 {
			w.WriteHeader(s)
			return
		}
		batches <- batch
	}))
	t.Cleanup(srv.Close)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	return "http://sandbox.localdomain:" + port, batches
}

func ok() int { return 200 }

// subscribe subscribes an extension and lets the init phase end.
func (e *env) subscribe(path, schema, destination string) {
	e.t.Helper()
	id := e.register("x")
	e.wants(e.do("PUT", path, fmt.Sprintf(`{"schemaVersion":%q,"types":["platform","function"],"buffering":{"timeoutMs":25},"destination":%s}`, schema, destination),
		"Lambda-Extension-Identifier", id), 200, `"OK"`)
	e.eventAsync(id)
	e.nextAsync()
	wait(e.t, "ready", e.Ready())
}

func httpTo(uri string) string { return fmt.Sprintf(`{"protocol":"HTTP","URI":%q}`, uri) }

func (e *env) flush() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := e.Flush(ctx); err != nil {
		e.t.Fatal(err)
	}
}

func TestTelemetryHTTP(t *testing.T) {
	uri, batches := collector(t, ok)
	e := start(t, Options{Dial: dialLocal})
	if e.Subscribed() {
		t.Error("subscribed by nobody")
	}
	e.subscribe(telemetryPath, "2022-12-13", httpTo(uri))
	if !e.Subscribed() {
		t.Error("not subscribed")
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_700_000, time.UTC)
	e.Emit(Event{at, "function", "a line\n"})
	e.Emit(Event{at, "function", json.RawMessage(`{"level":"INFO"}`)})
	e.Emit(Event{at, "extension", "not subscribed"})
	e.Emit(Event{at, "platform.end", map[string]string{"requestId": "a"}})
	e.Emit(Event{at, "platform.start", map[string]string{"requestId": "a"}})
	e.Emit(Event{at, "platform.odd", func() {}})
	e.flush()
	var got []map[string]any
	for len(batches) > 0 {
		got = append(got, <-batches...)
	}
	want := `[{"record":{"name":"x","state":"Subscribed","types":["platform","function"]},"type":"platform.telemetrySubscription"},` +
		`{"record":{"events":[],"name":"x","state":"Ready"},"type":"platform.extension"},` +
		`{"record":"a line\n","time":"2026-01-02T03:04:05.006Z","type":"function"},` +
		`{"record":{"level":"INFO"},"time":"2026-01-02T03:04:05.006Z","type":"function"},` +
		`{"record":{"requestId":"a"},"time":"2026-01-02T03:04:05.006Z","type":"platform.start"}]`
	for _, m := range got[:2] {
		if _, err := time.Parse(time.RFC3339, m["time"].(string)); err != nil {
			t.Error(err)
		}
		delete(m, "time")
	}
	if s := string(encode(got)); s != want {
		t.Errorf("got %s\nwant %s", s, want)
	}
	e.Emit(Event{at, "function", "later"}) // without a flush
	if b := <-batches; len(b) != 1 || b[0]["record"] != "later" {
		t.Errorf("got %v", b)
	}
}

func TestLogsAPI(t *testing.T) {
	for schema, runtimeDone := range map[string]bool{"2020-08-15": false, "2021-03-18": true} {
		t.Run(schema, func(t *testing.T) {
			uri, batches := collector(t, ok)
			e := start(t, Options{Dial: dialLocal})
			e.subscribe(logsPath, schema, httpTo(uri))
			now := time.Now()
			e.Emit(Event{now, "platform.initStart", map[string]string{"phase": "init"}})
			e.Emit(Event{now, "platform.start", map[string]string{"requestId": "a", "version": "1", "functionArn": "x"}})
			e.Emit(Event{now, "function", json.RawMessage(`{"a":1}`)})
			e.Emit(Event{now, "platform.runtimeDone", map[string]any{"requestId": "a", "status": "success", "metrics": 1}})
			e.Emit(Event{now, "platform.end", map[string]string{"requestId": "a"}})
			e.Emit(Event{now, "platform.report", map[string]any{"requestId": "a", "status": "success", "metrics": map[string]int{"durationMs": 1}}})
			e.flush()
			var got []string
			for len(batches) > 0 {
				for _, m := range <-batches {
					got = append(got, fmt.Sprint(m["type"], string(encode(m["record"]))))
				}
			}
			want := []string{
				`platform.logsSubscription{"name":"x","state":"Subscribed","types":["platform","function"]}`,
				`platform.extension{"events":[],"name":"x","state":"Ready"}`,
				`platform.start{"requestId":"a","version":"1"}`,
				`function"{\"a\":1}"`,
				`platform.runtimeDone{"requestId":"a","status":"success"}`,
				`platform.end{"requestId":"a"}`,
				`platform.report{"metrics":{"durationMs":1},"requestId":"a"}`,
			}
			if !runtimeDone {
				want = slices.Delete(want, 4, 5)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

func TestTelemetryTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			sc := bufio.NewScanner(nc)
			for sc.Scan() {
				lines <- sc.Text()
			}
			nc.Close()
		}
	}()
	e := start(t, Options{Dial: dialLocal})
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	e.subscribe(telemetryPath, "2022-07-01", `{"protocol":"TCP","port":`+port+`}`)
	e.Emit(Event{time.UnixMilli(0), "function", json.RawMessage(`{"a":1}`)})
	e.flush()
	for range 2 {
		<-lines
	}
	if got, want := <-lines, `{"time":"1970-01-01T00:00:00.000Z","type":"function","record":"{\"a\":1}"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e.Reset()
	if e.Subscribed() {
		t.Error("a subscription outlived the reset")
	}
	ln.Close()
	for range lines {
	}
}

func TestTelemetryRetries(t *testing.T) {
	failures := 2
	uri, batches := collector(t, func() int {
		if failures > 0 {
			failures--
			return 500
		}
		return 200
	})
	e := start(t, Options{Dial: dialLocal})
	e.subscribe(telemetryPath, "2022-12-13", httpTo(uri))
	e.flush()
	if b := <-batches; len(b) == 0 || failures != 0 {
		t.Errorf("got %v, %d failures left", b, failures)
	}
}

// testSubscriber makes a subscriber over a pipe, for a synctest bubble.
func testSubscriber(t *testing.T, buffering string, refusedUntil time.Time) (*subscriber, net.Conn) {
	sub, message := parseSubscription(telemetryAPI, []byte(`{"schemaVersion":"2022-12-13","types":["platform","function"],"buffering":`+buffering+`,"destination":{"protocol":"TCP","port":1}}`))
	if message != "" {
		t.Fatal(message)
	}
	here, there := net.Pipe()
	dial := func(context.Context, string) (net.Conn, error) {
		if time.Now().Before(refusedUntil) {
			return nil, errors.New("refused")
		}
		return there, nil
	}
	return newSubscriber(dial, "x", telemetryAPI, sub), here
}

func line(s string) *encoder { return &encoder{event: Event{Type: "function", Record: s}} }

func TestBufferingByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, nc := testSubscriber(t, `{"timeoutMs":5000}`, time.Time{})
		defer o.stop()
		begin := time.Now()
		o.offer(line("one"))
		time.Sleep(3 * time.Second)
		o.offer(line("two"))
		r := bufio.NewReader(nc)
		for range 2 {
			if _, err := r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begin); d != 5*time.Second {
				t.Errorf("sent after %v", d)
			}
		}
		time.Sleep(time.Minute)
		begin = time.Now()
		o.offer(line("three"))
		r.ReadString('\n')
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("sent after %v", d)
		}
	})
}

func TestBufferingBySize(t *testing.T) {
	for _, size := range []int{10, 1000} {
		synctest.Test(t, func(t *testing.T) {
			o, nc := testSubscriber(t, `{"timeoutMs":30000,"maxItems":1000,"maxBytes":262144}`, time.Time{})
			defer o.stop()
			begin := time.Now()
			n := 0
			for o.mu.Lock(); !o.full(); o.mu.Lock() {
				o.mu.Unlock()
				o.offer(line(strings.Repeat("x", size)))
				n++
			}
			o.mu.Unlock()
			r := bufio.NewReader(nc)
			for range n - 1 {
				if _, err := r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			if d := time.Since(begin); d != 0 {
				t.Errorf("a full batch of %d waited %v", n, d)
			}
		})
	}
}

func TestDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, nc := testSubscriber(t, `{"timeoutMs":25,"maxItems":1000}`, time.Time{})
		defer o.stop()
		for range 5000 {
			o.offer(line("x"))
		}
		synctest.Wait()
		for range 5000 {
			o.offer(line("x"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := o.flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush to a blocked subscriber: %v", err)
		}
		sc := bufio.NewScanner(nc)
		lines, dropped := 0, 0.0
		for float64(lines)+dropped < 10000 && sc.Scan() {
			var e struct {
				Type   string
				Record any
			}
			if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if e.Type == "platform.logsDropped" {
				r := e.Record.(map[string]any)
				dropped += r["droppedRecords"].(float64)
				if r["reason"] != droppedReason || r["droppedBytes"].(float64) < 50*r["droppedRecords"].(float64) {
					t.Errorf("record %v", r)
				}
			} else {
				lines++
			}
		}
		if lines < 3000 || lines > 4000 || float64(lines)+dropped != 10000 {
			t.Errorf("%d lines and %v dropped", lines, dropped)
		}
	})
}

func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, nc := testSubscriber(t, `{"timeoutMs":25}`, time.Now().Add(time.Minute))
		defer o.stop()
		o.offer(line("lost"))
		time.Sleep(time.Minute)
		o.offer(line("kept"))
		r := bufio.NewReader(nc)
		kept, _ := r.ReadString('\n')
		note, _ := r.ReadString('\n')
		if !strings.Contains(kept, "kept") || !strings.Contains(note, `"droppedRecords":1,`) {
			t.Errorf("got %s%s", kept, note)
		}
	})
}

func TestStopWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, nc := testSubscriber(t, `{"timeoutMs":25}`, time.Time{})
		o.offer(line("x"))
		time.Sleep(time.Second) // the pipe has no reader
		o.stop()
		if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		if err := o.flush(t.Context()); err != nil {
			t.Errorf("flush: %v", err)
		}
	})
}
