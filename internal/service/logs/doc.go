// Package logs serves CloudWatch Logs: log groups and streams, ingestion, reading, filtering, live tail, retention, tags.
//
// # What is stored
//
// The events of one PutLogEvents call are written as one or a few chunks, compressed where that pays, each with at most
// a minute between its first and last event. A chunk lies under its stream, by the time of its first event; an
// index holds the chunks of a group by time across streams. So reading a stream, filtering a group over a time range, and
// expiring what is old each touch only what they need. store.go has the keys.
//
// # Invariants
//
//   - PutLogEvents answers when its events are durable.
//   - Events are ordered by timestamp, and with equal timestamps in the order of their ingestion.
//   - Groups and streams have ids of their own that are never reused: what is created under the name of something
//     deleted sees nothing of it, even while the events of the old one are still being removed in the background.
//   - The transaction that deletes a group or stream leaves a row that says what to remove. Run removes it, and
//     after a crash goes on where it was.
//   - Events past the retention of their group are not returned, whether or not Run has removed them yet.
//
// # What differs from AWS
//
//   - Reads see what was written at once; AWS is eventually consistent. storedBytes is exact and current.
//   - kmsKeyId is kept and returned, but not checked and not used to encrypt.
//   - The entity of PutLogEvents is taken and not kept.
//   - There is no request rate limit, and no limit on the number of log groups.
//   - Tokens do not expire after 24 hours.
//   - There are no linked accounts: includeLinkedAccounts adds nothing.
//   - Live tail shows what this process ingests.
//
// Metric and subscription filters, queries, exports, deliveries and account policies are not served.
package logs
