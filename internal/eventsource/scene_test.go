package eventsource

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// A stream that is deleted and made again under its name is read from where the mapping starts, wherever it had come in the old one, whatever the
// new one's sequence numbers are. What the function has of the old one ends first; what was to be tried again is gone.
func TestStreamMadeAgain(t *testing.T) {
	for _, c := range []struct {
		name    string
		next    int  // sequence number behind which the new stream begins
		stopped bool // meanwhile
		bad     bool // the last record is tried again and again
		change  func(*Mapping)
	}{
		{name: "lower numbers"},
		{name: "higher numbers", next: 1000},
		{name: "while disabled", stopped: true},
		{name: "retries", next: 1000, bad: true},
		{name: "retries, while disabled", stopped: true, bad: true},
		{name: "lanes", change: func(m *Mapping) { m.Parallelization = 10 }},
		{name: "windows", bad: true, change: func(m *Mapping) { m.Aggregate.Size = time.Hour }},
		{name: "windows, while disabled", stopped: true, change: func(m *Mapping) { m.Aggregate.Size = time.Hour }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStream()
				s.again(0, Shard{ID: "0", First: "first"}, Shard{ID: "1", First: "first"})
				fails := poison(false)
				var states []string
				w := newWorld(t, s, func(c invocation) (string, error) {
					states = append(states, string(c.State))
					time.Sleep(time.Second)
					return fails(c)
				})
				defer w.close()
				m := mapping(func(m *Mapping) {
					if c.change != nil {
						c.change(m)
					}
				})
				w.set(m)
				s.put("0", "k", "a", "b")
				time.Sleep(5 * time.Second)
				if c.bad {
					s.put("0", "k", "bad")
					time.Sleep(5 * time.Second)
				}
				if c.stopped {
					w.engine.Stop("m")
				}
				s.again(c.next, Shard{ID: "0", First: "another"})
				s.put("0", "k", "c", "d")
				if c.stopped {
					w.set(m)
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				s.put("0", "k", "e")
				time.Sleep(5 * time.Second)
				synctest.Wait()
				var got []string
				for _, b := range w.batches() {
					if b != "bad!" {
						got = append(got, b)
					}
				}
				w.expect("batches", strings.Join(got, "|"), "a b|c d|e")
				if strings.HasPrefix(c.name, "windows") && states[slices.Index(w.batches(), "c d")] != "{}" {
					t.Errorf("states %v: the new stream's window begins with an old one's", states)
				}
			})
		})
	}
}

// The function ends with the old stream's records before it gets the new one's, and their progress is not that of the new stream.
func TestStreamMadeAgainInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream()
		s.again(1000, Shard{ID: "0", First: "first"})
		var busy atomic.Int32
		w := newWorld(t, s, func(invocation) (string, error) {
			if busy.Add(1) > 1 {
				t.Error("two batches of the shard at once")
			}
			defer busy.Add(-1)
			time.Sleep(time.Minute)
			return "", nil
		})
		defer w.close()
		w.set(mapping(nil))
		s.put("0", "k", "a")
		time.Sleep(time.Second)
		s.again(0, Shard{ID: "0", First: "another"})
		s.put("0", "k", "b")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.stop()
		w.start()
		w.set(mapping(nil))
		s.put("0", "k", "c")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a b c]")
		w.expect("rows", w.rows(), 2) // of the shard, and the last result
	})
}

// A shard that follows one that the mapping knows is read from its beginning, wherever the mapping starts: here at a time that its records do not
// reach, since the clock was set back. So is one that appears while the engine is away, and one whose parent is gone by then.
func TestLaterShards(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStream("old", "0")
			s.shards[1].Parents, s.shards[0].closed = []string{"old"}, true
			s.put("old", "k", "x")
			s.put("0", "k", "y")
			w := newWorld(t, s, poison(false))
			defer w.close()
			m := mapping(func(m *Mapping) { m.Start.At = time.Now().Add(24 * time.Hour) })
			w.set(m)
			time.Sleep(time.Minute)
			synctest.Wait()
			w.expect("before", w.batches(), "[]")
			if away {
				w.stop()
			}
			s.reshard("1", "0")
			s.put("1", "k", "a", "b")
			s.reshard("2", "1")
			s.reshard("3", "1")
			s.put("2", "k", "c")
			s.put("3", "l", "d")
			if away {
				s.remove("old", "0")
				w.start()
				w.set(m)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			got := w.batches()
			if len(got) == 3 {
				slices.Sort(got[1:])
			}
			w.expect(fmt.Sprint("away ", away), strings.Join(got, "|"), "a b|c|d")
		})
	}
}

