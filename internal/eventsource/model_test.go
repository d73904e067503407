package eventsource

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The specification of a shard without time: what the function gets of a lane's records, all of which are there at the beginning, and what is given up.
// fails says how often each record fails; the function stops at the first that does.
type specification struct {
	bisect, report bool
	size, retries  int
	fails          map[string]int

	calls []string
	lost  []string
}

type specBatch struct {
	ids    []string
	failed int
}

func (s *specification) run(ids []string) {
	for batch := range slices.Chunk(ids, s.size) {
		s.batch(specBatch{ids: batch})
	}
}

func (s *specification) batch(b specBatch) {
	for len(b.ids) > 0 {
		s.calls = append(s.calls, strings.Join(b.ids, " "))
		at := firstFailure(s.fails, b.ids)
		switch {
		case at == len(b.ids):
			return
		case s.report:
			if at > 0 {
				b.failed = 0
			}
			b.ids = b.ids[at:]
			if b.failed++; b.failed > s.retries {
				s.lost = append(s.lost, b.ids[0])
				b = specBatch{ids: b.ids[1:]}
			}
		case s.bisect && len(b.ids) > 1:
			half := len(b.ids) / 2
			s.batch(specBatch{b.ids[:half], b.failed})
			b.ids = b.ids[half:]
		default:
			if b.failed++; b.failed > s.retries {
				s.lost = append(s.lost, strings.Join(b.ids, " "))
				return
			}
		}
	}
}

// firstFailure is the index of the first record that fails, which it counts down; the number of records if none does.
func firstFailure(fails map[string]int, ids []string) int {
	for i, id := range ids {
		if fails[id] > 0 {
			fails[id]--
			return i
		}
	}
	return len(ids)
}

