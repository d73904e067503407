package sqs

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// task is a message move task as stored: it moves what is visible in a dead-letter queue to a queue, or to where each message came from. Its
// progress is written in the transactions that move, so that it goes on after a crash where it was.
type task struct {
	ID          string `json:"id"`
	Status      status `json:"status"`
	Destination string `json:"destination,omitempty"` // ARN
	Rate        int32  `json:"rate,omitempty"`        // messages per second
	Moved       int64  `json:"moved"`
	ToMove      int64  `json:"toMove"` // when it began
	Failure     string `json:"failure,omitempty"`
}

type status string

const (
	running    status = "RUNNING"
	completed  status = "COMPLETED"
	cancelling status = "CANCELLING"
	cancelled  status = "CANCELLED"
	broken     status = "FAILED"
)

func (st status) active() bool { return st == running || st == cancelling }

const (
	maxMoveRate   = 500 // messages per second
	maxTaskResult = 10  // tasks that are kept and listed
	maxMoveTime   = 36 * time.Hour
)

// taskHandle is what TaskHandle holds, in base64.
type taskHandle struct {
	TaskID    string `json:"taskId"`
	SourceARN string `json:"sourceArn"`
}

func encodeTaskHandle(id, source string) string {
	b, _ := json.Marshal(taskHandle{id, source}) // two texts
	return base64.StdEncoding.EncodeToString(b)
}

func decodeTaskHandle(s string) (h taskHandle) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(b, &h) != nil {
		return taskHandle{}
	}
	return h
}

// sourceOf reads the ARN of a task's source. Tasks are the owner's alone.
func sourceOf(ctx context.Context, arn *string) (sc scope, name string, err error) {
	if arn == nil || *arn == "" {
		return sc, "", missing("SourceArn")
	}
	sc, name, ok := parseARN(*arn)
	if !ok {
		return sc, "", invalidParameter("You must use this format to specify the SourceArn: arn:<partition>:<service>:<region>:<account-id>:<resource-id>")
	}
	if sc != scopeOf(ctx) {
		return sc, "", noSuchResource("SourceArn")
	}
	return sc, name, nil
}

// ofSource has AWS's error for a source that there is not.
func ofSource(err error) error {
	if apierr.Code(err) == "QueueDoesNotExist" {
		return noSuchResource("SourceArn")
	}
	return err
}

func (s *Service) startMessageMoveTask(ctx context.Context, in *sqsapi.StartMessageMoveTaskInput) (*sqsapi.StartMessageMoveTaskOutput, error) {
	sc, name, err := sourceOf(ctx, in.SourceArn)
	if err != nil {
		return nil, err
	}
	t := task{ID: call.NewRequestID(), Status: running}
	if in.MaxNumberOfMessagesPerSecond != nil {
		if t.Rate = *in.MaxNumberOfMessagesPerSecond; t.Rate < 1 || t.Rate > maxMoveRate {
			return nil, invalid(t.Rate, "MaxNumberOfMessagesPerSecond", "Must be between 1 and 500.")
		}
	}
	if in.DestinationArn != nil && *in.DestinationArn != "" {
		t.Destination = *in.DestinationArn
	}
	q, err := s.view(ctx, sc, name)
	if err != nil {
		return nil, ofSource(err)
	}
	counts, err := q.count(ctx)
	if err != nil {
		return nil, err
	}
	t.ToMove = int64(counts.Visible)
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		q, err := s.get(tx, sc, name)
		if err != nil {
			return ofSource(err)
		}
		if err := s.checkDestination(tx, q, t.Destination); err != nil {
			return err
		}
		dead := false
		for _, err := range tx.Scan(sc.sources(name)) {
			if err != nil {
				return err
			}
			dead = true
			break
		}
		if !dead {
			return invalidParameter("Source queue must be configured as a Dead Letter Queue.")
		}
		if err := sc.taskGuard(name).Depend(tx); err != nil {
			return err
		}
		sc.taskGuard(name).Change(tx)
		kept := 0
		for old, err := range kv.ScanJSON[task](tx, sc.tasks(name).Backward()) {
			switch {
			case err != nil:
				return err
			case old.Value.Status.active():
				return invalidParameter("There is already a task running. Only one active task is allowed for a source queue arn at a given time.")
			}
			if kept++; kept >= maxTaskResult {
				tx.Delete(old.Key)
			}
		}
		return kv.SetJSON(tx, sc.taskKey(name, time.Now().UnixNano()), t)
	})
	if err != nil {
		return nil, err
	}
	s.wakeMover()
	return &sqsapi.StartMessageMoveTaskOutput{TaskHandle: new(encodeTaskHandle(t.ID, *in.SourceArn))}, nil
}

