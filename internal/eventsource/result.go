package eventsource

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// keepAfter is how long a new result waits to be stored: one that changes with every batch costs a commit in that time.
const keepAfter = time.Second

// lastResult is the last result of a mapping. It is stored when it has changed, so that it outlives the runner and the server.
type lastResult struct {
	engine  *Engine
	mapping string

	mu           sync.Mutex
	text, stored string
	due          *time.Timer    // stores it; nil if nothing is to be stored
	storing      sync.WaitGroup // the timer's store
}

func (r *lastResult) get() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text
}

func (r *lastResult) set(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = text
	if text == r.stored || r.due != nil {
		return
	}
	r.storing.Add(1)
	r.due = time.AfterFunc(keepAfter, func() {
		defer r.storing.Done()
		r.mu.Lock()
		r.due = nil
		r.mu.Unlock()
		r.store()
	})
}

// flush stores what is not stored yet. No set may come beside it or after it.
func (r *lastResult) flush() {
	r.mu.Lock()
	if r.due != nil && r.due.Stop() {
		r.storing.Done()
		r.due = nil
	}
	r.mu.Unlock()
	r.storing.Wait()
	r.store()
}

func (r *lastResult) store() {
	r.mu.Lock()
	text, changed := r.text, r.text != r.stored
	r.mu.Unlock()
	if !changed {
		return
	}
	// What was decided is stored even while the engine stops.
	err := r.engine.db.Update(context.Background(), func(tx kv.Tx) error {
		tx.Set(resultKey(r.mapping), []byte(text))
		return nil
	})
	if err != nil {
		if !errors.Is(err, kv.ErrClosed) {
			r.engine.log.Error("last result of an event source mapping not stored", "mapping", r.mapping, "err", err)
		}
		return
	}
	r.mu.Lock()
	r.stored = text
	r.mu.Unlock()
}

// storedResult reads what a mapping's last result was when it ran before.
func (e *Engine) storedResult(ctx context.Context, mapping string) (text string) {
	err := e.db.View(ctx, func(r kv.Reader) error {
		value, _, err := r.Get(resultKey(mapping))
		text = string(value)
		return err
	})
	if err != nil && ctx.Err() == nil {
		e.log.Error("last result of an event source mapping not read", "mapping", mapping, "err", err)
	}
	return text
}

// problem words an error as a result: what a service said, or else what happened.
func problem(err error) string {
	if e, ok := errors.AsType[*apierr.Error](err); ok && e.Message != "" {
		return "PROBLEM: " + e.Message
	}
	return "PROBLEM: " + err.Error()
}
