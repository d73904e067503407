package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// world is a queue on a store in memory, which a restart keeps.
type world struct {
	t     *testing.T
	db    kv.DB
	queue *durable.Queue
	stop  func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, stop: func() {}}
	t.Cleanup(func() {
		w.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// start makes a queue, after the one before has stopped, and runs it.
func (w *world) start(opts durable.Options, handle durable.Handler) {
	w.stop()
	w.queue = durable.New(w.db, "q", handle, opts)
	w.run(w.queue)
}

func (w *world) run(q *durable.Queue) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error("Run:", err)
		}
	})
}

func (w *world) add(lane string, items ...durable.Item) {
	w.t.Helper()
	err := w.db.Update(context.Background(), func(tx kv.Tx) error {
		for _, i := range items {
			if err := w.queue.Add(tx, lane, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// empty checks that no row is left.
func (w *world) empty() {
	w.t.Helper()
	w.db.View(context.Background(), func(r kv.Reader) error {
		for _, kind := range []string{"h", "b"} {
			for e, err := range r.Scan(kv.Prefix("queue", "work.q", kind)) {
				w.t.Errorf("left: %s %s %v", kv.Format(e.Key), e.Value, err)
			}
		}
		return nil
	})
}

func TestOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mu sync.Mutex
		var got []string
		w.start(durable.Options{PerLane: 1}, func(_ context.Context, x *durable.Work) durable.Outcome {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, x.ID+string(x.Body)+string(x.State))
			return durable.Done(nil)
		})
		for i := range 5 {
			w.add("a", durable.Item{ID: fmt.Sprint(i), Body: []byte("b"), State: json.RawMessage(`{}`)})
			time.Sleep(time.Nanosecond)
		}
		synctest.Wait()
		if want := []string{"0b{}", "1b{}", "2b{}", "3b{}", "4b{}"}; !slices.Equal(got, want) {
			t.Errorf("ran %v, want %v", got, want)
		}
		w.empty()
	})
}

func TestRetryAndDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		begin := time.Now()
		var mu sync.Mutex
		var got []string
		handle := func(_ context.Context, x *durable.Work) durable.Outcome {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(x.ID, " ", x.Attempt, " ", string(x.State), " ", time.Since(begin), " ", x.First.Equal(begin)))
			if x.ID == "r" && x.Attempt < 2 {
				return durable.Retry(time.Duration(x.Attempt+1)*time.Minute, json.RawMessage(fmt.Sprint(x.Attempt+1)), nil)
			}
			return durable.Done(nil)
		}
		w.start(durable.Options{}, handle)
		w.add("a", durable.Item{ID: "r"}, durable.Item{ID: "l", Due: begin.Add(10 * time.Minute)}, durable.Item{ID: "d", Delay: 90 * time.Second})
		time.Sleep(2 * time.Minute)
		w.start(durable.Options{}, handle) // what waits survives
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []string{"r 0  0s true", "r 1 1 1m0s true", "d 0  1m30s true", "r 2 2 3m0s true", "l 0  10m0s true"}
		if !slices.Equal(got, want) {
			t.Errorf("ran\n%v, want\n%v", got, want)
		}
		w.empty()
	})
}

// A lane that is held rests longer and longer, and delays no other.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		begin := time.Now()
		var mu sync.Mutex
		var tries []time.Duration
		var others atomic.Int32
		open := make(chan struct{})
		w.start(durable.Options{}, func(_ context.Context, x *durable.Work) durable.Outcome {
			if x.Lane == "b" {
				others.Add(1)
				return durable.Done(nil)
			}
			mu.Lock()
			defer mu.Unlock()
			select {
			case <-open:
				return durable.Done(nil)
			default:
			}
			tries = append(tries, time.Since(begin))
			return durable.Hold(0, open)
		})
		w.add("a", durable.Item{ID: "1"})
		w.add("b", durable.Item{ID: "1"}, durable.Item{ID: "2"})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		s := time.Second
		if want := []time.Duration{0, 1 * s, 3 * s, 7 * s, 15 * s}; !slices.Equal(tries, want) || others.Load() != 2 {
			t.Errorf("tried at %v, want %v; %d others", tries, want, others.Load())
		}
		close(open)
		synctest.Wait()
		w.empty()
	})
}

