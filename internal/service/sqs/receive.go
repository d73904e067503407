package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/queue"
)

const (
	maxWait = 20 // seconds
	// maxInFlight is how many messages of a queue may be in flight. Source: the developer guide, quotas of messages.
	maxInFlight = 120_000
)

// asked is what a receiver wants.
type asked struct {
	most       int
	bytes      int            // of bodies, after which there are no more; 0: any number
	visibility *time.Duration // nil: the queue's
	wait       *time.Duration
	system     []string // names of system attributes
	attributes []string // names, or patterns, of message attributes
	attempt    string   // ReceiveRequestAttemptId
}

func readReceive(ctx context.Context, in *sqsapi.ReceiveMessageInput) (*asked, error) {
	a := &asked{most: 1, attributes: in.MessageAttributeNames}
	most := int32(maxBatch)
	if trusted(ctx) {
		most, a.bytes = maxOwnBatch, ownBytes
	}
	if n := in.MaxNumberOfMessages; n != nil {
		if *n < 1 || *n > most {
			return nil, invalid(*n, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")
		}
		a.most = int(*n)
	}
	if v := in.VisibilityTimeout; v != nil {
		if *v < 0 || *v > maxVisibility {
			return nil, invalid(*v, "VisibilityTimeout", "Must be >= 0 and <= 43200, if provided.")
		}
		a.visibility = new(time.Duration(*v) * time.Second)
	}
	if w := in.WaitTimeSeconds; w != nil {
		if *w < 0 || *w > maxWait {
			return nil, invalid(*w, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")
		}
		a.wait = new(time.Duration(*w) * time.Second)
	}
	known := sqsapi.Service.Shape("MessageSystemAttributeName").Enum
	for _, names := range [...][]string{in.AttributeNames, in.MessageSystemAttributeNames} {
		for _, n := range names {
			if !slices.Contains(known, n) && !slices.Contains(attributeNames(), n) {
				return nil, unknownAttribute(n)
			}
			a.system = append(a.system, n)
		}
	}
	if slices.Contains(a.system, "All") {
		a.system = known
	}
	if id := in.ReceiveRequestAttemptId; id != nil {
		if !isID(*id) {
			return nil, invalid(*id, "ReceiveRequestAttemptId", "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to 128 in length.")
		}
		a.attempt = *id
	}
	return a, nil
}

func (s *Service) receiveMessage(ctx context.Context, in *sqsapi.ReceiveMessageInput) (*sqsapi.ReceiveMessageOutput, error) {
	sc, name, err := parseURL(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	a, err := readReceive(ctx, in)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	for {
		q, err := s.view(ctx, sc, name)
		if err != nil {
			return nil, err
		}
		ds, err := s.receive(ctx, q, a, began)
		if errors.Is(err, queue.ErrDropped) {
			continue // purged or deleted while it waited
		}
		if err != nil {
			return nil, err
		}
		out := &sqsapi.ReceiveMessageOutput{}
		for i := range ds {
			m, err := q.message(&ds[i], a)
			if err != nil {
				return nil, err
			}
			out.Messages = append(out.Messages, *m)
		}
		return out, nil
	}
}

// receive takes messages from a queue, for the receiver's wait since it began.
func (s *Service) receive(ctx context.Context, q *queueState, a *asked, began time.Time) ([]queue.Delivery, error) {
	visibility, wait := q.settings.visibility, q.settings.wait
	if a.visibility != nil {
		visibility = *a.visibility
	}
	if a.wait != nil {
		wait = *a.wait
	}
	attempt := a.attempt
	if !q.settings.fifo {
		attempt = "" // means nothing to a standard queue
	}
	if attempt != "" {
		ds, err := s.again(ctx, q, attempt, visibility)
		if err != nil || ds != nil {
			return ds, err
		}
	}
	t := queue.Take{
		Max: a.most, Bytes: a.bytes, Visibility: visibility, Wait: max(0, wait-time.Since(began)), Retention: q.settings.retention, InFlight: maxInFlight,
	}
	if q.settings.fifo {
		t.Delay = q.settings.delay
	}
	if q.settings.redrive != nil {
		t.Dead = func(tx kv.Tx, d *queue.Delivery) (bool, error) { return s.bury(tx, q, d) }
	}
	ds, err := s.take(ctx, q, t)
	if errors.Is(err, queue.ErrInFlight) {
		if q.settings.fifo || wait > 0 {
			return nil, s.sleep(ctx, wait-time.Since(began))
		}
		return nil, sqsapi.ErrOverLimit("The maximum number of in flight messages is reached: %d.", maxInFlight)
	}
	if err == nil && attempt != "" && len(ds) > 0 {
		err = s.remember(ctx, q, attempt, ds)
	}
	return ds, err
}

// take takes messages. It waits until EndPolls at most.
func (s *Service) take(ctx context.Context, q *queueState, t queue.Take) ([]queue.Delivery, error) {
	if t.Wait <= 0 {
		return q.messages.Take(ctx, t)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	ds, err := q.messages.Take(waiting, t)
	if err != nil && s.closing.Err() != nil && ctx.Err() == nil {
		return nil, nil
	}
	return ds, err
}

// sleep waits, if there is anything to wait for, until ctx ends or EndPolls at most.
func (s *Service) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closing.Done():
	case <-ctx.Done():
	}
	return ctx.Err()
}

// bury moves a message that was received too often to the dead-letter queue, in the transaction that takes it. If there is none any more
// it stays.
func (s *Service) bury(tx kv.Tx, q *queueState, d *queue.Delivery) (bool, error) {
	if d.Takes <= q.settings.redrive.most {
		return false, nil
	}
	// The policy may have changed since the receive began.
	if q, err := s.find(tx, q.scope, q.name); err != nil || q == nil || q.settings.redrive == nil || d.Takes <= q.settings.redrive.most {
		return false, err
	}
	dead, err := s.deadLetterQueue(tx, q)
	if err != nil || dead == nil {
		return false, err
	}
	m, err := decodeMessage(d.Body)
	if err != nil {
		return false, err
	}
	m.source = q.arn()
	m.receives += d.Takes - 1
	_, err = dead.messages.Add(tx, queue.Message{Group: d.Group, Sent: d.Sent, Body: m.encode()})
	return err == nil, err
}

// message is what the receiver gets.
func (q *queueState) message(d *queue.Delivery, a *asked) (*sqsapi.Message, error) {
	m, err := decodeMessage(d.Body)
	if err != nil {
		return nil, err
	}
	out := &sqsapi.Message{
		MessageId: new(uuid(m.id)), ReceiptHandle: new(q.receiptHandle(d.Lease())), Body: &m.body, MD5OfBody: new(bodyMD5(m.body)),
	}
	if len(a.system) > 0 {
		out.Attributes = map[string]string{}
	}
	for _, name := range a.system {
		value := ""
		switch name {
		case sqsapi.MessageSystemAttributeNameSenderId:
			value = m.sender
		case sqsapi.MessageSystemAttributeNameSentTimestamp:
			value = strconv.FormatInt(d.Sent.UnixMilli(), 10)
		case sqsapi.MessageSystemAttributeNameApproximateReceiveCount:
			value = strconv.Itoa(m.receives + d.Takes)
		case sqsapi.MessageSystemAttributeNameApproximateFirstReceiveTimestamp:
			value = strconv.FormatInt(d.First.UnixMilli(), 10)
		case sqsapi.MessageSystemAttributeNameSequenceNumber:
			if q.settings.fifo {
				value = sequenceNumber(d.Seq)
			}
		case sqsapi.MessageSystemAttributeNameMessageDeduplicationId:
			value = m.dedup
		case sqsapi.MessageSystemAttributeNameMessageGroupId:
			value = d.Group
		case sqsapi.MessageSystemAttributeNameAWSTraceHeader:
			value = m.trace
		case sqsapi.MessageSystemAttributeNameDeadLetterQueueSourceArn:
			value = m.source
		}
		if value != "" {
			out.Attributes[name] = value
		}
	}
	if len(out.Attributes) == 0 {
		out.Attributes = nil
	}
	if len(a.attributes) == 0 || len(m.attributes) == 0 {
		return out, nil
	}
	var chosen []attribute
	for i := range m.attributes {
		if x := &m.attributes[i]; wants(a.attributes, x.name) {
			chosen = append(chosen, *x)
			v := sqsapi.MessageAttributeValue{DataType: &x.dataType}
			if x.binary {
				v.BinaryValue = []byte(x.value)
			} else {
				v.StringValue = &x.value
			}
			if out.MessageAttributes == nil {
				out.MessageAttributes = map[string]sqsapi.MessageAttributeValue{}
			}
			out.MessageAttributes[x.name] = v
		}
	}
	out.MD5OfMessageAttributes = given(attributesMD5(chosen))
	return out, nil
}

// wants reports whether a list of names has an attribute: by its name, by what it begins with (name.*), or all.
func wants(names []string, name string) bool {
	for _, n := range names {
		if n == name || n == "All" || n == "*" {
			return true
		}
		if prefix, ok := strings.CutSuffix(n, ".*"); ok && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// received is one message of an attempt, as stored.
type received struct {
	ID    queue.ID
	Takes int
	Group string
	Sent  time.Time
	First time.Time
	Body  []byte
}

// remember keeps what an attempt received, so that another with its id gets the same.
func (s *Service) remember(ctx context.Context, q *queueState, attempt string, ds []queue.Delivery) error {
	list := make([]received, len(ds))
	for i, d := range ds {
		list[i] = received{d.ID, d.Takes, d.Group, d.Sent, d.First, d.Body}
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		return kv.SetJSON(tx, attemptKey(q.record.messages(), periodOf(time.Now()), attempt), attemptRow{time.Now(), list})
	})
}

type attemptRow struct {
	At       time.Time
	Messages []received
}

// again returns what an attempt received within the last five minutes, invisible from now on for the given time, or nil if there is no such
// attempt or one of its messages was deleted, became visible or was received by another since.
func (s *Service) again(ctx context.Context, q *queueState, attempt string, visibility time.Duration) ([]queue.Delivery, error) {
	var row attemptRow
	err := s.db.View(ctx, func(r kv.Reader) error {
		p := periodOf(time.Now())
		for _, at := range [...]int64{p, p - 1} {
			b, ok, err := r.Get(attemptKey(q.record.messages(), at, attempt))
			if err != nil {
				return err
			}
			if ok {
				return json.Unmarshal(b, &row)
			}
		}
		return nil
	})
	if err != nil || len(row.Messages) == 0 || time.Since(row.At) >= period {
		return nil, err
	}
	changes := make([]queue.Visibility, len(row.Messages))
	ds := make([]queue.Delivery, len(row.Messages))
	for i, m := range row.Messages {
		changes[i] = queue.Visibility{Lease: queue.Lease{ID: m.ID, Takes: m.Takes}, Timeout: visibility}
		ds[i] = queue.Delivery{ID: m.ID, Takes: m.Takes, Group: m.Group, Sent: m.Sent, First: m.First, Body: m.Body}
	}
	errs, err := q.messages.SetVisibility(ctx, changes...)
	if err != nil || slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil, err
	}
	return ds, nil
}
