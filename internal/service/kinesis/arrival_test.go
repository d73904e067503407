package kinesis

import (
	"slices"
	"testing"
)

func TestArrivals(t *testing.T) {
	var a Service
	name := ref{"111122223333", "eu-central-1", "s"}
	var got []string
	note := func(shard string) { got = append(got, shard) }
	first, second := a.OnArrival(name.arn(), note), a.OnArrival(name.arn(), note)
	a.arrivals.ring(name, "shardId-000000000000")
	a.arrivals.ring(ref{name.account, name.region, "other"}, "x")
	first()
	a.arrivals.ring(name, "")
	second()
	a.arrivals.ring(name, "y")
	if !slices.Equal(got, []string{"shardId-000000000000", "shardId-000000000000", ""}) || len(a.arrivals.bells) > 0 {
		t.Errorf("rung %q, left %v", got, a.arrivals.bells)
	}
}
