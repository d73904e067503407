package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// extensionMain is an external extension: it tells in its output what it hears. Its file's name says how it behaves.
func extensionMain(name string) {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API")
	call := func(method, path, id, body string) (*http.Response, []byte) {
		r, _ := http.NewRequest(method, base+path, strings.NewReader(body))
		r.Header.Set("Lambda-Extension-Name", name)
		if id != "" {
			r.Header.Set("Lambda-Extension-Identifier", id)
			r.Header.Set("Lambda-Extension-Function-Error-Type", "Extension.Wanted")
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			os.Exit(8)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		return res, b
	}
	if name == "dies-before" {
		os.Exit(6)
	}
	res, _ := call("POST", "/2020-01-01/extension/register", "", `{"events":["INVOKE","SHUTDOWN"]}`)
	id := res.Header.Get("Lambda-Extension-Identifier")
	switch name {
	case "fails":
		call("POST", "/2020-01-01/extension/init/error", id, `{"errorMessage":"no"}`)
		os.Exit(1)
	case "listens":
		ln, err := net.Listen("tcp", ":8080")
		if err != nil {
			os.Exit(7)
		}
		go http.Serve(ln, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			var events []struct{ Type string }
			json.NewDecoder(r.Body).Decode(&events)
			f, _ := os.OpenFile(os.TempDir()+"/heard", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
			for _, e := range events {
				fmt.Fprintln(f, e.Type)
			}
			f.Close()
		}))
		call("PUT", "/2022-07-01/telemetry", id, `{"schemaVersion":"2022-12-13","types":["platform","function"],
			"buffering":{"maxItems":1000,"maxBytes":262144,"timeoutMs":25},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080"}}`)
	}
	for {
		_, b := call("GET", "/2020-01-01/extension/event/next", id, "")
		var event struct{ EventType, RequestID, ShutdownReason string }
		json.Unmarshal(b, &event)
		fmt.Println(name, "hears", event.EventType, event.RequestID+event.ShutdownReason)
		switch {
		case event.EventType == "SHUTDOWN":
			os.Exit(0)
		case name == "dies":
			os.Exit(6)
		}
	}
}

// layer is a layer with the test binary as an extension of a name.
func layer(t *testing.T, h *harness, name string) func(*Function) {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // the extension is another user
	}
	if err := os.Mkdir(filepath.Join(dir, "extensions"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := []byte("this is no program")
	if name != "broken" {
		var err error
		if b, err = os.ReadFile(filepath.Join(h.code, "bootstrap")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "extensions", name), b, 0o755); err != nil {
		t.Fatal(err)
	}
	return func(fn *Function) { fn.Layers = append(fn.Layers, dir) }
}

// awaitLog waits for a line that contains text.
func (h *harness) awaitLog(text string) {
	h.t.Helper()
	h.await(fmt.Sprintf("%q in the log", text), func() bool {
		return slices.ContainsFunc(h.logs.all(), func(l string) bool { return strings.Contains(l, text) })
	})
}

func (h *harness) awaitEmpty() {
	h.t.Helper()
	h.await("end of all environments", func() bool { return h.Stats() == Stats{} })
}

func TestExtension(t *testing.T) {
	l := testLimits()
	l.Linger, l.Idle = 10*time.Millisecond, 50*time.Millisecond
	h := newHarness(t, l)
	fn := h.function(layer(t, h, "hears"))
	if r := h.invoke(fn, `{"do":"count"}`); string(r.Payload) != "1" {
		t.Fatalf("%s", r.Payload)
	}
	h.awaitEmpty() // idle for long enough
	h.awaitLog("EXTENSION\tName: hears\tState: Ready\tEvents: [INVOKE, SHUTDOWN]")
	h.awaitLog("hears hears INVOKE " + requestID)
	h.awaitLog("hears hears SHUTDOWN SPINDOWN")
	if r := h.invoke(fn, `{"do":"exit","bytes":3}`); !strings.Contains(string(r.Payload), "exit status 3") {
		t.Errorf("%s", r.Payload)
	}
	h.awaitLog("hears hears SHUTDOWN FAILURE")
	fn.Timeout = time.Second
	fn.Revision = "2"
	h.invoke(fn, `{"ms":60000}`)
	h.awaitLog("hears hears SHUTDOWN TIMEOUT")
}

func TestExtensionFailures(t *testing.T) {
	for name, want := range map[string]string{
		"dies-before": `{"errorType":"Extension.Crash","errorMessage":"RequestId: ID Error: dies-before: exit status 6"}`,
		"dies":        `{"errorType":"Extension.Crash","errorMessage":"RequestId: ID Error: dies: exit status 6"}`,
		"fails":       `{"errorType":"Extension.InitError","errorMessage":"RequestId: ID Error: fails: Extension.Wanted"}`,
		"broken":      `Extension.LaunchError`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, testLimits())
			r := h.invoke(h.function(layer(t, h, name)), `{"ms":60000}`)
			if name == "broken" {
				if r.FunctionError != unhandled || !strings.Contains(string(r.Payload), want) {
					t.Errorf("%s", r.Payload)
				}
				return
			}
			if r.FunctionError != unhandled {
				t.Errorf("no error: %s", r.Payload)
			}
			match(t, "payload", string(r.Payload), want)
			if !strings.Contains(string(r.LogTail), "Error Type: Extension.") {
				t.Errorf("log:\n%s", r.LogTail)
			}
		})
	}
}

