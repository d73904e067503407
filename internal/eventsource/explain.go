package eventsource

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Explain tells what became of the record with a sequence number, or of the message with an id. Of a stream it is exact as long as the stream has
// the record, or the record was given up; a record that is done counts as filtered if the mapping's filter does not take it now, and when and by which
// invocation it was processed is known of the last batches. Of a queue it is known of the last messages since the engine started, and of those that were
// given up. The mapping need not run: then it is told what is stored.
func (e *Engine) Explain(ctx context.Context, m *Mapping, id string) (Outcome, error) {
	r, err := e.runnerOf(ctx, m)
	if err != nil {
		return Outcome{}, err
	}
	fates, err := e.Fates(ctx, m.ID, time.Time{}, time.Time{})
	if err != nil {
		return Outcome{}, err
	}
	o, err := r.explain(ctx, id, fates)
	o.ID = id
	return o, err
}

// Outcomes tells what became of the records that arrived from one time to another, in order of their shards, up to most; more says that there are others.
// Zero times do not bound. Of a queue it knows what Explain does, and nothing of messages that it has not taken yet.
func (e *Engine) Outcomes(ctx context.Context, m *Mapping, from, to time.Time, most int) (all []Outcome, more bool, err error) {
	r, err := e.runnerOf(ctx, m)
	if err != nil {
		return nil, false, err
	}
	fates, err := e.Fates(ctx, m.ID, time.Time{}, time.Time{})
	if err != nil {
		return nil, false, err
	}
	return r.outcomes(ctx, from, to, most, fates)
}

// Fates returns what was given up from one time to another, the oldest first; zero times do not bound. The last 10,000 of a mapping are kept.
func (e *Engine) Fates(ctx context.Context, mapping string, from, to time.Time) (all []Fate, err error) {
	err = e.db.View(ctx, func(r kv.Reader) error {
		all = nil
		for rec, err := range kv.ScanJSON[Fate](r, fateRange(mapping)) {
			if err != nil {
				return err
			}
			if within(rec.Value.Time, from, to) {
				all = append(all, rec.Value)
			}
		}
		return nil
	})
	return all, err
}

