package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/runtimes"
	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
	"github.com/mayflyhq/mayfly/internal/sandbox/process"
)

// The test binary is its own function: started as a bootstrap, it does what the events say.
func TestMain(m *testing.M) {
	linux.MaybeInit()
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		if name := filepath.Base(os.Args[0]); filepath.Base(filepath.Dir(os.Args[0])) == "extensions" {
			extensionMain(name)
		}
		functionMain()
		return
	}
	os.Exit(m.Run())
}

// functionMain is a custom runtime and its handler.
func functionMain() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime"
	fmt.Println("init of", os.Getenv("AWS_LAMBDA_FUNCTION_NAME"))
	switch os.Getenv("INIT") {
	case "exit":
		os.Exit(3)
	case "hang":
		time.Sleep(time.Hour) // a program that waits for nothing at all would be ended by its runtime
	case "error":
		http.Post(base+"/init/error", "application/json", strings.NewReader(`{"errorMessage":"no","errorType":"Custom"}`))
		os.Exit(1)
	case "once": // fails the first time, in each environment
		if _, err := os.Stat(os.TempDir() + "/once"); err != nil {
			os.WriteFile(os.TempDir()+"/once", nil, 0o600)
			os.Exit(3)
		}
	}
	n := 0
	for {
		resp, err := http.Get(base + "/invocation/next")
		if err != nil {
			os.Exit(9)
		}
		event, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		var ev struct {
			Do    string
			Arg   string
			Hold  bool // until the test lets it go on
			Ms    int
			Bytes int
		}
		json.Unmarshal(event, &ev)
		n++
		if ev.Hold {
			if resp, err := http.Get(os.Getenv("AWS_ENDPOINT_URL") + "/hold"); err == nil {
				resp.Body.Close()
			}
		}
		time.Sleep(time.Duration(ev.Ms) * time.Millisecond)
		path, body := base+"/invocation/"+id+"/response", event
		switch ev.Do {
		case "print":
			fmt.Println(ev.Arg)
		case "printf":
			fmt.Print(ev.Arg)
		case "spin":
			go func() {
				for {
				}
			}()
		case "write": // to /tmp
			os.WriteFile(filepath.Join(os.TempDir(), ev.Arg), []byte(ev.Arg), 0o600)
		case "read":
			b, _ := os.ReadFile(filepath.Join(os.TempDir(), ev.Arg))
			body, _ = json.Marshal(string(b))
		case "spam": // prints for ever, whatever is invoked
			go func() {
				line := []byte(strings.Repeat("spam spam spam\n", 1000))
				for {
					os.Stdout.Write(line)
				}
			}()
		case "count":
			body = fmt.Append(nil, n)
		case "env":
			body, _ = json.Marshal(os.Getenv(ev.Arg))
		case "error":
			path, body = base+"/invocation/"+id+"/error", []byte(`{"errorMessage":"boom","errorType":"Error"}`)
		case "exit":
			os.Exit(ev.Bytes)
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Hour)
		case "big":
			body = append(append([]byte{'"'}, bytes.Repeat([]byte{'x'}, ev.Bytes)...), '"')
		case "stream":
			streamMain(path, ev.Arg, ev.Bytes)
			continue
		case "answer and exit":
			http.Post(path, "application/json", bytes.NewReader(body))
			os.Exit(5)
		}
		resp, err = http.Post(path, "application/json", bytes.NewReader(body))
		if err == nil {
			resp.Body.Close()
		}
	}
}

// logs is a CloudWatch Logs of the test's own.
type logs struct {
	mu      sync.Mutex
	streams map[string][]string // "group stream" to messages
}

func (l *logs) mux() *smithy.Mux {
	m := smithy.NewMux()
	groups := map[string]bool{}
	logsapi.CreateLogGroup.Handle(m, func(ctx context.Context, in *logsapi.CreateLogGroupInput) (*logsapi.CreateLogGroupOutput, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		groups[*in.LogGroupName] = true
		return nil, nil
	})
	logsapi.CreateLogStream.Handle(m, func(ctx context.Context, in *logsapi.CreateLogStreamInput) (*logsapi.CreateLogStreamOutput, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !groups[*in.LogGroupName] {
			return nil, logsapi.ErrResourceNotFoundException("The specified log group does not exist.")
		}
		l.streams[*in.LogGroupName+" "+*in.LogStreamName] = nil
		return nil, nil
	})
	logsapi.PutLogEvents.Handle(m, func(ctx context.Context, in *logsapi.PutLogEventsInput) (*logsapi.PutLogEventsOutput, error) {
		if call.From(ctx).Account != "000000000001" {
			return nil, fmt.Errorf("account %q", call.From(ctx).Account)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		key := *in.LogGroupName + " " + *in.LogStreamName
		if _, ok := l.streams[key]; !ok {
			return nil, logsapi.ErrResourceNotFoundException("The specified log stream does not exist.")
		}
		for _, e := range in.LogEvents {
			l.streams[key] = append(l.streams[key], *e.Message)
		}
		return &logsapi.PutLogEventsOutput{}, nil
	})
	return m
}

func (l *logs) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, s := range l.streams {
		all = append(all, s...)
	}
	return all
}

