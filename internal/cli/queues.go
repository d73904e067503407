package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/service/sqs"
)

func (a *app) queuesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "queues [name...]",
		Short: "Show the SQS queues: how many messages wait, are in flight and delayed, the age of the oldest, dead letters",
		Example: `  mayfly queues
  mayfly queues orders orders-dead
  mayfly queues --json`,
		RunE: func(cmd *cobra.Command, names []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			var all []sqs.Overview
			if err := t.get(cmd.Context(), "/_mayfly/queues", &all); err != nil {
				return err
			}
			for _, name := range names {
				if !slices.ContainsFunc(all, func(q sqs.Overview) bool { return q.Name == name }) {
					return fmt.Errorf("no queue is named %s", name)
				}
			}
			if len(names) > 0 {
				all = slices.DeleteFunc(all, func(q sqs.Overview) bool { return !slices.Contains(names, q.Name) })
			}
			if a.json {
				return a.printJSON(all)
			}
			if len(all) == 0 {
				fmt.Fprintln(a.out, "There are no queues.")
				return nil
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "region\tqueue\tvisible\tin flight\tdelayed\toldest\tdead letters")
			for _, q := range all {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", q.Region, q.Name, q.Visible, q.InFlight, q.Delayed, ageOf(q.Oldest, time.Now()), relations(&q))
			}
			return w.Flush()
		},
	}
	a.clientFlags(c)
	return c
}

// ageOf is how long ago something was, as two units at most: 45s, 3m 20s, 2h 5m, 4d 1h.
func ageOf(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	d := max(0, now.Sub(*t)).Truncate(time.Second)
	s := int(d / time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", s)
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", s/60, s%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd %dh", s/86400, s/3600%24)
}

// relations is what a queue has to do with dead letters: where its own go, and whose it takes.
func relations(q *sqs.Overview) string {
	var parts []string
	if q.DeadLetterQueue != "" {
		parts = append(parts, fmt.Sprintf("to %s after %d receives", q.DeadLetterQueue, q.MaxReceives))
	}
	if len(q.Sources) > 0 {
		parts = append(parts, "of "+strings.Join(q.Sources, ", "))
	}
	if q.Moving {
		parts = append(parts, "being moved")
	}
	if parts == nil {
		return "-"
	}
	return strings.Join(parts, "; ")
}
