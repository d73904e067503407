// Package durable is a work queue in the store: work for later is a row that is written in the transaction which decided it, and is
// run after the commit, at least once, however often the process dies.
//
//	err := db.Update(ctx, func(tx kv.Tx) error {
//		return queue.Add(tx, lane, durable.Item{ID: id, Body: event})
//	})
//
// [Queue.Run] gives what is due to the queue's Handler. An item stays until what the handler said of it is committed: Done removes it,
// Retry keeps it for later with a new state, and either may write more in the same transaction, further work among it. Hold
// leaves the item as it is and lets its lane rest, without a write: it is for back-pressure.
//
// # Lanes
//
// Every item is in a lane, named by a string. Items of one lane begin in order of the time when they are due, and of those that
// are due at once in order of arrival, but several run at the same time. Lanes take turns, so that a lane with a million items, or one that is
// held, delays no other. How many items of a lane run at once adapts itself: it grows while they end well and shrinks to what
// runs when one is held.
//
// # At least once
//
// A handler runs again if the process ended before its outcome was committed. An item's ID is the same on every run, so that a
// handler, or whom it calls, can tell. An outcome whose commit fails is committed again without running the handler again.
//
// # Cost
//
// A lane is a queue of package queue, whose messages are taken without a commit. Memory holds a window of each lane that has items, and the
// items that run. Without items nothing runs at all; with some that are due later, one timer a lane.
package durable
