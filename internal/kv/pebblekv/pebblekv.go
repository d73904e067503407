// Package pebblekv is the embedded driver of kv, on Pebble: one directory that one
// process opens.
//
// # How it works
//
// Every View and Update reads the current generation: a Pebble snapshot of exactly
// what is durable. An Update collects its writes in memory and remembers which keys
// it read. One goroutine, the committer, takes all Updates that wait as a group, drops
// those that read a key which was written since their generation, and gives the others
// to Pebble as one batch. Another waits for the fsync, publishes the next generation, and
// only then answers the group, those that were dropped too, which run again. So a reader
// never sees what a power cut can take back, and the cost of an fsync is shared by all who
// wait for one.
//
// The committer goes on meanwhile: while groups are on their way to the disk the next one
// begins once enough Updates wait. It is validated against those before it, whose
// generations are there but not durable yet. They become durable in order.
//
// A generation holds the hashes of the keys that it wrote and points to the next one.
// Validation walks from the generation that the Update read to the newest; what no
// Update can reach any more, the garbage collector takes.
//
// Rows that are read often are kept beside Pebble, see hotRows.
//
// The first write error of any kind, in the log or in the background, fails the store:
// from then on nothing in the directory is changed, writes answer kv.ErrFailed, and
// reads go on. After a failed fsync only a fresh open can tell what the disk holds. So
// once the disk takes a trial write and has room, the directory is opened once more, beside
// what still is read, by a new engine. It reads the log back and writes what that holds to
// files of its own, undoes the groups that were on their way, as far as they got into the
// log, and takes over. The old one ends, without another change to the disk, when the last View of it has.
//
// The layout on disk is described in docs/format/store.md.
package pebblekv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Options says where the store is and how much memory it takes.
type Options struct {
	// Dir is the directory, created if it does not exist. Ignored if InMemory.
	Dir string
	// InMemory keeps everything in memory, gone at Close.
	InMemory bool
	// FS is the file system that holds Dir, the operating system's if nil. Tests
	// put one here that fails or crashes.
	FS vfs.FS
	// CacheBytes bounds what is held of data read from disk together with what
	// MemTableBytes is about: Pebble takes that out of its cache. 64 MiB if zero.
	CacheBytes int64
	// MemTableBytes is how much is collected in memory before a file of it is
	// written, in the background; up to twice as much is held. 16 MiB if zero:
	// rows that live shorter than it takes to collect that, such as those of
	// messages, never reach a file.
	MemTableBytes uint64
	// Logger takes the store's warnings and errors; they are discarded if nil.
	Logger *slog.Logger
}

const (
	// pebbleFormat is the oldest Pebble format that this release reads and the one
	// it writes. Raising it makes stores unreadable for older releases.
	pebbleFormat = pebble.FormatValueSeparation
	// formatVersion is the version of what this package writes; see
	// docs/format/store.md.
	formatVersion = "1"
	// lockFile is locked while the store is open; Pebble's own tools use the same name.
	lockFile = "LOCK"
	// ownerFile holds the process id of who has the store open.
	ownerFile = "OWNER"
	// memDir is the directory of a store in memory.
	memDir = "mem"
)

// formatKey holds formatVersion. It lies in the part of the key space that kv leaves
// to drivers.
var formatKey = []byte("\xffformat")

// DB is a kv.DB in a Pebble store.
type DB struct {
	opts  Options
	fs    vfs.FS
	dir   string
	lock  io.Closer
	cache *pebble.Cache
	hot   hotRows
	seed  maphash.Seed // of the hashes in generations

	mu      sync.Mutex
	current *generation // the newest durable one
	closed  bool
	running sync.WaitGroup // Views and Updates; Add only under mu while not closed

	watches   watches
	closing   chan struct{}   // closed by Close
	reopening sync.WaitGroup  // reopenLoop
	retiring  sync.WaitGroup  // engines that have failed and are read on
	retired   <-chan struct{} // reopenLoop's: closed when the last of them has ended
}

var _ kv.DB = (*DB)(nil)

// Open opens the store, creating it if it is not there. It returns an error that wraps
// kv.ErrLocked while the directory is open elsewhere, or kv.ErrFormat if it was written
// by a newer release.
func Open(opts Options) (*DB, error) {
	opts.MemTableBytes = cmp.Or(opts.MemTableBytes, 16<<20)
	fs, dir := opts.FS, opts.Dir
	if opts.InMemory {
		fs, dir = vfs.NewMem(), memDir
	}
	if fs == nil {
		fs = vfs.Default
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, err
	}
	db := &DB{
		opts:    opts,
		fs:      fs,
		dir:     dir,
		lock:    lock,
		cache:   pebble.NewCache(cmp.Or(opts.CacheBytes, 64<<20)),
		seed:    maphash.MakeSeed(),
		closing: make(chan struct{}),
	}
	e, err := db.openEngine(false)
	if err != nil {
		db.cache.Unref()
		lock.Close()
		return nil, err
	}
	db.publish(&generation{engine: e, snapshot: e.pebble.NewSnapshot(), refs: 1})
	db.start(e)
	db.reopening.Go(db.reopenLoop)
	return db, nil
}

