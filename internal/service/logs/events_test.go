package logs_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
)

// withStream returns a service with the stream s in the group g.
func withStream(t *testing.T) *service {
	t.Helper()
	s := start(t)
	s.group("g")
	s.stream("g", "s")
	return s
}

func TestPutAndGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		at := now()
		out := s.put("g", "s", ev(at-2, "one"), ev(at-1, "two\n"), ev(at-1, "drei ü"))
		if out.RejectedLogEventsInfo != nil || !regexp.MustCompile(`^\d{56}$`).MatchString(*out.NextSequenceToken) {
			t.Errorf("PutLogEvents = %+v", out)
		}
		time.Sleep(time.Second)
		// The sequence token is taken and ignored.
		ok(s, logsapi.PutLogEvents, &logsapi.PutLogEventsInput{
			LogGroupName: new("g"), LogStreamName: new("s"), LogEvents: []logsapi.InputLogEvent{ev(at-1, "vier")}, SequenceToken: new("any"),
		})
		want := []logsapi.OutputLogEvent{
			{Timestamp: new(at - 2), Message: new("one"), IngestionTime: &at},
			{Timestamp: new(at - 1), Message: new("two\n"), IngestionTime: &at},
			{Timestamp: new(at - 1), Message: new("drei ü"), IngestionTime: &at},
			{Timestamp: new(at - 1), Message: new("vier"), IngestionTime: new(at + 1000)},
		}
		for _, fromHead := range []bool{false, true} {
			got := ok(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{LogGroupIdentifier: new("g"), LogStreamName: new("s"), StartFromHead: &fromHead})
			if diff := cmp.Diff(want, got.Events); diff != "" {
				t.Errorf("from head %v (-want +got):\n%s", fromHead, diff)
			}
		}
		if got, want := *s.describe("g").StoredBytes, int64(3+4+7+4+4*26); got != want {
			t.Errorf("storedBytes %d, want %d", got, want)
		}
	})
}

func TestPutErrors(t *testing.T) {
	s := withStream(t)
	at := now()
	try := func(code, message string, events ...logsapi.InputLogEvent) {
		t.Helper()
		fails(s, logsapi.PutLogEvents, &logsapi.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), LogEvents: events}, code, message)
	}
	fails(s, logsapi.PutLogEvents, &logsapi.PutLogEventsInput{LogGroupName: new("x"), LogStreamName: new("s"), LogEvents: []logsapi.InputLogEvent{ev(at, "x")}}, notFound, noGroup)
	fails(s, logsapi.PutLogEvents, &logsapi.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("x"), LogEvents: []logsapi.InputLogEvent{ev(at, "x")}}, notFound, noStream)
	try(parameter, "Log events in a single PutLogEvents request must be in chronological order.", ev(at, "b"), ev(at-1, "a"))
	try(parameter, "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.", ev(at-days(1)-1, "a"), ev(at, "b"))
	try(parameter, "Log event too large: 1048577 bytes exceeds limit of 1048576", ev(at, strings.Repeat("x", 1<<20-25)))
	half := strings.Repeat("x", 1<<19-26)
	try(parameter, "Upload too large: 1048577 bytes exceeds limit of 1048576", ev(at, half), ev(at, half+"x"))
	if got := s.messages("g", "s"); got != nil {
		t.Errorf("stored in spite of errors: %d messages", len(got))
	}
	s.put("g", "s", ev(at, half), ev(at, half))
	s.put("g", "s", ev(at, strings.Repeat("y", 1<<20-26)))
	s.put("g", "s", ev(at-days(1), "a"), ev(at, "b"))
	if got := s.messages("g", "s"); len(got) != 5 {
		t.Errorf("%d messages, want 5", len(got))
	}
}

func TestRejectedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withStream(t)
		at := now()
		hour := time.Hour.Milliseconds()
		try := func(want *logsapi.RejectedLogEventsInfo, events ...logsapi.InputLogEvent) {
			t.Helper()
			if diff := cmp.Diff(want, s.put("g", "s", events...).RejectedLogEventsInfo); diff != "" {
				t.Errorf("rejected (-want +got):\n%s", diff)
			}
		}
		try(nil, ev(at-days(14), "oldest"))
		try(nil, ev(at+2*hour, "newest"))
		try(&logsapi.RejectedLogEventsInfo{TooOldLogEventEndIndex: new(int32(2)), TooNewLogEventStartIndex: new(int32(3))},
			ev(at-days(20), "x"), ev(at-days(14)-1, "x"), ev(at, "kept"), ev(at+2*hour+1, "x"))
		try(&logsapi.RejectedLogEventsInfo{TooNewLogEventStartIndex: new(int32(0))}, ev(at+3*hour, "x"), ev(at+days(30), "x"))
		try(&logsapi.RejectedLogEventsInfo{TooOldLogEventEndIndex: new(int32(1))}, ev(1, "x"))
		ok(s, logsapi.PutRetentionPolicy, &logsapi.PutRetentionPolicyInput{LogGroupName: new("g"), RetentionInDays: new(int32(3))})
		try(&logsapi.RejectedLogEventsInfo{TooOldLogEventEndIndex: new(int32(1)), ExpiredLogEventEndIndex: new(int32(3))},
			ev(at-days(15), "x"), ev(at-days(4), "x"), ev(at-days(3)-1, "x"), ev(at-days(3), "kept too"))
		ok(s, logsapi.DeleteRetentionPolicy, &logsapi.DeleteRetentionPolicyInput{LogGroupName: new("g")})
		if got, want := s.messages("g", "s"), []string{"oldest", "kept too", "kept", "newest"}; !slices.Equal(got, want) {
			t.Errorf("messages %q, want %q", got, want)
		}
	})
}

