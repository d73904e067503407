package fleet

import (
	"slices"
	"time"
)

// poolKey names the environments that may serve one another's invocations.
type poolKey struct{ arn, version, revision, tenant string }

func (fn *Function) key(tenant string) poolKey {
	return poolKey{fn.ARN, fn.Version, fn.Revision, tenant}
}

func (j *job) key() poolKey { return j.fn.key(j.req.TenantID) }

// pool is the environments of one revision of a function. Fleet.mu guards it.
type pool struct {
	key          poolKey
	share        *share         // of its function
	idle         []*environment // on demand, the newest last
	provisioned  []*environment // idle too, the newest last
	environments int            // of any state
	orders       []*order       // for provisioned ones
	waiting      []*job         // jobs for them, in order of arrival, background ones behind all others
	cold         time.Duration  // what the last cold start took, from its job's arrival until it was ready

	// Environments that have answered and will soon be free, and the provisioned ones among them.
	finishing, finishingProvisioned int
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

// poolLocked finds or makes a pool. The first of a new revision retires what the old ones left. Whoever does
// not become a user of it calls dropLocked.
func (f *Fleet) poolLocked(key poolKey) *pool {
	p := f.pools[key]
	if p == nil {
		p = &pool{key: key, share: f.shareLocked(key.arn)}
		f.pools[key] = p
		f.retireLocked(func(k poolKey) bool {
			return k.arn == key.arn && k.version == key.version && k.revision != key.revision
		})
	}
	return p
}

// dropLocked forgets a pool that nobody uses.
func (f *Fleet) dropLocked(p *pool) {
	if p.environments == 0 && len(p.orders) == 0 && len(p.waiting) == 0 && f.pools[p.key] == p {
		delete(f.pools, p.key)
		f.dropShareLocked(p.share)
	}
}

// admit accepts j and finds an environment for it. If that has to be started it comes through j.start. If there is none j
// is to wait for at most the time returned, and then to try again. It never waits itself.
func (f *Fleet) admit(j *job) (env *environment, wait time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return nil, 0, ErrStopping
	}
	p := f.poolLocked(j.key())
	s := p.share
	defer func() {
		if err == nil {
			s.busy++
			f.busy++
		} else {
			f.dropLocked(p)
		}
	}()
	if err := f.acceptLocked(s, j.req.Background); err != nil {
		return nil, 0, err
	}
	for env := pop(&p.provisioned); env != nil; env = pop(&p.provisioned) {
		if !f.staleLocked(env) {
			return env, 0, nil
		}
	}
	slot := f.onDemandLocked(s)
	if slot {
		j.occupyLocked(s)
		for env := pop(&p.idle); env != nil; env = pop(&p.idle) {
			f.idleMB -= env.fn.MemoryMB
			if !f.staleLocked(env) {
				return env, 0, nil
			}
		}
	}
	j.start = make(chan *environment, 1)
	if p.finishing > len(p.waiting) && (slot || p.finishingProvisioned > 0) {
		p.enqueueLocked(j)
		return nil, min(max(p.cold, finishWait), maxFinishWait), nil
	}
	if !slot {
		return nil, 0, s.noSlotLocked()
	}
	if wait, err = f.demandLocked(p, j); err != nil {
		j.vacateLocked(s)
	} else if wait > 0 {
		p.enqueueLocked(j)
	}
	return nil, wait, err
}

// staleLocked ends env, which is out of its pool, if it is so old that its credentials may not hold: the clock was set forward, or the
// machine slept, while it was idle.
func (f *Fleet) staleLocked(env *environment) bool {
	if elapsed(env.started, time.Now()) <= env.age+f.limits.Idle {
		return false
	}
	env.retired = true
	f.replaceLocked(env)
	close(env.retire)
	return true
}

// pop takes the newest of idle environments.
func pop(idle *[]*environment) *environment {
	n := len(*idle)
	if n == 0 {
		return nil
	}
	env := (*idle)[n-1]
	(*idle)[n-1] = nil
	*idle = (*idle)[:n-1]
	return env
}

// enqueueLocked lets j wait.
func (p *pool) enqueueLocked(j *job) {
	i := len(p.waiting)
	for i > 0 && j.before(p.waiting[i-1]) {
		i--
	}
	p.waiting = slices.Insert(p.waiting, i, j)
}

// before reports whether j is served before other.
func (j *job) before(other *job) bool {
	if j.req.Background != other.req.Background {
		return other.req.Background
	}
	return j.arrived.Before(other.arrived)
}

// dequeueLocked ends the waiting of j. It reports false if j waits no more.
func (p *pool) dequeueLocked(j *job) bool {
	i := slices.Index(p.waiting, j)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	return i >= 0
}

