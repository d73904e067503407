package kinesis_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func TestRecords(t *testing.T) {
	w, end := start(t, true)
	defer end()
	w.create("s", 2)
	s := new("s")
	const half = "170141183460469231731687303715884105728"
	entry := func(key, explicit, data string) kinesisapi.PutRecordsRequestEntry {
		e := kinesisapi.PutRecordsRequestEntry{PartitionKey: &key, Data: []byte(data)}
		if explicit != "" {
			e.ExplicitHashKey = &explicit
		}
		return e
	}
	out := do(w, kinesisapi.PutRecords, kinesisapi.PutRecordsInput{StreamName: s, Records: []kinesisapi.PutRecordsRequestEntry{
		entry("a", "0", "0"), entry("b", half, "1"), entry("c", "170141183460469231731687303715884105727", "2"), entry("d", "340282366920938463463374607431768211455", "3"), entry("e", "1", ""),
	}})
	want(t, "failed", *out.FailedRecordCount, 0)
	last := map[string]string{}
	for i, shard := range []int{0, 1, 0, 1, 0} {
		r := out.Records[i]
		want(t, "shard", *r.ShardId, *sh(shard))
		if n := *r.SequenceNumber; len(n) != 56 || !strings.HasPrefix(n, "49") || n <= last[*r.ShardId] {
			t.Errorf("sequence number %s after %s", n, last[*r.ShardId])
		}
		last[*r.ShardId] = *r.SequenceNumber
	}
	// MD5 of the partition key; the digest of "1" begins with c4, that of "6" with 16.
	want(t, "hashed", *w.put("s", "1", "high").ShardId, *sh(1))
	p := w.put("s", "6", "low")
	want(t, "hashed", *p.ShardId, *sh(0))

	r, g := w.read(*sh(0))
	want(t, "shard 0", datas(r)+fmt.Sprint(*g.MillisBehindLatest), "0 2  low0")
	want(t, "record", *r[1].PartitionKey+*r[1].SequenceNumber, "c"+*out.Records[2].SequenceNumber)
	if age := time.Since(*r[0].ApproximateArrivalTimestamp); age < 0 || age > time.Minute {
		t.Errorf("arrived %v ago", age)
	}
	r, _ = w.read(*sh(1))
	want(t, "shard 1", datas(r), "1 3 high")

	from := func(kind string, n *string) string {
		r, _ := w.drain(w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: &kind, StartingSequenceNumber: n}))
		return datas(r)
	}
	want(t, "at", from("AT_SEQUENCE_NUMBER", out.Records[2].SequenceNumber), "2  low")
	want(t, "after", from("AFTER_SEQUENCE_NUMBER", out.Records[2].SequenceNumber), " low")
	want(t, "after the last", from("AFTER_SEQUENCE_NUMBER", p.SequenceNumber), "")
	want(t, "at the shard's first", from("AT_SEQUENCE_NUMBER", w.shards("s")[0].SequenceNumberRange.StartingSequenceNumber), "0 2  low")
	want(t, "at a time", func() string {
		r, _ := w.drain(w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("AT_TIMESTAMP"), Timestamp: new(time.Unix(5, 0))}))
		return datas(r)
	}(), "0 2  low")
	latest := w.iterator(kinesisapi.GetShardIteratorInput{StreamARN: new(streamARN), ShardId: sh(0), ShardIteratorType: new("LATEST")})
	w.put("s", "6", "later")
	r, _ = w.drain(latest)
	want(t, "latest", datas(r), "later")

	// Pages of one.
	it := w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("TRIM_HORIZON")})
	var pages []string
	for {
		g := do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it, Limit: new(int32(1)), StreamARN: new(streamARN)})
		pages = append(pages, datas(g.Records))
		if *g.MillisBehindLatest == 0 {
			break
		}
		it = g.NextShardIterator
	}
	want(t, "pages", strings.Join(pages, "|"), "0|2||low|later")

	other := w.shards("s")[1].SequenceNumberRange.StartingSequenceNumber
	w.create("t", 1)
	foreign := w.put("t", "k", "x").SequenceNumber
	bad := func(in kinesisapi.GetShardIteratorInput, code, text string) {
		t.Helper()
		if in.StreamName == nil {
			in.StreamName = s
		}
		if in.ShardId == nil {
			in.ShardId = sh(0)
		}
		fail(w, kinesisapi.GetShardIterator, in, code, text)
	}
	bad(kinesisapi.GetShardIteratorInput{ShardId: sh(7), ShardIteratorType: new("LATEST")}, "ResourceNotFoundException", "Shard shardId-000000000007 in stream s under account 123456789012 does not exist")
	bad(kinesisapi.GetShardIteratorInput{ShardId: new("x"), ShardIteratorType: new("LATEST")}, "ResourceNotFoundException", "Could not find shard x in stream s under account 123456789012.")
	bad(kinesisapi.GetShardIteratorInput{StreamName: new("none"), ShardIteratorType: new("LATEST")}, "ResourceNotFoundException", "none")
	bad(kinesisapi.GetShardIteratorInput{ShardIteratorType: new("NEWEST")}, "ValidationException", "enum")
	bad(kinesisapi.GetShardIteratorInput{ShardIteratorType: new("LATEST"), StartingSequenceNumber: other}, "InvalidArgumentException", "Request specified LATEST and also a StartingSequenceNumber.")
	bad(kinesisapi.GetShardIteratorInput{ShardIteratorType: new("AT_SEQUENCE_NUMBER")}, "InvalidArgumentException", "Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber.")
	bad(kinesisapi.GetShardIteratorInput{ShardIteratorType: new("AT_SEQUENCE_NUMBER"), StartingSequenceNumber: new("123")}, "InvalidArgumentException", "StartingSequenceNumber 123 used in GetShardIterator on shard shardId-000000000000 in stream s under account 123456789012 is invalid.")
	bad(kinesisapi.GetShardIteratorInput{ShardIteratorType: new("AT_SEQUENCE_NUMBER"), StartingSequenceNumber: other}, "InvalidArgumentException", "Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a call to a shard with shardId-000000000000")
	bad(kinesisapi.GetShardIteratorInput{ShardIteratorType: new("AT_SEQUENCE_NUMBER"), StartingSequenceNumber: foreign}, "InvalidArgumentException", "because it did not come from this stream.")
	bad(kinesisapi.GetShardIteratorInput{ShardIteratorType: new("AT_TIMESTAMP")}, "InvalidArgumentException", "timestampInMillis")
	bad(kinesisapi.GetShardIteratorInput{ShardIteratorType: new("AT_TIMESTAMP"), Timestamp: new(time.Now().Add(time.Hour))}, "InvalidArgumentException", "cannot be greater than the currentTimestampInMillis")
	fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: new("AAAA")}, "InvalidArgumentException", "Invalid ShardIterator.")
	fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: new((*it)[:40] + "AAAA" + (*it)[44:])}, "InvalidArgumentException", "Invalid ShardIterator.")
	fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it, StreamARN: new(streamARN + "2")}, "InvalidArgumentException", "Invalid ShardIterator.")
	fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it, Limit: new(int32(10_001))}, "ValidationException", "'limit'")

	fail(w, kinesisapi.PutRecord, kinesisapi.PutRecordInput{StreamName: s, PartitionKey: new("k"), Data: []byte{}, ExplicitHashKey: new("340282366920938463463374607431768211456")}, "InvalidArgumentException", "[0, 2^128-1]")
	fail(w, kinesisapi.PutRecord, kinesisapi.PutRecordInput{StreamName: s, PartitionKey: new("k"), Data: []byte{}, SequenceNumberForOrdering: foreign}, "InvalidArgumentException", "ExclusiveMinimumSequenceNumber")
	do(w, kinesisapi.PutRecord, kinesisapi.PutRecordInput{StreamName: s, PartitionKey: new("k"), Data: []byte{}, SequenceNumberForOrdering: p.SequenceNumber})
	fail(w, kinesisapi.PutRecords, kinesisapi.PutRecordsInput{StreamName: s, Records: []kinesisapi.PutRecordsRequestEntry{entry("a", "", "x"), entry("b", "", strings.Repeat("x", 1<<20))}}, "ValidationException", "'records.2.member.data'")
	fail(w, kinesisapi.PutRecords, kinesisapi.PutRecordsInput{StreamName: new("none"), Records: []kinesisapi.PutRecordsRequestEntry{entry("a", "", "x")}}, "ResourceNotFoundException", "none")
	var eleven []kinesisapi.PutRecordsRequestEntry
	for range 11 {
		eleven = append(eleven, entry("a", "", strings.Repeat("x", 1<<20-1)))
	}
	fail(w, kinesisapi.PutRecords, kinesisapi.PutRecordsInput{StreamName: s, Records: eleven}, "InvalidArgumentException", "limit")
	do(w, kinesisapi.PutRecords, kinesisapi.PutRecordsInput{StreamName: s, Records: eleven[:10]})
	// A read returns at most 10 MiB.
	do(w, kinesisapi.PutRecords, kinesisapi.PutRecordsInput{StreamName: s, Records: eleven[:2]})
	it = w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("AFTER_SEQUENCE_NUMBER"), StartingSequenceNumber: p.SequenceNumber})
	g = do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it})
	if n := len(g.Records); n < 9 || n > 11 || *g.MillisBehindLatest == 0 {
		t.Errorf("%d records of 1 MiB, %d ms behind", n, *g.MillisBehindLatest)
	}
}

func TestIteratorsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, end := start(t, false)
		defer end()
		w.create("s", 3)
		it := w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("LATEST")})
		token := do(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{StreamName: new("s"), MaxResults: new(int32(1))}).NextToken
		time.Sleep(5 * time.Minute)
		do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it})
		do(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{NextToken: token})
		time.Sleep(time.Second)
		fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it}, "ExpiredIteratorException",
			"Iterator expired. The iterator was created at time Sat Jan  1 00:00:00 UTC 2000 while right now it is Sat Jan  1 00:05:01 UTC 2000 which is further in the future than the tolerated delay of 300000 milliseconds.")
		fail(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{NextToken: token}, "ExpiredNextTokenException", "expired")
	})
}

// rows counts the rows of logs.
func (w *world) rows() (n int) {
	_ = w.db.View(w.ctx, func(r kv.Reader) error {
		for range r.Scan(kv.Prefix("kinesis.log")) {
			n++
		}
		return nil
	})
	return n
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sl := startSleeper(t, true)
		defer func() { sl.end() }()
		w := sl.world
		w.create("s", 1)
		begin := time.Now()
		do(w, kinesisapi.IncreaseStreamRetentionPeriod, kinesisapi.IncreaseStreamRetentionPeriodInput{StreamName: new("s"), RetentionPeriodHours: new(int32(48))})
		for i := range 10 {
			w.put("s", "k", fmt.Sprint(i))
			sl.sleep(t, 4*time.Hour)
			w = sl.world
		}
		r, _ := w.read(*sh(0))
		want(t, "40 hours later", datas(r), "0 1 2 3 4 5 6 7 8 9")
		r, _ = w.drain(w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("AT_TIMESTAMP"), Timestamp: new(begin.Add(30 * time.Hour))}))
		want(t, "from a time", datas(r), "8 9")
		// What is past the retention is gone at once, and its rows soon.
		do(w, kinesisapi.DecreaseStreamRetentionPeriod, kinesisapi.DecreaseStreamRetentionPeriodInput{StreamName: new("s"), RetentionPeriodHours: new(int32(24))})
		r, _ = w.read(*sh(0))
		want(t, "24 hours", datas(r), "4 5 6 7 8 9")
		synctest.Wait()
		want(t, "rows", w.rows(), 7) // one says where the log began
		// A closed shard goes with its last record.
		do(w, kinesisapi.SplitShard, kinesisapi.SplitShardInput{StreamName: new("s"), ShardToSplit: sh(0), NewStartingHashKey: new("1000")})
		w.active("s")
		want(t, "shards", len(w.shards("s")), 3)
		at := func(f kinesisapi.ShardFilter) (ids string) {
			for _, s := range do(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{StreamName: new("s"), ShardFilter: &f}).Shards {
				ids += (*s.ShardId)[19:]
			}
			return ids
		}
		split := time.Now()
		sl.sleep(t, 10*time.Hour)
		w = sl.world
		for _, test := range []struct {
			f    kinesisapi.ShardFilter
			want string
		}{
			{kinesisapi.ShardFilter{Type: new("AT_LATEST")}, "12"},
			{kinesisapi.ShardFilter{Type: new("AT_TRIM_HORIZON")}, "0"},
			{kinesisapi.ShardFilter{Type: new("FROM_TRIM_HORIZON")}, "012"},
			{kinesisapi.ShardFilter{Type: new("AFTER_SHARD_ID"), ShardId: sh(0)}, "12"},
			{kinesisapi.ShardFilter{Type: new("AT_TIMESTAMP"), Timestamp: new(split.Add(-time.Hour))}, "0"},
			{kinesisapi.ShardFilter{Type: new("AT_TIMESTAMP"), Timestamp: new(split.Add(time.Hour))}, "12"},
			{kinesisapi.ShardFilter{Type: new("FROM_TIMESTAMP"), Timestamp: new(split.Add(-time.Hour))}, "012"},
			{kinesisapi.ShardFilter{Type: new("FROM_TIMESTAMP"), Timestamp: new(split.Add(time.Hour))}, "12"},
		} {
			want(t, *test.f.Type, at(test.f), test.want)
		}
		fail(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{StreamName: new("s"), ShardFilter: &kinesisapi.ShardFilter{Type: new("AT_TIMESTAMP")}}, "InvalidArgumentException", "Timestamp")
		fail(w, kinesisapi.ListShards, kinesisapi.ListShardsInput{}, "InvalidArgumentException", "Either NextToken or StreamName should be provided.")
		sl.sleep(t, 15*time.Hour)
		w = sl.world
		want(t, "shards in the end", at(kinesisapi.ShardFilter{Type: new("FROM_TRIM_HORIZON")}), "12")
		want(t, "at the horizon", at(kinesisapi.ShardFilter{Type: new("AT_TRIM_HORIZON")}), "12")
		synctest.Wait()
		fail(w, kinesisapi.GetShardIterator, kinesisapi.GetShardIteratorInput{StreamName: new("s"), ShardId: sh(0), ShardIteratorType: new("TRIM_HORIZON")}, "ResourceNotFoundException", "does not exist")
		want(t, "rows in the end", w.rows(), 2)
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, end := start(t, false)
		defer end()
		w.create("s", 1)
		put := func(n, size int) (failed int32, out *kinesisapi.PutRecordsOutput) {
			in := kinesisapi.PutRecordsInput{StreamName: new("s")}
			for range n {
				in.Records = append(in.Records, kinesisapi.PutRecordsRequestEntry{PartitionKey: new("k"), Data: make([]byte, size)})
			}
			out = do(w, kinesisapi.PutRecords, in)
			return *out.FailedRecordCount, out
		}
		for _, test := range []struct {
			n, size int
			wait    time.Duration
			failed  int32
		}{
			{500, 10, 0, 0}, {500, 10, 0, 0}, {500, 10, 0, 500}, {200, 10, 100 * time.Millisecond, 100}, {500, 10, time.Second, 0},
			{500, 4095, time.Second, 244}, {1, 1<<20 - 1, 2 * time.Second, 0}, {1, 1, 0, 1},
		} {
			time.Sleep(test.wait)
			failed, out := put(test.n, test.size)
			want(t, fmt.Sprintf("%+v", test), failed, test.failed)
			if failed > 0 {
				r := out.Records[len(out.Records)-1]
				want(t, "error", *r.ErrorCode+*r.ErrorMessage, "ProvisionedThroughputExceededExceptionRate exceeded for shard shardId-000000000000 in stream s under account 123456789012.")
			}
		}
		fail(w, kinesisapi.PutRecord, kinesisapi.PutRecordInput{StreamName: new("s"), PartitionKey: new("k"), Data: []byte("x")}, "ProvisionedThroughputExceededException", "Rate exceeded for shard shardId-000000000000")

		it := w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("LATEST")})
		for range 5 {
			do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it})
		}
		fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it}, "ProvisionedThroughputExceededException", "Rate exceeded for shard shardId-000000000000")
		time.Sleep(200 * time.Millisecond)
		do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it})
		// Whoever has read 4 MiB waits until the shard has recovered.
		for range 4 {
			time.Sleep(time.Second)
			put(1, 1<<20-1)
		}
		time.Sleep(time.Second)
		g := do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it})
		want(t, "read", len(g.Records), 4)
		fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it}, "ProvisionedThroughputExceededException", "")
		time.Sleep(time.Second)
		do(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: it})
	})
}

// A stream on demand doubles when it is throttled.
func TestOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, end := start(t, false)
		defer end()
		do(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: new("s"), StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: new("ON_DEMAND")}})
		w.active("s")
		count := func() int32 {
			synctest.Wait()
			return *do(w, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{StreamName: new("s")}).StreamDescriptionSummary.OpenShardCount
		}
		want(t, "at first", count(), 4)
		flood := func() {
			in := kinesisapi.PutRecordsInput{StreamName: new("s")}
			for range 500 {
				in.Records = append(in.Records, kinesisapi.PutRecordsRequestEntry{PartitionKey: new("k"), Data: []byte("x")})
			}
			for range 3 {
				do(w, kinesisapi.PutRecords, in)
			}
		}
		flood()
		want(t, "too soon", count(), 4)
		time.Sleep(2 * time.Minute)
		flood()
		want(t, "doubled", count(), 8)
	})
}
