package sns

import (
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

func errNoTopic() *apierr.Error { return snsapi.ErrNotFoundException("Topic does not exist") }

func errNoSubscription() *apierr.Error {
	return snsapi.ErrNotFoundException("Subscription does not exist")
}

// invalid is SNS's error for whatever is wrong with a request.
func invalid(format string, args ...any) *apierr.Error {
	return snsapi.ErrInvalidParameterException("Invalid parameter: "+format, args...)
}

// badParameter is that error with a text that others made.
func badParameter(text string) *apierr.Error { return snsapi.ErrInvalidParameterException("%s", text) }

// parts splits what should be the ARN of a parameter into at least six elements.
func parts(parameter, text string) ([]string, error) {
	p := strings.Split(text, ":")
	if len(p) < 6 {
		return nil, invalid("%s Reason: An ARN must have at least 6 elements, not %d", parameter, len(p))
	}
	if p[0] != "arn" || p[2] != "sns" || p[1] == "" {
		return nil, invalid("%s", parameter)
	}
	return p, nil
}

// parseTopic reads the ARN of a topic, which must be of the region that is called.
func parseTopic(region, parameter, text string) (topicName, error) {
	p, err := parts(parameter, text)
	if err != nil {
		return topicName{}, err
	}
	t := topicName{p[4], p[3], p[5]}
	if len(p) != 6 || t.name == "" || t.account == "" || t.region != region {
		return topicName{}, invalid("%s", parameter)
	}
	return t, nil
}

// parseSubscription reads the ARN of a subscription.
func parseSubscription(region, text string) (subscriptionName, error) {
	const parameter = "SubscriptionArn"
	if text == "" {
		return subscriptionName{}, invalid("%s Reason: no value for required parameter", parameter)
	}
	p, err := parts(parameter, text)
	if err != nil {
		return subscriptionName{}, err
	}
	if len(p) != 7 || p[6] == "" {
		return subscriptionName{}, invalid("SubscriptionId")
	}
	s := subscriptionName{topicName{p[4], p[3], p[5]}, p[6]}
	if s.topic.region != region && region != "" {
		return subscriptionName{}, invalid("%s", parameter)
	}
	return s, nil
}

// str reads an optional member.
func str(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// some is a member that is left out if it is empty.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
