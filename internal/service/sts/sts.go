package sts

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
)

// Deps is what the service needs. All fields but Issuers, AccountOf and Dev are required.
type Deps struct {
	Credentials *credential.Issuer
	IAM         smithy.Caller     // finds roles, managed policies and OpenIDConnect providers
	Checker     authorize.Checker // of web identities
	// Issuers are the URLs of OpenID Connect issuers trusted by all accounts beside the providers in IAM. Theirs may be http.
	Issuers []string
	// AccountOf finds the account of access keys that do not tell it themselves.
	AccountOf func(accessKeyID string) (account string, ok bool)
	Dev       bool // root may assume roles
}

// Service is STS. Its methods are safe for concurrent use.
type Service struct {
	deps Deps
	keys *keySets
}

// New returns the service.
func New(d Deps) (*Service, error) {
	if d.Credentials == nil || d.IAM == nil || d.Checker == nil {
		return nil, errors.New("sts: incomplete Deps")
	}
	return &Service{deps: d, keys: newKeySets()}, nil
}

// Register adds the service's operations to mux.
func (s *Service) Register(mux *smithy.Mux) {
	stsapi.AssumeRole.Handle(mux, s.assumeRole)
	stsapi.AssumeRoleWithWebIdentity.Handle(mux, s.assumeRoleWithWebIdentity)
	stsapi.GetSessionToken.Handle(mux, s.getSessionToken)
	stsapi.GetFederationToken.Handle(mux, s.getFederationToken)
	stsapi.GetCallerIdentity.Handle(mux, s.getCallerIdentity)
	stsapi.GetAccessKeyInfo.Handle(mux, s.getAccessKeyInfo)
}

func (s *Service) getCallerIdentity(ctx context.Context, _ *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error) {
	i := call.From(ctx)
	return &stsapi.GetCallerIdentityOutput{UserId: new(i.Principal.UserID), Account: new(i.Account), Arn: new(i.Principal.ARN)}, nil
}

func (s *Service) getAccessKeyInfo(_ context.Context, in *stsapi.GetAccessKeyInfoInput) (*stsapi.GetAccessKeyInfoOutput, error) {
	if s.deps.AccountOf != nil {
		if account, ok := s.deps.AccountOf(*in.AccessKeyId); ok {
			return &stsapi.GetAccessKeyInfoOutput{Account: &account}, nil
		}
	}
	account, ok := credential.AccountOf(*in.AccessKeyId)
	if !ok {
		return nil, invalid("Invalid AccessKeyId: %s", *in.AccessKeyId)
	}
	return &stsapi.GetAccessKeyInfoOutput{Account: &account}, nil
}

func invalid(format string, args ...any) *apierr.Error {
	return apierr.New("ValidationError", http.StatusBadRequest, format, args...)
}

func denied(format string, args ...any) *apierr.Error {
	return apierr.New("AccessDenied", http.StatusForbidden, format, args...)
}

// role is a role as IAM has it.
type role struct {
	credential.Role
	account    string
	maxSession int32 // seconds
}

// parseRole reads the ARN of a role that somebody wants to assume.
func parseRole(roleARN string) (account, name string, err error) {
	a, err := arn.Parse(roleARN)
	if err != nil {
		return "", "", invalid("%s is invalid", roleARN)
	}
	path, ok := strings.CutPrefix(a.Resource, "role/")
	if !ok || a.Service != "iam" || a.Region != "" || len(a.Account) != 12 {
		return "", "", invalid("Request ARN is invalid")
	}
	return a.Account, path[strings.LastIndexByte(path, '/')+1:], nil
}

// findRole reads a role from IAM; nil if there is none with this ARN.
func (s *Service) findRole(ctx context.Context, roleARN string) (*role, error) {
	account, name, err := parseRole(roleARN)
	if err != nil {
		return nil, err
	}
	out, err := iamapi.GetRole.Call(call.AsService(ctx, "sts", account, call.From(ctx).Region), s.deps.IAM, &iamapi.GetRoleInput{RoleName: &name})
	if noSuchEntity(err) || err == nil && *out.Role.Arn != roleARN {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &role{credential.Role{ARN: roleARN, ID: *out.Role.RoleId}, account, *out.Role.MaxSessionDuration}, nil
}

// noSuchEntity reports whether IAM says that there is none: a name that its model refuses, or a kind that it does not serve, names nothing.
func noSuchEntity(err error) bool {
	e, ok := errors.AsType[*apierr.Error](err)
	return err != nil && ok && slices.Contains([]string{"NoSuchEntity", "NoSuchEntityException", "ValidationError", "NotImplemented"}, e.Code)
}

// lifetime sets how long a session of a role holds.
func lifetime(session *call.Session, now time.Time, asked *int32, limit int32, chained bool) error {
	const hour = 3600
	seconds := int32(hour)
	if asked != nil {
		seconds = *asked
	}
	switch {
	case chained && seconds > hour:
		return invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	case seconds > limit:
		return invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	session.Issued, session.Expires = now, now.Add(time.Duration(seconds)*time.Second)
	return nil
}

func output(c credential.Session) *stsapi.Credentials {
	return &stsapi.Credentials{AccessKeyId: &c.AccessKeyID, SecretAccessKey: &c.SecretAccessKey, SessionToken: &c.SessionToken, Expiration: &c.Expiration}
}
