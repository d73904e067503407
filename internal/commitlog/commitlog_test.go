package commitlog_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mayflyhq/mayfly/internal/commitlog"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

func open(t testing.TB, opts pebblekv.Options) *pebblekv.DB {
	t.Helper()
	opts.InMemory = opts.Dir == ""
	db, err := pebblekv.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func add(t testing.TB, db kv.DB, l *commitlog.Log, records ...string) (first uint64) {
	t.Helper()
	data := make([][]byte, len(records))
	for i, r := range records {
		data[i] = []byte(r)
	}
	if err := db.Update(context.Background(), func(tx kv.Tx) (err error) {
		first, err = l.Append(tx, data...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return first
}

func read(t testing.TB, l *commitlog.Log, from uint64, records, size int) (string, commitlog.Batch) {
	t.Helper()
	b, err := l.Read(context.Background(), from, records, size)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range b.Records {
		all = append(all, string(r.Data))
	}
	return strings.Join(all, " "), b
}

func want(t testing.TB, what, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %q, want %q", what, got, wanted)
	}
}

func TestRead(t *testing.T) {
	db := open(t, pebblekv.Options{})
	defer db.Close()
	logs := commitlog.New(db, "log")
	l := logs.Log("a")
	got, b := read(t, l, 0, 10, 100)
	want(t, "empty", got, "")
	if b.Next != 0 {
		t.Errorf("next of an empty log: %d", b.Next)
	}
	first := add(t, db, l, "a", "bb", "")
	second := add(t, db, l, "ccc")
	add(t, db, logs.Log("a\x00"), "other")
	if second < first+3 {
		t.Errorf("positions %d and %d", first, second)
	}
	for _, test := range []struct {
		from          uint64
		records, size int
		want          string
		next          uint64
		pending       bool
	}{
		{0, 10, 100, "a bb  ccc", second + 1, false},
		{0, 1, 100, "a", first + 1, true},
		{0, 10, 3, "a bb ", first + 3, true},
		{0, 10, 2, "a", first + 1, true},
		{first + 1, 10, 1, "bb", first + 2, true},
		{first + 1, 2, 100, "bb ", first + 3, true},
		{first + 3, 10, 100, "ccc", second + 1, false},
		{second, 10, 0, "ccc", second + 1, false},
		{second + 1, 10, 100, "", second + 1, false},
	} {
		got, b := read(t, l, test.from, test.records, test.size)
		want(t, fmt.Sprintf("%+v", test), got, test.want)
		if b.Next != test.next || b.Pending.IsZero() == test.pending {
			t.Errorf("%+v: next %d, pending %v", test, b.Next, b.Pending)
		}
	}
	if tail, err := l.Tail(t.Context()); err != nil || tail != second+1 {
		t.Errorf("tail %d, %v", tail, err)
	}
	s, err := l.Stats(t.Context(), 0)
	if err != nil || s.Records != 4 || s.Bytes != 6 || s.First.IsZero() || s.Last.Before(s.First) {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := l.Stats(t.Context(), first+1); err != nil || s.Records != 3 || s.Bytes != 5 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := l.Stats(t.Context(), second+1); err != nil || s != (commitlog.Stats{}) {
		t.Errorf("%+v, %v", s, err)
	}
	// A record that no row can hold fails its transaction and nobody else's.
	if err := db.Update(t.Context(), func(tx kv.Tx) error {
		_, err := l.Append(tx, make([]byte, kv.MaxValueBytes+1))
		return err
	}); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	add(t, db, l, "d")
	got, _ = read(t, l, second, 10, 100)
	want(t, "after a failure", got, "ccc d")
}

// Any appends, trims and restarts leave what a list would.
func TestModel(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		db := open(t, pebblekv.Options{Dir: dir})
		logs := commitlog.New(db, "log")
		type record struct {
			position uint64
			data     string
		}
		var model []record
		last, n := uint64(0), 0
		for range 80 {
			l := logs.Log("x")
			switch op := rnd.IntN(20); {
			case op < 10:
				var records []string
				for range 1 + rnd.IntN(5) {
					n++
					size := rnd.IntN(20)
					if rnd.IntN(4) == 0 {
						size = rnd.IntN(100 << 10) // several chunks
					}
					records = append(records, fmt.Sprint(n, strings.Repeat("x", size)))
				}
				first := add(t, db, l, records...)
				if first <= last {
					t.Fatalf("position %d after %d", first, last)
				}
				for i, r := range records {
					last = first + uint64(i)
					model = append(model, record{last, r})
				}
			case op < 12 && len(model) > 0:
				at := rnd.IntN(len(model))
				if _, err := l.Trim(t.Context(), model[at].position); err != nil {
					t.Fatal(err)
				}
				// Whole chunks go: what is left begins at or before it.
				_, b := read(t, l, 0, 1, 1)
				left := 0
				for left < at && model[left].position < b.Records[0].Position {
					left++
				}
				model = model[left:]
			case op == 12:
				if _, err := l.Trim(t.Context(), last+1); err != nil {
					t.Fatal(err)
				}
				model = nil
			case op < 15:
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				db = open(t, pebblekv.Options{Dir: dir})
				logs = commitlog.New(db, "log")
				l = logs.Log("x")
			case len(model) > 0:
				at := rnd.IntN(len(model))
				most, size := 1+rnd.IntN(10), 1+rnd.IntN(200<<10)
				b, err := l.Read(t.Context(), model[at].position, most, size)
				if err != nil {
					t.Fatal(err)
				}
				sum := 0
				for i, r := range b.Records {
					if m := model[at+i]; r.Position != m.position || string(r.Data) != m.data {
						t.Fatalf("seed %d: record %d is not that of the model", seed, at+i)
					}
					sum += len(r.Data)
				}
				end := at + len(b.Records)
				if len(b.Records) > most || sum > size && len(b.Records) > 1 || b.Next != b.Records[len(b.Records)-1].Position+1 || b.Pending.IsZero() != (end == len(model)) {
					t.Fatalf("seed %d: %d records of %d and %d bytes of %d, next %d", seed, len(b.Records), most, sum, size, b.Next)
				}
				if end < len(model) && len(b.Records) < most && sum+len(model[end].data) <= size {
					t.Fatalf("seed %d: there was room for another record", seed)
				}
			}
			s, err := l.Stats(t.Context(), 0)
			if err != nil || s.Records != uint64(len(model)) {
				t.Fatalf("seed %d: %d records by the statistics, %d in the model: %v", seed, s.Records, len(model), err)
			}
		}
		db.Close()
	}
}

// Writers commit and abort in any order, and a reader that follows sees all that was committed, once and in order.
func TestNoHoles(t *testing.T) {
	db := open(t, pebblekv.Options{})
	defer db.Close()
	l := commitlog.New(db, "log").Log("a")
	var committed atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				abort := rand.N(4) == 0
				records := make([][]byte, 1+rand.N(3))
				for j := range records {
					records[j] = fmt.Append(nil, w, " ", i, " ", j)
				}
				err := db.Update(t.Context(), func(tx kv.Tx) error {
					if _, err := l.Append(tx, records...); err != nil {
						return err
					}
					time.Sleep(rand.N(100 * time.Microsecond))
					if abort {
						return errors.New("abort")
					}
					return nil
				})
				if err == nil {
					committed.Add(int64(len(records)))
				}
			}
		})
	}
	done, cancel := context.WithCancel(t.Context())
	go func() { wg.Wait(); cancel() }()
	seen := map[string]bool{}
	next, last := uint64(0), uint64(0)
	for over := false; !over; {
		if l.Wait(done, next) != nil {
			over = true // one more look
		}
		b, err := l.Read(t.Context(), next, 10_000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Records {
			if seen[string(r.Data)] || r.Position <= last {
				t.Fatalf("%s at %d after %d", r.Data, r.Position, last)
			}
			seen[string(r.Data)], last = true, r.Position
		}
		next = b.Next
	}
	if int64(len(seen)) != committed.Load() {
		t.Errorf("%d records were seen, %d were committed", len(seen), committed.Load())
	}
}

