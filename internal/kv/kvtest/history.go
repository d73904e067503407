package kvtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// testCounters increments few keys from many goroutines and loses no increment.
func testCounters(t *testing.T, db kv.DB) {
	const workers, increments, counters = 8, 25, 3
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range increments {
				key := kv.Key("counter", (w+i)%counters)
				if err := db.Update(t.Context(), func(tx kv.Tx) error {
					n, _, err := kv.GetJSON[int](tx, key)
					if err != nil {
						return err
					}
					return kv.SetJSON(tx, key, n+1)
				}); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	_ = db.View(t.Context(), func(r kv.Reader) error {
		for rec, err := range kv.ScanJSON[int](r, kv.Prefix("counter")) {
			if err != nil {
				t.Error(err)
			}
			sum += rec.Value
		}
		return nil
	})
	if sum != workers*increments {
		t.Errorf("the counters add up to %d, want %d", sum, workers*increments)
	}
}

// testTransfers moves money between accounts, some of which come and go, and looks at
// the sum all the while.
func testTransfers(t *testing.T, db kv.DB) {
	const accounts, workers, transfers, total = 6, 6, 40, 600
	update(t, db, func(tx kv.Tx) { _ = kv.SetJSON(tx, kv.Key("account", 0), total) })
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range transfers {
				from, to := kv.Key("account", rnd.IntN(accounts)), kv.Key("account", rnd.IntN(accounts))
				amount := rnd.IntN(total)
				if err := db.Update(t.Context(), func(tx kv.Tx) error {
					a, _, err := kv.GetJSON[int](tx, from)
					if err != nil || a < amount {
						return err
					}
					if a == amount {
						tx.Delete(from)
					} else if err := kv.SetJSON(tx, from, a-amount); err != nil {
						return err
					}
					b, _, err := kv.GetJSON[int](tx, to)
					if err != nil || b+amount == 0 {
						return err
					}
					return kv.SetJSON(tx, to, b+amount)
				}); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		_ = db.View(t.Context(), func(r kv.Reader) error {
			sum := 0
			for rec, err := range kv.ScanJSON[int](r, kv.Prefix("account")) {
				if err != nil || rec.Value <= 0 {
					t.Errorf("account %s holds %d (%v)", kv.Format(rec.Key), rec.Value, err)
				}
				sum += rec.Value
			}
			if sum != total {
				t.Errorf("the accounts add up to %d, want %d", sum, total)
			}
			return nil
		})
	}
}

// testHistory records what concurrent transactions saw and checks that one order of them
// explains it, which is also an order of real time.
//
// Every key holds the list of the transactions that appended to it. So a list tells who
// came before whom: each writer after the one whose list it extended, each reader after
// the writer that it saw last and before the next one. The history is serializable if
// these edges, and those from each transaction to all that began after it ended, have
// no cycle.
func testHistory(t *testing.T, db kv.DB) {
	const workers, rounds, keys = 6, 60, 5
	type event struct {
		begin, end int64
		read       map[int][]uint32 // key to list as it was read
		wrote      map[int]bool
	}
	events := make([]event, workers*rounds)
	var clock atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 2))
			for i := range rounds {
				id := w*rounds + i
				ops := make([]int, 1+rnd.IntN(4)) // key*2, plus one to append
				for j := range ops {
					ops[j] = rnd.IntN(keys * 2)
				}
				scans := rnd.IntN(4) == 0
				e := event{begin: clock.Add(1)}
				run := func(r kv.Reader, tx kv.Tx) error {
					e.read, e.wrote = map[int][]uint32{}, map[int]bool{}
					if scans {
						for entry, err := range r.Scan(kv.Prefix("list")) {
							if err != nil {
								return err
							}
							var key int
							if err := kv.Decode(entry.Key, nil, &key); err != nil {
								return err
							}
							e.read[key] = list(entry.Value)
						}
					}
					for _, op := range ops {
						key := op / 2
						v, _, err := r.Get(kv.Key("list", key))
						if err != nil {
							return err
						}
						if !e.wrote[key] {
							e.read[key] = list(v)
						}
						if op%2 == 1 && tx != nil && !e.wrote[key] {
							tx.Set(kv.Key("list", key), binary.BigEndian.AppendUint32(v, uint32(id)))
							e.wrote[key] = true
						}
					}
					return nil
				}
				var err error
				if rnd.IntN(4) == 0 {
					err = db.View(t.Context(), func(r kv.Reader) error { return run(r, nil) })
				} else {
					err = db.Update(t.Context(), func(tx kv.Tx) error { return run(tx, tx) })
				}
				if err != nil {
					t.Errorf("transaction %d: %v", id, err)
				}
				e.end = clock.Add(1)
				events[id] = e
			}
		})
	}
	wg.Wait()

	final := make([][]uint32, keys)
	_ = db.View(t.Context(), func(r kv.Reader) error {
		for key := range final {
			v, _, _ := r.Get(kv.Key("list", key))
			final[key] = list(v)
		}
		return nil
	})
	before := make([][]uint32, len(events)) // edges
	edge := func(a, b uint32) {
		if a != b {
			before[a] = append(before[a], b)
		}
	}
	for key, l := range final {
		for i := 1; i < len(l); i++ {
			edge(l[i-1], l[i])
		}
		for id, e := range events {
			seen, ok := e.read[key]
			if e.wrote[key] {
				if len(seen) >= len(l) || l[len(seen)] != uint32(id) {
					t.Errorf("the append of %d to list %d was lost", id, key)
				}
			}
			if !ok {
				continue
			}
			if len(seen) > len(l) || fmt.Sprint(seen) != fmt.Sprint(l[:len(seen)]) {
				t.Fatalf("transaction %d read list %d as %v, which is no beginning of %v", id, key, seen, l)
			}
			if len(seen) > 0 {
				edge(l[len(seen)-1], uint32(id))
			}
			if len(seen) < len(l) {
				edge(uint32(id), l[len(seen)])
			}
		}
	}
	for a, x := range events {
		for b, y := range events {
			if x.end < y.begin {
				edge(uint32(a), uint32(b))
			}
		}
	}
	const inProgress, finished = 1, 2
	state := make([]int, len(events))
	var visit func(uint32) bool
	visit = func(a uint32) bool {
		state[a] = inProgress
		for _, b := range before[a] {
			if state[b] == inProgress || state[b] == 0 && !visit(b) {
				t.Logf("%d before %d: %+v, %+v", a, b, events[a], events[b])
				return false
			}
		}
		state[a] = finished
		return true
	}
	for id := range events {
		if state[id] == 0 && !visit(uint32(id)) {
			t.Fatal("no order of the transactions explains what they read")
		}
	}
}

func list(v []byte) []uint32 {
	var l []uint32
	for ; len(v) >= 4; v = v[4:] {
		l = append(l, binary.BigEndian.Uint32(v))
	}
	return l
}
