package server

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// BenchmarkEventSource measures how many records a second reach a Go function from a Kinesis stream of one shard and from an SQS queue, with records of
// 100 bytes that are all there at the beginning, at several batch sizes: from the mapping's creation until the last is done. The store is on the disk.
func BenchmarkEventSource(b *testing.B) {
	for _, size := range []int{1, 10, 100, 10_000} {
		b.Run(fmt.Sprintf("kinesis/batch=%d", size), func(b *testing.B) {
			i := start(b, Config{MemoryMB: 4 * 1769, DataDir: filepath.Join(b.TempDir(), "data"), Network: sandbox.NetworkNone, NoShardLimits: true})
			i.create("echo", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769)})
			streams := kinesis.NewFromConfig(i.sdk())
			if _, err := streams.CreateStream(b.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1)}); err != nil {
				b.Fatal(err)
			}
			err := kinesis.NewStreamExistsWaiter(streams, func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second }).
				Wait(b.Context(), &kinesis.DescribeStreamInput{StreamName: aws.String("s")}, time.Minute)
			if err != nil {
				b.Fatal(err)
			}
			for left := b.N; left > 0; {
				in := &kinesis.PutRecordsInput{StreamName: aws.String("s")}
				for n := range min(left, 500) {
					in.Records = append(in.Records, kinesistypes.PutRecordsRequestEntry{Data: []byte(queueBody[:100]), PartitionKey: aws.String(strconv.Itoa(n))})
				}
				out, err := streams.PutRecords(b.Context(), in)
				if err != nil {
					b.Fatal(err)
				}
				left -= len(in.Records) - int(aws.ToInt32(out.FailedRecordCount))
			}
			i.mapAll(b, "arn:aws:kinesis:us-east-1:000000000000:stream/s", size)
		})
		b.Run(fmt.Sprintf("sqs/batch=%d", size), func(b *testing.B) {
			i := startDurable(b)
			i.create("echo", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769)})
			queues := sqs.NewFromConfig(i.sdk())
			q, err := queues.CreateQueue(b.Context(), &sqs.CreateQueueInput{QueueName: aws.String("q")})
			if err != nil {
				b.Fatal(err)
			}
			for left := b.N; left > 0; left -= 10 {
				in := &sqs.SendMessageBatchInput{QueueUrl: q.QueueUrl}
				for n := range min(left, 10) {
					in.Entries = append(in.Entries, sqstypes.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(n)), MessageBody: aws.String(queueBody[:100])})
				}
				if _, err := queues.SendMessageBatch(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
			i.mapAll(b, "arn:aws:sqs:us-east-1:000000000000:q", size)
		})
	}
}

// mapAll maps a source to echo and waits until b.N records are done.
func (i *instance) mapAll(b *testing.B, source string, size int) {
	in := &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("echo"), EventSourceArn: &source, BatchSize: aws.Int32(int32(size))}
	if source[len("arn:aws:")] == 'k' {
		in.StartingPosition = lambdatypes.EventSourcePositionTrimHorizon
	} else if size > 10 {
		in.MaximumBatchingWindowInSeconds = aws.Int32(1)
	}
	b.ResetTimer()
	m, err := i.lambda().CreateEventSourceMapping(b.Context(), in)
	if err != nil {
		b.Fatal(err)
	}
	engine := i.core.Load().mappings
	for {
		s := engine.Status(b.Context(), *m.UUID).Metrics
		if s.Failed > 0 {
			b.Fatalf("%+v", s)
		}
		if s.Invoked >= int64(b.N) && s.InFlight == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
