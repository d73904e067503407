package eventsource

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// maxAhead is how many invocations of a lane may have ended without being stored before the next begins. One commit runs at a time, beside invocations, and takes
// all that has ended before it: so a slow disk does not slow down a fast function, and a crash repeats what ended during one commit and the batch in flight.
const maxAhead = 16

// advance starts the next invocation of a lane, or returns when there may be one.
func (s *shard) advance(m *Mapping, l *lane, now time.Time) (wait time.Time) {
	if l.busy || l.ahead >= maxAhead {
		return
	}
	for {
		if len(l.items) == 0 {
			if s.changing(m) {
				return
			}
			formed, wait := s.form(m, l, now)
			if !formed {
				return wait
			}
		}
		it := l.items[0]
		if it.restored && !it.final && compare(s.read, it.last) < 0 && !s.tip && !s.ended {
			return // its records are still to be read
		}
		if it.restored && !it.final && len(it.records) == 0 {
			l.replace() // what it held is gone or no longer taken by the filter
			s.dirty = true
			continue
		}
		if s.changing(m) {
			return
		}
		if s.expire(m, l, now) {
			continue
		}
		if now.Before(it.due) {
			return earlier(it.due, m.expiry(it, now))
		}
		if s.doubtful(it, now) {
			s.ask(l, it)
			return
		}
		s.invoke(m, l, it, now)
		return
	}
}

// form makes items of what waits: a batch, in as many windows as it is in, or the ends of windows. Otherwise it returns when one is due.
func (s *shard) form(m *Mapping, l *lane, now time.Time) (formed bool, wait time.Time) {
	a := m.Aggregate
	for _, w := range s.windows {
		if w.Aggregate != a {
			return s.finish(l, func(*window) bool { return true }, false), wait // the mapping has others now
		}
	}
	atTip := len(l.buffer) == 0 && (s.tip || s.ended) && !s.reading
	if a.Size > 0 && (len(l.buffer) > 0 || atTip) && s.finish(l, func(w *window) bool {
		if atTip {
			return s.ended || !now.Before(w.by)
		}
		return !w.End.After(s.arrival(&l.buffer[0]))
	}, true) {
		return true, wait
	}
	if len(l.buffer) == 0 {
		if atTip {
			wait = s.firstEnd()
		}
		return false, wait
	}
	n, bytes, full := 0, 0, s.ended
	newest := s.newest
	for i := range l.buffer {
		x := &l.buffer[i]
		if n == m.BatchSize || n > 0 && bytes+len(x.JSON)+1 > MaxPayload-envelope-s.stateBytes() {
			full = true
			break
		}
		if a.Size > 0 {
			at := later(x.Arrival, newest)
			if n > 0 && (a.Session && at.Sub(newest) >= a.Size || !a.Session && a.pane(at) != a.pane(newest)) {
				full = true
				break
			}
			newest = at
		}
		n++
		bytes += len(x.JSON) + 1
	}
	if n == m.BatchSize {
		full = true
	}
	if due := l.buffer[0].seen.Add(m.Window); !full && now.Before(due) {
		end := s.firstEnd()
		if a.Size > 0 { // what opens a window does not wait beyond its end either
			at := s.arrival(&l.buffer[0])
			end = earlier(end, l.buffer[0].seen.Add(a.windows(at)[0].End.Sub(at)+grace))
		}
		if end.IsZero() || now.Before(end) {
			return false, earlier(due, end)
		}
	}
	if a.Size == 0 {
		l.items = append(l.items, newItem(l.take(n), 0))
		return true, wait
	}
	at := s.arrival(&l.buffer[0])
	records := l.take(n)
	s.newest = newest
	for _, w := range s.enter(a, at, newest, now) {
		l.items = append(l.items, newItem(records, w.id()))
	}
	s.dirty = true
	return true, wait
}

// arrival is when a record counts as arrived for windows.
func (s *shard) arrival(x *Record) time.Time { return later(x.Arrival, s.newest) }

// enter opens the windows of records that arrived from at to newest.
func (s *shard) enter(a Aggregate, at, newest, now time.Time) (in []*window) {
	if a.Session {
		for _, w := range s.windows {
			w.End, w.dirty = newest.Add(a.Size), true
			w.over(now, a.Size)
			return []*window{w}
		}
	}
	for _, w := range a.windows(at) {
		if open := s.windows[w.id()]; open != nil {
			w = open
		} else {
			if a.Session {
				w.End = newest.Add(a.Size)
			}
			w.dirty = true
			w.over(now, w.End.Sub(newest))
			s.windows[w.id()] = w
		}
		in = append(in, w)
	}
	return in
}

