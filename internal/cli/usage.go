package cli

import (
	"fmt"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/meter"
)

func (a *app) usageCommand() *cobra.Command {
	var from, to string
	c := &cobra.Command{
		Use:   "usage",
		Short: "Sum up what functions ran, by function and day, and what it would cost on AWS",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for flag, day := range map[string]string{"from": from, "to": to} {
				if _, err := time.Parse(time.DateOnly, day); day != "" && err != nil {
					return fmt.Errorf("--%s %q is not a day: write it as %s", flag, day, time.DateOnly)
				}
			}
			t, err := a.target()
			if err != nil {
				return err
			}
			var lines []meter.Line
			q := url.Values{}
			if from != "" {
				q.Set("from", from)
			}
			if to != "" {
				q.Set("to", to)
			}
			path := "/_mayfly/usage"
			if len(q) > 0 {
				path += "?" + q.Encode()
			}
			if err := t.get(cmd.Context(), path, &lines); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(lines)
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintln(w, "day\tregion\tfunction\tversion\tMB\tinvocations\tfailed\tcold\tbilled s\tGB-s\tUSD\t")
			var invocations int64
			var gbs, usd float64
			for _, l := range lines {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%.3f\t%.4f\t%.8f\t\n", l.Day, l.Region, l.Function, l.Version, l.MemoryMB,
					l.Invocations, l.Failures, l.ColdStarts, float64(l.BilledMs)/1000, l.GBSeconds, l.USD)
				invocations += l.Invocations
				gbs += l.GBSeconds
				usd += l.USD
			}
			fmt.Fprintf(w, "total\t\t\t\t\t%d\t\t\t\t%.4f\t%.8f\t\n", invocations, gbs, usd)
			return w.Flush()
		},
	}
	a.clientFlags(c)
	c.Flags().StringVar(&from, "from", "", "first day, as 2006-01-02")
	c.Flags().StringVar(&to, "to", "", "last day")
	return c
}
