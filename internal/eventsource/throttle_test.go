package eventsource

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// capacity is how many invocations may run at once, and tells of changes as Lambda does.
type capacity struct {
	mu      sync.Mutex
	free    int
	refused int
	freed   chan struct{}
}

func (c *capacity) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free += n
	close(c.freed)
	c.freed = make(chan struct{})
}

// run takes a place for a second, or is refused.
func (c *capacity) run(invocation) (string, error) {
	c.mu.Lock()
	if c.free <= 0 {
		defer c.mu.Unlock()
		c.refused++
		return "", &ThrottledError{errThrottle, c.freed}
	}
	c.free--
	c.mu.Unlock()
	time.Sleep(time.Second)
	c.add(1)
	return "", nil
}

func (c *capacity) refusals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.refused
	c.refused = 0
	return n
}

// What waits for concurrency is hardly tried while there is none, goes on at once when there is some, and does not storm a single place.
func TestFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &capacity{freed: make(chan struct{})}
		s := newStream("0")
		w := newWorld(t, s, c.run)
		defer w.close()
		const keys = 200
		for i := range keys {
			s.put("0", strconv.Itoa(i), "x")
		}
		w.set(mapping(func(m *Mapping) { m.BatchSize, m.Parallelization = 1, 10 }))
		time.Sleep(time.Hour + time.Second/2)
		synctest.Wait()
		if n := c.refusals(); n < 10 || n > 10*61 {
			t.Errorf("%d refusals in an hour of 10 lanes", n)
		}
		c.add(10)
		begin := time.Now()
		time.Sleep(time.Second - time.Millisecond) // when the first ends
		c.mu.Lock()
		if c.free != 0 {
			t.Errorf("%d of 10 places are free", c.free)
		}
		c.mu.Unlock()
		for len(w.batches()) < keys/2 {
			time.Sleep(time.Second)
		}
		c.refusals()
		c.mu.Lock()
		c.free -= 9 // when those that run have ended
		c.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		c.refusals()
		before := len(w.batches())
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if done := len(w.batches()) - before; done < 18 || done > 20 {
			t.Errorf("%d batches in 20 s in one place", done)
		}
		if n := c.refusals(); n > 20*3 {
			t.Errorf("%d refusals for 20 turns of one place", n)
		}
		c.add(9)
		for len(w.batches()) < keys {
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took > 2*time.Minute {
			t.Errorf("all took %v", took)
		}
	})
}

// A batch of a queue that is refused keeps its messages for half their visibility timeout and goes on at once within it; after that they come back, and count.
func TestFreedQueue(t *testing.T) {
	for after, want := range map[time.Duration]time.Duration{10 * time.Second: 10 * time.Second, 40 * time.Second: 40 * time.Second, 50 * time.Second: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			c := &capacity{freed: make(chan struct{})}
			q := &memQueue{visibility: 30 * time.Second}
			w := newWorld(t, q, c.run)
			defer w.close()
			w.set(queueMapping(nil))
			begin := time.Now()
			q.send("", "a")
			time.Sleep(after)
			c.add(1)
			for len(w.batches()) == 0 {
				time.Sleep(time.Second)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			w.mu.Lock()
			at := w.calls[0].at.Sub(begin).Truncate(time.Second)
			w.mu.Unlock()
			if at != want || q.left() != 0 {
				t.Errorf("freed after %v: invoked after %v, %d left", after, at, q.left())
			}
			if n := c.refusals(); n > 4 {
				t.Errorf("freed after %v: %d refusals", after, n)
			}
		})
	}
}
