package sequence_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/sequence"
)

// Transactions commit and abort in any order; a reader that goes up to Settled sees every committed number once, in order.
func TestSettled(t *testing.T) {
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := sequence.New(0)
	var committed, failed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				abort := rand.N(4) == 0
				n := 1 + rand.N(3)
				err := db.Update(t.Context(), func(tx kv.Tx) error {
					first := s.Take(tx, n)
					if rand.N(3) == 0 {
						time.Sleep(rand.N(200 * time.Microsecond))
					}
					if abort {
						return errors.New("abort")
					}
					for i := range n {
						tx.Set(kv.Key("n", first+uint64(i)), nil)
					}
					return nil
				})
				if err == nil {
					committed.Add(int64(n))
				} else {
					failed.Add(1)
				}
			}
		})
	}
	writers := make(chan struct{})
	go func() { wg.Wait(); close(writers) }()
	from, seen := uint64(0), int64(0)
	for over := false; !over; {
		select {
		case <-writers:
			over = true // one more look
		default:
		}
		to := s.Settled()
		if to < from {
			t.Fatalf("Settled went back from %d to %d", from, to)
		}
		if err := db.View(context.Background(), func(r kv.Reader) error {
			for _, err := range r.Scan(kv.Range{Start: kv.Key("n", from), End: kv.Key("n", to)}) {
				if err != nil {
					return err
				}
				seen++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		from = to
	}
	if seen != committed.Load() || failed.Load() == 0 {
		t.Errorf("%d numbers were seen of %d committed ones, %d aborts", seen, committed.Load(), failed.Load())
	}
}

func TestHybridClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		take := func(s *sequence.Sequence, n int) (first uint64) {
			t.Helper()
			if err := db.Update(t.Context(), func(tx kv.Tx) error { first = s.Take(tx, n); return nil }); err != nil {
				t.Fatal(err)
			}
			return first
		}
		now := uint64(time.Now().UnixNano())
		s := sequence.New(0)
		if a, b := take(s, 5), take(s, 1); a != now || b != now+5 || s.Settled() != now+6 {
			t.Errorf("took %d and %d at %d, settled %d", a, b, now, s.Settled())
		}
		time.Sleep(time.Second)
		if a := take(s, 1); a != now+1e9 {
			t.Errorf("a second later: %d", a-now)
		}
		ahead := sequence.New(now + 5e9)
		if a := take(ahead, 1); a != now+5e9+1 {
			t.Errorf("behind a floor in the future: %d", a-now)
		}
	})
}
