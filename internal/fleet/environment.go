package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/runtimeapi"
	"github.com/mayflyhq/mayfly/internal/runtimes"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Where an environment's own listeners stand inside the sandbox.
const (
	runtimeAPIAddress = "127.0.0.1:9001"
	endpointAddress   = "127.0.0.1:4566"
)

// Addresses are the addresses that every environment listens on, for drivers that prepare sandboxes.
func Addresses() []string { return []string{runtimeAPIAddress, endpointAddress} }

// The budgets of the shutdown phase, as AWS has them: with nothing but a runtime there is none.
const (
	internalShutdown = 500 * time.Millisecond
	externalShutdown = 2 * time.Second
	runtimeShare     = 0.15 // of externalShutdown; the runtime's time before the extensions'
	killTime         = 5 * time.Second
)

// environment is one execution environment. The goroutine of run owns it: it takes one job after the other, and between
// them it alone decides when to freeze and when to end.
type environment struct {
	f    *Fleet
	pool *pool
	fn   *Function
	age  time.Duration // how old it becomes
	// provisioned says that it was initialised before there was anything to do. It never changes once the environment runs.
	provisioned bool

	jobs   chan *job     // of capacity 1; filled by whoever took the environment from its pool
	retire chan struct{} // closed by whoever took it from its pool to end it

	// Guarded by Fleet.mu.
	started   time.Time
	idleSince time.Time
	retired   bool   // ends after its invocation
	released  bool   // its memory was given to somebody else already
	order     *order // that it is provisioned for
	available bool   // it counts as initialised there

	// What follows belongs to run.
	id         string
	launch     runtimes.Launch
	argv       []string // of the runtime; empty if there is no program to run
	variables  []string
	box        sandbox.Instance
	api        *runtimeapi.Server
	serving    sync.WaitGroup // what serves the listeners
	listeners  []net.Listener
	runtime    sandbox.Proc
	kind       *kind  // of interpreter, if such are started ahead
	ahead      *ahead // an interpreter that waits in the sandbox
	captures   []*capture
	extensions []extension
	exits      chan extension // an extension that ended
	fresh      bool           // nothing was started in it yet
	ready      bool           // the runtime waits for an event
	frozen     bool
	broken     bool // cannot be used again

	log journal
}

// extension is an external extension: a program of a layer that runs beside the runtime.
type extension struct {
	name string
	proc sandbox.Proc
}

func newEnvironment(f *Fleet, p *pool, fn *Function) *environment {
	return &environment{
		f:       f,
		pool:    p,
		fn:      fn,
		age:     f.limits.Age,
		jobs:    make(chan *job, 1),
		retire:  make(chan struct{}),
		started: time.Now(),
		fresh:   true,
	}
}

// run serves jobs until the environment is retired, idle for too long, or broken. ctx ends only when the fleet is forced
// to stop.
func (e *environment) run(ctx context.Context, j *job) {
	defer e.f.forget(e)
	defer e.destroy()
	if err := e.build(ctx); err != nil {
		e.f.deps.Log.Error("no environment", "function", e.fn.ARN, "err", err)
		e.reply(j, nil, fmt.Errorf("start an environment of %s: %w", e.fn.ARN, err))
		e.f.release(e, false)
		return
	}
	e.loop(ctx, j, true)
}

// loop serves j and what comes after it; nil stands for nothing to do yet, !ok for the end.
func (e *environment) loop(ctx context.Context, j *job, ok bool) {
	for ok {
		if j == nil {
			if j = e.await(ctx); j == nil {
				break
			}
		}
		e.serve(ctx, j)
		// A provisioned environment that failed is replaced, so that the next invocation does not wait for an init phase.
		fit := !e.broken && ctx.Err() == nil && (e.ready || !e.provisioned)
		j, ok = e.f.release(e, fit)
	}
	e.shutdown(runtimeapi.ShutdownSpindown)
}

// reply gives the caller his answer, once, and the slot of concurrency back.
func (e *environment) reply(j *job, r *Response, err error) {
	if e.f.answered(e, j) && j.stream == nil {
		j.answer <- answer{r, err}
	}
}

