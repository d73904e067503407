package queue

import (
	"container/heap"
	"slices"
	"sort"
	"time"
)

// entry is what is known of a message without its body.
type entry struct {
	id      ID
	body    ID // where the body is
	group   string
	note    []byte
	delay   time.Duration
	sent    int64 // nanoseconds since 1970, as the next three
	first   int64 // taken; 0 never
	taken   int64 // last
	visible int64 // again, after the last take; 0 if it was never taken
	takes   int

	// In memory:
	state state
	until time.Time // when it flies no more, or waits no more
	seen  time.Time // when it came into memory
	index int       // in alarms, -1 if not there
}

type state int

const (
	ready    state = iota // can be taken, when its turn comes
	waiting               // its delay has not ended
	flying                // in flight
	released              // ready again without having been taken
	gone
)

// phase is how much is known of a queue.
type phase int

const (
	unknown phase = iota
	loading
	loaded
)

// memory is what a queue knows of its rows. Queue.mu guards it.
//
// All messages that can be taken now and are not in entries are rows at or behind cursor, or, with a delay, at or behind late.
type memory struct {
	phase   phase
	busy    chan struct{} // closed when the load or fill that runs is over; nil if none runs
	horizon uint64        // messages below it were found by the load; those above it report themselves
	epoch   int           // counts resets

	total   int           // rows
	flying  int           // of them in flight
	delayed map[int64]int // messages with a delay by the second in which that ends; some may be past

	entries map[ID]*entry
	groups  map[string]*group
	turns   []*group // that may have something ready, in order of their turns
	alarms  alarms   // what flies or waits

	cursor   uint64   // see above
	complete bool     // nothing is at or behind cursor, except in arrived
	arrived  []*entry // committed behind cursor, in order, not yet settled
	let      uint64   // those that arrived below this number may have been let go of

	late      ID        // see above
	nextLate  int64     // when the first delay behind late ends; 0 if there is none
	lateUntil time.Time // it has ended by then, whatever the clock says

	behind time.Time // when the first message can be taken that a FIFO queue's delay kept from somebody; zero if there is none
}

// group is the messages of one group that are in memory.
type group struct {
	name    string
	entries []*entry // standard: ready ones; FIFO: all, by number
	queued  bool     // in turns
}

func (q *Queue) reset() {
	q.memory = memory{
		epoch: q.epoch + 1, busy: q.busy,
		delayed: map[int64]int{}, entries: map[ID]*entry{}, groups: map[string]*group{}, late: ID{Due: 1},
	}
}

// added takes note of a message whose transaction has ended.
func (q *Queue) added(e *entry, committed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.adding--
	q.seq.End(e.id.Seq) // under the lock: nobody sees it settled and not arrived
	if committed && !q.dropped {
		if q.phase != loaded {
			q.early = append(q.early, e)
		}
		if q.phase != unknown && e.id.Seq >= q.horizon {
			q.reportLocked(e)
		}
	}
	q.pruneLocked()
	if q.phase == unknown && committed {
		q.readyLocked()
	}
	q.settleLocked() // the end of one may settle others
}

// pruneLocked forgets early messages that a load would find, once they are as many as those that it would not.
func (q *Queue) pruneLocked() {
	switch {
	case q.phase == loaded: // there is no other load
		q.early = nil
	case len(q.early) >= q.prune:
		settled := q.seq.Settled()
		q.early = slices.DeleteFunc(q.early, func(e *entry) bool { return e.id.Seq < settled })
		q.prune = max(64, 2*len(q.early))
	}
}

// reportLocked takes note of a message that a load does not find.
func (q *Queue) reportLocked(e *entry) {
	q.total++
	if e.id.Due == 0 {
		q.arriveLocked(e)
		return
	}
	q.delayed[e.id.Due/int64(time.Second)]++
	switch {
	case e.id.before(q.late) || q.busy != nil || q.phase == loading: // the load has yet to say what is late
		q.holdLocked(e)
	case q.nextLate == 0 || e.id.Due < q.nextLate:
		q.delayLocked(e)
	}
	q.armLocked()
}

