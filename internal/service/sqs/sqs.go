package sqs

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// Deps is what the service needs.
type Deps struct {
	DB  kv.DB
	URL string       // at which clients reach the server, if that is known: callers who use its host get its scheme
	Log *slog.Logger // nil discards
}

// Service serves SQS. Its methods may be called concurrently.
type Service struct {
	db     kv.DB
	url    string
	log    *slog.Logger
	queues *queue.Queues
	cache  cache
	moves  chan struct{} // tells runMoves of new and changed tasks

	arrivals arrivals

	closing  context.Context // ended by EndPolls
	endPolls context.CancelFunc
}

// New returns a service on the store.
func New(d Deps) (*Service, error) {
	if d.DB == nil {
		return nil, errors.New("sqs: no store")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{db: d.DB, url: strings.TrimSuffix(d.URL, "/"), log: d.Log, moves: make(chan struct{}, 1)}
	s.queues = queue.New(d.DB, "sqs", queue.Options{Ready: s.ready})
	s.closing, s.endPolls = context.WithCancel(context.Background())
	return s, nil
}

// EndPolls has receives that wait answer now, with nothing, and no receive waits from now on. It is for a server that stops.
func (s *Service) EndPolls() { s.endPolls() }

// Register makes the service the handler of its operations in m. What AWS's model requires the service checks itself, since SQS has its own
// words for what is missing or unknown.
func (s *Service) Register(m *smithy.Mux) {
	own := smithy.Unchecked("queueUrl", "queueName", "attributes", "attributeNames", "messageSystemAttributeNames", "messageAttributes",
		"messageSystemAttributes", "messageBody", "receiptHandle", "visibilityTimeout", "entries", "tags", "tagKeys", "label", "aWSAccountIds",
		"actions", "sourceArn", "taskHandle")

	sqsapi.CreateQueue.Handle(m, s.createQueue, own)
	sqsapi.DeleteQueue.Handle(m, s.deleteQueue, own)
	sqsapi.PurgeQueue.Handle(m, s.purgeQueue, own)
	sqsapi.GetQueueUrl.Handle(m, s.getQueueURL, own)
	sqsapi.ListQueues.Handle(m, s.listQueues, own)
	sqsapi.GetQueueAttributes.Handle(m, s.getQueueAttributes, own)
	sqsapi.SetQueueAttributes.Handle(m, s.setQueueAttributes, own)
	sqsapi.ListDeadLetterSourceQueues.Handle(m, s.listDeadLetterSourceQueues, own)

	sqsapi.AddPermission.Handle(m, s.addPermission, own)
	sqsapi.RemovePermission.Handle(m, s.removePermission, own)
	sqsapi.TagQueue.Handle(m, s.tagQueue, own)
	sqsapi.UntagQueue.Handle(m, s.untagQueue, own)
	sqsapi.ListQueueTags.Handle(m, s.listQueueTags, own)

	sqsapi.SendMessage.Handle(m, s.sendMessage, own)
	sqsapi.SendMessageBatch.Handle(m, s.sendMessageBatch, own)
	sqsapi.ReceiveMessage.Handle(m, s.receiveMessage, own)
	sqsapi.DeleteMessage.Handle(m, s.deleteMessage, own)
	sqsapi.DeleteMessageBatch.Handle(m, s.deleteMessageBatch, own)
	sqsapi.ChangeMessageVisibility.Handle(m, s.changeMessageVisibility, own)
	sqsapi.ChangeMessageVisibilityBatch.Handle(m, s.changeMessageVisibilityBatch, own)

	sqsapi.StartMessageMoveTask.Handle(m, s.startMessageMoveTask, own)
	sqsapi.CancelMessageMoveTask.Handle(m, s.cancelMessageMoveTask, own)
	sqsapi.ListMessageMoveTasks.Handle(m, s.listMessageMoveTasks, own)
}

// Run moves messages for tasks and removes what is too old, until ctx ends. Its error is ctx's cause of ending.
func (s *Service) Run(ctx context.Context) error {
	g := group.New(ctx)
	g.Go(s.runMoves)
	g.Go(s.runSweep)
	g.Wait()
	return context.Cause(ctx)
}

// sweepEvery is how often is looked for what is too old. Nobody sees that it is still there.
const sweepEvery = time.Minute

func (s *Service) runSweep(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if err := s.sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Error("old messages not removed", "err", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// sweep removes messages past their queues' retention, what deduplication needs no more, and what is left of deleted queues.
func (s *Service) sweep(ctx context.Context, now time.Time) error {
	if err := s.sweepDeleted(ctx, now); err != nil {
		return err
	}
	var names []struct {
		scope
		name string
	}
	err := s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(allQueues()) {
			if err != nil {
				return err
			}
			sc, name, err := decodeQueueKey(e.Key)
			if err != nil {
				return err
			}
			names = append(names, struct {
				scope
				name string
			}{sc, name})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, n := range names {
		q, err := s.view(ctx, n.scope, n.name)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			continue // it was deleted meanwhile
		}
		if _, err := q.messages.Expire(ctx, now.Add(-q.settings.retention)); err != nil && !errors.Is(err, queue.ErrDropped) {
			return err
		}
		if q.settings.fifo {
			if err := s.sweepPeriods(ctx, q, periodOf(now)-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepPeriods removes what a queue kept by periods before one, if there is anything.
func (s *Service) sweepPeriods(ctx context.Context, q *queueState, before int64) error {
	for _, rg := range past(q.record.messages(), before) {
		some := false
		err := s.db.View(ctx, func(r kv.Reader) error {
			for _, err := range r.Scan(rg) {
				some = err == nil
				return err
			}
			return nil
		})
		if err == nil && some {
			err = s.db.Update(ctx, func(tx kv.Tx) error {
				tx.Discard(rg)
				return nil
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepDeleted frees the names of deleted queues, and removes what was left of dropped messages by receives that were under way.
func (s *Service) sweepDeleted(ctx context.Context, now time.Time) error {
	var names, dropped []kv.Entry
	err := s.db.View(ctx, func(r kv.Reader) error {
		for _, x := range []struct {
			rg   kv.Range
			list *[]kv.Entry
		}{{allDeleted(), &names}, {allDropped(), &dropped}} {
			for e, err := range r.Scan(x.rg) {
				if err != nil {
					return err
				}
				at, err := readStamp(e.Value)
				if err != nil {
					return err
				}
				if !lately(at, now, reuse) {
					*x.list = append(*x.list, e)
				}
			}
		}
		return nil
	})
	if err != nil || len(names)+len(dropped) == 0 {
		return err
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		for _, e := range names {
			v, ok, err := tx.Get(e.Key)
			if err != nil {
				return err
			}
			if ok && string(v) == string(e.Value) { // else a queue of that name came and went meanwhile
				tx.Delete(e.Key)
			}
		}
		for _, e := range dropped {
			id, err := decodeDroppedKey(e.Key)
			if err != nil {
				return err
			}
			s.queues.Queue(id, queue.Standard).Discard(tx)
			for _, rg := range periods(id) {
				tx.Discard(rg)
			}
			tx.Delete(e.Key)
		}
		return nil
	})
}
