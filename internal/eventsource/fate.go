package eventsource

import (
	"time"
)

// Fate is what became of records that the function did not process.
type Fate struct {
	Time      time.Time `json:"time"`
	Shard     string    `json:"shard,omitempty"`
	First     string    `json:"first"` // sequence number, or message id
	Last      string    `json:"last"`
	IDs       []string  `json:"ids,omitempty"` // of messages
	Records   int       `json:"records"`
	Condition string    `json:"condition"` // RetryAttemptsExhausted, RecordAgeExceeded or MaximumPayloadSizeExceeded
	Invokes   int       `json:"invokes"`
	RequestID string    `json:"requestId,omitempty"` // of the last invocation
	Error     string    `json:"error,omitempty"`     // the beginning of what the function or the service answered last
	// Destination is where a record of them went; empty if the mapping has none.
	Destination string `json:"destination,omitempty"`
}

// fates is what is remembered of what was given up.
func (m *Mapping) fates(shard string, losses []*loss, now time.Time) (all []Fate) {
	for _, x := range losses {
		f := Fate{Time: now.UTC(), Shard: shard, Records: len(x.records), Condition: x.condition, Invokes: x.invokes, RequestID: x.request, Error: x.message, Destination: m.OnFailure}
		if n := len(x.records); n > 0 {
			f.First, f.Last = x.records[0].ID, x.records[n-1].ID
			if shard == "" {
				for _, r := range x.records {
					f.IDs = append(f.IDs, r.ID)
				}
			}
		}
		all = append(all, f)
	}
	return all
}
