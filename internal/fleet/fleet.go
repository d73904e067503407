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
// was given to Invoke; environments are shared only among invocations with the same ARN, Version, Revision and TenantID.
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
	TenantID        string // of a function that keeps tenants apart
	ContentType     string // of Payload; empty means application/json
	Payload         []byte // at most 6 MiB, checked by the caller
	LogTail         bool   // collect the last 4 KiB of the invocation's log
	Stream          bool   // give the response of a function that streams as it comes, else whole
	// Background marks an asynchronous invocation: where invocations of a function have to wait it is behind all
	// others, and it does not count against the rate of requests, as on AWS.
	Background bool
}

// Response is what an invocation gave, a function error included.
type Response struct {
	Payload       []byte
	ContentType   string // of Payload or Stream, as the runtime said it; may be empty
	FunctionError string // "Unhandled", or empty on success
	LogTail       []byte // at most 4096 bytes, when asked for

	// Stream is the response of a function that streams, where that was asked for. Then Payload, FunctionError and LogTail are
	// empty, and the receiver must close it.
	Stream *Stream
}

// ThrottledError says that no environment may take the invocation now.
type ThrottledError struct {
	Reason string // AWS's ThrottleReason, such as ConcurrentInvocationLimitExceeded
	// RetryAfter is how long it had better wait before it is tried again; 0 if nobody can tell, as for a function whose
	// reserved concurrency is 0.
	RetryAfter time.Duration
	// Freed is closed once something of what was missing became free, or a limit has changed: a hint that it may be worth
	// another try. It is nil where nothing but RetryAfter helps. More than one may wait for what became free.
	Freed <-chan struct{}
}

func (e *ThrottledError) Error() string { return "fleet: throttled: " + e.Reason }

// ErrStopping is returned for invocations that arrive after Stop began.
var ErrStopping = errors.New("fleet: stopping")

// Limits bound what runs at once.
type Limits struct {
	Concurrency int // invocations at once, of each account in each region; AWS's default is 1000
	Rate        int // synchronous invocations in a second, for each unit of concurrency; AWS: 10; none or less: no limit
	Burst       int // environments that each function may add in 10 seconds, on demand; AWS: 1000; none or less: no limit
	MemoryMB    int // sum of the MemoryMB of all environments, idle ones included

	// Where memory is short, at most Queue invocations of each version of a function wait for it, and none longer than Wait.
	Queue int
	Wait  time.Duration

	StreamBytes int64 // longest streamed response; 0: AWS's 200 MiB
	StreamBurst int64 // bytes of it that are not slowed down; 0: AWS's 6 MiB
	StreamRate  int64 // bytes per second of it after StreamBurst; 0: AWS's 2 MiB; less: no limit

	Init time.Duration // the init phase of an environment; AWS: 10 s
	Idle time.Duration // how long an unused environment is kept
	// Linger is how long an environment goes on running after an invocation before it is frozen. Freezing costs more
	// than an invocation, so that a busy environment had better not be.
	Linger time.Duration
	// Age is how old an environment becomes: then its next invocation is its last. Its credentials must hold longer.
	Age time.Duration
	// Ahead is how many interpreters are kept that were started before the environments that will need them. Their memory
	// comes on top of MemoryMB.
	Ahead int
}

// DefaultLimits are AWS's, for a machine that may give memoryMB to functions.
func DefaultLimits(memoryMB int) Limits {
	return Limits{Concurrency: 1000, Rate: 10, Burst: 1000, MemoryMB: memoryMB, Queue: 64, Wait: 2 * time.Second,
		Init: 10 * time.Second, Idle: 10 * time.Minute, Linger: 100 * time.Millisecond, Age: 6 * time.Hour,
		Ahead: min(8, memoryMB/512)}
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
	stock  *stock

	mu            sync.Mutex
	accounts      map[accountKey]*account
	shares        map[string]*share // by unqualified ARN
	pools         map[poolKey]*pool
	environments  map[*environment]struct{}
	orders        []*order
	hungry        map[*pool]struct{} // those in which somebody waits for memory
	freed         signal             // memory
	busy          int                // invocations that were accepted and not answered
	memoryMB      int                // taken by environments
	idleMB        int                // of it, by idle ones that may be ended
	provisionedMB int                // of it, by provisioned ones
	initialising  int                // provisioned environments on their way
	stopping      bool
}

