package sts

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// Limits of AWS (IAM and STS quotas).
const (
	maxTags          = 50
	maxPolicyARNs    = 10
	maxPlainPolicies = 2048 // characters of a session's policies and their ARNs together, where the model does not lift it
)

// packedSpace is the bytes that policies and tags may take together. AWS does not tell it; from reports: nine tags of 252 characters
// take 498 per cent, however repetitive they are, and a policy of 1,690 characters with short tags 157. Both fit 456 bytes, in which policies are
// compressed and tags are not.
const packedSpace = 456

// setTags gives a session its tags: those asked for, and the transitive ones of the session that it is chained to.
func setTags(session *call.Session, tags []stsapi.Tag, transitive []string, from *call.Session) error {
	session.Tags = map[string]string{}
	names := map[string]string{} // by lower case: the keys of tags are case-insensitive
	if from != nil {
		for _, k := range from.TransitiveTags {
			if v, ok := from.Tags[k]; ok {
				session.Tags[k], names[strings.ToLower(k)] = v, k
				session.TransitiveTags = append(session.TransitiveTags, k)
			}
		}
	}
	inherited := len(names)
	for i, t := range tags {
		lower := strings.ToLower(*t.Key)
		_, dup := names[lower]
		switch {
		case strings.HasPrefix(lower, "aws:"):
			return invalid("Tag keys beginning with 'aws:' are reserved and cannot be set.")
		case dup && slices.ContainsFunc(tags[:i], func(o stsapi.Tag) bool { return strings.EqualFold(*o.Key, *t.Key) }):
			return invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		case dup:
			return invalid("One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
		}
		session.Tags[*t.Key], names[lower] = *t.Value, *t.Key
	}
	if len(names)-inherited > maxTags {
		return invalid("The number of tags exceeds the limit of %d.", maxTags)
	}
	for _, k := range transitive {
		name, ok := names[strings.ToLower(k)]
		if !ok {
			return invalid("The specified transitive tag key must be included in the requested tags.")
		}
		if !slices.Contains(session.TransitiveTags, name) {
			session.TransitiveTags = append(session.TransitiveTags, name)
		}
	}
	return nil
}

// setPolicies gives a session its policies, and says how much of the space they and its tags take, in per cent; nil if there are none. plain is the limit
// of their characters, 0 if there is none.
func (s *Service) setPolicies(ctx context.Context, session *call.Session, account string, document *string, arns []stsapi.PolicyDescriptorType, plain int) (*int32, error) {
	characters := 0
	if document != nil {
		if _, err := iampolicy.Parse(*document, iampolicy.Identity); err != nil {
			return nil, stsapi.ErrMalformedPolicyDocumentException("%s", err.Error())
		}
		session.Policies = []string{*document}
		characters += utf8.RuneCountInString(*document)
	}
	if len(arns) > maxPolicyARNs {
		return nil, invalid("The number of PolicyArns exceeds the limit of %d.", maxPolicyARNs)
	}
	for _, d := range arns {
		if d.Arn == nil {
			continue
		}
		if err := s.policyExists(ctx, account, *d.Arn); err != nil {
			return nil, err
		}
		session.PolicyARNs = append(session.PolicyARNs, *d.Arn)
		characters += len(*d.Arn)
	}
	if plain > 0 && characters > plain {
		return nil, stsapi.ErrPackedPolicyTooLargeException("Packed policy consumes %d%% of allotted space, please use smaller policy.", percent(characters, plain))
	}
	policies, tags := packedSize(session)
	switch {
	case policies+tags == 0:
		return nil, nil
	case policies+tags <= packedSpace:
		return new(percent(policies+tags, packedSpace)), nil
	case tags > policies:
		return nil, stsapi.ErrPackedPolicyTooLargeException("Packed size of session tags consumes %d%% of allotted space.", percent(policies+tags, packedSpace))
	}
	return nil, stsapi.ErrPackedPolicyTooLargeException("Packed policy consumes %d%% of allotted space, please use smaller policy.", percent(policies+tags, packedSpace))
}

// percent is how much n is of all, rounded up.
func percent(n, all int) int32 { return int32((100*n + all - 1) / all) }

// packedSize is the bytes that the policies and the tags of a session take of packedSpace.
func packedSize(session *call.Session) (policies, tags int) {
	for k, v := range session.Tags {
		tags += len(k) + len(v)
	}
	if len(session.Policies)+len(session.PolicyARNs) == 0 {
		return 0, tags
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		panic(err) // of a level that does not exist
	}
	for _, text := range slices.Concat(session.Policies, session.PolicyARNs) {
		w.Write([]byte(text)) // memory takes it
	}
	w.Close()
	return b.Len(), tags
}

// policyExists checks a managed policy that is to limit a session: it must be AWS's or of the account.
func (s *Service) policyExists(ctx context.Context, account, policyARN string) error {
	a, err := arn.Parse(policyARN)
	if err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "policy/") {
		return invalid("%s is invalid", policyARN)
	}
	if a.Account != "aws" && a.Account != account {
		return invalid("Policy %s is not in the account of the session.", policyARN)
	}
	_, err = iamapi.GetPolicy.Call(call.AsService(ctx, "sts", account, call.From(ctx).Region), s.deps.IAM, &iamapi.GetPolicyInput{PolicyArn: &policyARN})
	if noSuchEntity(err) {
		return invalid("Policy %s does not exist.", policyARN)
	}
	return err
}
