package kinesis

import (
	"sync"
	"time"
)

// The limits of a shard. Source: AWS's quotas of Kinesis Data Streams.
const (
	writeRecords = 1000    // a second
	writeBytes   = 1 << 20 // a second, of data and partition keys
	readCalls    = 5       // a second
	readBytes    = 2 << 20 // a second
)

// limits holds what shards were used for lately. What was not used for a while is forgotten.
type limits struct {
	mu     sync.Mutex
	shards map[shardKey]*usage
}

type shardKey struct {
	uid   int64
	index uint32
}

type usage struct{ records, bytes, calls, out bucket }

// bucket is a bucket of tokens that holds those of one second.
type bucket struct {
	used float64 // of a second's
	at   time.Time
}

// drain lets what was used fade at a rate for a second.
func (b *bucket) drain(now time.Time, rate float64) {
	if d := now.Sub(b.at); d > 0 {
		b.used = max(0, b.used-d.Seconds()*rate)
	}
	b.at = now
}

func (l *limits) of(k shardKey) *usage {
	if l.shards == nil {
		l.shards = map[shardKey]*usage{}
	}
	u := l.shards[k]
	if u == nil {
		u = &usage{}
		l.shards[k] = u
	}
	return u
}

// write takes a record of size bytes into a shard, unless it is too much. A record that is larger than a second's bytes needs all of them.
func (l *limits) write(k shardKey, size int, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.of(k)
	u.records.drain(now, writeRecords)
	u.bytes.drain(now, writeBytes)
	if u.records.used+1 > writeRecords || u.bytes.used > 0 && u.bytes.used+float64(size) > writeBytes {
		return false
	}
	u.records.used++
	u.bytes.used += float64(size)
	return true
}

// read admits a read of a shard, unless there were too many or those before read too much.
func (l *limits) read(k shardKey, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.of(k)
	u.calls.drain(now, readCalls)
	u.out.drain(now, readBytes)
	if u.calls.used+1 > readCalls || u.out.used > readBytes {
		return false
	}
	u.calls.used++
	return true
}

// sent counts what a read returned.
func (l *limits) sent(k shardKey, size int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.of(k)
	u.out.drain(now, readBytes)
	u.out.used += float64(size)
}

// forget drops what is at rest.
func (l *limits) forget(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, u := range l.shards {
		if idle := 10 * time.Second; now.Sub(u.records.at) > idle && now.Sub(u.calls.at) > idle && now.Sub(u.out.at) > idle {
			delete(l.shards, k)
		}
	}
}
