package lambda

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// mapping is an event source mapping. Its members have the names and units of the API.
type mapping struct {
	UUID              string     `json:"uuid"`
	Source            string     `json:"source"`              // ARN
	Function          string     `json:"function"`            // name
	Qualifier         string     `json:"qualifier,omitempty"` // as it was named
	StartingPosition  string     `json:"startingPosition,omitempty"`
	StartingTimestamp *time.Time `json:"startingTimestamp,omitempty"`

	BatchSize             int32    `json:"batchSize"`
	Window                int32    `json:"window,omitempty"` // MaximumBatchingWindowInSeconds
	ReportFailures        bool     `json:"reportFailures,omitempty"`
	Filters               []string `json:"filters,omitempty"`
	ParallelizationFactor int32    `json:"parallelizationFactor,omitempty"`
	Bisect                bool     `json:"bisect,omitempty"`
	RetryAttempts         int32    `json:"retryAttempts,omitempty"`
	RecordAge             int32    `json:"recordAge,omitempty"`
	TumblingWindow        int32    `json:"tumblingWindow,omitempty"`
	OnFailure             string   `json:"onFailure,omitempty"`   // ARN
	Concurrency           int32    `json:"concurrency,omitempty"` // MaximumConcurrency; 0: none
	MinPollers            int32    `json:"minPollers,omitempty"`  // 0: not provisioned
	MaxPollers            int32    `json:"maxPollers,omitempty"`
	Metrics               []string `json:"metrics,omitempty"`

	Enabled      bool              `json:"enabled"` // what it is, or is on its way to be
	State        string            `json:"state"`
	Created      time.Time         `json:"created"` // since when it reads LATEST
	LastModified time.Time         `json:"lastModified"`
	Tags         map[string]string `json:"tags,omitempty"`
}

// The states of a mapping. Those on the way to another have a row that says so (movingKey), and refuse changes:
//
//	Create, enabled     Creating  -> Enabled
//	Create, disabled    Disabled
//	Update, enabled     Updating  -> Enabled     Update, disabled   Updating  -> Disabled
//	        to enabled  Enabling  -> Enabled            to disabled Disabling -> Disabled
//	Delete              Deleting  -> gone
const (
	mappingCreating  = "Creating"
	mappingEnabling  = "Enabling"
	mappingEnabled   = "Enabled"
	mappingDisabling = "Disabling"
	mappingDisabled  = "Disabled"
	mappingUpdating  = "Updating"
	mappingDeleting  = "Deleting"
)

func (m *mapping) moving() bool { return m.State != mappingEnabled && m.State != mappingDisabled }

func (m *mapping) kind() *sourceKind {
	k, err := kindOf(m.Source, false)
	if err != nil {
		panic(err) // it was checked when the mapping was made
	}
	return k
}

func (c scope) mappingARN(uuid string) string {
	return arn.New("lambda", c.region, c.account, "event-source-mapping:"+uuid).String()
}

func errNoMapping() error {
	return lambdaapi.ErrResourceNotFoundException("The resource you requested does not exist.")
}

func (c scope) mapping(r kv.Reader, uuid string) (*mapping, error) {
	m, err := get[mapping](r, c.mappingKey(uuid))
	if err == nil && m == nil {
		err = errNoMapping()
	}
	return m, err
}

// putMapping writes a mapping, whether it is moving, and that its source and function are taken. before is what the transaction read, nil for a
// new mapping; after is nil to delete.
func putMapping(tx kv.Tx, c scope, before, after *mapping) error {
	if before != nil {
		tx.Delete(c.mappingOfKey(before.Source, c.qualifiedARN(before.Function, before.Qualifier)))
		tx.Delete(c.movingKey(before.UUID))
		if after == nil {
			tx.Delete(c.mappingKey(before.UUID))
		}
	}
	if after == nil {
		return nil
	}
	tx.Set(c.mappingOfKey(after.Source, c.qualifiedARN(after.Function, after.Qualifier)), []byte(after.UUID))
	if after.moving() {
		tx.Set(c.movingKey(after.UUID), nil)
	}
	return kv.SetJSON(tx, c.mappingKey(after.UUID), after)
}

