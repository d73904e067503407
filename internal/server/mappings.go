package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/service/lambda"
)

// MappingStatus is how an event source mapping does.
type MappingStatus struct {
	UUID     string `json:"uuid"`
	Source   string `json:"source"`   // ARN
	Function string `json:"function"` // ARN, with the qualifier if it has one
	State    string `json:"state"`
	Result   string `json:"result"` // of the last batch
	// Reason is why nothing, or not everything, is delivered, in a sentence; empty if nothing stands in the way.
	Reason string `json:"reason,omitempty"`
	// Since is since when Metrics count: the start of the server, or when the mapping was enabled last.
	Since   *time.Time          `json:"since,omitempty"`
	Metrics eventsource.Metrics `json:"metrics"`
	// Oldest is when the oldest message was sent that its queue has, or the oldest record that is not done arrived; of a queue Waiting are those that are visible, of a stream those that
	// the mapping has read and not done.
	Oldest  *time.Time `json:"oldest,omitempty"`
	Waiting int        `json:"waiting"`
	// Reading and Invoking are what goes wrong at present.
	Reading  *eventsource.Trouble      `json:"reading,omitempty"`
	Invoking *eventsource.Trouble      `json:"invoking,omitempty"`
	Shards   []eventsource.ShardStatus `json:"shards,omitempty"`

	deadLetter string // ARN of the queue's dead-letter queue
}

// kind is the service of the source.
func (x *MappingStatus) kind() string {
	a, _ := arn.Parse(x.Source)
	return a.Service
}

// listMappings answers with how the mappings of the caller's account do, in all regions.
func (s *Server) listMappings(w http.ResponseWriter, r *http.Request) {
	all, err := s.core.Load().mappingStatuses(r.Context(), call.From(r.Context()).Account)
	if err != nil {
		s.log.Error("event source mappings not read", "err", err)
		http.Error(w, "the event source mappings cannot be read", http.StatusInternalServerError)
		return
	}
	answer(w, all)
}

func (c *core) mappingStatuses(ctx context.Context, account string) ([]MappingStatus, error) {
	views, err := c.lambda.Mappings(ctx, account)
	all := []MappingStatus{}
	for _, v := range views {
		all = append(all, c.mappingStatus(ctx, v))
	}
	return all, err
}

func (c *core) mappingStatus(ctx context.Context, v lambda.MappingView) MappingStatus {
	status := c.mappings.Status(ctx, *v.UUID)
	x := MappingStatus{
		UUID: *v.UUID, Source: *v.EventSourceArn, Function: *v.FunctionArn, State: *v.State, Result: status.Result, Metrics: status.Metrics,
		Reading: status.Reading, Invoking: status.Invoking, Shards: status.Shards,
	}
	if !status.Since.IsZero() {
		x.Since = &status.Since
	}
	missing := c.look(ctx, v, &x)
	if x.kind() != "sqs" {
		for _, sh := range x.Shards {
			x.Waiting += sh.Waiting
		}
		if age := x.Metrics.IteratorAge; age > 0 {
			x.Oldest = new(time.Now().Add(-age).UTC())
		}
	}
	x.Reason = x.reason(missing)
	return x
}

