package fleet

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/runtimes"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// tellers are functions that say what a process knows of itself.
var tellers = map[string]struct{ runtime, file, code string }{
	"python": {"python3.13", "app.py", `
import os, sys, time
print("loaded")
def handler(event, context):
    if event == "exit":
        os._exit(3)
    if event == "load":
        import ctypes
        return str(ctypes.CDLL("libmine.so"))
    sockets = 0
    for n in os.listdir("/proc/self/fd"):
        try:
            sockets += os.readlink("/proc/self/fd/" + n).startswith("socket:")
        except OSError:
            pass # it was the directory's
    started = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return {
        "env": dict(os.environ), "cwd": os.getcwd(), "opt": sorted(os.listdir("/opt")), "tmp": sorted(os.listdir("/tmp")),
        "task": sorted(os.listdir("/var/task")), "age": float(open("/proc/uptime").read().split()[0]) - started,
        "sockets": sockets,
        "pid": os.getpid(),
    }
`},
	"node": {"nodejs22.x", "app.js", `
const fs = require('fs');
console.log('loaded');
exports.handler = async (event) => {
  if (event === 'exit') process.exit(3);
  let sockets = 0;
  for (const n of fs.readdirSync('/proc/self/fd')) {
    try { if (fs.readlinkSync('/proc/self/fd/' + n).startsWith('socket:')) sockets++; } catch {}
  }
  const started = Number(fs.readFileSync('/proc/self/stat', 'utf8').split(')').pop().split(' ')[20]) / 100;
  return {
    env: { ...process.env }, cwd: process.cwd(), opt: fs.readdirSync('/opt'), tmp: fs.readdirSync('/tmp'), task: fs.readdirSync('/var/task'),
    age: Number(fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0]) - started, sockets, pid: process.pid,
  };
};
`},
}

// told is what a teller answers.
type told struct {
	Env            map[string]string
	Cwd            string
	Opt, Tmp, Task []string
	Age            float64 // of the process, in seconds
	Sockets        int
	PID            int
}

func newAheadHarness(t *testing.T, change func(*Limits)) *harness {
	t.Helper()
	finder, err := runtimes.New(runtimes.Options{Dir: readableDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	limits := testLimits()
	limits.Ahead = 8
	if change != nil {
		change(&limits)
	}
	h := newHarnessOf(t, limits, finder)
	if _, ok := h.deps.Driver.(sandbox.Starter); !ok {
		t.Skip("SKIPPED: the driver starts nothing ahead")
	}
	return h
}

// readableDir is a temporary directory that functions may read, and that is removed although clients are read-only.
func readableDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "fleet-ahead")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				os.Chmod(name, 0o755)
			}
			return nil
		})
		os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// teller is a function of the language, with a name and revision of its own.
func (h *harness) teller(language, name string, change ...func(*Function)) *Function {
	h.t.Helper()
	l := tellers[language]
	code := readableDir(h.t)
	if err := os.WriteFile(filepath.Join(code, l.file), []byte(l.code), 0o644); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.deps.Runtimes.Resolve(h.t.Context(), l.runtime, ""); err != nil {
		if _, missing := errors.AsType[*runtimes.NotInstalledError](err); missing {
			h.t.Skipf("SKIPPED: %v", err)
		}
		h.t.Fatal(err)
	}
	return h.function(append([]func(*Function){func(fn *Function) {
		fn.Name, fn.ARN = name, "arn:aws:lambda:us-east-1:000000000001:function:"+name
		fn.Runtime, fn.Handler, fn.Code, fn.MemoryMB = l.runtime, "app.handler", code, 256
		fn.Environment = map[string]string{"MINE": name}
	}}, change...)...)
}

func (h *harness) ask(fn *Function) (tell told) {
	h.t.Helper()
	r := h.invoke(fn, `"who"`)
	if err := json.Unmarshal(r.Payload, &tell); err != nil || r.FunctionError != "" {
		h.t.Fatalf("%s answered %s; log:\n%s", fn.Name, r.Payload, strings.Join(h.logs.all(), "\n"))
	}
	return tell
}

