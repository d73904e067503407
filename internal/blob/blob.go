// Package blob keeps immutable byte strings of any size, named by their SHA-256: code
// archives, layers, large payloads. What is small and changes belongs in package kv.
//
// # Who owns a blob
//
// A blob has no owner in here. Whoever needs it keeps its digest in a record of their own,
// and what no record names is garbage, removed by Sweep or, by someone who knows, Delete.
// A Put comes before the record that names it, so Sweep spares blobs that are younger than
// the longest time from a Put to the commit of its record. Putting the same bytes again
// makes the blob young again.
package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// Digest is the SHA-256 of a blob's bytes.
type Digest [sha256.Size]byte

// String returns the digest as 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads what String writes, and nothing else.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	b, err := hex.DecodeString(s)
	if err == nil {
		copy(d[:], b)
	}
	if len(b) != len(d) || d.String() != s {
		return Digest{}, fmt.Errorf("blob: %q is not a digest", s)
	}
	return d, nil
}

// Store keeps blobs. All methods may be called from any number of goroutines at once.
type Store interface {
	// Put stores the bytes of r to its end and returns their digest and number. A nil
	// error means that they survive a crash of the machine; with any other, r's or ctx's
	// among them, nothing is stored. No one sees a blob in part.
	Put(ctx context.Context, r io.Reader) (Digest, int64, error)

	// Open returns the blob, which the caller closes, or an error that is
	// fs.ErrNotExist. An open blob can be read to its end after Delete.
	Open(ctx context.Context, d Digest) (File, error)

	// Stat returns the size of the blob in bytes, or an error that is fs.ErrNotExist.
	Stat(ctx context.Context, d Digest) (size int64, err error)

	// Delete removes the blob, which need not exist.
	Delete(ctx context.Context, d Digest) error

	// Sweep removes every blob that was last put before a time and for which keep
	// returns false, and returns how many those were. It ends with the first error of
	// keep or of its own.
	Sweep(ctx context.Context, before time.Time, keep func(Digest) (bool, error)) (removed int, err error)
}

// File is an open blob. It serves one goroutine, but for ReadAt.
type File interface {
	io.ReadSeekCloser
	io.ReaderAt
	// Size returns the number of bytes.
	Size() int64
}

// ErrCorrupt is the error of a blob whose bytes are not those that were put.
var ErrCorrupt = errors.New("blob: corrupt")

// Verified returns a reader of r that answers ErrCorrupt in place of io.EOF if what it
// read from r does not have the digest d.
func Verified(r io.Reader, d Digest) io.Reader {
	return &verified{r: r, want: d, hash: sha256.New()}
}

type verified struct {
	r    io.Reader
	want Digest
	hash hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF && !bytes.Equal(v.hash.Sum(nil), v.want[:]) {
		return n, fmt.Errorf("%w: %s", ErrCorrupt, v.want)
	}
	return n, err
}
