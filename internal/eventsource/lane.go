package eventsource

import (
	"hash/fnv"
	"slices"
	"time"
)

// item is a batch: a run of a lane's records that is invoked as one, or the end of a window.
type item struct {
	records     []Record
	first, last string // sequence numbers; of a restored item also of records that were not read again yet
	restored    bool

	failed  int // attempts that count
	invokes int // all that the function answered
	window  int64
	final   bool // the last invocation of window, without records
	early   bool // because its state is too large

	request  string // of the last invocation
	response *responseContext
	message  string // of the last trouble

	troubles  int       // throttles and errors of the service in a row
	throttled bool      // the last of them
	due       time.Time // not before
	checked   time.Time // when the stream was last asked whether it still has the records
	split     *Split    // the batch that failures left it of
}

func newItem(records []Record, window int64) *item {
	it := &item{records: records, window: window}
	it.bounds()
	return it
}

func (it *item) bounds() {
	it.first, it.last = "", ""
	if n := len(it.records); n > 0 {
		it.first, it.last = it.records[0].ID, it.records[n-1].ID
	}
}

// part returns a fresh item of the same window with some of the records.
func (it *item) part(records []Record) *item {
	x := newItem(records, it.window)
	x.split = it.split
	return x
}

func (it *item) row() itemRow {
	r := itemRow{First: it.first, Last: it.last, Failed: it.failed, Invokes: it.invokes, Window: it.window, Final: it.final, Early: it.early, Request: it.request, Message: it.message, Split: it.split}
	if it.response != nil {
		r.Status, r.Version = it.response.Status, it.response.Version
		if it.response.Error != nil {
			r.Error = *it.response.Error
		}
	}
	return r
}

func (r itemRow) item() *item {
	it := &item{first: r.First, last: r.Last, restored: true, failed: r.Failed, invokes: r.Invokes, window: r.Window, final: r.Final, early: r.Early, request: r.Request, message: r.Message, split: r.Split}
	if r.Status != 0 {
		it.response = &responseContext{Status: r.Status, Version: r.Version}
		if r.Error != "" {
			it.response.Error = &r.Error
		}
	}
	return it
}

// lane is the records of a shard whose keys fall to it, in order.
type lane struct {
	done   string    // up to where everything is done
	items  []*item   // begun, the first is next
	buffer []Record  // read and not begun
	bytes  int       // of buffer
	end    string    // the last record of restored items: up to it records belong to those or are done
	busy   bool      // an invocation of items[0] is in flight
	since  time.Time // when it began
	ahead  int       // invocations that ended and are not stored
	stores int       // those of them that the commit under way stores
}

func (l *lane) idle() bool { return len(l.items) == 0 && len(l.buffer) == 0 }

// replace puts others in the place of the first item, and moves done as far as nothing that is left begins before it.
func (l *lane) replace(others ...*item) {
	last := l.items[0].last
	if l.items[0].final {
		last = ""
	}
	l.items = append(others, l.items[1:]...)
	l.advance(last)
}

func (l *lane) advance(last string) {
	if compare(last, l.done) <= 0 {
		return
	}
	for _, it := range l.items {
		if !it.final && compare(it.first, last) <= 0 {
			return
		}
	}
	l.done = last
}

// take removes the first n records of the buffer.
func (l *lane) take(n int) []Record {
	records := slices.Clone(l.buffer[:n])
	l.bytes -= size(records)
	clear(l.buffer[:n])
	l.buffer = l.buffer[n:]
	if len(l.buffer) == 0 {
		l.buffer = nil
	}
	return records
}

// laneOf is the lane of a key among n.
func laneOf(key string, n int) int {
	if n <= 1 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	return int(h.Sum64() % uint64(n))
}

// backoff is how long to wait after a number of failures: half a second, doubled each time, at most a minute.
func backoff(failures int) time.Duration {
	return min(500*time.Millisecond<<min(max(failures-1, 0), 10), time.Minute)
}
