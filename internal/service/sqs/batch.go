package sqs

import (
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// maxBatch is how many entries a batch has at most.
const maxBatch = 10

// checkBatch checks the number and the ids of a batch's entries.
func checkBatch(operation string, n int, id func(i int) *string) error {
	if n == 0 {
		return sqsapi.ErrEmptyBatchRequest("There should be at least one %sRequestEntry in the request.", operation)
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