// trim removes the oldest fates of a mapping beyond those that are kept.
func (e *Engine) trim(ctx context.Context, mapping string) {
	err := e.db.Update(ctx, func(tx kv.Tx) error {
		n := 0
		for entry, err := range tx.Scan(fateRange(mapping).Backward()) {
			if err != nil {
				return err
			}
			if n++; n > fatesKept {
				tx.Delete(entry.Key)
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		e.log.Warn("old records of what was given up not removed", "mapping", mapping, "err", err)
	}
}

// outcome is what a fate says of one of its records.
func (f *Fate) outcome() Outcome {
	return Outcome{
		State: Dropped, Time: f.Time, Condition: f.Condition, Attempts: f.Invokes, RequestID: f.RequestID, Error: f.Error, Split: f.Split,
		Destination: f.Destination, Delivery: f.Delivery, Shard: f.Shard,
	}
}

// fateOf finds the last fate of a record of a stream. Without its key it may be taken for one of another lane.
func fateOf(fates []Fate, shard string, r *Record) *Fate {
	for i := len(fates) - 1; i >= 0; i-- {
		f := &fates[i]
		if f.Records == 0 || shard != "" && f.Shard != shard || compare(f.First, r.ID) > 0 || compare(r.ID, f.Last) > 0 {
			continue
		}
		if r.Key == "" || f.Lanes <= 1 || laneOf(r.Key, f.Lanes) == f.Lane {
			return f
		}
	}
	return nil
}

// Trial is a record that waits, and whether a filter takes it.
type Trial struct {
	Shard string `json:"shard,omitempty"`
	ID    string `json:"id"`
	Takes bool   `json:"takes"`
	// Why is what is missing or does not match, if the filter does not take it.
	Why []string `json:"why,omitempty"`
}

// ErrNoPeek answers a dry run over a queue that cannot show what waits without taking it.
var ErrNoPeek = errors.New("eventsource: the queue cannot be looked into without taking messages")

// DryRun tells which of the records that wait a filter would take, up to most of each shard or of the queue. It changes nothing. A nil filter is the mapping's.
func (e *Engine) DryRun(ctx context.Context, m *Mapping, f Filter, most int) (all []Trial, err error) {
	r, err := e.runnerOf(ctx, m)
	if err != nil {
		return nil, err
	}
	shards, err := r.waiting(ctx, most)
	if f == nil {
		f = m.Filter
	}
	explainer, explains := f.(Explainer)
	for _, sh := range shards {
		for i := range sh.records {
			x := &sh.records[i]
			t := Trial{Shard: sh.shard, ID: x.ID, Takes: f == nil || f.Match(x)}
			if !t.Takes && explains {
				t.Why = explainer.Mismatches(x)
			}
			all = append(all, t)
		}
	}
	return all, err
}

// runnerOf returns what runs a mapping. For one that the engine does not run it is one that does nothing, and knows what is stored.
func (e *Engine) runnerOf(ctx context.Context, m *Mapping) (runner, error) {
	e.mu.Lock()
	var now runner
	if r := e.mappings[m.ID]; r != nil {
		now = r.runner
	}
	e.mu.Unlock()
	if now != nil {
		return now, nil
	}
	source, err := e.sources.Open(m)
	if err != nil {
		return nil, err
	}
	if now, err = e.runner(m, source); err != nil {
		return nil, err
	}
	return now, now.load(ctx)
}

// shardRecords is records of a shard.
type shardRecords struct {
	shard   string
	records []Record
}

// sorted returns the shards in order.
func (s *stream) sorted() []*shard {
	s.mu.Lock()
	shards := s.all()
	s.mu.Unlock()
	slices.SortFunc(shards, func(a, b *shard) int { return compare(a.id, b.id) })
	return shards
}

func (s *stream) waiting(ctx context.Context, most int) (all []shardRecords, err error) {
	for _, sh := range s.sorted() {
		sh.mu.Lock()
		from := sh.base
		if r := sh.resume(); r != "" {
			from = Position{After: r}
		}
		drained := sh.drained
		sh.unlock()
		if drained {
			continue
		}
		page, err := s.look(ctx, sh.id, from, most)
		if err != nil {
			return all, err
		}
		all = append(all, shardRecords{sh.id, page.Records})
	}
	return all, nil
}

func (q *queue) load(context.Context) error { return nil }

func (q *queue) waiting(ctx context.Context, most int) (all []shardRecords, err error) {
	p, ok := q.source.(Peeker)
	if !ok {
		return nil, ErrNoPeek
	}
	records, err := p.Peek(ctx, most)
	return []shardRecords{{"", records}}, err
}

func (q *queue) explain(_ context.Context, id string, fates []Fate) (Outcome, error) {
	o, ok := q.recent.find(id)
	if ok && o.State != Dropped {
		return o, nil
	}
	for i := len(fates) - 1; i >= 0; i-- {
		if slices.Contains(fates[i].IDs, id) {
			f := fates[i].outcome()
			f.Arrival = o.Arrival
			return f, nil
		}
	}
	if ok {
		return o, nil
	}
	return Outcome{State: Unknown}, nil
}

func (q *queue) outcomes(_ context.Context, from, to time.Time, most int, fates []Fate) (all []Outcome, more bool, err error) {
	all = q.recent.all(from, to)
	slices.SortStableFunc(all, func(a, b Outcome) int { return a.Arrival.Compare(b.Arrival) })
	known := map[string]int{}
	for i := range all {
		known[all[i].ID] = i
	}
	for i := range fates {
		f := &fates[i]
		for _, id := range f.IDs {
			o := f.outcome()
			o.ID = id
			if at, ok := known[id]; ok {
				o.Arrival, all[at] = all[at].Arrival, o
			} else if within(f.Time, from, to) { // of a message that is gone nothing else is known
				all = append(all, o)
			}
		}
	}
	if len(all) > most {
		return all[:most], true, nil
	}
	return all, false, nil
}

// load makes shards that do nothing of what is stored.
func (s *stream) load(ctx context.Context) error {
	list := s.source.Shards
	if l, ok := s.source.(Looker); ok {
		list = l.LookShards
	}
	infos, err := list(ctx)
	if err != nil {
		return err
	}
	shards, _, err := s.stored(ctx, s.mapping.Load(), infos)
	for _, sh := range shards {
		s.shards[sh.id] = sh
	}
	return err
}

// explain looks for the shard that has the record, and asks it.
func (s *stream) explain(ctx context.Context, id string, fates []Fate) (Outcome, error) {
	before, ok := predecessor(id)
	if !ok {
		return Outcome{State: Unknown}, nil
	}
	shards := s.sorted()
	for _, sh := range shards {
		if o, ok := sh.pending(id); ok {
			return o, nil
		}
	}
	for _, sh := range shards {
		page, err := s.find(ctx, sh.id, id, before)
		if errors.Is(err, ErrExpired) || errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return Outcome{}, err
		}
		if len(page.Records) > 0 && page.Records[0].ID == id {
			return s.outcomeOf(sh, &page.Records[0], fates), nil
		}
	}
	if f := fateOf(fates, "", &Record{ID: id}); f != nil {
		return f.outcome(), nil
	}
	return Outcome{State: Unknown}, nil
}

// find reads the record of a shard with a sequence number, or the one behind the number before.
func (s *stream) find(ctx context.Context, shard, id, before string) (Page, error) {
	if l, ok := s.source.(Looker); ok {
		return l.Find(ctx, shard, id)
	}
	return s.source.Read(ctx, shard, Position{After: before}, 1)
}

func (s *stream) look(ctx context.Context, shard string, from Position, most int) (Page, error) {
	if l, ok := s.source.(Looker); ok {
		return l.Look(ctx, shard, from, most)
	}
	return s.source.Read(ctx, shard, from, most)
}

func (s *stream) outcomes(ctx context.Context, from, to time.Time, most int, fates []Fate) (all []Outcome, more bool, err error) {
	for _, sh := range s.sorted() {
		for at, ended := (Position{At: from}), false; !ended; {
			page, err := s.look(ctx, sh.id, at, min(most-len(all)+1, maxRead))
			if errors.Is(err, ErrExpired) || errors.Is(err, ErrGone) {
				break
			}
			if err != nil {
				return all, false, err
			}
			ended = !page.More
			for i := range page.Records {
				r := &page.Records[i]
				if at.After, at.At = r.ID, (time.Time{}); !to.IsZero() && !r.Arrival.Before(to) {
					ended = true
					break
				}
				if len(all) == most {
					return all, true, nil
				}
				all = append(all, s.outcomeOf(sh, r, fates))
			}
			if len(page.Records) == 0 {
				break
			}
		}
	}
	return all, false, nil
}

// outcomeOf is what became of a record that the stream still has.
func (s *stream) outcomeOf(sh *shard, r *Record, fates []Fate) Outcome {
	m := s.mapping.Load()
	base := Outcome{ID: r.ID, Shard: sh.id, Arrival: r.Arrival.UTC()}
	takes := m.Filter == nil || m.Filter.Match(r)
	sh.mu.Lock()
	done := sh.read != "" && compare(r.ID, sh.read) <= 0 || sh.isDone(r) || sh.drained
	l := sh.lanes[laneOf(r.Key, len(sh.lanes))]
	o, held := sh.held(l, r.ID)
	if !held && takes {
		o, held = sh.restored(l, r.ID)
	}
	if held {
		sh.unlock()
		o.ID, o.Arrival = r.ID, base.Arrival
		return o
	}
	started, trouble := sh.active, sh.readError
	sh.unlock()
	o = base
	switch {
	case r.Arrival.Before(m.Start.At):
		o.State, o.Why = Skipped, "it arrived before the position at which the mapping begins"
	case !takes: // if only when it is read
		o.State = Filtered
		if x, ok := m.Filter.(Explainer); ok {
			o.Why = strings.Join(x.Mismatches(r), "; ")
		}
	case !done && !started:
		o.State = Waiting
		if o.BehindShard = firstOf(s.undrained(sh)); o.BehindShard != "" {
			o.Why = "its shard begins when the one that it was made of has nothing left"
		}
	case !done && trouble != "":
		o.State, o.Error, o.Why = Waiting, trouble, "its shard cannot be read"
	case !done:
		o.State, o.Why = Waiting, "it was not read yet: what is before it in its shard comes first"
	default:
		if f := fateOf(fates, sh.id, r); f != nil {
			o = f.outcome()
			o.ID, o.Arrival = r.ID, base.Arrival
			return o
		}
		o.State = Processed
		if b, ok := s.batches.find(sh.id, r); ok {
			o.Time, o.RequestID, o.Attempts, o.Split = b.at.UTC(), b.request, b.failed, b.split
		} else {
			o.Why = "when and by which invocation is not known any more"
		}
	}
	return o
}

// undrained are the parents of a shard that have records left.
func (s *stream) undrained(sh *shard) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range sh.parent {
		if parent := s.shards[p]; parent != nil && !parent.isDrained() {
			all = append(all, p)
		}
	}
	return all
}

func firstOf(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// pending finds a record with an id among those that a shard has in memory. One that is in several windows is told of by the next invocation.
func (s *shard) pending(id string) (o Outcome, found bool) {
	s.mu.Lock()
	defer s.unlock()
	for _, l := range s.lanes {
		if o, found := s.held(l, id); found {
			return o, true
		}
	}
	return o, false
}

// held is the outcome of a record that a lane has in memory. mu is held.
func (s *shard) held(l *lane, id string) (Outcome, bool) {
	for i, it := range l.items {
		if it.final || compare(id, it.first) < 0 || compare(it.last, id) < 0 {
			continue
		}
		if j, ok := slices.BinarySearchFunc(it.records, id, func(r Record, id string) int { return compare(r.ID, id) }); ok {
			o := s.itemOutcome(l, i)
			o.Arrival = it.records[j].Arrival.UTC()
			return o, true
		}
	}
	j, ok := slices.BinarySearchFunc(l.buffer, id, func(x Record, id string) int { return compare(x.ID, id) })
	if !ok {
		return Outcome{}, false
	}
	o := Outcome{State: Waiting, Shard: s.id, Arrival: l.buffer[j].Arrival.UTC()}
	if len(l.items) > 0 {
		s.behind(&o, l)
	} else if m := s.stream.mapping.Load(); m.Window > 0 {
		o.Next, o.Why = l.buffer[0].seen.Add(m.Window).UTC(), "the batch waits to be full, or for the end of its batching window"
	}
	return o, true
}

// itemOutcome is the outcome of the records of a lane's item. mu is held.
func (s *shard) itemOutcome(l *lane, i int) Outcome {
	it := l.items[i]
	o := Outcome{State: Waiting, Shard: s.id, Attempts: it.failed, RequestID: it.request, Error: it.message, Split: it.split}
	switch {
	case i > 0:
		s.behind(&o, l)
	case l.busy:
		o.State, o.Time = InFlight, l.since.UTC()
	case it.troubles > 0 && it.throttled:
		o.State, o.Next = Throttled, it.due.UTC()
	case it.failed > 0 || it.troubles > 0:
		o.State, o.Next = Failed, it.due.UTC()
	}
	return o
}

// behind says that what an outcome is of waits for a lane's first item. mu is held.
func (s *shard) behind(o *Outcome, l *lane) {
	first := l.items[0]
	o.Behind = first.first
	switch {
	case first.final:
		o.Why = "the window before it ends first"
	case l.busy:
		o.Why = "the function has the batch before it"
	case first.failed > 0 || first.troubles > 0:
		o.Error, o.Next = first.message, first.due.UTC()
		switch first.failed {
		case 0:
			o.Why = "the function could not be invoked with the batch before it"
		case 1:
			o.Why = "the batch before it failed once and is tried again"
		default:
			o.Why = fmt.Sprintf("the batch before it failed %d times and is tried again", first.failed)
		}
	}
}

// restored is the outcome of a record that is part of a batch which was begun before a start, and is not read again yet. mu is held.
func (s *shard) restored(l *lane, id string) (Outcome, bool) {
	for i, it := range l.items {
		if it.restored && !it.final && compare(it.first, id) <= 0 && compare(id, it.last) <= 0 {
			return s.itemOutcome(l, i), true
		}
	}
	return Outcome{}, false
}

// shardStatus tells how the shards do.
func (s *stream) shardStatus(now time.Time) (all []ShardStatus) {
	for _, sh := range s.sorted() {
		x := sh.status(now)
		if p := s.undrained(sh); len(p) > 0 && x.State != ShardDrained {
			x.State, x.Parents = ShardBehind, p
		}
		all = append(all, x)
	}
	return all
}

func (s *shard) status(now time.Time) ShardStatus {
	s.mu.Lock()
	defer s.unlock()
	x := ShardStatus{ID: s.id, State: ShardReading, Windows: len(s.windows)}
	oldest := s.missed
	for _, l := range s.lanes {
		for _, it := range l.items {
			x.Waiting += len(it.records)
			if len(it.records) > 0 {
				oldest = earlier(oldest, it.records[0].Arrival)
			}
		}
		x.Waiting += len(l.buffer)
		if len(l.buffer) > 0 {
			oldest = earlier(oldest, l.buffer[0].Arrival)
		}
		if l.busy {
			x.InFlight++
		}
		if len(l.items) == 0 {
			continue
		}
		if it := l.items[0]; (it.failed > 0 || it.troubles > 0) && (x.Failing == "" || it.failed > x.Attempts) {
			x.State, x.Failing, x.Attempts, x.Next, x.Error = ShardFailing, it.first, it.failed, it.due.UTC(), it.message
		}
	}
	for _, w := range s.windows {
		x.WindowState = max(x.WindowState, len(w.State))
	}
	if s.readError != "" {
		x.State, x.Error = ShardFailing, s.readError
	}
	if s.drained {
		x.State = ShardDrained
	} else if !oldest.IsZero() {
		x.Age = max(now.Sub(oldest), 0)
	}
	return x
}

// predecessor is the sequence number one below; false if id is none.
func predecessor(id string) (string, bool) {
	n, ok := new(big.Int).SetString(id, 10)
	if !ok || n.Sign() <= 0 {
		return "", false
	}
	return n.Sub(n, big.NewInt(1)).String(), true
}
