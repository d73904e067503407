package commitlog

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/sequence"
)

// ErrDropped answers Wait once the log was dropped.
var ErrDropped = errors.New("commitlog: the log was dropped")

// Logs are the logs of one family in one store, which no other Logs may have. Its methods may be called concurrently.
type Logs struct {
	db     kv.DB
	family string

	mu   sync.Mutex
	logs map[string]*Log
}

// New returns the logs of a family, the first part of their keys.
func New(db kv.DB, family string) *Logs {
	return &Logs{db: db, family: family, logs: map[string]*Log{}}
}

// Log returns the log of an id, which is empty if nothing was appended to it. An id is never used again after Drop.
func (s *Logs) Log(id string) *Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[id]
	if l == nil {
		l = &Log{logs: s, id: id}
		s.logs[id] = l
	}
	return l
}

// Log is one log. Its methods may be called concurrently.
type Log struct {
	logs *Logs
	id   string

	mu       sync.Mutex
	seq      *sequence.Sequence // nil until loaded
	total    total              // of everything that was given a position
	newest   uint64             // the highest position that was committed
	readable uint64             // the highest committed position that a read reaches
	ahead    []uint64           // committed positions above readable
	dropped  bool
	changed  chan struct{} // closed when a transaction with an append ends, for those who wait; nil if nobody does
}

// total is how many records a log has had, and how many bytes.
type total struct{ records, bytes uint64 }

// Record is one record as read.
type Record struct {
	Position uint64
	Time     time.Time // of the append, in milliseconds: that of the position, so it does not decrease though the clock was set back
	Data     []byte
}

// Batch is what a Read found.
type Batch struct {
	Records []Record
	Next    uint64    // where to read on
	Pending time.Time // of the first record behind Records, zero if Records reach the end
}

// Stats is the extent of a log.
type Stats struct {
	Records, Bytes uint64    // about: appends that were not committed count too, until they are trimmed
	First, Last    time.Time // of the oldest and the newest record; zero if there is none
}

// At is the position of a time: records whose Time is earlier lie below it.
func At(t time.Time) uint64 {
	if t.Unix() < 0 {
		return 0
	}
	if t.Unix() >= 1<<33 {
		return maxPosition
	}
	return uint64(t.UnixNano())
}

// Begin writes, in the transaction that makes a log, that its positions are all above floor.
func (l *Log) Begin(tx kv.Tx, floor uint64) { tx.Set(l.metaKey(), meta{last: floor}.encode()) }

// Append writes records, at least one, in a transaction, and returns the position of the first; the others follow one by one. Readers see
// them, and those who wait are woken, when the transaction is committed. Data is copied. The transaction fails with kv.ErrTooLarge if a
// record is larger than a value may be.
func (l *Log) Append(tx kv.Tx, records ...[]byte) (first uint64, err error) {
	if err := l.load(tx); err != nil {
		return 0, err
	}
	n := uint64(len(records))
	l.mu.Lock()
	first = l.seq.Take(tx, len(records))
	before := l.total
	l.total.records += n
	for _, r := range records {
		l.total.bytes += uint64(len(r))
	}
	l.mu.Unlock()
	tx.OnEnd(func(committed bool) { l.ended(first+n-1, committed) })
	next := first
	for len(records) > 0 {
		k, size := 1, len(records[0])
		for k < len(records) && size+len(records[k]) <= chunkBytes {
			size += len(records[k])
			k++
		}
		next += uint64(k)
		tx.Set(l.key(next-1), encodeChunk(before, time.Unix(0, int64(first)), size, records[:k]))
		before.records += uint64(k)
		before.bytes += uint64(size)
		records = records[k:]
	}
	return first, nil
}

