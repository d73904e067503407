package blob_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/blob"
	"github.com/mayflyhq/mayfly/internal/blob/blobtest"
)

func TestDisk(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return open(t, t.TempDir()) })
}

func open(t testing.TB, dir string) *blob.Disk {
	t.Helper()
	s, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// path returns where the documented layout has a blob.
func path(dir string, content []byte) string {
	name := blob.Digest(sha256.Sum256(content)).String()
	return filepath.Join(dir, name[:2], name[2:4], name)
}

func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "blobs")
	content := []byte("content")
	d, _, err := open(t, dir).Put(t.Context(), bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path(dir, content)); err != nil || !bytes.Equal(b, content) {
		t.Errorf("%q, %v", b, err)
	}
	// What a crash left is gone after the next open, and what was whole is there.
	left := filepath.Join(dir, "tmp", "put-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half blob: %v", err)
	}
	if size, err := s.Stat(t.Context(), d); err != nil || size != int64(len(content)) {
		t.Errorf("%d, %v", size, err)
	}
	if _, err := blob.Open(filepath.Join(path(dir, content), "below a file")); err == nil {
		t.Error("a store was opened below a file")
	}
}

func TestNothingIsLeftOfFailedPuts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, _, _ = s.Put(t.Context(), io.MultiReader(strings.NewReader("half"), errReader{}))
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

// TestPutMakesYoung has a blob that is old enough to be swept put again.
func TestPutMakesYoung(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	content := []byte("content")
	put := func() blob.Digest {
		d, _, err := s.Put(t.Context(), bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := put()
	old := time.Now().Add(-time.Hour)
	age := func() {
		if err := os.Chtimes(path(dir, content), old, old); err != nil {
			t.Fatal(err)
		}
	}
	sweep := func(during func()) int {
		n, err := s.Sweep(t.Context(), time.Now().Add(-time.Minute), func(blob.Digest) (bool, error) { during(); return false, nil })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	age()
	put()
	if n := sweep(func() {}); n != 0 {
		t.Error("it was swept after it was put again")
	}
	age()
	if n := sweep(func() { put() }); n != 0 {
		t.Error("it was swept while it was put again")
	}
	age()
	if n := sweep(func() {}); n != 1 {
		t.Error("it was not swept")
	}
	if _, err := s.Stat(t.Context(), d); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat: %v", err)
	}
}

// TestPutRepairs puts a blob again whose file was damaged.
func TestPutRepairs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	content := []byte("content")
	d, _, err := s.Put(t.Context(), bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path(dir, content), []byte("c0ntent"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() error {
		f, err := s.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = io.ReadAll(blob.Verified(f, d))
		return err
	}
	if err := read(); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("a damaged blob: %v", err)
	}
	if _, _, err := s.Put(t.Context(), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := read(); err != nil {
		t.Errorf("put again: %v", err)
	}
}

func TestParseDigest(t *testing.T) {
	d := blob.Digest(sha256.Sum256(nil))
	if got, err := blob.ParseDigest(d.String()); got != d || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "00", strings.ToUpper(d.String()), d.String() + "00", d.String()[:63] + "g", "../" + d.String()[3:]} {
		if _, err := blob.ParseDigest(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
