package stress

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// TestEventSourcesSurviveKills kills the server again and again while functions get records from a stream and messages from a queue. Every acknowledged
// one is processed at least once, those of a partition key in order, only bad ones are given up and each of them is, and the windows' sums are exact.
func TestEventSourcesSurviveKills(t *testing.T) {
	needSandboxes(t)
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	s := newInstance(t)
	var mu sync.Mutex
	acknowledged, bad := map[string]bool{}, map[string]bool{} // records of the stream
	sent := map[string]bool{}                                 // messages
	number := 0
	for round := range rounds {
		s.start()
		streams, queues := kinesis.NewFromConfig(s.config), s.sqs()
		if round == 0 {
			s.mapSources(streams)
		}
		queue := s.url("source")
		var dead atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !dead.Load() {
				in := &kinesis.PutRecordsInput{StreamName: aws.String("s")}
				for range 20 {
					number++
					key, data := fmt.Sprint("k", number%20), fmt.Sprintf("k%d-%d", number%20, number)
					if number%97 == 0 {
						data += "-bad"
					}
					in.Records = append(in.Records, kinesistypes.PutRecordsRequestEntry{PartitionKey: &key, Data: []byte(data)})
				}
				out, err := streams.PutRecords(t.Context(), in)
				if err != nil {
					continue
				}
				mu.Lock()
				for i, r := range out.Records {
					data := string(in.Records[i].Data)
					switch {
					case r.SequenceNumber == nil:
					case strings.HasSuffix(data, "-bad"):
						bad[data] = true
					default:
						acknowledged[data] = true
					}
				}
				mu.Unlock()
				time.Sleep(50 * time.Millisecond) // the machine has to process them all
			}
		})
		wg.Go(func() {
			for n := 0; !dead.Load(); n++ {
				in := &sqs.SendMessageBatchInput{QueueUrl: queue}
				for i := range 10 {
					in.Entries = append(in.Entries, sqstypes.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(fmt.Sprintf("m-%d-%d-%d", round, n, i))})
				}
				if out, err := queues.SendMessageBatch(t.Context(), in); err == nil && len(out.Failed) == 0 {
					mu.Lock()
					for _, e := range in.Entries {
						sent[*e.MessageBody] = true
					}
					mu.Unlock()
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		time.Sleep(time.Duration(500+rand.N(1500)) * time.Millisecond)
		s.kill()
		dead.Store(true)
		wg.Wait()
	}
	s.start()
	streams := kinesis.NewFromConfig(s.config)
	// The window in which the last record is ends with the next record's.
	s.again("the last record", func() error {
		_, err := streams.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("end"), Data: []byte("end-0")})
		return err
	})
	var got []string
	var lost int
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(time.Second) {
		got = s.noted("plain")
		lost = missing(acknowledged, got) + missing(sent, s.noted("queue"))
		if lost == 0 || time.Now().After(deadline) {
			break
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d records and %d messages were not processed", lost, len(acknowledged), len(sent))
	}
	last, seen, sum := map[string]int{}, map[string]bool{}, 0
	for _, data := range got {
		if seen[data] {
			continue
		}
		seen[data] = true
		key, n, _ := strings.Cut(data, "-")
		i, _ := strconv.Atoi(n)
		if sum += i; i < last[key] {
			t.Errorf("%s was processed after number %d of its key", data, last[key])
		}
		last[key] = i
	}
	var sums int
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		sums = 0
		for line, n := range s.tokens("window", "sum ") { // shard, start and sum: a line that comes again is the same
			f := strings.Fields(line)
			i, _ := strconv.Atoi(f[2])
			if sums += i; n > 1 {
				t.Logf("the end of window %s came %d times", line, n)
			}
		}
		if sums == sum || time.Now().After(deadline) {
			break
		}
	}
	if sums != sum {
		t.Errorf("the sums of all windows are %d, those of all records %d", sums, sum)
	}
	gone := 0
	for deadline := time.Now().Add(time.Minute); gone < len(bad) && time.Now().Before(deadline); {
		var out *sqs.ReceiveMessageOutput
		s.again("what was given up", func() (err error) {
			out, err = s.sqs().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: s.url("dead"), MaxNumberOfMessages: 10, WaitTimeSeconds: 1})
			return err
		})
		for _, m := range out.Messages {
			var record struct {
				Info struct {
					BatchSize int `json:"batchSize"`
				} `json:"KinesisBatchInfo"`
			}
			if err := json.Unmarshal([]byte(*m.Body), &record); err != nil || record.Info.BatchSize != 1 {
				t.Errorf("given up: %v, %s", err, *m.Body)
			}
			gone++
		}
	}
	if gone < len(bad) {
		t.Errorf("%d records were given up, %d are bad", gone, len(bad))
	}
	t.Logf("%d kills, %d records in %d and %d messages, %d given up", rounds, len(acknowledged), len(got), len(sent), gone)
	s.stop()
}

