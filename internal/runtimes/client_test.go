package runtimes

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	update = flag.Bool("update", false, "write what the cases of testdata produce as what they expect")
	search = flag.String("search", "", "further directories with languages, separated as in PATH")
	all    = flag.Bool("all-versions", false, "run the cases on every version of a language that is installed")
)

// requestID is the first invocation's; each further one counts up its last digit.
const requestID = "8476a536-e9f4-11e8-9739-2dfe598c3fc0"

// TestClients runs every directory testdata/<family>/<case> through the client of its family: the files in it are the
// function's code, and these tell the rest:
//
//	event.json   one event a line; default {}
//	headers      further headers of the event, one a line
//	env          variables, NAME=value, one a line; _HANDLER is app.handler by default
//	since        the first version of the language that the case is for
//	want         what the client did: answers, errors, exit status
//	want.log     what it wrote to standard output and error, or to the log descriptor
func TestClients(t *testing.T) {
	f := testFinder(t)
	for _, family := range []Family{Python, Node} {
		for _, l := range testLaunches(t, f, family) {
			cases, err := filepath.Glob(filepath.Join("testdata", string(family), "*"))
			if err != nil || len(cases) == 0 {
				t.Fatalf("no cases for %s: %v", family, err)
			}
			for _, dir := range cases {
				t.Run(filepath.Base(string(family))+l.FoundVersion+"/"+filepath.Base(dir), func(t *testing.T) {
					t.Parallel()
					runCase(t, l, dir)
				})
			}
		}
	}
}

func testFinder(t testing.TB) *Finder {
	t.Helper()
	dir := t.TempDir()
	f, err := New(Options{Dir: dir, Search: filepath.SplitList(*search)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(dir) })
	return f
}

// testLaunches are the versions of a language to test on: all that are installed, or the newest.
func testLaunches(t *testing.T, f *Finder, family Family) []Launch {
	t.Helper()
	var found []Launch
	for _, r := range catalog {
		if r.Family != family || r.Retired {
			continue
		}
		l, err := f.Resolve(t.Context(), r.Name, "")
		if missing, ok := errors.AsType[*NotInstalledError](err); ok {
			t.Skipf("SKIPPED, the %s client is not tested: %v", family, missing)
		}
		if err != nil {
			t.Fatal(err)
		}
		if l.Warning == "" {
			found = append(found, l)
		} else if len(found) == 0 {
			found = []Launch{l}
		}
	}
	if *all {
		return found
	}
	return found[len(found)-1:]
}

