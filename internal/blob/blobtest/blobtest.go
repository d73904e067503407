// Package blobtest is the suite that every blob.Store passes.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mayflyhq/mayfly/internal/blob"
)

// Run tests a store. open returns an empty one for each call.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	for name, test := range map[string]func(*testing.T, blob.Store){
		"PutOpen":    testPutOpen,
		"Absent":     testAbsent,
		"FailedPut":  testFailedPut,
		"Seek":       testSeek,
		"Delete":     testDelete,
		"Cancel":     testCancel,
		"Sweep":      testSweep,
		"SweepError": testSweepError,
		"Concurrent": testConcurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func put(t testing.TB, s blob.Store, content []byte) blob.Digest {
	t.Helper()
	d, size, err := s.Put(t.Context(), bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(len(content)) || d != sha256.Sum256(content) {
		t.Errorf("Put of %d bytes returned %s, %d", len(content), d, size)
	}
	return d
}

// read returns the blob, checked against its digest, or nil if it does not exist.
func read(t testing.TB, s blob.Store, d blob.Digest) []byte {
	t.Helper()
	f, err := s.Open(t.Context(), d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(blob.Verified(f, d))
	if err != nil {
		t.Fatal(err)
	}
	size, err := s.Stat(t.Context(), d)
	if err != nil || size != int64(len(b)) || f.Size() != size {
		t.Errorf("%d bytes, Stat %d, Size %d, %v", len(b), size, f.Size(), err)
	}
	return b
}

func testPutOpen(t *testing.T, s blob.Store) {
	for _, size := range []int{0, 1, 100, 1 << 15, 1<<20 + 1} {
		content := bytes.Repeat([]byte{byte(size), 0, 0xFF}, size)[:size]
		for range 2 { // the same again is the same
			if got := read(t, s, put(t, s, content)); !bytes.Equal(got, content) {
				t.Errorf("%d bytes came back as %d", size, len(got))
			}
		}
		d, _, err := s.Put(t.Context(), iotest.OneByteReader(iotest.DataErrReader(bytes.NewReader(content[:min(size, 100)]))))
		if err != nil || !bytes.Equal(read(t, s, d), content[:min(size, 100)]) {
			t.Errorf("a reader that stutters: %v", err)
		}
	}
}

func testAbsent(t *testing.T, s blob.Store) {
	put(t, s, []byte("another"))
	d := blob.Digest(sha256.Sum256([]byte("absent")))
	if _, err := s.Open(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	if _, err := s.Stat(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat: %v", err)
	}
	if err := s.Delete(t.Context(), d); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

// count returns how many blobs there are.
func count(t testing.TB, s blob.Store) (n int) {
	t.Helper()
	if _, err := s.Sweep(t.Context(), time.Now().Add(time.Hour), func(blob.Digest) (bool, error) { n++; return true, nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func testFailedPut(t *testing.T, s blob.Store) {
	content := bytes.Repeat([]byte("content"), 100_000)
	broken := errors.New("broken")
	if _, _, err := s.Put(t.Context(), io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("Put: %v", err)
	}
	if read(t, s, sha256.Sum256(content)) != nil || count(t, s) != 0 {
		t.Error("a Put that failed left a blob")
	}
	// Nothing is to be seen while the bytes arrive.
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		_, _, err := s.Put(t.Context(), r)
		done <- err
	}()
	w.Write(content)
	if read(t, s, sha256.Sum256(content)) != nil || count(t, s) != 0 {
		t.Error("a blob is to be seen before it is whole")
	}
	w.Close()
	if err := <-done; err != nil || !bytes.Equal(read(t, s, sha256.Sum256(content)), content) {
		t.Errorf("Put: %v", err)
	}
}

func testSeek(t *testing.T, s blob.Store) {
	f, err := s.Open(t.Context(), put(t, s, []byte("0123456789")))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := iotest.TestReader(f, []byte("0123456789")); err != nil {
		t.Error(err)
	}
}

func testDelete(t *testing.T, s blob.Store) {
	d, other := put(t, s, []byte("content")), put(t, s, []byte("other"))
	f, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if read(t, s, d) != nil || read(t, s, other) == nil {
		t.Error("Delete removed the wrong blob")
	}
	if b, err := io.ReadAll(f); string(b) != "content" || err != nil {
		t.Errorf("an open blob reads as %q, %v after Delete", b, err)
	}
	if got := read(t, s, put(t, s, []byte("content"))); string(got) != "content" {
		t.Errorf("put again, it reads as %q", got)
	}
}

func testCancel(t *testing.T, s blob.Store) {
	d := put(t, s, []byte("content"))
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		w.Write([]byte("beginning"))
		cancel()
		w.Write([]byte("rest"))
		w.Close()
	}()
	_, _, err := s.Put(ctx, r)
	r.Close()
	errs := map[string]error{"Put while it ran": err}
	_, _, errs["Put"] = s.Put(ctx, bytes.NewReader(nil))
	_, errs["Open"] = s.Open(ctx, d)
	_, errs["Stat"] = s.Stat(ctx, d)
	errs["Delete"] = s.Delete(ctx, d)
	_, errs["Sweep"] = s.Sweep(ctx, time.Now().Add(time.Hour), func(blob.Digest) (bool, error) { return false, nil })
	for name, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if count(t, s) != 1 {
		t.Errorf("%d blobs are left", count(t, s))
	}
}

func testSweep(t *testing.T, s blob.Store) {
	var kept, dropped []blob.Digest
	keep := map[blob.Digest]bool{}
	for i := range 20 {
		d := put(t, s, fmt.Append(nil, i))
		if i%2 == 0 {
			keep[d] = true
			kept = append(kept, d)
		} else {
			dropped = append(dropped, d)
		}
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(-time.Hour), func(blob.Digest) (bool, error) { return false, nil }); n != 0 || err != nil {
		t.Errorf("%d young blobs were removed (%v)", n, err)
	}
	n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour), func(d blob.Digest) (bool, error) { return keep[d], nil })
	if n != len(dropped) || err != nil {
		t.Errorf("%d blobs were removed, want %d (%v)", n, len(dropped), err)
	}
	for _, d := range kept {
		if read(t, s, d) == nil {
			t.Errorf("%s was removed", d)
		}
	}
	for _, d := range dropped {
		if read(t, s, d) != nil {
			t.Errorf("%s was kept", d)
		}
	}
}

func testSweepError(t *testing.T, s blob.Store) {
	put(t, s, []byte("content"))
	broken := errors.New("broken")
	if n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour), func(blob.Digest) (bool, error) { return false, broken }); n != 0 || !errors.Is(err, broken) {
		t.Errorf("Sweep: %d, %v", n, err)
	}
	if count(t, s) != 1 {
		t.Error("a blob was removed though keep failed")
	}
}

func testConcurrent(t *testing.T, s blob.Store) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 20 {
				content := bytes.Repeat(fmt.Append(nil, i%5), 10_000)
				d, _, err := s.Put(t.Context(), bytes.NewReader(content))
				if err != nil {
					t.Error(err)
					return
				}
				f, err := s.Open(t.Context(), d)
				if err != nil {
					t.Error(err)
					return
				}
				if b, err := io.ReadAll(f); err != nil || !bytes.Equal(b, content) {
					t.Errorf("%d bytes, %v", len(b), err)
				}
				f.Close()
			}
		})
		wg.Go(func() { // what was put a moment ago is not swept
			for range 20 {
				if _, err := s.Sweep(t.Context(), time.Now().Add(-time.Minute), func(blob.Digest) (bool, error) { return false, nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, s); n != 5 {
		t.Errorf("%d blobs, want 5", n)
	}
}
