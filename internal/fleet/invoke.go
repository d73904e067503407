package fleet

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/runtimeapi"
)

// serve runs one invocation: the init phase if the environment is fresh, the invoke phase, and the reset after a failure.
// The caller gets his answer as soon as the runtime gave it; serve returns when runtime and extensions are done too.
func (e *environment) serve(ctx context.Context, j *job) {
	fresh := e.fresh
	if fresh {
		e.initStart("init")
	}
	if j.req.LogTail { // AWS: what init prints is in the tail, INIT_START is not
		e.log.beginTail()
	}
	var initTime time.Duration
	if fresh {
		e.fresh = false
		initTime = e.initPhase(ctx, j)
		e.f.started(e)
	}
	begin := time.Now()
	timeout := time.NewTimer(e.fn.Timeout)
	defer timeout.Stop()
	v := &invocation{environment: e, job: j, begin: begin, deadline: begin.Add(e.fn.Timeout), init: initTime}
	var fail *failure
	if !e.ready {
		fail = e.suppressedInit(ctx, j)
	}
	v.start()
	if fail == nil {
		fail = v.invoke(ctx, timeout.C)
	}
	v.finish(fail)
	if fail != nil || !e.ready {
		e.reset(shutdownReason(fail))
	}
}

// initPhase is the first init of an environment, outside the invocation and with a limit of its own. If it fails, it is
// tried once more inside the invocation, so that only the time of a good init counts as such.
func (e *environment) initPhase(ctx context.Context, j *job) time.Duration {
	if e.launch.Warning != "" {
		e.log.text(time.Now(), "[WARN] "+e.launch.Warning)
	}
	d, fail := e.init(ctx, j.req.RequestID, e.f.limits.Init)
	e.initDone("init", d, fail)
	if fail != nil {
		e.reset(shutdownReason(fail))
		return 0
	}
	return d
}

// suppressedInit is the init of an environment that was reset: it runs inside the invocation, on its time.
func (e *environment) suppressedInit(ctx context.Context, j *job) *failure {
	e.initStart("invoke")
	e.setCPU(e.initCPU())
	d, fail := e.init(ctx, j.req.RequestID, e.fn.Timeout)
	e.initDone("invoke", d, fail)
	return fail
}

func (e *environment) initStart(phase string) {
	r := &initStart{
		InitializationType: e.initType(),
		Phase:              phase,
		RuntimeVersion:     e.launch.RuntimeVersion,
		RuntimeVersionARN:  e.runtimeVersionARN(),
		FunctionName:       e.fn.Name,
		FunctionVersion:    e.fn.Version,
	}
	line := ""
	if phase == "init" {
		line = r.line()
	}
	e.log.platform(time.Now(), "platform.initStart", levelInfo, r, line)
}

func (e *environment) initDone(phase string, d time.Duration, fail *failure) {
	e.drain(fail != nil)
	status, kind, level, line := "success", "", levelInfo, ""
	r := &initReport{InitializationType: e.initType(), Phase: phase, Metrics: initMetrics{millis(d)}}
	if fail != nil {
		status, kind, level = fail.status, fail.kind, levelWarn
		r.Status, r.ErrorType = status, kind
		line = r.line()
	}
	r.Status, r.ErrorType = status, kind
	now := time.Now()
	e.log.platform(now, "platform.initRuntimeDone", level, &initRuntimeDone{e.initType(), phase, status, kind}, "")
	e.log.platform(now, "platform.initReport", level, r, line)
}

// invocation is the invoke phase of a job.
type invocation struct {
	*environment
	job      *job
	begin    time.Time
	deadline time.Time
	init     time.Duration // of this invocation's cold start

	running  *runtimeapi.Running
	response *Response
	errType  string          // of an error that the handler returned
	gone     <-chan struct{} // of a response that streams: closed when nobody reads it any more
}

func (v *invocation) start() {
	r := &start{RequestID: v.job.req.RequestID, Version: v.fn.Version, Tracing: traceOf(v.job.req.Trace)}
	v.log.platform(time.Now(), "platform.start", levelInfo, r, r.line())
}

// invoke hands the event over and waits until everybody is done with it, or for the first thing that goes wrong.
func (v *invocation) invoke(ctx context.Context, timeout <-chan time.Time) *failure {
	req := v.job.req
	running, err := v.api.Invoke(&runtimeapi.Invocation{
		RequestID:       req.RequestID,
		InvokedARN:      req.InvokedARN,
		TraceID:         req.Trace,
		ClientContext:   req.ClientContext,
		CognitoIdentity: req.CognitoIdentity,
		TenantID:        req.TenantID,
		ContentType:     req.ContentType,
		Deadline:        v.deadline,
		Event:           req.Payload,
		Stream:          req.Stream,
	})
	if err != nil { // the environment was told to stop under our hands
		return exitFailure(req.RequestID, err.Error(), false)
	}
	v.running = running
	responded, failed := running.Responded(), v.api.Failure()
	for {
		select {
		case <-responded:
			responded = nil
			v.answer(running.Response())
		case <-running.Done():
			if responded != nil {
				v.answer(running.Response())
			}
			if failed := running.StreamFailure(); failed != "" {
				v.errType = failed
			}
			return nil
		case <-v.gone: // the function goes on all the same
			v.gone = nil
			v.job.stream.Close()
		case <-v.runtime.Done():
			return v.fail(v.exited(req.RequestID, failed))
		case x := <-v.exits:
			return v.fail(v.crashed(req.RequestID, failed, x))
		case f := <-failed:
			return v.fail(v.reported(req.RequestID, &f))
		case <-timeout:
			return v.fail(timeoutFailure(req.RequestID, v.fn.Timeout, time.Now()))
		case <-ctx.Done():
			return v.fail(stopFailure(req.RequestID))
		}
	}
}