// New returns a fleet without environments. Run must be called for it to work.
func New(deps Deps, limits Limits) *Fleet {
	return &Fleet{
		deps:         deps,
		limits:       limits,
		logs:         newLogWriter(deps.Caller, deps.Log),
		envs:         group.New(context.Background()),
		stock:        newStock(deps, limits),
		accounts:     map[accountKey]*account{},
		shares:       map[string]*share{},
		pools:        map[poolKey]*pool{},
		hungry:       map[*pool]struct{}{},
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
	for _, o := range f.orders {
		o.stopRetry()
	}
	f.mu.Unlock()
	f.stock.close()
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

// Retire ends all environments of a function, busy ones after their invocation. Provisioned ones are replaced.
func (f *Fleet) Retire(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retireLocked(func(k poolKey) bool { return k.arn == arn })
}

// CodeInUse reports whether an environment runs, or may start, from an unpacked archive.
func (f *Fleet) CodeInUse(dir string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	uses := func(fn *Function) bool { return fn.Code == dir || slices.Contains(fn.Layers, dir) }
	for env := range f.environments {
		if uses(env.fn) {
			return true
		}
	}
	return slices.ContainsFunc(f.orders, func(o *order) bool { return uses(o.fn) })
}

// Stats counts what a fleet holds now.
type Stats struct {
	Environments int // idle ones included
	Busy         int
	MemoryMB     int
	Ahead        int // interpreters that were started ahead and wait
}

// Stats reads the counters.
func (f *Fleet) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{len(f.environments), f.busy, f.memoryMB, f.stock.ready()}
}

// Invoke runs fn once and returns what it answered; a function that fails is an answer too. The error is a
// *ThrottledError when no environment may take the invocation, ErrStopping during a stop, or an internal failure. That the
// function's or the account's concurrency does not allow it is known at once; for memory of the machine it may wait, see
// Limits. An invocation goes on when ctx ends before it, as in Lambda, and nobody hears of its end; one that has not begun
// does not begin. A Response with a Stream comes while the function still writes it, and ctx has to last until it was read.
func (f *Fleet) Invoke(ctx context.Context, fn *Function, req *Request) (*Response, error) {
	j := &job{fn: fn, req: req, arrived: time.Now(), answer: make(chan answer, 1), gone: ctx.Done()}
	env, wait, err := f.admit(j)
	if err != nil {
		return nil, err
	}
	if env != nil {
		env.jobs <- j
		select {
		case a := <-j.answer:
			return a.response, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return f.await(ctx, j, wait)
}

// await waits for the answer to j, which waits for an environment for as long as admit said.
func (f *Fleet) await(ctx context.Context, j *job, wait time.Duration) (*Response, error) {
	var late <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		late = timer.C
	}
	for {
		select {
		case a := <-j.answer:
			return a.response, a.err
		case env := <-j.start:
			f.launch(env, j)
		case <-late:
			wait, err := f.again(j)
			if err != nil {
				return nil, err
			}
			late = nil
			if wait != forever {
				late = time.After(wait)
			}
		case <-ctx.Done():
			if !f.abandon(j) {
				select {
				case env := <-j.start:
					f.launch(env, j)
				default:
				}
			}
			return nil, ctx.Err()
		}
	}
}

// launch runs a new environment, beginning with j.
func (f *Fleet) launch(env *environment, j *job) {
	if !f.envs.Go(func(ctx context.Context) { env.run(ctx, j) }) {
		env.reply(j, nil, ErrStopping)
		f.release(env, false)
		f.forget(env)
	}
}

// job is one invocation on its way to an environment.
type job struct {
	fn       *Function
	req      *Request
	arrived  time.Time
	start    chan *environment // of capacity 1: an environment of its own, which has to be started; nil if admit found one
	answer   chan answer       // of capacity 1: the environment never waits for the caller
	gone     <-chan struct{}   // closed when the caller has left; nil if he never does
	answered bool              // it has given back what it took; guarded by Fleet.mu
	stream   *Stream           // of an answer that has begun and not ended; the environment's own note
	onDemand bool              // it holds a slot of concurrency for an environment on demand; guarded by Fleet.mu
}

type answer struct {
	response *Response
	err      error
}
