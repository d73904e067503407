package eventsource

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func (w *world) state(id string) string {
	w.t.Helper()
	o, err := w.engine.Explain(w.t.Context(), w.last, id)
	if err != nil {
		w.t.Fatal(err)
	}
	s := string(o.State)
	if o.Behind != "" {
		s += " behind " + o.Behind
	}
	if o.Condition != "" {
		s += " " + o.Condition + " to " + o.Destination
	}
	if o.Attempts > 0 {
		s += fmt.Sprint(" ", o.Attempts)
	}
	return s
}

func TestExplainStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0", "1")
		fails := poison(false)
		w := newWorld(t, s, func(c invocation) (string, error) {
			if c.Records[0].Data == "slow" {
				time.Sleep(time.Minute)
			}
			return fails(c)
		})
		defer w.close()
		w.set(mapping(func(m *Mapping) {
			m.BatchSize, m.MaxRetries, m.OnFailure, m.Filter = 1, 3, deadARN, notDropped{}
		}))
		s.put("0", "k", "a", "drop", "bad", "b", "slow", "c") // 1 to 6
		s.put("1", "k", "d")                                  // 7
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for id, want := range map[string]string{
			"1": "processed", "2": "filtered", "3": "failed 3", "4": "waiting behind 3", "6": "waiting behind 3", "7": "processed", "8": "unknown", "x": "unknown",
		} {
			w.expect(id, w.state(id), want)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for id, want := range map[string]string{
			"3": "dropped RetryAttemptsExhausted to " + deadARN + " 4", "4": "processed", "5": "inFlight", "6": "waiting behind 5",
		} {
			w.expect(id, w.state(id), want)
		}
		all, err := w.engine.DryRun(t.Context(), w.last, nil, 10)
		w.expect("dry run", fmt.Sprint(all, err), "[{0 5 true []} {0 6 true []}] <nil>")
		if fates, err := w.engine.Fates(t.Context(), "m", time.Time{}, time.Now()); err != nil || len(fates) != 1 || fates[0].Error != `{"errorMessage":"no"}` {
			t.Errorf("fates %+v, %v", fates, err)
		}
	})
}

func TestExplainQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: 30 * time.Second}
		w := newWorld(t, q, poison(true))
		defer w.close()
		w.set(queueMapping(func(m *Mapping) {
			m.MaxRetries, m.OnFailure, m.Filter, m.ReportItemFailures = 1, deadARN, notDropped{}, true
		}))
		q.send("", "a", "drop", "bad")
		time.Sleep(time.Second)
		synctest.Wait()
		for id, want := range map[string]string{"m1": "processed", "m2": "filtered", "m3": "failed 1", "m4": "unknown"} {
			w.expect(id, w.state(id), want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("m3", w.state("m3"), "dropped RetryAttemptsExhausted to "+deadARN+" 2")
		w.stop()
		w.start()
		w.set(queueMapping(nil))
		w.expect("m3 after a start", w.state("m3"), "dropped RetryAttemptsExhausted to "+deadARN+" 2")
		if _, err := w.engine.DryRun(t.Context(), w.last, nil, 10); err != ErrNoPeek {
			t.Errorf("dry run: %v", err)
		}
	})
}
