package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
)

// The test binary is what sandboxes start from.
func TestMain(m *testing.M) {
	linux.MaybeInit()
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_DEFAULT_REGION", "MAYFLY_DATA"} {
		os.Unsetenv(name)
	}
	os.Exit(m.Run())
}

// buffer may be read while a command writes to it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(b.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come; there is\n%s", text, b)
		}
	}
}

// command runs a command line to its end.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return commandWith(t, "", args...)
}

func commandWith(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err buffer
	status = run(t.Context(), args, strings.NewReader(stdin), &out, &err)
	if all := out.String() + err.String(); strings.Contains(all, "\x1b[") {
		t.Errorf("mayfly %s prints colours, and no terminal is there", strings.Join(args, " "))
	}
	return status, out.String(), err.String()
}

// expect runs a command and looks for texts in what it prints.
func expect(t *testing.T, status int, texts []string, args ...string) string {
	t.Helper()
	got, out, err := command(t, args...)
	if got != status {
		t.Errorf("mayfly %s: status %d, want %d\n%s%s", strings.Join(args, " "), got, status, out, err)
	}
	for _, text := range texts {
		if !strings.Contains(out+err, text) {
			t.Errorf("mayfly %s: no %q in\n%s%s", strings.Join(args, " "), text, out, err)
		}
	}
	return out
}

// serve runs a server on a data directory, until stop, which gives its exit status.
func serve(t *testing.T, args ...string) (data string, stop func() int) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	for dir := filepath.Dir(data); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755) // functions, which are other users, pass through
	}
	return data, serveOn(t, data, args...)
}

// serveOn is serve on a data directory that is there already.
func serveOn(t *testing.T, data string, args ...string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var out, err buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, args...), nil, &out, &err)
	}()
	stop = sync.OnceValue(func() int {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Log(err.String())
		}
	})
	out.await(t, "another terminal")
	return stop
}

