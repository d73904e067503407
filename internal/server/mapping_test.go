package server

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/edge"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

// reports reads the reports of event source mappings as the command line does.
func (i *instance) reports(q url.Values) []MappingReport {
	i.t.Helper()
	var report DeliveryReport
	i.operator("deliveries?"+q.Encode(), &report)
	return report.Mappings
}

// operator reads what the server answers operators.
func (i *instance) operator(path string, into any) {
	i.t.Helper()
	r, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, "http://"+i.Addr().String()+"/_mayfly/"+path, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	root := i.Root()
	sigv4.Sign(r, sigv4.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}, edge.SigningName, root.Region, sigv4.EmptyPayload, time.Now())
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		i.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		i.t.Fatal(path, "answers", res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		i.t.Fatal(err)
	}
}

// eventually waits until something is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain waited for", what)
		}
	}
}

// enabled waits until a mapping is on the way to no other state.
func (i *instance) enabled(uuid *string) {
	i.t.Helper()
	eventually(i.t.(*testing.T), "a mapping", func() bool {
		out, err := i.lambda().GetEventSourceMapping(i.t.Context(), &lambda.GetEventSourceMappingInput{UUID: uuid})
		if err != nil {
			i.t.Fatal(err)
		}
		return *out.State == "Enabled"
	})
}

// A mapping reads as long as the role of its function may, and goes on where it was when the server starts again.
func TestMappingOfQueue(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	i := start(t, Config{DataDir: dir})
	ctx := t.Context()
	i.create("f", lambda.CreateFunctionInput{Code: echoCode(t)})
	made, err := sqs.NewFromConfig(i.sdk()).CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("q")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := i.lambda().CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("f"), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000000:q"),
		FilterCriteria: &types.FilterCriteria{Filters: []types.Filter{{Pattern: aws.String(`{"body":["take"]}`)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	i.enabled(m.UUID)
	send := func(body string) string {
		t.Helper()
		out, err := sqs.NewFromConfig(i.sdk()).SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: &body})
		if err != nil {
			t.Fatal(err)
		}
		return *out.MessageId
	}
	became := func(id string, state eventsource.State) func() bool {
		return func() bool {
			all := i.reports(url.Values{"record": {id}, "mapping": {*m.UUID}})
			return len(all) == 1 && all[0].Record != nil && all[0].Record.State == state
		}
	}
	eventually(t, "a message", became(send("take"), eventsource.Processed))
	eventually(t, "the filter", became(send("leave"), eventsource.Filtered))
	eventually(t, "the report", func() bool { // a message counts as deleted a moment after it was processed
		all := i.reports(url.Values{"mapping": {"function:f"}})
		return len(all) == 1 && all[0].Metrics.Filtered == 1 && all[0].Metrics.Deleted == 2 && all[0].Result == "OK" && all[0].State == "Enabled"
	})
	if all := i.reports(url.Values{"mapping": {"another"}}); len(all) != 0 {
		t.Errorf("report %+v", all)
	}

	roles := iam.NewFromConfig(i.sdk())
	if _, err := roles.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: aws.String("test"), PolicyName: aws.String("everything")}); err != nil {
		t.Fatal(err)
	}
	waits := send("take")
	for pattern, takes := range map[string]bool{`{"body":["take"]}`: true, `{"body":["leave"]}`: false} {
		eventually(t, "a dry run", func() bool { // unless the mapping is just trying to take it
			all := i.reports(url.Values{"filter": {pattern}})
			return len(all[0].Trials) == 1 && all[0].Trials[0].ID == waits && all[0].Trials[0].Takes == takes && (len(all[0].Trials[0].Why) == 0) == takes
		})
	}
	eventually(t, "a refusal", func() bool {
		all := i.reports(nil)
		return strings.HasPrefix(all[0].Result, "PROBLEM: ") && all[0].Metrics.Errors > 0 && strings.Contains(all[0].Reason, "may not read the source")
	})
	i.role()
	eventually(t, "the message that waited", became(waits, eventsource.Processed))

	if err := i.stop(); err != nil {
		t.Fatal(err)
	}
	i = start(t, Config{DataDir: dir})
	eventually(t, "a message after another start", became(send("take"), eventsource.Processed))
}

