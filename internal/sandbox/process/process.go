//go:build unix

// Package process is the sandbox driver for machines that cannot isolate: plain
// child processes, each in a session of its own, with the caller's rights.
//
// Nothing is contained. There is no mount namespace either, so the paths of a
// Spec's mounts are translated to the host's wherever a Process names them: in
// its path, arguments, environment values and working directory.
package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Config says where the driver keeps its files.
type Config struct {
	// Dir holds the instances' temporary directories; it is made if missing.
	Dir string
	// Why is the reason that nothing better is used, for the Report.
	Why string
}

// Driver starts plain processes. Make it with New.
type Driver struct {
	cfg    Config
	spawn  chan func() // functions run on the one thread that forks
	ended  chan struct{}
	report sandbox.Report

	mu     sync.Mutex
	live   map[string]*instance
	closed bool
}

// New makes the driver.
func New(cfg Config) (*Driver, error) {
	if cfg.Dir == "" {
		return nil, errors.New("sandbox/process: Config.Dir is empty")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("sandbox/process: %w", err)
	}
	d := &Driver{
		cfg:    cfg,
		spawn:  make(chan func()),
		ended:  make(chan struct{}),
		report: report(cfg.Why),
		live:   map[string]*instance{},
	}
	// A child is told of its parent's death by the thread that made it, so
	// all are made by one thread that lives as long as the driver.
	go func() {
		defer close(d.ended)
		runtime.LockOSThread()
		for f := range d.spawn {
			f()
		}
	}()
	return d, nil
}

func report(why string) sandbox.Report {
	if why == "" {
		why = "the process driver was chosen"
	}
	remedy := "run mayfly as root on Linux 5.12 or later"
	missing := func(name, detail string) sandbox.Item {
		return sandbox.Item{Name: name, Detail: detail, Remedy: remedy}
	}
	items := []sandbox.Item{
		missing("isolation", why+": functions run as plain processes with your rights"),
		missing("files", "functions read and write what you can; code is not protected from them"),
		missing("network", "functions reach everything that this machine reaches, its loopback included"),
		missing("processes", "functions see and may signal your processes; one that leaves its session survives its environment"),
		missing("memory limit", "not enforced"),
		missing("cpu share", "not enforced"),
		missing("tmp size", "not enforced; /tmp is the directory in TMPDIR"),
		{Name: "freeze", OK: true, Detail: "SIGSTOP to the process group between invocations"},
	}
	if measures {
		items = append(items, sandbox.Item{Name: "memory used", OK: true, Detail: "resident memory of the session, from /proc"})
	} else {
		items = append(items, missing("memory used", "not measured on "+runtime.GOOS))
	}
	return sandbox.Report{Driver: "process", Items: items}
}

// Name is "process".
func (d *Driver) Name() string { return "process" }

// Report says that nothing is isolated.
func (d *Driver) Report() sandbox.Report { return d.report }

// Create makes the instance's temporary directory and merges its mounts.
func (d *Driver) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Instance, error) {
	spec, err := spec.WithDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if spec.Root != "" {
		return nil, fmt.Errorf("sandbox %s: %w: a root file system needs the linux driver", spec.ID, sandbox.ErrUnsupported)
	}
	if spec.Network == sandbox.NetworkNone {
		return nil, fmt.Errorf("sandbox %s: %w: a function without network needs the linux driver", spec.ID, sandbox.ErrUnsupported)
	}
	in := &instance{
		driver: d,
		spec:   spec,
		dir:    filepath.Join(d.cfg.Dir, spec.ID),
		procs:  map[*proc]struct{}{},
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, sandbox.ErrClosed
	}
	if _, dup := d.live[spec.ID]; dup {
		d.mu.Unlock()
		return nil, fmt.Errorf("sandbox %s: the ID is in use", spec.ID)
	}
	d.live[spec.ID] = in
	d.mu.Unlock()

	if err := in.build(); err != nil {
		in.Close()
		return nil, fmt.Errorf("sandbox %s: %w", spec.ID, err)
	}
	return in, nil
}

// Close closes all instances.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	var all []*instance
	for _, in := range d.live {
		all = append(all, in)
	}
	d.mu.Unlock()
	var errs []error
	for _, in := range all {
		errs = append(errs, in.Close())
	}
	close(d.spawn)
	<-d.ended
	return errors.Join(errs...)
}

type instance struct {
	driver *Driver
	spec   sandbox.Spec
	dir    string
	paths  []translation

	mu        sync.Mutex
	procs     map[*proc]struct{}
	listeners []net.Listener
	frozen    bool
	closed    bool
	ended     time.Duration // CPU time of processes that ended
	peak      int64         // most memory of processes that ended since ResetPeak
	seen      struct {      // what Usage found last
		peak int64
		at   time.Time
	}
}

// translation maps a path inside to one of the host.
type translation struct{ inside, host string }

// build lays out the directory: tmp, and for each target with several sources
// a tree of links in which the later source hides the earlier.
func (in *instance) build() error {
	if err := os.MkdirAll(filepath.Join(in.dir, "tmp"), 0o700); err != nil {
		return err
	}
	in.paths = append(in.paths, translation{"/tmp", filepath.Join(in.dir, "tmp")})
	sources := map[string][]string{}
	var targets []string
	for _, m := range in.spec.Mounts {
		if _, err := os.Stat(m.Source); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
		if sources[m.Target] == nil {
			targets = append(targets, m.Target)
		}
		sources[m.Target] = append(sources[m.Target], m.Source)
	}
	for i, target := range targets {
		host := sources[target][0]
		if len(sources[target]) > 1 {
			host = filepath.Join(in.dir, fmt.Sprintf("merged%d", i))
			for _, src := range sources[target] {
				if err := mergeLinks(host, src); err != nil {
					return fmt.Errorf("mount %s: %w", target, err)
				}
			}
		}
		in.paths = append(in.paths, translation{target, host})
	}
	// The longest target first, so that /var/task/x is tried before /var/task.
	slices.SortStableFunc(in.paths, func(a, b translation) int { return len(b.inside) - len(a.inside) })
	return nil
}

