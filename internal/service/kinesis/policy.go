package kinesis

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

func (s *Service) putResourcePolicy(ctx context.Context, in *kinesisapi.PutResourcePolicyInput) (*kinesisapi.PutResourcePolicyOutput, error) {
	if _, err := s.documents.Compile(*in.Policy, iampolicy.Resource, *in.ResourceARN); err != nil {
		return nil, kinesisapi.ErrInvalidArgumentException("The policy is not valid: %s", err)
	}
	return nil, s.withResource(ctx, *in.ResourceARN, in.StreamId, func(_ ref, r resource) error {
		*r.policy() = *in.Policy
		return nil
	})
}

func (s *Service) getResourcePolicy(ctx context.Context, in *kinesisapi.GetResourcePolicyInput) (*kinesisapi.GetResourcePolicyOutput, error) {
	r, err := s.viewResource(ctx, *in.ResourceARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	text := *r.policy()
	if text == "" {
		text = "{}"
	}
	return &kinesisapi.GetResourcePolicyOutput{Policy: &text}, nil
}

func (s *Service) deleteResourcePolicy(ctx context.Context, in *kinesisapi.DeleteResourcePolicyInput) (*kinesisapi.DeleteResourcePolicyOutput, error) {
	return nil, s.withResource(ctx, *in.ResourceARN, in.StreamId, func(_ ref, r resource) error {
		if *r.policy() == "" {
			return kinesisapi.ErrResourceNotFoundException("No resource policy found for resource ARN %s.", *in.ResourceARN)
		}
		*r.policy() = ""
		return nil
	})
}

// Policy implements authorize.Resources.
func (s *Service) Policy(ctx context.Context, arn string) (*iampolicy.Compiled, error) {
	r, err := s.known(ctx, arn)
	if err != nil || r.st == nil || *r.policy() == "" {
		return nil, err
	}
	return s.documents.Compile(*r.policy(), iampolicy.Resource, arn)
}

// Tags implements authorize.Resources.
func (s *Service) Tags(ctx context.Context, arn string) (map[string]string, error) {
	r, err := s.known(ctx, arn)
	if err != nil || r.st == nil {
		return nil, err
	}
	return r.tags(), nil
}

// known finds what an ARN names; its stream is nil if there is nothing.
func (s *Service) known(ctx context.Context, arn string) (r resource, err error) {
	name, consumerID, err := parseARN(arn)
	if err != nil {
		return r, nil
	}
	var st *stream
	if err := s.db.View(ctx, func(rd kv.Reader) (err error) {
		st, err = s.load(rd, name)
		return err
	}); err != nil || st == nil {
		return r, err
	}
	if r, err = st.resource(arn, consumerID); err != nil {
		return resource{}, nil
	}
	return r, nil
}
