package eventsource

import (
	"time"
)

// Mapping is the parameters of one event source mapping. It must not be changed once the engine has it.
//
// Parameters hold AWS's meaning, for every kind of source: where AWS has none (retries of a queue's messages, for example) it is Mayfly's own.
type Mapping struct {
	ID              string // UUID
	Account, Region string
	SourceARN       string
	FunctionARN     string // qualifier included, if the mapping has one

	BatchSize int           // 1 to 10,000
	Window    time.Duration // MaximumBatchingWindow: how long to wait for a full batch, from its first record on

	Filter Filter // nil takes everything

	// Start is where shards begin that have no checkpoint. LATEST is the time at which the mapping was created.
	Start Position

	// Parallelization is the number of batches of a shard that may be in flight, 1 to 10; zero means 1. Windows need 1.
	Parallelization int

	// ReportItemFailures makes the answer count in which a function names what failed.
	ReportItemFailures bool
	// Bisect halves a batch that failed. For queues it is Mayfly's own.
	Bisect bool
	// MaxRetries is how often a batch is tried again; negative means until its records expire. For queues, Mayfly's own, it counts
	// receives of a message, and negative leaves them to the queue's redrive policy.
	MaxRetries int
	// MaxAge is the age at which records are given up; zero means never.
	MaxAge time.Duration
	// OnFailure is the ARN of what gets the records of what was given up; may be empty.
	OnFailure string

	// Aggregate groups a shard's records in windows that carry a state; the zero value does not.
	Aggregate Aggregate

	// MaxConcurrency is the most batches of a queue in flight, 2 to 1,000; zero means AWS's 1,250.
	MaxConcurrency int
	// Timeout is the function's: messages that wait for a full batch are hidden for Window + Timeout + 30 s if the queue's own visibility
	// timeout is shorter than the first two, as AWS does. Zero leaves that to the queue.
	Timeout time.Duration
	// MinPollers and MaxPollers are of provisioned mode: each poller makes ten invocations at once. Zero means none.
	MinPollers, MaxPollers int
}

// Aggregate is how a shard's records are grouped in windows by their time of arrival.
type Aggregate struct {
	// Size is the length of a window, aligned to the epoch: TumblingWindowInSeconds, to 900 s. Of a session it is how long
	// nothing must arrive for it to end.
	Size time.Duration
	// Slide is Mayfly's own: a window begins every Slide and they overlap; it divides Size. Zero means Size.
	Slide time.Duration
	// Session is Mayfly's own: a window begins with a record and ends when none has arrived for Size.
	Session bool
}

// Status is how a mapping does.
type Status struct {
	Running bool
	// Result is LastProcessingResult: "No records processed", "OK", or "PROBLEM: " and what it is.
	Result  string
	Metrics Metrics
	Since   time.Time // since when Metrics count: the start of the server, or when the mapping was enabled last
	// Reading and Invoking are what goes wrong at present; nil if the last read and the last invocation went well.
	Reading, Invoking *Trouble
	// Shards tell of a stream's shards, in order.
	Shards []ShardStatus
}

// ShardStatus is how a mapping does with a shard.
type ShardStatus struct {
	ID      string     `json:"id"`
	State   ShardState `json:"state"`
	Parents []string   `json:"parents,omitempty"` // that it waits for
	// Age is that of the oldest record which is not done, as far as the mapping knows: while reads fail, since it was told of something new or began to read.
	Age      time.Duration `json:"ageNanos"`
	Waiting  int           `json:"waiting"`  // records read and not done
	InFlight int           `json:"inFlight"` // batches
	// Failing is the first record of a batch that failed and is tried again, with the attempts that failed, the next one and the last error.
	Failing  string    `json:"failing,omitempty"`
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Error    string    `json:"error,omitempty"` // or that of the last read, if it failed

	Windows     int `json:"windows,omitempty"`          // open ones
	WindowState int `json:"windowStateBytes,omitempty"` // the largest state of them
}

// ShardState is what a mapping does with a shard.
type ShardState string

// The states of a shard.
const (
	ShardReading ShardState = "reading"
	ShardBehind  ShardState = "behind" // its parents have records left
	ShardFailing ShardState = "failing"
	ShardDrained ShardState = "drained"
)

// The values of Status.Result that are no trouble.
const (
	ResultNone = "No records processed"
	ResultOK   = "OK"
)

// Metrics counts since Status.Since.
type Metrics struct {
	Polled      int64         `json:"polled"`   // records read
	Filtered    int64         `json:"filtered"` // dropped by the filter
	Batches     int64         `json:"batches"`  // invocations
	Invoked     int64         `json:"invoked"`  // records in them
	Failed      int64         `json:"failed"`   // records in invocations that failed
	Retries     int64         `json:"retries"`  // invocations that were not the first of their records
	Throttles   int64         `json:"throttles"`
	Loops       int64         `json:"loops"`     // messages that were not invoked with since they are part of a recursive loop
	Deleted     int64         `json:"deleted"`   // messages deleted after success or by the filter
	Dropped     int64         `json:"dropped"`   // records given up
	Delivered   int64         `json:"delivered"` // records of given-up batches that reached the destination
	Bisected    int64         `json:"bisected"`
	Errors      int64         `json:"errors"`           // reads that failed
	IteratorAge time.Duration `json:"iteratorAgeNanos"` // of a stream: age of the oldest record that is not done, now; see ShardStatus
	WindowState int           `json:"windowStateBytes"` // bytes, the largest of all open windows now
	InFlight    int           `json:"inFlight"`         // batches now
}
