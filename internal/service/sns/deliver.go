package sns

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
	"github.com/mayflyhq/mayfly/internal/target"
)

// Kinds of work.
const (
	kindMessage      = ""             // a message for a subscription
	kindDead         = "dead"         // one that could not be delivered, for the subscription's dead-letter queue
	kindConfirmation = "confirmation" // the body is a confirmation
)

// longestOrdered is how long a message of a FIFO topic is tried: as long as AWS's 100,015 retries take.
const longestOrdered = 23 * 24 * time.Hour

// maxRawAttributes is how many attributes SQS takes.
const maxRawAttributes = 10

// state is the state of an item. The message is in the item's body, or in a row of its own if Message is set.
type state struct {
	Kind         string
	Subscription subscriptionName
	Message      string
	Queue        string // ARN of the dead-letter queue
}

// storedState is a state as JSON.
type storedState struct {
	Kind    string `json:"k,omitempty"`
	Account string `json:"a"`
	Region  string `json:"r"`
	Topic   string `json:"t"`
	ID      string `json:"s"`
	Message string `json:"m,omitempty"`
	Queue   string `json:"q,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (s *state) MarshalJSON() ([]byte, error) {
	n := &s.Subscription
	return json.Marshal(storedState{s.Kind, n.topic.account, n.topic.region, n.topic.name, n.id, s.Message, s.Queue})
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *state) UnmarshalJSON(b []byte) error {
	var x storedState
	err := json.Unmarshal(b, &x)
	*s = state{x.Kind, subscriptionName{topicName{x.Account, x.Region, x.Topic}, x.ID}, x.Message, x.Queue}
	return err
}

// add writes an item in a transaction.
func add(tx kv.Tx, q *durable.Queue, lane string, item durable.Item, st *state) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	item.State = b
	return q.Add(tx, lane, item)
}

// lane is that of a subscription's deliveries.
func (s subscriptionName) lane() string {
	return s.topic.account + "/" + s.topic.region + "/" + s.topic.name + "/" + s.id
}

// queue is where the deliveries of a protocol run.
func (s *Service) queue(protocol string) *durable.Queue {
	if protocol == protocolSQS || protocol == protocolLambda {
		return s.calls
	}
	return s.posts
}

// work runs one item.
func (s *Service) work(ctx context.Context, w *durable.Work) durable.Outcome {
	st := &state{}
	if err := json.Unmarshal(w.State, st); err != nil {
		s.log.Error("delivery dropped: its state cannot be read", "id", w.ID, "err", err)
		return durable.Done(nil)
	}
	if st.Kind == kindConfirmation {
		return s.confirm(ctx, w, st)
	}
	v, err := s.view(ctx, st.Subscription.topic)
	if apierr.Code(err) == "NotFoundException" {
		return s.done(st)
	}
	if err != nil {
		return durable.Hold(0, nil)
	}
	i := slices.IndexFunc(v.takes, func(t *taker) bool { return t.name == st.Subscription })
	if i < 0 { // unsubscribed
		return s.done(st)
	}
	m, err := s.message(ctx, w, st)
	switch {
	case err != nil && ctx.Err() == nil:
		s.log.Error("message not read: its delivery waits", "id", w.ID, "err", err)
		fallthrough
	case err != nil:
		return durable.Hold(0, nil)
	case m == nil:
		s.log.Error("delivery dropped: its message is gone", "message", st.Message, "subscription", st.Subscription.arn())
		return s.done(st)
	}
	if st.Kind == kindDead {
		return s.deliverDead(ctx, w, st, v.topic, v.takes[i], m)
	}
	return s.attempt(ctx, w, st, v.topic, v.takes[i], m)
}

// message reads the message of an item, nil if there is none.
func (s *Service) message(ctx context.Context, w *durable.Work, st *state) (*message, error) {
	body := w.Body
	if st.Message != "" {
		ok := false
		err := s.db.View(ctx, func(r kv.Reader) (err error) {
			body, ok, err = r.Get(messageKey(st.Message))
			return err
		})
		if err != nil || !ok {
			return nil, err
		}
	}
	m := &message{}
	return m, json.Unmarshal(body, m)
}

// done ends a delivery.
func (s *Service) done(st *state) durable.Outcome {
	if st.Message == "" {
		return durable.Done(nil)
	}
	return durable.Done(func(tx kv.Tx) error {
		tx.Delete(st.Subscription.pendingKey(st.Message))
		tx.OnEnd(func(committed bool) {
			if !committed {
				return
			}
			select {
			case s.ended <- st.Message:
			default:
				s.missed.Store(true) // the next sweep finds it
			}
		})
		return nil
	})
}

// attempt delivers once and decides what becomes of the delivery.
func (s *Service) attempt(ctx context.Context, w *durable.Work, st *state, t *topic, to *taker, m *message) durable.Outcome {
	if to.http.perSecond > 0 {
		if wait := s.rates.take(to.name, to.http.perSecond, s.now()); wait > 0 {
			return durable.Hold(wait, nil)
		}
	}
	err := s.deliver(ctx, t, to, m, st.Message != "")
	if err == nil {
		return s.done(st)
	}
	if ctx.Err() != nil {
		return durable.Hold(0, nil)
	}
	log := s.log.With("subscription", to.name.arn(), "endpoint", to.Endpoint, "message", m.ID, "err", err)
	if !permanent(err) {
		wait, again := to.retries.delay(w.Attempt)
		if m.Sequence != 0 { // the group waits behind it
			if s.now().Sub(w.First) < longestOrdered {
				log.Warn("delivery failed: trying again")
				return durable.Hold(0, nil)
			}
			again = false
		}
		if again {
			log.Warn("delivery failed: trying again", "attempt", w.Attempt+1, "wait", wait)
			return durable.Retry(wait, w.State, nil)
		}
	}
	if to.deadLetter == "" {
		log.Error("delivery given up", "attempts", w.Attempt+1)
		return s.done(st)
	}
	log.Warn("delivery given up: the message goes to the dead-letter queue", "attempts", w.Attempt+1, "queue", to.deadLetter)
	dead := &state{Kind: kindDead, Subscription: st.Subscription, Message: st.Message, Queue: to.deadLetter}
	lane, q := to.name.lane()+"/dead", s.calls
	item := durable.Item{ID: w.ID, Body: w.Body}
	if m.Sequence != 0 {
		lane, q = lane+"/"+m.Group, s.ordered
	}
	return durable.Done(func(tx kv.Tx) error { return add(tx, q, lane, item, dead) })
}

// deliverDead sends a message to the dead-letter queue, in the form in which a queue gets messages of the subscription.
func (s *Service) deliverDead(ctx context.Context, w *durable.Work, st *state, t *topic, to *taker, m *message) durable.Outcome {
	err := s.sendToQueue(ctx, t, to, st.Queue, m, st.Message != "")
	if err == nil {
		return s.done(st)
	}
	if ctx.Err() != nil {
		return durable.Hold(0, nil)
	}
	log := s.log.With("subscription", to.name.arn(), "queue", st.Queue, "message", m.ID, "err", err)
	policy := callRetries()
	wait, again := policy.delay(w.Attempt)
	switch {
	case permanent(err) || !again:
		log.Error("message lost: the dead-letter queue does not take it")
		return s.done(st)
	case m.Sequence != 0:
		return durable.Hold(0, nil)
	}
	log.Warn("the dead-letter queue does not take a message: trying again", "wait", wait)
	return durable.Retry(wait, w.State, nil)
}

// errAttributes is why a raw message cannot go to a queue.
var errAttributes = apierr.New("InvalidParameterValue", 400, "A raw message to a queue has at most %d attributes.", maxRawAttributes)

// permanent reports whether a delivery would fail again, since the endpoint, or its policy, refuses it.
func permanent(err error) bool {
	if e, ok := errors.AsType[*endpointError](err); ok {
		return e.permanent
	}
	return target.Permanent(err)
}

// deliver delivers a message to a subscription, once.
func (s *Service) deliver(ctx context.Context, t *topic, to *taker, m *message, shared bool) error {
	switch to.Protocol {
	case protocolSQS:
		return s.sendToQueue(ctx, t, to, to.Endpoint, m, shared)
	case protocolLambda:
		signed, err := s.sign(ctx, t, to, m, shared)
		if err != nil {
			return err
		}
		return s.deliverTo(ctx, t.name, "lambda:InvokeFunction", to.Endpoint, &target.Event{Body: s.record(t, to, m, signed), Trace: m.Trace})
	case protocolHTTP, protocolHTTPS:
		body := []byte(m.form(to.Protocol))
		if !to.raw {
			signed, err := s.sign(ctx, t, to, m, shared)
			if err != nil {
				return err
			}
			body = s.envelope(t, to, m, signed)
		}
		return s.post(ctx, to.Endpoint, to.http.contentType, &posted{
			kind: typeNotification, id: m.ID, topic: t.name.arn(), subscription: to.name.arn(), raw: to.raw,
		}, body)
	}
	return s.mailMessage(ctx, t, to, m, shared)
}

// sendToQueue sends a message to a queue: the subscription's, or its dead-letter queue.
func (s *Service) sendToQueue(ctx context.Context, t *topic, to *taker, queue string, m *message, shared bool) error {
	e := &target.Event{Trace: m.Trace}
	switch {
	case isFIFOQueue(queue):
		e.Group, e.Duplicate = m.Group, m.Duplicate
	case m.Sequence == 0:
		e.Group = m.Group
	}
	if !to.raw {
		signed, err := s.sign(ctx, t, to, m, shared)
		if err != nil {
			return err
		}
		e.Body = s.envelope(t, to, m, signed)
		return s.deliverTo(ctx, t.name, "sqs:SendMessage", queue, e)
	}
	if len(m.Attributes) > maxRawAttributes {
		return errAttributes
	}
	e.Body = []byte(m.form(protocolSQS))
	for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
		a := m.Attributes[name]
		x := target.Attribute{Name: name, Type: a.Type, Value: a.Value}
		if isBinary(a.Type) {
			b, err := base64.StdEncoding.DecodeString(a.Value)
			if err != nil {
				return err
			}
			x.Value = string(b)
		}
		e.Attributes = append(e.Attributes, x)
	}
	return s.deliverTo(ctx, t.name, "sqs:SendMessage", queue, e)
}

// deliverTo calls a resource as SNS, if its policy allows that for the topic.
func (s *Service) deliverTo(ctx context.Context, name topicName, action, resource string, e *target.Event) error {
	a, err := arn.Parse(resource)
	if err != nil {
		return target.ErrUnknown
	}
	ctx = call.AsService(ctx, "sns", a.Account, a.Region)
	if s.checker != nil {
		keys := iampolicy.Values{}
		keys.Set("aws:SourceArn", name.arn())
		keys.Set("aws:SourceAccount", name.account)
		keys.Set("aws:SourceOwner", name.account)
		if err := s.checker.Check(ctx, authorize.Request{Action: action, Resource: resource, Keys: keys}); err != nil {
			return err
		}
	}
	_, err = s.targets.Deliver(ctx, resource, e)
	return err
}

// confirm delivers a confirmation.
func (s *Service) confirm(ctx context.Context, w *durable.Work, st *state) durable.Outcome {
	var c confirmation
	if err := json.Unmarshal(w.Body, &c); err != nil {
		s.log.Error("confirmation dropped: it cannot be read", "id", w.ID, "err", err)
		return durable.Done(nil)
	}
	err := s.sendConfirmation(ctx, st.Subscription.topic, &c)
	if err == nil {
		return durable.Done(nil)
	}
	if ctx.Err() != nil {
		return durable.Hold(0, nil)
	}
	policy := httpRetries()
	log := s.log.With("subscription", c.Subscription, "endpoint", c.Endpoint, "err", err)
	if wait, again := policy.delay(w.Attempt); again && !permanent(err) {
		log.Warn("endpoint not asked for its confirmation: trying again", "wait", wait)
		return durable.Retry(wait, w.State, nil)
	}
	log.Error("endpoint not asked for its confirmation: given up", "attempts", w.Attempt+1)
	return durable.Done(nil)
}

func (s *Service) sendConfirmation(ctx context.Context, name topicName, c *confirmation) error {
	signed, err := s.signConfirmation(ctx, c)
	if err != nil {
		return err
	}
	body := s.confirmationEnvelope(c, signed)
	switch c.Protocol {
	case protocolSQS:
		return s.deliverTo(ctx, name, "sqs:SendMessage", c.Endpoint, &target.Event{Body: body})
	case protocolHTTP, protocolHTTPS:
		p := &posted{kind: c.Type, id: c.ID, topic: c.Topic}
		if c.Type == typeCancellation {
			p.subscription = c.Subscription // which the endpoint knows
		}
		return s.post(ctx, c.Endpoint, plainText, p, body)
	}
	return s.mailConfirmation(ctx, c)
}
