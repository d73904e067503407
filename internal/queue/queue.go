package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/sequence"
)

// Kind says how a queue orders its messages.
type Kind int

// The kinds of queues.
const (
	Standard Kind = iota
	FIFO
)

// Errors of single messages, and of queues.
var (
	ErrLease    = errors.New("queue: the message was taken again, or is visible again, since it was taken with this lease")
	ErrVisible  = errors.New("queue: the message is not in flight")
	ErrGone     = errors.New("queue: the message was deleted")
	ErrTotal    = errors.New("queue: the message would be in flight for longer than is allowed")
	ErrInFlight = errors.New("queue: too many messages are in flight")
	ErrDropped  = errors.New("queue: the queue was dropped")
)

// MaxVisibility is how long a message may be in flight in all after one take.
const MaxVisibility = 12 * time.Hour

// ID names a message of a queue for as long as it is there. IDs of a queue differ, over restarts too.
type ID struct {
	Due int64  // when its delay ends, in nanoseconds since 1970; 0 if it has none
	Seq uint64 // increases from message to message as they are added
}

// String returns the ID as ParseID takes it.
func (id ID) String() string { return fmt.Sprintf("%d.%d", id.Due, id.Seq) }

// ParseID reads what String returns.
func ParseID(s string) (id ID, err error) {
	due, seq, _ := strings.Cut(s, ".")
	if id.Due, err = strconv.ParseInt(due, 10, 64); err == nil {
		id.Seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil || id.Due < 0 || id.String() != s {
		return ID{}, fmt.Errorf("queue: %q is no ID of a message", s)
	}
	return id, nil
}

// before reports whether id comes before other among the rows.
func (id ID) before(other ID) bool {
	return id.Due < other.Due || id.Due == other.Due && id.Seq < other.Seq
}

// Message is a message to add.
type Message struct {
	Group string        // of a FIFO queue: whose order is kept; of a standard queue: who takes turns with others
	Sent  time.Time     // zero: now. Retention counts from it
	Delay time.Duration // how long it cannot be taken at first. Standard queues only
	Note  []byte        // small, kept with the header
	Body  []byte        // at most kv.MaxValueBytes
}

// Delivery is a message that was taken.
type Delivery struct {
	ID
	Takes   int       // how often it was taken, this time included: with the ID it is the lease
	Group   string    //
	Sent    time.Time // when it was added
	First   time.Time // when it was first taken
	Visible time.Time // when it will be visible again
	Note    []byte
	Body    []byte
}

// Lease names one take of a message.
type Lease struct {
	ID
	Takes int
}

// Lease returns the lease of a delivery.
func (d *Delivery) Lease() Lease { return Lease{d.ID, d.Takes} }

// Counts are the messages of a queue.
type Counts struct {
	Visible, InFlight, Delayed int
}

// Options bound the queues of a family. Zero values mean the defaults.
type Options struct {
	Window int // headers kept in memory ahead; 1,024
	Groups int // headers that a FIFO queue looks through for one whose group is not blocked; 120,000
	// Ready is called when a queue on which nobody waits may have messages to take. It must return at once and must not call the queue.
	Ready func(id string)

	now func() time.Time
}

// Queues are the queues of a family. The methods may be called concurrently.
type Queues struct {
	db     kv.DB
	family string
	opts   Options

	mu     sync.Mutex
	queues map[string]*Queue

	// Numbers up to ceiling may have been used before a restart, so they start above it; see number.
	ceilingMu   sync.Mutex
	ceilingRead bool
	floor       uint64
	ceiling     uint64
}

// New returns the queues of a family, which no other Queues of the store may have.
func New(db kv.DB, family string, opts Options) *Queues {
	if opts.Window <= 0 {
		opts.Window = 1024
	}
	if opts.Groups <= 0 {
		opts.Groups = 120_000
	}
	if opts.now == nil {
		opts.now = time.Now
	}
	return &Queues{db: db, family: family, opts: opts, queues: map[string]*Queue{}}
}

// Queue returns the queue of an id, at no cost. The kind has to be the same each time. An id is used for one queue only: what is dropped
// does not come back under the same one.
func (s *Queues) Queue(id string, kind Kind) *Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		q = &Queue{s: s, id: id, kind: kind}
		q.reset()
		s.queues[id] = q
	}
	return q
}

