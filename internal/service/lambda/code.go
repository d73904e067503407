package lambda

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mayflyhq/mayfly/internal/blob"
	"github.com/mayflyhq/mayfly/internal/kv"
)

var (
	errZipTooBig = errors.New("zip file too big")
	errNoArchive = errors.New("the archive is missing")
)

// codeStore keeps archives: as blobs, which are what is durable, and unpacked in directories named by their digest, which are made again
// from the blobs when they are missing. A directory is complete or absent: archives are unpacked beside it and moved.
//
// An archive is removed when no version needs it, nobody is about to need it (add has given it out and was not released), and no
// environment runs from it.
type codeStore struct {
	db     kv.DB
	blobs  blob.Store
	root   string
	limits Config
	inUse  func(dir string) bool
	flight singleflight.Group // by digest
	wanted chan struct{}      // holds one wish for a collection at most

	collecting sync.Mutex // one collection at a time; taken before mu

	mu       sync.Mutex               // guards what follows, all by digest
	unpacked map[string]bool          // directories that exist
	pinned   map[string]int           // that add gave out
	loans    map[string]*loan         // that environments may run from
	removing map[string]chan struct{} // closed when they are gone
}

// loan is a directory that environments may run from. Whoever starts an invocation takes it and gives it back after
// that; what runs on between invocations is for the inUse of codeStore to know.
type loan struct {
	dir   string
	users atomic.Int64
	gone  atomic.Bool
}

// take reports false if the directory is going away.
func (l *loan) take() bool {
	l.users.Add(1)
	if l.gone.Load() {
		l.users.Add(-1)
		return false
	}
	return true
}

func (l *loan) give() { l.users.Add(-1) }

// end makes take fail from now on, unless somebody has taken the loan.
func (l *loan) end() bool {
	l.gone.Store(true)
	if l.users.Load() > 0 {
		l.gone.Store(false)
		return false
	}
	return true
}

// loans are the directories that one version runs from.
type loans []*loan

// take takes all, or none and reports false.
func (l loans) take() bool {
	for i := range l {
		if !l[i].take() {
			l[:i].give()
			return false
		}
	}
	return true
}

func (l loans) give() {
	for i := range l {
		l[i].give()
	}
}

// temporary begins the names of directories that are being made or removed.
const temporary = ".tmp-"

// newCodeStore opens the directory root. What it holds is trusted only if the machine has not restarted since, because directories are
// not synced to disk one by one.
func newCodeStore(db kv.DB, blobs blob.Store, root string, limits Config, inUse func(string) bool) (*codeStore, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("lambda: code directory: %w", err)
	}
	c := &codeStore{
		db: db, blobs: blobs, root: root, limits: limits, inUse: inUse,
		wanted: make(chan struct{}, 1), unpacked: map[string]bool{}, pinned: map[string]int{}, loans: map[string]*loan{}, removing: map[string]chan struct{}{},
	}
	boot, mark := bootID(), filepath.Join(root, "boot")
	old, err := os.ReadFile(mark)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lambda: code directory: %w", err)
	}
	trusted := boot != "" && string(old) == boot
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("lambda: code directory: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case !e.IsDir() || len(name) != sha256.Size*2 && !strings.HasPrefix(name, temporary):
		case trusted && !strings.HasPrefix(name, temporary):
			c.unpacked[name] = true
		default:
			if err := removeTree(filepath.Join(root, name)); err != nil {
				return nil, fmt.Errorf("lambda: code directory: %w", err)
			}
		}
	}
	if !trusted {
		if err := os.WriteFile(mark, []byte(boot), 0o644); err != nil {
			return nil, fmt.Errorf("lambda: code directory: %w", err)
		}
	}
	return c, nil
}

