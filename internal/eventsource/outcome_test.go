package eventsource

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// states is what became of the records that arrived in the last hour.
func (w *world) states(from, to time.Time, most int) string {
	w.t.Helper()
	all, more, err := w.engine.Outcomes(w.t.Context(), w.last, from, to, most)
	if err != nil {
		w.t.Fatal(err)
	}
	var s []string
	for _, o := range all {
		s = append(s, o.ID+" "+string(o.State))
	}
	if more {
		s = append(s, "...")
	}
	return strings.Join(s, ", ")
}

func (w *world) outcome(id string) Outcome {
	w.t.Helper()
	o, err := w.engine.Explain(w.t.Context(), w.last, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// Which batch a failure split, when a record was processed and by which request, how far the record of what was given up has come, and all of it for a time
// and for a mapping that does not run.
func TestOutcomesOfStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0", "1")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.refuse = errors.New("no permission")
		begun := time.Now()
		w.set(mapping(func(m *Mapping) {
			m.Bisect, m.MaxRetries, m.OnFailure, m.Filter, m.Parallelization = true, 2, deadARN, notDropped{}, 2
			m.Start.At = begun.Add(time.Second)
		}))
		s.put("0", "early", "a") // 1
		time.Sleep(time.Minute)
		s.put("0", "k", "a", "b", "bad", "c", "drop") // 2 to 6
		s.put("1", "k", "d")                          // 7
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		w.expect("at first", w.states(begun, time.Time{}, 100), "1 skipped, 2 processed, 3 processed, 4 failed, 5 waiting, 6 filtered, 7 processed")
		w.expect("the first two", w.states(begun, time.Time{}, 2), "1 skipped, 2 processed, ...")
		w.expect("of the first minute", w.states(begun, begun.Add(30*time.Second), 100), "1 skipped")
		if o := w.outcome("2"); o.RequestID != "request" || o.Time.IsZero() || o.Split == nil || *o.Split != (Split{"2", "5", 4}) {
			t.Errorf("processed %+v", o)
		}
		if o := w.outcome("5"); o.Behind != "4" || !strings.Contains(o.Why, "failed once") || o.Next.IsZero() {
			t.Errorf("waiting %+v", o)
		}
		st := w.engine.Status(t.Context(), "m")
		if sh := st.Shards[0]; sh.State != ShardFailing || sh.Failing != "4" || sh.Waiting != 2 || sh.Age < 100*time.Millisecond || st.Shards[1].Age != 0 {
			t.Errorf("%+v", st.Shards)
		}
		if st.Reading != nil {
			t.Errorf("%+v", st)
		}

		w.engine.Stop("m")
		w.expect("stopped", w.states(begun, time.Time{}, 100), "1 skipped, 2 processed, 3 processed, 4 failed, 5 waiting, 6 filtered, 7 processed")
		if o := w.outcome("4"); o.Attempts != 1 || o.Split == nil {
			t.Errorf("stopped %+v", o)
		}
		w.set(w.last)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		o := w.outcome("4")
		if o.State != Dropped || o.Split == nil || o.Split.Records != 4 || o.Delivery == nil || o.Delivery.State != SentPending || o.Delivery.Attempts == 0 || o.Delivery.Error != "no permission" {
			t.Errorf("given up %+v, %+v", o, o.Delivery)
		}
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		o = w.outcome("4")
		if o.Delivery.State != SentDelivered || o.Delivery.ID != "delivered1" || o.Delivery.Time.IsZero() {
			t.Errorf("delivered %+v", o.Delivery)
		}
		if st := w.engine.Status(t.Context(), "m"); st.Metrics.Delivered != 1 || st.Invoking != nil || st.Metrics.IteratorAge != 0 {
			t.Errorf("%+v", st)
		}
		w.expect("in the end", w.states(begun, time.Time{}, 100), "1 skipped, 2 processed, 3 processed, 4 dropped, 5 processed, 6 filtered, 7 processed")
	})
}

// Of a record between the ends of what another lane gave up it is not said that it was given up.
func TestFatesOfLanes(t *testing.T) {
	fates := []Fate{{Shard: "0", First: "1", Last: "9", Records: 2, Lane: laneOf("k", 3), Lanes: 3}}
	for key, want := range map[string]bool{"k": true, "": true, otherLane(t, "k", 3): false} {
		if got := fateOf(fates, "0", &Record{ID: "5", Key: key}) != nil; got != want {
			t.Errorf("key %q: %t", key, got)
		}
	}
	if fateOf(fates, "1", &Record{ID: "5", Key: "k"}) != nil || fateOf(fates, "0", &Record{ID: "10", Key: "k"}) != nil {
		t.Error("found in another shard, or behind the last one")
	}
}

