package fleet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// streamMain answers in a stream: "first", then n bytes, and an end as the event wants it.
func streamMain(url, end string, n int) {
	pr, pw := io.Pipe()
	r, _ := http.NewRequest(http.MethodPost, url, pr)
	r.Header.Set("Lambda-Runtime-Function-Response-Mode", "streaming")
	r.Header.Set("Content-Type", "text/plain")
	r.Trailer = http.Header{"Lambda-Runtime-Function-Error-Type": nil, "Lambda-Runtime-Function-Error-Body": nil}
	go func() {
		io.WriteString(pw, "first")
		pw.Write(bytes.Repeat([]byte{'x'}, n))
		switch end {
		case "error":
			r.Trailer.Set("Lambda-Runtime-Function-Error-Type", "Function.Broken")
			r.Trailer.Set("Lambda-Runtime-Function-Error-Body", "eyJlcnJvck1lc3NhZ2UiOiJicm9rZW4ifQ==")
		case "hang":
			time.Sleep(time.Hour)
		case "exit":
			os.Exit(4)
		}
		pw.Close()
	}()
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
	}
}

func (h *harness) stream(fn *Function, event string) *Response {
	h.t.Helper()
	r, err := h.Invoke(h.t.Context(), fn, &Request{RequestID: requestID, InvokedARN: fn.ARN, Payload: []byte(event), LogTail: true, Stream: true})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func TestStream(t *testing.T) {
	cases := []struct {
		name, event string
		rest        int
		failure     string // type of the StreamError
		document    string
		report      string // of the log's last line
	}{
		{"whole", `{"do":"stream","bytes":100000}`, 100000, "", "", ""},
		{"fails", `{"do":"stream","arg":"error","bytes":3}`, 3, "Function.Broken", `{"errorMessage":"broken"}`, ""},
		{"times out", `{"do":"stream","arg":"hang"}`, 0, "Sandbox.Timedout",
			`{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ` + requestID + ` Error: Task timed out after 1.00 seconds"}`, "Status: timeout"},
		{"exits", `{"do":"stream","arg":"exit"}`, 0, "Runtime.ExitError",
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ` + requestID + ` Error: Runtime exited with error: exit status 4"}`, "Status: error\tError Type: Runtime.ExitError"},
	}
	h := newHarness(t, testLimits())
	fn := h.function(func(fn *Function) { fn.Timeout = time.Second })
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := h.stream(fn, c.event)
			if r.Stream == nil || r.ContentType != "text/plain" {
				t.Fatalf("response = %+v", r)
			}
			first := make([]byte, 5)
			if _, err := io.ReadFull(r.Stream, first); err != nil || string(first) != "first" {
				t.Fatalf("first bytes = %q, %v", first, err)
			}
			if busy := h.Stats().Busy; busy != 1 {
				t.Errorf("%d slots are taken while the function writes, want 1", busy)
			}
			rest, err := io.ReadAll(r.Stream)
			if len(rest) != c.rest {
				t.Errorf("%d more bytes, want %d", len(rest), c.rest)
			}
			failed, _ := errors.AsType[*StreamError](err)
			switch {
			case c.failure == "" && err != nil:
				t.Errorf("the stream ends with %v", err)
			case c.failure != "" && (failed == nil || failed.Type != c.failure || string(failed.Body) != c.document):
				t.Errorf("the stream ends with %v %+v", err, failed)
			}
			log := string(r.Stream.LogTail())
			if last := log[strings.LastIndexByte(strings.TrimRight(log, "\n"), '\n')+1:]; !strings.Contains(last, c.report) || !strings.HasPrefix(last, "REPORT") {
				t.Errorf("log ends with %q, want %q in it", last, c.report)
			}
			if err := r.Stream.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A client that goes away stops neither the function nor those that come after it.
func TestStreamAbandoned(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function()
	r := h.stream(fn, `{"do":"stream","bytes":5000000}`)
	if _, err := io.ReadFull(r.Stream, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	r.Stream.Close()
	if log := string(r.Stream.LogTail()); !strings.Contains(log, "REPORT") || strings.Contains(log, "Status:") {
		t.Errorf("log = %q", log)
	}
	h.check(h.invoke(fn, `{"do":"count"}`), "", `2`, startLine+endLine+warmReport+"\n")

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for h.Stats().Busy == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err := h.Invoke(ctx, fn, &Request{RequestID: requestID, InvokedARN: fn.ARN, Payload: []byte(`{"do":"stream","bytes":5000000,"ms":300}`), Stream: true})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	for h.Stats().Busy > 0 { // it is not held up by a stream that nobody reads
		time.Sleep(time.Millisecond)
	}
}

// A stream that nobody asked for is one response.
func TestStreamBuffered(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function()
	h.check(h.invoke(fn, `{"do":"stream","bytes":2}`), "", `firstxx`, initLine+startLine+endLine+coldReport+"\n")
	h.check(h.invoke(fn, `{"do":"stream","arg":"error"}`), unhandled, `{"errorMessage":"broken"}`,
		startLine+endLine+warmReport+"\n")
	if r := h.stream(fn, `{"do":"print","arg":"x"}`); r.Stream != nil || len(r.Payload) == 0 {
		t.Errorf("response = %+v", r)
	}
}
