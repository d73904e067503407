package pebblekv_test

import (
	"context"
	"errors"
	"testing"

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
