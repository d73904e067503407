// Package kvtest is the suite that every driver of kv passes.
//
// A driver's test calls [Run] with a function that opens an empty store:
//
//	func TestDriver(t *testing.T) {
//		kvtest.Run(t, func(t *testing.T) kv.DB { ... })
//	}
package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Run tests a driver. open returns an empty store of its own for each call; Run closes
// it.
func Run(t *testing.T, open func(t *testing.T) kv.DB) {
	tests := []struct {
		name string
		test func(*testing.T, kv.DB)
	}{
		{"Points", testPoints},
		{"Ownership", testOwnership},
		{"Ranges", testRanges},
		{"Page", testPage},
		{"OwnWrites", testOwnWrites},
		{"Abort", testAbort},
		{"Discard", testDiscard},
		{"OnEnd", testOnEnd},
		{"Panic", testPanic},
		{"Limits", testLimits},
		{"Large", testLarge},
		{"Done", testDone},
		{"Cancel", testCancel},
		{"Records", testRecords},

		{"Snapshot", testSnapshot},
		{"NoDirtyRead", testNoDirtyRead},
		{"Conflicts", testConflicts},
		{"NoFalseConflicts", testNoFalseConflicts},
		{"WriteSkew", testWriteSkew},
		{"Phantom", testPhantom},
		{"GuardedInserts", testGuardedInserts},
		{"NoStarvation", testNoStarvation},

		{"Model", testModel},
		{"Counters", testCounters},
		{"Transfers", testTransfers},
		{"History", testHistory},

		{"WatchFirst", testWatchFirst},
		{"WatchPrefix", testWatchPrefix},
		{"WatchEnds", testWatchEnds},
		{"WatchMissesNothing", testWatchMissesNothing},
		{"WatchHoldsUpNoWriter", testWatchHoldsUpNoWriter},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			db := open(t)
			tt.test(t, db)
			if err := db.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	t.Run("Close", func(t *testing.T) { testClose(t, open(t)) })
}

// update runs fn in an Update that must succeed.
func update(t testing.TB, db kv.DB, fn func(kv.Tx)) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx kv.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

// set writes one key, and in another goroutine, so that it may be used inside the
// function of an Update.
func set(t testing.TB, db kv.DB, key, value string) {
	t.Helper()
	done := make(chan error)
	go func() {
		done <- db.Update(t.Context(), func(tx kv.Tx) error { tx.Set([]byte(key), []byte(value)); return nil })
	}()
	if err := <-done; err != nil {
		t.Errorf("Update: %v", err)
	}
}

// get reads one key, "-" if it is absent.
func get(t testing.TB, r kv.Reader, key string) string {
	t.Helper()
	v, ok, err := r.Get([]byte(key))
	if err != nil {
		t.Errorf("Get(%q): %v", key, err)
	}
	if !ok {
		if v != nil {
			t.Errorf("Get(%q) returned a value for an absent key", key)
		}
		return "-"
	}
	return string(v)
}

// scan returns the entries of a range as key=value.
func scan(t testing.TB, r kv.Reader, rg kv.Range) []string {
	t.Helper()
	got := []string{}
	for e, err := range r.Scan(rg) {
		if err != nil {
			t.Errorf("Scan: %v", err)
			break
		}
		got = append(got, fmt.Sprintf("%s=%s", e.Key, e.Value))
	}
	return got
}

// stored returns what is in the store now.
func stored(t testing.TB, db kv.DB) (got []string) {
	t.Helper()
	if err := db.View(context.WithoutCancel(t.Context()), func(r kv.Reader) error { got = scan(t, r, kv.Range{}); return nil }); err != nil {
		t.Errorf("View: %v", err)
	}
	return got
}

func want(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func testPoints(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		tx.Set([]byte("a"), []byte("1"))
		tx.Set([]byte("empty"), nil)
		tx.Set([]byte{0}, []byte{0, 0xFF})
		tx.Set([]byte{0xFE, 0xFF, 0xFF}, []byte("last"))
		tx.Delete([]byte("never was"))
	})
	update(t, db, func(tx kv.Tx) {
		for key, want := range map[string]string{"a": "1", "empty": "", "\x00": "\x00\xff", "\xfe\xff\xff": "last", "b": "-", "never was": "-"} {
			if got := get(t, tx, key); got != want {
				t.Errorf("Get(%q) = %q, want %q", key, got, want)
			}
		}
	})
	update(t, db, func(tx kv.Tx) {
		tx.Set([]byte("a"), []byte("2"))
		tx.Delete([]byte("empty"))
		tx.Delete([]byte{0})
	})
	want(t, "stored", stored(t, db), "a=2", "\xfe\xff\xff=last")
}

