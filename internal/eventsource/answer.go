package eventsource

import (
	"bytes"
	"encoding/json"
	"errors"
)

// report is what an answer says of a batch.
type report struct {
	// failed holds the identifiers of what failed, if the mapping lets the function report them.
	failed map[string]bool
	// state is the window's next state; nil if the answer has none.
	state json.RawMessage
}

// errReport says that an answer is not what the mapping requires, so that the whole batch counts as failed.
var errReport = errors.New("the function's answer is not of the form that the mapping requires")

// parseAnswer reads the answer of a function that did not fail. As on AWS nothing, null, "", [] and {} report no failure; an
// identifier that is empty, null, not a string or under another name makes it errReport. stateful requires a state.
func parseAnswer(payload []byte, items, stateful bool) (r report, err error) {
	if !items && !stateful {
		return r, nil
	}
	payload = bytes.TrimSpace(payload)
	var answer map[string]json.RawMessage // by exact names, as AWS reads it
	switch string(payload) {
	case "", "null", `""`, "[]":
	default:
		if json.Unmarshal(payload, &answer) != nil {
			return r, errReport
		}
	}
	if stateful {
		if r.state = answer["state"]; len(r.state) == 0 || string(r.state) == "null" {
			return report{}, errReport
		}
	}
	reported := answer["batchItemFailures"]
	if !items || len(reported) == 0 || string(reported) == "null" {
		return r, nil
	}
	var failures []map[string]json.RawMessage
	if json.Unmarshal(reported, &failures) != nil {
		return r, errReport
	}
	r.failed = make(map[string]bool, len(failures))
	for _, f := range failures {
		var id *string
		if json.Unmarshal(f["itemIdentifier"], &id) != nil || id == nil || *id == "" {
			return r, errReport
		}
		r.failed[*id] = true
	}
	return r, nil
}

// divide splits records into those that passed and those that were reported. It is errReport if one is reported that is not among them.
func (r *report) divide(records []Record) (passed, failed []Record, err error) {
	if len(r.failed) == 0 {
		return records, nil, nil
	}
	for _, x := range records {
		if r.failed[x.ID] {
			failed = append(failed, x)
		} else {
			passed = append(passed, x)
		}
	}
	if len(failed) < len(r.failed) {
		return nil, nil, errReport
	}
	return passed, failed, nil
}

// ReadableError is what an answer of a function that failed says, as people read it: type and message. Other texts stay as they are.
func ReadableError(text string) string {
	var e struct{ ErrorType, ErrorMessage string }
	if json.Unmarshal([]byte(text), &e) != nil || e.ErrorMessage == "" {
		return text
	}
	if e.ErrorType == "" {
		return e.ErrorMessage
	}
	return e.ErrorType + ": " + e.ErrorMessage
}
