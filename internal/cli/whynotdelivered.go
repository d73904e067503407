package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/server"
)

func (a *app) whyNotDeliveredCommand() *cobra.Command {
	var mapping, filter string
	var since, until time.Duration
	var most int
	c := &cobra.Command{
		Use:   "why-not-delivered [RECORD]",
		Short: "Explain what became of the records that functions get from queues and streams",
		Long: `Tell how event source mappings do, what they gave up, and what became of one record.

RECORD is the id of a message or the sequence number of a stream's record. It was filtered, waits (and behind which other), is in the function, failed
and is tried again, was processed, or was given up, with the reason and where a record of it went. Of a queue the last 2,048 messages since the
server started are known, and those that were given up.`,
		Example: `  mayfly why-not-delivered
  mayfly why-not-delivered 059f36b4-87a3-44ab-83d2-661975830a7d
  mayfly why-not-delivered --mapping stream/clicks --since 1h
  mayfly why-not-delivered --mapping stream/clicks --try-filter '{"data":{"kind":["buy"]}}'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			q := url.Values{}
			if len(args) > 0 {
				q.Set("record", args[0])
			}
			for name, value := range map[string]string{"mapping": mapping, "filter": filter} {
				if value != "" {
					q.Set(name, value)
				}
			}
			now := time.Now()
			for name, ago := range map[string]time.Duration{"from": since, "to": until} {
				if ago > 0 {
					q.Set(name, now.Add(-ago).Format(time.RFC3339))
				}
			}
			if filter != "" {
				q.Set("most", strconv.Itoa(most))
			}
			var all []server.MappingReport
			if err := t.get(cmd.Context(), "/_mayfly/deliveries?"+q.Encode(), &all); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			a.printReports(all, args)
			return nil
		},
	}
	a.clientFlags(c)
	f := c.Flags()
	f.StringVar(&mapping, "mapping", "", "only mappings with this in their UUID, function or source")
	f.DurationVar(&since, "since", 0, "what was given up since so long ago")
	f.DurationVar(&until, "until", 0, "and until so long ago")
	f.StringVar(&filter, "try-filter", "", "which of the records that wait this pattern would take; nothing is changed")
	f.IntVar(&most, "most", 100, "how many records of each shard to try it on")
	return c
}

// printReports prints mappings. Of those that do not know the record that was asked for nothing is said, unless none knows it.
func (a *app) printReports(all []server.MappingReport, record []string) {
	if len(all) == 0 {
		fmt.Fprintln(a.out, "There is no such event source mapping.")
		return
	}
	shown := false
	for i := range all {
		r := &all[i]
		if len(record) > 0 && (r.Record == nil || r.Record.State == eventsource.Unknown) && r.Trouble == "" {
			continue
		}
		if shown {
			fmt.Fprintln(a.out)
		}
		shown = true
		a.printReport(r)
	}
	if !shown {
		fmt.Fprintf(a.out, "No event source mapping knows of %s: it may still wait in its queue, or be too old.\n", record[0])
	}
}

func (a *app) printReport(r *server.MappingReport) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(a.out, "  %s %s\n", a.style.dim(fmt.Sprintf("%-9s", label)), fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(a.out, "%s %s\n", a.style.bold(r.Source), r.Function)
	line("mapping", "%s, %s", r.UUID, r.State)
	if r.Trouble != "" {
		line("trouble", "%s", a.style.red(r.Trouble))
	}
	if o := r.Record; o != nil {
		a.printOutcome(o, line)
		return
	}
	result := r.Result
	if result != eventsource.ResultOK && result != eventsource.ResultNone {
		result = a.style.red(result)
	}
	line("last", "%s", result)
	m := &r.Metrics
	line("records", "%d read, %d filtered, %d given up, %d reads failed", m.Polled, m.Filtered, m.Dropped, m.Errors)
	line("batches", "%d with %d records, %d in flight, %d retries, %d split, %d throttled, %d records in batches that failed",
		m.Batches, m.Invoked, m.InFlight, m.Retries, m.Bisected, m.Throttles, m.Failed)
	if m.IteratorAge > 0 {
		line("age", "%s when the last batch was invoked", m.IteratorAge.Round(time.Millisecond))
	}
	if m.WindowState > 0 {
		line("windows", "%d bytes of state at most", m.WindowState)
	}
	for i := range r.GivenUp {
		f := &r.GivenUp[i]
		what := f.First
		if f.Last != f.First {
			what += " to " + f.Last
		}
		line("given up", "%s %s: %s (%d records, %d invocations)", f.Time.Local().Format(time.DateTime), f.Shard, what, f.Records, f.Invokes)
		line("", "%s %s", a.style.red(f.Condition), f.Error)
		if f.Destination != "" {
			line("", "a record of it went to %s", f.Destination)
		}
	}
	for _, x := range r.Trials {
		verdict := a.style.dim("does not take")
		if x.Takes {
			verdict = a.style.green("takes")
		}
		line("filter", "%s %s %s", verdict, x.Shard, x.ID)
	}
}

func (a *app) printOutcome(o *eventsource.Outcome, line func(label, format string, args ...any)) {
	state := map[eventsource.State]string{
		eventsource.Waiting: "waits", eventsource.InFlight: "is in the function", eventsource.Failed: "failed, and is tried again", eventsource.Processed: "was processed",
		eventsource.Filtered: "was filtered out", eventsource.Dropped: "was given up", eventsource.Unknown: "is not known",
	}[o.State]
	switch o.State {
	case eventsource.Dropped, eventsource.Failed:
		state = a.style.red(state)
	case eventsource.Processed:
		state = a.style.green(state)
	}
	if !o.Time.IsZero() {
		state += " at " + o.Time.Local().Format(time.DateTime)
	}
	line("record", "%s", state)
	if o.Shard != "" {
		line("shard", "%s", o.Shard)
	}
	if o.Behind != "" {
		line("behind", "%s", o.Behind)
	}
	if o.Condition != "" {
		line("why", "%s", o.Condition)
	}
	if o.Attempts > 0 {
		line("attempts", "%d", o.Attempts)
	}
	if o.Error != "" {
		line("error", "%s", o.Error)
	}
	if o.RequestID != "" {
		line("request", "%s", o.RequestID)
	}
	if !o.Next.IsZero() {
		line("next", "%s", o.Next.Local().Format(time.DateTime))
	}
	if o.Destination != "" {
		line("record", "went to %s", o.Destination)
	}
}
