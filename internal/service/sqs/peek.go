package sqs

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// Peek returns up to most messages of a queue that could be received now, as ReceiveMessage shows them, without receiving them: no count changes, and nothing
// is written. For the moment of the call nobody else receives them. Their receipt handles are good for nothing.
func (s *Service) Peek(ctx context.Context, queueARN string, most int) ([]sqsapi.Message, error) {
	at, err := arn.Parse(queueARN)
	if err != nil {
		return nil, errNoQueue()
	}
	q, err := s.view(ctx, scope{at.Account, at.Region}, at.Resource)
	if err != nil {
		return nil, err
	}
	t := queue.Take{Max: most, Volatile: true, Retention: q.settings.retention}
	if q.settings.fifo {
		t.Delay = q.settings.delay
	}
	ds, err := q.messages.Take(ctx, t)
	if err != nil {
		return nil, err
	}
	var ids []queue.ID
	for i := range ds {
		ids = append(ids, ds[i].ID)
	}
	defer q.messages.Release(ids...)
	a := &asked{most: most, system: sqsapi.Service.Shape("MessageSystemAttributeName").Enum, attributes: []string{"All"}}
	all := make([]sqsapi.Message, 0, len(ds))
	for i := range ds {
		m, err := q.message(&ds[i], a)
		if err != nil {
			return nil, err
		}
		all = append(all, *m)
	}
	return all, nil
}