// describeMapping is a mapping as the API shows it. It asks the engine, so it is not for transactions.
func (s *Service) describeMapping(ctx context.Context, c scope, m *mapping) *lambdaapi.EventSourceMappingConfiguration {
	out := &lambdaapi.EventSourceMappingConfiguration{
		UUID: &m.UUID, EventSourceMappingArn: new(c.mappingARN(m.UUID)), EventSourceArn: &m.Source,
		FunctionArn: new(c.qualifiedARN(m.Function, m.Qualifier)), LastModified: &m.LastModified, State: &m.State,
		BatchSize: &m.BatchSize, MaximumBatchingWindowInSeconds: &m.Window, FunctionResponseTypes: []string{},
		// AWS: queues and streams word it differently (recorded 2025-11).
		StateTransitionReason: new("USER_INITIATED"),
	}
	if m.ReportFailures {
		out.FunctionResponseTypes = []string{lambdaapi.FunctionResponseTypeReportBatchItemFailures}
	}
	if len(m.Filters) > 0 {
		out.FilterCriteria = &lambdaapi.FilterCriteria{}
		for _, f := range m.Filters {
			out.FilterCriteria.Filters = append(out.FilterCriteria.Filters, lambdaapi.Filter{Pattern: &f})
		}
	}
	if m.Concurrency > 0 {
		out.ScalingConfig = &lambdaapi.ScalingConfig{MaximumConcurrency: &m.Concurrency}
	}
	if m.MinPollers > 0 {
		out.ProvisionedPollerConfig = &lambdaapi.ProvisionedPollerConfig{MinimumPollers: &m.MinPollers, MaximumPollers: &m.MaxPollers}
	}
	if len(m.Metrics) > 0 {
		out.MetricsConfig = &lambdaapi.EventSourceMappingMetricsConfig{Metrics: m.Metrics}
	}
	if m.kind().stream {
		out.StateTransitionReason = new("User action")
		out.LastProcessingResult = new(s.lastResult(ctx, m))
		out.StartingPosition, out.StartingPositionTimestamp = &m.StartingPosition, m.StartingTimestamp
		out.ParallelizationFactor, out.BisectBatchOnFunctionError, out.TumblingWindowInSeconds = &m.ParallelizationFactor, &m.Bisect, &m.TumblingWindow
		out.MaximumRetryAttempts, out.MaximumRecordAgeInSeconds = &m.RetryAttempts, &m.RecordAge
		out.DestinationConfig = &lambdaapi.DestinationConfig{OnFailure: &lambdaapi.OnFailure{}}
		if m.OnFailure != "" {
			out.DestinationConfig.OnFailure.Destination = &m.OnFailure
		}
	}
	return out
}

func (s *Service) createEventSourceMapping(ctx context.Context, in *lambdaapi.CreateEventSourceMappingInput) (*lambdaapi.EventSourceMappingConfiguration, error) {
	// AWS looks at the source and at destinations before it looks for the function (recorded 2025-11).
	kind, err := kindOf(deref(in.EventSourceArn), in.SelfManagedEventSource != nil)
	if err != nil {
		return nil, err
	}
	if err := kind.check(in); err != nil {
		return nil, err
	}
	c, ref, err := locate(ctx, "CreateEventSourceMapping", in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags, s.limits.Tags); err != nil {
		return nil, err
	}
	now := s.now()
	m := &mapping{
		UUID: call.NewRequestID(), Source: deref(in.EventSourceArn), Function: ref.name, Qualifier: ref.qualifier, Tags: in.Tags,
		BatchSize: kind.batch, Enabled: true, State: mappingCreating, Created: time.Now().UTC(), LastModified: now,
	}
	if kind.has("MaximumRetryAttempts") {
		m.ParallelizationFactor, m.RetryAttempts, m.RecordAge = 1, -1, -1
	}
	if in.Enabled != nil && !*in.Enabled {
		m.Enabled, m.State = false, mappingDisabled // AWS: at once (recorded 2025-11)
	}
	if err := m.start(kind, in, now); err != nil {
		return nil, err
	}
	if err := m.apply(kind, in); err != nil {
		return nil, err
	}
	v, err := s.mappedVersion(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	if !kind.served || s.mappings == nil {
		return nil, errNotServed("Event source mappings of " + kind.name + " are")
	}
	if err := s.mappingFree(ctx, c, m); err != nil { // also in the transaction; here it comes before what is wrong with the source
		return nil, err
	}
	if err := s.checkMapping(ctx, c, m, v); err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		if err := c.mappingFree(tx, m); err != nil {
			return err
		}
		return putMapping(tx, c, nil, m)
	})
	if err != nil {
		return nil, err
	}
	return s.describeMapping(ctx, c, m), nil
}

