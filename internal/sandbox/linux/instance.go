//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// instance is a box that belongs to somebody.
type instance struct {
	*box
	spec      sandbox.Spec
	tmp       *tmpFS
	furnished *request // its mounts and the end of its rights

	life     sync.RWMutex // held for writing by Close
	closed   bool
	freezing sync.Mutex
	frozen   bool

	opened    sync.Mutex
	listeners []net.Listener // handed out

	peak struct {
		sync.Mutex
		counted int64 // by the cgroup, when bytes were read
		bytes   int64
		read    time.Time
	}
}

// furnish sets the limits, attaches /tmp and the code, and takes the rights
// away. It only waits to hear that this worked if that is uncertain: otherwise,
// should it fail, process 1 ends and the first Start says why.
func (in *instance) furnish(f *furniture) error {
	if err := in.group.limit(in.spec.MemoryBytes, in.spec.MilliCPU, in.spec.MaxPIDs); err != nil {
		return err
	}
	tmp, err := in.tmp.mount()
	if err != nil {
		return fmt.Errorf("/tmp: %w", err)
	}
	defer unix.Close(tmp)
	in.furnished, err = in.send(furnishProgram(f, tmp, in.users.fd, in.d.lastCap), nil)
	if err != nil || !f.uncertain {
		return err
	}
	_, err = in.await(in.furnished)
	return err
}

func (in *instance) ID() string { return in.spec.ID }

// use keeps Close away while f runs.
func (in *instance) use(f func() error) error {
	in.life.RLock()
	defer in.life.RUnlock()
	if in.closed {
		return sandbox.ErrClosed
	}
	if err := f(); err != nil {
		return fmt.Errorf("sandbox %s: %w", in.spec.ID, err)
	}
	return nil
}

// Listen hands out what was opened ahead, or opens it.
func (in *instance) Listen(addrs ...string) (ls []net.Listener, err error) {
	err = in.use(func() error {
		in.opened.Lock()
		defer in.opened.Unlock()
		all := true
		for _, a := range addrs {
			all = all && in.box.listeners[a] != nil
		}
		if all {
			for _, a := range addrs {
				ls = append(ls, in.box.listeners[a])
				delete(in.box.listeners, a)
			}
		} else {
			for _, a := range addrs {
				if l := in.box.listeners[a]; l != nil {
					l.Close()
					delete(in.box.listeners, a)
				}
			}
			if ls, err = in.ns.listen(addrs); err != nil {
				return err
			}
		}
		in.listeners = append(in.listeners, ls...)
		return nil
	})
	return ls, err
}

func (in *instance) Dial(ctx context.Context, addr string) (c net.Conn, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if sandbox.IsLocalName(host) {
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("sandbox %s: %s is not the sandbox's own loopback", in.spec.ID, host)
	}
	err = in.use(func() error {
		c, err = in.ns.dial(ctx, net.JoinHostPort(host, port))
		return err
	})
	return c, err
}

