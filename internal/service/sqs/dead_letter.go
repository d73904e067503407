package sqs

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// redrivePolicy says where messages go that were received too often.
type redrivePolicy struct {
	text   string
	target scope
	name   string
	most   int // receives before a message moves
}

// maxReceives bounds maxReceiveCount.
const maxReceives = 1000

// parseRedrivePolicy reads the attribute RedrivePolicy. Whether the queue that it names exists it does not know.
func parseRedrivePolicy(text string) (*redrivePolicy, error) {
	refuse := func(reason string) (*redrivePolicy, error) { return nil, invalid(text, "RedrivePolicy", reason) }
	members, ok := jsonObject(text)
	if !ok {
		return nil, sqsapi.ErrInvalidAttributeValue("Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a valid JSON map.")
	}
	for _, k := range []string{"maxReceiveCount", "deadLetterTargetArn"} {
		if members[k] == nil {
			return refuse("Redrive policy does not contain mandatory attribute: " + k + ".")
		}
	}
	if len(members) > 2 {
		return refuse("Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn].")
	}
	count := string(bytes.Trim(members["maxReceiveCount"], `"`)) // a number or a text
	most, err := strconv.Atoi(count)
	if err != nil || most < 1 || most > maxReceives {
		return refuse("Invalid value for maxReceiveCount: " + count + ", valid values are from 1 to 1000 both inclusive.")
	}
	p := &redrivePolicy{text: text, most: most}
	var target string
	if json.Unmarshal(members["deadLetterTargetArn"], &target) != nil || !isARN(target) {
		return refuse("Invalid value for deadLetterTargetArn.")
	}
	if p.target, p.name, ok = parseARN(target); !ok {
		return refuse("Only SQS queues are valid resources for deadLetterTargetArn.")
	}
	return p, nil
}

// redriveAllowPolicy says which queues may name a queue as their dead-letter queue.
type redriveAllowPolicy struct {
	permission string // allowAll, denyAll, byQueue
	sources    []string
}

// maxRedriveSources bounds the ARNs of a redrive allow policy.
const maxRedriveSources = 10

func parseRedriveAllowPolicy(text string) (*redriveAllowPolicy, error) {
	refuse := func(reason string) (*redriveAllowPolicy, error) {
		return nil, invalid(text, "RedriveAllowPolicy", "Amazon SQS can't create the redrive allow policy. "+reason)
	}
	var p struct {
		RedrivePermission string
		SourceQueueArns   *[]string
	}
	members, ok := jsonObject(text)
	if ok {
		_, hasPermission := members["redrivePermission"]
		n := 1
		if _, has := members["sourceQueueArns"]; has {
			n = 2
		}
		ok = hasPermission && len(members) == n && json.Unmarshal([]byte(text), &p) == nil &&
			slices.Contains([]string{"allowAll", "denyAll", "byQueue"}, p.RedrivePermission)
	}
	if !ok {
		return nil, sqsapi.ErrInvalidAttributeValue("Invalid value for the parameter RedriveAllowPolicy. Reason: Amazon SQS can't create the redrive allow policy, as it’s in an unsupported format.")
	}
	a := &redriveAllowPolicy{permission: p.RedrivePermission}
	if p.SourceQueueArns != nil {
		a.sources = *p.SourceQueueArns
	}
	switch {
	case a.permission == "byQueue" && len(a.sources) == 0:
		return refuse("When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values.")
	case a.permission != "byQueue" && p.SourceQueueArns != nil:
		return refuse("To specify one or more source queue ARNs, you must set redrivePermission to byQueue.")
	case len(a.sources) > maxRedriveSources:
		return refuse("The maximum number of source queue ARNs you can specify is 10.")
	}
	return a, nil
}

// allows reports whether a queue may move messages to the one that has the policy.
func (p *redriveAllowPolicy) allows(source string) bool {
	switch {
	case p == nil || p.permission == "allowAll":
		return true
	case p.permission == "byQueue":
		return slices.Contains(p.sources, source)
	}
	return false
}