// A function that gets an interpreter which was started ahead is as one whose interpreter was started for it.
func TestAhead(t *testing.T) {
	for language := range tellers {
		t.Run(language, func(t *testing.T) {
			h := newAheadHarness(t, nil)
			first := h.ask(h.teller(language, "first"))
			h.await("interpreters", func() bool { return h.Stats().Ahead == eachKind })
			waited := time.Now()
			time.Sleep(100 * time.Millisecond) // so that it shows in its age, which the kernel counts in hundredths of a second
			layer := readableDir(t)
			if err := os.WriteFile(filepath.Join(layer, "layer"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			asked := time.Since(waited)
			second := h.ask(h.teller(language, "second", func(fn *Function) { fn.Layers = []string{layer} }))
			if second.Age < asked.Seconds()-0.02 {
				t.Errorf("the process is %v s old, and %v ago one has waited", second.Age, asked)
			}
			if second.Cwd != "/var/task" || !slices.Equal(second.Opt, []string{"layer"}) || !slices.Equal(second.Task, []string{tellers[language].file}) ||
				slices.Contains(second.Tmp, "x") || second.Sockets != first.Sockets || second.PID != first.PID {
				t.Errorf("started ahead: %+v\nstarted for it: %+v", second, first)
			}
			if len(first.Opt) != 0 {
				t.Errorf("/opt holds %v", first.Opt)
			}
			for name, want := range first.Env {
				switch name {
				case "MINE", "AWS_LAMBDA_FUNCTION_NAME":
					want = "second"
				case "AWS_LAMBDA_LOG_STREAM_NAME", "_X_AMZN_TRACE_ID":
					want = second.Env[name]
				}
				if second.Env[name] != want {
					t.Errorf("%s is %q, want %q", name, second.Env[name], want)
				}
			}
			for name := range second.Env {
				if _, ok := first.Env[name]; !ok {
					t.Errorf("%s=%s is in its environment", name, second.Env[name])
				}
			}
			h.stop()
			n := 0
			for _, line := range h.logs.all() {
				if strings.Contains(line, "loaded") {
					n++
				}
			}
			if n != 2 {
				t.Errorf("log:\n%s", strings.Join(h.logs.all(), "\n"))
			}
		})
	}
}

// Each serves one environment, and none that its own start would have made another.
func TestAheadFor(t *testing.T) {
	h := newAheadHarness(t, nil)
	h.ask(h.teller("python", "first"))
	h.await("interpreters", func() bool { return h.Stats().Ahead == eachKind })

	hashed := h.ask(h.teller("python", "hashed", func(fn *Function) { fn.Environment["PYTHONHASHSEED"] = "0" }))
	if hashed.Env["PYTHONHASHSEED"] != "0" || h.Stats().Ahead != eachKind {
		t.Errorf("%v, %+v", hashed.Env, h.Stats())
	}
	// One that ends is not used again, and its environment starts another.
	crash := h.teller("python", "crash")
	if r := h.invoke(crash, `"exit"`); r.FunctionError == "" {
		t.Errorf("%s", r.Payload)
	}
	if again := h.ask(crash); again.Env["MINE"] != "crash" || again.Age > 60 {
		t.Errorf("%+v", again)
	}
	// What waits and is killed is not used.
	h.await("interpreters", func() bool { return h.Stats().Ahead == eachKind })
	h.stock.mu.Lock()
	for _, k := range h.stock.kinds {
		for _, a := range k.ready {
			a.waiting.Close()
		}
	}
	h.stock.mu.Unlock()
	if tell := h.ask(h.teller("python", "after")); tell.Env["MINE"] != "after" {
		t.Errorf("%+v", tell)
	}
	h.await("interpreters", func() bool { return h.Stats().Ahead == eachKind })
}

// The dynamic linker of a process that was started ahead finds the libraries of layers, although it has looked for others
// before they were there.
func TestAheadLibraries(t *testing.T) {
	found, _ := filepath.Glob("/lib/*/libz.so.1")
	if len(found) == 0 {
		t.Skip("SKIPPED: no library to make a layer of")
	}
	library, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	h := newAheadHarness(t, nil)
	h.ask(h.teller("python", "first"))
	h.await("interpreters", func() bool { return h.Stats().Ahead == eachKind })
	layer := readableDir(t)
	if err := errors.Join(os.Mkdir(filepath.Join(layer, "lib"), 0o755), os.WriteFile(filepath.Join(layer, "lib", "libmine.so"), library, 0o644)); err != nil {
		t.Fatal(err)
	}
	if r := h.invoke(h.teller("python", "loads", func(fn *Function) { fn.Layers = []string{layer} }), `"load"`); r.FunctionError != "" {
		t.Errorf("%s", r.Payload)
	}
	if h.Stats().Ahead != eachKind-1 && h.Stats().Ahead != eachKind {
		t.Errorf("%+v", h.Stats())
	}
}

// Interpreters that wait are bounded, and end when nobody needs them any more.
func TestAheadBounds(t *testing.T) {
	h := newAheadHarness(t, func(l *Limits) {
		l.Ahead = 3
		l.Idle = 2 * time.Second
		l.Linger = time.Millisecond
	})
	python := h.teller("python", "python")
	h.ask(python)
	h.await("interpreters", func() bool { return h.Stats().Ahead == eachKind })
	node := h.teller("node", "node")
	h.ask(node)
	h.await("interpreters of both", func() bool { return h.Stats().Ahead == 3 || h.Stats().Environments == 0 })
	h.await("end of all environments", func() bool { return h.Stats().Environments == 0 })
	h.await("end of all interpreters", func() bool { return h.Stats().Ahead == 0 })
	h.stock.mu.Lock()
	defer h.stock.mu.Unlock()
	if len(h.stock.kinds) > 0 || h.stock.waiting != 0 || len(h.stock.order) > 0 {
		t.Errorf("%d kinds, %d waiting", len(h.stock.kinds), h.stock.waiting)
	}
}

// A fleet that stops leaves no interpreter.
func TestAheadStop(t *testing.T) {
	h := newAheadHarness(t, nil)
	fn := h.teller("python", "first")
	h.ask(fn)
	h.await("interpreters", func() bool { return h.Stats().Ahead == eachKind })
	h.stock.mu.Lock()
	var all []sandbox.Waiting
	for _, k := range h.stock.kinds {
		for _, a := range k.ready {
			all = append(all, a.waiting)
		}
	}
	h.stock.mu.Unlock()
	h.stop()
	for _, w := range all {
		<-w.Done()
	}
	if n := h.Stats().Ahead; n != 0 || len(all) != eachKind {
		t.Errorf("%d wait after the end, %d before", n, len(all))
	}
}
