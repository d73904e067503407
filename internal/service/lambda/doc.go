// Package lambda is the AWS Lambda service: functions, their versions, aliases and tags, and the front for invocations. It keeps what a
// function is; the fleet, behind the Invoker interface, runs it.
//
// # What is served
//
// Functions from .zip archives sent as ZipFile: create, read, list, update of code and configuration, delete. Published versions and
// aliases with weighted routing. Layers with their policies, and functions that hold them. Code signing configurations, runtime
// management, tenants. Tags. Invoke with all its types:
// asynchronous invocations with retries, destinations, dead-letter queues and configuration, and recursion detection. Event source mappings, which
// package eventsource runs. What a function has not got (reserved
// concurrency, a resource policy) is told by the operations that read it. All other operations have no handler, and the Mux
// answers for them.
//
// # Invariants
//
//   - $LATEST and the published versions are records of one kind, keyed by number; $LATEST is 0. A published version changes no
//     more once it is Active. Numbers are never used twice.
//   - What a caller named is resolved in one place: locate reads name and qualifier, find and routes read what they lead to.
//   - A version is in transition exactly if its transition row exists; both are written by putVersion. Run moves it on, after a
//     crash too. See the table in state.go.
//   - Invocations run what serves: during an update, and after one that failed, that is the deployment before it.
//   - Every mutation, those of Run included, gives a version a new RevisionId, and every deployment an ID under which
//     environments are shared.
//   - An archive is durable as a blob before a version refers to it, and unpacked before the version is Active. It is unpacked
//     once for all versions that have it, complete or not at all, and removed when no version needs it and no environment
//     runs from it. The use rows, written by putVersion and with layer versions, say who needs it.
//   - A deployment holds what it needs of its layers, so that it needs no layer version any more.
//   - What belongs to a function, version or alias hangs on it (hang in store.go) and goes with it (unhang).
//   - An asynchronous invocation is accepted once it is in the durable queue, with the request id that all its attempts have. What follows
//     of its end (a record, a dead letter) is queued in the transaction that ends it.
//   - An event source mapping that is on the way to another state has a row that says so (putMapping), refuses changes, and is carried on by Run,
//     after a crash too. It does not go with its function. At most one leads from a source to a function under one qualifier.
//   - One process owns the store: targets caches what invocations need in its memory. The blobs of archives belong to this service
//     alone; it deletes them by digest.
//
// # Differences from AWS
//
//   - Refused, since they would have no effect: code and layers from S3, container images, VPC subnets and security groups (none
//     exist), file systems, customer managed keys, durable functions, Managed Instances.
//   - All code is unsigned: a code signing configuration that enforces refuses every deployment.
//   - Kept and shown but without effect yet: TracingConfig (no traces), SnapStart
//     (OptimizationStatus is Off), and Ipv6AllowedForDualStack.
//   - The role must be in the function's account; whether it exists and trusts Lambda is not checked.
//   - The whole archive is unpacked and checked by the call that sends it, so that a bad one is refused at once. Pending lasts
//     milliseconds.
//   - Files are readable by all and writable by none; if anyone may execute a file, all may. Absolute symbolic links, links that lead
//     outside, duplicates, special files, and archives of more than 100,000 files and directories are refused.
//   - A function whose language is missing on the machine becomes Failed with StateReasonCode InvalidRuntime and a reason that says what
//     to install; an update tries again.
//   - The limit of total code size, and of requests to the control plane per second, is not enforced.
package lambda
