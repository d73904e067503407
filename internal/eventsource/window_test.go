package eventsource

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sums adds the records of each window in its state, and tells each window's sum when it ends. It fails at random if asked to.
type sums struct {
	mu    sync.Mutex
	ended []string // start-end sum, in seconds since begin
	begin time.Time
	fail  func(invocation) bool
}

func (s *sums) invoke(c invocation) (string, error) {
	var state struct{ Sum int }
	if err := json.Unmarshal(c.State, &state); err != nil {
		return "", err
	}
	for _, r := range c.Records {
		n, _ := strconv.Atoi(r.Data)
		state.Sum += n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil && s.fail(c) {
		return "", errFunction
	}
	if c.Final {
		at := func(t string) time.Duration {
			x, _ := time.Parse(time.RFC3339, t)
			return x.Sub(s.begin)
		}
		s.ended = append(s.ended, fmt.Sprintf("%v-%v:%d", at(c.Window.Start), at(c.Window.End), state.Sum))
	}
	b, _ := json.Marshal(state)
	return `{"state":` + string(b) + `}`, nil
}

// feed puts the numbers from 1 to n at 1-second intervals, half a second after each full second.
func feed(s *memStream, n int) {
	time.Sleep(500 * time.Millisecond)
	for i := range n {
		s.put("0", fmt.Sprint(i), strconv.Itoa(i+1))
		time.Sleep(time.Second)
	}
}

func TestTumblingWindows(t *testing.T) {
	for name, fail := range map[string]func(invocation) bool{
		"": nil, "the first of each window fails": func(c invocation) bool { return len(c.Records) == 1 && string(c.State) == "{}" },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStream("0")
			f := &sums{begin: time.Now(), fail: fail}
			w := newWorld(t, s, f.invoke)
			defer w.close()
			if fail != nil {
				tried := map[string]bool{}
				f.fail = func(c invocation) bool {
					first := !tried[c.payload] && fail(c)
					tried[c.payload] = true
					return first
				}
			}
			w.set(mapping(func(m *Mapping) { m.Aggregate.Size = 10 * time.Second }))
			feed(s, 25)
			time.Sleep(time.Minute)
			synctest.Wait()
			w.expect(name, f.ended, "[0s-10s:55 10s-20s:155 20s-30s:115]")
			first, last := w.calls[0], w.calls[len(w.calls)-1]
			if string(first.State) != "{}" || first.Shard != "0" || first.Final || first.Window.Start != "2000-01-01T00:00:00Z" || first.Window.End != "2000-01-01T00:00:10Z" {
				t.Errorf("first event %s", first.payload)
			}
			if len(last.Records) != 0 || !last.Final || last.Early || !strings.HasPrefix(last.payload, `{"Records":[],"window":{"start":"2000-01-01T00:00:20Z","end":"2000-01-01T00:00:30Z"},"state":{"Sum":115},"shardId":"0","eventSourceARN":"`+streamARN+`","isFinalInvokeForWindow":true,"isWindowTerminatedEarly":false}`) {
				t.Errorf("last event %s", last.payload)
			}
			w.expect("rows", w.rows(), 2) // of the shard, and the last result
		})
	}
}

// The state and the windows outlive the engine, wherever it is stopped.
func TestWindowsResume(t *testing.T) {
	for stop := range 12 {
		synctest.Test(t, func(t *testing.T) {
			s := newStream("0")
			f := &sums{begin: time.Now()}
			w := newWorld(t, s, f.invoke)
			defer w.close()
			m := mapping(func(m *Mapping) { m.Aggregate.Size, m.BatchSize, m.Window = 10*time.Second, 3, 2*time.Second })
			w.set(m)
			go feed(s, 15)
			time.Sleep(time.Duration(stop) * 1100 * time.Millisecond)
			w.stop()
			time.Sleep(3 * time.Second)
			w.start()
			w.set(m)
			time.Sleep(time.Minute)
			synctest.Wait()
			w.expect(fmt.Sprint("stopped at ", stop), f.ended, "[0s-10s:55 10s-20s:65]")
		})
	}
}

func TestSlidingWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		f := &sums{begin: time.Now()}
		w := newWorld(t, s, f.invoke)
		defer w.close()
		m := mapping(func(m *Mapping) { m.Aggregate = Aggregate{Size: 10 * time.Second, Slide: 5 * time.Second} })
		w.set(m)
		go feed(s, 12)
		time.Sleep(7 * time.Second)
		w.stop()
		w.start()
		w.set(m)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("sums", f.ended, "[-5s-5s:15 0s-10s:55 5s-15s:63 10s-20s:23]")
		w.expect("rows", w.rows(), 2)
	})
}