// relate checks a queue's new redrive policy against the queue that it names, and keeps the index of sources. Empty texts are none.
func (s *Service) relate(tx kv.Tx, sc scope, name, old, text string) error {
	if old == text {
		return nil
	}
	if old != "" {
		if p, err := parseRedrivePolicy(old); err == nil {
			tx.Delete(p.target.sourceKey(p.name, name))
		}
	}
	if text == "" {
		return nil
	}
	p, err := parseRedrivePolicy(text)
	if err != nil {
		return err
	}
	if p.target.account != sc.account {
		return invalid(text, "RedrivePolicy", "Dead-letter target owner should be same as the source.")
	}
	if p.target.region != sc.region {
		return invalid(text, "RedrivePolicy", "Dead-letter target must be in same region as the source.")
	}
	if isFIFO(p.name) != isFIFO(name) {
		return invalid(text, "RedrivePolicy", "Dead-letter queue must be same type of queue as the source..")
	}
	if p.name == name { // AWS takes it, and moves to where it was; messages would never leave
		return invalid(text, "RedrivePolicy", "Dead-letter queue must not be the source itself.")
	}
	dead, err := s.find(tx, p.target, p.name)
	if err != nil {
		return err
	}
	if dead == nil {
		return invalid(text, "RedrivePolicy", "Dead letter target does not exist.")
	}
	if !dead.settings.redriveAllow.allows(sc.queueARN(name)) {
		return invalid(text, "RedrivePolicy", "The redrive allow policy of the dead-letter queue does not allow this queue as a source.")
	}
	tx.Set(p.target.sourceKey(p.name, name), nil)
	return nil
}

// deadLetterQueue is where a queue's messages move that were received too often; nil if they stay. One that was deleted, or no longer
// allows it, takes none.
func (s *Service) deadLetterQueue(r kv.Reader, q *queueState) (*queueState, error) {
	p := q.settings.redrive
	if p == nil {
		return nil, nil
	}
	dead, err := s.find(r, p.target, p.name)
	if err != nil || dead == nil || !dead.settings.redriveAllow.allows(q.arn()) {
		return nil, err
	}
	return dead, nil
}

func (s *Service) listDeadLetterSourceQueues(ctx context.Context, in *sqsapi.ListDeadLetterSourceQueuesInput) (*sqsapi.ListDeadLetterSourceQueuesOutput, error) {
	sc, name, err := parseURL(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &sqsapi.ListDeadLetterSourceQueuesOutput{QueueUrls: []string{}}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		if _, err := s.get(r, sc, name); err != nil {
			return err
		}
		entries, next, err := kv.Page(r, sc.sources(name), token(in.NextToken), limit)
		if err != nil {
			return pageError(err)
		}
		for _, e := range entries {
			source, err := sourceName(e.Key)
			if err != nil {
				return err
			}
			out.QueueUrls = append(out.QueueUrls, s.queueURL(ctx, sc, source))
		}
		if next != "" && in.MaxResults != nil {
			out.NextToken = &next
		}
		return nil
	})
}

// jsonObject splits a JSON object into its members.
func jsonObject(text string) (map[string]json.RawMessage, bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &m) != nil || m == nil {
		return nil, false
	}
	for k, v := range m {
		if string(v) == "null" {
			delete(m, k)
		}
	}
	return m, true
}

// listLimit is how many queues a listing returns at most.
const listLimit = 1000

func pageSize(max *int32) (int, error) {
	if max == nil {
		return listLimit, nil
	}
	if *max < 1 || *max > listLimit {
		return 0, invalidParameter("Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer between 1 and 1000.")
	}
	return int(*max), nil
}

func token(next *string) string {
	if next == nil {
		return ""
	}
	return *next
}

// pageError turns the error of a page's marker into AWS's.
func pageError(err error) error {
	if err == kv.ErrMarker {
		return invalidParameter("Invalid or expired next token.")
	}
	return err
}
