package eventsource

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// childDir names the directory of the store of the child of TestKill.
const childDir = "EVENTSOURCE_TEST_CHILD_DIR"

// The stream of TestKill: the same in every process. Records arrived long ago, a tenth of a second apart, so that windows are over as soon as they are read.
const (
	killRecords = 20_000
	killKeys    = 50
	killWindow  = 20 * time.Second
)

var killBegin = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func killStream() *memStream {
	s := newStream("0")
	for i := 1; i <= killRecords; i++ {
		id := strconv.Itoa(i)
		s.shards[0].records = append(s.shards[0].records, Record{
			ID: id, Key: fmt.Sprint("key", i%killKeys), Arrival: killBegin.Add(time.Duration(i) * 100 * time.Millisecond),
			JSON: []byte(`{"id":"` + id + `"}`),
		})
	}
	s.shards[0].closed = true
	return s
}

// killBad reports whether a record fails for ever.
func killBad(id string) bool { n, _ := strconv.Atoi(id); return n%4999 == 0 }

// child is what a process of TestKill runs: two mappings, one with ten batches in flight, splits and a destination, one that sums in windows. It
// says on standard output what was done.
type child struct{ out sync.Mutex }

func (c *child) say(format string, args ...any) {
	c.out.Lock()
	defer c.out.Unlock()
	fmt.Fprintf(os.Stdout, format+"\n", args...)
}

func (c *child) Open(*Mapping) (any, error) { return killStream(), nil }

func (c *child) Invoke(_ context.Context, m *Mapping, _ string, payload []byte) (*Answer, error) {
	var e invocation
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	ids := make([]string, len(e.Records))
	for i, r := range e.Records {
		ids[i] = r.ID
	}
	if m.ID == "window" {
		var state struct{ Sum int }
		if err := json.Unmarshal(e.State, &state); err != nil {
			return nil, err
		}
		for _, id := range ids {
			n, _ := strconv.Atoi(id)
			state.Sum += n
		}
		if e.Final {
			c.say("sum %s %d", e.Window.Start, state.Sum)
		}
		return &Answer{Payload: fmt.Appendf(nil, `{"state":{"Sum":%d}}`, state.Sum)}, nil
	}
	if slices.ContainsFunc(ids, killBad) {
		return &Answer{FunctionError: "Unhandled"}, nil
	}
	c.say("done %s", strings.Join(ids, " "))
	return &Answer{}, nil
}

func (c *child) Deliver(_ context.Context, d *Delivery) (string, error) {
	var f failureRecord
	if err := json.Unmarshal(d.Body, &f); err != nil {
		return "", err
	}
	c.say("lost %s %s", f.Kinesis.First, f.Kinesis.Last)
	return "", nil
}

func (c *child) run(t *testing.T, dir string) {
	db, err := pebblekv.Open(pebblekv.Options{Dir: dir, MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithCancel(t.Context())
	e := New(db, Options{Sources: c, Invoker: c, Destination: c})
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	plain := mapping(func(m *Mapping) {
		m.ID, m.Parallelization, m.BatchSize, m.Bisect, m.MaxRetries, m.OnFailure = "plain", 10, 20, true, 1, deadARN
	})
	windows := mapping(func(m *Mapping) { m.ID, m.BatchSize, m.Aggregate.Size = "window", 30, killWindow })
	for _, m := range []*Mapping{plain, windows} {
		if err := e.Set(m); err != nil {
			t.Fatal(err)
		}
	}
	for {
		drained := 0
		for _, m := range []*Mapping{plain, windows} {
			r, err := e.runnerOf(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			s := r.(*stream)
			s.mu.Lock()
			shards := s.all()
			s.mu.Unlock()
			for _, sh := range shards {
				if sh.isDrained() {
					drained++
				}
			}
		}
		if drained == 2 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	c.say("drained")
	<-ctx.Done() // the destination may still be told: the parent kills when it has seen everything
	cancel()
}

// TestKill kills a process with a pipeline under way, again and again on the same store. In the end every record was processed or given up, each
// key's in order, the bad ones alone are given up, and all windows' sums are exact.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		new(child).run(t, dir)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	seen := &killed{first: map[string]bool{}, keys: map[string][]int{}, lost: map[string]bool{}, sums: map[string]string{}}
	bad := killRecords / 4999
	for round := range rounds + 1 {
		cmd := exec.Command(exe, "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left, drained, over := 1+rand.IntN(150), false, false
		if round == rounds {
			left = -1
		}
		for r := bufio.NewReader(stdout); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				break // the last line may be torn
			}
			drained = drained || line == "drained\n"
			seen.line(t, strings.TrimSpace(line))
			if left--; !over && (left == 0 || drained && len(seen.lost) == bad) {
				over = true
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
		if !over {
			t.Fatalf("the child ended by itself: %s", stderr.String())
		}
	}
	for i := 1; i <= killRecords; i++ {
		if id := strconv.Itoa(i); seen.first[id] == killBad(id) || seen.lost[id] != killBad(id) {
			t.Errorf("record %s: processed %t, given up %t", id, seen.first[id], seen.lost[id])
		}
	}
	for key, order := range seen.keys {
		if !slices.IsSorted(order) {
			t.Errorf("the records of key %s are not in order", key)
		}
	}
	want := map[string]string{}
	sums := map[time.Time]int{}
	for i := 1; i <= killRecords; i++ {
		sums[killBegin.Add(time.Duration(i)*100*time.Millisecond).Truncate(killWindow)] += i
	}
	for start, sum := range sums {
		want[instant(start)] = strconv.Itoa(sum)
	}
	if !maps.Equal(seen.sums, want) {
		t.Errorf("%d windows have other sums than the %d there are", len(seen.sums), len(want))
	}
	t.Logf("%d of %d records were processed again", seen.again, killRecords)
}

// killed is what the children of TestKill said.
type killed struct {
	first map[string]bool  // records that were processed
	keys  map[string][]int // in the order in which they were processed first
	lost  map[string]bool
	sums  map[string]string
	again int
}

func (k *killed) line(t *testing.T, line string) {
	f := strings.Fields(line)
	switch {
	case len(f) > 1 && f[0] == "done":
		for _, id := range f[1:] {
			if k.first[id] {
				k.again++
				continue
			}
			k.first[id] = true
			n, _ := strconv.Atoi(id)
			key := strconv.Itoa(n % killKeys)
			k.keys[key] = append(k.keys[key], n)
		}
	case len(f) == 3 && f[0] == "lost":
		if f[1] != f[2] {
			t.Errorf("more than a record was given up: %s", line)
		}
		k.lost[f[1]] = true
	case len(f) == 3 && f[0] == "sum":
		if before, known := k.sums[f[1]]; known && before != f[2] {
			t.Errorf("the window of %s has the sum %s and then %s", f[1], before, f[2])
		}
		k.sums[f[1]] = f[2]
	}
}
