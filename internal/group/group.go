// Package group owns goroutines: whoever starts one through a Group can cancel it and wait for its end.
package group

import (
	"context"
	"sync"
)

// Group is a set of goroutines with one owner. Its methods may be called concurrently.
type Group struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// New returns a group whose goroutines are cancelled when ctx is, or at Stop.
func New(ctx context.Context) *Group {
	ctx, cancel := context.WithCancel(ctx)
	return &Group{ctx: ctx, cancel: cancel}
}

// Go starts f, which must return soon after its context ends. It reports false, and starts nothing, after Stop.
func (g *Group) Go(f func(ctx context.Context)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Go(func() { f(g.ctx) })
	return true
}

// Wait refuses new goroutines and waits until all have ended by themselves.
func (g *Group) Wait() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
	g.cancel()
}

// Stop refuses new goroutines, cancels those that run, and waits for their end.
func (g *Group) Stop() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.wg.Wait()
}