func create(t *testing.T, data, name, runtime, handler, dir string) {
	t.Helper()
	a := &app{data: data}
	target, err := a.target()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zipDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	role, err := createRole(t.Context(), target.client(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lambdaapi.CreateFunction.Call(t.Context(), target.client(), &lambdaapi.CreateFunctionInput{
		FunctionName: &name, Runtime: &runtime, Handler: &handler, Timeout: new(int32(120)),
		Role: &role, Code: &lambdaapi.FunctionCode{ZipFile: archive},
	}); err != nil {
		t.Fatal(err)
	}
	if err := waitActive(t.Context(), target.client(), name); err != nil {
		t.Fatal(err)
	}
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(program + " is not installed")
	}
}

const pythonEcho = `
import time
def handler(event, context):
    print("saw", event)
    if event.get("fail"):
        raise ValueError("as asked")
    time.sleep(event.get("seconds", 0))
    return event
`

func TestHelp(t *testing.T) {
	expect(t, 0, []string{"mayfly serve", "mayfly env", "mayfly run", "invoke", "logs", "usage", "doctor", "completion"}, "--help")
	for _, name := range []string{"serve", "env", "doctor", "invoke", "logs", "usage", "run", "version"} {
		expect(t, 0, []string{"Usage:\n  mayfly " + name, "--json"}, name, "--help")
	}
	expect(t, 1, []string{`unknown command "nosuch"`, "mayfly --help"}, "nosuch")
	expect(t, 1, []string{"mayfly invoke takes one NAME, not 0", "mayfly invoke --help"}, "invoke")
	expect(t, 1, []string{"mayfly run takes one DIR, not 2"}, "run", "a", "b")
}

func TestCompletion(t *testing.T) {
	for shell, text := range map[string]string{"bash": "complete ", "zsh": "#compdef mayfly", "fish": "complete -c mayfly"} {
		expect(t, 0, []string{text}, "completion", shell)
	}
}

func TestVersion(t *testing.T) {
	expect(t, 0, []string{"mayfly ", runtime.Version()}, "version")
	var v map[string]string
	if err := json.Unmarshal([]byte(expect(t, 0, nil, "version", "--json")), &v); err != nil || v["version"] == "" {
		t.Errorf("%v %v", v, err)
	}
}

func TestDoctor(t *testing.T) {
	expect(t, 0, []string{"Sandbox:", "Runtimes", "provided.al2023", "Memory:"}, "doctor")
	var d struct {
		Sandbox  struct{ Driver string }
		Runtimes []struct{ Runtime string }
	}
	if err := json.Unmarshal([]byte(expect(t, 0, nil, "doctor", "--json")), &d); err != nil || d.Sandbox.Driver == "" || len(d.Runtimes) == 0 {
		t.Errorf("%+v %v", d, err)
	}
}

func TestServer(t *testing.T) {
	need(t, "python3")
	expect(t, 1, []string{"mayfly serve", "--data DIR"}, "env", "--data", t.TempDir())
	data, stop := serve(t)

	expect(t, 0, []string{"export AWS_ENDPOINT_URL=http://127.0.0.1:", "export AWS_ACCESS_KEY_ID=AKIA", "export AWS_SECRET_ACCESS_KEY=",
		"export AWS_REGION=", "export AWS_DEFAULT_REGION="}, "env", "--data", data)
	var env map[string]string
	if err := json.Unmarshal([]byte(expect(t, 0, nil, "env", "--json", "--data", data)), &env); err != nil || len(env) != 5 {
		t.Errorf("env --json: %v %v", env, err)
	}
	address := strings.TrimPrefix(env["AWS_ENDPOINT_URL"], "http://")
	expect(t, 1, []string{"another Mayfly serves", "--data DIR"}, "serve", "--data", data, "--listen", "127.0.0.1:0")
	expect(t, 1, []string{"address already in use", "--listen"}, "serve", "--ephemeral", "--listen", address)

	create(t, data, "echo", "python3.13", "app.handler", folder(t, map[string]string{"app.py": pythonEcho}))
	file := filepath.Join(folder(t, map[string]string{"e.json": " {\"from\": \"file\"}\n"}), "e.json")
	expect(t, 0, []string{`{"a": 1}`, "START RequestId", "REPORT RequestId"}, "invoke", "echo", "--event", `{"a":1}`, "--data", data)
	expect(t, 0, []string{"file"}, "invoke", "echo", "--event", file, "--data", data, "-q")
	if status, out, _ := commandWith(t, `{"from":"stdin"}`, "invoke", "echo", "-e", "-", "-q", "--data", data); status != 0 || !strings.Contains(out, "stdin") {
		t.Errorf("an event from standard input: %d %s", status, out)
	}
	expect(t, 2, []string{"ValueError", "as asked"}, "invoke", "echo", "--event", `{"fail":true}`, "--data", data)
	var answer struct {
		FunctionError string
		Payload       struct{ ErrorType string }
	}
	out := expect(t, 2, nil, "invoke", "echo", "--json", "--event", `{"fail":true}`, "--data", data)
	if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.FunctionError != "Unhandled" || answer.Payload.ErrorType != "ValueError" {
		t.Errorf("invoke --json: %s", out)
	}
	expect(t, 1, []string{"ResourceNotFoundException"}, "invoke", "nothing", "--data", data)
	expect(t, 1, []string{"neither JSON nor the name of a file"}, "invoke", "echo", "--event", "{bad", "--data", data)

	var followed, errors buffer
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"logs", "echo", "--follow", "--data", data}, nil, &followed, &errors)
	}()
	followed.await(t, "REPORT RequestId")
	expect(t, 0, nil, "invoke", "echo", "--event", `{"late":"comer"}`, "--data", data)
	followed.await(t, "comer")
	cancel()
	if status := <-ended; status != 0 {
		t.Errorf("logs --follow ended with %d: %s", status, &errors)
	}
	if all := expect(t, 0, []string{"comer"}, "logs", "echo", "--filter", "comer", "--data", data); strings.Contains(all, "REPORT") {
		t.Errorf("logs --filter prints\n%s", all)
	}
	expect(t, 0, []string{"invocations", "echo", "total"}, "usage", "--data", data)
	var lines []struct{ Invocations, Failures int }
	if err := json.Unmarshal([]byte(expect(t, 0, nil, "usage", "--json", "--data", data)), &lines); err != nil || len(lines) != 1 ||
		lines[0].Invocations != 6 || lines[0].Failures != 2 {
		t.Errorf("usage --json: %+v %v", lines, err)
	}
	expect(t, 1, []string{"--from", "2006-01-02"}, "usage", "--from", "yesterday", "--data", data)
	expect(t, 0, []string{"There are no queues."}, "queues", "--data", data)
	expect(t, 0, []string{"[]"}, "queues", "--json", "--data", data)
	expect(t, 1, []string{"no queue is named orders"}, "queues", "orders", "--data", data)

	if status := stop(); status != 0 {
		t.Errorf("serve ended with %d", status)
	}
	expect(t, 1, []string{"No server listens there", "mayfly serve"}, "invoke", "echo", "--data", data)
}

func TestServeRefuses(t *testing.T) {
	expect(t, 1, []string{"loopback"}, "serve", "--ephemeral", "--dev", "--listen", "0.0.0.0:0")
	expect(t, 1, []string{"egress and none"}, "serve", "--ephemeral", "--network", "all")
	expect(t, 1, []string{"linux and process"}, "serve", "--ephemeral", "--sandbox", "box")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	expect(t, 1, []string{"Stop what listens there", "--listen"}, "serve", "--ephemeral", "--listen", ln.Addr().String())
}

