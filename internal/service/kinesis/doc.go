// Package kinesis serves Kinesis Data Streams: streams, shards and their lineage, records, enhanced fan-out consumers, retention, tags, policies.
//
// # What is stored
//
// A stream is a row with its settings and consumers, a row for each shard that is open or has records within the retention, and a
// version that changes whenever any of them does. The records of a shard are a log of package commitlog, whose positions are the middle of
// sequence numbers. store.go has the keys.
//
// # Invariants
//
//   - PutRecord and PutRecords answer when their records are durable. A batch is one transaction.
//   - Every operation works on a snapshot of the stream, kept in memory and compared with the stored version by one read. A put commits
//     only if the stream is still as it was when its records were given to shards.
//   - Sequence numbers increase strictly in a shard, and are higher in children than in their parents. What a shard's parents hold was
//     written before anything in it: a shard is sealed, in the transaction that decides to split or merge it, before its end is written, and its
//     children open with that end. Puts that meet a sealed shard wait for the moment between.
//   - Everything that takes its time (CREATING, UPDATING, DELETING, consumers that come and go) is a row that Run works on, also after
//     a crash.
//
// # What differs from AWS
//
// See docs/differences.md.
package kinesis
