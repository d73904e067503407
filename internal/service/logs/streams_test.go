package logs_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
)

func (s *service) streams(in logsapi.DescribeLogStreamsInput) []string {
	s.Helper()
	var names []string
	for {
		out := ok(s, logsapi.DescribeLogStreams, &in)
		for _, st := range out.LogStreams {
			names = append(names, *st.LogStreamName)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return names
		}
	}
}

func TestStreamErrors(t *testing.T) {
	s := start(t)
	fails(s, logsapi.CreateLogStream, &logsapi.CreateLogStreamInput{LogGroupName: new("g"), LogStreamName: new("s")}, notFound, noGroup)
	fails(s, logsapi.DeleteLogStream, &logsapi.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("s")}, notFound, noGroup)
	fails(s, logsapi.DescribeLogStreams, &logsapi.DescribeLogStreamsInput{LogGroupName: new("g")}, notFound, noGroup)
	s.group("g")
	s.stream("g", "s")
	fails(s, logsapi.CreateLogStream, &logsapi.CreateLogStreamInput{LogGroupName: new("g"), LogStreamName: new("s")}, exists, "The specified log stream already exists")
	fails(s, logsapi.DeleteLogStream, &logsapi.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("t")}, notFound, noStream)
	fails(s, logsapi.DescribeLogStreams, &logsapi.DescribeLogStreamsInput{LogGroupName: new("g"), OrderBy: new("LastEventTime"), LogStreamNamePrefix: new("s")}, parameter,
		"Cannot order by LastEventTime with a logStreamNamePrefix.")
	fails(s, logsapi.DescribeLogStreams, &logsapi.DescribeLogStreamsInput{LogGroupName: new("g"), NextToken: new("x!")}, parameter, badToken)
}

func TestDescribeStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		s.group("g")
		created := now()
		s.stream("g", "2026/01/02/[$LATEST]abc")
		time.Sleep(time.Minute)
		describe := func() logsapi.LogStream {
			t.Helper()
			out := ok(s, logsapi.DescribeLogStreams, &logsapi.DescribeLogStreamsInput{LogGroupName: new("g")})
			if len(out.LogStreams) != 1 {
				t.Fatalf("%d streams", len(out.LogStreams))
			}
			return out.LogStreams[0]
		}
		want := logsapi.LogStream{
			LogStreamName: new("2026/01/02/[$LATEST]abc"), CreationTime: &created, StoredBytes: new(int64(0)),
			Arn: new("arn:aws:logs:eu-west-1:123456789012:log-group:g:log-stream:2026/01/02/[$LATEST]abc"),
		}
		if diff := cmp.Diff(want, describe()); diff != "" {
			t.Errorf("without events (-want +got):\n%s", diff)
		}
		at := now()
		s.put("g", *want.LogStreamName, ev(at-500, "b"), ev(at-100, "c"))
		out := s.put("g", *want.LogStreamName, ev(at-1000, "a"))
		want.FirstEventTimestamp, want.LastEventTimestamp, want.LastIngestionTime = new(at-1000), new(at-100), &at
		want.UploadSequenceToken = out.NextSequenceToken
		if diff := cmp.Diff(want, describe()); diff != "" {
			t.Errorf("with events (-want +got):\n%s", diff)
		}
	})
}

func TestOrderStreams(t *testing.T) {
	s := start(t)
	s.group("g")
	at := now()
	for i, n := range []string{"c", "a", "d", "b"} {
		s.stream("g", n)
		if n != "d" {
			s.put("g", n, ev(at+int64(i), n))
		}
	}
	s.put("g", "c", ev(at-5, "older"))
	s.put("g", "a", ev(at+9, "newer"))
	for _, c := range []struct {
		order string
		desc  bool
		want  []string
	}{
		{"LogStreamName", false, []string{"a", "b", "c", "d"}},
		{"LogStreamName", true, []string{"d", "c", "b", "a"}},
		{"LastEventTime", false, []string{"d", "c", "b", "a"}},
		{"LastEventTime", true, []string{"a", "b", "c", "d"}},
	} {
		for _, limit := range []int32{1, 2, 3, 50} {
			if got := s.streams(logsapi.DescribeLogStreamsInput{LogGroupName: new("g"), OrderBy: &c.order, Descending: &c.desc, Limit: &limit}); !slices.Equal(got, c.want) {
				t.Errorf("by %s, descending %v, limit %d: %q, want %q", c.order, c.desc, limit, got, c.want)
			}
		}
	}
	for _, n := range []string{"aa", "ab"} {
		s.stream("g", n)
	}
	if got := s.streams(logsapi.DescribeLogStreamsInput{LogGroupName: new("g"), LogStreamNamePrefix: new("a"), Descending: new(true), Limit: new(int32(2))}); !slices.Equal(got, []string{"ab", "aa", "a"}) {
		t.Errorf("by prefix: %q", got)
	}
	ok(s, logsapi.DeleteLogStream, &logsapi.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("a")})
	if got := s.streams(logsapi.DescribeLogStreamsInput{LogGroupName: new("g"), OrderBy: new("LastEventTime"), Limit: new(int32(1)), Descending: new(true)}); !slices.Equal(got, []string{"b", "c", "d", "ab", "aa"}) {
		t.Errorf("after a deletion: %q", got)
	}
}
