package queue

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

func benchBody() []byte {
	body := make([]byte, 1<<10)
	for i := range body {
		body[i] = byte(i * i >> 3)
	}
	return body
}

// BenchmarkQueue compares the operations of a queue with commits of one row of 1 KiB to the same store.
func BenchmarkQueue(b *testing.B) {
	ctx := context.Background()
	body := benchBody()
	for _, clients := range []int{1, 16, 128} {
		start := func(b *testing.B) (kv.DB, *Queue) {
			db, err := pebblekv.Open(pebblekv.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { db.Close() })
			return db, New(db, "bench", Options{}).Queue("q", Standard)
		}
		add := func(db kv.DB, q *Queue, n int) error {
			return db.Update(ctx, func(tx kv.Tx) error {
				for range n {
					if _, err := q.Add(tx, Message{Body: body}); err != nil {
						return err
					}
				}
				return nil
			})
		}
		run := func(name string, fn func(b *testing.B)) { b.Run(fmt.Sprintf("%s/clients=%d", name, clients), fn) }
		run("row", func(b *testing.B) {
			db, _ := start(b)
			spread(b, clients, func(w, i int) error {
				return db.Update(ctx, func(tx kv.Tx) error { tx.Set(kv.Key("bench", w, i), body); return nil })
			})
		})
		run("add", func(b *testing.B) {
			db, q := start(b)
			spread(b, clients, func(w, i int) error { return add(db, q, 1) })
		})
		run("take", func(b *testing.B) {
			db, q := start(b)
			for n := 0; n < b.N; n += 1000 {
				if err := add(db, q, 1000); err != nil {
					b.Fatal(err)
				}
			}
			spread(b, clients, func(w, i int) error {
				_, err := q.Take(ctx, Take{Max: 1, Visibility: time.Hour})
				return err
			})
		})
		run("cycle", func(b *testing.B) {
			db, q := start(b)
			spread(b, clients, func(w, i int) error {
				if err := add(db, q, 1); err != nil {
					return err
				}
				ds, err := q.Take(ctx, Take{Max: 1, Visibility: time.Hour, Wait: time.Minute})
				if err != nil || len(ds) == 0 {
					return fmt.Errorf("%d messages, %v", len(ds), err)
				}
				_, err = q.Delete(ctx, ds[0].Lease())
				return err
			})
		})
	}
}

// BenchmarkBacklog is the whole cycle on a queue in which many messages wait.
func BenchmarkBacklog(b *testing.B) {
	ctx := context.Background()
	for _, backlog := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint("messages=", backlog), func(b *testing.B) {
			db, err := pebblekv.Open(pebblekv.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			q := New(db, "bench", Options{}).Queue("q", Standard)
			add := func(n int) error {
				return db.Update(ctx, func(tx kv.Tx) error {
					for range n {
						if _, err := q.Add(tx, Message{Body: []byte("body")}); err != nil {
							return err
						}
					}
					return nil
				})
			}
			for range backlog / 1000 {
				if err := add(1000); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := q.Counts(ctx, 0); err != nil { // reads all headers once
				b.Fatal(err)
			}
			spread(b, 16, func(w, i int) error {
				if err := add(1); err != nil {
					return err
				}
				ds, err := q.Take(ctx, Take{Max: 1, Visibility: time.Hour})
				if err != nil || len(ds) == 0 {
					return fmt.Errorf("%d messages, %v", len(ds), err)
				}
				_, err = q.Delete(ctx, ds[0].Lease())
				return err
			})
		})
	}
}
