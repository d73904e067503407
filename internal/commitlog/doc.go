// Package commitlog keeps durable logs in the store: append in the caller's transaction, read from a position, trim.
//
//	logs := commitlog.New(db, "kinesis.log")
//	log := logs.Log("shard-1")
//	err := db.Update(ctx, func(tx kv.Tx) error {
//		first, err := log.Append(tx, records...)
//		...
//	})
//	batch, err := log.Read(ctx, 0, 100, 1<<20)
//	err = log.Wait(ctx, batch.Next) // until there is more
//
// # Positions
//
// A record's position is a number of package sequence: the time of the append in nanoseconds since 1970, or one more than the last
// position if that is not above it. So positions of one log increase strictly, also after a crash, after everything was trimmed and after the
// clock was set back, and the place of a time ([At]) is found without a search. The records of one Append have positions in a row.
//
// # Who sees what
//
// Appends write and read nothing that another append writes: they conflict with nothing, and may commit in any order. A read goes up to the
// first position whose transaction has not ended, so that it never skips a record that commits later. Reads and appends are linearizable: a
// read sees every append that was acknowledged before it began, for which it waits, if need be, until the older ones that run have ended.
//
// # Cost
//
// The records of an Append are written as chunks of at most [chunkBytes], one row each, under the position of their last record. So
// the tail is read without touching the head, and what is trimmed goes with one deletion of a range. Chunks count the records and bytes
// before them, which makes the size of a log known from its two ends; a transaction that is not committed leaves its share in that count.
// Memory holds a small record for each log in use. A reader that waits costs a goroutine and no work until something is appended.
package commitlog