// IDs lists the queues that have messages, at the cost of one seek each.
func (s *Queues) IDs(r kv.Reader) (ids []string, err error) {
	rest := s.headers()
	for {
		id, found := "", false
		for e, err := range r.Scan(rest) {
			if err != nil {
				return nil, err
			}
			if err := kv.Decode(e.Key, nil, nil, nil, &id, nil, nil); err != nil {
				return nil, err
			}
			found = true
			break
		}
		if !found {
			return ids, nil
		}
		ids = append(ids, id)
		rest.Start = s.headersOf(id).End
	}
}

// Forget frees the memory of a queue that nobody waits on and that has no messages. It reports whether it did.
func (s *Queues) Forget(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiters) > 0 || q.adding > 0 || q.phase != loaded || q.total > 0 || len(q.entries) > 0 {
		return false
	}
	q.stopLocked()
	q.forgotten = true
	delete(s.queues, id)
	s.ceilingMu.Lock()
	s.floor = max(s.floor, q.seq.Settled()-1) // the next queue of this id goes on behind it
	s.ceilingMu.Unlock()
	return true
}

// Close stops the timers. Nothing else may be done after it.
func (s *Queues) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.mu.Lock()
		q.dropped = true
		q.stopLocked()
		q.wakeLocked(len(q.waiters))
		q.mu.Unlock()
	}
}

// Queue is one queue. Its methods may be called concurrently.
type Queue struct {
	s    *Queues
	id   string
	kind Kind

	mu     sync.Mutex
	seq    *sequence.Sequence // nil before the first message is added or read
	adding int                // transactions that add
	early  []*entry           // committed before a load, some while transactions with lower numbers had not ended
	prune  int                // how long early may become
	memory

	waiters   []*waiter
	timer     *time.Timer
	armed     time.Time // when timer fires; zero if it does not
	dropped   bool
	forgotten bool
}

// Add writes a message in a transaction. It can be taken when that is committed. It reads nothing, so it conflicts with nothing.
func (q *Queue) Add(tx kv.Tx, m Message) (ID, error) {
	now := q.s.opts.now()
	if m.Sent.IsZero() {
		m.Sent = now
	}
	e := &entry{group: m.Group, sent: m.Sent.UnixNano(), note: m.Note, index: -1}
	if m.Delay > 0 {
		e.delay = m.Delay
	}
	if err := q.place(tx, e, now); err != nil {
		return ID{}, err
	}
	e.body = e.id
	tx.Set(q.headerKey(e.id), e.encode())
	tx.Set(q.bodyKey(e.id), m.Body)
	return e.id, nil
}

// place gives an entry its ID, and puts it into memory when tx is committed.
func (q *Queue) place(tx kv.Tx, e *entry, now time.Time) error {
	if q.kind == FIFO {
		e.delay = 0
	}
	q.mu.Lock()
	for q.forgotten {
		q.mu.Unlock()
		q = q.s.Queue(q.id, q.kind)
		q.mu.Lock()
	}
	if q.seq == nil {
		floor, err := q.s.startAbove(tx)
		if err != nil {
			q.mu.Unlock()
			return err
		}
		q.seq = sequence.New(floor)
	}
	q.adding++
	e.id.Seq = q.seq.Open(1)
	q.mu.Unlock()
	if e.delay > 0 {
		e.id.Due = max(1, now.Add(e.delay).UnixNano())
	}
	q.s.reserve(tx, e.id.Seq)
	tx.OnEnd(func(committed bool) { q.added(e, committed) })
	return nil
}

// startAbove returns the number above which those of this process start.
func (s *Queues) startAbove(r kv.Reader) (uint64, error) {
	s.ceilingMu.Lock()
	defer s.ceilingMu.Unlock()
	if !s.ceilingRead {
		v, _, err := kv.GetJSON[uint64](r, s.ceilingKey())
		if err != nil {
			return 0, err
		}
		s.floor, s.ceiling, s.ceilingRead = v, v, true
	}
	return s.floor, nil
}

