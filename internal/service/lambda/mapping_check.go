package lambda

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	deliver "github.com/mayflyhq/mayfly/internal/target"
)

// Bounds that the model does not have. Source: Lambda's API reference.
const (
	maxFilters     = 5
	minRecordAge   = 60  // seconds
	minQueuePoller = 2   // ProvisionedPollerConfig of queues
	maxPollers     = 200 // the default of MaximumPollers
	mappingPage    = 100 // mappings in one page of a list
)

func errMapping(format string, args ...any) error {
	return lambdaapi.ErrInvalidParameterValueException(format, args...)
}

func errMappedFunction() error { return errMapping("Function does not exist") }

// start sets where a new mapping begins to read.
func (m *mapping) start(kind *sourceKind, in *lambdaapi.CreateEventSourceMappingInput, now time.Time) error {
	if !kind.has("StartingPosition") {
		return nil
	}
	if in.StartingPosition == nil {
		if !kind.stream { // Kafka and DocumentDB have a default
			return nil
		}
		return errMapping("1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.")
	}
	m.StartingPosition = *in.StartingPosition
	at := in.StartingPositionTimestamp
	switch {
	case m.StartingPosition != lambdaapi.EventSourcePositionAtTimestamp:
		if at != nil {
			return errMapping("Timestamp only valid with StartingPosition AT_TIMESTAMP")
		}
		return nil
	case kind == tableSource:
		return errMapping("Unsupported starting position for arn type: %s", m.Source)
	case at == nil:
		return errMapping("StartingPosition AT_TIMESTAMP requires StartingPositionTimestamp.")
	case at.Unix() < 0:
		return errMapping("Received Exception while reading from provided stream. class java.lang.Long can not be converted to a Timestamp")
	case at.After(now):
		return errMapping("StartingPositionTimestamp must not be in the future.")
	}
	m.StartingTimestamp = new(at.UTC().Truncate(time.Millisecond))
	return nil
}

// apply sets what a request gives and checks the whole.
func (m *mapping) apply(kind *sourceKind, in *lambdaapi.CreateEventSourceMappingInput) error {
	if deref(in.KMSKeyArn) != "" {
		return errNotServed("KMSKeyArn: customer managed keys are")
	}
	assign(&m.BatchSize, in.BatchSize)
	assign(&m.Window, in.MaximumBatchingWindowInSeconds)
	assign(&m.ParallelizationFactor, in.ParallelizationFactor)
	assign(&m.Bisect, in.BisectBatchOnFunctionError)
	assign(&m.RetryAttempts, in.MaximumRetryAttempts)
	assign(&m.RecordAge, in.MaximumRecordAgeInSeconds)
	assign(&m.TumblingWindow, in.TumblingWindowInSeconds)
	if in.FunctionResponseTypes != nil {
		m.ReportFailures = len(in.FunctionResponseTypes) > 0
	}
	if in.ScalingConfig != nil {
		m.Concurrency = deref(in.ScalingConfig.MaximumConcurrency)
	}
	if in.MetricsConfig != nil {
		m.Metrics = slices.Clone(in.MetricsConfig.Metrics)
		slices.Sort(m.Metrics)
		m.Metrics = slices.Compact(m.Metrics)
	}
	if d := in.DestinationConfig; d != nil {
		switch {
		case d.OnFailure == nil:
			m.OnFailure = ""
		case d.OnFailure.Destination == nil:
			return errMapping("The Destination field is required for an OnFailure configuration.")
		default:
			m.OnFailure = *d.OnFailure.Destination // "" removes it
		}
	}
	if p := in.ProvisionedPollerConfig; p != nil {
		m.provision(kind, p)
	}
	if err := m.filter(kind, in.FilterCriteria); err != nil {
		return err
	}
	return m.check(kind, in)
}

// provision sets the bounds of provisioned pollers; an empty configuration ends them.
func (m *mapping) provision(kind *sourceKind, p *lambdaapi.ProvisionedPollerConfig) {
	if p.MinimumPollers == nil && p.MaximumPollers == nil {
		m.MinPollers, m.MaxPollers = 0, 0
		return
	}
	if m.MinPollers == 0 {
		m.MinPollers, m.MaxPollers = 1, maxPollers
		if kind.queue() {
			m.MinPollers = minQueuePoller
		}
	}
	assign(&m.MinPollers, p.MinimumPollers)
	assign(&m.MaxPollers, p.MaximumPollers)
}

