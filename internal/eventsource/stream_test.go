package eventsource

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
