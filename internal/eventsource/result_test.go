package eventsource

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// The last result outlives that the mapping is disabled, changed, and that the engine begins again; not that the mapping is removed.
func TestResultKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, poison(false))
		defer w.close()
		m := mapping(func(m *Mapping) { m.MaxRetries = 0 })
		w.set(m)
		result := func(what, want string) {
			t.Helper()
			synctest.Wait()
			w.expect(what, w.engine.Status(t.Context(), "m").Result, want)
		}
		result("before any", ResultNone)
		s.put("0", "k", "a")
		result("after a success", ResultOK)
		w.stop()
		w.start()
		result("before it is set again", ResultOK)
		w.set(m)
		result("after it is set again", ResultOK)
		s.put("0", "k", "bad")
		result("after a failure", resultFailed)
		w.engine.Stop("m")
		result("disabled", resultFailed)
		w.set(m)
		result("enabled again", resultFailed)
		w.set(mapping(func(m *Mapping) { m.FunctionARN += "2" }))
		result("with another function", resultFailed)

		// A crash loses what is younger than keepAfter, at most.
		s.put("0", "k", "b")
		time.Sleep(keepAfter)
		result("before the crash", ResultOK)
		w.expect("stored", New(w.db, Options{Sources: w, Invoker: w, Destination: w}).Status(t.Context(), "m").Result, ResultOK)

		if err := w.engine.Remove(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * keepAfter)
		result("removed", ResultNone)
		w.expect("rows", w.rows(), 0)
	})
}

// countingDB counts the transactions that write.
type countingDB struct {
	kv.DB
	updates atomic.Int64
}

func (d *countingDB) Update(ctx context.Context, f func(kv.Tx) error) error {
	d.updates.Add(1)
	return d.DB.Update(ctx, f)
}

// A result that changes with every message costs a commit a second, and one that does not change none.
func TestResultIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: time.Minute}
		w := newWorld(t, q, poison(false))
		defer w.close()
		w.stop()
		db := &countingDB{DB: w.db}
		w.db = db
		w.start()
		w.set(mapping(func(m *Mapping) { m.SourceARN, m.BatchSize = queueARN, 1 }))
		synctest.Wait()
		send := func(data func(n int) string) (commits int64) {
			before := db.updates.Load()
			for n := range 1000 {
				q.send("", data(n))
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			return db.updates.Load() - before
		}
		if n := send(func(n int) string { return []string{"a", "bad"}[n%2] }); n == 0 || n > 11 {
			t.Error(n, "commits in 10 seconds for a result that changes with every message")
		}
		time.Sleep(keepAfter)
		if n := send(func(int) string { return "a" }); n > 1 {
			t.Error(n, "commits for a result that stays")
		}
	})
}

func TestProblem(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{apierr.New("AccessDeniedException", 403, "You may not."), "PROBLEM: You may not."},
		{fmt.Errorf("read: %w", apierr.New("InternalFailure", 500, "")), "PROBLEM: read: InternalFailure"},
		{ErrGone, "PROBLEM: " + ErrGone.Error()},
	} {
		if got := problem(c.err); got != c.want {
			t.Errorf("%v is worded %q, not %q", c.err, got, c.want)
		}
	}
}
