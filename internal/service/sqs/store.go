package sqs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// The tables. The messages themselves lie where package queue puts them, under the family "sqs".
const (
	queueTable   = "sqs.queue"   // account, region, name -> record
	deletedTable = "sqs.deleted" // account, region, name -> when, ms in decimal
	sourceTable  = "sqs.source"  // account, region and name of a dead-letter queue, name of the queue that names it -> nothing
	dedupTable   = "sqs.dedup"   // id of the messages of a FIFO queue, period, scope, deduplication id -> what was sent
	attemptTable = "sqs.attempt" // id of the messages of a FIFO queue, period, ReceiveRequestAttemptId -> what was received
	taskTable    = "sqs.task"    // account, region, name of the source, when it started (ns) -> message move task
	droppedTable = "sqs.dropped" // id of messages that nobody has any more -> when, ms in decimal
)

// scope is the account and region that a queue lies in.
type scope struct{ account, region string }

func scopeOf(ctx context.Context) scope {
	i := call.From(ctx)
	return scope{i.Account, i.Region}
}

// record is a queue as stored.
type record struct {
	ID         string            `json:"id"`               // its own for ever: one that is made under its name later has another
	Purges     int               `json:"purges,omitempty"` // each purge begins with other messages
	Purged     int64             `json:"purged,omitempty"` // when it was last purged, ms
	Created    int64             `json:"created"`          // s
	Modified   int64             `json:"modified"`         // s
	Attributes map[string]string `json:"attributes,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// messages is the id of the queue's messages.
func (r *record) messages() string {
	if r.Purges == 0 {
		return r.ID
	}
	return r.ID + "." + strconv.Itoa(r.Purges)
}

// queueState is a queue with its attributes read. It is shared and never changed.
type queueState struct {
	record
	scope
	name     string
	settings settings
	messages *queue.Queue

	compile sync.Once
	policy  *iampolicy.Compiled
}

func (q *queueState) arn() string { return q.queueARN(q.name) }

// newID returns an id for a queue.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (sc scope) queueARN(name string) string {
	return arn.New("sqs", sc.region, sc.account, name).String()
}

func (sc scope) queueKey(name string) []byte { return kv.Key(queueTable, sc.account, sc.region, name) }

// queues is the range of the queues whose names begin with prefix.
func (sc scope) queues(prefix string) kv.Range {
	return kv.BeginsWith(queueTable, sc.account, sc.region, prefix)
}

// queuesOf is the range of an account's queues in all regions.
func queuesOf(account string) kv.Range { return kv.Prefix(queueTable, account) }

func allQueues() kv.Range { return kv.Prefix(queueTable) }

func decodeQueueKey(key []byte) (sc scope, name string, err error) {
	err = kv.Decode(key, nil, &sc.account, &sc.region, &name)
	return sc, name, err
}

func (sc scope) deletedKey(name string) []byte {
	return kv.Key(deletedTable, sc.account, sc.region, name)
}

func allDeleted() kv.Range { return kv.Prefix(deletedTable) }

func (sc scope) sourceKey(dead, source string) []byte {
	return kv.Key(sourceTable, sc.account, sc.region, dead, source)
}

// sources is the range of the queues that name a dead-letter queue.
func (sc scope) sources(dead string) kv.Range {
	return kv.Prefix(sourceTable, sc.account, sc.region, dead)
}

func sourceName(key []byte) (name string, err error) {
	err = kv.Decode(key, nil, nil, nil, nil, &name)
	return name, err
}

// period is how long a deduplication id, and an attempt's id, holds. Rows lie under the period in which they were written, so that those of
// past periods go with one deletion.
const period = 5 * time.Minute

func periodOf(t time.Time) int64 { return t.UnixNano() / int64(period) }

func dedupKey(id string, period int64, group, dedup string) []byte {
	return kv.Key(dedupTable, id, period, group, dedup)
}

func attemptKey(id string, period int64, attempt string) []byte {
	return kv.Key(attemptTable, id, period, attempt)
}

// past are the ranges of what is kept for a queue by periods, before one of them.
func past(id string, before int64) []kv.Range {
	var all []kv.Range
	for _, table := range []string{dedupTable, attemptTable} {
		all = append(all, kv.Range{Start: kv.Key(table, id), End: kv.Key(table, id, before)})
	}
	return all
}

// periods are the ranges of all that is kept for a queue by periods.
func periods(id string) []kv.Range {
	return []kv.Range{kv.Prefix(dedupTable, id), kv.Prefix(attemptTable, id)}
}

func (sc scope) taskKey(source string, started int64) []byte {
	return kv.Key(taskTable, sc.account, sc.region, source, started)
}

// taskGuard stands for the tasks of a source, of which one at a time is under way.
func (sc scope) taskGuard(source string) kv.Guard {
	return kv.GuardFor(taskTable, sc.account, sc.region, source)
}

func (sc scope) tasks(source string) kv.Range {
	return kv.Prefix(taskTable, sc.account, sc.region, source)
}

func decodeTaskKey(key []byte) (sc scope, source string, started time.Time, err error) {
	var ns int64
	err = kv.Decode(key, nil, &sc.account, &sc.region, &source, &ns)
	return sc, source, time.Unix(0, ns), err
}

func taskStarted(key []byte) (time.Time, error) {
	_, _, started, err := decodeTaskKey(key)
	return started, err
}

func allTasks() kv.Range { return kv.Prefix(taskTable) }

func droppedKey(messages string) []byte { return kv.Key(droppedTable, messages) }

func allDropped() kv.Range { return kv.Prefix(droppedTable) }

// stamp is a time as rows hold that are nothing else.
func stamp(t time.Time) []byte { return strconv.AppendInt(nil, t.UnixMilli(), 10) }

func readStamp(b []byte) (time.Time, error) {
	ms, err := strconv.ParseInt(string(b), 10, 64)
	return time.UnixMilli(ms), err
}

func decodeDroppedKey(key []byte) (messages string, err error) {
	err = kv.Decode(key, nil, &messages)
	return messages, err
}

// cache keeps queues read. An entry serves as long as the stored bytes are those that it was read from, so that nothing has to be told of changes.
type cache struct {
	mu     sync.RWMutex
	queues map[string]cached // by key
}

type cached struct {
	raw   []byte
	queue *queueState
}

// maxCached bounds the queues that are kept read.
const maxCached = 20_000

// find returns the queue of a name, or nil if there is none.
func (s *Service) find(r kv.Reader, sc scope, name string) (*queueState, error) {
	key := sc.queueKey(name)
	raw, ok, err := r.Get(key)
	if err != nil || !ok {
		return nil, err
	}
	s.cache.mu.RLock()
	c, known := s.cache.queues[string(key)]
	s.cache.mu.RUnlock()
	if known && bytes.Equal(c.raw, raw) {
		return c.queue, nil
	}
	q := &queueState{scope: sc, name: name}
	if err := json.Unmarshal(raw, &q.record); err != nil {
		return nil, fmt.Errorf("sqs: record at %s: %w", kv.Format(key), err)
	}
	if q.settings, err = readSettings(q.Attributes); err != nil {
		return nil, fmt.Errorf("sqs: record at %s: %w", kv.Format(key), err)
	}
	kind := queue.Standard
	if q.settings.fifo {
		kind = queue.FIFO
	}
	q.messages = s.queues.Queue(q.record.messages(), kind)
	s.listen(q)
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if s.cache.queues == nil || len(s.cache.queues) >= maxCached {
		s.cache.queues = map[string]cached{}
	}
	s.cache.queues[string(key)] = cached{raw, q}
	return q, nil
}

// get is find, with AWS's error for a queue that there is not.
func (s *Service) get(r kv.Reader, sc scope, name string) (*queueState, error) {
	q, err := s.find(r, sc, name)
	if err == nil && q == nil {
		err = errNoQueue()
	}
	return q, err
}

// view reads a queue in a transaction of its own.
func (s *Service) view(ctx context.Context, sc scope, name string) (q *queueState, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		q, err = s.get(r, sc, name)
		return err
	})
	return q, err
}

// set writes a queue's record.
func (sc scope) set(tx kv.Tx, name string, r *record) error {
	return kv.SetJSON(tx, sc.queueKey(name), r)
}