// load reads where the log ends, once. It is called before anything is appended in this process.
func (l *Log) load(r kv.Reader) error {
	l.mu.Lock()
	loaded := l.seq != nil
	l.mu.Unlock()
	if loaded {
		return nil
	}
	var m meta
	b, ok, err := r.Get(l.metaKey())
	if err == nil && ok {
		m, err = decodeMeta(b)
	}
	if err != nil {
		return err
	}
	for e, err := range r.Scan(l.all().Backward()) {
		if err != nil {
			return err
		}
		c, err := decodeChunk(e)
		if err != nil {
			return err
		}
		m.last, m.total = max(m.last, c.last), c.total()
		break
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seq == nil {
		l.seq, l.total = sequence.New(m.last), m.total
		l.newest, l.readable = m.last, m.last
	}
	return nil
}

// ready loads the log outside a transaction.
func (l *Log) ready(ctx context.Context) error {
	l.mu.Lock()
	loaded := l.seq != nil
	l.mu.Unlock()
	if loaded {
		return nil
	}
	return l.logs.db.View(ctx, l.load)
}

// ended is called when a transaction with an append has ended, with its last position.
func (l *Log) ended(last uint64, committed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if committed {
		l.newest = max(l.newest, last)
		l.ahead = append(l.ahead, last)
	}
	settled := l.seq.Settled()
	l.ahead = slices.DeleteFunc(l.ahead, func(p uint64) bool {
		if p >= settled {
			return false
		}
		l.readable = max(l.readable, p)
		return true
	})
	l.wakeLocked()
}

func (l *Log) wakeLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// changeLocked is closed at the next change.
func (l *Log) changeLocked() <-chan struct{} {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// settle returns a position below which nothing changes any more, and which is above everything that is committed now.
func (l *Log) settle(ctx context.Context) (uint64, error) {
	if err := l.ready(ctx); err != nil {
		return 0, err
	}
	l.mu.Lock()
	newest := l.newest
	for {
		settled := l.seq.Settled()
		if settled > newest {
			l.mu.Unlock()
			return settled, nil
		}
		changed := l.changeLocked()
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		l.mu.Lock()
	}
}

// Tail returns the position behind everything that is committed: what is appended from now on has it or a higher one.
func (l *Log) Tail(ctx context.Context) (uint64, error) { return l.settle(ctx) }

// Read, like what else takes a context, is not for use in an Update that has appended. It returns up to maxRecords records from a position on, of at most maxBytes together unless it is a single one. Without any, Next is
// from. What was trimmed is passed over. Data of the records shares memory.
func (l *Log) Read(ctx context.Context, from uint64, maxRecords, maxBytes int) (Batch, error) {
	b := Batch{Next: from}
	end, err := l.settle(ctx)
	if err != nil {
		return b, err
	}
	err = l.logs.db.View(ctx, func(r kv.Reader) error {
		size := 0
		for e, err := range r.Scan(l.rest(from)) {
			if err != nil {
				return err
			}
			c, err := decodeChunk(e)
			if err != nil {
				return err
			}
			if c.last >= end {
				return nil
			}
			for rec := range c.records() {
				if rec.Position < from {
					continue
				}
				if len(b.Records) >= maxRecords || size+len(rec.Data) > maxBytes && size > 0 {
					b.Pending = rec.Time
					return nil
				}
				size += len(rec.Data)
				b.Records = append(b.Records, rec)
				b.Next = rec.Position + 1
			}
		}
		return nil
	})
	return b, err
}

// Wait returns when a record at or behind from can be read, with ErrDropped when the log was dropped, or when ctx ends, with its error.
func (l *Log) Wait(ctx context.Context, from uint64) error {
	if err := l.ready(ctx); err != nil {
		return err
	}
	for {
		l.mu.Lock()
		var changed <-chan struct{}
		dropped, there := l.dropped, l.readable >= from
		if !there && !dropped {
			changed = l.changeLocked()
		}
		l.mu.Unlock()
		switch {
		case dropped:
			return ErrDropped
		case there:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Trim removes what lies below a position, as far as whole chunks do. It reports whether there was anything.
func (l *Log) Trim(ctx context.Context, before uint64) (trimmed bool, err error) {
	settled, err := l.settle(ctx) // what is on its way is not touched
	if err != nil {
		return false, err
	}
	var m meta
	err = l.logs.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(l.upTo(min(before, settled)).Backward()) {
			if err != nil {
				return err
			}
			c, err := decodeChunk(e)
			if err != nil {
				return err
			}
			m, trimmed = meta{last: c.last, total: c.total()}, true
			break
		}
		return nil
	})
	if err != nil || !trimmed {
		return false, err
	}
	err = l.logs.db.Update(ctx, func(tx kv.Tx) error {
		b, ok, err := tx.Get(l.metaKey())
		if err != nil || l.isDropped() {
			return err
		}
		if ok {
			if old, err := decodeMeta(b); err != nil || old.last >= m.last {
				return err // somebody else trimmed more
			}
		}
		tx.Set(l.metaKey(), m.encode()) // positions never go back, even if nothing is left
		tx.Discard(l.upTo(m.last + 1))
		return nil
	})
	return err == nil, err
}

func (l *Log) isDropped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Drop removes the log in a transaction, which must see to it that nothing is appended meanwhile.
func (l *Log) Drop(tx kv.Tx) {
	tx.Delete(l.metaKey())
	tx.Discard(l.all())
	tx.OnEnd(func(committed bool) {
		if !committed {
			return
		}
		l.logs.mu.Lock()
		if l.logs.logs[l.id] == l {
			delete(l.logs.logs, l.id)
		}
		l.logs.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dropped = true
		l.wakeLocked()
	})
}

// Stats returns the extent of the log from a position on.
func (l *Log) Stats(ctx context.Context, from uint64) (s Stats, err error) {
	end, err := l.settle(ctx)
	if err != nil {
		return s, err
	}
	err = l.logs.db.View(ctx, func(r kv.Reader) error {
		var first, last chunk
		for e, err := range r.Scan(l.rest(from)) {
			if err != nil {
				return err
			}
			if first, err = decodeChunk(e); err != nil {
				return err
			}
			break
		}
		if first.last == 0 || first.last >= end {
			return nil
		}
		for e, err := range r.Scan(l.upTo(end).Backward()) {
			if err != nil {
				return err
			}
			if last, err = decodeChunk(e); err != nil {
				return err
			}
			break
		}
		before := first.before
		for rec := range first.records() { // from may lie inside
			if rec.Position >= from {
				break
			}
			before.records++
			before.bytes += uint64(len(rec.Data))
		}
		after := last.total()
		s.Records, s.Bytes = after.records-before.records, after.bytes-before.bytes
		s.First, s.Last = first.time, last.time
		return nil
	})
	return s, err
}
