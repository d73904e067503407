// Package queue is a durable queue of messages in the store, for consumers that take messages and delete them when they are done.
//
// A message is added in a transaction of the caller, and can be taken once that is committed:
//
//	q := queues.Queue(id, queue.Standard)
//	err := db.Update(ctx, func(tx kv.Tx) error { _, err := q.Add(tx, queue.Message{Body: body}); return err })
//	...
//	deliveries, err := q.Take(ctx, queue.Take{Max: 10, Visibility: 30 * time.Second, Wait: 20 * time.Second})
//
// A message that was taken is in flight until it is deleted or its visibility ends, when it can be taken again. How often it was taken and
// until when it is invisible is committed before Take returns, so a crash changes neither.
//
// # Order and groups
//
// A [Standard] queue gives messages about in the order in which they came; groups of messages take turns, so that one with many delays no
// other. A [FIFO] queue gives the messages of a group in exactly their order, and none behind one that is in flight, except
// those that are taken together.
//
// # Rows and memory
//
// A message is two rows: a header in the order of arrival, or of the time when its delay ends, which each take rewrites; and its body, written
// once and read when it is taken. Memory holds the headers of what is in flight and of a window of those that come next, so an operation costs
// the same whether a thousand or a million messages wait. The window only says where to look: a take reads the message in its transaction, so
// what was deleted never returns. A queue that nobody uses holds nothing in memory; the first use reads all its headers once.
//
// # Clocks
//
// Visibility ends by the monotonic clock, and after a restart by the wall clock, but never later than it lasts after that. A delay ends by the wall
// clock, but never later than the delay after the queue was first looked at. Messages are numbered by a hybrid clock that does not go back, over restarts neither.
package queue
