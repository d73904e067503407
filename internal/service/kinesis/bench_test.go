package kinesis_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/commitlog"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// spread runs b.N operations from n goroutines and reports what they come to in a second.
func spread(b *testing.B, n, records int, op func(worker, i int) error) {
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
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

func openRaw(b *testing.B) *pebble.DB {
	opts := &pebble.Options{FormatMajorVersion: pebble.FormatValueSeparation, CacheSize: 8 << 20, MemTableSize: 4 << 20, Logger: quiet{}}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(b.TempDir(), opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

// openStream is a stream of four shards on disk.
func openStream(b *testing.B) *world {
	db, err := pebblekv.Open(pebblekv.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	w := open(b, db, true)
	b.Cleanup(func() { w.stop(); db.Close() })
	w.create("s", 4)
	return w
}

// BenchmarkPut puts records of 1 KiB, one and 500 in a call, beside synced commits of as many rows of the same size to Pebble with the same
// options.
func BenchmarkPut(b *testing.B) {
	data := make([]byte, 1<<10)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	for _, records := range []int{1, 500} {
		for _, clients := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("raw/records=%d/clients=%d", records, clients), func(b *testing.B) {
				db := openRaw(b)
				spread(b, clients, records, func(w, i int) error {
					batch := db.NewBatchWithSize(records * (len(data) + 64))
					defer batch.Close()
					for n := range records {
						_ = batch.Set(kv.Key("bench", w, i, n), data, nil)
					}
					return batch.Commit(pebble.Sync)
				})
			})
			b.Run(fmt.Sprintf("kinesis/records=%d/clients=%d", records, clients), func(b *testing.B) {
				w := openStream(b)
				ins := make([]*kinesisapi.PutRecordsInput, clients)
				for c := range ins {
					ins[c] = &kinesisapi.PutRecordsInput{StreamName: new("s")}
					for n := range records {
						ins[c].Records = append(ins[c].Records, kinesisapi.PutRecordsRequestEntry{PartitionKey: new(strconv.Itoa(c*1000 + n)), Data: data})
					}
				}
				spread(b, clients, records, func(c, i int) error {
					out, err := kinesisapi.PutRecords.Call(w.ctx, w, ins[c])
					if err == nil && *out.FailedRecordCount > 0 {
						err = fmt.Errorf("%d records failed", *out.FailedRecordCount)
					}
					return err
				})
			})
		}
	}
}

// BenchmarkGet reads a shard of 100,000 records of 1 KiB from its beginning, in pages of 1,000, beside a scan of as many rows in Pebble.
func BenchmarkGet(b *testing.B) {
	const all, page = 100_000, 1000
	data := make([]byte, 1<<10)
	b.Run("raw", func(b *testing.B) {
		db := openRaw(b)
		for i := 0; i < all; i += page {
			batch := db.NewBatch()
			for n := range page {
				_ = batch.Set(kv.Key("bench", i+n), data, nil)
			}
			if err := batch.Commit(pebble.NoSync); err != nil {
				b.Fatal(err)
			}
		}
		b.ResetTimer()
		for i := range b.N {
			from := i * page % all
			it, err := db.NewIter(&pebble.IterOptions{LowerBound: kv.Key("bench", from), UpperBound: kv.Key("bench", from+page)})
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for ok := it.First(); ok; ok = it.Next() {
				v, err := it.ValueAndErr()
				if err != nil {
					b.Fatal(err)
				}
				_ = append([]byte(nil), v...)
				n++
			}
			if it.Close(); n != page {
				b.Fatal(n)
			}
		}
		b.ReportMetric(float64(b.N*page)/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("kinesis", func(b *testing.B) {
		w := openStream(b)
		for range all / 500 {
			in := kinesisapi.PutRecordsInput{StreamName: new("s")}
			for range 500 {
				in.Records = append(in.Records, kinesisapi.PutRecordsRequestEntry{PartitionKey: new("k"), ExplicitHashKey: new("0"), Data: data})
			}
			do(w, kinesisapi.PutRecords, in)
		}
		first := w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("TRIM_HORIZON")})
		it := first
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			g := do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it, Limit: new(int32(page))})
			if it = g.NextShardIterator; *g.MillisBehindLatest == 0 {
				it = first
			}
			if len(g.Records) != page {
				b.Fatal(len(g.Records))
			}
		}
		b.ReportMetric(float64(b.N*page)/b.Elapsed().Seconds(), "records/s")
	})
}

// BenchmarkWake measures from the return of a put to a reader that waited for it, and what a thousand readers that wait cost.
func BenchmarkWake(b *testing.B) {
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	logs := commitlog.New(db, "log")
	l := logs.Log("a")
	ctx, cancel := context.WithCancel(b.Context())
	var idle sync.WaitGroup
	for range 1000 {
		idle.Go(func() { _ = logs.Log("idle").Wait(ctx, 1) })
	}
	woken := make(chan time.Time)
	next := uint64(1)
	var late time.Duration
	b.ResetTimer()
	for range b.N {
		go func() { _ = l.Wait(ctx, next); woken <- time.Now() }()
		time.Sleep(50 * time.Microsecond)
		var first uint64
		if err := db.Update(ctx, func(tx kv.Tx) (err error) { first, err = l.Append(tx, []byte("x")); return err }); err != nil {
			b.Fatal(err)
		}
		put := time.Now()
		late += max(0, (<-woken).Sub(put))
		next = first + 1
	}
	b.ReportMetric(float64(late.Nanoseconds())/float64(b.N)/1000, "us-late")
	cancel()
	idle.Wait()
}