// Start runs a program; a frozen sandbox is thawed.
func (in *instance) Start(sp sandbox.Process) (p sandbox.Proc, err error) {
	err = in.use(func() error {
		if err := in.setFrozen(false); err != nil {
			return err
		}
		p, err = in.spawn(&spawn{Process: sp, files: fileLimit(in.spec.MaxFiles)})
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// spawn starts a program.
func (b *box) spawn(s *spawn) (*proc, error) {
	if !filepath.IsAbs(s.Path) {
		return nil, fmt.Errorf("path %q is not absolute", s.Path)
	}
	for _, ss := range [][]string{s.Args, s.Env, {s.Path, s.Dir}} {
		for _, text := range ss {
			if strings.ContainsRune(text, 0) {
				return nil, fmt.Errorf("start %s: a null byte in a string: %w", s.Path, syscall.EINVAL)
			}
		}
	}
	out, err := sandbox.OpenOutput(s.Stdout, s.Stderr)
	if err != nil {
		return nil, err
	}
	defer out.CloseChildEnds()
	p := &proc{box: b, pidfd: -1, done: make(chan struct{}), out: out, oomBefore: b.group.oomKills()}
	s.stdout, s.stderr, s.filter = int(out.Stdout.Fd()), int(out.Stderr.Fd()), b.d.filter
	if _, err := b.ask(spawnProgram(s), p); err != nil {
		out.Abandon()
		return nil, fmt.Errorf("start %s: %w", s.Path, err)
	}
	return p, nil
}

// fileLimit is the wanted limit of descriptors, as far as ours allows.
func fileLimit(want int) uint64 {
	n := uint64(want)
	var own unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &own) == nil {
		n = min(n, own.Max)
	}
	return n
}

func (in *instance) Freeze() error { return in.use(func() error { return in.setFrozen(true) }) }
func (in *instance) Thaw() error   { return in.use(func() error { return in.setFrozen(false) }) }

func (in *instance) setFrozen(frozen bool) error {
	in.freezing.Lock()
	defer in.freezing.Unlock()
	if in.frozen == frozen {
		return nil
	}
	if err := in.group.freeze(frozen); err != nil {
		if frozen {
			in.group.freeze(false) // not half
		}
		return err
	}
	in.frozen = frozen
	return nil
}

func (in *instance) SetCPU(milli int) error {
	return in.use(func() error { return in.group.setCPU(milli) })
}

func (in *instance) Usage() (u sandbox.Usage, err error) {
	err = in.use(func() error {
		c, err := in.group.usage(in.pid)
		if err != nil {
			return err
		}
		u = sandbox.Usage{
			CPU:             c.cpu,
			MemoryBytes:     c.memory,
			PeakMemoryBytes: c.peak,
			OOMKills:        c.oomKills,
			TmpBytes:        in.tmp.used(),
			Processes:       c.processes,
		}
		if limit := in.spec.MemoryBytes; limit > 0 {
			u.PeakMemoryBytes = min(u.PeakMemoryBytes, limit) // the counter may be a page off
		}
		return nil
	})
	return u, err
}

// peakAge is how old PeakMemory may be while the cgroup's own count stays.
const peakAge = time.Second

// PeakMemory reads one number that the kernel keeps, and the rest only if it
// rose.
func (in *instance) PeakMemory() (int64, error) {
	var counted int64
	err := in.use(func() (err error) {
		counted, err = in.group.peakCounted()
		return err
	})
	if err != nil {
		return 0, err
	}
	in.peak.Lock()
	defer in.peak.Unlock()
	if counted == 0 || counted != in.peak.counted || time.Since(in.peak.read) > peakAge {
		u, err := in.Usage()
		if err != nil {
			return 0, err
		}
		in.peak.counted, in.peak.bytes, in.peak.read = counted, u.PeakMemoryBytes, time.Now()
	}
	return in.peak.bytes, nil
}

func (in *instance) ResetPeak() error {
	in.peak.Lock()
	in.peak.counted = 0
	in.peak.Unlock()
	return in.use(func() error {
		err := in.group.resetPeak()
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, os.ErrPermission) {
			return nil // the report says that this kernel cannot
		}
		return err
	})
}

// KillAll kills and reaps everything but process 1.
func (in *instance) KillAll(ctx context.Context) error {
	return in.use(func() error {
		in.mu.Lock()
		var all []*proc
		for _, p := range in.procs {
			all = append(all, p)
		}
		in.mu.Unlock()
		answered := make(chan error, 1)
		go func() {
			// Process 1 must run to kill and reap.
			if err := in.setFrozen(false); err != nil {
				answered <- err
				return
			}
			_, err := in.ask(&program{kind: kindKill}, nil)
			answered <- err
		}()
		select {
		case err := <-answered:
			if err != nil {
				return fmt.Errorf("kill: %w", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("kill: %w", ctx.Err())
		}
		for _, p := range all {
			select {
			case <-p.done:
			case <-ctx.Done():
				return fmt.Errorf("kill: %w", ctx.Err())
			}
		}
		return nil
	})
}

// Close kills everything at once and gives the parts back in the background.
func (in *instance) Close() error {
	// Whatever waits for process 1 is released by its death, so it dies
	// before we wait for them.
	in.signal()
	in.life.Lock()
	defer in.life.Unlock()
	if in.closed {
		return nil
	}
	in.closed = true
	in.kill()
	for _, l := range in.listeners {
		l.Close()
	}
	in.destroy()
	d := in.d
	d.work.Go(func() { d.putTmp(in.tmp) })
	d.mu.Lock()
	delete(d.live, in.spec.ID)
	d.mu.Unlock()
	return nil
}

// proc is a started process.
type proc struct {
	box       *box
	out       *sandbox.Output
	pid       int
	oomBefore int64
	done      chan struct{}

	mu    sync.Mutex
	pidfd int // -1 before and after
	exit  sandbox.Exit
}

// began notes the host's number for the process, which has not been reaped.
func (p *proc) began(pid int) {
	p.pid = pid
	// When the whole machine is out of memory, functions go first.
	os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("500"), 0)
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		p.pidfd = fd
	}
}

// finish notes the end.
func (p *proc) finish(status syscall.WaitStatus) {
	e := sandbox.ExitOf(status, time.Now())
	if e.Signal == syscall.SIGKILL {
		e.OOMKilled = p.box.group.oomKills() > p.oomBefore
	}
	p.mu.Lock()
	p.exit = e
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
	p.mu.Unlock()
	go func() {
		p.out.Drain()
		close(p.done)
	}()
}

func (p *proc) PID() int { return p.pid }

func (p *proc) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return os.ErrProcessDone
	}
	err := unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	return err
}

func (p *proc) Done() <-chan struct{} { return p.done }

func (p *proc) Exit() sandbox.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}