// mergeLinks makes dst a directory tree of links to the files of src, over
// what dst already holds.
func mergeLinks(dst, src string) error {
	return filepath.WalkDir(src, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		st, statErr := os.Lstat(to)
		if e.IsDir() {
			if statErr == nil && !st.IsDir() {
				if err := os.Remove(to); err != nil {
					return err
				}
			}
			return os.MkdirAll(to, 0o755)
		}
		if statErr == nil {
			if err := os.RemoveAll(to); err != nil {
				return err
			}
		}
		return os.Symlink(path, to)
	})
}

// translate rewrites every element of a colon-separated list that lies in a
// mount's target.
func (in *instance) translate(s string) string {
	if !strings.Contains(s, "/") {
		return s
	}
	parts := strings.Split(s, ":")
	for i, p := range parts {
		for _, t := range in.paths {
			if p == t.inside || strings.HasPrefix(p, t.inside+"/") {
				parts[i] = t.host + p[len(t.inside):]
				break
			}
		}
	}
	return strings.Join(parts, ":")
}

func (in *instance) ID() string { return in.spec.ID }

// Listen opens free ports of the host's loopback in place of the wanted ones.
func (in *instance) Listen(addrs ...string) ([]net.Listener, error) {
	var out []net.Listener
	for range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			for _, l := range out {
				l.Close()
			}
			return nil, fmt.Errorf("sandbox %s: %w", in.spec.ID, err)
		}
		out = append(out, l)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		for _, l := range out {
			l.Close()
		}
		return nil, sandbox.ErrClosed
	}
	in.listeners = append(in.listeners, out...)
	return out, nil
}

func (in *instance) Dial(ctx context.Context, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if sandbox.IsLocalName(host) {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", addr)
}

// Freeze stops the process groups.
func (in *instance) Freeze() error { return in.stop(true) }

// Thaw continues them.
func (in *instance) Thaw() error { return in.stop(false) }

func (in *instance) stop(freeze bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return sandbox.ErrClosed
	}
	if in.frozen == freeze {
		return nil
	}
	in.frozen = freeze
	sig := syscall.SIGCONT
	if freeze {
		sig = syscall.SIGSTOP
	}
	for p := range in.procs {
		p.signalGroup(sig)
	}
	return nil
}

func (in *instance) SetCPU(int) error { return nil }

// peakAge is how old PeakMemory's reading of the processes that others
// started may be.
const peakAge = time.Second

// PeakMemory reads the processes that Start has started. What they have
// started themselves is found only by going through all processes of the
// machine, which takes milliseconds and is done once in peakAge.
func (in *instance) PeakMemory() (int64, error) {
	in.mu.Lock()
	recent := !in.closed && time.Since(in.seen.at) < peakAge
	peak := max(in.peak, in.seen.peak)
	var own int64
	if recent {
		for p := range in.procs {
			own += peakOf(p.pid)
		}
	}
	in.mu.Unlock()
	if recent {
		return max(peak, own), nil
	}
	u, err := in.Usage()
	return u.PeakMemoryBytes, err
}

func (in *instance) Usage() (sandbox.Usage, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return sandbox.Usage{}, sandbox.ErrClosed
	}
	u := sandbox.Usage{CPU: in.ended}
	var peak int64
	for p := range in.procs {
		m := measure(p.pid)
		u.CPU += m.cpu
		u.MemoryBytes += m.resident
		peak += m.peak
		u.Processes += m.processes
	}
	u.PeakMemoryBytes = max(in.peak, peak, u.MemoryBytes)
	in.seen.peak, in.seen.at = u.PeakMemoryBytes, time.Now()
	filepath.WalkDir(filepath.Join(in.dir, "tmp"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if st, err := e.Info(); err == nil {
				u.TmpBytes += st.Size()
			}
		}
		return nil
	})
	return u, nil
}

func (in *instance) ResetPeak() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return sandbox.ErrClosed
	}
	in.peak = 0
	in.seen.peak, in.seen.at = 0, time.Time{}
	for p := range in.procs {
		resetPeak(p.pid)
	}
	return nil
}

// KillAll kills the process groups and waits for their first processes.
func (in *instance) KillAll(ctx context.Context) error {
	in.mu.Lock()
	in.frozen = false
	var all []*proc
	for p := range in.procs {
		p.signalGroup(syscall.SIGKILL)
		all = append(all, p)
	}
	in.mu.Unlock()
	for _, p := range all {
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("sandbox %s: kill: %w", in.spec.ID, ctx.Err())
		}
	}
	return nil
}

func (in *instance) Close() error {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return nil
	}
	in.closed = true
	listeners := in.listeners
	in.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := in.KillAll(ctx)
	if rmErr := os.RemoveAll(in.dir); err == nil {
		err = rmErr
	}
	in.driver.mu.Lock()
	delete(in.driver.live, in.spec.ID)
	in.driver.mu.Unlock()
	return err
}