// arriveLocked keeps a message until it is settled.
func (q *Queue) arriveLocked(e *entry) {
	if len(q.arrived) >= q.s.opts.Window {
		q.letGoLocked(e)
		return
	}
	i := len(q.arrived)
	for i > 0 && q.arrived[i-1].id.Seq > e.id.Seq {
		i--
	}
	q.arrived = slices.Insert(q.arrived, i, e)
}

// letGoLocked leaves messages that arrived to a fill.
func (q *Queue) letGoLocked(all ...*entry) {
	for _, e := range all {
		q.let = max(q.let, e.id.Seq+1)
	}
	if q.let > q.cursor {
		q.complete = false
	}
}

// settleLocked makes ready what has arrived and is settled, if there is room for it and nothing before it is missing.
func (q *Queue) settleLocked() {
	if q.phase != loaded || q.busy != nil || q.seq == nil {
		return
	}
	if q.complete && len(q.arrived) > 0 && len(q.entries)-q.flying >= q.s.opts.Window {
		q.complete = false
	}
	settled := q.seq.Settled()
	if !q.complete {
		q.letGoLocked(q.arrived...)
		q.arrived = nil
		if settled > q.cursor {
			q.callLocked()
		}
		return
	}
	n := sort.Search(len(q.arrived), func(i int) bool { return q.arrived[i].id.Seq >= settled })
	for _, e := range q.arrived[:n] {
		if e.id.Seq >= q.cursor { // else a fill has found it
			q.cursor = e.id.Seq + 1
			q.enterLocked(e)
		}
	}
	if q.arrived = q.arrived[n:]; len(q.arrived) == 0 {
		q.arrived = nil
	}
}

// enterLocked puts a message into memory that can be taken.
func (q *Queue) enterLocked(e *entry) {
	if q.entries[e.id] != nil {
		return
	}
	e.state, e.index, e.seen = ready, -1, time.Now()
	q.entries[e.id] = e
	q.groupLocked(e)
	q.callLocked()
}

// groupLocked puts a message that can be taken into its group.
func (q *Queue) groupLocked(e *entry) {
	g := q.groups[e.group]
	if g == nil {
		g = &group{name: e.group}
		q.groups[e.group] = g
	}
	i := len(g.entries)
	switch {
	case q.kind == FIFO:
		for i > 0 && g.entries[i-1].id.Seq > e.id.Seq {
			i--
		}
	case e.state == released: // it comes before those that came after it
		i = 0
		for i < len(g.entries) && g.entries[i].id.before(e.id) {
			i++
		}
	}
	e.state = ready
	g.entries = slices.Insert(g.entries, i, e)
	q.turnLocked(g)
}

// turnLocked lets a group have a turn if it may have something ready.
func (q *Queue) turnLocked(g *group) {
	switch {
	case g.queued:
	case len(g.entries) == 0:
		delete(q.groups, g.name)
	case q.kind != FIFO || g.entries[0].state == ready: // behind one in flight none is given
		g.queued = true
		q.turns = append(q.turns, g)
	}
}

// holdLocked puts a message into memory whose delay may not have ended.
func (q *Queue) holdLocked(e *entry) {
	if q.entries[e.id] != nil {
		return
	}
	wait := time.Duration(e.id.Due - q.s.opts.now().UnixNano())
	if wait = min(wait, e.delay); wait <= 0 {
		q.enterLocked(e)
		return
	}
	e.state = waiting
	q.entries[e.id] = e
	q.alarmLocked(e, time.Now().Add(wait))
}

// flyLocked takes note that a message in memory is in flight. Until has yet to be set.
func (q *Queue) flyLocked(e *entry) {
	e.state = flying
	q.flying++
}

// alarmLocked says until when a message flies or waits.
func (q *Queue) alarmLocked(e *entry, until time.Time) {
	e.until = until
	if e.index >= 0 {
		heap.Fix(&q.alarms, e.index)
	} else {
		heap.Push(&q.alarms, e)
	}
	q.armLocked()
}