// await waits for the next job, or returns nil when the environment shall end.
func (e *environment) await(ctx context.Context) *job {
	var died <-chan struct{}
	if e.ready {
		died = e.runtime.Done()
	}
	timer := time.NewTimer(e.f.limits.Linger)
	defer timer.Stop()
	for {
		select {
		case j := <-e.jobs:
			e.thaw()
			return j
		case <-e.retire:
			return nil
		case <-timer.C:
			if !e.frozen && e.freeze() {
				timer.Reset(e.keep())
				continue
			}
		case <-died:
			if e.provisioned {
				died = nil
				break // it is replaced
			}
			// The runtime ended itself between invocations. The next one starts it anew, in this environment.
			e.ready = false
			died = nil
			e.reset(runtimeapi.ShutdownFailure)
			continue
		case <-ctx.Done():
		}
		if e.f.leave(e) {
			return nil
		}
		// Somebody took the environment at the same moment, and says for what.
		select {
		case j := <-e.jobs:
			e.thaw()
			return j
		case <-e.retire:
			return nil
		}
	}
}

// keep is how long the environment stays with nothing to do.
func (e *environment) keep() time.Duration {
	if e.provisioned {
		e.f.mu.Lock()
		defer e.f.mu.Unlock()
		return max(0, e.age-elapsed(e.started, time.Now()))
	}
	return e.f.limits.Idle
}

// elapsed is how much time has passed, by the clock that ran faster: what the wall clock was set forward by, or ran on while the machine
// slept, has passed for credentials too.
func elapsed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// freeze stops the processes. It reports whether the environment may stay.
func (e *environment) freeze() bool {
	if !e.ready {
		e.frozen = true // nothing runs
		return true
	}
	e.drain(false)
	if err := e.box.Freeze(); err != nil && !errors.Is(err, sandbox.ErrUnsupported) {
		e.f.deps.Log.Warn("not frozen", "function", e.fn.ARN, "err", err)
		return false
	}
	e.frozen = true
	return true
}

func (e *environment) thaw() {
	if !e.frozen {
		return
	}
	e.frozen = false
	if err := e.box.Thaw(); err != nil && !errors.Is(err, sandbox.ErrUnsupported) {
		e.f.deps.Log.Warn("not thawed", "function", e.fn.ARN, "err", err)
		e.ready = false // the reset below kills what hangs
		e.reset(runtimeapi.ShutdownFailure)
	}
}

// build makes the sandbox and the two listeners in it; no process of the function runs yet.
func (e *environment) build(ctx context.Context) error {
	fn := e.fn
	launch, err := e.f.deps.Runtimes.Resolve(ctx, fn.Runtime, fn.Architecture)
	if err != nil {
		return err
	}
	credentials, err := e.f.deps.Credentials(fn)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	var b [16]byte
	rand.Read(b[:])
	e.id = hex.EncodeToString(b[:])
	e.launch = launch
	e.log.open(e, time.Now())

	spec := sandbox.Spec{
		ID:          e.id,
		MemoryBytes: int64(fn.MemoryMB) << 20,
		MilliCPU:    e.initCPU(),
		TmpBytes:    int64(fn.TmpMB) << 20,
		Network:     e.f.deps.Network,
		Mounts:      []sandbox.Mount{{Source: fn.Code, Target: runtimes.TaskDir}},
	}
	for _, layer := range fn.Layers {
		spec.Mounts = append(spec.Mounts, sandbox.Mount{Source: layer, Target: runtimes.LayersDir})
	}
	for _, m := range launch.Mounts {
		spec.Mounts = append(spec.Mounts, sandbox.Mount(m))
	}
	if err := e.createBox(ctx, spec); err != nil {
		return err
	}
	if e.listeners, err = e.box.Listen(Addresses()...); err != nil {
		return err
	}
	e.extensions = e.findExtensions()
	e.exits = make(chan extension, len(e.extensions))
	e.api = runtimeapi.New(runtimeapi.Options{
		FunctionName:    fn.Name,
		FunctionVersion: fn.Version,
		Handler:         fn.Handler,
		AccountID:       fn.Account,
		Extensions:      e.extensionNames(),
		MaxStream:       e.f.limits.StreamBytes,
		StreamBurst:     e.f.limits.StreamBurst,
		StreamRate:      e.f.limits.StreamRate,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return e.box.Dial(ctx, addr)
		},
		Notify: e.log.notify,
	})
	e.serving.Go(func() { e.api.Serve(e.listeners[0]) })
	e.serving.Go(func() { e.f.deps.Endpoint(e.listeners[1]) })

	at := place{
		task: runtimes.TaskDir, opt: runtimes.LayersDir, runtime: runtimes.RuntimeDir,
		runtimeAPI: e.listeners[0].Addr().String(),
		endpoint:   e.listeners[1].Addr().String(),
	}
	v := variables(fn, &launch, at, e.initType(), e.log.stream.name, credentials)
	e.variables = list(v)
	if e.ahead != nil {
		e.ahead.message = runtimes.PreinitMessage(v, runtimes.TaskDir)
	}
	if e.argv = launch.Command(v); e.argv == nil {
		if program := e.findEntrypoint(); program != "" {
			e.argv = []string{program}
		}
	}
	return nil
}

