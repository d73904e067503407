package kinesis_test

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

func TestSplitAndMerge(t *testing.T) {
	w, end := start(t, true)
	defer end()
	w.create("s", 2)
	s := new("s")
	w.put("s", "1", "before")
	split := func(shard int, at string) kinesisapi.SplitShardInput {
		return kinesisapi.SplitShardInput{StreamName: s, ShardToSplit: sh(shard), NewStartingHashKey: &at}
	}
	const half, last = "170141183460469231731687303715884105728", "340282366920938463463374607431768211455"
	for _, at := range []string{"0", "5", half, "170141183460469231731687303715884105729", last} {
		fail(w, kinesisapi.SplitShard, split(1, at), "InvalidArgumentException", "NewStartingHashKey "+at+" used in SplitShard() on shard shardId-000000000001 in stream s under account 123456789012 is not both greater than one plus the shard's StartingHashKey "+half+" and less than the shard's EndingHashKey "+last+".")
	}
	fail(w, kinesisapi.SplitShard, split(9, "5"), "ResourceNotFoundException", "Could not find shard shardId-000000000009 in stream s under account 123456789012.")
	do(w, kinesisapi.SplitShard, split(1, "255211775190703847597530955573826158592"))
	w.active("s")
	fail(w, kinesisapi.SplitShard, split(1, "255211775190703847597530955573826158592"), "InvalidArgumentException", "has already been merged or split, and thus is not eligible for merging or splitting.")
	w.put("s", "1", "after")
	r, g := w.read(*sh(1))
	if datas(r) != "before" || g.NextShardIterator != nil || len(g.ChildShards) != 2 {
		t.Fatalf("%s, then %v and %v", datas(r), g.NextShardIterator, g.ChildShards)
	}
	c := g.ChildShards[0]
	want(t, "child", fmt.Sprint(*c.ShardId, c.ParentShards, *c.HashKeyRange.StartingHashKey, " ", *c.HashKeyRange.EndingHashKey), "shardId-000000000002[shardId-000000000001]"+half+" 255211775190703847597530955573826158591")
	r, _ = w.read(*sh(3))
	want(t, "child's", datas(r), "after")
	shards := w.shards("s")
	if end, first := shards[1].SequenceNumberRange.EndingSequenceNumber, shards[2].SequenceNumberRange.StartingSequenceNumber; end == nil || *first <= *end {
		t.Errorf("the parent ends at %v, the child begins at %s", end, *first)
	}
	merge := func(a, b int) kinesisapi.MergeShardsInput {
		return kinesisapi.MergeShardsInput{StreamName: s, ShardToMerge: sh(a), AdjacentShardToMerge: sh(b)}
	}
	fail(w, kinesisapi.MergeShards, merge(0, 3), "InvalidArgumentException", "Shards shardId-000000000000 and shardId-000000000003 in stream s under account 123456789012 are not an adjacent pair of shards eligible for merging")
	fail(w, kinesisapi.MergeShards, merge(0, 0), "InvalidArgumentException", "adjacent")
	fail(w, kinesisapi.MergeShards, merge(0, 1), "InvalidArgumentException", "already been merged or split")
	fail(w, kinesisapi.MergeShards, merge(0, 8), "ResourceNotFoundException", "shardId-000000000008")
	fail(w, kinesisapi.MergeShards, merge(2, 0), "InvalidArgumentException", "adjacent")
	do(w, kinesisapi.MergeShards, merge(0, 2))
	w.active("s")
	shards = w.shards("s")
	m := shards[4]
	want(t, "merged", fmt.Sprint(*m.ShardId, *m.ParentShardId, *m.AdjacentParentShardId, *m.HashKeyRange.StartingHashKey, *m.HashKeyRange.EndingHashKey),
		"shardId-000000000004shardId-000000000000shardId-0000000000020255211775190703847597530955573826158591")
	// An iterator behind the end of a shard ends at once.
	it := w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(1), ShardIteratorType: new("LATEST")})
	if g := do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it}); g.NextShardIterator != nil || len(g.Records) != 0 || len(g.ChildShards) != 2 {
		t.Errorf("LATEST of a closed shard: %+v", g)
	}
	var ids []string
	for in := (kinesisapi.ListShardsInput{StreamName: s, MaxResults: new(int32(2)), ExclusiveStartShardId: sh(0)}); ; {
		out := do(w, kinesisapi.ListShards, in)
		for _, x := range out.Shards {
			ids = append(ids, (*x.ShardId)[19:])
		}
		if out.NextToken == nil {
			break
		}
		in = kinesisapi.ListShardsInput{NextToken: out.NextToken, MaxResults: new(int32(2))}
	}
	want(t, "pages", ids, "[1 2 3 4]")
}