// mapSources makes the sources, the functions and what joins them.
func (s *instance) mapSources(streams *kinesis.Client) {
	s.t.Helper()
	f := provided
	f.files, f.timeout = map[string][]byte{"bootstrap": bootstrap}, 5
	for _, name := range []string{"plain", "window", "queue"} {
		s.create(name, f)
	}
	if _, err := streams.CreateStream(s.t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(2)}); err != nil {
		s.t.Fatal(err)
	}
	wait := kinesis.NewStreamExistsWaiter(streams, func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = 10*time.Millisecond, time.Second })
	if err := wait.Wait(s.t.Context(), &kinesis.DescribeStreamInput{StreamName: aws.String("s")}, time.Minute); err != nil {
		s.t.Fatal(err)
	}
	s.queue("source", map[string]string{"VisibilityTimeout": "6"})
	s.queue("dead", map[string]string{"VisibilityTimeout": "3600"})
	const of = ":us-east-1:000000000000:"
	stream := &lambda.CreateEventSourceMappingInput{
		EventSourceArn: aws.String("arn:aws:kinesis" + of + "stream/s"), StartingPosition: types.EventSourcePositionTrimHorizon, BatchSize: aws.Int32(50),
		BisectBatchOnFunctionError: aws.Bool(true), MaximumRetryAttempts: aws.Int32(1),
	}
	plain, window := *stream, *stream
	plain.FunctionName, plain.ParallelizationFactor = aws.String("plain"), aws.Int32(4)
	plain.DestinationConfig = &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: aws.String("arn:aws:sqs" + of + "dead")}}
	window.FunctionName, window.TumblingWindowInSeconds = aws.String("window"), aws.Int32(2)
	for _, in := range []*lambda.CreateEventSourceMappingInput{
		&plain, &window, {FunctionName: aws.String("queue"), EventSourceArn: aws.String("arn:aws:sqs" + of + "source")},
	} {
		if _, err := s.lambda().CreateEventSourceMapping(s.t.Context(), in); err != nil {
			s.t.Fatal(err)
		}
	}
}

// noted is the records that a function has noted, in order.
func (s *instance) noted(function string) (all []string) {
	p := cloudwatchlogs.NewFilterLogEventsPaginator(s.logs(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/" + function)})
	for p.HasMorePages() {
		page, err := p.NextPage(s.t.Context())
		if err != nil {
			return all // there is no log yet
		}
		for _, e := range page.Events {
			if line, ok := strings.CutPrefix(*e.Message, "records "); ok {
				all = append(all, strings.Fields(line)...)
			}
		}
	}
	return all
}

// missing counts what is not there.
func missing(want map[string]bool, got []string) (n int) {
	there := map[string]bool{}
	for _, x := range got {
		there[x] = true
	}
	for x := range want {
		if !there[x] {
			n++
		}
	}
	return n
}
