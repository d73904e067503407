package sqs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// Attributes that can be set. Sources of their limits: the API reference of CreateQueue and SetQueueAttributes.
var numbers = map[string]struct{ min, max, def int }{
	"DelaySeconds":                  {0, 900, 0},
	"MaximumMessageSize":            {1024, maxMessage, maxMessage},
	"MessageRetentionPeriod":        {60, 1_209_600, 345_600},
	"ReceiveMessageWaitTimeSeconds": {0, 20, 0},
	"VisibilityTimeout":             {0, maxVisibility, 30},
	"KmsDataKeyReusePeriodSeconds":  {60, 86_400, 300},
}

const (
	maxMessage    = 1 << 20 // bytes, of a message and of all those of a batch
	maxVisibility = 43_200  // seconds
)

// fifoAttributes are those that only FIFO queues have.
var fifoAttributes = []string{"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"}

// settings are a queue's attributes in the form in which they are used.
type settings struct {
	fifo         bool
	byContent    bool // deduplicate by the body
	perGroup     bool // deduplication's scope is the message group
	delay        time.Duration
	retention    time.Duration
	wait         time.Duration
	visibility   time.Duration
	size         int // bytes
	redrive      *redrivePolicy
	redriveAllow *redriveAllowPolicy
}

// readSettings reads attributes that were checked when they were set.
func readSettings(attributes map[string]string) (settings, error) {
	number := func(name string) int {
		if v, ok := attributes[name]; ok {
			n, _ := strconv.Atoi(v)
			return n
		}
		return numbers[name].def
	}
	seconds := func(name string) time.Duration { return time.Duration(number(name)) * time.Second }
	st := settings{
		fifo:       attributes["FifoQueue"] == "true",
		byContent:  attributes["ContentBasedDeduplication"] == "true",
		perGroup:   attributes["DeduplicationScope"] == "messageGroup",
		delay:      seconds("DelaySeconds"),
		retention:  seconds("MessageRetentionPeriod"),
		wait:       seconds("ReceiveMessageWaitTimeSeconds"),
		visibility: seconds("VisibilityTimeout"),
		size:       number("MaximumMessageSize"),
	}
	var err error
	if p, ok := attributes["RedrivePolicy"]; ok {
		if st.redrive, err = parseRedrivePolicy(p); err != nil {
			return st, err
		}
	}
	if p, ok := attributes["RedriveAllowPolicy"]; ok {
		if st.redriveAllow, err = parseRedriveAllowPolicy(p); err != nil {
			return st, err
		}
	}
	return st, nil
}

// checkAttributes checks what a caller wants to set on a queue and returns it as it is stored. An empty value takes an attribute away,
// where the queue can be without it.
func checkAttributes(given map[string]string, fifo bool) (map[string]string, error) {
	clean := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(given)) {
		v := given[k]
		switch n, isNumber := numbers[k]; {
		case isNumber:
			i, err := strconv.Atoi(v)
			if err != nil || i < n.min || i > n.max || v[0] == '+' {
				return nil, invalidAttribute(k)
			}
			clean[k] = strconv.Itoa(i)
			continue
		case slices.Contains(fifoAttributes, k):
			if err := checkFIFO(k, v, fifo); err != nil {
				return nil, err
			}
			clean[k] = v
			if k == "FifoQueue" || k == "ContentBasedDeduplication" {
				clean[k] = strings.ToLower(v)
			}
			continue
		}
		switch k {
		case "SqsManagedSseEnabled":
			b, ok := boolean(v)
			if !ok {
				return nil, invalidAttribute(k)
			}
			clean[k] = strconv.FormatBool(b)
		case "KmsMasterKeyId":
			if len(v) > 2048 {
				return nil, invalidAttribute(k)
			}
			clean[k] = v
		case "Policy":
			if v != "" {
				if err := checkPolicy(v); err != nil {
					return nil, err
				}
			}
			clean[k] = v
		case "RedrivePolicy":
			if v != "" {
				if _, err := parseRedrivePolicy(v); err != nil {
					return nil, err
				}
			}
			clean[k] = v
		case "RedriveAllowPolicy":
			if v != "" {
				if _, err := parseRedriveAllowPolicy(v); err != nil {
					return nil, err
				}
			}
			clean[k] = v
		default:
			return nil, unknownAttribute(k)
		}
	}
	return clean, nil
}

func checkFIFO(k, v string, fifo bool) error {
	if !fifo {
		if k == "DeduplicationScope" || k == "FifoThroughputLimit" {
			return sqsapi.ErrInvalidAttributeName("You can specify the %s only when FifoQueue is set to true.", k)
		}
		return unknownAttribute(k)
	}
	switch k {
	case "FifoQueue":
		b, ok := boolean(v)
		if !ok {
			return invalidAttribute(k)
		}
		if !b {
			return sqsapi.ErrInvalidAttributeValue("Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.")
		}
	case "ContentBasedDeduplication":
		if _, ok := boolean(v); !ok {
			return invalidAttribute(k)
		}
	case "DeduplicationScope":
		if v != "queue" && v != "messageGroup" {
			return invalidAttribute(k)
		}
	case "FifoThroughputLimit":
		if v != "perQueue" && v != "perMessageGroupId" {
			return invalidAttribute(k)
		}
	}
	return nil
}