// TestModel compares the engine with the specification: at random parameters and failures, with the engine stopped and started at random times, every lane's invocations are
// those of the specification, one for one.
func TestModel(t *testing.T) {
	for seed := range seeds(100) {
		synctest.Test(t, func(t *testing.T) { model(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func model(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	lanes := 1 + rnd.IntN(4)
	m := mapping(func(m *Mapping) {
		m.Parallelization, m.BatchSize, m.MaxRetries, m.OnFailure = lanes, 1+rnd.IntN(12), rnd.IntN(4), deadARN
		m.Bisect, m.ReportItemFailures = rnd.IntN(2) == 0, rnd.IntN(2) == 0
		if rnd.IntN(4) == 0 {
			m.Filter = notDropped{}
		}
	})
	s := newStream("0")
	of := make([][]string, lanes)
	fails, specFails := map[string]int{}, map[string]int{}
	for range rnd.IntN(120) {
		key := fmt.Sprint("key", rnd.IntN(30))
		data := "x"
		if rnd.IntN(10) == 0 {
			data = "drop"
		}
		id := s.put("0", key, data)[0]
		if m.Filter == nil || data != "drop" {
			of[laneOf(key, lanes)] = append(of[laneOf(key, lanes)], id)
		}
		if rnd.IntN(8) == 0 {
			n := 1 + rnd.IntN(3)
			if rnd.IntN(2) == 0 {
				n = 1000
			}
			fails[id], specFails[id] = n, n
		}
	}
	var mu sync.Mutex
	calls := make([][]string, lanes)
	w := newWorld(t, s, func(c invocation) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		var ids []string
		for _, r := range c.Records {
			ids = append(ids, r.ID)
		}
		l := laneOf(c.Records[0].Key, lanes)
		calls[l] = append(calls[l], strings.Join(ids, " "))
		switch at := firstFailure(fails, ids); {
		case at == len(ids):
			return "null", nil
		case m.ReportItemFailures:
			return fmt.Sprintf(`{"batchItemFailures":[{"itemIdentifier":%q}]}`, ids[at]), nil
		}
		return "", errFunction
	})
	defer w.close()
	w.set(m)
	for range rnd.IntN(4) {
		time.Sleep(time.Duration(rnd.IntN(5000)) * time.Millisecond)
		synctest.Wait()
		if rnd.IntN(2) == 0 {
			w.engine.Stop("m")
		} else {
			w.stop()
			w.start()
		}
		w.set(m)
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	var lost []string
	for l := range lanes {
		spec := specification{bisect: m.Bisect, report: m.ReportItemFailures, size: m.BatchSize, retries: m.MaxRetries, fails: specFails}
		spec.run(of[l])
		w.expect(fmt.Sprint("lane ", l), strings.Join(calls[l], "\n"), strings.Join(spec.calls, "\n"))
		for _, ids := range spec.lost {
			f := strings.Fields(ids)
			lost = append(lost, fmt.Sprintf("%s-%s %d", f[0], f[len(f)-1], len(f)))
		}
	}
	var got []string
	for _, f := range w.dead {
		got = append(got, fmt.Sprintf("%s-%s %d", f.Kinesis.First, f.Kinesis.Last, f.Kinesis.Size))
	}
	slices.Sort(lost)
	slices.Sort(got)
	w.expect("destination", got, lost)
}

// TestQueueModel: at random parameters and failures, with the engine stopped and started, every message of a queue is processed or given up, groups keep
// their order, and nothing is left.
func TestQueueModel(t *testing.T) {
	for seed := range seeds(60) {
		synctest.Test(t, func(t *testing.T) { queueModel(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func queueModel(t *testing.T, seed uint64) {
	rnd, delays := rand.New(rand.NewPCG(seed, 2)), rand.New(rand.NewPCG(seed, 3))
	q := &memQueue{visibility: 30 * time.Second, fifo: rnd.IntN(2) == 0}
	m := queueMapping(func(m *Mapping) {
		m.BatchSize, m.MaxRetries, m.OnFailure = 1+rnd.IntN(10), rnd.IntN(4), deadARN
		m.Bisect, m.ReportItemFailures = rnd.IntN(2) == 0, rnd.IntN(2) == 0
		if !q.fifo && rnd.IntN(2) == 0 {
			m.BatchSize, m.Window = 1+rnd.IntN(50), time.Duration(1+rnd.IntN(10))*time.Second
		}
		if rnd.IntN(2) == 0 {
			m.MaxConcurrency = 2 + rnd.IntN(3)
		}
	})
	var mu sync.Mutex
	fails := map[string]int{}
	done := map[string]int{}
	order := map[string][]string{}
	w := newWorld(t, q, func(c invocation) (string, error) {
		mu.Lock()
		wait := time.Duration(delays.IntN(300)) * time.Millisecond
		mu.Unlock()
		time.Sleep(wait)
		mu.Lock()
		defer mu.Unlock()
		var ids []string
		for _, r := range c.Records {
			ids = append(ids, r.ID)
		}
		at := firstFailure(fails, ids)
		if at < len(ids) && !m.ReportItemFailures {
			return "", errFunction
		}
		var report []string
		for i, r := range c.Records {
			if i < at {
				done[r.ID]++
				order[r.Key] = append(order[r.Key], r.ID)
			} else {
				report = append(report, fmt.Sprintf(`{"itemIdentifier":%q}`, r.ID)) // as is right for groups: it and all that follow
			}
		}
		return `{"batchItemFailures":[` + strings.Join(report, ",") + `]}`, nil
	})
	defer w.close()
	w.set(m)
	n := rnd.IntN(80)
	for i := range n {
		id := fmt.Sprint("m", i+1)
		if rnd.IntN(8) == 0 {
			mu.Lock()
			fails[id] = 1 + rnd.IntN(3)
			mu.Unlock()
		}
		group := ""
		if q.fifo {
			group = fmt.Sprint("g", rnd.IntN(6))
		}
		q.send(group, "x")
	}
	for range rnd.IntN(3) {
		time.Sleep(time.Duration(rnd.IntN(40)) * time.Second)
		if rnd.IntN(2) == 0 {
			w.engine.Stop("m")
		} else {
			w.stop()
			w.start()
		}
		w.set(m)
	}
	time.Sleep(3 * time.Hour)
	synctest.Wait()
	w.expect("left", q.left(), 0)
	lost := map[string]int{}
	for _, f := range w.dead {
		for _, id := range f.SQS.Messages {
			lost[id]++
		}
	}
	for i := range n {
		id := fmt.Sprint("m", i+1)
		if done[id]+lost[id] == 0 {
			t.Errorf("%s is neither processed nor given up", id)
		}
		if lost[id] > 1 {
			t.Errorf("%s is given up %d times", id, lost[id])
		}
	}
	if q.fifo {
		for g, ids := range order {
			first := map[string]bool{} // a batch whose engine was stopped comes again
			ids = slices.DeleteFunc(ids, func(id string) bool { again := first[id]; first[id] = true; return again })
			if !slices.IsSortedFunc(ids, compare) {
				t.Errorf("group %s: %v", g, ids)
			}
		}
	}
}