func TestRun(t *testing.T) {
	expect(t, 1, []string{"no such file"}, "run", filepath.Join(t.TempDir(), "none"))
	expect(t, 1, []string{"no handler found", "--runtime"}, "run", t.TempDir())
	expect(t, 1, []string{"NAME=VALUE"}, "run", folder(t, map[string]string{"bootstrap": "x"}), "--env", "novalue")
	for _, c := range []struct {
		name, needs string
		files       map[string]string
		args        []string
		status      int
		texts       []string
	}{
		{"python", "python3", map[string]string{"app.py": pythonEcho}, []string{"--event", `{"k":1}`}, 0, []string{`{"k": 1}`, "saw"}},
		{"python error", "python3", map[string]string{"app.py": pythonEcho}, []string{"--event", `{"fail":1}`}, 2, []string{"as asked"}},
		{"node", "node", map[string]string{"index.mjs": "export const handler = async e => ({got: e, v: process.env.VAR})"}, []string{"--env", "VAR=w"}, 0, []string{`"v":"w"`}},
		{"no program", "sh", map[string]string{"bootstrap": "#!/none\n"}, nil, 2, []string{"Runtime."}},
		{"go", "go", map[string]string{"go.mod": "module f\ngo 1.26\n", "main.go": goExit}, nil, 2, []string{"exit status 9"}},
		{"go that does not build", "go", map[string]string{"go.mod": "module f\n", "main.go": "package main\nfunc main() { x }\n"}, nil, 1, []string{"go build", "undefined: x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.needs)
			expect(t, c.status, c.texts, append([]string{"run", folder(t, c.files)}, c.args...)...)
		})
	}
}

const goExit = `package main

import "os"

func main() { os.Exit(9) }
`

// Ctrl-C lets invocations end; the second one does not.
func TestSecondInterrupt(t *testing.T) {
	need(t, "python3")
	data := filepath.Join(t.TempDir(), "data")
	for dir := filepath.Dir(data); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	var out, log buffer
	ended := make(chan int, 1)
	go func() { ended <- Main([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, &out, &log) }()
	out.await(t, "another terminal")
	create(t, data, "slow", "python3.13", "app.handler", folder(t, map[string]string{"app.py": pythonEcho}))
	invoked := make(chan int, 1)
	var invokeOut, follow buffer
	go func() {
		invoked <- run(t.Context(), []string{"invoke", "slow", "--event", `{"seconds":100}`, "--data", data}, nil, &invokeOut, &invokeOut)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	go run(ctx, []string{"logs", "slow", "--follow", "--data", data}, nil, &follow, &follow)
	follow.await(t, "START RequestId")
	cancel()
	interrupt := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	interrupt()
	log.await(t, "stopping")
	select {
	case status := <-ended:
		t.Fatalf("the first interrupt ended the server with %d while an invocation ran", status)
	case <-time.After(300 * time.Millisecond):
	}
	begin := time.Now()
	interrupt()
	if status := <-ended; status != 0 || time.Since(begin) > time.Minute {
		t.Errorf("status %d after %v", status, time.Since(begin))
	}
	if status := <-invoked; status == 0 {
		t.Errorf("the invocation that was broken off succeeded: %s", &invokeOut)
	}
}

// A session of a role, as mayfly env prints it, is known to the server.
func TestEnvRole(t *testing.T) {
	data, _ := serve(t)
	a := &app{data: data}
	target, err := a.target()
	if err != nil {
		t.Fatal(err)
	}
	arn, err := createRole(t.Context(), target.client(), "app")
	if err != nil {
		t.Fatal(err)
	}
	env := func(role string) (map[string]string, string) {
		var out, errs buffer
		v := map[string]string{}
		if run(t.Context(), []string{"env", "--json", "--data", data, "--role", role}, nil, &out, &errs) == 0 {
			json.Unmarshal([]byte(out.String()), &v)
		}
		return v, errs.String()
	}
	v, told := env(arn)
	target.credentials.AccessKeyID, target.credentials.SecretAccessKey = v["AWS_ACCESS_KEY_ID"], v["AWS_SECRET_ACCESS_KEY"]
	target.credentials.SessionToken = v["AWS_SESSION_TOKEN"]
	who, err := stsapi.GetCallerIdentity.Call(t.Context(), target.client(), &stsapi.GetCallerIdentityInput{})
	if err != nil || *who.Arn != "arn:aws:sts::000000000000:assumed-role/app/mayfly" {
		t.Errorf("%v %v %s", who, err, told)
	}
	for _, bad := range []string{"none", "arn:aws:iam::000000000000:role/x/app"} {
		if v, told := env(bad); len(v) != 0 || told == "" {
			t.Errorf("%s: %v %s", bad, v, told)
		}
	}
}
