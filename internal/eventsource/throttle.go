package eventsource

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ThrottledError is the error of an Invoker that could not run a function for want of concurrency and can tell when there may be some.
type ThrottledError struct {
	Err error
	// Freed is closed when something of what was missing has become free, or a limit has changed: a hint. Many may wait for it.
	Freed <-chan struct{}
}

func (e *ThrottledError) Error() string { return e.Err.Error() }

func (e *ThrottledError) Unwrap() error { return e.Err }

// freedOf is what tells when another try may help, nil if only time does.
func freedOf(err error) <-chan struct{} {
	if e, ok := errors.AsType[*ThrottledError](err); ok {
		return e.Freed
	}
	return nil
}

const (
	heldFor  = time.Minute          // how long a batch waits for concurrency before it is tried although none is said to be free
	turnTime = 5 * time.Millisecond // in which a batch that was let through shows that it is not refused
)

// turnstile is where the batches of a mapping wait that were refused for want of concurrency. When some has become free it lets one through, then two, four and so on,
// until one is refused again: a single place that becomes free does not make all of them try. Waiting costs one goroutine for all, without a timer.
type turnstile struct {
	mu      sync.Mutex
	waiting []entrant
	freed   <-chan struct{} // of the last refusal
	refused bool            // one was, since some were let through
	open    bool            // run runs
}

type entrant struct {
	key  any
	pass func()
}

// wait has pass called, once, when a batch may be tried again that was refused. A batch that waits already waits anew.
func (t *turnstile) wait(spawn func(func(context.Context)) bool, done <-chan struct{}, freed <-chan struct{}, key any, pass func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(key)
	t.waiting = append(t.waiting, entrant{key, pass})
	t.freed, t.refused = freed, true
	if !t.open {
		t.open = spawn(func(ctx context.Context) { t.run(ctx, done) })
	}
}

// leave ends the wait of a batch.
func (t *turnstile) leave(key any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(key)
}

func (t *turnstile) removeLocked(key any) {
	t.waiting = slices.DeleteFunc(t.waiting, func(e entrant) bool { return e.key == key })
}

// run lets batches through until none waits, or the mapping stops.
func (t *turnstile) run(ctx context.Context, done <-chan struct{}) {
	turn := time.NewTimer(turnTime)
	defer turn.Stop()
	for n := 1; ; n *= 2 {
		freed, refused, ended := t.look()
		if ended {
			return
		}
		if refused {
			n = 1
			select {
			case <-freed:
			case <-done:
				t.close()
				return
			case <-ctx.Done():
				t.close()
				return
			}
		}
		for _, e := range t.next(n) {
			e.pass()
		}
		turn.Reset(turnTime)
		select {
		case <-turn.C:
		case <-done:
			t.close()
			return
		case <-ctx.Done():
			t.close()
			return
		}
	}
}

// look returns whether one was refused since some were last let through, and what tells when there may be room for it. If none waits run ends.
func (t *turnstile) look() (freed <-chan struct{}, refused, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = len(t.waiting) > 0
	return t.freed, t.refused, !t.open
}

// close ends the wait of all: the mapping stops.
func (t *turnstile) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting, t.open = nil, false
}

// next takes up to n out that wait.
func (t *turnstile) next(n int) []entrant {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused = false
	n = min(n, len(t.waiting))
	some := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	return some
}