// createBox makes the sandbox: of one in which an interpreter waits, if there is one for this function.
func (e *environment) createBox(ctx context.Context, spec sandbox.Spec) (err error) {
	e.kind, e.ahead = e.f.stock.enter(e.fn, e.launch)
	if e.ahead != nil {
		if e.box, err = e.ahead.waiting.Create(ctx, spec); err == nil {
			return nil
		}
		e.f.deps.Log.Warn("an interpreter that was started ahead is of no use", "function", e.fn.ARN, "err", err)
		e.dropAhead()
	}
	e.box, err = e.f.deps.Driver.Create(ctx, spec)
	return err
}

// dropAhead does without the interpreter that waits.
func (e *environment) dropAhead() {
	if e.ahead != nil {
		e.ahead.close()
		e.ahead = nil
	}
}

// destroy ends everything that build made.
func (e *environment) destroy() {
	defer e.f.stock.leave(e.kind)
	e.dropAhead()
	if e.api != nil {
		e.api.Close()
	}
	for _, ln := range e.listeners {
		ln.Close()
	}
	if e.box != nil {
		if err := e.box.Close(); err != nil {
			e.f.deps.Log.Warn("sandbox not closed", "function", e.fn.ARN, "err", err)
		}
	}
	e.serving.Wait()
	e.drain(true)
	e.log.close()
}

// hostPath says where a path of the sandbox's code or layers is on the host; empty if it is not there.
func (e *environment) hostPath(inside string) string {
	places := []sandbox.Mount{{Source: e.fn.Code, Target: runtimes.TaskDir}}
	for _, layer := range slices.Backward(e.fn.Layers) {
		places = append(places, sandbox.Mount{Source: layer, Target: runtimes.LayersDir})
	}
	for _, m := range places {
		if rest, ok := strings.CutPrefix(inside, m.Target+"/"); ok {
			p := filepath.Join(m.Source, rest)
			if _, err := os.Lstat(p); err == nil {
				return p
			}
		}
	}
	return ""
}

// findEntrypoint returns the first program of a custom runtime that exists.
func (e *environment) findEntrypoint() string {
	for _, p := range e.launch.Entrypoints {
		if e.hostPath(p) != "" {
			return p
		}
	}
	return ""
}

// findExtensions lists the programs in /opt/extensions.
func (e *environment) findExtensions() []extension {
	names := map[string]bool{}
	for _, layer := range e.fn.Layers {
		entries, _ := os.ReadDir(filepath.Join(layer, "extensions")) // most layers have none
		for _, entry := range entries {
			if !entry.IsDir() {
				names[entry.Name()] = true
			}
		}
	}
	var all []extension
	for _, name := range slices.Sorted(maps.Keys(names)) {
		all = append(all, extension{name: name})
	}
	return all
}

func (e *environment) extensionNames() []string {
	names := make([]string, len(e.extensions))
	for i, x := range e.extensions {
		names[i] = x.name
	}
	return names
}

