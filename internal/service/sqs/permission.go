package sqs

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// shareable are the actions that AddPermission gives to other accounts; the others are the owner's.
var shareable = []string{"*", "SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes", "GetQueueUrl",
	"ListDeadLetterSourceQueues", "PurgeQueue"}

// maxShared bounds the actions of one permission.
const maxShared = 7

// document is a policy in the order in which AWS writes it.
type document struct {
	Version   string
	ID        string `json:"Id,omitempty"`
	Statement []json.RawMessage
}

func (s *Service) addPermission(ctx context.Context, in *sqsapi.AddPermissionInput) (*sqsapi.AddPermissionOutput, error) {
	sc, name, err := own(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	switch {
	case in.Label == nil || *in.Label == "":
		return nil, missing("Label")
	case !isName(*in.Label):
		return nil, invalid(*in.Label, "Label", "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.")
	case len(in.Actions) == 0:
		return nil, missing("Actions")
	case len(in.AWSAccountIds) == 0:
		return nil, invalid("[]", "PrincipalId", "Unable to verify.")
	case len(in.Actions) > maxShared:
		return nil, sqsapi.ErrOverLimit("%d Actions were found, maximum allowed is %d.", len(in.Actions), maxShared)
	}
	var actions, principals []string
	for _, a := range in.Actions {
		if !slices.Contains(shareable, a) {
			if sqsapi.Service.Op(a) != nil {
				return nil, invalid("SQS:"+a, "ActionName", "Only the queue owner is allowed to invoke this action.")
			}
			return nil, invalid("SQS:"+a, "ActionName", "Please refer to the appropriate WSDL for a list of valid actions.")
		}
		actions = append(actions, "SQS:"+a)
	}
	for _, a := range in.AWSAccountIds {
		if !arn.IsAccount(a) {
			return nil, invalid("["+a+"]", "PrincipalId", "Unable to verify.")
		}
		principals = append(principals, arn.New("iam", "", a, "root").String())
	}
	return nil, s.editPolicy(ctx, sc, name, func(d *document, sids []string) error {
		if slices.Contains(sids, *in.Label) {
			return invalid(*in.Label, "Label", "Already exists.")
		}
		if len(d.Statement) >= maxStatements {
			return sqsapi.ErrOverLimit("%d statements were found in the submitted policy, max allowed is %d", len(d.Statement)+1, maxStatements)
		}
		b, err := json.Marshal(struct {
			Sid, Effect string
			Principal   map[string]any
			Action      any
			Resource    string
		}{*in.Label, "Allow", map[string]any{"AWS": oneOrMany(principals)}, oneOrMany(actions), sc.queueARN(name)})
		d.Statement = append(d.Statement, b)
		return err
	})
}

// oneOrMany is a list as policies write it: a list of one is its element.
func oneOrMany(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}

func (s *Service) removePermission(ctx context.Context, in *sqsapi.RemovePermissionInput) (*sqsapi.RemovePermissionOutput, error) {
	sc, name, err := own(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	if in.Label == nil || *in.Label == "" {
		return nil, missing("Label")
	}
	return nil, s.editPolicy(ctx, sc, name, func(d *document, sids []string) error {
		i := slices.Index(sids, *in.Label)
		if i < 0 {
			return invalid(*in.Label, "Label", "can't find label.")
		}
		d.Statement = slices.Delete(d.Statement, i, i+1)
		return nil
	})
}

// editPolicy changes the statements of a queue's policy. One without statements is none.
func (s *Service) editPolicy(ctx context.Context, sc scope, name string, edit func(d *document, sids []string) error) error {
	return s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.get(tx, sc, name)
		if err != nil {
			return err
		}
		d := document{Version: "2008-10-17", ID: q.arn() + "/SQSDefaultPolicy"}
		if text := q.Attributes["Policy"]; text != "" {
			if d, err = parseDocument(text); err != nil {
				return err
			}
		}
		sids := make([]string, len(d.Statement))
		for i, st := range d.Statement {
			var sid struct{ Sid string }
			if err := json.Unmarshal(st, &sid); err != nil {
				return err
			}
			sids[i] = sid.Sid
		}
		if err := edit(&d, sids); err != nil {
			return err
		}
		text := ""
		if len(d.Statement) > 0 {
			b, err := json.Marshal(d)
			if err != nil {
				return err
			}
			text = string(b)
		}
		return s.change(tx, q, func(r *record) error {
			r.Attributes, err = apply(r.Attributes, map[string]string{"Policy": text})
			return err
		})
	})
}

// parseDocument reads a policy that was checked when it was set. Statement may be one or a list.
func parseDocument(text string) (d document, err error) {
	var raw struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return d, err
	}
	d = document{Version: raw.Version, ID: raw.ID}
	if json.Unmarshal(raw.Statement, &d.Statement) != nil {
		d.Statement = []json.RawMessage{raw.Statement}
	}
	return d, nil
}

// Policy returns the policy of the queue with an ARN, ready to be asked, or nil if it has none or does not exist. It implements half of
// authorize.Resources.
func (s *Service) Policy(ctx context.Context, resource string) (c *iampolicy.Compiled, err error) {
	q, err := s.resource(ctx, resource)
	if q == nil || err != nil {
		return nil, err
	}
	q.compile.Do(func() {
		if text := q.Attributes["Policy"]; text != "" {
			var p *iampolicy.Policy
			if p, err = iampolicy.Parse(text, iampolicy.Resource); err == nil {
				q.policy = iampolicy.Compile(p, resource)
			}
		}
	})
	return q.policy, err
}

// Tags returns the tags of the queue with an ARN. It implements the other half of authorize.Resources.
func (s *Service) Tags(ctx context.Context, resource string) (map[string]string, error) {
	q, err := s.resource(ctx, resource)
	if q == nil || err != nil {
		return nil, err
	}
	return q.record.Tags, nil
}

// resource finds the queue of an ARN, nil if there is none.
func (s *Service) resource(ctx context.Context, resource string) (q *queueState, err error) {
	sc, name, ok := parseARN(resource)
	if !ok {
		return nil, nil
	}
	err = s.db.View(ctx, func(r kv.Reader) error {
		q, err = s.find(r, sc, name)
		return err
	})
	return q, err
}
