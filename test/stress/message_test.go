package stress

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// TestKillMessages kills the server at random moments while messages are sent, received and deleted and records are put and read, again
// and again on the same data. KILLS says how often.
func TestKillMessages(t *testing.T) {
	kills := 30
	if testing.Short() {
		kills = 5
	}
	if v := os.Getenv("KILLS"); v != "" {
		var err error
		if kills, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	s := newInstance(t, "--sandbox", "process", "--prepared", "-1", "--no-shard-limits")
	s.start()
	std := newStandardQueue(s)
	fifo := newFIFOQueue(s)
	log := newRecordLog(s)
	for range kills {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for client := range 2 {
			wg.Go(func() { std.send(ctx, client) })
			wg.Go(func() { std.consume(ctx) })
			wg.Go(func() { log.put(ctx, client) })
		}
		for group := range len(fifo.sent) {
			wg.Go(func() { fifo.send(ctx, group) })
		}
		wg.Go(func() { fifo.consume(ctx) })
		wg.Go(func() { log.read(ctx) })
		time.Sleep(rand.N(500 * time.Millisecond)) // anywhere from the first call on
		s.kill()
		cancel()
		wg.Wait()
		if t.Failed() {
			return
		}
		s.start()
	}
	std.drain()
	fifo.drain()
	log.check()
	t.Logf("%d kills; %d messages, %d of them deleted before the end; %v in groups; %d records", kills, len(std.acked), std.deletions, fifo.sent, log.acks)
	s.stop()
}

func (s *instance) sqs() *sqs.Client { return sqs.NewFromConfig(s.config) }

// again calls what must succeed now that nobody kills the server.
func (s *instance) again(what string, f func() error) {
	s.t.Helper()
	var err error
	for range 5 { // the SDK's client now and then closes a connection under its own hands
		if err = f(); err == nil {
			return
		}
	}
	s.t.Fatalf("%s: %v", what, err)
}

func (s *instance) queue(name string, attributes map[string]string) string {
	s.t.Helper()
	if _, err := s.sqs().CreateQueue(s.t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes}); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// url names a queue of a server whose port changes.
func (s *instance) url(name string) *string {
	return new(*s.config.BaseEndpoint + "/000000000000/" + name)
}

// standardQueue is what is known of a standard queue.
type standardQueue struct {
	*instance
	mu        sync.Mutex
	next      int
	tried     map[string]bool
	acked     map[string]bool
	received  map[string]bool
	deleted   map[string]bool // the deletion was acknowledged
	deletions int
}

func newStandardQueue(s *instance) *standardQueue {
	s.queue("standard", map[string]string{"VisibilityTimeout": "2"})
	return &standardQueue{instance: s, tried: map[string]bool{}, acked: map[string]bool{}, received: map[string]bool{}, deleted: map[string]bool{}}
}

// send sends single messages and batches until ctx ends.
func (q *standardQueue) send(ctx context.Context, client int) {
	for ctx.Err() == nil {
		var entries []sqstypes.SendMessageBatchRequestEntry
		q.mu.Lock()
		for i := range 1 + 9*(q.next%2) {
			q.next++
			body := fmt.Sprintf("%d-%d", client, q.next)
			q.tried[body] = true
			entries = append(entries, sqstypes.SendMessageBatchRequestEntry{Id: new(fmt.Sprint(i)), MessageBody: &body})
		}
		q.mu.Unlock()
		var err error
		done := map[string]bool{}
		if len(entries) == 1 {
			if _, err = q.sqs().SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: q.url("standard"), MessageBody: entries[0].MessageBody}); err == nil {
				done["0"] = true
			}
		} else if out, e := q.sqs().SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: q.url("standard"), Entries: entries}); e == nil {
			for _, r := range out.Successful {
				done[*r.Id] = true
			}
		}
		q.mu.Lock()
		for _, e := range entries {
			if done[*e.Id] {
				q.acked[*e.MessageBody] = true
			}
		}
		q.mu.Unlock()
	}
}

// consume receives until ctx ends, and deletes half of what it receives.
func (q *standardQueue) consume(ctx context.Context) {
	for ctx.Err() == nil {
		q.receive(ctx, func() bool { return rand.N(2) == 0 })
	}
}

