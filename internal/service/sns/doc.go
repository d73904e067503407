// Package sns serves Amazon SNS: topics, subscriptions, and messages that are delivered to queues, functions, HTTP endpoints and mail boxes.
//
// Served are topics (standard and FIFO) with their attributes, policies and tags; subscriptions of the protocols sqs, lambda, http, https and,
// with a mail relay, email and email-json; Publish and PublishBatch. What belongs to phones and platform applications answers NotImplemented.
//
// # Invariants
//
// A publish is acknowledged when it is durable together with one item of work for each subscription that wants it: there is no moment at which a
// message is known and a delivery of it is not. Items are in lanes of a durable.Queue, one lane for each subscription, so that an endpoint
// that is slow or gone delays no other. A message for several subscriptions is stored once; it is removed when its last delivery has ended.
//
// Deliveries of FIFO topics have a lane for each subscription and message group, in which one runs at a time and the next only after the one
// before has ended; the order is that of the sequence numbers, which the transactions of a group's publishers take one after another.
//
// Whether SNS may send to a queue or invoke a function is asked of that resource's policy at each delivery, for the principal
// sns.amazonaws.com with aws:SourceArn being the topic.
package sns