const (
	reserved = uint64(2 * time.Minute)  // numbers that are reserved at a time
	margin   = uint64(30 * time.Second) // of them are never used
)

// reserve sees to it that no number is used that a restart could use again: when seq comes near the durable ceiling, tx raises that.
func (s *Queues) reserve(tx kv.Tx, seq uint64) {
	s.ceilingMu.Lock()
	enough := seq+margin < s.ceiling
	s.ceilingMu.Unlock()
	if enough {
		return
	}
	next := seq + reserved
	if err := kv.SetJSON(tx, s.ceilingKey(), next); err != nil {
		panic(err) // a number is always written
	}
	tx.OnEnd(func(committed bool) {
		if committed {
			s.ceilingMu.Lock()
			s.ceiling = max(s.ceiling, next-margin) // transactions end in any order: the row may be of one that began a little earlier
			s.ceilingMu.Unlock()
		}
	})
}

// Drop removes the queue with all its messages. No transaction that adds to it may be committed after that: the caller sees to it by
// a row that says that the queue is there, which each of them reads. What waits on it gets ErrDropped.
func (q *Queue) Drop(ctx context.Context) error {
	err := q.s.db.Update(ctx, func(tx kv.Tx) error {
		q.Discard(tx)
		return nil
	})
	if err == nil {
		q.drop()
	}
	return err
}

// Discard is Drop in a transaction of the caller.
func (q *Queue) Discard(tx kv.Tx) {
	tx.Discard(q.headers())
	tx.Discard(q.bodies())
	tx.OnEnd(func(committed bool) {
		if committed {
			q.drop()
		}
	})
}

func (q *Queue) drop() {
	q.s.mu.Lock()
	if q.s.queues[q.id] == q {
		delete(q.s.queues, q.id)
	}
	q.s.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped = true
	q.reset()
	q.stopLocked()
	q.wakeLocked(len(q.waiters))
}

// Counts returns how many messages there are. delay is the delay that a FIFO queue has now.
func (q *Queue) Counts(ctx context.Context, delay time.Duration) (c Counts, err error) {
	q.mu.Lock()
	if err := q.loadLocked(ctx); err != nil {
		q.mu.Unlock()
		return c, err
	}
	now := q.s.opts.now().UnixNano()
	c.InFlight = q.flying
	for second, n := range q.delayed {
		if second*int64(time.Second) > now {
			c.Delayed += n
		} else {
			delete(q.delayed, second)
		}
	}
	total := q.total
	q.mu.Unlock()
	if q.kind == FIFO && delay > 0 {
		c.Delayed, err = q.recent(ctx, now-int64(delay))
	}
	c.Visible = max(0, total-c.InFlight-c.Delayed)
	return c, err
}

// recent counts the messages of a FIFO queue that were sent after a time and not taken yet.
func (q *Queue) recent(ctx context.Context, after int64) (n int, err error) {
	err = q.s.db.View(ctx, func(r kv.Reader) error {
		for x, err := range r.Scan(kv.Range{Start: q.headerKey(ID{Seq: uint64(max(0, after))}), End: q.headers().End}) {
			if err != nil {
				return err
			}
			e, err := decode(x)
			if err != nil {
				return err
			}
			if e.takes == 0 && e.sent > after {
				n++
			}
		}
		return nil
	})
	return n, err
}

// Oldest returns when about the oldest message was sent, and whether there is one.
func (q *Queue) Oldest(ctx context.Context) (sent time.Time, ok bool, err error) {
	late := kv.Range{Start: q.headerKey(ID{Due: 1}), End: q.headers().End}
	err = q.s.db.View(ctx, func(r kv.Reader) error {
		for _, rg := range []kv.Range{q.headers(), late} {
			for x, err := range r.Scan(rg) {
				if err != nil {
					return err
				}
				e, err := decode(x)
				if err != nil {
					return err
				}
				if t := time.Unix(0, e.sent); !ok || t.Before(sent) {
					sent, ok = t, true
				}
				break
			}
		}
		return nil
	})
	return sent, ok, err
}