func (s *Service) checkDestination(r kv.Reader, source *queueState, arn string) error {
	if arn == "" {
		return nil
	}
	sc, name, ok := parseARN(arn)
	if !ok {
		return invalidParameter("You must use this format to specify the DestinationArn: arn:<partition>:<service>:<region>:<account-id>:<resource-id>")
	}
	if sc != source.scope {
		return noSuchResource("DestinationArn")
	}
	q, err := s.find(r, sc, name)
	if err != nil {
		return err
	}
	if q == nil {
		return noSuchResource("DestinationArn")
	}
	if q.settings.fifo != source.settings.fifo || name == source.name {
		return invalid(arn, "DestinationArn", "The destination must be another queue of the same type as the source.")
	}
	return nil
}

func (s *Service) cancelMessageMoveTask(ctx context.Context, in *sqsapi.CancelMessageMoveTaskInput) (*sqsapi.CancelMessageMoveTaskOutput, error) {
	if in.TaskHandle == nil || *in.TaskHandle == "" {
		return nil, missing("TaskHandle")
	}
	h := decodeTaskHandle(*in.TaskHandle)
	sc, name, ok := parseARN(h.SourceARN)
	if !ok || h.TaskID == "" {
		return nil, invalidParameter("Value for parameter TaskHandle is invalid.")
	}
	if sc != scopeOf(ctx) {
		return nil, noSuchResource("SourceArn")
	}
	var out *sqsapi.CancelMessageMoveTaskOutput
	err := s.db.Update(ctx, func(tx kv.Tx) error {
		if _, err := s.get(tx, sc, name); err != nil {
			return ofSource(err)
		}
		for r, err := range kv.ScanJSON[task](tx, sc.tasks(name)) {
			if err != nil {
				return err
			}
			t := r.Value
			if t.ID != h.TaskID {
				continue
			}
			if t.Status != running {
				return sqsapi.ErrResourceNotFoundException("Only active tasks can be cancelled. The status of the task is %s.", t.Status)
			}
			t.Status = cancelling
			out = &sqsapi.CancelMessageMoveTaskOutput{ApproximateNumberOfMessagesMoved: &t.Moved}
			return kv.SetJSON(tx, r.Key, t)
		}
		return sqsapi.ErrResourceNotFoundException("Task does not exist.")
	})
	if err != nil {
		return nil, err
	}
	s.wakeMover()
	return out, nil
}

func (s *Service) listMessageMoveTasks(ctx context.Context, in *sqsapi.ListMessageMoveTasksInput) (*sqsapi.ListMessageMoveTasksOutput, error) {
	sc, name, err := sourceOf(ctx, in.SourceArn)
	if err != nil {
		return nil, err
	}
	limit := 1
	if in.MaxResults != nil {
		if limit = int(*in.MaxResults); limit < 1 || limit > maxTaskResult {
			return nil, invalid(limit, "MaxResults", "Must be between 1 and 10.")
		}
	}
	out := &sqsapi.ListMessageMoveTasksOutput{Results: []sqsapi.ListMessageMoveTasksResultEntry{}}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		if _, err := s.get(r, sc, name); err != nil {
			return ofSource(err)
		}
		for rec, err := range kv.ScanJSON[task](r, sc.tasks(name).Backward()) {
			if err != nil {
				return err
			}
			if len(out.Results) == limit {
				break
			}
			started, err := taskStarted(rec.Key)
			if err != nil {
				return err
			}
			t := rec.Value
			e := sqsapi.ListMessageMoveTasksResultEntry{
				Status: new(string(t.Status)), SourceArn: in.SourceArn, DestinationArn: given(t.Destination), FailureReason: given(t.Failure),
				ApproximateNumberOfMessagesMoved: &t.Moved, ApproximateNumberOfMessagesToMove: &t.ToMove, StartedTimestamp: new(started.UnixMilli()),
			}
			if t.Rate > 0 {
				e.MaxNumberOfMessagesPerSecond = &t.Rate
			}
			if t.Status.active() {
				e.TaskHandle = new(encodeTaskHandle(t.ID, *in.SourceArn))
			}
			out.Results = append(out.Results, e)
		}
		return nil
	})
}

func (s *Service) wakeMover() {
	select {
	case s.moves <- struct{}{}:
	default:
	}
}

// runMoves moves for all tasks that are under way, until ctx ends.
func (s *Service) runMoves(ctx context.Context) {
	movers := map[string]*mover{} // by the tasks' keys
	ended := make(chan string)
	var running int
	start := func() {
		keys, err := s.activeTasks(ctx)
		if err != nil {
			s.log.Error("message move tasks not read", "err", err)
			return
		}
		for _, key := range keys {
			if m := movers[string(key)]; m != nil {
				m.look()
				continue
			}
			m := &mover{s: s, key: key, news: make(chan struct{}, 1)}
			movers[string(key)] = m
			running++
			go func() { // counted: nothing returns before all have ended
				m.run(ctx)
				ended <- string(key)
			}()
		}
	}
	start()
	for ctx.Err() == nil {
		select {
		case <-s.moves:
			start()
		case key := <-ended:
			running--
			delete(movers, key)
		case <-ctx.Done():
		}
	}
	for ; running > 0; running-- {
		<-ended
	}
}

