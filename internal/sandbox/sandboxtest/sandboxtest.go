//go:build unix

// Package sandboxtest is the suite that every sandbox driver passes: Behaviour
// for what an Instance promises, Attack for what a driver that isolates must
// withstand, Leaks for what must be gone afterwards.
package sandboxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// wait bounds everything that should happen at once.
const wait = 2 * time.Minute

// Probe builds the probe program and returns the directory that holds it,
// ready to be mounted at /var/task.
func Probe(tb testing.TB) string {
	tb.Helper()
	probe.once.Do(func() {
		dir, err := os.MkdirTemp("", "mayfly-probe")
		if err != nil {
			probe.err = err
			return
		}
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "probe"),
			"github.com/mayflyhq/mayfly/internal/sandbox/sandboxtest/probe")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			probe.err = fmt.Errorf("build the probe: %w\n%s", err, out)
		}
		os.Chmod(dir, 0o755)
		probe.dir = dir
	})
	if probe.err != nil {
		tb.Fatal(probe.err)
	}
	return probe.dir
}

var probe struct {
	once sync.Once
	dir  string
	err  error
}

// Cleanup removes the probe; call it at the end of TestMain.
func Cleanup() {
	if probe.dir != "" {
		os.RemoveAll(probe.dir)
	}
}

// buffer is a Writer that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
	up chan struct{}
}

func newBuffer() *buffer { return &buffer{up: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.up <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await returns when the buffer holds what.
func (b *buffer) await(t *testing.T, what string) {
	t.Helper()
	timeout := time.After(wait)
	for !strings.Contains(b.String(), what) {
		select {
		case <-b.up:
		case <-timeout:
			t.Fatalf("no %q in the output:\n%s", what, b.String())
		}
	}
}

// run is a started probe.
type run struct {
	sandbox.Proc
	out, err *buffer
}

func create(t *testing.T, d sandbox.Driver, spec sandbox.Spec) sandbox.Instance {
	t.Helper()
	if spec.ID == "" {
		spec.ID = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r
			}
			return '-'
		}, "t"+strings.ToLower(t.Name()))
		spec.ID = spec.ID[:min(len(spec.ID), 60)]
	}
	if spec.MemoryBytes == 0 {
		spec.MemoryBytes = 256 << 20
	}
	spec.Mounts = append(spec.Mounts, sandbox.Mount{Source: Probe(t), Target: "/var/task"})
	in, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return in
}

func start(t *testing.T, in sandbox.Instance, args ...string) run {
	t.Helper()
	r := run{out: newBuffer(), err: newBuffer()}
	p, err := in.Start(sandbox.Process{
		Path:   "/var/task/probe",
		Args:   append([]string{"probe"}, args...),
		Env:    []string{"GOMAXPROCS=1", "LAMBDA_TASK_ROOT=/var/task"},
		Dir:    "/var/task",
		Stdout: r.out,
		Stderr: r.err,
	})
	if err != nil {
		t.Fatalf("Start %v: %v", args, err)
	}
	r.Proc = p
	return r
}

func (r run) await(t *testing.T) sandbox.Exit {
	t.Helper()
	select {
	case <-r.Done():
		return r.Exit()
	case <-time.After(wait):
		t.Fatalf("the process does not end; stdout %q, stderr %q", r.out, r.err)
		panic("unreachable")
	}
}

// must runs a probe that has to succeed and returns its output.
func must(t *testing.T, in sandbox.Instance, args ...string) string {
	t.Helper()
	r := start(t, in, args...)
	if e := r.await(t); e.Code != 0 || e.Signal != 0 {
		t.Fatalf("probe %v: %v; stderr %s", args, e, r.err)
	}
	return r.out.String()
}

func killAll(t *testing.T, in sandbox.Instance) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := in.KillAll(ctx); err != nil {
		t.Fatalf("KillAll: %v", err)
	}
}

