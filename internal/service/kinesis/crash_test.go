package kinesis_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv/kvtest"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// childDir names the directory of the store of the child of TestKill.
const childDir = "KINESIS_TEST_CHILD_DIR"

func openDir(t *testing.T, dir string) *pebblekv.DB {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{Dir: dir, MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// TestKill kills a process that puts records and scales its stream all the while, again and again on the same store. No acknowledged record is
// lost, those of a partition key keep their order, and the stream comes back to work by itself.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		putForever(t, dir)
	}
	dir := t.TempDir()
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	acknowledged := map[string]int{}
	numbers := map[string]string{} // of acknowledged records, by key and data
	for range rounds {
		kvtest.Kill(t, childDir+"="+dir, 1+rand.IntN(200), func(line string) {
			if f := strings.Fields(line); len(f) == 4 && f[3] == "." { // the last line may be torn
				n, err := strconv.Atoi(f[1])
				if err != nil {
					t.Fatal(err)
				}
				acknowledged[f[0]] = n + 1
				numbers[f[0]+" "+f[1]] = f[2]
			}
		})
	}
	db := openDir(t, dir)
	defer db.Close()
	w := open(t, db, true)
	defer w.stop()
	w.active("s")
	inOrder(t, w.lineage("s"), acknowledged)
	found := 0
	for _, x := range w.shards("s") {
		r, _ := w.read(*x.ShardId)
		for _, r := range r {
			if n, ok := numbers[*r.PartitionKey+" "+string(r.Data)]; ok {
				found++
				want(t, "sequence number", *r.SequenceNumber, n)
			}
		}
	}
	want(t, "acknowledged records found", found, len(numbers))
	t.Logf("%d records were acknowledged, %d shards", len(numbers), len(w.shards("s")))
}

func putForever(t *testing.T, dir string) {
	db := openDir(t, dir)
	w := open(t, db, true)
	if len(do(w, kinesisapi.ListStreams, kinesisapi.ListStreamsInput{}).StreamNames) == 0 {
		do(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: new("s"), ShardCount: new(int32(2))})
	}
	w.active("s")
	var wg sync.WaitGroup
	var out sync.Mutex
	for n := range 4 {
		key := fmt.Sprint(os.Getpid(), "-", n)
		wg.Go(func() {
			for i := 0; ; i++ {
				r, err := kinesisapi.PutRecord.Call(w.ctx, w, &kinesisapi.PutRecordInput{StreamName: new("s"), PartitionKey: &key, Data: []byte(strconv.Itoa(i))})
				if err != nil {
					return
				}
				out.Lock()
				fmt.Println(key, i, *r.SequenceNumber, ".")
				out.Unlock()
			}
		})
	}
	wg.Go(func() {
		for {
			for _, x := range w.shards("s") {
				if x.SequenceNumberRange.EndingSequenceNumber == nil {
					mid := hash(t, x.HashKeyRange.EndingHashKey)
					mid.Add(mid, hash(t, x.HashKeyRange.StartingHashKey)).Rsh(mid, 1)
					_, _ = kinesisapi.SplitShard.Call(w.ctx, w, &kinesisapi.SplitShardInput{StreamName: new("s"), ShardToSplit: x.ShardId, NewStartingHashKey: new(mid.String())})
					break
				}
			}
			w.active("s")
			time.Sleep(5 * time.Millisecond)
		}
	})
	wg.Wait()
	t.Fatal("the store failed")
}

// Histories of puts and reads of a shard are those of one list in the order of sequence numbers.
func TestLinearizable(t *testing.T) {
	type input struct{ put string }
	type output struct{ number, all string }
	model := porcupine.Model{
		Init: func() any { return output{} },
		Step: func(state, in, out any) (bool, any) {
			list, o := state.(output), out.(output)
			if v := in.(input).put; v != "" {
				return o.number > list.number, output{o.number, list.all + v + " "}
			}
			return o.all == list.all, list
		},
	}
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		w, end := start(t, true)
		w.create("s", 1)
		began := time.Now()
		var mu sync.Mutex
		var history []porcupine.Operation
		var wg sync.WaitGroup
		for client := range 5 {
			wg.Go(func() {
				for i := range 8 {
					op, out := porcupine.Operation{ClientId: client}, output{}
					if client < 3 {
						op.Input = input{fmt.Sprint(client, ".", i)}
						op.Call = int64(time.Since(began))
						r, err := kinesisapi.PutRecord.Call(w.ctx, w, &kinesisapi.PutRecordInput{StreamName: new("s"), PartitionKey: new("k"), Data: []byte(op.Input.(input).put)})
						if err != nil {
							t.Error(err)
							return
						}
						out.number = *r.SequenceNumber
					} else {
						op.Input = input{}
						op.Call = int64(time.Since(began))
						it, err := kinesisapi.GetShardIterator.Call(w.ctx, w, &kinesisapi.GetShardIteratorInput{StreamName: new("s"), ShardId: sh(0), ShardIteratorType: new("TRIM_HORIZON")})
						if err != nil {
							t.Error(err)
							return
						}
						g, err := kinesisapi.GetRecords.Call(w.ctx, w, &kinesisapi.GetRecordsInput{ShardIterator: it.ShardIterator})
						if err != nil {
							t.Error(err)
							return
						}
						for _, r := range g.Records {
							out.all += string(r.Data) + " "
						}
					}
					op.Return = int64(time.Since(began))
					op.Output = out
					mu.Lock()
					history = append(history, op)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if porcupine.CheckOperationsTimeout(model, history, time.Minute) == porcupine.Illegal {
			t.Fatalf("not linearizable: %+v", history)
		}
		end()
	}
}
