package pebblekv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// endure writes until ctx ends, whatever the store refuses meanwhile. Every Update finds exactly what was acknowledged.
func (l *workload) endure(ctx context.Context, t *testing.T, db kv.DB, refused *atomic.Int64) {
	var wg sync.WaitGroup
	for w := range l.acked {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := l.step(ctx, db, w, true)
				switch {
				case errors.Is(err, kv.ErrFailed):
					refused.Add(1)
					time.Sleep(time.Second)
				case err != nil && ctx.Err() == nil:
					t.Error(err)
					return
				default:
					time.Sleep(time.Millisecond) // of a clock that goes on when nobody has anything to do
				}
			}
		})
	}
	wg.Wait()
}

// noted counts the keys that the store says it undid.
type noted struct {
	slog.Handler
	undone, reopened *atomic.Int64
}

func (n noted) Enabled(context.Context, slog.Level) bool { return true }
func (n noted) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "undone" {
			n.reopened.Add(1)
			n.undone.Add(a.Value.Int64())
		}
		return true
	})
	return nil
}

// TestResume lets spells of writes fail, of any kind, while transactions run. After each the same store goes on with exactly
// what it has acknowledged, and so does one that is opened after a power cut.
func TestResume(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 8
	}
	var undone, reopened, refused atomic.Int64
	for round := range rounds {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(round), 5))
			l, crowded := newWorkload(), round%4 == 3
			if crowded {
				l.acked = make([]atomic.Int64, 12)
			}
			disk := vfs.NewCrashableMem()
			var ops, from, to atomic.Int64 // operations, and those that fail
			injector := errorfs.InjectorFunc(func(op errorfs.Op) error {
				switch op.Kind {
				case errorfs.OpFileClose, errorfs.OpLock, errorfs.OpRemove, errorfs.OpLink:
					return nil
				}
				if op.Kind.ReadOrWrite() == errorfs.OpIsRead && op.Kind != errorfs.OpOpenDir {
					return nil
				}
				if (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && crowded {
					for range 500 {
						runtime.Gosched() // others are on their way meanwhile. A sleep would hold a lock, which stops the clock
					}
				}
				if n := ops.Add(1); n >= from.Load() && n < to.Load() {
					return fmt.Errorf("write operation %d (kind %d of %s): %w", n, op.Kind, op.Path, errorfs.ErrInjected)
				}
				return nil
			})
			db := open(t, small(pebblekv.Options{Dir: "store", FS: errorfs.Wrap(disk, injector),
				Logger: slog.New(noted{undone: &undone, reopened: &reopened})}))
			ctx, cancel := context.WithCancel(t.Context())
			var writers sync.WaitGroup
			writers.Go(func() { l.endure(ctx, t, db, &refused) })
			for range 4 {
				begin := ops.Load() + 1 + int64(rnd.IntN(300))
				from.Store(begin)
				to.Store(begin + 1 + int64(rnd.IntN(4)*rnd.IntN(20)))
				for ops.Load() < to.Load() && !t.Failed() {
					time.Sleep(20 * time.Millisecond)
					if rnd.IntN(200) == 0 { // it is read all the time
						verify(t, db, l.counts())
					}
				}
			}
			before := l.counts()
			for l.counts()[0] < before[0]+20 && !t.Failed() { // it goes on
				time.Sleep(20 * time.Millisecond)
			}
			cancel()
			writers.Wait()
			counts := l.counts()
			verify(t, db, counts)
			verifyExact(t, db, counts)
			cut := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd})
			if err := db.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			for name, fs := range map[string]*vfs.MemFS{"as left": disk, "power cut": cut} {
				after := open(t, small(pebblekv.Options{Dir: "store", FS: fs}))
				verify(t, after, counts)
				verifyExact(t, after, counts)
				if err := after.Close(); err != nil {
					t.Errorf("%s: Close: %v", name, err)
				}
			}
		})
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	if undone.Load() == 0 || reopened.Load() < int64(rounds) {
		t.Errorf("%d reopenings undid %d keys", reopened.Load(), undone.Load())
	}
	t.Logf("%d reopenings undid %d keys, %d transactions were refused", reopened.Load(), undone.Load(), refused.Load())
}

