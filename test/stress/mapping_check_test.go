package stress

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// truth is what the stream holds.
type truth struct {
	shards map[string][]int // numbers in order
	number map[int]string   // sequence numbers
	shard  map[int]string
	ids    map[string]int // numbers by sequence number
	rank   map[int]int    // the place of each among all, by sequence number
	at     map[string]time.Time
}

// readStream reads all shards from their beginning.
func (p *pipeline) readStream() *truth {
	t := p.t
	h := &truth{map[string][]int{}, map[int]string{}, map[int]string{}, map[string]int{}, map[int]int{}, map[string]time.Time{}}
	out, err := p.streams().ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("records")})
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, s := range out.Shards {
		for at := ""; ; {
			var records []kinesistypes.Record
			p.again("read", func() (err error) {
				records, err = p.follow("records", *s.ShardId, at)
				return err
			})
			if len(records) == 0 {
				break
			}
			for _, r := range records {
				text, _, _ := strings.Cut(string(r.Data), " ")
				n, _ := strconv.Atoi(text)
				if h.number[n] != "" {
					t.Errorf("%d is in the stream twice", n)
				}
				at = *r.SequenceNumber
				h.number[n], h.shard[n], h.ids[at], h.at[at] = at, *s.ShardId, n, *r.ApproximateArrivalTimestamp
				h.shards[*s.ShardId] = append(h.shards[*s.ShardId], n)
				all = append(all, n)
			}
		}
	}
	slices.SortFunc(all, func(a, b int) int {
		if above(h.number[a], h.number[b]) {
			return 1
		}
		return -1
	})
	for i, n := range all {
		h.rank[n] = i
	}
	for _, n := range p.acked["records"] {
		if h.number[n] != p.numbers[n] {
			t.Errorf("%d was acknowledged as %s and is %q", n, p.numbers[n], h.number[n])
		}
	}
	return h
}

// finish waits until everything is done, and looks at it.
func (p *pipeline) finish() {
	t := p.t
	p.settle()
	h := p.readStream()
	want := map[string]map[int]bool{} // what each function must have processed, as far as that is certain
	for name := range pipelineFunctions {
		want[name] = map[int]bool{}
		for n := range h.number {
			if !p.always(n) || name != "bisect" && name != "checkpoint" {
				want[name][n] = true
			}
		}
	}
	for name, source := range map[string]string{"standard": "source", "fifo": "source.fifo"} {
		want[name] = map[int]bool{}
		for _, n := range p.acked[source] {
			if !p.always(n) {
				want[name][n] = true
			}
		}
	}
	all, read := 0, 0
	for _, numbers := range want {
		all += len(numbers)
	}
	windows := map[string]int{} // records in the windows that ended, by shard
	ends := map[string]bool{}
	dead := map[string]map[int]bool{"lost bisect": {}, "lost checkpoint": {}, "dead": {}, "dead.fifo": {}}
	expected := map[string]map[int]bool{"lost bisect": {}, "lost checkpoint": {}, "dead": {}, "dead.fifo": {}}
	for n := range h.number {
		if p.always(n) {
			expected["lost bisect"][n], expected["lost checkpoint"][n] = true, true
		}
	}
	for queue, source := range map[string]string{"dead": "source", "dead.fifo": "source.fifo"} {
		for _, n := range p.acked[source] {
			if p.always(n) {
				expected[queue][n] = true
			}
		}
	}
	missing := func() (n int) {
		for queue, numbers := range expected {
			for x := range numbers {
				if !dead[queue][x] {
					n++
				}
			}
		}
		return n
	}
	finished := func() bool {
		for _, a := range p.reports[read:] {
			for _, n := range a.Done {
				if want[a.Function][n] {
					delete(want[a.Function], n)
					all--
				}
			}
			if end := a.Shard + a.Window; a.Window != "" && !ends[end] {
				ends[end] = true
				windows[a.Shard] += a.State.Count
			}
		}
		read = len(p.reports)
		if all > 0 {
			return false
		}
		for shard, numbers := range h.shards {
			if windows[shard] < len(numbers) {
				return false
			}
		}
		return missing() == 0
	}
	for quiet := time.Now(); !finished() && time.Since(quiet) < 2*time.Minute; {
		if p.collect() {
			quiet = time.Now()
		} else if p.drain(dead, h) {
			quiet = time.Now()
		}
	}
	for name, numbers := range want {
		if len(numbers) > 0 {
			some := slices.Sorted(maps.Keys(numbers))
			t.Errorf("%s has not processed %d records: %v", name, len(numbers), some[:min(len(some), 20)])
		}
	}
	for queue, numbers := range dead {
		for n := range numbers {
			if !p.always(n) {
				t.Errorf("%s has %d, which does not always fail", queue, n)
			}
		}
	}
	if n := missing(); n > 0 {
		t.Errorf("%d records that always fail were not given up", n)
	}
	p.checkOrder(h)
	p.checkAgain(h)
	p.checkWindows(h)
	p.stop()
	p.checkStore()
	lost := 0
	for _, numbers := range expected {
		lost += len(numbers)
	}
	t.Logf("%d kills; acknowledged: %d records (in %d shards), %d messages, %d messages in groups; %d reports; %d given up; %d mappings deleted",
		len(p.killed), len(p.acked["records"]), len(h.shards), len(p.acked["source"]), len(p.acked["source.fifo"]), len(p.reports), lost, len(p.deleted))
}

