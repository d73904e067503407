package queue

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/kvtest"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// childDir names the directory of the store of the child of TestKill.
const childDir = "QUEUE_TEST_CHILD_DIR"

// child adds, takes and deletes on two queues, and says of each message what it did: "added" after it was committed, "taken", "deleting"
// before the deletion begins and "deleted" after it was committed.
func child(t *testing.T, dir string) {
	db, err := pebblekv.Open(pebblekv.Options{Dir: dir, MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s := New(db, "test", Options{Window: 8})
	var out sync.Mutex
	say := func(what, queue, body string) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(what, queue, body)
	}
	var wg sync.WaitGroup
	for _, kind := range []Kind{Standard, FIFO} {
		id := []string{"standard", "fifo"}[kind]
		q := s.Queue(id, kind)
		for n := range 2 {
			group := fmt.Sprint(os.Getpid(), "-", n)
			wg.Go(func() {
				for i := 0; ; i++ {
					body := fmt.Sprint(group, "-", i)
					if db.Update(context.Background(), func(tx kv.Tx) error {
						_, err := q.Add(tx, Message{Group: group, Body: []byte(body)})
						return err
					}) != nil {
						return
					}
					say("added", id, body)
				}
			})
			wg.Go(func() {
				for {
					ds, err := q.Take(context.Background(), Take{Max: 3, Visibility: time.Hour, Wait: time.Second})
					if err != nil {
						return
					}
					for _, d := range ds {
						say("taken", id, string(d.Body))
						if rand.N(3) == 0 {
							if _, err := q.SetVisibility(context.Background(), Visibility{d.Lease(), 0}); err != nil {
								return
							}
							break // those behind it are in flight for long
						}
						say("deleting", id, string(d.Body))
						errs, err := q.Delete(context.Background(), d.Lease())
						if err != nil {
							return
						}
						if errs[0] == nil {
							say("deleted", id, string(d.Body))
						}
					}
				}
			})
		}
	}
	wg.Wait()
	t.Fatal("the store failed")
}

// TestKill kills a process that uses queues, again and again on the same store. No acknowledged message is lost, none that was deleted
// returns, and FIFO groups are in order.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		child(t, dir)
	}
	dir := t.TempDir()
	rounds := 15
	if testing.Short() {
		rounds = 3
	}
	added, deleting, deleted := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for range rounds {
		kvtest.Kill(t, childDir+"="+dir, 1+rand.IntN(600), func(line string) {
			what, name, ok := strings.Cut(line, " ")
			if !ok || strings.Count(name, "-") != 2 {
				return // torn
			}
			switch what {
			case "added":
				added[name] = true
			case "deleting":
				deleting[name] = true
			case "deleted":
				deleted[name] = true
			case "taken":
				if deleted[name] {
					t.Errorf("%s was deleted and came back", name)
				}
			}
		})
	}
	db, err := pebblekv.Open(pebblekv.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// The rows say all: what is in flight for an hour as well.
	found := map[string]bool{}
	last := map[string]int{}
	err = db.View(t.Context(), func(r kv.Reader) error {
		for _, id := range []string{"standard", "fifo"} {
			q := New(db, "test", Options{}).Queue(id, Standard)
			for x, err := range r.Scan(q.headers()) {
				if err != nil {
					return err
				}
				e, err := decode(x)
				if err != nil {
					return err
				}
				body, ok, err := r.Get(q.bodyKey(e.body))
				if err != nil || !ok {
					return fmt.Errorf("no body at %v: %v", e.body, err)
				}
				i := bytes.LastIndexByte(body, '-')
				n, err := strconv.Atoi(string(body[i+1:]))
				if err != nil || string(body[:i]) != e.group {
					return fmt.Errorf("%s has group %s: %v", body, e.group, err)
				}
				if at, some := last[id+e.group]; some && n <= at {
					t.Errorf("%s is behind %d", body, at)
				}
				last[id+e.group] = n
				found[id+" "+string(body)] = true
			}
			n := 0
			for x, err := range r.Scan(q.bodies()) {
				if err != nil {
					return err
				}
				_ = x
				n++
			}
			c, err := q.Counts(t.Context(), 0)
			if err != nil || c.Visible+c.InFlight != n {
				t.Errorf("%s: %d bodies, counts %+v %v", id, n, c, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range added {
		switch {
		case deleted[name] && found[name]:
			t.Errorf("%s was deleted and is there", name)
		case !deleting[name] && !found[name]:
			t.Errorf("%s was added and is lost", name)
		}
	}
	t.Logf("%d messages were acknowledged, %d deleted, %d are left", len(added), len(deleted), len(found))
}