func runCase(t *testing.T, l Launch, dir string) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(data)
	}
	if since, ok := parseVersion(strings.TrimSpace(read("since"))); ok {
		if found, _ := parseVersion(l.FoundVersion); slices.Compare(found[:], since[:]) < 0 {
			t.Skipf("SKIPPED: the language has this since %v", since)
		}
	}
	events := strings.Split(strings.TrimSuffix(read("event.json"), "\n"), "\n")
	if events[0] == "" {
		events = []string{"{}"}
	}
	api := newFakeAPI(t, events, read("headers"))
	env := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(read("env"), "/var/task", dir)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	launch := onHost(l, dir)
	p := startClient(t, launch, api, dir, env)
	log, exit := p.finish(t, api)
	got := normalise(api.transcript(exit), launch, dir)
	log = normalise(showFrames(t, log), launch, dir)
	if *update {
		for name, content := range map[string]string{"want": got, "want.log": log} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	if diff := cmp.Diff(read("want"), got); diff != "" {
		t.Errorf("what the client did (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(read("want.log"), log); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// normalisers take out what differs by run and by patch version.
var normalisers = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`), "<time.ms>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
	{regexp.MustCompile(`SyntaxError: [^"\\]* JSON[^"\\]*`), "SyntaxError: ~"},
	// Node.js: frames of its own and of the client, in a stack and in a cause
	{regexp.MustCompile(`"    at (?:[^"]*\()?(?:/var/runtime/|file:///var/runtime/|(?:async )?node:|async Promise.all )[^"]*"(,?)`), "~$1"},
	{regexp.MustCompile(`Object\.(exports\.)?handler`), "exports.handler"},
	{regexp.MustCompile(`"url":"file:[^"]*",`), ""},
	{regexp.MustCompile(`\{"path":"(?:/var/runtime/|node:|file:///var/runtime/)[^}]*\}(,?)`), "~$1"},
	{regexp.MustCompile(`"(?:/var/runtime/|node:)[\w./]*"(,?)`), "~$1"},
	{regexp.MustCompile(`~(?:,~)*`), "~"},
	{regexp.MustCompile(`(<frozen importlib\._bootstrap(?:_external)?>\\?", (?:line |"line": ))\d+`), "$1<line>"},
	{regexp.MustCompile(`python3\.\d+/`), "python3.x/"},
	{regexp.MustCompile(`(\n|\\n|\\r) *[~^]+`), ""}, // Python's marks under a line, from 3.11 on
}

// normalise makes a client's doings comparable, and shows what cannot be seen.
func normalise(s string, l Launch, dir string) string {
	client := filepath.Dir(l.Exec[len(l.Exec)-1])
	s = strings.NewReplacer(dir, "/var/task", client, "/var/runtime", "\r", `\r`, "\u00a0", `\u00a0`).Replace(s)
	for _, n := range normalisers {
		s = n.pattern.ReplaceAllString(s, n.with)
	}
	return s
}

// showFrames makes text of the frames in a log: their type and time as words, and what stands between them as it is.
func showFrames(t *testing.T, log string) string {
	t.Helper()
	var out strings.Builder
	for {
		text, frame, ok := strings.Cut(log, "\xa5\x5a")
		out.WriteString(text)
		if !ok {
			return out.String()
		}
		head := []byte("\xa5\x5a" + frame)
		if len(head) < 16 || len(head) < 16+int(binary.BigEndian.Uint32(head[4:])) {
			t.Fatalf("broken frame: %q", head)
		}
		if age := time.Since(time.UnixMicro(int64(binary.BigEndian.Uint64(head[8:])))); age < 0 || age > time.Minute {
			t.Errorf("the frame is %v old", age)
		}
		size := 16 + int(binary.BigEndian.Uint32(head[4:]))
		fmt.Fprintf(&out, "<frame %x>%s</frame>\n", head[:4], head[16:size])
		log = string(head[size:])
	}
}

// fakeAPI is a Runtime API that hands out a list of events and writes down what comes back.
type fakeAPI struct {
	server *httptest.Server
	idle   chan struct{} // closed at the poll after the last event

	mu      sync.Mutex
	events  []string
	headers []string
	served  int
	log     strings.Builder
	onNext  func(n int) // called at each poll
	refuse  map[string]int
}

func newFakeAPI(t testing.TB, events []string, headers string, configure ...func(*fakeAPI)) *fakeAPI {
	api := &fakeAPI{events: events, idle: make(chan struct{}), headers: strings.Split(strings.TrimSpace(headers), "\n")}
	api.server = httptest.NewUnstartedServer(api)
	for _, c := range configure {
		c(api)
	}
	api.server.Start()
	t.Cleanup(api.server.Close)
	return api
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	what, ok := strings.CutPrefix(r.URL.Path, "/2018-06-01/runtime/")
	if err != nil || !ok {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if what == "invocation/next" {
		if a.onNext != nil {
			a.onNext(a.served)
		}
		if a.served == len(a.events) {
			close(a.idle)
			a.mu.Unlock()
			<-r.Context().Done()
			a.mu.Lock()
			return
		}
		h := w.Header()
		h.Set("Lambda-Runtime-Aws-Request-Id", requestIDOf(a.served))
		h.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Hour).UnixMilli()))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f")
		h.Set("Content-Type", "application/json")
		for _, line := range a.headers {
			if name, value, ok := strings.Cut(line, ": "); ok {
				h.Set(name, value)
			}
		}
		io.WriteString(w, a.events[a.served])
		a.served++
		return
	}
	id, verb, _ := strings.Cut(strings.TrimPrefix(what, "invocation/"), "/")
	note := fmt.Sprintf("%s %s", id, verb)
	if id == requestIDOf(a.served-1) {
		note = verb
	}
	for _, name := range []string{"Content-Type", "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Response-Mode"} {
		if value := r.Header.Get(name); value != "" && value != "application/json" {
			note += " " + value
		}
	}
	fmt.Fprintf(&a.log, "%s\n%s\n", note, bytes.ReplaceAll(body, []byte{0}, []byte(`\0`)))
	if cause := r.Header.Get("Lambda-Runtime-Function-Xray-Error-Cause"); cause != "" {
		fmt.Fprintf(&a.log, "cause %s\n", cause)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Trailer)) {
		if value := r.Trailer.Get(name); value != "" {
			if decoded, err := base64.StdEncoding.DecodeString(value); err == nil && strings.HasSuffix(name, "Body") {
				value = string(decoded)
			}
			fmt.Fprintf(&a.log, "trailer %s: %s\n", name, value)
		}
	}
	if status := a.refuse[verb]; status != 0 {
		http.Error(w, `{"errorMessage":"refused","errorType":"Refused"}`, status)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, `{"status":"OK"}`)
}