// settle lets every mapping run, and sees that those which were deleted are gone.
func (p *pipeline) settle() {
	t := p.t
	awaitThat(t, "mapping that goes on", func() bool {
		out, err := p.lambda().UpdateEventSourceMapping(t.Context(), &lambda.UpdateEventSourceMappingInput{UUID: &p.steady, Enabled: aws.Bool(true), BatchSize: aws.Int32(pipelineBatch)})
		if c := code(err); c != "" && c != "ResourceInUseException" {
			t.Errorf("a mapping is switched on: %v", err)
		}
		return err == nil && out != nil
	})
	awaitThat(t, "new mapping instead of the deleted one", func() bool {
		out, err := p.lambda().ListEventSourceMappings(t.Context(), &lambda.ListEventSourceMappingsInput{FunctionName: aws.String("doomed")})
		if err != nil || len(out.EventSourceMappings) == 1 && *out.EventSourceMappings[0].State == "Enabled" {
			return err == nil
		}
		if len(out.EventSourceMappings) == 0 {
			p.mapSource(t.Context(), &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("doomed")})
		}
		return false
	})
	for uuid := range p.deleted {
		awaitThat(t, "end of a deleted mapping", func() bool {
			_, err := p.lambda().GetEventSourceMapping(t.Context(), &lambda.GetEventSourceMappingInput{UUID: &uuid})
			return code(err) == "ResourceNotFoundException"
		})
	}
}

// drain takes what was given up, and returns false if there was nothing.
func (p *pipeline) drain(dead map[string]map[int]bool, h *truth) (found bool) {
	for _, queue := range []string{"lost", "dead", "dead.fifo"} {
		out, err := p.sqs().ReceiveMessage(p.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: p.url(queue), MaxNumberOfMessages: 10})
		if err != nil {
			continue
		}
		for _, m := range out.Messages {
			found = true
			if queue == "lost" {
				if function, n := p.lost(*m.Body, h); n > 0 {
					dead["lost "+function][n] = true
				}
			} else {
				text, _, _ := strings.Cut(*m.Body, " ")
				n, _ := strconv.Atoi(text)
				dead[queue][n] = true
			}
			p.sqs().DeleteMessage(p.t.Context(), &sqs.DeleteMessageInput{QueueUrl: p.url(queue), ReceiptHandle: m.ReceiptHandle}) // or it comes again
		}
	}
	return found
}

// lost reads the record of a batch that was given up, which must be a single record, and returns that.
func (p *pipeline) lost(body string, h *truth) (function string, n int) {
	var record struct {
		RequestContext struct {
			RequestID, FunctionARN, Condition string
			Count                             int `json:"approximateInvokeCount"`
		}
		ResponseContext *struct {
			StatusCode    int
			FunctionError *string
		}
		Info struct {
			ShardID, StreamARN           string
			StartSequenceNumber          string
			EndSequenceNumber            string
			BatchSize                    int
			ApproximateArrivalOfFirst    string `json:"approximateArrivalOfFirstRecord"`
			ApproximateArrivalOfLastTime string `json:"approximateArrivalOfLastRecord"`
		} `json:"KinesisBatchInfo"`
	}
	if err := json.Unmarshal([]byte(body), &record); err != nil {
		p.t.Errorf("%v: %s", err, body)
		return "", 0
	}
	i := &record.Info
	n = h.ids[i.StartSequenceNumber]
	function = record.RequestContext.FunctionARN[strings.LastIndexByte(record.RequestContext.FunctionARN, ':')+1:]
	arrived := h.at[i.StartSequenceNumber].UTC().Format("2006-01-02T15:04:05.000Z")
	reported := function == "checkpoint" // the function did not fail, but said so
	source := "arn:aws:kinesis" + pipelineARN + "stream/records"
	if reported {
		source = p.fanOut // as the mapping has it
	}
	r := record.ResponseContext
	if n == 0 || i.BatchSize != 1 || i.EndSequenceNumber != i.StartSequenceNumber || i.ShardID != h.shard[n] || i.StreamARN != source ||
		i.ApproximateArrivalOfFirst != arrived || i.ApproximateArrivalOfLastTime != arrived || record.RequestContext.RequestID == "" ||
		record.RequestContext.Condition != "RetryAttemptsExhausted" || record.RequestContext.Count < 2 ||
		r == nil || r.StatusCode != 200 || (r.FunctionError == nil) != reported || !reported && *r.FunctionError != "Unhandled" || function != "checkpoint" && function != "bisect" {
		p.t.Errorf("given up (%d, arrived %s): %s", n, arrived, body)
		return "", 0
	}
	return function, n
}