func TestTelemetry(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function(layer(t, h, "listens"))
	h.invoke(fn, `{"do":"print","arg":"something"}`)
	want := []string{"platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.extension",
		"platform.telemetrySubscription", "platform.start", "function", "platform.runtimeDone", "platform.report"}
	h.await("telemetry", func() bool {
		heard := string(h.invoke(fn, `{"do":"read","arg":"heard"}`).Payload)
		return !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(heard, w) })
	})
}

// What a function does in the background stands still while its environment is frozen.
func TestFreeze(t *testing.T) {
	l := testLimits()
	l.Linger = time.Millisecond
	h := newHarness(t, l)
	if h.deps.Driver.Name() != "linux" {
		t.Skip("the linux sandbox is needed to freeze")
	}
	fn := h.function()
	h.invoke(fn, `{"do":"spin"}`)
	var env *environment
	h.mu.Lock()
	for e := range h.environments {
		env = e
	}
	h.mu.Unlock()
	cpu := func() time.Duration {
		u, err := env.box.Usage()
		if err != nil {
			t.Fatal(err)
		}
		return u.CPU
	}
	// It is frozen once its time stands still for longer than any share of a CPU lets a process wait.
	for deadline := time.Now().Add(2 * time.Minute); ; {
		before := cpu()
		time.Sleep(250 * time.Millisecond)
		if cpu() == before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it runs on while nothing is invoked")
		}
	}
	before := cpu()
	if r := h.invoke(fn, `{"do":"count","ms":50}`); string(r.Payload) != "2" {
		t.Errorf("after the freeze: %s", r.Payload)
	}
	if cpu() <= before {
		t.Error("it did not run on after the freeze")
	}
}

func TestTmpIsKeptOverReset(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function()
	h.invoke(fn, `{"do":"write","arg":"kept"}`)
	h.invoke(fn, `{"do":"exit","bytes":1}`)
	if r := h.invoke(fn, `{"do":"read","arg":"kept"}`); string(r.Payload) != `"kept"` {
		t.Errorf("after the reset /tmp/kept has %s", r.Payload)
	}
}

func TestAge(t *testing.T) {
	l := testLimits()
	l.Age = time.Nanosecond
	h := newHarness(t, l)
	for range 3 {
		if r := h.invoke(h.function(), `{"do":"count"}`); string(r.Payload) != "1" {
			t.Errorf("an environment over its age counted to %s", r.Payload)
		}
	}
	h.awaitEmpty()
}

func TestIdle(t *testing.T) {
	l := testLimits()
	l.Linger, l.Idle = time.Millisecond, 20*time.Millisecond
	h := newHarness(t, l)
	for range 3 {
		if r := h.invoke(h.function(), `{"do":"count"}`); !bytes.Equal(r.Payload, []byte("1")) {
			t.Errorf("a reaped environment counted to %s", r.Payload)
		}
		h.awaitEmpty()
	}
}