// landLocked makes a message ready that was in flight.
func (q *Queue) landLocked(e *entry) { q.backLocked(e, ready) }

func (q *Queue) backLocked(e *entry, next state) {
	if e.state != flying || q.entries[e.id] != e {
		return
	}
	q.unflyLocked(e)
	e.state = next
	switch {
	case q.kind != FIFO:
		q.groupLocked(e)
	case e.id.Seq >= q.cursor: // those of its group before it are not all in memory: it is found when they are
		q.complete = false
		q.removeLocked(e)
	default:
		e.state = ready
		q.turnLocked(q.groups[e.group])
	}
	q.callLocked()
}

func (q *Queue) unflyLocked(e *entry) {
	q.flying--
	if e.index >= 0 {
		heap.Remove(&q.alarms, e.index)
	}
}

// removeLocked forgets a message.
func (q *Queue) removeLocked(e *entry) {
	if e.state == gone || q.entries[e.id] != e {
		return
	}
	delete(q.entries, e.id)
	if e.state == flying {
		q.unflyLocked(e)
	} else if e.index >= 0 {
		heap.Remove(&q.alarms, e.index)
	}
	e.state = gone
	g := q.groups[e.group]
	if g == nil {
		return
	}
	if q.kind == FIFO {
		switch i := slices.Index(g.entries, e); {
		case i == 0:
			g.entries[0] = nil
			g.entries = g.entries[1:]
		case i > 0:
			g.entries = slices.Delete(g.entries, i, i+1)
		}
		q.turnLocked(g)
		if g.queued {
			q.callLocked()
		}
	}
}

// delayLeft is how long a message of a FIFO queue is still kept by the queue's delay, which lasts no longer although the clock was set back.
func (e *entry) delayLeft(now time.Time, delay time.Duration) time.Duration {
	if delay <= 0 || e.takes > 0 {
		return 0
	}
	return min(time.Duration(e.sent-now.UnixNano()), -time.Since(e.seen)) + delay
}

// pickLocked takes up to n messages that are ready, and those it meets that were sent before expired. delay is that of a FIFO queue.
func (q *Queue) pickLocked(n int, expired int64, now time.Time, delay time.Duration) (picked, old []*entry) {
	var blocked []*group // their first message is not due
	for len(picked) < n && len(q.turns) > 0 {
		g := q.turns[0]
		q.turns[0] = nil
		if q.turns = q.turns[1:]; len(q.turns) == 0 {
			q.turns = nil
		}
		g.queued = false
		if q.kind == FIFO {
			for _, e := range g.entries {
				if e.state != ready {
					break
				}
				if e.sent < expired {
					old = append(old, e)
					continue
				}
				if left := e.delayLeft(now, delay); left > 0 {
					if due := time.Now().Add(left); q.behind.IsZero() || due.Before(q.behind) {
						q.behind = due
						q.armLocked()
					}
					blocked = append(blocked, g)
					break
				}
				if len(picked) == n {
					break
				}
				picked = append(picked, e)
				q.flyLocked(e)
			}
			for _, e := range old {
				if e.state == ready {
					q.removeLocked(e)
				}
			}
			continue
		}
		for len(g.entries) > 0 {
			e := g.entries[0]
			g.entries[0] = nil
			if g.entries = g.entries[1:]; len(g.entries) == 0 {
				g.entries = nil
			}
			if e.state != ready {
				continue // it was deleted
			}
			if e.sent < expired {
				old = append(old, e)
				q.removeLocked(e)
				continue
			}
			picked = append(picked, e)
			q.flyLocked(e)
			break
		}
		q.turnLocked(g)
	}
	for _, g := range blocked {
		q.turnLocked(g)
	}
	return picked, old
}

// moreLocked reports whether rows that are not in memory may be ready.
func (q *Queue) moreLocked() bool {
	if q.lateLocked() {
		return true
	}
	return !q.complete && (q.kind != FIFO || len(q.entries)-q.flying < q.s.opts.Groups) && (q.seq == nil || q.seq.Settled() > q.cursor)
}

