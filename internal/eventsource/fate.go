package eventsource

import (
	"time"

	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Fate is what became of records that the function did not process.
type Fate struct {
	Time      time.Time `json:"time"`
	Shard     string    `json:"shard,omitempty"`
	First     string    `json:"first"` // sequence number, or message id
	Last      string    `json:"last"`
	IDs       []string  `json:"ids,omitempty"` // of messages
	Records   int       `json:"records"`
	Condition string    `json:"condition"` // RetryAttemptsExhausted, RecordAgeExceeded, MaximumPayloadSizeExceeded or RecursiveInvocation
	Invokes   int       `json:"invokes"`
	RequestID string    `json:"requestId,omitempty"` // of the last invocation
	Error     string    `json:"error,omitempty"`     // the beginning of what the function or the service answered last
	// Split is the batch of which failures left these records.
	Split *Split `json:"split,omitempty"`
	// Lane of Lanes is the part of the shard's keys that the records are of: others lie between First and Last.
	Lane  int `json:"lane,omitempty"`
	Lanes int `json:"lanes,omitempty"`
	// Destination is where a record of them goes; empty if the mapping has none.
	Destination string `json:"destination,omitempty"`
	// Delivery is how far that has come.
	Delivery *Sent `json:"delivery,omitempty"`
}

// Sent is how the delivery of a record of what was given up does.
type Sent struct {
	State    SentState `json:"state"`
	Time     time.Time `json:"time,omitzero"`      // of the last attempt
	ID       string    `json:"id,omitempty"`       // what the destination calls it: a message's id, an object's key
	Attempts int       `json:"attempts,omitempty"` // that failed
	Error    string    `json:"error,omitempty"`    // of the last one
}

// SentState is the state of a delivery.
type SentState string

// The states of a delivery.
const (
	SentPending   SentState = "pending" // waits for its next attempt
	SentDelivered SentState = "delivered"
	SentLost      SentState = "lost" // after six hours, or since its target does not exist any more
)

// Split is a batch that was split since it failed.
type Split struct {
	First   string `json:"first"`
	Last    string `json:"last"`
	Records int    `json:"records"`
}

// fateName names the row of a Fate of a mapping.
type fateName struct {
	Time  time.Time `json:"time"`
	Shard string    `json:"shard,omitempty"`
	Last  string    `json:"last,omitempty"`
}

// fates is what is remembered of what was given up.
func (m *Mapping) fates(shard string, losses []*loss, now time.Time) (all []Fate) {
	for _, x := range losses {
		f := Fate{
			Time: now.UTC(), Shard: shard, Records: len(x.records), Condition: x.condition, Invokes: x.invokes, RequestID: x.request, Error: x.message,
			Split: x.split, Lane: x.lane, Lanes: x.lanes, Destination: m.OnFailure,
		}
		if m.OnFailure != "" {
			f.Delivery = &Sent{State: SentPending}
		}
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

// sent returns the write that notes in a fate how the delivery went. Fates that were removed stay so.
func (d *Delivery) sent(s Sent) durable.Write {
	if d.Fate == nil {
		return nil
	}
	s.Time = time.Now().UTC()
	return func(tx kv.Tx) error {
		key := fateKey(d.MappingID, d.Fate.Time, d.Fate.Shard, d.Fate.Last)
		f, found, err := kv.GetJSON[Fate](tx, key)
		if err != nil || !found {
			return err
		}
		f.Delivery = &s
		return kv.SetJSON(tx, key, f)
	}
}
