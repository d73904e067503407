package queue

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// model is a queue as simple as can be.
type model struct {
	kind     Kind
	messages []*modelMessage // in the order of their numbers
}

type modelMessage struct {
	id      ID
	group   string
	visible time.Time
	takes   int
	flying  bool // or taken once and visible again
}

func (m *model) find(id ID) *modelMessage {
	for _, x := range m.messages {
		if x.id == id {
			return x
		}
	}
	return nil
}

func (m *model) flies(x *modelMessage) bool { return x.flying && x.visible.After(time.Now()) }

// blocked reports whether a message before x of its group flies.
func (m *model) blocked(x *modelMessage) bool {
	for _, y := range m.messages {
		if y.group == x.group && y.id.Seq < x.id.Seq && m.flies(y) {
			return true
		}
	}
	return false
}

// takeable counts what can be taken.
func (m *model) takeable() (n int) {
	for _, x := range m.messages {
		if !x.visible.After(time.Now()) && (m.kind != FIFO || !m.blocked(x)) {
			n++
		}
	}
	return n
}

func (m *model) counts() (c Counts) {
	for _, x := range m.messages {
		switch {
		case !x.visible.After(time.Now()):
			c.Visible++
		case x.flying:
			c.InFlight++
		default:
			c.Delayed++
		}
	}
	return c
}

// TestModel compares queues with a model over random operations, with windows so small that everything goes in and out of memory.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		for _, kind := range []Kind{Standard, FIFO} {
			synctest.Test(t, func(t *testing.T) { runModel(t, kind, seed) })
			if t.Failed() {
				t.Fatalf("kind %d, seed %d", kind, seed)
			}
		}
	}
}