// Behaviour checks what the sandbox package promises of every driver.
func Behaviour(t *testing.T, d sandbox.Driver) {
	t.Run("report", func(t *testing.T) {
		r := d.Report()
		if r.Driver != d.Name() || len(r.Items) == 0 {
			t.Fatalf("report %+v of driver %q", r, d.Name())
		}
		for _, it := range r.Items {
			if it.Name == "" || it.Detail == "" {
				t.Errorf("incomplete item %+v", it)
			}
		}
	})

	t.Run("spec", func(t *testing.T) {
		for _, s := range []sandbox.Spec{
			{ID: ""},
			{ID: "Upper"},
			{ID: "a/b"},
			{ID: "ok", MemoryBytes: -1},
			{ID: "ok", Mounts: []sandbox.Mount{{Source: "rel", Target: "/opt"}}},
			{ID: "ok", Mounts: []sandbox.Mount{{Source: "/usr", Target: "/opt/../etc"}}},
			{ID: "ok", Mounts: []sandbox.Mount{{Source: "/usr", Target: "/proc/x"}}},
			{ID: "ok", Mounts: []sandbox.Mount{{Source: "/does/not/exist", Target: "/opt"}}},
		} {
			if in, err := d.Create(t.Context(), s); err == nil {
				t.Errorf("created %+v", s)
				in.Close()
			}
		}
	})

	t.Run("same ID twice", func(t *testing.T) {
		create(t, d, sandbox.Spec{ID: "twin"})
		if in, err := d.Create(t.Context(), sandbox.Spec{ID: "twin"}); err == nil {
			in.Close()
			t.Error("a second sandbox of the same ID")
		}
	})

	t.Run("output", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		r := start(t, in, "echo", "hello", "world")
		if e := r.await(t); e.Code != 0 {
			t.Fatal(e)
		}
		if r.out.String() != "hello world\n" || r.err.String() != "err\n" {
			t.Errorf("stdout %q, stderr %q", r.out, r.err)
		}
	})

	t.Run("one writer keeps the order", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		both := newBuffer()
		p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "echo", "out"}, Stdout: both, Stderr: both})
		if err != nil {
			t.Fatal(err)
		}
		run{p, both, both}.await(t)
		if both.String() != "out\nerr\n" {
			t.Errorf("%q", both)
		}
	})

	t.Run("output to a file", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "echo", "x"}, Stdout: f})
		if err != nil {
			t.Fatal(err)
		}
		run{p, newBuffer(), newBuffer()}.await(t)
		if b, _ := os.ReadFile(f.Name()); string(b) != "x\n" {
			t.Errorf("%q", b)
		}
	})

	t.Run("a failing writer harms nobody", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "flood", "1000000"}, Stdout: failing{}})
		if err != nil {
			t.Fatal(err)
		}
		if e := (run{p, newBuffer(), newBuffer()}).await(t); e.Code != 0 {
			t.Error(e)
		}
	})

	t.Run("environment and directory", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		out := must(t, in, "env")
		if d.Name() != "process" && out != "GOMAXPROCS=1\nLAMBDA_TASK_ROOT=/var/task\ncwd=/var/task\n" {
			t.Errorf("%q", out)
		}
		if !strings.Contains(out, "GOMAXPROCS=1\n") {
			t.Errorf("%q", out)
		}
	})

	t.Run("large command line", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		long := strings.Repeat("x", 100<<10)
		if out := must(t, in, "echo", long); out != long+"\n" {
			t.Errorf("%d bytes came back", len(out))
		}
	})

	t.Run("exit codes and signals", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		for _, code := range []int{0, 1, 42, 255} {
			if e := start(t, in, "exit", fmt.Sprint(code)).await(t); e.Code != code || e.Signal != 0 || e.OOMKilled {
				t.Errorf("exit %d: %+v", code, e)
			}
		}
		r := start(t, in, "term")
		r.out.await(t, "ready")
		if err := r.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if e := r.await(t); e.Code != 7 {
			t.Error(e)
		}
		if err := r.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("Signal after the end: %v", err)
		}
		r = start(t, in, "sleep")
		r.out.await(t, "ready")
		if r.PID() <= 0 || syscall.Kill(r.PID(), 0) != nil {
			t.Errorf("PID %d is not a process", r.PID())
		}
		if err := r.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if e := r.await(t); e.Signal != syscall.SIGKILL || e.Code != -1 || e.OOMKilled || e.String() != "signal: killed" {
			t.Errorf("%+v %v", e, e)
		}
	})

	t.Run("a program that is missing or no program", func(t *testing.T) {
		dir := t.TempDir()
		os.Chmod(dir, 0o755)
		os.WriteFile(filepath.Join(dir, "text"), []byte("text"), 0o644)
		in := create(t, d, sandbox.Spec{Mounts: []sandbox.Mount{{Source: dir, Target: "/opt"}}})
		if _, err := in.Start(sandbox.Process{Path: "/var/task/missing"}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("missing: %v", err)
		}
		if _, err := in.Start(sandbox.Process{Path: "/opt/text"}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("not executable: %v", err)
		}
		if _, err := in.Start(sandbox.Process{Path: "/var/task/probe", Dir: "/var/task/missing"}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("missing directory: %v", err)
		}
		must(t, in, "echo", "still works")
	})

	t.Run("several processes and KillAll", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		a, b, c := start(t, in, "sleep"), start(t, in, "spin"), start(t, in, "family")
		a.out.await(t, "ready")
		b.out.await(t, "ready")
		c.out.await(t, "family")
		pids := []int{a.PID(), b.PID(), c.PID()}
		killAll(t, in)
		for _, r := range []run{a, b, c} {
			if e := r.await(t); e.Signal != syscall.SIGKILL {
				t.Error(e)
			}
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, 0); err == nil {
				t.Errorf("process %d lives", pid)
			}
		}
		killAll(t, in) // nothing to kill
		must(t, in, "echo", "again")
	})

	t.Run("tmp outlives KillAll", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		must(t, in, "write", "/tmp/state", "kept")
		s := start(t, in, "sleep")
		s.out.await(t, "ready")
		killAll(t, in)
		if out := must(t, in, "read", "/tmp/state"); out != "kept" {
			t.Errorf("%q", out)
		}
	})

	t.Run("tmp is the sandbox's own", func(t *testing.T) {
		a, b := create(t, d, sandbox.Spec{ID: "tmp-a"}), create(t, d, sandbox.Spec{ID: "tmp-b"})
		must(t, a, "write", "/tmp/mine", "secret")
		if e := start(t, b, "read", "/tmp/mine").await(t); e.Code == 0 {
			t.Error("the other sandbox reads it")
		}
	})

	t.Run("layers merge, the later hides the earlier", func(t *testing.T) {
		one, two := t.TempDir(), t.TempDir()
		for dir, files := range map[string][]string{one: {"a", "sub/b"}, two: {"sub/b", "sub/c"}} {
			os.Chmod(dir, 0o755)
			os.MkdirAll(filepath.Join(dir, "sub"), 0o755)
			for _, f := range files {
				os.WriteFile(filepath.Join(dir, f), []byte(f+" of "+map[string]string{one: "one", two: "two"}[dir]), 0o644)
			}
		}
		in := create(t, d, sandbox.Spec{Mounts: []sandbox.Mount{{Source: one, Target: "/opt"}, {Source: two, Target: "/opt"}}})
		for f, want := range map[string]string{"/opt/a": "a of one", "/opt/sub/b": "sub/b of two", "/opt/sub/c": "sub/c of two"} {
			if out := must(t, in, "read", f); out != want {
				t.Errorf("%s: %q", f, out)
			}
		}
	})

	t.Run("listen", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		ls, err := in.Listen("127.0.0.1:9001", "127.0.0.1:4566")
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range ls {
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					fmt.Fprintf(c, "listener %d", i)
					c.Close()
				}
			}()
			defer l.Close()
		}
		for range 2 { // listeners outlive KillAll
			for i, l := range ls {
				if out := must(t, in, "connect", l.Addr().String()); out != fmt.Sprintf("listener %d", i) {
					t.Errorf("%q", out)
				}
			}
			killAll(t, in)
		}
	})

	t.Run("dial", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		r := start(t, in, "serve", "127.0.0.1:0")
		r.out.await(t, "ready")
		_, port, err := net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(r.out.String(), "ready ")))
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"127.0.0.1", "sandbox.localdomain", "sandbox", "localhost"} {
			c, err := in.Dial(t.Context(), net.JoinHostPort(host, port))
			if err != nil {
				t.Errorf("%s: %v", host, err)
				continue
			}
			if b, err := io.ReadAll(c); string(b) != "served" {
				t.Errorf("%s: %q, %v", host, b, err)
			}
			c.Close()
		}
		if c, err := in.Dial(t.Context(), "127.0.0.1:1"); err == nil {
			c.Close()
			t.Error("connected to a port that nothing listens on")
		}
	})

	t.Run("freeze", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		r := start(t, in, "spin")
		r.out.await(t, "ready")
		cpu := func() time.Duration {
			u, err := in.Usage()
			if err != nil {
				t.Fatal(err)
			}
			return u.CPU
		}
		for range 3 {
			if err := errors.Join(in.Freeze(), in.Freeze()); err != nil {
				t.Fatal(err)
			}
			before := cpu()
			time.Sleep(50 * time.Millisecond)
			// The granularity of the clock is 10 ms.
			if spent := cpu() - before; spent > 20*time.Millisecond {
				t.Errorf("frozen, it used %v", spent)
			}
			if err := errors.Join(in.Thaw(), in.Thaw()); err != nil {
				t.Fatal(err)
			}
			before = cpu()
			for deadline := time.Now().Add(wait); cpu() == before; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("thawed, it does not run")
				}
			}
		}
		if err := in.Freeze(); err != nil {
			t.Fatal(err)
		}
		killAll(t, in) // frozen as it is
		if e := r.await(t); e.Signal != syscall.SIGKILL {
			t.Error(e)
		}
		must(t, in, "echo", "thawed")
		start(t, in, "spin")
		if err := in.Freeze(); err != nil {
			t.Fatal(err)
		} // and Close works on a frozen one
	})

	t.Run("usage", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		if err := in.ResetPeak(); err != nil {
			t.Fatal(err)
		}
		must(t, in, "memory", "64", "exit")
		u, err := in.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if mb := u.PeakMemoryBytes >> 20; mb < 64 || mb > 100 {
			t.Errorf("peak %d MiB after 64 were used", mb)
		}
		if u.CPU <= 0 {
			t.Error("no CPU time")
		}
		if err := in.ResetPeak(); err != nil {
			t.Fatal(err)
		}
		must(t, in, "echo", "small")
		if u, err = in.Usage(); err != nil {
			t.Fatal(err)
		}
		// Without a memory cgroup the kernel counts what the child shared
		// with its parent until exec. With one of version 2 only newer
		// kernels can forget a peak; the report says so where they cannot.
		resets := d.Name() != "process" && !slices.ContainsFunc(d.Report().Items, func(i sandbox.Item) bool {
			return i.Name == "memory used" && strings.Contains(i.Detail, "cannot be reset")
		})
		if mb := u.PeakMemoryBytes >> 20; mb > 32 && resets {
			t.Errorf("peak %d MiB of a small process after the reset", mb)
		}
	})

	t.Run("a gigabyte of output does not block", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		n := &counter{}
		p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "flood", "1073741824"}, Stdout: n})
		if err != nil {
			t.Fatal(err)
		}
		if e := (run{p, newBuffer(), newBuffer()}).await(t); e.Code != 0 || n.n != 1<<30 {
			t.Errorf("%v, %d bytes", e, n.n)
		}
	})

	t.Run("concurrent", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				in, err := d.Create(t.Context(), sandbox.Spec{ID: fmt.Sprintf("conc-%d", i), Mounts: []sandbox.Mount{{Source: Probe(t), Target: "/var/task"}}})
				if err != nil {
					t.Error(err)
					return
				}
				defer in.Close()
				for j := range 3 {
					out := newBuffer()
					p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "echo", fmt.Sprint(i, j)}, Stdout: out})
					if err != nil {
						t.Error(err)
						return
					}
					<-p.Done()
					if out.String() != fmt.Sprintln(i, j) {
						t.Errorf("%q", out)
					}
				}
			})
		}
		wg.Wait()
	})

	t.Run("closed", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		r := start(t, in, "sleep")
		r.out.await(t, "ready")
		if err := errors.Join(in.Close(), in.Close()); err != nil {
			t.Fatal(err)
		}
		if e := r.await(t); e.Signal != syscall.SIGKILL {
			t.Error(e)
		}
		if _, err := in.Start(sandbox.Process{Path: "/var/task/probe"}); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("Start: %v", err)
		}
		if _, err := in.Listen("127.0.0.1:9001"); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("Listen: %v", err)
		}
		if err := in.Freeze(); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("Freeze: %v", err)
		}
		if _, err := in.Usage(); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("Usage: %v", err)
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("refused") }

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }
