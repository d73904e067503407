package pebblekv_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// small makes a store that flushes and compacts all the time.
func small(opts pebblekv.Options) pebblekv.Options {
	opts.MemTableBytes = 32 << 10
	return opts
}

// workload is a number of writers, each of which counts up. The transaction that takes
// writer w to n sets (w, "n") and (w, "m") to n, adds (w, "item", n), deletes every
// third item, and bumps a counter that all share.
type workload struct {
	acked []atomic.Int64
}

// newWorkload returns one of four writers. Where several groups of transactions are to be on their way to the disk at once there are more.
func newWorkload() *workload { return &workload{make([]atomic.Int64, 4)} }

func item(w int, n int64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d/%d;", w, n), 20+int(n%50))
}

// step takes writer w one further. In exact, what it finds must be what was acknowledged, no less and no more.
func (l *workload) step(ctx context.Context, db kv.DB, w int, exact bool) (n int64, err error) {
	err = db.Update(ctx, func(tx kv.Tx) error {
		last, _, err := kv.GetJSON[int64](tx, kv.Key(w, "n"))
		if err != nil {
			return err
		}
		if acked := l.acked[w].Load(); exact && last != acked {
			return fmt.Errorf("writer %d finds %d, and %d were acknowledged", w, last, acked)
		}
		n = last + 1
		if n%3 == 0 {
			tx.Delete(kv.Key(w, "item", n/3))
		}
		tx.Set(kv.Key(w, "item", n), item(w, n))
		if n%16 == 0 { // a shared key, seldom, so that some conflict
			shared, _, err := kv.GetJSON[int64](tx, kv.Key("shared"))
			if err != nil {
				return err
			}
			if err := kv.SetJSON(tx, kv.Key("shared"), shared+1); err != nil {
				return err
			}
		}
		return errors.Join(kv.SetJSON(tx, kv.Key(w, "n"), n), kv.SetJSON(tx, kv.Key(w, "m"), n))
	})
	if err == nil {
		l.acked[w].Store(n)
	}
	return n, err
}