// bootID names the time since the machine started, "" if it has no name.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// add checks and keeps an archive and returns its digest. The archive stays until release is called, by when a version must need it. Errors
// are errZipTooBig, errArchiveTooBig, errEmptyArchive and errBadArchive for the caller's, all others for the machine's; after
// any of them nothing is left behind.
func (c *codeStore) add(ctx context.Context, zip []byte) (digest string, release func(), err error) {
	if int64(len(zip)) > c.limits.ZipBytes {
		return "", nil, errZipTooBig
	}
	sum := sha256.Sum256(zip)
	digest = hex.EncodeToString(sum[:])
	if err := c.pin(ctx, digest); err != nil {
		return "", nil, err
	}
	unpin := sync.OnceFunc(func() { c.unpin(digest) })
	defer func() {
		if err != nil {
			unpin()
		}
	}()
	// Not cut short: zip is the caller's, and read until unpack returns.
	whole := context.WithoutCancel(ctx)
	_, err = c.unpack(whole, digest, zip)
	for errors.Is(err, errNoArchive) {
		// Shared with somebody who looked for a blob that was just removed.
		_, err = c.unpack(whole, digest, zip)
	}
	if err == nil {
		err = c.keep(ctx, digest, zip)
	}
	if err != nil {
		return "", nil, err
	}
	return digest, unpin, nil
}

// keep stores an archive as a blob. Its row comes first, so that a blob that no version needs is found after a crash.
func (c *codeStore) keep(ctx context.Context, digest string, zip []byte) error {
	known := false
	err := c.db.View(ctx, func(r kv.Reader) (err error) { _, known, err = r.Get(archiveKey(digest)); return err })
	if err == nil && !known {
		err = c.db.Update(ctx, func(tx kv.Tx) error { tx.Set(archiveKey(digest), nil); return nil })
	}
	if err != nil {
		return err
	}
	d, err := blob.ParseDigest(digest)
	if err != nil {
		return err
	}
	if _, err := c.blobs.Stat(ctx, d); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	got, _, err := c.blobs.Put(ctx, bytes.NewReader(zip))
	if err == nil && got != d {
		err = fmt.Errorf("lambda: blob %s for archive %s", got, digest)
	}
	return err
}

func (c *codeStore) pin(ctx context.Context, digest string) error {
	if err := c.lock(ctx, digest); err != nil {
		return err
	}
	defer c.mu.Unlock()
	c.pinned[digest]++
	return nil
}

// nudge asks for a collection, soon.
func (c *codeStore) nudge() {
	select {
	case c.wanted <- struct{}{}:
	default:
	}
}

// lock locks mu when the archive is not being removed.
func (c *codeStore) lock(ctx context.Context, digest string) error {
	for {
		c.mu.Lock()
		gone, busy := c.removing[digest]
		if !busy {
			return nil
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
		}
	}
}

func (c *codeStore) unpin(digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pinned[digest]--; c.pinned[digest] == 0 {
		delete(c.pinned, digest)
		c.nudge()
	}
}

// ready returns the directory of an unpacked archive that a version needs, and unpacks it from the blob if it is missing.
func (c *codeStore) ready(ctx context.Context, digest string) (dir string, err error) {
	if err := c.lock(ctx, digest); err != nil {
		return "", err
	}
	ok := c.unpacked[digest]
	c.mu.Unlock()
	if ok {
		return filepath.Join(c.root, digest), nil
	}
	return c.unpack(ctx, digest, nil)
}

// lend is ready for environments that will run from the directory.
func (c *codeStore) lend(ctx context.Context, digest string) (*loan, error) {
	if err := c.lock(ctx, digest); err != nil {
		return nil, err
	}
	l := c.loans[digest]
	if l == nil {
		l = &loan{dir: filepath.Join(c.root, digest)}
		c.loans[digest] = l
	}
	c.mu.Unlock()
	_, err := c.ready(ctx, digest)
	return l, err
}

// unpack makes the directory of an archive, which is zip or, if that is nil, the blob. Calls for the same archive share the work, which a caller
// that goes away does not end for the others.
func (c *codeStore) unpack(ctx context.Context, digest string, zip []byte) (string, error) {
	ch := c.flight.DoChan(digest, func() (any, error) {
		dir := filepath.Join(c.root, digest)
		c.mu.Lock()
		done := c.unpacked[digest]
		c.mu.Unlock()
		if done {
			return dir, nil
		}
		data := zip
		if data == nil {
			var err error
			if data, err = c.read(context.WithoutCancel(ctx), digest); err != nil {
				return nil, err
			}
		}
		return dir, c.unpackTo(digest, data)
	})
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case res := <-ch:
		dir, _ := res.Val.(string)
		return dir, res.Err
	}
}

