package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// buildHandler compiles testdata/handler once.
var buildHandler = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "handler-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "bootstrap"), "./testdata/handler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "bootstrap"))
})

// handlerCode is an archive with the program of testdata/handler.
func handlerCode(t testing.TB) *types.FunctionCode {
	t.Helper()
	program, err := buildHandler()
	if err != nil {
		t.Fatal(err)
	}
	return archive(t, map[string][]byte{"bootstrap": program})
}

// said are the lines that a function printed that begin with a word, without it, in the order of what follows.
func (i *instance) said(function, word string) (lines []string) {
	i.t.Helper()
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(cloudwatchlogs.NewFromConfig(i.sdk()), &cloudwatchlogs.FilterLogEventsInput{
		LogGroupName: aws.String("/aws/lambda/" + function), FilterPattern: &word,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(i.t.Context())
		if err != nil {
			if strings.Contains(err.Error(), "ResourceNotFoundException") {
				return nil
			}
			i.t.Fatal(err)
		}
		for _, e := range page.Events {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(*e.Message), word+" "); ok {
				lines = append(lines, rest)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// did are the texts that a function processed, in order, and the versions that it did so as.
func (i *instance) did(function string) (texts, versions []string) {
	for _, line := range i.said(function, "did") {
		f := strings.Split(line, " ")
		for _, text := range f[2:] {
			if text != "" {
				texts = append(texts, text)
			}
		}
		if len(versions) == 0 || versions[len(versions)-1] != f[1] {
			versions = append(versions, f[1])
		}
	}
	return texts, versions
}

// oneShard makes a stream of one shard.
func (i *instance) oneShard(name string) {
	i.t.Helper()
	c := kinesis.NewFromConfig(i.sdk())
	if _, err := c.CreateStream(i.t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: aws.Int32(1)}); err != nil {
		i.t.Fatal(err)
	}
	eventually(i.t.(*testing.T), "the stream", func() bool {
		out, err := c.DescribeStreamSummary(i.t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &name})
		return err == nil && out.StreamDescriptionSummary.StreamStatus == kinesistypes.StreamStatusActive
	})
}

// put puts records in one call, so that they are read together.
func (i *instance) put(stream string, texts ...string) {
	i.t.Helper()
	in := &kinesis.PutRecordsInput{StreamName: &stream}
	for _, text := range texts {
		in.Records = append(in.Records, kinesistypes.PutRecordsRequestEntry{PartitionKey: aws.String("k"), Data: []byte(text)})
	}
	if _, err := kinesis.NewFromConfig(i.sdk()).PutRecords(i.t.Context(), in); err != nil {
		i.t.Fatal(err)
	}
}

// mapped makes a mapping of a stream to a function.
func (i *instance) mapped(stream, function string, change func(*lambda.CreateEventSourceMappingInput)) *string {
	i.t.Helper()
	in := &lambda.CreateEventSourceMappingInput{
		FunctionName: &function, EventSourceArn: aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/" + stream), StartingPosition: types.EventSourcePositionTrimHorizon,
	}
	if change != nil {
		change(in)
	}
	m, err := i.lambda().CreateEventSourceMapping(i.t.Context(), in)
	if err != nil {
		i.t.Fatal(err)
	}
	i.enabled(m.UUID)
	return m.UUID
}

// given are the failure records that reached the mapping's destination.
func (i *instance) given(uuid *string) (n int, conditions []string) {
	i.t.Helper()
	for _, r := range i.reports(map[string][]string{"mapping": {*uuid}}) {
		for _, f := range r.GivenUp {
			n += f.Records
			conditions = append(conditions, f.Condition)
		}
	}
	return n, conditions
}

// Functions that fail in every way there is, with splits and one retry: of a, b, the record that does it, c and d only that is given up, and the others
// are processed once and in order. The same in windows, whose counts are of the others.
func TestFunctionsThatFail(t *testing.T) {
	i := start(t, Config{})
	ctx := t.Context()
	queues := sqs.NewFromConfig(i.sdk())
	if _, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("dead")}); err != nil {
		t.Fatal(err)
	}
	type scene struct {
		name, poison string
		report       bool
		window       int32
		tags         map[string]string
		did          string
		given        int
		windows      string // counts of records; each may be in several
		early        bool
	}
	scenes := []scene{
		{name: "hang", poison: "hang", did: "a b c d", given: 1},
		{name: "crash", poison: "crash", did: "a b c d", given: 1},
		{name: "oom", poison: "oom", did: "a b c d", given: 1},
		{name: "large", poison: "large", did: "a b c d", given: 1},
		{name: "reports", poison: "bad", report: true, did: "a b c d", given: 1},
		{name: "text", poison: "text", did: "a b text c d"},
		{name: "window", poison: "bad", window: 2, did: "a b c d", given: 1, windows: "4"},
		{name: "window-hang", poison: "hang", window: 3, did: "a b c d", given: 1, windows: "4"},
		{name: "window-crash", poison: "crash", window: 3, did: "a b c d", given: 1, windows: "4"},
		{name: "window-report", poison: "bad", report: true, window: 2, did: "a b c d", given: 1, windows: "4"},
		{name: "window-stateless", poison: "stateless", window: 2, did: "a b c d", given: 1, windows: "4"},
		{name: "window-sour", poison: "sour", window: 2, did: "a b sour c d", given: 0, windows: "5"},
		{name: "window-grow", poison: "grow", window: 2, did: "a b grow c d", windows: "5", early: true},
		{name: "session", poison: "bad", tags: map[string]string{"mayfly:SessionGapInSeconds": "1"}, did: "a b c d", given: 1, windows: "4"},
		{name: "sliding", poison: "bad", window: 2, tags: map[string]string{"mayfly:SlideInSeconds": "1"}, did: "a b a b c d c d", given: 2, windows: "4 4"},
	}
	uuids := map[string]*string{}
	code := handlerCode(t)
	for _, s := range scenes {
		in := lambda.CreateFunctionInput{Code: code, Timeout: aws.Int32(60), Environment: &types.Environment{Variables: map[string]string{"VERSION": "1"}}}
		if s.poison == "hang" {
			in.Timeout = aws.Int32(3) // enough for the others on a busy machine
		}
		if s.report {
			in.Environment.Variables["MODE"] = "report"
		}
		i.create(s.name, in)
		i.oneShard(s.name)
		i.put(s.name, "a", "b", s.poison, "c", "d") // before there is a mapping: they are one batch
		uuids[s.name] = i.mapped(s.name, s.name, func(in *lambda.CreateEventSourceMappingInput) {
			in.MaximumRetryAttempts, in.BisectBatchOnFunctionError, in.Tags = aws.Int32(1), aws.Bool(true), s.tags
			if s.poison == "sour" {
				in.MaximumRetryAttempts = aws.Int32(5)
			}
			if s.window > 0 {
				in.TumblingWindowInSeconds = aws.Int32(s.window)
			}
			if s.report {
				in.FunctionResponseTypes = []types.FunctionResponseType{types.FunctionResponseTypeReportBatchItemFailures}
			}
			in.DestinationConfig = &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: aws.String("arn:aws:sqs:us-east-1:000000000000:dead")}}
		})
	}
	for _, s := range scenes {
		var counts []string
		early := false
		sorted := func() string {
			texts, _ := i.did(s.name)
			if len(s.tags) > 0 {
				slices.Sort(texts)
			}
			return strings.Join(texts, " ")
		}
		want := s.did
		if len(s.tags) > 0 {
			f := strings.Fields(want)
			slices.Sort(f)
			want = strings.Join(f, " ")
		}
		done := func() bool {
			time.Sleep(100 * time.Millisecond) // what is asked is dear
			n, _ := i.given(uuids[s.name])
			counts, early = nil, false
			sum := 0
			for _, line := range i.said(s.name, "window") {
				f := strings.Fields(line)
				if f[2] == "true" {
					early = true
				}
				k, _ := strconv.Atoi(f[1])
				sum += k
				counts = append(counts, f[1])
			}
			all := 0
			for f := range strings.FieldsSeq(s.windows) {
				k, _ := strconv.Atoi(f)
				all += k
			}
			return n >= s.given && len(sorted()) >= len(want) && sum >= all
		}
		eventually(t, s.name, done)
		if got := sorted(); got != want {
			t.Errorf("%s: processed %s, want %s", s.name, got, want)
		}
		if n, conditions := i.given(uuids[s.name]); n != s.given {
			t.Errorf("%s: given up %d: %v", s.name, n, conditions)
		}
		if got := strings.Join(counts, " "); got != s.windows && !s.early || early != s.early {
			t.Errorf("%s: windows count %s, want %s; early %t", s.name, got, s.windows, early)
		}
	}
}