// check holds the settings against each other and the kind of source.
func (m *mapping) check(kind *sourceKind, in *lambdaapi.CreateEventSourceMappingInput) error {
	switch {
	case kind == fifoSource && m.Window > 0:
		return errMapping("Batching window is not supported for FIFO queues")
	case m.BatchSize > kind.maxBatch:
		return errMapping("Maximum batch size must be between 1 and %d inclusive", kind.maxBatch)
	case kind.queue() && m.BatchSize > 10 && m.Window == 0:
		return errMapping("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")
	case m.RecordAge != -1 && m.RecordAge < minRecordAge && kind.has("MaximumRecordAgeInSeconds"):
		return errMapping("MaximumRecordAgeInSeconds must be either -1 (forever) or between %d and 604800 (inclusive)", minRecordAge)
	case m.TumblingWindow > 0 && m.ParallelizationFactor > 1:
		return errMapping("TumblingWindowInSeconds requires a ParallelizationFactor of 1.")
	case m.Concurrency > 0 && m.MinPollers > 0:
		return errMapping("ScalingConfig and ProvisionedPollerConfig cannot be used together.")
	case kind.queue() && (m.MinPollers == 1 || m.MaxPollers == 1):
		return errMapping("MinimumPollers and MaximumPollers must be at least %d for SQS event sources.", minQueuePoller)
	case m.MinPollers > m.MaxPollers:
		return errMapping("MinimumPollers must be less than or equal to MaximumPollers.")
	case kind.queue() && in.ProvisionedPollerConfig != nil && deref(in.ProvisionedPollerConfig.PollerGroupName) != "":
		return kind.unsupported("PollerGroupName")
	}
	if kind != kafkaSource && kind != ownKafkaSource {
		for _, name := range m.Metrics {
			if name != lambdaapi.EventSourceMappingMetricEventCount {
				return errMapping("Unsupported metric %s for given event source mapping type.", name)
			}
		}
	}
	if err := kind.checkOthers(in); err != nil || !kind.served {
		return err
	}
	_, err := m.extras()
	return err
}

// checkOthers checks what only sources have that are not served: a mapping that will be is refused for the right reason.
func (k *sourceKind) checkOthers(in *lambdaapi.CreateEventSourceMappingInput) error {
	missing := func(param string) error { return errMapping("Required '%s' parameter is missing.", param) }
	switch k {
	case ownKafkaSource:
		if len(in.SourceAccessConfigurations) == 0 {
			return missing("sourceAccessConfigurations")
		}
		servers := in.SelfManagedEventSource.Endpoints["KAFKA_BOOTSTRAP_SERVERS"]
		if len(servers) == 0 {
			return missing("selfManagedEventSource")
		}
		fallthrough
	case kafkaSource:
		if len(in.Topics) == 0 {
			return missing("topics")
		}
	case brokerSource:
		if len(in.Queues) == 0 {
			return missing("queues")
		}
		if len(in.SourceAccessConfigurations) == 0 {
			return missing("sourceAccessConfigurations")
		}
	case documentSource:
		if in.DocumentDBEventSourceConfig == nil || in.DocumentDBEventSourceConfig.DatabaseName == nil {
			return missing("documentDBEventSourceConfig")
		}
		if len(in.SourceAccessConfigurations) == 0 {
			return missing("sourceAccessConfigurations")
		}
	}
	return nil
}

// mappedVersion finds what a mapping invokes.
func (s *Service) mappedVersion(ctx context.Context, c scope, ref reference) (*version, error) {
	v, err := s.lookup(ctx, c, ref)
	if apierr.Code(err) == "ResourceNotFoundException" {
		err = errMappedFunction()
	}
	return v, err
}

// checkMapping asks whether the role of the function may do what the mapping needs, and whether the source exists and suits the function.
func (s *Service) checkMapping(ctx context.Context, c scope, m *mapping, v *version) error {
	source, _ := arn.Parse(m.Source)
	if source.Region != c.region {
		return errMapping("The event source must be in the region of the function: %s is not in %s.", m.Source, c.region)
	}
	own := call.AsService(ctx, "lambda", c.account, c.region)
	may, err := s.roleMay(own, c, v.Function, v.serves().Role)
	if err != nil {
		return err
	}
	if m.kind().stream {
		err = s.checkStream(own, m, source, may)
	} else {
		err = s.checkQueue(own, m, source, v, may)
	}
	if to := m.destination(); err == nil && to != "" {
		err = s.checkOnFailure(ctx, c, to, may)
	}
	return err
}

// roleMay returns a question: may the role of the function of a name do something?
func (s *Service) roleMay(own context.Context, c scope, name, role string) (func(action, resource string) (bool, error), error) {
	if s.roles == nil {
		return func(string, string) (bool, error) { return true, nil }, nil
	}
	p, err := s.roles.Session(own, role, c.qualifiedARN(name, ""))
	if apierr.Code(err) == "AccessDeniedException" {
		err = errMapping("The role defined for the function cannot be assumed by Lambda.")
	}
	if err != nil {
		return nil, err
	}
	info := *call.From(own)
	info.Principal = p
	ctx := call.With(own, &info)
	return func(action, resource string) (bool, error) {
		err := s.checker.Check(ctx, authorize.Request{Action: action, Resource: resource, Caller: &p})
		switch apierr.Code(err) {
		case "AccessDenied", "AccessDeniedException", "AuthorizationErrorException": // the last is SNS's
			return false, nil
		}
		return err == nil, err
	}, nil
}

