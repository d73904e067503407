package logs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
)

func TestFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		at := now()
		s.put("g", "s", ev(at, `{"level":"ERROR","n":1}`), ev(at+1, "START RequestId: x"), ev(at+2, "127.0.0.1 GET 404"))
		for pattern, want := range map[string][]string{
			``:                              {`{"level":"ERROR","n":1}`, "START RequestId: x", "127.0.0.1 GET 404"},
			`ERROR`:                         {`{"level":"ERROR","n":1}`},
			`?START ?GET`:                   {"START RequestId: x", "127.0.0.1 GET 404"},
			`"RequestId: x"`:                {"START RequestId: x"},
			`{ $.level = "E*" && $.n < 2 }`: {`{"level":"ERROR","n":1}`},
			`[ip, method, status = 4*]`:     {"127.0.0.1 GET 404"},
			`%\d{3}$%`:                      {"127.0.0.1 GET 404"},
			`nothing`:                       nil,
		} {
			if got := s.filter(logsapi.FilterLogEventsInput{LogGroupName: new("g"), FilterPattern: &pattern}); !slices.Equal(got, want) {
				t.Errorf("pattern %q: %q, want %q", pattern, got, want)
			}
		}
		out := ok(s, logsapi.FilterLogEvents, &logsapi.FilterLogEventsInput{LogGroupName: new("g"), FilterPattern: new("START"), Interleaved: new(true)})
		if len(out.Events) != 1 || len(*out.Events[0].EventId) != 56 || out.SearchedLogStreams == nil || out.NextToken != nil {
			t.Fatalf("FilterLogEvents = %+v", out)
		}
		want := logsapi.FilteredLogEvent{
			LogStreamName: new("s"), Timestamp: new(at + 1), IngestionTime: &at, Message: new("START RequestId: x"), EventId: out.Events[0].EventId,
		}
		if diff := cmp.Diff(want, out.Events[0]); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	})
}

func TestFilterErrors(t *testing.T) {
	s := withStream(t)
	s.group("h")
	s.stream("h", "s")
	s.put("h", "s", ev(now(), "a"), ev(now(), "b"))
	other := ok(s, logsapi.FilterLogEvents, &logsapi.FilterLogEventsInput{LogGroupName: new("h"), Limit: new(int32(1))}).NextToken
	for _, c := range []struct {
		in            logsapi.FilterLogEventsInput
		code, message string
	}{
		{logsapi.FilterLogEventsInput{LogGroupName: new("x")}, notFound, noGroup},
		{logsapi.FilterLogEventsInput{LogGroupName: new("g"), LogStreamNames: []string{"s", "x"}}, notFound, noStream},
		{logsapi.FilterLogEventsInput{LogGroupName: new("g"), LogStreamNames: []string{"s"}, LogStreamNamePrefix: new("s")}, parameter,
			"logStreamNames and logStreamNamePrefix are mutually exclusive parameters."},
		{logsapi.FilterLogEventsInput{LogGroupName: new("g"), FilterPattern: new("user@example.com")}, parameter, "Invalid filter pattern"},
		{logsapi.FilterLogEventsInput{LogGroupName: new("g"), FilterPattern: new("{ $.a = 1")}, parameter, "If a filter pattern starts with '{' it must end with '}'"},
		{logsapi.FilterLogEventsInput{LogGroupName: new("g"), NextToken: new("x")}, parameter, badToken},
		{logsapi.FilterLogEventsInput{LogGroupName: new("g"), NextToken: new("AQ")}, parameter, badToken},
		{logsapi.FilterLogEventsInput{LogGroupName: new("g"), NextToken: other}, parameter, badToken},
	} {
		fails(s, logsapi.FilterLogEvents, &c.in, c.code, c.message)
	}
}

// TestFilterStopsAndGoesOn searches more than one call looks at for something that is only at the end.
func TestFilterStopsAndGoesOn(t *testing.T) {
	s := withStream(t)
	at := now() - 1000
	hay := strings.Repeat("x", 1<<20-26)
	for i := range int64(20) {
		s.put("g", "s", ev(at+i, hay))
	}
	s.put("g", "s", ev(at+20, "needle"))
	in := logsapi.FilterLogEventsInput{LogGroupName: new("g"), FilterPattern: new("needle")}
	first := ok(s, logsapi.FilterLogEvents, &in)
	if len(first.Events) != 0 || first.NextToken == nil {
		t.Errorf("first page: %d events, token %v", len(first.Events), first.NextToken)
	}
	if got := s.filter(in); !slices.Equal(got, []string{"needle"}) {
		t.Errorf("found %q", got)
	}
	// A page can end among events of the same millisecond, too.
	for range 20 {
		s.put("g", "s", ev(at+30, hay))
	}
	s.put("g", "s", ev(at+30, "needle"))
	in.StartTime = new(at + 30)
	if out := ok(s, logsapi.FilterLogEvents, &in); len(out.Events) != 0 || out.NextToken == nil {
		t.Errorf("first page of a millisecond: %d events, token %v", len(out.Events), out.NextToken)
	}
	in.StartTime = nil
	if got := s.filter(in); !slices.Equal(got, []string{"needle", "needle"}) {
		t.Errorf("found %q", got)
	}
}

