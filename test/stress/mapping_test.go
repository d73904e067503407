package stress

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// What TestEventSourcesSurviveKills puts and sends.
const (
	pipelineKeys   = 199 // partition keys, and message groups
	pipelineBatch  = 500 // records of a batch
	pipelineShards = 3   // in the beginning
)

// pipelineFunctions are what reads the stream, and in how many lanes at most.
var pipelineFunctions = map[string]int{"bisect": 3, "checkpoint": 2, "window": 1, "steady": 4, "doomed": 1}

// TestEventSourcesSurviveKills kills the server again and again while functions, failing now and then, get records of a stream that is resharded,
// one of them by enhanced fan-out, and messages of a standard and a FIFO queue, and while mappings are changed, switched off, deleted and made
// anew. RECORDS says how many records and messages there are together, KILLS how often it is killed. Then
//   - every record and message that was acknowledged, or is there although it was not, was processed by each function, but those that always
//     fail: they, and nothing else, are at the destinations and in the dead-letter queues;
//   - those of a partition key or group were first processed in order;
//   - no record of the stream was processed again but after a kill, and then no more than the last batches;
//   - the windows of a shard are made of its records, each in one, in order, and their sums are exact;
//   - of deleted mappings nothing is left.
func TestEventSourcesSurviveKills(t *testing.T) {
	needSandboxes(t)
	p := &pipeline{
		instance: newInstance(t, "--no-shard-limits", "--memory", "32768"),
		records:  number(t, "RECORDS", 100_000, 10_000), kills: number(t, "KILLS", 10, 3),
		acked: map[string][]int{}, tried: map[string]int{}, kinds: map[int]string{}, numbers: map[int]string{}, deleted: map[string]bool{}, at: "",
	}
	for n := range p.kills {
		p.start()
		if n == 0 {
			p.build()
		}
		p.generation(n)
	}
	p.start()
	p.generation(p.kills)
	p.finish()
}

