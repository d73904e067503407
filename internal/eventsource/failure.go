package eventsource

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Why a batch was given up.
const (
	exhausted = "RetryAttemptsExhausted"
	expired   = "RecordAgeExceeded"
	oversized = "MaximumPayloadSizeExceeded"
	recursive = "RecursiveInvocation" // Mayfly's own
)

const millis = "2006-01-02T15:04:05.000Z"

// failureRecord is what a destination gets. Form and order of members are AWS's (recorded); SQSBatchInfo is Mayfly's own.
type failureRecord struct {
	RequestContext  requestContext   `json:"requestContext"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	Kinesis         *batchInfo       `json:"KinesisBatchInfo,omitempty"`
	DynamoDB        *batchInfo       `json:"DDBStreamBatchInfo,omitempty"`
	SQS             *queueBatchInfo  `json:"SQSBatchInfo,omitempty"`
	Payload         json.RawMessage  `json:"payload,omitempty"`
}

type requestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	Condition   string `json:"condition"`
	Invokes     int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	Status  int     `json:"statusCode"`
	Version string  `json:"executedVersion"`
	Error   *string `json:"functionError"` // null if only the report of failures says so
}

type batchInfo struct {
	Shard     string `json:"shardId"`
	First     string `json:"startSequenceNumber"`
	Last      string `json:"endSequenceNumber"`
	ArrivedAt string `json:"approximateArrivalOfFirstRecord"`
	ArrivedTo string `json:"approximateArrivalOfLastRecord"`
	Size      int    `json:"batchSize"`
	Stream    string `json:"streamArn"`
}

type queueBatchInfo struct {
	Queue    string   `json:"queueArn"`
	Messages []string `json:"messageIds"`
	Size     int      `json:"batchSize"`
}

// loss is a batch that was given up.
type loss struct {
	records   []Record
	condition string
	invokes   int
	request   string           // the last invocation's
	response  *responseContext // nil if nothing was answered
	message   string           // of the last trouble, for people
	split     *Split           // of which they were left
	lane      int              // of lanes
	lanes     int
}

// delivery returns what goes to the mapping's destination, or nil if it has none.
func (m *Mapping) delivery(shard string, l *loss, now time.Time) *Delivery {
	if m.OnFailure == "" {
		return nil
	}
	rec := &failureRecord{
		RequestContext: requestContext{l.request, unqualified(m.FunctionARN), l.condition, l.invokes},
		Version:        "1.0", Timestamp: now.UTC().Format(millis),
	}
	if rec.RequestContext.RequestID == "" {
		rec.RequestContext.RequestID = call.NewRequestID()
	}
	if l.condition == exhausted {
		rec.ResponseContext = l.response
	}
	source, _ := arn.Parse(m.SourceARN)
	info := &batchInfo{Shard: shard, Size: len(l.records), Stream: m.SourceARN}
	form := millis
	switch source.Service {
	case "sqs":
		q := &queueBatchInfo{Queue: m.SourceARN, Size: len(l.records)}
		for _, r := range l.records {
			q.Messages = append(q.Messages, r.ID)
		}
		rec.SQS = q
	case "dynamodb":
		rec.DynamoDB, form = info, "2006-01-02T15:04:05Z"
	default:
		rec.Kinesis = info
	}
	if n := len(l.records); n > 0 {
		first, last := &l.records[0], &l.records[n-1]
		info.First, info.Last = first.ID, last.ID
		info.ArrivedAt, info.ArrivedTo = first.Arrival.UTC().Format(form), last.Arrival.UTC().Format(form)
	}
	d := &Delivery{MappingID: m.ID, Account: m.Account, Region: m.Region, FunctionARN: m.FunctionARN, Destination: m.OnFailure}
	d.Fate = &fateName{Time: now.UTC(), Shard: shard, Last: info.Last}
	bucket := false
	if to, err := arn.Parse(m.OnFailure); err == nil && to.Service == "s3" {
		bucket = true
		if shard == "" {
			shard = source.Resource
		}
		d.Key = "aws/lambda/" + m.ID + "/" + shard + now.UTC().Format("/2006/01/02/2006-01-02T15.04.05-") + call.NewRequestID()
	}
	// A message is gone once it is deleted, so the record of a queue carries it; of a stream only a bucket has room for the payload.
	if bucket || rec.SQS != nil {
		if payload := event(l.records); len(payload) < kv.MaxValueBytes-1<<20 && (bucket || len(payload) < 1<<20-envelope) {
			rec.Payload = payload
		}
	}
	d.Body, _ = json.Marshal(rec)
	return d
}

// answered is the responseContext of an answer. An answer whose report of failures made the batch fail has a null functionError.
func answered(a *Answer) *responseContext {
	r := &responseContext{Status: a.Status, Version: a.Version}
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	if a.FunctionError != "" {
		r.Error = &a.FunctionError
	}
	return r
}

// unqualified returns the ARN of a function without version or alias.
func unqualified(function string) string {
	if parts := strings.SplitN(function, ":", 8); len(parts) == 8 {
		return strings.Join(parts[:7], ":")
	}
	return function
}