// A stream with its records in front of a failing destination: see that what is asked of a stream's record is answered through all layers.
func TestMappingOfStream(t *testing.T) {
	i := start(t, Config{})
	ctx := t.Context()
	i.create("f", lambda.CreateFunctionInput{Code: echoCode(t)})
	streams := kinesis.NewFromConfig(i.sdk())
	if _, err := streams.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream", func() bool {
		out, err := streams.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("s")})
		if err != nil {
			t.Fatal(err)
		}
		return out.StreamDescriptionSummary.StreamStatus == kinesistypes.StreamStatusActive
	})
	put := func(data string) string {
		t.Helper()
		out, err := streams.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		return *out.SequenceNumber
	}
	first, second := put(`{"a":1}`), put(`{"a":2}`)
	m, err := i.lambda().CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("f"), EventSourceArn: aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/s"), StartingPosition: types.EventSourcePositionTrimHorizon,
		FilterCriteria: &types.FilterCriteria{Filters: []types.Filter{{Pattern: aws.String(`{"data":{"a":[1]}}`)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	i.enabled(m.UUID)
	for id, state := range map[string]eventsource.State{first: eventsource.Processed, second: eventsource.Filtered, "12345": eventsource.Unknown} {
		eventually(t, string(state), func() bool {
			all := i.reports(url.Values{"record": {id}})
			return len(all) == 1 && all[0].Record != nil && all[0].Record.State == state
		})
	}
	if all := i.reports(url.Values{"filter": {`{"data":["plain"]}`}}); len(all) != 1 || all[0].Trouble != "Invalid filter pattern definition." {
		t.Errorf("report %+v", all)
	}
}

// A mapping of a consumer with enhanced fan-out needs the permission to subscribe and none to get records, takes nothing of what others may read of the shard,
// ends with its role's permission and goes on with it, and with the consumer.
func TestMappingOfConsumer(t *testing.T) {
	i := start(t, Config{})
	ctx := t.Context()
	i.create("f", lambda.CreateFunctionInput{Code: echoCode(t)})
	streams := kinesis.NewFromConfig(i.sdk())
	const stream = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	if _, err := streams.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream", func() bool {
		out, err := streams.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("s")})
		return err == nil && out.StreamDescriptionSummary.StreamStatus == kinesistypes.StreamStatusActive
	})
	made, err := streams.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: aws.String(stream), ConsumerName: aws.String("c")})
	if err != nil {
		t.Fatal(err)
	}
	consumer := *made.Consumer.ConsumerARN
	roles := iam.NewFromConfig(i.sdk())
	allow := func(action, resource string) {
		t.Helper()
		if _, err := roles.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("test"), PolicyName: aws.String("everything"), PolicyDocument: aws.String(
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kinesis:DescribeStream","Resource":"` + stream + `"},` +
				`{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}]}`)}); err != nil {
			t.Fatal(err)
		}
	}
	in := &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("f"), EventSourceArn: &consumer, StartingPosition: types.EventSourcePositionTrimHorizon}
	allow("kinesis:GetRecords", stream)
	if _, err := i.lambda().CreateEventSourceMapping(ctx, in); err == nil || !strings.Contains(err.Error(), "Cannot access stream "+consumer) {
		t.Error("mapped without permission to subscribe:", err)
	}
	allow("kinesis:SubscribeToShard", consumer)
	m, err := i.lambda().CreateEventSourceMapping(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	i.enabled(m.UUID)
	put := func() string {
		t.Helper()
		out, err := streams.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		return *out.SequenceNumber
	}
	processed := func(id string) func() bool {
		return func() bool {
			all := i.reports(url.Values{"record": {id}})
			return len(all) == 1 && all[0].Record != nil && all[0].Record.State == eventsource.Processed
		}
	}
	result := func() string { return i.reports(nil)[0].Result }
	for range 10 {
		eventually(t, "a record", processed(put()))
	}
	at, err := streams.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: aws.String("shardId-000000000000"), ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // all that the shard allows in a second
		if out, err := streams.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: at.ShardIterator}); err != nil || len(out.Records) != 10 {
			t.Fatalf("%+v, %v", out, err)
		}
	}

	allow("kinesis:GetRecords", stream)
	waits := put()
	eventually(t, "a refusal", func() bool {
		return strings.HasPrefix(result(), "PROBLEM: ") && strings.Contains(result(), "not authorized to perform: kinesis:SubscribeToShard")
	})
	allow("kinesis:SubscribeToShard", consumer)
	eventually(t, "the record that waited", processed(waits))

	if _, err := streams.DeregisterStreamConsumer(ctx, &kinesis.DeregisterStreamConsumerInput{ConsumerARN: &consumer}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the consumer", func() bool { return strings.Contains(result(), "PROBLEM: Consumer "+consumer) })
}

// A function that was switched off goes on with what its mapping has for it when it is switched on.
func TestMappingOfFunctionSwitchedOff(t *testing.T) {
	i := start(t, Config{})
	ctx := t.Context()
	i.create("f", lambda.CreateFunctionInput{Code: echoCode(t)})
	made, err := sqs.NewFromConfig(i.sdk()).CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("q")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.lambda().PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("f"), ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	m, err := i.lambda().CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("f"), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000000:q"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sqs.NewFromConfig(i.sdk()).SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: aws.String("m")}); err != nil {
		t.Fatal(err)
	}
	metrics := func() eventsource.Metrics { return i.core.Load().mappings.Status(ctx, *m.UUID).Metrics }
	eventually(t, "a throttle", func() bool { return metrics().Throttles > 0 })
	if _, err := i.lambda().DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "the message", func() bool { return metrics().Deleted == 1 })
	t.Logf("processed %v after it was switched on, %+v", time.Since(began), metrics())
}