func hash(t *testing.T, s *string) *big.Int {
	n, ok := new(big.Int).SetString(*s, 10)
	if !ok {
		t.Fatalf("hash key %s", *s)
	}
	return n
}

// Any sequence of scales ends in equal ranges, and every shard's range is made of those of its parents or the other way round.
func TestScale(t *testing.T) {
	w, end := start(t, true)
	defer end()
	w.create("s", 3)
	rnd := rand.New(rand.NewPCG(7, 7))
	now := 3
	for range 9 {
		n := max(1, now/2+now%2) + rnd.IntN(2*now-(now/2+now%2)+1)
		out := do(w, kinesisapi.UpdateShardCount, kinesisapi.UpdateShardCountInput{StreamName: new("s"), TargetShardCount: new(int32(n)), ScalingType: new("UNIFORM_SCALING")})
		want(t, "counts", fmt.Sprint(*out.CurrentShardCount, " ", *out.TargetShardCount), fmt.Sprint(now, " ", n))
		w.active("s")
		now = n
		all := w.shards("s")
		byID := map[string]*kinesisapi.Shard{}
		children := map[string][]*kinesisapi.Shard{}
		open := 0
		next := big.NewInt(0)
		for i := range all {
			x := &all[i]
			byID[*x.ShardId] = x
			for _, p := range []*string{x.ParentShardId, x.AdjacentParentShardId} {
				if p != nil {
					children[*p] = append(children[*p], x)
				}
			}
		}
		for _, x := range do(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{StreamName: new("s"), ShardFilter: &kinesisapi.ShardFilter{Type: new("AT_LATEST")}}).Shards {
			if x.SequenceNumberRange.EndingSequenceNumber != nil || len(children[*x.ShardId]) > 0 {
				t.Errorf("%s is not open", *x.ShardId)
			}
			open++
		}
		want(t, "open shards", open, n)
		for range n {
			for i := range all {
				if x := &all[i]; x.SequenceNumberRange.EndingSequenceNumber == nil && hash(t, x.HashKeyRange.StartingHashKey).Cmp(next) == 0 {
					next = new(big.Int).Add(hash(t, x.HashKeyRange.EndingHashKey), big.NewInt(1))
					size := new(big.Int).Sub(next, hash(t, x.HashKeyRange.StartingHashKey))
					equal := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(n)))
					if d := new(big.Int).Sub(size, equal); d.CmpAbs(big.NewInt(1)) > 0 {
						t.Errorf("%d shards: one has %s hash keys, %s are equal", n, size, equal)
					}
					break
				}
			}
		}
		want(t, "ranges end", next, new(big.Int).Lsh(big.NewInt(1), 128))
		for id, kids := range children {
			parent := byID[id]
			if parent.SequenceNumberRange.EndingSequenceNumber == nil {
				t.Errorf("%s has children and is open", id)
				continue
			}
			low, high := hash(t, kids[0].HashKeyRange.StartingHashKey), hash(t, kids[0].HashKeyRange.EndingHashKey)
			for _, k := range kids {
				if *k.SequenceNumberRange.StartingSequenceNumber <= *parent.SequenceNumberRange.EndingSequenceNumber && k.AdjacentParentShardId == nil {
					t.Errorf("%s begins before %s ends", *k.ShardId, id)
				}
				if a := hash(t, k.HashKeyRange.StartingHashKey); a.Cmp(low) < 0 {
					low = a
				}
				if b := hash(t, k.HashKeyRange.EndingHashKey); b.Cmp(high) > 0 {
					high = b
				}
			}
			if low.Cmp(hash(t, parent.HashKeyRange.StartingHashKey)) > 0 || high.Cmp(hash(t, parent.HashKeyRange.EndingHashKey)) < 0 || len(kids) > 2 {
				t.Errorf("%s is not covered by its %d children", id, len(kids))
			}
		}
	}
	fail(w, kinesisapi.UpdateShardCount, kinesisapi.UpdateShardCountInput{StreamName: new("s"), TargetShardCount: new(int32(2*now + 1)), ScalingType: new("UNIFORM_SCALING")}, "LimitExceededException",
		fmt.Sprintf("UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: %d, Target shard count: %d", now, 2*now+1))
	do(w, kinesisapi.UpdateShardCount, kinesisapi.UpdateShardCountInput{StreamName: new("s"), TargetShardCount: new(int32(now)), ScalingType: new("UNIFORM_SCALING")})
	w.active("s")
	fail(w, kinesisapi.UpdateShardCount, kinesisapi.UpdateShardCountInput{StreamName: new("s"), TargetShardCount: new(int32(now)), ScalingType: new("UNIFORM_SCALING")}, "LimitExceededException", "10 times")
}