// verifyExact checks that nothing is there beyond what was acknowledged.
func verifyExact(t *testing.T, db kv.DB, acked []int64) {
	t.Helper()
	if err := db.View(context.Background(), func(r kv.Reader) error {
		for w := range acked {
			if n, _, err := kv.GetJSON[int64](r, kv.Key(w, "n")); err != nil || n != acked[w] {
				t.Errorf("writer %d: %d are there, %d were acknowledged (%v)", w, n, acked[w], err)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// A View that began before a failure reads the same to its end, long after the store was opened again and its files were replaced.
func TestResumeKeepsViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashableMem()
		var broken atomic.Bool
		db := open(t, small(pebblekv.Options{Dir: "store", FS: errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && op.Kind == errorfs.OpFileSync {
				return syscall.EIO
			}
			return nil
		}))}))
		l := newWorkload()
		for w := range l.acked {
			for range 200 {
				if _, err := l.step(t.Context(), db, w, true); err != nil {
					t.Fatal(err)
				}
			}
		}
		began, over := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(over)
			if err := db.View(t.Context(), func(r kv.Reader) error {
				read := func() (all string) {
					for e, err := range r.Scan(kv.Range{}) {
						if err != nil {
							t.Error(err)
						}
						all += string(e.Key) + string(e.Value)
					}
					return all
				}
				before := read()
				close(began)
				time.Sleep(time.Hour)
				if read() != before {
					t.Error("the View has changed")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}()
		<-began
		for range 3 {
			broken.Store(true)
			for _, err := l.step(t.Context(), db, 0, true); !errors.Is(err, kv.ErrFailed); _, err = l.step(t.Context(), db, 0, true) {
				if err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Minute)
			if _, err := l.step(t.Context(), db, 1, true); !errors.Is(err, kv.ErrFailed) {
				t.Fatalf("an Update while fsync fails: %v", err)
			}
			broken.Store(false)
			time.Sleep(time.Minute)
			for range 300 {
				for w := range l.acked {
					if _, err := l.step(t.Context(), db, w, true); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		<-over
		verify(t, db, l.counts())
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Discarded ranges come back if the transaction was not acknowledged, and watches are woken when the store works again.
func TestResumeRestoresDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		db := open(t, pebblekv.Options{Dir: "store", FS: errorfs.Wrap(vfs.NewCrashableMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
				return syscall.EIO
			}
			return nil
		}))})
		update := func(fn func(kv.Tx)) error {
			return db.Update(t.Context(), func(tx kv.Tx) error { fn(tx); return nil })
		}
		if err := update(func(tx kv.Tx) {
			for i := range 100 {
				tx.Set(kv.Key("a", i), []byte("old"))
			}
		}); err != nil {
			t.Fatal(err)
		}
		var wakes atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for range db.Watch(ctx, kv.Prefix("elsewhere").Start) {
				wakes.Add(1)
			}
		}()
		broken.Store(true)
		ended := []bool{}
		if err := update(func(tx kv.Tx) {
			tx.OnEnd(func(committed bool) { ended = append(ended, committed) })
			tx.Discard(kv.Prefix("a"))
			tx.Set(kv.Key("b"), []byte("new"))
		}); !errors.Is(err, kv.ErrFailed) || !errors.Is(err, syscall.EIO) || len(ended) != 1 || ended[0] {
			t.Fatalf("err = %v, ended %v", err, ended)
		}
		synctest.Wait()
		woken := wakes.Load()
		broken.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := wakes.Load() - woken; n != 1 {
			t.Errorf("a watch woke %d times", n)
		}
		if err := db.View(t.Context(), func(r kv.Reader) error {
			n := 0
			for e, err := range r.Scan(kv.Range{}) {
				if err != nil || string(e.Value) != "old" {
					t.Errorf("%s = %q, %v", kv.Format(e.Key), e.Value, err)
				}
				n++
			}
			if n != 100 {
				t.Errorf("%d keys are there", n)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
