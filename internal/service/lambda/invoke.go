package lambda

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/fleet"
)

const maxClientContext = 3583 // bytes in base64

// Values that answers point to.
var (
	statusOK        = int32(http.StatusOK)
	statusNoContent = int32(http.StatusNoContent)
	unhandled       = "Unhandled"
)

// invoke serves synchronous invocations and dry runs, and accepts asynchronous ones. Payloads pass through as they came.
func (s *Service) invoke(ctx context.Context, in *lambdaapi.InvokeInput) (*lambdaapi.InvokeOutput, error) {
	c, ref, err := locate(ctx, "InvokeFunction", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	kind := lambdaapi.InvocationTypeRequestResponse
	assign(&kind, in.InvocationType)
	if kind == lambdaapi.InvocationTypeEvent && len(in.Payload) > s.limits.EventBytes {
		return nil, tooLargeEvent(len(in.Payload), s.limits.EventBytes)
	}
	if len(in.Payload) > s.limits.PayloadBytes {
		return nil, lambdaapi.ErrRequestTooLargeException("%d byte payload is too large for the %s invocation type (limit %d bytes)",
			len(in.Payload), kind, s.limits.PayloadBytes)
	}
	t, err := s.target(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	if err := t.first.checkTenant(in.TenantId); err != nil {
		return nil, err
	}
	switch {
	case in.DurableExecutionName != nil:
		return nil, errNotServed("DurableExecutionName: durable functions are")
	case kind == lambdaapi.InvocationTypeDryRun:
		return &lambdaapi.InvokeOutput{StatusCode: &statusNoContent}, nil
	case kind == lambdaapi.InvocationTypeEvent:
		if err := s.accept(ctx, c, ref, in.Payload, deref(in.TenantId)); err != nil {
			return nil, err
		}
		return &lambdaapi.InvokeOutput{StatusCode: &statusAccepted}, nil
	}
	tail := in.LogType != nil && *in.LogType == lambdaapi.LogTypeTail
	e, res, err := s.run(ctx, c, ref, t, in.ClientContext, &fleet.Request{TenantID: deref(in.TenantId), Payload: in.Payload, LogTail: tail})
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.InvokeOutput{StatusCode: &statusOK, Payload: res.Payload, ExecutedVersion: &e.version}
	switch res.FunctionError {
	case "":
	case unhandled:
		out.FunctionError = &unhandled
	default:
		out.FunctionError = &res.FunctionError
	}
	if tail {
		out.LogResult = new(base64.StdEncoding.EncodeToString(res.LogTail))
	}
	return out, nil
}

// run runs one synchronous invocation of t. It fills in what req lacks and checks its payload. Its errors are AWS's.
func (s *Service) run(ctx context.Context, c scope, ref reference, t *target, client *string, req *fleet.Request) (*executable, *fleet.Response, error) {
	info := call.From(ctx)
	var err error
	if req.ClientContext, err = clientContext(client); err != nil {
		return nil, nil, err
	}
	if len(req.Payload) == 0 {
		req.Payload = emptyEvent
	}
	if err := checkJSON(req.Payload); err != nil {
		return nil, nil, err
	}
	if req.Trace, err = s.follow(ctx, c, ref.name, trace(info), t.first.function.ARN); err != nil {
		return nil, nil, err
	}
	e := t.pick()
	for !e.code.take() {
		// The version was replaced since it was looked up, and its code is going away.
		s.targets.change(c, ref.name)()
		if t, err = s.target(ctx, c, ref); err != nil {
			return nil, nil, err
		}
		e = t.pick()
	}
	defer e.code.give() // whoever still reads a stream has an environment, which keeps the code itself
	req.RequestID, req.InvokedARN = info.RequestID, t.arn
	res, err := s.invoker.Invoke(ctx, e.function, req)
	if err != nil {
		return nil, nil, invokeError(ctx, err)
	}
	return e, res, nil
}

// checkTenant checks that an invocation names a tenant exactly if the function keeps tenants apart.
func (e *executable) checkTenant(tenant *string) error {
	switch named := tenant != nil && *tenant != ""; {
	case e.tenants && !named:
		return lambdaapi.ErrInvalidParameterValueException(
			"The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	case !e.tenants && named:
		return lambdaapi.ErrInvalidParameterValueException(
			"The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.")
	}
	return nil
}

// trace is the X-Amzn-Trace-Id of an invocation. Lambda gives every one its own, whether or not it is sampled, and code
// relies on finding it in its environment.
func trace(info *call.Info) string {
	if strings.Contains(info.Trace, "Root=") {
		return info.Trace
	}
	return call.NewTrace(info.Time)
}

// emptyEvent is what a function gets that was invoked without payload.
var emptyEvent = []byte("{}")

// clientContext decodes a client context to JSON.
func clientContext(in *string) (string, error) {
	if in == nil || *in == "" {
		return "", nil
	}
	if len(*in) > maxClientContext {
		return "", lambdaapi.ErrInvalidRequestContentException("Client context must be less than or equal to %d bytes when Base64-encoded.", maxClientContext)
	}
	b, err := base64.StdEncoding.DecodeString(*in)
	if err != nil || !isObject(b) {
		return "", lambdaapi.ErrInvalidRequestContentException("Client context must be a valid Base64-encoded JSON object.")
	}
	return string(b), nil
}

// invokeError words an error of the Invoker.
func invokeError(ctx context.Context, err error) error {
	if throttled, ok := errors.AsType[*fleet.ThrottledError](err); ok {
		e := lambdaapi.ErrTooManyRequestsException("Rate Exceeded.").With("Reason", throttled.Reason).With("Type", "User").Because(throttled)
		if throttled.RetryAfter > 0 {
			seconds := (throttled.RetryAfter + time.Second - 1) / time.Second
			e.Header = http.Header{"Retry-After": {strconv.Itoa(int(seconds))}}
		}
		return e
	}
	if errors.Is(err, fleet.ErrStopping) {
		e := lambdaapi.ErrServiceException("Service is stopping. Try again.").Because(err)
		e.Status = http.StatusServiceUnavailable
		return e
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, coded := errors.AsType[*apierr.Error](err); coded {
		return err
	}
	return lambdaapi.ErrServiceException("An error occurred and the request cannot be processed.").Because(err)
}
