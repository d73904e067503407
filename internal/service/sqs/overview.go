package sqs

import (
	"context"
	"errors"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// Overview is what an operator wants to know of a queue.
type Overview struct {
	Region   string `json:"region"`
	Name     string `json:"name"`
	FIFO     bool   `json:"fifo"`
	Visible  int    `json:"visible"`
	InFlight int    `json:"inFlight"`
	Delayed  int    `json:"delayed"`

	Oldest *time.Time `json:"oldest,omitempty"` // when the oldest message was sent

	DeadLetterQueue string   `json:"deadLetterQueue,omitempty"` // its name
	MaxReceives     int      `json:"maxReceives,omitempty"`     // before a message moves there
	Sources         []string `json:"sources,omitempty"`         // the queues whose dead-letter queue this is
	Moving          bool     `json:"moving,omitempty"`          // a message move task is under way
}

// Overviews returns all queues of an account by region and name. Their messages are counted one queue after another.
func (s *Service) Overviews(ctx context.Context, account string) ([]Overview, error) {
	all := []Overview{}
	var queues []*queueState
	err := s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(queuesOf(account)) {
			if err != nil {
				return err
			}
			sc, name, err := decodeQueueKey(e.Key)
			if err != nil {
				return err
			}
			q, err := s.find(r, sc, name)
			if err != nil || q == nil {
				return err
			}
			o := Overview{Region: sc.region, Name: name, FIFO: q.settings.fifo}
			if p := q.settings.redrive; p != nil {
				o.DeadLetterQueue, o.MaxReceives = p.name, p.most
			}
			for e, err := range r.Scan(sc.sources(name)) {
				if err != nil {
					return err
				}
				source, err := sourceName(e.Key)
				if err != nil {
					return err
				}
				o.Sources = append(o.Sources, source)
			}
			for t, err := range kv.ScanJSON[task](r, sc.tasks(name)) {
				if err != nil {
					return err
				}
				o.Moving = o.Moving || t.Value.Status.active()
			}
			all, queues = append(all, o), append(queues, q)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, q := range queues {
		c, err := q.count(ctx)
		if err != nil {
			return nil, err
		}
		all[i].Visible, all[i].InFlight, all[i].Delayed = c.Visible, c.InFlight, c.Delayed
		oldest, ok, err := q.messages.Oldest(ctx)
		if err != nil && !errors.Is(err, queue.ErrDropped) {
			return nil, err
		}
		if ok {
			all[i].Oldest = new(oldest.UTC())
		}
	}
	return all, nil
}

// Backlog returns how many messages of a queue are visible, and when the oldest that it has was sent.
func (s *Service) Backlog(ctx context.Context, queueARN string) (visible int, oldest *time.Time, err error) {
	at, err := arn.Parse(queueARN)
	if err != nil {
		return 0, nil, errNoQueue()
	}
	q, err := s.view(ctx, scope{at.Account, at.Region}, at.Resource)
	if err != nil {
		return 0, nil, err
	}
	c, err := q.count(ctx)
	if err != nil {
		return 0, nil, err
	}
	sent, ok, err := q.messages.Oldest(ctx)
	if ok && err == nil {
		oldest = new(sent.UTC())
	}
	return c.Visible, oldest, err
}
