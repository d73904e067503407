package eventsource

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/kvtest"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// childDir names the directory of the store of the child of TestKill.
const childDir = "EVENTSOURCE_TEST_CHILD_DIR"

// The stream and the queue of TestKill are the same in every process.
const (
	killKeys     = 50
	killSplit    = 3.0 / 5 // of the records are older than a split
	killMessages = 5_000
	killGroups   = 40
)

// killRecords is how many records there are.
func killRecords() int {
	if raceEnabled {
		return 20_000
	}
	return 100_000
}

var killBegin = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// killArrival is when a record arrived, long ago, so that windows are over as soon as they are read: a tenth of a second after the one before, and
// after each thousand a minute later.
func killArrival(n int) time.Time {
	return killBegin.Add(time.Duration(n)*100*time.Millisecond + time.Duration(n/1000)*time.Minute)
}

// killShard is the shard of a record: one of two, of which one was split.
func killShard(n int) string {
	key := n % killKeys
	switch {
	case key%2 == 1:
		return "1"
	case n < int(killSplit*float64(killRecords())):
		return "0"
	case key%4 == 0:
		return "0-0"
	}
	return "0-1"
}

// killBad reports whether a record fails for ever, killFlaky whether it does in company, or unless it is first.
func killBad(n int) bool   { return n%4999 == 0 }
func killFlaky(n int) bool { return n%1999 == 0 }

// killStream is the stream, whose shards are closed. Reading finds a position at once.
type killStream struct {
	*memStream
	numbers map[string][]int
}

func newKillStream() killStream {
	s := killStream{newStream("0", "1"), map[string][]int{}}
	s.reshard("0-0", "0")
	s.reshard("0-1", "0")
	for n := 1; n <= killRecords(); n++ {
		id, sh := strconv.Itoa(n), s.shard(killShard(n))
		sh.records = append(sh.records, Record{
			ID: id, Key: fmt.Sprint("key", n%killKeys), Arrival: killArrival(n), JSON: []byte(`{"id":"` + id + `","shard":"` + sh.ID + `"}`),
		})
		s.numbers[sh.ID] = append(s.numbers[sh.ID], n)
	}
	for _, sh := range s.shards {
		sh.closed = true
	}
	return s
}

func (s killStream) Read(_ context.Context, shard string, from Position, most int) (p Page, err error) {
	after, _ := strconv.Atoi(from.After)
	i, _ := slices.BinarySearch(s.numbers[shard], after+1)
	records := s.shard(shard).records[i:]
	p.Records = slices.Clone(records[:min(most, len(records))])
	p.More = most < len(records)
	p.End = !p.More
	return p, nil
}

// killQueue is a FIFO queue whose messages are there until their deletion is in the store.
type killQueue struct {
	db kv.DB

	mu       sync.Mutex
	messages []*killMessage
}

type killMessage struct {
	Record
	hidden  time.Time
	deleted bool
}

func killDeleted(id string) []byte { return kv.Key("deleted", id) }

func newKillQueue(db kv.DB) (*killQueue, error) {
	q := &killQueue{db: db}
	err := db.View(context.Background(), func(r kv.Reader) error {
		for n := 1; n <= killMessages; n++ {
			id := strconv.Itoa(n)
			if _, deleted, err := r.Get(killDeleted(id)); err != nil {
				return err
			} else if !deleted {
				q.messages = append(q.messages, &killMessage{Record: Record{
					ID: id, Key: fmt.Sprint("group", n%killGroups), Arrival: killBegin, JSON: []byte(`{"id":"` + id + `"}`),
				}})
			}
		}
		return nil
	})
	return q, err
}

func (q *killQueue) Take(_ context.Context, most int, _ time.Duration) (all []Record, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	busy := map[string]bool{}
	now := time.Now()
	for _, m := range q.messages {
		if now.Before(m.hidden) {
			busy[m.Key] = true
		}
	}
	for _, m := range q.messages {
		if len(all) < most && !busy[m.Key] {
			m.Receives++
			m.hidden = now.Add(time.Second)
			all = append(all, m.Record)
		}
	}
	return all, nil
}