// checkOrder sees that the records of each key were processed first in order.
func (p *pipeline) checkOrder(h *truth) {
	done := map[string]map[int]bool{}
	last := map[string]int{}
	for _, a := range p.reports {
		if a.Function == "standard" || a.Function == "doomed" { // one has no order, the other began anew
			continue
		}
		if p.t.Failed() {
			return // what follows is mostly of the same cause
		}
		if done[a.Function] == nil {
			done[a.Function] = map[int]bool{}
		}
		for _, n := range a.Done {
			if done[a.Function][n] {
				continue
			}
			done[a.Function][n] = true
			key, place := a.Function+" "+pipelineKey(n), n+1
			if a.Function != "fifo" {
				place = h.rank[n] + 1
			}
			if place < last[key] {
				p.t.Errorf("%s: %d was processed after %d of its key", a.Function, n, last[key])
			}
			last[key] = place
		}
	}
}

// checkAgain sees that functions got records of the stream again only after a kill, and then what of the last two batches of each lane, and the one
// in flight, was not yet stored.
func (p *pipeline) checkAgain(h *truth) {
	type where struct {
		function, shard string
		generation      int
	}
	first := map[string]map[int]int{} // the generation in which each function processed a record first
	seen := map[string]bool{}         // requests
	again := map[where]map[int]bool{}
	within := map[string]map[int]int{} // the last generation in which it did
	repeated := map[string]int{}
	for _, a := range p.reports {
		if seen[a.Request] || pipelineFunctions[a.Function] == 0 || a.Function == "doomed" {
			continue
		}
		seen[a.Request] = true
		if p.t.Failed() {
			return
		}
		if first[a.Function] == nil {
			first[a.Function], within[a.Function] = map[int]int{}, map[int]int{}
		}
		for _, n := range a.Done {
			generation, known := first[a.Function][n]
			if !known {
				first[a.Function][n], within[a.Function][n] = a.generation, a.generation
				continue
			}
			if within[a.Function][n] == a.generation {
				p.t.Errorf("%s: %d was processed twice by the same server, %d", a.Function, n, a.generation)
			}
			within[a.Function][n] = a.generation
			if generation < a.generation {
				w := where{a.Function, h.shard[n], a.generation}
				if again[w] == nil {
					again[w] = map[int]bool{}
				}
				again[w][n] = true
				repeated[a.Function]++
			}
		}
	}
	most := 0
	for w, numbers := range again {
		most = max(most, len(numbers))
		if bound := 3 * pipelineBatch * pipelineFunctions[w.function]; len(numbers) > bound {
			p.t.Errorf("%s: after kill %d %d records of %s were processed again", w.function, w.generation, len(numbers), w.shard)
		}
	}
	p.t.Logf("processed again: %v records, after one kill of one shard %d at most", repeated, most)
}

// checkWindows sees that the windows of a shard, in order, hold its records in order.
func (p *pipeline) checkWindows(h *truth) {
	type end struct {
		start string
		state struct{ Count, Sum int }
	}
	windows := map[string][]end{}
	more := 0
	for _, a := range p.reports {
		if a.Window == "" {
			continue
		}
		all := windows[a.Shard]
		if i := slices.IndexFunc(all, func(e end) bool { return e.start == a.Window }); i >= 0 {
			if more++; all[i].state != a.State {
				p.t.Errorf("the window of %s in %s has %v and then %v", a.Window, a.Shard, all[i].state, a.State)
			}
			continue
		}
		if n := len(all); n > 0 && all[n-1].start > a.Window {
			p.t.Errorf("the window of %s in %s ended after that of %s", a.Window, a.Shard, all[n-1].start)
		}
		windows[a.Shard] = append(all, end{a.Window, a.State})
	}
	count := 0
	for shard, numbers := range h.shards {
		rest := numbers
		for _, e := range windows[shard] {
			count++
			n, sum := min(e.state.Count, len(rest)), 0
			for _, x := range rest[:n] {
				sum += x
			}
			if n != e.state.Count || sum != e.state.Sum {
				p.t.Errorf("the window of %s in %s: %d records, sum %d; in the stream there are %d, sum %d", e.start, shard, e.state.Count, e.state.Sum, n, sum)
			}
			rest = rest[n:]
		}
		if len(rest) > 0 {
			p.t.Errorf("%d records of %s are in no window", len(rest), shard)
		}
	}
	p.t.Logf("%d windows; the end of one came again %d times", count, more)
}

// checkStore looks into the store of a server that was stopped for what deleted mappings have left.
func (p *pipeline) checkStore() {
	t := p.t
	db, err := pebblekv.Open(pebblekv.Options{Dir: filepath.Join(p.data, "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(t.Context(), func(r kv.Reader) error {
		for _, uuid := range p.made {
			n := 0
			for _, err := range r.Scan(kv.Prefix("eventsource", uuid)) {
				if err != nil {
					return err
				}
				n++
			}
			if p.deleted[uuid] && n > 0 {
				t.Errorf("%d rows are left of a deleted mapping", n)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
