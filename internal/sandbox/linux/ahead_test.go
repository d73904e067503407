//go:build linux

package linux_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
	"github.com/mayflyhq/mayfly/internal/sandbox/sandboxtest"
)

// aheadDriver starts the first program of every sandbox ahead, if that is the
// probe: so all that the suite asks of a program is asked of one that ran
// before its sandbox was anybody's.
type aheadDriver struct {
	*linux.Driver
	task, stub string
}

func newAheadDriver(tb testing.TB) *aheadDriver {
	d := newDriver(tb, linux.Config{})
	return &aheadDriver{d, sandboxtest.Probe(tb), stub(tb)}
}

// stub is a directory to show before there is another one.
func stub(tb testing.TB) string {
	dir := tb.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "stub"), nil, 0o644)); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func (d *aheadDriver) ahead(network sandbox.Network, out, err io.Writer) sandbox.Ahead {
	return sandbox.Ahead{
		Process: sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "wait"}, Stdout: out, Stderr: err},
		Mounts:  []sandbox.Mount{{Source: d.task, Target: "/var/task"}, {Source: d.stub, Target: "/opt"}},
		Network: network,
	}
}

func (d *aheadDriver) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Instance, error) {
	out, err := &relay{}, &relay{}
	p := d.ahead(spec.Network, out, err)
	if p.Adopts(spec) != nil {
		return d.Driver.Create(ctx, spec)
	}
	w, startErr := d.StartAhead(ctx, p)
	if startErr != nil {
		return nil, startErr
	}
	in, createErr := w.Create(ctx, spec)
	if createErr != nil {
		return nil, createErr
	}
	return &aheadInstance{Instance: in, waiting: w, out: out, err: err}, nil
}

type aheadInstance struct {
	sandbox.Instance
	mu       sync.Mutex
	waiting  sandbox.Waiting
	out, err *relay
}

func (in *aheadInstance) Start(p sandbox.Process) (sandbox.Proc, error) {
	in.mu.Lock()
	w := in.waiting
	in.waiting = nil
	in.mu.Unlock()
	if w == nil || p.Path != "/var/task/probe" || p.Stdout != nil && p.Stdout == p.Stderr {
		return in.Instance.Start(p)
	}
	in.out.to(p.Stdout)
	in.err.to(p.Stderr)
	if p.Dir == "" {
		p.Dir = "/"
	}
	message, err := json.Marshal(map[string]any{"Args": p.Args, "Env": p.Env, "Dir": p.Dir})
	if err != nil {
		return nil, err
	}
	return w.Tell(message)
}

// relay writes to what it is told later.
type relay struct {
	mu sync.Mutex
	w  io.Writer
}

func (r *relay) to(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.w = w
}

func (r *relay) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.w == nil {
		return len(p), nil
	}
	return r.w.Write(p)
}

func TestAheadBehaviour(t *testing.T) { sandboxtest.Behaviour(t, newAheadDriver(t)) }

func TestAheadAttack(t *testing.T) {
	sandboxtest.Attack(t, newAheadDriver(t), sandboxtest.World{
		Outside:    outside,
		OutOfReach: []string{metadata, "203.0.113.2:80"},
		Peer: func(in sandbox.Instance) string {
			if a, ok := in.(*aheadInstance); ok {
				in = a.Instance
			}
			return linux.Address(in)
		},
	})
}