// receive receives once, and deletes what is chosen. It returns how many there were.
func (q *standardQueue) receive(ctx context.Context, choose func() bool) (int, error) {
	q.mu.Lock()
	before := make(map[string]bool, len(q.deleted))
	for body := range q.deleted {
		before[body] = true
	}
	q.mu.Unlock()
	out, err := q.sqs().ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: q.url("standard"), MaxNumberOfMessages: 10})
	if err != nil {
		return 0, err
	}
	for _, m := range out.Messages {
		q.mu.Lock()
		switch {
		case !q.tried[*m.Body]:
			q.t.Errorf("%q was received and never sent", *m.Body)
		case before[*m.Body]:
			q.t.Errorf("%q was received after it was deleted", *m.Body)
		}
		q.received[*m.Body] = true
		q.mu.Unlock()
		if !choose() {
			continue
		}
		if _, err := q.sqs().DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: q.url("standard"), ReceiptHandle: m.ReceiptHandle}); err == nil {
			q.mu.Lock()
			q.deleted[*m.Body] = true
			q.deletions++
			q.mu.Unlock()
		}
	}
	return len(out.Messages), nil
}

// drain receives all that is left: then every acknowledged message was received.
func (q *standardQueue) drain() {
	q.t.Helper()
	deletions := q.deletions
	for quiet := time.Now(); time.Since(quiet) < 5*time.Second; { // longer than any is invisible
		n := 0
		q.again("receive", func() (err error) {
			n, err = q.receive(q.t.Context(), func() bool { return true })
			return err
		})
		if n > 0 {
			quiet = time.Now()
		} else {
			time.Sleep(50 * time.Millisecond)
		}
	}
	lost := 0
	for body := range q.acked {
		if !q.received[body] {
			lost++
		}
	}
	if lost > 0 {
		q.t.Errorf("%d of %d acknowledged messages were never received", lost, len(q.acked))
	}
	q.deletions = deletions
}

// fifoQueue is what is known of a FIFO queue. The numbers of each group are sent in order, each until it is acknowledged, however often.
type fifoQueue struct {
	*instance
	sent    []int // by group: acknowledged
	deleted []int // by group: numbers below were deleted, or may have been
	unsure  []int // by group: from this number on up to deleted nobody acknowledged the deletion
}

func newFIFOQueue(s *instance) *fifoQueue {
	s.queue("ordered.fifo", map[string]string{"FifoQueue": "true", "VisibilityTimeout": "2"})
	return &fifoQueue{instance: s, sent: make([]int, 3), deleted: make([]int, 3), unsure: make([]int, 3)}
}

func (q *fifoQueue) send(ctx context.Context, group int) {
	for ctx.Err() == nil {
		if _, err := q.sqs().SendMessage(ctx, &sqs.SendMessageInput{
			QueueUrl: q.url("ordered.fifo"), MessageBody: new(fmt.Sprint(q.sent[group])), MessageGroupId: new(fmt.Sprint(group)),
			MessageDeduplicationId: new(fmt.Sprint(group, "-", q.sent[group])),
		}); err == nil {
			q.sent[group]++
		}
	}
}

func (q *fifoQueue) consume(ctx context.Context) {
	for ctx.Err() == nil {
		q.receive(ctx)
	}
}

// receive receives once and deletes what came. In each group it must be what follows on what was deleted, without a gap.
func (q *fifoQueue) receive(ctx context.Context) (int, error) {
	out, err := q.sqs().ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: q.url("ordered.fifo"), MaxNumberOfMessages: 10,
		MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameMessageGroupId}})
	if err != nil {
		return 0, err
	}
	follows := map[int]int{} // in this answer
	for _, m := range out.Messages {
		n, _ := strconv.Atoi(*m.Body)
		group, _ := strconv.Atoi(m.Attributes["MessageGroupId"])
		want, again := follows[group]
		switch {
		case again && n != want:
			q.t.Errorf("group %d: %d follows on %d", group, n, want-1)
		case !again && (n < q.unsure[group] || n > q.deleted[group]):
			q.t.Errorf("group %d: %d was received; %d were deleted, at most %d", group, n, q.unsure[group], q.deleted[group])
		}
		follows[group] = n + 1
	}
	for _, m := range out.Messages {
		n, _ := strconv.Atoi(*m.Body)
		group, _ := strconv.Atoi(m.Attributes["MessageGroupId"])
		q.deleted[group] = n + 1
		if _, err := q.sqs().DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: q.url("ordered.fifo"), ReceiptHandle: m.ReceiptHandle}); err != nil {
			q.unsure[group] = n // it, or what follows on it, is next
			return len(out.Messages), err
		}
		q.unsure[group] = n + 1
	}
	return len(out.Messages), nil
}

