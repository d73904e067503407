package runtimes

import (
	"bufio"
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ahead is a client that was started before its function is known.
type ahead struct {
	client
	conn net.Conn
}

// startAhead starts the interpreter and waits until it says that it is ready.
func startAhead(t testing.TB, l Launch, function map[string]string) *ahead {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	argv, env, _ := l.Preinit(function, 3)
	p := &ahead{conn: conn}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir, p.cmd.Env = "/", environ(env)
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.done = make(chan struct{})
	p.start(t)
	conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the client said %q: %v; its log:\n%s", line, err, &p.log)
	}
	return p
}

func (p *ahead) tell(t testing.TB, env map[string]string, dir string) {
	t.Helper()
	if _, err := p.conn.Write(PreinitMessage(env, dir)); err != nil {
		t.Fatal(err)
	}
}

func (p *ahead) end() {
	p.conn.Close()
	p.cmd.Process.Kill()
	<-p.done
}

func TestPreinit(t *testing.T) {
	f := testFinder(t)
	sources := map[Family]string{
		Python: "import logging, os, sys\nlogging.warning('loaded')\ndef handler(event, context):\n" +
			"    return [event, os.getcwd(), os.environ.get('MINE'), os.environ.get('MAYFLY_PREINIT_FD'), context.function_name]\n",
		Node: "console.log('loaded');\nexports.handler = async (event, context) => " +
			"[event, process.cwd(), process.env.MINE, process.env.MAYFLY_PREINIT_FD, context.functionName];\n",
	}
	for _, family := range []Family{Python, Node} {
		for _, l := range testLaunches(t, f, family) {
			t.Run(string(family)+l.FoundVersion, func(t *testing.T) {
				t.Parallel()
				task := t.TempDir()
				if err := os.WriteFile(filepath.Join(task, trivial[family].file), []byte(sources[family]), 0o644); err != nil {
					t.Fatal(err)
				}
				api := newFakeAPI(t, []string{`{"a":1}`, `2`}, "")
				l := onHost(l, task)
				env := functionEnv(l, api, task, map[string]string{"MINE": "yes"})
				delete(env, "PYTHONDONTWRITEBYTECODE")
				if !l.CanPreinit(env) {
					t.Fatal("a plain function cannot be started ahead")
				}
				p := startAhead(t, l, env)
				defer p.conn.Close()
				p.tell(t, env, task)
				log, exit := p.finish(t, api)
				var got []any
				for line := range strings.Lines(api.transcript(exit)) {
					var v any
					if json.Unmarshal([]byte(line), &v) == nil {
						got = append(got, v)
					}
				}
				for i, event := range []any{map[string]any{"a": 1.0}, 2.0} {
					want, _ := json.Marshal([]any{event, task, "yes", nil, "f"})
					have, _ := json.Marshal(got[i])
					if string(have) != string(want) {
						t.Errorf("answer %d is %s, want %s", i, have, want)
					}
				}
				if !strings.Contains(log, "loaded") {
					t.Errorf("log: %q", log)
				}
			})
		}
	}
}

// A client whose function never comes ends by itself.
func TestPreinitAbandoned(t *testing.T) {
	f := testFinder(t)
	for _, family := range []Family{Python, Node} {
		for _, l := range testLaunches(t, f, family) {
			p := startAhead(t, onHost(l, t.TempDir()), nil)
			p.conn.Close()
			select {
			case <-p.done:
			case <-time.After(2 * time.Minute):
				t.Fatalf("%s did not end", family)
			}
			if state := p.cmd.ProcessState; !state.Success() {
				t.Errorf("%s ended with %v; its log:\n%s", family, state, &p.log)
			}
		}
	}
}

func TestCanPreinit(t *testing.T) {
	python := Launch{Family: Python, Exec: []string{"python3"}, Env: map[string]string{"PATH": "/bin", "LD_LIBRARY_PATH": "/lib"}}
	for own, want := range map[string]bool{
		"MY_OWN=1": true, "TZ=Europe/Berlin": true, "PATH=/opt/bin": true,
		"LD_LIBRARY_PATH=/opt/lib": false, "LD_PRELOAD=x.so": false, "PYTHONPATH=/var/task/lib": true, "PYTHONHASHSEED=0": false,
		"AWS_LAMBDA_EXEC_WRAPPER=/opt/w": false, "LANG=de_DE.UTF-8": false,
		"LC_ALL=C": false, "MALLOC_ARENA_MAX=2": false,
	} {
		env := maps.Clone(python.Env)
		name, value, _ := strings.Cut(own, "=")
		env[name] = value
		if got := python.CanPreinit(env); got != want {
			t.Errorf("CanPreinit with %s is %v", own, got)
		}
	}
	node := Launch{Family: Node, Exec: []string{"node"}}
	if node.CanPreinit(map[string]string{"NODE_OPTIONS": "--enable-source-maps"}) {
		t.Error("a running Node.js does not read NODE_OPTIONS")
	}
	if (Launch{Family: Python, Exec: []string{"python3"}, Mounts: []Mount{{Source: "/opt/python3", Target: "/opt/python3"}}}).CanPreinit(nil) {
		t.Error("layers hide a language in /opt from a running process")
	}
	if (Launch{Family: Provided}).CanPreinit(nil) {
		t.Error("a custom runtime has no interpreter to start ahead")
	}
}
