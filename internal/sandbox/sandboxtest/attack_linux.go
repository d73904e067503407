package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// World is what surrounds the sandboxes in Attack.
type World struct {
	// Outside is an address beyond the host that answers "outside"; empty if
	// there is none.
	Outside string
	// OutOfReach are addresses of the host and beyond that answer to the
	// host but must not to a sandbox.
	OutOfReach []string
	// Peer gives a sandbox's own address on its network.
	Peer func(sandbox.Instance) string
}

// attack runs a probe and reports each breach.
func attack(t *testing.T, in sandbox.Instance, args ...string) string {
	t.Helper()
	out := must(t, in, args...)
	if !strings.Contains(out, "done "+args[0]) {
		t.Fatalf("the attack did not finish: %s", out)
	}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "BREACH "); ok {
			t.Errorf("%s: %s", args[0], rest)
		}
	}
	return out
}

// Attack tries to get out of a sandbox, and to harm the host from within.
func Attack(t *testing.T, d sandbox.Driver, w World) {
	secretDir := t.TempDir()
	secret := filepath.Join(secretDir, "secret")
	if err := os.WriteFile(secret, []byte("host secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The sandbox's walls must hold, not file modes.
	if err := errors.Join(os.Chmod(secretDir, 0o755), os.Chmod(filepath.Dir(secretDir), 0o755)); err != nil {
		t.Fatal(err)
	}

	t.Run("files", func(t *testing.T) {
		attack(t, create(t, d, sandbox.Spec{}), "files", secret, fmt.Sprintf("/proc/%d/root%s", os.Getpid(), secret))
	})
	t.Run("processes", func(t *testing.T) {
		other := create(t, d, sandbox.Spec{ID: "other-processes"})
		r := start(t, other, "sleep")
		r.out.await(t, "ready")
		attack(t, create(t, d, sandbox.Spec{}), "processes", fmt.Sprint(os.Getpid()), fmt.Sprint(r.PID()), fmt.Sprint(os.Getppid()))
	})
	t.Run("writes", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{}), "writes") })
	t.Run("procfs", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{}), "procfs") })
	t.Run("mounts", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{}), "mounts") })
	t.Run("namespaces", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{}), "namespaces") })
	t.Run("kernel", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{}), "kernel") })
	t.Run("devices", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{}), "devices") })
	t.Run("sockets", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{}), "sockets") })
	t.Run("credentials", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{}), "credentials") })
	t.Run("limits", func(t *testing.T) { attack(t, create(t, d, sandbox.Spec{MaxFiles: 200}), "limits", "200") })

	t.Run("descriptors", func(t *testing.T) {
		// Descriptors that the host forgot to mark.
		f, err := os.Open(secretDir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		leak, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(leak)
		attack(t, create(t, d, sandbox.Spec{}), "descriptors")
	})

	t.Run("set-user-id", func(t *testing.T) {
		dir := t.TempDir()
		os.Chmod(dir, 0o755)
		program := filepath.Join(dir, "rooted")
		b, err := os.ReadFile(filepath.Join(Probe(t), "probe"))
		if err == nil {
			err = os.WriteFile(program, b, 0o755)
		}
		if err := errors.Join(err, os.Chmod(program, 0o755|os.ModeSetuid|os.ModeSetgid)); err != nil {
			t.Fatal(err)
		}
		attack(t, create(t, d, sandbox.Spec{Mounts: []sandbox.Mount{{Source: dir, Target: "/opt"}}}), "setuid", "/opt/rooted")
	})

	t.Run("links in the code", func(t *testing.T) {
		dir := t.TempDir()
		os.Chmod(dir, 0o755)
		for name, to := range map[string]string{"abs": secret, "up": "../../../../../../.." + secret, "proc": "/proc/self/root" + secret, "passwd": "/etc/passwd", "dir": secretDir} {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		in := create(t, d, sandbox.Spec{Mounts: []sandbox.Mount{{Source: dir, Target: "/opt"}}})
		attack(t, in, "links", "/opt/abs", "host secret", "/opt/up", "host secret", "/opt/proc", "host secret", "/opt/dir/secret", "host secret", "/opt/passwd", "/bin/bash")
	})

	t.Run("network", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		other := create(t, d, sandbox.Spec{ID: "other-network"})
		r := start(t, other, "serve", "0.0.0.0:7000")
		r.out.await(t, "ready")
		out := append([]string{"network"}, w.OutOfReach...)
		if w.Peer != nil {
			out = append(out, w.Peer(other)+":7000")
		}
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		addrs, _ := net.InterfaceAddrs()
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
				out = append(out, net.JoinHostPort(ip.IP.String(), port))
			}
		}
		attack(t, in, out...)
		if w.Outside != "" {
			if got := attack(t, in, "reach", w.Outside); !strings.Contains(got, "says outside") {
				t.Errorf("egress: %s", got)
			}
		}
		// A datagram needs no answer to do harm.
		u, err := net.ListenPacket("udp4", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		_, port, _ = net.SplitHostPort(u.LocalAddr().String())
		send := []string{"udp"}
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
				send = append(send, net.JoinHostPort(ip.IP.String(), port))
			}
		}
		attack(t, in, send...)
		u.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, from, err := u.ReadFrom(make([]byte, 64)); err == nil {
			t.Errorf("%d bytes from %v arrived", n, from)
		}
	})

	t.Run("no network", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{Network: sandbox.NetworkNone})
		addrs := append([]string{"network"}, w.OutOfReach...)
		if w.Outside != "" {
			addrs = append(addrs, w.Outside)
		}
		attack(t, in, addrs...)
		ls, err := in.Listen("127.0.0.1:9001")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := ls[0].Accept(); err == nil {
				io.WriteString(c, "here")
				c.Close()
			}
		}()
		if out := must(t, in, "connect", "127.0.0.1:9001"); out != "here" {
			t.Errorf("%q", out)
		}
	})

	t.Run("ipc", func(t *testing.T) {
		name := fmt.Sprintf("mayfly-attack-%d", os.Getpid())
		l, err := net.Listen("unix", "@"+name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		key := 0x6d660000 | os.Getpid()&0xffff
		id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o666)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		attack(t, create(t, d, sandbox.Spec{}), "ipc", name, fmt.Sprint(key))
	})

	t.Run("tmp full", func(t *testing.T) {
		const size = 96 << 20
		in := create(t, d, sandbox.Spec{TmpBytes: size, MemoryBytes: 64 << 20})
		var n int64
		out := attack(t, in, "fill")
		fmt.Sscanf(out[strings.Index(out, "filled"):], "filled %d", &n)
		if n < size*98/100 || n > size*102/100 {
			t.Errorf("%d bytes went into a /tmp of %d", n, size)
		}
		u, err := in.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if u.OOMKills != 0 || u.TmpBytes < n*98/100 || u.PeakMemoryBytes > 48<<20 {
			t.Errorf("what /tmp holds counts as memory: %+v", u)
		}
		killAll(t, in)
		must(t, in, "echo", "usable")
	})

	t.Run("fork bomb", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{MaxPIDs: 200, MemoryBytes: 1 << 30})
		r := start(t, in, "bomb")
		r.out.await(t, "started")
		var n int
		fmt.Sscanf(r.out.String(), "started %d", &n)
		if n < 10 || n > 200 {
			t.Errorf("%d processes started", n)
		}
		if u, err := in.Usage(); err != nil || u.Processes > 200 {
			t.Errorf("%+v, %v", u, err)
		}
		killAll(t, in)
		if u, err := in.Usage(); err != nil || u.Processes != 0 {
			t.Errorf("%+v, %v", u, err)
		}
		must(t, in, "echo", "usable")
	})

	t.Run("memory hog", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{MemoryBytes: 64 << 20})
		other := start(t, in, "sleep")
		other.out.await(t, "ready")
		e := start(t, in, "hoard").await(t)
		if e.Signal != unix.SIGKILL || !e.OOMKilled {
			t.Errorf("%+v", e)
		}
		u, err := in.Usage()
		if err != nil || u.OOMKills < 1 || u.PeakMemoryBytes > 64<<20 || u.PeakMemoryBytes < 60<<20 {
			t.Errorf("%+v, %v", u, err)
		}
		killAll(t, in)
		if e := other.await(t); e.Signal != unix.SIGKILL {
			t.Errorf("%+v", e)
		}
		must(t, in, "echo", "usable")
		if e := start(t, in, "exit", "3").await(t); e.OOMKilled || e.Code != 3 {
			t.Errorf("%+v", e)
		}
	})

	t.Run("cpu share", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{MilliCPU: 100})
		r := start(t, in, "spin")
		r.out.await(t, "ready")
		before, err := in.Usage()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.Sleep(500 * time.Millisecond)
		after, err := in.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if share := float64(after.CPU-before.CPU) / float64(time.Since(began)); share > 0.2 {
			t.Errorf("%.2f CPUs with a share of 0.1", share)
		}
	})

	t.Run("orphans", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		r := start(t, in, "family", "setsid")
		r.out.await(t, "family")
		r.await(t) // the parent ended, the children live, one in its own session
		if u, err := in.Usage(); err != nil || u.Processes != 3 {
			t.Errorf("%+v, %v", u, err)
		}
		killAll(t, in)
		if u, err := in.Usage(); err != nil || u.Processes != 0 {
			t.Errorf("%+v, %v", u, err)
		}
	})

	t.Run("killing process 1 from the host ends all", func(t *testing.T) {
		in := create(t, d, sandbox.Spec{})
		r := start(t, in, "sleep")
		r.out.await(t, "ready")
		var ppid int
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.PID()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Sscanf(string(b[strings.LastIndexByte(string(b), ')')+4:]), "%d", &ppid)
		unix.Kill(ppid, unix.SIGKILL)
		if e := r.await(t); e.Signal != unix.SIGKILL {
			t.Errorf("%+v", e)
		}
		if _, err := in.Start(sandbox.Process{Path: "/var/task/probe"}); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("Start: %v", err)
		}
		if err := in.KillAll(context.Background()); err == nil {
			t.Error("KillAll worked")
		}
	})
}
