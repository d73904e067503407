package kvtest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

func testSnapshot(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		tx.Set([]byte("a"), []byte("1"))
		tx.Set([]byte("b"), []byte("1"))
	})
	if err := db.View(t.Context(), func(r kv.Reader) error {
		if got := get(t, r, "a"); got != "1" {
			t.Errorf("a = %s", got)
		}
		set(t, db, "b", "2")
		set(t, db, "c", "2")
		update(t, db, func(tx kv.Tx) { tx.Delete([]byte("a")) })
		if got := get(t, r, "b"); got != "1" {
			t.Errorf("b changed to %s during a View", got)
		}
		want(t, "scan during a View", scan(t, r, kv.Range{}), "a=1", "b=1")
		for range r.Scan(kv.Range{}) { // and while a scan runs
			set(t, db, "aa", "3")
			want(t, "scan during a scan", scan(t, r, kv.Range{}), "a=1", "b=1")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want(t, "stored", stored(t, db), "aa=3", "b=2", "c=2")

	// An Update, too, sees one snapshot in each of its runs, even one that cannot commit.
	runs := 0
	update(t, db, func(tx kv.Tx) {
		runs++
		b := get(t, tx, "b")
		if runs == 1 {
			update2(t, db, func(tx kv.Tx) {
				tx.Set([]byte("b"), []byte("4"))
				tx.Set([]byte("c"), []byte("4"))
			})
		}
		if c := get(t, tx, "c"); c != b {
			t.Errorf("run %d: b=%s and c=%s are from two states", runs, b, c)
		}
		tx.Set([]byte("d"), []byte(b))
	})
	if runs != 2 {
		t.Errorf("%d runs, want 2", runs)
	}
}

// update2 is update in another goroutine, for use inside the function of an Update.
func update2(t testing.TB, db kv.DB, fn func(kv.Tx)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := db.Update(t.Context(), func(tx kv.Tx) error { fn(tx); return nil }); err != nil {
			t.Errorf("Update: %v", err)
		}
	}()
	<-done
}

func testNoDirtyRead(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		tx.Set([]byte("a"), []byte("1"))
		want(t, "a View during an Update", stored(t, db))
		update2(t, db, func(other kv.Tx) {
			if got := get(t, other, "a"); got != "-" {
				t.Errorf("an Update reads what another has not committed: %s", got)
			}
		})
	})
	want(t, "stored", stored(t, db), "a=1")
}

// testConflicts checks each way to read a key and each way to change it under the reader.
func testConflicts(t *testing.T, db kv.DB) {
	reads := map[string]func(kv.Tx, string){
		"Get": func(tx kv.Tx, key string) { get(t, tx, key) },
		"Scan": func(tx kv.Tx, key string) {
			scan(t, tx, kv.Range{Start: []byte(key), End: append([]byte(key), 0)})
		},
		"reverse Scan": func(tx kv.Tx, key string) {
			scan(t, tx, kv.Range{Start: []byte(key), End: append([]byte(key), 0), Reverse: true})
		},
		"Get, then Delete": func(tx kv.Tx, key string) { get(t, tx, key); tx.Delete([]byte(key)) },
	}
	changes := map[string]func(kv.Tx, string){
		"Set":         func(tx kv.Tx, key string) { tx.Set([]byte(key), []byte("2")) },
		"Set as was":  func(tx kv.Tx, key string) { tx.Set([]byte(key), []byte("1")) },
		"Delete":      func(tx kv.Tx, key string) { tx.Delete([]byte(key)) },
		"Get and Set": func(tx kv.Tx, key string) { get(t, tx, key); tx.Set([]byte(key), []byte("2")) },
	}
	for read, doRead := range reads {
		for change, doChange := range changes {
			set(t, db, "k", "1")
			runs := 0
			update(t, db, func(tx kv.Tx) {
				runs++
				doRead(tx, "k")
				if runs == 1 {
					update2(t, db, func(other kv.Tx) { doChange(other, "k") })
				}
				tx.Set([]byte("result"), nil)
			})
			if runs != 2 {
				t.Errorf("%s against %s: %d runs, want 2", read, change, runs)
			}
		}
	}
	// The absence of a key is read as well.
	update(t, db, func(tx kv.Tx) { tx.Delete([]byte("k")) })
	runs := 0
	update(t, db, func(tx kv.Tx) {
		runs++
		absent := get(t, tx, "k") == "-"
		if runs == 1 {
			set(t, db, "k", "theirs")
		}
		if absent {
			tx.Set([]byte("k"), []byte("mine"))
		}
	})
	if runs != 2 {
		t.Errorf("create against create: %d runs, want 2", runs)
	}
	_ = db.View(t.Context(), func(r kv.Reader) error {
		if got := get(t, r, "k"); got != "theirs" {
			t.Errorf("k = %s: a key was created twice", got)
		}
		return nil
	})
}

func testNoFalseConflicts(t *testing.T, db kv.DB) {
	set(t, db, "a", "1")
	once := func(name string, mine, theirs func(kv.Tx)) {
		runs := 0
		update(t, db, func(tx kv.Tx) {
			runs++
			mine(tx)
			update2(t, db, theirs)
		})
		if runs != 1 {
			t.Errorf("%s: %d runs, want 1", name, runs)
		}
	}
	setA := func(tx kv.Tx) { tx.Set([]byte("a"), []byte("2")) }
	once("two blind writes", setA, setA)
	once("a blind delete and a blind write", func(tx kv.Tx) { tx.Delete([]byte("a")) }, setA)
	once("an own write read back", func(tx kv.Tx) { setA(tx); get(t, tx, "a"); scan(t, tx, kv.Range{Start: []byte("a"), End: []byte("b")}) }, setA)
	once("other keys", func(tx kv.Tx) { get(t, tx, "x"); tx.Set([]byte("x"), nil) }, func(tx kv.Tx) { get(t, tx, "y"); tx.Set([]byte("y"), nil) })
	once("only reads", func(tx kv.Tx) { get(t, tx, "a") }, setA)
	once("two changes of a guard", func(tx kv.Tx) { kv.GuardFor("g").Change(tx) }, func(tx kv.Tx) { kv.GuardFor("g").Change(tx) })
}

