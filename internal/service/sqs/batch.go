package sqs

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
)

// Limits of batches and of receives: the second ones are those of Mayfly itself, which reads queues for functions whose batches may be as large, since
// each call costs a commit.
const (
	maxBatch    = 10
	maxOwnBatch = 10_000
	ownBytes    = 6 << 20 // of bodies in one receive: what an event can hold
)

// trusted reports whether Mayfly calls for itself.
func trusted(ctx context.Context) bool { return call.From(ctx).Principal.Type == call.Service }

// checkBatch checks the number and the ids of a batch's entries.
func checkBatch(ctx context.Context, operation string, n int, id func(i int) *string) error {
	if n == 0 {
		return sqsapi.ErrEmptyBatchRequest("There should be at least one %sRequestEntry in the request.", operation)
	}
	if trusted(ctx) && n <= maxOwnBatch {
		return nil // whose ids are good
	}
	if n > maxBatch {
		return sqsapi.ErrTooManyEntriesInBatchRequest("Maximum number of entries per request are %d. You have sent %d.", maxBatch, n)
	}
	for i := range n {
		s := id(i)
		if s == nil || !isName(*s) {
			return sqsapi.ErrInvalidBatchEntryId("A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
		}
		for j := range i {
			if *id(j) == *s {
				return sqsapi.ErrBatchEntryIdsNotDistinct("Id %s repeated.", *s)
			}
		}
	}
	return nil
}

// failed is the entry of a batch's answer for an error.
func failed(id *string, err error) sqsapi.BatchResultErrorEntry {
	e := apierr.From(err)
	code := e.Code
	if sh := sqsapi.Service.ErrorShape(code); sh != nil && sh.Error.Code != "" {
		code = sh.Error.Code
	}
	if code == "MissingParameter" { // entries have a code of their own for it
		code = "EmptyValue"
	}
	return sqsapi.BatchResultErrorEntry{Id: id, Code: &code, Message: &e.Message, SenderFault: new(e.Fault == apierr.Client)}
}