// A lane with very many items leaves room for others, and how many run is bounded.
func TestFairAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var running, most atomic.Int32
		var order []string
		var mu sync.Mutex
		w.queue = durable.New(w.db, "q", func(_ context.Context, x *durable.Work) durable.Outcome {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			mu.Lock()
			order = append(order, x.Lane)
			mu.Unlock()
			time.Sleep(time.Second)
			return durable.Done(nil)
		}, durable.Options{Parallel: 20})
		for i := range 300 {
			w.add("busy", durable.Item{ID: fmt.Sprint(i)})
		}
		w.add("calm", durable.Item{ID: "1"})
		w.run(w.queue)
		time.Sleep(time.Minute)
		synctest.Wait()
		if i := slices.Index(order, "calm"); i > 20 || len(order) != 301 {
			t.Errorf("the other lane ran as number %d of %d", i, len(order))
		}
		if most.Load() > 20 {
			t.Errorf("%d ran at once", most.Load())
		}
		w.empty()
	})
}

// What an outcome writes is in its transaction, and what it adds runs.
func TestWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var ran atomic.Int32
		w.start(durable.Options{}, func(_ context.Context, x *durable.Work) durable.Outcome {
			n := ran.Add(1)
			if n == 10 {
				return durable.Done(func(tx kv.Tx) error {
					tx.Set(kv.Key("end"), nil)
					return nil
				})
			}
			return durable.Done(func(tx kv.Tx) error {
				return w.queue.Add(tx, fmt.Sprint("lane", n), durable.Item{ID: x.ID})
			})
		})
		w.add("lane0", durable.Item{ID: "1"})
		synctest.Wait()
		w.db.View(context.Background(), func(r kv.Reader) error {
			if _, ok, err := r.Get(kv.Key("end")); !ok || err != nil {
				t.Errorf("after %d runs: %v %v", ran.Load(), ok, err)
			}
			return nil
		})
		w.empty()
	})
}

// faulty fails every Update with an odd number until it is told not to.
type faulty struct {
	kv.DB
	n    atomic.Int32
	fail atomic.Bool
}

func (f *faulty) Update(ctx context.Context, fn func(kv.Tx) error) error {
	if f.n.Add(1)%2 == 1 && f.fail.Load() {
		return errors.New("no space")
	}
	return f.DB.Update(ctx, fn)
}

// A handler whose outcome could not be stored does not run again: the outcome is stored later.
func TestCommitFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := &faulty{DB: w.db}
		w.db = f
		var ran atomic.Int32
		w.start(durable.Options{}, func(_ context.Context, x *durable.Work) durable.Outcome {
			ran.Add(1)
			if x.Attempt == 0 {
				return durable.Retry(time.Second, nil, nil)
			}
			return durable.Done(nil)
		})
		for i := range 20 {
			w.add("a", durable.Item{ID: fmt.Sprint(i)})
		}
		f.fail.Store(true)
		time.Sleep(20 * time.Second)
		f.fail.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if ran.Load() != 40 {
			t.Errorf("ran %d times, want 40", ran.Load())
		}
		w.empty()
	})
}

func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var ran atomic.Int32
		w.start(durable.Options{}, func(_ context.Context, x *durable.Work) durable.Outcome {
			if ran.Add(1) < 3 {
				panic("no")
			}
			return durable.Done(nil)
		})
		w.add("a", durable.Item{ID: "1"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if ran.Load() != 3 {
			t.Errorf("ran %d times", ran.Load())
		}
		w.empty()
	})
}
