package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/server"
)

func (a *app) mappingsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "mappings [PART...]",
		Short: "List event source mappings: what waits and for how long, batches, failures, what stands in the way",
		Long: `List the event source mappings of the account in all regions, or those with PART in their UUID, function or source.

"waiting" is the visible messages of a queue, or the records that were read of a stream and are not done. "oldest" is how long the oldest of them waits: it
grows while nothing moves. Batches, records, records in batches that failed, retries and records given up count since the server started, or since the
mapping was enabled last. --json has all counts, and each shard.`,
		Example: `  mayfly mappings
  mayfly mappings stream/clicks
  mayfly mappings --json`,
		RunE: func(cmd *cobra.Command, parts []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			var all []server.MappingStatus
			if err := t.get(cmd.Context(), "/_mayfly/mappings", &all); err != nil {
				return err
			}
			some := []server.MappingStatus{}
			for _, m := range all {
				meant := len(parts) == 0
				for _, part := range parts {
					meant = meant || strings.Contains(m.UUID+" "+m.Function+" "+m.Source, part)
				}
				if meant {
					some = append(some, m)
				}
			}
			if a.json {
				return a.printJSON(some)
			}
			if len(some) == 0 {
				fmt.Fprintln(a.out, "There is no such event source mapping.")
				return nil
			}
			now := time.Now()
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "region\tsource\tfunction\tstate\twaiting\toldest\tin flight\tbatches\trecords\tfailed\tretries\tgiven up")
			for i := range some {
				m := &some[i]
				region, source := shortARN(m.Source)
				_, function := shortARN(m.Function)
				x := &m.Metrics
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", region, source, strings.TrimPrefix(function, "function:"), m.State,
					m.Waiting, ageOf(m.Oldest, now), x.InFlight, x.Batches, x.Invoked, x.Failed, x.Retries, x.Dropped)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			for i := range some {
				if m := &some[i]; m.Reason != "" {
					_, source := shortARN(m.Source)
					fmt.Fprintf(a.out, "%s: %s\n", a.style.bold(source), a.style.red(m.Reason))
				}
			}
			return nil
		},
	}
	a.clientFlags(c)
	return c
}

// shortARN is the region of an ARN and what it names: a queue's name, stream/name, function:name.
func shortARN(arn string) (region, resource string) {
	p := strings.SplitN(arn, ":", 6)
	if len(p) < 6 {
		return "", arn
	}
	return p[3], p[5]
}
