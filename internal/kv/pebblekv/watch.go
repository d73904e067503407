package pebblekv

import (
	"context"
	"iter"
	"sync"
)

// watches wakes those who watch a prefix. A written key is looked up once for each
// length that a watched prefix has, so the cost does not grow with the watchers.
type watches struct {
	mu       sync.Mutex
	byPrefix map[string]map[*watch]struct{}
	lengths  map[int]int // how many of the keys of byPrefix have this length
	closed   bool
}

// watch is one running loop over DB.Watch.
type watch struct {
	wake chan struct{} // holds one wake-up at most; closed with the store
}

// Watch implements kv.DB.
func (db *DB) Watch(ctx context.Context, prefix []byte) iter.Seq[struct{}] {
	p := string(prefix)
	return func(yield func(struct{}) bool) {
		w := db.watches.add(p)
		if w == nil {
			return
		}
		defer db.watches.remove(p, w)
		for {
			select {
			case _, open := <-w.wake:
				if !open || ctx.Err() != nil || !yield(struct{}{}) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// add starts a watch with one wake-up pending; nil if the store is closed.
func (ws *watches) add(prefix string) *watch {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed {
		return nil
	}
	if ws.byPrefix == nil {
		ws.byPrefix, ws.lengths = map[string]map[*watch]struct{}{}, map[int]int{}
	}
	w := &watch{wake: make(chan struct{}, 1)}
	w.wake <- struct{}{}
	if ws.byPrefix[prefix] == nil {
		ws.byPrefix[prefix] = map[*watch]struct{}{}
		ws.lengths[len(prefix)]++
	}
	ws.byPrefix[prefix][w] = struct{}{}
	return w
}

func (ws *watches) remove(prefix string, w *watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.byPrefix[prefix], w)
	if len(ws.byPrefix[prefix]) == 0 {
		delete(ws.byPrefix, prefix)
		if ws.lengths[len(prefix)]--; ws.lengths[len(prefix)] == 0 {
			delete(ws.lengths, len(prefix))
		}
	}
}

// notify wakes who watches a key that the requests wrote which did not lose.
func (ws *watches) notify(requests []*request) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.byPrefix) == 0 || ws.closed {
		return
	}
	for _, r := range requests {
		if r.lost {
			continue
		}
		for key := range r.tx.writes {
			for n := range ws.lengths {
				if n <= len(key) {
					wake(ws.byPrefix[key[:n]])
				}
			}
		}
	}
}

// notifyAll wakes everybody: those that gave up when the store failed have reason to look again.
func (ws *watches) notifyAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed {
		return
	}
	for _, set := range ws.byPrefix {
		wake(set)
	}
}

func wake(set map[*watch]struct{}) {
	for w := range set {
		select {
		case w.wake <- struct{}{}:
		default: // one is pending
		}
	}
}

func (ws *watches) close() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.closed = true
	for _, set := range ws.byPrefix {
		for w := range set {
			close(w.wake)
		}
	}
}
