package eventsource

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestStreamInvariants lets everything happen at once, at random: records come while shards are split and merged, the function is slow, throttled and fails, lanes and
// windows change, records grow old, the mapping is disabled and the engine begins again. In the end each record was processed once (or again, if the engine
// had begun again under it) or given up, keys kept their order, only what fails for ever was given up alone, and the sums of windows are those of what was processed.
func TestStreamInvariants(t *testing.T) {
	for seed := range seeds(30) {
		synctest.Test(t, func(t *testing.T) { streamInvariants(t, seed) })
	}
}

// seeds is how many seeds a test at random has: EVENTSOURCE_TEST_SEEDS is for long runs.
func seeds(n uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("EVENTSOURCE_TEST_SEEDS"), 10, 64); err == nil {
		return n
	}
	if testing.Short() {
		return n / 4
	}
	return n
}

type randomWorld struct {
	mu        sync.Mutex
	rnd       *rand.Rand
	order     map[string][]string // ids by key, as they were processed first
	processed map[string]int
	fails     map[string]int // how often yet; -1: for ever
	busy      map[string]bool
	ended     map[string]int // counts of windows, by shard and start
	counted   map[string]int // records processed in them
	report    bool
	repeats   bool
	t         *testing.T
}

func (r *randomWorld) invoke(c invocation) (string, error) {
	r.mu.Lock()
	if r.rnd.IntN(12) == 0 {
		r.mu.Unlock()
		return "", errThrottle
	}
	for _, x := range c.Records {
		if r.busy[x.Key] {
			r.t.Errorf("key %s is in two batches at once", x.Key)
		}
	}
	for _, x := range c.Records {
		r.busy[x.Key] = true
	}
	wait := time.Duration(r.rnd.IntN(1500)) * time.Millisecond
	r.mu.Unlock()
	time.Sleep(wait)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range c.Records {
		delete(r.busy, x.Key)
	}
	at := len(c.Records)
	for i, x := range c.Records {
		if n := r.fails[x.ID]; n != 0 {
			if n > 0 {
				r.fails[x.ID]--
			}
			at = i
			break
		}
	}
	if at < len(c.Records) && !r.report {
		return "", errFunction
	}
	var state struct{ Count int }
	if c.Window != nil {
		if err := json.Unmarshal(c.State, &state); err != nil {
			r.t.Error(err)
		}
	}
	for _, x := range c.Records[:at] {
		state.Count++
		if r.processed[x.ID]++; r.processed[x.ID] == 1 {
			r.order[x.Key] = append(r.order[x.Key], x.ID)
		}
	}
	window := ""
	if c.Window != nil {
		window = c.Shard + " " + c.Window.Start
		r.counted[window] += at
	}
	if c.Final {
		r.ended[window] += state.Count // again if the mapping had other windows meanwhile
	}
	b, _ := json.Marshal(state)
	answer := `{"state":` + string(b)
	if at < len(c.Records) {
		answer += fmt.Sprintf(`,"batchItemFailures":[{"itemIdentifier":%q}]`, c.Records[at].ID)
	}
	return answer + "}", nil
}