type bill struct {
	mu    sync.Mutex
	usage []Usage
}

func (b *bill) Record(u Usage) {
	b.mu.Lock()
	b.usage = append(b.usage, u)
	b.mu.Unlock()
}

// provided resolves every runtime to a custom one.
type provided struct{}

func (provided) Resolve(ctx context.Context, runtime, arch string) (runtimes.Launch, error) {
	return runtimes.Launch{
		Runtime: runtime, Family: runtimes.Provided, RuntimeVersion: "provided:al2023.v1", RuntimeVersionID: strings.Repeat("a", 64),
		Entrypoints: []string{"/var/task/bootstrap", "/opt/bootstrap"},
	}, nil
}

// newDriver opens the driver that SANDBOX names; without it the one that isolates, where that works.
func newDriver(t *testing.T) sandbox.Driver {
	t.Helper()
	name := os.Getenv("SANDBOX")
	if name != "process" {
		d, err := linux.New(linux.Config{Dir: t.TempDir(), Listen: Addresses(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err == nil {
			return d
		}
		if name == "linux" {
			t.Fatal(err)
		}
		t.Log("without isolation:", err)
	}
	d, err := process.New(process.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// harness is a fleet that runs the test binary as its functions.
type harness struct {
	*Fleet
	t    *testing.T
	logs *logs
	bill *bill
	code string
	hold chan struct{} // lets one event that holds go on, or all of them once it is closed
	stop func()
}

func newHarness(t *testing.T, limits Limits) *harness {
	t.Helper()
	return newHarnessOf(t, limits, provided{})
}

func newHarnessOf(t *testing.T, limits Limits, resolver Resolver) *harness {
	t.Helper()
	d := newDriver(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &harness{t: t, logs: &logs{streams: map[string][]string{}}, bill: &bill{}, code: codeDir(t), hold: make(chan struct{})}
	h.Fleet = New(Deps{
		Driver:      d,
		Runtimes:    resolver,
		Credentials: func(*Function) (Credentials, error) { return Credentials{"ASIATEST", "secret", "token"}, nil },
		Endpoint: func(ln net.Listener) {
			http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/hold" {
					select {
					case <-h.hold:
					case <-r.Context().Done():
					}
				}
				io.WriteString(w, "mayfly")
			}))
		},
		Caller: h.logs.mux(),
		Meter:  h.bill,
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}, limits)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		h.Run(ctx)
		close(done)
	}()
	h.stop = sync.OnceFunc(func() {
		grace, end := context.WithTimeout(context.Background(), 2*time.Minute)
		defer end()
		h.Stop(grace)
		cancel()
		<-done
	})
	t.Cleanup(h.stop)
	return h
}

var (
	codeOnce sync.Once
	codePath string
)

// codeDir holds the test binary as a bootstrap.
func codeDir(t *testing.T) string {
	codeOnce.Do(func() {
		dir, err := os.MkdirTemp("", "fleet-code")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil { // the function is another user
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "bootstrap"), b, 0o755); err != nil {
			t.Fatal(err)
		}
		codePath = dir
	})
	return codePath
}

// testLimits are those in which a slow machine is not taken for a slow function.
func testLimits() Limits {
	l := DefaultLimits(8192)
	l.Init = time.Minute
	return l
}

func (h *harness) function(change ...func(*Function)) *Function {
	fn := &Function{
		Account: "000000000001", Region: "us-east-1", Name: "f", ARN: "arn:aws:lambda:us-east-1:000000000001:function:f",
		Version: "$LATEST", Revision: "1", Runtime: "provided.al2023", Handler: "h", Architecture: "x86_64",
		MemoryMB: 128, TmpMB: 512, Timeout: time.Minute, Code: h.code, LogGroup: "/aws/lambda/f", LogFormat: "Text",
	}
	for _, f := range change {
		f(fn)
	}
	return fn
}