// delayLocked takes note of the message whose delay ends first of those behind late.
func (q *Queue) delayLocked(e *entry) {
	q.nextLate = e.id.Due
	q.lateUntil = time.Now().Add(min(time.Duration(e.id.Due-q.s.opts.now().UnixNano()), e.delay))
}

// lateLocked reports whether a delay has ended of a message that is not in memory.
func (q *Queue) lateLocked() bool {
	return q.nextLate != 0 && (q.nextLate <= q.s.opts.now().UnixNano() || !time.Now().Before(q.lateUntil))
}

// longestNap bounds how late it is noticed that the clock was set forward.
const longestNap = time.Minute

// armLocked sets the timer to what happens next, or says it if it has happened.
func (q *Queue) armLocked() {
	if q.lateLocked() {
		q.callLocked()
	}
	var at time.Time
	if len(q.alarms) > 0 {
		at = q.alarms[0].until
	}
	if q.nextLate != 0 && !q.lateLocked() {
		wait := min(time.Duration(q.nextLate-q.s.opts.now().UnixNano()), longestNap, time.Until(q.lateUntil))
		if t := time.Now().Add(wait); at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if !q.behind.IsZero() && (at.IsZero() || q.behind.Before(at)) {
		at = q.behind
	}
	if at.IsZero() || !q.armed.IsZero() && !at.Before(q.armed) {
		return // it rings early enough
	}
	q.armed = at
	if q.timer == nil {
		q.timer = time.AfterFunc(time.Until(at), q.ring)
	} else {
		q.timer.Reset(time.Until(at))
	}
}

func (q *Queue) stopLocked() {
	if q.timer != nil {
		q.timer.Stop()
	}
	q.armed = time.Time{}
}

// ring is what the timer does.
func (q *Queue) ring() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed = time.Time{}
	now := time.Now()
	for len(q.alarms) > 0 && !q.alarms[0].until.After(now) {
		e := q.alarms[0]
		if e.state == waiting {
			heap.Remove(&q.alarms, 0)
			e.state = ready
			q.groupLocked(e)
			q.callLocked()
		} else {
			q.landLocked(e)
		}
	}
	if !q.behind.IsZero() && !q.behind.After(now) {
		q.behind = time.Time{}
		q.callLocked()
	}
	q.armLocked()
}

// callLocked tells somebody that there may be something to take.
func (q *Queue) callLocked() {
	if len(q.waiters) > 0 {
		q.wakeLocked(1)
		return
	}
	q.readyLocked()
}

func (q *Queue) readyLocked() {
	if q.s.opts.Ready != nil && !q.dropped {
		q.s.opts.Ready(q.id)
	}
}

// waiter is a Take that waits.
type waiter struct {
	wake chan struct{} // closed when it was woken; it is not in waiters then
}

func (q *Queue) wakeLocked(n int) {
	for ; n > 0 && len(q.waiters) > 0; n-- {
		close(q.waiters[0].wake)
		q.waiters[0] = nil
		q.waiters = q.waiters[1:]
	}
	if len(q.waiters) == 0 {
		q.waiters = nil
	}
}

// leaveLocked ends the wait of w. One that was woken and takes nothing passes it on.
func (q *Queue) leaveLocked(w *waiter) {
	if i := slices.Index(q.waiters, w); i >= 0 {
		q.waiters = slices.Delete(q.waiters, i, i+1)
	}
}

// alarms is a heap of entries by until.
type alarms []*entry

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].until.Before(a[j].until) }
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}
func (a *alarms) Push(x any) {
	e := x.(*entry)
	e.index = len(*a)
	*a = append(*a, e)
}
func (a *alarms) Pop() any {
	old := *a
	e := old[len(old)-1]
	old[len(old)-1] = nil
	e.index = -1
	*a = old[:len(old)-1]
	return e
}
