package eventsource

import (
	"context"
	"errors"
	"time"
)

// Errors of sources that the engine tells apart. All others are passing troubles.
var (
	// ErrExpired answers a Read from a position whose records are gone: the engine goes on at the oldest that are left.
	ErrExpired = errors.New("eventsource: the position is older than what the stream keeps")
	// ErrGone answers when the source, or the shard, does not exist.
	ErrGone = errors.New("eventsource: the source does not exist")
)

// Sources opens the sources of mappings.
type Sources interface {
	// Open returns a Queue or a Stream for the mapping, as its SourceARN says. It does no I/O that could block for long, and
	// is called again when the mapping's parameters change.
	Open(m *Mapping) (any, error)
}

// Waker is a source that tells when there may be something new. Sources that are no Wakers are polled once a second.
type Waker interface {
	// OnArrival calls f soon after each time that something may have become available (a message whose delay or visibility timeout is over
	// included), with the shard in which it did, or "" if that is not known or the set of shards has changed. f returns at once and may be called from anywhere, also without need. No call begins
	// after stop has returned. What arrived before the call need not be told.
	OnArrival(f func(shard string)) (stop func())
}

// Record is one record or message.
type Record struct {
	// ID is what a function names in batchItemFailures: the sequence number of a stream's record, in decimal and increasing in its shard,
	// or the id of a message.
	ID string
	// Key is that within which order is kept: the partition key, or the message group. Messages of standard queues have none.
	Key string
	// Arrival is when the source got it: it decides age and windows.
	Arrival time.Time
	// JSON is the record as the function gets it, one element of Records.
	JSON []byte
	// Data is what a filter's data key sees, in its raw form: the body of a message, the decoded data of a record.
	Data []byte
	// Receives is how often a message was taken, this time included. Queues only.
	Receives int
	// Trace is the X-Amzn-Trace-Id that came with a message; it may be empty.
	Trace string
	// Handle is the source's own: a message's receipt handle.
	Handle string

	seen time.Time // when the engine read it from a stream: the batching window counts from then
}

// age is how old a stream's record is: never less than how long the engine has had it, though the clock was set back.
func (r *Record) age(now time.Time) time.Duration {
	return max(now.Sub(r.Arrival), now.Sub(r.seen), 0)
}

// Queue is a source whose messages are taken for a while and then deleted, or else appear again. Its methods may be called concurrently.
type Queue interface {
	// Take returns up to max messages that are available now, none if there are none, and not many more than an event holds; it does not wait for messages. They are
	// hidden for the visibility, or for the queue's own if that is zero.
	Take(ctx context.Context, max int, visibility time.Duration) ([]Record, error)
	// Delete deletes messages. Deleting one that is gone is no error.
	Delete(ctx context.Context, messages []Record) error
	// Hide changes for how long from now on messages are hidden; zero returns them at once.
	Hide(ctx context.Context, messages []Record, visibility time.Duration) error
	// Describe returns the queue's visibility timeout and whether it is FIFO.
	Describe(ctx context.Context) (visibility time.Duration, fifo bool, err error)
}

// Peeker is a Queue that can show what waits without taking it.
type Peeker interface {
	Peek(ctx context.Context, max int) ([]Record, error)
}

// Stream is a source of records in order. Its methods may be called concurrently.
type Stream interface {
	// Shards returns the shards that there are, closed ones with records left included.
	Shards(ctx context.Context) ([]Shard, error)
	// Read returns up to max records of a shard in order from a position on; it does not wait for records that are yet to come. A page may be empty
	// although more follows. The engine reads one page of a shard at a time.
	Read(ctx context.Context, shard string, from Position, max int) (Page, error)
}

// Looker is a Stream that operators can look into, whatever the function may.
type Looker interface {
	// LookShards is Stream's Shards, and Look its Read.
	LookShards(ctx context.Context) ([]Shard, error)
	Look(ctx context.Context, shard string, from Position, max int) (Page, error)
	// Find returns a page with the record that has the sequence number, or an empty one if the shard has none such.
	Find(ctx context.Context, shard, id string) (Page, error)
}

// Shard is a shard of a stream.
type Shard struct {
	ID      string
	Parents []string // none, one that was split, or two that were merged
	// First is the first sequence number that it may have. It tells a shard from that of the same name of a stream that was deleted and made
	// again; empty if that cannot be.
	First string
}

// Page is what a Read found.
type Page struct {
	Records []Record
	// More says that another Read at once may find something: behind the last record, or from the same position if there is none.
	More bool
	// End says that the shard is closed and that these are its last records.
	End bool
}

// Position is a place in a shard. Exactly one form is used: behind a sequence number, from a time on, or (the zero value) the oldest record.
type Position struct {
	After string    `json:"after,omitempty"` // a sequence number
	At    time.Time `json:"at,omitzero"`
}

// Invoker invokes functions.
type Invoker interface {
	// Invoke invokes the function that ARN names, which may have a qualifier, synchronously with a payload, and returns its answer, that of a function that
	// failed included. trace is the X-Amzn-Trace-Id of what is in the payload, empty if there is none. Errors with the code TooManyRequestsException
	// are throttles, with RecursiveInvocationException the trace shows a loop; all errors mean that the function did not answer.
	Invoke(ctx context.Context, m *Mapping, trace string, payload []byte) (*Answer, error)
}

// Answer is what a function answered.
type Answer struct {
	RequestID     string
	Version       string // that ran
	Status        int    // HTTP status of the invocation, 200
	FunctionError string // Unhandled or Handled; empty after success
	Payload       []byte
}

// Destination takes what was given up.
type Destination interface {
	// Deliver delivers body once to the mapping's on-failure destination, and returns what that calls it: a message's id, an object's key. Key names an
	// S3 object. Errors are tried again for six hours.
	Deliver(ctx context.Context, d *Delivery) (id string, err error)
}

// Delivery is one record on its way to a destination.
type Delivery struct {
	MappingID   string `json:"mapping"`
	Account     string `json:"account"`
	Region      string `json:"region"`
	FunctionARN string `json:"function"` // as in the mapping, qualifier included: its role delivers
	Destination string `json:"destination"`
	Key         string `json:"key,omitempty"` // of the object, if the destination is a bucket
	Body        []byte `json:"-"`

	Fate *fateName `json:"fate,omitempty"` // of the row that tells how the delivery went
}

// Explainer is a Filter that can say why it does not take a record: what is missing or does not match, for people.
type Explainer interface {
	Mismatches(r *Record) []string
}

// Filter says which records a function gets. It may be called concurrently.
type Filter interface {
	Match(r *Record) bool
}