// A mapping goes on through all that may happen to its function and to itself. It has no retries, so that whatever counted as a failed attempt would lose
// records; and each is processed once and in order, by the function that there is then.
func TestMappingThroughChanges(t *testing.T) {
	i := start(t, Config{})
	ctx := t.Context()
	c := i.lambda()
	code := handlerCode(t)
	create := func(version string) {
		i.create("f", lambda.CreateFunctionInput{Code: code, Timeout: aws.Int32(60), Environment: &types.Environment{Variables: map[string]string{"VERSION": version}}})
	}
	configure := func(version string) {
		t.Helper()
		if _, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: aws.String("f"), Environment: &types.Environment{Variables: map[string]string{"VERSION": version}},
		}); err != nil {
			t.Fatal(err)
		}
		i.updated("f")
	}
	create("1")
	i.oneShard("s")
	uuid := i.mapped("s", "f", func(in *lambda.CreateEventSourceMappingInput) { in.MaximumRetryAttempts = aws.Int32(0) })
	var want []string
	done := func(after string, texts ...string) {
		t.Helper()
		want = append(want, texts...)
		got := []string{}
		eventually(t, after, func() bool {
			time.Sleep(50 * time.Millisecond)
			got, _ = i.did("f")
			return len(got) >= len(want)
		})
		if !slices.Equal(got, want) {
			t.Fatalf("after %s: processed %v, want %v", after, got, want)
		}
	}
	troubled := func(what string) {
		t.Helper()
		eventually(t, what, func() bool {
			time.Sleep(20 * time.Millisecond)
			all := i.reports(map[string][]string{"mapping": {*uuid}})
			return len(all) == 1 && strings.HasPrefix(all[0].Result, "PROBLEM: ")
		})
	}
	i.put("s", "a1", "a2")
	done("the beginning", "a1", "a2")

	configure("2")
	i.put("s", "b")
	done("an update", "b")

	// No capacity at all.
	if _, err := c.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("f"), ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	i.put("s", "c1")
	troubled("throttles")
	i.put("s", "c2")
	if _, err := c.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	done("throttles", "c1", "c2")

	// No function.
	if _, err := c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	i.put("s", "d1")
	troubled("a function that is gone")
	i.put("s", "d2")
	create("3")
	done("another function of the name", "d1", "d2")

	// No permission.
	if _, err := iam.NewFromConfig(i.sdk()).DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: aws.String("test"), PolicyName: aws.String("everything")}); err != nil {
		t.Fatal(err)
	}
	i.put("s", "e1")
	troubled("a role that may nothing")
	i.role()
	configure("4") // which also has the mapping try at once
	i.put("s", "e2")
	done("a role that may read again", "e1", "e2")

	// What is in flight ends when the mapping is disabled, and it keeps its place.
	inFlight := func() {
		t.Helper()
		eventually(t, "a batch in flight", func() bool {
			all := i.reports(map[string][]string{"mapping": {*uuid}})
			if texts, _ := i.did("f"); len(texts) > len(want) {
				return true // on a busy machine it may be over
			}
			return len(all) == 1 && all[0].Metrics.InFlight == 1
		})
	}
	state := func(state string) {
		t.Helper()
		eventually(t, state, func() bool {
			out, err := c.GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: uuid})
			return err == nil && *out.State == state || err != nil && state == "" && strings.Contains(err.Error(), "ResourceNotFoundException")
		})
	}
	update := func(in lambda.UpdateEventSourceMappingInput) {
		t.Helper()
		in.UUID = uuid
		if _, err := c.UpdateEventSourceMapping(ctx, &in); err != nil {
			t.Fatal(err)
		}
	}
	i.put("s", "wait")
	inFlight()
	update(lambda.UpdateEventSourceMappingInput{Enabled: aws.Bool(false)})
	state("Disabled")
	i.put("s", "f1")
	done("the mapping was disabled", "wait")
	update(lambda.UpdateEventSourceMappingInput{Enabled: aws.Bool(true)})
	state("Enabled")
	done("the mapping was enabled", "f1")

	// What it is told meanwhile holds for the next batch.
	i.put("s", "wait")
	inFlight()
	update(lambda.UpdateEventSourceMappingInput{BatchSize: aws.Int32(1), ParallelizationFactor: aws.Int32(10),
		FilterCriteria: &types.FilterCriteria{Filters: []types.Filter{{Pattern: aws.String(`{"partitionKey":["k"]}`)}}}})
	state("Enabled")
	i.put("s", "g1", "g2")
	done("the mapping was changed", "wait", "g1", "g2")
	update(lambda.UpdateEventSourceMappingInput{ParallelizationFactor: aws.Int32(1)})
	state("Enabled")
	i.put("s", "h")
	done("the lanes were changed back", "h")

	// Deleted and made again while the function has a batch: it begins where it is told to.
	i.put("s", "wait")
	inFlight()
	if _, err := c.DeleteEventSourceMapping(ctx, &lambda.DeleteEventSourceMappingInput{UUID: uuid}); err != nil {
		t.Fatal(err)
	}
	state("")
	i.put("s", "nobody's")
	uuid = i.mapped("s", "f", func(in *lambda.CreateEventSourceMappingInput) { in.StartingPosition = types.EventSourcePositionLatest })
	i.put("s", "i")
	done("another mapping", "wait", "i")

	if _, versions := i.did("f"); fmt.Sprint(versions) != "[1 2 3 4]" {
		t.Errorf("processed by %v", versions)
	}
}

