package sns

import (
	"errors"

	"github.com/mayflyhq/mayfly/internal/lang/eventpattern"
)

// filter decides which messages a subscription gets; nil is all.
type filter struct {
	policy *eventpattern.FilterPolicy
	body   bool
}

// parseFilter compiles a filter policy. The error is an *eventpattern.Error.
func parseFilter(policy, scope string) (*filter, error) {
	if policy == "" {
		return nil, nil
	}
	f := &filter{body: scope == scopeBody}
	s := eventpattern.MessageAttributes
	if f.body {
		s = eventpattern.MessageBody
	}
	var err error
	f.policy, err = eventpattern.ParseFilterPolicy([]byte(policy), s)
	return f, err
}

// takes reports whether the subscription wants a message that has a text for it.
func (f *filter) takes(m *message, text string) bool {
	switch {
	case f == nil:
		return true
	case f.body:
		return f.policy.MatchBody([]byte(text))
	}
	return f.policy.MatchAttributes(m.Attributes)
}

// filterError is AWS's error for a filter policy, given among the attributes of Subscribe or alone.
func filterError(err error, attributes bool) error {
	e, ok := errors.AsType[*eventpattern.Error](err)
	if !ok {
		return err
	}
	text := e.Error()
	if attributes {
		text = e.Attributes()
	}
	return badParameter(text)
}
