package lambda

import (
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/lang/eventpattern"
)

// sourceKind is a kind of event source, with what its mappings may be given.
type sourceKind struct {
	name   string // as people know it
	params string // those of the parameters that not all kinds have, separated by spaces

	batch, maxBatch int32 // default and bound of BatchSize
	dialect         eventpattern.Dialect
	polled          bool // its pollers are those of brokers, which word some errors in their own way
	stream          bool // it has shards: starting positions, checkpoints, retries
	served          bool
}

// The kinds of sources. Source of parameters and bounds: Lambda's API reference and the pages of each source.
var (
	queueSource = &sourceKind{
		name: "Amazon SQS", params: "MaximumBatchingWindowInSeconds FunctionResponseTypes ScalingConfig ProvisionedPollerConfig MetricsConfig",
		batch: 10, maxBatch: 10_000, dialect: eventpattern.SQS, served: true,
	}
	fifoSource   = &sourceKind{name: "Amazon SQS FIFO", params: queueSource.params, batch: 10, maxBatch: 10, dialect: eventpattern.SQS, served: true}
	streamSource = &sourceKind{
		name: "Amazon Kinesis",
		params: "MaximumBatchingWindowInSeconds StartingPosition StartingPositionTimestamp ParallelizationFactor BisectBatchOnFunctionError " +
			"MaximumRetryAttempts MaximumRecordAgeInSeconds TumblingWindowInSeconds DestinationConfig FunctionResponseTypes MetricsConfig",
		batch: 100, maxBatch: 10_000, dialect: eventpattern.Kinesis, stream: true, served: true,
	}
	tableSource = &sourceKind{name: "Amazon DynamoDB Streams", params: streamSource.params, batch: 100, maxBatch: 10_000, dialect: eventpattern.DynamoDBStreams, stream: true}
	kafkaSource = &sourceKind{
		name: "Amazon MSK",
		params: "MaximumBatchingWindowInSeconds StartingPosition StartingPositionTimestamp BisectBatchOnFunctionError MaximumRetryAttempts " +
			"MaximumRecordAgeInSeconds DestinationConfig FunctionResponseTypes MetricsConfig Topics SourceAccessConfigurations " +
			"AmazonManagedKafkaEventSourceConfig LoggingConfig ProvisionedPollerConfig",
		batch: 100, maxBatch: 10_000, dialect: eventpattern.Kafka, polled: true,
	}
	ownKafkaSource = &sourceKind{
		name: "Apache Kafka",
		params: "MaximumBatchingWindowInSeconds StartingPosition StartingPositionTimestamp BisectBatchOnFunctionError MaximumRetryAttempts " +
			"MaximumRecordAgeInSeconds DestinationConfig FunctionResponseTypes MetricsConfig Topics SourceAccessConfigurations " +
			"SelfManagedEventSource SelfManagedKafkaEventSourceConfig LoggingConfig ProvisionedPollerConfig",
		batch: 100, maxBatch: 10_000, dialect: eventpattern.Kafka, polled: true,
	}
	brokerSource = &sourceKind{
		name: "Amazon MQ", params: "MaximumBatchingWindowInSeconds Queues SourceAccessConfigurations", batch: 100, maxBatch: 10_000, dialect: eventpattern.MQ, polled: true,
	}
	documentSource = &sourceKind{
		name:   "Amazon DocumentDB",
		params: "MaximumBatchingWindowInSeconds StartingPosition StartingPositionTimestamp SourceAccessConfigurations DocumentDBEventSourceConfig",
		batch:  100, maxBatch: 10_000, dialect: eventpattern.DocumentDB, polled: true,
	}
)

// has reports whether mappings of the kind have a parameter.
func (k *sourceKind) has(param string) bool {
	for p := range strings.FieldsSeq(k.params) {
		if p == param {
			return true
		}
	}
	return false
}

