package sns

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// tokenBytes is how long a token is: the subscription's id, and what nobody can guess.
const tokenBytes = 144

// renew gives a subscription a new token.
func (s *subscription) renew(now time.Time) {
	id, _ := hex.DecodeString(strings.ReplaceAll(s.name.id, "-", ""))
	random := make([]byte, tokenBytes-len(id))
	rand.Read(random)
	s.Token = hex.EncodeToString(append(id, random...))
	s.extend(now)
}

// extend lets the token hold as long as a new one.
func (s *subscription) extend(now time.Time) {
	s.Expires = now.UTC().Add(confirmationTime).Truncate(time.Millisecond)
}

// subscriptionOfToken is the id in a token.
func subscriptionOfToken(token string) (string, error) {
	b, err := hex.DecodeString(token)
	switch {
	case err != nil || len(b) == 0:
		return "", badParameter("Invalid token")
	case len(b) != tokenBytes:
		return "", invalid("Token")
	}
	h := strings.ToLower(token[:32])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], nil
}

// confirmation is the message that asks an endpoint whether it wants a subscription, or tells it that it has lost one. It is complete, since the
// subscription may change or go before it is delivered.
type confirmation struct {
	Type         string    `json:"type"`
	ID           string    `json:"id"`
	Topic        string    `json:"topic"` // ARN
	Subscription string    `json:"subscription"`
	Owner        string    `json:"owner"` // account
	Protocol     string    `json:"protocol"`
	Endpoint     string    `json:"endpoint"`
	Token        string    `json:"token"`
	Time         time.Time `json:"time"`
	Version      string    `json:"version"` // of the signature
}

// addConfirmation queues the message that goes with a subscription's token.
func (s *Service) addConfirmation(tx kv.Tx, x *subscription, kind string) error {
	t, ok, err := kv.GetJSON[topic](tx, x.name.topic.key())
	if err != nil {
		return err
	}
	version := "1"
	if ok {
		version = t.signatureVersion()
	}
	body, err := json.Marshal(confirmation{
		Type: kind, ID: call.NewRequestID(), Topic: x.name.topic.arn(), Subscription: x.name.arn(), Owner: x.Owner, Protocol: x.Protocol,
		Endpoint: x.Endpoint, Token: x.Token, Time: s.now().UTC(), Version: version,
	})
	if err != nil {
		return err
	}
	q := s.posts
	if x.Protocol == protocolSQS {
		q = s.calls
	}
	return add(tx, q, x.name.lane()+"/confirm", durable.Item{ID: call.NewRequestID(), Body: body}, &state{Kind: kindConfirmation, Subscription: x.name})
}

func (s *Service) confirmSubscription(ctx context.Context, in *snsapi.ConfirmSubscriptionInput) (*snsapi.ConfirmSubscriptionOutput, error) {
	i := call.From(ctx)
	signed := i.Principal.Type != call.Anonymous
	p := strings.Split(str(in.TopicArn), ":")
	if len(p) != 6 || p[2] != "sns" || signed && p[3] != i.Region {
		return nil, invalid("Topic")
	}
	id, err := subscriptionOfToken(str(in.Token))
	if err != nil {
		return nil, err
	}
	name := subscriptionName{topicName{p[4], p[3], p[5]}, id}
	if signed {
		if err := s.allowed(ctx, "sns:ConfirmSubscription", name.topic.arn()); err != nil {
			return nil, err
		}
	}
	defer s.views.change(name.topic)()
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		x, err := getSubscription(tx, name)
		if err != nil {
			return err
		}
		restored := x == nil
		if restored {
			if x, err = readSubscription(tx, name.cancelledKey(), name); err != nil {
				return err
			}
		}
		if x == nil || subtle.ConstantTimeCompare([]byte(x.Token), []byte(*in.Token)) != 1 || s.now().After(x.Expires) {
			return invalid("Token")
		}
		if _, ok, err := tx.Get(name.topic.key()); err != nil || !ok {
			if err == nil {
				err = invalid("Token")
			}
			return err
		}
		if !x.Pending && !restored {
			return nil // once more
		}
		x.Pending, x.Authenticated = false, signed
		x.Locked = signed && strings.EqualFold(str(in.AuthenticateOnUnsubscribe), "true")
		tx.Delete(name.cancelledKey())
		return addSubscription(tx, x)
	})
	if err != nil {
		return nil, err
	}
	return &snsapi.ConfirmSubscriptionOutput{SubscriptionArn: new(name.arn())}, nil
}

// allowed asks whether the caller's policies allow an action of those that may also be called without a signature.
func (s *Service) allowed(ctx context.Context, action, resource string) error {
	if s.checker == nil || call.From(ctx).Principal.Type == call.Service {
		return nil
	}
	return s.checker.Check(ctx, authorize.Request{Action: action, Resource: resource})
}

// unsubscribe ends a subscription. Who follows the link in a message has no signature; then the endpoint is told, and can take it back.
func (s *Service) unsubscribe(ctx context.Context, in *snsapi.UnsubscribeInput) (*snsapi.UnsubscribeOutput, error) {
	i := call.From(ctx)
	signed := i.Principal.Type != call.Anonymous
	region := i.Region
	if !signed {
		region = ""
	}
	name, err := parseSubscription(region, str(in.SubscriptionArn))
	if err != nil {
		return nil, err
	}
	if signed {
		if err := s.allowed(ctx, "sns:Unsubscribe", name.arn()); err != nil {
			return nil, err
		}
	}
	defer s.views.change(name.topic)()
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		x, err := getSubscription(tx, name)
		if err != nil || x == nil {
			return err // it need not exist
		}
		switch {
		case signed:
			if err := mine(ctx, x); err != nil {
				return err
			}
		case x.Locked || x.Pending:
			return snsapi.ErrAuthorizationErrorException("The subscription can only be deleted by its owner or the owner of the topic")
		}
		removeSubscription(tx, x)
		if t, err := getTopic(tx, name.topic); err == nil {
			t.Deleted++
			if err := putTopic(tx, t); err != nil {
				return err
			}
		}
		if signed || x.Protocol == protocolSQS || x.Protocol == protocolLambda {
			return nil
		}
		x.renew(s.now())
		tx.Set(expiryKey(x.Expires, name.cancelledKey()), nil)
		if err := kv.SetJSON(tx, name.cancelledKey(), x); err != nil {
			return err
		}
		return s.addConfirmation(tx, x, typeCancellation)
	})
	if err != nil {
		return nil, err
	}
	return nil, nil
}
