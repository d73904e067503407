// Package sqs serves Amazon SQS: standard and FIFO queues, dead-letter queues, message move tasks, policies, tags.
//
// # What is stored
//
// A queue is one row, with its attributes as they were set. Its messages are package queue's, under an id that the queue has for itself alone, and another
// one after each purge; so what is made, or purged, anew begins empty, and what was is removed as one range. Each message holds its body,
// attributes and ids in one value (message.go). FIFO queues have a row for each deduplication id of the last five minutes, by periods, so that past
// ones go as one range too. store.go has the keys.
//
// # Invariants
//
//   - SendMessage and SendMessageBatch answer when the messages are durable, in one transaction each, which reads the queue's row: nothing is ever sent
//     into a queue that was deleted or purged before.
//   - A receive answers when it is durable that the messages are in flight.
//   - A message moves to a dead-letter queue, or back, in the transaction that takes it: it is in one of the two queues.
//   - Of concurrent sends with one deduplication id one adds a message, since all read its row.
//   - A move task's progress is written with what it moved. Run goes on with it after a crash.
//
// # What differs from AWS
//
//   - Counts are exact; a message is seen by the next receive. There is no rate limit.
//   - Encryption settings are kept and returned; nothing is encrypted with keys of KMS.
//   - Requests without a signature are refused whatever a queue's policy says.
//   - A deleted queue is gone at once, and so are the messages of a purged one.
//   - A redrive policy may not name the queue itself.
package sqs
