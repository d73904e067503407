package pebblekv_test

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// Rows that are read all the time are what they are in the reader's snapshot: two that each writer sets to the same are the same,
// at least what was acknowledged before, and stay so while it reads, whether they are written, deleted or discarded.
func TestHotRows(t *testing.T) {
	db := open(t, pebblekv.Options{InMemory: true})
	defer db.Close()
	left, right := kv.Key("hot", "left"), kv.Key("hot", "right")
	var acknowledged atomic.Int64
	var writer, readers sync.WaitGroup
	over := make(chan struct{})
	writer.Go(func() {
		defer close(over)
		for n := range int64(3000) {
			if err := db.Update(t.Context(), func(tx kv.Tx) error {
				value := []byte(strconv.FormatInt(n, 10))
				switch {
				case n%50 == 49:
					tx.Discard(kv.Prefix("hot"))
				case n%10 == 9:
					tx.Delete(left)
					tx.Delete(right)
				default:
					tx.Set(left, value)
					tx.Set(right, value)
				}
				return nil
			}); err != nil {
				t.Error(err)
				return
			}
			acknowledged.Store(n)
		}
	})
	read := func(r kv.Reader, since int64) error {
		first, there, err := r.Get(left)
		if err != nil {
			return err
		}
		if there {
			if n, err := strconv.ParseInt(string(first), 10, 64); err != nil || n < since {
				return fmt.Errorf("%q is there and %d was acknowledged (%v)", first, since, err)
			}
		}
		for range 5 {
			for _, key := range [][]byte{left, right} {
				value, ok, err := r.Get(key)
				if err != nil || ok != there || !bytes.Equal(value, first) {
					return fmt.Errorf("%s = %q, %t (%v), and it was %q, %t", kv.Format(key), value, ok, err, first, there)
				}
				for i := range value {
					value[i] = 'x' // it is the reader's
				}
			}
		}
		return nil
	}
	for range 4 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				since := acknowledged.Load()
				var err error
				if n%2 == 0 {
					err = db.View(t.Context(), func(r kv.Reader) error { return read(r, since) })
				} else {
					err = db.Update(t.Context(), func(tx kv.Tx) error { return read(tx, since) })
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writer.Wait()
	readers.Wait()
}