func (s *Service) mappingFree(ctx context.Context, c scope, m *mapping) error {
	return s.db.View(ctx, func(r kv.Reader) error { return c.mappingFree(r, m) })
}

// mappingFree refuses a second mapping of the same source to the same function under the same qualifier.
func (c scope) mappingFree(r kv.Reader, m *mapping) error {
	uuid, taken, err := r.Get(c.mappingOfKey(m.Source, c.qualifiedARN(m.Function, m.Qualifier)))
	if err != nil || !taken || string(uuid) == m.UUID {
		return err
	}
	function := m.Function
	if m.Qualifier != "" {
		function += ":" + m.Qualifier
	}
	if m.kind().stream {
		return lambdaapi.ErrResourceConflictException(
			`The event source arn (" %s ") and function (" %s ") provided mapping already exists. Please update or delete the existing mapping with UUID %s`,
			m.Source, function, uuid)
	}
	return lambdaapi.ErrResourceConflictException(
		`An event source mapping with SQS arn (" %s ") and function (" %s ") already exists. Please update or delete the existing mapping with UUID %s`,
		m.Source, function, uuid)
}

func (s *Service) getEventSourceMapping(ctx context.Context, in *lambdaapi.GetEventSourceMappingInput) (*lambdaapi.EventSourceMappingConfiguration, error) {
	c := scopeOf(ctx)
	var m *mapping
	err := s.db.View(ctx, func(r kv.Reader) (err error) { m, err = c.mapping(r, *in.UUID); return err })
	if err != nil {
		return nil, err
	}
	return s.describeMapping(ctx, c, m), nil
}

