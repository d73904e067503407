package eventsource

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// poison fails for batches with a record "bad": with an error, or with a report of it.
func poison(report bool) func(invocation) (string, error) {
	return func(c invocation) (string, error) {
		for _, r := range c.Records {
			if strings.HasPrefix(r.Data, "bad") {
				if report {
					return fmt.Sprintf(`{"state":{},"batchItemFailures":[{"itemIdentifier":%q}]}`, r.ID), nil
				}
				return "", errFunction
			}
		}
		return `{"state":{}}`, nil
	}
}

// TestPoison: of a, b, bad, c and d only bad reaches the destination, the others are processed in order.
func TestPoison(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*Mapping)
		report  bool
		batches []string
		lost    string
	}{
		{"bisect", func(m *Mapping) { m.Bisect = true }, false, []string{"a b bad c d!", "a b", "bad c d!", "bad!", "bad!", "c d"}, "[3-3 1 RetryAttemptsExhausted 2]"},
		{"checkpoint", func(m *Mapping) { m.ReportItemFailures = true }, true, []string{"a b bad c d", "bad c d", "c d"}, "[3-3 1 RetryAttemptsExhausted 2]"},
		{"both", func(m *Mapping) { m.Bisect, m.ReportItemFailures = true, true }, true, []string{"a b bad c d", "bad c d", "c d"}, "[3-3 1 RetryAttemptsExhausted 2]"},
		{"both, exception", func(m *Mapping) { m.Bisect, m.ReportItemFailures = true, true }, false, []string{"a b bad c d!", "a b", "bad c d!", "bad!", "bad!", "c d"}, "[3-3 1 RetryAttemptsExhausted 2]"},
		{"neither", func(*Mapping) {}, false, []string{"a b bad c d!", "a b bad c d!"}, "[1-5 5 RetryAttemptsExhausted 2]"},
		{"window", func(m *Mapping) { m.Bisect, m.Aggregate.Size = true, 10*time.Second }, false, []string{"a b bad c d!", "a b", "bad c d!", "bad!", "bad!", "c d", ""}, "[3-3 1 RetryAttemptsExhausted 2]"},
		{"window and checkpoint", func(m *Mapping) { m.ReportItemFailures, m.Aggregate.Size = true, 10*time.Second }, true, []string{"a b bad c d", "bad c d", "c d", ""}, "[3-3 1 RetryAttemptsExhausted 2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStream("0")
				s.put("0", "k", "a", "b", "bad", "c", "d")
				w := newWorld(t, s, poison(c.report))
				defer w.close()
				w.set(mapping(func(m *Mapping) {
					m.MaxRetries, m.OnFailure = 1, deadARN
					c.change(m)
				}))
				time.Sleep(time.Minute)
				synctest.Wait()
				w.expect("batches", strings.Join(w.batches(), "|"), strings.Join(c.batches, "|"))
				w.expect("destination", w.lost(), c.lost)
			})
		})
	}
}