// answer takes the runtime's response. Unless the log's tail is wanted, the caller has it at once.
func (v *invocation) answer(r *runtimeapi.Response) {
	if r == nil || v.response != nil {
		return
	}
	if r.Stream != nil {
		v.response = v.stream(v.job, r)
		v.gone = v.job.gone
		return
	}
	v.response = &Response{Payload: r.Body, ContentType: r.ContentType}
	if r.ErrorType != "" {
		v.errType = r.ErrorType
		v.response.FunctionError = unhandled
		if r.ErrorType == runtimeapi.ErrorTooLarge {
			v.response.Payload = oversizedPayload(runtimeapi.MaxPayload)
		}
	}
	if !v.job.req.LogTail {
		v.reply(v.job, v.response, nil)
	}
}

// fail ends the invocation from our side. A response that had come before stays the caller's answer.
func (v *invocation) fail(f *failure) *failure {
	v.answer(v.running.Abort(&StreamError{Type: f.kind, Body: f.payload}))
	return f
}

// finish writes the end of the log, the bill, and the answer if it is still due.
func (v *invocation) finish(fail *failure) {
	e, fn, req := v.environment, v.fn, v.job.req
	end := time.Now()
	duration := end.Sub(v.begin)
	var times runtimeapi.Times
	if v.running != nil {
		times = v.running.Times()
		if fail == nil {
			end = times.RuntimeNext
			if times.ExtensionNext.After(end) {
				end = times.ExtensionNext
			}
			duration = end.Sub(v.begin)
		}
	}
	status, kind := "success", ""
	switch {
	case fail != nil:
		status, kind = fail.status, fail.kind
		if status == "timeout" {
			duration = fn.Timeout
		}
		if v.response == nil {
			v.response = &Response{Payload: fail.payload, FunctionError: unhandled}
		}
		if !req.LogTail {
			v.reply(v.job, v.response, nil)
		}
	case v.errType != "":
		status, kind = "error", v.errType
	}

	e.drain(fail != nil)
	level := levelInfo
	if status != "success" {
		level = levelWarn
	}
	if fail != nil {
		e.log.text(end, fail.line)
	}
	if e.log.recorded() {
		done := runtimeDone{
			RequestID: req.RequestID, Status: status, ErrorType: kind, Tracing: traceOf(req.Trace),
			Metrics: runtimeDoneMetrics{DurationMs: millis(duration), ProducedBytes: times.ProducedBytes},
		}
		if !times.RuntimeNext.IsZero() {
			done.Metrics.DurationMs = millis(times.RuntimeNext.Sub(v.begin))
			done.Spans = spans(times)
		}
		e.log.platform(end, "platform.runtimeDone", level, &done, "")
	}
	e.log.text(end, "END RequestId: "+req.RequestID)

	r := report{
		RequestID: req.RequestID, Status: status, ErrorType: kind, Tracing: traceOf(req.Trace), platform: fail != nil,
		Metrics: reportMetrics{
			DurationMs:       millis(duration),
			BilledDurationMs: billed(v.init + duration),
			MemorySizeMB:     fn.MemoryMB,
			MaxMemoryUsedMB:  e.peakMB(),
			InitDurationMs:   millis(v.init),
		},
	}
	e.log.platform(end, "platform.report", level, &r, r.line())
	e.f.deps.Meter.Record(Usage{
		Account: fn.Account, Region: fn.Region, Function: fn.Name, Version: fn.Version, Architecture: fn.Architecture,
		MemoryMB: fn.MemoryMB, End: end, Init: v.init, Duration: duration, BilledMs: r.Metrics.BilledDurationMs,
		Failed: status != "success",
	})
	if req.LogTail {
		tail := e.log.endTail()
		if v.job.stream != nil {
			v.job.stream.logTail = tail
		} else {
			v.response.LogTail = tail
		}
	}
	v.reply(v.job, v.response, nil)
	if v.job.stream != nil {
		close(v.job.stream.ended)
	}
}

// peakMB is the most memory that the environment has used, in whole MB, rounded up.
func (e *environment) peakMB() int64 {
	peak, err := e.box.PeakMemory()
	if err != nil {
		return 0
	}
	return (peak + 1<<20 - 1) >> 20
}

// spans are the parts of an invocation as the Telemetry API names them.
func spans(t runtimeapi.Times) []span {
	at := func(t time.Time) string { return t.UTC().Format(lineTime) }
	return []span{
		{"responseLatency", at(t.Start), millis(t.ResponseStart.Sub(t.Start))},
		{"responseDuration", at(t.ResponseStart), millis(t.ResponseEnd.Sub(t.ResponseStart))},
		{"runtimeOverhead", at(t.ResponseEnd), millis(t.RuntimeNext.Sub(t.ResponseEnd))},
	}
}

// shutdownReason is what extensions are told when the environment is reset.
func shutdownReason(f *failure) string {
	if f != nil && f.status == "timeout" {
		return runtimeapi.ShutdownTimeout
	}
	return runtimeapi.ShutdownFailure
}
