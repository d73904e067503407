package eventsource

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of what one shard keeps in memory.
const (
	maxBuffered      = 10_000   // records read and not begun, beside the batches that one invocation of each lane needs
	maxBufferedBytes = 16 << 20 // of them
	readAgain        = 2500     // once that is reached, so much of it is free before more is read, unless a lane has no batch: a read for each batch would be too dear
	maxRead          = 10_000   // records of one Read
)

// shard is a shard of a mapping's stream. It is a state machine: whoever changes its state under mu calls step, which starts in goroutines of their
// own what can be started (a read, an invocation in each lane, a commit) and sets the timer for what must wait. So a shard with nothing to do
// costs its memory only.
type shard struct {
	stream *stream
	id     string
	first  string // Shard.First
	parent []string

	arrived atomic.Bool // something may have arrived since the last read began

	mu      sync.Mutex
	active  bool // may start something
	running sync.WaitGroup
	timer   *time.Timer

	base    Position
	read    string
	lanes   []*lane
	old     []layout
	windows map[int64]*window
	closed  []int64 // windows whose rows are to be removed
	newest  time.Time

	reading   bool
	full      bool // as much was read as is kept, and not enough of it begun since
	tip       bool // the last read found the end of what there is
	oldest    bool // what comes next has expired
	ended     bool // the last record of a closed shard was read
	failures  int  // reads in a row that failed
	readError string
	readAfter time.Time
	missed    time.Time // since when there may be records that were not read; zero if there are none

	dirty       bool
	committing  bool
	commitAfter time.Time
	losses      []*loss // given up, not yet stored
	drained     bool    // stored
}

func newShard(s *stream, info Shard, row *shardRow, windows []*window, start Position, lanes int) *shard {
	sh := &shard{stream: s, id: info.ID, first: info.First, parent: info.Parents, windows: map[int64]*window{}, base: start}
	if row == nil {
		sh.dirty = true // so that it is known from now on that shards which follow it came later
		for range lanes {
			sh.lanes = append(sh.lanes, &lane{})
		}
		return sh
	}
	sh.base, sh.read, sh.old, sh.newest, sh.drained = row.Base, "", row.Old, row.Newest, row.Drained
	sh.ended = sh.drained
	for _, r := range row.Lanes {
		l := &lane{done: r.Done}
		for _, i := range r.Items {
			l.items = append(l.items, i.item())
			if compare(i.Last, l.end) > 0 {
				l.end = i.Last
			}
		}
		sh.lanes = append(sh.lanes, l)
	}
	now := time.Now()
	for _, w := range windows {
		w.over(now, w.Aggregate.Size)
		sh.windows[w.id()] = w
	}
	return sh
}

// start lets the shard work.
func (s *shard) start() {
	s.mu.Lock()
	if !s.active && !s.ended && s.missed.IsZero() {
		s.missed = time.Now()
	}
	s.active = true
	s.step()
	s.unlock()
}

// wake makes the shard read. It never blocks.
func (s *shard) wake() {
	s.arrived.Store(true)
	if s.mu.TryLock() {
		s.step()
		s.unlock()
	}
}

// unlock releases mu, and serves a wake that came while it was held.
func (s *shard) unlock() {
	s.mu.Unlock()
	for s.arrived.Load() && s.mu.TryLock() {
		s.step()
		waits := s.arrived.Load() // for something whose end is a step: a read, an invocation, a timer
		s.mu.Unlock()
		if waits {
			return
		}
	}
}

// again makes the shard try at once what it waits with for a trouble: the mapping, or what it needs, has changed.
func (s *shard) again() {
	s.mu.Lock()
	s.readAfter = time.Time{}
	for _, l := range s.lanes {
		for _, it := range l.items {
			if it.troubles > 0 {
				it.due = time.Time{}
			}
		}
	}
	s.arrived.Store(true)
	s.step()
	s.unlock()
}

// stop starts nothing more and waits for what is in flight and for the last commit.
func (s *shard) stop() {
	s.mu.Lock()
	s.active = false
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.mu.Unlock()
	s.running.Wait()
}

// spawn runs f beside. It reports false after the engine has stopped.
func (s *shard) spawn(f func(ctx context.Context)) bool {
	s.running.Add(1)
	if s.stream.engine.spawn(func(ctx context.Context) {
		defer s.running.Done()
		f(ctx)
	}) {
		return true
	}
	s.running.Done()
	return false
}