func (q *killQueue) Delete(ctx context.Context, messages []Record) error {
	if err := q.db.Update(ctx, func(tx kv.Tx) error {
		for _, m := range messages {
			tx.Set(killDeleted(m.ID), nil)
		}
		return nil
	}); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = slices.DeleteFunc(q.messages, func(m *killMessage) bool {
		return slices.ContainsFunc(messages, func(r Record) bool { return r.ID == m.ID })
	})
	return nil
}

func (q *killQueue) Hide(_ context.Context, messages []Record, visibility time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if slices.ContainsFunc(messages, func(r Record) bool { return r.ID == m.ID }) {
			m.hidden = time.Now().Add(visibility)
		}
	}
	return nil
}

func (q *killQueue) Describe(context.Context) (time.Duration, bool, error) {
	return time.Second, true, nil
}

func (q *killQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.messages) == 0
}

// killMappings are the mappings of TestKill. The number of lanes of one is another in each process.
func killMappings() []*Mapping {
	plain := func(m *Mapping) {
		m.ID, m.Bisect, m.MaxRetries, m.OnFailure, m.Parallelization = "bisect", true, 1, deadARN, 5
	}
	return []*Mapping{
		mapping(plain),
		mapping(func(m *Mapping) { plain(m); m.ID, m.Parallelization = "lanes", 1+rand.IntN(10) }),
		mapping(func(m *Mapping) { plain(m); m.ID, m.Bisect, m.ReportItemFailures = "report", false, true }),
		mapping(func(m *Mapping) { m.ID, m.Aggregate.Size = "tumbling", 20*time.Second }),
		mapping(func(m *Mapping) { m.ID, m.Aggregate = "sliding", Aggregate{Size: time.Minute, Slide: 20 * time.Second} }),
		mapping(func(m *Mapping) { m.ID, m.Aggregate = "session", Aggregate{Size: 30 * time.Second, Session: true} }),
		mapping(func(m *Mapping) { plain(m); m.ID, m.SourceARN, m.BatchSize, m.MaxRetries = "queue", queueARN, 10, 2 }),
	}
}

// child is what a process of TestKill runs. It says on standard output what was done.
type child struct {
	stream killStream
	queue  *killQueue
	out    sync.Mutex
}

func (c *child) say(format string, args ...any) {
	c.out.Lock()
	defer c.out.Unlock()
	fmt.Fprintf(os.Stdout, format+"\n", args...)
}

func (c *child) Open(m *Mapping) (any, error) {
	if m.ID == "queue" {
		return c.queue, nil
	}
	return c.stream, nil
}

func (c *child) Invoke(_ context.Context, m *Mapping, _ string, payload []byte) (*Answer, error) {
	var e invocation
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	var ids []string
	sum := 0
	for i, r := range e.Records {
		n, _ := strconv.Atoi(r.ID)
		bad, flaky := killBad(n), killFlaky(n)
		switch {
		case m.Aggregate.Size > 0:
		case bad && m.ID != "report", flaky && m.ID != "report" && len(e.Records) > 1:
			return &Answer{FunctionError: "Unhandled"}, nil
		case bad, flaky && i > 0:
			if len(ids) > 0 {
				c.say("done %s %s", m.ID, strings.Join(ids, " "))
			}
			return &Answer{Payload: []byte(`{"batchItemFailures":[{"itemIdentifier":"` + r.ID + `"}]}`)}, nil
		}
		ids = append(ids, r.ID)
		sum += n
	}
	if m.Aggregate.Size == 0 {
		c.say("done %s %s", m.ID, strings.Join(ids, " "))
		return &Answer{}, nil
	}
	if rand.IntN(500) == 0 {
		return &Answer{FunctionError: "Unhandled"}, nil
	}
	var state struct{ Sum int }
	if err := json.Unmarshal(e.State, &state); err != nil {
		return nil, err
	}
	state.Sum += sum
	if e.Final {
		c.say("sum %s %s-%s-%s %d", m.ID, e.Shard, e.Window.Start, e.Window.End, state.Sum)
	}
	return &Answer{Payload: fmt.Appendf(nil, `{"state":{"Sum":%d}}`, state.Sum)}, nil
}

