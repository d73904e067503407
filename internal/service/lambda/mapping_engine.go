package lambda

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
	deliver "github.com/mayflyhq/mayfly/internal/target"
)

// Mappings runs event source mappings. *eventsource.Engine is one. Its methods are safe for concurrent use.
type Mappings interface {
	// Set runs a mapping, or goes on with it by other parameters. The error is that of opening the source.
	Set(m *eventsource.Mapping) error
	// Stop lets the batches of a mapping that are under way end and begins no more. It keeps how far the mapping came.
	Stop(id string)
	// Remove stops a mapping and forgets how far it came.
	Remove(ctx context.Context, id string) error
	// Status says how a mapping does, or did when it ran.
	Status(ctx context.Context, id string) eventsource.Status
}

// drive makes the engine do what a mapping's row says.
func (s *Service) drive(ctx context.Context, c scope, m *mapping) error {
	switch {
	case s.mappings == nil:
		return nil
	case m.State == mappingDeleting:
		return s.mappings.Remove(ctx, m.UUID)
	case !m.Enabled:
		s.mappings.Stop(m.UUID)
		return nil
	}
	v, err := s.lookup(ctx, c, reference{name: m.Function, qualifier: m.Qualifier})
	if err != nil && apierr.Code(err) != "ResourceNotFoundException" {
		return err
	}
	running, err := c.running(m, v)
	if err != nil {
		return err
	}
	return s.mappings.Set(running)
}

// running is a mapping as the engine takes it. v is the version that it invokes, nil if there is none.
func (c scope) running(m *mapping, v *version) (*eventsource.Mapping, error) {
	kind := m.kind()
	filter, err := compileFilters(kind, m.Filters)
	if err != nil {
		return nil, err
	}
	e := &eventsource.Mapping{
		ID: m.UUID, Account: c.account, Region: c.region, SourceARN: m.Source, FunctionARN: c.qualifiedARN(m.Function, m.Qualifier),
		BatchSize: int(m.BatchSize), Window: seconds(m.Window), Filter: filter, ReportItemFailures: m.ReportFailures,
		Parallelization: int(m.ParallelizationFactor), Bisect: m.Bisect, MaxRetries: -1, OnFailure: m.OnFailure,
		Aggregate:      eventsource.Aggregate{Size: seconds(m.TumblingWindow)},
		MaxConcurrency: int(m.Concurrency), MinPollers: int(m.MinPollers), MaxPollers: int(m.MaxPollers),
	}
	if v != nil {
		e.Timeout = seconds(v.serves().Timeout)
	}
	if kind.stream {
		e.MaxRetries = int(m.RetryAttempts)
		if m.RecordAge > 0 {
			e.MaxAge = seconds(m.RecordAge)
		}
		switch m.StartingPosition {
		case lambdaapi.EventSourcePositionLatest:
			e.Start.At = m.Created
		case lambdaapi.EventSourcePositionAtTimestamp:
			e.Start.At = *m.StartingTimestamp
		}
	}
	x, err := m.extras()
	x.apply(e)
	return e, err
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// lastResult is LastProcessingResult.
func (s *Service) lastResult(ctx context.Context, m *mapping) string {
	if s.mappings != nil {
		if r := s.mappings.Status(ctx, m.UUID).Result; r != "" {
			return r
		}
	}
	return eventsource.ResultNone
}

// Mapper is what event source mappings need of functions: it implements eventsource.Invoker, eventsource.Destination and sources.Roles. It
// must be given its service before the mappings run.
type Mapper struct{ service *Service }

// Serve gives the mapper its service.
func (m *Mapper) Serve(s *Service) { m.service = s }

// Invoke implements eventsource.Invoker. Each invocation is a call of Lambda's own and has a request id of its own. One that has begun goes on
// although ctx ends: who stops the server lets functions end.
func (m *Mapper) Invoke(ctx context.Context, e *eventsource.Mapping, trace string, payload []byte) (*eventsource.Answer, error) {
	s := m.service
	ctx = call.AsService(call.With(context.WithoutCancel(ctx), &call.Info{Trace: trace}), "lambda", e.Account, e.Region)
	out, err := lambdaapi.Invoke.Call(ctx, s.caller, &lambdaapi.InvokeInput{FunctionName: new(e.FunctionARN), Payload: payload})
	if t, ok := errors.AsType[*fleet.ThrottledError](err); ok && t.Freed != nil {
		return nil, &eventsource.ThrottledError{Err: err, Freed: t.Freed}
	}
	if err != nil {
		return nil, err
	}
	return &eventsource.Answer{
		RequestID: call.From(ctx).RequestID, Version: deref(out.ExecutedVersion), Status: http.StatusOK,
		FunctionError: deref(out.FunctionError), Payload: out.Payload,
	}, nil
}

// Deliver implements eventsource.Destination, with the role of the function.
func (m *Mapper) Deliver(ctx context.Context, d *eventsource.Delivery) (id string, err error) {
	s := m.service
	if s.destinations == nil {
		return "", apierr.New("NotImplemented", http.StatusNotImplemented, "Nothing delivers to %s.", d.Destination)
	}
	ctx, err = m.AsRole(ctx, d.FunctionARN)
	if err != nil {
		return "", err
	}
	return s.destinations.Deliver(ctx, d.Destination, &deliver.Event{Body: d.Body, Source: "lambda", Key: d.Key})
}

// AsRole implements sources.Roles. The role is that of the version that the function's ARN leads to.
func (m *Mapper) AsRole(ctx context.Context, function string) (context.Context, error) {
	s := m.service
	f, ok := arn.ParseFunction(function)
	if !ok {
		return nil, errMappedFunction()
	}
	c := scope{f.Account, f.Region}
	own := call.AsService(ctx, "lambda", c.account, c.region)
	if s.roles == nil {
		return own, nil
	}
	role, err := s.roleOf(ctx, c, f)
	if err != nil {
		return nil, err
	}
	p, err := s.roles.Session(own, role, c.qualifiedARN(f.Name, ""))
	if err != nil {
		return nil, err
	}
	info := *call.From(own)
	info.Principal = p
	return call.With(own, &info), nil
}

// roleOf is the role of the version that a function's ARN leads to. What is invoked is remembered, so that reading for it costs no read of the store.
func (s *Service) roleOf(ctx context.Context, c scope, f arn.Function) (string, error) {
	if t := s.targets.get(c, f.Name, f.Qualifier); t != nil {
		return t.first.function.RoleARN, nil
	}
	var v *version
	err := s.db.View(ctx, func(r kv.Reader) (err error) { v, err = c.find(r, f.Name, f.Qualifier); return err })
	if err != nil {
		return "", err
	}
	return v.serves().Role, nil
}

// May implements sources.Roles.
func (m *Mapper) May(ctx context.Context, function, action, resource string) (role string, err error) {
	ctx, err = m.AsRole(ctx, function)
	if err != nil || m.service.roles == nil {
		return "", err
	}
	err = m.service.checker.Check(ctx, authorize.Request{Action: action, Resource: resource})
	return call.From(ctx).Principal.Session.Issuer, err
}
