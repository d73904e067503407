package lambda

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/fleet"
)

// What a client that is throttled reads. Nobody knows when a function that was switched off runs again, so that it is told no time.
func TestThrottledOverHTTP(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	url := w.serve() + "/2015-03-31/functions/f/invocations"
	for name, c := range map[string]struct {
		err   fleet.ThrottledError
		after string
	}{
		"reserved":     {fleet.ThrottledError{Reason: "ReservedFunctionConcurrentInvocationLimitExceeded", RetryAfter: time.Second}, "1"},
		"switched off": {fleet.ThrottledError{Reason: "ReservedFunctionConcurrentInvocationLimitExceeded"}, ""},
		"account":      {fleet.ThrottledError{Reason: "ConcurrentInvocationLimitExceeded", RetryAfter: 1500 * time.Millisecond}, "2"},
		"rate":         {fleet.ThrottledError{Reason: "FunctionInvocationRateLimitExceeded", RetryAfter: time.Millisecond}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			w.invoker.serve = func(*fleet.Function, *fleet.Request) (*fleet.Response, error) { return nil, &c.err }
			res, err := http.Post(url, "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			var body map[string]any
			if err := json.Unmarshal(b, &body); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			if want := map[string]any{"Reason": c.err.Reason, "Type": "User", "message": "Rate Exceeded."}; res.StatusCode != 429 || !maps.Equal(body, want) {
				t.Errorf("%d %s, want %v", res.StatusCode, b, want)
			}
			if got := res.Header.Get("Retry-After"); got != c.after {
				t.Errorf("Retry-After %q, want %q", got, c.after)
			}
		})
	}
}

// AWS's own words for what may not be reserved or provisioned.
func TestConcurrencyRefused(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
	get := func(name string) error {
		_, err := lambdaapi.GetFunctionConcurrency.Call(t.Context(), w, &lambdaapi.GetFunctionConcurrencyInput{FunctionName: &name})
		return err
	}
	getProvisioned := func(qualifier string) error {
		_, err := lambdaapi.GetProvisionedConcurrencyConfig.Call(t.Context(), w, &lambdaapi.GetProvisionedConcurrencyConfigInput{FunctionName: new("f"), Qualifier: &qualifier})
		return err
	}
	const onlyFunctions = "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. " +
		"Please specify either a function name or an unqualified function ARN."
	for _, c := range []struct {
		err    error
		code   string
		status int
		text   string
	}{
		{w.reserve(testARN+"f:1", 1), "InvalidParameterValueException", 400, onlyFunctions},
		{w.reserve(testARN+"f:live", 1), "InvalidParameterValueException", 400, onlyFunctions},
		{get(testARN + "f:1"), "InvalidParameterValueException", 400, onlyFunctions},
		{w.reserve("nobody", 1), "ResourceNotFoundException", 404, "Function not found: "},
		{get("nobody"), "ResourceNotFoundException", 404, "Function not found: "},
		{w.reserve("f", 901), "InvalidParameterValueException", 400, tooMuchReserved},
		{w.provision("f", "$LATEST", 1), "InvalidParameterValueException", 400, "Provisioned Concurrency Configs cannot be applied to unpublished function versions."},
		{getProvisioned("$LATEST"), "InvalidParameterValueException", 400, "The function resource provided must be an alias or a published version."},
		{w.provision("f", "nothing", 1), "ResourceNotFoundException", 404, "Cannot find alias arn: " + testARN + "f:nothing"},
		{w.provision("f", "9", 1), "ResourceNotFoundException", 404, "Function not found: "},
		{getProvisioned("live"), "ProvisionedConcurrencyConfigNotFoundException", 404, "No Provisioned Concurrency Config found for this function"},
		{w.provision("f", "1", 901), "InvalidParameterValueException", 400, tooMuchLeft},
		{w.provision("f", "1", 1001), "InvalidParameterValueException", 400, "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000]."},
	} {
		wantError(t, c.err, c.code, c.status, c.text)
	}

	// A version is provisioned once, for itself or for an alias.
	if err := w.provision("f", "1", 1); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.provision("f", "live", 1), "ResourceConflictException", 409, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
	if _, err := lambdaapi.DeleteProvisionedConcurrencyConfig.Call(t.Context(), w, &lambdaapi.DeleteProvisionedConcurrencyConfigInput{FunctionName: new("f"), Qualifier: new("1")}); err != nil {
		t.Fatal(err)
	}
	if err := w.provision("f", "live", 1); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.provision("f", "1", 1), "ResourceConflictException", 409, "Version is pointed by a Provisioned Concurrency alias")
}

// GetFunction tells what is reserved, and nothing when nothing is.
func TestGetFunctionConcurrency(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	reserved := func() *lambdaapi.Concurrency {
		return must(lambdaapi.GetFunction.Call(t.Context(), w, &lambdaapi.GetFunctionInput{FunctionName: new("f")}))(t).Concurrency
	}
	if c := reserved(); c != nil {
		t.Errorf("%+v before anything is reserved", c)
	}
	for _, n := range []int32{0, 5} { // 0 is a reservation too
		if err := w.reserve("f", n); err != nil {
			t.Fatal(err)
		}
		if c := reserved(); c == nil || *c.ReservedConcurrentExecutions != n {
			t.Errorf("%+v, want %d", c, n)
		}
	}
	if _, err := lambdaapi.DeleteFunctionConcurrency.Call(t.Context(), w, &lambdaapi.DeleteFunctionConcurrencyInput{FunctionName: new("f")}); err != nil {
		t.Fatal(err)
	}
	if c := reserved(); c != nil {
		t.Errorf("%+v after it was deleted", c)
	}
}