// Histories of appends and reads are those of one list in the order of positions.
func TestLinearizable(t *testing.T) {
	type input struct{ append string }
	type output struct {
		position uint64
		all      string
	}
	model := porcupine.Model{
		Init: func() any { return output{} },
		Step: func(state, in, out any) (bool, any) {
			list, o := state.(output), out.(output)
			if v := in.(input).append; v != "" {
				return o.position > list.position, output{o.position, list.all + v + " "}
			}
			return o.all == list.all, list
		},
	}
	for range 20 {
		db := open(t, pebblekv.Options{})
		l := commitlog.New(db, "log").Log("a")
		start := time.Now()
		var mu sync.Mutex
		var history []porcupine.Operation
		var wg sync.WaitGroup
		for client := range 5 {
			wg.Go(func() {
				for i := range 8 {
					op, out := porcupine.Operation{ClientId: client}, output{}
					if client < 3 {
						op.Input = input{fmt.Sprint(client, ".", i)}
						op.Call = int64(time.Since(start))
						if err := db.Update(t.Context(), func(tx kv.Tx) (err error) {
							out.position, err = l.Append(tx, []byte(op.Input.(input).append))
							if rand.N(2) == 0 {
								time.Sleep(rand.N(200 * time.Microsecond))
							}
							return err
						}); err != nil {
							t.Error(err)
						}
					} else {
						op.Input = input{}
						op.Call = int64(time.Since(start))
						b, err := l.Read(t.Context(), 0, 1000, 1<<20)
						if err != nil {
							t.Error(err)
						}
						for _, r := range b.Records {
							out.all += string(r.Data) + " "
						}
					}
					op.Output = out
					op.Return = int64(time.Since(start))
					mu.Lock()
					history = append(history, op)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if porcupine.CheckOperationsTimeout(model, history, time.Minute) == porcupine.Illegal {
			t.Fatalf("not linearizable: %+v", history)
		}
		db.Close()
	}
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		db := open(t, pebblekv.Options{Dir: dir})
		l := commitlog.New(db, "log").Log("a")
		begin := time.Now()
		add(t, db, l, "0")
		for i := range 5 {
			time.Sleep(time.Second)
			add(t, db, l, fmt.Sprint(i+1))
		}
		got, b := read(t, l, commitlog.At(begin.Add(2500*time.Millisecond)), 10, 100)
		want(t, "from a time", got, "3 4 5")
		if !b.Records[0].Time.Equal(begin.Add(3 * time.Second)) {
			t.Errorf("the time of 3 is %v after the beginning", b.Records[0].Time.Sub(begin))
		}
		if _, err := l.Trim(t.Context(), commitlog.At(begin.Add(4*time.Second))); err != nil {
			t.Fatal(err)
		}
		got, _ = read(t, l, 0, 10, 100)
		want(t, "trimmed", got, "4 5")

		// A log that begins ahead of the clock stays ahead, whatever is trimmed and restarted.
		ahead := commitlog.At(time.Now().Add(time.Hour))
		b2 := commitlog.New(db, "log").Log("b")
		if err := db.Update(t.Context(), func(tx kv.Tx) error { b2.Begin(tx, ahead); return nil }); err != nil {
			t.Fatal(err)
		}
		if p := add(t, db, b2, "x", "y"); p != ahead+1 {
			t.Errorf("position %d, the floor was %d", p, ahead)
		}
		if ok, err := b2.Trim(t.Context(), ahead+10); err != nil || !ok {
			t.Errorf("trimmed %v, %v", ok, err)
		}
		if ok, err := b2.Trim(t.Context(), ahead+10); err != nil || ok {
			t.Errorf("trimmed again %v, %v", ok, err)
		}
		db.Close()
		db = open(t, pebblekv.Options{Dir: dir})
		defer db.Close()
		b2 = commitlog.New(db, "log").Log("b")
		if p := add(t, db, b2, "z"); p != ahead+3 {
			t.Errorf("position %d after a restart, the last was %d", p, ahead+2)
		}
		got, b = read(t, b2, 0, 10, 10)
		want(t, "after a restart", got, "z")
		if commitlog.At(b.Records[0].Time) > ahead+3 || commitlog.At(b.Records[0].Time.Add(time.Millisecond)) <= ahead+3 {
			t.Errorf("the record at %d has the time %v", ahead+3, b.Records[0].Time)
		}
	})
}

func TestAt(t *testing.T) {
	for _, test := range []struct {
		t    time.Time
		want uint64
	}{
		{time.Time{}, 0}, {time.Unix(0, 5), 5}, {time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), 1 << 63},
	} {
		if got := commitlog.At(test.t); got != test.want {
			t.Errorf("%v is at %d", test.t, got)
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, pebblekv.Options{})
		defer db.Close()
		logs := commitlog.New(db, "log")
		l := logs.Log("a")
		p := add(t, db, l, "a")
		if err := l.Wait(t.Context(), p); err != nil {
			t.Errorf("there is something: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Wait(ctx, p+1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("there is nothing: %v", err)
		}
		const waiters = 1000
		var woken atomic.Int64
		for range waiters {
			go func() {
				if l.Wait(context.Background(), p+1) == nil {
					woken.Add(1)
				}
			}()
		}
		synctest.Wait()
		if err := db.Update(t.Context(), func(tx kv.Tx) error {
			_, err := l.Append(tx, []byte("aborted"))
			return errors.Join(err, errors.New("abort"))
		}); err == nil {
			t.Error("committed")
		}
		synctest.Wait()
		if n := woken.Load(); n != 0 {
			t.Errorf("%d were woken by nothing", n)
		}
		add(t, db, l, "b")
		synctest.Wait()
		if n := woken.Load(); n != waiters {
			t.Errorf("%d of %d were woken", n, waiters)
		}
		// One that commits behind one that is still open is seen only with it.
		inside, proceed := make(chan struct{}), make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- db.Update(context.Background(), func(tx kv.Tx) error {
				_, err := l.Append(tx, []byte("c"))
				close(inside)
				<-proceed
				return err
			})
		}()
		<-inside
		from := add(t, db, l, "d")
		waited := make(chan error, 1)
		go func() { waited <- l.Wait(context.Background(), from) }()
		synctest.Wait()
		select {
		case <-waited:
			t.Error("woken before the older one has ended")
		default:
		}
		close(proceed)
		if err := errors.Join(<-done, <-waited); err != nil {
			t.Error(err)
		}
		got, _ := read(t, l, p, 10, 100)
		want(t, "in the end", got, "a b c d")

		go func() { waited <- l.Wait(context.Background(), from+1000) }()
		synctest.Wait()
		if err := db.Update(t.Context(), func(tx kv.Tx) error { l.Drop(tx); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err != commitlog.ErrDropped {
			t.Errorf("after a drop: %v", err)
		}
		_ = db.View(t.Context(), func(r kv.Reader) error {
			for e := range r.Scan(kv.Range{}) {
				t.Errorf("left: %s", kv.Format(e.Key))
			}
			return nil
		})
	})
}

// counting counts what scans yield.
type counting struct {
	kv.DB
	entries atomic.Int64
}

func (c *counting) View(ctx context.Context, fn func(kv.Reader) error) error {
	return c.DB.View(ctx, func(r kv.Reader) error { return fn(countingReader{r, c}) })
}

type countingReader struct {
	kv.Reader
	c *counting
}

func (r countingReader) Scan(rg kv.Range) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		for e, err := range r.Reader.Scan(rg) {
			r.c.entries.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

// What is asked at the tail, from a time on, or of the size does not depend on how much there is.
func TestCost(t *testing.T) {
	db := &counting{DB: open(t, pebblekv.Options{})}
	defer db.Close()
	l := commitlog.New(db, "log").Log("a")
	var middle uint64
	for i := range 500 {
		p := add(t, db, l, strings.Repeat("x", 100))
		if i == 250 {
			middle = p
		}
	}
	p := add(t, db, l, "last")
	for name, do := range map[string]func() error{
		"read at the tail":     func() error { _, err := l.Read(t.Context(), p, 100, 1<<20); return err },
		"read behind the tail": func() error { _, err := l.Read(t.Context(), p+1, 100, 1<<20); return err },
		"read in the middle":   func() error { _, err := l.Read(t.Context(), middle, 1, 1<<20); return err },
		"stats":                func() error { _, err := l.Stats(t.Context(), 0); return err },
		"trim":                 func() error { _, err := l.Trim(t.Context(), middle); return err },
		"reopen":               func() error { _, err := commitlog.New(db, "log").Log("a").Tail(t.Context()); return err },
	} {
		db.entries.Store(0)
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if n := db.entries.Load(); n > 2 {
			t.Errorf("%s reads %d rows", name, n)
		}
	}
}
