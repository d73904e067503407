package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
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
		Long: `Tell how event source mappings do, what they gave up, and what became of records.

RECORD is the id of a message or the sequence number of a stream's record. It was filtered, waits (and behind which other), is in the function, failed
or was throttled and is tried again, was processed (when, and by which request), was moved to a dead-letter queue, or was given up: with the reason, and how
far the record of it has come on its way to the destination. With --since it is told of every record that arrived in that time.

What was given up, and how far a stream came, is on disk. What became of the messages of a queue, and which request processed a record, is remembered
of the last 2,048 messages or batches of each mapping since the server started. A mapping that is disabled is told of by what is stored.`,
		Example: `  mayfly why-not-delivered
  mayfly why-not-delivered 059f36b4-87a3-44ab-83d2-661975830a7d
  mayfly why-not-delivered --mapping stream/clicks --since 1h --until 30m
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
					q.Set(name, now.Add(-ago).Format(time.RFC3339Nano))
				}
			}
			q.Set("most", strconv.Itoa(most))
			var report server.DeliveryReport
			if err := t.get(cmd.Context(), "/_mayfly/deliveries?"+q.Encode(), &report); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(report)
			}
			a.printReports(&report, args, filter != "", since > 0 || until > 0)
			return nil
		},
	}
	a.clientFlags(c)
	f := c.Flags()
	f.StringVar(&mapping, "mapping", "", "only mappings with this in their UUID, function or source")
	f.DurationVar(&since, "since", 0, "records that arrived, and what was given up, since so long ago")
	f.DurationVar(&until, "until", 0, "and until so long ago")
	f.StringVar(&filter, "try-filter", "", "which of the records that wait this pattern would take, and why not the others; nothing is changed")
	f.IntVar(&most, "most", 1000, "how many records to tell of, of each mapping, or of each shard with --try-filter; at most 10000")
	return c
}

// printReports prints mappings. Of those that do not know the record that was asked for nothing is said, unless none knows it.
func (a *app) printReports(report *server.DeliveryReport, record []string, trials, records bool) {
	shown := false
	for i := range report.Mappings {
		r := &report.Mappings[i]
		if len(record) > 0 && (r.Record == nil || r.Record.State == eventsource.Unknown) && r.Trouble == "" {
			continue
		}
		if shown {
			fmt.Fprintln(a.out)
		}
		shown = true
		a.printReport(r, trials, records)
	}
	switch {
	case len(record) > 0:
		a.printPlaces(report, record[0], shown)
	case len(report.Mappings) == 0:
		fmt.Fprintln(a.out, "There is no such event source mapping.")
	}
}

// printPlaces prints where a message is, and where else to look if nobody knows of it.
func (a *app) printPlaces(report *server.DeliveryReport, record string, shown bool) {
	for i := range report.Places {
		p := &report.Places[i]
		state := map[string]string{"visible": "is visible", "inFlight": "is in flight", "delayed": "is delayed"}[string(p.State)]
		if !p.Until.IsZero() {
			state += " until " + p.Until.Local().Format(time.DateTime)
		}
		fmt.Fprintf(a.out, "%s %s in %s, received %s", record, state, p.Queue, plural(p.Receives, "time"))
		if p.Source != "" {
			fmt.Fprintf(a.out, ", moved there from %s", p.Source)
		}
		fmt.Fprintln(a.out)
	}
	switch {
	case shown:
	case len(report.Places) > 0:
		fmt.Fprintln(a.out, "No event source mapping reads it from there.")
	default:
		fmt.Fprintf(a.out, `No event source mapping and no queue knows of %s. A message that was processed or filtered before the server started last, or long ago, leaves no trace.
