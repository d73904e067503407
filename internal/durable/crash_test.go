package durable_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/kvtest"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// childDir names the directory of the store of the child of TestKill.
const childDir = "DURABLE_TEST_CHILD_DIR"

// The work of TestKill: an item runs, is tried again, and ends in one transaction with the row ("ran", id) and a follower, which
// ends with the row ("followed", id). No row may be written twice.
func work(q **durable.Queue) durable.Handler {
	once := func(tx kv.Tx, kind, id string) error {
		key := kv.Key(kind, id)
		n, _, err := kv.GetJSON[int](tx, key)
		if err != nil {
			return err
		}
		return kv.SetJSON(tx, key, n+1)
	}
	return func(_ context.Context, w *durable.Work) durable.Outcome {
		switch {
		case string(w.Body) != w.ID:
			return durable.Done(func(kv.Tx) error { return errors.New("another body: " + string(w.Body)) })
		case strings.HasPrefix(w.Lane, "follow"):
			return durable.Done(func(tx kv.Tx) error { return once(tx, "followed", w.ID) })
		case w.Attempt == 0 && rand.N(4) == 0:
			return durable.Retry(rand.N(20*time.Millisecond), nil, nil)
		case rand.N(20) == 0:
			return durable.Hold(time.Millisecond, nil)
		}
		return durable.Done(func(tx kv.Tx) error {
			if err := once(tx, "ran", w.ID); err != nil {
				return err
			}
			return (*q).Add(tx, "follow "+w.Lane, durable.Item{ID: w.ID, Body: w.Body})
		})
	}
}

func openDir(t *testing.T, dir string) *pebblekv.DB {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{Dir: dir, MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// TestKill kills a process that adds, runs and retries, again and again on the same store. No acknowledged item is lost, and
// the writes of outcomes are there exactly once.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		db := openDir(t, dir)
		var q *durable.Queue
		q = durable.New(db, "q", work(&q), durable.Options{})
		go q.Run(context.Background())
		var wg sync.WaitGroup
		var out sync.Mutex
		for n := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprint(os.Getpid(), "-", n, "-", i)
					err := db.Update(context.Background(), func(tx kv.Tx) error {
						return q.Add(tx, fmt.Sprint("lane", n), durable.Item{ID: id, Body: []byte(id)})
					})
					if err != nil {
						return
					}
					out.Lock()
					fmt.Println("added", id)
					out.Unlock()
				}
			})
		}
		wg.Wait()
		t.Fatal("the store failed")
	}
	dir := t.TempDir()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	var added []string
	for range rounds {
		kvtest.Kill(t, childDir+"="+dir, 1+rand.IntN(300), func(line string) {
			id, ok := strings.CutPrefix(line, "added ")
			if !ok {
				t.Errorf("the child says %q", line)
				return
			}
			if strings.Count(id, "-") == 2 { // the last line may be torn
				added = append(added, id)
			}
		})
	}
	db := openDir(t, dir)
	defer db.Close()
	w := &world{t: t, db: db, stop: func() {}}
	defer func() { w.stop() }()
	w.queue = durable.New(db, "q", work(&w.queue), durable.Options{})
	w.run(w.queue)
	await(t, func() bool { return left(t, db) == 0 })
	w.stop()
	err := db.View(t.Context(), func(r kv.Reader) error {
		for _, kind := range []string{"ran", "followed"} {
			n := 0
			for rec, err := range kv.ScanJSON[int](r, kv.Prefix(kind)) {
				if err != nil {
					return err
				}
				if n++; rec.Value != 1 {
					t.Errorf("%s %d times", kv.Format(rec.Key), rec.Value)
				}
			}
			for _, id := range added {
				if _, ok, err := r.Get(kv.Key(kind, id)); !ok || err != nil {
					t.Errorf("%s was added and has not %s: %v", id, kind, err)
				}
			}
			t.Logf("%d items %s, %d were acknowledged", n, kind, len(added))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// left counts the rows of queues.
func left(t *testing.T, db kv.DB) (n int) {
	t.Helper()
	err := db.View(t.Context(), func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Prefix("queue", "work.q", "h")) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to pass")
		}
	}
}
