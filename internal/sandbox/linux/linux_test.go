//go:build linux

package linux_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
	"github.com/mayflyhq/mayfly/internal/sandbox/sandboxtest"
)

// The tests run in a network namespace of their own, beside another that plays
// the world, so that they neither need a network nor touch the machine's.

const (
	inNamespace = "MAYFLY_TEST_IN_NAMESPACE"
	outside     = "203.0.113.1:80"
	metadata    = "169.254.169.254:80"
)

func TestMain(m *testing.M) {
	linux.MaybeInit()
	if os.Getenv("MAYFLY_TEST_CRASH") != "" {
		crashHelper()
	}
	if os.Geteuid() == 0 && os.Getenv(inNamespace) == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			os.Exit(exit.ExitCode())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(inNamespace) != "" {
		if err := makeWorld(); err != nil {
			fmt.Fprintln(os.Stderr, "make a network:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	sandboxtest.Cleanup()
	os.Exit(code)
}

// makeWorld makes the default route lead to a namespace that answers on two
// addresses.
func makeWorld() error {
	var world netns.NsHandle
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread stays in its namespace and ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- err
			return
		}
		var err error
		world, err = netns.Get()
		ready <- err
		if err != nil {
			return
		}
		if err := <-ready; err != nil {
			return
		}
		for _, addr := range []string{outside, metadata} {
			l, err := net.Listen("tcp4", addr)
			if err != nil {
				ready <- err
				return
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					io.WriteString(c, "outside")
					c.Close()
				}
			}()
		}
		ready <- nil
	}()
	if err := <-ready; err != nil {
		return err
	}
	up := func(h *netlink.Handle, name string, addrs ...string) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			if err == nil {
				err = h.AddrAdd(link, addr)
			}
			if err != nil {
				return err
			}
		}
		return h.LinkSetUp(link)
	}
	here, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	there, err := netlink.NewHandleAt(world)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	if err := here.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "down", PeerNamespace: netlink.NsFd(world)}); err != nil {
		return err
	}
	if err := errors.Join(up(here, "lo"), up(here, "uplink", "203.0.113.2/24"),
		up(there, "lo"), up(there, "down", "203.0.113.1/24", "169.254.169.254/32")); err != nil {
		return err
	}
	link, err := here.LinkByName("uplink")
	if err != nil {
		return err
	}
	if err := here.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(203, 0, 113, 1)}); err != nil {
		return err
	}
	ready <- nil
	return <-ready
}

func newDriver(tb testing.TB, cfg linux.Config) *linux.Driver {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	d, err := linux.New(cfg)
	if errors.Is(err, sandbox.ErrUnsupported) && os.Getenv("CI") == "" { // there the sandbox must not go untested
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return d
}

func TestBehaviour(t *testing.T) {
	for name, cfg := range map[string]linux.Config{
		"unprepared": {},
		"prepared":   {Prepared: 3, Listen: []string{"127.0.0.1:9001", "127.0.0.1:4566"}},
	} {
		t.Run(name, func(t *testing.T) { sandboxtest.Behaviour(t, newDriver(t, cfg)) })
	}
}

func TestAttack(t *testing.T) {
	d := newDriver(t, linux.Config{})
	for _, item := range d.Report().Missing() {
		t.Logf("not isolated here: %s: %s", item.Name, item.Detail)
	}
	for _, addr := range []string{outside, metadata} {
		if c, err := net.Dial("tcp", addr); err != nil {
			t.Fatalf("the world of the test is broken: %v", err)
		} else {
			c.Close()
		}
	}
	sandboxtest.Attack(t, d, sandboxtest.World{
		Outside:    outside,
		OutOfReach: []string{metadata, "203.0.113.2:80"},
		Peer:       func(in sandbox.Instance) string { return linux.Address(in) },
	})
}

// TestRoot runs on a directory in place of the host's userland.
func TestRoot(t *testing.T) {
	d := newDriver(t, linux.Config{Prepared: 1})
	root := t.TempDir()
	os.Chmod(root, 0o755)
	for _, dir := range []string{"bin", "etc", "opt/there"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(filepath.Join(sandboxtest.Probe(t), "probe"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"bin/probe": string(program), "etc/passwd": "image\n", "etc/hosts": "image\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in, err := d.Create(t.Context(), sandbox.Spec{ID: "image", Root: root, Mounts: []sandbox.Mount{{Source: sandboxtest.Probe(t), Target: "/var/task/deep"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	run := func(args ...string) string {
		var out strings.Builder
		p, err := in.Start(sandbox.Process{Path: "/bin/probe", Args: append([]string{"probe"}, args...), Stdout: &out, Stderr: &out})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		return out.String()
	}
	if got := run("read", "/etc/passwd"); got != "image\n" {
		t.Errorf("passwd %q", got)
	}
	if got := run("read", "/etc/hosts"); !strings.Contains(got, "sandbox.localdomain") {
		t.Errorf("hosts %q", got)
	}
	if got := run("write", "/tmp/x", "y"); got != "" {
		t.Errorf("/tmp: %q", got)
	}
	if got := run("read", "/var/task/deep/probe"); len(got) != len(program) {
		t.Errorf("the code has %d bytes", len(got))
	}
	for _, attack := range []string{"files", "writes", "procfs", "devices", "mounts", "descriptors"} {
		if got := run(attack); got != "done "+attack+"\n" {
			t.Errorf("%s: %s", attack, got)
		}
	}
	if _, err := in.Start(sandbox.Process{Path: "/usr/bin/env"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program of the host's userland: %v", err)
	}
	if _, err := d.Create(t.Context(), sandbox.Spec{ID: "none", Root: "/does/not/exist"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a root that is not there: %v", err)
	}
}

func TestUnsupported(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may do everything")
	}
	_, err := linux.New(linux.Config{Dir: t.TempDir()})
	if !errors.Is(err, sandbox.ErrUnsupported) || !strings.Contains(err.Error(), "root") {
		t.Errorf("%v", err)
	}
}