// TestAheadMounts shows a program that waits nothing but what its sandbox's
// instance shows.
func TestAheadMounts(t *testing.T) {
	d := newAheadDriver(t)
	layer := stub(t)
	if err := os.WriteFile(filepath.Join(layer, "layer"), []byte("of a layer"), 0o644); err != nil {
		t.Fatal(err)
	}
	task := sandbox.Mount{Source: d.task, Target: "/var/task"}
	for name, c := range map[string]struct {
		mounts []sandbox.Mount
		file   string
		want   string // what it holds; empty if it is not there
	}{
		"attached after the start": {[]sandbox.Mount{task, {Source: layer, Target: "/opt"}}, "/opt/layer", "of a layer"},
		"shown before":             {[]sandbox.Mount{task}, "/opt/stub", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := d.Create(t.Context(), sandbox.Spec{ID: "mounts", Mounts: c.mounts})
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out := &strings.Builder{}
			p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "read", c.file}, Stdout: out})
			if err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			if out.String() != c.want || (p.Exit().Code == 0) != (c.want != "") {
				t.Errorf("%s: %q, %v", c.file, out, p.Exit())
			}
		})
	}
	t.Run("over what is in use", func(t *testing.T) {
		w, err := d.StartAhead(t.Context(), d.ahead(sandbox.NetworkEgress, nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Create(t.Context(), sandbox.Spec{ID: "over", Mounts: []sandbox.Mount{task, {Source: layer, Target: "/var"}}}); err == nil {
			t.Error("a mount hides what the program was started from")
		}
		<-w.Done()
	})
}

// TestAheadEnds gives programs that wait all kinds of ends but the good one.
func TestAheadEnds(t *testing.T) {
	d := newAheadDriver(t)
	ahead := func() sandbox.Waiting {
		w, err := d.StartAhead(t.Context(), d.ahead(sandbox.NetworkNone, nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	spec := sandbox.Spec{ID: "ends", Network: sandbox.NetworkNone}
	t.Run("closed", func(t *testing.T) {
		w := ahead()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		<-w.Done()
		if _, err := w.Create(t.Context(), spec); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("Create: %v", err)
		}
		w.Close()
	})
	t.Run("of another network", func(t *testing.T) {
		w := ahead()
		if _, err := w.Create(t.Context(), sandbox.Spec{ID: "ends"}); err == nil {
			t.Error("it was created")
		}
		<-w.Done()
	})
	t.Run("closed as an instance", func(t *testing.T) {
		w := ahead()
		in, err := w.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		in.Close()
		<-w.Done()
		if _, err := w.Tell(nil); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("Tell: %v", err)
		}
	})
	t.Run("not told", func(t *testing.T) {
		w := ahead()
		in, err := w.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		w.Close()
		<-w.Done()
		if u, err := in.Usage(); err != nil || u.Processes != 0 {
			t.Errorf("%+v, %v", u, err)
		}
	})
	t.Run("died", func(t *testing.T) {
		w := ahead()
		in, err := w.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if err := in.KillAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-w.Done()
		if p, err := w.Tell([]byte("x")); err == nil {
			t.Errorf("a dead program was told something: %v", p.Exit())
		}
		// The instance stands.
		p, err := in.Start(sandbox.Process{Path: "/usr/bin/true"})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	})
	t.Run("never ready", func(t *testing.T) {
		p := d.ahead(sandbox.NetworkNone, nil, nil)
		p.Args = []string{"probe", "exit", "3"}
		if _, err := d.StartAhead(t.Context(), p); err == nil {
			t.Error("a program that ended waits")
		}
		p.Args = []string{"probe", "sleep"}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.StartAhead(ctx, p); !errors.Is(err, context.Canceled) {
			t.Errorf("StartAhead: %v", err)
		}
		p.Path = "/var/task/missing"
		if _, err := d.StartAhead(t.Context(), p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("StartAhead: %v", err)
		}
	})
	t.Run("with the driver", func(t *testing.T) {
		w := ahead()
		d.Close()
		<-w.Done()
		if _, err := w.Create(t.Context(), spec); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("Create: %v", err)
		}
		if _, err := d.StartAhead(t.Context(), d.ahead(sandbox.NetworkNone, nil, nil)); !errors.Is(err, sandbox.ErrClosed) {
			t.Errorf("StartAhead: %v", err)
		}
	})
}

// TestAheadSame compares what the kernel says of a process that was started
// ahead and of one that was not.
func TestAheadSame(t *testing.T) {
	d := newAheadDriver(t)
	layer := stub(t)
	read := func(id string, create func(context.Context, sandbox.Spec) (sandbox.Instance, error)) map[string]string {
		got := map[string]string{}
		for _, name := range []string{"status", "limits", "uid_map", "gid_map", "mountinfo", "cgroup", "loginuid"} { // oom_score_adj is set from outside, soon after
			in, err := create(t.Context(), sandbox.Spec{ID: id, MemoryBytes: 128 << 20,
				Mounts: []sandbox.Mount{{Source: d.task, Target: "/var/task"}, {Source: layer, Target: "/opt"}}})
			if err != nil {
				t.Fatal(err)
			}
			out := &strings.Builder{}
			p, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "read", "/proc/self/" + name}, Stdout: out})
			if err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			in.Close()
			got[name] = out.String()
		}
		return got
	}
	ordinary, ahead := read("ordinary", d.Driver.Create), read("ahead", d.Create)
	for name := range ordinary {
		if a, b := essence(name, ordinary[name]), essence(name, ahead[name]); a != b || a == "" {
			t.Errorf("%s, of one that was started for it:\n%s\nof one that was started ahead:\n%s", name, a, b)
		}
	}
}

// essence is what two processes of equal sandboxes have in common of a file of /proc.
func essence(name, text string) string {
	var out []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case name == "uid_map" || name == "gid_map":
			line = f[0] + " " + f[2] // the users outside differ
		case name == "mountinfo":
			at := slices.Index(f, "-")
			line = strings.Join(append(f[3:at:at], f[at+1], f[at+3]), " ") // without numbers and devices
		case name == "status":
			switch strings.TrimSuffix(f[0], ":") {
			case "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
				"SigIgn", "Umask", "NSpid", "NStgid", "PPid":
			default:
				continue
			}
		}
		out = append(out, strings.TrimSpace(line))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
