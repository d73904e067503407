package group

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestStopCancelsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(t.Context())
		var ended atomic.Int32
		for range 3 {
			g.Go(func(ctx context.Context) { <-ctx.Done(); ended.Add(1) })
		}
		synctest.Wait()
		g.Stop()
		if ended.Load() != 3 {
			t.Errorf("%d of 3 goroutines ended before Stop returned", ended.Load())
		}
		if g.Go(func(context.Context) {}) {
			t.Error("Go started a goroutine after Stop")
		}
	})
}

func TestWaitDoesNotCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(t.Context())
		release := make(chan struct{})
		var cancelled atomic.Bool
		g.Go(func(ctx context.Context) {
			<-release
			cancelled.Store(ctx.Err() != nil)
		})
		go func() { close(release) }()
		g.Wait()
		if cancelled.Load() {
			t.Error("Wait cancelled a running goroutine")
		}
	})
}