// permitted asks for each of the actions and words the first that is not allowed.
func permitted(may func(action, resource string) (bool, error), resource, service, format string, actions ...string) error {
	prefix := strings.ToLower(service) + ":"
	for _, a := range actions {
		if ok, err := may(prefix+a, resource); err != nil {
			return err
		} else if !ok {
			return errMapping(format, a, service)
		}
	}
	return nil
}

func (s *Service) checkQueue(own context.Context, m *mapping, source arn.ARN, v *version, may func(action, resource string) (bool, error)) error {
	err := permitted(may, m.Source, "SQS", "The function execution role does not have permissions to call %s on %s", "ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
	if err != nil || s.caller == nil {
		return err
	}
	own = call.AsService(own, "lambda", source.Account, source.Region) // the role was asked for
	out, err := sqsapi.GetQueueAttributes.Call(own, s.caller, &sqsapi.GetQueueAttributesInput{
		QueueUrl:       new("https://sqs." + source.Region + ".amazonaws.com/" + source.Account + "/" + source.Resource),
		AttributeNames: []string{"VisibilityTimeout"},
	})
	if e, ok := errors.AsType[*apierr.Error](err); ok && e.HTTPStatus() < http.StatusInternalServerError {
		if strings.Contains(e.Code, "NonExistentQueue") || strings.Contains(e.Code, "QueueDoesNotExist") {
			return errMapping("Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist.")
		}
		return errMapping("Error occurred while ReceiveMessage. SQS Error Code: %s. SQS Error Message: %s", e.Code, e.Message)
	} else if ok && e.HTTPStatus() == http.StatusNotImplemented {
		return errMapping("%s cannot be an event source: %s", m.Source, e.Message)
	}
	if err != nil {
		return err
	}
	visibility, err := strconv.Atoi(out.Attributes["VisibilityTimeout"])
	if timeout := int(v.Deployment.Timeout); err == nil && visibility < timeout {
		return errMapping("Queue visibility timeout: %d seconds is less than Function timeout: %d seconds", visibility, timeout)
	}
	return err
}

func (s *Service) checkStream(own context.Context, m *mapping, source arn.ARN, may func(action, resource string) (bool, error)) error {
	resource, consumer, fanOut := strings.Cut(source.Resource, "/consumer/")
	stream := source
	stream.Resource = resource
	refused := "Cannot access stream " + m.Source +
		". Please ensure the role can perform the GetRecords, GetShardIterator, DescribeStream, and ListStreams Actions on your stream in IAM."
	actions := []string{"GetRecords", "GetShardIterator", "DescribeStream"}
	if fanOut {
		actions = []string{"DescribeStream"}
	}
	for _, a := range actions {
		if ok, err := may("kinesis:"+a, stream.String()); err != nil {
			return err
		} else if !ok {
			return errMapping("%s", refused)
		}
	}
	if fanOut {
		if ok, err := may("kinesis:SubscribeToShard", m.Source); err != nil {
			return err
		} else if !ok {
			return errMapping("%s", refused)
		}
	}
	if s.caller == nil {
		return nil
	}
	own = call.AsService(own, "lambda", source.Account, source.Region)
	var err error
	if fanOut && consumer != "" {
		_, err = kinesisapi.DescribeStreamConsumer.Call(own, s.caller, &kinesisapi.DescribeStreamConsumerInput{ConsumerARN: &m.Source})
	} else {
		_, err = kinesisapi.DescribeStreamSummary.Call(own, s.caller, &kinesisapi.DescribeStreamSummaryInput{StreamARN: new(stream.String())})
	}
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		switch {
		case e.Code == "ResourceNotFoundException":
			return errMapping("Stream not found: %s", m.Source)
		case e.HTTPStatus() == http.StatusNotImplemented:
			return errMapping("%s cannot be an event source: %s", m.Source, e.Message)
		}
	}
	return err
}

// checkOnFailure checks the destination of what a mapping gives up. Queues and topics must be standard ones.
func (s *Service) checkOnFailure(ctx context.Context, c scope, to string, may func(action, resource string) (bool, error)) error {
	invalid := lambdaapi.ErrInvalidParameterValueException("The provided destination config DestinationConfig(onSuccess=null, onFailure=%s) is invalid.",
		javaDestination("OnFailure", to))
	kind, err := deliver.KindOf(to)
	if err != nil || isFIFO(kind, to) || kind != deliver.SQS && kind != deliver.SNS && kind != deliver.S3 {
		return invalid
	}
	err = s.db.View(ctx, func(r kv.Reader) error { return s.checkTarget(ctx, r, c, to) })
	if err != nil {
		return invalidTarget(err, invalid, to)
	}
	const format = "The provided execution role does not have permissions to call %s on %s"
	switch kind {
	case deliver.SQS:
		return permitted(may, to, "SQS", format, "SendMessage")
	case deliver.SNS:
		return permitted(may, to, "SNS", format, "Publish")
	default:
		return permitted(may, to+"/*", "S3", format, "PutObject")
	}
}
