//go:build unix

package process

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

type proc struct {
	in   *instance
	pid  int // also its session and process group
	done chan struct{}

	mu    sync.Mutex
	ended bool // reaped: the number may be somebody else's
	exit  sandbox.Exit
}

// Start runs the program with the paths of its command line translated.
func (in *instance) Start(p sandbox.Process) (sandbox.Proc, error) {
	argv := p.Args
	if len(argv) == 0 {
		argv = []string{p.Path}
	}
	args := make([]string, len(argv))
	for i, a := range argv {
		args[i] = in.translate(a)
	}
	env := make([]string, 0, len(p.Env)+1)
	tmpdir := false
	for _, e := range p.Env {
		name, value, _ := strings.Cut(e, "=")
		tmpdir = tmpdir || name == "TMPDIR"
		env = append(env, name+"="+in.translate(value))
	}
	if !tmpdir {
		env = append(env, "TMPDIR="+in.translate("/tmp"))
	}
	dir := "/"
	if p.Dir != "" {
		dir = in.translate(p.Dir)
	}
	path := in.translate(p.Path)
	fail := func(err error) (sandbox.Proc, error) {
		return nil, fmt.Errorf("sandbox %s: start %s: %w", in.spec.ID, p.Path, err)
	}

	null, err := os.Open(os.DevNull)
	if err != nil {
		return fail(err)
	}
	defer null.Close()
	out, err := sandbox.OpenOutput(p.Stdout, p.Stderr)
	if err != nil {
		return fail(err)
	}
	defer out.CloseChildEnds()

	pr := &proc{in: in, done: make(chan struct{})}
	attr := &syscall.ProcAttr{
		Dir:   dir,
		Env:   env,
		Files: []uintptr{null.Fd(), out.Stdout.Fd(), out.Stderr.Fd()},
		Sys:   sysProcAttr(),
	}
	// Registered under the lock, so that a Close which runs at the same time
	// either refuses the start or kills what was started.
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		out.Abandon()
		return nil, sandbox.ErrClosed
	}
	started := make(chan struct{})
	in.driver.spawn <- func() {
		defer close(started)
		pr.pid, err = syscall.ForkExec(path, args, attr)
	}
	<-started
	if err != nil {
		out.Abandon()
		return fail(&os.PathError{Op: "exec", Path: path, Err: err})
	}
	limitFiles(pr.pid, in.spec.MaxFiles)
	in.procs[pr] = struct{}{}
	go pr.wait(out)
	return pr, nil
}

// wait reaps the process, kills what it left in its group and hands on its
// output.
func (p *proc) wait(out *sandbox.Output) {
	var status syscall.WaitStatus
	var usage syscall.Rusage
	var m measured
	zombie := awaitExit(p.pid)
	if zombie { // the number is still its own, so this hits nobody else
		m = measure(p.pid)
		p.signalGroup(syscall.SIGKILL)
	}
	p.mu.Lock()
	for {
		_, err := syscall.Wait4(p.pid, &status, 0, &usage)
		if err != syscall.EINTR {
			break
		}
	}
	if !zombie {
		p.signalGroup(syscall.SIGKILL)
	}
	p.ended = true
	p.exit = sandbox.ExitOf(status, time.Now())
	p.mu.Unlock()
	out.Drain()

	p.in.mu.Lock()
	delete(p.in.procs, p)
	p.in.ended += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	p.in.peak = max(p.in.peak, m.peak, maxResident(&usage))
	p.in.mu.Unlock()
	close(p.done)
}

func (p *proc) PID() int { return p.pid }

func (p *proc) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.pid, sig)
}

// signalGroup reaches the process and what it started, as long as they stayed
// in the group. A group outlives its first process, and its number is not
// given anew while it does.
func (p *proc) signalGroup(sig syscall.Signal) { syscall.Kill(-p.pid, sig) }

func (p *proc) Done() <-chan struct{} { return p.done }

func (p *proc) Exit() sandbox.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}