func boolean(v string) (value, ok bool) {
	switch strings.ToLower(v) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// maxStatements bounds the statements of a queue's policy.
const maxStatements = 20

func checkPolicy(text string) error {
	p, err := iampolicy.Parse(text, iampolicy.Resource)
	if err != nil {
		return invalidAttribute("Policy")
	}
	if n := len(p.Statements); n > maxStatements {
		return sqsapi.ErrOverLimit("%d statements were found in the submitted policy, max allowed is %d", n, maxStatements)
	}
	return nil
}

// apply returns the attributes that a queue has after some were set, and checks what must hold of them together.
func apply(have, set map[string]string) (map[string]string, error) {
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	for k, v := range set {
		if v == "" {
			delete(all, k)
		} else {
			all[k] = v
		}
	}
	if all["FifoThroughputLimit"] == "perMessageGroupId" && all["DeduplicationScope"] != "messageGroup" {
		return nil, sqsapi.ErrInvalidAttributeValue("Invalid value for the parameter FifoThroughputLimit. Reason: The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.")
	}
	if set["KmsMasterKeyId"] != "" {
		if set["SqsManagedSseEnabled"] == "true" {
			return nil, sqsapi.ErrInvalidAttributeName("You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.")
		}
		all["SqsManagedSseEnabled"] = "false"
	} else if set["SqsManagedSseEnabled"] == "true" {
		delete(all, "KmsMasterKeyId")
		delete(all, "KmsDataKeyReusePeriodSeconds")
	}
	return all, nil
}

// effective is the value of an attribute that a queue has, set or by default, and whether it has it.
func (q *queueState) effective(name string) (string, bool) {
	if v, ok := q.Attributes[name]; ok {
		if name == "KmsDataKeyReusePeriodSeconds" && q.Attributes["KmsMasterKeyId"] == "" {
			return "", false
		}
		return v, true
	}
	switch name {
	case "QueueArn":
		return q.arn(), true
	case "CreatedTimestamp":
		return strconv.FormatInt(q.Created, 10), true
	case "LastModifiedTimestamp":
		return strconv.FormatInt(q.Modified, 10), true
	case "SqsManagedSseEnabled":
		return strconv.FormatBool(q.Attributes["KmsMasterKeyId"] == ""), true
	case "KmsDataKeyReusePeriodSeconds":
		if q.Attributes["KmsMasterKeyId"] == "" {
			return "", false
		}
	case "ContentBasedDeduplication":
		return "false", q.settings.fifo
	case "DeduplicationScope":
		return "queue", q.settings.fifo
	case "FifoThroughputLimit":
		return "perQueue", q.settings.fifo
	}
	if n, ok := numbers[name]; ok {
		return strconv.Itoa(n.def), true
	}
	return "", false
}

// attributeNames are all that GetQueueAttributes knows, "All" included.
func attributeNames() []string { return sqsapi.Service.Shape("QueueAttributeName").Enum }

func (s *Service) getQueueAttributes(ctx context.Context, in *sqsapi.GetQueueAttributesInput) (*sqsapi.GetQueueAttributesOutput, error) {
	sc, name, err := parseURL(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	q, err := s.view(ctx, sc, name)
	if err != nil {
		return nil, err
	}
	names := in.AttributeNames
	for _, n := range names {
		if !slices.Contains(attributeNames(), n) || !q.settings.fifo && slices.Contains(fifoAttributes, n) {
			return nil, unknownAttribute(n)
		}
	}
	if slices.Contains(names, "All") {
		names = attributeNames()
	}
	out := &sqsapi.GetQueueAttributesOutput{}
	counted := false
	for _, n := range names {
		if strings.HasPrefix(n, "ApproximateNumber") {
			counted = true
			continue
		}
		if v, ok := q.effective(n); ok {
			if out.Attributes == nil {
				out.Attributes = map[string]string{}
			}
			out.Attributes[n] = v
		}
	}
	if !counted {
		return out, nil
	}
	c, err := q.count(ctx)
	if err != nil {
		return nil, err
	}
	if out.Attributes == nil {
		out.Attributes = map[string]string{}
	}
	for n, v := range map[string]int{
		"ApproximateNumberOfMessages":           c.Visible,
		"ApproximateNumberOfMessagesNotVisible": c.InFlight,
		"ApproximateNumberOfMessagesDelayed":    c.Delayed,
	} {
		if slices.Contains(names, n) {
			out.Attributes[n] = strconv.Itoa(v)
		}
	}
	return out, nil
}

func (s *Service) setQueueAttributes(ctx context.Context, in *sqsapi.SetQueueAttributesInput) (*sqsapi.SetQueueAttributesOutput, error) {
	sc, name, err := own(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	if len(in.Attributes) == 0 {
		return nil, missing("Attribute.Name")
	}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.get(tx, sc, name)
		if err != nil {
			return err
		}
		set, err := checkAttributes(in.Attributes, q.settings.fifo)
		if err != nil {
			return err
		}
		return s.change(tx, q, func(r *record) error {
			r.Attributes, err = apply(r.Attributes, set)
			return err
		})
	})
}

// change writes what f makes of a queue's record. The relations to dead-letter queues follow.
func (s *Service) change(tx kv.Tx, q *queueState, f func(*record) error) error {
	r := q.record
	if err := f(&r); err != nil {
		return err
	}
	if err := s.relate(tx, q.scope, q.name, q.Attributes["RedrivePolicy"], r.Attributes["RedrivePolicy"]); err != nil {
		return err
	}
	r.Modified = time.Now().Unix()
	return q.set(tx, q.name, &r)
}

// differs returns the first attribute of those given that a queue has otherwise, or "".
func (q *queueState) differs(given map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(given)) {
		have, _ := q.effective(k)
		if have != given[k] {
			return k
		}
	}
	return ""
}

// count counts the queue's messages. Those of a queue that is purged just now are none.
func (q *queueState) count(ctx context.Context) (queue.Counts, error) {
	delay := time.Duration(0)
	if q.settings.fifo {
		delay = q.settings.delay
	}
	c, err := q.messages.Counts(ctx, delay)
	if errors.Is(err, queue.ErrDropped) {
		err = nil
	}
	return c, err
}