func TestGetErrors(t *testing.T) {
	s := withStream(t)
	s.stream("g", "t")
	s.put("g", "s", ev(now(), "x"))
	get := func(in logsapi.GetLogEventsInput, code, message string) {
		t.Helper()
		fails(s, logsapi.GetLogEvents, &in, code, message)
	}
	get(logsapi.GetLogEventsInput{LogGroupName: new("x"), LogStreamName: new("s")}, notFound, noGroup)
	get(logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("x")}, notFound, noStream)
	other := ok(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("t")}).NextForwardToken
	for _, token := range []string{"x", "n/" + strings.Repeat("0", 56) + "/s", "f/" + strings.Repeat("0", 55), "f/" + strings.Repeat("x", 56), *other} {
		get(logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), NextToken: &token}, parameter, badToken)
	}
}

func TestGetTimeRange(t *testing.T) {
	s := withStream(t)
	at := now() - 1000
	for i := range int64(10) {
		s.put("g", "s", ev(at+i, fmt.Sprint(i)))
	}
	for _, fromHead := range []bool{false, true} {
		got := ok(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{
			LogGroupName: new("g"), LogStreamName: new("s"), StartTime: new(at + 3), EndTime: new(at + 6), StartFromHead: &fromHead,
		}).Events
		if len(got) != 3 || *got[0].Message != "3" || *got[2].Message != "5" {
			t.Errorf("from head %v: %d events", fromHead, len(got))
		}
	}
	if got := ok(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{
		LogGroupName: new("g"), LogStreamName: new("s"), StartTime: new(at + 6), EndTime: new(at + 3),
	}); got.Events == nil || len(got.Events) != 0 || got.NextForwardToken == nil || got.NextBackwardToken == nil {
		t.Errorf("with the end before the start: %+v", got)
	}
	if got := ok(s, logsapi.GetLogEvents, &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), StartTime: new(int64(1<<63 - 1)), EndTime: new(int64(1<<63 - 1))}); len(got.Events) != 0 {
		t.Errorf("from the end of time: %+v", got)
	}
}

// TestFollow reads a stream as a follower does: an empty page gives its token back, and what comes later is behind it.
func TestFollow(t *testing.T) {
	for _, fromHead := range []bool{true, false} {
		s := withStream(t)
		in := &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), StartFromHead: &fromHead}
		at := now()
		var got []string
		for i := range 5 {
			for {
				out := ok(s, logsapi.GetLogEvents, in)
				for _, e := range out.Events {
					got = append(got, *e.Message)
				}
				end := in.NextToken != nil && *in.NextToken == *out.NextForwardToken
				if end != (len(out.Events) == 0 && in.NextToken != nil) {
					t.Fatalf("a page of %d events, token given back: %v", len(out.Events), end)
				}
				in.NextToken = out.NextForwardToken
				if end {
					break
				}
			}
			s.put("g", "s", ev(at+int64(i/2), fmt.Sprint(i)))
		}
		if want := []string{"0", "1", "2", "3"}; !slices.Equal(got, want) {
			t.Errorf("from head %v: followed %q, want %q", fromHead, got, want)
		}
		// And back again from the end.
		in.NextToken = ok(s, logsapi.GetLogEvents, in).NextForwardToken
		in.NextToken = ok(s, logsapi.GetLogEvents, in).NextBackwardToken
		in.Limit = new(int32(2))
		out := ok(s, logsapi.GetLogEvents, in)
		if len(out.Events) != 2 || *out.Events[0].Message != "3" || *out.Events[1].Message != "4" {
			t.Errorf("from head %v: back from the end: %d events", fromHead, len(out.Events))
		}
	}
}

func TestPageBytes(t *testing.T) {
	s := withStream(t)
	at := now()
	big := strings.Repeat("x", 400<<10)
	for i := range int64(6) {
		s.put("g", "s", ev(at+i, big))
	}
	in := &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s"), StartFromHead: new(true)}
	for _, want := range []int{2, 2, 2, 0} {
		out := ok(s, logsapi.GetLogEvents, in)
		if len(out.Events) != want {
			t.Errorf("a page of %d events, want %d", len(out.Events), want)
		}
		in.NextToken = out.NextForwardToken
	}
	if n := len(s.filter(logsapi.FilterLogEventsInput{LogGroupName: new("g")})); n != 6 {
		t.Errorf("FilterLogEvents found %d events, want 6", n)
	}
}

// TestAgainstModel puts random batches whose times overlap into a few streams, and reads them in every way with pages of
// random size. The model is the list of all events, sorted stably.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { againstModel(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

