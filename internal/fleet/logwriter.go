package fleet

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
)

const (
	// logLinger is how long written events wait for company. It is also how much of a log a power cut may cost: logs
	// are not acknowledged to anybody, so the invocations do not wait for the disk.
	logLinger = 50 * time.Millisecond

	// logBacklog is how many bytes a stream may hold that are not stored yet. Above it the writer blocks: a function
	// that prints faster than the disk takes slows itself down and nobody else.
	logBacklog = 1 << 20

	// The limits of PutLogEvents.
	maxBatchEvents = 10_000
	maxBatchBytes  = 1 << 20
	eventOverhead  = 26

	logWriters = 8 // streams stored at once; their commits share a sync
)

// logWriter carries what functions and the platform print to CloudWatch Logs, in batches, off the invoke path.
type logWriter struct {
	caller smithy.Caller
	log    *slog.Logger
	wake   chan struct{}

	mu    sync.Mutex
	dirty []*logStream
}

func newLogWriter(caller smithy.Caller, log *slog.Logger) *logWriter {
	return &logWriter{caller: caller, log: log, wake: make(chan struct{}, 1)}
}

// logStream is the log stream of one environment. Its methods may be called concurrently.
type logStream struct {
	w               *logWriter
	account, region string
	group, name     string

	mu      sync.Mutex
	room    sync.Cond // signalled when events were taken, or the stream was closed
	events  []logsapi.InputLogEvent
	last    int64 // time of the newest event, in milliseconds
	bytes   int
	queued  bool // in w.dirty, or being stored
	closed  bool
	created bool // group and stream are known to exist; used by the storing goroutine only
}

func (w *logWriter) open(account, region, group, name string) *logStream {
	s := &logStream{w: w, account: account, region: region, group: group, name: name}
	s.room.L = &s.mu
	return s
}

// append adds one event. With wait it blocks while the stream's backlog is full.
func (s *logStream) append(at time.Time, message string, wait bool) {
	s.mu.Lock()
	for wait && s.bytes > logBacklog && !s.closed {
		s.room.Wait()
	}
	// Events keep the order of their coming, which the API wants of their times too: framed records say when they were
	// written, printed lines have the time of their reading, which is a little later.
	s.last = max(s.last, at.UnixMilli())
	s.events = append(s.events, logsapi.InputLogEvent{Timestamp: new(s.last), Message: &message})
	s.bytes += len(message) + eventOverhead
	queued := s.queued
	s.queued = true
	s.mu.Unlock()
	if !queued {
		s.w.enqueue(s)
	}
}

// close lets writers through: what is left is stored, and nothing blocks any more.
func (s *logStream) close() {
	s.mu.Lock()
	s.closed = true
	s.room.Broadcast()
	s.mu.Unlock()
}

func (w *logWriter) enqueue(s *logStream) {
	w.mu.Lock()
	w.dirty = append(w.dirty, s)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run stores what is appended until ctx ends, and then what is left.
func (w *logWriter) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			w.flush(context.WithoutCancel(ctx))
			return
		case <-w.wake:
		}
		select {
		case <-ctx.Done():
		case <-time.After(logLinger):
		}
		w.flush(context.WithoutCancel(ctx))
	}
}

// flush stores everything that is waiting.
func (w *logWriter) flush(ctx context.Context) {
	for {
		w.mu.Lock()
		dirty := w.dirty
		w.dirty = nil
		w.mu.Unlock()
		if len(dirty) == 0 {
			return
		}
		var wg sync.WaitGroup
		next := make(chan *logStream)
		for range min(logWriters, len(dirty)) {
			wg.Go(func() {
				for s := range next {
					s.store(ctx)
				}
			})
		}
		for _, s := range dirty {
			next <- s
		}
		close(next)
		wg.Wait()
	}
}

// store writes the events that wait now, batch by batch. What came meanwhile has its turn after the other streams.
func (s *logStream) store(ctx context.Context) {
	ctx = call.AsService(ctx, "lambda", s.account, s.region)
	s.mu.Lock()
	events := s.events
	s.events, s.bytes = nil, 0
	s.room.Broadcast()
	s.mu.Unlock()
	for len(events) > 0 {
		n, size := 0, 0
		for n < len(events) && n < maxBatchEvents {
			e := len(*events[n].Message) + eventOverhead
			if size+e > maxBatchBytes && n > 0 {
				break
			}
			size += e
			n++
		}
		if err := s.put(ctx, events[:n]); err != nil {
			s.w.log.Error("log events lost", "group", s.group, "stream", s.name, "events", n, "err", err)
		}
		events = events[n:]
	}
	s.mu.Lock()
	s.queued = len(s.events) > 0
	again := s.queued
	s.mu.Unlock()
	if again {
		s.w.enqueue(s)
	}
}

// put stores one batch. As Lambda does, it makes the group and the stream when they are not there.
func (s *logStream) put(ctx context.Context, events []logsapi.InputLogEvent) error {
	in := &logsapi.PutLogEventsInput{LogGroupName: &s.group, LogStreamName: &s.name, LogEvents: events}
	for try := 0; ; try++ {
		if !s.created {
			if err := s.create(ctx); err != nil {
				return err
			}
			s.created = true
		}
		_, err := logsapi.PutLogEvents.Call(ctx, s.w.caller, in)
		if err == nil || try > 0 || !isCode(err, "ResourceNotFoundException") {
			return err
		}
		s.created = false // somebody deleted them
	}
}

func (s *logStream) create(ctx context.Context) error {
	_, err := logsapi.CreateLogStream.Call(ctx, s.w.caller, &logsapi.CreateLogStreamInput{LogGroupName: &s.group, LogStreamName: &s.name})
	if isCode(err, "ResourceNotFoundException") {
		_, err = logsapi.CreateLogGroup.Call(ctx, s.w.caller, &logsapi.CreateLogGroupInput{LogGroupName: &s.group})
		if err == nil || isCode(err, "ResourceAlreadyExistsException") {
			_, err = logsapi.CreateLogStream.Call(ctx, s.w.caller, &logsapi.CreateLogStreamInput{LogGroupName: &s.group, LogStreamName: &s.name})
		}
	}
	if isCode(err, "ResourceAlreadyExistsException") {
		err = nil
	}
	return err
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*apierr.Error](err)
	return ok && e.Code == code
}
