package eventsource

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// tally counts what a mapping does.
type tally struct {
	since time.Time
	last  lastResult

	mu                sync.Mutex
	m                 Metrics
	reading, invoking Trouble // a Count of zero: none
}

// Trouble is what goes wrong, time after time.
type Trouble struct {
	Since time.Time `json:"since"` // the first time in a row
	Count int       `json:"count"`
	Code  string    `json:"code,omitempty"` // of the error, if a service gave one
	Error string    `json:"error"`          // the last one
}

func (x *Trouble) again(code, text string) {
	if x.Count == 0 {
		x.Since = time.Now().UTC()
	}
	x.Count++
	x.Code, x.Error = code, brief(text)
}

func (t *tally) update(f func(m *Metrics)) {
	t.mu.Lock()
	f(&t.m)
	t.mu.Unlock()
}

func (t *tally) filtered(n int) { t.update(func(m *Metrics) { m.Filtered += int64(n) }) }
func (t *tally) dropped(n int)  { t.update(func(m *Metrics) { m.Dropped += int64(n) }) }
func (t *tally) deleted(n int)  { t.update(func(m *Metrics) { m.Deleted += int64(n) }) }
func (t *tally) delivered()     { t.update(func(m *Metrics) { m.Delivered++ }) }
func (t *tally) bisected()      { t.update(func(m *Metrics) { m.Bisected++ }) }
func (t *tally) end()           { t.update(func(m *Metrics) { m.InFlight-- }) }

// read counts a read that went well.
func (t *tally) read(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m.Polled += int64(n)
	t.reading.Count = 0
}

// begin counts an invocation that begins.
func (t *tally) begin(records int, again bool) {
	t.update(func(m *Metrics) {
		m.Batches++
		m.Invoked += int64(records)
		m.InFlight++
		if again {
			m.Retries++
		}
	})
}

// ok counts an invocation that the function answered, of whose records some failed.
func (t *tally) ok(failed int) {
	t.mu.Lock()
	t.m.Failed += int64(failed)
	if failed > 0 {
		t.invoking.again("", errReported)
	} else {
		t.invoking.Count = 0
	}
	t.mu.Unlock()
	if failed > 0 {
		t.last.set(resultFailed)
	} else {
		t.last.set(ResultOK)
	}
}

const (
	resultFailed = "PROBLEM: Function call failed"
	errReported  = "the function reported this record in batchItemFailures"
)

// failed counts an invocation that failed.
func (t *tally) failed(records int, message string) {
	t.mu.Lock()
	t.m.Failed += int64(records)
	t.invoking.again("", message)
	t.mu.Unlock()
	t.last.set(resultFailed)
}

// problem counts an invocation that the function did not get.
func (t *tally) problem(err error) {
	if throttled(err) {
		t.update(func(m *Metrics) { m.Throttles++ })
	}
	t.mu.Lock()
	t.invoking.again(apierr.Code(err), explained(err))
	t.mu.Unlock()
	t.last.set(problem(err))
}

// explained is an error with the reason that Lambda gives for a throttle.
func explained(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*apierr.Error](err); ok && e.Members["Reason"] != nil {
		text = fmt.Sprintf("%s (%v)", text, e.Members["Reason"])
	}
	return brief(text)
}

// looped counts a message that is part of a loop.
func (t *tally) looped() { t.update(func(m *Metrics) { m.Loops++ }) }

// trouble counts a read that failed.
func (t *tally) trouble(err error) {
	t.mu.Lock()
	t.m.Errors++
	t.reading.again(apierr.Code(err), err.Error())
	t.mu.Unlock()
	t.last.set(problem(err))
}

// status fills in the last result, "" if there is none yet, and what is counted.
func (t *tally) status(s *Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Since, s.Metrics, s.Result = t.since, t.m, t.last.get()
	if t.reading.Count > 0 {
		s.Reading = new(t.reading)
	}
	if t.invoking.Count > 0 {
		s.Invoking = new(t.invoking)
	}
}