func initMode(mode string) func(*Function) {
	return func(fn *Function) { fn.Environment = map[string]string{"INIT": mode} }
}

const requestID = "11111111-2222-4333-8444-555555555555"

// settle waits until fn runs nothing and the environments that have answered for it are free: until then an invocation may be given
// another one.
func (h *harness) settle(fn *Function) {
	h.t.Helper()
	h.await("free environment", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		p, s := h.pools[fn.key("")], h.shares[fn.ARN]
		return (s == nil || s.busy == 0) && (p == nil || p.finishing == 0)
	})
}

// invoke runs fn when it has settled, so that it is known which environment serves.
func (h *harness) invoke(fn *Function, event string) *Response {
	h.t.Helper()
	h.settle(fn)
	r, err := h.Invoke(h.t.Context(), fn, &Request{RequestID: requestID, InvokedARN: fn.ARN, Payload: []byte(event), LogTail: true})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// check compares payload and tail with patterns in which ID is the request's and a number is any number.
func (h *harness) check(r *Response, functionError, payload, tail string) {
	h.t.Helper()
	if r.FunctionError != functionError {
		h.t.Errorf("FunctionError = %q, want %q", r.FunctionError, functionError)
	}
	match(h.t, "payload", string(r.Payload), payload)
	match(h.t, "log", string(r.LogTail), tail)
}

var number = regexp.MustCompile(`\b\d+(\\\.\d+)?( ms| MB)`)

func match(t *testing.T, what, got, want string) {
	t.Helper()
	p := strings.ReplaceAll(regexp.QuoteMeta(want), "ID", requestID)
	p = number.ReplaceAllString(p, `\d+(\.\d+)?$2`)
	p = strings.ReplaceAll(p, "TIME", `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	if !regexp.MustCompile(`^` + p + `$`).MatchString(got) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

const (
	startLine  = "START RequestId: ID Version: $LATEST\n"
	endLine    = "END RequestId: ID\n"
	initLine   = "init of f\n" // what the function prints then
	coldReport = "REPORT RequestId: ID\tDuration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB\tInit Duration: 1.00 ms\t"
	warmReport = "REPORT RequestId: ID\tDuration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB\t"
)

func TestInvoke(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function()
	h.check(h.invoke(fn, `{"do":"print","arg":"hello"}`), "", `{"do":"print","arg":"hello"}`, initLine+startLine+"hello\n"+endLine+coldReport+"\n")
	h.check(h.invoke(fn, `{"do":"count"}`), "", `2`, startLine+endLine+warmReport+"\n")
	h.stop()
	match(t, "log stream", strings.Join(h.logs.all(), ""), "INIT_START Runtime Version: provided:al2023.v1\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:"+
		strings.Repeat("a", 64)+"\ninit of f\n"+startLine+"hello\n"+endLine+coldReport+"\n"+startLine+endLine+warmReport+"\n")
	if len(h.bill.usage) != 2 || h.bill.usage[0].Init <= 0 || h.bill.usage[1].Init != 0 ||
		h.bill.usage[0].BilledMs != billed(h.bill.usage[0].Init+h.bill.usage[0].Duration) {
		t.Errorf("usage = %+v", h.bill.usage)
	}
	if s := h.Stats(); s != (Stats{}) {
		t.Errorf("after Stop: %+v", s)
	}
}

func failedInit(phase, kind string) string {
	return "INIT_REPORT Init Duration: 1.00 ms\tPhase: " + phase + "\tStatus: error\tError Type: " + kind + "\n"
}

// initReports is the log of two inits that fail, which print something each.
func initReports(kind, printed string) string {
	return printed + failedInit("init", kind) + printed + failedInit("invoke", kind)
}

func TestFailures(t *testing.T) {
	const bad = unhandled
	empty := t.TempDir()
	cases := []struct {
		name          string
		fn            func(*Function)
		event         string
		functionError string
		payload, tail string
		again         string // answer of the invocation after it, in the same environment or another
	}{
		{
			name: "handler error", event: `{"do":"error"}`, functionError: bad,
			payload: `{"errorMessage":"boom","errorType":"Error"}`,
			tail:    initLine + startLine + endLine + coldReport + "\n", again: "2",
		},
		{
			name: "exit status", event: `{"do":"exit","bytes":7}`, functionError: bad,
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 7"}`,
			tail: initLine + startLine + "RequestId: ID Error: Runtime exited with error: exit status 7\nRuntime.ExitError\n" + endLine + coldReport +
				"Status: error\tError Type: Runtime.ExitError\n",
			again: "1",
		},
		{
			name: "exit without a reason", event: `{"do":"exit","bytes":0}`, functionError: bad,
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited without providing a reason"}`,
			tail: initLine + startLine + "RequestId: ID Error: Runtime exited without providing a reason\nRuntime.ExitError\n" + endLine + coldReport +
				"Status: error\tError Type: Runtime.ExitError\n",
			again: "1",
		},
		{
			name: "killed", event: `{"do":"kill"}`, functionError: bad,
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}`,
			tail: initLine + startLine + "RequestId: ID Error: Runtime exited with error: signal: killed\nRuntime.ExitError\n" + endLine + coldReport +
				"Status: error\tError Type: Runtime.ExitError\n",
			again: "1",
		},
		{
			name: "timeout", fn: func(fn *Function) { fn.Timeout = 5 * time.Second }, event: `{"ms":60000}`, functionError: bad,
			payload: `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 5.00 seconds"}`,
			tail: initLine + startLine + "TIME ID Task timed out after 5.00 seconds\n" + endLine +
				strings.Replace(strings.Replace(coldReport, "Duration: 1.00 ms", "Duration: 5000.00 ms", 1), "Billed Duration: 1 ms", "Billed Duration: 5000 ms", 1) +
				"Status: timeout\n",
			again: "1",
		},
		{
			name: "response too large", event: `{"do":"big","bytes":6291560}`, functionError: bad,
			payload: `{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`,
			tail:    initLine + startLine + endLine + coldReport + "\n", again: "2",
		},
		{
			name: "no bootstrap", fn: func(fn *Function) { fn.Code = empty }, event: `{}`, functionError: bad,
			payload: `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: ID Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"}`,
			tail: initReports("Runtime.InvalidEntrypoint", "") + startLine + "RequestId: ID Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]\nRuntime.InvalidEntrypoint\n" +
				endLine + warmReport + "Status: error\tError Type: Runtime.InvalidEntrypoint\n",
		},
		{
			name: "init exit", fn: initMode("exit"), event: `{}`, functionError: bad,
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 3"}`,
			tail: initReports("Runtime.ExitError", initLine) + startLine + "RequestId: ID Error: Runtime exited with error: exit status 3\nRuntime.ExitError\n" +
				endLine + warmReport + "Status: error\tError Type: Runtime.ExitError\n",
		},
		{
			name: "init error", fn: initMode("error"), event: `{}`, functionError: bad,
			payload: `{"errorMessage":"no","errorType":"Custom"}`,
			tail:    initReports("Runtime.Unknown", initLine) + startLine + endLine + warmReport + "Status: error\tError Type: Runtime.Unknown\n",
		},
		{
			name: "init fails once", fn: initMode("once"), event: `{"do":"count"}`,
			payload: `1`,
			tail:    initLine + failedInit("init", "Runtime.ExitError") + initLine + startLine + endLine + warmReport + "\n", again: "2",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, testLimits())
			fn := h.function()
			if c.fn != nil {
				c.fn(fn)
			}
			r := h.invoke(fn, c.event)
			h.check(r, c.functionError, c.payload, c.tail)
			if c.again != "" {
				if r := h.invoke(fn, `{"do":"count"}`); string(r.Payload) != c.again {
					t.Errorf("the invocation after it: %s, want %s", r.Payload, c.again)
				}
			}
		})
	}
}

