package sns

import (
	"context"
	"encoding/json"
	"errors"
	"net/mail"
	"net/url"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/eventpattern"
	"github.com/mayflyhq/mayfly/internal/target"
)

// The protocols that are served.
const (
	protocolSQS       = "sqs"
	protocolLambda    = "lambda"
	protocolHTTP      = "http"
	protocolHTTPS     = "https"
	protocolEmail     = "email"
	protocolEmailJSON = "email-json"
)

// The attributes of subscriptions that can be set.
const (
	attrRaw         = "RawMessageDelivery"
	attrFilter      = "FilterPolicy"
	attrFilterScope = "FilterPolicyScope"
	attrRedrive     = "RedrivePolicy"
	attrReplay      = "ReplayPolicy"
	attrRole        = "SubscriptionRoleArn"
)

const (
	scopeAttributes      = "MessageAttributes"
	scopeBody            = "MessageBody"
	subscriptionsPerPage = 100
	pendingConfirmation  = "pending confirmation"
	maxEndpoint          = 2048
	// confirmationTime is how long the token of a confirmation holds, and what is not confirmed stays.
	confirmationTime = 48 * time.Hour
)

// taker is a confirmed subscription, ready for use. It is shared and must not be changed.
type taker struct {
	*subscription
	filter     *filter
	raw        bool
	deadLetter string       // ARN of a queue
	http       httpDelivery // of HTTP endpoints
	retries    retryPolicy
}

func newTaker(t *topic, s *subscription) (*taker, error) {
	x := &taker{subscription: s, raw: s.Attributes[attrRaw] == "true", retries: callRetries()}
	var err error
	if x.filter, err = parseFilter(s.Attributes[attrFilter], s.scope()); err != nil {
		return nil, err
	}
	if x.deadLetter, err = parseRedrive(s.Attributes[attrRedrive]); err != nil {
		return nil, err
	}
	switch s.Protocol {
	case protocolHTTP, protocolHTTPS:
		if x.http, err = httpDeliveryOf(t.Attributes[attrDeliveryPolicy], s.Attributes[attrDeliveryPolicy]); err != nil {
			return nil, err
		}
		x.retries = x.http.retries
	case protocolEmail, protocolEmailJSON:
		x.retries = mailRetries()
	}
	return x, nil
}

// get returns an attribute as it was set, or its default.
func (s *subscription) get(name string) string {
	v, ok := s.Attributes[name]
	switch {
	case ok:
	case name == attrFilterScope:
		v = scopeAttributes
	case name == attrRaw:
		v = "false"
	}
	return v
}

func (s *subscription) scope() string { return s.get(attrFilterScope) }

// parseRedrive returns the queue of a redrive policy, "" if there is none.
func parseRedrive(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	var p struct {
		Target *string `json:"deadLetterTargetArn"`
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		// The words for what is no JSON are the same as of filter policies.
		if _, err := parseFilter(text, scopeAttributes); err != nil {
			if e, ok := errors.AsType[*eventpattern.Error](err); ok && strings.HasPrefix(e.Reason, "failed to parse JSON.") {
				return "", invalid("RedrivePolicy: %s", e.Reason)
			}
		}
		return "", invalid("RedrivePolicy: failed to parse JSON. deadLetterTargetArn must be a string")
	}
	if p.Target == nil {
		return "", nil
	}
	if k, err := target.KindOf(*p.Target); err != nil || k != target.SQS {
		return "", invalid("RedrivePolicy: deadLetterTargetArn is an invalid arn")
	}
	return *p.Target, nil
}