// testWriteSkew has two transactions read both of two keys and each write one.
func testWriteSkew(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		tx.Set([]byte("on call/ann"), []byte("yes"))
		tx.Set([]byte("on call/bob"), []byte("yes"))
	})
	leave := func(tx kv.Tx, who, other string) {
		if get(t, tx, "on call/"+who) == "yes" && get(t, tx, "on call/"+other) == "yes" {
			tx.Set([]byte("on call/"+who), []byte("no"))
		}
	}
	runs := 0
	update(t, db, func(tx kv.Tx) {
		runs++
		leave(tx, "ann", "bob")
		if runs == 1 {
			update2(t, db, func(tx kv.Tx) { leave(tx, "bob", "ann") })
		}
	})
	want(t, "stored", stored(t, db), "on call/ann=yes", "on call/bob=no")

	// And at random: of the pairs, never both.
	const pairs, workers, rounds = 4, 4, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				pair, side := (i+w)%pairs, w%2
				err := db.Update(t.Context(), func(tx kv.Tx) error {
					mine, other := kv.Key("pair", pair, side), kv.Key("pair", pair, 1-side)
					_, have, err := tx.Get(mine)
					if err != nil {
						return err
					}
					if have {
						tx.Delete(mine)
						return nil
					}
					_, taken, err := tx.Get(other)
					if err == nil && !taken {
						tx.Set(mine, nil)
					}
					return err
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	check := func() {
		_ = db.View(context.WithoutCancel(t.Context()), func(r kv.Reader) error {
			seen := map[int]bool{}
			for e, err := range r.Scan(kv.Prefix("pair")) {
				var pair int
				if err != nil || kv.Decode(e.Key, nil, &pair, nil) != nil || seen[pair] {
					t.Errorf("pair %d holds both (%v)", pair, err)
				}
				seen[pair] = true
			}
			return nil
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		check()
		select {
		case <-done:
			check()
			return
		default:
		}
	}
}

// testPhantom has a transaction count a range, while another adds to it.
func testPhantom(t *testing.T, db kv.DB) {
	guard := kv.GuardFor("job")
	add := func(tx kv.Tx, id string) error {
		if err := guard.Depend(tx); err != nil {
			return err
		}
		if n := len(scan(t, tx, kv.Prefix("job"))); n >= 1 {
			return nil // full
		}
		tx.Set(kv.Key("job", id), nil)
		guard.Change(tx)
		return nil
	}
	runs := 0
	if err := db.Update(t.Context(), func(tx kv.Tx) error {
		runs++
		err := add(tx, "mine")
		if runs == 1 {
			update2(t, db, func(tx kv.Tx) {
				if err := add(tx, "theirs"); err != nil {
					t.Error(err)
				}
			})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if runs != 2 {
		t.Errorf("%d runs, want 2", runs)
	}
	_ = db.View(t.Context(), func(r kv.Reader) error {
		want(t, "jobs", scan(t, r, kv.Prefix("job")), string(kv.Key("job", "theirs"))+"=")
		return nil
	})
}

// testGuardedInserts has many transactions insert under a limit that they count.
func testGuardedInserts(t *testing.T, db kv.DB) {
	const limit, workers, tries = 10, 8, 5
	guard := kv.GuardFor("slot")
	var added atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range tries {
				inserted := false
				err := db.Update(t.Context(), func(tx kv.Tx) error {
					inserted = false
					if err := guard.Depend(tx); err != nil {
						return err
					}
					n := 0
					for _, err := range tx.Scan(kv.Prefix("slot")) {
						if err != nil {
							return err
						}
						n++
					}
					if n < limit {
						tx.Set(kv.Key("slot", w, i), nil)
						guard.Change(tx)
						inserted = true
					}
					return nil
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
				if inserted {
					added.Add(1)
				}
			}
		})
	}
	wg.Wait()
	_ = db.View(t.Context(), func(r kv.Reader) error {
		if n := len(scan(t, r, kv.Prefix("slot"))); n != limit || added.Load() != limit {
			t.Errorf("%d entries and %d successes, want %d", n, added.Load(), limit)
		}
		return nil
	})
}

// testNoStarvation has one transaction read all that fast writers change all the time,
// and take so long that it loses whenever it can.
func testNoStarvation(t *testing.T, db kv.DB) {
	const keys = 20
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var wg sync.WaitGroup
	var commits atomic.Int64
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if db.Update(ctx, func(tx kv.Tx) error {
					tx.Set(kv.Key("busy", (i+w)%keys), fmt.Append(nil, i))
					return nil
				}) == nil {
					commits.Add(1)
				}
			}
		})
	}
	for range 3 {
		if err := db.Update(ctx, func(tx kv.Tx) error {
			for i := range keys {
				get(t, tx, string(kv.Key("busy", i)))
			}
			// Until others commit, or, when the driver holds them up, for a while.
			for n, start := commits.Load(), time.Now(); commits.Load() < n+5 && time.Since(start) < 100*time.Millisecond; {
				runtime.Gosched()
			}
			tx.Set([]byte("sum"), nil)
			return nil
		}); err != nil {
			t.Errorf("a transaction starved: %v", err)
		}
	}
	stop()
	wg.Wait()
}