// finish makes items of the ends of the windows that over picks, the oldest first. If they are over by time, nothing counts as arrived before their ends
// any more.
func (s *shard) finish(l *lane, over func(*window) bool, byTime bool) bool {
	var ends []*window
	for _, w := range s.windows {
		if over(w) {
			ends = append(ends, w)
		}
	}
	slices.SortFunc(ends, func(a, b *window) int { return a.Start.Compare(b.Start) })
	for _, w := range ends {
		if byTime {
			s.newest = later(s.newest, w.End)
		}
		l.items = append(l.items, &item{window: w.id(), final: true})
	}
	s.dirty = s.dirty || len(ends) > 0
	return len(ends) > 0
}

// firstEnd is when, by the clock, the first open window is over; zero if none is open.
func (s *shard) firstEnd() (t time.Time) {
	for _, w := range s.windows {
		t = earlier(t, w.by)
	}
	return t
}

// stateBytes is how much of an event the largest state takes.
func (s *shard) stateBytes() (n int) {
	for _, w := range s.windows {
		n = max(n, len(w.State))
	}
	return min(n, maxState)
}

// expiry is when the first record of an item is too old; zero means never.
func (m *Mapping) expiry(it *item, now time.Time) (t time.Time) {
	if m.MaxAge > 0 && len(it.records) > 0 {
		t = now.Add(m.MaxAge - it.records[0].age(now))
	}
	return t
}

// expire gives up the leading records of a lane's first item that are too old, or the end of a window that failed for so long, and reports
// whether there were any.
func (s *shard) expire(m *Mapping, l *lane, now time.Time) bool {
	it := l.items[0]
	if w := s.windows[it.window]; it.final && it.invokes > 0 && m.MaxAge > 0 && w != nil && now.Sub(w.End) >= m.MaxAge {
		s.giveUp(l, it, expired)
		return true
	}
	n := 0
	for n < len(it.records) && m.MaxAge > 0 && it.records[n].age(now) >= m.MaxAge {
		n++
	}
	s.outlive(l, n)
	return n > 0
}

// outlive gives up the first n records of a lane's first item, which have expired.
func (s *shard) outlive(l *lane, n int) {
	if n == 0 {
		return
	}
	it := l.items[0]
	s.lose(l, it, &loss{records: it.records[:n], condition: expired, invokes: it.invokes + 1, request: it.request, message: it.message})
	rest := it.records[n:]
	if len(rest) == 0 {
		l.replace()
		return
	}
	last := it.records[n-1].ID
	it.records, it.first = rest, rest[0].ID
	l.advance(last)
}

// No stream keeps records for less than askAfter: only then is it asked, at most every askEvery, whether it still has those that are tried again.
const (
	askAfter = time.Hour
	askEvery = time.Minute
)

// doubtful reports whether the stream is to be asked whether it still has what an item, which is tried again, is about.
func (s *shard) doubtful(it *item, now time.Time) bool {
	if it.invokes+it.troubles == 0 || !it.checked.IsZero() && now.Sub(it.checked) < askEvery {
		return false
	}
	if w := s.windows[it.window]; it.final && w != nil {
		return now.Sub(w.End) >= askAfter
	}
	return len(it.records) > 0 && it.records[0].age(now) >= askAfter
}

// ask gives up those records of a lane's first item that the stream does not have any more, or the end of a window when they are all newer. As on AWS nothing
// is tried again for longer, whatever the mapping says.
func (s *shard) ask(l *lane, it *item) {
	l.busy = s.spawn(func(ctx context.Context) {
		page, err := s.stream.source.Read(ctx, s.id, Position{}, 1)
		s.mu.Lock()
		defer s.unlock()
		l.busy = false
		if ctx.Err() != nil || !s.active {
			return
		}
		it.checked = time.Now()
		none := errors.Is(err, ErrGone) || err == nil && len(page.Records) == 0 && !page.More
		switch w := s.windows[it.window]; {
		case !none && len(page.Records) == 0: // not known
		case !it.final:
			n := len(it.records)
			if !none {
				n = slices.IndexFunc(it.records, func(r Record) bool { return compare(r.ID, page.Records[0].ID) >= 0 })
			}
			if n < 0 {
				n = len(it.records)
			}
			s.outlive(l, n)
		case w != nil && (none || !page.Records[0].Arrival.Before(w.End)):
			s.giveUp(l, it, expired)
		}
		s.step()
	})
}

