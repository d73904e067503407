package runtimeapi

import "time"

// pace slows a stream down to rate bytes per second once burst bytes are used up; unused time gives bytes back, up to
// burst. A negative rate is no limit.
type pace struct {
	rate, burst int64
	budget      float64
	last        time.Time
}

// wait lets n bytes pass, after a while if the budget is spent. It ends early when one of the channels is closed.
func (p *pace) wait(n int64, gone, aborted <-chan struct{}) {
	if p.rate < 0 {
		return
	}
	now := time.Now()
	if p.last.IsZero() {
		p.budget = float64(p.burst)
	} else {
		p.budget = min(float64(p.burst), p.budget+now.Sub(p.last).Seconds()*float64(p.rate))
	}
	p.last = now
	p.budget -= float64(n)
	if p.budget >= 0 {
		return
	}
	t := time.NewTimer(time.Duration(-p.budget / float64(p.rate) * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-gone:
	case <-aborted:
	}
}
