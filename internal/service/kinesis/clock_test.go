package kinesis_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
)

// Between two bubbles the clock goes back: each begins at the same time. Nothing that is put is passed over, and no record arrives before one that
// was put earlier.
func TestClockSetBack(t *testing.T) {
	var sl *sleeper
	var after *string // of what came last before the clock was set back
	synctest.Test(t, func(t *testing.T) {
		sl = startSleeper(t, true)
		defer sl.end()
		time.Sleep(time.Hour)
		sl.create("old", 1)
		sl.put("old", "k", "0")
		time.Sleep(time.Hour)
		r, _ := readOf(sl.world, "old", 0)
		after = r[0].SequenceNumber
		sl.create("new", 1)
	})
	synctest.Test(t, func(t *testing.T) {
		sl.wake(t, true)
		defer sl.end()
		w := sl.world
		set := time.Now()
		for i := range 3 {
			w.put("new", "k", fmt.Sprint(i))
			w.put("old", "k", fmt.Sprint(i+1))
			time.Sleep(time.Second)
		}
		r, _ := readOf(w, "new", 0)
		want(t, "a stream from the future", datas(r), "0 1 2")
		r, _ = readOf(w, "old", 0)
		want(t, "a record from the future", datas(r), "0 1 2 3")
		for i := range r[1:] {
			if r[i+1].ApproximateArrivalTimestamp.Before(*r[i].ApproximateArrivalTimestamp) {
				t.Errorf("record %d arrived at %v, and the one before it at %v", i+1, r[i+1].ApproximateArrivalTimestamp, r[i].ApproximateArrivalTimestamp)
			}
		}
		r, _ = w.drain(w.iterator(kinesisapi.GetShardIteratorInput{StreamName: new("old"), ShardId: sh(0), ShardIteratorType: new("AFTER_SEQUENCE_NUMBER"), StartingSequenceNumber: after}))
		want(t, "behind it", datas(r), "1 2 3")
		// A time that the stream's own clock has passed.
		r, _ = w.drain(w.iterator(kinesisapi.GetShardIteratorInput{StreamName: new("old"), ShardId: sh(0), ShardIteratorType: new("AT_TIMESTAMP"), Timestamp: new(set)}))
		want(t, "from a time", datas(r), "0 1 2 3")
		// The shards that follow go on behind it.
		do(w, kinesisapi.SplitShard, kinesisapi.SplitShardInput{StreamName: new("new"), ShardToSplit: sh(0), NewStartingHashKey: new("1000")})
		w.active("new")
		w.put("new", "k", "3")
		r, _ = readOf(w, "new", 2)
		want(t, "a child", datas(r), "3")
	})
	synctest.Test(t, func(t *testing.T) { // and forward: what is past its retention is gone, and no more
		time.Sleep(23 * time.Hour)
		sl.wake(t, true)
		defer sl.end()
		w := sl.world
		r, _ := readOf(w, "old", 0)
		want(t, "a day later", datas(r), "0 1 2 3")
	})
}

// A reader that begins at a time gets what comes from then on, although the clock is set back behind it.
func TestBeginAheadOfTheClock(t *testing.T) {
	var sl *sleeper
	var it *string
	synctest.Test(t, func(t *testing.T) {
		sl = startSleeper(t, true)
		defer sl.end()
		sl.create("s", 1)
		sl.put("s", "k", "before")
		time.Sleep(time.Hour)
		it = sl.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("AT_TIMESTAMP"), Timestamp: new(time.Now())})
	})
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Minute)
		sl.wake(t, true)
		defer sl.end()
		sl.put("s", "k", "after")
		r, _ := sl.drain(it)
		want(t, "from there", datas(r), "after")
	})
}

func readOf(w *world, stream string, shard int) ([]kinesisapi.Record, *kinesisapi.GetRecordsOutput) {
	w.t.Helper()
	return w.drain(w.iterator(kinesisapi.GetShardIteratorInput{StreamName: &stream, ShardId: sh(shard), ShardIteratorType: new("TRIM_HORIZON")}))
}
