package apierr_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

func TestFrom(t *testing.T) {
	cause := errors.New("disk on fire")
	e := apierr.From(fmt.Errorf("saving: %w", cause))
	if e.Code != "InternalFailure" || e.HTTPStatus() != 500 || e.Fault != apierr.Server || strings.Contains(e.Message, "fire") || !errors.Is(e, cause) {
		t.Errorf("got %#v", e)
	}
	if !strings.Contains(e.Error(), "fire") {
		t.Error("the log does not see the cause")
	}
	if apierr.From(nil) != nil {
		t.Error("From(nil) is not nil")
	}
	want := apierr.New("ResourceNotFoundException", 404, "no %s", "function")
	if got := apierr.From(fmt.Errorf("wrapped: %w", want)); got != want || got.Message != "no function" {
		t.Errorf("got %v", got)
	}
	if apierr.Code(want) != "ResourceNotFoundException" || apierr.Code(cause) != "" {
		t.Error("Code")
	}
	if e := apierr.New("X", 503, "100%%"); e.Fault != apierr.Server || e.Message != "100%" {
		t.Errorf("got %#v", e)
	}
	if (&apierr.Error{}).HTTPStatus() != 400 {
		t.Error("default status")
	}
}

func TestCopies(t *testing.T) {
	e := apierr.New("X", 400, "m")
	if w := e.With("a", 1).With("b", 2); e.Members != nil || w.Members["a"] != 1 || w.Members["b"] != 2 {
		t.Error("With changes its receiver or loses a member")
	}
	if b := e.Because(errors.New("c")); e.Cause != nil || b.Cause == nil {
		t.Error("Because changes its receiver")
	}
}