func (c *child) Deliver(_ context.Context, d *Delivery) (string, error) {
	var f failureRecord
	if err := json.Unmarshal(d.Body, &f); err != nil {
		return "", err
	}
	if f.SQS != nil {
		c.say("lost %s %s", d.MappingID, strings.Join(f.SQS.Messages, " "))
	} else {
		c.say("lost %s %s %d", d.MappingID, f.Kinesis.First, f.Kinesis.Size)
	}
	return "", nil
}

// run runs the mappings until all is done. The disk refuses up to three writes of what is committed.
func (c *child) run(t *testing.T, dir string) {
	var refused atomic.Int64
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData:
			if strings.HasSuffix(op.Path, ".log") && rand.IntN(200) == 0 && refused.Add(1) <= 3 {
				c.say("refused")
				return errorfs.ErrInjected
			}
		}
		return nil
	}))
	db, err := pebblekv.Open(pebblekv.Options{Dir: dir, FS: disk, MemTableBytes: 64 << 10})
	for err != nil {
		db, err = pebblekv.Open(pebblekv.Options{Dir: dir, FS: disk, MemTableBytes: 64 << 10})
	}
	c.stream = newKillStream()
	if c.queue, err = newKillQueue(db); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	e := New(db, Options{Sources: c, Invoker: c, Destination: c})
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	all := killMappings()
	for _, m := range all {
		if err := e.Set(m); err != nil {
			t.Fatal(err)
		}
	}
	for slices.ContainsFunc(all, func(m *Mapping) bool { return !c.drained(t, e, m) }) || !delivered(t, db) {
		time.Sleep(5 * time.Millisecond)
	}
	c.say("drained")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	db.Close() // the disk may refuse it
}

// drained reports whether nothing of a mapping is left to do.
func (c *child) drained(t *testing.T, e *Engine, m *Mapping) bool {
	if m.ID == "queue" {
		return c.queue.empty()
	}
	r, err := e.runnerOf(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	s := r.(*stream)
	s.mu.Lock()
	shards := s.all()
	s.mu.Unlock()
	return len(shards) == len(c.stream.shards) && !slices.ContainsFunc(shards, func(sh *shard) bool { return !sh.isDrained() })
}

// delivered reports whether nothing is on its way to a destination.
func delivered(t *testing.T, db kv.DB) bool {
	waiting := false
	if err := db.View(t.Context(), func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Prefix("queue", "work."+root, "h")) {
			waiting = true
			return err
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return !waiting
}

// TestKill kills a process with pipelines under way, again and again on the same store, whose disk refuses a write now and then. In the end every record and
// message was processed or given up, those of each key in order, the bad ones alone are given up, and all windows' sums are exact. No more was done
// again than the last batches of each lane.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		new(child).run(t, dir)
		return
	}
	rounds := 12
	switch {
	case testing.Short():
		rounds = 3
	case raceEnabled:
		rounds = 6
	}
	dir := t.TempDir()
	seen := &killed{done: map[string]map[int]int{}, last: map[string]int{}, lost: map[string]map[int]bool{}, sums: map[string]map[string]string{}}
	for _, m := range killMappings() {
		seen.done[m.ID], seen.lost[m.ID], seen.sums[m.ID] = map[int]int{}, map[int]bool{}, map[string]string{}
	}
	for seen.round = range rounds + 1 {
		lines := 1 + rand.IntN(killRecords()/100)
		if seen.round == rounds {
			lines = -1 // to its end
		}
		seen.repeats = map[string]int{}
		kvtest.Kill(t, childDir+"="+dir, lines, func(line string) { seen.line(t, line) })
	}
	if !seen.drained {
		t.Error("the last process ended before all was done")
	}
	for _, m := range killMappings() {
		if m.Aggregate.Size > 0 {
			if want := killSums(m.Aggregate); !maps.Equal(seen.sums[m.ID], want) {
				t.Errorf("%s: %d windows have other sums than the %d there are", m.ID, len(seen.sums[m.ID]), len(want))
			}
			continue
		}
		count := killRecords()
		if m.ID == "queue" {
			count = killMessages
		}
		for n := 1; n <= count; n++ {
			if _, done := seen.done[m.ID][n]; done == killBad(n) || seen.lost[m.ID][n] != killBad(n) {
				t.Errorf("%s: record %d: processed %t, given up %t", m.ID, n, done, seen.lost[m.ID][n])
			}
		}
	}
	t.Logf("%d records, %d kills, %d writes refused, %d records processed again", killRecords(), rounds, seen.refused, seen.again)
}

