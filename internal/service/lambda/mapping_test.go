package lambda

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

const (
	testQueue    = "arn:aws:sqs:eu-central-1:111122223333:q"
	testFIFO     = "arn:aws:sqs:eu-central-1:111122223333:q.fifo"
	testStream   = "arn:aws:kinesis:eu-central-1:111122223333:stream/s"
	testConsumer = testStream + "/consumer/c:1700000000"
	testTable    = "arn:aws:dynamodb:eu-central-1:111122223333:table/t/stream/2025-02-22T03:03:25.490"
	testTopic    = "arn:aws:sns:eu-central-1:111122223333:t"
	testCluster  = "arn:aws:kafka:eu-central-1:111122223333:cluster/c/00000000-0000-0000-0000-000000000000-1"
)

// fakeMappings is an engine that remembers. Nothing stops before held is closed.
type fakeMappings struct {
	mu      sync.Mutex
	running map[string]*eventsource.Mapping
	deleted []string
	held    chan struct{}
	result  string
}

func (f *fakeMappings) Set(m *eventsource.Mapping) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running == nil {
		f.running = map[string]*eventsource.Mapping{}
	}
	f.running[m.ID] = m
	return nil
}

func (f *fakeMappings) Stop(id string) {
	if f.held != nil {
		<-f.held
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, id)
}