If it is the request id of an asynchronous invocation: mayfly logs FUNCTION --filter %[1]s, and the destination or dead-letter queue of the function.
If it is the id of a message of a topic: a subscription whose filter policy does not take it leaves no trace, and what cannot be delivered is in the server's log.
`, record)
	}
	if report.Partial {
		fmt.Fprintln(a.out, "There are so many messages that not all queues were looked into.")
	}
}

func (a *app) printReport(r *server.MappingReport, trials, records bool) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(a.out, "  %s %s\n", a.style.dim(fmt.Sprintf("%-9s", label)), fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(a.out, "%s %s\n", a.style.bold(r.Source), r.Function)
	if r.Reason != "" && (r.Record == nil || !settled[r.Record.State]) {
		line("why", "%s", a.style.red(r.Reason))
	}
	line("mapping", "%s, %s", r.UUID, r.State)
	if r.Trouble != "" {
		line("trouble", "%s", a.style.red(r.Trouble))
	}
	switch {
	case r.Record != nil:
		a.printOutcome(r.Record, line)
		return
	case trials:
		a.printTrials(r.Trials, line)
		return
	case records:
		a.printRecords(r, line)
	default:
		a.printMetrics(r, line)
	}
	for i := range r.GivenUp {
		f := &r.GivenUp[i]
		what := f.First
		if f.Last != f.First {
			what += " to " + f.Last
		}
		line("given up", "%s %s: %s (%s, %s)", f.Time.Local().Format(time.DateTime), f.Shard, what, plural(f.Records, "record"), plural(f.Invokes, "invocation"))
		line("", "%s %s", a.style.red(f.Condition), eventsource.ReadableError(f.Error))
		if f.Split != nil {
			line("", "left of a batch of %d that was split, %s to %s", f.Split.Records, f.Split.First, f.Split.Last)
		}
		if f.Destination != "" {
			line("", "%s", delivery(f.Destination, f.Delivery))
		}
	}
}

func (a *app) printMetrics(r *server.MappingReport, line func(label, format string, args ...any)) {
	line("last", "%s", r.Result)
	m := &r.Metrics
	if r.Since != nil {
		line("since", "%s:", r.Since.Local().Format(time.DateTime))
	}
	line("records", "%d read, %d filtered, %d given up, %d of a loop, %d reads failed", m.Polled, m.Filtered, m.Dropped, m.Loops, m.Errors)
	line("batches", "%d with %d records, %d in flight, %d retries, %d split, %d throttled, %d records in batches that failed",
		m.Batches, m.Invoked, m.InFlight, m.Retries, m.Bisected, m.Throttles, m.Failed)
	line("waiting", "%d, the oldest for %s", r.Waiting, ageOf(r.Oldest, time.Now()))
	if m.WindowState > 0 {
		line("windows", "%d bytes of state at most", m.WindowState)
	}
	for i := range r.Shards {
		switch sh := &r.Shards[i]; sh.State {
		case eventsource.ShardFailing:
			text := sh.ID
			if sh.Failing != "" {
				text += fmt.Sprintf(": the batch from %s failed %s, again at %s", sh.Failing, plural(sh.Attempts, "time"), sh.Next.Local().Format(time.DateTime))
			}
			line("shard", "%s: %s", text, eventsource.ReadableError(sh.Error))
		case eventsource.ShardBehind:
			line("shard", "%s begins when nothing is left of %s", sh.ID, strings.Join(sh.Parents, " and "))
		}
	}
}

// printTrials prints which records a filter takes, and why not the others.
func (a *app) printTrials(all []eventsource.Trial, line func(label, format string, args ...any)) {
	takes := 0
	for _, x := range all {
		verdict := a.style.dim("does not take")
		if x.Takes {
			verdict = a.style.green("takes")
			takes++
		}
		text := strings.TrimSpace(verdict + " " + x.Shard + " " + x.ID)
		if len(x.Why) > 0 {
			text += ": " + strings.Join(x.Why, "; ")
		}
		line("filter", "%s", text)
	}
	line("filter", "takes %d of %d records that wait", takes, len(all))
}

// printRecords prints how many records came to what, and those that were not just processed or filtered.
func (a *app) printRecords(r *server.MappingReport, line func(label, format string, args ...any)) {
	counts := map[eventsource.State]int{}
	for i := range r.Records {
		counts[r.Records[i].State]++
	}
	var parts []string
	for _, s := range states {
		if n := counts[s.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.name))
		}
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	more := ""
	if r.More {
		more = ", and there are more (--most)"
	}
	line("records", "%s%s", strings.Join(parts, ", "), more)
	for i := range r.Records {
		o := &r.Records[i]
		if o.State == eventsource.Processed || o.State == eventsource.Filtered || o.State == eventsource.Dropped { // what was dropped follows
			continue
		}
		text := strings.TrimSpace(o.ID + " " + o.Shard)
		for _, s := range states {
			if s.state == o.State {
				text += " " + s.name
			}
		}
		if o.Behind != "" {
			text += " behind " + o.Behind
		}
		if o.Attempts > 0 {
			text += fmt.Sprintf(", %s failed", plural(o.Attempts, "attempt"))
		}
		if !o.Next.IsZero() {
			text += ", next " + o.Next.Local().Format(time.TimeOnly)
		}
		switch {
		case o.Error != "":
			text += ": " + eventsource.ReadableError(o.Error)
		case o.Why != "":
			text += ": " + o.Why
		}
		line("", "%s", text)
	}
}

// states are the states of records as people read them, the good ones first.
var states = []struct {
	state          eventsource.State
	name, sentence string
}{
	{eventsource.Processed, "processed", "was processed"},
	{eventsource.Filtered, "filtered", "was filtered out"},
	{eventsource.Skipped, "skipped", "was skipped"},
	{eventsource.InFlight, "in the function", "is in the function"},
	{eventsource.Waiting, "waiting", "waits"},
	{eventsource.Throttled, "throttled", "was throttled, and is tried again"},
	{eventsource.Failed, "failing", "failed, and is tried again"},
	{eventsource.Dropped, "given up", "was given up"},
	{eventsource.DeadLettered, "in the dead-letter queue", "was moved to the dead-letter queue"},
	{eventsource.Gone, "gone", "is gone from its queue"},
	{eventsource.Unknown, "not known", "is not known"},
}

// settled are the states that do not change any more, whatever stands in the way of other records.
var settled = map[eventsource.State]bool{
	eventsource.Processed: true, eventsource.Filtered: true, eventsource.Skipped: true, eventsource.Dropped: true, eventsource.DeadLettered: true, eventsource.Gone: true,
}

func (a *app) printOutcome(o *eventsource.Outcome, line func(label, format string, args ...any)) {
	state := string(o.State)
	for _, s := range states {
		if s.state == o.State {
			state = s.sentence
		}
	}
	switch o.State {
	case eventsource.Dropped, eventsource.Failed, eventsource.Throttled, eventsource.DeadLettered, eventsource.Gone:
		state = a.style.red(state)
	case eventsource.Processed:
		state = a.style.green(state)
	}
	switch {
	case o.Time.IsZero():
	case o.State == eventsource.Processed || o.State == eventsource.Filtered || o.State == eventsource.Dropped:
		state += " at " + o.Time.Local().Format(time.DateTime)
	default:
		state += ", since " + o.Time.Local().Format(time.DateTime)
	}
	line("record", "%s", state)
	if o.Why != "" {
		line("", "%s", o.Why)
	}
	for _, x := range []struct{ label, text string }{
		{"shard", o.Shard}, {"behind", o.Behind}, {"behind", o.BehindShard}, {"cause", o.Condition}, {"error", eventsource.ReadableError(o.Error)}, {"request", o.RequestID},
	} {
		if x.text != "" {
			line(x.label, "%s", x.text)
		}
	}
	if o.Attempts > 0 {
		line("attempts", "%d failed", o.Attempts)
	}
	if o.Split != nil {
		line("split", "left of a batch of %d that failed, %s to %s", o.Split.Records, o.Split.First, o.Split.Last)
	}
	if !o.Arrival.IsZero() {
		line("arrived", "%s", o.Arrival.Local().Format(time.DateTime))
	}
	if !o.Next.IsZero() {
		line("next", "%s", o.Next.Local().Format(time.DateTime))
	}
	switch {
	case o.State == eventsource.DeadLettered:
		line("queue", "%s", o.Destination)
	case o.Destination != "":
		line("record", "%s", delivery(o.Destination, o.Delivery))
	}
}

// delivery says how far a record of what was given up has come.
func delivery(destination string, s *eventsource.Sent) string {
	switch {
	case s == nil: // given up before deliveries were followed
		return "goes to " + destination
	case s.State == eventsource.SentDelivered && s.ID != "":
		return fmt.Sprintf("went to %s as %s at %s", destination, s.ID, s.Time.Local().Format(time.DateTime))
	case s.State == eventsource.SentDelivered:
		return fmt.Sprintf("went to %s at %s", destination, s.Time.Local().Format(time.DateTime))
	case s.State == eventsource.SentLost:
		return fmt.Sprintf("was lost on the way to %s after %s: %s", destination, plural(s.Attempts, "attempt"), s.Error)
	case s.Attempts > 0:
		return fmt.Sprintf("is on its way to %s, %s failed, the last at %s: %s", destination, plural(s.Attempts, "attempt"), s.Time.Local().Format(time.DateTime), s.Error)
	}
	return "is on its way to " + destination
}

// plural counts things.
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing
}