// With ten batches of a shard in flight over 1,000 keys, of which some hold a bad record, each key's records are processed in order, each good one
// once, and only the bad ones are given up.
func TestParallelPoison(t *testing.T) {
	for _, change := range []func(*Mapping){
		func(m *Mapping) { m.Bisect = true },
		func(m *Mapping) { m.ReportItemFailures = true },
		func(m *Mapping) { m.ReportItemFailures, m.Bisect, m.Window = true, true, time.Second },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStream("0")
			var busy, most atomic.Int32
			m := mapping(func(m *Mapping) {
				m.Parallelization, m.BatchSize, m.MaxRetries, m.OnFailure = 10, 50, 1, deadARN
				change(m)
			})
			fails := poison(m.ReportItemFailures)
			w := newWorld(t, s, func(c invocation) (string, error) {
				n := busy.Add(1)
				defer busy.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(10 * time.Millisecond)
				return fails(c)
			})
			defer w.close()
			w.set(m)
			const keys, each = 1000, 5
			bad := map[string]bool{}
			for i := range each {
				for k := range keys {
					data := fmt.Sprintf("%d-%d", k, i)
					if k%100 == 7 && i == 2 {
						data = "bad"
					}
					for _, id := range s.put("0", fmt.Sprint("key", k), data) {
						if data == "bad" {
							bad[id] = true
						}
					}
				}
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			processed := map[string][]string{}
			for _, c := range w.calls {
				if c.failed {
					continue
				}
				for _, r := range c.Records {
					if bad[r.ID] {
						break // the report says that it and what follows are not done
					}
					processed[r.Key] = append(processed[r.Key], r.Data)
				}
			}
			for k := range keys {
				var want []string
				for i := range each {
					if k%100 != 7 || i != 2 {
						want = append(want, fmt.Sprintf("%d-%d", k, i))
					}
				}
				if got := processed[fmt.Sprint("key", k)]; !slices.Equal(got, want) {
					t.Fatalf("key %d: %v, want %v", k, got, want)
				}
			}
			if len(w.dead) != len(bad) {
				t.Errorf("%d records given up, want %d", len(w.dead), len(bad))
			}
			for _, f := range w.dead {
				if f.Kinesis.Size != 1 || !bad[f.Kinesis.First] {
					t.Errorf("given up: %+v", f.Kinesis)
				}
			}
			if n := most.Load(); n != 10 {
				t.Errorf("at most %d batches in flight, want 10", n)
			}
		})
	}
}

// Attempts wait half a second, doubled each time; a record is given up when it is too old, and younger ones of its batch go on.
func TestBackoffAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.MaxAge, m.OnFailure, m.Window = time.Minute, deadARN, time.Second }))
		begin := time.Now()
		s.put("0", "k", "bad")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		var at []time.Duration
		for _, c := range w.calls {
			at = append(at, c.at.Sub(begin))
		}
		w.expect("attempts", at, "[1s 1.5s 2.5s 4.5s 8.5s 16.5s 32.5s]")
		w.expect("destination", w.lost(), "[1-1 1 RecordAgeExceeded 8]") // as recorded on AWS
		if w.dead[0].ResponseContext != nil {
			t.Error("a record that expired has a responseContext")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		s.put("0", "k", "1", "2")
		time.Sleep(2 * time.Minute)
		s.put("0", "k", "3", "4")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.MaxAge, m.OnFailure = time.Minute, deadARN }))
		time.Sleep(time.Second)
		synctest.Wait()
		w.expect("batches", w.batches(), "[3 4]")
		w.expect("destination", w.lost(), "[1-2 2 RecordAgeExceeded 1]")
	})
}

// Throttles and errors of the service cost no attempt.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		s.put("0", "k", "a", "bad")
		until := time.Now().Add(time.Minute)
		fails := poison(false)
		w := newWorld(t, s, func(c invocation) (string, error) {
			if time.Now().Before(until) {
				return "", errThrottle
			}
			return fails(c)
		})
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.MaxRetries, m.OnFailure = 2, deadARN }))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a bad! a bad! a bad!]")
		w.expect("destination", w.lost(), "[1-2 2 RetryAttemptsExhausted 3]")
		if n := w.engine.Status(t.Context(), "m").Metrics.Throttles; n < 10 || n > 30 {
			t.Errorf("%d throttles in a minute", n)
		}
	})
}