func (f *fakeMappings) Remove(_ context.Context, id string) error {
	f.Stop(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deleted = append(f.deleted, id)
	return nil
}

func (f *fakeMappings) Status(context.Context, string) eventsource.Status {
	return eventsource.Status{Result: f.result}
}

func (f *fakeMappings) get(id string) *eventsource.Mapping {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running[id]
}

// fakeSources serve what the control plane asks of sources: the queues and the stream above exist.
func fakeSources() *smithy.Mux {
	mux := smithy.NewMux()
	sqsapi.GetQueueAttributes.Handle(mux, func(_ context.Context, in *sqsapi.GetQueueAttributesInput) (*sqsapi.GetQueueAttributesOutput, error) {
		const known = "https://sqs.eu-central-1.amazonaws.com/111122223333/q"
		if *in.QueueUrl != known && *in.QueueUrl != known+".fifo" {
			return nil, apierr.New("AWS.SimpleQueueService.NonExistentQueue", 400, "The specified queue does not exist.")
		}
		return &sqsapi.GetQueueAttributesOutput{Attributes: map[string]string{"VisibilityTimeout": "30"}}, nil
	})
	kinesisapi.DescribeStreamSummary.Handle(mux, func(_ context.Context, in *kinesisapi.DescribeStreamSummaryInput) (*kinesisapi.DescribeStreamSummaryOutput, error) {
		if *in.StreamARN != testStream {
			return nil, kinesisapi.ErrResourceNotFoundException("Stream not found.")
		}
		return &kinesisapi.DescribeStreamSummaryOutput{}, nil
	})
	kinesisapi.DescribeStreamConsumer.Handle(mux, func(_ context.Context, in *kinesisapi.DescribeStreamConsumerInput) (*kinesisapi.DescribeStreamConsumerOutput, error) {
		if *in.ConsumerARN != testConsumer {
			return nil, kinesisapi.ErrResourceNotFoundException("Consumer not found.")
		}
		return &kinesisapi.DescribeStreamConsumerOutput{}, nil
	})
	return mux
}

func newMappingWorld(t testing.TB, change ...func(*Deps)) (*world, *fakeMappings) {
	t.Helper()
	engine := &fakeMappings{}
	w := newWorld(t, append([]func(*Deps){func(d *Deps) { d.Mappings, d.Caller = engine, fakeSources() }}, change...)...)
	w.run()
	w.created("f")
	return w, engine
}

type mappingInput = lambdaapi.CreateEventSourceMappingInput

func (w *world) mapTo(source string, change ...func(*mappingInput)) (*lambdaapi.EventSourceMappingConfiguration, error) {
	in := &mappingInput{FunctionName: new("f"), EventSourceArn: &source}
	if strings.Contains(source, ":kinesis:") || strings.Contains(source, ":dynamodb:") {
		in.StartingPosition = new("TRIM_HORIZON")
	}
	for _, c := range change {
		c(in)
	}
	return lambdaapi.CreateEventSourceMapping.Call(w.t.Context(), w, in)
}

func (w *world) readMappingNow(uuid string) (*lambdaapi.EventSourceMappingConfiguration, error) {
	return lambdaapi.GetEventSourceMapping.Call(w.t.Context(), w, &lambdaapi.GetEventSourceMappingInput{UUID: &uuid})
}

// mappingIn waits until a mapping is in a state; "" is until it is gone.
func (w *world) mappingIn(uuid, state string) *lambdaapi.EventSourceMappingConfiguration {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		m, err := w.readMappingNow(uuid)
		if state == "" && apierr.Code(err) == "ResourceNotFoundException" {
			return nil
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if *m.State == state {
			return m
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("mapping is %s, not %q", *m.State, state)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestMappingLife(t *testing.T) {
	w, engine := newMappingWorld(t)
	ctx := t.Context()
	made := must(w.mapTo(testQueue))(t)
	uuid := *made.UUID
	if *made.State != "Creating" || *made.StateTransitionReason != "USER_INITIATED" || *made.BatchSize != 10 || *made.MaximumBatchingWindowInSeconds != 0 ||
		made.FunctionResponseTypes == nil || len(made.FunctionResponseTypes) > 0 || *made.FunctionArn != testARN+"f" || *made.EventSourceArn != testQueue ||
		*made.EventSourceMappingArn != "arn:aws:lambda:eu-central-1:111122223333:event-source-mapping:"+uuid || made.LastProcessingResult != nil ||
		made.MaximumRetryAttempts != nil || made.DestinationConfig != nil || made.StartingPosition != nil || made.ParallelizationFactor != nil {
		t.Errorf("made %+v", made)
	}
	w.mappingIn(uuid, "Enabled")
	if m := engine.get(uuid); m == nil || m.FunctionARN != testARN+"f" || m.SourceARN != testQueue || m.BatchSize != 10 || m.MaxRetries != -1 {
		t.Errorf("engine has %+v", m)
	}

	// What moves may not be changed.
	engine.held = make(chan struct{})
	update := func(change func(*lambdaapi.UpdateEventSourceMappingInput)) (*lambdaapi.EventSourceMappingConfiguration, error) {
		in := &lambdaapi.UpdateEventSourceMappingInput{UUID: &uuid}
		change(in)
		return lambdaapi.UpdateEventSourceMapping.Call(ctx, w, in)
	}
	off := must(update(func(in *lambdaapi.UpdateEventSourceMappingInput) { in.Enabled = new(false) }))(t)
	if *off.State != "Disabling" {
		t.Error("state", *off.State)
	}
	_, err := update(func(in *lambdaapi.UpdateEventSourceMappingInput) { in.BatchSize = new(int32(5)) })
	wantError(t, err, "ResourceInUseException", 400, "Cannot update the event source mapping because it is in use.")
	remove := func() (*lambdaapi.EventSourceMappingConfiguration, error) {
		return lambdaapi.DeleteEventSourceMapping.Call(ctx, w, &lambdaapi.DeleteEventSourceMappingInput{UUID: &uuid})
	}
	_, err = remove()
	wantError(t, err, "ResourceInUseException", 400, "Cannot delete the event source mapping because it is in use.")
	close(engine.held)
	w.mappingIn(uuid, "Disabled")
	if engine.get(uuid) != nil {
		t.Error("a disabled mapping runs")
	}

	// Changes of one that is disabled leave it so.
	changed := must(update(func(in *lambdaapi.UpdateEventSourceMappingInput) {
		in.BatchSize, in.MaximumBatchingWindowInSeconds = new(int32(100)), new(int32(3))
		in.FunctionResponseTypes = []string{"ReportBatchItemFailures"}
		in.ScalingConfig = &lambdaapi.ScalingConfig{MaximumConcurrency: new(int32(2))}
	}))(t)
	if *changed.State != "Updating" || *changed.BatchSize != 100 || *changed.ScalingConfig.MaximumConcurrency != 2 {
		t.Errorf("changed %+v", changed)
	}
	w.mappingIn(uuid, "Disabled")
	on := must(update(func(in *lambdaapi.UpdateEventSourceMappingInput) { in.Enabled = new(true) }))(t)
	if *on.State != "Enabling" {
		t.Error("state", *on.State)
	}
	w.mappingIn(uuid, "Enabled")
	if m := engine.get(uuid); m == nil || m.BatchSize != 100 || m.Window != 3*time.Second || !m.ReportItemFailures || m.MaxConcurrency != 2 {
		t.Errorf("engine has %+v", m)
	}
	must(update(func(in *lambdaapi.UpdateEventSourceMappingInput) {
		in.FunctionResponseTypes, in.ScalingConfig = []string{}, &lambdaapi.ScalingConfig{}
	}))(t)
	if m := w.mappingIn(uuid, "Enabled"); len(m.FunctionResponseTypes) > 0 || m.ScalingConfig != nil {
		t.Errorf("not taken back: %+v", m)
	}
	gone := must(remove())(t)
	if *gone.State != "Deleting" {
		t.Error("state", *gone.State)
	}
	w.mappingIn(uuid, "")
	if engine.get(uuid) != nil || !slices.Equal(engine.deleted, []string{uuid}) {
		t.Error("engine deleted", engine.deleted)
	}
	for _, k := range w.keys() {
		if strings.Contains(k, "lambda.mapping") {
			t.Error("left:", k)
		}
	}
	for _, err := range []error{
		failure(w.readMappingNow(uuid)), failure(remove()), failure(update(func(*lambdaapi.UpdateEventSourceMappingInput) {})),
	} {
		wantError(t, err, "ResourceNotFoundException", 404, "The resource you requested does not exist.")
		wantType(t, err, "User")
	}
}

func filters(patterns ...string) *lambdaapi.FilterCriteria {
	c := &lambdaapi.FilterCriteria{Filters: []lambdaapi.Filter{}}
	for _, p := range patterns {
		c.Filters = append(c.Filters, lambdaapi.Filter{Pattern: &p})
	}
	return c
}

func TestMappingFilters(t *testing.T) {
	w, engine := newMappingWorld(t)
	const a, b = `{"body":{"k":["v"]}}`, `{"body":["plain"]}`
	m := must(w.mapTo(testQueue, func(in *mappingInput) { in.FilterCriteria = filters(a, b) }))(t)
	if f := m.FilterCriteria.Filters; len(f) != 2 || *f[0].Pattern != a || *f[1].Pattern != b {
		t.Errorf("filters %+v", f)
	}
	w.mappingIn(*m.UUID, "Enabled")
	for body, want := range map[string]bool{`{"k":"v"}`: true, `plain`: true, `{"k":"w"}`: false, `other`: false} {
		record := &eventsource.Record{JSON: []byte(`{"messageId":"1"}`), Data: []byte(body)}
		if got := engine.get(*m.UUID).Filter.Match(record); got != want {
			t.Errorf("%s passes: %t", body, got)
		}
	}
	must(lambdaapi.UpdateEventSourceMapping.Call(t.Context(), w, &lambdaapi.UpdateEventSourceMappingInput{UUID: m.UUID, FilterCriteria: filters()}))(t)
	if got := w.mappingIn(*m.UUID, "Enabled"); got.FilterCriteria != nil || engine.get(*m.UUID).Filter != nil {
		t.Errorf("still filtered: %+v", got)
	}
}

func failure[T any](_ T, err error) error { return err }

func TestMappingOfStream(t *testing.T) {
	w, engine := newMappingWorld(t)
	made := must(w.mapTo(testStream))(t)
	if *made.State != "Creating" || *made.StateTransitionReason != "User action" || *made.BatchSize != 100 || *made.LastProcessingResult != "No records processed" ||
		*made.MaximumRecordAgeInSeconds != -1 || *made.MaximumRetryAttempts != -1 || *made.BisectBatchOnFunctionError || *made.ParallelizationFactor != 1 ||
		*made.TumblingWindowInSeconds != 0 || made.DestinationConfig.OnFailure == nil || made.DestinationConfig.OnFailure.Destination != nil ||
		*made.StartingPosition != "TRIM_HORIZON" {
		t.Errorf("made %+v", made)
	}
	w.mappingIn(*made.UUID, "Enabled")
	if m := engine.get(*made.UUID); m.MaxRetries != -1 || m.MaxAge != 0 || m.Start != (eventsource.Position{}) || m.Parallelization != 1 {
		t.Errorf("engine has %+v", m)
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	fan := must(w.mapTo(testConsumer, func(in *mappingInput) {
		in.StartingPosition, in.StartingPositionTimestamp = new("AT_TIMESTAMP"), &at
		in.MaximumRecordAgeInSeconds, in.MaximumRetryAttempts, in.BisectBatchOnFunctionError = new(int32(60)), new(int32(0)), new(true)
		in.TumblingWindowInSeconds = new(int32(30))
		in.DestinationConfig = &lambdaapi.DestinationConfig{OnFailure: &lambdaapi.OnFailure{Destination: new(testQueue)}}
	}))(t)
	if !fan.StartingPositionTimestamp.Equal(at) || *fan.DestinationConfig.OnFailure.Destination != testQueue {
		t.Errorf("made %+v", fan)
	}
	w.mappingIn(*fan.UUID, "Enabled")
	m := engine.get(*fan.UUID)
	if !m.Start.At.Equal(at) || m.MaxAge != time.Minute || m.MaxRetries != 0 || !m.Bisect || m.Aggregate.Size != 30*time.Second || m.OnFailure != testQueue {
		t.Errorf("engine has %+v", m)
	}
	engine.result = "OK"
	if got := w.mappingIn(*fan.UUID, "Enabled"); *got.LastProcessingResult != "OK" {
		t.Error("last result", *got.LastProcessingResult)
	}
	_, err := lambdaapi.UpdateEventSourceMapping.Call(t.Context(), w, &lambdaapi.UpdateEventSourceMappingInput{
		UUID: fan.UUID, DestinationConfig: &lambdaapi.DestinationConfig{OnSuccess: &lambdaapi.OnSuccess{Destination: new(testQueue)}},
	})
	wantError(t, err, "InvalidParameterValueException", 400, "Unsupported DestinationConfig parameter for given event source mapping type.")
	must(lambdaapi.UpdateEventSourceMapping.Call(t.Context(), w, &lambdaapi.UpdateEventSourceMappingInput{
		UUID: fan.UUID, DestinationConfig: &lambdaapi.DestinationConfig{OnFailure: &lambdaapi.OnFailure{Destination: new("")}}, MaximumRecordAgeInSeconds: new(int32(-1)),
	}))(t)
	if got := w.mappingIn(*fan.UUID, "Enabled"); got.DestinationConfig.OnFailure.Destination != nil || *got.MaximumRecordAgeInSeconds != -1 {
		t.Errorf("not taken back: %+v", got)
	}
}

func TestMappingCreatedDisabled(t *testing.T) {
	w, engine := newMappingWorld(t)
	made := must(w.mapTo(testQueue, func(in *mappingInput) { in.Enabled = new(false) }))(t)
	if *made.State != "Disabled" || engine.get(*made.UUID) != nil {
		t.Errorf("made %+v", made)
	}
}

func TestMappingRefused(t *testing.T) {
	w, _ := newMappingWorld(t)
	must(lambdaapi.CreateFunction.Call(t.Context(), w, func() *lambdaapi.CreateFunctionInput {
		in := w.input("slow")
		in.Timeout = new(int32(31))
		return in
	}()))(t)
	future := time.Now().Add(time.Hour)
	to := func(source string, change func(*mappingInput)) error {
		return failure(w.mapTo(source, change))
	}
	set := func(f func(*mappingInput)) func(*mappingInput) { return f }
	kafka := &lambdaapi.SelfManagedEventSource{Endpoints: map[string][]string{"KAFKA_BOOTSTRAP_SERVERS": {"kafka:1000"}}}
	for i, c := range []struct {
		source string
		change func(*mappingInput)
		text   string
	}{
		{testQueue, set(func(in *mappingInput) { in.EventSourceArn = nil }), "Unrecognized event source."},
		{"arn:aws:sns:eu-central-1:111122223333:t", nil, "Unrecognized event source."},
		{testStream + "/nonsense", nil, "Unrecognized event source."},
		{testQueue, set(func(in *mappingInput) { in.FunctionName = new("nobody") }), "Function does not exist"},
		{testQueue, set(func(in *mappingInput) { in.FunctionName = new("f:nobody") }), "Function does not exist"},
		{testQueue + "2", nil, "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist."},
		{testStream + "2", nil, "Stream not found: " + testStream + "2"},
		{testConsumer + "2", nil, "Stream not found: " + testConsumer + "2"},
		{strings.Replace(testQueue, "eu-central-1", "us-east-1", 1), nil, "The event source must be in the region of the function"},
		{testQueue, set(func(in *mappingInput) { in.FunctionName = new("slow") }), "Queue visibility timeout: 30 seconds is less than Function timeout: 31 seconds"},
		{testQueue, set(func(in *mappingInput) { in.BatchSize = new(int32(11)) }), "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"},
		{testFIFO, set(func(in *mappingInput) { in.BatchSize = new(int32(11)) }), "Maximum batch size must be between 1 and 10 inclusive"},
		{testFIFO, set(func(in *mappingInput) {
			in.BatchSize, in.MaximumBatchingWindowInSeconds = new(int32(100)), new(int32(5))
		}), "Batching window is not supported for FIFO queues"},
		{testQueue, set(func(in *mappingInput) { in.StartingPosition = new("LATEST") }), "StartingPosition is not valid for SQS event sources."},
		{testQueue, set(func(in *mappingInput) { in.StartingPositionTimestamp = &future }), "StartingPosition is not valid for SQS event sources."},
		{testQueue, set(func(in *mappingInput) { in.MaximumRetryAttempts = new(int32(1)) }), "Unsupported MaximumRetryAttempts parameter for given event source mapping type."},
		{testQueue, set(func(in *mappingInput) {
			in.FunctionName = new("nobody")
			in.DestinationConfig = &lambdaapi.DestinationConfig{OnSuccess: &lambdaapi.OnSuccess{Destination: new(testQueue)}}
		}), "Unsupported DestinationConfig parameter for given event source mapping type."},
		{testStream, set(func(in *mappingInput) {
			in.DestinationConfig = &lambdaapi.DestinationConfig{OnSuccess: &lambdaapi.OnSuccess{Destination: new(testQueue)}}
		}), "Unsupported DestinationConfig parameter for given event source mapping type."},
		{testStream, set(func(in *mappingInput) {
			in.DestinationConfig = &lambdaapi.DestinationConfig{OnFailure: &lambdaapi.OnFailure{}}
		}),
			"The Destination field is required for an OnFailure configuration."},
		{testStream, set(func(in *mappingInput) {
			in.DestinationConfig = &lambdaapi.DestinationConfig{OnFailure: &lambdaapi.OnFailure{Destination: new(testFIFO)}}
		}), "The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination=" + testFIFO + ")) is invalid."},
		{testStream, set(func(in *mappingInput) {
			in.DestinationConfig = &lambdaapi.DestinationConfig{OnFailure: &lambdaapi.OnFailure{Destination: new(testARN + "f")}}
		}), "The provided destination config "},
		{testStream, set(func(in *mappingInput) { in.ScalingConfig = &lambdaapi.ScalingConfig{MaximumConcurrency: new(int32(2))} }),
			"Unsupported ScalingConfig parameter for given event source mapping type."},
		{testStream, set(func(in *mappingInput) { in.Topics = []string{"topic"} }), "Unsupported Topics parameter for given event source mapping type."},
		{testStream, set(func(in *mappingInput) { in.StartingPosition = nil }),
			"1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."},
		{testStream, set(func(in *mappingInput) { in.StartingPositionTimestamp = &future }), "Timestamp only valid with StartingPosition AT_TIMESTAMP"},
		{testStream, set(func(in *mappingInput) { in.StartingPosition = new("AT_TIMESTAMP") }), "StartingPosition AT_TIMESTAMP requires"},
		{testStream, set(func(in *mappingInput) {
			in.StartingPosition, in.StartingPositionTimestamp = new("AT_TIMESTAMP"), &future
		}), "StartingPositionTimestamp must not be in the future."},
		{testStream, set(func(in *mappingInput) {
			in.StartingPosition, in.StartingPositionTimestamp = new("AT_TIMESTAMP"), new(time.Unix(-1, 0))
		}), "Received Exception while reading from provided stream. class java.lang.Long can not be converted to a Timestamp"},
		{testStream, set(func(in *mappingInput) { in.MaximumRecordAgeInSeconds = new(int32(59)) }), "MaximumRecordAgeInSeconds must be either -1 (forever) or between 60 and 604800 (inclusive)"},
		{testStream, set(func(in *mappingInput) {
			in.TumblingWindowInSeconds, in.ParallelizationFactor = new(int32(9)), new(int32(2))
		}), "TumblingWindowInSeconds requires a ParallelizationFactor of 1."},
		{testStream, set(func(in *mappingInput) {
			in.MetricsConfig = &lambdaapi.EventSourceMappingMetricsConfig{Metrics: []string{"KafkaMetrics"}}
		}), "Unsupported metric KafkaMetrics for given event source mapping type."},
		{testQueue, set(func(in *mappingInput) {
			in.ScalingConfig = &lambdaapi.ScalingConfig{MaximumConcurrency: new(int32(2))}
			in.ProvisionedPollerConfig = &lambdaapi.ProvisionedPollerConfig{MaximumPollers: new(int32(3))}
		}), "ScalingConfig and ProvisionedPollerConfig cannot be used together."},
		{testQueue, set(func(in *mappingInput) {
			in.ProvisionedPollerConfig = &lambdaapi.ProvisionedPollerConfig{MinimumPollers: new(int32(4)), MaximumPollers: new(int32(3))}
		}), "MinimumPollers must be less than or equal to MaximumPollers."},
		{testQueue, set(func(in *mappingInput) {
			in.ProvisionedPollerConfig = &lambdaapi.ProvisionedPollerConfig{MinimumPollers: new(int32(1))}
		}), "MinimumPollers and MaximumPollers must be at least 2 for SQS event sources."},
		{testQueue, set(func(in *mappingInput) { in.KMSKeyArn = new("arn:aws:kms:eu-central-1:111122223333:key/k") }), "KMSKeyArn: customer managed keys are not served by Mayfly yet."},
		{testQueue, set(func(in *mappingInput) {
			in.LoggingConfig = &lambdaapi.EventSourceMappingLoggingConfig{SystemLogLevel: new("INFO")}
		}), "Unsupported LoggingConfig parameter"},

		{testQueue, set(func(in *mappingInput) { in.FilterCriteria = filters(`"simple string"`) }), "Invalid filter pattern definition."},
		{testQueue, set(func(in *mappingInput) { in.FilterCriteria = &lambdaapi.FilterCriteria{Filters: []lambdaapi.Filter{{}}} }), "Invalid filter pattern definition."},
		{testStream, set(func(in *mappingInput) { in.FilterCriteria = filters(`{"eventName": ["INSERT"=123}`) }), "Invalid filter pattern definition."},
		{testStream, set(func(in *mappingInput) { in.FilterCriteria = filters(`{"data": ["plain"]}`) }), "Invalid filter pattern definition."},
		{testQueue, set(func(in *mappingInput) { in.FilterCriteria = filters(slices.Repeat([]string{`{"body":["a"]}`}, 6)...) }), "The number of filters exceeds the limit of 5."},

		// Sources that are not served are checked first.
		{testTable, nil, "Event source mappings of Amazon DynamoDB Streams are not served by Mayfly yet."},
		{testTable, set(func(in *mappingInput) {
			in.StartingPosition, in.StartingPositionTimestamp = new("AT_TIMESTAMP"), new(time.Unix(1, 0))
		}), "Unsupported starting position for arn type: " + testTable},
		{testCluster, set(func(in *mappingInput) { in.Topics = []string{"topic"} }), "Event source mappings of Amazon MSK are not served by Mayfly yet."},
		{testCluster, nil, "Required 'topics' parameter is missing."},
		{testCluster, set(func(in *mappingInput) { in.Topics, in.TumblingWindowInSeconds = []string{"topic"}, new(int32(1)) }),
			"Unsupported 'tumblingWindowInSeconds' parameter for given event source mapping type."},
		{"", set(func(in *mappingInput) {
			in.EventSourceArn, in.SelfManagedEventSource, in.Topics = nil, kafka, []string{"topic"}
		}), "Required 'sourceAccessConfigurations' parameter is missing."},
		{"arn:aws:mq:eu-central-1:111122223333:broker:b:b-1", nil, "Required 'queues' parameter is missing."},
		{"arn:aws:rds:eu-central-1:111122223333:cluster:c", nil, "Required 'documentDBEventSourceConfig' parameter is missing."},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			change := c.change
			if change == nil {
				change = func(*mappingInput) {}
			}
			err := to(c.source, change)
			wantError(t, err, "InvalidParameterValueException", 400, c.text)
			wantType(t, err, "User")
		})
	}
	err := to(testStream, func(in *mappingInput) { in.StartingPosition = new("invalid") })
	wantError(t, err, "ValidationException", 400, "1 validation error detected: Value 'invalid' at 'startingPosition' failed to satisfy constraint: Member must satisfy enum value set: [")
}

func TestMappingTwice(t *testing.T) {
	w, _ := newMappingWorld(t)
	queue, stream := must(w.mapTo(testQueue))(t), must(w.mapTo(testStream))(t)
	_, err := w.mapTo(testQueue, func(in *mappingInput) { in.FunctionName = new(testARN + "f") })
	wantError(t, err, "ResourceConflictException", 409,
		`An event source mapping with SQS arn (" `+testQueue+` ") and function (" f ") already exists. Please update or delete the existing mapping with UUID `+*queue.UUID)
	_, err = w.mapTo(testStream)
	wantError(t, err, "ResourceConflictException", 409,
		`The event source arn (" `+testStream+` ") and function (" f ") provided mapping already exists. Please update or delete the existing mapping with UUID `+*stream.UUID)
	// A qualifier makes another function of it.
	other := must(w.mapTo(testQueue, func(in *mappingInput) { in.FunctionName = new("f:$LATEST") }))(t)
	if *other.FunctionArn != testARN+"f:$LATEST" {
		t.Error("function", *other.FunctionArn)
	}
	w.mappingIn(*other.UUID, "Enabled")
	_, err = lambdaapi.UpdateEventSourceMapping.Call(t.Context(), w, &lambdaapi.UpdateEventSourceMappingInput{UUID: other.UUID, FunctionName: new("f")})
	wantError(t, err, "ResourceConflictException", 409, "An event source mapping with SQS arn")

	// Only one of many that come at once.
	w.created("g")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			_, err := w.mapTo(testQueue, func(in *mappingInput) { in.FunctionName = new("g") })
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if apierr.Code(err) != "ResourceConflictException" {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Error(won, "mappings of one queue to one function")
	}
}

func TestMappingList(t *testing.T) {
	w, _ := newMappingWorld(t)
	w.created("g")
	uuids := map[string]string{}
	for _, f := range []string{"f", "g", "f:$LATEST"} {
		for _, source := range []string{testQueue, testStream} {
			m := must(w.mapTo(source, func(in *mappingInput) { in.FunctionName = &f }))(t)
			uuids[f+" "+source] = *m.UUID
		}
	}
	list := func(in lambdaapi.ListEventSourceMappingsInput) (all []string) {
		t.Helper()
		for {
			out := must(lambdaapi.ListEventSourceMappings.Call(t.Context(), w, &in))(t)
			for _, m := range out.EventSourceMappings {
				all = append(all, *m.UUID)
			}
			if in.MaxItems != nil && len(out.EventSourceMappings) > int(*in.MaxItems) {
				t.Error("a page of", len(out.EventSourceMappings))
			}
			if in.Marker = out.NextMarker; in.Marker == nil {
				slices.Sort(all)
				return all
			}
		}
	}
	var all []string
	for _, u := range uuids {
		all = append(all, u)
	}
	slices.Sort(all)
	want := func(keys ...string) (w []string) {
		for _, k := range keys {
			w = append(w, uuids[k])
		}
		slices.Sort(w)
		return w
	}
	for _, c := range []struct {
		in   lambdaapi.ListEventSourceMappingsInput
		want []string
	}{
		{lambdaapi.ListEventSourceMappingsInput{}, all},
		{lambdaapi.ListEventSourceMappingsInput{MaxItems: new(int32(2))}, all},
		{lambdaapi.ListEventSourceMappingsInput{FunctionName: new("f")}, want("f "+testQueue, "f "+testStream)},
		{lambdaapi.ListEventSourceMappingsInput{FunctionName: new(testARN + "f:$LATEST"), MaxItems: new(int32(1))}, want("f:$LATEST "+testQueue, "f:$LATEST "+testStream)},
		{lambdaapi.ListEventSourceMappingsInput{EventSourceArn: new(testStream)}, want("f "+testStream, "g "+testStream, "f:$LATEST "+testStream)},
		{lambdaapi.ListEventSourceMappingsInput{EventSourceArn: new(testStream), FunctionName: new("g")}, want("g " + testStream)},
		{lambdaapi.ListEventSourceMappingsInput{FunctionName: new("nobody")}, nil},
	} {
		if got := list(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%+v lists %v, not %v", c.in, got, c.want)
		}
	}
}

func TestMappingTags(t *testing.T) {
	w, _ := newMappingWorld(t)
	ctx := t.Context()
	m := must(w.mapTo(testQueue, func(in *mappingInput) { in.Tags = map[string]string{"a": "b"} }))(t)
	must(lambdaapi.TagResource.Call(ctx, w, &lambdaapi.TagResourceInput{Resource: m.EventSourceMappingArn, Tags: map[string]string{"c": "d"}}))(t)
	must(lambdaapi.UntagResource.Call(ctx, w, &lambdaapi.UntagResourceInput{Resource: m.EventSourceMappingArn, TagKeys: []string{"a"}}))(t)
	got := must(lambdaapi.ListTags.Call(ctx, w, &lambdaapi.ListTagsInput{Resource: m.EventSourceMappingArn}))(t).Tags
	if len(got) != 1 || got["c"] != "d" {
		t.Error("tags", got)
	}
	missing := "arn:aws:lambda:eu-central-1:111122223333:event-source-mapping:00000000-0000-4000-8000-000000000000"
	_, err := lambdaapi.ListTags.Call(ctx, w, &lambdaapi.ListTagsInput{Resource: &missing})
	wantError(t, err, "ResourceNotFoundException", 404, "Event source mapping not found: "+missing)
}

// What Mayfly adds to AWS is switched on by tags.
func TestMappingBeyondAWS(t *testing.T) {
	w, engine := newMappingWorld(t)
	ctx := t.Context()
	queue := must(w.mapTo(testQueue, func(in *mappingInput) {
		in.Tags = map[string]string{"mayfly:BisectBatchOnFunctionError": "true", "mayfly:MaximumRetryAttempts": "3", "other": "x"}
	}))(t)
	w.mappingIn(*queue.UUID, "Enabled")
	if m := engine.get(*queue.UUID); !m.Bisect || m.MaxRetries != 3 || m.MaxAge != 0 || m.OnFailure != "" {
		t.Errorf("engine has %+v", m)
	}
	tag := func(arn *string, tags map[string]string) error {
		_, err := lambdaapi.TagResource.Call(ctx, w, &lambdaapi.TagResourceInput{Resource: arn, Tags: tags})
		return err
	}
	if err := tag(queue.EventSourceMappingArn, map[string]string{"mayfly:MaximumRecordAgeInSeconds": "60", "mayfly:OnFailureDestination": testQueue}); err != nil {
		t.Fatal(err)
	}
	w.mappingIn(*queue.UUID, "Enabled")
	if m := engine.get(*queue.UUID); m.MaxAge != time.Minute || m.OnFailure != testQueue || m.MaxRetries != 3 {
		t.Errorf("engine has %+v", m)
	}
	must(lambdaapi.UntagResource.Call(ctx, w, &lambdaapi.UntagResourceInput{Resource: queue.EventSourceMappingArn,
		TagKeys: []string{"mayfly:BisectBatchOnFunctionError", "mayfly:MaximumRetryAttempts", "mayfly:MaximumRecordAgeInSeconds"}}))(t)
	w.mappingIn(*queue.UUID, "Enabled")
	if m := engine.get(*queue.UUID); m.Bisect || m.MaxRetries != -1 || m.MaxAge != 0 {
		t.Errorf("engine has %+v", m)
	}
	stream := must(w.mapTo(testStream, func(in *mappingInput) {
		in.TumblingWindowInSeconds, in.Tags = new(int32(60)), map[string]string{"mayfly:SlideInSeconds": "20"}
	}))(t)
	w.mappingIn(*stream.UUID, "Enabled")
	if m := engine.get(*stream.UUID); m.Aggregate != (eventsource.Aggregate{Size: time.Minute, Slide: 20 * time.Second}) {
		t.Errorf("engine has %+v", m.Aggregate)
	}
	session := must(w.mapTo(testConsumer, func(in *mappingInput) { in.Tags = map[string]string{"mayfly:SessionGapInSeconds": "30"} }))(t)
	w.mappingIn(*session.UUID, "Enabled")
	if m := engine.get(*session.UUID); m.Aggregate != (eventsource.Aggregate{Size: 30 * time.Second, Session: true}) {
		t.Errorf("engine has %+v", m.Aggregate)
	}
	for _, c := range []struct {
		arn         *string
		name, value string
		text        string
	}{
		{queue.EventSourceMappingArn, "mayfly:MaximumRetryAttempts", "-2", "The tag mayfly:MaximumRetryAttempts must be a number from 0 to 10000"},
		{queue.EventSourceMappingArn, "mayfly:MaximumRecordAgeInSeconds", "59", "The tag mayfly:MaximumRecordAgeInSeconds must be a number from 60 to 604800"},
		{queue.EventSourceMappingArn, "mayfly:BisectBatchOnFunctionError", "perhaps", "The tag mayfly:BisectBatchOnFunctionError must be true or false"},
		{queue.EventSourceMappingArn, "mayfly:SlideInSeconds", "1", "The tag mayfly:SlideInSeconds is not for event source mappings of Amazon SQS."},
		{queue.EventSourceMappingArn, "mayfly:OnFailureDestination", testFIFO, "The provided destination config "},
		{queue.EventSourceMappingArn, "mayfly:Typo", "1", "There is no tag mayfly:Typo"},
		{stream.EventSourceMappingArn, "mayfly:SlideInSeconds", "7", "The tag mayfly:SlideInSeconds must divide TumblingWindowInSeconds."},
		{stream.EventSourceMappingArn, "mayfly:SessionGapInSeconds", "7", "The tag mayfly:SessionGapInSeconds goes with neither"},
		{stream.EventSourceMappingArn, "mayfly:MaximumRetryAttempts", "1", "The tag mayfly:MaximumRetryAttempts is not for event source mappings of Amazon Kinesis."},
	} {
		wantError(t, tag(c.arn, map[string]string{c.name: c.value}), "InvalidParameterValueException", 400, c.text)
	}
	_, err := w.mapTo(testFIFO, func(in *mappingInput) { in.Tags = map[string]string{"mayfly:Typo": "1"} })
	wantError(t, err, "InvalidParameterValueException", 400, "There is no tag mayfly:Typo")
}

// What was under way when a process ended goes on, and what was enabled runs again.
func TestMappingsAfterCrash(t *testing.T) {
	w, engine := newMappingWorld(t)
	w.created("g")
	enabled := must(w.mapTo(testQueue))(t)
	w.mappingIn(*enabled.UUID, "Enabled")
	deleting := must(w.mapTo(testStream))(t)
	w.mappingIn(*deleting.UUID, "Enabled")
	w.stop()
	creating := must(w.mapTo(testQueue, func(in *mappingInput) { in.FunctionName = new("g") }))(t)
	must(lambdaapi.DeleteEventSourceMapping.Call(t.Context(), w, &lambdaapi.DeleteEventSourceMappingInput{UUID: deleting.UUID}))(t)
	if m := must(w.readMappingNow(*creating.UUID))(t); *m.State != "Creating" {
		t.Error("nothing runs, and it is", *m.State)
	}
	engine.mu.Lock()
	engine.running = nil
	engine.mu.Unlock()
	w.restart()
	w.run()
	w.mappingIn(*creating.UUID, "Enabled")
	w.mappingIn(*deleting.UUID, "")
	deadline := time.Now().Add(2 * time.Minute)
	for engine.get(*enabled.UUID) == nil {
		if time.Now().After(deadline) {
			t.Fatal("what was enabled does not run")
		}
		time.Sleep(time.Millisecond)
	}
	if engine.get(*creating.UUID) == nil || engine.get(*deleting.UUID) != nil {
		t.Error("running", engine.running)
	}
}

// The engine knows the timeout of the function, and of the one that an update or another version of an alias brings.
func TestMappingKnowsTimeout(t *testing.T) {
	w, engine := newMappingWorld(t)
	ctx := t.Context()
	m := must(w.mapTo(testQueue))(t)
	w.mappingIn(*m.UUID, "Enabled")
	must(lambdaapi.PublishVersion.Call(ctx, w, &lambdaapi.PublishVersionInput{FunctionName: new("f")}))(t)
	must(lambdaapi.CreateAlias.Call(ctx, w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
	aliased := must(w.mapTo(testFIFO, func(in *mappingInput) { in.FunctionName = new("f:live") }))(t)
	w.mappingIn(*aliased.UUID, "Enabled")
	wait := func(uuid *string, timeout time.Duration) {
		t.Helper()
		deadline := time.Now().Add(2 * time.Minute)
		for engine.get(*uuid) == nil || engine.get(*uuid).Timeout != timeout {
			if time.Now().After(deadline) {
				t.Fatalf("engine has %+v", engine.get(*uuid))
			}
			time.Sleep(time.Millisecond)
		}
	}
	wait(m.UUID, 3*time.Second)
	must(lambdaapi.UpdateFunctionConfiguration.Call(ctx, w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(9))}))(t)
	w.settled("f")
	wait(m.UUID, 9*time.Second)
	wait(aliased.UUID, 3*time.Second)
	must(lambdaapi.UpdateAlias.Call(ctx, w, &lambdaapi.UpdateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("$LATEST")}))(t)
	wait(aliased.UUID, 9*time.Second)
	if s := *w.mappingIn(*m.UUID, "Enabled").State; s != "Enabled" {
		t.Error("a change of the function shows in the mapping:", s)
	}
}

func TestMappingOutlivesFunction(t *testing.T) {
	w, _ := newMappingWorld(t)
	m := must(w.mapTo(testQueue))(t)
	w.mappingIn(*m.UUID, "Enabled")
	must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
	w.mappingIn(*m.UUID, "Enabled")
	// It can be switched off, and not on again.
	update := &lambdaapi.UpdateEventSourceMappingInput{UUID: m.UUID, Enabled: new(false)}
	must(lambdaapi.UpdateEventSourceMapping.Call(t.Context(), w, update))(t)
	w.mappingIn(*m.UUID, "Disabled")
	update.Enabled = new(true)
	_, err := lambdaapi.UpdateEventSourceMapping.Call(t.Context(), w, update)
	wantError(t, err, "InvalidParameterValueException", 400, "Function does not exist")
	must(lambdaapi.DeleteEventSourceMapping.Call(t.Context(), w, &lambdaapi.DeleteEventSourceMappingInput{UUID: m.UUID}))(t)
	w.mappingIn(*m.UUID, "")
}

// may allows actions by name.
type may []string

func (m may) Check(_ context.Context, r authorize.Request) error {
	if slices.Contains(m, r.Action) {
		return nil
	}
	if strings.HasPrefix(r.Action, "sns:") {
		return apierr.New("AuthorizationErrorException", 403, "no")
	}
	return apierr.New("AccessDenied", 403, "no")
}

type mappedRole struct{}

func (mappedRole) Session(context.Context, string, string) (call.Principal, error) {
	return call.Principal{Type: call.AssumedRole}, nil
}
func (mappedRole) Assumable(context.Context, string, string) (bool, error) { return true, nil }

func TestMappingNeedsPermissions(t *testing.T) {
	queue := []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
	stream := []string{"kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:DescribeStream"}
	const cannot = "Cannot access stream " + testStream
	failTo := func(arn string) func(in *mappingInput) {
		return func(in *mappingInput) {
			in.DestinationConfig = &lambdaapi.DestinationConfig{OnFailure: &lambdaapi.OnFailure{Destination: &arn}}
		}
	}
	for _, c := range []struct {
		may    may
		source string
		change func(*mappingInput)
		text   string
	}{
		{nil, testQueue, nil, "The function execution role does not have permissions to call ReceiveMessage on SQS"},
		{queue[:1], testQueue, nil, "The function execution role does not have permissions to call DeleteMessage on SQS"},
		{queue[:2], testQueue, nil, "The function execution role does not have permissions to call GetQueueAttributes on SQS"},
		{queue, testQueue, nil, ""},
		{stream[1:], testStream, nil, cannot + ". Please ensure the role can perform the GetRecords, GetShardIterator, DescribeStream, and ListStreams Actions on your stream in IAM."},
		{stream[:2], testStream, nil, cannot},
		{stream, testStream, nil, ""},
		{stream, testConsumer, nil, "Cannot access stream " + testConsumer},
		{append(slices.Clone(stream), "kinesis:SubscribeToShard"), testConsumer, nil, ""},
		{stream, testStream, failTo(testQueue), "The provided execution role does not have permissions to call SendMessage on SQS"},
		{append(slices.Clone(stream), "sqs:SendMessage"), testStream, failTo(testQueue), ""},
		{stream, testStream, failTo(testTopic), "The provided execution role does not have permissions to call Publish on SNS"},
		{append(slices.Clone(stream), "sns:Publish"), testStream, failTo(testTopic), ""},
	} {
		w, _ := newMappingWorld(t, func(d *Deps) { d.Roles, d.Checker = mappedRole{}, c.may })
		change := c.change
		if change == nil {
			change = func(*mappingInput) {}
		}
		_, err := w.mapTo(c.source, change)
		if c.text == "" {
			if err != nil {
				t.Error(c.may, err)
			}
			continue
		}
		wantError(t, err, "InvalidParameterValueException", 400, c.text)
	}
}
