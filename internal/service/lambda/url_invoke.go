package lambda

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// URL is a function URL, ready for requests.
type URL struct {
	ID      string
	Region  string
	Signed  bool            // requests must be signed: AuthType AWS_IAM
	Streams bool            // InvokeMode RESPONSE_STREAM
	Cors    *lambdaapi.Cors // nil: none

	scope scope
	ref   reference
}

// URL returns the URL with an ID, nil if there is none.
func (s *Service) URL(ctx context.Context, id string) (found *URL, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		o, err := get[urlOwner](r, urlKey(id))
		if err != nil || o == nil {
			return err
		}
		c := scope{o.Account, o.Region}
		u, err := get[functionURL](r, c.hangingKey(o.Function, o.Qualifier, urlKind))
		if err != nil || u == nil || u.ID != id {
			return err
		}
		found = &URL{
			ID: id, Region: o.Region, Signed: u.Auth == lambdaapi.FunctionUrlAuthTypeAwsIam, Streams: u.Mode == lambdaapi.InvokeModeResponseStream, Cors: u.Cors,
			scope: c, ref: reference{name: o.Function, qualifier: o.Qualifier},
		}
		return nil
	})
	return found, err
}

// authType is the AuthType as policies have it.
func (u *URL) authType() string {
	if u.Signed {
		return lambdaapi.FunctionUrlAuthTypeAwsIam
	}
	return lambdaapi.FunctionUrlAuthTypeNone
}

// InvokeURL runs a request to a URL for the principal of ctx, which policies must allow both to use the URL and to invoke the function
// through it. Its errors are those of Invoke. A Stream in the response must be closed.
func (s *Service) InvokeURL(ctx context.Context, u *URL, event []byte) (*fleet.Response, error) {
	resource := u.scope.qualifiedARN(u.ref.name, u.ref.qualifier)
	keys := iampolicy.Values{}
	keys.Set("lambda:FunctionUrlAuthType", u.authType())
	keys.Set("lambda:FunctionArn", resource)
	if err := s.checker.Check(ctx, authorize.Request{Action: "lambda:InvokeFunctionUrl", Resource: resource, Keys: keys}); err != nil {
		return nil, err
	}
	keys.Set("lambda:InvokedViaFunctionUrl", "true")
	if err := s.checker.Check(ctx, authorize.Request{Action: "lambda:InvokeFunction", Resource: resource, Keys: keys}); err != nil {
		return nil, err
	}
	if len(event) > s.limits.PayloadBytes {
		return nil, lambdaapi.ErrRequestTooLargeException("Request must be smaller than %d bytes for the InvokeFunction operation", s.limits.PayloadBytes)
	}
	t, err := s.target(ctx, u.scope, u.ref)
	if err != nil {
		return nil, err
	}
	if err := t.first.checkTenant(nil); err != nil {
		return nil, err
	}
	_, res, err := s.run(ctx, u.scope, u.ref, t, nil, &fleet.Request{Payload: event, Stream: u.Streams})
	return res, err
}

// nobody is the Checker that allows nothing.
type nobody struct{}

// Check implements authorize.Checker.
func (nobody) Check(context.Context, authorize.Request) error {
	return apierr.New("AccessDeniedException", 403, "Forbidden")
}
