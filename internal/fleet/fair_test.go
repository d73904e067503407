package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/call"
)

// A function that would take all the memory there is leaves enough to others: none of their calls is throttled, one after the other or
// several functions at a time, and it goes on itself.
func TestHotFunctionStarvesNobody(t *testing.T) {
	limits := testLimits()
	limits.MemoryMB = 1024    // eight environments
	limits.Wait = time.Minute // what a slow machine needs to make room
	h := newHarness(t, limits)
	ctx, cancel := context.WithCancel(t.Context())
	var hot, throttled atomic.Int64
	var busy sync.WaitGroup
	fn := h.function()
	for range 32 {
		busy.Go(func() {
			for ctx.Err() == nil {
				_, err := h.Invoke(ctx, fn, &Request{RequestID: call.NewRequestID(), InvokedARN: fn.ARN, Payload: []byte(`{"ms":5}`)})
				if _, ok := errors.AsType[*ThrottledError](err); ok {
					throttled.Add(1)
				} else if err == nil {
					hot.Add(1)
				}
			}
		})
	}
	h.await("hot function that has all it can get", func() bool { return hot.Load() >= 200 })
	const functions, calls = 4, 25
	var others sync.WaitGroup
	for i := range functions {
		others.Go(func() {
			other := h.function(func(fn *Function) {
				fn.Name = fmt.Sprint("other", i)
				fn.ARN += fn.Name
			})
			for n := range calls {
				if _, err := h.Invoke(ctx, other, &Request{RequestID: call.NewRequestID(), InvokedARN: other.ARN, Payload: []byte(`{}`)}); err != nil {
					t.Errorf("call %d of %s: %v", n, other.Name, err)
				}
			}
		})
	}
	before := hot.Load()
	others.Wait()
	h.await("hot function that goes on", func() bool { return hot.Load() > before })
	cancel()
	busy.Wait()
	t.Logf("the hot function ran %d times and was throttled %d times", hot.Load(), throttled.Load())
}