type modelEvent struct {
	ts      int64
	message string
	stream  string
}

func againstModel(t *testing.T, rnd *rand.Rand) {
	s := start(t)
	s.group("g")
	at := now() - days(2)
	streams := []string{"a", "b", "ba"}
	for _, st := range streams {
		s.stream("g", st)
	}
	span := []int64{10, 3000, 200_000, days(1)}[rnd.IntN(4)]
	var all []modelEvent
	for batch := range 60 {
		st := streams[rnd.IntN(len(streams))]
		n := 1 + rnd.IntN(40)
		base := at + rnd.Int64N(span)
		var events []logsapi.InputLogEvent
		ts := base
		for i := range n {
			if rnd.IntN(3) == 0 && ts < base+days(1)-span {
				ts += rnd.Int64N(span / 4)
			}
			m := fmt.Sprintf("%d.%d %s", batch, i, strings.Repeat("pad ", rnd.IntN(50)))
			events = append(events, ev(ts, m))
			all = append(all, modelEvent{ts, m, st})
		}
		if out := s.put("g", st, events...); out.RejectedLogEventsInfo != nil {
			t.Fatalf("rejected: %+v", out.RejectedLogEventsInfo)
		}
	}
	slices.SortStableFunc(all, func(a, b modelEvent) int { return int(a.ts - b.ts) })
	choose := func(ok func(modelEvent) bool) (messages []string) {
		for _, e := range all {
			if ok(e) {
				messages = append(messages, e.message)
			}
		}
		return messages
	}

	for _, st := range streams {
		from, to := at+rnd.Int64N(span), at+rnd.Int64N(2*span)
		for _, ranged := range []bool{false, true} {
			want := choose(func(e modelEvent) bool { return e.stream == st && (!ranged || from <= e.ts && e.ts < to) })
			for _, fromHead := range []bool{true, false} {
				in := &logsapi.GetLogEventsInput{LogGroupName: new("g"), LogStreamName: &st, StartFromHead: &fromHead}
				if ranged {
					in.StartTime, in.EndTime = &from, &to
				}
				var got []string
				for {
					in.Limit = new(1 + rnd.Int32N(90))
					out := ok(s, logsapi.GetLogEvents, in)
					var page []string
					for _, e := range out.Events {
						page = append(page, *e.Message)
					}
					token := out.NextForwardToken
					if fromHead {
						got = append(got, page...)
					} else {
						got = append(page, got...)
						token = out.NextBackwardToken
					}
					if in.NextToken != nil && *in.NextToken == *token {
						break
					}
					in.NextToken = token
				}
				if !slices.Equal(got, want) {
					t.Fatalf("span %d, stream %s, from head %v, ranged %v: got %d events, want %d:\n%s", span, st, fromHead, ranged, len(got), len(want), cmp.Diff(want, got))
				}
			}
		}
	}

	// Across streams, events with the same timestamp may come in any order of streams, so compare as sorted by it.
	for _, c := range []struct {
		in logsapi.FilterLogEventsInput
		ok func(modelEvent) bool
	}{
		{logsapi.FilterLogEventsInput{}, func(modelEvent) bool { return true }},
		{logsapi.FilterLogEventsInput{LogStreamNames: []string{"a", "ba"}}, func(e modelEvent) bool { return e.stream != "b" }},
		{logsapi.FilterLogEventsInput{LogStreamNamePrefix: new("b")}, func(e modelEvent) bool { return e.stream != "a" }},
		{logsapi.FilterLogEventsInput{FilterPattern: new(`"7." pad`)}, func(e modelEvent) bool {
			return strings.Contains(e.message, "7.") && strings.Contains(e.message, "pad")
		}},
		{logsapi.FilterLogEventsInput{StartTime: new(at + span/3), EndTime: new(at + span/2)}, func(e modelEvent) bool {
			return at+span/3 <= e.ts && e.ts <= at+span/2
		}},
	} {
		in := c.in
		in.LogGroupName = new("g")
		var got []modelEvent
		ids := map[string]bool{}
		for {
			in.Limit = new(1 + rnd.Int32N(90))
			out := ok(s, logsapi.FilterLogEvents, &in)
			for _, e := range out.Events {
				got = append(got, modelEvent{*e.Timestamp, *e.Message, *e.LogStreamName})
				ids[*e.EventId] = true
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
		if !slices.IsSortedFunc(got, func(a, b modelEvent) int { return int(a.ts - b.ts) }) {
			t.Errorf("%+v: not in the order of time", c.in)
		}
		if len(ids) != len(got) {
			t.Errorf("%+v: %d event ids for %d events", c.in, len(ids), len(got))
		}
		for _, st := range streams {
			want := choose(func(e modelEvent) bool { return e.stream == st && c.ok(e) })
			var mine []string
			for _, e := range got {
				if e.stream == st {
					mine = append(mine, e.message)
				}
			}
			if !slices.Equal(mine, want) {
				t.Fatalf("span %d, %+v, stream %s:\n%s", span, c.in, st, cmp.Diff(want, mine))
			}
		}
	}
}
