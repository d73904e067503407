package eventsource

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// memQueue is a Queue and Waker in memory. Like SQS's FIFO queues it delivers nothing of a group of which something is in flight.
type memQueue struct {
	visibility time.Duration
	fifo       bool
	most       int // receives before a message moves to dead; 0: never

	mu       sync.Mutex
	next     int
	messages []*memMessage
	dead     []string
	awake    func(string)
	takes    int
	fail     error
}

type memMessage struct {
	Record
	until time.Time // hidden
	data  string
}

func (q *memQueue) send(group string, bodies ...string) {
	q.mu.Lock()
	for _, b := range bodies {
		q.next++
		q.messages = append(q.messages, &memMessage{Record: Record{ID: "m" + strconv.Itoa(q.next), Key: group, Arrival: time.Now(), Data: []byte(b)}, data: b})
	}
	f := q.awake
	q.mu.Unlock()
	if f != nil {
		f("")
	}
}

func (q *memQueue) OnArrival(f func(string)) func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.awake = f
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.awake = nil
	}
}

func (q *memQueue) Take(_ context.Context, max int, visibility time.Duration) (found []Record, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.takes++
	if q.fail != nil {
		return nil, q.fail
	}
	if visibility == 0 {
		visibility = q.visibility
	}
	now := time.Now()
	locked := map[string]bool{}
	for _, m := range q.messages {
		if q.fifo && m.until.After(now) {
			locked[m.Key] = true
		}
	}
	q.messages = slices.DeleteFunc(q.messages, func(m *memMessage) bool {
		if len(found) == max || m.until.After(now) || locked[m.Key] {
			return false
		}
		if q.most > 0 && m.Receives >= q.most {
			q.dead = append(q.dead, m.data)
			return true
		}
		m.Receives++
		m.until = now.Add(visibility)
		m.Handle = fmt.Sprint(m.ID, "/", m.Receives)
		r := m.Record
		r.JSON, _ = json.Marshal(map[string]string{"id": m.ID, "key": m.Key, "data": m.data})
		found = append(found, r)
		return false
	})
	return found, nil
}

func (q *memQueue) Delete(_ context.Context, messages []Record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = slices.DeleteFunc(q.messages, func(m *memMessage) bool {
		return slices.ContainsFunc(messages, func(r Record) bool { return r.Handle == m.Handle })
	})
	return nil
}

func (q *memQueue) Hide(_ context.Context, messages []Record, visibility time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if slices.ContainsFunc(messages, func(r Record) bool { return r.Handle == m.Handle }) {
			m.until = time.Now().Add(visibility)
		}
	}
	return nil
}

func (q *memQueue) Describe(context.Context) (time.Duration, bool, error) {
	return q.visibility, q.fifo, nil
}

func (q *memQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.messages)
}

func queueMapping(change func(*Mapping)) *Mapping {
	return mapping(func(m *Mapping) {
		m.SourceARN, m.BatchSize = queueARN, 10
		if change != nil {
			change(m)
		}
	})
}

// The poison test over a queue, with what is Mayfly's own: of five messages only the bad one is given up.
func TestQueuePoison(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*Mapping)
		report  bool
		batches string
	}{
		{"bisect", func(m *Mapping) { m.Bisect = true }, false, "a b bad c d!|a b|bad c d!|bad!|c d|bad!"},
		{"report", func(m *Mapping) { m.ReportItemFailures = true }, true, "a b bad c d|bad"},
		{"both", func(m *Mapping) { m.Bisect, m.ReportItemFailures = true, true }, true, "a b bad c d|bad"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &memQueue{visibility: 30 * time.Second}
				q.send("", "a", "b", "bad", "c", "d")
				w := newWorld(t, q, poison(c.report))
				defer w.close()
				w.set(queueMapping(func(m *Mapping) {
					m.MaxRetries, m.OnFailure = 1, deadARN
					c.change(m)
				}))
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				w.expect("batches", strings.Join(w.batches(), "|"), c.batches)
				w.expect("destination", w.lost(), "[m3 RetryAttemptsExhausted 2]")
				w.expect("left", q.left(), 0)
			})
		})
	}
}

// A failing batch appears again after its visibility timeout, and goes where the queue's redrive policy says.
func TestQueueRedrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: 30 * time.Second, most: 3}
		w := newWorld(t, q, poison(false))
		defer w.close()
		w.set(queueMapping(nil))
		q.send("", "a", "bad")
		begin := time.Now()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a bad! a bad! a bad!]")
		w.expect("dead", q.dead, "[a bad]")
		w.expect("left", q.left(), 0)
		for i, c := range w.calls {
			if at := c.at.Sub(begin); at != time.Duration(i)*30*time.Second {
				t.Errorf("attempt %d after %v", i+1, at)
			}
		}
	})
}

