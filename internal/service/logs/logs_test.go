package logs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/service/logs"
)

const account, region = "123456789012", "eu-west-1"

// service is a service as its callers see it: inputs are validated by the model before the handler.
type service struct {
	*testing.T
	ctx context.Context
	db  kv.DB
	svc *logs.Service
	mux *smithy.Mux
}

func (s *service) Call(ctx context.Context, op *smithy.OpInfo, in, out any) error {
	if err := s.mux.Validate(op, in); err != nil {
		return err
	}
	return s.mux.Call(ctx, op, in, out)
}

// start returns a service on a store in memory.
func start(t *testing.T) *service {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return on(t, db)
}

// on returns a service on a store.
func on(t *testing.T, db kv.DB) *service {
	t.Helper()
	svc, err := logs.New(logs.Deps{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	s := &service{T: t, ctx: in(account, region), db: db, svc: svc, mux: smithy.NewMux()}
	svc.Register(s.mux)
	return s
}

// run runs the background work of s until the returned function is called.
func (s *service) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.svc.Run(ctx); !errors.Is(err, context.Canceled) {
			s.Errorf("Run = %v", err)
		}
	}()
	return func() { cancel(); <-done }
}

func in(account, region string) context.Context {
	return call.With(context.Background(), &call.Info{Account: account, Region: region, RequestID: "r"})
}

// ok calls an operation that must succeed.
func ok[In, Out any](s *service, op smithy.Op[In, Out], in *In) *Out {
	s.Helper()
	out, err := op.Call(s.ctx, s, in)
	if err != nil {
		s.Fatalf("%s: %v", op.Info, err)
	}
	return out
}

// fails calls an operation that must fail with a code and a message.
func fails[In, Out any](s *service, op smithy.Op[In, Out], in *In, code, message string) {
	s.Helper()
	_, err := op.Call(s.ctx, s, in)
	e, isCoded := errors.AsType[*apierr.Error](err)
	if !isCoded || e.Code != code || e.Message != message {
		s.Errorf("%s = %v\nwant %s: %s", op.Info, err, code, message)
	}
}

const (
	notFound  = "ResourceNotFoundException"
	exists    = "ResourceAlreadyExistsException"
	parameter = "InvalidParameterException"
	noGroup   = "The specified log group does not exist."
	noStream  = "The specified log stream does not exist."
	badToken  = "The specified nextToken is invalid."
)

func (s *service) group(name string) {
	s.Helper()
	ok(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{LogGroupName: &name})
}

func (s *service) stream(group, name string) {
	s.Helper()
	ok(s, logsapi.CreateLogStream, &logsapi.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &name})
}

func (s *service) put(group, stream string, events ...logsapi.InputLogEvent) *logsapi.PutLogEventsOutput {
	s.Helper()
	return ok(s, logsapi.PutLogEvents, &logsapi.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream, LogEvents: events})
}

func ev(ts int64, message string) logsapi.InputLogEvent {
	return logsapi.InputLogEvent{Timestamp: &ts, Message: &message}
}

func now() int64 { return time.Now().UnixMilli() }

func days(n int) int64 { return int64(n) * 24 * time.Hour.Milliseconds() }

// describe returns a group as DescribeLogGroups shows it.
func (s *service) describe(name string) logsapi.LogGroup {
	s.Helper()
	out := ok(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{LogGroupIdentifiers: []string{name}})
	if len(out.LogGroups) != 1 {
		s.Fatalf("%d groups named %s", len(out.LogGroups), name)
	}
	return out.LogGroups[0]
}

// messages returns all messages of a stream, read from the head.
func (s *service) messages(group, stream string) []string {
	s.Helper()
	var all []string
	in := &logsapi.GetLogEventsInput{LogGroupName: &group, LogStreamName: &stream, StartFromHead: new(true)}
	for {
		out := ok(s, logsapi.GetLogEvents, in)
		for _, e := range out.Events {
			all = append(all, *e.Message)
		}
		if in.NextToken != nil && *in.NextToken == *out.NextForwardToken {
			return all
		}
		in.NextToken = out.NextForwardToken
	}
}

// filter returns the messages of all pages of FilterLogEvents.
func (s *service) filter(in logsapi.FilterLogEventsInput) []string {
	s.Helper()
	var all []string
	for pages := 0; ; pages++ {
		if pages > 10_000 {
			s.Fatal("FilterLogEvents does not come to an end")
		}
		out := ok(s, logsapi.FilterLogEvents, &in)
		for _, e := range out.Events {
			all = append(all, *e.Message)
		}
		if out.NextToken == nil {
			return all
		}
		in.NextToken = out.NextToken
	}
}

// rows returns the keys of the store, for people.
func (s *service) rows() []string {
	s.Helper()
	var keys []string
	err := s.db.View(s.ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			keys = append(keys, kv.Format(e.Key))
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return keys
}

func TestUnservedOperationSaysSo(t *testing.T) {
	s := start(t)
	_, err := logsapi.StartQuery.Call(s.ctx, s.mux, &logsapi.StartQueryInput{})
	if apierr.Code(err) != "NotImplemented" {
		t.Errorf("StartQuery = %v", err)
	}
}

func TestNewNeedsAStore(t *testing.T) {
	if _, err := logs.New(logs.Deps{}); err == nil {
		t.Error("New without a store succeeded")
	}
}

func TestAccountsAndRegionsAreApart(t *testing.T) {
	s := start(t)
	s.group("g")
	s.stream("g", "s")
	s.put("g", "s", ev(now(), "mine"))
	for _, other := range []context.Context{in("000000000000", region), in(account, "us-east-1")} {
		o := *s
		o.ctx = other
		fails(&o, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s")}, notFound, noGroup)
		if out := ok(&o, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{}); len(out.LogGroups) != 0 {
			t.Errorf("groups seen: %d", len(out.LogGroups))
		}
		o.group("g")
		o.stream("g", "s")
		if got := o.messages("g", "s"); got != nil {
			t.Errorf("messages seen: %q", got)
		}
	}
}

func numbered(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("n%03d", i)
	}
	return s
}
