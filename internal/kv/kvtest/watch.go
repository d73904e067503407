package kvtest

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/mayflyhq/mayfly/internal/kv"
)

func testWatchFirst(t *testing.T, db kv.DB) {
	n := 0
	for range db.Watch(t.Context(), []byte("a")) {
		n++
		break
	}
	if n != 1 {
		t.Error("a watch does not yield at once")
	}
}

func testWatchPrefix(t *testing.T, db kv.DB) {
	for prefix, keys := range map[string][]string{
		"":   {"a", "b\x00", "\x00"},
		"a":  {"a", "ab", "a\xff"},
		"ab": {"ab", "abc"},
	} {
		yields := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(yields)
			for range db.Watch(ctx, []byte(prefix)) {
				yields <- struct{}{}
			}
		}()
		<-yields
		for _, key := range keys {
			set(t, db, key, "1")
			<-yields // hangs if the hint does not come
			update(t, db, func(tx kv.Tx) { tx.Delete([]byte(key)) })
			<-yields
		}
		cancel()
		for range yields {
		}
	}
}

func testWatchEnds(t *testing.T, db kv.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for range db.Watch(ctx, nil) {
		n++
		cancel()
	}
	if n != 1 {
		t.Errorf("%d yields from a watch whose context ended in the first", n)
	}
	for range db.Watch(ctx, nil) {
		t.Error("a watch whose context had ended yields")
	}
}

// testWatchMissesNothing has readers follow a counter by hints alone to its last value.
func testWatchMissesNothing(t *testing.T, db kv.DB) {
	const last = 300
	key := []byte("follow/counter")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range db.Watch(t.Context(), []byte("follow/")) {
				n := 0
				_ = db.View(t.Context(), func(r kv.Reader) error {
					n, _ = strconv.Atoi(get(t, r, string(key)))
					return nil
				})
				if n == last {
					return
				}
			}
			t.Error("the watch ended before the last value")
		})
	}
	for i := 1; i <= last; i++ {
		update(t, db, func(tx kv.Tx) { tx.Set(key, strconv.AppendInt(nil, int64(i), 10)) })
	}
	wg.Wait()
}

// testWatchHoldsUpNoWriter has a watcher that never returns from its body.
func testWatchHoldsUpNoWriter(t *testing.T, db kv.DB) {
	started, finish, ended := make(chan struct{}), make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for range db.Watch(t.Context(), nil) {
			if n++; n == 1 {
				close(started)
				<-finish
			} else {
				break
			}
		}
		ended <- n
	}()
	<-started
	for i := range 100 {
		set(t, db, "a", strconv.Itoa(i))
	}
	close(finish)
	if n := <-ended; n != 2 {
		t.Errorf("%d yields for 100 changes during one body, want 2", n)
	}
}
