package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/runtimeapi"
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
		for piece := make([]byte, 1<<20); end == "progress" && n < 64; n++ {
			pw.Write(piece)
			fmt.Println("a MiB went out")
		}
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
	h.settle(fn)
	r, err := h.Invoke(h.t.Context(), fn, &Request{RequestID: requestID, InvokedARN: fn.ARN, Payload: []byte(event), LogTail: true, Stream: true})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func TestStream(t *testing.T) {
	const some = -1 // nobody knows how many
	cases := []struct {
		name, event string
		rest        int    // bytes after the first
		failure     string // type of the StreamError
		document    string
		report      string // of the log's last line
	}{
		{"whole", `{"do":"stream","bytes":100000}`, 100000, "", "", ""},
		{"fails", `{"do":"stream","arg":"error","bytes":3}`, 3, "Function.Broken", `{"errorMessage":"broken"}`, ""},
		{"times out", `{"do":"stream","arg":"hang"}`, 0, "Sandbox.Timedout",
			`{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ` + requestID + ` Error: Task timed out after 5.00 seconds"}`, "Status: timeout"},
		{"exits", `{"do":"stream","arg":"exit","bytes":1000000}`, some, "Runtime.ExitError", // more than fits anywhere on the way, so that it has begun before the exit
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ` + requestID + ` Error: Runtime exited with error: exit status 4"}`, "Status: error\tError Type: Runtime.ExitError"},
	}
	h := newHarness(t, testLimits())
	fn := h.function()
	slow := h.function(func(fn *Function) { fn.Timeout, fn.ARN = 5*time.Second, fn.ARN+"-slow" })
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fn := fn
			if c.name == "times out" {
				fn = slow
			}
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
			if len(rest) != c.rest && c.rest != some {
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
	h.settle(fn)

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		h.await("busy function", func() bool { return h.Stats().Busy == 1 })
		cancel()
	}()
	_, err := h.Invoke(ctx, fn, &Request{RequestID: requestID, InvokedARN: fn.ARN, Payload: []byte(`{"do":"stream","bytes":5000000,"hold":true}`), Stream: true})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	close(h.hold)
	h.settle(fn) // it is not held up by a stream that nobody reads
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

func (h *harness) begin(ctx context.Context, fn *Function, event string) (*Response, error) {
	return h.Invoke(ctx, fn, &Request{RequestID: requestID, InvokedARN: fn.ARN, Payload: []byte(event), Stream: true})
}

// usage waits for the bill of n invocations.
func (h *harness) usage(n int) []Usage {
	h.t.Helper()
	var u []Usage
	h.await(fmt.Sprintf("bill of %d invocations", n), func() bool {
		h.bill.mu.Lock()
		defer h.bill.mu.Unlock()
		u = slices.Clone(h.bill.usage)
		return len(u) >= n
	})
	return u
}

// The first bytes are there while the function still runs, and the slot is taken until the last, and no longer.
func TestStreamHoldsItsSlot(t *testing.T) {
	limits := testLimits()
	limits.Concurrency = 1
	limits.Rate = 0
	h := newHarness(t, limits)
	fn := h.function()
	for range 3 {
		r, err := h.begin(t.Context(), fn, `{"Do":"stream"}`)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2)
		if _, err := io.ReadFull(r.Stream, b); err != nil || string(b) != "fi" {
			t.Fatalf("%q %v", b, err)
		}
		if h.Stats().Busy != 1 {
			t.Error("the slot is free before the end")
		}
		if _, err := h.begin(t.Context(), fn, `{}`); err == nil {
			t.Error("two at once")
		} else if _, ok := errors.AsType[*ThrottledError](err); !ok {
			t.Error(err)
		}
		if rest, err := io.ReadAll(r.Stream); err != nil || string(rest) != "rst" {
			t.Fatalf("%q %v", rest, err)
		}
		if h.Stats().Busy != 0 {
			t.Error("the slot is taken after the end")
		}
	}
}

// Who goes away leaves the function running: it writes to the end and is billed for all of it.
func TestStreamReaderGoesAway(t *testing.T) {
	limits := testLimits()
	limits.StreamRate = -1
	for _, how := range []string{"close", "cancel", "cancel early"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, limits)
			fn := h.function()
			h.invoke(fn, `{}`)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if how == "cancel early" {
				h.settle(fn)
				go func() {
					h.await("busy function", func() bool { return h.Stats().Busy == 1 })
					cancel()
				}()
				if _, err := h.begin(ctx, fn, `{"Do":"stream","Hold":true,"Bytes":1000000}`); err != context.Canceled {
					t.Fatal(err)
				}
				close(h.hold)
			} else {
				h.settle(fn)
				r, err := h.begin(ctx, fn, `{"Do":"stream","Bytes":1000000}`)
				if err != nil {
					t.Fatal(err)
				}
				if how == "close" {
					r.Stream.Close()
				} else {
					cancel()
				}
				if _, err := io.ReadAll(r.Stream); how == "close" && err != io.ErrClosedPipe {
					t.Error(err)
				}
			}
			if u := h.usage(2)[1]; u.Failed || u.BilledMs == 0 {
				t.Errorf("billed %+v", u)
			}
			if got := h.invoke(fn, `{"Do":"count"}`); string(got.Payload) != "3" {
				t.Errorf("%s: the environment did not survive", got.Payload)
			}
		})
	}
}

// A response that becomes too long ends at the limit.
func TestStreamLimit(t *testing.T) {
	limits := testLimits()
	limits.StreamBytes, limits.StreamRate = 1<<20, -1
	h := newHarness(t, limits)
	r, err := h.begin(t.Context(), h.function(), `{"Do":"stream","Bytes":2000000}`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r.Stream)
	failed, ok := errors.AsType[*StreamError](err)
	if len(got) != 1<<20 || !ok || failed.Type != runtimeapi.ErrorTooLarge || !strings.Contains(string(failed.Body), "(1048576 bytes)") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if u := h.usage(1)[0]; !u.Failed {
		t.Errorf("billed %+v", u)
	}
}

// Who reads nothing holds the function up, so that little of the response is in memory anywhere.
func TestStreamSlowReader(t *testing.T) {
	limits := testLimits()
	limits.StreamRate = -1
	h := newHarness(t, limits)
	r, err := h.begin(t.Context(), h.function(func(fn *Function) { fn.Timeout, fn.MemoryMB = 15*time.Minute, 1769 }), `{"Do":"stream","Arg":"progress"}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r.Stream, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	sent := func() (n int) {
		for _, line := range h.logs.all() {
			if line == "a MiB went out\n" {
				n++
			}
		}
		return n
	}
	for before := -1; before != sent(); time.Sleep(300 * time.Millisecond) { // until it stands
		before = sent()
	}
	if n := sent(); n > 16 {
		t.Errorf("%d MiB went out that nobody read", n)
	}
	if rest, err := io.Copy(io.Discard, r.Stream); err != nil || rest != 64<<20 {
		t.Errorf("%d more bytes, %v", rest, err)
	}
}
