package lambda

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

// Mappings runs event source mappings. *eventsource.Engine is one. Its methods are safe for concurrent use.
type Mappings interface {
	// Put runs a mapping, or goes on with it by other parameters.
	Put(ctx context.Context, m *eventsource.Mapping) error
	// Stop lets the batches of a mapping that are under way end and begins no more. It keeps the checkpoints.
	Stop(ctx context.Context, id string) error
	// Delete removes the checkpoints of a mapping that does not run.
	Delete(ctx context.Context, id string) error
	// Status says how a mapping does.
	Status(id string) eventsource.Status
}

// drive makes the engine do what a mapping's row says.
func (s *Service) drive(ctx context.Context, c scope, m *mapping) error {
	if s.mappings == nil {
		return nil
	}
	if m.Enabled && m.State != mappingDeleting {
		return s.mappings.Put(ctx, c.running(m))
	}
	if err := s.mappings.Stop(ctx, m.UUID); err != nil || m.State != mappingDeleting {
		return err
	}
	return s.mappings.Delete(ctx, m.UUID)
}

// running is a mapping as the engine takes it.
func (c scope) running(m *mapping) *eventsource.Mapping {
	e := &eventsource.Mapping{
		ID: m.UUID, Account: c.account, Region: c.region, SourceARN: m.Source, FunctionARN: c.qualifiedARN(m.Function, m.Qualifier),
		BatchSize: int(m.BatchSize), Window: seconds(m.Window), ReportItemFailures: m.ReportFailures,
		Parallelization: int(m.ParallelizationFactor), Bisect: m.Bisect, MaxRetries: -1, OnFailure: m.OnFailure,
		Aggregate:      eventsource.Aggregate{Size: seconds(m.TumblingWindow)},
		MaxConcurrency: int(m.Concurrency), MinPollers: int(m.MinPollers), MaxPollers: int(m.MaxPollers),
	}
	if m.kind().stream {
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
	return e
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// lastResult is LastProcessingResult.
func (s *Service) lastResult(m *mapping) string {
	if s.mappings != nil {
		if r := s.mappings.Status(m.UUID).Result; r != "" {
			return r
		}
	}
	return eventsource.ResultNone
}