func TestStreamReports(t *testing.T) {
	for answer, lost := range map[string]string{
		``: "[]", `null`: "[]", `""`: "[]", `[]`: "[]", `{}`: "[]", `{"batchItemFailures":[]}`: "[]", `{"batchItemFailures":null}`: "[]",
		`{"batchItemFailures":[{"itemIdentifier":"2"},{"itemIdentifier":"3"}]}`:    "[2-2 1 RetryAttemptsExhausted 1]",
		`{"batchItemFailures":[{"itemIdentifier":""}]}`:                            "[1-3 3 RetryAttemptsExhausted 1]",
		`{"batchItemFailures":[{"itemIdentifier":null}]}`:                          "[1-3 3 RetryAttemptsExhausted 1]",
		`{"batchItemFailures":[{"itemIdentifier":2}]}`:                             "[1-3 3 RetryAttemptsExhausted 1]",
		`{"batchItemFailures":[{"foo":"2"}]}`:                                      "[1-3 3 RetryAttemptsExhausted 1]",
		`{"batchItemFailures":[{"itemIdentifier":"2"},{"itemIdentifier":"none"}]}`: "[1-3 3 RetryAttemptsExhausted 1]",
		`"text"`: "[1-3 3 RetryAttemptsExhausted 1]",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStream("0")
			s.put("0", "k", "a", "b", "c")
			first := true
			w := newWorld(t, s, func(invocation) (string, error) {
				if first {
					first = false
					return answer, nil
				}
				return "", nil
			})
			defer w.close()
			w.set(mapping(func(m *Mapping) { m.MaxRetries, m.OnFailure, m.ReportItemFailures = 0, deadARN, true }))
			time.Sleep(time.Minute)
			synctest.Wait()
			w.expect("after "+answer, w.lost(), lost)
			if lost != "[]" && len(w.dead) > 0 && (w.dead[0].ResponseContext == nil || w.dead[0].ResponseContext.Error != nil) {
				t.Errorf("after %s the responseContext is %+v, want one with a null functionError", answer, w.dead[0].ResponseContext)
			}
		})
	}
}

// Batches are as large as they may be, in records and bytes, and wait for the window.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.BatchSize, m.Window = 4, 10*time.Second }))
		begin := time.Now()
		s.put("0", "k", "1", "2", "3", "4", "5", "6", "7", "8", "9")
		time.Sleep(time.Minute)
		large := strings.Repeat("x", 2<<20)
		s.put("0", "k", large, large, large, large)
		time.Sleep(time.Minute)
		synctest.Wait()
		var got []string
		for _, c := range w.calls {
			got = append(got, fmt.Sprintf("%d@%v", len(c.Records), c.at.Sub(begin)))
			if len(c.payload) > MaxPayload {
				t.Errorf("an event of %d bytes", len(c.payload))
			}
		}
		w.expect("batches", got, "[4@0s 4@0s 1@10s 2@1m0s 2@1m10s]")
	})
}

// A filter drops records before they are counted; the position moves past them.
func TestStreamFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, poison(false))
		defer w.close()
		m := mapping(func(m *Mapping) { m.BatchSize, m.Window, m.Filter = 2, time.Second, notDropped{} })
		w.set(m)
		s.put("0", "k", "drop", "a", "drop", "b", "drop", "c", "drop")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a b c]")
		w.expect("filtered", w.engine.Status(t.Context(), "m").Metrics.Filtered, 4)
		w.engine.Stop("m")
		m = mapping(nil)
		w.set(m)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a b c]")
	})
}

// Children begin when all their parents are drained, also while records fail.
func TestReshard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		var failing atomic.Bool
		failing.Store(true)
		w := newWorld(t, s, func(c invocation) (string, error) {
			time.Sleep(100 * time.Millisecond)
			if failing.Load() && strings.Contains(c.data(), "a3") {
				return "", errFunction
			}
			return "", nil
		})
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.BatchSize = 1 }))
		s.put("0", "a", "a1", "a2", "a3", "a4")
		s.reshard("1", "0")
		s.reshard("2", "0")
		s.put("1", "a", "a5", "a6")
		s.put("2", "b", "b1", "b2")
		s.reshard("3", "1", "2")
		s.put("3", "a", "a7")
		s.put("3", "b", "b3")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("before", len(w.batches()) > 3 && w.batches()[1] == "a2" && !slices.Contains(w.batches(), "a5"), true)
		failing.Store(false)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		order := map[byte][]string{}
		for _, c := range w.calls {
			if !c.failed {
				order[c.data()[0]] = append(order[c.data()[0]], c.data())
			}
		}
		w.expect("a", order['a'], "[a1 a2 a3 a4 a5 a6 a7]")
		w.expect("b", order['b'], "[b1 b2 b3]")
		// The stream forgets the parents, and so does the engine.
		s.mu.Lock()
		s.shards = slices.DeleteFunc(s.shards, func(x *memShard) bool { return x.closed })
		s.mu.Unlock()
		s.tell("")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("rows", w.rows(), 2) // of the shard that is left, and the last result
		s.put("3", "a", "a8")
		time.Sleep(time.Second)
		w.expect("last", w.batches()[len(w.batches())-1], "a8")
	})
}

