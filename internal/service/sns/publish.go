package sns

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	maxBatch      = 10
	maxEntryID    = 80
	deduplication = 5 * time.Minute
)

func (s *Service) publish(ctx context.Context, in *snsapi.PublishInput) (*snsapi.PublishOutput, error) {
	parameter, arn := "TopicArn", str(in.TopicArn)
	switch {
	case in.PhoneNumber != nil && *in.PhoneNumber != "":
		return nil, invalid("PhoneNumber Reason: Mayfly sends no text messages")
	case in.TopicArn == nil && in.TargetArn != nil:
		parameter, arn = "TargetArn", *in.TargetArn
		if strings.Contains(arn, ":endpoint/") {
			return nil, invalid("TargetArn Reason: No endpoint found for the target arn specified")
		}
	case in.TopicArn == nil:
		return nil, invalid("TopicArn or TargetArn Reason: no value for required parameter")
	}
	name, err := parseTopic(call.From(ctx).Region, parameter, arn)
	if err != nil {
		return nil, err
	}
	m, _, err := newMessage(&parameters{in.Message, in.Subject, in.MessageStructure, in.MessageGroupId, in.MessageDeduplicationId, in.MessageAttributes})
	if err != nil {
		return nil, err
	}
	sent, err := s.send(ctx, name, []*message{m})
	if err != nil {
		return nil, err
	}
	return &snsapi.PublishOutput{MessageId: &sent[0].ID, SequenceNumber: sent[0].sequence()}, nil
}

func (s *Service) publishBatch(ctx context.Context, in *snsapi.PublishBatchInput) (*snsapi.PublishBatchOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "TopicArn", str(in.TopicArn))
	if err != nil {
		return nil, err
	}
	entries := in.PublishBatchRequestEntries
	if len(entries) == 0 {
		return nil, snsapi.ErrEmptyBatchRequestException("The batch request doesn't contain any entries.")
	}
	if len(entries) > maxBatch {
		return nil, snsapi.ErrTooManyEntriesInBatchRequestException("The batch request contains more entries than permissible.")
	}
	seen := map[string]bool{}
	for i := range entries {
		id := str(entries[i].Id)
		if err := checkEntryID(id); err != nil {
			return nil, err
		}
		if seen[id] {
			return nil, snsapi.ErrBatchEntryIdsNotDistinctException("Two or more batch entries in the request have the same Id.")
		}
		seen[id] = true
	}
	all := make([]*message, len(entries))
	total := 0
	for i := range entries {
		e := &entries[i]
		m, size, err := newMessage(&parameters{e.Message, e.Subject, e.MessageStructure, e.MessageGroupId, e.MessageDeduplicationId, e.MessageAttributes})
		if total += size; total > maxMessage {
			return nil, snsapi.ErrBatchRequestTooLongException("The length of all the messages put together is more than the limit.")
		}
		if err != nil {
			return nil, err
		}
		all[i] = m
	}
	sent, err := s.send(ctx, name, all)
	if err != nil {
		return nil, err
	}
	out := &snsapi.PublishBatchOutput{Successful: make([]snsapi.PublishBatchResultEntry, len(sent)), Failed: []snsapi.BatchResultErrorEntry{}}
	for i, m := range sent {
		out.Successful[i] = snsapi.PublishBatchResultEntry{Id: entries[i].Id, MessageId: &m.ID, SequenceNumber: m.sequence()}
	}
	return out, nil
}

func checkEntryID(id string) error {
	if len(id) > maxEntryID {
		return snsapi.ErrInvalidBatchEntryIdException("The Id of a batch entry in the batch request is too long: %s", id)
	}
	for _, c := range id {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return snsapi.ErrInvalidBatchEntryIdException("The Id of a batch entry in the batch request contains an impermissible character: %s", id)
		}
	}
	if id == "" {
		return snsapi.ErrInvalidBatchEntryIdException("The Id of a batch entry in the batch request is empty")
	}
	return nil
}

// sequence is a sequence number as clients see it, twenty digits.
func (m *message) sequence() *string {
	if m.Sequence == 0 {
		return nil
	}
	return new(sequenceNumber(m.Sequence))
}

func sequenceNumber(n uint64) string { return fmt.Sprintf("1%019d", n) }