// start runs a program in the sandbox and carries what it prints to the log.
func (e *environment) start(argv, variables []string, emit func(time.Time, []byte)) (sandbox.Proc, error) {
	c, err := newCapture(emit)
	if err != nil {
		return nil, err
	}
	p, err := e.box.Start(sandbox.Process{
		Path: argv[0], Args: argv, Env: variables, Dir: runtimes.TaskDir, Stdout: c.w, Stderr: c.w,
	})
	if err != nil {
		c.abandon()
		return nil, err
	}
	c.started()
	e.captures = append(e.captures, c)
	return p, nil
}

// startRuntime tells the interpreter that waits its function, or starts one.
func (e *environment) startRuntime() (sandbox.Proc, error) {
	if a := e.ahead; a != nil {
		a.output.out.emit = e.log.function
		p, err := a.waiting.Tell(a.message)
		if err == nil {
			e.ahead = nil
			a.output.started()
			e.captures = append(e.captures, a.output)
			return p, nil
		}
		e.f.deps.Log.Warn("an interpreter that was started ahead is of no use", "function", e.fn.ARN, "err", err)
		e.dropAhead()
	}
	return e.start(e.argv, e.variables, e.log.function)
}

// drain brings everything printed until now into the log.
func (e *environment) drain(end bool) {
	for _, c := range e.captures {
		c.drain(end)
	}
}

// initCPU is the CPU share of the init phase, in thousandths: Lambda gives functions of any size at least two CPUs for it.
func (e *environment) initCPU() int { return max(sandbox.MilliCPUFor(e.fn.MemoryMB), 2000) }

// setCPU changes the share. An environment that has the wrong one is slower or faster than it should be, no more.
func (e *environment) setCPU(milli int) {
	if err := e.box.SetCPU(milli); err != nil {
		e.f.deps.Log.Warn("cpu share not set", "function", e.fn.ARN, "err", err)
	}
}

// init starts the extensions and then the runtime, and waits until all are ready for an event. It gives the time it took.
func (e *environment) init(ctx context.Context, requestID string, limit time.Duration) (time.Duration, *failure) {
	begin := time.Now()
	defer e.f.stock.fill(e.kind)
	defer e.setCPU(sandbox.MilliCPUFor(e.fn.MemoryMB))
	timer := time.NewTimer(limit)
	defer timer.Stop()
	fail := e.startAll(ctx, requestID, limit, timer.C)
	if fail == nil {
		ready, failed := e.api.Ready(), e.api.Failure()
		select {
		case <-ready:
			e.ready = true
		case f := <-failed:
			fail = e.reported(requestID, &f)
		case <-e.runtime.Done():
			fail = e.exited(requestID, failed)
		case x := <-e.exits:
			fail = e.crashed(requestID, failed, x)
		case <-timer.C:
			fail = timeoutFailure(requestID, limit, time.Now())
		case <-ctx.Done():
			fail = stopFailure(requestID)
		}
	}
	return time.Since(begin), fail
}

// startAll starts the processes of the init phase, the runtime once every extension has registered.
func (e *environment) startAll(ctx context.Context, requestID string, limit time.Duration, timeout <-chan time.Time) *failure {
	for i := range e.extensions {
		x := &e.extensions[i]
		path := runtimes.LayersDir + "/extensions/" + x.name
		proc, err := e.start([]string{path}, extensionVariables(e.variables), e.log.extension)
		if err != nil {
			return extensionFailure(requestID, "Extension.LaunchError", x.name, err.Error())
		}
		x.proc = proc
		started := *x
		exits := e.exits
		go func() {
			<-proc.Done()
			exits <- started
		}()
	}
	registered, failed := e.api.ExtensionsRegistered(), e.api.Failure()
	select {
	case <-registered:
	case f := <-failed:
		return e.reported(requestID, &f)
	case x := <-e.exits:
		return e.crashed(requestID, failed, x)
	case <-timeout:
		return timeoutFailure(requestID, limit, time.Now())
	case <-ctx.Done():
		return stopFailure(requestID)
	}
	if len(e.argv) == 0 {
		return entrypointFailure(requestID, e.launch.InvalidEntrypoint())
	}
	proc, err := e.startRuntime()
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC):
		reason := "no such file or directory"
		if errors.Is(err, fs.ErrPermission) {
			reason = "permission denied"
		} else if errors.Is(err, syscall.ENOEXEC) {
			reason = "exec format error"
		}
		return entrypointFailure(requestID, "fork/exec "+e.argv[0]+": "+reason)
	case err != nil:
		e.f.deps.Log.Error("runtime not started", "function", e.fn.ARN, "err", err)
		return entrypointFailure(requestID, "fork/exec "+e.argv[0]+": "+err.Error())
	}
	e.runtime = proc
	return nil
}

