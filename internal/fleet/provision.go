package fleet

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/runtimeapi"
)

// Provision is a number of environments of one version that are kept initialised.
type Provision struct {
	Function *Function
	Count    int
}

// Provisioned is how far a provisioned concurrency configuration has come.
type Provisioned struct {
	Allocated int    // environments that exist
	Available int    // those of them that are initialised, busy ones included
	Failure   string // why the last attempt failed, as AWS's StatusReason; empty if it did not
}

// What StatusReason says.
const (
	failureInit   = "FUNCTION_ERROR_INIT_FAILURE"
	failureMemory = "The machine's memory for functions does not suffice."
	failureStart  = "INTERNAL_ERROR"
)

// A failed initialisation is tried again after firstRetry, then after twice as long each time, up to lastRetry.
const (
	firstRetry = time.Second
	lastRetry  = 2 * time.Minute
)

// lackPatience is how long an order waits for memory before that is called a failure. It goes on waiting.
const lackPatience = 30 * time.Second

// provisionedInit is the least limit of the init phase of a provisioned environment. AWS: 130 seconds, or the function's
// timeout if that is longer.
const provisionedInit = 130 * time.Second

// order is a Provision of one configuration. Fleet.mu guards it.
type order struct {
	config string
	fn     *Function
	pool   *pool
	count  int

	environments []*environment // those that are to stay: starting and initialised
	available    int            // the initialised ones

	failure    string
	failures   int // in a row
	retry      *time.Timer
	lacksSince time.Time // zero while it does not wait for memory
}

// Provision sets what is kept initialised for a configuration, which is any name. What was kept for it before and is not in
// want ends: idle environments now, busy ones after their invocation. An empty want removes the configuration.
//
// Provisioned environments serve before all others whatever invocation has the same function, version and revision. They
// count against the function's reserved concurrency, or else its account's, from the time when they are initialised. They
// are neither reaped when idle nor ended for memory, and replaced after a failure, when they are old, and after Retire.
func (f *Fleet) Provision(config string, want []Provision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range slices.Clone(f.orders) {
		if o.config == config && !slices.ContainsFunc(want, func(w Provision) bool { return w.Function.key("") == o.pool.key && w.Count > 0 }) {
			f.cancelLocked(o)
		}
	}
	if f.stopping {
		return
	}
	for _, w := range want {
		if w.Count <= 0 {
			continue
		}
		i := slices.IndexFunc(f.orders, func(o *order) bool { return o.config == config && o.pool.key == w.Function.key("") })
		if i < 0 {
			o := &order{config: config, fn: w.Function, pool: f.poolLocked(w.Function.key(""))}
			o.pool.orders = append(o.pool.orders, o)
			i = len(f.orders)
			f.orders = append(f.orders, o)
		}
		o := f.orders[i]
		o.fn = w.Function
		if o.count != w.Count {
			o.count = w.Count
			o.failure, o.failures, o.lacksSince = "", 0, time.Time{}
			o.stopRetry()
		}
		for len(o.environments) > o.count {
			f.retireOneLocked(o.spare())
		}
		f.fillLocked(o)
	}
}

// Provisioned says how far a configuration has come.
func (f *Fleet) Provisioned(config string) (p Provisioned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.orders {
		if o.config != config {
			continue
		}
		p.Allocated += len(o.environments)
		p.Available += o.available
		switch {
		case o.failure != "":
			p.Failure = o.failure
		case !o.lacksSince.IsZero() && (time.Since(o.lacksSince) >= lackPatience || f.provisionedMB+o.fn.MemoryMB > f.provisionableMB()):
			p.Failure = failureMemory
		}
	}
	return p
}

// cancelLocked ends an order and its environments.
func (f *Fleet) cancelLocked(o *order) {
	o.count = 0
	o.stopRetry()
	for len(o.environments) > 0 {
		f.retireOneLocked(o.spare())
	}
	f.orders = slices.DeleteFunc(f.orders, func(x *order) bool { return x == o })
	o.pool.orders = slices.DeleteFunc(o.pool.orders, func(x *order) bool { return x == o })
	f.dropLocked(o.pool)
}

func (o *order) stopRetry() {
	if o.retry != nil {
		o.retry.Stop()
		o.retry = nil
	}
}

// spare is the environment that an order can do without best: one that is starting, else one that is idle.
func (o *order) spare() *environment {
	best := o.environments[0]
	for _, env := range o.environments {
		if !env.available {
			return env
		}
		if slices.Contains(o.pool.provisioned, env) {
			best = env
		}
	}
	return best
}

// lacking is the order of a pool that waits for memory, if one does.
func (p *pool) lacking() *order {
	for _, o := range p.orders {
		if !o.lacksSince.IsZero() {
			return o
		}
	}
	return nil
}