// Records that fail for ever are tried again until the stream does not have them any more, as on AWS; then what follows is processed.
func TestRecordsExpireInTheStream(t *testing.T) {
	for name, change := range map[string]func(*Mapping){
		"failures":  func(*Mapping) {},
		"reports":   func(m *Mapping) { m.ReportItemFailures = true },
		"throttles": func(*Mapping) {},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStream("0")
			m := mapping(func(m *Mapping) { m.BatchSize, m.OnFailure = 3, deadARN; change(m) })
			fails := poison(m.ReportItemFailures)
			w := newWorld(t, s, func(c invocation) (string, error) {
				if name == "throttles" && strings.Contains(c.data(), "bad") {
					return "", errThrottle
				}
				return fails(c)
			})
			defer w.close()
			w.set(m)
			s.put("0", "k", "bad1", "bad2")
			time.Sleep(time.Hour)
			s.put("0", "k", "bad3", "a", "b")
			time.Sleep(23 * time.Hour)
			synctest.Wait()
			if n := len(w.lost()); n != 0 {
				t.Errorf("%s: given up before they expired: %v", name, w.lost())
			}
			s.expire(time.Now().Add(-23*time.Hour - 30*time.Minute)) // the first two
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if got := w.lost(); len(got) != 1 || !strings.HasPrefix(got[0], "1-2 2 RecordAgeExceeded ") {
				t.Errorf("%s: given up %v", name, got)
			}
			s.expire(time.Now().Add(-time.Hour))
			s.put("0", "k", "c")
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if got := w.lost(); len(got) != 2 || !strings.HasPrefix(got[1], "3-") {
				t.Errorf("%s: given up %v", name, got)
			}
			w.expect(name, w.batches()[len(w.batches())-1], "c")
		})
	}
}

// A shard that goes with its records, while one of them is tried again, gives way to those that follow it.
func TestShardExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.OnFailure = deadARN }))
		s.put("0", "k", "bad", "bad")
		s.reshard("1", "0")
		s.put("1", "k", "a")
		time.Sleep(24 * time.Hour)
		s.remove("0")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.expect("last", w.batches()[len(w.batches())-1], "a")
		if got := w.lost(); len(got) != 1 || !strings.HasPrefix(got[0], "1-2 2 RecordAgeExceeded ") {
			t.Errorf("given up %v", got)
		}
	})
}

// The end of a window that fails for ever is tried until the stream has none of the window's records any more.
func TestWindowEndExpiresInTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		first := time.Now().UTC().Format(time.RFC3339)
		w := newWorld(t, s, func(c invocation) (string, error) {
			if c.Final && c.Window.Start == first {
				return "", errFunction
			}
			return `{"state":{}}`, nil
		})
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size = 10 * time.Second }))
		s.put("0", "k", "a")
		time.Sleep(time.Hour)
		s.put("0", "k", "b")
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		w.expect("before", w.batches()[len(w.batches())-1], "!")
		s.expire(time.Now().Add(-23*time.Hour - 30*time.Minute))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.expect("after", strings.Join(w.batches()[len(w.batches())-2:], "|"), "b|")
	})
}

// The end of a window whose state alone does not fit in an event is given up.
func TestWindowEndTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, func(c invocation) (string, error) {
			if c.Early {
				return "", apierr.New("RequestTooLargeException", 413, "Request must be smaller than 6291456 bytes for the InvokeFunction operation")
			}
			if c.data() == "large" {
				return `{"state":"` + strings.Repeat("x", 6<<20-20) + `"}`, nil
			}
			return `{"state":{}}`, nil
		})
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size, m.BatchSize, m.OnFailure = time.Minute, 1, deadARN }))
		s.put("0", "k", "large", "a")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.expect("batches", strings.Join(w.batches(), "|"), "large|a|")
		if len(w.dead) != 1 || w.dead[0].RequestContext.Condition != oversized {
			t.Errorf("destination %+v", w.dead)
		}
	})
}

