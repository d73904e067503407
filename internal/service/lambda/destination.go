package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/kv"
	deliver "github.com/mayflyhq/mayfly/internal/target"
)

// Limits of deliveries.
const (
	deniedDeliveries  = 3 // tries of what the target refuses
	longestDelivery   = 6 * time.Hour
	deadLetterMessage = 1 << 10 // bytes of the attribute ErrorMessage
)

// delivery is the state of a record on its way to a destination, or of an event to a dead-letter queue. The body is what is
// delivered.
type delivery struct {
	Account    string              `json:"account"`
	Region     string              `json:"region"`
	Name       string              `json:"name"` // of the function
	Role       string              `json:"role"`
	Target     string              `json:"target"`
	RequestID  string              `json:"requestId"`
	Trace      string              `json:"trace,omitempty"`
	Attributes []deliver.Attribute `json:"attributes,omitempty"`
	DetailType string              `json:"detailType,omitempty"`
	Resources  []string            `json:"resources,omitempty"`
	Key        string              `json:"key,omitempty"`

	id   string
	body []byte
}

func (d *delivery) add(tx kv.Tx, q *durable.Queue) error {
	state, err := json.Marshal(d)
	if err != nil {
		return err
	}
	lane := scope{d.Account, d.Region}.lane(deliveryLane, d.Name) + "/" + d.Target
	return q.Add(tx, lane, durable.Item{ID: d.id, State: state, Body: d.body})
}

// record is what a destination gets. Its form is AWS's (recorded 2025-11).
type record struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	RequestContext  requestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload,omitempty"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID    string `json:"requestId"`
	FunctionARN  string `json:"functionArn"`
	Condition    string `json:"condition"`
	ApproxInvoke int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError,omitempty"`
}

// deliveries is what follows of an invocation that has ended: to the destination of its condition, and to the dead-letter queue of
// one that failed.
func deliveries(w *durable.Work, e *event, conf *eventInvoke, role, dead, condition string, r *response, now time.Time) (all []*delivery) {
	c := e.scope()
	lineage, _ := nextLineage(e.Trace, c.qualifiedARN(e.Name, ""))
	base := delivery{Account: e.Account, Region: e.Region, Name: e.Name, Role: role, RequestID: w.ID, Trace: lineage}
	destination, outcome := "", "Success"
	if conf != nil {
		destination = conf.OnSuccess
	}
	if condition != conditionSuccess {
		outcome = "Failure"
		if destination = ""; conf != nil {
			destination = conf.OnFailure
		}
	}
	if kind, err := deliver.KindOf(destination); err == nil {
		d := base
		d.Target, d.id = destination, w.ID+"/"+outcome
		function := c.qualifiedARN(e.Name, e.configured())
		rec := &record{
			Version: "1.0", Timestamp: now.UTC().Format("2006-01-02T15:04:05.000Z"),
			RequestContext: requestContext{RequestID: w.ID, FunctionARN: function, Condition: condition, ApproxInvoke: e.Invokes},
			RequestPayload: w.Body,
		}
		if r != nil {
			rec.ResponseContext = &responseContext{StatusCode: http.StatusOK, ExecutedVersion: r.version, FunctionError: r.functionError}
			rec.ResponsePayload = jsonPayload(r.payload)
		}
		d.body = encodeRecord(rec)
		if len(d.body) > largestRecord(kind) {
			rec.RequestPayload, rec.ResponsePayload = nil, nil
			d.body = encodeRecord(rec)
		}
		switch kind {
		case deliver.EventBridge:
			d.DetailType = "Lambda Function Invocation Result - " + outcome
			d.Resources = []string{destination, function}
		case deliver.S3:
			d.Key = "aws/lambda/async/" + e.Name + now.UTC().Format("/2006/01/02/2006-01-02T15.04.05-") + call.NewRequestID()
		}
		all = append(all, &d)
	}
	if dead != "" && condition != conditionSuccess {
		d := base
		d.Target, d.id, d.body = dead, w.ID+"/dead", w.Body
		code, message := deadLetterError(condition, r)
		d.Attributes = []deliver.Attribute{
			{Name: "RequestID", Type: "String", Value: w.ID},
			{Name: "ErrorCode", Type: "Number", Value: strconv.Itoa(code)},
			{Name: "ErrorMessage", Type: "String", Value: message},
		}
		all = append(all, &d)
	}
	return all
}