// look looks at the source and the function of a mapping. It returns what is wrong with them, in a sentence.
func (c *core) look(ctx context.Context, v lambda.MappingView, x *MappingStatus) (wrong string) {
	a, err := arn.Parse(x.Source)
	if err != nil {
		return "The source has no valid ARN."
	}
	ctx = call.AsService(ctx, "lambda", a.Account, a.Region)
	switch a.Service {
	case "sqs":
		out, err := sqsapi.GetQueueAttributes.Call(ctx, c.gate, &sqsapi.GetQueueAttributesInput{
			QueueUrl: new("https://sqs." + a.Region + ".amazonaws.com/" + a.Account + "/" + a.Resource), AttributeNames: []string{"RedrivePolicy"},
		})
		if err != nil {
			wrong = "The queue cannot be looked at: " + err.Error()
			if strings.Contains(apierr.Code(err), "NonExistentQueue") || strings.Contains(apierr.Code(err), "QueueDoesNotExist") {
				wrong = fmt.Sprintf("The queue %s does not exist: nothing is read until there is one of that name.", a.Resource)
			}
			break
		}
		var redrive struct{ DeadLetterTargetArn string }
		json.Unmarshal([]byte(out.Attributes["RedrivePolicy"]), &redrive) // if it has one
		x.deadLetter = redrive.DeadLetterTargetArn
		if x.Waiting, x.Oldest, err = c.sqs.Backlog(ctx, x.Source); err != nil {
			wrong = "The queue cannot be looked at: " + err.Error()
		}
	case "kinesis":
		name, _, _ := strings.Cut(strings.TrimPrefix(a.Resource, "stream/"), "/")
		_, err := kinesisapi.DescribeStreamSummary.Call(ctx, c.gate, &kinesisapi.DescribeStreamSummaryInput{StreamName: &name})
		if apierr.Code(err) == "ResourceNotFoundException" {
			wrong = fmt.Sprintf("The stream %s does not exist: nothing is read until there is one of that name.", name)
		}
	}
	_, err = lambdaapi.GetFunctionConfiguration.Call(ctx, c.gate, &lambdaapi.GetFunctionConfigurationInput{FunctionName: &x.Function})
	if apierr.Code(err) == "ResourceNotFoundException" {
		wrong = fmt.Sprintf("The function %s does not exist: records wait until there is one of that name.", x.Function)
	}
	return wrong
}

// reason is why nothing, or not everything, is delivered.
func (x *MappingStatus) reason(missing string) string {
	since := func(t *eventsource.Trouble) string {
		if t.Count == 1 {
			return "once, at " + t.Since.Local().Format(time.DateTime)
		}
		return fmt.Sprintf("%d times since %s", t.Count, t.Since.Local().Format(time.DateTime))
	}
	switch r, i := x.Reading, x.Invoking; {
	case x.State == "Disabled":
		return "The mapping is disabled: it reads nothing until it is enabled."
	case x.State != "Enabled" && x.State != "Updating":
		return "The mapping is " + strings.ToLower(x.State) + ": it begins, or ends, when that is done, which batches that the function has may hold up."
	case missing != "":
		return missing
	case r != nil && strings.Contains(r.Code, "AccessDenied"):
		return fmt.Sprintf("The function's role may not read the source, %s; mayfly why-denied says what would allow it: %s", since(r), r.Error)
	case r != nil:
		return fmt.Sprintf("The source could not be read, %s: %s", since(r), r.Error)
	case i == nil && x.failing() != nil: // while other batches go well
		sh := x.failing()
		return fmt.Sprintf("The batch from %s of %s fails, %d times so far, and is tried again at %s: %s", sh.Failing, sh.ID, sh.Attempts, sh.Next.Local().Format(time.DateTime), eventsource.ReadableError(sh.Error))
	case i == nil || x.Oldest == nil: // what failed is not there any more
		return ""
	case i.Code == "TooManyRequestsException":
		return fmt.Sprintf("The function has no free capacity, %s: %s", since(i), i.Error)
	case i.Code == "RecursiveInvocationException":
		return "A message is part of a recursive loop: it stays in the queue, for its dead-letter queue."
	case i.Code != "":
		return fmt.Sprintf("The function could not be invoked, %s: %s", since(i), i.Error)
	}
	return fmt.Sprintf("The function fails, %s: %s", since(x.Invoking), eventsource.ReadableError(x.Invoking.Error))
}

// failing is a shard of which a batch fails, nil if there is none.
func (x *MappingStatus) failing() *eventsource.ShardStatus {
	for i := range x.Shards {
		if sh := &x.Shards[i]; sh.State == eventsource.ShardFailing && sh.Failing != "" {
			return sh
		}
	}
	return nil
}