// kindOf reads what an event source is. A self-managed one has no ARN.
func kindOf(source string, selfManaged bool) (*sourceKind, error) {
	unrecognized := lambdaapi.ErrInvalidParameterValueException("Unrecognized event source.")
	if selfManaged {
		if source != "" {
			return nil, unrecognized
		}
		return ownKafkaSource, nil
	}
	a, err := arn.Parse(source)
	if err != nil || a.Region == "" || a.Account == "" {
		return nil, unrecognized
	}
	part := strings.Split(a.Resource, "/")
	switch {
	case a.Service == "sqs" && a.Resource != "" && !strings.ContainsAny(a.Resource, ":/"):
		if strings.HasSuffix(a.Resource, ".fifo") {
			return fifoSource, nil
		}
		return queueSource, nil
	case a.Service == "kinesis" && part[0] == "stream" && (len(part) == 2 || len(part) == 4 && part[2] == "consumer"):
		return streamSource, nil
	case a.Service == "dynamodb" && len(part) == 4 && part[0] == "table" && part[2] == "stream":
		return tableSource, nil
	case a.Service == "kafka" && len(part) > 1 && (part[0] == "cluster" || part[0] == "vpc-connection"):
		return kafkaSource, nil
	case a.Service == "mq" && strings.HasPrefix(a.Resource, "broker:"):
		return brokerSource, nil
	case a.Service == "rds" && strings.HasPrefix(a.Resource, "cluster:"):
		return documentSource, nil
	}
	return nil, unrecognized
}

// paramsOf lists the parameters of a request that not all kinds of sources have.
func paramsOf(in *lambdaapi.CreateEventSourceMappingInput) (params []string) {
	d := in.DestinationConfig
	for _, p := range []struct {
		name  string
		given bool
	}{
		{"DestinationConfig", d != nil && (d.OnSuccess != nil || d.OnFailure != nil)},
		{"StartingPosition", in.StartingPosition != nil},
		{"StartingPositionTimestamp", in.StartingPositionTimestamp != nil},
		{"MaximumBatchingWindowInSeconds", in.MaximumBatchingWindowInSeconds != nil},
		{"ParallelizationFactor", in.ParallelizationFactor != nil},
		{"MaximumRecordAgeInSeconds", in.MaximumRecordAgeInSeconds != nil},
		{"BisectBatchOnFunctionError", in.BisectBatchOnFunctionError != nil},
		{"MaximumRetryAttempts", in.MaximumRetryAttempts != nil},
		{"TumblingWindowInSeconds", in.TumblingWindowInSeconds != nil},
		{"Topics", len(in.Topics) > 0},
		{"Queues", len(in.Queues) > 0},
		{"SourceAccessConfigurations", len(in.SourceAccessConfigurations) > 0},
		{"SelfManagedEventSource", in.SelfManagedEventSource != nil},
		{"FunctionResponseTypes", len(in.FunctionResponseTypes) > 0},
		{"AmazonManagedKafkaEventSourceConfig", in.AmazonManagedKafkaEventSourceConfig != nil},
		{"SelfManagedKafkaEventSourceConfig", in.SelfManagedKafkaEventSourceConfig != nil},
		{"ScalingConfig", in.ScalingConfig != nil && in.ScalingConfig.MaximumConcurrency != nil},
		{"DocumentDBEventSourceConfig", in.DocumentDBEventSourceConfig != nil},
		{"MetricsConfig", in.MetricsConfig != nil && len(in.MetricsConfig.Metrics) > 0},
		{"LoggingConfig", in.LoggingConfig != nil && in.LoggingConfig.SystemLogLevel != nil},
		{"ProvisionedPollerConfig", in.ProvisionedPollerConfig != nil && *in.ProvisionedPollerConfig != (lambdaapi.ProvisionedPollerConfig{})},
	} {
		if p.given {
			params = append(params, p.name)
		}
	}
	return params
}

// check refuses parameters that sources of the kind do not have, in AWS's words.
func (k *sourceKind) check(in *lambdaapi.CreateEventSourceMappingInput) error {
	for _, p := range paramsOf(in) {
		if k.has(p) {
			continue
		}
		if strings.HasPrefix(p, "StartingPosition") && k.queue() {
			return lambdaapi.ErrInvalidParameterValueException("StartingPosition is not valid for SQS event sources.")
		}
		return k.unsupported(p)
	}
	if in.DestinationConfig != nil && in.DestinationConfig.OnSuccess != nil {
		return k.unsupported("DestinationConfig")
	}
	return nil
}

// unsupported refuses a parameter. AWS quotes its name as Java has it for Kafka and brokers (seen 2021 to 2026), and not for queues and streams
// (recorded 2025-11).
func (k *sourceKind) unsupported(param string) error {
	if k.polled {
		param = "'" + strings.ToLower(param[:1]) + param[1:] + "'"
	}
	return lambdaapi.ErrInvalidParameterValueException("Unsupported %s parameter for given event source mapping type.", param)
}

func (k *sourceKind) queue() bool { return k == queueSource || k == fifoSource }