func TestInitTimeoutTriesAgainInsideTheInvocation(t *testing.T) {
	l := testLimits()
	l.Init = 300 * time.Millisecond
	h := newHarness(t, l)
	fn := h.function(initMode("hang"), func(fn *Function) { fn.Timeout = time.Second })
	r := h.invoke(fn, `{}`)
	match(t, "payload", string(r.Payload), `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 1.00 seconds"}`)
	h.stop()
	all := strings.Join(h.logs.all(), "\n")
	for _, want := range []string{"Phase: init\tStatus: timeout", "Phase: invoke\tStatus: timeout", "Task timed out after 1.00 seconds"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in the log:\n%s", want, all)
		}
	}
}

func TestAnswerThenExit(t *testing.T) {
	h := newHarness(t, testLimits())
	r := h.invoke(h.function(), `{"do":"answer and exit"}`)
	if r.FunctionError != "" || !strings.Contains(string(r.Payload), "answer and exit") {
		t.Errorf("the answer before the exit: %q %s", r.FunctionError, r.Payload)
	}
	if !strings.Contains(string(r.LogTail), "Error Type: Runtime.ExitError") {
		t.Errorf("the exit is not in the log: %s", r.LogTail)
	}
}

func TestThrottles(t *testing.T) {
	l := testLimits()
	l.Concurrency = 1
	h := newHarness(t, l)
	fn := h.function()
	h.invoke(fn, `{}`)
	h.settle(fn)
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		h.Invoke(context.Background(), fn, &Request{RequestID: requestID, Payload: []byte(`{"hold":true}`)})
	}()
	h.await("busy function", func() bool { return h.Stats().Busy == 1 })
	_, err := h.Invoke(t.Context(), fn, &Request{RequestID: requestID, Payload: []byte(`{}`)})
	if te, ok := err.(*ThrottledError); !ok || te.Reason != "ConcurrentInvocationLimitExceeded" {
		t.Errorf("a second invocation: %v", err)
	}
	h.hold <- struct{}{}
	<-busy
}

