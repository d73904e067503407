// Package fleet runs functions: it starts execution environments, reuses them newest first, freezes them between
// invocations, resets them after failures, reaps idle ones, keeps concurrency within its limits, and meters what ran.
// It knows functions only as the immutable values that service/lambda hands to it.
package fleet

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/runtimes"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Function is one version of a function as it was when the invocation was accepted. It must not be changed once it
// was given to Invoke; environments are shared only among invocations with the same ARN, Version and Revision.
type Function struct {
	Account, Region string
	Name            string
	ARN             string // without qualifier
	Version         string // "$LATEST" or a number
	Revision        string // differs whenever code or configuration differs
	Runtime         string // "provided.al2023", "nodejs22.x", "python3.13", ...
	Handler         string
	Architecture    string // "x86_64" or "arm64"
	RoleARN         string
	MemoryMB        int
	TmpMB           int
	Timeout         time.Duration
	Environment     map[string]string // the customer's variables
	Code            string            // host directory of the unpacked archive, mounted read-only at /var/task
	CodeSHA256      string            // base64, as in CodeSha256
	Layers          []string          // host directories merged at /opt, later ones over earlier ones

	LogGroup            string
	LogFormat           string // "Text" or "JSON"
	ApplicationLogLevel string // JSON only: TRACE, DEBUG, INFO, WARN, ERROR, FATAL
	SystemLogLevel      string // JSON only: DEBUG, INFO, WARN
}

// Request is one synchronous invocation.
type Request struct {
	RequestID       string
	InvokedARN      string // as invoked, with the qualifier if there was one
	Trace           string // X-Amzn-Trace-Id
	ClientContext   string // JSON, decoded from base64
	CognitoIdentity string // JSON
	TenantID        string
	ContentType     string // of Payload; empty means application/json
	Payload         []byte // at most 6 MiB, checked by the caller
	LogTail         bool   // collect the last 4 KiB of the invocation's log
}

// Response is what an invocation gave, a function error included.
type Response struct {
	Payload       []byte
	FunctionError string // "Unhandled", or empty on success
	LogTail       []byte // at most 4096 bytes, when asked for
}

// ThrottledError says that no environment may take the invocation now.
type ThrottledError struct {
	Reason string // AWS's ThrottleReason, such as ConcurrentInvocationLimitExceeded
}

func (e *ThrottledError) Error() string { return "fleet: throttled: " + e.Reason }

// ErrStopping is returned for invocations that arrive after Stop began.
var ErrStopping = errors.New("fleet: stopping")

// Limits bound what runs at once.
type Limits struct {
	Concurrency int // invocations at once; AWS's default for an account is 1000
	MemoryMB    int // sum of the MemoryMB of all environments, idle ones included

	Init time.Duration // the init phase of an environment; AWS: 10 s
	Idle time.Duration // how long an unused environment is kept
	// Linger is how long an environment goes on running after an invocation before it is frozen. Freezing costs more
	// than an invocation, so that a busy environment had better not be.
	Linger time.Duration
	// Age is how old an environment becomes: then its next invocation is its last. Its credentials must hold longer.
	Age time.Duration
}

// DefaultLimits are AWS's, for a machine that may give memoryMB to functions.
func DefaultLimits(memoryMB int) Limits {
	return Limits{Concurrency: 1000, MemoryMB: memoryMB, Init: 10 * time.Second, Idle: 10 * time.Minute,
		Linger: 100 * time.Millisecond, Age: 6 * time.Hour}
}

// Resolver finds the language of a runtime on this machine.
type Resolver interface {
	Resolve(ctx context.Context, runtime, architecture string) (runtimes.Launch, error)
}

// Credentials are what a function signs its own calls with.
type Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// Deps is what a fleet stands on.
type Deps struct {
	Driver      sandbox.Driver
	Network     sandbox.Network
	Runtimes    Resolver
	Credentials func(fn *Function) (Credentials, error) // of the function's role
	// Endpoint serves Mayfly's own API on a listener inside a sandbox, until the listener is closed.
	Endpoint func(net.Listener)
	Caller   smithy.Caller // takes what functions print to CloudWatch Logs
	Meter    Meter
	Log      *slog.Logger
}

