package pebblekv

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// reader reads one generation.
type reader struct {
	db         *DB
	ctx        context.Context
	generation *generation
	over       bool // fn has returned

	tracking bool
	reads    []uint64 // hashes of the keys read, if tracking
}

func (r *reader) finish() { r.over = true }

// read takes note that a key is read, and returns its hash.
func (r *reader) read(key []byte) uint64 {
	hash := maphash.Bytes(r.db.seed, key)
	if r.tracking {
		r.reads = append(r.reads, hash)
	}
	return hash
}

// Get implements kv.Reader.
func (r *reader) Get(key []byte) ([]byte, bool, error) {
	if r.over {
		return nil, false, kv.ErrDone
	}
	if err := kv.CheckKey(key); err != nil {
		return nil, false, err
	}
	hash := r.read(key)
	if value, there, known := r.db.hot.get(hash, key, r.generation); known {
		return value, there, nil
	}
	v, closer, err := r.generation.snapshot.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		r.db.hot.put(hash, key, nil, false, r.generation)
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("kv: get %s: %w", kv.Format(key), err)
	}
	value := make([]byte, len(v))
	copy(value, v)
	r.db.hot.put(hash, key, value, true, r.generation)
	return value, true, closer.Close()
}

// Scan implements kv.Reader.
func (r *reader) Scan(rg kv.Range) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) { r.merge(rg, nil, yield) }
}

// bounds returns the range of Pebble keys, which ends before the driver's own.
func bounds(rg kv.Range) (start, end []byte) {
	start, end = rg.Start, rg.End
	if len(end) == 0 || end[0] == 0xFF {
		end = []byte{0xFF}
	}
	if len(start) == 0 {
		start = []byte{0}
	}
	return start, end
}

// merge yields the entries of the generation in rg, with those of overlay, which is in
// the order of rg, in their place.
func (r *reader) merge(rg kv.Range, overlay []write, yield func(kv.Entry, error) bool) {
	if r.over {
		yield(kv.Entry{}, kv.ErrDone)
		return
	}
	start, end := bounds(rg)
	if bytes.Compare(start, end) >= 0 {
		return
	}
	it, err := r.generation.snapshot.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		yield(kv.Entry{}, fmt.Errorf("kv: scan: %w", err))
		return
	}
	step, order := it.Next, 1
	valid := false
	if rg.Reverse {
		step, order = it.Prev, -1
		valid = it.Last()
	} else {
		valid = it.First()
	}
	err = func() error {
		for n := 0; ; n++ {
			if n%256 == 0 && r.ctx.Err() != nil {
				return r.ctx.Err()
			}
			c := -1 // < 0: the generation's entry is next, > 0: the overlay's, 0: both have the key
			switch {
			case !valid && len(overlay) == 0:
				return it.Error()
			case !valid:
				if it.Error() != nil {
					return it.Error()
				}
				c = 1
			case len(overlay) > 0:
				c = order * cmp.Compare(string(it.Key()), overlay[0].key)
			}
			var e kv.Entry
			deleted := false
			if c >= 0 {
				w := overlay[0]
				overlay = overlay[1:]
				e, deleted = entry([]byte(w.key), w.value), w.deleted
			} else {
				v, err := it.ValueAndErr()
				if err != nil {
					return err
				}
				r.read(it.Key())
				e = entry(it.Key(), v)
			}
			if c <= 0 {
				valid = step()
			}
			if deleted {
				continue
			}
			if !yield(e, nil) {
				yield = nil
				return nil
			}
			if r.over {
				return kv.ErrDone
			}
		}
	}()
	if err = errors.Join(err, it.Close()); err != nil && yield != nil {
		yield(kv.Entry{}, fmt.Errorf("kv: scan: %w", err))
	}
}

// entry returns copies of key and value, made in one allocation.
func entry(key, value []byte) kv.Entry {
	b := make([]byte, 0, len(key)+len(value))
	b = append(append(b, key...), value...)
	return kv.Entry{Key: b[:len(key):len(key)], Value: b[len(key):]}
}