func (s *Service) activeTasks(ctx context.Context) (keys [][]byte, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		for rec, err := range kv.ScanJSON[task](r, allTasks()) {
			if err != nil {
				return err
			}
			if rec.Value.Status.active() {
				keys = append(keys, rec.Key)
			}
		}
		return nil
	})
	return keys, err
}

// mover moves for one task.
type mover struct {
	s    *Service
	key  []byte
	news chan struct{} // the task was changed
}

func (m *mover) look() {
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// retry is how long a mover waits after a failure of the store.
const retry = time.Second

func (m *mover) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait, err := m.step(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.s.log.LogAttrs(ctx, slog.LevelError, "messages not moved", slog.String("task", kv.Format(m.key)), slog.Any("err", err))
			wait = retry
		}
		if wait < 0 {
			return
		}
		m.wait(ctx, wait)
	}
}

// wait waits, but for a task that was cancelled.
func (m *mover) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-m.news:
			if t, ok, err := m.task(ctx, nil); err == nil && (!ok || t.Status != running) {
				return
			}
		}
	}
}

// step moves a few messages. It returns how long to wait before the next; less than 0 means that the task is over.
func (m *mover) step(ctx context.Context) (time.Duration, error) {
	s := m.s
	sc, source, started, err := decodeTaskKey(m.key)
	if err != nil {
		return -1, err
	}
	var q *queueState
	t, ok, err := m.task(ctx, func(r kv.Reader) error { q, err = s.find(r, sc, source); return err })
	if err != nil {
		return 0, err
	}
	switch {
	case !ok || q == nil || !t.Status.active():
		return -1, nil
	case t.Status == cancelling:
		return -1, m.end(ctx, cancelled)
	case time.Since(started) > maxMoveTime:
		return -1, m.end(ctx, completed)
	}
	n := maxBatch
	if t.Rate > 0 {
		n = min(n, int(t.Rate))
	}
	ds, err := q.messages.Take(ctx, queue.Take{Max: n, Retention: q.settings.retention, Delay: q.settings.delay, Volatile: true})
	switch {
	case errors.Is(err, queue.ErrDropped):
		return 0, nil // purged just now
	case err != nil:
		return 0, err
	case len(ds) == 0:
		return -1, m.end(ctx, completed)
	}
	defer func() {
		for i := range ds { // those that were moved are not there any more
			q.messages.Release(ds[i].ID)
		}
	}()
	if err := s.db.Update(ctx, func(tx kv.Tx) error { return m.move(tx, q, ds) }); err != nil {
		return 0, err
	}
	if t.Rate > 0 {
		return time.Duration(len(ds)) * time.Second / time.Duration(t.Rate), nil
	}
	return 0, nil
}

// move moves messages in one transaction and counts them. What cannot be moved ends the task; those before it are moved.
func (m *mover) move(tx kv.Tx, q *queueState, ds []queue.Delivery) error {
	t, ok, err := kv.GetJSON[task](tx, m.key)
	if err != nil || !ok || t.Status != running {
		return err
	}
	if now, err := m.s.find(tx, q.scope, q.name); err != nil || now == nil || now.messages != q.messages {
		return err // deleted or purged meanwhile
	}
	for i := range ds {
		msg, err := decodeMessage(ds[i].Body)
		if err != nil {
			return err
		}
		target := t.Destination
		if target == "" {
			target = msg.source
		}
		sc, name, ok := parseARN(target)
		if !ok {
			t.Status, t.Failure = broken, "CouldNotDetermineMessageSource"
			break
		}
		to, err := m.s.find(tx, sc, name)
		if err != nil {
			return err
		}
		if to == nil || to.settings.fifo != q.settings.fifo {
			t.Status, t.Failure = broken, "AWS.SimpleQueueService.NonExistentQueue"
			break
		}
		there, err := q.messages.Remove(tx, ds[i].ID)
		if err != nil {
			return err
		}
		if !there {
			continue // deleted meanwhile
		}
		// What was moved back is a new message. Source: the developer guide, configuring a dead-letter queue redrive.
		msg.id, msg.source, msg.receives = newMessageID(), "", 0
		if _, err := to.messages.Add(tx, queue.Message{Group: ds[i].Group, Body: msg.encode()}); err != nil {
			return err
		}
		t.Moved++
	}
	return kv.SetJSON(tx, m.key, t)
}

// task reads the task, and what more with it.
func (m *mover) task(ctx context.Context, more func(kv.Reader) error) (t task, ok bool, err error) {
	err = m.s.db.View(ctx, func(r kv.Reader) error {
		if t, ok, err = kv.GetJSON[task](r, m.key); err != nil || more == nil {
			return err
		}
		return more(r)
	})
	return t, ok, err
}

// end writes the status that a task ends with.
func (m *mover) end(ctx context.Context, with status) error {
	return m.s.db.Update(ctx, func(tx kv.Tx) error {
		t, ok, err := kv.GetJSON[task](tx, m.key)
		if err != nil || !ok || !t.Status.active() {
			return err
		}
		if t.Status == cancelling {
			with = cancelled
		}
		t.Status = with
		return kv.SetJSON(tx, m.key, t)
	})
}
