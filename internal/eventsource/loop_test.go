package eventsource

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// Of a batch only the messages that are part of a loop are left, to the redrive policy or the mapping's own limit; the others are processed at once.
func TestQueueLoop(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Mapping)
		fifo   bool
		lost   string
		dead   string
		left   string // processed in the end
	}{
		{"redrive", nil, false, "[]", "[loop1 loop2]", "a b c d"},
		{"given up", func(m *Mapping) { m.MaxRetries, m.OnFailure = 1, deadARN }, false, "[m2 RecursiveInvocation 2 m5 RecursiveInvocation 2]", "[]", "a b c d"},
		{"groups", nil, true, "[]", "[loop1 loop2]", "a b c d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &memQueue{visibility: 30 * time.Second, fifo: c.fifo, most: 3}
				w := newWorld(t, q, func(c invocation) (string, error) {
					if strings.Contains(c.trace, ":loop:16") {
						return "", apierr.New("RecursiveInvocationException", 400, "A loop.")
					}
					return "", nil
				})
				defer w.close()
				for i, data := range []string{"a", "loop1", "b", "c", "loop2", "d"} {
					group := ""
					if c.fifo {
						group = data
					}
					q.send(group, data)
					q.messages[i].Trace = "Root=1;Lineage=1:" + strings.TrimRight(data, "12") + ":16"
				}
				w.set(queueMapping(c.change))
				time.Sleep(time.Second)
				synctest.Wait()
				if got := strings.Join(w.batches(), " "); got != c.left {
					t.Errorf("processed %s", got)
				}
				w.expect("m2", w.state("m2"), "failed RecursiveInvocation to  1")
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				w.expect("given up", slices.Sorted(slices.Values(w.lost())), c.lost)
				w.expect("redriven", q.dead, c.dead)
				if s := w.engine.Status(t.Context(), "m"); s.Metrics.Loops == 0 || s.Metrics.InFlight != 0 || q.left() != 0 {
					t.Errorf("%+v, %d messages left", s, q.left())
				}
			})
		})
	}
}
