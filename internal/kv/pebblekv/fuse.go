package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// fuse is a file system that blows at the first failure to write and lets nothing be
// changed from then on.
//
// A change that fails, and every later one, does not return:
// Pebble answers most such errors with a panic, or by trying again. It would write the
// same data again after a failed fsync, which the system may then report as done although
// it dropped the pages, or remove files that it believes replaced. So it is stopped where
// it stands, which holds no lock that reads need, what is on disk stays as it was, and
// whoever waits for a commit is told by the fuse.
//
// When nothing is read through it any more the fuse is retired: every change then seems to
// succeed, without an effect, so that Pebble comes to an end and gives back what it holds.
type fuse struct {
	vfs.FS
	once    sync.Once
	blown   chan struct{} // closed when blown
	cause   error         // wraps kv.ErrFailed; set before blown closes
	onBlow  func(cause error)
	last    sync.Once
	retired chan struct{} // closed when retired

	changes sync.RWMutex // read-held during a change

	mu   sync.Mutex
	keep bool     // files are not removed but noted in kept: another engine reads them
	kept []string // in order
}

// newFuse returns a fuse that calls onBlow just before it blows: from deep within Pebble, which onBlow so may not call.
func newFuse(fs vfs.FS, keep bool, onBlow func(cause error)) *fuse {
	return &fuse{FS: fs, keep: keep, onBlow: onBlow, blown: make(chan struct{}), retired: make(chan struct{})}
}

// blow fails the store. Only the first cause is kept.
func (f *fuse) blow(cause error) {
	f.once.Do(func() {
		f.cause = cause
		if !errors.Is(cause, kv.ErrFailed) {
			f.cause = fmt.Errorf("%w: %w", kv.ErrFailed, cause)
		}
		f.onBlow(f.cause)
		close(f.blown)
	})
}

// err returns why the store failed, or nil.
func (f *fuse) err() error {
	select {
	case <-f.blown:
		return f.cause
	default:
		return nil
	}
}

// quiesce returns when the changes under way when the fuse blew have ended. There are no others.
func (f *fuse) quiesce() {
	f.changes.Lock()
	f.changes.Unlock() //nolint:staticcheck // it waits
}

// retire lets those that are stopped go on, in vain. The fuse must be blown.
func (f *fuse) retire() {
	f.quiesce()
	f.last.Do(func() { close(f.retired) })
}

// release removes the files that were kept, and keeps none from now on.
func (f *fuse) release() {
	f.mu.Lock()
	kept := f.kept
	f.keep, f.kept = false, nil
	f.mu.Unlock()
	f.changes.RLock()
	defer f.changes.RUnlock()
	for _, name := range kept {
		if f.err() == nil {
			_ = f.FS.RemoveAll(name) // one too many is found and removed at the next open
		}
	}
}

// try runs one change of the file system, if still allowed, and blows if it fails. From then on it returns only once the
// fuse is retired.
func (f *fuse) try(change func() error) {
	f.changes.RLock()
	if f.err() == nil {
		err := change()
		if err == nil {
			f.changes.RUnlock()
			return
		}
		f.blow(err)
	}
	f.changes.RUnlock()
	<-f.retired
}

// spare is try for a change that may fail without harm.
func (f *fuse) spare(change func() error) (err error) {
	f.try(func() error { err = change(); return nil })
	return err
}

// remove is spare for the removal of a file: one too many is found and removed at the next open.
func (f *fuse) remove(name string, change func() error) error {
	f.mu.Lock()
	keep := f.keep
	if keep {
		f.kept = append(f.kept, name)
	}
	f.mu.Unlock()
	if keep {
		return nil
	}
	return f.spare(change)
}

// reuse is told of every name that is given to a file: it is not to be removed any more.
func (f *fuse) reuse(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keep {
		f.kept = slices.DeleteFunc(f.kept, func(n string) bool { return n == name })
	}
}

// open is try for a change that opens a file for writing.
func (f *fuse) open(change func() (vfs.File, error)) (file vfs.File, _ error) {
	f.try(func() (err error) { file, err = change(); return err })
	if file == nil { // retired
		file = lostFile()
	}
	return &fusedFile{file, f}, nil
}

func (f *fuse) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.reuse(name)
	return f.open(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *fuse) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *fuse) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.reuse(newname)
	return f.open(func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

// Open finds nothing once the fuse is retired: a file of that name may be another engine's.
func (f *fuse) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	select {
	case <-f.retired:
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	default:
		return f.FS.Open(name, opts...)
	}
}

// OpenDir is a write operation: directories are opened to be synced.
func (f *fuse) OpenDir(name string) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f *fuse) Rename(oldname, newname string) error {
	f.reuse(newname)
	f.try(func() error { return f.FS.Rename(oldname, newname) })
	return nil
}

func (f *fuse) MkdirAll(dir string, perm os.FileMode) error {
	f.try(func() error { return f.FS.MkdirAll(dir, perm) })
	return nil
}

// Link is spared: where it does not work, Pebble copies.
func (f *fuse) Link(oldname, newname string) error {
	f.reuse(newname)
	return f.spare(func() error { return f.FS.Link(oldname, newname) })
}

func (f *fuse) Remove(name string) error {
	return f.remove(name, func() error { return f.FS.Remove(name) })
}

func (f *fuse) RemoveAll(name string) error {
	return f.remove(name, func() error { return f.FS.RemoveAll(name) })
}

// Lock does nothing: Open holds the lock of the directory already, and longer than
// Pebble would.
func (f *fuse) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (f *fuse) Unwrap() vfs.FS { return f.FS }

// fusedFile is a file opened for writing through a fuse.
type fusedFile struct {
	vfs.File
	fuse *fuse
}

func (f *fusedFile) Write(p []byte) (int, error) {
	f.fuse.try(func() error { _, err := f.File.Write(p); return err })
	return len(p), nil
}

func (f *fusedFile) WriteAt(p []byte, off int64) (int, error) {
	f.fuse.try(func() error { _, err := f.File.WriteAt(p, off); return err })
	return len(p), nil
}

func (f *fusedFile) Sync() error {
	f.fuse.try(f.File.Sync)
	return nil
}

func (f *fusedFile) SyncData() error {
	f.fuse.try(f.File.SyncData)
	return nil
}

func (f *fusedFile) SyncTo(length int64) (full bool, _ error) {
	full = true
	f.fuse.try(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, nil
}

func (f *fusedFile) Preallocate(off, length int64) error {
	f.fuse.try(func() error { return f.File.Preallocate(off, length) })
	return nil
}

// backgroundError is Pebble's report of a flush or compaction that failed. One that
// failed to write never gets here; one that failed to read does, and a store that cannot
// compact soon stalls.
func (f *fuse) backgroundError(err error) { f.blow(err) }

func (f *fuse) dataCorruption(info pebble.DataCorruptionInfo) {
	f.blow(fmt.Errorf("corrupt data in %s: %w", info.Path, info.Details))
}

// logger passes Pebble's messages on. Pebble calls Fatalf and expects it not to return.
type logger struct {
	log  *slog.Logger
	fuse *fuse
}

func (l logger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...))
}

// Fatalf returns if the fuse is blown: then this is Pebble finding that what it wrote in vain is not
// there, and it goes on to say so to its caller. Anything else is a broken
// invariant, with which nothing may go on.
func (l logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.log.Error(msg)
	if l.fuse.err() == nil {
		panic(msg)
	}
}
