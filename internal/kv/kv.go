// Package kv is the contract of the store: one ordered map from byte strings to
// byte strings, read in snapshots and changed in serializable, durable
// transactions.
//
// A service owns the keys under a prefix of its own and builds them with [Key].
// It reads with [DB.View] and writes with [DB.Update]:
//
//	err := db.Update(ctx, func(tx kv.Tx) error {
//		n, _, err := kv.GetJSON[int](tx, key)
//		if err != nil {
//			return err
//		}
//		return kv.SetJSON(tx, key, n+1)
//	})
//
// # What is isolated from what
//
// The functions given to View and Update read one snapshot, taken before they
// start: they never see half of another transaction, nor one that is not yet
// durable. An Update commits only if every key that it read, with Get (found or
// not) or as an entry of a Scan, still holds the version that it read;
// otherwise it is undone and its function runs again on a fresh snapshot. So
// transactions that only name their keys are serializable, write skew included.
// Setting or deleting a key without reading it conflicts with nothing.
//
// One thing is left to the caller: keys that a Scan did not find because they
// did not exist yet. A transaction that decides by the absence of keys in a
// range (a count, a limit, "delete only if empty") takes a [Guard] for the
// range, and so does every transaction that adds keys to it.
//
// # Drivers
//
// Drivers live in packages below this one and pass the suite in kvtest. Keys
// that begin with the byte 0xFF belong to the driver.
package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Limits that every driver holds.
const (
	MaxKeyBytes   = 4 << 10  // of one key
	MaxValueBytes = 16 << 20 // of one value; what is larger is a blob
	MaxTxBytes    = 64 << 20 // of all keys and values that one Update writes
)

// The errors that drivers return; they wrap these and say more.
var (
	// ErrClosed answers every call after Close.
	ErrClosed = errors.New("kv: store is closed")
	// ErrFailed answers every Update while the store cannot write, be it that the
	// disk is full or that it fails. Reads go on. The store takes writes again by
	// itself, with exactly what it had acknowledged: what an Update that got this
	// error would have written is not found, unless the process ends before the
	// store works again. Watches are woken then.
	ErrFailed = errors.New("kv: store cannot write and takes no writes until it can")
	// ErrLocked answers the opening of a store that another process, or another
	// part of this one, has open.
	ErrLocked = errors.New("kv: store is in use")
	// ErrFormat answers the opening of a store that a newer release wrote, or
	// that is not a store.
	ErrFormat = errors.New("kv: unknown store format")
	// ErrKey answers an Update or a read with a key that is empty, too long, or
	// begins with 0xFF.
	ErrKey = errors.New("kv: key is not valid")
	// ErrTooLarge answers an Update with a value over MaxValueBytes or writes
	// over MaxTxBytes.
	ErrTooLarge = errors.New("kv: too large")
	// ErrDone answers the use of a Reader or Tx after its function returned.
	ErrDone = errors.New("kv: transaction is over")
)

// DB is an ordered transactional map. All methods may be called from any number
// of goroutines at once.
type DB interface {
	// View calls fn once with a snapshot of everything that was acknowledged
	// before the call, and returns fn's error. It blocks no one and is blocked
	// by no one.
	View(ctx context.Context, fn func(Reader) error) error

	// Update calls fn and commits what it wrote, all or nothing. A nil return
	// means that the writes survive a crash of the process and of the machine.
	//
	// After a conflict fn runs again, so it may have no effect outside the
	// transaction but to set variables that it sets anew on each run. A driver
	// sees to it that no Update loses forever, and may let an Update that lost
	// often run while others wait: fn should be short, must not call a service,
	// and must not call Update. If fn returns an error nothing is written, and Update returns that
	// error as it is.
	//
	// When ctx ends before the commit starts, nothing is written and ctx's error
	// returns. A commit that has started is waited for.
	Update(ctx context.Context, fn func(Tx) error) error

	// Watch yields once at once, and then again after each time that keys which
	// begin with prefix may have changed, until ctx ends or the store closes. It
	// is a hint: many changes may yield once, and a yield may have no change
	// behind it. No change is missed by a loop that reads the state in its body:
	//
	//	for range db.Watch(ctx, prefix) {
	//		// View, and act on what is there.
	//	}
	//
	// for the first yield comes after the watch began, and a change that lands
	// while the body runs yields again. An empty prefix watches everything.
	// Watchers never hold up writers.
	Watch(ctx context.Context, prefix []byte) iter.Seq[struct{}]

	// Close waits for the Views and Updates that run, ends the Watches, and
	// releases the store. Closing twice returns ErrClosed.
	Close() error
}

// Reader reads one snapshot. It serves one goroutine, until the function that it
// was given to returns.
type Reader interface {
	// Get returns the value of key and whether it has one. The value is the
	// caller's, to keep and to change.
	Get(key []byte) (value []byte, ok bool, err error)

	// Scan yields the entries of r in order. An error is yielded last, with a
	// zero Entry. In an Update the scan includes the writes that the transaction
	// made before the loop began, and not those that the loop's body makes.
	Scan(r Range) iter.Seq2[Entry, error]
}

// Tx is the Reader of an Update, which also sees and takes the transaction's own
// writes.
type Tx interface {
	Reader

	// Set gives key a value; a nil value is an empty one. Both are copied.
	// A key or value that may not be written fails the Update.
	Set(key, value []byte)

	// Delete removes key, which need not exist.
	Delete(key []byte)

	// Discard removes every key of r at the cost of one write, however many
	// there are. It is for keys that no other transaction reads or writes any
	// more, such as those of a generation that was given up: it conflicts with
	// nothing. The transaction itself does not see it, and should write nothing in r.
	Discard(r Range)

	// OnEnd has fn called once this run of the transaction has ended, before
	// Update returns or runs again: with true when what it wrote is durable and
	// Views that begin now see it, else with false: then none ever will. It is for
	// what lives in memory beside the store, which so need not be read again after
	// the store failed and resumed. Functions are called in order, by the goroutine of the Update; they
	// should be quick and must not use the transaction.
	OnEnd(fn func(committed bool))
}

// Entry is one key and its value. Both are the caller's, to keep and to change.
type Entry struct {
	Key, Value []byte
}

// CheckKey returns an error that wraps ErrKey if key may not be used.
func CheckKey(key []byte) error {
	switch {
	case len(key) == 0:
		return fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrKey, len(key), MaxKeyBytes)
	case key[0] == 0xFF:
		return fmt.Errorf("%w: it begins with 0xFF", ErrKey)
	}
	return nil
}

// CheckValue returns an error that wraps ErrTooLarge if value may not be written.
func CheckValue(value []byte) error {
	if len(value) > MaxValueBytes {
		return fmt.Errorf("%w: the value has %d bytes, at most %d are allowed", ErrTooLarge, len(value), MaxValueBytes)
	}
	return nil
}