func testOwnership(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		key, value := []byte("key"), []byte("value")
		tx.Set(key, value)
		key[0], value[0] = 'X', 'X'
		if got := get(t, tx, "key"); got != "value" {
			t.Errorf("the transaction keeps the caller's slices: %q", got)
		}
		v, _, _ := tx.Get([]byte("key"))
		v[0] = 'Y'
		for e := range tx.Scan(kv.Range{}) {
			e.Key[0], e.Value[0] = 'Z', 'Z'
			_ = append(e.Key, "overrun"...)
			if string(e.Value) != "Zalue" {
				t.Errorf("appending to a key changed the value to %q", e.Value)
			}
		}
		if got := get(t, tx, "key"); got != "value" {
			t.Errorf("the caller can change the transaction's slices: %q", got)
		}
	})
	var kept [][]byte
	_ = db.View(t.Context(), func(r kv.Reader) error {
		v, _, _ := r.Get([]byte("key"))
		kept = append(kept, v)
		for e := range r.Scan(kv.Range{}) {
			kept = append(kept, e.Value)
		}
		return nil
	})
	for i := range 100 {
		set(t, db, "key", fmt.Sprint(i))
	}
	for _, v := range kept {
		if string(v) != "value" {
			t.Errorf("a value that was kept became %q", v)
		}
	}
}

func testRanges(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		for _, k := range []string{"a", "b", "ba", "bb", "c", "\xfe"} {
			tx.Set([]byte(k), []byte("1"))
		}
	})
	all := []string{"a=1", "b=1", "ba=1", "bb=1", "c=1", "\xfe=1"}
	rg := func(start, end string) kv.Range { return kv.Range{Start: []byte(start), End: []byte(end)} }
	for _, tt := range []struct {
		name string
		rg   kv.Range
		want []string
	}{
		{"everything", kv.Range{}, all},
		{"half open", rg("b", "c"), all[1:4]},
		{"from", rg("bb", ""), all[3:]},
		{"to", rg("", "b"), all[:1]},
		{"between keys", rg("aa", "b0"), all[1:2]},
		{"one", rg("b", "b\x00"), all[1:2]},
		{"none", rg("b", "b"), nil},
		{"upside down", rg("c", "a"), nil},
		{"past the last", rg("\xff", ""), nil},
		{"to the driver's keys", rg("c", "\xff\xff"), all[4:]},
		{"prefix", kv.RawPrefix([]byte("b")), all[1:4]},
		{"after", rg("a", "c").After([]byte("b")), all[2:4]},
		{"after, before the start", rg("b", "c").After([]byte("a")), all[1:4]},
	} {
		check := func(r kv.Reader, how string) {
			want(t, how+" "+tt.name, scan(t, r, tt.rg), tt.want...)
			backward := slices.Clone(tt.want)
			slices.Reverse(backward)
			want(t, how+" "+tt.name+" backward", scan(t, r, tt.rg.Backward()), backward...)
		}
		_ = db.View(t.Context(), func(r kv.Reader) error { check(r, "View"); return nil })
		update(t, db, func(tx kv.Tx) { check(tx, "Update") })
	}
	_ = db.View(t.Context(), func(r kv.Reader) error {
		var got []string
		for e := range r.Scan(kv.Range{}) { // a scan within a scan, each left early
			for inner := range r.Scan(rg(string(e.Key), "").Backward()) {
				got = append(got, string(e.Key)+string(inner.Key))
				break
			}
			if len(got) == 2 {
				break
			}
		}
		want(t, "nested scans", got, "a\xfe", "b\xfe")
		return nil
	})
}

