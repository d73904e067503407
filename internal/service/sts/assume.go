package sts

import (
	"context"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/call"
)

func (s *Service) assumeRole(ctx context.Context, in *stsapi.AssumeRoleInput) (*stsapi.AssumeRoleOutput, error) {
	caller := call.From(ctx).Principal
	if caller.Type == call.Root && !s.deps.Dev {
		return nil, denied("Roles may not be assumed by root accounts.")
	}
	if err := checkMFA(in.SerialNumber, in.TokenCode); err != nil {
		return nil, err
	}
	if len(in.ProvidedContexts) > 0 {
		return nil, invalid("ProvidedContexts: contexts of identity providers are not served by Mayfly.")
	}
	r, err := s.findRole(ctx, *in.RoleArn)
	if err != nil {
		return nil, err
	}
	if r == nil { // whether a role exists is not told
		return nil, denied("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", caller.ARN, *in.RoleArn)
	}
	session := call.Session{MFA: caller.Session != nil && caller.Session.MFA}
	chained := caller.Type == call.AssumedRole
	if err := lifetime(&session, time.Now(), in.DurationSeconds, r.maxSession, chained); err != nil {
		return nil, err
	}
	if in.SourceIdentity != nil {
		session.SourceIdentity = *in.SourceIdentity
		if strings.HasPrefix(strings.ToLower(session.SourceIdentity), "aws:") {
			return nil, invalid("SourceIdentity must not begin with aws:")
		}
	}
	if caller.Session != nil && caller.Session.SourceIdentity != "" {
		if had := caller.Session.SourceIdentity; in.SourceIdentity != nil && *in.SourceIdentity != had {
			return nil, denied("User: %s is not authorized to perform: sts:SetSourceIdentity on resource: %s", caller.ARN, *in.RoleArn)
		}
		session.SourceIdentity = caller.Session.SourceIdentity
	}
	if err := setTags(&session, in.Tags, in.TransitiveTagKeys, caller.Session); err != nil {
		return nil, err
	}
	packed, err := s.setPolicies(ctx, &session, r.account, in.Policy, in.PolicyArns, 0)
	if err != nil {
		return nil, err
	}
	p, err := r.Assumed(*in.RoleSessionName, session)
	if err != nil {
		return nil, err
	}
	c, err := s.deps.Credentials.Issue(p)
	if err != nil {
		return nil, err
	}
	out := &stsapi.AssumeRoleOutput{
		Credentials:      output(c),
		AssumedRoleUser:  &stsapi.AssumedRoleUser{AssumedRoleId: &p.UserID, Arn: &p.ARN},
		PackedPolicySize: packed,
	}
	if session.SourceIdentity != "" {
		out.SourceIdentity = &session.SourceIdentity
	}
	return out, nil
}

// checkMFA refuses every device: there are none.
func checkMFA(serial, code *string) error {
	switch {
	case serial == nil && code == nil:
		return nil
	case serial == nil || code == nil:
		return denied("MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.")
	}
	return denied("MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.")
}
