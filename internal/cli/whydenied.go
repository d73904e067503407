package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/authorize"
)

func (a *app) whyDeniedCommand() *cobra.Command {
	var last int
	var principal string
	c := &cobra.Command{
		Use:   "why-denied",
		Short: "Explain the last calls that policies refused, and what would allow them",
		Example: `  mayfly why-denied
  mayfly why-denied --last 1
  mayfly why-denied --principal user/bob --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if last < 1 {
				return fmt.Errorf("--last %d: at least one", last)
			}
			t, err := a.target()
			if err != nil {
				return err
			}
			q := url.Values{"last": {strconv.Itoa(last)}}
			if principal != "" {
				q.Set("principal", principal)
			}
			var refused []authorize.Refusal
			if err := t.get(cmd.Context(), "/_mayfly/refusals?"+q.Encode(), &refused); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(refused)
			}
			if len(refused) == 0 {
				fmt.Fprintln(a.out, "Nothing was refused.")
				return nil
			}
			slices.Reverse(refused) // the newest stands at the end, where one looks
			for i := range refused {
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				a.printRefusal(&refused[i])
			}
			return nil
		},
	}
	a.clientFlags(c)
	c.Flags().IntVar(&last, "last", 10, "how many at most")
	c.Flags().StringVar(&principal, "principal", "", "only those of principals or functions with this in their ARN")
	return c
}

func (a *app) printRefusal(r *authorize.Refusal) {
	line := func(label, text string) {
		fmt.Fprintf(a.out, "  %s %s\n", a.style.dim(fmt.Sprintf("%-9s", label)), text)
	}
	fmt.Fprintf(a.out, "%s %s\n", r.Time.Local().Format(time.DateTime), a.style.bold(r.Action))
	if r.Operation != "" && r.Operation != r.Action {
		line("for", r.Operation)
	}
	line("principal", r.Principal)
	if r.Function != "" {
		line("function", r.Function)
	}
	line("resource", r.Resource)
	line("why", a.style.red(r.Reason))
	if r.Denies {
		line("denied by", "statement "+r.Statement+" of "+r.Policy)
	}
	for _, n := range r.Nearly {
		line("nearly", n)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Keys)) {
		line("key", k+" = "+strings.Join(r.Keys[k], ", "))
	}
	line("fix", r.Fix.Advice)
	if r.Fix.Policy != nil {
		b, _ := json.MarshalIndent(r.Fix.Policy, "            ", "  ")
		fmt.Fprintf(a.out, "            %s\n", b)
	}
}