// largestRecord is the size in bytes up to which a record is sent with its payloads: what the target takes, or the store.
func largestRecord(k deliver.Kind) int {
	switch k {
	case deliver.SNS, deliver.EventBridge:
		return 256 << 10
	case deliver.S3:
		return kv.MaxValueBytes - 1<<20
	}
	return 1 << 20
}

// encodeRecord leaves payloads as they came, but for white space.
func encodeRecord(r *record) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		panic(err) // strings, and JSON that was checked
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func quoted(b []byte) json.RawMessage {
	if b == nil {
		return nil
	}
	q, _ := json.Marshal(string(b)) // of a string it cannot fail
	return q
}

// jsonPayload is what a function answered as a JSON value: as it is, or as a string if it is none.
func jsonPayload(b []byte) json.RawMessage {
	switch {
	case len(b) == 0:
		return json.RawMessage("null")
	case validJSON(b):
		return b
	}
	return quoted(b)
}

// deadLetterError is the attributes of a message to a dead-letter queue. AWS has the code 200 for what a function answered.
func deadLetterError(condition string, r *response) (code int, message string) {
	if r == nil {
		switch condition {
		case conditionSwitched:
			return http.StatusTooManyRequests, "Rate Exceeded."
		case conditionRecursive:
			return http.StatusBadRequest, recursionMessage
		}
		return http.StatusRequestTimeout, "The event is older than its maximum age."
	}
	var answer struct {
		ErrorMessage string `json:"errorMessage"`
	}
	json.Unmarshal(r.payload, &answer) // an answer of another form has no message
	message = answer.ErrorMessage
	if message == "" {
		message = r.functionError
	}
	if len(message) > deadLetterMessage {
		n := deadLetterMessage
		for n > 0 && !utf8.RuneStart(message[n]) {
			n--
		}
		message = message[:n]
	}
	return http.StatusOK, message
}

// deliver makes one delivery with the function's role.
func (s *Service) deliver(ctx context.Context, w *durable.Work) durable.Outcome {
	var d delivery
	if err := json.Unmarshal(w.State, &d); err != nil {
		s.log.Error("delivery dropped: its state cannot be read", "id", w.ID, "err", err)
		return durable.Done(nil)
	}
	log := s.log.With("function", functionARN(d.Region, d.Account, d.Name), "target", d.Target, "requestId", d.RequestID)
	err := s.deliverOnce(ctx, &d, w.Body)
	switch {
	case err == nil:
		return durable.Done(nil)
	case ctx.Err() != nil:
		return durable.Hold(0, nil)
	case deliver.Permanent(err) && w.Attempt+1 >= deniedDeliveries, s.now().Sub(w.First) > longestDelivery:
		log.Error("delivery given up", "attempts", w.Attempt+1, "err", err)
		return durable.Done(nil)
	}
	wait := s.backOff(w.Attempt)
	log.Warn("delivery failed: trying again", "attempt", w.Attempt+1, "wait", wait, "err", err)
	return durable.Retry(wait, w.State, nil)
}

func (s *Service) deliverOnce(ctx context.Context, d *delivery, body []byte) error {
	if s.destinations == nil {
		return apierr.New("NotImplemented", http.StatusNotImplemented, "Nothing delivers to %s.", d.Target)
	}
	ctx = call.AsService(ctx, "lambda", d.Account, d.Region)
	if s.roles != nil {
		p, err := s.roles.Session(ctx, d.Role, functionARN(d.Region, d.Account, d.Name))
		if err != nil {
			return fmt.Errorf("role of the function: %w", err)
		}
		info := *call.From(ctx)
		info.Principal = p
		ctx = call.With(ctx, &info)
	}
	_, err := s.destinations.Deliver(ctx, d.Target, &deliver.Event{
		Body: body, Attributes: d.Attributes, Source: "lambda", DetailType: d.DetailType, Resources: d.Resources, Key: d.Key, Trace: d.Trace,
	})
	return err
}

// checkTarget says whether a destination or dead-letter queue may be configured: what delivers to it is served here, and a function exists.
func (s *Service) checkTarget(ctx context.Context, r kv.Reader, c scope, target string) error {
	if k, err := deliver.KindOf(target); err == nil && k == deliver.Kinesis {
		return deliver.ErrUnknown // streams are no destinations of functions
	}
	if s.destinations != nil {
		if err := s.destinations.Check(target); err != nil {
			return err
		}
	}
	a, err := arn.Parse(target)
	if err != nil || a.Service != "lambda" || a.Region != c.region || a.Account != c.account {
		return nil
	}
	ref, _ := parseReference(target)
	_, err = c.find(r, ref.name, ref.qualifier)
	return err
}