// A stream whose clock is ahead of or behind the engine's, as after one that was set: windows last as long as they do, and no record counts twice or
// is left out. At half time the engine begins again.
func TestWindowsOfAnotherClock(t *testing.T) {
	for _, skew := range []time.Duration{24 * time.Hour, -24 * time.Hour, time.Second, -time.Second} {
		for name, a := range map[string]Aggregate{
			"tumbling": {Size: 10 * time.Second}, "sliding": {Size: 10 * time.Second, Slide: 5 * time.Second}, "session": {Size: 5 * time.Second, Session: true},
		} {
			synctest.Test(t, func(t *testing.T) {
				s := newStream("0")
				sums, seen := map[string]int{}, map[string]bool{} // by window, by window and record: an invocation may come again when the engine stops
				var last time.Time
				w := newWorld(t, s, func(c invocation) (string, error) {
					var state struct{ Sum int }
					if err := json.Unmarshal(c.State, &state); err != nil {
						t.Error(err)
					}
					state.Sum += len(c.Records)
					for _, r := range c.Records {
						seen[c.Window.Start+r.ID] = true
					}
					if sum, before := sums[c.Window.Start]; before && sum != state.Sum {
						t.Errorf("%s, set by %v: the window of %s ends with %d and %d", name, skew, c.Window.Start, sum, state.Sum)
					}
					if c.Final {
						sums[c.Window.Start], last = state.Sum, time.Now()
					}
					b, _ := json.Marshal(state)
					return `{"state":` + string(b) + `}`, nil
				})
				defer w.close()
				m := mapping(func(m *Mapping) { m.Aggregate = a })
				w.set(m)
				for i := range 30 {
					if i == 10 {
						s.skew = skew
					}
					if i == 20 {
						s.skew = 0
					}
					if i == 25 {
						w.stop()
						w.start()
						w.set(m)
					}
					s.put("0", "k", "x")
					time.Sleep(time.Second)
				}
				end := time.Now()
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				sum := 0
				for _, n := range sums {
					sum += n
				}
				if sum != len(seen) || sum < 30 || name != "sliding" && sum != 30 {
					t.Errorf("%s, set by %v: %d records, of which %d were in windows that ended", name, skew, len(seen), sum)
				}
				if late := last.Sub(end); late > a.Size+a.Size+2*grace {
					t.Errorf("%s, set by %v: the last window ended %v after the last record", name, skew, late)
				}
				w.expect("rows", w.rows(), 2) // as above
			})
		}
	}
}

// A record that seems to come from the future is given up when the engine has had it for as long as records may be old.
func TestAgeOfAnotherClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.MaxAge, m.OnFailure, m.BatchSize = time.Minute, deadARN, 1 }))
		s.skew = 24 * time.Hour
		begin := time.Now()
		s.put("0", "k", "bad")
		time.Sleep(30 * time.Second)
		s.put("0", "k", "a")
		if age := w.engine.Status(t.Context(), "m").Metrics.IteratorAge; age < 0 {
			t.Errorf("iterator age %v", age)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.expect("destination", w.lost(), "[1-1 1 RecordAgeExceeded 8]")
		last := w.calls[len(w.calls)-1]
		w.expect("last", last.data(), "a")
		if d := last.at.Sub(begin); d != time.Minute {
			t.Errorf("it went on after %v", d)
		}
	})
}

// What waits in a queue's mapping waits by the monotonic clock.
func TestQueueWaitsByMonotonicClock(t *testing.T) {
	q := &queue{active: true, began: time.Now()}
	defer func() { q.timer.Stop() }()
	for _, d := range []time.Duration{time.Hour, time.Hour + time.Millisecond, 2 * time.Hour, 3 * time.Hour} {
		q.at(q.began.Add(d))
	}
	if len(q.times) != 4 {
		t.Errorf("%d times", len(q.times))
	}
	for _, at := range q.times {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%v has no monotonic reading", at)
		}
	}
}

// A destination that refuses after the server was away for longer than it is tried is tried again all the same.
func TestDestinationAfterLongAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		s.put("0", "k", "bad")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.refuse = errThrottle
		m := mapping(func(m *Mapping) { m.MaxRetries, m.OnFailure = 0, deadARN })
		w.set(m)
		time.Sleep(time.Minute)
		w.stop()
		time.Sleep(48 * time.Hour)
		w.start()
		time.Sleep(10 * time.Minute)
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.expect("destination", w.lost(), "[1-1 1 RetryAttemptsExhausted 1]")
	})
}

// A change of the mapping, as after its function came back, ends the wait for a trouble at once.
func TestChangeEndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		q := &memQueue{visibility: 30 * time.Second}
		var gone atomic.Bool
		gone.Store(true)
		w := newWorld(t, s, func(invocation) (string, error) {
			if gone.Load() {
				return "", apierr.New("ResourceNotFoundException", 404, "Function not found")
			}
			return "", nil
		})
		defer w.close()
		w.set(mapping(nil))
		w.source = q
		of := queueMapping(func(m *Mapping) { m.ID = "q" })
		w.set(of)
		s.put("0", "k", "a")
		q.send("", "b")
		time.Sleep(3*time.Minute + 3*time.Second)
		gone.Store(false)
		w.set(mapping(nil))
		synctest.Wait()
		w.expect("stream", w.batches(), "[a]")
		time.Sleep(30 * time.Second) // the message's visibility
		w.set(of)
		synctest.Wait()
		w.expect("queue", w.batches(), "[a b]")
	})
}
