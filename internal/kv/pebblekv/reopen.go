package pebblekv

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A store that failed is opened again after firstWait, then after twice as long each time, up to longestWait. It begins anew
// when the store has worked for steady.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 10 * time.Second
	steady      = time.Minute
)

// probeFile is written to find out whether the disk takes writes.
const probeFile = "PROBE"

// reopenLoop opens the store again whenever it has failed, until the store is closed.
func (db *DB) reopenLoop() {
	log := cmp.Or(db.opts.Logger, slog.New(slog.DiscardHandler))
	wait := firstWait
	for {
		e := db.head().engine
		since := time.Now()
		select {
		case <-e.fuse.blown:
		case <-db.closing:
			return
		}
		if time.Since(since) > steady {
			wait = firstWait
		}
		log.Error("the store could not write, and takes no writes until it can", "dir", db.dir, "err", e.fuse.err())
		since = time.Now()
		var reason string
		for {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-db.closing:
				timer.Stop()
				return
			}
			wait = min(2*wait, longestWait)
			undone, err := db.reopen(e)
			if err == nil {
				log.Warn("the store takes writes again", "dir", db.dir, "after", time.Since(since).Round(time.Millisecond), "undone", undone)
				break
			}
			if text := err.Error(); text != reason {
				reason = text
				log.Warn("the store cannot write yet", "dir", db.dir, "err", err)
			}
		}
	}
}

// reopen puts a new engine in the place of old, which has failed. It holds what was acknowledged, and nothing else: undone is
// how many keys differed. Who reads old's generations reads on; their files are kept for as long.
func (db *DB) reopen(old *engine) (undone int, err error) {
	old.fuse.quiesce()
	if err := db.probe(); err != nil {
		return 0, err
	}
	e, err := db.openEngine(true)
	if err != nil {
		return 0, err
	}
	last := db.acquire()
	defer db.release(last)
	undone, err = e.restore(last, old.pipeline.doubt())
	if err != nil {
		e.abandon(err)
		return 0, fmt.Errorf("open store %s: %w", db.dir, err)
	}
	db.publish(&generation{engine: e, number: last.number + 1, snapshot: e.pebble.NewSnapshot(), refs: 1, foreign: true})
	db.start(e)
	db.watches.notifyAll()

	before := db.retired
	retired := make(chan struct{})
	db.retired = retired
	db.retiring.Go(func() {
		defer close(retired)
		if before != nil {
			<-before // the files of older ones are kept by it
		}
		db.mu.Lock()
		for old.readable > 0 {
			old.sweep.Wait()
		}
		db.mu.Unlock()
		_ = old.end() // its failure is told already
		e.fuse.release()
	})
	return undone, nil
}

// probe returns an error if the disk takes no writes, or has too little room to go on for long.
func (db *DB) probe() (err error) {
	need := 4 * db.opts.MemTableBytes // what the log holds is written anew, and some more
	usage, err := db.fs.GetDiskUsage(db.dir)
	switch {
	case errors.Is(err, vfs.ErrUnsupported): // only a try can tell
	case err != nil:
		return err
	case usage.AvailBytes < need:
		return fmt.Errorf("%d bytes are free on the disk, %d are needed", usage.AvailBytes, need)
	}
	name := db.fs.PathJoin(db.dir, probeFile)
	f, err := db.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), db.fs.Remove(name)) }()
	if _, err := f.Write(make([]byte, 64<<10)); err != nil {
		return err
	}
	return f.Sync()
}
