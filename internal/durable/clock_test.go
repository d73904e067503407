package durable

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// A clock that jumps loses nothing, and delays nothing by more than the delay was.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var offset atomic.Int64
		var mu sync.Mutex
		ran := map[string]time.Duration{}
		begin := time.Now()
		q := New(db, "q", func(_ context.Context, w *Work) Outcome {
			mu.Lock()
			defer mu.Unlock()
			ran[w.ID] = time.Since(begin)
			return Done(nil)
		}, Options{})
		q.now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		add := func(lane string, items ...Item) {
			for _, i := range items {
				var ticket Ticket
				if err := db.Update(ctx, func(tx kv.Tx) (err error) {
					ticket, err = q.Add(tx, lane, i)
					return err
				}); err != nil {
					t.Fatal(err)
				}
				q.Wake(ticket)
			}
		}
		add("a", Item{ID: "delay", Delay: 2 * time.Minute})
		add("b", Item{ID: "far", Due: begin.Add(24 * time.Hour)})
		time.Sleep(time.Second)
		offset.Store(-int64(time.Hour)) // back
		add("c", Item{ID: "now"})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if at := ran["delay"]; at == 0 || at > 5*time.Minute || ran["now"] > 2*time.Second {
			t.Errorf("after the clock was set back: %v", ran)
		}
		offset.Store(int64(25 * time.Hour)) // forth
		time.Sleep(longestNap)
		synctest.Wait()
		if at := ran["far"]; at == 0 || at > 10*time.Minute {
			t.Errorf("after the clock was set forward: %v", ran)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
