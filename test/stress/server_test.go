package stress

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	"github.com/google/nftables"

	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
)

// Programs that TestMain builds.
var (
	mayfly    string
	bootstrap []byte
)

func TestMain(m *testing.M) {
	linux.MaybeInit() // the test program opens the driver too, to see whether it can
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mayfly-stress-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	mayfly = filepath.Join(dir, "mayfly")
	function := filepath.Join(dir, "bootstrap")
	server := []string{"build", "-trimpath", "-o", mayfly}
	cgo := "CGO_ENABLED=0"
	if raceEnabled { // what is looked for is in the server
		server, cgo = append(server, "-race"), "CGO_ENABLED=1"
	}
	for _, build := range []struct {
		args []string
		env  string
	}{
		{append(server, "../../cmd/mayfly"), cgo},
		{[]string{"build", "-trimpath", "-o", function, "./bootstrap"}, "CGO_ENABLED=0"},
	} {
		cmd := exec.Command("go", build.args...)
		cmd.Env = append(os.Environ(), build.env)
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go %v: %v\n%s", build.args, err, out)
			return 1
		}
	}
	if bootstrap, err = os.ReadFile(function); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// needSandboxes skips where sandboxes do not isolate; where everything is expected to be there, it fails.
func needSandboxes(t *testing.T) {
	t.Helper()
	d, err := linux.New(linux.Config{Dir: t.TempDir()})
	if err == nil {
		d.Close()
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("the linux sandbox is needed: ", err)
	}
	t.Skip("the linux sandbox, mostly root, is needed: ", err)
}

// instance is a server in a process of its own.
type instance struct {
	t      *testing.T
	data   string
	args   []string
	stderr *os.File
	cmd    *exec.Cmd
	ended  chan error
	config aws.Config
	pids   []int    // of all servers that there were
	slots  []string // which place each took among the servers of the machine; their interfaces are named after it
}

func newInstance(t *testing.T, args ...string) *instance {
	t.Helper()
	s := &instance{t: t, data: filepath.Join(t.TempDir(), "data"), args: args}
	var err error
	if s.stderr, err = os.Create(filepath.Join(t.TempDir(), "stderr")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		b, _ := os.ReadFile(s.stderr.Name())
		if bytes.Contains(b, []byte("DATA RACE")) || bytes.Contains(b, []byte("panic:")) {
			t.Error("the server raced or panicked")
		}
		if t.Failed() {
			t.Logf("the server's log ends:\n%s", b[max(0, len(b)-8<<10):])
		}
		s.stderr.Close()
	})
	return s
}

// start runs the server and returns when it is ready.
func (s *instance) start() {
	s.t.Helper()
	s.cmd = exec.Command(mayfly, append([]string{"serve", "--json", "--data", s.data, "--listen", "127.0.0.1:0"}, s.args...)...)
	s.cmd.Stderr = s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan error, 1)
	address := make(chan string, 1)
	go func() {
		r := bufio.NewReader(out)
		var greeting struct{ Address string }
		json.NewDecoder(r).Decode(&greeting)
		address <- greeting.Address
		r.WriteTo(s.stderr)
		s.ended <- s.cmd.Wait()
	}()
	var at string
	select {
	case at = <-address:
	case <-time.After(time.Minute):
	}
	if at == "" {
		s.t.Fatal("the server did not start")
	}
	b, err := exec.Command(mayfly, "env", "--json", "--data", s.data).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	var env map[string]string
	if err := json.Unmarshal(b, &env); err != nil {
		s.t.Fatal(err)
	}
	s.pids = append(s.pids, s.cmd.Process.Pid)
	s.slots = append(s.slots, slot(s.cmd.Process.Pid))
	s.config = aws.Config{
		HTTPClient: awshttp.NewBuildableClient(), Region: env["AWS_REGION"], BaseEndpoint: aws.String("http://" + at), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
	}
	s.role()
}