// giveUp gives up the end of a window.
func (s *shard) giveUp(l *lane, it *item, condition string) {
	s.lose(l, it, &loss{condition: condition, invokes: it.invokes + 1, request: it.request, message: it.message})
	s.over(it)
	l.replace()
}

// lose notes what was given up of an item.
func (s *shard) lose(l *lane, it *item, x *loss) {
	x.split, x.lane, x.lanes = it.split, slices.Index(s.lanes, l), len(s.lanes)
	s.losses = append(s.losses, x)
	s.dirty = true
	s.stream.tally.dropped(len(x.records))
}

// invoke starts the invocation of a lane's first item.
func (s *shard) invoke(m *Mapping, l *lane, it *item, now time.Time) {
	var payload []byte
	if it.window != 0 {
		w := s.windows[it.window]
		payload = windowEvent(it.records, w, s.id, m.SourceARN, it.final, it.early)
	} else {
		payload = event(it.records)
	}
	l.busy, l.since = true, now
	s.stream.tally.begin(len(it.records), it.invokes > 0 || it.troubles > 0)
	if !s.spawn(func(ctx context.Context) {
		answer, err := s.stream.engine.invoker.Invoke(ctx, m, "", payload)
		s.mu.Lock()
		defer s.unlock()
		l.busy = false
		stopped := err != nil && ctx.Err() != nil
		s.stream.tally.end()
		if !stopped {
			s.settle(m, l, it, answer, err, time.Now())
		}
		s.step()
		if !s.active {
			s.startCommit(time.Now()) // the mapping or the engine stops: what is done is stored
		}
	}) {
		l.busy = false
	}
}

// settle applies the outcome of an invocation of a lane's first item.
func (s *shard) settle(m *Mapping, l *lane, it *item, a *Answer, err error, now time.Time) {
	t := &s.stream.tally
	if err != nil {
		it.message = explained(err)
		t.problem(err)
		s.refused(m, l, it, err, now)
		return
	}
	if it.troubles > 0 {
		it.troubles = 0
		s.stream.turnstile.leave(l)
	}
	it.invokes++
	it.request, it.response = a.RequestID, answered(a)
	l.ahead++
	s.dirty = true
	if a.FunctionError != "" {
		it.message = brief(string(a.Payload))
		s.fail(m, l, it, now)
		return
	}
	r, err := parseAnswer(a.Payload, m.ReportItemFailures && !it.final, it.window != 0 && !it.final)
	var bad []Record
	if err == nil {
		_, bad, err = r.divide(it.records)
	}
	if err != nil {
		it.message = err.Error()
		s.fail(m, l, it, now)
		return
	}
	at := len(it.records)
	if len(bad) > 0 {
		at = slices.IndexFunc(it.records, func(r Record) bool { return r.ID == bad[0].ID })
	}
	s.keep(l, it, r.state)
	if at > 0 {
		s.stream.batches.note(doneBatch{
			shard: s.id, lane: slices.Index(s.lanes, l), lanes: len(s.lanes), first: it.first, last: it.records[at-1].ID, records: at,
			at: now, request: a.RequestID, failed: it.failed, split: it.split,
		}, s.stream.engine.kept())
	}
	if len(bad) == 0 {
		t.ok(0)
		if it.final {
			s.over(it)
		}
		l.replace(s.early(it)...)
		return
	}
	// Everything before the record at which the function stopped is done, and the batch goes on from there. The record has failed once if
	// the one before it that had failed now passed.
	t.ok(len(it.records) - at)
	it.message = errReported
	rest := it.part(it.records[at:])
	rest.invokes, rest.failed = it.invokes, it.failed+1
	if at > 0 {
		rest.failed = 1
	}
	rest.request, rest.response, rest.message = it.request, it.response, it.message
	if m.MaxRetries < 0 || rest.failed <= m.MaxRetries {
		rest.due = now.Add(backoff(rest.failed))
		l.replaceFrom(at, append(s.early(it), rest)...)
		return
	}
	s.lose(l, it, &loss{records: rest.records[:1], condition: exhausted, invokes: rest.invokes, request: rest.request, response: rest.response, message: rest.message})
	next := s.early(it)
	if len(rest.records) > 1 {
		next = append(next, it.part(rest.records[1:]))
	}
	l.replaceFrom(at+1, next...)
}