// checkAttribute checks an attribute of a subscription and writes it into s. prefix is what AWS puts before the reason.
func (s *subscription) checkAttribute(name, value, prefix string) error {
	fail := func(format string, args ...any) error { return invalid(prefix+format, args...) }
	posts := s.Protocol == protocolHTTP || s.Protocol == protocolHTTPS
	switch name {
	case attrRaw:
		given := value
		if value = strings.ToLower(value); value != "true" && value != "false" {
			return fail("RawMessageDelivery: Invalid value [%s]. Must be true or false.", given)
		}
		if value == "true" && !posts && s.Protocol != protocolSQS {
			return fail("Delivery protocol [%s] does not support raw message delivery.", s.Protocol)
		}
	case attrFilterScope:
		if value != scopeAttributes && value != scopeBody {
			return fail("FilterPolicyScope: Invalid value [%s]. Please use either MessageBody or MessageAttributes", value)
		}
	case attrFilter: // with its scope, once all are set
		if strings.TrimSpace(value) == "{}" {
			value = "" // takes it away
		}
	case attrRedrive:
		queue, err := parseRedrive(value)
		if err != nil {
			e := apierr.From(err)
			return fail("%s", strings.TrimPrefix(e.Message, "Invalid parameter: "))
		}
		if queue == "" {
			break
		}
		a, _ := arn.Parse(queue)
		if strings.HasSuffix(a.Resource, fifoSuffix) != (s.name.topic.fifo() && strings.HasSuffix(s.Endpoint, fifoSuffix)) {
			if s.name.topic.fifo() {
				return fail("RedrivePolicy: must use a FIFO queue as DLQ for a FIFO Subscription to a FIFO Topic.")
			}
			return fail("RedrivePolicy: must use a standard queue as DLQ for a subscription to a standard topic.")
		}
		if a.Region != s.name.topic.region || a.Account != s.Owner {
			return fail("RedrivePolicy: the dead-letter queue must be in the account and region of the subscription")
		}
	case attrDeliveryPolicy:
		if !posts && value != "" {
			return fail("DeliveryPolicy: is only supported for the protocols http and https")
		}
		if _, err := parseSubscriptionDeliveryPolicy(value); err != nil {
			return fail("DeliveryPolicy: %s", err)
		}
	case attrReplay:
		if value != "" && value != "{}" {
			return fail("ReplayPolicy: Mayfly does not archive messages")
		}
		value = ""
	case attrRole:
		return fail("SubscriptionRoleArn: Mayfly does not serve the protocol firehose")
	default:
		return fail("AttributeName")
	}
	if value == "" {
		delete(s.Attributes, name)
		return nil
	}
	if s.Attributes == nil {
		s.Attributes = map[string]string{}
	}
	s.Attributes[name] = value
	return nil
}

// checkFilter checks the filter policy as it is with its scope now.
func (s *subscription) checkFilter(attributes bool) error {
	policy := s.Attributes[attrFilter]
	if policy == "" {
		return nil
	}
	_, err := parseFilter(policy, s.scope())
	return filterError(err, attributes)
}

// checkEndpoint says whether a protocol delivers to an endpoint.
func (s *Service) checkEndpoint(name topicName, protocol, endpoint string) error {
	switch protocol {
	case protocolSQS:
		if k, err := target.KindOf(endpoint); err != nil || k != target.SQS {
			return invalid("SQS endpoint ARN")
		}
		if strings.HasSuffix(endpoint, fifoSuffix) && !name.fifo() {
			return invalid("Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics")
		}
		return s.targets.Check(endpoint)
	case protocolLambda:
		if k, err := target.KindOf(endpoint); err != nil || k != target.Lambda {
			return invalid("Lambda endpoint ARN")
		}
		if err := s.targets.Check(endpoint); err != nil {
			return err
		}
	case protocolHTTP, protocolHTTPS:
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || len(endpoint) > maxEndpoint {
			return invalid("Endpoint")
		}
		if u.Scheme != protocol {
			return invalid("Endpoint must match the specified protocol")
		}
	case protocolEmail, protocolEmailJSON:
		if a, err := mail.ParseAddress(endpoint); err != nil || a.Address != endpoint || len(endpoint) > maxEndpoint {
			return invalid("Email address")
		}
		if s.mail == nil {
			return invalid("Protocol Reason: Mayfly sends no mail to %s subscriptions unless it is started with a mail relay (--smtp)", protocol)
		}
	case "sms", "application", "firehose":
		return invalid("Protocol Reason: Mayfly does not serve the protocol %s", protocol)
	default:
		return invalid("Amazon SNS does not support this protocol string: %s", protocol)
	}
	if name.fifo() && protocol != protocolSQS {
		return invalid("Invalid parameter: Endpoint Reason: Please use a SQS queue: FIFO topics do not deliver by the protocol %s", protocol)
	}
	return nil
}