// fillLocked starts the environments that an order lacks, a few at a time. It reports whether it started any.
func (f *Fleet) fillLocked(o *order) (started bool) {
	if o.failure != "" && o.retry != nil || f.stopping {
		return false
	}
	for len(o.environments) < o.count && f.initialising < maxInitialising() {
		if o.failure != "" && len(o.environments) > o.available {
			break // one at a time, until one has succeeded
		}
		if o.fn.MemoryMB > f.freeLocked() || f.provisionedMB+o.fn.MemoryMB > f.provisionableMB() {
			if o.lacksSince.IsZero() {
				o.lacksSince = time.Now()
			}
			f.hungry[o.pool] = struct{}{}
			return started
		}
		f.takeLocked(o.pool.share, o.fn.MemoryMB)
		f.provisionedMB += o.fn.MemoryMB
		env := f.newLocked(o.pool, o.fn)
		env.provisioned, env.order = true, o
		// Those of one order are not to grow old all at once.
		env.age -= rand.N(env.age/4 + 1)
		o.environments = append(o.environments, env)
		f.initialising++
		if !f.envs.Go(env.runProvisioned) { // the fleet was stopped
			f.initialising--
			f.giveBackLocked(env)
			f.dismissLocked(env)
			delete(f.environments, env)
			env.pool.environments--
			return started
		}
		started = true
	}
	o.lacksSince = time.Time{}
	return started
}

// maxInitialising is how many provisioned environments are initialised at once: more would only slow each other down.
func maxInitialising() int { return 2 * runtime.GOMAXPROCS(0) }

// dismissLocked takes an environment out of its order, which it serves no longer.
func (f *Fleet) dismissLocked(env *environment) {
	o := env.order
	if o == nil {
		return
	}
	env.order = nil
	i := slices.Index(o.environments, env)
	o.environments = slices.Delete(o.environments, i, i+1)
	if env.available {
		env.available = false
		o.available--
		f.countProvisionedLocked(o.pool.share, -1)
	}
}

// replaceLocked takes an environment out of its order, if it has one, which gets another.
func (f *Fleet) replaceLocked(env *environment) {
	if o := env.order; o != nil {
		f.dismissLocked(env)
		f.fillLocked(o)
	}
}

func (f *Fleet) countProvisionedLocked(s *share, n int) {
	s.provisioned += n
	if s.reserved == unreserved {
		s.account.provisioned += n
	}
	s.freed.fire()
	s.account.freed.fire()
}

// runProvisioned is run for an environment that is initialised before it has anything to do.
func (e *environment) runProvisioned(ctx context.Context) {
	defer e.f.forget(e)
	defer e.destroy()
	failure := e.initialise(ctx)
	j, ok := e.f.initialised(e, failure)
	e.loop(ctx, j, ok)
}

// initialise builds the environment and runs its init phase. It returns why that failed.
func (e *environment) initialise(ctx context.Context) (failure string) {
	if err := e.build(ctx); err != nil {
		e.f.deps.Log.Error("no environment", "function", e.fn.ARN, "err", err)
		return failureStart
	}
	e.initStart("init")
	e.fresh = false
	if e.launch.Warning != "" {
		e.log.text(time.Now(), "[WARN] "+e.launch.Warning)
	}
	d, fail := e.init(ctx, "", max(provisionedInit, e.fn.Timeout))
	e.initDone("init", d, fail)
	if fail != nil {
		e.reset(runtimeapi.ShutdownFailure)
		return failureInit
	}
	return ""
}

// initialised notes how the init phase of a provisioned environment ended, and gives it its first job if one waits.
func (f *Fleet) initialised(env *environment, failure string) (next *job, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.initialising--
	defer func() { // there is room for another
		for _, o := range f.orders {
			f.fillLocked(o)
		}
	}()
	o := env.order
	if o == nil { // it is wanted no more
		return nil, false
	}
	if failure != "" {
		o.failure = failure
		o.failures++
		f.dismissLocked(env)
		if o.retry == nil {
			wait := min(firstRetry<<min(o.failures-1, 16), lastRetry)
			o.retry = time.AfterFunc(wait, func() { f.retryOrder(o) })
		}
		return nil, false
	}
	env.available = true
	o.available++
	f.countProvisionedLocked(o.pool.share, 1)
	if o.failure != "" {
		o.failure, o.failures = "", 0
		o.stopRetry()
	}
	return f.offerLocked(env, true)
}

func (f *Fleet) retryOrder(o *order) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.orders, o) {
		o.retry = nil
		f.fillLocked(o)
	}
}
