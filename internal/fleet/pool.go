package fleet

import (
	"slices"
	"time"
)

// poolKey names the environments that may serve one another's invocations.
type poolKey struct{ arn, version, revision string }

func (fn *Function) key() poolKey { return poolKey{fn.ARN, fn.Version, fn.Revision} }

// pool is the environments of one revision of a function. Fleet.mu guards it.
type pool struct {
	idle      []*environment // the newest last
	all       int            // idle, busy, finishing and starting
	finishing int            // those that have answered and will soon be free
	waiting   []*job         // jobs for them, in order of arrival
	cold      time.Duration  // what the last cold start took, from its job's arrival until it was ready
}

// finishWait is how long a job waits at least for an environment that has answered but is not free yet, before it is given
// one of its own. A client that sends one invocation after the other is mostly faster than the runtime in asking for the
// next event, and a cold start would cost it far more. Where the last cold start took longer the job waits as long as that:
// it then has lost no more than it would have lost at once, and a machine that is too busy for its environments is not
// given more of them. maxFinishWait bounds it.
const (
	finishWait    = 20 * time.Millisecond
	maxFinishWait = time.Second
)

// admit takes a slot of concurrency for j and finds an environment for it, one to start (cold), or one to wait for (nil).
// It never waits itself: who cannot be served is throttled at once.
func (f *Fleet) admit(fn *Function, j *job) (env *environment, cold bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return nil, false, ErrStopping
	}
	if f.busy >= f.limits.Concurrency {
		return nil, false, &ThrottledError{"ConcurrentInvocationLimitExceeded"}
	}
	key := fn.key()
	p := f.pools[key]
	if p == nil {
		p = &pool{}
		f.pools[key] = p
		f.retireLocked(func(k poolKey) bool {
			return k.arn == key.arn && k.version == key.version && k.revision != key.revision
		})
	}
	if n := len(p.idle); n > 0 {
		env = p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		f.busy++
		return env, false, nil
	}
	if p.finishing > len(p.waiting) {
		p.waiting = append(p.waiting, j)
		f.busy++
		return nil, false, nil
	}
	if env, err = f.startLocked(p, fn); err == nil {
		f.busy++
	}
	return env, true, err
}

// patience is how long a job waits for an environment of fn to become free.
func (f *Fleet) patience(fn *Function) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.pools[fn.key()]; p != nil {
		return min(max(p.cold, finishWait), maxFinishWait)
	}
	return finishWait
}

// started notes how long the cold start of env took.
func (f *Fleet) started(env *environment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pools[env.key].cold = time.Since(env.started)
}

// startLocked makes an environment if the machine's memory allows one.
func (f *Fleet) startLocked(p *pool, fn *Function) (*environment, error) {
	if !f.reserveLocked(fn.MemoryMB) {
		f.dropLocked(p, fn.key())
		return nil, &ThrottledError{"ConcurrentInvocationLimitExceeded"}
	}
	p.all++
	env := newEnvironment(f, fn)
	f.environments[env] = struct{}{}
	return env, nil
}

// giveUp ends j's waiting: it makes an environment for it, unless one has taken j meanwhile (nil).
func (f *Fleet) giveUp(fn *Function, j *job) (*environment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pools[fn.key()]
	if p == nil {
		return nil, nil
	}
	i := slices.Index(p.waiting, j)
	if i < 0 {
		return nil, nil
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	if f.stopping {
		f.busy--
		f.dropLocked(p, fn.key())
		return nil, ErrStopping
	}
	env, err := f.startLocked(p, fn)
	if err != nil {
		f.busy--
	}
	return env, err
}

// dropLocked forgets a pool that nobody uses.
func (f *Fleet) dropLocked(p *pool, key poolKey) {
	if p.all == 0 && len(p.waiting) == 0 {
		delete(f.pools, key)
	}
}

// reserveLocked takes mb from the machine's memory, if need be by ending the environments that have been idle longest.
func (f *Fleet) reserveLocked(mb int) bool {
	for f.memoryMB+mb > f.limits.MemoryMB {
		var oldest *environment
		for _, p := range f.pools {
			// The stack is in order of use, so its bottom has been idle longest.
			if len(p.idle) > 0 && (oldest == nil || p.idle[0].idleSince.Before(oldest.idleSince)) {
				oldest = p.idle[0]
			}
		}
		if oldest == nil {
			return false
		}
		// Its memory counts as free now although it ends a moment later: frozen environments hold far less than
		// their limit, and waiting here would hold up everybody.
		f.takeIdleLocked(oldest)
		f.memoryMB -= oldest.fn.MemoryMB
		oldest.released, oldest.retired = true, true
		close(oldest.retire)
	}
	f.memoryMB += mb
	return true
}

// answered gives back the slot of concurrency of an environment that has given its answer.
func (f *Fleet) answered(env *environment) {
	f.mu.Lock()
	f.busy--
	f.pools[env.key].finishing++
	f.mu.Unlock()
}

// release takes an environment that has answered, and is free again, back into its pool, unless a job waits there for it.
// It reports false if the environment has to end instead.
func (f *Fleet) release(env *environment, fit bool) (next *job, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pools[env.key]
	p.finishing--
	if !fit || env.retired || f.stopping || time.Since(env.started) > f.limits.Age {
		return nil, false
	}
	if len(p.waiting) > 0 {
		next = p.waiting[0]
		p.waiting = slices.Delete(p.waiting, 0, 1)
		return next, true
	}
	env.idleSince = time.Now()
	p.idle = append(p.idle, env)
	return nil, true
}

// leave takes an idle environment out of its pool, because it wants to end. It reports false if somebody else has
// taken it meanwhile: then a job is on its way, or it was retired.
func (f *Fleet) leave(env *environment) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.takeIdleLocked(env)
}

func (f *Fleet) takeIdleLocked(env *environment) bool {
	p := f.pools[env.key]
	i := slices.Index(p.idle, env)
	if i < 0 {
		return false
	}
	p.idle = slices.Delete(p.idle, i, i+1)
	return true
}

// forget is the last that an environment does: what it held is free.
func (f *Fleet) forget(env *environment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !env.released {
		f.memoryMB -= env.fn.MemoryMB
	}
	delete(f.environments, env)
	p := f.pools[env.key]
	p.all--
	f.dropLocked(p, env.key)
}

// retireLocked ends the environments of the pools that match: idle ones now, busy ones when they are done.
func (f *Fleet) retireLocked(match func(poolKey) bool) {
	for env := range f.environments {
		if env.retired || !match(env.key) {
			continue
		}
		env.retired = true
		if f.takeIdleLocked(env) {
			close(env.retire)
		}
	}
}