// killSums is the sum of each window.
func killSums(a Aggregate) map[string]string {
	sums := map[string]int{}
	last := map[string]int{}        // the newest record of each shard
	begin := map[string]time.Time{} // of the session that it is in
	sessions := map[string]int{}    // the sum of that
	end := func(shard string) {
		if n := last[shard]; n > 0 {
			sums[shard+"-"+instant(begin[shard])+"-"+instant(killArrival(n).Add(a.Size))] = sessions[shard]
		}
	}
	for n := 1; n <= killRecords(); n++ {
		shard, at := killShard(n), killArrival(n)
		switch {
		case !a.Session:
			slide := a.slide()
			for start := at.Truncate(slide); start.Add(a.Size).After(at); start = start.Add(-slide) {
				sums[shard+"-"+instant(start)+"-"+instant(start.Add(a.Size))] += n
			}
		case last[shard] == 0 || at.Sub(killArrival(last[shard])) >= a.Size:
			end(shard)
			begin[shard], sessions[shard] = at, 0
		}
		last[shard] = n
		sessions[shard] += n
	}
	if a.Session {
		for shard := range last {
			end(shard)
		}
	}
	want := map[string]string{}
	for window, sum := range sums {
		want[window] = strconv.Itoa(sum)
	}
	return want
}

// killed is what the children of TestKill said.
type killed struct {
	round   int
	done    map[string]map[int]int // by mapping, in which process each record was processed last
	last    map[string]int         // record of a key that was processed for the first time, by mapping and key
	lost    map[string]map[int]bool
	sums    map[string]map[string]string
	repeats map[string]int // records that this process did again, by mapping and shard
	again   int
	refused int // writes
	drained bool
}

func (k *killed) line(t *testing.T, line string) {
	f := strings.Fields(line)
	if len(f) < 2 {
		switch line {
		case "drained":
			k.drained = true
		case "refused":
			k.refused++
		}
		return
	}
	id := f[1]
	switch {
	case f[0] == "done":
		for _, text := range f[2:] {
			n, _ := strconv.Atoi(text)
			key, shard := fmt.Sprint(id, n%killKeys), id+" "+killShard(n)
			if id == "queue" {
				key = fmt.Sprint(id, n%killGroups)
			}
			round, known := k.done[id][n]
			switch k.done[id][n] = k.round; {
			case known && id == "queue":
			case known && round == k.round:
				t.Errorf("%s: record %d was processed twice by process %d", id, n, round)
			case known:
				k.again++
				lanes := map[string]int{"bisect": 5, "report": 5, "lanes": 10}[id]
				if k.repeats[shard]++; k.repeats[shard] == (maxAhead+1)*lanes*100+1 {
					t.Errorf("%s: process %d did more again than the last batches", shard, k.round)
				}
			case n < k.last[key]:
				t.Errorf("%s: record %d was processed after %d of its key", id, n, k.last[key])
			default:
				k.last[key] = n
			}
		}
	case f[0] == "lost":
		for _, text := range f[2:] {
			n, _ := strconv.Atoi(text)
			if id != "queue" && f[3] != "1" {
				t.Errorf("more than a record was given up: %s", line)
			}
			k.lost[id][n] = true
			if id != "queue" {
				break
			}
		}
	case f[0] == "sum" && len(f) == 4:
		if before, known := k.sums[id][f[2]]; known && before != f[3] {
			t.Errorf("%s: the window %s has the sum %s and then %s", id, f[2], before, f[3])
		}
		k.sums[id][f[2]] = f[3]
	}
}