func testPage(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		for i := range 7 {
			tx.Set(kv.Key("fn", i), []byte(fmt.Sprint(i)))
		}
		tx.Set(kv.Key("fn"), nil)
		tx.Set(kv.Key("fo", 1), nil)
	})
	for _, rg := range []kv.Range{kv.Prefix("fn"), kv.Prefix("fn").Backward()} {
		for limit := 1; limit <= 8; limit++ {
			var got []string
			marker, pages := "", 0
			for {
				err := db.View(t.Context(), func(r kv.Reader) error {
					entries, next, err := kv.Page(r, rg, marker, limit)
					for _, e := range entries {
						got = append(got, string(e.Value))
					}
					marker = next
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				if pages++; marker == "" {
					break
				}
			}
			expect := []string{"0", "1", "2", "3", "4", "5", "6"}
			if rg.Reverse {
				slices.Reverse(expect)
			}
			want(t, "pages", got, expect...)
			if pages != (7+limit-1)/limit {
				t.Errorf("limit %d: %d pages", limit, pages)
			}
		}
	}
}

func testOwnWrites(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		for _, k := range []string{"a", "c", "e", "g"} {
			tx.Set([]byte(k), []byte("old"))
		}
	})
	update(t, db, func(tx kv.Tx) {
		tx.Set([]byte("b"), []byte("new"))
		tx.Set([]byte("c"), []byte("new"))
		tx.Delete([]byte("e"))
		tx.Set([]byte("g"), []byte("x"))
		tx.Delete([]byte("g"))
		tx.Delete([]byte("h"))
		tx.Set([]byte("h"), []byte("new"))
		now := []string{"a=old", "b=new", "c=new", "h=new"}
		want(t, "own writes", scan(t, tx, kv.Range{}), now...)
		slices.Reverse(now)
		want(t, "own writes backward", scan(t, tx, kv.Range{Reverse: true}), now...)
		want(t, "own writes in bounds", scan(t, tx, kv.Range{Start: []byte("b"), End: []byte("h")}), "b=new", "c=new")
		for key, want := range map[string]string{"b": "new", "c": "new", "e": "-", "g": "-", "h": "new"} {
			if got := get(t, tx, key); got != want {
				t.Errorf("Get(%q) = %q, want %q", key, got, want)
			}
		}
		// A loop does not see what its own body writes.
		var seen []string
		for e, err := range tx.Scan(kv.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, string(e.Key)+"="+string(e.Value))
			tx.Delete(e.Key)
			tx.Set(append([]byte("z"), e.Key...), e.Value)
			tx.Set([]byte("c"), []byte("newer"))
		}
		want(t, "a loop that writes", seen, "a=old", "b=new", "c=new", "h=new")
		want(t, "after the loop", scan(t, tx, kv.Range{}), "c=newer", "za=old", "zb=new", "zc=new", "zh=new")
	})
	want(t, "stored", stored(t, db), "c=newer", "za=old", "zb=new", "zc=new", "zh=new")
}

func testAbort(t *testing.T, db kv.DB) {
	set(t, db, "a", "1")
	abort := errors.New("abort")
	err := db.Update(t.Context(), func(tx kv.Tx) error {
		tx.Set([]byte("a"), []byte("2"))
		tx.Set([]byte("b"), []byte("2"))
		return abort
	})
	if err != abort {
		t.Errorf("Update returned %v, not the error as it is", err)
	}
	if err := db.View(t.Context(), func(kv.Reader) error { return abort }); err != abort {
		t.Errorf("View returned %v, not the error as it is", err)
	}
	want(t, "stored", stored(t, db), "a=1")
}