// openPebble is pebble.Open without its panics, which it raises for some failures to
// write, and with its errors told apart.
func openPebble(dir string, opts *pebble.Options) (p *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("pebble: %v", r)
		}
	}()
	p, err = pebble.Open(dir, opts)
	if err != nil && strings.Contains(err.Error(), "format major version") {
		err = fmt.Errorf("%w: a newer release wrote it (%w)", kv.ErrFormat, err)
	}
	return p, err
}

// checkFormat writes the format version into a new store and compares it in an old one.
func checkFormat(p *pebble.DB) error {
	v, closer, err := p.Get(formatKey)
	if errors.Is(err, pebble.ErrNotFound) {
		it, err := p.NewIter(nil)
		if err != nil {
			return err
		}
		foreign := it.First()
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return err
		}
		if foreign {
			return fmt.Errorf("%w: it has data but no version", kv.ErrFormat)
		}
		return p.Set(formatKey, []byte(formatVersion), pebble.Sync)
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	if string(v) != formatVersion {
		return fmt.Errorf("%w: it has version %q, this release reads %q", kv.ErrFormat, v, formatVersion)
	}
	return nil
}

// lockDir takes the directory's lock and leaves this process's id beside it, for the
// message that the next one to try gets.
func lockDir(fs vfs.FS, dir string) (io.Closer, error) {
	owner := fs.PathJoin(dir, ownerFile)
	lock, err := fs.Lock(fs.PathJoin(dir, lockFile))
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) { // the lock file itself cannot be made
			return nil, fmt.Errorf("open store %s: %w", dir, err)
		}
		who := "another process"
		if pid := readOwner(fs, owner); pid == os.Getpid() {
			who = "this process"
		} else if pid > 0 {
			who = "process " + strconv.Itoa(pid)
		}
		return nil, fmt.Errorf("open store %s: %w by %s", dir, kv.ErrLocked, who)
	}
	if err := writeOwner(fs, owner); err != nil {
		lock.Close()
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return lock, nil
}

// readOwner returns the process id in the owner file, or 0.
func readOwner(fs vfs.FS, name string) int {
	f, err := fs.Open(name)
	if err != nil {
		return 0
	}
	defer f.Close()
	buf := make([]byte, 32)
	n, _ := f.Read(buf)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	return pid
}

func writeOwner(fs vfs.FS, name string) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(strconv.Itoa(os.Getpid()) + "\n"))
	return errors.Join(err, f.Close())
}

// View implements kv.DB.
func (db *DB) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.running.Done()
	g := db.acquire()
	defer db.release(g)
	r := reader{db: db, ctx: ctx, generation: g}
	defer r.finish()
	return fn(&r)
}

// enter begins a call that Close waits for; the caller ends it with db.running.Done.
func (db *DB) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return kv.ErrClosed
	}
	db.running.Add(1)
	return nil
}

// head returns the current generation.
func (db *DB) head() *generation {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.current
}

// acquire returns the current generation, which stays readable until release.
func (db *DB) acquire() *generation {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.current.refs++
	return db.current
}

// release gives a generation back.
func (db *DB) release(g *generation) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if g.refs--; g.refs == 0 {
		e := g.engine
		e.unread = append(e.unread, g.snapshot)
		e.readable--
		e.sweep.Broadcast()
	}
}

// sweepLoop is the sweeper. It closes snapshots, which may have to wait until Pebble has
// written its manifest, for which no reader and no commit should.
func (db *DB) sweepLoop(e *engine) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for {
		for len(e.unread) == 0 {
			if e.readable == 0 {
				return
			}
			e.sweep.Wait()
		}
		unread := e.unread
		e.unread = nil
		db.mu.Unlock()
		for _, s := range unread {
			_ = s.Close() // fails only when closed twice
		}
		db.mu.Lock()
	}
}

// Close implements kv.DB.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return kv.ErrClosed
	}
	db.closed = true
	db.mu.Unlock()

	close(db.closing)
	db.watches.close()
	db.reopening.Wait()
	db.running.Wait()
	db.retiring.Wait()
	// Nothing reads or waits any more.
	db.release(db.current)
	err := db.current.engine.end()
	db.cache.Unref()
	_ = db.fs.Remove(db.fs.PathJoin(db.dir, ownerFile)) // a stale one does no harm
	return errors.Join(err, db.lock.Close())
}
