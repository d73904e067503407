package call

import (
	"fmt"
	"strings"
	"testing"
)

const arnOf = "arn:aws:lambda:us-east-1:111122223333:function:"

func TestCountInTrace(t *testing.T) {
	trace := "Root=1-2-3;Parent=4;Sampled=0"
	for n := range 40 {
		var before int
		if trace, before = CountInTrace(trace, arnOf+"f"); before != n {
			t.Errorf("invocation %d of a chain follows %d", n+1, before)
		}
		trace, _ = CountInTrace(trace, arnOf+"g")
	}
	if !strings.HasPrefix(trace, "Root=1-2-3;Parent=4;Sampled=0;Lineage=1:") || strings.Count(trace, "|") != 1 {
		t.Error(trace)
	}
	for i := range 100 {
		trace, _ = CountInTrace(trace, fmt.Sprint(arnOf, i))
	}
	if n := strings.Count(trace, "|"); n != lineageEntries-1 {
		t.Errorf("%d entries: %s", n+1, trace)
	}
	if got, before := CountInTrace("Lineage=x|1:2:-5|1:zz:huge;;Root=1", arnOf+"f"); before != 0 || !strings.HasPrefix(got, "Root=1;Lineage=1:") || strings.Contains(got, "|") {
		t.Errorf("of a malformed one: %s", got)
	}
}

func TestJoinTraces(t *testing.T) {
	for _, c := range []struct {
		traces []string
		want   string
	}{
		{nil, ""},
		{[]string{"", ""}, ""},
		{[]string{"", "Root=1;Lineage=1:aa:2", "Root=1;Lineage=1:aa:2"}, "Root=1;Lineage=1:aa:2"},
		{[]string{"Root=1", "Root=2;Lineage=1:aa:2"}, "Root=1;Lineage=1:aa:2"},
		{[]string{"Root=1;Lineage=1:aa:7|1:bb:1", "Root=2;Lineage=1:bb:9|1:cc:3"}, "Root=1;Lineage=1:cc:3|1:aa:7|1:bb:9"},
		{[]string{"Root=1", "Root=2"}, "Root=1"},
	} {
		if got := JoinTraces(c.traces); got != c.want {
			t.Errorf("of %q is %q, not %q", c.traces, got, c.want)
		}
	}
}
