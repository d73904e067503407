// Package eventsource is the engine of event source mappings: it reads a source, filters, batches, invokes a function, tries again, splits
// what fails, gives up by the mapping's limits, and remembers how far it came.
//
// It knows two shapes of source. A [Queue] hands out messages for a while, to be deleted or else to appear again: Amazon SQS. A [Stream] is
// shards of records in order, read from positions: Amazon Kinesis, later DynamoDB Streams and Kafka. What it reads from, invokes and tells of
// failures are small interfaces ([Sources], [Invoker], [Destination]).
//
// # Streams
//
// Each shard has one owner, a goroutine that lives while there is something to do. It reads pages, drops what the filter does not take,
// deals records to lanes by their partition key (ParallelizationFactor of them), and has at most one invocation in flight in each lane, so that
// the order of each key holds. A child shard begins when its parents are drained.
//
// A lane's work is a list of items, each a run of records with the number of its failed attempts. A batch is one item. Splitting replaces an item
// by two, a checkpoint shortens it, giving up removes it. The row of a shard holds the lists and the positions behind which nothing was begun, so
// that a crash at any instruction resumes with the same batches and the same counts. A record may reach the function again after a crash, and is
// never skipped.
//
// What is given up goes to the mapping's destination by a work queue (package durable), in the transaction that moves the position past it.
//
// # Queues
//
// Messages live in the source, and so does their progress: the engine keeps nothing durable about them. A poller takes a batch, invokes and
// deletes; while messages keep coming pollers are added, as AWS adds them.
//
// # Idle
//
// A mapping with nothing to do has no goroutine and no timer: it is registered with its source, which calls a function when something arrives. The
// exceptions are sources that cannot do that, for all of which one goroutine polls, and consumers with enhanced fan-out, which wait in a goroutine for each shard.
package eventsource
