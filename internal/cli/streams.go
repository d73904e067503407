package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/service/kinesis"
)

func (a *app) streamsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "streams",
		Short: "List streams: shards, records, the age of the oldest, and how far consumers are behind",
		Long: `List the streams of the account in all regions.

"behind" is the most that a GetRecords of the last minute was behind the tip of its shard. Of each enhanced fan-out consumer stands how many
shards it is subscribed to, and the most that it is behind in one of them. Numbers of records are approximate.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			var all []kinesis.StreamStats
			if err := t.get(cmd.Context(), "/_mayfly/streams", &all); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "stream\tregion\tstatus\tmode\tshards\trecords\tMiB\toldest\tretention\tbehind\tconsumers")
			for _, s := range all {
				var consumers []string
				for _, c := range s.Consumers {
					text := c.Name + " (" + strings.ToLower(c.Status) + ")"
					if c.Shards > 0 {
						text = fmt.Sprintf("%s: %d shards, %s behind", c.Name, c.Shards, age(c.LagMillis))
					}
					consumers = append(consumers, text)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%.1f\t%s\t%dh\t%s\t%s\n", s.Name, s.Region, s.Status, s.Mode, s.Shards, s.Records, float64(s.Bytes)/(1<<20),
					optionalAge(s.OldestMillis), s.RetentionHours, optionalAge(s.PollersMillis), strings.Join(consumers, "; "))
			}
			return w.Flush()
		},
	}
	a.clientFlags(c)
	return c
}

// age prints milliseconds as people say them.
func age(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d >= time.Minute {
		d = d.Round(time.Second)
	}
	return d.String()
}

func optionalAge(ms *int64) string {
	if ms == nil {
		return "-"
	}
	return age(*ms)
}