func (s *Service) listEventSourceMappings(ctx context.Context, in *lambdaapi.ListEventSourceMappingsInput) (*lambdaapi.ListEventSourceMappingsOutput, error) {
	c := scopeOf(ctx)
	function := ""
	if in.FunctionName != nil { // it need not exist
		l, ref, err := locate(ctx, "ListEventSourceMappings", in.FunctionName, nil)
		if err != nil {
			return nil, err
		}
		function = l.qualifiedARN(ref.name, ref.qualifier)
	}
	out := &lambdaapi.ListEventSourceMappingsOutput{EventSourceMappings: []lambdaapi.EventSourceMappingConfiguration{}}
	var found []*mapping
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		found = nil
		out.NextMarker, err = pickUpTo(r, c.mappings(), in.Marker, in.MaxItems, mappingPage, func(e kv.Entry) (bool, error) {
			m, err := get[mapping](r, e.Key)
			if err != nil || function != "" && function != c.qualifiedARN(m.Function, m.Qualifier) || in.EventSourceArn != nil && *in.EventSourceArn != m.Source {
				return false, err
			}
			found = append(found, m)
			return true, nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, m := range found {
		out.EventSourceMappings = append(out.EventSourceMappings, *s.describeMapping(ctx, c, m))
	}
	return out, nil
}

// MappingView is an event source mapping as the API shows it and as the engine takes it.
type MappingView struct {
	*lambdaapi.EventSourceMappingConfiguration
	Engine *eventsource.Mapping
}

// Mappings lists the event source mappings of an account, in all regions.
func (s *Service) Mappings(ctx context.Context, account string) ([]MappingView, error) {
	type placed struct {
		scope
		mapping *mapping
	}
	var found []placed
	err := s.db.View(ctx, func(r kv.Reader) error {
		found = nil
		for e, err := range r.Scan(kv.Prefix(mappingPrefix, account)) {
			if err != nil {
				return err
			}
			c := scope{account: account}
			if err := kv.Decode(e.Key, nil, nil, &c.region, nil); err != nil {
				return err
			}
			m, err := get[mapping](r, e.Key)
			if err != nil {
				return err
			}
			found = append(found, placed{c, m})
		}
		return nil
	})
	all := make([]MappingView, 0, len(found))
	for _, f := range found {
		running, failed := f.running(f.mapping, nil)
		if failed != nil {
			return nil, failed
		}
		all = append(all, MappingView{s.describeMapping(ctx, f.scope, f.mapping), running})
	}
	return all, err
}

func (s *Service) updateEventSourceMapping(ctx context.Context, in *lambdaapi.UpdateEventSourceMappingInput) (*lambdaapi.EventSourceMappingConfiguration, error) {
	c := scopeOf(ctx)
	// change makes of a mapping what the call asks for.
	change := func(r kv.Reader) (before, after *mapping, err error) {
		if before, err = c.mapping(r, *in.UUID); err != nil {
			return nil, nil, err
		}
		if before.moving() {
			return nil, nil, lambdaapi.ErrResourceInUseException("Cannot update the event source mapping because it is in use.")
		}
		m := *before
		kind := m.kind()
		asked := updated(in)
		if err := kind.check(asked); err != nil {
			return nil, nil, err
		}
		if in.FunctionName != nil {
			l, ref, err := locate(ctx, "UpdateEventSourceMapping", in.FunctionName, nil)
			if err != nil {
				return nil, nil, err
			}
			if l != c {
				return nil, nil, errMappedFunction()
			}
			m.Function, m.Qualifier = ref.name, ref.qualifier
		}
		if err := m.apply(kind, asked); err != nil {
			return nil, nil, err
		}
		switch assign(&m.Enabled, in.Enabled); {
		case m.Enabled == before.Enabled:
			m.State = mappingUpdating
		case m.Enabled:
			m.State = mappingEnabling
		default:
			m.State = mappingDisabling
		}
		m.LastModified = s.now()
		return before, &m, c.mappingFree(r, &m)
	}
	var m *mapping
	if err := s.db.View(ctx, func(r kv.Reader) (err error) { _, m, err = change(r); return err }); err != nil {
		return nil, err
	}
	// What is only being switched off may have lost everything that it needs.
	if m.Enabled || in.FunctionName != nil || in.DestinationConfig != nil {
		v, err := s.mappedVersion(ctx, c, reference{name: m.Function, qualifier: m.Qualifier})
		if err == nil {
			err = s.checkMapping(ctx, c, m, v)
		}
		if err != nil {
			return nil, err
		}
	}
	err := s.db.Update(ctx, func(tx kv.Tx) error {
		before, after, err := change(tx)
		if err != nil {
			return err
		}
		m = after
		return putMapping(tx, c, before, after)
	})
	if err != nil {
		return nil, err
	}
	return s.describeMapping(ctx, c, m), nil
}

// updated is an update as a request for a new mapping.
func updated(in *lambdaapi.UpdateEventSourceMappingInput) *lambdaapi.CreateEventSourceMappingInput {
	return &lambdaapi.CreateEventSourceMappingInput{
		FunctionName: in.FunctionName, Enabled: in.Enabled, BatchSize: in.BatchSize, FilterCriteria: in.FilterCriteria,
		MaximumBatchingWindowInSeconds: in.MaximumBatchingWindowInSeconds, ParallelizationFactor: in.ParallelizationFactor,
		DestinationConfig: in.DestinationConfig, MaximumRecordAgeInSeconds: in.MaximumRecordAgeInSeconds,
		BisectBatchOnFunctionError: in.BisectBatchOnFunctionError, MaximumRetryAttempts: in.MaximumRetryAttempts,
		TumblingWindowInSeconds: in.TumblingWindowInSeconds, SourceAccessConfigurations: in.SourceAccessConfigurations,
		FunctionResponseTypes: in.FunctionResponseTypes, ScalingConfig: in.ScalingConfig,
		AmazonManagedKafkaEventSourceConfig: in.AmazonManagedKafkaEventSourceConfig,
		SelfManagedKafkaEventSourceConfig:   in.SelfManagedKafkaEventSourceConfig,
		DocumentDBEventSourceConfig:         in.DocumentDBEventSourceConfig,
		KMSKeyArn:                           in.KMSKeyArn, MetricsConfig: in.MetricsConfig, LoggingConfig: in.LoggingConfig, ProvisionedPollerConfig: in.ProvisionedPollerConfig,
	}
}

func (s *Service) deleteEventSourceMapping(ctx context.Context, in *lambdaapi.DeleteEventSourceMappingInput) (*lambdaapi.EventSourceMappingConfiguration, error) {
	c := scopeOf(ctx)
	var m *mapping
	err := s.db.Update(ctx, func(tx kv.Tx) error {
		before, err := c.mapping(tx, *in.UUID)
		if err != nil {
			return err
		}
		if before.moving() {
			return lambdaapi.ErrResourceInUseException("Cannot delete the event source mapping because it is in use.")
		}
		deleting := *before
		deleting.State, deleting.LastModified = mappingDeleting, s.now()
		m = &deleting
		return putMapping(tx, c, before, m)
	})
	if err != nil {
		return nil, err
	}
	return s.describeMapping(ctx, c, m), nil
}
