package pebblekv_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// spread runs b.N operations from n goroutines and reports them per second.
func spread(b *testing.B, n int, op func(worker, i int) error) {
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			for i := w; i < b.N; i += n {
				if err := op(w, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkCommit commits one new key of 1 KiB per transaction, each acknowledged after
// an fsync: raw to Pebble with the same options, and through kv.
func BenchmarkCommit(b *testing.B) {
	value := make([]byte, 1<<10)
	for i := range value {
		value[i] = byte(i * i >> 3)
	}
	key := func(w, i int) []byte { return kv.Key("bench", w, i) }
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("raw/writers=%d", writers), func(b *testing.B) {
			opts := &pebble.Options{FormatMajorVersion: pebble.FormatValueSeparation, CacheSize: 64 << 20, MemTableSize: 16 << 20, Logger: quiet{}}
			for i := range opts.Levels {
				opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
			}
			db, err := pebble.Open(b.TempDir(), opts)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			spread(b, writers, func(w, i int) error { return db.Set(key(w, i), value, pebble.Sync) })
		})
		b.Run(fmt.Sprintf("kv/writers=%d", writers), func(b *testing.B) {
			db := open(b, pebblekv.Options{Dir: b.TempDir()})
			defer db.Close()
			ctx := context.Background()
			spread(b, writers, func(w, i int) error {
				return db.Update(ctx, func(tx kv.Tx) error {
					tx.Set(key(w, i), value)
					return nil
				})
			})
		})
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

// BenchmarkReadModifyWrite is a typical service transaction: read three keys, write two.
func BenchmarkReadModifyWrite(b *testing.B) {
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db := open(b, pebblekv.Options{Dir: b.TempDir()})
			defer db.Close()
			ctx := context.Background()
			value := make([]byte, 200)
			spread(b, writers, func(w, i int) error {
				return db.Update(ctx, func(tx kv.Tx) error {
					for part := range 3 {
						if _, _, err := tx.Get(kv.Key("rmw", w, i%100, part)); err != nil {
							return err
						}
					}
					tx.Set(kv.Key("rmw", w, i%100, 0), value)
					tx.Set(kv.Key("rmw", w, i%100, 1), value)
					return nil
				})
			})
		})
	}
}

// BenchmarkHotKey increments one counter from all writers.
func BenchmarkHotKey(b *testing.B) {
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db := open(b, pebblekv.Options{Dir: b.TempDir()})
			defer db.Close()
			ctx := context.Background()
			spread(b, writers, func(int, int) error {
				return db.Update(ctx, func(tx kv.Tx) error {
					n, _, err := kv.GetJSON[int](tx, kv.Key("hot"))
					if err != nil {
						return err
					}
					return kv.SetJSON(tx, kv.Key("hot"), n+1)
				})
			})
		})
	}
}

func BenchmarkRead(b *testing.B) {
	db := open(b, pebblekv.Options{Dir: b.TempDir()})
	defer db.Close()
	ctx := context.Background()
	for i := range 100 {
		if err := db.Update(ctx, func(tx kv.Tx) error {
			for j := range 100 {
				tx.Set(kv.Key("read", i, j), make([]byte, 1<<10))
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			_ = db.View(ctx, func(r kv.Reader) error {
				_, _, err := r.Get(kv.Key("read", i%100, i/100%100))
				return err
			})
		}
	})
	b.Run("scan=100", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			_ = db.View(ctx, func(r kv.Reader) error {
				for range r.Scan(kv.Prefix("read", i%100)) {
				}
				return nil
			})
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	for name, opts := range map[string]pebblekv.Options{"disk": {Dir: b.TempDir()}, "memory": {InMemory: true}} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if err := open(b, opts).Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