func TestQueueReports(t *testing.T) {
	for answer, left := range map[string]int{
		``: 0, `null`: 0, `""`: 0, `[]`: 0, `{}`: 0, `{"batchItemFailures":[]}`: 0, `{"batchItemFailures":null}`: 0, `{"statusCode":200}`: 0,
		`{"BatchItemFailures":[{"itemIdentifier":"m2"}]}`:                           0,
		`{"batchItemFailures":[{"itemIdentifier":"m2"}]}`:                           1,
		`{"batchItemFailures":[{"itemIdentifier":"m1"},{"itemIdentifier":"m1"}]}`:   1,
		`{"batchItemFailures":[{"itemIdentifier":""}]}`:                             2,
		`{"batchItemFailures":[{"itemIdentifier":null}]}`:                           2,
		`{"batchItemFailures":[{"itemIdentifier":7}]}`:                              2,
		`{"batchItemFailures":[{"foo":"m1"}]}`:                                      2,
		`{"batchItemFailures":[{"itemIdentifier":"m1"},{"itemIdentifier":"none"}]}`: 2,
		`{"batchItemFailures":[null]}`:                                              2,
		`{"batchItemFailures":{}}`:                                                  2,
		`"done"`:                                                                    2,
		`not JSON`:                                                                  2,
	} {
		synctest.Test(t, func(t *testing.T) {
			q := &memQueue{visibility: 30 * time.Second}
			q.send("", "a", "b")
			w := newWorld(t, q, func(invocation) (string, error) { return answer, nil })
			defer w.close()
			w.set(queueMapping(func(m *Mapping) { m.ReportItemFailures = true }))
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := q.left(); got != left {
				t.Errorf("after %s %d messages are left, want %d", answer, got, left)
			}
		})
	}
}

// Messages of a group are processed one batch at a time, in order, whatever fails; other groups go on.
func TestQueueGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: 30 * time.Second, fifo: true}
		var mu sync.Mutex
		running, tries := map[string]int{}, map[string]int{}
		w := newWorld(t, q, func(c invocation) (string, error) {
			groups := map[string]bool{}
			for _, r := range c.Records {
				groups[r.Key] = true
			}
			mu.Lock()
			for g := range groups {
				if running[g]++; running[g] > 1 {
					t.Errorf("group %s is in flight twice", g)
				}
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			for g := range groups {
				running[g]--
			}
			if tries[c.Records[0].Data]++; c.Records[0].Data == "g3-2" && tries["g3-2"] < 3 {
				return "", errFunction
			}
			return "", nil
		})
		defer w.close()
		w.set(queueMapping(func(m *Mapping) { m.BatchSize = 2 }))
		for i := range 10 {
			for g := range 7 {
				q.send(fmt.Sprint("g", g), fmt.Sprintf("g%d-%d", g, i))
			}
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		order := map[string][]string{}
		for _, c := range w.calls {
			if !c.failed {
				for _, r := range c.Records {
					order[r.Key] = append(order[r.Key], r.Data)
				}
			}
		}
		w.expect("groups", len(order), 7)
		for _, g := range slices.Sorted(maps.Keys(order)) {
			if len(order[g]) != 10 || !slices.IsSorted(order[g]) {
				t.Errorf("group %s: %v", g, order[g])
			}
		}
		w.expect("left", q.left(), 0)
	})
}

// Five batches at first, five more each second while all are busy, never more than MaximumConcurrency, none when there is nothing to do.
// What becomes visible while the function has its group is processed when the group is free: not a visibility timeout later, and with no receive lost.
func TestQueueGroupVisibleEarly(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 2 * time.Hour} { // with the longer one there is no time left for what waited: it is returned
		synctest.Test(t, func(t *testing.T) {
			q := &memQueue{visibility: time.Hour, fifo: true}
			if timeout < q.visibility {
				q.most = 2
			}
			var calls atomic.Int32
			w := newWorld(t, q, func(c invocation) (string, error) {
				if calls.Add(1) == 1 { // as a function does that wants them again soon
					q.mu.Lock()
					for _, m := range q.messages {
						m.until = time.Time{}
					}
					q.mu.Unlock()
					q.awake("")
					time.Sleep(time.Second)
					return "", errFunction
				}
				return "", nil
			})
			defer w.close()
			q.send("g", "a", "b", "c")
			w.set(queueMapping(func(m *Mapping) { m.BatchSize, m.Timeout = 3, timeout }))
			time.Sleep(2 * time.Second)
			synctest.Wait()
			w.expect("batches", w.batches(), "[a b c! a b c]")
			w.expect("dead", q.dead, "[]")
			w.expect("left", q.left(), 0)
		})
	}
}

