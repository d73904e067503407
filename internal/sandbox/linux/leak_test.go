//go:build linux

package linux_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
	"github.com/mayflyhq/mayfly/internal/sandbox/sandboxtest"
)

// traces counts what sandboxes could leave on the machine. Other Mayflys may
// run on it, so only what belongs to owner's process is counted, or to us.
func traces(t *testing.T, owner int) map[string]int {
	t.Helper()
	n := map[string]int{}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		n["mounts"] = strings.Count(string(b), "\n")
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && filepath.Base(filepath.Dir(path)) == "mayfly" && strings.HasPrefix(d.Name(), strconv.Itoa(owner)+"-") {
			n["cgroups"]++
		}
		return nil
	})
	if c, err := nftables.New(); err == nil {
		tables, _ := c.ListTables()
		for _, table := range tables {
			if strings.HasPrefix(table.Name, fmt.Sprintf("mayfly-%d-", owner)) {
				n["rule tables"]++
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/conf/uplink/forwarding"); err == nil {
		n["forwarding"], _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	links, err := os.ReadDir("/proc/self/net/dev_snmp6")
	if err == nil {
		n["interfaces"] = len(links)
	}
	// The helper and the sandboxes' processes, by the environment that the
	// test gave its own process; a child of ours is one in any case.
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		exe, _ := os.Readlink("/proc/" + p.Name() + "/exe")
		cmd, _ := os.ReadFile("/proc/" + p.Name() + "/cmdline")
		if strings.HasSuffix(exe, "/linux.test") && strings.HasPrefix(string(cmd), "mayfly-sandbox") && sessionOwner(p.Name()) == owner ||
			strings.HasSuffix(exe, "/probe") && strings.HasPrefix(exe, "/var/task") && inTestNamespace(p.Name()) {
			n["processes"]++
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if b, err := os.ReadFile(l); err == nil && strings.Contains(string(b), t.Name()) {
			n["loop devices"]++
		}
	}
	return n
}

// sessionOwner is the driver process of a helper or process 1: what its cgroup
// is named after, or else its parent.
func sessionOwner(pid string) int {
	b, _ := os.ReadFile("/proc/" + pid + "/cgroup")
	if _, rest, ok := strings.Cut(string(b), "/mayfly/"); ok {
		n, _ := strconv.Atoi(rest[:strings.IndexByte(rest, '-')])
		return n
	}
	b, _ = os.ReadFile("/proc/" + pid + "/stat")
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

func inTestNamespace(pid string) bool {
	b, _ := os.ReadFile("/proc/" + pid + "/cgroup")
	return strings.Contains(string(b), fmt.Sprintf("/mayfly/%d-", os.Getpid()))
}

func awaitTraces(t *testing.T, owner int, want map[string]int) {
	t.Helper()
	var got map[string]int
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got = traces(t, owner)
		more := false
		for what, n := range got {
			more = more || n > want[what] // fewer is well: others that ran on the machine have ended
		}
		if !more {
			return
		}
	}
	t.Errorf("left behind: %v, before %v", got, want)
}

func openFiles(t *testing.T) []string {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			out = append(out, to)
		}
	}
	return out
}

// TestLeaks gives many sandboxes all kinds of ends and looks for what is left.
func TestLeaks(t *testing.T) {
	task := sandboxtest.Probe(t)
	warm := newDriver(t, linux.Config{}) // what the runtime opens once
	warm.Close()
	time.Sleep(50 * time.Millisecond)
	before, files, routines := traces(t, os.Getpid()), openFiles(t), runtime.NumGoroutine()

	d, err := linux.New(linux.Config{Dir: t.TempDir(), Prepared: 2, Listen: []string{runtimeAddr}})
	if err != nil {
		t.Fatal(err)
	}
	const n = 60
	var wg sync.WaitGroup
	slots := make(chan struct{}, 6)
	for i := range n / 6 { // programs that wait
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			w, err := d.StartAhead(t.Context(), sandbox.Ahead{
				Process: sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "wait"}, Stdout: &strings.Builder{}},
				Mounts:  []sandbox.Mount{{Source: task, Target: "/var/task"}},
			})
			if err != nil {
				t.Error(err)
				return
			}
			switch i % 4 {
			case 0:
				w.Close()
			case 1, 2:
				in, err := w.Create(t.Context(), sandbox.Spec{ID: fmt.Sprintf("leak-ahead-%d", i)})
				if err != nil {
					t.Error(err)
				} else if i%4 == 1 {
					w.Tell([]byte(`{"Args": ["probe", "sleep"], "Dir": "/"}`))
				}
				if i%3 == 0 {
					in.Close()
				}
			}
		})
	}
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			in, err := d.Create(t.Context(), sandbox.Spec{ID: fmt.Sprintf("leak-%d", i), MemoryBytes: 64 << 20, TmpBytes: int64(1+i%3) << 26,
				Network: sandbox.Network(i % 2), Mounts: []sandbox.Mount{{Source: task, Target: "/var/task"}}})
			if err != nil {
				t.Error(err)
				return
			}
			ls, err := in.Listen(runtimeAddr)
			if err != nil {
				t.Error(err)
				return
			}
			start := func(args ...string) sandbox.Proc {
				p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: append([]string{"probe"}, args...), Stdout: &strings.Builder{}})
				if err != nil {
					t.Error(err)
				}
				return p
			}
			switch i % 6 {
			case 0:
				start("hello", runtimeAddr)
				if c, err := ls[0].Accept(); err == nil {
					defer c.Close()
				}
			case 1:
				start("spin")
				in.Freeze()
			case 2:
				start("family", "setsid")
				in.KillAll(t.Context())
			case 3:
				start("write", "/tmp/x", "y")
			case 4:
				p := start("sleep")
				p.Signal(syscall.SIGKILL)
			}
			if rand.N(8) > 0 { // the others are left to the driver
				if err := in.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	awaitTraces(t, os.Getpid(), before)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		f, r := openFiles(t), runtime.NumGoroutine()
		if len(f) <= len(files) && r <= routines {
			break
		}
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d files before, now %v\n%d goroutines before, now %d\n%s", len(files), f, routines, r, buf[:runtime.Stack(buf, true)])
		}
	}
}

