package pebblekv

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// engine is the directory opened once, with its committer and sweeper. It takes writes until its
// fuse blows; then it only reads, and the next engine takes its place.
type engine struct {
	pebble   *pebble.DB
	fuse     *fuse
	pipeline pipeline
	landing  chan *group    // groups in flight, in order
	done     sync.WaitGroup // committer, lander and sweeper

	// Under DB.mu.
	readable int                // generations that something reads, or may
	unread   []*pebble.Snapshot // of those that nothing reads any more, for the sweeper
	sweep    sync.Cond          // of DB.mu: unread has grown, or readable is 0
}

// openEngine opens the directory. Files are kept, if keep, until its fuse is told to release them.
func (db *DB) openEngine(keep bool) (*engine, error) {
	log := db.opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &engine{landing: make(chan *group, maxFlight)}
	e.fuse = newFuse(db.fs, keep, e.pipeline.fail)
	e.sweep.L = &db.mu
	e.pipeline.init()
	po := &pebble.Options{
		FS:                 e.fuse,
		FormatMajorVersion: pebbleFormat,
		Cache:              db.cache,
		MemTableSize:       db.opts.MemTableBytes,
		Logger:             logger{log: log, fuse: e.fuse},
		EventListener:      &pebble.EventListener{BackgroundError: e.fuse.backgroundError, DataCorruption: e.fuse.dataCorruption},
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // 1 % of the lookups of absent keys read a block in vain
	}
	var err error
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		if e.pebble, err = openPebble(db.dir, po); err == nil {
			err = checkFormat(e.pebble)
		}
	}()
	select {
	case <-opened:
	case <-e.fuse.blown:
		e.fuse.retire() // so that it ends
		<-opened
	}
	if err = cmp.Or(e.fuse.err(), err); err != nil {
		e.abandon(err)
		return nil, fmt.Errorf("open store %s: %w", db.dir, err)
	}
	return e, nil
}

// abandon closes an engine that was never used.
func (e *engine) abandon(cause error) {
	e.fuse.blow(cause)
	e.fuse.retire()
	if e.pebble != nil {
		_ = closePebble(e.pebble) // the error is told already
	}
}

// start begins to commit.
func (db *DB) start(e *engine) {
	e.done.Go(func() { db.commitLoop(e) })
	e.done.Go(func() { db.landLoop(e) })
	e.done.Go(func() { db.sweepLoop(e) })
}

// end closes an engine of which no generation is read any more. It returns the cause if its fuse is blown.
func (e *engine) end() error {
	ended := make(chan error, 1)
	go func() {
		e.pipeline.close()
		e.done.Wait()
		ended <- closePebble(e.pebble)
	}()
	select {
	case err := <-ended:
		if e.fuse.err() == nil {
			return err
		}
	case <-e.fuse.blown:
		e.fuse.retire()
		<-ended
	}
	return e.fuse.err()
}

// closePebble is Close without its panics, which an engine that has failed may raise.
func closePebble(p *pebble.DB) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("pebble: %v", r)
		}
	}()
	return p.Close()
}

// restore undoes what the log holds of transactions that were not acknowledged, by what old held. It returns how many
// keys it had to change.
func (e *engine) restore(old *generation, doubt []*group) (keys int, err error) {
	batch := e.pebble.NewBatch()
	defer batch.Close()
	for _, g := range doubt {
		for _, r := range g.requests {
			if r.lost {
				continue
			}
			for key := range r.tx.writes {
				if err := e.restoreKey(batch, old, []byte(key)); err != nil {
					return 0, err
				}
			}
			for _, d := range r.tx.discards {
				if err := e.restoreRange(batch, old, d); err != nil {
					return 0, err
				}
			}
		}
	}
	if batch.Empty() {
		return 0, nil
	}
	keys = int(batch.Count())
	committed := make(chan error, 1)
	go func() { committed <- batch.Commit(pebble.Sync) }()
	select {
	case err = <-committed:
	case <-e.fuse.blown: // then Commit only returns once it is retired
		e.fuse.retire()
		<-committed
	}
	return keys, cmp.Or(e.fuse.err(), err)
}

func (e *engine) restoreKey(batch *pebble.Batch, old *generation, key []byte) error {
	before, there, err := get(old.snapshot, key)
	if err != nil {
		return err
	}
	now, is, err := get(e.pebble, key)
	switch {
	case err != nil:
		return err
	case !there && is:
		return batch.Delete(key, nil)
	case there && (!is || string(before) != string(now)):
		return batch.Set(key, before, nil)
	}
	return nil
}

// restoreRange puts back what was discarded. What was written there is the matter of restoreKey.
func (e *engine) restoreRange(batch *pebble.Batch, old *generation, r kv.Range) error {
	start, end := bounds(r)
	it, err := old.snapshot.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = e.restoreKey(batch, old, it.Key())
	}
	return errors.Join(err, it.Error(), it.Close())
}

// get reads a copy of one value.
func get(r pebble.Reader, key []byte) (value []byte, ok bool, err error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return append([]byte{}, v...), true, closer.Close()
}

// lostFile stands for a file that is opened for writing when nothing is written any more.
func lostFile() vfs.File {
	f, err := vfs.NewMem().Create("lost", vfs.WriteCategoryUnspecified)
	if err != nil {
		panic(err) // it is in memory
	}
	return f
}
