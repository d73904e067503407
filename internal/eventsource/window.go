package eventsource

import (
	"encoding/json"
	"time"
)

// Windows. A window belongs to one shard. Records are in it by their time of arrival; one that arrived before what windows have come to, as after a
// jump of the clock, counts as arrived then, so that no window is closed twice and none is begun behind another.

const (
	// maxState is the largest state, in bytes, with which a window goes on. AWS's.
	maxState = 1 << 20
	// grace is how long after its end, by the clock, a window waits for records that arrived in it and are still on their way.
	grace = time.Second
)

// window is an open window. Its exported members are stored.
type window struct {
	Start     time.Time       `json:"start"`
	End       time.Time       `json:"end"` // of a session: if nothing more arrives
	State     json.RawMessage `json:"state,omitempty"`
	Aggregate Aggregate       `json:"aggregate"`

	by    time.Time // when it is over, by the clock
	dirty bool
}

func (w *window) id() int64 { return w.Start.UnixMilli() }

// over says when the window is over by the clock: at its end, but no later than in most, though the clock was set back.
func (w *window) over(now time.Time, most time.Duration) {
	w.by = now.Add(min(w.End.Sub(now), most) + grace)
}

func (w *window) state() json.RawMessage {
	if len(w.State) == 0 {
		return json.RawMessage("{}")
	}
	return w.State
}

func (a Aggregate) slide() time.Duration {
	if a.Slide > 0 {
		return a.Slide
	}
	return a.Size
}

// pane is the number of the stretch of time, one slide long, in which t lies: records of one pane are in the same windows. Sessions have none.
func (a Aggregate) pane(t time.Time) int64 {
	n := t.UnixMilli()
	d := a.slide().Milliseconds()
	if n < 0 {
		n -= d - 1
	}
	return n / d
}

// windows returns the windows in which t lies, the oldest first.
func (a Aggregate) windows(t time.Time) (all []*window) {
	if a.Session {
		t = t.Truncate(time.Millisecond)
		return []*window{{Start: t, End: t.Add(a.Size), Aggregate: a}}
	}
	d := a.slide().Milliseconds()
	for p := a.pane(t) - (a.Size.Milliseconds()/d - 1); p <= a.pane(t); p++ {
		start := time.UnixMilli(p * d).UTC()
		all = append(all, &window{Start: start, End: start.Add(a.Size), Aggregate: a})
	}
	return all
}
