package sqs

import (
	"context"
	"errors"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// receipt is one message that a request names by its handle.
type receipt struct {
	handle  *string
	timeout *int32 // of a change of visibility
}

// settle does something with messages that were received, all at once: apply gets those whose handles hold, and each has an error of its own.
func (s *Service) settle(ctx context.Context, url *string, receipts []receipt, apply func(q *queueState, at []int, leases []queue.Lease) ([]error, error)) ([]error, error) {
	sc, name, err := parseURL(ctx, url)
	if err != nil {
		return nil, err
	}
	for {
		q, err := s.view(ctx, sc, name)
		if err != nil {
			return nil, err
		}
		errs := make([]error, len(receipts))
		var leases []queue.Lease
		var at []int
		for i, r := range receipts {
			l, gone, err := q.lease(r.handle)
			if errs[i] = err; err == nil && !gone {
				leases, at = append(leases, l), append(at, i)
			}
		}
		if len(leases) == 0 {
			return errs, nil
		}
		settled, err := apply(q, at, leases)
		if errors.Is(err, queue.ErrDropped) {
			continue // purged or deleted just now
		}
		if err != nil {
			return nil, err
		}
		for i, err := range settled {
			errs[at[i]] = err
		}
		return errs, nil
	}
}

// remove deletes messages.
func (s *Service) remove(ctx context.Context, url *string, receipts []receipt) ([]error, error) {
	return s.settle(ctx, url, receipts, func(q *queueState, at []int, leases []queue.Lease) ([]error, error) {
		errs, err := q.messages.Delete(ctx, leases...)
		for i := range errs {
			if errors.Is(errs[i], queue.ErrLease) {
				errs[i] = invalid(*receipts[at[i]].handle, "ReceiptHandle", "The receipt handle has expired.")
			}
		}
		return errs, err
	})
}

func (s *Service) deleteMessage(ctx context.Context, in *sqsapi.DeleteMessageInput) (*sqsapi.DeleteMessageOutput, error) {
	errs, err := s.remove(ctx, in.QueueUrl, []receipt{{handle: in.ReceiptHandle}})
	if err == nil {
		err = errs[0]
	}
	return nil, err
}

func (s *Service) deleteMessageBatch(ctx context.Context, in *sqsapi.DeleteMessageBatchInput) (*sqsapi.DeleteMessageBatchOutput, error) {
	if err := checkBatch(ctx, "DeleteMessageBatch", len(in.Entries), func(i int) *string { return in.Entries[i].Id }); err != nil {
		return nil, err
	}
	receipts := make([]receipt, len(in.Entries))
	for i := range in.Entries {
		receipts[i].handle = in.Entries[i].ReceiptHandle
	}
	errs, err := s.remove(ctx, in.QueueUrl, receipts)
	if err != nil {
		return nil, err
	}
	out := &sqsapi.DeleteMessageBatchOutput{Successful: []sqsapi.DeleteMessageBatchResultEntry{}}
	for i, err := range errs {
		if err != nil {
			out.Failed = append(out.Failed, failed(in.Entries[i].Id, err))
		} else {
			out.Successful = append(out.Successful, sqsapi.DeleteMessageBatchResultEntry{Id: in.Entries[i].Id})
		}
	}
	return out, nil
}

// changeVisibility changes how long messages are invisible, from now on.
func (s *Service) changeVisibility(ctx context.Context, url *string, receipts []receipt) ([]error, error) {
	return s.settle(ctx, url, receipts, func(q *queueState, at []int, leases []queue.Lease) ([]error, error) {
		refused := make([]error, len(leases))
		var changes []queue.Visibility
		var which []int
		for i, l := range leases {
			timeout := receipts[at[i]].timeout
			switch {
			case timeout == nil:
				refused[i] = missing("VisibilityTimeout")
			case *timeout < 0 || *timeout > maxVisibility:
				refused[i] = invalid(*timeout, "VisibilityTimeout", "Must be between 0 and 43200.")
			default:
				changes = append(changes, queue.Visibility{Lease: l, Timeout: time.Duration(*timeout) * time.Second})
				which = append(which, i)
			}
		}
		if len(changes) == 0 {
			return refused, nil
		}
		errs, err := q.messages.SetVisibility(ctx, changes...)
		if err != nil {
			return nil, err
		}
		for j, err := range errs {
			i := which[j]
			refused[i] = q.notChanged(err, &receipts[at[i]])
		}
		return refused, nil
	})
}

// notChanged is AWS's error for a change of visibility that was refused.
func (q *queueState) notChanged(err error, r *receipt) error {
	switch {
	case errors.Is(err, queue.ErrTotal):
		return invalid(*r.timeout, "VisibilityTimeout", "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]")
	case errors.Is(err, queue.ErrVisible) && !q.settings.fifo:
		return nil // as recorded: who comes too late is not told
	case errors.Is(err, queue.ErrGone), errors.Is(err, queue.ErrLease), errors.Is(err, queue.ErrVisible):
		return invalid(*r.handle, "ReceiptHandle", "Message does not exist or is not available for visibility timeout change.")
	}
	return err
}

func (s *Service) changeMessageVisibility(ctx context.Context, in *sqsapi.ChangeMessageVisibilityInput) (*sqsapi.ChangeMessageVisibilityOutput, error) {
	if in.ReceiptHandle != nil && in.VisibilityTimeout == nil {
		return nil, missing("VisibilityTimeout")
	}
	errs, err := s.changeVisibility(ctx, in.QueueUrl, []receipt{{in.ReceiptHandle, in.VisibilityTimeout}})
	if err == nil {
		err = errs[0]
	}
	return nil, err
}

func (s *Service) changeMessageVisibilityBatch(ctx context.Context, in *sqsapi.ChangeMessageVisibilityBatchInput) (*sqsapi.ChangeMessageVisibilityBatchOutput, error) {
	if err := checkBatch(ctx, "ChangeMessageVisibilityBatch", len(in.Entries), func(i int) *string { return in.Entries[i].Id }); err != nil {
		return nil, err
	}
	receipts := make([]receipt, len(in.Entries))
	for i := range in.Entries {
		receipts[i] = receipt{in.Entries[i].ReceiptHandle, in.Entries[i].VisibilityTimeout}
	}
	errs, err := s.changeVisibility(ctx, in.QueueUrl, receipts)
	if err != nil {
		return nil, err
	}
	out := &sqsapi.ChangeMessageVisibilityBatchOutput{Successful: []sqsapi.ChangeMessageVisibilityBatchResultEntry{}}
	for i, err := range errs {
		if err != nil {
			out.Failed = append(out.Failed, failed(in.Entries[i].Id, err))
		} else {
			out.Successful = append(out.Successful, sqsapi.ChangeMessageVisibilityBatchResultEntry{Id: in.Entries[i].Id})
		}
	}
	return out, nil
}