// updated waits until an update of a function is through.
func (i *instance) updated(name string) {
	i.t.Helper()
	w := lambda.NewFunctionUpdatedV2Waiter(i.lambda(), func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 20*time.Millisecond
	})
	if err := w.Wait(i.t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, 2*time.Minute); err != nil {
		i.t.Fatal(err)
	}
}

// A mapping of an alias follows it: to another version, and by its weights.
func TestMappingOfAlias(t *testing.T) {
	i := start(t, Config{})
	ctx := t.Context()
	c := i.lambda()
	i.create("f", lambda.CreateFunctionInput{Code: handlerCode(t), Publish: true, Environment: &types.Environment{Variables: map[string]string{"VERSION": "1"}}})
	if _, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("f"), Environment: &types.Environment{Variables: map[string]string{"VERSION": "2"}},
	}); err != nil {
		t.Fatal(err)
	}
	i.updated("f")
	if _, err := c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	i.oneShard("s")
	i.mapped("s", "f:live", nil)
	n := 0
	put := func() {
		t.Helper()
		n++
		i.put("s", fmt.Sprint(n))
		eventually(t, "a record", func() bool {
			time.Sleep(20 * time.Millisecond)
			texts, _ := i.did("f")
			return len(texts) == n
		})
	}
	put()
	for _, to := range []struct {
		version string
		other   map[string]float64
	}{{"2", map[string]float64{}}, {"2", map[string]float64{"1": 1}}, {"2", map[string]float64{}}} {
		if _, err := c.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: &to.version,
			RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: to.other}}); err != nil {
			t.Fatal(err)
		}
		put()
	}
	if _, versions := i.did("f"); fmt.Sprint(versions) != "[1 2 1 2]" {
		t.Errorf("processed by %v", versions)
	}
}

