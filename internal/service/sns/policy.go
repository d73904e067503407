package sns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// policyActions are the actions that the policy of a topic can allow, in AWS's order.
var policyActions = []string{
	"GetTopicAttributes", "SetTopicAttributes", "AddPermission", "RemovePermission", "DeleteTopic", "Subscribe", "ListSubscriptionsByTopic", "Publish",
	"Receive", "ListTagsForResource", "GetDataProtectionPolicy", "PutDataProtectionPolicy",
}

const ownersActions = 8 // of policyActions, in the default policy

// maxDocument bounds policies of all kinds, in bytes.
const maxDocument = 30 << 10

// document is a policy with its statements as they came.
type document struct {
	Version   string            `json:",omitempty"`
	ID        string            `json:"Id,omitempty"`
	Statement []json.RawMessage `json:",omitempty"`
}

type statement struct {
	Sid       string
	Effect    string
	Principal map[string]any
	Action    any
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// defaultPolicy is the policy of a topic that is given none. It allows services what they do for the topic's owner.
func defaultPolicy(name topicName) string {
	var actions []string
	for _, a := range policyActions[:ownersActions] {
		actions = append(actions, "SNS:"+a)
	}
	return toJSON(document{Version: "2008-10-17", ID: "__default_policy_ID", Statement: []json.RawMessage{json.RawMessage(toJSON(statement{
		Sid: "__default_statement_ID", Effect: "Allow", Principal: map[string]any{"AWS": "*"}, Action: actions, Resource: name.arn(),
		Condition: map[string]map[string]string{"StringEquals": {"AWS:SourceOwner": name.account}},
	}))}})
}

// toJSON prints what always can be printed, without escapes that only HTML needs.
func toJSON(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings, lists and maps of them
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// checkPolicy says whether a document can be the policy of a topic.
func checkPolicy(text, prefix string) error {
	if len(text) > maxDocument {
		return invalid("%sPolicy Error: the policy has more than %d bytes", prefix, maxDocument)
	}
	if _, err := iampolicy.Parse(text, iampolicy.Resource); err != nil {
		if e, ok := errors.AsType[*iampolicy.Error](err); ok {
			return invalid("%sPolicy Error: %s", prefix, e.Message)
		}
		return err
	}
	var d struct {
		Statement oneOrMore[struct{ Action, NotAction oneOrMore[string] }]
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return invalid("%sPolicy Error: %s", prefix, err)
	}
	for _, s := range d.Statement {
		for _, a := range slices.Concat(s.Action, s.NotAction) {
			if !inScope(a) {
				return errScope(prefix)
			}
		}
	}
	return nil
}

func errScope(prefix string) *apierr.Error {
	return invalid("%sPolicy statement action out of service scope!", prefix)
}

// inScope reports whether an action is one that a topic's policy may name. Patterns may be of SNS's actions.
func inScope(action string) bool {
	service, name, ok := strings.Cut(action, ":")
	if !ok || !strings.EqualFold(service, "sns") {
		return false
	}
	return strings.ContainsAny(name, "*?") || slices.ContainsFunc(policyActions, func(a string) bool { return strings.EqualFold(a, name) })
}

// oneOrMore is a list that may be written as its only element.
type oneOrMore[T any] []T

func (l *oneOrMore[T]) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]T)(l))
	}
	var one T
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*l = oneOrMore[T]{one}
	return nil
}

