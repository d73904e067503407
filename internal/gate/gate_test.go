package gate_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/gate"
)

type deny struct{ saw *smithy.OpInfo }

func (d *deny) Authorize(_ context.Context, op *smithy.OpInfo, in any) error {
	d.saw = op
	return apierr.New("AccessDenied", 403, "User: %s is not authorized", "x")
}

func identity(ctx context.Context, in *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error) {
	return &stsapi.GetCallerIdentityOutput{Arn: new(call.From(ctx).Principal.ARN)}, nil
}

func TestCall(t *testing.T) {
	boom := errors.New("the disk is on fire")
	handled := false
	for _, c := range []struct {
		name    string
		ctx     func() context.Context
		auth    gate.Authorizer
		handler func(context.Context, *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error)
		code    string
		logged  string // on the one line, empty for no line at level Info
	}{
		{"allowed", user, gate.Authenticated{}, identity, "", ""},
		{"a service", func() context.Context { return call.AsService(context.Background(), "lambda", "1", "r") }, gate.Authenticated{}, identity, "", ""},
		{"anonymous", context.Background, gate.Authenticated{}, identity, "AccessDeniedException", "level=INFO"},
		{"denied", user, new(deny), identity, "AccessDenied", "User: x is not authorized"},
		{"coded", user, gate.Authenticated{}, fails(stsapi.ErrExpiredTokenException("late")), "ExpiredTokenException", ""},
		{"internal", user, gate.Authenticated{}, fails(boom), "InternalFailure", "level=ERROR msg=\"call failed\" action=sts:GetCallerIdentity principal=arn:aws:iam::1:user/u region=eu-west-1 requestId=id"},
		{"internal, cause", user, gate.Authenticated{}, fails(boom), "InternalFailure", "cause=\"the disk is on fire\""},
		{"throttled", user, gate.Authenticated{}, fails(apierr.New("TooManyRequestsException", 429, "Rate exceeded")), "TooManyRequestsException", ""},
		{"panic", user, gate.Authenticated{}, func(context.Context, *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error) {
			panic("nil map")
		}, "InternalFailure", "gate_test.go"},
		{"caller gone", func() context.Context { ctx, cancel := context.WithCancel(user()); cancel(); return ctx }, gate.Authenticated{}, identity, "InternalFailure", ""},
		{"not served", user, gate.Authenticated{}, nil, "NotImplemented", "does not serve sts:GetCallerIdentity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := smithy.NewMux()
			handled = false
			if c.handler != nil {
				stsapi.GetCallerIdentity.Handle(mux, func(ctx context.Context, in *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error) {
					handled = true
					return c.handler(ctx, in)
				})
			}
			var log bytes.Buffer
			g := gate.New(mux, c.auth, slog.New(slog.NewTextHandler(&log, nil)))
			ctx := c.ctx()
			out, err := stsapi.GetCallerIdentity.Call(ctx, g, &stsapi.GetCallerIdentityInput{})
			if apierr.Code(err) != c.code || err != nil && err.(*apierr.Error) == nil {
				t.Fatalf("error %v, want code %q", err, c.code)
			}
			if c.code == "" && *out.Arn != call.From(ctx).Principal.ARN {
				t.Errorf("output %q", *out.Arn)
			}
			if refused := strings.HasPrefix(c.code, "AccessDenied") || c.name == "caller gone"; refused && handled {
				t.Error("the handler ran")
			}
			if lines := strings.Count(log.String(), "\n"); c.logged == "" && lines != 0 || c.logged != "" && (lines != 1 || !strings.Contains(log.String(), c.logged)) {
				t.Errorf("log %q, want one line with %q", log.String(), c.logged)
			}
		})
	}
}

// TestWithoutAuthentication calls an operation whose model asks for no signature.
func TestWithoutAuthentication(t *testing.T) {
	mux := smithy.NewMux()
	stsapi.AssumeRoleWithWebIdentity.Handle(mux, func(context.Context, *stsapi.AssumeRoleWithWebIdentityInput) (*stsapi.AssumeRoleWithWebIdentityOutput, error) {
		return nil, nil
	})
	g := gate.New(mux, gate.Authenticated{}, slog.New(slog.DiscardHandler))
	_, err := stsapi.AssumeRoleWithWebIdentity.Call(context.Background(), g, &stsapi.AssumeRoleWithWebIdentityInput{
		RoleArn: new("arn:aws:iam::123456789012:role/r"), RoleSessionName: new("session"), WebIdentityToken: new("token")})
	if err != nil {
		t.Error(err)
	}
}

func TestAccessLog(t *testing.T) {
	mux := smithy.NewMux()
	stsapi.GetCallerIdentity.Handle(mux, identity)
	var log bytes.Buffer
	g := gate.New(mux, gate.Authenticated{}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if _, err := stsapi.GetCallerIdentity.Call(user(), g, &stsapi.GetCallerIdentityInput{}); err != nil {
		t.Fatal(err)
	}
	if s := log.String(); !strings.Contains(s, "action=sts:GetCallerIdentity") || strings.Count(s, "\n") != 1 {
		t.Errorf("log %q", s)
	}
}

func user() context.Context {
	return call.With(context.Background(), &call.Info{Account: "1", Region: "eu-west-1", RequestID: "id",
		Principal: call.Principal{Type: call.User, ARN: "arn:aws:iam::1:user/u"}})
}

func fails(err error) func(context.Context, *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error) {
	return func(context.Context, *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error) {
		return nil, err
	}
}

func BenchmarkCall(b *testing.B) {
	mux := smithy.NewMux()
	stsapi.GetCallerIdentity.Handle(mux, identity)
	g := gate.New(mux, gate.Authenticated{}, slog.New(slog.DiscardHandler))
	ctx, in, out := user(), &stsapi.GetCallerIdentityInput{}, new(stsapi.GetCallerIdentityOutput)
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Call(ctx, stsapi.GetCallerIdentity.Info, in, out); err != nil {
			b.Fatal(err)
		}
	}
}