func streamInvariants(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	r := &randomWorld{
		rnd: rand.New(rand.NewPCG(seed, 8)), order: map[string][]string{}, processed: map[string]int{}, fails: map[string]int{}, busy: map[string]bool{},
		ended: map[string]int{}, counted: map[string]int{}, t: t, report: rnd.IntN(2) == 0, repeats: rnd.IntN(3) == 0,
	}
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	windows, aged := rnd.IntN(3) == 0, rnd.IntN(4) == 0
	settings := func() *Mapping {
		return mapping(func(m *Mapping) {
			m.BatchSize, m.MaxRetries, m.OnFailure, m.ReportItemFailures, m.Bisect = 1+rnd.IntN(20), 3, deadARN, r.report, !r.report || rnd.IntN(2) == 0
			if m.Parallelization = 1 + rnd.IntN(10); windows {
				m.Parallelization, m.Aggregate.Size = 1, time.Duration(5+rnd.IntN(60))*time.Second
			}
			if rnd.IntN(2) == 0 {
				m.Window = time.Duration(rnd.IntN(3000)) * time.Millisecond
			}
			if aged {
				m.MaxAge = time.Minute
			}
		})
	}
	s := newStream("0")
	w := newWorld(t, s, r.invoke)
	defer w.close()
	m := settings()
	w.set(m)
	const keys = 30
	shardOf := map[int]string{}
	open := []string{"0"}
	for k := range keys {
		shardOf[k] = "0"
	}
	put, bad := map[string][]string{}, map[string]bool{}
	next := 0
	for range 150 {
		time.Sleep(time.Duration(rnd.IntN(600)) * time.Millisecond)
		for range rnd.IntN(6) {
			k := rnd.IntN(keys)
			key := fmt.Sprint("key", k)
			r.mu.Lock() // until it is known whether it fails
			id := s.put(shardOf[k], key, "x")[0]
			put[key] = append(put[key], id)
			switch rnd.IntN(25) {
			case 0:
				r.fails[id], bad[id] = -1, true
			case 1, 2:
				r.fails[id] = 1
			}
			r.mu.Unlock()
		}
		switch rnd.IntN(30) {
		case 0: // in two
			parent := open[rnd.IntN(len(open))]
			a, b := fmt.Sprint(next+1), fmt.Sprint(next+2)
			next += 2
			s.reshard(a, parent)
			s.reshard(b, parent)
			for k := range keys {
				if shardOf[k] == parent {
					shardOf[k] = []string{a, b}[k%2]
				}
			}
			open = append(slices.DeleteFunc(open, func(x string) bool { return x == parent }), a, b)
		case 1:
			if len(open) > 1 {
				a, b := open[0], open[1]
				next++
				child := fmt.Sprint(next)
				s.reshard(child, a, b)
				for k := range keys {
					if shardOf[k] == a || shardOf[k] == b {
						shardOf[k] = child
					}
				}
				open = append(open[2:], child)
			}
		case 2, 3:
			m = settings()
			w.set(m)
		case 4:
			w.engine.Stop("m")
			w.set(m)
		case 5:
			if r.repeats {
				w.stop()
				w.start()
				w.set(m)
			}
		}
	}
	time.Sleep(3 * time.Hour)
	synctest.Wait()
	lost := map[string]bool{}
	for _, f := range w.dead {
		first, _ := strconv.Atoi(f.Kinesis.First)
		last, _ := strconv.Atoi(f.Kinesis.Last)
		if f.Kinesis.Size != 1 && !aged {
			t.Errorf("given up together: %+v", f.Kinesis)
		}
		for n := first; n <= last; n++ { // others between belong to other lanes or shards
			if id := strconv.Itoa(n); f.Kinesis.Size == 1 || r.processed[id] == 0 {
				lost[id] = true
			}
		}
	}
	total := 0
	for key, ids := range put {
		var want []string
		for _, id := range ids {
			n := r.processed[id]
			switch {
			case n == 0 && !lost[id]:
				t.Errorf("record %s is neither processed nor given up", id)
			case n == 0 && !bad[id] && !aged:
				t.Errorf("record %s was given up", id)
			case n > 1 && !r.repeats:
				t.Errorf("record %s was processed %d times", id, n)
			case n > 0 && bad[id]:
				t.Errorf("record %s fails for ever and was processed", id)
			}
			if total += n; n > 0 {
				want = append(want, id)
			}
		}
		if !slices.Equal(r.order[key], want) {
			t.Errorf("%s: %s, want %s", key, strings.Join(r.order[key], " "), strings.Join(want, " "))
		}
	}
	if windows && !r.repeats {
		sum := 0
		for window, n := range r.ended {
			if sum += n; n != r.counted[window] {
				t.Errorf("the window %s ends with %d, of %d records", window, n, r.counted[window])
			}
		}
		if sum != total {
			t.Errorf("windows count %d of %d records", sum, total)
		}
	}
	if s := w.engine.Status(t.Context(), "m"); s.Metrics.InFlight != 0 {
		t.Errorf("%d batches are in flight", s.Metrics.InFlight)
	}
}