// number reads a number of the environment.
func number(t *testing.T, name string, usual, short int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" && testing.Short() {
		return short
	}
	if v == "" {
		return usual
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// pipeline is what is known of the pipeline under test.
type pipeline struct {
	*instance
	records, kills int

	mu      sync.Mutex
	next    int              // number of the next record or message
	tried   map[string]int   // how many are acknowledged or on their way, by source
	acked   map[string][]int // acknowledged numbers, by source
	kinds   map[int]string   // of those that are special
	numbers map[int]string   // sequence numbers of acknowledged records
	deleted map[string]bool  // mappings whose deletion was acknowledged
	made    []string         // mappings that were made
	steady  string           // the mapping that is changed
	fanOut  string           // the stream's consumer, through which one function reads
	killed  []time.Time

	reports []arrival // in order
	at      string    // the last report's sequence number
	count   atomic.Int64
}

// report is what a function says that it has done.
type report struct {
	Request, Function, Shard string
	Done                     []int
	Window                   string
	State                    struct{ Count, Sum int }
}

type arrival struct {
	report
	generation int
}

const pipelineARN = ":us-east-1:000000000000:"

// build makes the sources, the functions and what joins them.
func (p *pipeline) build() {
	t := p.t
	path := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./consumer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	consumer, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := provided
	f.files, f.timeout = map[string][]byte{"bootstrap": consumer}, 60
	for name := range pipelineFunctions {
		p.create(name, f)
	}
	f.timeout = 10
	p.create("standard", f)
	p.create("fifo", f)
	for name, shards := range map[string]int32{"reports": 1, "records": pipelineShards} {
		if _, err := p.streams().CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards}); err != nil {
			t.Fatal(err)
		}
		wait := kinesis.NewStreamExistsWaiter(p.streams(), func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = 10*time.Millisecond, time.Second })
		if err := wait.Wait(t.Context(), &kinesis.DescribeStreamInput{StreamName: &name}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for _, fifo := range []string{"", ".fifo"} {
		// A message is received once for each kill that it was in flight at, and once for each other trouble.
		redrive := fmt.Sprintf(`{"deadLetterTargetArn":"arn:aws:sqs%sdead%s","maxReceiveCount":%d}`, pipelineARN, fifo, p.kills+6)
		dead, source := map[string]string{}, map[string]string{"VisibilityTimeout": "12", "RedrivePolicy": redrive}
		if fifo != "" {
			dead["FifoQueue"], source["FifoQueue"] = "true", "true"
		}
		p.queue("dead"+fifo, dead)
		p.queue("source"+fifo, source)
	}
	p.queue("lost", nil)
	registered, err := p.streams().RegisterStreamConsumer(t.Context(), &kinesis.RegisterStreamConsumerInput{
		StreamARN: aws.String("arn:aws:kinesis" + pipelineARN + "stream/records"), ConsumerName: aws.String("fan-out"),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.fanOut = *registered.Consumer.ConsumerARN
	awaitThat(t, "active consumer", func() bool {
		out, err := p.streams().DescribeStreamConsumer(t.Context(), &kinesis.DescribeStreamConsumerInput{ConsumerARN: &p.fanOut})
		return err == nil && out.ConsumerDescription.ConsumerStatus == kinesistypes.ConsumerStatusActive
	})
	report := []types.FunctionResponseType{types.FunctionResponseTypeReportBatchItemFailures}
	lost := &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: aws.String("arn:aws:sqs" + pipelineARN + "lost")}}
	for _, in := range []*lambda.CreateEventSourceMappingInput{
		{FunctionName: aws.String("bisect"), ParallelizationFactor: aws.Int32(3), BisectBatchOnFunctionError: aws.Bool(true), MaximumRetryAttempts: aws.Int32(1), DestinationConfig: lost},
		{FunctionName: aws.String("checkpoint"), EventSourceArn: &p.fanOut, ParallelizationFactor: aws.Int32(2), FunctionResponseTypes: report, MaximumRetryAttempts: aws.Int32(1), DestinationConfig: lost},
		{FunctionName: aws.String("window"), TumblingWindowInSeconds: aws.Int32(1)},
		{FunctionName: aws.String("steady")},
		{FunctionName: aws.String("doomed")},
		{FunctionName: aws.String("standard"), EventSourceArn: aws.String("arn:aws:sqs" + pipelineARN + "source"), BatchSize: aws.Int32(100),
			MaximumBatchingWindowInSeconds: aws.Int32(1), FunctionResponseTypes: report},
		{FunctionName: aws.String("fifo"), EventSourceArn: aws.String("arn:aws:sqs" + pipelineARN + "source.fifo"), BatchSize: aws.Int32(10), FunctionResponseTypes: report},
	} {
		uuid, err := p.mapSource(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if *in.FunctionName == "steady" {
			p.steady = uuid
		}
	}
}

// mapSource makes a mapping, of the stream if there is no other source.
func (p *pipeline) mapSource(ctx context.Context, in *lambda.CreateEventSourceMappingInput) (string, error) {
	if in.EventSourceArn == nil {
		in.EventSourceArn = aws.String("arn:aws:kinesis" + pipelineARN + "stream/records")
	}
	if in.BatchSize == nil {
		in.StartingPosition, in.BatchSize = types.EventSourcePositionTrimHorizon, aws.Int32(pipelineBatch)
	}
	out, err := p.lambda().CreateEventSourceMapping(ctx, in)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = append(p.made, *out.UUID)
	return *out.UUID, nil
}

func (p *pipeline) streams() *kinesis.Client { return kinesis.NewFromConfig(p.config) }

// generation runs everything against one server. All but the last one kill it, at a random moment of the work.
func (p *pipeline) generation(n int) {
	began, processed := time.Now(), p.count.Load()
	var dead atomic.Bool
	var wg, producers sync.WaitGroup
	share := func(part int) int { return p.records * part / 100 * (n + 1) / (p.kills + 1) }
	produce := func(source string, most int, put func(source string, numbers []int) []bool) {
		producers.Go(func() {
			for !dead.Load() {
				numbers := p.take(source, most)
				if len(numbers) == 0 {
					return
				}
				ok := put(source, numbers)
				p.acknowledge(source, numbers, ok)
				if ok == nil {
					time.Sleep(20 * time.Millisecond) // until it is said to be dead
				}
			}
		})
	}
	stream, standard, fifo := share(60), share(24), share(16)
	produce("records", stream, p.putRecords)
	produce("source", standard, p.sendMessages)
	produce("source", standard, p.sendMessages)
	produce("source.fifo", fifo, p.sendMessages)
	wg.Go(func() {
		for !dead.Load() {
			if !p.collect() {
				time.Sleep(5 * time.Millisecond)
			}
		}
	})
	if n == p.kills {
		producers.Wait()
		dead.Store(true)
		wg.Wait()
		return
	}
	wg.Go(func() { p.operate(&dead) })
	if n%4 == 1 || n%4 == 2 {
		wg.Go(func() { p.reshard(n%4 == 2) })
	}
	// Of what there is to do now much is three times processing each of the new records; who has nothing left to do is killed too.
	idle, before := time.Now(), p.count.Load()
	for left := 1 + rand.Int64N(int64(3*p.records/(p.kills+1))); left > 0 && time.Since(idle) < 2*time.Second; time.Sleep(time.Millisecond) {
		if now := p.count.Load(); now > before {
			left, before, idle = left-(now-before), now, time.Now()
		}
	}
	p.t.Logf("kill %d after %v, %d processed", n, time.Since(began).Round(time.Millisecond), p.count.Load()-processed)
	p.kill()
	p.killed = append(p.killed, time.Now())
	dead.Store(true)
	producers.Wait()
	wg.Wait()
}

// take gives numbers to what is put next into a source, of which there shall be no more than most by now.
func (p *pipeline) take(source string, most int) (numbers []int) {
	size := 10
	if source == "records" {
		size = 1 + rand.IntN(500)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	size = min(size, most-p.tried[source])
	for range size {
		p.tried[source]++
		p.next++
		numbers = append(numbers, p.next)
		switch {
		case p.next%1009 == 0:
			p.kinds[p.next] = "bad"
		case p.next%5003 == 0:
			p.kinds[p.next] = "exit"
		case p.next%601 == 0:
			p.kinds[p.next] = "flaky"
		}
	}
	return numbers
}

// acknowledge takes in an answer, nil if there was none. What was not acknowledged makes room for others.
func (p *pipeline) acknowledge(source string, numbers []int, ok []bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, n := range numbers {
		if ok != nil && ok[i] {
			p.acked[source] = append(p.acked[source], n)
		} else {
			p.tried[source]--
		}
	}
}

// text is what the record or message with a number says.
func (p *pipeline) text(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.TrimSpace(strconv.Itoa(n) + " " + p.kinds[n])
}

// always reports whether a record always fails.
func (p *pipeline) always(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kinds[n] == "bad" || p.kinds[n] == "exit"
}

func pipelineKey(n int) string { return fmt.Sprint("k", n%pipelineKeys) }

func (p *pipeline) putRecords(source string, numbers []int) []bool {
	in := &kinesis.PutRecordsInput{StreamName: &source}
	for _, n := range numbers {
		in.Records = append(in.Records, kinesistypes.PutRecordsRequestEntry{PartitionKey: new(pipelineKey(n)), Data: []byte(p.text(n))})
	}
	out, err := p.streams().PutRecords(p.t.Context(), in)
	if err != nil {
		return nil
	}
	ok := make([]bool, len(numbers))
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, r := range out.Records {
		if ok[i] = r.SequenceNumber != nil; ok[i] {
			p.numbers[numbers[i]] = *r.SequenceNumber
		}
	}
	return ok
}

func (p *pipeline) sendMessages(source string, numbers []int) []bool {
	in := &sqs.SendMessageBatchInput{QueueUrl: p.url(source)}
	for i, n := range numbers {
		e := sqstypes.SendMessageBatchRequestEntry{Id: new(strconv.Itoa(i)), MessageBody: new(p.text(n))}
		if strings.HasSuffix(source, ".fifo") {
			e.MessageGroupId, e.MessageDeduplicationId = new(pipelineKey(n)), new(strconv.Itoa(n))
			if p.always(n) { // what follows in its group would be received as often as it
				e.MessageGroupId = new(fmt.Sprint("bad", n))
			}
		}
		in.Entries = append(in.Entries, e)
	}
	out, err := p.sqs().SendMessageBatch(p.t.Context(), in)
	if err != nil {
		return nil
	}
	ok := make([]bool, len(numbers))
	for _, r := range out.Successful {
		i, _ := strconv.Atoi(*r.Id)
		ok[i] = true
	}
	return ok
}

// operate changes a mapping, switches it off and on, and deletes another one and makes it anew.
func (p *pipeline) operate(dead *atomic.Bool) {
	ctx := p.t.Context()
	for !dead.Load() {
		time.Sleep(rand.N(400 * time.Millisecond))
		in := &lambda.UpdateEventSourceMappingInput{UUID: &p.steady}
		var err error
		switch rand.IntN(5) {
		case 0:
			in.Enabled = aws.Bool(false)
			_, err = p.lambda().UpdateEventSourceMapping(ctx, in)
		case 1:
			in.ParallelizationFactor = new(int32(1 + rand.IntN(pipelineFunctions["steady"])))
			_, err = p.lambda().UpdateEventSourceMapping(ctx, in)
		case 2:
			in.BatchSize = new(int32(1 + rand.IntN(pipelineBatch)))
			_, err = p.lambda().UpdateEventSourceMapping(ctx, in)
		case 3:
			in.Enabled = aws.Bool(true)
			_, err = p.lambda().UpdateEventSourceMapping(ctx, in)
		default:
			err = p.doom(ctx)
		}
		switch c := code(err); {
		case c == "", c == "ResourceInUseException", dead.Load():
		case c == "ResourceNotFoundException", c == "ResourceConflictException": // the mapping is just being deleted
		default:
			p.t.Errorf("a mapping is changed: %v", err)
		}
	}
}

// doom deletes the mapping of the function "doomed", or makes it if there is none.
func (p *pipeline) doom(ctx context.Context) error {
	out, err := p.lambda().ListEventSourceMappings(ctx, &lambda.ListEventSourceMappingsInput{FunctionName: aws.String("doomed")})
	if err != nil {
		return err
	}
	if len(out.EventSourceMappings) == 0 {
		_, err := p.mapSource(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("doomed")})
		return err
	}
	uuid := *out.EventSourceMappings[0].UUID
	if _, err := p.lambda().DeleteEventSourceMapping(ctx, &lambda.DeleteEventSourceMappingInput{UUID: &uuid}); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deleted[uuid] = true
	return nil
}

// reshard splits a shard, or merges two neighbours.
func (p *pipeline) reshard(merge bool) {
	ctx, name := p.t.Context(), aws.String("records")
	out, err := p.streams().ListShards(ctx, &kinesis.ListShardsInput{StreamName: name})
	if err != nil {
		return
	}
	bound := func(s *string) *big.Int { n, _ := new(big.Int).SetString(*s, 10); return n }
	open := slices.DeleteFunc(out.Shards, func(s kinesistypes.Shard) bool { return s.SequenceNumberRange.EndingSequenceNumber != nil })
	slices.SortFunc(open, func(a, b kinesistypes.Shard) int {
		return bound(a.HashKeyRange.StartingHashKey).Cmp(bound(b.HashKeyRange.StartingHashKey))
	})
	time.Sleep(rand.N(300 * time.Millisecond))
	if merge && len(open) > 1 {
		i := rand.IntN(len(open) - 1)
		_, err = p.streams().MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: name, ShardToMerge: open[i].ShardId, AdjacentShardToMerge: open[i+1].ShardId})
	} else if !merge && len(open) > 0 {
		i := rand.IntN(len(open))
		sum := new(big.Int).Add(bound(open[i].HashKeyRange.StartingHashKey), bound(open[i].HashKeyRange.EndingHashKey))
		_, err = p.streams().SplitShard(ctx, &kinesis.SplitShardInput{StreamName: name, ShardToSplit: open[i].ShardId, NewStartingHashKey: new(sum.Rsh(sum, 1).String())})
	}
	if c := code(err); c != "" && c != "ResourceInUseException" {
		p.t.Errorf("resharding: %v", err)
	}
}

