package pebblekv_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/kvtest"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// TestReopen checks that what was acknowledged is there after a close.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	for i := range 3 {
		db, err := pebblekv.Open(pebblekv.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(ctx, func(tx kv.Tx) error {
			n, _, err := kv.GetJSON[int](tx, kv.Key("n"))
			if err != nil {
				return err
			}
			if n != i {
				t.Errorf("open %d: n = %d", i, n)
			}
			return kv.SetJSON(tx, kv.Key("n"), n+1)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
	}
}

func TestDriver(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		kvtest.Run(t, func(t *testing.T) kv.DB { return open(t, pebblekv.Options{InMemory: true}) })
	})
	t.Run("disk", func(t *testing.T) {
		kvtest.Run(t, func(t *testing.T) kv.DB { return open(t, pebblekv.Options{Dir: t.TempDir()}) })
	})
}

func open(t testing.TB, opts pebblekv.Options) *pebblekv.DB {
	t.Helper()
	db, err := pebblekv.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	db := open(t, pebblekv.Options{Dir: dir})
	_, err := pebblekv.Open(pebblekv.Options{Dir: dir})
	if !errors.Is(err, kv.ErrLocked) || !strings.Contains(err.Error(), "this process") {
		t.Errorf("a second open in this process: %v", err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestLockedChild$", "-test.v")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("in use by process %d\n", os.Getpid()); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("an open in another process: %v, %s", err, out)
	}
	if err := db.Update(t.Context(), func(tx kv.Tx) error { tx.Set([]byte("a"), nil); return nil }); err != nil {
		t.Errorf("after others tried: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, pebblekv.Options{Dir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLockedChild is the other process of TestLocked.
func TestLockedChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("runs only as the child of TestLocked")
	}
	_, err := pebblekv.Open(pebblekv.Options{Dir: dir})
	if !errors.Is(err, kv.ErrLocked) {
		t.Fatal(err)
	}
	fmt.Println(err)
}

func TestFormat(t *testing.T) {
	for name, change := range map[string]func(*pebble.DB) error{
		"a newer version":   func(db *pebble.DB) error { return db.Set([]byte("\xffformat"), []byte("2"), pebble.Sync) },
		"no version":        func(db *pebble.DB) error { return db.Delete([]byte("\xffformat"), pebble.Sync) },
		"the right version": func(db *pebble.DB) error { return nil },
	} {
		fs := vfs.NewMem()
		db := open(t, pebblekv.Options{Dir: "store", FS: fs})
		if err := db.Update(t.Context(), func(tx kv.Tx) error { tx.Set([]byte("a"), nil); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		raw, err := pebble.Open("store", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatValueSeparation, Logger: quiet{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(change(raw), raw.Close()); err != nil {
			t.Fatal(err)
		}
		db, err = pebblekv.Open(pebblekv.Options{Dir: "store", FS: fs})
		if name == "the right version" {
			if err != nil {
				t.Error(err)
			}
			db.Close()
		} else if !errors.Is(err, kv.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblekv.Open(pebblekv.Options{Dir: filepath.Join(file, "store")}); err == nil || errors.Is(err, kv.ErrLocked) {
		t.Errorf("a directory below a file: %v", err)
	}
	if _, err := pebblekv.Open(pebblekv.Options{}); err == nil {
		t.Error("no directory was taken")
	}
}

// TestDiscardKeepsFormat reopens a store of which everything was discarded.
func TestDiscardKeepsFormat(t *testing.T) {
	fs := vfs.NewMem()
	for range 2 {
		db := open(t, pebblekv.Options{Dir: "store", FS: fs})
		if err := errors.Join(db.Update(t.Context(), func(tx kv.Tx) error { tx.Discard(kv.Range{}); return nil }), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoGoroutineStays closes stores and counts what runs on.
func TestNoGoroutineStays(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	for range 3 {
		db := open(t, pebblekv.Options{Dir: t.TempDir()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range db.Watch(ctx, nil) {
			}
		}()
		if err := db.Update(t.Context(), func(tx kv.Tx) error { tx.Set([]byte("a"), nil); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		<-ended
		cancel()
	}
	goleak.VerifyNone(t, ignore)
}

// TestSynctest runs a store in memory on fake time, as tests of services do.
func TestSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, pebblekv.Options{InMemory: true})
		hints := 0
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for range db.Watch(ctx, []byte("a")) {
				hints++
			}
		}()
		synctest.Wait()
		start := time.Now()
		time.Sleep(time.Hour)
		if err := db.Update(t.Context(), func(tx kv.Tx) error { tx.Set([]byte("a"), nil); return nil }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if hints != 2 || time.Since(start) != time.Hour {
			t.Errorf("%d hints after %v", hints, time.Since(start))
		}
		cancel()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
