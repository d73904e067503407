package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Disk is a Store in a directory:
//
//	ab/cd/abcd...   the blob whose digest begins with abcd, named by all of it
//	tmp/            what is being written
//
// A blob is written under tmp, synced, renamed to its place, and the directory synced.
type Disk struct {
	dir string

	mu     sync.Mutex      // held to move a blob into its place, and to look at its age and remove it
	synced map[string]bool // directories whose own entries are known to be on disk
}

var _ Store = (*Disk)(nil)

const tempDir = "tmp"

// Open returns the store in dir, which one process may have open at a time. It makes dir
// if it does not exist, and removes what was being written when the last process ended.
func Open(dir string) (*Disk, error) {
	s := &Disk{dir: dir, synced: map[string]bool{}}
	if err := os.RemoveAll(s.path(tempDir)); err != nil {
		return nil, fmt.Errorf("blob: open store: %w", err)
	}
	if err := os.MkdirAll(s.path(tempDir), 0o700); err != nil {
		return nil, fmt.Errorf("blob: open store: %w", err)
	}
	// The parent may be a directory that others own.
	if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("blob: open store: %w", err)
	}
	return s, nil
}

func (s *Disk) path(elem ...string) string {
	return filepath.Join(s.dir, filepath.Join(elem...))
}

// place returns the directory of a blob, below the store's, and its path.
func (s *Disk) place(d Digest) (dir, path string) {
	name := d.String()
	dir = filepath.Join(name[:2], name[2:4])
	return dir, s.path(dir, name)
}

// Put implements Store.
func (s *Disk) Put(ctx context.Context, r io.Reader) (Digest, int64, error) {
	var d Digest
	if err := ctx.Err(); err != nil {
		return d, 0, err
	}
	f, err := os.CreateTemp(s.path(tempDir), "put-")
	if err != nil {
		return d, 0, fmt.Errorf("blob: put: %w", err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, h), &reader{ctx, r})
	if err != nil {
		return d, 0, err
	}
	if err := f.Sync(); err != nil {
		return d, 0, fmt.Errorf("blob: put: %w", err)
	}
	h.Sum(d[:0])
	dir, path := s.place(d)
	if err := s.makeDir(dir); err != nil {
		return d, 0, fmt.Errorf("blob: put %s: %w", d, err)
	}
	// Over a blob that is there already, too: that makes it young, and whole.
	s.mu.Lock()
	err = os.Rename(f.Name(), path)
	s.mu.Unlock()
	if err == nil {
		err = syncDir(s.path(dir))
	}
	if err != nil {
		return d, 0, fmt.Errorf("blob: put %s: %w", d, err)
	}
	return d, size, nil
}

// makeDir makes a directory two levels below the store's and sees to it that its entry is
// on disk, even if another Put made it a moment ago.
func (s *Disk) makeDir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.synced[dir] {
		return nil
	}
	if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
		return err
	}
	if err := syncDir(s.path(filepath.Dir(dir))); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.synced[dir] = true
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// reader ends when its context does.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// file is an *os.File that knows its size.
type file struct {
	*os.File
	size int64
}

func (f file) Size() int64 { return f.size }

// Open implements Store.
func (s *Disk) Open(ctx context.Context, d Digest) (File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, path := s.place(d)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("blob: open %s: %w", d, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("blob: open %s: %w", d, err)
	}
	return file{f, info.Size()}, nil
}

// Stat implements Store.
func (s *Disk) Stat(ctx context.Context, d Digest) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	_, path := s.place(d)
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("blob: stat %s: %w", d, err)
	}
	return info.Size(), nil
}

// Delete implements Store. After a crash of the machine the blob may be back.
func (s *Disk) Delete(ctx context.Context, d Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, path := s.place(d)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob: delete %s: %w", d, err)
	}
	return nil
}

// Sweep implements Store.
func (s *Disk) Sweep(ctx context.Context, before time.Time, keep func(Digest) (bool, error)) (removed int, err error) {
	err = filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case path == s.path(tempDir):
			return fs.SkipDir
		case e.IsDir():
			return nil
		}
		d, err := ParseDigest(e.Name())
		if err != nil {
			return nil // not ours
		}
		if old, err := s.olderThan(path, before); err != nil || !old {
			return err
		}
		if kept, err := keep(d); err != nil || kept {
			return err
		}
		gone, err := s.removeOlder(path, before)
		if gone {
			removed++
		}
		return err
	})
	if err != nil {
		return removed, fmt.Errorf("blob: sweep: %w", err)
	}
	return removed, nil
}

// removeOlder removes a blob that was not put again in the meantime.
func (s *Disk) removeOlder(path string, before time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, err := s.olderThan(path, before); err != nil || !old {
		return false, err
	}
	err := os.Remove(path)
	return err == nil, err
}

// olderThan reports whether the blob at path was last put before a time; a blob that is
// gone was not.
func (s *Disk) olderThan(path string, before time.Time) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.ModTime().Before(before), err
}
