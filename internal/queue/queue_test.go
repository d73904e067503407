package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// world is a queue on a store in memory.
type world struct {
	t    *testing.T
	db   kv.DB
	opts Options
	kind Kind
	s    *Queues
	q    *Queue
}

func newWorld(t *testing.T, kind Kind, opts Options) *world {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, opts: opts, kind: kind}
	t.Cleanup(func() {
		w.q.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.restart()
	return w
}

func (q *Queue) stop() {
	if q != nil {
		q.mu.Lock()
		q.stopLocked()
		q.mu.Unlock()
	}
}

// restart forgets everything that is not in the store.
func (w *world) restart() {
	w.q.stop()
	w.s = New(w.db, "test", w.opts)
	w.q = w.s.Queue("q", w.kind)
}

func (w *world) add(ms ...Message) (ids []ID) {
	w.t.Helper()
	if err := w.db.Update(context.Background(), func(tx kv.Tx) error {
		ids = nil
		for _, m := range ms {
			id, err := w.q.Add(tx, m)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return ids
}

// send adds messages of which the first letter is the group.
func (w *world) send(bodies ...string) {
	w.t.Helper()
	for _, b := range bodies {
		w.add(Message{Body: []byte(b), Group: b[:1]})
	}
}

func (w *world) take(t Take) []Delivery {
	w.t.Helper()
	ds, err := w.q.Take(context.Background(), t)
	if err != nil {
		w.t.Fatal(err)
	}
	return ds
}

func (w *world) want(ds []Delivery, want string) []Lease {
	w.t.Helper()
	var got []string
	var ls []Lease
	for _, d := range ds {
		got = append(got, string(d.Body))
		ls = append(ls, d.Lease())
	}
	if s := strings.Join(got, " "); s != want {
		w.t.Errorf("took %q, want %q", s, want)
	}
	return ls
}

func (w *world) delete(ls ...Lease) {
	w.t.Helper()
	errs, err := w.q.Delete(context.Background(), ls...)
	if err = errors.Join(append(errs, err)...); err != nil {
		w.t.Error("Delete:", err)
	}
}

func (w *world) counts(visible, inFlight, delayed int) {
	w.t.Helper()
	c, err := w.q.Counts(context.Background(), 0)
	if want := (Counts{visible, inFlight, delayed}); err != nil || c != want {
		w.t.Errorf("counts %+v, want %+v (%v)", c, want, err)
	}
}

// empty checks that no message is in the store.
func (w *world) empty() {
	w.t.Helper()
	w.counts(0, 0, 0)
	w.db.View(context.Background(), func(r kv.Reader) error {
		for _, kind := range []string{"h", "b"} {
			for e, err := range r.Scan(kv.Prefix(prefix, "test", kind)) {
				w.t.Errorf("left: %s %v", kv.Format(e.Key), err)
			}
		}
		return nil
	})
}

const vis = 30 * time.Second

func take(n int) Take { return Take{Max: n, Visibility: vis} }

func TestTakeAndDelete(t *testing.T) {
	for _, kind := range []Kind{Standard, FIFO} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, kind, Options{})
			w.want(w.take(take(1)), "")
			w.send("a1", "a2", "a3")
			w.counts(3, 0, 0)
			sent := time.Now()
			time.Sleep(time.Second)
			ds := w.take(take(2))
			ls := w.want(ds, "a1 a2")
			if d := ds[0]; d.Takes != 1 || !d.Sent.Equal(sent) || time.Until(d.Visible) != vis || !d.First.Equal(time.Now()) || d.Group != "a" {
				t.Errorf("delivery %+v", d)
			}
			w.counts(1, 2, 0)
			w.delete(ls[0], ls[0])
			w.delete(ls[0])
			time.Sleep(vis)
			synctest.Wait()
			w.counts(2, 0, 0)
			ds = w.take(take(10))
			if kind == FIFO {
				ls = w.want(ds, "a2 a3")
			} else {
				ls = w.want(ds, "a3 a2")
			}
			if i := slices.IndexFunc(ds, func(d Delivery) bool { return string(d.Body) == "a2" }); ds[i].Takes != 2 || !ds[i].First.Equal(sent.Add(time.Second)) {
				t.Errorf("second delivery %+v", ds[i])
			}
			w.delete(ls...)
			w.empty()
		})
	}
}

func TestOldLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, FIFO, Options{})
		w.send("a1", "a2")
		old := w.want(w.take(take(1)), "a1")
		time.Sleep(vis + time.Second)
		expect := func(what string, want error, l Lease) {
			t.Helper()
			errs, err := w.q.Delete(t.Context(), l)
			if err != nil || errs[0] != want {
				t.Errorf("%s: %v %v, want %v", what, errs, err, want)
			}
		}
		expect("expired", ErrLease, old[0])
		again := w.want(w.take(take(1)), "a1")
		expect("taken again", ErrLease, old[0])
		expect("newest", nil, again[0])
		expect("gone", nil, again[0])
		expect("gone, old lease", nil, old[0])
		w.restart()
		expect("gone, after a restart", nil, old[0])
		w.want(w.take(take(1)), "a2")
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Standard, Options{})
		w.send("a1")
		old := w.want(w.take(take(1)), "a1")
		time.Sleep(vis + time.Second)
		w.want(w.take(take(1)), "a1")
		w.delete(old...)
		time.Sleep(time.Hour)
		w.want(w.take(take(1)), "")
		w.empty()
	})
}

func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, FIFO, Options{})
		w.send("a1", "a2", "b1", "a3", "b2", "c1")
		a := w.want(w.take(take(1)), "a1")
		b := w.want(w.take(take(1)), "b1")
		c := w.want(w.take(take(10)), "c1")
		w.want(w.take(take(10)), "")
		w.send("c2", "a4")
		w.want(w.take(take(10)), "")
		w.delete(c...)
		w.want(w.take(take(10)), "c2")
		w.delete(a...)
		a = w.want(w.take(take(2)), "a2 a3")
		w.delete(a[1])
		w.want(w.take(take(10)), "") // a2 is in flight
		w.delete(b...)
		w.want(w.take(take(10)), "b2")
		time.Sleep(vis)
		synctest.Wait()
		var got []string
		for _, d := range w.take(take(10)) {
			got = append(got, string(d.Body))
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != "a2 a4 b2 c2" {
			t.Error("all are visible again:", s)
		}
	})
	synctest.Test(t, func(t *testing.T) { // on a standard queue they take turns
		w := newWorld(t, Standard, Options{})
		w.send("a1", "a2", "a3", "a4", "b1", "c1")
		w.want(w.take(take(4)), "a1 b1 c1 a2")
		w.want(w.take(take(4)), "a3 a4")
	})
}

func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Standard, Options{})
		for i, d := range []int{60, 900, 30, 0} {
			w.add(Message{Body: fmt.Appendf(nil, "%d", i), Delay: time.Duration(d) * time.Second})
		}
		w.counts(1, 0, 3)
		ls := w.want(w.take(take(10)), "3")
		w.delete(ls...)
		begin := time.Now()
		ls = w.want(w.take(Take{Max: 10, Visibility: vis, Wait: time.Hour}), "2")
		if d := time.Since(begin); d != 30*time.Second {
			t.Errorf("it was given after %v", d)
		}
		w.delete(ls...)
		w.restart()
		w.counts(0, 0, 2)
		w.delete(w.want(w.take(Take{Max: 10, Visibility: vis, Wait: time.Hour}), "0")...)
		w.delete(w.want(w.take(Take{Max: 10, Visibility: vis, Wait: time.Hour}), "1")...)
		if d := time.Since(begin); d != 900*time.Second {
			t.Errorf("it was given after %v", d)
		}
		w.empty()
	})
	synctest.Test(t, func(t *testing.T) { // a FIFO queue has one delay, as it is now
		w := newWorld(t, FIFO, Options{})
		w.send("a1")
		time.Sleep(5 * time.Second)
		w.send("a2", "b1")
		tk := Take{Max: 10, Visibility: vis, Delay: 10 * time.Second}
		w.want(w.take(tk), "")
		if c, err := w.q.Counts(t.Context(), tk.Delay); err != nil || c != (Counts{Delayed: 3}) {
			t.Errorf("%+v %v", c, err)
		}
		begin := time.Now()
		tk.Wait = time.Hour
		w.delete(w.want(w.take(tk), "a1")...)
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("it was given after %v", d)
		}
		tk.Delay = 6 * time.Second
		if ds := w.take(tk); len(ds) != 2 {
			t.Errorf("took %d, want a2 and b1", len(ds))
		}
		if d := time.Since(begin); d != 6*time.Second {
			t.Errorf("they were given after %v", d)
		}
	})
}