// checkFIFO checks the ids of a message against its topic, and makes the deduplication id of one that has none.
func (t *topic) checkFIFO(m *message) error {
	if !t.name.fifo() {
		switch {
		case m.Duplicate != "":
			return invalid("MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter that is not valid for this topic type")
		case m.Group != "" && !isID(m.Group):
			return invalid("MessageGroupId Reason: The value is not valid")
		}
		return nil
	}
	if m.Group == "" {
		return invalid("The MessageGroupId parameter is required for FIFO topics")
	}
	if !isID(m.Group) {
		return invalid("MessageGroupId Reason: The value is not valid")
	}
	if m.Duplicate == "" {
		if t.get(attrContentDedup) != "true" {
			return invalid("The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
		}
		sum := sha256.Sum256([]byte(m.given))
		m.Duplicate = hex.EncodeToString(sum[:])
	}
	if !isID(m.Duplicate) {
		return invalid("MessageDeduplicationId Reason: The value is not valid")
	}
	return nil
}

// send accepts messages: when it returns they are durable with all their deliveries. Of those that a FIFO topic has had already it returns the
// first ones.
func (s *Service) send(ctx context.Context, name topicName, all []*message) ([]*message, error) {
	v, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	i := call.From(ctx)
	now := s.now().UTC()
	for _, m := range all {
		if err := v.topic.checkFIFO(m); err != nil {
			return nil, err
		}
		m.ID, m.Time, m.Trace = call.NewRequestID(), now, i.Trace
	}
	// Who gets what does not depend on the transaction.
	lists := make([][]*taker, len(all))
	for n, m := range all {
		for _, t := range v.takes {
			if t.filter.takes(m, m.form(t.Protocol)) {
				lists[n] = append(lists[n], t)
			}
		}
	}
	sent := make([]*message, len(all))
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		for n, m := range all {
			sent[n] = m
			if name.fifo() {
				first, err := s.number(tx, v.topic, m)
				if err != nil {
					return err
				}
				if first != nil {
					sent[n] = &message{ID: first.Message, Sequence: first.Sequence}
					continue
				}
			}
			if err := s.addDeliveries(tx, m, lists[n]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sent, nil
}

// number gives a message of a FIFO topic its sequence number, or returns the message that it repeats. Publishers to one group take turns:
// both rows are read and written.
func (s *Service) number(tx kv.Tx, t *topic, m *message) (*published, error) {
	now := s.now().UTC()
	scope := ""
	if t.get(attrThroughputScope) == scopeGroup {
		scope = m.Group
	}
	key := duplicateKey(t.ID, scope, m.Duplicate)
	first, ok, err := kv.GetJSON[published](tx, key)
	if err != nil {
		return nil, err
	}
	if ok && now.Before(first.Expires) {
		return &first, nil
	}
	group := groupKey(t.ID, m.Group)
	last, _, err := kv.GetJSON[lastOfGroup](tx, group)
	if err != nil {
		return nil, err
	}
	m.Sequence = max(last.Sequence+1, uint64(now.UnixNano()))
	expires := now.Add(deduplication)
	if err := kv.SetJSON(tx, key, published{m.ID, m.Sequence, expires}); err != nil {
		return nil, err
	}
	tx.Set(expiryKey(expires, key), nil)
	// The row stays as long as a message of the group may be under way before its next one; after that the clock is ahead of it.
	if err := kv.SetJSON(tx, group, lastOfGroup{m.Sequence, expires}); err != nil {
		return nil, err
	}
	tx.Set(expiryKey(expires, group), nil)
	return nil, nil
}

// addDeliveries queues a message for each of its subscriptions. It is stored in the item if there is one, and by itself if there are more.
func (s *Service) addDeliveries(tx kv.Tx, m *message, list []*taker) error {
	if len(list) == 0 {
		return nil
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	shared := len(list) > 1
	if shared {
		tx.Set(messageKey(m.ID), body)
	}
	for _, t := range list {
		item := durable.Item{ID: m.ID}
		st := &state{Subscription: t.name}
		if shared {
			tx.Set(t.name.pendingKey(m.ID), nil)
			st.Message = m.ID
		} else {
			item.Body = body
		}
		q, lane := s.queue(t.Protocol), t.name.lane()
		if m.Sequence != 0 {
			q, lane = s.ordered, lane+"/"+m.Group
			item.ID = sequenceNumber(m.Sequence)
		}
		if err := add(tx, q, lane, item, st); err != nil {
			return err
		}
	}
	return nil
}