// rows counts what the engine keeps of the mapping.
func (w *world) rows() (n int) {
	err := w.db.View(w.t.Context(), func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Prefix(root, "m")) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	return n
}

// An engine that begins again goes on with the same batches and counts; one whose mapping was disabled goes on where it was; one that was removed
// begins anew.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		s.put("0", "k", "1", "2", "bad", "4")
		w := newWorld(t, s, poison(false))
		defer w.close()
		m := mapping(func(m *Mapping) { m.MaxRetries, m.OnFailure, m.Bisect = 4, deadARN, true })
		w.set(m)
		time.Sleep(2 * time.Second) // bad has failed twice or thrice
		synctest.Wait()
		before := len(w.batches())
		w.stop()
		s.put("0", "k", "5")
		w.start()
		w.set(m)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("batches", strings.Join(w.batches(), "|"), "1 2 bad 4!|1 2|bad 4!|bad!|bad!|bad!|bad!|bad!|4|5")
		w.expect("destination", w.lost(), "[3-3 1 RetryAttemptsExhausted 5]")
		if before < 5 || before > 6 {
			t.Errorf("stopped after %d invocations", before)
		}
		w.engine.Stop("m")
		s.put("0", "k", "6")
		w.set(m)
		time.Sleep(time.Second)
		w.expect("enabled again", w.batches()[10:], "[6]")
		if err := w.engine.Remove(t.Context(), "m"); err != nil {
			t.Error(err)
		}
		w.expect("rows", w.rows(), 0)
		w.set(mapping(func(m *Mapping) { m.Start = Position{At: time.Now()} }))
		time.Sleep(time.Second)
		w.expect("from now on", len(w.batches()), 11)
		s.put("0", "k", "7")
		synctest.Wait()
		w.expect("from now on", w.batches()[11:], "[7]")
	})
}

// The number of lanes may change while records are processed: nothing is skipped, nothing done is repeated, keys keep their order.
func TestRelayout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		var mu sync.Mutex
		flight := map[string]bool{}
		w := newWorld(t, s, func(c invocation) (string, error) {
			mu.Lock()
			for _, r := range c.Records {
				if flight[r.Key] {
					t.Errorf("key %s is in flight twice", r.Key)
				}
			}
			for _, r := range c.Records {
				flight[r.Key] = true
			}
			mu.Unlock()
			time.Sleep(time.Duration(len(c.data())) * 7 * time.Millisecond)
			mu.Lock()
			for _, r := range c.Records {
				delete(flight, r.Key)
			}
			mu.Unlock()
			return "", nil
		})
		defer w.close()
		for i := range 50 {
			for k := range 20 {
				s.put("0", fmt.Sprint("key", k), fmt.Sprintf("%02d", i))
			}
		}
		for _, n := range []int{1, 10, 3, 7, 1} {
			w.set(mapping(func(m *Mapping) { m.Parallelization, m.BatchSize = n, 5 }))
			time.Sleep(time.Second)
		}
		w.stop()
		w.start()
		w.set(mapping(func(m *Mapping) { m.Parallelization, m.BatchSize = 4, 5 }))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		got := map[string][]string{}
		for _, c := range w.calls {
			for _, r := range c.Records {
				got[r.Key] = append(got[r.Key], r.Data)
			}
		}
		w.expect("keys", len(got), 20)
		for k, data := range got {
			if len(data) != 50 || !slices.IsSorted(data) {
				t.Errorf("%s: %v", k, data)
			}
		}
	})
}