// Meter records what ran. Record must not block.
type Meter interface{ Record(Usage) }

// Usage is the bill of one invocation.
type Usage struct {
	Account, Region string
	Function        string
	Version         string
	Architecture    string
	MemoryMB        int
	End             time.Time
	Init            time.Duration // zero in a warm environment
	Duration        time.Duration
	BilledMs        int64
	Failed          bool
}

// Fleet is the execution environments of one machine. Its methods may be called concurrently.
type Fleet struct {
	deps   Deps
	limits Limits
	logs   *logWriter
	envs   *group.Group

	mu           sync.Mutex
	pools        map[poolKey]*pool
	environments map[*environment]struct{}
	busy         int // slots of concurrency in use: accepted and not answered
	memoryMB     int // reserved by environments
	stopping     bool
}

// New returns a fleet without environments. Run must be called for it to work.
func New(deps Deps, limits Limits) *Fleet {
	return &Fleet{
		deps:         deps,
		limits:       limits,
		logs:         newLogWriter(deps.Caller, deps.Log),
		envs:         group.New(context.Background()),
		pools:        map[poolKey]*pool{},
		environments: map[*environment]struct{}{},
	}
}

// Run stores what functions print, until ctx ends. Stop comes first: what it leaves in the logs Run still stores.
func (f *Fleet) Run(ctx context.Context) error {
	f.logs.Run(ctx)
	return nil
}

// Stop refuses new invocations, lets those that run end until ctx does, and ends all environments.
func (f *Fleet) Stop(ctx context.Context) {
	f.mu.Lock()
	f.stopping = true
	f.retireLocked(func(poolKey) bool { return true })
	f.mu.Unlock()
	done := make(chan struct{})
	go func() {
		f.envs.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		f.envs.Stop()
		<-done
	}
}

// Retire ends all environments of a function, busy ones after their invocation.
func (f *Fleet) Retire(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retireLocked(func(k poolKey) bool { return k.arn == arn })
}

// CodeInUse reports whether an environment runs, or may start, from an unpacked archive.
func (f *Fleet) CodeInUse(dir string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for env := range f.environments {
		if env.fn.Code == dir || slices.Contains(env.fn.Layers, dir) {
			return true
		}
	}
	return false
}

// Stats counts what a fleet holds now.
type Stats struct {
	Environments int // idle ones included
	Busy         int
	MemoryMB     int
}

// Stats reads the counters.
func (f *Fleet) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{len(f.environments), f.busy, f.memoryMB}
}

// Invoke runs fn once and returns what it answered; a function that fails is an answer too. The error is a
// *ThrottledError when no environment may take the invocation, which is known at once, ErrStopping during a stop, or an
// internal failure. An invocation goes on when ctx ends before it, as in Lambda, and nobody hears of its end.
func (f *Fleet) Invoke(ctx context.Context, fn *Function, req *Request) (*Response, error) {
	j := &job{req: req, answer: make(chan answer, 1)}
	env, cold, err := f.admit(fn, j)
	if err != nil {
		return nil, err
	}
	if env == nil {
		wait := time.NewTimer(f.patience(fn))
		select {
		case a := <-j.answer:
			wait.Stop()
			return a.response, a.err
		case <-wait.C:
		}
		if env, err = f.giveUp(fn, j); err != nil {
			return nil, err
		}
		cold = true
	}
	switch {
	case env == nil: // the job was taken
	case cold:
		if !f.envs.Go(func(ctx context.Context) { env.run(ctx, j) }) {
			env.reply(j, nil, ErrStopping)
			f.release(env, false)
			f.forget(env)
		}
	default:
		env.jobs <- j
	}
	select {
	case a := <-j.answer:
		return a.response, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// job is one invocation on its way to an environment.
type job struct {
	req      *Request
	answer   chan answer // of capacity 1: the environment never waits for the caller
	answered bool        // the environment's own note
}

type answer struct {
	response *Response
	err      error
}
