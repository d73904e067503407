package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Programs that the suites run, built once by TestMain.
var (
	mayfly    string // the server and its command line
	bootstrap string // a function of the provided runtimes that does what its event says
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mayfly-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	mayfly, bootstrap = filepath.Join(dir, "mayfly"), filepath.Join(dir, "bootstrap")
	for out, pkg := range map[string]string{mayfly: "../../cmd/mayfly", bootstrap: "./bootstrap"} {
		build := exec.Command("go", "build", "-trimpath", "-o", out, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if b, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build %s: %v\n%s", pkg, err, b)
			return 1
		}
	}
	return m.Run()
}

// instance is a server that a test started.
type instance struct {
	t    *testing.T
	data string
	args []string
	vars map[string]string // what "mayfly env" prints

	cmd     *exec.Cmd
	ended   chan error
	stderr  *os.File
	sandbox traces // what to look for when it is gone
}

// newInstance returns a server with a data directory of its own, which is not started yet.
func newInstance(t *testing.T, args ...string) *instance {
	t.Helper()
	s := &instance{t: t, data: filepath.Join(t.TempDir(), "data"), args: args}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	s.stderr = stderr
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the server's log ends:\n%s", tail(stderr.Name(), 8<<10))
		}
		stderr.Close()
	})
	return s
}

// start runs the server and returns when it is healthy. It may be called again after stop or kill.
func (s *instance) start() {
	s.t.Helper()
	s.cmd = exec.Command(mayfly, append([]string{"serve", "--json", "--data", s.data, "--listen", "127.0.0.1:0"}, s.args...)...)
	s.cmd.Env = environment(nil)
	s.cmd.Stderr = s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to handle
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan error, 1)
	ready := make(chan error, 1)
	go func() {
		r := bufio.NewReader(stdout)
		var greeting struct{ Address string }
		ready <- json.NewDecoder(r).Decode(&greeting)
		r.WriteTo(s.stderr)
		s.ended <- s.cmd.Wait()
	}()
	select {
	case err := <-ready:
		if err != nil {
			s.t.Fatalf("the server did not start: %v", err)
		}
	case <-time.After(time.Minute):
		s.t.Fatal("the server is not ready after a minute")
	}
	out, err := exec.Command(mayfly, "env", "--json", "--data", s.data).Output()
	if err != nil {
		s.t.Fatalf("mayfly env: %v", err)
	}
	if err := json.Unmarshal(out, &s.vars); err != nil {
		s.t.Fatalf("mayfly env: %v", err)
	}
	res, err := http.Get(s.vars["AWS_ENDPOINT_URL"] + "/_mayfly/health")
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		s.t.Fatalf("health: %s", res.Status)
	}
	s.sandbox = tracesOf(s.cmd.Process.Pid, s.data)
	s.role()
}

// stop ends the server as Ctrl-C does, and checks that it leaves nothing behind.
func (s *instance) stop() {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.ended:
		s.cmd = nil
		if err != nil {
			s.t.Errorf("the server ended with %v after SIGINT", err)
		}
	case <-time.After(time.Minute):
		s.kill()
		s.t.Fatal("the server still runs a minute after SIGINT")
	}
	s.awaitNothing(10 * time.Second)
}

// kill ends the server as a crash does.
func (s *instance) kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// awaitNothing waits for what the kernel takes away in its own time, and reports what stays.
func (s *instance) awaitNothing(limit time.Duration) {
	s.t.Helper()
	var left []string
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if left = s.sandbox.left(); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	s.t.Errorf("the server left behind:\n%s", strings.Join(left, "\n"))
}

// env is the environment of a client: this process's without anything that configures AWS clients, with what "mayfly
// env" prints.
func (s *instance) env() []string { return environment(s.vars) }

func environment(vars map[string]string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "AWS_") && !strings.HasPrefix(kv, "TF_") && !strings.HasPrefix(kv, "MAYFLY_") {
			env = append(env, kv)
		}
	}
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	return append(env, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull,
		"PYTHONDONTWRITEBYTECODE=1")
}

func tail(file string, n int64) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if size, err := f.Seek(0, 2); err == nil {
		f.Seek(max(0, size-n), 0)
	}
	var b strings.Builder
	bufio.NewReader(f).WriteTo(&b)
	return b.String()
}

// missing skips a test for want of a tool, or fails it where all tools are expected.
func missing(t *testing.T, what, install string) {
	t.Helper()
	text := fmt.Sprintf("%s is not installed: %s", what, install)
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
}
