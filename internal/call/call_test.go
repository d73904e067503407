package call

import (
	"context"
	"regexp"
	"testing"
	"time"
)

func TestContext(t *testing.T) {
	if got := From(context.Background()); got == nil || got.Principal.Type != Anonymous {
		t.Errorf("From outside a call = %+v, want an anonymous Info", got)
	}
	ctx := With(context.Background(), &Info{Account: "000000000001", Trace: "Root=1-a"})
	if got := From(ctx).Account; got != "000000000001" {
		t.Errorf("Account = %q", got)
	}
	s := From(AsService(ctx, "lambda", "000000000002", "eu-west-1"))
	if s.Principal.Service != "lambda.amazonaws.com" || s.Account != "000000000002" || s.Region != "eu-west-1" || s.Trace != "Root=1-a" {
		t.Errorf("AsService = %+v", s)
	}
}

func TestRequestID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	a, b := NewRequestID(), NewRequestID()
	if !form.MatchString(a) || a == b {
		t.Errorf("NewRequestID() = %q then %q", a, b)
	}
}

func TestNewTrace(t *testing.T) {
	now := time.Unix(0x5bef4de7, 0)
	a, b := NewTrace(now), NewTrace(now)
	if form := regexp.MustCompile(`^Root=1-5bef4de7-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0$`); !form.MatchString(a) || a == b {
		t.Errorf("NewTrace() = %q then %q", a, b)
	}
}
