package eventsource

import (
	"sync"
	"time"
)

// tally counts what a mapping does.
type tally struct {
	last lastResult

	mu sync.Mutex
	m  Metrics
}

func (t *tally) update(f func(m *Metrics)) {
	t.mu.Lock()
	f(&t.m)
	t.mu.Unlock()
}

func (t *tally) read(n int)      { t.update(func(m *Metrics) { m.Polled += int64(n) }) }
func (t *tally) filtered(n int)  { t.update(func(m *Metrics) { m.Filtered += int64(n) }) }
func (t *tally) dropped(n int)   { t.update(func(m *Metrics) { m.Dropped += int64(n) }) }
func (t *tally) deleted(n int)   { t.update(func(m *Metrics) { m.Deleted += int64(n) }) }
func (t *tally) delivered(n int) { t.update(func(m *Metrics) { m.Delivered += int64(n) }) }
func (t *tally) bisected()       { t.update(func(m *Metrics) { m.Bisected++ }) }
func (t *tally) looped()         { t.update(func(m *Metrics) { m.Loops++ }) }
func (t *tally) end()            { t.update(func(m *Metrics) { m.InFlight-- }) }
func (t *tally) state(bytes int) {
	t.update(func(m *Metrics) { m.WindowState = max(m.WindowState, bytes) })
}

// begin counts an invocation that begins.
func (t *tally) begin(records int, again bool, age time.Duration) {
	t.update(func(m *Metrics) {
		m.Batches++
		m.Invoked += int64(records)
		m.InFlight++
		if again {
			m.Retries++
		}
		if records > 0 {
			m.IteratorAge = age
		}
	})
}

// ok counts an invocation that the function answered, of whose records some failed.
func (t *tally) ok(failed int) {
	t.update(func(m *Metrics) { m.Failed += int64(failed) })
	if failed > 0 {
		t.last.set(resultFailed)
	} else {
		t.last.set(ResultOK)
	}
}

const resultFailed = "PROBLEM: Function call failed"

// failed counts an invocation that failed.
func (t *tally) failed(records int) {
	t.update(func(m *Metrics) { m.Failed += int64(records) })
	t.last.set(resultFailed)
}

// problem counts an invocation that the function did not get.
func (t *tally) problem(err error) {
	if throttled(err) {
		t.update(func(m *Metrics) { m.Throttles++ })
	}
	t.last.set(problem(err))
}

// trouble counts a read that failed.
func (t *tally) trouble(err error) {
	t.update(func(m *Metrics) { m.Errors++ })
	t.last.set(problem(err))
}

// status returns the last result, "" if there is none yet, and the counts.
func (t *tally) status() (string, Metrics) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last.get(), t.m
}
