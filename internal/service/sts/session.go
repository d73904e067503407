package sts

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/call"
)

const (
	longSession = 43200 // seconds: the default of users
	rootSession = 3600  // default and most of root
)

// userLifetime sets how long a session of a user or of root holds. Root's is cut to an hour, as on AWS.
func userLifetime(session *call.Session, p *call.Principal, asked *int32) {
	seconds := int32(longSession)
	if asked != nil {
		seconds = *asked
	}
	if p.Type == call.Root {
		seconds = min(seconds, rootSession)
	}
	session.Issued = time.Now()
	session.Expires = session.Issued.Add(time.Duration(seconds) * time.Second)
}

func (s *Service) getSessionToken(ctx context.Context, in *stsapi.GetSessionTokenInput) (*stsapi.GetSessionTokenOutput, error) {
	p := call.From(ctx).Principal
	if p.Session != nil || p.Type != call.Root && p.Type != call.User {
		return nil, denied("Cannot call GetSessionToken with session credentials")
	}
	if err := checkMFA(in.SerialNumber, in.TokenCode); err != nil {
		return nil, err
	}
	p.Session = &call.Session{Issuer: p.ARN}
	userLifetime(p.Session, &p, in.DurationSeconds)
	c, err := s.deps.Credentials.Issue(p)
	if err != nil {
		return nil, err
	}
	return &stsapi.GetSessionTokenOutput{Credentials: output(c)}, nil
}

func (s *Service) getFederationToken(ctx context.Context, in *stsapi.GetFederationTokenInput) (*stsapi.GetFederationTokenOutput, error) {
	info := call.From(ctx)
	user := info.Principal
	if user.Session != nil || user.Type != call.Root && user.Type != call.User {
		return nil, denied("Cannot call GetFederationToken with session credentials")
	}
	session := call.Session{Issuer: user.ARN}
	userLifetime(&session, &user, in.DurationSeconds)
	if err := setTags(&session, in.Tags, nil, nil); err != nil {
		return nil, err
	}
	packed, err := s.setPolicies(ctx, &session, info.Account, in.Policy, in.PolicyArns, maxPlainPolicies)
	if err != nil {
		return nil, err
	}
	p := call.Principal{
		Type:    call.FederatedUser,
		ARN:     arn.New("sts", "", info.Account, "federated-user/"+*in.Name).String(),
		UserID:  info.Account + ":" + *in.Name,
		Session: &session,
	}
	c, err := s.deps.Credentials.Issue(p)
	if err != nil {
		return nil, err
	}
	return &stsapi.GetFederationTokenOutput{
		Credentials:      output(c),
		FederatedUser:    &stsapi.FederatedUser{FederatedUserId: &p.UserID, Arn: &p.ARN},
		PackedPolicySize: packed,
	}, nil
}
