package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/service/lambda"
	"github.com/mayflyhq/mayfly/internal/service/sqs"
)

// DeliveryReport is what became of records that functions get from queues and streams.
type DeliveryReport struct {
	Mappings []MappingReport `json:"mappings"`
	// Places are where the message is that was asked for, in queues that no mapping reads too.
	Places []sqs.Place `json:"places,omitempty"`
	// Partial says that there were so many messages that not all queues were looked into.
	Partial bool `json:"partial,omitempty"`
}

// MappingReport is how an event source mapping does and what became of what it read.
type MappingReport struct {
	MappingStatus
	// Record is what became of the record that was asked for.
	Record *eventsource.Outcome `json:"record,omitempty"`
	// Records are what became of those that arrived in the time that was asked for, and More says that there are others.
	Records []eventsource.Outcome `json:"records,omitempty"`
	More    bool                  `json:"more,omitempty"`
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
// meant; record is a message's id or a sequence number; from and to are times of RFC 3339; filter is a pattern, tried on records that wait. Of up to
// most records (of each shard, for a filter) it tells.
func (s *Server) deliveries(w http.ResponseWriter, r *http.Request) {
	c, account, record := s.core.Load(), call.From(r.Context()).Account, r.FormValue("record")
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
	views, err := c.lambda.Mappings(r.Context(), account)
	if err != nil {
		s.log.Error("event source mappings not read", "err", err)
		http.Error(w, "the event source mappings cannot be read", http.StatusInternalServerError)
		return
	}
	report := &DeliveryReport{Mappings: []MappingReport{}}
	if record != "" { // before mappings are asked, since what happens to a message meanwhile takes it out of its queue
		var complete bool
		if report.Places, complete, err = c.sqs.Locate(r.Context(), account, record); err != nil {
			s.log.Error("message not sought", "err", err)
			http.Error(w, "the queues cannot be read", http.StatusInternalServerError)
			return
		}
		report.Partial = !complete
	}
	for _, v := range views {
		if !means(v, r.FormValue("mapping")) {
			continue
		}
		x := MappingReport{MappingStatus: c.mappingStatus(r.Context(), v)}
		pattern := r.FormValue("filter")
		switch {
		case record != "":
			o, err := c.mappings.Explain(r.Context(), v.Engine, record)
			if x.trouble(err); err == nil || report.Places != nil {
				place(&o, v.Engine.SourceARN, report.Places, !report.Partial)
				x.Record = &o
			}
		case pattern != "":
			filter, err := lambda.ParseFilter(x.Source, pattern)
			if err == nil {
				x.Trials, err = c.mappings.DryRun(r.Context(), v.Engine, filter, most)
			}
			x.trouble(err)
		default:
			x.GivenUp, err = c.mappings.Fates(r.Context(), x.UUID, from, to)
			x.trouble(err)
			if !from.IsZero() || !to.IsZero() {
				x.trouble(c.records(r.Context(), &x, v.Engine, from, to, most))
			} else if n := len(x.GivenUp); n > givenUpShown {
				x.GivenUp = x.GivenUp[n-givenUpShown:]
			}
		}
		report.Mappings = append(report.Mappings, x)
	}
	answer(w, report)
}

// means reports whether a mapping is meant by a part of its UUID, function or source.
func means(v lambda.MappingView, part string) bool {
	return strings.Contains(*v.UUID+" "+*v.FunctionArn+" "+*v.EventSourceArn, part)
}

// records tells what became of what arrived in a time. Of a queue that is what the mapping remembers, and what is still there.
func (c *core) records(ctx context.Context, x *MappingReport, m *eventsource.Mapping, from, to time.Time, most int) (err error) {
	var here, dead []sqs.Place
	if x.kind() == "sqs" {
		var more bool
		if here, x.More, err = c.sqs.Places(ctx, x.Source, from, to, most); err != nil {
			return err
		}
		if x.deadLetter != "" {
			if dead, more, err = c.sqs.Places(ctx, x.deadLetter, from, to, most); err != nil {
				return err
			}
			dead = slices.DeleteFunc(dead, func(p sqs.Place) bool { return p.Source != x.Source })
		}
		x.More = x.More || more
	}
	all, more, err := c.mappings.Outcomes(ctx, m, from, to, most)
	if err != nil {
		return err
	}
	x.More = x.More || more
	if x.kind() == "sqs" {
		places, known := map[string][]sqs.Place{}, map[string]bool{}
		for _, p := range append(here, dead...) {
			places[p.ID] = append(places[p.ID], p)
		}
		for i := range all {
			known[all[i].ID] = true
			place(&all[i], x.Source, places[all[i].ID], !x.More)
		}
		for _, p := range append(here, dead...) {
			if !known[p.ID] {
				o := eventsource.Outcome{ID: p.ID, State: eventsource.Unknown}
				place(&o, x.Source, places[p.ID], true)
				all = append(all, o)
			}
		}
		slices.SortStableFunc(all, func(a, b eventsource.Outcome) int { return a.Arrival.Compare(b.Arrival) })
	}
	if x.Records = all; len(all) > most {
		x.Records, x.More = all[:most], true
	}
	return nil
}

// place completes what a mapping knows of a message by where that is. complete says that it is nowhere else.
func place(o *eventsource.Outcome, source string, places []sqs.Place, complete bool) {
	if !strings.HasPrefix(source, "arn:aws:sqs:") {
		return
	}
	here := slices.IndexFunc(places, func(p sqs.Place) bool { return p.Queue == source })
	dead := slices.IndexFunc(places, func(p sqs.Place) bool { return p.Source == source })
	switch {
	case here >= 0:
		p := &places[here]
		o.Arrival = p.Sent
		switch o.State {
		case eventsource.Processed, eventsource.Filtered, eventsource.Dropped:
			o.Why = "it is still in its queue, and is being deleted"
		case eventsource.InFlight:
		case eventsource.Unknown, "":
			o.State, o.Attempts, o.Next = eventsource.Waiting, p.Receives, p.Until
			switch {
			case p.State == sqs.InFlight:
				o.Why = "another consumer received it, or this mapping did before it was started last"
			case p.Behind != "":
				o.Behind, o.Next, o.Why = p.Behind, p.BehindUntil, "a message before it in its group is in flight, or failed and was not yet handed out again"
			case p.State == sqs.Delayed:
				o.Why = "its delay has not ended"
			default:
				o.Why = "it is visible in its queue, and the mapping has not taken it"
			}
		default:
			if o.Next = p.Until; p.State == sqs.Visible && o.Why == "" {
				o.Why = "it is visible in its queue again, and the mapping has not taken it"
			}
		}
	case dead >= 0:
		p := &places[dead]
		o.State, o.Arrival, o.Time, o.Next, o.Destination, o.Delivery = eventsource.DeadLettered, p.Sent, time.Time{}, time.Time{}, p.Queue, nil
		o.Why, o.Behind = "its queue moved it to the dead-letter queue instead of handing it out once more", ""
	case complete && (o.State == eventsource.Waiting || o.State == eventsource.Failed || o.State == eventsource.Throttled):
		o.State, o.Time, o.Next = eventsource.Gone, time.Time{}, time.Time{}
		o.Why = "somebody else received and deleted it, its queue was purged, or its retention has ended"
	}
}

func (x *MappingReport) trouble(err error) {
	if err != nil && x.Trouble == "" {
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