// lineage reads a stream as a consumer does that finishes parents before their children, and returns the records of each partition key.
func (w *world) lineage(name string) map[string][]string {
	w.t.Helper()
	byKey := map[string][]string{}
	done := map[string]bool{}
	for left := w.shards(name); len(left) > 0; {
		var later []kinesisapi.Shard
		for _, x := range left {
			ready := true
			for _, p := range []*string{x.ParentShardId, x.AdjacentParentShardId} {
				ready = ready && (p == nil || done[*p])
			}
			if !ready {
				later = append(later, x)
				continue
			}
			records, _ := w.read(*x.ShardId)
			last := ""
			for _, r := range records {
				if *r.SequenceNumber <= last || *r.SequenceNumber < *x.SequenceNumberRange.StartingSequenceNumber {
					w.t.Errorf("%s: %s after %s", *x.ShardId, *r.SequenceNumber, last)
				}
				last = *r.SequenceNumber
				if end := x.SequenceNumberRange.EndingSequenceNumber; end != nil && last >= *end {
					w.t.Errorf("%s: %s after its end", *x.ShardId, last)
				}
				byKey[*r.PartitionKey] = append(byKey[*r.PartitionKey], string(r.Data))
			}
			done[*x.ShardId] = true
		}
		if len(later) == len(left) {
			w.t.Fatalf("shards whose parents are gone: %v", left)
		}
		left = later
	}
	return byKey
}

// inOrder checks that of each key the records are 0, 1, 2 and so on, as far as they were acknowledged.
func inOrder(t *testing.T, byKey map[string][]string, acknowledged map[string]int) {
	t.Helper()
	for key, n := range acknowledged {
		all := byKey[key]
		if len(all) < n {
			t.Errorf("%s: %d records, %d were acknowledged", key, len(all), n)
		}
		for i, data := range all {
			if data != strconv.Itoa(i) {
				t.Fatalf("%s: record %d is %s: %s", key, i, data, strings.Join(all, " "))
			}
		}
	}
}

// While shards are split, merged and scaled, no record is lost and those of a key keep their order for who reads parents before children.
func TestReshardingUnderLoad(t *testing.T) {
	w, end := start(t, true)
	defer end()
	w.create("s", 2)
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := map[string]int{}
	stop := make(chan struct{})
	for n := range 6 {
		wg.Go(func() {
			keys := []string{fmt.Sprint("a", n), fmt.Sprint("b", n), fmt.Sprint("c", n)}
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				in := &kinesisapi.PutRecordsInput{StreamName: new("s")}
				for _, k := range keys {
					in.Records = append(in.Records, kinesisapi.PutRecordsRequestEntry{PartitionKey: &k, Data: []byte(strconv.Itoa(i))})
				}
				out, err := kinesisapi.PutRecords.Call(w.ctx, w, in)
				if err != nil || *out.FailedRecordCount > 0 {
					t.Errorf("%v, %v", out, err)
					return
				}
				mu.Lock()
				for _, k := range keys {
					acknowledged[k] = i + 1
				}
				mu.Unlock()
			}
		})
	}
	rnd := rand.New(rand.NewPCG(3, 3))
	rounds := 20
	if testing.Short() {
		rounds = 6
	}
	for i := range rounds {
		open := do(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{StreamName: new("s"), ShardFilter: &kinesisapi.ShardFilter{Type: new("AT_LATEST")}}).Shards
		var err error
		switch {
		case i%3 == 0 && i/3 < 9:
			n := max(1, len(open)/2+len(open)%2+rnd.IntN(len(open)+1))
			_, err = kinesisapi.UpdateShardCount.Call(w.ctx, w, &kinesisapi.UpdateShardCountInput{StreamName: new("s"), TargetShardCount: new(int32(min(n, 8))), ScalingType: new("UNIFORM_SCALING")})
		default:
			x := open[rnd.IntN(len(open))]
			a, b := hash(t, x.HashKeyRange.StartingHashKey), hash(t, x.HashKeyRange.EndingHashKey)
			mid := new(big.Int).Rsh(new(big.Int).Add(a, b), 1)
			_, err = kinesisapi.SplitShard.Call(w.ctx, w, &kinesisapi.SplitShardInput{StreamName: new("s"), ShardToSplit: x.ShardId, NewStartingHashKey: new(mid.String())})
		}
		if e, ok := errors.AsType[*apierr.Error](err); err != nil && (!ok || e.Code != "LimitExceededException") {
			t.Fatal(err)
		}
		w.active("s")
		time.Sleep(time.Millisecond) // some records in between
	}
	close(stop)
	wg.Wait()
	inOrder(t, w.lineage("s"), acknowledged)
	t.Logf("%v records of each key over %d shards", acknowledged["a0"], len(w.shards("s")))
}