// step starts what can be started. mu is held.
func (s *shard) step() {
	if !s.active {
		return
	}
	now := time.Now()
	m := s.stream.mapping.Load()
	s.relayout(m)
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if s.arrived.Load() {
		s.tip = false
		if s.missed.IsZero() {
			s.missed = now
		}
	}
	for _, l := range s.lanes {
		at(s.advance(m, l, now))
	}
	at(s.startRead(m, now))
	at(s.startCommit(now))
	if s.ended && !s.drained && !s.dirty && !s.committing && s.idle() {
		s.drained, s.dirty = true, true
		at(s.startCommit(now))
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if !next.IsZero() && s.active {
		s.timer = time.AfterFunc(max(next.Sub(now), 0), func() {
			s.mu.Lock()
			s.step()
			s.unlock()
		})
	}
}

// idle reports whether all lanes are and no window is open.
func (s *shard) idle() bool {
	for _, l := range s.lanes {
		if !l.idle() {
			return false
		}
	}
	return len(s.windows) == 0
}

// relayout divides the records among another number of lanes once no invocation is in flight and no window open. What was read and not done is read
// again; what is done in the old division is skipped. Until then no batch begins.
func (s *shard) relayout(m *Mapping) {
	if len(s.lanes) == m.lanes() || len(s.windows) > 0 || s.reading {
		return
	}
	for _, l := range s.lanes {
		if l.busy {
			return
		}
	}
	var done layout
	for _, l := range s.lanes {
		done.Done = append(done.Done, s.doneOf(l))
	}
	if r := s.resume(); r != "" {
		s.base = Position{After: r}
	}
	s.old = append(s.old, done)
	s.lanes = nil
	for range m.lanes() {
		s.lanes = append(s.lanes, &lane{})
	}
	s.read, s.tip, s.ended, s.dirty = "", false, false, true
}

// changing reports whether relayout waits.
func (s *shard) changing(m *Mapping) bool { return len(s.lanes) != m.lanes() && len(s.windows) == 0 }

// doneOf is up to where a lane is done.
func (s *shard) doneOf(l *lane) string {
	if l.idle() && compare(s.read, l.done) > 0 && compare(s.read, l.end) >= 0 {
		return s.read
	}
	return l.done
}

// resume is the sequence number behind which reading must begin again; empty means at base.
func (s *shard) resume() string {
	least := s.doneOf(s.lanes[0])
	for _, l := range s.lanes[1:] {
		if d := s.doneOf(l); compare(d, least) < 0 {
			least = d
		}
	}
	return least
}

// isDone reports whether a record was done in this division or an older one.
func (s *shard) isDone(r *Record) bool {
	if compare(r.ID, s.lanes[laneOf(r.Key, len(s.lanes))].done) <= 0 {
		return true
	}
	for _, o := range s.old {
		if compare(r.ID, o.Done[laneOf(r.Key, len(o.Done))]) <= 0 {
			return true
		}
	}
	return false
}

// position is where the next read begins.
func (s *shard) position() Position {
	if s.oldest {
		return Position{}
	}
	if s.read != "" {
		return Position{After: s.read}
	}
	if r := s.resume(); r != "" {
		return Position{After: r}
	}
	return s.base
}

func (s *shard) startRead(m *Mapping, now time.Time) (wait time.Time) {
	if s.reading || s.ended || s.changing(m) {
		return
	}
	if now.Before(s.readAfter) {
		return s.readAfter
	}
	if s.tip {
		return
	}
	count, bytes, starves := 0, 0, false
	for _, l := range s.lanes {
		count += len(l.buffer)
		bytes += l.bytes
		starves = starves || len(l.buffer) < m.BatchSize
	}
	room := max(maxBuffered, m.BatchSize) + m.BatchSize*(len(s.lanes)-1) - count
	s.full = room <= 0 || bytes >= maxBufferedBytes || s.full && room < readAgain && !starves
	if s.full {
		return
	}
	s.arrived.Store(false)
	from := s.position()
	s.reading = s.spawn(func(ctx context.Context) { s.readPage(ctx, m, from, min(room, maxRead)) })
	return
}

// readPage reads and gives the page to the lanes.
func (s *shard) readPage(ctx context.Context, m *Mapping, from Position, most int) {
	page, err := s.stream.source.Read(ctx, s.id, from, most)
	if errors.Is(err, ErrGone) {
		defer s.stream.refresh() // perhaps the shard is not there any more, or another of the same name
	}
	took := make([]bool, len(page.Records))
	for i := range page.Records {
		took[i] = m.Filter == nil || m.Filter.Match(&page.Records[i])
		page.Records[i].Data = nil
	}
	s.mu.Lock()
	defer s.unlock()
	s.reading = false
	if ctx.Err() != nil || !s.active {
		return
	}
	now := time.Now()
	t := &s.stream.tally
	if err != nil {
		s.failures++
		s.readAfter = now.Add(readBackoff(s.failures))
		if errors.Is(err, ErrExpired) && (from != Position{}) {
			// What was not read in time is gone. Whatever is left comes after everything that was done.
			s.stream.engine.log.Warn("records expired before they were read", "mapping", m.ID, "shard", s.id, "from", from)
			s.oldest, s.readAfter = true, time.Time{}
		}
		s.readError = brief(err.Error())
		t.trouble(err)
		s.step()
		return
	}
	s.failures, s.readError = 0, ""
	if s.missed = (time.Time{}); s.arrived.Load() {
		s.missed = now
	}
	for i := range page.Records {
		s.accept(&page.Records[i], took[i], now)
	}
	t.read(len(page.Records))
	if len(page.Records) > 0 {
		s.dirty, s.oldest = true, false
	}
	s.tip = !page.More && !s.arrived.Load()
	s.ended = page.End
	s.step()
}

// accept gives a record that was read to its lane.
func (s *shard) accept(r *Record, took bool, now time.Time) {
	l := s.lanes[laneOf(r.Key, len(s.lanes))]
	l.done = s.doneOf(l) // which an idle lane would forget when it gets a record: what others had done before it would be done again
	s.read, r.seen = r.ID, now
	if s.isDone(r) {
		return
	}
	if l.end != "" && compare(r.ID, l.end) <= 0 {
		for _, it := range l.items {
			if took && it.restored && !it.final && compare(it.first, r.ID) <= 0 && compare(r.ID, it.last) <= 0 {
				it.records = append(it.records, *r)
			}
		}
		return
	}
	if !took {
		s.stream.tally.filtered(1)
		return
	}
	l.buffer = append(l.buffer, *r)
	l.bytes += len(r.JSON) + 1
}

// readBackoff is how long to wait after reads that failed.
func readBackoff(failures int) time.Duration {
	return min(200*time.Millisecond<<min(failures-1, 10), 30*time.Second)
}
