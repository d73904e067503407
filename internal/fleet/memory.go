package fleet

import (
	"slices"
	"time"
)

// The machine's memory is what functions compete for: an environment takes its function's memory size for as long as it
// lives. While there is enough, everybody gets what he asks for. When there is not:
//
//   - Idle environments end, of any function, the longest idle first. Provisioned ones do not.
//   - A function that has much leaves the last eighth to those that have little, who so find room at once.
//   - Who finds none waits for a moment, in a queue of its function that is short. The function that has least is served
//     first. An environment that becomes free ends, instead of serving on, if its function would still have no less than
//     the one that waits. Busy ones are never ended.
//   - Where nobody has more than another, functions take turns.

// headroomShare is the part of the memory that is left to functions that do not have as much as that already.
const headroomShare = 8

// smallest is the least memory of a function. A headroom that has no room for one is none.
const smallest = 128

// turn is how long a function keeps an environment while another that has none waits.
const turn = time.Second

// demandLocked starts an environment on demand for j, which holds a slot, and hands it over through j.start; or it says how
// long j may wait for memory.
func (f *Fleet) demandLocked(p *pool, j *job) (wait time.Duration, err error) {
	mb := j.fn.MemoryMB
	if !f.roomLocked(p.share, mb) || f.behindLocked(p) {
		wait := f.limits.Wait - time.Since(j.arrived)
		if wait <= 0 || len(p.waiting) >= f.limits.Queue || mb > f.limits.MemoryMB-f.provisionedMB {
			return 0, &ThrottledError{Reason: reasonConcurrency, RetryAfter: time.Second, Freed: f.freed.wait()}
		}
		f.hungry[p] = struct{}{}
		return wait, nil
	}
	if wait := f.scaleLocked(p.share); wait > 0 {
		e := p.share.noSlotLocked()
		e.RetryAfter, e.Freed = wait, nil
		return 0, e
	}
	f.takeLocked(p.share, mb)
	j.start <- f.newLocked(p, j.fn)
	return 0, nil
}

// freeLocked is the memory that nobody needs.
func (f *Fleet) freeLocked() int { return f.limits.MemoryMB - f.memoryMB + f.idleMB }

// roomLocked reports whether s may take mb on demand.
func (f *Fleet) roomLocked(s *share, mb int) bool {
	left := f.freeLocked() - mb
	headroom := (f.limits.MemoryMB - f.provisionedMB) / headroomShare
	if headroom < smallest || s.memoryMB+mb <= headroom {
		headroom = 0
	}
	return left >= headroom
}

// behindLocked reports whether somebody waits for memory who comes before p. He does even if there is not enough for him yet.
func (f *Fleet) behindLocked(p *pool) bool {
	for w := range f.hungry {
		if _, _, ok := f.needLocked(w); ok && w != p && w.share.memoryMB <= p.share.memoryMB {
			return true
		}
	}
	return false
}

// takeLocked takes mb of memory for s, ending idle environments if it has to. There must be that much free.
func (f *Fleet) takeLocked(s *share, mb int) {
	for f.memoryMB+mb > f.limits.MemoryMB {
		var oldest *environment
		for _, p := range f.pools {
			// The stack is in order of use, so its bottom has been idle longest.
			if len(p.idle) > 0 && (oldest == nil || p.idle[0].idleSince.Before(oldest.idleSince)) {
				oldest = p.idle[0]
			}
		}
		// Its memory counts as free now although it ends a moment later: frozen environments hold far less than
		// their limit, and waiting here would hold up everybody.
		f.retireOneLocked(oldest)
		f.giveBackLocked(oldest)
	}
	f.memoryMB += mb
	s.memoryMB += mb
}

// giveBackLocked frees the memory of an environment that ends.
func (f *Fleet) giveBackLocked(env *environment) {
	if env.released {
		return
	}
	env.released = true
	f.memoryMB -= env.fn.MemoryMB
	env.pool.share.memoryMB -= env.fn.MemoryMB
	if env.provisioned {
		f.provisionedMB -= env.fn.MemoryMB
	}
}

// grantLocked gives memory that became free to those who wait for it.
func (f *Fleet) grantLocked() {
	f.freed.fire()
	var passed []*pool
	for {
		p := f.neediestLocked(passed)
		if p == nil {
			for _, o := range f.orders { // those that nothing is kept for
				if !o.lacksSince.IsZero() {
					f.fillLocked(o)
				}
			}
			return
		}
		mb, _, _ := f.needLocked(p)
		switch {
		case mb > f.freeLocked():
			return // what is free is kept for it
		case !f.serveLocked(p):
			passed = append(passed, p)
		}
	}
}

// provisionableMB is the memory that provisioned environments may have together: all but the headroom.
func (f *Fleet) provisionableMB() int {
	headroom := f.limits.MemoryMB / headroomShare
	if headroom < smallest {
		headroom = 0
	}
	return f.limits.MemoryMB - headroom
}

// serveLocked gives the first of a pool that waits for memory what it needs. It reports false if it may not have it.
func (f *Fleet) serveLocked(p *pool) bool {
	j := p.firstOnDemand()
	if j == nil {
		return f.fillLocked(p.lacking())
	}
	if !f.roomLocked(p.share, j.fn.MemoryMB) || f.scaleLocked(p.share) > 0 {
		return false // it hears at the end of its time
	}
	f.takeLocked(p.share, j.fn.MemoryMB)
	p.dequeueLocked(j)
	j.start <- f.newLocked(p, j.fn)
	return true
}

// neediestLocked is the pool in need whose function has least, other than those passed over.
func (f *Fleet) neediestLocked(passed []*pool) (neediest *pool) {
	var first time.Time
	for p := range f.hungry {
		_, since, ok := f.needLocked(p)
		switch {
		case !ok:
			delete(f.hungry, p)
		case slices.Contains(passed, p):
		case neediest == nil || p.share.memoryMB < neediest.share.memoryMB ||
			p.share.memoryMB == neediest.share.memoryMB && since.Before(first):
			neediest, first = p, since
		}
	}
	return neediest
}

// needLocked is the memory that the first of a pool needs, and since when; false if nobody does. An order has waited long
// enough after lackPatience: then nothing is kept for it any more.
func (f *Fleet) needLocked(p *pool) (mb int, since time.Time, ok bool) {
	if j := p.firstOnDemand(); j != nil {
		return j.fn.MemoryMB, j.arrived, true
	}
	if o := p.lacking(); o != nil && f.provisionedMB+o.fn.MemoryMB <= f.provisionableMB() && time.Since(o.lacksSince) < lackPatience {
		return o.fn.MemoryMB, o.lacksSince, true
	}
	return 0, time.Time{}, false
}

// firstOnDemand is the first job that waits and may have an environment of its own.
func (p *pool) firstOnDemand() *job {
	for _, j := range p.waiting {
		if j.onDemand {
			return j
		}
	}
	return nil
}

// yieldLocked ends env, which is free, if somebody waits for memory who has less of it.
func (f *Fleet) yieldLocked(env *environment) bool {
	if len(f.hungry) == 0 || env.provisioned {
		return false
	}
	mine := env.pool.share.memoryMB - env.fn.MemoryMB
	for p := range f.hungry {
		mb, _, ok := f.needLocked(p)
		fair := p.share != env.pool.share && p.share.memoryMB+mb <= mine
		first := p != env.pool && p.environments == 0 && time.Since(env.started) > turn
		if ok && (fair || first) {
			env.retired = true
			f.giveBackLocked(env)
			f.grantLocked()
			return true
		}
	}
	return false
}
