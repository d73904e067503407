package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Lanes of the queue begin with what their items are; the rest is the function, and of deliveries the target.
const (
	eventLane    = "event"
	deliveryLane = "delivery"
)

// event is the state of an asynchronous invocation in the queue. The body is the payload, the item's ID is the request id.
type event struct {
	Account   string `json:"account"`
	Region    string `json:"region"`
	Name      string `json:"name"`
	Qualifier string `json:"qualifier,omitempty"` // as invoked
	Trace     string `json:"trace"`
	Tenant    string `json:"tenant,omitempty"`

	Invokes  int `json:"invokes,omitempty"`  // times that the function ran and failed
	Troubles int `json:"troubles,omitempty"` // errors of ours in a row
}

func (e *event) scope() scope { return scope{e.Account, e.Region} }

func (e *event) reference() reference { return reference{name: e.Name, qualifier: e.Qualifier} }

// configured is the qualifier whose EventInvokeConfig holds.
func (e *event) configured() string {
	if e.Qualifier == "" {
		return latest
	}
	return e.Qualifier
}

// accept queues an asynchronous invocation of a function that was found, and returns once it is durable.
func (s *Service) accept(ctx context.Context, c scope, ref reference, payload []byte, tenant string) error {
	if len(payload) == 0 {
		payload = emptyEvent
	}
	if err := checkJSON(payload); err != nil {
		return err
	}
	info := call.From(ctx)
	state, err := json.Marshal(&event{
		Account: c.account, Region: c.region, Name: ref.name, Qualifier: ref.qualifier, Trace: trace(info), Tenant: tenant,
	})
	if err != nil {
		return err
	}
	item := durable.Item{ID: info.RequestID, State: state, Body: payload}
	return s.db.Update(ctx, func(tx kv.Tx) error { return s.queue.Add(tx, c.lane(eventLane, ref.name), item) })
}

// lane is the lane of a function's items of one kind.
func (c scope) lane(kind, name string) string {
	return kind + "/" + c.account + "/" + c.region + "/" + name
}

func tooLargeEvent(n, limit int) error {
	return lambdaapi.ErrRequestTooLargeException("%d byte payload is too large for the Event invocation type (limit %d bytes)", n, limit)
}

