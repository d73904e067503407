package fleet

import (
	"strings"
	"testing"
	"time"
)

// await polls until a condition holds, and fails the test when it does not within a generous time.
func (h *harness) await(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("no %s; log:\n%s", what, strings.Join(h.logs.all(), "\n"))
		}
	}
}

// What is provisioned leaves a part of the memory, and an order that can never be filled holds nobody up.
func TestProvisionLeavesRoom(t *testing.T) {
	limits := testLimits()
	limits.MemoryMB = 1024
	h := newHarness(t, limits)
	greedy := h.function(func(fn *Function) { fn.MemoryMB = 256; fn.Version = "1" })
	h.Provision("greedy", []Provision{{greedy, 4}})
	h.await("three environments", func() bool { return h.Provisioned("greedy").Available == 3 })
	if p := h.Provisioned("greedy"); p.Allocated != 3 || p.Failure != failureMemory {
		t.Errorf("provisioned = %+v", p)
	}
	other := h.function(func(fn *Function) {
		fn.Name, fn.ARN = "other", "arn:aws:lambda:us-east-1:000000000001:function:other"
	})
	h.invoke(other, `{"do":"count"}`)

	h.Provision("greedy", []Provision{{greedy, 2}})
	if p := h.Provisioned("greedy"); p.Available != 2 || p.Failure != "" {
		t.Errorf("provisioned = %+v", p)
	}
	h.Provision("greedy", nil)
	h.await("end of all but the other", func() bool { return h.Stats().Environments == 1 })
}

// Environments that a jump of the clock has made too old serve nobody, and those that were provisioned are replaced.
func TestStaleEnvironments(t *testing.T) {
	h := newHarness(t, testLimits())
	fn := h.function()
	h.invoke(fn, `{}`)
	h.Provision("p", []Provision{{fn, 1}})
	h.await("provisioned environment", func() bool { return h.Provisioned("p").Available == 1 && h.Stats().Busy == 0 })
	h.await("idle environment", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		p := h.pools[fn.key("")]
		return len(p.idle) == 1 && len(p.provisioned) == 1
	})
	h.mu.Lock()
	for env := range h.environments {
		env.started = env.started.Add(-24 * time.Hour)
	}
	h.mu.Unlock()
	h.check(h.invoke(fn, `{"do":"count"}`), "", `1`, initLine+startLine+endLine+coldReport+"\n")
	h.await("replacement", func() bool { return h.Provisioned("p").Available == 1 })
	h.check(h.invoke(fn, `{"do":"env","arg":"AWS_LAMBDA_INITIALIZATION_TYPE"}`), "", `"provisioned-concurrency"`, startLine+endLine+warmReport+"\n")
}