// Messages that a function fails for, in every way, go to the dead-letter queue after as many receives as the queue allows; others are processed.
func TestFailingMessages(t *testing.T) {
	i := start(t, Config{})
	ctx := t.Context()
	queues := sqs.NewFromConfig(i.sdk())
	i.create("f", lambda.CreateFunctionInput{Code: handlerCode(t), Timeout: aws.Int32(3), Environment: &types.Environment{Variables: map[string]string{"VERSION": "1", "MODE": "report"}}})
	queue := func(name string, attributes map[string]string) *string {
		out, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			t.Fatal(err)
		}
		return out.QueueUrl
	}
	dead := queue("dead", nil)
	url := queue("q", map[string]string{"VisibilityTimeout": "4", "RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":2}`})
	m, err := i.lambda().CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("f"), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000000:q"), BatchSize: aws.Int32(1),
		FunctionResponseTypes: []types.FunctionResponseType{types.FunctionResponseTypeReportBatchItemFailures},
	})
	if err != nil {
		t.Fatal(err)
	}
	i.enabled(m.UUID)
	poison := []string{"bad", "crash", "hang", "large", "text"}
	for _, body := range append([]string{"a", "b"}, poison...) {
		if _, err := queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: url, MessageBody: &body}); err != nil {
			t.Fatal(err)
		}
	}
	var letters []string
	eventually(t, "dead letters", func() bool {
		out, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: dead, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, VisibilityTimeout: 600,
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range out.Messages {
			if slices.Contains(poison, *x.Body) { // on a busy machine others may be among them
				letters = append(letters, *x.Body)
			}
		}
		return len(letters) >= len(poison)
	})
	slices.Sort(letters)
	if !slices.Equal(letters, poison) {
		t.Errorf("dead letters %v", letters)
	}
	eventually(t, "the others", func() bool {
		texts, _ := i.did("f")
		texts = slices.DeleteFunc(texts, func(x string) bool { return x == "text" })
		slices.Sort(texts)
		return fmt.Sprint(slices.Compact(texts)) == "[a b]" // one that took long came again
	})
}