// A poison record is given up once in each window that it is in; the sums are of all others.
func TestSlidingPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		f := &sums{begin: time.Now(), fail: func(c invocation) bool { return strings.Contains(c.data(), "1000") }}
		w := newWorld(t, s, f.invoke)
		defer w.close()
		s.put("0", "k", "1", "2", "1000", "4")
		w.set(mapping(func(m *Mapping) {
			m.Aggregate, m.Bisect, m.MaxRetries, m.OnFailure = Aggregate{Size: 10 * time.Second, Slide: 5 * time.Second}, true, 1, deadARN
		}))
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("sums", f.ended, "[-5s-5s:7 0s-10s:7]")
		w.expect("destination", w.lost(), "[3-3 1 RetryAttemptsExhausted 2 3-3 1 RetryAttemptsExhausted 2]")
	})
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		f := &sums{begin: time.Now()}
		w := newWorld(t, s, f.invoke)
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate = Aggregate{Size: 5 * time.Second, Session: true} }))
		for _, pause := range []int{1, 4, 6, 1, 1, 20, 0} {
			s.put("0", "k", "1")
			time.Sleep(time.Duration(pause) * time.Second)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("sessions", f.ended, "[0s-10s:3 11s-18s:3 33s-38s:1]")
	})
}

// A state of more than 1 MB ends the window early; what follows in its time begins anew.
func TestEarlyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, func(c invocation) (string, error) {
			if c.data() == "large" {
				return `{"state":{"x":"` + strings.Repeat("x", maxState) + `"}}`, nil
			}
			return `{"state":{"n":1}}`, nil
		})
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size, m.BatchSize = time.Minute, 1 }))
		s.put("0", "k", "a", "large", "b")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		var got []string
		for _, c := range w.calls {
			got = append(got, fmt.Sprintf("%s %t %t %d", c.data(), c.Final, c.Early, len(c.State)))
		}
		w.expect("events", strings.Join(got, "|"), fmt.Sprintf("a false false 2|large false false 7| true true %d|b false false 2| true false 7", maxState+8))
	})
}

// The end of a window is tried again like a batch, and nothing passes it; an answer without a state is a failure.
func TestWindowEndFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		n := 0
		w := newWorld(t, s, func(c invocation) (string, error) {
			if n++; n == 1 {
				return `{"sum":1}`, nil
			}
			if c.Final && n < 5 {
				return "", errFunction
			}
			return `{"state":{"n":1}}`, nil
		})
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size = 10 * time.Second }))
		s.put("0", "k", "a")
		time.Sleep(10 * time.Second)
		s.put("0", "k", "b")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("batches", strings.Join(w.batches(), "|"), "a|a|!|!||b|")
	})
}

// The end of a window that fails for longer than records may grow old is given up, and the shard goes on.
func TestWindowEndExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, func(c invocation) (string, error) {
			if c.Final && c.Window.Start == "2000-01-01T00:00:00Z" {
				return "", errFunction
			}
			return `{"state":{}}`, nil
		})
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size, m.MaxAge, m.OnFailure = 10*time.Second, time.Minute, deadARN }))
		s.put("0", "k", "a")
		time.Sleep(40 * time.Second)
		s.put("0", "k", "b")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		got := w.batches()
		w.expect("last", strings.Join(got[len(got)-2:], "|"), "b|")
		w.expect("rows", w.rows(), 3) // of the shard, what was given up, and the last result
		if len(w.dead) != 1 || w.dead[0].RequestContext.Condition != expired || w.dead[0].Kinesis.Size != 0 {
			t.Errorf("destination %+v", w.dead)
		}
	})
}

// When a shard ends its windows do, too.
func TestWindowEndOfShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		f := &sums{begin: time.Now()}
		w := newWorld(t, s, f.invoke)
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size = time.Hour }))
		s.put("0", "k", "1", "2")
		s.reshard("1", "0")
		s.put("1", "k", "3")
		time.Sleep(time.Second)
		synctest.Wait()
		w.expect("sums", f.ended, "[0s-1h0m0s:3]")
		w.expect("batches", w.batches(), "[1 2  3]")
	})
}

// Windows that a mapping has no longer end before anything else is processed.
func TestWindowsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		f := &sums{begin: time.Now()}
		w := newWorld(t, s, f.invoke)
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size = time.Hour }))
		s.put("0", "k", "1", "2")
		time.Sleep(time.Second)
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size = time.Minute }))
		s.put("0", "k", "3")
		time.Sleep(time.Second)
		w.set(mapping(func(m *Mapping) { m.Parallelization = 2 }))
		time.Sleep(time.Second)
		synctest.Wait()
		w.expect("sums", f.ended, "[0s-1h0m0s:3 0s-1m0s:3]")
		w.mu.Lock()
		w.function = func(invocation) (string, error) { return "", nil }
		w.mu.Unlock()
		s.put("0", "k", "4")
		time.Sleep(time.Second)
		synctest.Wait()
		w.expect("last", w.batches()[len(w.batches())-1], "4")
	})
}
