package eventsource

import (
	"sync"
	"time"
)

// recentKept is how many messages of a queue a mapping remembers.
const recentKept = 2048

// State is what became of a record.
type State string

// The states of a record.
const (
	Unknown   State = "unknown"
	Waiting   State = "waiting"  // in the source, or behind others
	InFlight  State = "inFlight" // the function has it
	Failed    State = "failed"   // and is tried again
	Processed State = "processed"
	Filtered  State = "filtered"
	Dropped   State = "dropped" // given up
)

// Outcome is what became of a record and why.
type Outcome struct {
	State     State     `json:"state"`
	Time      time.Time `json:"time,omitzero"`
	Next      time.Time `json:"next,omitzero"` // when it is tried again
	Condition string    `json:"condition,omitempty"`
	Attempts  int       `json:"attempts,omitempty"` // that failed
	RequestID string    `json:"requestId,omitempty"`
	Error     string    `json:"error,omitempty"`
	// Destination is where a record of it went.
	Destination string `json:"destination,omitempty"`
	// Behind is the first record of the batch that must be through before it.
	Behind string `json:"behind,omitempty"`
	Shard  string `json:"shard,omitempty"`
}

// recent remembers what became of the last messages of a queue, in memory: a queue forgets a message that is deleted.
type recent struct {
	mu    sync.Mutex
	of    map[string]Outcome
	order []string // a ring once it is full
	next  int
}

func (r *recent) note(records []Record, o Outcome) {
	o.Time = time.Now().UTC()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]Outcome{}
	}
	for i := range records {
		id := records[i].ID
		o.Attempts = max(records[i].Receives-1, 0)
		if _, known := r.of[id]; !known {
			if len(r.order) < recentKept {
				r.order = append(r.order, id)
			} else {
				delete(r.of, r.order[r.next])
				r.order[r.next] = id
				r.next = (r.next + 1) % recentKept
			}
		}
		r.of[id] = o
	}
}

func (r *recent) find(id string) (Outcome, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.of[id]
	return o, ok
}