func TestMemoryMakesRoomByEndingTheIdle(t *testing.T) {
	l := testLimits()
	l.MemoryMB = 256
	h := newHarness(t, l)
	for i := range 4 {
		fn := h.function(func(fn *Function) { fn.ARN += fmt.Sprint(i); fn.Name = fmt.Sprint("f", i) })
		h.invoke(fn, `{}`)
	}
	if s := h.Stats(); s.MemoryMB > 256 {
		t.Errorf("%+v is over the machine's memory", s)
	}
	if _, err := h.Invoke(t.Context(), h.function(func(fn *Function) { fn.MemoryMB = 512 }), &Request{RequestID: requestID}); err == nil {
		t.Error("a function larger than the machine was run")
	}
}

func TestNewRevisionGetsNewEnvironments(t *testing.T) {
	h := newHarness(t, testLimits())
	first := h.invoke(h.function(), `{"do":"count"}`)
	again := h.invoke(h.function(), `{"do":"count"}`)
	other := h.invoke(h.function(func(fn *Function) { fn.Revision = "2" }), `{"do":"count"}`)
	if string(first.Payload) != "1" || string(again.Payload) != "2" || string(other.Payload) != "1" {
		t.Errorf("counts %s %s, and %s of the new revision", first.Payload, again.Payload, other.Payload)
	}
}

func TestTenantsShareNoEnvironment(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function()
	calls := map[string]int{}
	for _, tenant := range []string{"a", "b", "a", "b", "b"} {
		r, err := h.Invoke(t.Context(), fn, &Request{RequestID: call.NewRequestID(), TenantID: tenant, Payload: []byte(`{"do":"count"}`)})
		if err != nil {
			t.Fatal(err)
		}
		calls[tenant]++
		// An environment counts its invocations. On a busy machine a tenant may be given another one, but never somebody else's.
		if n, err := strconv.Atoi(string(r.Payload)); err != nil || n < 1 || n > calls[tenant] {
			t.Errorf("invocation %d of %s was number %s of its environment", calls[tenant], tenant, r.Payload)
		}
	}
}

func TestConcurrentInvocationsDoNotCross(t *testing.T) {
	l := testLimits()
	l.MemoryMB = 1024 // eight environments
	h := newHarness(t, l)
	fn := h.function()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 60 {
				event := fmt.Sprintf(`{"do":"print","arg":"%d/%d"}`, worker, i)
				switch i % 20 {
				case 7:
					event = fmt.Sprintf(`{"do":"error","arg":"%d/%d"}`, worker, i)
				case 13:
					event = `{"do":"exit","bytes":1}`
				}
				r, err := h.Invoke(t.Context(), fn, &Request{RequestID: call.NewRequestID(), Payload: []byte(event)})
				switch {
				case err != nil:
					if _, ok := err.(*ThrottledError); !ok {
						t.Errorf("%s: %v", event, err)
					}
				case r.FunctionError == "" && string(r.Payload) != event:
					t.Errorf("%s answered %s", event, r.Payload)
				}
			}
		})
	}
	wg.Wait()
}