func TestQueueScaling(t *testing.T) {
	for _, c := range []struct {
		most, first int
		want        []int // in flight after 1, 11 and 61 seconds
	}{{0, 5, []int{10, 60, 310}}, {7, 5, []int{7, 7, 7}}, {2, 2, []int{2, 2, 2}}} {
		synctest.Test(t, func(t *testing.T) {
			q := &memQueue{visibility: time.Hour}
			for i := range 2000 {
				q.send("", fmt.Sprint(i))
			}
			release := make(chan struct{})
			w := newWorld(t, q, func(invocation) (string, error) { <-release; return "", nil })
			defer w.close()
			w.set(queueMapping(func(m *Mapping) { m.BatchSize, m.MaxConcurrency = 1, c.most }))
			var got []int
			synctest.Wait()
			w.expect("at once", w.engine.Status(t.Context(), "m").Metrics.InFlight, c.first)
			for _, d := range []time.Duration{time.Second, 10 * time.Second, 50 * time.Second} {
				time.Sleep(d)
				synctest.Wait()
				got = append(got, w.engine.Status(t.Context(), "m").Metrics.InFlight)
			}
			for i := range got {
				if got[i] < c.want[i]*8/10 || got[i] > c.want[i] {
					t.Errorf("MaximumConcurrency %d: in flight %v, want %v", c.most, got, c.want)
					break
				}
			}
			close(release)
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			w.expect("left", q.left(), 0)
			w.expect("in flight", w.engine.Status(t.Context(), "m").Metrics.InFlight, 0)
			takes := q.takes
			time.Sleep(time.Hour)
			w.expect("takes of an idle hour", q.takes-takes, 0)
		})
	}
}

func TestQueueWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: time.Minute}
		w := newWorld(t, q, func(invocation) (string, error) { return "", nil })
		defer w.close()
		w.set(queueMapping(func(m *Mapping) { m.BatchSize, m.Window = 25, 10*time.Second }))
		begin := time.Now()
		for i := range 20 { // one a second: ten and eleven in a window
			q.send("", strconv.Itoa(i))
			time.Sleep(time.Second)
		}
		time.Sleep(20 * time.Second)
		for i := range 60 { // two full batches at once, the rest after the window
			q.send("", strconv.Itoa(i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		var got []string
		for _, c := range w.calls {
			got = append(got, fmt.Sprintf("%d@%v", len(c.Records), c.at.Sub(begin)))
		}
		if len(got) != 5 || got[0] != "10@10s" && got[0] != "11@10s" {
			t.Errorf("batches %v", got)
		}
		w.expect("full batches", strings.Join(got[2:], " "), "25@40s 25@40s 10@50s")
		w.expect("left", q.left(), 0)
	})
}

// Throttled messages wait for the function for half their visibility timeout, then appear again; none is lost.
func TestQueueThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: 30 * time.Second}
		q.send("", "a", "b")
		until := time.Now().Add(40 * time.Second)
		w := newWorld(t, q, func(invocation) (string, error) {
			if time.Now().Before(until) {
				return "", errThrottle
			}
			return "", nil
		})
		defer w.close()
		w.set(queueMapping(nil))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a b]")
		w.expect("left", q.left(), 0)
		if s := w.engine.Status(t.Context(), "m"); s.Metrics.Throttles == 0 || s.Result != ResultOK {
			t.Errorf("status %+v", s)
		}
	})
}

// A mapping that is disabled lets its batch finish and takes no more; messages that waited for a full batch return at once.
func TestQueueStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: time.Hour}
		w := newWorld(t, q, func(invocation) (string, error) { time.Sleep(time.Minute); return "", nil })
		defer w.close()
		w.set(queueMapping(func(m *Mapping) { m.BatchSize = 1 }))
		q.send("", "a")
		time.Sleep(time.Second)
		w.engine.Stop("m")
		w.expect("batches", w.batches(), "[a]")
		q.send("", "b")
		time.Sleep(time.Minute)
		w.expect("left", q.left(), 1)
		w.set(queueMapping(func(m *Mapping) { m.BatchSize, m.Window = 2, 5*time.Minute }))
		time.Sleep(time.Second)
		w.engine.Stop("m")
		w.set(queueMapping(nil))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a b]")
		w.expect("left", q.left(), 0)
	})
}

// A queue that is deleted is a problem, not an end: the mapping goes on when there is one again.
func TestQueueGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: time.Minute, fail: ErrGone}
		w := newWorld(t, q, poison(false))
		defer w.close()
		w.set(queueMapping(nil))
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := w.engine.Status(t.Context(), "m"); !strings.HasPrefix(s.Result, "PROBLEM: ") || s.Metrics.Errors < 3 {
			t.Errorf("status %+v", s)
		}
		q.mu.Lock()
		q.fail = nil
		q.mu.Unlock()
		q.send("", "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a]")
	})
}

func TestQueueAgeAndFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: 30 * time.Second}
		q.send("", "old")
		time.Sleep(2 * time.Minute)
		q.send("", "drop-1", "a", "drop-2")
		w := newWorld(t, q, poison(false))
		defer w.close()
		w.set(queueMapping(func(m *Mapping) { m.MaxAge, m.OnFailure, m.Filter = time.Minute, deadARN, notDropped{} }))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a]")
		w.expect("destination", w.lost(), "[m1 RecordAgeExceeded 1]")
		w.expect("left", q.left(), 0)
	})
}

// notDropped is a Filter that takes all but what begins with "drop".
type notDropped struct{}

func (notDropped) Match(r *Record) bool { return !strings.HasPrefix(string(r.Data), "drop") }