func testDiscard(t *testing.T, db kv.DB) {
	for _, k := range []string{"a", "b", "ba", "bb", "c"} {
		set(t, db, k, "1")
	}
	update(t, db, func(tx kv.Tx) {
		tx.Discard(kv.Range{Start: []byte("x"), End: []byte("b")}) // nothing
		tx.Discard(kv.RawPrefix([]byte("b")))
		tx.Set([]byte("d"), []byte("1"))
	})
	want(t, "stored", stored(t, db), "a=1", "c=1", "d=1")
	abort := errors.New("abort")
	if err := db.Update(t.Context(), func(tx kv.Tx) error { tx.Discard(kv.Range{}); return abort }); err != abort {
		t.Errorf("Update: %v", err)
	}
	want(t, "stored after an abort", stored(t, db), "a=1", "c=1", "d=1")
	update(t, db, func(tx kv.Tx) { tx.Discard(kv.Range{}) })
	want(t, "stored in the end", stored(t, db))
	set(t, db, "b", "2")
	want(t, "stored anew", stored(t, db), "b=2")
}

func testOnEnd(t *testing.T, db kv.DB) {
	var ends []string
	on := func(tx kv.Tx, name string) {
		tx.OnEnd(func(committed bool) { ends = append(ends, fmt.Sprint(name, " ", committed)) })
	}
	check := func(what, wanted string) {
		t.Helper()
		want(t, what, ends, strings.Split(wanted, ", ")...)
		ends = nil
	}
	update(t, db, func(tx kv.Tx) {
		on(tx, "a")
		tx.Set([]byte("a"), []byte("1"))
		tx.OnEnd(func(bool) { want(t, "seen at the end", stored(t, db), "a=1") })
		on(tx, "b")
	})
	check("committed", "a true, b true")
	update(t, db, func(tx kv.Tx) { on(tx, "r") })
	check("nothing written", "r true")
	_ = db.Update(t.Context(), func(tx kv.Tx) error { on(tx, "a"); tx.Set([]byte("a"), nil); return errors.New("abort") })
	check("aborted", "a false")
	_ = db.Update(t.Context(), func(tx kv.Tx) error { on(tx, "a"); tx.Set(nil, nil); return nil })
	check("a key that is not valid", "a false")
	func() {
		defer func() { _ = recover() }()
		_ = db.Update(t.Context(), func(tx kv.Tx) error { on(tx, "a"); panic("boom") })
	}()
	check("panicked", "a false")
	for _, losses := range []int{1, 7} { // an Update that loses often may take another way
		runs := 0
		update(t, db, func(tx kv.Tx) {
			runs++
			on(tx, fmt.Sprint(runs))
			get(t, tx, "a")
			if runs <= losses {
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = db.Update(t.Context(), func(tx kv.Tx) error { tx.Set([]byte("a"), []byte("2")); return nil })
				}()
				if runs == 1 {
					<-done
				}
				select {
				case <-done:
				case <-time.After(50 * time.Millisecond): // it may have to wait for this one, which so cannot lose
				}
			}
			tx.Set([]byte("b"), []byte("2"))
		})
		wanted := ""
		for i := 1; i < runs; i++ {
			wanted += fmt.Sprint(i, " false, ")
		}
		check("conflicts", wanted+fmt.Sprint(runs, " true"))
		if runs < 2 {
			t.Error("nothing was in conflict")
		}
	}
}

func testPanic(t *testing.T, db kv.DB) {
	for name, call := range map[string]func(){
		"Update": func() {
			_ = db.Update(t.Context(), func(tx kv.Tx) error { tx.Set([]byte("a"), nil); panic("boom") })
		},
		"View": func() { _ = db.View(t.Context(), func(kv.Reader) error { panic("boom") }) },
	} {
		func() {
			defer func() {
				if recover() != "boom" {
					t.Errorf("%s swallowed a panic", name)
				}
			}()
			call()
		}()
	}
	set(t, db, "b", "1")
	want(t, "stored", stored(t, db), "b=1")
}

