package sqs

import (
	"context"
	"sync"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// arrivals knows who wants to be told of messages.
type arrivals struct {
	mu    sync.Mutex
	bells map[string]map[*func(string)]struct{} // by the ARN of the queue
	arns  map[string]string                     // of the queues that have bells, by the id of their messages
}

// OnArrival calls f soon after messages of a queue, which need not exist yet, may have become available to whoever takes them without waiting: they
// were sent, their delay or visibility ended, or their group is free. f must return at once; its argument is empty. No call begins after stop has
// returned.
func (s *Service) OnArrival(queue string, f func(string)) (stop func()) {
	a := &s.arrivals
	a.mu.Lock()
	if a.bells == nil {
		a.bells, a.arns = map[string]map[*func(string)]struct{}{}, map[string]string{}
	}
	if a.bells[queue] == nil {
		a.bells[queue] = map[*func(string)]struct{}{}
	}
	a.bells[queue][&f] = struct{}{}
	a.mu.Unlock()
	if at, err := arn.Parse(queue); err == nil {
		// A queue that is read later is found by listen.
		s.db.View(context.Background(), func(r kv.Reader) error {
			q, err := s.find(r, scope{at.Account, at.Region}, at.Resource)
			if err == nil && q != nil {
				s.listen(q)
			}
			return err
		})
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if delete(a.bells[queue], &f); len(a.bells[queue]) > 0 {
			return
		}
		delete(a.bells, queue)
		for id, of := range a.arns {
			if of == queue {
				delete(a.arns, id)
			}
		}
	}
}

// listen notes which queue messages are of, if somebody wants to know. It is called for every queue that is read anew: one that was changed or
// made again.
func (s *Service) listen(q *queueState) {
	a := &s.arrivals
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.bells) > 0 && a.bells[q.arn()] != nil {
		a.arns[q.record.messages()] = q.arn()
	}
}

// ready tells of a queue's messages.
func (s *Service) ready(id string) {
	a := &s.arrivals
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.bells[a.arns[id]] {
		(*f)("")
	}
}