// collect reads what functions have reported since, and returns false if there is nothing or nobody who answers.
func (p *pipeline) collect() bool {
	records, err := p.follow("reports", "shardId-000000000000", p.at)
	if err != nil || len(records) == 0 {
		return false
	}
	for _, r := range records {
		a := arrival{generation: 0}
		if err := json.Unmarshal(r.Data, &a.report); err != nil {
			p.t.Errorf("report %s: %v", r.Data, err)
		}
		for _, k := range p.killed {
			if r.ApproximateArrivalTimestamp.After(k) {
				a.generation++
			}
		}
		p.reports = append(p.reports, a)
		p.at = *r.SequenceNumber
		p.count.Add(int64(len(a.Done)))
	}
	return true
}

// follow reads a shard once, from behind a sequence number on.
func (p *pipeline) follow(stream, shard, at string) ([]kinesistypes.Record, error) {
	in := &kinesis.GetShardIteratorInput{StreamName: &stream, ShardId: &shard, ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon}
	if at != "" {
		in.ShardIteratorType, in.StartingSequenceNumber = kinesistypes.ShardIteratorTypeAfterSequenceNumber, &at
	}
	it, err := p.streams().GetShardIterator(p.t.Context(), in)
	if err != nil {
		return nil, err
	}
	out, err := p.streams().GetRecords(p.t.Context(), &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	if err != nil {
		return nil, err
	}
	return out.Records, nil
}
