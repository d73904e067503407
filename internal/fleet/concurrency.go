package fleet

import (
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
)

// AWS's reasons for throttling, its ThrottleReason.
const (
	reasonConcurrency         = "ConcurrentInvocationLimitExceeded"
	reasonRate                = "FunctionInvocationRateLimitExceeded"
	reasonReservedConcurrency = "ReservedFunctionConcurrentInvocationLimitExceeded"
	reasonReservedRate        = "ReservedFunctionInvocationRateLimitExceeded"
)

// scaleSpan is the time in which a function may add Limits.Burst environments. AWS: 1000 in 10 seconds.
const scaleSpan = 10 * time.Second

// account is the concurrency that the functions of one account in one region share. Fleet.mu guards it.
type account struct {
	reserved    int // sum of all reservations
	onDemand    int // slots taken on demand by functions without a reservation
	provisioned int // initialised provisioned environments of such functions
	rate        bucket
	freed       signal
}

// share is what one function has of the machine and of its account's concurrency, all its versions together.
// Fleet.mu guards it.
type share struct {
	arn     string
	account *account
	users   int // pools, and one for a reservation

	reserved    int // unreserved if there is no reservation
	busy        int // invocations that were accepted and not answered
	onDemand    int // of these, those that have or wait for an environment on demand
	provisioned int // initialised provisioned environments
	memoryMB    int // of all its environments

	rate  bucket // of synchronous invocations, with a reservation
	scale bucket // of new environments
	freed signal
}

const unreserved = -1

// accountKey names an account.
type accountKey struct{ account, region string }

// shareLocked finds or makes the share of the function with an unqualified ARN, for one more user.
func (f *Fleet) shareLocked(function string) *share {
	s := f.shares[function]
	if s == nil {
		a, _ := arn.Parse(function) // one that is no ARN has an account of its own
		key := accountKey{a.Account, a.Region}
		if f.accounts[key] == nil {
			f.accounts[key] = &account{}
		}
		s = &share{arn: function, account: f.accounts[key], reserved: unreserved}
		f.shares[function] = s
	}
	s.users++
	return s
}

// dropShareLocked takes back one use of a share.
func (f *Fleet) dropShareLocked(s *share) {
	if s.users--; s.users == 0 {
		delete(f.shares, s.arn)
	}
}

// Reserve sets the reserved concurrency of the function with an unqualified ARN: it may run n invocations at once and no
// more, and nobody else may take them from the account's pool. 0 throttles it entirely. It holds for all invocations from
// now on; those that run go on.
func (f *Fleet) Reserve(function string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.shareLocked(function)
	if s.reserved != unreserved {
		f.dropShareLocked(s) // it has been counted already
	}
	f.setReservedLocked(s, n)
}

// Unreserve gives the reserved concurrency of a function back to its account, if it has any.
func (f *Fleet) Unreserve(function string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.shares[function]; s != nil && s.reserved != unreserved {
		f.setReservedLocked(s, unreserved)
		f.dropShareLocked(s)
	}
}

func (f *Fleet) setReservedLocked(s *share, n int) {
	a := s.account
	if s.reserved == unreserved {
		a.onDemand -= s.onDemand
		a.provisioned -= s.provisioned
	} else {
		a.reserved -= s.reserved
	}
	s.reserved = n
	if s.reserved == unreserved {
		a.onDemand += s.onDemand
		a.provisioned += s.provisioned
	} else {
		a.reserved += s.reserved
	}
	s.freed.fire()
	a.freed.fire()
}

// acceptLocked says why s may not take one more invocation now, or nil. Which environment it gets is decided later.
func (f *Fleet) acceptLocked(s *share, background bool) error {
	a := s.account
	rate, limit, reason := &a.rate, f.limits.Concurrency-a.reserved, reasonRate
	if s.reserved != unreserved {
		if s.busy >= s.reserved {
			return s.throttled(reasonReservedConcurrency)
		}
		rate, limit, reason = &s.rate, s.reserved, reasonReservedRate
	}
	if background { // AWS: only synchronous invocations have a rate
		return nil
	}
	if wait := rate.take(time.Now(), limit*f.limits.Rate, time.Second); wait > 0 {
		return &ThrottledError{Reason: reason, RetryAfter: wait}
	}
	return nil
}

// onDemandLocked reports whether s may use one more environment on demand: what is provisioned is kept for those who
// find it free.
func (f *Fleet) onDemandLocked(s *share) bool {
	if s.reserved != unreserved {
		return s.onDemand < s.reserved-s.provisioned
	}
	return s.account.onDemand < f.limits.Concurrency-s.account.reserved-s.account.provisioned
}

// occupyLocked gives j a slot on demand.
func (j *job) occupyLocked(s *share) {
	j.onDemand = true
	s.onDemand++
	if s.reserved == unreserved {
		s.account.onDemand++
	}
}

// vacateLocked takes back j's slot on demand, if it has one.
func (j *job) vacateLocked(s *share) {
	if !j.onDemand {
		return
	}
	j.onDemand = false
	s.onDemand--
	if s.reserved == unreserved {
		s.account.onDemand--
	}
	s.freed.fire()
	s.account.freed.fire()
}

// throttled is the error for want of concurrency.
func (s *share) throttled(reason string) *ThrottledError {
	e := &ThrottledError{Reason: reason, Freed: s.freed.wait()}
	if s.reserved != 0 { // nobody knows when a function that was switched off runs again
		e.RetryAfter = time.Second
	}
	return e
}

// noSlotLocked is the error for want of a slot on demand.
func (s *share) noSlotLocked() *ThrottledError {
	if s.reserved != unreserved {
		return s.throttled(reasonReservedConcurrency)
	}
	return &ThrottledError{Reason: reasonConcurrency, RetryAfter: time.Second, Freed: s.account.freed.wait()}
}

// scaleLocked takes one of the environments that s may add. It returns how long to wait if there is none left.
func (f *Fleet) scaleLocked(s *share) time.Duration {
	return s.scale.take(time.Now(), f.limits.Burst, scaleSpan)
}

// bucket holds tokens that come back with time: n of them in a span, and never more than n. It begins full.
type bucket struct {
	used float64   // tokens that are not back yet
	at   time.Time // when used was right
}

// take takes a token, of which there are always enough if n is 0. It returns 0, or how long it takes until there is one.
func (b *bucket) take(now time.Time, n int, span time.Duration) time.Duration {
	if n <= 0 {
		return 0
	}
	perToken := span / time.Duration(n)
	if b.used > 0 {
		b.used = max(0, b.used-float64(now.Sub(b.at))/float64(perToken))
	}
	b.at = now
	if b.used > float64(n-1) {
		return max(1, time.Duration((b.used-float64(n-1))*float64(perToken)))
	}
	b.used++
	return 0
}

// untake gives a token back.
func (b *bucket) untake() { b.used = max(0, b.used-1) }

// signal tells those who wait that something has changed, once. Fleet.mu guards it.
type signal struct{ ch chan struct{} }

func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
