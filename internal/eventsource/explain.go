package eventsource

import (
	"context"
	"errors"
	"math/big"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// ErrUnknownMapping answers questions about a mapping that the engine does not run.
var ErrUnknownMapping = errors.New("eventsource: the mapping does not run")

// Explain tells what became of the record with a sequence number, or of the message with an id. Of a stream it is exact as long as the stream has
// the record, or the record was given up; a record that is done counts as filtered if the mapping's filter does not take it now. Of a queue it is
// known of the last 2,048 messages since the engine started, and of those that were given up.
func (e *Engine) Explain(ctx context.Context, mapping, id string) (Outcome, error) {
	r, err := e.runnerOf(mapping)
	if err != nil {
		return Outcome{}, err
	}
	o, err := r.explain(ctx, id)
	if err != nil || o.State != Unknown && o.State != Processed {
		return o, err
	}
	fates, err := e.Fates(ctx, mapping, time.Time{}, time.Time{})
	for _, f := range fates {
		if o.Shard != "" && f.Shard != "" && f.Shard != o.Shard {
			continue
		}
		if f.First == id || f.Last == id || slices.Contains(f.IDs, id) ||
			f.Shard != "" && o.Shard != "" && compare(f.First, id) <= 0 && compare(id, f.Last) <= 0 {
			return Outcome{
				State: Dropped, Time: f.Time, Condition: f.Condition, Attempts: f.Invokes, RequestID: f.RequestID, Error: f.Error, Destination: f.Destination, Shard: f.Shard,
			}, err
		}
	}
	return o, err
}

// Fates returns what was given up from one time to another, the oldest first; zero times do not bound. The last 10,000 of a mapping are kept.
func (e *Engine) Fates(ctx context.Context, mapping string, from, to time.Time) (all []Fate, err error) {
	err = e.db.View(ctx, func(r kv.Reader) error {
		all = nil
		for rec, err := range kv.ScanJSON[Fate](r, fateRange(mapping)) {
			if err != nil {
				return err
			}
			if f := rec.Value; !f.Time.Before(from) && (to.IsZero() || f.Time.Before(to)) {
				all = append(all, f)
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

// Trial is a record that waits, and whether a filter takes it.
type Trial struct {
	Shard string `json:"shard,omitempty"`
	ID    string `json:"id"`
	Takes bool   `json:"takes"`
}

// ErrNoPeek answers a dry run over a queue that cannot show what waits without taking it.
var ErrNoPeek = errors.New("eventsource: the queue cannot be looked into without taking messages")

// DryRun tells which of the records that wait a filter would take, up to most of each shard or of the queue. It changes nothing. A nil filter is the mapping's.
func (e *Engine) DryRun(ctx context.Context, mapping string, f Filter, most int) (all []Trial, err error) {
	r, err := e.runnerOf(mapping)
	if err != nil {
		return nil, err
	}
	shards, m, err := r.waiting(ctx, most)
	if f == nil {
		f = m.Filter
	}
	for _, sh := range shards {
		for i := range sh.records {
			x := &sh.records[i]
			all = append(all, Trial{sh.shard, x.ID, f == nil || f.Match(x)})
		}
	}
	return all, err
}

func (e *Engine) runnerOf(mapping string) (runner, error) {
	e.mu.Lock()
	r := e.mappings[mapping]
	e.mu.Unlock()
	if r == nil {
		return nil, ErrUnknownMapping
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runner == nil {
		return nil, ErrUnknownMapping
	}
	return r.runner, nil
}

// shardRecords is records of a shard.
type shardRecords struct {
	shard   string
	records []Record
}

func (s *stream) waiting(ctx context.Context, most int) (all []shardRecords, m *Mapping, err error) {
	m = s.mapping.Load()
	s.mu.Lock()
	shards := s.all()
	s.mu.Unlock()
	slices.SortFunc(shards, func(a, b *shard) int { return compare(a.id, b.id) })
	for _, sh := range shards {
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
		page, err := s.source.Read(ctx, sh.id, from, most)
		if err != nil {
			return all, m, err
		}
		all = append(all, shardRecords{sh.id, page.Records})
	}
	return all, m, nil
}

func (q *queue) waiting(ctx context.Context, most int) (all []shardRecords, m *Mapping, err error) {
	m = q.mapping.Load()
	p, ok := q.source.(Peeker)
	if !ok {
		return nil, m, ErrNoPeek
	}
	records, err := p.Peek(ctx, most)
	return []shardRecords{{"", records}}, m, err
}

func (q *queue) explain(_ context.Context, id string) (Outcome, error) {
	if o, ok := q.recent.find(id); ok {
		return o, nil
	}
	return Outcome{State: Unknown}, nil
}

// explain looks for the shard that has the record, and asks it.
func (s *stream) explain(ctx context.Context, id string) (Outcome, error) {
	m := s.mapping.Load()
	s.mu.Lock()
	shards := s.all()
	s.mu.Unlock()
	before, ok := predecessor(id)
	if !ok {
		return Outcome{State: Unknown}, nil
	}
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
		if len(page.Records) == 0 || page.Records[0].ID != id {
			continue
		}
		r := &page.Records[0]
		sh.mu.Lock()
		started := sh.active
		done := sh.read != "" && compare(id, sh.read) <= 0 || sh.isDone(r) || sh.drained
		sh.unlock()
		switch {
		case !done:
			o := Outcome{State: Waiting, Shard: sh.id}
			if !started {
				o.Behind = firstOf(sh.parent) // its parents have records left
			}
			return o, nil
		case m.Filter != nil && !m.Filter.Match(r):
			return Outcome{State: Filtered, Shard: sh.id}, nil
		}
		return Outcome{State: Processed, Shard: sh.id}, nil
	}
	return Outcome{State: Unknown}, nil
}

// find reads the record of a shard with a sequence number, or the one behind the number before.
func (s *stream) find(ctx context.Context, shard, id, before string) (Page, error) {
	if f, ok := s.source.(Finder); ok {
		return f.Find(ctx, shard, id)
	}
	return s.source.Read(ctx, shard, Position{After: before}, 1)
}

func firstOf(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// pending finds a record among those that a shard has in memory.
func (s *shard) pending(id string) (Outcome, bool) {
	s.mu.Lock()
	defer s.unlock()
	for _, l := range s.lanes {
		for i, it := range l.items {
			if !slices.ContainsFunc(it.records, func(r Record) bool { return r.ID == id }) {
				continue
			}
			o := Outcome{State: Waiting, Shard: s.id, Attempts: it.failed, RequestID: it.request, Error: it.message}
			switch {
			case i > 0:
				first := l.items[0]
				o.Behind, o.Error, o.Next = first.first, first.message, first.due
			case l.busy:
				o.State = InFlight
			case it.failed > 0 || it.troubles > 0:
				o.State, o.Next = Failed, it.due
			}
			return o, true
		}
		if slices.ContainsFunc(l.buffer, func(x Record) bool { return x.ID == id }) {
			o := Outcome{State: Waiting, Shard: s.id}
			if len(l.items) > 0 {
				o.Behind, o.Error, o.Next = l.items[0].first, l.items[0].message, l.items[0].due
			}
			return o, true
		}
	}
	return Outcome{}, false
}

// predecessor is the sequence number one below; false if id is none.
func predecessor(id string) (string, bool) {
	n, ok := new(big.Int).SetString(id, 10)
	if !ok || n.Sign() <= 0 {
		return "", false
	}
	return n.Sub(n, big.NewInt(1)).String(), true
}