func TestSetVisibility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, FIFO, Options{})
		w.send("a1", "b1", "c1")
		ls := w.want(w.take(take(10)), "a1 b1 c1")
		set := func(what string, want error, l Lease, d time.Duration) {
			t.Helper()
			errs, err := w.q.SetVisibility(t.Context(), Visibility{l, d})
			if err != nil || errs[0] != want {
				t.Errorf("%s: %v %v, want %v", what, errs, err, want)
			}
		}
		set("longer", nil, ls[0], time.Hour)
		set("shorter", nil, ls[1], time.Second)
		set("none", nil, ls[2], 0)
		w.want(w.take(take(10)), "c1")
		set("an old lease", ErrLease, ls[2], time.Hour)
		time.Sleep(time.Second)
		synctest.Wait()
		b := w.want(w.take(take(10)), "b1")
		time.Sleep(29 * time.Minute)
		set("visible again", ErrVisible, b[0], time.Hour)
		set("in all too long", ErrTotal, ls[0], 12*time.Hour-20*time.Minute)
		set("as long as can be", nil, ls[0], 11*time.Hour+30*time.Minute)
		w.restart()
		time.Sleep(11 * time.Hour)
		w.counts(2, 1, 0)
		if ds, err := w.q.Held(t.Context(), ls[0], ls[1], b[0]); err != nil || len(ds) != 1 || string(ds[0].Body) != "a1" || ds[0].Lease() != ls[0] {
			t.Errorf("held: %+v %v", ds, err)
		}
		w.delete(ls[0])
		set("deleted", ErrGone, ls[0], time.Hour)
	})
}

// What was taken is in flight after a restart, and what was not is not.
func TestRestart(t *testing.T) {
	for _, kind := range []Kind{Standard, FIFO} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, kind, Options{Window: 2})
			for i := range 10 {
				w.send(fmt.Sprint("a", i), fmt.Sprint("b", i))
			}
			one := w.take(take(1))
			w.want(one, "a0")
			w.restart()
			w.counts(19, 1, 0)
			if kind == FIFO {
				w.want(w.take(take(1)), "b0")
				w.want(w.take(take(3)), "")
				time.Sleep(vis)
				synctest.Wait()
				w.restart()
				seen := map[byte]int{}
				for range 20 {
					for _, d := range w.take(take(3)) {
						if n := int(d.Body[1] - '0'); n != seen[d.Body[0]] {
							t.Fatalf("%s after %d of its group", d.Body, seen[d.Body[0]])
						}
						seen[d.Body[0]]++
						w.delete(d.Lease())
					}
				}
				w.empty()
				return
			}
			if ds := w.take(take(100)); len(ds) > 100 || slices.ContainsFunc(ds, func(d Delivery) bool { return d.ID == one[0].ID }) {
				t.Errorf("%d deliveries, that in flight among them", len(ds))
			}
		})
	}
}

// Messages that are committed before one with a lower number, and before the queue is first looked at, are there when that one has ended.
func TestEarly(t *testing.T) {
	for _, kind := range []Kind{Standard, FIFO} {
		for _, commit := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, kind, Options{})
				w.add(Message{Group: "z", Body: []byte("late"), Delay: 10 * time.Second})
				gave := make(chan []Delivery)
				failed := errors.New("not committed")
				err := w.db.Update(t.Context(), func(tx kv.Tx) error {
					if _, err := w.q.Add(tx, Message{Group: "g", Body: []byte("first")}); err != nil {
						return err
					}
					w.add(Message{Group: "g", Body: []byte("second")}, Message{Group: "h", Body: []byte("soon"), Delay: time.Second})
					go func() { gave <- w.take(Take{Max: 1, Visibility: vis, Wait: time.Minute}) }()
					synctest.Wait()
					if !commit {
						return failed
					}
					return nil
				})
				n := 4
				if !commit {
					n = 3
				}
				if (err == nil) != commit {
					t.Error(err)
				}
				got := len(<-gave)
				for range 3 {
					got += len(w.take(take(10)))
					time.Sleep(5 * time.Second)
				}
				if got != n {
					t.Errorf("%d of %d messages", got, n)
				}
				w.counts(0, n, 0)
			})
		}
	}
}

// A take that waits gets a message as soon as it is committed, and each message goes to one.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Standard, Options{})
		var got atomic.Int32
		var wg sync.WaitGroup
		begin := time.Now()
		for range 100 {
			wg.Go(func() {
				ds, err := w.q.Take(t.Context(), Take{Max: 10, Visibility: vis, Wait: 20 * time.Second})
				if err != nil {
					t.Error(err)
				}
				if len(ds) > 0 && time.Since(begin) != 5*time.Second {
					t.Errorf("a message after %v", time.Since(begin))
				}
				if len(ds) == 0 && time.Since(begin) != 20*time.Second {
					t.Errorf("none after %v", time.Since(begin))
				}
				got.Add(int32(len(ds)))
			})
		}
		time.Sleep(5 * time.Second)
		for range 60 {
			wg.Go(func() { w.send("m") })
		}
		wg.Wait()
		if got.Load() != 60 {
			t.Errorf("%d messages were given", got.Load())
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second); cancel() }()
		if _, err := w.q.Take(ctx, Take{Wait: time.Hour}); err != context.Canceled {
			t.Error(err)
		}
		go func() { time.Sleep(time.Second); w.q.Drop(context.Background()) }()
		if _, err := w.q.Take(t.Context(), Take{Wait: time.Hour}); err != ErrDropped {
			t.Error(err)
		}
	})
}

func TestDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Standard, Options{})
		dlq := w.s.Queue("dlq", Standard)
		defer dlq.stop()
		w.send("m1", "m2")
		begin := time.Now()
		tk := take(10)
		tk.Dead = func(tx kv.Tx, d *Delivery) (bool, error) {
			if d.Takes <= 2 {
				return false, nil
			}
			_, err := dlq.Add(tx, Message{Body: d.Body, Sent: d.Sent})
			return true, err
		}
		for range 2 {
			w.want(w.take(tk), "m1 m2")
			time.Sleep(vis)
			synctest.Wait()
		}
		w.want(w.take(tk), "")
		w.empty2("q")
		ds, err := dlq.Take(t.Context(), take(10))
		w.want(ds, "m1 m2")
		if err != nil || !ds[0].Sent.Equal(begin) || ds[0].Takes != 1 {
			t.Errorf("%+v %v", ds, err)
		}
	})
}

// empty2 checks that a queue has no rows.
func (w *world) empty2(id string) {
	w.t.Helper()
	w.db.View(context.Background(), func(r kv.Reader) error {
		for _, kind := range []string{"h", "b"} {
			for e, err := range r.Scan(kv.Prefix(prefix, "test", kind, id)) {
				w.t.Errorf("left: %s %v", kv.Format(e.Key), err)
			}
		}
		return nil
	})
}

func TestRetention(t *testing.T) {
	for _, kind := range []Kind{Standard, FIFO} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, kind, Options{})
			w.send("a1", "a2", "b1")
			time.Sleep(time.Minute)
			w.send("a3")
			tk := take(10)
			tk.Retention = time.Minute - 1
			w.want(w.take(tk), "a3")
			w.counts(0, 1, 0)
			w.send("a4")
			time.Sleep(2 * time.Minute)
			w.send("b2")
			if n, err := w.q.Expire(t.Context(), time.Now().Add(-time.Minute)); n != 2 || err != nil {
				t.Errorf("%d messages expired: %v", n, err)
			}
			w.delete(w.want(w.take(take(10)), "b2")...)
			w.empty()
		})
	}
}

func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Standard, Options{})
		w.send("a1", "a2", "a3")
		tk := take(10)
		tk.InFlight = 2
		ls := w.want(w.take(tk), "a1 a2")
		if _, err := w.q.Take(t.Context(), tk); err != ErrInFlight {
			t.Error(err)
		}
		w.delete(ls[0])
		w.want(w.take(tk), "a3")
	})
}

func TestVolatile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Standard, Options{})
		w.send("a1", "a2", "a3")
		ds := w.take(Take{Max: 2, Volatile: true})
		w.want(ds, "a1 a2")
		w.counts(1, 2, 0)
		time.Sleep(24 * time.Hour)
		w.q.Release(ds[0].ID)
		begin := time.Now()
		if err := w.db.Update(t.Context(), func(tx kv.Tx) error {
			ok, err := w.q.Postpone(tx, ds[1].ID, time.Hour, []byte("again"))
			if !ok {
				t.Error("it is not there")
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		w.counts(2, 0, 1)
		for _, want := range []string{"a1", "a3"} {
			d := w.take(Take{Volatile: true})
			w.want(d, want)
			w.delete(d[0].Lease())
		}
		w.restart()
		d := w.take(Take{Volatile: true, Wait: 2 * time.Hour})
		w.want(d, "a2")
		if string(d[0].Note) != "again" || time.Since(begin) != time.Hour {
			t.Errorf("%+v after %v", d[0], time.Since(begin))
		}
		w.restart() // it was never committed that it was taken
		w.want(w.take(Take{Volatile: true}), "a2")
		w.delete(d[0].Lease())
		w.empty()
	})
}