// drain receives until every number was: none is missing, and none came twice.
func (q *fifoQueue) drain() {
	q.t.Helper()
	for quiet := time.Now(); time.Since(quiet) < 5*time.Second && !q.t.Failed(); {
		n, err := q.receive(q.t.Context())
		if n > 0 || err != nil {
			quiet = time.Now()
		} else {
			time.Sleep(50 * time.Millisecond)
		}
	}
	for group, sent := range q.sent { // one more may have come in without an answer
		if d := q.deleted[group]; d != sent && d != sent+1 {
			q.t.Errorf("group %d: %d were acknowledged and %d received", group, sent, d)
		}
	}
}

// recordLog is what is known of a stream. The numbers of each key are put in order, each until it is acknowledged, however often.
type recordLog struct {
	*instance
	mu      sync.Mutex
	numbers map[string]string // of acknowledged records, by key and number
	next    []int             // by key
	acks    int

	shards map[string][]string // what the reader has seen of each, in order
}

func newRecordLog(s *instance) *recordLog {
	l := &recordLog{instance: s, numbers: map[string]string{}, next: make([]int, 2), shards: map[string][]string{}}
	if _, err := l.client().CreateStream(s.t.Context(), &kinesis.CreateStreamInput{StreamName: new("records"), ShardCount: new(int32(2))}); err != nil {
		s.t.Fatal(err)
	}
	w := kinesis.NewStreamExistsWaiter(l.client(), func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second })
	if err := w.Wait(s.t.Context(), &kinesis.DescribeStreamInput{StreamName: new("records")}, time.Minute); err != nil {
		s.t.Fatal(err)
	}
	out, err := l.client().ListShards(s.t.Context(), &kinesis.ListShardsInput{StreamName: new("records")})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, shard := range out.Shards {
		l.shards[*shard.ShardId] = nil
	}
	return l
}

func (l *recordLog) client() *kinesis.Client { return kinesis.NewFromConfig(l.config) }

func (l *recordLog) put(ctx context.Context, key int) {
	last := ""
	for ctx.Err() == nil {
		data := fmt.Sprintf("%d %d", key, l.next[key])
		out, err := l.client().PutRecord(ctx, &kinesis.PutRecordInput{StreamName: new("records"), PartitionKey: new(fmt.Sprint(key)), Data: []byte(data)})
		if err != nil {
			continue
		}
		number := *out.SequenceNumber
		if !above(number, last) {
			l.t.Errorf("%s has the number %s, after %s", data, number, last)
		}
		last = number
		l.mu.Lock()
		l.numbers[data] = number
		l.acks++
		l.mu.Unlock()
		l.next[key]++
	}
}

// above compares sequence numbers, which are decimal.
func above(n, than string) bool {
	return len(n) > len(than) || len(n) == len(than) && n > than
}