// TestRelayoutWhileRecordsWait changes the number of lanes twice, so that the second time lanes that have passed over what others had done have a record of their own that waits.
func TestRelayoutWhileRecordsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, func(invocation) (string, error) { return "", nil })
		defer w.close()
		const keys = 20
		lanes := func(n int) {
			w.set(mapping(func(m *Mapping) { m.Parallelization, m.Window = n, 10*time.Second }))
			time.Sleep(time.Second)
		}
		put := func(data string, keys ...int) {
			for _, k := range keys {
				s.put("0", fmt.Sprint("key", k), data)
			}
		}
		var all []int
		for k := range keys {
			all = append(all, k)
		}
		of := func(k int) int { return laneOf(fmt.Sprint("key", k), 2) }
		slices.SortStableFunc(all, func(a, b int) int { return of(a) - of(b) })
		lanes(2)
		put("first", all[1:]...)
		time.Sleep(time.Minute)
		put("first", all[0]) // waits: what the other lane has done is read again
		lanes(10)
		time.Sleep(time.Minute)
		put("second", all...)
		lanes(3)
		time.Sleep(time.Minute)
		synctest.Wait()
		times := map[string]int{}
		for _, c := range w.calls {
			for _, r := range c.Records {
				times[r.Data]++
			}
		}
		w.expect("records", times, map[string]int{"first": keys, "second": keys})
	})
}

// A destination that refuses gets its records when it does not any more, also after the engine began again.
func TestDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		s.put("0", "k", "bad", "a")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.refuse = errThrottle
		m := mapping(func(m *Mapping) { m.MaxRetries, m.OnFailure, m.BatchSize = 0, deadARN, 1 })
		w.set(m)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[bad! a]")
		w.stop()
		w.start()
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.expect("destination", w.lost(), "[1-1 1 RetryAttemptsExhausted 1]")
		d := w.dead[0]
		if d.RequestContext.FunctionARN != strings.TrimSuffix(functionARN, ":live") || d.ResponseContext == nil || *d.ResponseContext.Error != "Unhandled" ||
			d.ResponseContext.Version != "$LATEST" || d.Kinesis.Shard != "0" || d.Kinesis.Stream != streamARN || d.Version != "1.0" {
			t.Errorf("record %+v", d)
		}
	})
}

// A stream that does not exist is a problem, not an end.
func TestStreamGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		s.fail = ErrGone
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.set(mapping(nil))
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := w.engine.Status(t.Context(), "m"); !strings.HasPrefix(st.Result, "PROBLEM: ") || !st.Running {
			t.Errorf("status %+v", st)
		}
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		s.put("0", "k", "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("batches", w.batches(), "[a]")
		if st := w.engine.Status(t.Context(), "m"); st.Result != ResultOK {
			t.Errorf("status %+v", st)
		}
	})
}

// A shard with much to read is not read for each batch, and none of its lanes lacks records that are there.
func TestReadsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		for range 10 {
			s.put("0", "hot", slices.Repeat([]string{"x"}, 2000)...)
		}
		w := newWorld(t, s, func(invocation) (string, error) {
			time.Sleep(time.Second)
			return "", nil
		})
		defer w.close()
		w.set(mapping(nil))
		time.Sleep(201 * time.Second)
		synctest.Wait()
		w.expect("batches", len(w.batches()), 200)
		s.mu.Lock()
		if s.reads > 20 {
			t.Errorf("%d reads for 20,000 records", s.reads)
		}
		s.mu.Unlock()

		s.put("0", "hot", slices.Repeat([]string{"x"}, 9000)...)
		s.put("0", "cold", "y")
		w.set(mapping(func(m *Mapping) { m.Parallelization = 10 }))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !slices.Contains(w.batches(), "y") {
			t.Error("a record waits although its lane is idle")
		}
	})
}
