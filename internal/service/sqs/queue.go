package sqs

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// reuse is how long the name of a deleted queue stays taken, and how long nobody may purge a queue again.
const reuse = time.Minute

func isFIFO(name string) bool { return strings.HasSuffix(name, ".fifo") }

func isARN(s string) bool { return arn.Is(s) }

// isName reports whether s can be the name of a queue, without .fifo, or an id in a batch.
func isName(s string) bool {
	if len(s) == 0 || len(s) > 80 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// checkName checks the name of a new queue against its kind.
func checkName(name string, fifo bool) error {
	if fifo {
		base, ok := strings.CutSuffix(name, ".fifo")
		if !ok || !isName(base) || len(name) > 80 {
			return invalidParameter("The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length.")
		}
		return nil
	}
	if name == "" {
		return invalidParameter("Queue name cannot be empty")
	}
	if !isName(name) {
		return invalidParameter("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	return nil
}

func (s *Service) createQueue(ctx context.Context, in *sqsapi.CreateQueueInput) (*sqsapi.CreateQueueOutput, error) {
	if in.QueueName == nil {
		return nil, errNoName()
	}
	name, sc := *in.QueueName, scopeOf(ctx)
	fifo, _ := boolean(in.Attributes["FifoQueue"])
	if err := checkName(name, fifo); err != nil {
		return nil, err
	}
	set, err := checkAttributes(in.Attributes, fifo)
	if err != nil {
		return nil, err
	}
	attributes, err := apply(nil, set)
	if err != nil {
		return nil, err
	}
	if err := checkTags(name, in.Tags, 0); err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.find(tx, sc, name)
		if err != nil {
			return err
		}
		if q != nil {
			if k := q.differs(set); k != "" {
				return sqsapi.ErrQueueNameExists("A queue already exists with the same name and a different value for attribute %s", k)
			}
			return nil
		}
		if err := sc.checkReuse(tx, name, time.Now()); err != nil {
			return err
		}
		if err := s.relate(tx, sc, name, "", attributes["RedrivePolicy"]); err != nil {
			return err
		}
		now := time.Now().Unix()
		return sc.set(tx, name, &record{ID: newID(), Created: now, Modified: now, Attributes: attributes, Tags: maps.Clone(in.Tags)})
	})
	if err != nil {
		return nil, err
	}
	return &sqsapi.CreateQueueOutput{QueueUrl: new(s.queueURL(ctx, sc, name))}, nil
}

// lately reports whether a time that was stored is less than d ago. One that has yet to come is not: the clock was set back since, nobody knows by how much.
func lately(then, now time.Time, d time.Duration) bool {
	age := now.Sub(then)
	return age > -d && age < d
}

// checkReuse refuses the name of a queue that was deleted less than a minute ago.
func (sc scope) checkReuse(tx kv.Tx, name string, now time.Time) error {
	key := sc.deletedKey(name)
	v, ok, err := tx.Get(key)
	if err != nil || !ok {
		return err
	}
	deleted, err := readStamp(v)
	if err != nil {
		return err
	}
	if lately(deleted, now, reuse) {
		return sqsapi.ErrQueueDeletedRecently("You must wait 60 seconds after deleting a queue before you can create another with the same name.")
	}
	tx.Delete(key)
	return nil
}

func (s *Service) deleteQueue(ctx context.Context, in *sqsapi.DeleteQueueInput) (*sqsapi.DeleteQueueOutput, error) {
	sc, name, err := own(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.get(tx, sc, name)
		if err != nil {
			return err
		}
		if err := s.relate(tx, sc, name, q.Attributes["RedrivePolicy"], ""); err != nil {
			return err
		}
		for e, err := range tx.Scan(sc.tasks(name)) {
			if err != nil {
				return err
			}
			tx.Delete(e.Key)
		}
		tx.Delete(sc.queueKey(name))
		now := stamp(time.Now())
		tx.Set(sc.deletedKey(name), now)
		q.drop(tx, now)
		return nil
	})
	return nil, err
}

// drop removes a queue's messages, and what deduplication knows of them. A receive that is under way may still write about one of them, so sweep does it again.
func (q *queueState) drop(tx kv.Tx, now []byte) {
	q.messages.Discard(tx)
	for _, rg := range periods(q.record.messages()) {
		tx.Discard(rg)
	}
	tx.Set(droppedKey(q.record.messages()), now)
}

func (s *Service) purgeQueue(ctx context.Context, in *sqsapi.PurgeQueueInput) (*sqsapi.PurgeQueueOutput, error) {
	sc, name, err := parseURL(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.get(tx, sc, name)
		if err != nil {
			return err
		}
		now := time.Now()
		if q.Purged != 0 && lately(time.UnixMilli(q.Purged), now, reuse) {
			return sqsapi.ErrPurgeQueueInProgress("Only one PurgeQueue operation on %s is allowed every 60 seconds.", name)
		}
		q.drop(tx, stamp(now))
		r := q.record
		r.Purges++
		r.Purged = now.UnixMilli()
		return sc.set(tx, name, &r)
	})
	return nil, err
}

func errNoName() error {
	return invalidParameter("Value for parameter QueueName is invalid. Reason: Must specify a queue name.")
}

func (s *Service) getQueueURL(ctx context.Context, in *sqsapi.GetQueueUrlInput) (*sqsapi.GetQueueUrlOutput, error) {
	if in.QueueName == nil || *in.QueueName == "" {
		return nil, errNoName()
	}
	sc := scopeOf(ctx)
	if in.QueueOwnerAWSAccountId != nil && *in.QueueOwnerAWSAccountId != "" {
		sc.account = *in.QueueOwnerAWSAccountId
	}
	if _, err := s.view(ctx, sc, *in.QueueName); err != nil {
		return nil, err
	}
	return &sqsapi.GetQueueUrlOutput{QueueUrl: new(s.queueURL(ctx, sc, *in.QueueName))}, nil
}

func (s *Service) listQueues(ctx context.Context, in *sqsapi.ListQueuesInput) (*sqsapi.ListQueuesOutput, error) {
	limit, err := pageSize(in.MaxResults)
	if err != nil {
		return nil, err
	}
	sc, prefix := scope{call.From(ctx).Account, call.From(ctx).Region}, ""
	if in.QueueNamePrefix != nil {
		prefix = *in.QueueNamePrefix
	}
	out := &sqsapi.ListQueuesOutput{}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		entries, next, err := kv.Page(r, sc.queues(prefix), token(in.NextToken), limit)
		if err != nil {
			return pageError(err)
		}
		for _, e := range entries {
			_, name, err := decodeQueueKey(e.Key)
			if err != nil {
				return err
			}
			out.QueueUrls = append(out.QueueUrls, s.queueURL(ctx, sc, name))
		}
		if next != "" && in.MaxResults != nil { // AWS pages only who asks for it
			out.NextToken = &next
		}
		return nil
	})
}
