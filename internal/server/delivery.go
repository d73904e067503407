package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/service/lambda"
)

// MappingReport is how an event source mapping does and what became of what it read.
type MappingReport struct {
	UUID     string              `json:"uuid"`
	Source   string              `json:"source"`   // ARN
	Function string              `json:"function"` // ARN, with the qualifier if it has one
	State    string              `json:"state"`
	Result   string              `json:"result"` // of the last batch
	Metrics  eventsource.Metrics `json:"metrics"`
	// Record is what became of the record that was asked for.
	Record *eventsource.Outcome `json:"record,omitempty"`
	// GivenUp is what was given up in the time that was asked for, the newest last.
	GivenUp []eventsource.Fate `json:"givenUp,omitempty"`
	// Trials are the records that wait, with whether the filter that was asked for takes them.
	Trials []eventsource.Trial `json:"trials,omitempty"`
	// Trouble says why part of the report is missing.
	Trouble string `json:"trouble,omitempty"`
}

// givenUpShown is how many of the last records of what was given up a report has, unless it is asked for a time.
const givenUpShown = 20

// deliveries answers with reports of the mappings of the caller's account, in all regions. mapping is in the UUID, function or source of those that are
// meant; record is a message's id or a sequence number; from and to are times of RFC 3339; filter is a pattern, tried on up to most records
// that wait.
func (s *Server) deliveries(w http.ResponseWriter, r *http.Request) {
	c, account := s.core.Load(), call.From(r.Context()).Account
	from, err := instant(r.FormValue("from"))
	to, err2 := instant(r.FormValue("to"))
	if err := errors.Join(err, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	most := 100
	if text := r.FormValue("most"); text != "" {
		if most, err = strconv.Atoi(text); err != nil || most < 1 || most > 10_000 {
			http.Error(w, "most is a number from 1 to 10000", http.StatusBadRequest)
			return
		}
	}
	all, err := c.lambda.Mappings(r.Context(), account)
	if err != nil {
		s.log.Error("event source mappings not read", "err", err)
		http.Error(w, "the event source mappings cannot be read", http.StatusInternalServerError)
		return
	}
	reports := []*MappingReport{}
	for _, m := range all {
		if want := r.FormValue("mapping"); want != "" && !strings.Contains(*m.UUID+" "+*m.FunctionArn+" "+*m.EventSourceArn, want) {
			continue
		}
		x := c.report(r.Context(), m, r.FormValue("record"), from, to)
		if pattern := r.FormValue("filter"); pattern != "" {
			filter, err := lambda.ParseFilter(*m.EventSourceArn, pattern)
			if err == nil {
				x.Trials, err = c.mappings.DryRun(r.Context(), *m.UUID, filter, most)
			}
			x.trouble(err)
		}
		reports = append(reports, x)
	}
	answer(w, reports)
}

func (c *core) report(ctx context.Context, m *lambdaapi.EventSourceMappingConfiguration, record string, from, to time.Time) *MappingReport {
	status := c.mappings.Status(ctx, *m.UUID)
	x := &MappingReport{UUID: *m.UUID, Source: *m.EventSourceArn, Function: *m.FunctionArn, State: *m.State, Result: status.Result, Metrics: status.Metrics}
	if record != "" {
		o, err := c.mappings.Explain(ctx, x.UUID, record)
		if x.trouble(err); err == nil {
			x.Record = &o
		}
		return x
	}
	fates, err := c.mappings.Fates(ctx, x.UUID, from, to)
	x.trouble(err)
	if from.IsZero() && to.IsZero() && len(fates) > givenUpShown {
		fates = fates[len(fates)-givenUpShown:]
	}
	x.GivenUp = fates
	return x
}

func (x *MappingReport) trouble(err error) {
	switch {
	case err == nil:
	case errors.Is(err, eventsource.ErrUnknownMapping):
		x.Trouble = "the mapping does not run"
	default:
		x.Trouble = err.Error()
	}
}

// instant reads a time; "" is none.
func instant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, text)
}