func (s *Service) addPermission(ctx context.Context, in *snsapi.AddPermissionInput) (*snsapi.AddPermissionOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "TopicArn", str(in.TopicArn))
	if err != nil {
		return nil, err
	}
	if len(in.ActionName) == 0 {
		return nil, invalid("ActionName Reason: no value for required parameter")
	}
	if len(in.AWSAccountId) == 0 {
		return nil, invalid("AWSAccountId Reason: no value for required parameter")
	}
	var actions, principals []string
	for _, a := range in.ActionName {
		if !slices.ContainsFunc(policyActions, func(known string) bool { return strings.EqualFold(a, known) }) {
			return nil, errScope("")
		}
		actions = append(actions, "SNS:"+a)
	}
	for _, account := range in.AWSAccountId {
		if !isAccount(account) {
			return nil, invalid("Policy Error: PrincipalNotFound")
		}
		principals = append(principals, arn.New("iam", "", account, "root").String())
	}
	added := toJSON(statement{
		Sid: str(in.Label), Effect: "Allow", Principal: map[string]any{"AWS": single(principals)}, Action: single(actions), Resource: name.arn(),
	})
	return nil, s.updateTopic(ctx, name, func(t *topic) error {
		d, err := readDocument(t.Policy)
		if err != nil {
			return err
		}
		if d.find(str(in.Label)) >= 0 {
			return invalid("Statement already exists")
		}
		d.Statement = append(d.Statement, json.RawMessage(added))
		t.Policy = toJSON(d)
		if len(t.Policy) > maxDocument {
			return invalid("Policy Error: the policy has more than %d bytes", maxDocument)
		}
		return nil
	})
}

func (s *Service) removePermission(ctx context.Context, in *snsapi.RemovePermissionInput) (*snsapi.RemovePermissionOutput, error) {
	name, err := parseTopic(call.From(ctx).Region, "TopicArn", str(in.TopicArn))
	if err != nil {
		return nil, err
	}
	return nil, s.updateTopic(ctx, name, func(t *topic) error {
		d, err := readDocument(t.Policy)
		if err != nil {
			return err
		}
		if i := d.find(str(in.Label)); i >= 0 {
			d.Statement = slices.Delete(d.Statement, i, i+1)
			t.Policy = toJSON(d)
		}
		return nil
	})
}

// readDocument takes a policy apart. Its only statement may stand without a list.
func readDocument(text string) (d document, err error) {
	var raw struct {
		Version   string
		ID        string `json:"Id"`
		Statement oneOrMore[json.RawMessage]
	}
	err = json.Unmarshal([]byte(text), &raw)
	return document{raw.Version, raw.ID, raw.Statement}, err
}

// find returns the index of the statement with a Sid, or -1.
func (d *document) find(sid string) int {
	return slices.IndexFunc(d.Statement, func(b json.RawMessage) bool {
		var s struct{ Sid string }
		return json.Unmarshal(b, &s) == nil && s.Sid == sid
	})
}

// single is the only element of a list, or the list.
func single(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// checkDataProtection takes what is JSON: the policy is kept and has no effect.
func checkDataProtection(text string) error {
	if len(text) > maxDocument {
		return invalid("DataProtectionPolicy Reason: the policy has more than %d bytes", maxDocument)
	}
	if text != "" && !json.Valid([]byte(text)) {
		return invalid("DataProtectionPolicy Reason: the policy is not valid JSON")
	}
	return nil
}

// Policy implements authorize.Resources: the policy of a topic, from memory as long as it is not changed.
func (s *Service) Policy(ctx context.Context, resource string) (*iampolicy.Compiled, error) {
	v, err := s.viewOf(ctx, resource)
	if err != nil || v == nil {
		return nil, err
	}
	return s.policies.Compile(v.topic.Policy, iampolicy.Resource, v.topic.name.arn())
}

// Tags implements authorize.Resources.
func (s *Service) Tags(ctx context.Context, resource string) (map[string]string, error) {
	v, err := s.viewOf(ctx, resource)
	if err != nil || v == nil {
		return nil, err
	}
	return v.topic.Tags, nil
}

// viewOf finds the topic that an ARN names, itself or by a subscription of it; nil if there is none.
func (s *Service) viewOf(ctx context.Context, resource string) (*view, error) {
	p := strings.Split(resource, ":")
	if len(p) != 6 && len(p) != 7 || p[2] != "sns" {
		return nil, nil
	}
	v, err := s.view(ctx, topicName{p[4], p[3], p[5]})
	if apierr.Code(err) == "NotFoundException" {
		return nil, nil
	}
	return v, err
}