// run writes until an Update fails, and calls onAck after each that does not.
func (l *workload) run(ctx context.Context, db kv.DB, onAck func(w int, n int64)) error {
	errs := make(chan error)
	for w := range l.acked {
		go func() {
			for {
				n, err := l.step(ctx, db, w, false)
				if err != nil {
					errs <- err
					return
				}
				if onAck != nil {
					onAck(w, n)
				}
			}
		}()
	}
	var first error
	for range l.acked {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}

// counts returns what is acknowledged now.
func (l *workload) counts() []int64 {
	n := make([]int64, len(l.acked))
	for w := range n {
		n[w] = l.acked[w].Load()
	}
	return n
}

// verify checks that db holds whole transactions only, and at least those acknowledged.
func verify(t testing.TB, db kv.DB, acked []int64) {
	t.Helper()
	err := db.View(context.Background(), func(r kv.Reader) error {
		shared := int64(0)
		for w := range acked {
			n, _, err := kv.GetJSON[int64](r, kv.Key(w, "n"))
			if err != nil {
				return err
			}
			m, _, err := kv.GetJSON[int64](r, kv.Key(w, "m"))
			if err != nil {
				return err
			}
			if n < acked[w] {
				t.Errorf("writer %d: %d were acknowledged and %d are there", w, acked[w], n)
			}
			if n != m {
				t.Errorf("writer %d: half a transaction: n=%d, m=%d", w, n, m)
			}
			shared += n / 16
			next := n/3 + 1
			for e, err := range r.Scan(kv.Prefix(w, "item")) {
				if err != nil {
					return err
				}
				var i int64
				if err := kv.Decode(e.Key, nil, nil, &i); err != nil {
					return err
				}
				if i != next || !bytes.Equal(e.Value, item(w, i)) {
					t.Errorf("writer %d at %d: found item %d of %d bytes, want item %d", w, n, i, len(e.Value), next)
				}
				next++
			}
			if n > 0 && next != n+1 {
				t.Errorf("writer %d at %d: the last item is %d", w, n, next-1)
			}
		}
		if got, _, err := kv.GetJSON[int64](r, kv.Key("shared")); got != shared || err != nil {
			t.Errorf("the shared counter is %d, want %d (%v)", got, shared, err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("verify: %v", err)
	}
}

// childDir names the directory of the store that this process writes as the child of
// TestKill.
const childDir = "PEBBLEKV_TEST_CHILD_DIR"

// TestKill kills a process that writes, again and again on the same directory.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		l := newWorkload()
		var mu sync.Mutex
		db := open(t, small(pebblekv.Options{Dir: dir}))
		t.Fatal(l.run(context.Background(), db, func(w int, n int64) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("acked %d %d\n", w, n)
		}))
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	acked := newWorkload().counts()
	for range rounds {
		cmd := exec.Command(exe, "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left := 1 + rand.IntN(600)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var w int
			var n int64
			if _, err := fmt.Sscanf(lines.Text(), "acked %d %d", &w, &n); err != nil {
				// The child ended by itself, or the last line is torn.
				if strings.HasPrefix(lines.Text(), "acked") {
					continue
				}
				t.Fatalf("the child says %q %s", lines.Text(), stderr.String())
			}
			acked[w] = n
			if left--; left == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		if left > 0 {
			t.Fatalf("the child ended by itself: %s", stderr.String())
		}
		db := open(t, small(pebblekv.Options{Dir: dir}))
		verify(t, db, acked)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, acknowledged %v", rounds, acked)
}

// TestPowerCut takes what a disk would hold after a power cut, at random moments of a
// workload: what was synced, and of the rest some.
func TestPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	db := open(t, small(pebblekv.Options{Dir: "store", FS: fs}))
	ctx, cancel := context.WithCancel(context.Background())
	l := newWorkload()
	tick := make(chan struct{}, 1)
	ended := make(chan error)
	go func() {
		ended <- l.run(ctx, db, func(int, int64) {
			select {
			case tick <- struct{}{}:
			default:
			}
		})
	}()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		for range rnd.IntN(30) {
			<-tick
		}
		acked := l.counts()
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd})
		after := open(t, small(pebblekv.Options{Dir: "store", FS: clone}))
		verify(t, after, acked)
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the workload ended with %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("acknowledged %v", l.counts())
}

// TestWriteFailures lets one write to the file system fail, or all from one on, at every
// kind of place, and then cuts the power.
func TestWriteFailures(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	inOpen, inUse := 0, 0
	for round := range rounds {
		rnd := rand.New(rand.NewPCG(uint64(round), 3))
		disk := vfs.NewCrashableMem()
		once := rnd.IntN(2) == 0
		failAt := 1 + int64(rnd.IntN(600))
		if round%4 == 0 {
			failAt = 1 + int64(rnd.IntN(50)) // in Open, or soon after
		}
		var ops atomic.Int64
		injector := errorfs.InjectorFunc(func(op errorfs.Op) error {
			switch op.Kind {
			case errorfs.OpFileClose, errorfs.OpLock:
				return nil
			case errorfs.OpRemove, errorfs.OpLink: // may fail without harm, so alone they must not be the one
				if ops.Load() > failAt && !once {
					return errorfs.ErrInjected
				}
				return nil
			}
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead && op.Kind != errorfs.OpOpenDir {
				return nil
			}
			if n := ops.Add(1); n == failAt || n > failAt && !once {
				return fmt.Errorf("write operation %d (kind %d of %s): %w", n, op.Kind, op.Path, errorfs.ErrInjected)
			}
			return nil
		})
		l := newWorkload()
		db, err := pebblekv.Open(small(pebblekv.Options{Dir: "store", FS: errorfs.Wrap(disk, injector)}))
		if err != nil {
			inOpen++
		} else {
			inUse++
			err := l.run(context.Background(), db, nil)
			if !errors.Is(err, kv.ErrFailed) || !errors.Is(err, errorfs.ErrInjected) {
				t.Errorf("round %d: the workload ended with %v", round, err)
			}
			// A failure that comes once may be over already.
			if err := db.Update(context.Background(), func(kv.Tx) error { return nil }); !errors.Is(err, kv.ErrFailed) && !(once && err == nil) {
				t.Errorf("round %d: an Update after the failure: %v", round, err)
			}
			verify(t, db, l.counts()) // still reads
			if err := db.Close(); !errors.Is(err, kv.ErrFailed) && !(once && err == nil) {
				t.Errorf("round %d: Close: %v", round, err)
			}
		}
		for name, fs := range map[string]*vfs.MemFS{
			"as left":   disk,
			"power cut": disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd}),
		} {
			after, err := pebblekv.Open(small(pebblekv.Options{Dir: "store", FS: fs}))
			if err != nil {
				t.Errorf("round %d, %s: %v", round, name, err)
				continue
			}
			verify(t, after, l.counts())
			// And it works again.
			if err := after.Update(context.Background(), func(tx kv.Tx) error { tx.Set([]byte("x"), nil); return nil }); err != nil {
				t.Errorf("round %d, %s: %v", round, name, err)
			}
			if err := after.Close(); err != nil {
				t.Errorf("round %d, %s: %v", round, name, err)
			}
		}
		if t.Failed() {
			t.Fatalf("round %d: once=%v failAt=%d acked=%v", round, once, failAt, l.counts())
		}
	}
	t.Logf("%d failures in Open, %d in use", inOpen, inUse)
}
