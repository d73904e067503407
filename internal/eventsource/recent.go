package eventsource

import (
	"sync"
	"time"
)

// What a mapping remembers in memory: at most so many messages of a queue, or batches of a stream, and all mappings together about keptInAll.
const (
	recentKept  = 2048
	keptInAll   = 1 << 18
	leastRecent = 64
)

// kept is how many a mapping remembers while there are so many of them.
func (e *Engine) kept() int {
	return min(max(keptInAll/max(int(e.mapped.Load()), 1), leastRecent), recentKept)
}

// State is what became of a record.
type State string

// The states of a record.
const (
	Unknown      State = "unknown"
	Waiting      State = "waiting"   // in the source, or behind others
	InFlight     State = "inFlight"  // the function has it
	Throttled    State = "throttled" // the function had no free capacity, and it is tried again
	Failed       State = "failed"    // and is tried again
	Processed    State = "processed"
	Filtered     State = "filtered"
	Skipped      State = "skipped"      // it arrived before the position at which the mapping began
	Dropped      State = "dropped"      // given up by the mapping
	DeadLettered State = "deadLettered" // its queue moved it to the dead-letter queue
	Gone         State = "gone"         // it is not in its queue any more, and it was not the mapping that deleted it
)

// Outcome is what became of a record and why.
type Outcome struct {
	ID      string    `json:"id,omitempty"`
	State   State     `json:"state"`
	Arrival time.Time `json:"arrival,omitzero"` // when the source got it
	Time    time.Time `json:"time,omitzero"`    // since when it is in its state, as far as that is known
	Next    time.Time `json:"next,omitzero"`    // when it is tried again, or can be taken again
	// Why says in a sentence what the state does not.
	Why       string `json:"why,omitempty"`
	Condition string `json:"condition,omitempty"`
	Attempts  int    `json:"attempts,omitempty"` // that failed
	RequestID string `json:"requestId,omitempty"`
	Error     string `json:"error,omitempty"`
	// Split is the batch of which failures left the one that it is in.
	Split *Split `json:"split,omitempty"`
	// Destination is where a record of it goes, and Delivery how far that has come; or the dead-letter queue that has it.
	Destination string `json:"destination,omitempty"`
	Delivery    *Sent  `json:"delivery,omitempty"`
	// Behind is the first record of the batch that must be through before it, BehindShard the shard.
	Behind      string `json:"behind,omitempty"`
	BehindShard string `json:"behindShard,omitempty"`
	Shard       string `json:"shard,omitempty"`
}

// recent remembers what became of the last messages of a queue, in memory: a queue forgets a message that is deleted.
type recent struct {
	mu    sync.Mutex
	of    map[string]noted
	order []string // a ring once it is full
	next  int
}

// noted is what a message has of its own beside the outcome of its batch.
type noted struct {
	*Outcome
	arrival  time.Time
	attempts int
}

func (n noted) outcome(id string) Outcome {
	o := *n.Outcome
	o.ID, o.Arrival, o.Attempts = id, n.arrival.UTC(), n.attempts
	return o
}

// note remembers the outcome of messages, of at most kept.
func (r *recent) note(records []Record, o Outcome, kept int) {
	if o.Time.IsZero() {
		o.Time = time.Now().UTC()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]noted{}
	}
	for i := range records {
		id, attempts := records[i].ID, records[i].Receives
		if o.State != Failed && o.State != Dropped {
			attempts = max(attempts-1, 0) // the last one has not failed
		}
		if _, known := r.of[id]; !known {
			if len(r.order) < kept {
				r.order = append(r.order, id)
			} else {
				delete(r.of, r.order[r.next])
				r.order[r.next] = id
				r.next = (r.next + 1) % len(r.order)
			}
		}
		r.of[id] = noted{&o, records[i].Arrival, attempts}
	}
}

func (r *recent) find(id string) (Outcome, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.of[id]
	if !ok {
		return Outcome{}, false
	}
	return n.outcome(id), true
}

// all returns what is remembered of the messages that arrived from one time to another.
func (r *recent) all(from, to time.Time) (all []Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.order {
		if n := r.of[id]; within(n.arrival, from, to) {
			all = append(all, n.outcome(id))
		}
	}
	return all
}

// within reports whether a time is in a span. Zero ends do not bound it.
func within(t, from, to time.Time) bool { return !t.Before(from) && (to.IsZero() || t.Before(to)) }

// doneBatches remembers the last batches of a stream that were processed, in memory: the position says that they are done, and no more.
type doneBatches struct {
	mu   sync.Mutex
	all  []doneBatch // a ring once it is full
	next int
}

type doneBatch struct {
	shard       string
	lane, lanes int
	first, last string
	records     int
	at          time.Time
	request     string
	failed      int
	split       *Split
}

func (d *doneBatches) note(b doneBatch, kept int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) < kept {
		d.all = append(d.all, b)
		return
	}
	d.all[d.next] = b
	d.next = (d.next + 1) % len(d.all)
}

// find returns the last batch in which a record was.
func (d *doneBatches) find(shard string, r *Record) (b doneBatch, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.all {
		x := &d.all[i]
		if x.shard == shard && compare(x.first, r.ID) <= 0 && compare(r.ID, x.last) <= 0 && laneOf(r.Key, x.lanes) == x.lane && !x.at.Before(b.at) {
			b, found = *x, true
		}
	}
	return b, found
}