func (s *Service) subscribe(ctx context.Context, in *snsapi.SubscribeInput) (*snsapi.SubscribeOutput, error) {
	i := call.From(ctx)
	name, err := parseTopic(i.Region, "TopicArn", str(in.TopicArn))
	if err != nil {
		return nil, err
	}
	x := &subscription{
		Owner: i.Account, Principal: i.Principal.ARN, Protocol: str(in.Protocol), Endpoint: str(in.Endpoint),
		name: subscriptionName{name, call.NewRequestID()},
	}
	if err := s.checkEndpoint(name, x.Protocol, x.Endpoint); err != nil {
		return nil, err
	}
	for k, v := range in.Attributes {
		if err := x.checkAttribute(k, v, "Attributes Reason: "); err != nil {
			return nil, err
		}
	}
	if err := x.checkFilter(true); err != nil {
		return nil, err
	}
	if x.Pending = !x.confirmsItself(); x.Pending {
		x.renew(s.now())
	} else {
		x.Authenticated = true
	}
	var found *subscription
	defer s.views.change(name)()
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		found = nil
		if _, err := getTopic(tx, name); err != nil {
			return err
		}
		if err := name.guard().Depend(tx); err != nil {
			return err
		}
		all, err := subscriptionsOf(tx, name)
		if err != nil {
			return err
		}
		for _, old := range all {
			if old.Protocol != x.Protocol || old.Endpoint != x.Endpoint {
				continue
			}
			for k := range in.Attributes {
				if old.get(k) != x.get(k) {
					return invalid("Attributes Reason: Subscription already exists with different attributes")
				}
			}
			found = old
			if !old.Pending {
				return nil
			}
			old.extend(s.now()) // another confirmation goes out; the link in the one before holds too
			tx.Set(expiryKey(old.Expires, old.name.key()), nil)
			if err := putSubscription(tx, old); err != nil {
				return err
			}
			break
		}
		if found == nil {
			found = x
			if err := addSubscription(tx, x); err != nil {
				return err
			}
		}
		if !found.Pending {
			return nil
		}
		return s.addConfirmation(tx, found, typeConfirmation)
	})
	if err != nil {
		return nil, err
	}
	out := &snsapi.SubscribeOutput{SubscriptionArn: new(found.name.arn())}
	if found.Pending && (in.ReturnSubscriptionArn == nil || !*in.ReturnSubscriptionArn) {
		*out.SubscriptionArn = pendingConfirmation
	}
	return out, nil
}

// confirmsItself reports whether a subscription needs no confirmation: its endpoint belongs to whom subscribes.
func (s *subscription) confirmsItself() bool {
	switch s.Protocol {
	case protocolSQS:
		a, _ := arn.Parse(s.Endpoint)
		return a.Account == s.Owner
	case protocolLambda: // the function's own policy says who may invoke it
		return true
	}
	return false
}

func (s *Service) listSubscriptions(ctx context.Context, in *snsapi.ListSubscriptionsInput) (*snsapi.ListSubscriptionsOutput, error) {
	i := call.From(ctx)
	out := &snsapi.ListSubscriptionsOutput{Subscriptions: []snsapi.Subscription{}}
	err := s.db.View(ctx, func(r kv.Reader) error {
		entries, next, err := kv.Page(r, owned(i.Account, i.Region), str(in.NextToken), subscriptionsPerPage)
		if err != nil {
			return pageError(err)
		}
		for _, e := range entries {
			name, err := decodeOwned(e.Key)
			if err != nil {
				return err
			}
			x, err := getSubscription(r, name)
			if err != nil {
				return err
			}
			if x != nil {
				out.Subscriptions = append(out.Subscriptions, x.summary())
			}
		}
		out.NextToken = some(next)
		return nil
	})
	return out, err
}

