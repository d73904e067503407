package eventsource

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// A thousand idle mappings, each with a stream of two shards or a queue, have no goroutine and no timer and take less than 20 MiB. Each wakes at once.
func TestIdle(t *testing.T) {
	const mappings = 1000
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, func(invocation) (string, error) { return "", nil })
		defer w.close()
		streams := make([]*memStream, mappings/2)
		queues := make([]*memQueue, mappings/2)
		for i := range streams {
			streams[i], queues[i] = newStream("0", "1"), &memQueue{visibility: time.Minute}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		goroutines, before := runtime.NumGoroutine(), heap()
		for i := range streams {
			w.source = streams[i]
			w.set(mapping(func(m *Mapping) { m.ID = fmt.Sprint("s", i) }))
			streams[i].put("0", "k", "a")
			w.source = queues[i]
			w.set(queueMapping(func(m *Mapping) { m.ID = fmt.Sprint("q", i) }))
			queues[i].send("", "a")
			if i%50 == 0 {
				synctest.Wait()
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.calls); n != mappings {
			t.Errorf("%d invocations, want %d", n, mappings)
		}
		w.calls = nil
		if n := runtime.NumGoroutine() - goroutines; n > mappings/20 { // the store and the runtime have some that come and go
			t.Errorf("%d goroutines for idle mappings", n)
		}
		if grown := int64(heap()) - int64(before); grown > 20<<20 {
			t.Errorf("%d bytes for idle mappings", grown)
		} else {
			t.Logf("%d bytes a mapping", grown/mappings)
		}
		reads, takes := streams[0].reads, queues[0].takes
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect("reads of an idle hour", streams[0].reads-reads, 0)
		w.expect("takes of an idle hour", queues[0].takes-takes, 0)
		begin := time.Now()
		streams[7].put("1", "k", "a")
		queues[7].send("", "a")
		synctest.Wait()
		w.expect("woken after", time.Since(begin), time.Duration(0))
		w.expect("woken", w.batches(), "[a a]")
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Sources that cannot wake are polled once a second, by one goroutine.
func TestPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, deaf{s}, func(invocation) (string, error) { return "", nil })
		defer w.close()
		w.set(mapping(nil))
		time.Sleep(10 * time.Second)
		s.put("0", "k", "a")
		time.Sleep(time.Second)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a]")
		if s.reads < 9 || s.reads > 13 {
			t.Errorf("%d reads in 11 seconds", s.reads)
		}
		w.engine.Stop("m")
		time.Sleep(time.Minute)
		if s.reads > 13 {
			t.Errorf("%d reads: it is still polled", s.reads)
		}
	})
}

// deaf hides that a stream is a Waker.
type deaf struct{ Stream }
