package sqs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// maxDelay bounds DelaySeconds, in seconds.
const maxDelay = 900

// outgoing is a message on its way into a queue.
type outgoing struct {
	message
	group   *string
	dedupID *string
	delay   *int32

	bodyMD5, attributesMD5, systemMD5 string
}

// sent is what the sender is told.
type sent struct {
	id       string
	sequence *string // of FIFO queues
}

// readMessage checks what can be checked of a message without its queue.
func readMessage(ctx context.Context, in *sqsapi.SendMessageBatchRequestEntry) (*outgoing, error) {
	if in.MessageBody == nil || *in.MessageBody == "" {
		return nil, missing("MessageBody")
	}
	o := &outgoing{group: in.MessageGroupId, dedupID: in.MessageDeduplicationId, delay: in.DelaySeconds}
	o.body = *in.MessageBody
	if err := checkBody(o.body); err != nil {
		return nil, err
	}
	var err error
	if o.attributes, err = readAttributes(in.MessageAttributes); err != nil {
		return nil, err
	}
	if err := o.readSystemAttributes(in.MessageSystemAttributes); err != nil {
		return nil, err
	}
	if o.group != nil && !isID(*o.group) {
		return nil, invalid(*o.group, "MessageGroupId", "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.")
	}
	if o.dedupID != nil && !isID(*o.dedupID) {
		return nil, invalid(*o.dedupID, "MessageDeduplicationId", "MessageDeduplicationId can only include alphanumeric and punctuation characters. 1 to 128 in length.")
	}
	if o.delay != nil && (*o.delay < 0 || *o.delay > maxDelay) {
		return nil, invalid(*o.delay, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")
	}
	o.id = newMessageID()
	o.bodyMD5 = bodyMD5(o.body)
	o.attributesMD5 = attributesMD5(o.attributes)
	info := call.From(ctx)
	o.sender = info.Principal.UserID
	if o.trace == "" {
		o.trace = info.Trace
	}
	return o, nil
}

const traceHeader = sqsapi.MessageSystemAttributeNameForSendsAWSTraceHeader

func (o *outgoing) readSystemAttributes(given map[string]sqsapi.MessageSystemAttributeValue) error {
	for name, v := range given {
		if name != traceHeader {
			return invalidParameter("Message system attribute name '%s' is invalid.", name)
		}
		switch {
		case len(v.StringListValues) > 0 || len(v.BinaryListValues) > 0:
			return invalidParameter("Message attribute list values in SendMessage operation are not supported.")
		case v.DataType == nil || *v.DataType == "":
			return invalidParameter("The message (system) attribute '%s' must contain a non-empty message attribute type.", name)
		case *v.DataType != "String":
			return invalidParameter("The type of message (system) attribute '%s' is invalid. You must use only the following supported type prefixes: String.", name)
		case v.StringValue == nil || *v.StringValue == "":
			return invalidParameter("Message (system) attribute '%s' must contain a non-empty value of type 'String'.", name)
		}
		if c, bad := badCharacter(*v.StringValue); bad {
			return invalidParameter("Invalid binary character '%s' was found in the value of message (system) attribute '%s', the set of allowed characters is %s.", c, name, allowedCharacters)
		}
		o.trace = *v.StringValue
		o.systemMD5 = attributesMD5([]attribute{{name: name, dataType: "String", value: o.trace}})
	}
	return nil
}

// fits checks a message against the settings of its queue.
func (o *outgoing) fits(st *settings) error {
	if o.size() > st.size {
		return invalidParameter("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", st.size)
	}
	if !st.fifo {
		if o.dedupID != nil {
			return invalid(*o.dedupID, "MessageDeduplicationId", "The request includes a parameter that is not valid for this queue type.")
		}
		return nil
	}
	switch {
	case o.delay != nil && *o.delay != 0:
		return invalid(*o.delay, "DelaySeconds", "The request include parameter that is not valid for this queue type.")
	case o.group == nil:
		return missing("MessageGroupId")
	case o.dedupID == nil && !st.byContent:
		return errNoDeduplication()
	}
	return nil
}

func errNoDeduplication() *apierr.Error {
	return invalidParameter("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
}

// add puts a message that fits into its queue. One that a FIFO queue had within the last five minutes is not added again: its sender gets the
// first one's ids.
func (s *Service) add(tx kv.Tx, q *queueState, o *outgoing, now time.Time) (sent, error) {
	m := queue.Message{}
	if o.group != nil {
		m.Group = *o.group
	}
	if !q.settings.fifo {
		if m.Delay = q.settings.delay; o.delay != nil {
			m.Delay = time.Duration(*o.delay) * time.Second
		}
		m.Body = o.encode()
		_, err := q.messages.Add(tx, m)
		return sent{id: uuid(o.id)}, err
	}
	if o.dedupID != nil {
		o.dedup = *o.dedupID
	} else {
		sum := sha256.Sum256([]byte(o.body))
		o.dedup = hex.EncodeToString(sum[:])
	}
	scope := ""
	if q.settings.perGroup {
		scope = m.Group
	}
	// The row of the next period is read as well: a clock that others look at at the same time may be there already.
	p := periodOf(now)
	for _, at := range [...]int64{p - 1, p, p + 1} {
		v, _, err := tx.Get(dedupKey(q.record.messages(), at, scope, o.dedup))
		if err != nil {
			return sent{}, err
		}
		if first, is := decodeDuplicate(v, now); is {
			return first, nil
		}
	}
	m.Body = o.encode()
	id, err := q.messages.Add(tx, m)
	if err != nil {
		return sent{}, err
	}
	tx.Set(dedupKey(q.record.messages(), p, scope, o.dedup), encodeDuplicate(o.id, id.Seq, now))
	return sent{uuid(o.id), new(sequenceNumber(id.Seq))}, nil
}

// sequenceNumber has 20 digits, so that it sorts as text.
func sequenceNumber(seq uint64) string { return fmt.Sprintf("%020d", seq) }

// A duplicate's row is the id of the first message, its number, and when it was sent.

func encodeDuplicate(id [16]byte, seq uint64, now time.Time) []byte {
	b := append(make([]byte, 0, 32), id[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	return binary.BigEndian.AppendUint64(b, uint64(now.UnixNano()))
}

// decodeDuplicate returns what was sent first, if that is not too long ago.
func decodeDuplicate(b []byte, now time.Time) (sent, bool) {
	if len(b) != 32 || !lately(time.Unix(0, int64(binary.BigEndian.Uint64(b[24:]))), now, period) {
		return sent{}, false
	}
	return sent{uuid([16]byte(b)), new(sequenceNumber(binary.BigEndian.Uint64(b[16:])))}, true
}

func (s *Service) sendMessage(ctx context.Context, in *sqsapi.SendMessageInput) (*sqsapi.SendMessageOutput, error) {
	sc, name, err := parseURL(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	o, err := readMessage(ctx, &sqsapi.SendMessageBatchRequestEntry{
		MessageBody: in.MessageBody, DelaySeconds: in.DelaySeconds, MessageAttributes: in.MessageAttributes,
		MessageSystemAttributes: in.MessageSystemAttributes, MessageDeduplicationId: in.MessageDeduplicationId, MessageGroupId: in.MessageGroupId,
	})
	if err != nil {
		return nil, err
	}
	var done sent
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.get(tx, sc, name)
		if err != nil {
			return err
		}
		if err := o.fits(&q.settings); err != nil {
			return err
		}
		done, err = s.add(tx, q, o, time.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &sqsapi.SendMessageOutput{
		MessageId: &done.id, SequenceNumber: done.sequence, MD5OfMessageBody: &o.bodyMD5,
		MD5OfMessageAttributes: given(o.attributesMD5), MD5OfMessageSystemAttributes: given(o.systemMD5),
	}, nil
}

// given is a text that is left out if it is empty.
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (s *Service) sendMessageBatch(ctx context.Context, in *sqsapi.SendMessageBatchInput) (*sqsapi.SendMessageBatchOutput, error) {
	sc, name, err := parseURL(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	if err := checkBatch(ctx, "SendMessageBatch", len(in.Entries), func(i int) *string { return in.Entries[i].Id }); err != nil {
		return nil, err
	}
	total := 0
	messages := make([]*outgoing, len(in.Entries))
	failures := make([]error, len(in.Entries))
	for i := range in.Entries {
		e := &in.Entries[i]
		messages[i], failures[i] = readMessage(ctx, e)
		if m := messages[i]; m != nil {
			total += m.size()
		} else if e.MessageBody != nil {
			total += len(*e.MessageBody)
		}
	}
	if total > maxMessage {
		return nil, sqsapi.ErrBatchRequestTooLong("Batch requests cannot be longer than %d bytes. You have sent %d bytes.", maxMessage, total)
	}
	var out *sqsapi.SendMessageBatchOutput
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.get(tx, sc, name)
		if err != nil {
			return err
		}
		out = &sqsapi.SendMessageBatchOutput{Successful: []sqsapi.SendMessageBatchResultEntry{}}
		if q.settings.fifo { // these two fail a whole batch
			for i := range in.Entries {
				switch {
				case in.Entries[i].MessageGroupId == nil:
					return invalidParameter("The request must contain the parameter MessageGroupId.")
				case in.Entries[i].MessageDeduplicationId == nil && !q.settings.byContent:
					return errNoDeduplication()
				}
			}
		}
		now := time.Now()
		for i, o := range messages {
			err := failures[i]
			switch {
			case err != nil:
			case o.size() > q.settings.size:
				err = invalidParameter("One or more parameters cannot be validated. Reason: Message must be shorter than %d bytes.", q.settings.size)
			default:
				err = o.fits(&q.settings)
			}
			if err != nil {
				out.Failed = append(out.Failed, failed(in.Entries[i].Id, err))
				continue
			}
			done, err := s.add(tx, q, o, now)
			if err != nil {
				return err
			}
			out.Successful = append(out.Successful, sqsapi.SendMessageBatchResultEntry{
				Id: in.Entries[i].Id, MessageId: &done.id, SequenceNumber: done.sequence, MD5OfMessageBody: &o.bodyMD5,
				MD5OfMessageAttributes: given(o.attributesMD5), MD5OfMessageSystemAttributes: given(o.systemMD5),
			})
		}
		return nil
	})
	return out, err
}