// crashHelper is what TestCrash kills: a driver with sandboxes in all states.
func crashHelper() {
	d, err := linux.New(linux.Config{Dir: os.Getenv("MAYFLY_TEST_DIR"), Prepared: 2})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	for i := range 4 {
		in, err := d.Create(context.Background(), sandbox.Spec{ID: fmt.Sprintf("crash-%d", i), MemoryBytes: 64 << 20,
			Mounts: []sandbox.Mount{{Source: os.Getenv("MAYFLY_TEST_TASK"), Target: "/var/task"}}})
		if err == nil {
			_, err = in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "sleep"}})
		}
		if err == nil && i%2 == 0 {
			err = in.Freeze()
		}
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	for i := range 2 { // one that waits, and one that has become an instance and was told nothing
		w, err := d.StartAhead(context.Background(), sandbox.Ahead{
			Process: sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "wait"}},
			Mounts:  []sandbox.Mount{{Source: os.Getenv("MAYFLY_TEST_TASK"), Target: "/var/task"}},
		})
		if err == nil && i > 0 {
			_, err = w.Create(context.Background(), sandbox.Spec{ID: "crash-ahead"})
		}
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	select {}
}

// TestCrash kills a driver's process, and with it sometimes its helper: nothing
// runs on, and the next driver removes what the kernel keeps.
func TestCrash(t *testing.T) {
	task := sandboxtest.Probe(t)
	for _, helperToo := range []bool{false, true} {
		t.Run(fmt.Sprintf("helper killed %v", helperToo), func(t *testing.T) {
			newDriver(t, linux.Config{}).Close()
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "MAYFLY_TEST_CRASH=1", "MAYFLY_TEST_TASK="+task, "MAYFLY_TEST_DIR="+t.TempDir())
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			if line != "ready\n" {
				t.Fatalf("helper: %q", line)
			}
			running := boxProcesses(cmd.Process.Pid)
			if len(running) < 6 {
				t.Fatalf("only %v run", running)
			}
			if helperToo {
				for _, pid := range childrenOf(cmd.Process.Pid) {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			cmd.Process.Kill()
			cmd.Wait()
			if !helperToo { // then somebody thaws what is frozen, and all ends at once
				awaitGone(t, running)
			}
			newDriver(t, linux.Config{}).Close()
			awaitGone(t, running)
			awaitTraces(t, cmd.Process.Pid, traces(t, -1))
		})
	}
}

// TestHelperKilled kills the helper of a living driver.
func TestHelperKilled(t *testing.T) {
	d := newDriver(t, linux.Config{Prepared: 2, Log: slog.New(slog.DiscardHandler)})
	d.AwaitStock()
	create := func(id string) sandbox.Instance {
		in, err := d.Create(t.Context(), sandbox.Spec{ID: id, Mounts: []sandbox.Mount{{Source: sandboxtest.Probe(t), Target: "/var/task"}}})
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	in := create("before")
	p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	running := boxProcesses(os.Getpid())
	syscall.Kill(d.HelperPID(), syscall.SIGKILL)
	<-p.Done()
	if e := p.Exit(); e.Signal != syscall.SIGKILL {
		t.Errorf("%+v", e)
	}
	awaitGone(t, running)
	if _, err := in.Start(sandbox.Process{Path: "/var/task/probe"}); !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("Start in a dead sandbox: %v", err)
	}
	in.Close()
	in = create("after")
	if p, err = in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "exit", "5"}}); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if e := p.Exit(); e.Code != 5 {
		t.Errorf("%+v", e)
	}
}

// boxProcesses are the processes in the cgroups of a driver's process.
func boxProcesses(owner int) map[int]bool {
	out := map[int]bool{}
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		b, _ := os.ReadFile("/proc/" + p.Name() + "/cgroup")
		if pid, err := strconv.Atoi(p.Name()); err == nil && strings.Contains(string(b), fmt.Sprintf("/mayfly/%d-", owner)) {
			out[pid] = true
		}
	}
	return out
}

func childrenOf(parent int) []int {
	var out []int
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		b, _ := os.ReadFile("/proc/" + p.Name() + "/status")
		if pid, err := strconv.Atoi(p.Name()); err == nil && strings.Contains(string(b), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			out = append(out, pid)
		}
	}
	return out
}

func awaitGone(t *testing.T, pids map[int]bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		for pid := range pids {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && !strings.Contains(string(b), ") Z ") {
				left = append(left, string(b))
			}
		}
		if left == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", left)
		}
	}
}