func testLimits(t *testing.T, db kv.DB) {
	long := make([]byte, kv.MaxKeyBytes+1)
	for _, key := range [][]byte{nil, {}, {0xFF}, {0xFF, 'a'}, long} {
		for name, fn := range map[string]func(kv.Tx) error{
			"Set":    func(tx kv.Tx) error { tx.Set(key, []byte("v")); return nil },
			"Delete": func(tx kv.Tx) error { tx.Delete(key); return nil },
			"Get":    func(tx kv.Tx) error { _, _, err := tx.Get(key); return err },
		} {
			err := db.Update(t.Context(), func(tx kv.Tx) error {
				tx.Set([]byte("beside"), nil)
				return fn(tx)
			})
			if !errors.Is(err, kv.ErrKey) {
				t.Errorf("%s of a key of %d bytes: %v", name, len(key), err)
			}
		}
	}
	if err := db.Update(t.Context(), func(tx kv.Tx) error {
		tx.Set([]byte("a"), make([]byte, kv.MaxValueBytes+1))
		return nil
	}); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("a value that is too large: %v", err)
	}
	if err := db.Update(t.Context(), func(tx kv.Tx) error {
		value := make([]byte, kv.MaxValueBytes)
		for i := range kv.MaxTxBytes/kv.MaxValueBytes + 1 {
			tx.Set(kv.Key(i), value)
		}
		return nil
	}); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("a transaction that is too large: %v", err)
	}
	want(t, "stored", stored(t, db))
	set(t, db, string(long[:kv.MaxKeyBytes]), "fits")
	want(t, "stored", stored(t, db), string(long[:kv.MaxKeyBytes])+"=fits")
}

func testLarge(t *testing.T, db kv.DB) {
	pattern := func(i, size int) []byte {
		return bytes.Repeat(fmt.Appendf(nil, "%d.", i), size)[:size]
	}
	sizes := []int{0, 1, 4 << 10, 1 << 20, kv.MaxValueBytes}
	for i, size := range sizes {
		update(t, db, func(tx kv.Tx) { tx.Set(kv.Key("large", i), pattern(i, size)) })
	}
	update(t, db, func(tx kv.Tx) { // and many keys at once
		for i := range 2_000 {
			tx.Set(kv.Key("many", i), pattern(i, 100))
		}
	})
	_ = db.View(t.Context(), func(r kv.Reader) error {
		for i, size := range sizes {
			v, _, err := r.Get(kv.Key("large", i))
			if err != nil || !bytes.Equal(v, pattern(i, size)) {
				t.Errorf("value of %d bytes came back with %d, %v", size, len(v), err)
			}
		}
		n := 0
		for e, err := range r.Scan(kv.Prefix("many")) {
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(e.Value, pattern(n, 100)) {
				t.Fatalf("entry %d is not what was written", n)
			}
			n++
		}
		if n != 2_000 {
			t.Errorf("%d entries", n)
		}
		return nil
	})
}

func testDone(t *testing.T, db kv.DB) {
	set(t, db, "a", "1")
	var r kv.Reader
	var tx kv.Tx
	_ = db.View(t.Context(), func(v kv.Reader) error { r = v; return nil })
	update(t, db, func(v kv.Tx) { tx = v })
	for name, r := range map[string]kv.Reader{"Reader": r, "Tx": tx} {
		if _, _, err := r.Get([]byte("a")); !errors.Is(err, kv.ErrDone) {
			t.Errorf("Get on a %s that is over: %v", name, err)
		}
		n := 0
		for _, err := range r.Scan(kv.Range{}) {
			if n++; !errors.Is(err, kv.ErrDone) {
				t.Errorf("Scan on a %s that is over: %v", name, err)
			}
		}
		if n != 1 {
			t.Errorf("Scan on a %s that is over yielded %d times", name, n)
		}
	}
}

