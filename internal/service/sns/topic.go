package sns

import (
	"context"
	"maps"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// The attributes of topics that have a meaning here.
const (
	attrDeliveryPolicy  = "DeliveryPolicy"
	attrDisplayName     = "DisplayName"
	attrPolicy          = "Policy"
	attrKMSKey          = "KmsMasterKeyId"
	attrTracing         = "TracingConfig"
	attrSignature       = "SignatureVersion"
	attrFIFO            = "FifoTopic"
	attrContentDedup    = "ContentBasedDeduplication"
	attrThroughputScope = "FifoThroughputScope"
	attrArchivePolicy   = "ArchivePolicy"
)

const (
	fifoSuffix      = ".fifo"
	maxTopicName    = 256
	maxDisplayName  = 100
	maxTags         = 50
	topicsPerPage   = 100
	scopeTopic      = "Topic"
	scopeGroup      = "MessageGroup"
	signatureSHA256 = "2"
)

// isTopicName reports whether a topic may have a name. What is FIFO has its suffix, and nothing else does.
func isTopicName(name string, fifo bool) bool {
	base, suffixed := strings.CutSuffix(name, fifoSuffix)
	if suffixed != fifo || base == "" || len(name) > maxTopicName {
		return false
	}
	for i := range len(base) {
		c := base[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// feedbackProtocols are those whose deliveries AWS can log.
var feedbackProtocols = []string{"HTTP", "Firehose", "Lambda", "SQS", "Application"}

// feedback splits the name of an attribute of delivery logging.
func feedback(name string) (attribute string, ok bool) {
	for _, p := range feedbackProtocols {
		if rest, is := strings.CutPrefix(name, p); is {
			switch rest {
			case "SuccessFeedbackRoleArn", "FailureFeedbackRoleArn", "SuccessFeedbackSampleRate":
				return rest, true
			}
		}
	}
	return "", false
}

// checkTopicAttribute checks the value of an attribute. prefix is what AWS puts before the reason.
func checkTopicAttribute(t *topic, name, value, prefix string) error {
	fail := func(format string, args ...any) error { return invalid(prefix+format, args...) }
	boolean := func() error {
		if value != "true" && value != "false" {
			return fail("%s: Invalid value [%s]. Must be true or false.", name, value)
		}
		return nil
	}
	fifoOnly := func() error {
		if !t.name.fifo() {
			return fail("%s can only be set for FIFO topics", name)
		}
		return nil
	}
	switch name {
	case attrDeliveryPolicy:
		_, err := parseTopicDeliveryPolicy(value)
		if err != nil {
			return fail("%s: %s", name, err)
		}
	case attrDisplayName:
		if len(value) > maxDisplayName {
			return fail("DisplayName: must be at most %d characters long", maxDisplayName)
		}
	case attrPolicy:
		return checkPolicy(value, prefix)
	case attrKMSKey:
	case attrTracing:
		if value != "PassThrough" && value != "Active" {
			return fail("TracingConfig: Invalid value [%s]. Must be either PassThrough or Active.", value)
		}
	case attrSignature:
		if value != "1" && value != signatureSHA256 {
			return fail("SignatureVersion: Invalid value [%s]. Must be either 1 or 2.", value)
		}
	case attrFIFO:
		return boolean()
	case attrContentDedup:
		if err := fifoOnly(); err != nil {
			return fail("Content-based deduplication can only be set for FIFO topics")
		}
		return boolean()
	case attrThroughputScope:
		if err := fifoOnly(); err != nil {
			return err
		}
		if value != scopeTopic && value != scopeGroup {
			return fail("FifoThroughputScope: Invalid value [%s]. Must be either Topic or MessageGroup.", value)
		}
	case attrArchivePolicy:
		if err := fifoOnly(); err != nil {
			return err
		}
		if value != "" && value != "{}" {
			return fail("ArchivePolicy: Mayfly does not archive messages")
		}
	default:
		attribute, ok := feedback(name)
		if !ok {
			return fail("AttributeName")
		}
		if attribute == "SuccessFeedbackSampleRate" {
			if n, err := strconv.Atoi(value); err != nil || n < 0 || n > 100 {
				return fail("%s: value provided is not an integer between 0-100", name)
			}
		}
	}
	return nil
}

func (s *Service) createTopic(ctx context.Context, in *snsapi.CreateTopicInput) (*snsapi.CreateTopicOutput, error) {
	const prefix = "Attributes Reason: "
	name := here(ctx, str(in.Name))
	fifo := in.Attributes[attrFIFO]
	if !isTopicName(name.name, fifo == "true") {
		return nil, invalid("Topic Name")
	}
	t := &topic{ID: call.NewRequestID(), Attributes: map[string]string{}, Policy: defaultPolicy(name), name: name}
	for k, v := range in.Attributes {
		if err := checkTopicAttribute(t, k, v, prefix); err != nil {
			return nil, err
		}
		t.set(k, v)
	}
	if in.DataProtectionPolicy != nil {
		if err := checkDataProtection(*in.DataProtectionPolicy); err != nil {
			return nil, err
		}
		t.DataProtection = *in.DataProtectionPolicy
	}
	tags, err := checkTags(in.Tags)
	if err != nil {
		return nil, err
	}
	t.Tags = tags
	defer s.views.change(name)()
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		old, ok, err := kv.GetJSON[topic](tx, name.key())
		if err != nil {
			return err
		}
		if !ok {
			return putTopic(tx, t)
		}
		old.name = name
		for k, v := range tags {
			if have, ok := old.Tags[k]; !ok || have != v {
				return invalid("Tags Reason: Topic already exists with different tags")
			}
		}
		for k := range in.Attributes {
			if old.get(k) != t.get(k) {
				return invalid("Attributes Reason: Topic already exists with different attributes")
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &snsapi.CreateTopicOutput{TopicArn: new(name.arn())}, nil
}

// set gives an attribute a value.
func (t *topic) set(name, value string) {
	switch {
	case name == attrPolicy:
		t.Policy = value
	case value == "" && name != attrDisplayName, name == attrArchivePolicy:
		delete(t.Attributes, name)
	case name == attrFIFO && value == "false":
	case name == attrDeliveryPolicy: // as AWS gives it back
		d, _ := parseTopicDeliveryPolicy(value) // was checked
		t.Attributes[name] = toJSON(d)
	default:
		t.Attributes[name] = value
	}
}

// get returns an attribute as it was set, or its default.
func (t *topic) get(name string) string {
	if name == attrPolicy {
		return t.Policy
	}
	if v, ok := t.Attributes[name]; ok {
		return v
	}
	switch name {
	case attrFIFO, attrContentDedup:
		return "false"
	case attrThroughputScope:
		return scopeTopic
	}
	return ""
}

func (s *Service) deleteTopic(ctx context.Context, in *snsapi.DeleteTopicInput) (*snsapi.DeleteTopicOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "TopicArn", str(in.TopicArn))
	if err != nil {
		return nil, err
	}
	defer s.views.change(name)()
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		if _, ok, err := tx.Get(name.key()); err != nil || !ok {
			return err // it need not exist
		}
		if err := name.guard().Depend(tx); err != nil {
			return err
		}
		all, err := subscriptionsOf(tx, name)
		if err != nil {
			return err
		}
		for _, x := range all {
			removeSubscription(tx, x)
		}
		tx.Delete(name.key())
		return nil
	})
}

func (s *Service) listTopics(ctx context.Context, in *snsapi.ListTopicsInput) (*snsapi.ListTopicsOutput, error) {
	i := call.From(ctx)
	out := &snsapi.ListTopicsOutput{Topics: []snsapi.Topic{}}
	err := s.db.View(ctx, func(r kv.Reader) error {
		entries, next, err := kv.Page(r, topics(i.Account, i.Region), str(in.NextToken), topicsPerPage)
		if err != nil {
			return pageError(err)
		}
		for _, e := range entries {
			name, err := decodeTopic(e.Key)
			if err != nil {
				return err
			}
			out.Topics = append(out.Topics, snsapi.Topic{TopicArn: new(name.arn())})
		}
		out.NextToken = some(next)
		return nil
	})
	return out, err
}

func (s *Service) getTopicAttributes(ctx context.Context, in *snsapi.GetTopicAttributesInput) (*snsapi.GetTopicAttributesOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "TopicArn", str(in.TopicArn))
	if err != nil {
		return nil, err
	}
	v, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	t := v.topic
	a := maps.Clone(t.Attributes)
	if a == nil {
		a = map[string]string{}
	}
	pendings := 0
	for _, x := range v.all {
		if x.Pending {
			pendings++
		}
	}
	a["TopicArn"], a["Owner"], a[attrPolicy] = name.arn(), name.account, t.Policy
	a[attrDisplayName] = t.Attributes[attrDisplayName]
	a["SubscriptionsPending"] = strconv.Itoa(pendings)
	a["SubscriptionsConfirmed"] = strconv.Itoa(len(v.all) - pendings)
	a["SubscriptionsDeleted"] = strconv.Itoa(t.Deleted)
	delivery, err := parseTopicDeliveryPolicy(t.Attributes[attrDeliveryPolicy])
	if err != nil {
		return nil, err
	}
	a["EffectiveDeliveryPolicy"] = delivery.effective()
	if name.fifo() {
		a[attrContentDedup] = t.get(attrContentDedup)
	}
	return &snsapi.GetTopicAttributesOutput{Attributes: a}, nil
}

func (s *Service) setTopicAttributes(ctx context.Context, in *snsapi.SetTopicAttributesInput) (*snsapi.SetTopicAttributesOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "TopicArn", str(in.TopicArn))
	if err != nil {
		return nil, err
	}
	attribute, value := str(in.AttributeName), str(in.AttributeValue)
	return nil, s.updateTopic(ctx, name, func(t *topic) error {
		if attribute == attrFIFO {
			return invalid("AttributeName")
		}
		reset := value == "" && (attribute == attrDeliveryPolicy || attribute == attrKMSKey || attribute == attrArchivePolicy)
		if _, ok := feedback(attribute); ok && value == "" {
			reset = true
		}
		if !reset {
			if err := checkTopicAttribute(t, attribute, value, ""); err != nil {
				return err
			}
		}
		t.set(attribute, value)
		return nil
	})
}

// updateTopic changes a topic that exists.
func (s *Service) updateTopic(ctx context.Context, name topicName, f func(*topic) error) error {
	defer s.views.change(name)()
	return s.db.Update(ctx, func(tx kv.Tx) error {
		t, err := getTopic(tx, name)
		if err != nil {
			return err
		}
		if t.Attributes == nil {
			t.Attributes = map[string]string{}
		}
		if err := f(t); err != nil {
			return err
		}
		return putTopic(tx, t)
	})
}

func (s *Service) getDataProtectionPolicy(ctx context.Context, in *snsapi.GetDataProtectionPolicyInput) (*snsapi.GetDataProtectionPolicyOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "ResourceArn", str(in.ResourceArn))
	if err != nil {
		return nil, err
	}
	v, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	return &snsapi.GetDataProtectionPolicyOutput{DataProtectionPolicy: &v.topic.DataProtection}, nil
}

func (s *Service) putDataProtectionPolicy(ctx context.Context, in *snsapi.PutDataProtectionPolicyInput) (*snsapi.PutDataProtectionPolicyOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "ResourceArn", str(in.ResourceArn))
	if err != nil {
		return nil, err
	}
	if err := checkDataProtection(str(in.DataProtectionPolicy)); err != nil {
		return nil, err
	}
	return nil, s.updateTopic(ctx, name, func(t *topic) error {
		if t.name.fifo() && str(in.DataProtectionPolicy) != "" {
			return invalid("DataProtectionPolicy is not supported for FIFO topics")
		}
		t.DataProtection = str(in.DataProtectionPolicy)
		return nil
	})
}