// otherLane is a key of another lane.
func otherLane(t *testing.T, key string, n int) string {
	t.Helper()
	for i := range 100 {
		if k := fmt.Sprint(i); laneOf(k, n) != laneOf(key, n) {
			return k
		}
	}
	t.Fatal("all keys are of one lane")
	return ""
}

// The age of what waits grows while reads fail and while a batch fails, also after a start.
func TestIteratorAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, poison(false))
		defer w.close()
		age := func() time.Duration { return w.engine.Status(t.Context(), "m").Metrics.IteratorAge.Round(time.Second) }
		w.set(mapping(nil))
		s.put("0", "k", "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("with nothing left", age(), time.Duration(0))
		s.mu.Lock()
		s.fail = errors.New("no permission")
		s.mu.Unlock()
		s.put("0", "k", "b", "bad")
		for range 3 {
			before := age()
			time.Sleep(time.Minute)
			synctest.Wait()
			w.expect("while reads fail", age()-before, time.Minute)
		}
		if st := w.engine.Status(t.Context(), "m"); st.Reading == nil || st.Reading.Count < 3 || st.Shards[0].State != ShardFailing || st.Shards[0].Error == "" {
			t.Errorf("%+v", st)
		}
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("while a batch fails", age(), 4*time.Minute)
		w.stop()
		w.start()
		w.set(mapping(nil))
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("after a start", age(), 5*time.Minute)
	})
}

// A message that was throttled says so, and what follows it in its group what it waits for.
func TestOutcomesOfQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: 30 * time.Second, fifo: true}
		var open atomic.Bool
		w := newWorld(t, q, func(c invocation) (string, error) {
			if !open.Load() {
				return "", errThrottle
			}
			return poison(true)(c)
		})
		defer w.close()
		begun := time.Now()
		w.set(queueMapping(func(m *Mapping) { m.ReportItemFailures = true }))
		q.send("g", "a")
		time.Sleep(time.Second)
		synctest.Wait()
		if o := w.outcome("m1"); o.State != Throttled || o.Error == "" || o.Next.IsZero() {
			t.Errorf("throttled %+v", o)
		}
		open.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		q.send("h", "bad", "b")
		time.Sleep(time.Millisecond)
		q.send("i", "c")
		time.Sleep(time.Second)
		synctest.Wait()
		w.expect("all", w.states(begun, time.Time{}, 100), "m1 processed, m2 failed, m3 processed, m4 processed")
		w.expect("some", w.states(begun.Add(30*time.Second), time.Time{}, 2), "m2 failed, m3 processed, ...")
		if o := w.outcome("m4"); o.RequestID != "request" || o.Arrival.IsZero() {
			t.Errorf("processed %+v", o)
		}
	})
}

// What is remembered of messages is bounded, for a mapping and for all together.
func TestRecentIsBounded(t *testing.T) {
	var r recent
	for i := range 100 {
		r.note([]Record{{ID: fmt.Sprint(i)}}, Outcome{State: Processed}, 10)
	}
	if _, ok := r.find("90"); !ok || len(r.of) != 10 || len(r.order) != 10 {
		t.Errorf("%d remembered", len(r.of))
	}
	if _, ok := r.find("89"); ok {
		t.Error("an old one is remembered")
	}
	var d doneBatches
	for i := range 100 {
		d.note(doneBatch{shard: "0", first: fmt.Sprint(1000 + i), last: fmt.Sprint(1000 + i)}, 10)
	}
	if _, ok := d.find("0", &Record{ID: "1089"}); ok || len(d.all) != 10 {
		t.Errorf("%d batches remembered", len(d.all))
	}
	if _, ok := d.find("0", &Record{ID: "1099"}); !ok {
		t.Error("the last batch is not remembered")
	}
	e := New(nil, Options{})
	for n, want := range map[int64]int{0: 2048, 1: 2048, 1000: 262, 100_000: leastRecent} {
		e.mapped.Store(n)
		if got := e.kept(); got != want {
			t.Errorf("%d mappings: %d", n, got)
		}
	}
}
