package durable

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Keys, all of tuples:
//
//	durable, queue, "item", lane, due, added, id    header; due is 1970 for what is due at once
//	durable, queue, "body", lane, id                the item's Body
const prefix = "durable"

// atOnce is the time in the keys of items that are due at once.
var atOnce = time.Unix(0, 0).UTC()

// header is what is kept of an item beside its body.
type header struct {
	Attempt int             `json:"n,omitempty"` // runs that ended with Retry
	First   time.Time       `json:"f"`           // when it was added
	Written time.Time       `json:"w,omitzero"`  // of one with a delay: when that began
	Delay   time.Duration   `json:"d,omitempty"`
	State   json.RawMessage `json:"s,omitempty"`
}

func (q *Queue) items() kv.Range { return kv.Prefix(prefix, q.name, "item") }

func (q *Queue) laneRange(lane string) kv.Range { return kv.Prefix(prefix, q.name, "item", lane) }

func (q *Queue) itemKey(lane string, due, added time.Time, id string) []byte {
	return kv.Key(prefix, q.name, "item", lane, due, added, id)
}

func (q *Queue) bodyKey(lane, id string) []byte { return kv.Key(prefix, q.name, "body", lane, id) }

// entry is one header row.
type entry struct {
	key   []byte
	lane  string
	due   time.Time
	added time.Time
	id    string
	header
}

func readEntry(e kv.Entry) (*entry, error) {
	x := &entry{key: e.Key}
	if err := kv.Decode(e.Key, nil, nil, nil, &x.lane, &x.due, &x.added, &x.id); err != nil {
		return nil, fmt.Errorf("durable: %w", err)
	}
	if err := json.Unmarshal(e.Value, &x.header); err != nil {
		return nil, fmt.Errorf("durable: header at %s: %w", kv.Format(e.Key), err)
	}
	return x, nil
}

// lanes lists the lanes that have items, at the cost of one seek each.
func (q *Queue) lanes(r kv.Reader) (all []string, err error) {
	rest := q.items()
	for {
		found := false
		for e, err := range r.Scan(rest) {
			if err != nil {
				return nil, err
			}
			x, err := readEntry(e)
			if err != nil {
				return nil, err
			}
			all = append(all, x.lane)
			rest.Start = q.laneRange(x.lane).End
			found = true
			break
		}
		if !found {
			return all, nil
		}
	}
}