// read goes on reading where it stopped, in all shards by turns.
func (l *recordLog) read(ctx context.Context) {
	for ctx.Err() == nil {
		for shard := range l.shards {
			l.tail(ctx, shard)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// tail reads what follows on what was seen of a shard.
func (l *recordLog) tail(ctx context.Context, shard string) (n int, err error) {
	in := &kinesis.GetShardIteratorInput{StreamName: new("records"), ShardId: &shard, ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon}
	if seen := l.shards[shard]; len(seen) > 0 {
		number, _, _ := strings.Cut(seen[len(seen)-1], " ")
		in.ShardIteratorType, in.StartingSequenceNumber = kinesistypes.ShardIteratorTypeAfterSequenceNumber, &number
	}
	it, err := l.client().GetShardIterator(ctx, in)
	if err != nil {
		return 0, err
	}
	out, err := l.client().GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	if err != nil {
		return 0, err
	}
	for _, r := range out.Records {
		l.shards[shard] = append(l.shards[shard], *r.SequenceNumber+" "+string(r.Data))
	}
	return len(out.Records), nil
}

// check reads to the end, and once more from the beginning. Both times it is the same, in order, with every acknowledged record under its
// number; a record that nobody acknowledged may be there as often as it was tried.
func (l *recordLog) check() {
	l.t.Helper()
	toEnd := func() {
		for shard := range l.shards {
			for n := 1; n > 0; {
				l.again("read", func() (err error) {
					n, err = l.tail(l.t.Context(), shard)
					return err
				})
			}
		}
	}
	toEnd()
	first := l.shards
	l.shards = map[string][]string{}
	for shard := range first {
		l.shards[shard] = nil
	}
	toEnd()
	found := map[string]bool{}
	for shard, seen := range l.shards {
		if !slices.Equal(seen, first[shard]) {
			l.t.Errorf("%s: a reader that went along saw %d records, one from the beginning %d, or others", shard, len(first[shard]), len(seen))
		}
		last, at := "", map[string]int{}
		for _, r := range seen {
			number, data, _ := strings.Cut(r, " ")
			found[r] = true
			key, n, _ := strings.Cut(data, " ")
			i, _ := strconv.Atoi(n)
			if !above(number, last) || i < at[key] || i > at[key]+1 {
				l.t.Errorf("%s: %s after number %s and record %d of its key", shard, r, last, at[key])
			}
			last, at[key] = number, i
		}
	}
	for data, number := range l.numbers {
		if !found[number+" "+data] {
			l.t.Errorf("%q was acknowledged as %s and is not there", data, number)
		}
	}
}

// TestLinearizableQueue compares what clients of one group of a FIFO queue see, over HTTP, with a queue on which nothing happens at once,
// over a kill of the server too: what was not answered has happened at any time since, or not at all.
func TestLinearizableQueue(t *testing.T) {
	type input struct {
		op   string // "send", "receive", "delete"
		body string
	}
	type output struct {
		body    string // received; empty if there was none
		unknown bool   // there was no answer
	}
	type state struct {
		bodies string // separated by spaces
		taken  bool   // the first of them is in flight, for longer than the test runs
	}
	first := func(bodies string) string { b, _, _ := strings.Cut(bodies, " "); return b }
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{}} },
		Step: func(st, in, out any) (next []any) {
			s, i, o := st.(state), in.(input), out.(output)
			if o.unknown {
				next = append(next, s)
			}
			switch i.op {
			case "send":
				next = append(next, state{s.bodies + i.body + " ", s.taken})
			case "receive":
				switch can := !s.taken && s.bodies != ""; {
				case can && (o.unknown || o.body == first(s.bodies)):
					next = append(next, state{s.bodies, true})
				case !can && !o.unknown && o.body == "":
					next = append(next, s)
				}
			case "delete":
				if s.taken && first(s.bodies) == i.body {
					next = append(next, state{strings.TrimPrefix(s.bodies, i.body+" "), false})
				}
			}
			return next
		},
		Equal: func(a, b any) bool { return a == b },
	}
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	s := newInstance(t, "--sandbox", "process", "--prepared", "-1")
	s.start()
	for round := range rounds {
		name := s.queue(fmt.Sprintf("linear-%d.fifo", round), map[string]string{"FifoQueue": "true", "VisibilityTimeout": "3600"})
		url := s.url(name)
		client := s.sqs()
		var mu sync.Mutex
		var history []porcupine.Operation
		began := time.Now()
		do := func(id int, in input, call func() (string, error)) (string, bool) {
			op := porcupine.Operation{ClientId: id, Input: in, Call: int64(time.Since(began))}
			body, err := call()
			op.Return, op.Output = int64(time.Since(began)), output{body, err != nil}
			if err != nil {
				op.Return = int64(time.Hour) // it may still happen
			}
			mu.Lock()
			history = append(history, op)
			mu.Unlock()
			return body, err == nil
		}
		var wg sync.WaitGroup
		for id := range 4 {
			wg.Go(func() {
				for i := range 12 {
					if id < 2 {
						body := fmt.Sprintf("%d-%d", id, i)
						if _, ok := do(id, input{"send", body}, func() (string, error) {
							_, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: &body, MessageGroupId: new("g"), MessageDeduplicationId: &body})
							return "", err
						}); !ok {
							return
						}
						continue
					}
					var receipt *string
					body, ok := do(id, input{op: "receive"}, func() (string, error) {
						out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url})
						if err != nil || len(out.Messages) == 0 {
							return "", err
						}
						receipt = out.Messages[0].ReceiptHandle
						return *out.Messages[0].Body, nil
					})
					if ok && body != "" {
						_, ok = do(id, input{"delete", body}, func() (string, error) {
							_, err := client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: receipt})
							return "", err
						})
					}
					if !ok {
						return
					}
				}
			})
		}
		if round%2 == 1 {
			time.Sleep(rand.N(60 * time.Millisecond))
			s.kill()
		}
		wg.Wait()
		if round%2 == 1 {
			s.start()
			client, url = s.sqs(), s.url(name)
			for range 60 { // what is there now is part of it
				var receipt *string
				body, _ := do(9, input{op: "receive"}, func() (string, error) {
					out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url})
					if err != nil || len(out.Messages) == 0 {
						return "", err
					}
					receipt = out.Messages[0].ReceiptHandle
					return *out.Messages[0].Body, nil
				})
				if body == "" {
					break
				}
				do(9, input{"delete", body}, func() (string, error) {
					_, err := client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: receipt})
					return "", err
				})
			}
		}
		if porcupine.CheckOperationsTimeout(model.ToModel(), history, time.Minute) == porcupine.Illegal {
			t.Fatalf("round %d is not linearizable: %+v", round, history)
		}
	}
	s.stop()
}
