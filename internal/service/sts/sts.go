package sts

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
)

// Service is STS. Its methods are safe for concurrent use.
type Service struct{}

// New returns the service.
func New() *Service { return &Service{} }

// Register adds the service's operations to mux.
func (s *Service) Register(mux *smithy.Mux) {
	stsapi.GetCallerIdentity.Handle(mux, s.getCallerIdentity)
}

func (s *Service) getCallerIdentity(ctx context.Context, _ *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error) {
	i := call.From(ctx)
	return &stsapi.GetCallerIdentityOutput{UserId: new(i.Principal.UserID), Account: new(i.Account), Arn: new(i.Principal.ARN)}, nil
}