func (s *Service) listSubscriptionsByTopic(ctx context.Context, in *snsapi.ListSubscriptionsByTopicInput) (*snsapi.ListSubscriptionsByTopicOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "TopicArn", str(in.TopicArn))
	if err != nil {
		return nil, err
	}
	out := &snsapi.ListSubscriptionsByTopicOutput{Subscriptions: []snsapi.Subscription{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		if _, err := getTopic(r, name); err != nil {
			return err
		}
		entries, next, err := kv.Page(r, name.subscriptions(), str(in.NextToken), subscriptionsPerPage)
		if err != nil {
			return pageError(err)
		}
		for _, e := range entries {
			n, err := decodeSubscription(e.Key)
			if err != nil {
				return err
			}
			x := &subscription{name: n}
			if err := json.Unmarshal(e.Value, x); err != nil {
				return err
			}
			out.Subscriptions = append(out.Subscriptions, x.summary())
		}
		out.NextToken = some(next)
		return nil
	})
	return out, err
}

func (s *subscription) summary() snsapi.Subscription {
	x := snsapi.Subscription{
		SubscriptionArn: new(s.name.arn()), Owner: &s.Owner, Protocol: &s.Protocol, Endpoint: &s.Endpoint, TopicArn: new(s.name.topic.arn()),
	}
	if s.Pending {
		x.SubscriptionArn = new("PendingConfirmation")
	}
	return x
}

// mine says whether the caller has a say in a subscription: it is its owner or the topic's.
func mine(ctx context.Context, s *subscription) error {
	i := call.From(ctx)
	if i.Account != s.Owner && i.Account != s.name.topic.account {
		return snsapi.ErrAuthorizationErrorException("User: %s is not authorized to change the subscription %s", i.Principal.ARN, s.name.arn())
	}
	return nil
}

func (s *Service) getSubscriptionAttributes(ctx context.Context, in *snsapi.GetSubscriptionAttributesInput) (*snsapi.GetSubscriptionAttributesOutput, error) {
	name, err := parseSubscription(call.From(ctx).Region, str(in.SubscriptionArn))
	if err != nil {
		return nil, err
	}
	var x *subscription
	var t *topic
	err = s.db.View(ctx, func(r kv.Reader) error {
		if x, err = getSubscription(r, name); err != nil || x == nil {
			return err
		}
		t, err = getTopic(r, name.topic)
		return err
	})
	if err == nil && x == nil {
		err = errNoSubscription()
	}
	if err == nil {
		err = mine(ctx, x)
	}
	if err != nil {
		return nil, err
	}
	yes := func(b bool) string {
		if b {
			return "true"
		}
		return "false"
	}
	a := map[string]string{
		"ConfirmationWasAuthenticated": yes(x.Authenticated), "Endpoint": x.Endpoint, "Owner": x.Owner, "PendingConfirmation": yes(x.Pending),
		"Protocol": x.Protocol, attrRaw: yes(x.Attributes[attrRaw] == "true"), "SubscriptionArn": name.arn(), "SubscriptionPrincipal": x.Principal,
		"TopicArn": name.topic.arn(),
	}
	for k, v := range x.Attributes {
		a[k] = v
	}
	delete(a, attrFilterScope) // without a policy nobody is told
	if a[attrFilter] != "" {
		a[attrFilterScope] = x.scope()
	}
	if x.Protocol == protocolHTTP || x.Protocol == protocolHTTPS {
		h, err := httpDeliveryOf(t.Attributes[attrDeliveryPolicy], x.Attributes[attrDeliveryPolicy])
		if err != nil {
			return nil, err
		}
		a["EffectiveDeliveryPolicy"] = h.effective()
	}
	return &snsapi.GetSubscriptionAttributesOutput{Attributes: a}, nil
}

func (s *Service) setSubscriptionAttributes(ctx context.Context, in *snsapi.SetSubscriptionAttributesInput) (*snsapi.SetSubscriptionAttributesOutput, error) {
	name, err := parseSubscription(call.From(ctx).Region, str(in.SubscriptionArn))
	if err != nil {
		return nil, err
	}
	defer s.views.change(name.topic)()
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		x, err := getSubscription(tx, name)
		if err == nil && x == nil {
			err = errNoSubscription()
		}
		if err == nil {
			err = mine(ctx, x)
		}
		if err == nil {
			err = x.checkAttribute(str(in.AttributeName), str(in.AttributeValue), "")
		}
		if err == nil {
			err = x.checkFilter(false)
		}
		if err != nil {
			return err
		}
		return putSubscription(tx, x)
	})
}
