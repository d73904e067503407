package logs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		s.group("forever")
		s.stream("forever", "s")
		stop := s.run()
		defer stop()
		ok(s, logsapi.PutRetentionPolicy, &logsapi.PutRetentionPolicyInput{LogGroupName: new("g"), RetentionInDays: new(int32(1))})
		hour := time.Hour.Milliseconds()
		var events []logsapi.InputLogEvent // one an hour, from 23 hours ago until now
		var messages []string
		for i := range int64(24) {
			m := fmt.Sprintf("%02d", i)
			events, messages = append(events, ev(now()-(23-i)*hour, m)), append(messages, m)
		}
		s.put("g", "s", events...)
		s.put("forever", "s", events...)
		time.Sleep(5*time.Hour + 10*time.Minute)
		if got := s.messages("g", "s"); !slices.Equal(got, messages[5:]) {
			t.Errorf("a day's messages: %q, want %q", got, messages[5:])
		}
		if got := s.filter(logsapi.FilterLogEventsInput{LogGroupName: new("g")}); !slices.Equal(got, messages[5:]) {
			t.Errorf("a day's messages, filtered: %q, want %q", got, messages[5:])
		}
		if got := s.messages("forever", "s"); !slices.Equal(got, messages) {
			t.Errorf("in a group without retention: %q", got)
		}
		// The sweep runs by the hour, and a chunk stays a minute longer, so that of 19 hours ago is still there.
		if got := *s.describe("g").StoredBytes; got != 20*28 {
			t.Errorf("storedBytes %d, want that of 20 events, %d", got, 20*28)
		}
		chunks := 0
		for _, row := range s.rows() {
			if strings.HasPrefix(row, `"logs.chunk"`) {
				chunks++
			}
		}
		if chunks != 24+20 {
			t.Errorf("%d chunks are left, want %d", chunks, 24+20)
		}
		time.Sleep(20 * time.Hour)
		if got := *s.describe("g").StoredBytes; got != 0 {
			t.Errorf("storedBytes %d after all is expired", got)
		}
	})
}

// TestExpiredIsHidden reads events past their retention that nothing has removed yet.
func TestExpiredIsHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		s.put("g", "s", ev(now()-days(1), "old"))
		time.Sleep(time.Minute)
		s.put("g", "s", ev(now(), "new"))
		ok(s, logsapi.PutRetentionPolicy, &logsapi.PutRetentionPolicyInput{LogGroupName: new("g"), RetentionInDays: new(int32(1))})
		if got := s.messages("g", "s"); !slices.Equal(got, []string{"new"}) {
			t.Errorf("messages %q", got)
		}
		if got := s.filter(logsapi.FilterLogEventsInput{LogGroupName: new("g"), StartTime: new(int64(0))}); !slices.Equal(got, []string{"new"}) {
			t.Errorf("filtered %q", got)
		}
		ok(s, logsapi.DeleteRetentionPolicy, &logsapi.DeleteRetentionPolicyInput{LogGroupName: new("g")})
		if got := s.messages("g", "s"); !slices.Equal(got, []string{"old", "new"}) {
			t.Errorf("messages %q after the retention is gone", got)
		}
	})
}

// putChunks puts n events so far apart that each becomes a chunk of its own.
func (s *service) putChunks(group, stream string, n int) {
	s.Helper()
	events := make([]logsapi.InputLogEvent, n)
	at := now() - days(1)
	for i := range events {
		events[i] = ev(at+int64(i)*61_000, "old")
	}
	s.put(group, stream, events...)
}

func TestDeleteAndRecreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		s.stream("g", "t")
		at := now()
		s.putChunks("g", "s", 1200) // more than one batch of the removal
		s.put("g", "t", ev(at, "kept"))

		ok(s, logsapi.DeleteLogStream, &logsapi.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("s")})
		fails(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s")}, notFound, noStream)
		if got := s.filter(logsapi.FilterLogEventsInput{LogGroupName: new("g")}); !slices.Equal(got, []string{"kept"}) {
			t.Errorf("after the stream's deletion %d messages are found", len(got))
		}
		s.stream("g", "s")
		s.put("g", "s", ev(at, "new"))
		seen := func(when string) {
			t.Helper()
			if got := s.messages("g", "s"); !slices.Equal(got, []string{"new"}) {
				t.Errorf("%s: %d messages in the new stream", when, len(got))
			}
			got := s.filter(logsapi.FilterLogEventsInput{LogGroupName: new("g")})
			if slices.Sort(got); !slices.Equal(got, []string{"kept", "new"}) {
				t.Errorf("%s: %d messages in the group", when, len(got))
			}
			if got := *s.describe("g").StoredBytes; got != 3+4+2*26 {
				t.Errorf("%s: storedBytes %d", when, got)
			}
		}
		seen("before the removal")
		stop := s.run()
		synctest.Wait()
		seen("after the removal")
		if n := len(s.rows()); n != 1+2+2+2+2 { // group, and of each stream the row, its place in lasts, a chunk, its place in times
			t.Errorf("%d rows are left:\n%s", n, strings.Join(s.rows(), "\n"))
		}

		ok(s, logsapi.DeleteLogGroup, &logsapi.DeleteLogGroupInput{LogGroupName: new("g")})
		fails(s, logsapi.PutLogEvents, &logsapi.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), LogEvents: []logsapi.InputLogEvent{ev(at, "x")}}, notFound, noGroup)
		s.group("g")
		fails(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s")}, notFound, noStream)
		if got := s.filter(logsapi.FilterLogEventsInput{LogGroupName: new("g")}); got != nil {
			t.Errorf("in the new group: %q", got)
		}
		ok(s, logsapi.DeleteLogGroup, &logsapi.DeleteLogGroupInput{LogGroupName: new("g")})
		synctest.Wait()
		stop()
		if rows := s.rows(); len(rows) != 0 {
			t.Errorf("after all is deleted, rows are left:\n%s", strings.Join(rows, "\n"))
		}
	})
}

// failingDB lets a number of Updates through and then fails them all, as a process does that is killed.
type failingDB struct {
	kv.DB
	mu   sync.Mutex
	left int
}

var errKilled = errors.New("killed")

func (d *failingDB) Update(ctx context.Context, fn func(kv.Tx) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left == 0 {
		return errKilled
	}
	d.left--
	return d.DB.Update(ctx, fn)
}

// TestRemovalGoesOnAfterACrash stops the removal after every possible number of its transactions, and starts it anew.
func TestRemovalGoesOnAfterACrash(t *testing.T) {
	for steps := range 12 {
		synctest.Test(t, func(t *testing.T) {
			s := withStream(t)
			s.stream("g", "t")
			s.putChunks("g", "s", 600)
			s.putChunks("g", "t", 600)
			ok(s, logsapi.DeleteLogStream, &logsapi.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("t")})
			ok(s, logsapi.DeleteLogGroup, &logsapi.DeleteLogGroupInput{LogGroupName: new("g")})
			crashing := on(t, &failingDB{DB: s.db, left: steps})
			stop := crashing.run()
			synctest.Wait()
			stop()
			stop = s.run()
			synctest.Wait()
			stop()
			if rows := s.rows(); len(rows) != 0 {
				t.Errorf("a crash after %d steps leaves %d rows, such as %s", steps, len(rows), rows[0])
			}
		})
	}
}

