package eventsource

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Messages that wait for a full batch are hidden for window, timeout and half a minute if the queue's own visibility timeout is shorter than the first two, and
// otherwise for that.
func TestVisibilityOfWindows(t *testing.T) {
	for _, c := range []struct {
		window, timeout, visibility, want time.Duration
	}{
		{10 * time.Second, time.Minute, 30 * time.Second, 100 * time.Second},
		{10 * time.Second, time.Minute, 70 * time.Second, 70 * time.Second},
		{10 * time.Second, time.Minute, 69 * time.Second, 100 * time.Second},
		{0, time.Minute, 30 * time.Second, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := &memQueue{visibility: c.visibility}
			w := newWorld(t, q, poison(false))
			defer w.close()
			w.set(queueMapping(func(m *Mapping) { m.BatchSize, m.Window, m.Timeout = 10, c.window, c.timeout }))
			begin := time.Now()
			q.send("", "bad")
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if len(w.calls) < 2 || w.calls[0].at.Sub(begin) != c.window || w.calls[1].at.Sub(begin) < c.want+c.window || w.calls[1].at.Sub(begin) > c.want+c.window+time.Second {
				var at []time.Duration
				for _, x := range w.calls {
					at = append(at, x.at.Sub(begin))
				}
				t.Errorf("window %v, timeout %v, visibility %v: invoked after %v, want again after %v", c.window, c.timeout, c.visibility, at, c.want+c.window)
			}
		})
	}
}

// A queue's batch whose messages fill an event does not wait for its window, and none is larger.
func TestQueueBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &memQueue{visibility: time.Hour}
		w := newWorld(t, q, func(invocation) (string, error) { return "", nil })
		defer w.close()
		w.set(queueMapping(func(m *Mapping) { m.BatchSize, m.Window = 1000, time.Minute }))
		begin := time.Now()
		large := strings.Repeat("x", 1<<20-100)
		for range 8 {
			q.send("", large)
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		n := 0
		for i, c := range w.calls {
			n += len(c.Records)
			if len(c.payload) > MaxPayload {
				t.Errorf("an event of %d bytes", len(c.payload))
			}
			if at := c.at.Sub(begin); i == 0 && at > 8*time.Second {
				t.Errorf("the first batch came after %v", at)
			}
		}
		w.expect("messages", n, 8)
		w.expect("left", q.left(), 0)
	})
}

// Pollers grow by 300 a minute to 1,250; provisioned ones begin with ten batches each, and grow by 1,000 a minute to their maximum.
func TestMostPollers(t *testing.T) {
	for _, c := range []struct {
		min, max          int
		first, after, top int // in flight at once, after half a minute, and in the end
	}{
		{0, 0, 5, 155, 1250}, {2, 5, 20, 50, 50}, {2, 100, 20, 520, 1000},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := &memQueue{visibility: 10 * time.Hour}
			for i := range 1500 {
				q.send("", fmt.Sprint(i))
			}
			release := make(chan struct{})
			w := newWorld(t, q, func(invocation) (string, error) { <-release; return "", nil })
			defer w.close()
			w.set(queueMapping(func(m *Mapping) { m.BatchSize, m.MinPollers, m.MaxPollers = 1, c.min, c.max }))
			synctest.Wait()
			flight := func() int { return w.engine.Status(t.Context(), "m").Metrics.InFlight }
			w.expect("at once", flight(), c.first)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if n := flight(); n > c.after || n < c.after*8/10 {
				t.Errorf("pollers %d to %d: %d in flight after half a minute, want %d", c.min, c.max, n, c.after)
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			w.expect("in the end", flight(), c.top)
			close(release)
			time.Sleep(time.Minute)
			synctest.Wait()
			w.expect("left", q.left(), 0)
		})
	}
}

// A window that nothing more comes for ends a second after its end, and a batch does not wait for the batching window longer than its own.
func TestWindowEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("0")
		w := newWorld(t, s, poison(false))
		defer w.close()
		w.set(mapping(func(m *Mapping) { m.Aggregate.Size, m.Window, m.BatchSize = 10*time.Second, 5*time.Minute, 10 }))
		begin := time.Now()
		time.Sleep(3 * time.Second)
		s.put("0", "k", "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		var at []time.Duration
		for _, c := range w.calls {
			at = append(at, c.at.Sub(begin))
		}
		w.expect("batch and end", at, "[11s 11s]") // the record came 3 s after the window's beginning
	})
}