func runModel(t *testing.T, kind Kind, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, kind, Options{Window: 1 + rnd.IntN(5), Groups: 1000})
	m := &model{kind: kind}
	var leases []Lease
	for step := range 400 {
		switch op := rnd.IntN(20); {
		case op < 6:
			for range 1 + rnd.IntN(4) {
				msg := Message{Group: fmt.Sprint(rnd.IntN(5)), Body: fmt.Append(nil, step)}
				if kind == Standard && rnd.IntN(3) == 0 {
					msg.Delay = time.Duration(rnd.IntN(20)) * time.Second
				}
				id := w.add(msg)[0]
				m.messages = append(m.messages, &modelMessage{id: id, group: msg.Group, visible: time.Now().Add(msg.Delay)})
			}
		case op < 12:
			before := m.takeable()
			tk := Take{Max: 1 + rnd.IntN(10), Visibility: time.Duration(rnd.IntN(30)) * time.Second}
			ds := w.take(tk)
			if (len(ds) == 0) != (before == 0) {
				t.Fatalf("step %d: %d messages of %d that can be taken", step, len(ds), before)
			}
			last := map[string]ID{}
			for _, d := range ds {
				x := m.find(d.ID)
				if x == nil || x.visible.After(time.Now()) || d.Takes != x.takes+1 {
					t.Fatalf("step %d: took %+v, want %+v", step, d, x)
				}
				if kind == FIFO {
					if m.blocked(x) {
						t.Fatalf("step %d: %v was taken behind one in flight", step, d.ID)
					}
					for _, y := range m.messages {
						if y.group == x.group && y.id.Seq < x.id.Seq && y.id.Seq > last[x.group].Seq {
							t.Fatalf("step %d: %v was taken before %v", step, x.id, y.id)
						}
					}
					last[x.group] = x.id
				}
				leases = append(leases, d.Lease())
			}
			for _, d := range ds {
				x := m.find(d.ID)
				x.takes, x.flying, x.visible = d.Takes, true, time.Now().Add(tk.Visibility)
			}
		case op < 16 && len(leases) > 0:
			l := leases[rnd.IntN(len(leases))]
			errs, err := w.q.Delete(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			x := m.find(l.ID)
			refused := kind == FIFO && x != nil && (!m.flies(x) || x.takes != l.Takes)
			if (errs[0] == ErrLease) != refused {
				t.Fatalf("step %d: deletion of %v: %v", step, l, errs[0])
			}
			if !refused {
				for i, y := range m.messages {
					if y == x {
						m.messages = append(m.messages[:i], m.messages[i+1:]...)
						break
					}
				}
			}
		case op < 17 && len(leases) > 0:
			l := leases[rnd.IntN(len(leases))]
			d := time.Duration(rnd.IntN(60)) * time.Second
			errs, err := w.q.SetVisibility(t.Context(), Visibility{l, d})
			if err != nil {
				t.Fatal(err)
			}
			x := m.find(l.ID)
			refused := x == nil || !m.flies(x) || kind == FIFO && x.takes != l.Takes
			if (errs[0] != nil) != refused {
				t.Fatalf("step %d: visibility of %v: %v", step, l, errs[0])
			}
			if !refused {
				x.visible = time.Now().Add(d)
			}
		case op < 19:
			time.Sleep(time.Duration(rnd.IntN(15)) * time.Second)
			synctest.Wait()
		default:
			w.restart()
		}
		if c, err := w.q.Counts(t.Context(), 0); err != nil || c != m.counts() {
			t.Fatalf("step %d: counts %+v, want %+v (%v)", step, c, m.counts(), err)
		}
	}
	for range 10000 { // all of them come in the end, and no other
		ds := w.take(take(10))
		for _, d := range ds {
			if m.find(d.ID) == nil {
				t.Fatalf("%v came back", d.ID)
			}
			w.delete(d.Lease())
			m.messages = deleteMessage(m.messages, d.ID)
		}
		if len(ds) == 0 {
			if len(m.messages) == 0 {
				break
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
	}
	if len(m.messages) > 0 {
		t.Fatalf("%d messages never came", len(m.messages))
	}
	w.empty()
}

func deleteMessage(all []*modelMessage, id ID) []*modelMessage {
	for i, x := range all {
		if x.id == id {
			return append(all[:i], all[i+1:]...)
		}
	}
	return all
}

// TestConcurrent lets many add, take and delete at once: each message is taken once, and those of a FIFO group in order.
func TestConcurrent(t *testing.T) {
	for _, kind := range []Kind{Standard, FIFO} {
		for _, window := range []int{3, 1024} {
			t.Run(fmt.Sprintf("kind %d, window %d", kind, window), func(t *testing.T) {
				w := newWorld(t, kind, Options{Window: window})
				const groups, each = 8, 60
				var mu sync.Mutex
				seen := map[string]int{}
				next := map[string]int{}
				left := groups * each
				done := make(chan struct{})
				var wg sync.WaitGroup
				for g := range groups {
					wg.Go(func() {
						for i := range each {
							w.add(Message{Group: fmt.Sprint(g), Body: fmt.Append(nil, i)})
						}
					})
				}
				for range 6 {
					wg.Go(func() {
						for {
							select {
							case <-done:
								return
							default:
							}
							ds, err := w.q.Take(t.Context(), Take{Max: 3, Visibility: time.Hour, Wait: 10 * time.Millisecond})
							if err != nil {
								t.Error(err)
								return
							}
							for _, d := range ds {
								mu.Lock()
								key := d.Group + "/" + string(d.Body)
								if seen[key]++; seen[key] > 1 {
									t.Errorf("%s came %d times", key, seen[key])
								}
								if kind == FIFO && string(d.Body) != fmt.Sprint(next[d.Group]) {
									t.Errorf("%s after %d", key, next[d.Group]-1)
								}
								next[d.Group]++
								left--
								over := left == 0
								mu.Unlock()
								w.delete(d.Lease())
								if over {
									close(done)
								}
							}
						}
					})
				}
				wg.Wait()
				w.empty()
			})
		}
	}
}

// Numbers do not go back over a restart, even when nothing is left and the clock was set back.
func TestNumbersNeverGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, FIFO, Options{})
		w.send("a1")
		d := w.take(take(1))
		w.delete(d[0].Lease())
		// A clock that is set back cannot be had here; a ceiling ahead of the clock says the same.
		if err := w.db.Update(t.Context(), func(tx kv.Tx) error {
			return kv.SetJSON(tx, w.s.ceilingKey(), uint64(time.Now().Add(time.Hour).UnixNano()))
		}); err != nil {
			t.Fatal(err)
		}
		w.restart()
		a := w.add(Message{Group: "a"})[0]
		w.restart()
		b := w.add(Message{Group: "a"})[0]
		if !(d[0].ID.Seq < a.Seq && a.Seq < b.Seq) || a.Seq < uint64(time.Now().Add(time.Hour).UnixNano()) {
			t.Errorf("numbers %d, %d, %d", d[0].ID.Seq, a.Seq, b.Seq)
		}
	})
}
