package pebblekv

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// fuse is a file system that blows at the first failure to write and lets nothing be
// changed from then on.
//
// Once the store is open, a change that fails, and every later one, does not return:
// Pebble answers most such errors with a panic, or by trying again. It would write the
// same data again after a failed fsync, which the system may then report as done although
// it dropped the pages, or remove files that it believes replaced. So it is stopped where
// it stands, which holds no lock that reads need, what is on disk stays as it was, and
// whoever waits for a commit is told by the fuse. The goroutines that are stopped, few and
// of Pebble's own, stay until the process ends.
type fuse struct {
	vfs.FS
	armed atomic.Bool // the store is open
	once  sync.Once
	blown chan struct{} // closed when blown
	cause error         // wraps kv.ErrFailed; set before blown closes
}

func newFuse(fs vfs.FS) *fuse { return &fuse{FS: fs, blown: make(chan struct{})} }

// blow fails the store. Only the first cause is kept.
func (f *fuse) blow(cause error) {
	f.once.Do(func() {
		f.cause = fmt.Errorf("%w: %w", kv.ErrFailed, cause)
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

// stop returns the error of a blown fuse, or, if the store is open, never.
func (f *fuse) stop() error {
	if f.armed.Load() {
		select {}
	}
	return f.cause
}

// try runs one change of the file system, if still allowed, and blows if it fails.
func (f *fuse) try(change func() error) error {
	if f.err() != nil {
		return f.stop()
	}
	if err := change(); err != nil {
		f.blow(err)
		return f.stop()
	}
	return nil
}

// spare is try for a change that may fail without harm.
func (f *fuse) spare(change func() error) error {
	if f.err() != nil {
		return f.stop()
	}
	return change()
}

// open is try for a change that opens a file for writing.
func (f *fuse) open(change func() (vfs.File, error)) (file vfs.File, err error) {
	err = f.try(func() error { file, err = change(); return err })
	if err != nil {
		return nil, err
	}
	return &fusedFile{file, f}, nil
}

func (f *fuse) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *fuse) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *fuse) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

// OpenDir is a write operation: directories are opened to be synced.
func (f *fuse) OpenDir(name string) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f *fuse) Rename(oldname, newname string) error {
	return f.try(func() error { return f.FS.Rename(oldname, newname) })
}

func (f *fuse) MkdirAll(dir string, perm os.FileMode) error {
	return f.try(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Link is spared: where it does not work, Pebble copies.
func (f *fuse) Link(oldname, newname string) error {
	return f.spare(func() error { return f.FS.Link(oldname, newname) })
}

// Remove is spared: a file too many is found and removed at the next open.
func (f *fuse) Remove(name string) error {
	return f.spare(func() error { return f.FS.Remove(name) })
}

// RemoveAll is spared as Remove is.
func (f *fuse) RemoveAll(name string) error {
	return f.spare(func() error { return f.FS.RemoveAll(name) })
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

func (f *fusedFile) Write(p []byte) (n int, err error) {
	err = f.fuse.try(func() error { n, err = f.File.Write(p); return err })
	return n, err
}

func (f *fusedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fuse.try(func() error { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

func (f *fusedFile) Sync() error     { return f.fuse.try(f.File.Sync) }
func (f *fusedFile) SyncData() error { return f.fuse.try(f.File.SyncData) }

func (f *fusedFile) SyncTo(length int64) (full bool, err error) {
	err = f.fuse.try(func() error { full, err = f.File.SyncTo(length); return err })
	return full, err
}

func (f *fusedFile) Preallocate(off, length int64) error {
	return f.fuse.try(func() error { return f.File.Preallocate(off, length) })
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

// Fatalf returns if the fuse is blown: then this is Pebble finding during Open that it
// cannot write, and it goes on to say so to its caller. Anything else is a broken
// invariant, with which nothing may go on.
func (l logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.log.Error(msg)
	if l.fuse.err() == nil {
		panic(msg)
	}
}