// write is what a transaction does to one key.
type write struct {
	key     string
	value   []byte
	deleted bool
}

// tx is the kv.Tx of one attempt of an Update.
type tx struct {
	reader
	seen   *generation // the newest one that reads are validated against
	writes map[string]write
	sorted []write // writes by key; nil if they changed since
	bytes  int     // of keys and values in writes
	err    error   // the first write that is not allowed

	discards []kv.Range
	ends     []func(committed bool)
}

// end tells those who asked how the run ended.
func (t *tx) end(committed bool) {
	for _, fn := range t.ends {
		fn(committed)
	}
}

// OnEnd implements kv.Tx.
func (t *tx) OnEnd(fn func(committed bool)) { t.ends = append(t.ends, fn) }

// Discard implements kv.Tx.
func (t *tx) Discard(r kv.Range) {
	if t.over {
		panic(kv.ErrDone)
	}
	if start, end := bounds(r); bytes.Compare(start, end) < 0 {
		t.discards = append(t.discards, r)
	}
}

// Get implements kv.Reader.
func (t *tx) Get(key []byte) ([]byte, bool, error) {
	if w, ok := t.writes[string(key)]; ok && !t.over {
		if w.deleted {
			return nil, false, nil
		}
		return bytes.Clone(w.value), true, nil
	}
	return t.reader.Get(key)
}

// Scan implements kv.Reader.
func (t *tx) Scan(rg kv.Range) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) { t.merge(rg, t.overlay(rg), yield) }
}

// overlay returns the writes in rg in its order. The slice stays as it is when the
// transaction writes on.
func (t *tx) overlay(rg kv.Range) []write {
	if len(t.writes) == 0 {
		return nil
	}
	if t.sorted == nil {
		t.sorted = make([]write, 0, len(t.writes))
		for _, w := range t.writes {
			t.sorted = append(t.sorted, w)
		}
		slices.SortFunc(t.sorted, func(a, b write) int { return cmp.Compare(a.key, b.key) })
	}
	start, end := bounds(rg)
	at := func(key []byte) int {
		i, _ := slices.BinarySearchFunc(t.sorted, string(key), func(w write, k string) int { return cmp.Compare(w.key, k) })
		return i
	}
	i, j := at(start), at(end)
	if i >= j {
		return nil
	}
	if !rg.Reverse {
		return t.sorted[i:j]
	}
	reversed := slices.Clone(t.sorted[i:j])
	slices.Reverse(reversed)
	return reversed
}

// Set implements kv.Tx.
func (t *tx) Set(key, value []byte) {
	if err := kv.CheckValue(value); err != nil {
		t.fail(err)
		return
	}
	v := make([]byte, len(value))
	copy(v, value)
	t.put(write{key: string(key), value: v})
}

// Delete implements kv.Tx.
func (t *tx) Delete(key []byte) { t.put(write{key: string(key), deleted: true}) }

func (t *tx) put(w write) {
	if t.over {
		panic(kv.ErrDone)
	}
	if err := kv.CheckKey([]byte(w.key)); err != nil {
		t.fail(err)
		return
	}
	if t.writes == nil {
		t.writes = map[string]write{}
	}
	if old, ok := t.writes[w.key]; ok {
		t.bytes -= len(old.key) + len(old.value)
	}
	t.writes[w.key] = w
	t.sorted = nil
	if t.bytes += len(w.key) + len(w.value); t.bytes > kv.MaxTxBytes {
		t.fail(fmt.Errorf("%w: the transaction writes more than %d bytes", kv.ErrTooLarge, kv.MaxTxBytes))
	}
}

func (t *tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// validate reports whether no key that the transaction read was written up to the
// newest generation, or the newest durable one. It goes on from where it last stopped.
func (t *tx) validate(all bool) bool {
	for next := t.seen.next.Load(); next != nil && (all || next.durable.Load()); next = t.seen.next.Load() {
		if next.wrote(t.reads) {
			return false
		}
		t.seen = next
	}
	return true
}