// again is called when j has waited as long as it was told to: it starts an environment for it, or says how long it may
// wait on. While j is on its way already that is for ever.
func (f *Fleet) again(j *job) (wait time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pools[j.key()]
	if p == nil || !p.dequeueLocked(j) {
		return forever, nil
	}
	switch {
	case f.stopping:
		err = ErrStopping
	case j.onDemand:
		wait, err = f.demandLocked(p, j)
	case f.onDemandLocked(p.share):
		j.occupyLocked(p.share)
		wait, err = f.demandLocked(p, j)
	default:
		err = p.share.noSlotLocked()
	}
	if err != nil {
		f.endLocked(p, j)
		return 0, err
	}
	if wait == 0 {
		return forever, nil
	}
	p.enqueueLocked(j)
	return wait, nil
}

// forever is the wait of a job that somebody has taken.
const forever = 1<<63 - 1

// abandon ends the waiting of j, whose caller has left. It reports false if j is on its way already.
func (f *Fleet) abandon(j *job) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pools[j.key()]
	if p == nil || !p.dequeueLocked(j) {
		return false
	}
	f.endLocked(p, j)
	return true
}

// endLocked takes back what j has taken. It is answered, or was not served.
func (f *Fleet) endLocked(p *pool, j *job) {
	j.vacateLocked(p.share)
	p.share.busy--
	f.busy--
	p.share.freed.fire()
	f.dropLocked(p)
}

// started notes how long the cold start of env took.
func (f *Fleet) started(env *environment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	env.pool.cold = time.Since(env.started)
}

// answered ends a job that env has answered: its slot is free, env soon will be. It reports false if it had ended before.
func (f *Fleet) answered(env *environment, j *job) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j.answered {
		return false
	}
	j.answered = true
	env.pool.finishing++
	if env.provisioned {
		env.pool.finishingProvisioned++
	}
	f.endLocked(env.pool, j)
	return true
}

// release takes an environment that has answered, and is free again, back into its pool, unless a job waits there for it.
// It reports false if the environment has to end instead.
func (f *Fleet) release(env *environment, fit bool) (next *job, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	env.pool.finishing--
	if env.provisioned {
		env.pool.finishingProvisioned--
	}
	return f.offerLocked(env, fit)
}

// offerLocked gives an environment that is free the next job, or makes it idle.
func (f *Fleet) offerLocked(env *environment, fit bool) (next *job, ok bool) {
	p := env.pool
	if !fit || env.retired || f.stopping || elapsed(env.started, time.Now()) > env.age {
		f.replaceLocked(env)
		return nil, false
	}
	if f.yieldLocked(env) {
		return nil, false
	}
	if j := f.nextLocked(env); j != nil {
		return j, true
	}
	env.idleSince = time.Now()
	if env.provisioned {
		p.provisioned = append(p.provisioned, env)
		return nil, true
	}
	p.idle = append(p.idle, env)
	f.idleMB += env.fn.MemoryMB
	f.grantLocked()
	return nil, true
}

// nextLocked takes the first waiting job that env may serve.
func (f *Fleet) nextLocked(env *environment) *job {
	p := env.pool
	for i, j := range p.waiting {
		switch {
		case env.provisioned:
			j.vacateLocked(p.share)
		case j.onDemand:
		case f.onDemandLocked(p.share):
			j.occupyLocked(p.share)
		default:
			continue // it waits for a provisioned one
		}
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return j
	}
	return nil
}

// leave takes an idle environment out of its pool, because it wants to end. It reports false if somebody else has
// taken it meanwhile: then a job is on its way, or it was retired.
func (f *Fleet) leave(env *environment) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.takeIdleLocked(env) {
		return false
	}
	f.replaceLocked(env)
	return true
}

func (f *Fleet) takeIdleLocked(env *environment) bool {
	idle := &env.pool.idle
	if env.provisioned {
		idle = &env.pool.provisioned
	}
	i := slices.Index(*idle, env)
	if i < 0 {
		return false
	}
	*idle = slices.Delete(*idle, i, i+1)
	if !env.provisioned {
		f.idleMB -= env.fn.MemoryMB
	}
	return true
}

// newLocked makes an environment, for which memory was taken.
func (f *Fleet) newLocked(p *pool, fn *Function) *environment {
	env := newEnvironment(f, p, fn)
	f.environments[env] = struct{}{}
	p.environments++
	return env
}

// forget is the last that an environment does: what it held is free.
func (f *Fleet) forget(env *environment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.giveBackLocked(env)
	delete(f.environments, env)
	env.pool.environments--
	f.replaceLocked(env)
	f.dropLocked(env.pool)
	f.grantLocked()
}

// retireLocked ends the environments of the pools that match: idle ones now, busy ones when they are done.
func (f *Fleet) retireLocked(match func(poolKey) bool) {
	for env := range f.environments {
		if !env.retired && match(env.pool.key) {
			f.retireOneLocked(env)
		}
	}
	for _, o := range f.orders {
		f.fillLocked(o)
	}
}

func (f *Fleet) retireOneLocked(env *environment) {
	env.retired = true
	f.dismissLocked(env)
	if f.takeIdleLocked(env) {
		close(env.retire)
	}
}
