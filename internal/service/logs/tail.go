package logs

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/logfilter"
)

// The limits of StartLiveTail, from the API reference.
const (
	tailInterval  = time.Second
	maxTailEvents = 500 // in one update; of more, a sample
	maxTail       = 3 * time.Hour
)

func (s *Service) startLiveTail(ctx context.Context, in *logsapi.StartLiveTailInput) (*logsapi.StartLiveTailOutput, error) {
	sc := scopeOf(ctx)
	filter, err := compileFilter(in.LogEventFilterPattern)
	if err != nil {
		return nil, err
	}
	if (in.LogStreamNames != nil || in.LogStreamNamePrefixes != nil) && len(in.LogGroupIdentifiers) > 1 {
		return nil, logsapi.ErrInvalidParameterException("logStreamNames and logStreamNamePrefixes can only be specified with one log group.")
	}
	if in.LogStreamNames != nil && in.LogStreamNamePrefixes != nil {
		return nil, logsapi.ErrInvalidParameterException("logStreamNames and logStreamNamePrefixes are mutually exclusive parameters.")
	}
	t := &tail{
		groups: map[int64]string{}, names: in.LogStreamNames, prefixes: in.LogStreamNamePrefixes, filter: filter,
	}
	err = s.db.View(ctx, func(r kv.Reader) error {
		for _, id := range in.LogGroupIdentifiers {
			if !strings.HasPrefix(id, "arn:") || strings.HasSuffix(id, "*") {
				return logsapi.ErrInvalidParameterException("Each log group must be specified by its ARN, without an asterisk at the end.")
			}
			name, err := sc.groupName(id)
			if err != nil {
				return err
			}
			g, err := sc.getGroup(r, name)
			if err != nil {
				return err
			}
			t.groups[g.ID] = sc.account + ":" + name // the form that AWS shows
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	start := &logsapi.LiveTailSessionStart{
		RequestId: new(call.From(ctx).RequestID), SessionId: new(call.NewRequestID()),
		LogGroupIdentifiers: in.LogGroupIdentifiers, LogStreamNames: orEmpty(in.LogStreamNames),
		LogStreamNamePrefixes: orEmpty(in.LogStreamNamePrefixes), LogEventFilterPattern: new(str(in.LogEventFilterPattern)),
	}
	return &logsapi.StartLiveTailOutput{ResponseStream: func(yield func(*logsapi.StartLiveTailResponseStream, error) bool) {
		s.tails.add(t)
		defer s.tails.remove(t)
		if !yield(&logsapi.StartLiveTailResponseStream{SessionStart: start}, nil) {
			return
		}
		tick := time.NewTicker(tailInterval)
		defer tick.Stop()
		for deadline := time.Now().Add(maxTail); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !yield(&logsapi.StartLiveTailResponseStream{SessionUpdate: t.take()}, nil) {
				return
			}
			if !time.Now().Before(deadline) {
				yield(nil, logsapi.ErrSessionTimeoutException("The session has timed out after 3 hours."))
				return
			}
		}
	}}, nil
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// tail is one live tail session.
type tail struct {
	groups          map[int64]string // by id, as shown in events
	names, prefixes []string         // of streams; all if both are nil
	filter          *logfilter.Filter

	mu     sync.Mutex
	events []tailEvent
	seen   int // since the last update
}

type tailEvent struct {
	n     int // in the order of arrival
	event logsapi.LiveTailSessionLogEvent
}

func (t *tail) wants(stream string) bool {
	if t.names == nil && t.prefixes == nil {
		return true
	}
	return slices.Contains(t.names, stream) ||
		slices.ContainsFunc(t.prefixes, func(p string) bool { return strings.HasPrefix(stream, p) })
}

// offer takes an event. Beyond maxTailEvents each event so far has the same chance to be in the sample.
func (t *tail) offer(e logsapi.LiveTailSessionLogEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen++
	if len(t.events) < maxTailEvents {
		t.events = append(t.events, tailEvent{t.seen, e})
	} else if i := rand.IntN(t.seen); i < maxTailEvents {
		t.events[i] = tailEvent{t.seen, e}
	}
}

// take returns what came since the last time.
func (t *tail) take() *logsapi.LiveTailSessionUpdate {
	t.mu.Lock()
	events, sampled := t.events, t.seen > maxTailEvents
	t.events, t.seen = nil, 0
	t.mu.Unlock()
	slices.SortFunc(events, func(a, b tailEvent) int { return a.n - b.n })
	results := make([]logsapi.LiveTailSessionLogEvent, len(events))
	for i := range events {
		results[i] = events[i].event
	}
	return &logsapi.LiveTailSessionUpdate{
		SessionMetadata: &logsapi.LiveTailSessionMetadata{Sampled: &sampled}, SessionResults: results,
	}
}

// tails are the sessions that run. Publishing costs next to nothing while there are none.
type tails struct {
	n   atomic.Int32
	mu  sync.RWMutex
	all map[*tail]struct{}
}

func (ts *tails) add(t *tail) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.all == nil {
		ts.all = map[*tail]struct{}{}
	}
	ts.all[t] = struct{}{}
	ts.n.Store(int32(len(ts.all)))
}

func (ts *tails) remove(t *tail) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.all, t)
	ts.n.Store(int32(len(ts.all)))
}

// publish gives events that are stored now to the sessions that want them.
func (ts *tails) publish(g *logGroup, st *logStream, events []logsapi.InputLogEvent, ingested int64) {
	if ts.n.Load() == 0 {
		return
	}
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	for t := range ts.all {
		shown, ok := t.groups[g.ID]
		if !ok || !t.wants(st.Name) {
			continue
		}
		for i := range events {
			if e := &events[i]; t.filter.Match(*e.Message) {
				t.offer(logsapi.LiveTailSessionLogEvent{
					LogStreamName: &st.Name, LogGroupIdentifier: &shown, Message: e.Message, Timestamp: e.Timestamp, IngestionTime: &ingested,
				})
			}
		}
	}
}