// TestTail follows a group as "aws logs tail --follow" does: from the time of the last event on, leaving out ids seen before.
func TestTail(t *testing.T) {
	s := withStream(t)
	s.stream("g", "t")
	at := now()
	from := at
	seen := map[string]bool{}
	var got, want []string
	for i := range 20 {
		m := fmt.Sprint(i)
		s.put("g", []string{"s", "t"}[i%2], ev(at+int64(i/3), m))
		want = append(want, m)
		in := &logsapi.FilterLogEventsInput{LogGroupName: new("g"), StartTime: &from, Interleaved: new(true), Limit: new(int32(2))}
		for {
			out := ok(s, logsapi.FilterLogEvents, in)
			for _, e := range out.Events {
				if !seen[*e.EventId] {
					seen[*e.EventId] = true
					got = append(got, *e.Message)
				}
				from = *e.Timestamp
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("tailed %q, want %q", got, want)
	}
}

func TestLiveTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		s.stream("g", "other")
		s.group("h")
		s.stream("h", "s")
		arn := "arn:aws:logs:eu-west-1:123456789012:log-group:g"
		out := ok(s, logsapi.StartLiveTail, &logsapi.StartLiveTailInput{
			LogGroupIdentifiers: []string{arn}, LogStreamNamePrefixes: []string{"s"}, LogEventFilterPattern: new("-skip"),
		})
		at := now()
		updates := 0
		for e, err := range out.ResponseStream {
			if err != nil {
				t.Fatal(err)
			}
			if e.SessionStart != nil {
				if st := e.SessionStart; *st.SessionId == "" || *st.RequestId != "r" || st.LogGroupIdentifiers[0] != arn || *st.LogEventFilterPattern != "-skip" || updates != 0 {
					t.Errorf("start: %+v", st)
				}
				s.put("g", "s", ev(at, "one"), ev(at, "skip"), ev(at, "two"))
				s.put("g", "other", ev(at, "x"))
				s.put("h", "s", ev(at, "x"))
				continue
			}
			updates++
			results, sampled := e.SessionUpdate.SessionResults, *e.SessionUpdate.SessionMetadata.Sampled
			switch updates {
			case 1:
				want := []logsapi.LiveTailSessionLogEvent{
					{LogStreamName: new("s"), LogGroupIdentifier: new("123456789012:g"), Message: new("one"), Timestamp: &at, IngestionTime: &at},
					{LogStreamName: new("s"), LogGroupIdentifier: new("123456789012:g"), Message: new("two"), Timestamp: &at, IngestionTime: &at},
				}
				if diff := cmp.Diff(want, results); diff != "" || sampled {
					t.Errorf("first update, sampled %v (-want +got):\n%s", sampled, diff)
				}
				if passed := now() - at; passed != 1000 {
					t.Errorf("an update after %d ms", passed)
				}
			case 2:
				if len(results) != 0 || sampled {
					t.Errorf("second update has %d events, sampled %v", len(results), sampled)
				}
				var many []logsapi.InputLogEvent
				for i := range 3000 {
					many = append(many, ev(at, fmt.Sprintf("%04d", i)))
				}
				s.put("g", "s", many...)
			case 3:
				if len(results) != 500 || !sampled {
					t.Errorf("of 3000 events %d came, sampled %v", len(results), sampled)
				}
				if !slices.IsSortedFunc(results, func(a, b logsapi.LiveTailSessionLogEvent) int { return strings.Compare(*a.Message, *b.Message) }) {
					t.Error("the sample is not in order")
				}
			}
			if updates == 4 {
				break
			}
		}
		if updates != 4 {
			t.Errorf("%d updates", updates)
		}
	})
}

func TestLiveTailEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		began := time.Now()
		out := ok(s, logsapi.StartLiveTail, &logsapi.StartLiveTailInput{LogGroupIdentifiers: []string{"arn:aws:logs:eu-west-1:123456789012:log-group:g"}})
		var last error
		for _, last = range out.ResponseStream {
		}
		if last == nil || !strings.HasPrefix(last.Error(), "SessionTimeoutException") || time.Since(began) != 3*time.Hour {
			t.Errorf("after %v: %v", time.Since(began), last)
		}
	})
}

func TestLiveTailErrors(t *testing.T) {
	s := withStream(t)
	const arn = "arn:aws:logs:eu-west-1:123456789012:log-group:"
	const byARN = "Each log group must be specified by its ARN, without an asterisk at the end."
	for _, c := range []struct {
		in            logsapi.StartLiveTailInput
		code, message string
	}{
		{logsapi.StartLiveTailInput{LogGroupIdentifiers: []string{"g"}}, parameter, byARN},
		{logsapi.StartLiveTailInput{LogGroupIdentifiers: []string{arn + "x"}}, notFound, noGroup},
		{logsapi.StartLiveTailInput{LogGroupIdentifiers: []string{arn + "g"}, LogEventFilterPattern: new("%")}, parameter, "Invalid filter pattern"},
		{logsapi.StartLiveTailInput{LogGroupIdentifiers: []string{arn + "g"}, LogStreamNames: []string{"a"}, LogStreamNamePrefixes: []string{"b"}}, parameter,
			"logStreamNames and logStreamNamePrefixes are mutually exclusive parameters."},
		{logsapi.StartLiveTailInput{LogGroupIdentifiers: []string{arn + "g", arn + "h"}, LogStreamNames: []string{"a"}}, parameter,
			"logStreamNames and logStreamNamePrefixes can only be specified with one log group."},
	} {
		fails(s, logsapi.StartLiveTail, &c.in, c.code, c.message)
	}
}
