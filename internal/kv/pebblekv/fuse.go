package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// fuse is a file system that blows at the first failure to write and lets nothing be
// changed from then on. What is on disk stays as it was, whatever Pebble goes on to try:
// it would write the same data again after a failed fsync, which the system may then
// report as done although it dropped the pages, or remove files that it believes
// replaced.
type fuse struct {
	vfs.FS
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

// try runs one change of the file system, if still allowed, and blows if it fails.
func (f *fuse) try(change func() error) error {
	if err := f.err(); err != nil {
		return err
	}
	err := change()
	if err != nil {
		f.blow(err)
	}
	return err
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

// Link may fail without harm: where it does, Pebble copies.
func (f *fuse) Link(oldname, newname string) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.FS.Link(oldname, newname)
}

func (f *fuse) Rename(oldname, newname string) error {
	return f.try(func() error { return f.FS.Rename(oldname, newname) })
}

func (f *fuse) MkdirAll(dir string, perm os.FileMode) error {
	return f.try(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Remove may fail without harm: a file too many is found and removed at the next open.
func (f *fuse) Remove(name string) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// RemoveAll is as Remove.
func (f *fuse) RemoveAll(name string) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

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

// backgroundError is Pebble's report of a flush or compaction that failed. Those that
// failed to write have blown the fuse already; those that failed to read do here, for a
// store that cannot compact soon stalls.
func (f *fuse) backgroundError(err error) {
	if f.err() != nil {
		// Pebble tries a failed flush again without a pause.
		time.Sleep(50 * time.Millisecond)
		return
	}
	f.blow(err)
}

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

// Fatalf returns if the fuse is blown: then this is Pebble finding that it cannot write
// its log or its manifest, and the rest of the process is better served by a store that
// still reads. Anything else is a broken invariant, with which nothing may go on.
func (l logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.log.Error(msg)
	if strings.HasPrefix(msg, "pebble: fatal commit error") {
		l.fuse.blow(errors.New(msg))
	}
	if l.fuse.err() == nil {
		panic(msg)
	}
}
