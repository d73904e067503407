package server

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

const (
	benchStream = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	benchQueue  = "arn:aws:sqs:us-east-1:000000000000:q"
)

// BenchmarkEventSource measures how many records of 100 bytes a second reach a Go function from a Kinesis stream of one shard, from a consumer of it with enhanced
// fan-out, and from an SQS queue, at several batch sizes: all are there at the beginning, and the function is warm. It counts from the mapping's creation until the last
// is done. cpu-us/record is the CPU time of this process and of the function. The store is on the disk.
//
// The source alone is the baseline: the same records read by GetRecords, and received and deleted by 16 clients, in this process and by ten as SQS has it.
//
// At batch size 1 there are a tenth of the records.
func BenchmarkEventSource(b *testing.B) {
	for _, source := range []struct {
		name, arn string
		fill      func(i *instance, b *testing.B, n int)
		drain     func(i *instance, b *testing.B, n int)
	}{{"kinesis", benchStream, (*instance).fillStream, (*instance).readStream}, {"fanout", "", (*instance).fillStream, nil}, {"sqs", benchQueue, (*instance).fillQueue, (*instance).drainQueue}} {
		if source.drain != nil {
			b.Run(source.name+"/source", func(b *testing.B) {
				i := startSource(b)
				source.fill(i, b, b.N)
				i.measure(b, b.N, func() { source.drain(i, b, b.N) })
			})
		}
		for _, size := range []int{1, 10, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/batch=%d", source.name, size), func(b *testing.B) {
				n := b.N
				if size == 1 {
					n = max(1, n/10)
				}
				i := startSource(b)
				i.program(b, "sink")
				source.fill(i, b, n)
				from := source.arn
				if from == "" {
					from = i.consumer(b)
				}
				i.measure(b, n, func() { i.finish(b, i.mapTo(b, from, "sink", size), n) })
			})
		}
	}
}

func startSource(b *testing.B) *instance {
	return start(b, Config{MemoryMB: 4 * 1769, DataDir: filepath.Join(b.TempDir(), "data"), Network: sandbox.NetworkNone, NoShardLimits: true})
}

// program makes a function of testdata/bootstrap with a handler, named after that, and warms it.
func (i *instance) program(b *testing.B, handler string) {
	i.create(handler, lambda.CreateFunctionInput{Code: echoCode(b), Runtime: lambdatypes.RuntimeProvidedal2023, Handler: &handler, MemorySize: aws.Int32(1769)})
	if _, err := i.invoke(handler, "{}"); err != nil {
		b.Fatal(err)
	}
}

// measure reports the records a second of f, which sees n through, and their CPU time.
func (i *instance) measure(b *testing.B, n int, f func()) {
	before := cpu() + cpuOfChildren(os.Getpid())
	b.ResetTimer()
	f()
	b.StopTimer()
	used := cpu() + cpuOfChildren(os.Getpid()) - before
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(n), "cpu-us/record")
}

// cpuOfChildren is the CPU time that the processes which a process has started, and theirs, have used until now.
func cpuOfChildren(pid int) (sum time.Duration) {
	for _, c := range children(pid) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c))
		for _, task := range tasks {
			text, _ := os.ReadFile(task)
			ran, _, _ := strings.Cut(string(text), " ")
			n, _ := strconv.ParseInt(ran, 10, 64)
			sum += time.Duration(n)
		}
		sum += cpuOfChildren(c)
	}
	return sum
}

// stream makes the stream s of one shard.
func (i *instance) stream(b *testing.B) {
	streams := kinesis.NewFromConfig(i.sdk())
	if _, err := streams.CreateStream(b.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1)}); err != nil {
		b.Fatal(err)
	}
	err := kinesis.NewStreamExistsWaiter(streams, func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second }).
		Wait(b.Context(), &kinesis.DescribeStreamInput{StreamName: aws.String("s")}, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
}

// consumer registers a consumer of the stream s and waits until it is active.
func (i *instance) consumer(b *testing.B) string {
	streams := kinesis.NewFromConfig(i.sdk())
	c, err := streams.RegisterStreamConsumer(b.Context(), &kinesis.RegisterStreamConsumerInput{StreamARN: aws.String(benchStream), ConsumerName: aws.String("c")})
	if err != nil {
		b.Fatal(err)
	}
	for {
		d, err := streams.DescribeStreamConsumer(b.Context(), &kinesis.DescribeStreamConsumerInput{ConsumerARN: c.Consumer.ConsumerARN})
		if err != nil {
			b.Fatal(err)
		}
		if d.ConsumerDescription.ConsumerStatus == "ACTIVE" {
			return *c.Consumer.ConsumerARN
		}
		time.Sleep(time.Millisecond)
	}
}

