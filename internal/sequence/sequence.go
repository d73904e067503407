// Package sequence hands increasing numbers to transactions, and knows below which number all of them have ended.
//
// Transactions that write rows in the order of such numbers may commit in any order. A reader that goes only up to [Sequence.Settled]
// never skips one that commits later.
package sequence

import (
	"sort"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Sequence hands out numbers. They are a hybrid clock: the time in nanoseconds since 1970, or one more than the last number if that is
// not above it. The methods may be called concurrently.
type Sequence struct {
	mu   sync.Mutex
	last uint64
	open []taken // in order; the first one has not ended
}

type taken struct {
	first uint64
	ended bool
}

// New returns the sequence of the numbers above floor, which is the last one that was used before.
func New(floor uint64) *Sequence { return &Sequence{last: floor} }

// Take returns the first of n numbers in a row. They are settled when tx has ended. Those of a transaction that was not committed are
// not used again.
func (s *Sequence) Take(tx kv.Tx, n int) (first uint64) {
	first = s.Open(n)
	tx.OnEnd(func(bool) { s.End(first) })
	return first
}

// Open is Take for a caller that calls End itself, once, when the transaction has ended.
func (s *Sequence) Open(n int) (first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = max(s.last+1, uint64(max(0, time.Now().UnixNano())))
	s.last = first + uint64(max(n, 1)) - 1
	s.open = append(s.open, taken{first: first})
	return first
}

// End settles the numbers of the Open that returned first.
func (s *Sequence) End(first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.open), func(i int) bool { return s.open[i].first >= first })
	s.open[i].ended = true
	n := 0
	for n < len(s.open) && s.open[n].ended {
		n++
	}
	if s.open = s.open[n:]; len(s.open) == 0 {
		s.open = nil
	}
}

// Settled returns a number below which nothing changes any more: each lower one was committed, and a View that begins now sees what was
// written under it, or it never will be.
func (s *Sequence) Settled() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) > 0 {
		return s.open[0].first
	}
	return s.last + 1
}