// TestRemovalTriesAgain lets the removal fail for a while.
func TestRemovalTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		s.put("g", "s", ev(now(), "x"))
		ok(s, logsapi.DeleteLogGroup, &logsapi.DeleteLogGroupInput{LogGroupName: new("g")})
		db := &failingDB{DB: s.db}
		stop := on(t, db).run()
		time.Sleep(time.Minute)
		db.mu.Lock()
		db.left = 100
		db.mu.Unlock()
		time.Sleep(time.Minute)
		stop()
		if rows := s.rows(); len(rows) != 0 {
			t.Errorf("rows are left: %q", rows)
		}
	})
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	open := func() (*service, func()) {
		db, err := pebblekv.Open(pebblekv.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return on(t, db), func() {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, closeDB := open()
	s.group("g")
	s.stream("g", "s")
	at := now()
	s.put("g", "s", ev(at, "before"))
	token := ok(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s")}).NextForwardToken
	closeDB()

	s, closeDB = open()
	defer closeDB()
	s.put("g", "s", ev(at, "after"))
	if got := s.messages("g", "s"); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("messages %q", got)
	}
	out := ok(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), NextToken: token})
	if len(out.Events) != 1 || *out.Events[0].Message != "after" {
		t.Errorf("behind a token from before: %d events", len(out.Events))
	}
	if out := s.describe("g"); *out.StoredBytes != 6+5+2*26 {
		t.Errorf("storedBytes %d", *out.StoredBytes)
	}
}

// TestConcurrency writes to shared and own streams while others read, filter, tail, delete and create.
func TestConcurrency(t *testing.T) {
	s := withStream(t)
	stop := s.run()
	defer stop()
	const writers, batches = 6, 30
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	tolerate := func(err error) {
		if c := apierr.Code(err); err != nil && c != notFound && c != exists {
			t.Error(err)
		}
	}
	for w := range writers {
		own := fmt.Sprint("own", w)
		s.stream("g", own)
		writing.Go(func() {
			for b := range batches {
				for _, stream := range []string{"s", own} {
					m := fmt.Sprintf("%d/%d", w, b)
					_, err := logsapi.PutLogEvents.Call(s.ctx, s, &logsapi.PutLogEventsInput{
						LogGroupName: new("g"), LogStreamName: &stream, LogEvents: []logsapi.InputLogEvent{ev(now(), m), ev(now(), m+"!")},
					})
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	reading.Go(func() { // a stream that comes and goes
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			_, err := logsapi.CreateLogStream.Call(s.ctx, s, &logsapi.CreateLogStreamInput{LogGroupName: new("g"), LogStreamName: new("temp")})
			tolerate(err)
			_, err = logsapi.PutLogEvents.Call(s.ctx, s, &logsapi.PutLogEventsInput{
				LogGroupName: new("g"), LogStreamName: new("temp"), LogEvents: []logsapi.InputLogEvent{ev(now(), "temp")},
			})
			tolerate(err)
			_, err = logsapi.DeleteLogStream.Call(s.ctx, s, &logsapi.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("temp")})
			tolerate(err)
		}
	})
	reading.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				s.filter(logsapi.FilterLogEventsInput{LogGroupName: new("g"), FilterPattern: new("-temp")})
				s.streams(logsapi.DescribeLogStreamsInput{LogGroupName: new("g"), OrderBy: new("LastEventTime"), Limit: new(int32(3))})
			}
		}
	})
	tailing, cancel := context.WithCancel(s.ctx)
	defer cancel()
	live, err := logsapi.StartLiveTail.Call(tailing, s, &logsapi.StartLiveTailInput{LogGroupIdentifiers: []string{"arn:aws:logs:eu-west-1:123456789012:log-group:g"}})
	if err != nil {
		t.Fatal(err)
	}
	reading.Go(func() {
		for _, err := range live.ResponseStream {
			if err != nil {
				t.Error(err)
			}
		}
	})
	writing.Wait()
	close(done)
	cancel()
	reading.Wait()

	if n := len(s.messages("g", "s")); n != writers*batches*2 {
		t.Errorf("%d messages in the shared stream, want %d", n, writers*batches*2)
	}
	for w := range writers {
		var order []string
		for _, m := range s.messages("g", fmt.Sprint("own", w)) {
			if !strings.HasSuffix(m, "!") {
				order = append(order, m)
			}
		}
		for b := range batches {
			if want := fmt.Sprintf("%d/%d", w, b); len(order) != batches || order[b] != want {
				t.Fatalf("stream own%d: %q", w, order)
			}
		}
	}
}