func (i *instance) fillStream(b *testing.B, n int) {
	i.stream(b)
	ctx := i.gateQueues(b).ctx
	for left := n; left > 0; {
		in := &kinesisapi.PutRecordsInput{StreamName: new("s")}
		for k := range min(left, 500) {
			in.Records = append(in.Records, kinesisapi.PutRecordsRequestEntry{Data: []byte(queueBody[:100]), PartitionKey: new(strconv.Itoa(k))})
		}
		if _, err := kinesisapi.PutRecords.Call(ctx, i.Server, in); err != nil {
			b.Fatal(err)
		}
		left -= len(in.Records)
	}
}

// readStream reads the n records of the stream.
func (i *instance) readStream(b *testing.B, n int) {
	ctx := i.gateQueues(b).ctx
	at, err := kinesisapi.GetShardIterator.Call(ctx, i.Server, &kinesisapi.GetShardIteratorInput{StreamName: new("s"), ShardId: new("shardId-000000000000"), ShardIteratorType: new("TRIM_HORIZON")})
	if err != nil {
		b.Fatal(err)
	}
	for next := at.ShardIterator; n > 0; {
		out, err := kinesisapi.GetRecords.Call(ctx, i.Server, &kinesisapi.GetRecordsInput{ShardIterator: next})
		if err != nil {
			b.Fatal(err)
		}
		next, n = out.NextShardIterator, n-len(out.Records)
	}
}

func (i *instance) queue(b *testing.B, name string) string {
	url, err := i.gateQueues(b).create(name, false)
	if err != nil {
		b.Fatal(err)
	}
	return url
}

func (i *instance) fillQueue(b *testing.B, n int) {
	url := i.queue(b, "q")
	client := i.gateQueues(b)
	var left atomic.Int64
	left.Store(int64(n))
	i.together(16, func() bool {
		some := min(int(left.Add(-10)+10), 10)
		if some <= 0 {
			return false
		}
		in := &sqsapi.SendMessageBatchInput{QueueUrl: &url}
		for k := range some {
			in.Entries = append(in.Entries, sqsapi.SendMessageBatchRequestEntry{Id: new(strconv.Itoa(k)), MessageBody: new(queueBody[:100])})
		}
		if _, err := sqsapi.SendMessageBatch.Call(client.ctx, i.Server, in); err != nil {
			b.Error(err)
			return false
		}
		return true
	})
}

// drainQueue receives and deletes the n messages of the queue.
func (i *instance) drainQueue(b *testing.B, n int) {
	client := i.gateQueues(b)
	url := "https://sqs.us-east-1.amazonaws.com/000000000000/q"
	var left atomic.Int64
	left.Store(int64(n))
	i.together(16, func() bool {
		handles, err := client.receive(0, url, 10, 0)
		if err == nil && len(handles) > 0 {
			err = client.remove(0, url, handles)
		}
		if err != nil {
			b.Error(err)
			return false
		}
		return left.Add(-int64(len(handles))) > 0
	})
}

// together calls f from n goroutines until it returns false.
func (i *instance) together(n int, f func() bool) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for f() {
			}
		})
	}
	wg.Wait()
}

// mapTo maps a source to a function, from its oldest record on, and returns the mapping's id.
func (i *instance) mapTo(b *testing.B, source, function string, size int) string {
	in := &lambdaapi.CreateEventSourceMappingInput{FunctionName: &function, EventSourceArn: &source, BatchSize: new(int32(size))}
	if strings.HasPrefix(source, "arn:aws:kinesis:") {
		in.StartingPosition = new(lambdaapi.EventSourcePositionTrimHorizon)
	} else if size > 10 {
		in.MaximumBatchingWindowInSeconds = new(int32(1))
	}
	m, err := lambdaapi.CreateEventSourceMapping.Call(i.gateQueues(b).ctx, i.Server, in)
	if err != nil {
		b.Fatal(err)
	}
	return *m.UUID
}