// invokeAsync serves the operation that came before InvocationType Event.
func (s *Service) invokeAsync(ctx context.Context, in *lambdaapi.InvokeAsyncInput) (*lambdaapi.InvokeAsyncOutput, error) {
	c, ref, err := locate(ctx, "InvokeAsync", in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	var payload []byte
	if in.InvokeArgs != nil {
		payload, err = io.ReadAll(io.LimitReader(in.InvokeArgs, int64(s.limits.EventBytes)+1))
		if err != nil {
			return nil, err
		}
	}
	if len(payload) > s.limits.EventBytes {
		return nil, tooLargeEvent(len(payload), s.limits.EventBytes)
	}
	t, err := s.target(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	if err := t.first.checkTenant(nil); err != nil {
		return nil, err
	}
	if err := s.accept(ctx, c, ref, payload, ""); err != nil {
		return nil, err
	}
	return &lambdaapi.InvokeAsyncOutput{Status: &statusAccepted}, nil
}

// work is the queue's handler.
func (s *Service) work(ctx context.Context, w *durable.Work) durable.Outcome {
	if strings.HasPrefix(w.Lane, deliveryLane+"/") {
		return s.deliver(ctx, w)
	}
	var e event
	if err := json.Unmarshal(w.State, &e); err != nil {
		s.log.Error("event dropped: its state cannot be read", "requestId", w.ID, "err", err)
		return durable.Done(nil)
	}
	return s.attempt(ctx, w, &e)
}

// Conditions of destination records. AWS names the first three; the others are ours.
const (
	conditionSuccess   = "Success"
	conditionRetries   = "RetriesExhausted"
	conditionAge       = "EventAgeExceeded"
	conditionSwitched  = "ZeroReservedConcurrency"
	conditionRecursive = "RecursiveInvocation"
)

// attempt runs an asynchronous invocation once and decides what becomes of it.
func (s *Service) attempt(ctx context.Context, w *durable.Work, e *event) durable.Outcome {
	c := e.scope()
	conf, err := s.eventInvokeConfig(ctx, c, e.Name, e.configured())
	if err != nil {
		return s.trouble(ctx, w, e, conf, err)
	}
	t, err := s.target(ctx, c, e.reference())
	if apierr.Code(err) == "ResourceNotFoundException" {
		s.log.Warn("event dropped: its function is gone", "function", c.qualifiedARN(e.Name, e.Qualifier), "requestId", w.ID)
		return durable.Done(nil)
	}
	if conf.expired(w, 0, s.now()) {
		return s.fail(w, e, conf, t, conditionAge, nil)
	}
	if err != nil {
		return s.trouble(ctx, w, e, conf, err)
	}
	lineage, loop := nextLineage(e.Trace, t.first.function.ARN)
	if loop {
		allowed, err := s.loopAllowed(ctx, c, e.Name)
		if err != nil {
			return s.trouble(ctx, w, e, conf, err)
		}
		if !allowed {
			s.log.Warn("recursive loop stopped", "function", t.first.function.ARN, "requestId", w.ID)
			return s.fail(w, e, conf, t, conditionRecursive, nil)
		}
	}
	x := t.pick()
	if !x.code.take() {
		s.targets.change(c, e.Name)() // replaced since it was looked up
		return durable.Hold(time.Millisecond, nil)
	}
	res, err := s.invoker.Invoke(ctx, x.function, &fleet.Request{
		RequestID: w.ID, InvokedARN: t.arn, Trace: lineage, TenantID: e.Tenant, Payload: w.Body, Background: true,
	})
	x.code.give()
	throttled, isThrottled := errors.AsType[*fleet.ThrottledError](err)
	switch {
	case ctx.Err() != nil && err != nil, errors.Is(err, fleet.ErrStopping):
		return durable.Hold(0, nil)
	case isThrottled && throttled.RetryAfter == 0: // switched off
		return s.fail(w, e, conf, t, conditionSwitched, nil)
	case isThrottled:
		return durable.Hold(0, throttled.Freed)
	case err != nil:
		return s.trouble(ctx, w, e, conf, err)
	}
	e.Invokes++
	e.Troubles = 0
	response := &response{version: x.version, functionError: res.FunctionError, payload: res.Payload}
	if res.FunctionError == "" {
		return s.conclude(w, e, conf, t, conditionSuccess, response)
	}
	if e.Invokes > conf.retries() {
		return s.fail(w, e, conf, t, conditionRetries, response)
	}
	wait := s.limits.RetryWait * time.Duration(e.Invokes)
	if conf.expired(w, wait, s.now()) {
		return s.fail(w, e, conf, t, conditionAge, response)
	}
	return s.again(wait, e)
}

// trouble puts an invocation off for a reason that is not the function's.
func (s *Service) trouble(ctx context.Context, w *durable.Work, e *event, conf *eventInvoke, err error) durable.Outcome {
	if ctx.Err() != nil {
		return durable.Hold(0, nil)
	}
	if conf != nil && conf.expired(w, 0, s.now()) {
		return s.fail(w, e, conf, nil, conditionAge, nil)
	}
	wait := s.backOff(e.Troubles)
	e.Troubles++
	s.log.Warn("asynchronous invocation failed: trying again", "function", e.scope().qualifiedARN(e.Name, e.Qualifier), "requestId", w.ID, "wait", wait, "err", err)
	return s.again(wait, e)
}

// backOff is AWS's wait after n errors in a row that are not the function's: 1 s, doubled up to 5 min.
func (s *Service) backOff(n int) time.Duration {
	return min(s.limits.BackOff<<min(n, 20), 300*s.limits.BackOff)
}

func (s *Service) again(wait time.Duration, e *event) durable.Outcome {
	state, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers
	}
	return durable.Retry(wait, state, nil)
}

// response is what a function answered.
type response struct {
	version, functionError string
	payload                []byte
}

// fail ends an invocation that is given up. t is nil if what was invoked cannot be told any more.
func (s *Service) fail(w *durable.Work, e *event, conf *eventInvoke, t *target, condition string, r *response) durable.Outcome {
	s.log.Warn("asynchronous invocation given up", "function", e.scope().qualifiedARN(e.Name, e.Qualifier), "requestId", w.ID, "condition", condition,
		"invokes", e.Invokes)
	return s.conclude(w, e, conf, t, condition, r)
}

// conclude ends an invocation: what follows of it is queued in the same transaction.
func (s *Service) conclude(w *durable.Work, e *event, conf *eventInvoke, t *target, condition string, r *response) durable.Outcome {
	var role, dead string
	if t != nil {
		role, dead = t.first.function.RoleARN, t.first.deadLetter
	}
	now := s.now()
	all := deliveries(w, e, conf, role, dead, condition, r, now)
	if len(all) == 0 {
		return durable.Done(nil)
	}
	return durable.Done(func(tx kv.Tx) error {
		for _, d := range all {
			if err := d.add(tx, s.queue); err != nil {
				return err
			}
		}
		return nil
	})
}

var statusAccepted = int32(http.StatusAccepted)