func (c *codeStore) unpackTo(digest string, zip []byte) error {
	a, err := readArchive(zip, c.limits.UnzippedBytes, c.limits.ArchiveEntries)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(c.root, temporary)
	if err != nil {
		return err
	}
	if _, err = a.unpack(tmp); err == nil {
		err = c.install(tmp, digest)
	}
	if err != nil {
		return errors.Join(err, removeTree(tmp))
	}
	return nil
}

// install moves an unpacked archive to its place.
func (c *codeStore) install(tmp, digest string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := os.Rename(tmp, filepath.Join(c.root, digest))
	if err == nil {
		c.unpacked[digest] = true
	}
	return err
}

// uninstall moves it away, if it is there.
func (c *codeStore) uninstall(digest, tmp string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loans, digest)
	err := os.Rename(filepath.Join(c.root, digest), tmp)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		delete(c.unpacked, digest)
	}
	return err
}

// collect removes the archives that may be removed, and returns how many could not be yet.
func (c *codeStore) collect(ctx context.Context) (left int, err error) {
	c.collecting.Lock()
	defer c.collecting.Unlock()
	var all []string
	err = c.db.View(ctx, func(r kv.Reader) (err error) { all, err = listArchives(r); return err })
	if err != nil {
		return 0, err
	}
	known := make(map[string]bool, len(all))
	for _, d := range all {
		known[d] = true
	}
	c.mu.Lock()
	for d := range c.unpacked {
		if !known[d] {
			all = append(all, d) // unpacked, and then its caller went away
		}
	}
	c.mu.Unlock()
	for _, digest := range all {
		ok, err := c.removeUnused(ctx, digest)
		if err != nil {
			return left, err
		}
		if !ok {
			left++
		}
	}
	return left, nil
}

// removeUnused removes an archive unless it is needed. It reports false if the archive is not needed but may not be removed yet.
func (c *codeStore) removeUnused(ctx context.Context, digest string) (ok bool, err error) {
	c.mu.Lock()
	if c.pinned[digest] > 0 {
		c.mu.Unlock()
		return false, nil
	}
	gone := make(chan struct{})
	c.removing[digest] = gone // nobody pins or lends it from here on
	l := c.loans[digest]
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.removing, digest)
		close(gone)
	}()
	// Whoever had pinned it has released it, and so committed; the snapshot shows that.
	needed := false
	err = c.db.View(ctx, func(r kv.Reader) (err error) { needed, err = inUse(r, digest); return err })
	if err != nil || needed {
		return true, err
	}
	if l != nil {
		if c.inUse == nil {
			return true, nil // it stays until the next start
		}
		if !l.end() {
			return false, nil
		}
		if c.inUse(l.dir) {
			l.gone.Store(false)
			return false, nil
		}
	}
	return true, c.remove(ctx, digest)
}

// remove removes an archive that is marked as being removed. The row goes last, so that a removal that was cut short is taken up again.
func (c *codeStore) remove(ctx context.Context, digest string) error {
	// Moved first: a directory is complete or absent, even if the process ends here.
	tmp := filepath.Join(c.root, temporary+digest)
	if err := c.uninstall(digest, tmp); err != nil {
		return err
	}
	if err := removeTree(tmp); err != nil {
		return err
	}
	if err := c.drop(ctx, digest); err != nil {
		return err
	}
	return c.db.Update(ctx, func(tx kv.Tx) error {
		tx.Delete(archiveKey(digest))
		tx.Delete(useGuard(digest))
		return nil
	})
}

// collectEvery is the time between collections: they look at all archives, and there is no hurry.
const collectEvery = 10 * time.Second

// collectArchives collects at the start and then after archives may have become useless.
func (s *Service) collectArchives(ctx context.Context) {
	for {
		left, err := s.code.collect(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.log.Error("collect archives", "error", err)
		}
		if left > 0 || err != nil {
			s.code.nudge()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.code.wanted:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(collectEvery):
		}
	}
}

func (c *codeStore) read(ctx context.Context, digest string) ([]byte, error) {
	d, err := blob.ParseDigest(digest)
	if err != nil {
		return nil, err
	}
	r, err := c.blobs.Open(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoArchive
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(blob.Verified(r, d))
}

func (c *codeStore) drop(ctx context.Context, digest string) error {
	d, err := blob.ParseDigest(digest)
	if err != nil {
		return err
	}
	return c.blobs.Delete(ctx, d)
}