// finish waits until a mapping has invoked its function with n records in all.
func (i *instance) finish(b *testing.B, mapping string, n int) {
	engine := i.core.Load().mappings
	for {
		s := engine.Status(b.Context(), mapping).Metrics
		if s.Failed > 0 {
			b.Fatalf("%+v", s)
		}
		if s.Invoked >= int64(n) && s.InFlight == 0 {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// BenchmarkRecordLatency measures how long a single record or message takes from before PutRecord or SendMessage, over HTTP, until the warm function that it is for
// has it; beside an invocation of the same function by the same client.
func BenchmarkRecordLatency(b *testing.B) {
	for _, c := range []struct{ name, source string }{{"invoke", ""}, {"kinesis", benchStream}, {"fanout", benchStream}, {"sqs", benchQueue}} {
		b.Run(c.name, func(b *testing.B) {
			i := startSource(b)
			i.program(b, "clock")
			source := c.source
			send := func() error { _, err := i.invoke("clock", "{}"); return err }
			switch source {
			case benchStream:
				i.stream(b)
				client := kinesis.NewFromConfig(i.sdk())
				send = func() error {
					_, err := client.PutRecord(b.Context(), &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: []byte("x")})
					return err
				}
			case benchQueue:
				url := i.queue(b, "q")
				client := sqs.NewFromConfig(i.sdk())
				send = func() error {
					_, err := client.SendMessage(b.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x")})
					return err
				}
			}
			if c.name == "fanout" {
				source = i.consumer(b)
			}
			mapping := ""
			if source != "" {
				mapping = i.mapTo(b, source, "clock", 1)
			}
			sent := make([]time.Time, b.N+1) // the first is to warm what there is to warm
			for k := range sent {
				if k == 1 {
					b.ResetTimer()
				}
				sent[k] = time.Now()
				if err := send(); err != nil {
					b.Fatal(err)
				}
				if mapping != "" {
					i.finish(b, mapping, k+1)
				}
			}
			b.StopTimer()
			late := i.starts(b, len(sent)+1)[1:] // the invocation of program
			for k := range late {
				late[k] -= sent[k].UnixNano()
			}
			late = late[1:]
			slices.Sort(late)
			b.ReportMetric(float64(late[len(late)/2])/1000, "p50-us")
			b.ReportMetric(float64(late[len(late)*99/100])/1000, "p99-us")
		})
	}
}

// starts are the times, in nanoseconds since 1970 and in order, at which the function "clock" began, once it has begun n times.
func (i *instance) starts(b *testing.B, n int) (all []int64) {
	client := cloudwatchlogs.NewFromConfig(i.sdk())
	for len(all) < n {
		time.Sleep(10 * time.Millisecond)
		all = all[:0]
		pages := cloudwatchlogs.NewFilterLogEventsPaginator(client, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/clock"), FilterPattern: aws.String(`"start "`)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(b.Context())
			if err != nil {
				break // there is no log yet
			}
			for _, e := range page.Events {
				if at, ok := strings.CutPrefix(strings.TrimSpace(*e.Message), "start "); ok {
					ns, err := strconv.ParseInt(at, 10, 64)
					if err != nil {
						b.Fatal(err)
					}
					all = append(all, ns)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// BenchmarkIdleMappings measures what a thousand mappings with nothing to do cost, of queues and of streams half and half: the memory that this process grows by,
// and its CPU time beside that of the same server before there were any. Then how long each of forty takes from before a message is sent or a record put, in this process, until
// the warm function has it.
func BenchmarkIdleMappings(b *testing.B) {
	const mappings, wakes = 1000, 40
	i := startSource(b)
	i.program(b, "clock")
	client := i.gateQueues(b)
	sources := make([]string, mappings)
	send := make([]func() error, mappings)
	for k := range mappings {
		name := fmt.Sprint("idle", k)
		if k%2 == 0 {
			url := i.queue(b, name)
			sources[k] = "arn:aws:sqs:us-east-1:000000000000:" + name
			send[k] = func() error {
				_, err := sqsapi.SendMessage.Call(client.ctx, i.Server, &sqsapi.SendMessageInput{QueueUrl: &url, MessageBody: new("x")})
				return err
			}
			continue
		}
		if _, err := kinesisapi.CreateStream.Call(client.ctx, i.Server, &kinesisapi.CreateStreamInput{StreamName: &name, ShardCount: new(int32(1))}); err != nil {
			b.Fatal(err)
		}
		sources[k] = "arn:aws:kinesis:us-east-1:000000000000:stream/" + name
		send[k] = func() error {
			_, err := kinesisapi.PutRecord.Call(client.ctx, i.Server, &kinesisapi.PutRecordInput{StreamName: &name, PartitionKey: new("k"), Data: []byte("x")})
			return err
		}
	}
	const watched = 5 * time.Second
	settle := func() (bytes int64, used time.Duration) {
		time.Sleep(2 * time.Second)
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		before := cpu()
		time.Sleep(watched)
		return int64(m.HeapAlloc + m.StackInuse), cpu() - before
	}
	for b.Loop() {
		memory, idle := settle()
		ids := make([]string, mappings)
		for k, source := range sources {
			ids[k] = i.mapTo(b, source, "clock", 1)
		}
		more, used := settle()
		var sent []time.Time
		for k := range wakes {
			sent = append(sent, time.Now())
			if err := send[k*mappings/wakes+k%2](); err != nil {
				b.Fatal(err)
			}
			i.finish(b, ids[k*mappings/wakes+k%2], 1)
		}
		var late []int64
		for k, at := range i.starts(b, wakes+1)[1:] {
			late = append(late, at-sent[k].UnixNano())
		}
		b.ReportMetric(float64(more-memory)/(1<<20), "MiB")
		b.ReportMetric(float64((used-idle).Milliseconds())/watched.Seconds(), "cpu-ms/s")
		b.ReportMetric(float64(idle.Milliseconds())/watched.Seconds(), "without-cpu-ms/s")
		b.ReportMetric(float64(slices.Max(late))/1e6, "latest-wake-ms")
	}
}