// A clock that is set back neither loses nor delays anything by more than its delay was; one that is set forward ends delays.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		w := newWorld(t, Standard, Options{now: func() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) }})
		w.add(Message{Body: []byte("d"), Delay: 10 * time.Minute})
		w.send("m")
		w.want(w.take(take(1)), "m")
		offset.Store(-int64(24 * time.Hour))
		begin := time.Now()
		w.want(w.take(Take{Visibility: time.Hour, Wait: time.Hour}), "m")
		if d := time.Since(begin); d != vis {
			t.Errorf("visible after %v", d)
		}
		w.want(w.take(Take{Visibility: time.Hour, Wait: time.Hour}), "d")
		if d := time.Since(begin); d != 10*time.Minute {
			t.Errorf("the delay was over after %v", d)
		}
		w.send("n")
		w.want(w.take(take(1)), "n")
		w.add(Message{Body: []byte("d"), Delay: 10 * time.Minute})
		w.restart()
		w.counts(0, 3, 1)
		offset.Store(-int64(48 * time.Hour))
		w.restart()
		begin = time.Now()
		w.want(w.take(Take{Visibility: time.Hour, Wait: time.Hour}), "n")
		if d := time.Since(begin); d != vis {
			t.Errorf("visible after %v", d)
		}
		w.want(w.take(Take{Visibility: time.Hour, Wait: time.Hour}), "d")
		if d := time.Since(begin); d != 10*time.Minute {
			t.Errorf("the delay was over after %v", d)
		}
		w.restart()
		w.add(Message{Body: []byte("d"), Delay: 10 * time.Minute})
		begin = time.Now()
		go func() { time.Sleep(time.Second); offset.Store(0) }()
		w.want(w.take(Take{Visibility: time.Hour, Wait: time.Hour}), "d")
		if d := time.Since(begin); d > longestNap {
			t.Errorf("the delay was over after %v", d)
		}
	})
}

// Messages of a FIFO queue become available when its delay is over, though nobody waits for them and the clock was set back meanwhile, also over a
// restart.
func TestDelayOfFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset, rung atomic.Int64
		w := newWorld(t, FIFO, Options{
			now:   func() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) },
			Ready: func(string) { rung.Add(1) },
		})
		late := Take{Max: 10, Visibility: time.Hour, Delay: 10 * time.Minute}
		for round, back := range []time.Duration{0, 24 * time.Hour, 48 * time.Hour} {
			w.send("a", "b")
			offset.Store(-int64(back))
			if round == 2 {
				w.restart()
			}
			w.want(w.take(late), "")
			rung.Store(0)
			time.Sleep(10*time.Minute - time.Second)
			w.want(w.take(late), "")
			if n := rung.Load(); n > 1 {
				t.Errorf("set back by %v: rung %d times before the delay was over", back, n)
			}
			rung.Store(0)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if rung.Load() == 0 {
				t.Errorf("set back by %v: not rung when the delay was over", back)
			}
			d := w.take(late)
			w.delete(w.want(d, "a b")...)
		}
		offset.Store(0)
		w.send("a")
		begin := time.Now()
		late.Wait = time.Hour
		offset.Store(-int64(24 * time.Hour))
		w.want(w.take(late), "a")
		if d := time.Since(begin); d != 10*time.Minute {
			t.Errorf("the delay was over after %v", d)
		}
	})
}

// After a restart with the clock set back a message is in flight no longer than its visibility.
func TestVisibilityAfterClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		w := newWorld(t, Standard, Options{now: func() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) }})
		w.send("m")
		w.want(w.take(take(1)), "m")
		offset.Store(-int64(24 * time.Hour))
		w.restart()
		begin := time.Now()
		w.want(w.take(Take{Visibility: time.Hour, Wait: time.Hour}), "m")
		if d := time.Since(begin); d > vis {
			t.Errorf("visible after %v", d)
		}
	})
}

// What is beyond the bytes stays where it was, and a single message is taken however large it is.
func TestBytes(t *testing.T) {
	for _, kind := range []Kind{Standard, FIFO} {
		w := newWorld(t, kind, Options{})
		w.send("a1--", "a2--", "b3--", "a4--", "b5--")
		var got []string
		for range 3 {
			ds := w.take(Take{Max: 10, Bytes: 5, Visibility: vis})
			var leases []Lease
			for _, d := range ds {
				got = append(got, string(d.Body))
				leases = append(leases, d.Lease())
				if d.Takes != 1 {
					t.Errorf("%s was taken %d times", d.Body, d.Takes)
				}
			}
			got = append(got, "|")
			if errs, err := w.q.Delete(t.Context(), leases...); err != nil || errors.Join(errs...) != nil {
				t.Fatal(errs, err)
			}
		}
		if want := map[Kind]string{Standard: "a1-- b3-- | a2-- b5-- | a4-- |", FIFO: "a1-- a2-- | b3-- b5-- | a4-- |"}[kind]; strings.Join(got, " ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