// role makes the role of the tests' functions, which may do everything, unless a start before made it.
func (s *instance) role() {
	s.t.Helper()
	c, name := iam.NewFromConfig(s.config), aws.String("test")
	_, err := c.CreateRole(s.t.Context(), &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`)})
	if exists, ok := errors.AsType[*iamtypes.EntityAlreadyExistsException](err); err != nil && (!ok || exists == nil) {
		s.t.Fatal(err)
	}
	if _, err := c.PutRolePolicy(s.t.Context(), &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("everything"), PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)}); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the server as Ctrl-C does.
func (s *instance) stop() {
	s.t.Helper()
	s.cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-s.ended:
		s.cmd = nil
		if err != nil {
			s.t.Errorf("the server ended with %v", err)
		}
	case <-time.After(time.Minute):
		s.cmd.Process.Signal(syscall.SIGQUIT) // it prints what it waits for
		<-s.ended
		s.cmd = nil
		s.t.Fatal("the server still ran a minute after SIGINT")
	}
}

// kill ends the server as the worst of crashes does.
func (s *instance) kill() {
	s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

func (s *instance) lambda() *lambda.Client { return lambda.NewFromConfig(s.config) }

// logs reads what was stored. Unlike the calls that are counted, reads are tried again: the SDK's client now and then closes a
// connection under its own hands ("use of closed network connection"), which it takes for a reason to try again itself.
func (s *instance) logs() *cloudwatchlogs.Client {
	return cloudwatchlogs.NewFromConfig(s.config, func(o *cloudwatchlogs.Options) { o.RetryMaxAttempts = 3 })
}

// stat reads a figure of the server's process.
func (s *instance) stat() (rssMB, files int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			rssMB = kb >> 10
		}
	}
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	return rssMB, len(fds)
}

// left lists what servers with these process numbers and this data directory have left on the machine.
func (s *instance) left(pids []int) (found []string) {
	for _, pid := range pids {
		owner := fmt.Sprintf("%d-", pid)
		filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && filepath.Base(filepath.Dir(path)) == "mayfly" && strings.HasPrefix(d.Name(), owner) {
				found = append(found, "cgroup "+path)
			}
			return nil
		})
		procs, _ := filepath.Glob("/proc/[0-9]*")
		for _, p := range procs {
			cgroup, _ := os.ReadFile(p + "/cgroup")
			if strings.Contains(string(cgroup), "/mayfly/"+owner) {
				exe, _ := os.Readlink(p + "/exe")
				found = append(found, "process "+filepath.Base(p)+" "+exe)
			}
		}
		if c, err := nftables.New(); err == nil {
			tables, _ := c.ListTables()
			for _, table := range tables {
				if strings.HasPrefix(table.Name, "mayfly-"+owner) {
					found = append(found, "table "+table.Name)
				}
			}
		}
	}
	if s.cmd == nil { // while a server runs, the place may be its own
		unix, _ := os.ReadFile("/proc/net/unix")
		for _, slot := range s.slots {
			if strings.Contains(string(unix), "@mayfly-sandbox-"+slot+"\n") {
				continue // another server of this machine has taken the place
			}
			links, _ := filepath.Glob("/sys/class/net/mf" + slot + "x*")
			for _, l := range links {
				if slot != "" {
					found = append(found, "interface "+filepath.Base(l))
				}
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if s.cmd == nil && strings.Contains(line, s.data) {
			found = append(found, "mount "+line)
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if b, err := os.ReadFile(l); err == nil && s.cmd == nil && strings.HasPrefix(string(b), s.data) {
			found = append(found, "loop device for "+string(b))
		}
	}
	return found
}

// slot reads the number of a running server's place from the socket that it holds it by; empty without network.
func slot(pid int) string {
	sockets := map[string]bool{}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	b, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 8 || !sockets[f[6]] {
			continue
		}
		if slot, ok := strings.CutPrefix(f[7], "@mayfly-sandbox-"); ok {
			return slot
		}
	}
	return ""
}

// awaitNothing gives the kernel time to take away what ended.
func (s *instance) awaitNothing(pids []int) {
	s.t.Helper()
	var left []string
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if left = s.left(pids); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	s.t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
}

// function is what a test creates.
type function struct {
	runtime types.Runtime
	handler string
	files   map[string][]byte
	memory  int32
	timeout int32
	version string
}

func (f function) archive() []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	files := map[string][]byte{"version": []byte(f.version)}
	for name, content := range f.files {
		files[name] = content
	}
	for name, content := range files {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o755)
		w, err := z.CreateHeader(h)
		if err != nil {
			panic(err) // memory takes it
		}
		w.Write(content)
	}
	z.Close()
	return b.Bytes()
}

func (f function) input(name string) *lambda.CreateFunctionInput {
	return &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: f.runtime, Handler: &f.handler, MemorySize: &f.memory, Timeout: &f.timeout,
		Role: aws.String("arn:aws:iam::000000000000:role/test"), Code: &types.FunctionCode{ZipFile: f.archive()},
		Environment: &types.Environment{Variables: map[string]string{"VERSION": f.version}},
	}
}

func (s *instance) create(name string, f function) {
	s.t.Helper()
	if _, err := s.lambda().CreateFunction(s.t.Context(), f.input(name)); err != nil {
		s.t.Fatal(err)
	}
	s.await(name)
}

func (s *instance) await(name string) {
	s.t.Helper()
	w := lambda.NewFunctionActiveV2Waiter(s.lambda(), func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	if err := w.Wait(s.t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, time.Minute); err != nil {
		s.t.Fatal(err)
	}
}

// code is the code of an API's error, or empty.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

var provided = function{runtime: types.RuntimeProvidedal2023, handler: "bootstrap", memory: 128, timeout: 1, version: "1"}

// kinds are the functions that this machine can run.
func kinds() map[string]function {
	p := provided
	p.files = map[string][]byte{"bootstrap": bootstrap}
	all := map[string]function{"provided-a": p, "provided-b": p}
	if _, err := exec.LookPath("python3"); err == nil {
		f := p
		f.runtime, f.handler, f.files, f.timeout = types.RuntimePython312, "app.handler", map[string][]byte{"app.py": []byte(pythonSource)}, 2
		all["python-a"], all["python-b"] = f, f
	}
	if _, err := exec.LookPath("node"); err == nil {
		f := p
		f.runtime, f.handler, f.files, f.timeout = types.RuntimeNodejs20x, "index.handler", map[string][]byte{"index.js": []byte(nodeSource)}, 2
		all["node-a"], all["node-b"] = f, f
	}
	return all
}

const pythonSource = `
import os, signal, subprocess, sys, threading, time

def handler(event, context):
    do, token = event["do"], event["token"]
    if do == "error":
        raise RuntimeError(token)
    if do == "exit":
        os._exit(3)
    if do == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if do == "hang":
        time.sleep(60)
    if do == "sleep":
        time.sleep(event["ms"] / 1000)
    if do == "oom":
        hog = []
        while True:
            hog.append(bytearray(os.urandom(1)) * (16 << 20))
    if do == "fork":
        subprocess.Popen(["/bin/sh", "-c", "while :; do sleep 1; done"], start_new_session=True)
    if do == "fork and exit":
        subprocess.Popen(["/bin/sh", "-c", "while :; do echo child; done"], start_new_session=True)
        os._exit(4)
    if do == "big":
        return "x" * (6 << 20) + "x" * 200
    if do == "print":
        print("line of " + token)
    if do == "no newline":
        sys.stdout.write("open end of " + token)
    if do == "binary":
        os.write(1, bytes([0xa5, 0x5a, 0, 0, 0xff, 0xfe, 0]) * 20000)
    if do == "print later":
        threading.Timer(0.005, lambda: print("afterwards " + token)).start()
    if do == "gigabyte":
        line = ("g" * 99 + "\n") * 1000
        for _ in range(10000):
            sys.stdout.write(line)
    return {"token": token, "version": os.environ["VERSION"], "id": context.aws_request_id}
`

const nodeSource = `
const { spawn } = require('child_process');
exports.handler = async (event, context) => {
  const { do: what, token } = event;
  switch (what) {
    case 'error': throw new Error(token);
    case 'exit': process.exit(3);
    case 'crash': process.kill(process.pid, 'SIGSEGV'); await new Promise(() => setTimeout(() => {}, 60000)); break;
    case 'hang': await new Promise(r => setTimeout(r, 60000)); break;
    case 'sleep': await new Promise(r => setTimeout(r, event.ms)); break;
    case 'oom': { const hog = []; for (;;) hog.push(Buffer.alloc(16 << 20, 1)); }
    case 'fork': spawn('/bin/sh', ['-c', 'while :; do sleep 1; done'], { detached: true, stdio: 'inherit' }).unref(); break;
    case 'fork and exit': spawn('/bin/sh', ['-c', 'while :; do echo child; done'], { detached: true, stdio: 'inherit' }).unref(); process.exit(4);
    case 'big': return 'x'.repeat((6 << 20) + 200);
    case 'print': console.log('line of ' + token); break;
    case 'no newline': process.stdout.write('open end of ' + token); break;
    case 'print later': setTimeout(() => console.log('afterwards ' + token), 5); break;
  }
  return { token, version: process.env.VERSION, id: context.awsRequestId };
};
`