// reported turns what a process said of its own end into a failure. The document of the runtime is the caller's.
func (e *environment) reported(requestID string, f *runtimeapi.Failure) *failure {
	if strings.HasPrefix(f.Type, "Extension.") {
		return extensionFailure(requestID, f.Type, f.Source, f.Detail)
	}
	return reportedFailure(f.Type, f.Body)
}

// exited describes the end of the runtime. One that said why it ends, just before it does, is believed.
func (e *environment) exited(requestID string, failed <-chan runtimeapi.Failure) *failure {
	select {
	case f := <-failed:
		return e.reported(requestID, &f)
	default:
	}
	exit := e.runtime.Exit()
	text := ""
	if exit.Code != 0 || exit.Signal != 0 {
		text = exit.String()
	}
	return exitFailure(requestID, text, exit.OOMKilled)
}

// crashed describes the end of an extension. One that said why it ends, just before it does, is believed.
func (e *environment) crashed(requestID string, failed <-chan runtimeapi.Failure, x extension) *failure {
	select {
	case f := <-failed:
		return e.reported(requestID, &f)
	default:
	}
	return extensionFailure(requestID, "Extension.Crash", x.name, x.proc.Exit().String())
}

// reset kills what runs and leaves the environment, with its /tmp, for another init.
func (e *environment) reset(reason string) {
	e.stopProcesses(reason)
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	if err := e.box.KillAll(ctx); err != nil {
		e.f.deps.Log.Error("environment not reset", "function", e.fn.ARN, "err", err)
		e.broken = true
	}
	e.dropAhead()
	e.drain(true)
	e.captures = nil
	e.api.Reset()
	e.exits = make(chan extension, len(e.extensions))
	e.runtime = nil
	e.ready, e.frozen = false, false
}

// shutdown ends the processes in good order; destroy does the rest.
func (e *environment) shutdown(reason string) {
	if e.box == nil || e.runtime == nil {
		return
	}
	if e.frozen {
		e.thaw()
	}
	e.stopProcesses(reason)
}

// stopProcesses gives runtime and extensions their time to end. Without extensions there is none, not even a SIGTERM.
func (e *environment) stopProcesses(reason string) {
	budget := time.Duration(0)
	switch {
	case len(e.extensions) > 0:
		budget = externalShutdown
	case len(e.api.Extensions()) > 0:
		budget = internalShutdown
	default:
		return
	}
	deadline := time.Now().Add(budget)
	if e.runtime != nil {
		share := budget
		if len(e.extensions) > 0 {
			share = time.Duration(float64(budget) * runtimeShare)
		}
		e.runtime.Signal(syscall.SIGTERM)
		select {
		case <-e.runtime.Done():
		case <-time.After(share):
			e.runtime.Signal(syscall.SIGKILL)
		}
	}
	if len(e.extensions) == 0 {
		return
	}
	told := e.api.Shutdown(reason, deadline)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for i := range e.extensions {
		x := &e.extensions[i]
		if x.proc == nil {
			continue
		}
		if !slices.ContainsFunc(told, func(t runtimeapi.Extension) bool { return t.Name == x.name }) {
			x.proc.Signal(syscall.SIGKILL)
			continue
		}
		select {
		case <-x.proc.Done():
		case <-timer.C:
			return // destroy or KillAll ends what is left
		}
	}
}

// runtimeVersionARN is the ARN of the runtime's version, which belongs to no account.
func (e *environment) runtimeVersionARN() string {
	return arn.New("lambda", e.fn.Region, "", "runtime:"+e.launch.RuntimeVersionID).String()
}