// replaceFrom is replace by items that hold the records from n on.
func (l *lane) replaceFrom(n int, others ...*item) {
	it := l.items[0]
	l.items = append(others, l.items[1:]...)
	if n > 0 {
		l.advance(it.records[n-1].ID)
	}
}

// fail counts a failure of the whole of an item: it is split, tried again later, or given up.
func (s *shard) fail(m *Mapping, l *lane, it *item, now time.Time) {
	s.stream.tally.failed(max(len(it.records), 1), it.message)
	if n := len(it.records); m.Bisect && n > 1 {
		s.split(l, it)
		return
	}
	it.failed++
	if m.MaxRetries < 0 || it.failed <= m.MaxRetries {
		it.due = now.Add(backoff(it.failed))
		return
	}
	s.lose(l, it, &loss{records: it.records, condition: exhausted, invokes: it.invokes, request: it.request, response: it.response, message: it.message})
	if it.final {
		s.over(it)
	}
	l.replace()
}

// split replaces an item by its halves, the first of which must be through before the second begins. It costs no attempt.
func (s *shard) split(l *lane, it *item) {
	half := len(it.records) / 2
	a, b := it.part(it.records[:half]), it.part(it.records[half:])
	whole := it.split
	if whole == nil {
		whole = &Split{First: it.first, Last: it.last, Records: len(it.records)}
	}
	for _, x := range []*item{a, b} {
		x.split = whole
		x.failed, x.request, x.response, x.message = it.failed, it.request, it.response, it.message
	}
	l.items = append([]*item{a, b}, l.items[1:]...)
	s.stream.tally.bisected()
}

// refused waits with an item that the function did not get: a throttle, an error of the service. It costs no attempt, but records grow old.
func (s *shard) refused(m *Mapping, l *lane, it *item, err error, now time.Time) {
	if tooLarge(err) {
		if it.final { // its state alone is too large
			s.giveUp(l, it, oversized)
			return
		}
		if len(it.records) > 1 {
			s.split(l, it)
			s.dirty = true
			return
		}
		s.lose(l, it, &loss{records: it.records, condition: oversized, invokes: it.invokes, request: it.request, message: it.message})
		l.replace()
		return
	}
	it.troubles++
	it.throttled = throttled(err)
	it.due = now.Add(troubleBackoff(it.troubles))
	if freed := freedOf(err); freed != nil {
		it.due = now.Add(heldFor)
		s.stream.turnstile.wait(s.stream.engine.spawn, s.stream.done, freed, l, func() {
			s.mu.Lock()
			it.due = time.Time{}
			s.step()
			s.unlock()
		})
	}
}

// troubleBackoff is how long to wait after a number of throttles in a row.
func troubleBackoff(n int) time.Duration {
	return min(100*time.Millisecond<<min(n-1, 10), 10*time.Second)
}

func tooLarge(err error) bool { return apierr.Code(err) == "RequestTooLargeException" }

func throttled(err error) bool { return apierr.Code(err) == "TooManyRequestsException" }

func looping(err error) bool { return apierr.Code(err) == "RecursiveInvocationException" }

// keep makes the state of an answer that of the item's window.
func (s *shard) keep(l *lane, it *item, state []byte) {
	if state == nil {
		return
	}
	if w := s.windows[it.window]; w != nil {
		w.State, w.dirty = slices.Clone(state), true
	}
}

// early returns the invocation that ends a window whose state has grown too large, or nothing.
func (s *shard) early(it *item) []*item {
	if w := s.windows[it.window]; w != nil && !it.final && len(w.State) > maxState {
		return []*item{{window: it.window, final: true, early: true}}
	}
	return nil
}

// over drops a window that was finished, or begins its state anew if it was ended early.
func (s *shard) over(it *item) {
	w := s.windows[it.window]
	if w == nil {
		return
	}
	if it.early {
		w.State, w.dirty = nil, true
		return
	}
	delete(s.windows, it.window)
	s.closed = append(s.closed, it.window)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// earlier returns the earlier one of two times, of which zero ones do not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