func testCancel(t *testing.T, db kv.DB) {
	update(t, db, func(tx kv.Tx) {
		for i := range 2000 {
			tx.Set(kv.Key(i), nil)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	if err := db.Update(ctx, func(tx kv.Tx) error {
		tx.Set([]byte("z"), nil)
		cancel()
		return nil
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("an Update whose context ended before the commit: %v", err)
	}
	ran := false
	if err := db.Update(ctx, func(kv.Tx) error { ran = true; return nil }); !errors.Is(err, context.Canceled) || ran {
		t.Errorf("an Update whose context had ended: %v, ran %v", err, ran)
	}
	if err := db.View(ctx, func(kv.Reader) error { ran = true; return nil }); !errors.Is(err, context.Canceled) || ran {
		t.Errorf("a View whose context had ended: %v, ran %v", err, ran)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	if err := db.View(ctx, func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			cancel()
		}
		return nil
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("a long Scan whose context ended: %v", err)
	}
	_ = db.View(t.Context(), func(r kv.Reader) error {
		if got := get(t, r, "z"); got != "-" {
			t.Error("a canceled Update was committed")
		}
		return nil
	})
}

func testRecords(t *testing.T, db kv.DB) {
	type record struct{ Name string }
	if err := db.Update(t.Context(), func(tx kv.Tx) error {
		if _, ok, err := kv.GetJSON[record](tx, kv.Key("r", "a")); ok || err != nil {
			t.Errorf("an absent record: %v, %v", ok, err)
		}
		return errors.Join(kv.SetJSON(tx, kv.Key("r", "a"), record{"A"}), kv.SetJSON(tx, kv.Key("r", "b"), record{"B"}))
	}); err != nil {
		t.Fatal(err)
	}
	err := db.View(t.Context(), func(r kv.Reader) error {
		var got []string
		for rec, err := range kv.ScanJSON[record](r, kv.Prefix("r")) {
			if err != nil {
				return err
			}
			got = append(got, kv.Format(rec.Key)+rec.Value.Name)
		}
		want(t, "records", got, `"r"/"a"A`, `"r"/"b"B`)
		rec, ok, err := kv.GetJSON[record](r, kv.Key("r", "b"))
		if rec.Name != "B" || !ok {
			t.Errorf("GetJSON = %v, %v", rec, ok)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	set(t, db, string(kv.Key("r", "c")), "not JSON")
	_ = db.View(t.Context(), func(r kv.Reader) error {
		if _, _, err := kv.GetJSON[record](r, kv.Key("r", "c")); err == nil {
			t.Error("GetJSON read what is not JSON")
		}
		var last error
		for _, last = range kv.ScanJSON[record](r, kv.Prefix("r")) {
		}
		if last == nil {
			t.Error("ScanJSON read what is not JSON")
		}
		return nil
	})
}

func testClose(t *testing.T, db kv.DB) {
	set(t, db, "a", "1")
	started, finish := make(chan struct{}), make(chan struct{})
	results := make(chan error, 2)
	go func() {
		results <- db.View(t.Context(), func(r kv.Reader) error {
			started <- struct{}{}
			<-finish
			if got := get(t, r, "a"); got != "1" {
				t.Errorf("a View during Close reads %q", got)
			}
			return nil
		})
	}()
	go func() {
		results <- db.Update(t.Context(), func(tx kv.Tx) error {
			started <- struct{}{}
			<-finish
			tx.Set([]byte("b"), nil)
			return nil
		})
	}()
	<-started
	<-started
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	for { // until Close has begun
		err := db.View(t.Context(), func(kv.Reader) error { return nil })
		if errors.Is(err, kv.ErrClosed) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-closed:
		t.Errorf("Close did not wait: %v", err)
	default:
	}
	close(finish)
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("a call that Close waits for: %v", err)
		}
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := db.Update(t.Context(), func(kv.Tx) error { return nil }); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Update after Close: %v", err)
	}
	for range db.Watch(t.Context(), nil) {
		t.Error("Watch after Close yielded")
	}
	if err := db.Close(); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}
