package sqs

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// Place is a message where it is now, for operators.
type Place struct {
	Queue    string     `json:"queue"` // ARN
	ID       string     `json:"id"`
	State    PlaceState `json:"state"`
	Until    time.Time  `json:"until,omitzero"` // when it can be received, unless it is visible
	Sent     time.Time  `json:"sent"`
	Receives int        `json:"receives,omitempty"`
	Group    string     `json:"group,omitempty"`
	// Behind is the message of its group that is in flight and must be deleted or come back first, of FIFO queues.
	Behind      string    `json:"behind,omitempty"`
	BehindUntil time.Time `json:"behindUntil,omitzero"` // when it comes back

	// Source is the ARN of the queue that moved it here as a dead letter.
	Source string `json:"source,omitempty"`
}

// PlaceState is whether a message can be received.
type PlaceState string

// The states of a message in its queue.
const (
	Visible  PlaceState = "visible"
	InFlight PlaceState = "inFlight"
	Delayed  PlaceState = "delayed"
)

// mostSought is how many messages Locate looks at.
const mostSought = 500_000

// Locate looks for a message by its id in the queues of an account, in all regions. It receives nothing. complete is false if there were so many
// messages that it did not look at all.
func (s *Service) Locate(ctx context.Context, account, id string) (all []Place, complete bool, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != 16 {
		return nil, true, nil
	}
	want := [16]byte(b)
	var queues []*queueState
	err = s.db.View(ctx, func(r kv.Reader) error {
		queues = nil
		for e, err := range r.Scan(queuesOf(account)) {
			if err != nil {
				return err
			}
			sc, name, err := decodeQueueKey(e.Key)
			if err != nil {
				return err
			}
			q, err := s.find(r, sc, name)
			if err != nil {
				return err
			}
			if q != nil {
				queues = append(queues, q)
			}
		}
		return nil
	})
	left := mostSought
	for _, q := range queues {
		if err == nil && left > 0 {
			groups := q.groups()
			err = q.scan(ctx, func(d *queue.Delivery, m *message) bool {
				p := q.place(d, m)
				if groups.see(&p); m.id == want {
					all = append(all, p)
				}
				left--
				return left > 0
			})
		}
	}
	return all, left > 0, err
}

// inFlight is the messages of a FIFO queue's groups that are in flight, as far as a scan has come; nil for a standard queue.
type inFlight map[string]*Place

func (q *queueState) groups() inFlight {
	if !q.settings.fifo {
		return nil
	}
	return inFlight{}
}

// see notes a message in flight, and says of one that is visible what it is behind.
func (f inFlight) see(p *Place) {
	switch first := f[p.Group]; {
	case f == nil:
	case p.State == InFlight && first == nil:
		f[p.Group] = new(*p)
	case p.State == Visible && first != nil:
		p.Behind, p.BehindUntil = first.ID, first.Until
	}
}

// Places returns the messages of a queue that were sent from one time to another, up to most; more says that there are others. Zero times do not bound.
func (s *Service) Places(ctx context.Context, queueARN string, from, to time.Time, most int) (all []Place, more bool, err error) {
	at, err := arn.Parse(queueARN)
	if err != nil {
		return nil, false, errNoQueue()
	}
	q, err := s.view(ctx, scope{at.Account, at.Region}, at.Resource)
	if err != nil {
		return nil, false, err
	}
	groups := q.groups()
	err = q.scan(ctx, func(d *queue.Delivery, m *message) bool {
		p := q.place(d, m)
		if groups.see(&p); p.Sent.Before(from) || !to.IsZero() && !p.Sent.Before(to) {
			return true
		}
		if more = len(all) == most; !more {
			all = append(all, p)
		}
		return !more
	})
	return all, more, err
}

// scan calls f for the messages that have not expired until it returns false.
func (q *queueState) scan(ctx context.Context, f func(d *queue.Delivery, m *message) bool) (err error) {
	oldest := time.Now().Add(-q.settings.retention)
	failed := q.messages.Scan(ctx, func(d *queue.Delivery) bool {
		if d.Sent.Before(oldest) {
			return true
		}
		var m *message
		if m, err = decodeMessage(d.Body); err != nil {
			return false
		}
		return f(d, m)
	})
	if failed != nil {
		return failed
	}
	return err
}

func (q *queueState) place(d *queue.Delivery, m *message) Place {
	p := Place{Queue: q.arn(), ID: uuid(m.id), State: Visible, Sent: d.Sent.UTC(), Receives: m.receives + d.Takes, Group: d.Group, Source: m.source}
	now := time.Now()
	due := time.Unix(0, d.Due)
	if q.settings.fifo && d.Takes == 0 {
		due = d.Sent.Add(q.settings.delay)
	}
	switch {
	case d.Visible.After(now):
		p.State, p.Until = InFlight, d.Visible.UTC()
	case d.Takes == 0 && due.After(now):
		p.State, p.Until = Delayed, due.UTC()
	}
	return p
}