func requestIDOf(n int) string { return requestID[:len(requestID)-1] + fmt.Sprint(n) }

func (a *fakeAPI) transcript(exit string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String() + exit
}

// onHost is what a driver without mounts makes of a launch: every path of the sandbox becomes the host's.
func onHost(l Launch, task string) Launch {
	at := append(slices.Clone(l.Mounts), Mount{task, TaskDir}, Mount{filepath.Join(task, "opt"), LayersDir})
	translate := func(list string) string {
		parts := strings.Split(list, ":")
		for i, p := range parts {
			for _, m := range at {
				if p == m.Target || strings.HasPrefix(p, m.Target+"/") {
					parts[i] = m.Source + p[len(m.Target):]
				}
			}
		}
		return strings.Join(parts, ":")
	}
	l.Exec = slices.Clone(l.Exec)
	for i := range l.Exec {
		l.Exec[i] = translate(l.Exec[i])
	}
	l.Env = maps.Clone(l.Env)
	for k, v := range l.Env {
		l.Env[k] = translate(v)
	}
	return l
}

// client is a running client under test.
type client struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan struct{}
	err  error
}

// functionEnv is the environment that the platform gives a function.
func functionEnv(l Launch, api *fakeAPI, task string, own map[string]string) map[string]string {
	env := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          strings.TrimPrefix(api.server.URL, "http://"),
		"AWS_LAMBDA_FUNCTION_NAME":        "f",
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/f",
		"AWS_LAMBDA_LOG_STREAM_NAME":      "2026/01/02/[$LATEST]0123456789abcdef0123456789abcdef",
		"AWS_EXECUTION_ENV":               map[Family]string{Python: "AWS_Lambda_python3.13", Node: "AWS_Lambda_nodejs22.x"}[l.Family],
		"LAMBDA_TASK_ROOT":                task,
		"TZ":                              ":UTC",
		"_HANDLER":                        "app.handler",
		"PYTHONDONTWRITEBYTECODE":         "1",
	}
	maps.Copy(env, l.Env)
	maps.Copy(env, own)
	return env
}

func startClient(t testing.TB, l Launch, api *fakeAPI, task string, own map[string]string) *client {
	t.Helper()
	env := functionEnv(l, api, task, own)
	argv := l.Command(env)
	p := &client{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Dir = task
	p.cmd.Env = environ(env)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.start(t)
	return p
}

func environ(env map[string]string) []string {
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	return list
}

func (p *client) start(t testing.TB) {
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
}

// finish waits until the client polls after the last event, or exits, and returns its log and how it ended.
func (p *client) finish(t testing.TB, api *fakeAPI) (log, exit string) {
	t.Helper()
	select {
	case <-api.idle:
		p.cmd.Process.Kill()
		<-p.done
	case <-p.done:
		exit = p.cmd.ProcessState.String() + "\n"
	case <-time.After(2 * time.Minute):
		p.cmd.Process.Kill()
		<-p.done
		t.Fatalf("the client neither polled nor ended; its log:\n%s", &p.log)
	}
	return p.log.String(), exit
}

// bareCommand starts something else than a client in the same way.
func bareCommand(ctx context.Context, argv []string, env map[string]string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = environ(env)
	return cmd
}
