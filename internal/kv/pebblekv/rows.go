package pebblekv

import (
	"bytes"
	"sync"
	"sync/atomic"
)

const (
	hotSlots    = 2048    // rows that are kept, at most
	maxHotBytes = 4 << 10 // of one value
)

// hotRows keeps copies of rows that are read again and again, such as the record of a queue, so that they are not looked up in
// memtables and tables each time; also that a key has no row, such as a setting that nobody made. A key has one slot, by its hash, which it gets when it is looked up twice in a row of all that
// have that slot.
//
// A row in a slot is what every generation holds from the one that it was read in up to newest: what a later one writes leaves its slot before any
// reader sees that generation, and what was read in an earlier one does not get in.
type hotRows struct {
	slots  [hotSlots]atomic.Pointer[hotRow]
	missed [hotSlots]atomic.Uint64 // the hash of the key that was last looked up in vain

	mu     sync.Mutex // to change slots
	newest uint64     // number of a generation
}

type hotRow struct {
	hash       uint64
	since      uint64 // number of the generation that it was read in
	key, value []byte
	absent     bool
}

// get returns a copy of the value that a key has in a generation, and whether it has one. It reports whether that is known.
func (hr *hotRows) get(hash uint64, key []byte, g *generation) (value []byte, there, known bool) {
	row := hr.slots[hash%hotSlots].Load()
	if row == nil || row.hash != hash || row.since > g.number || !bytes.Equal(row.key, key) {
		return nil, false, false
	}
	if row.absent {
		return nil, false, true
	}
	return append(make([]byte, 0, len(row.value)), row.value...), true, true
}

// put keeps a copy of what was read in a generation, if it is hot.
func (hr *hotRows) put(hash uint64, key, value []byte, there bool, g *generation) {
	slot := hash % hotSlots
	if hr.missed[slot].Swap(hash) != hash || len(value) > maxHotBytes {
		return
	}
	row := &hotRow{hash: hash, since: g.number, key: bytes.Clone(key), value: bytes.Clone(value), absent: !there}
	hr.mu.Lock()
	defer hr.mu.Unlock()
	if g.number == hr.newest {
		hr.slots[slot].Store(row)
	}
}

// advance is called before readers see a generation.
func (hr *hotRows) advance(g *generation) {
	hr.mu.Lock()
	defer hr.mu.Unlock()
	hr.newest = g.number
	if g.swept || g.foreign {
		for i := range hr.slots {
			hr.slots[i].Store(nil)
		}
		return
	}
	for hash := range g.written {
		slot := &hr.slots[hash%hotSlots]
		if row := slot.Load(); row != nil && row.hash == hash {
			slot.Store(nil)
		}
	}
}