func TestVariables(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function(func(fn *Function) {
		fn.Environment = map[string]string{"MINE": "yes", "_HIDDEN": "no", "TZ": "Europe/Berlin", "AWS_REGION": "nowhere"}
	})
	for name, want := range map[string]string{
		"MINE": "yes", "_HIDDEN": "", "TZ": "Europe/Berlin", "AWS_REGION": "us-east-1", "_HANDLER": "h", "AWS_EXECUTION_ENV": "",
		"AWS_ACCESS_KEY_ID": "ASIATEST", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
	} {
		if r := h.invoke(fn, fmt.Sprintf(`{"do":"env","arg":%q}`, name)); string(r.Payload) != fmt.Sprintf("%q", want) {
			t.Errorf("%s = %s, want %q", name, r.Payload, want)
		}
	}
}

func TestJSONLogs(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function(func(fn *Function) { fn.LogFormat, fn.ApplicationLogLevel, fn.SystemLogLevel = "JSON", "WARN", "INFO" })
	arg := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	h.invoke(fn, `{"do":"print","arg":`+arg(`{"level":"INFO","message":"quiet"}`)+`}`)
	r := h.invoke(fn, `{"do":"print","arg":`+arg(`{"level":"ERROR","message":"loud"}`)+`}`)
	tail := string(r.LogTail)
	if !strings.Contains(tail, "loud") || !strings.Contains(tail, `"type":"platform.report"`) || strings.Contains(tail, "START") {
		t.Errorf("tail:\n%s", tail)
	}
	h.stop()
	for _, line := range h.logs.all() {
		if strings.Contains(line, "quiet") {
			t.Errorf("a record below the level was kept: %s", line)
		}
	}
}

func TestStopLetsInvocationsEnd(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function()
	h.invoke(fn, `{}`)
	h.settle(fn)
	answer := make(chan *Response, 1)
	go func() {
		r, _ := h.Invoke(context.Background(), fn, &Request{RequestID: requestID, Payload: []byte(`{"hold":true}`)})
		answer <- r
	}()
	h.await("busy function", func() bool { return h.Stats().Busy == 1 })
	go func() {
		h.await("stop", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.stopping
		})
		close(h.hold)
	}()
	h.stop()
	if r := <-answer; r == nil || string(r.Payload) != `{"hold":true}` {
		t.Errorf("the invocation that ran answered %v", r)
	}
	if _, err := h.Invoke(t.Context(), fn, &Request{RequestID: requestID}); err != ErrStopping {
		t.Errorf("after Stop: %v", err)
	}
}

// A function that prints without end is answered, frozen and timed out like any other, and delays nobody else's log.
func TestEndlessOutput(t *testing.T) {
	h := newHarness(t, testLimits())
	loud := h.function()
	if r := h.invoke(loud, `{"do":"spam"}`); r.FunctionError != "" {
		t.Fatalf("%s", r.Payload)
	}
	if r := h.invoke(loud, `{"do":"count"}`); string(r.Payload) != "2" {
		t.Errorf("the next invocation answered %s", r.Payload)
	}
	h.settle(loud)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Invoke(context.Background(), loud, &Request{RequestID: requestID, Payload: []byte(`{"hold":true}`)})
	}()
	quiet := h.function(func(fn *Function) { fn.ARN, fn.Name, fn.LogGroup = fn.ARN+"-quiet", "quiet", "/aws/lambda/quiet" })
	h.invoke(quiet, `{"do":"print","arg":"whisper"}`)
	h.awaitLog("whisper\n")
	select {
	case <-done:
		t.Error("the loud one did not run on")
	default:
	}
	close(h.hold)
	<-done

	late := h.function(func(fn *Function) { fn.ARN, fn.Name, fn.Timeout = fn.ARN+"-late", "late", 2*time.Second })
	h.invoke(late, `{"do":"spam"}`)
	if r := h.invoke(late, `{"ms":60000}`); !strings.Contains(string(r.Payload), "Sandbox.Timedout") {
		t.Errorf("the invocation that runs too long: %s", r.Payload)
	}
}

func TestElapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		time.Sleep(time.Minute)
		now := time.Now()
		for _, c := range []struct {
			since time.Time
			want  time.Duration
		}{
			{begin, time.Minute},
			{begin.Round(0).Add(-time.Hour), time.Minute + time.Hour}, // only the wall clock knows
		} {
			if got := elapsed(c.since, now); got != c.want {
				t.Errorf("since %v: %v, want %v", c.since, got, c.want)
			}
		}
	})
}
