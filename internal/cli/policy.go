package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

func (a *app) policyCommand() *cobra.Command {
	var denied bool
	c := &cobra.Command{
		Use:   "policy NAME",
		Short: "Print the smallest policy for what a function, role or user really did",
		Long: `Print the smallest policy for what a function really did with its role's permissions. NAME may also be role/NAME or user/NAME.

The policy goes to standard output, and what its role allows beyond it to standard error.`,
		Example: `  mayfly policy my-function > policy.json
  mayfly policy role/my-role --include-denied`,
		Args: one("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			q, err := subject(cmd.Context(), t.client(), args[0])
			if err != nil {
				return err
			}
			if denied {
				q.Set("denied", "true")
			}
			var p authorize.Proposal
			if err := t.get(cmd.Context(), "/_mayfly/policy?"+q.Encode(), &p); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			if p.Policy == nil {
				fmt.Fprintf(a.err, "%s did nothing that needs a permission since %s.\n", p.Subject, p.Since.Local().Format(time.DateTime))
				return nil
			}
			if err := a.printJSON(p.Policy); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "%s\n", a.style.dim("What "+p.Subject+" did since "+p.Since.Local().Format(time.DateTime)+"."))
			if len(p.Unused) > 0 {
				fmt.Fprintf(a.err, "%s allows what was never used:\n", p.Holder)
				for _, u := range p.Unused {
					fmt.Fprintf(a.err, "  %s\n", u)
				}
			}
			return nil
		},
	}
	a.clientFlags(c)
	c.Flags().BoolVar(&denied, "include-denied", false, "allow what was refused too")
	return c
}

// subject finds whom a name means, and the role or user whose policies count.
func subject(ctx context.Context, client smithy.Caller, name string) (url.Values, error) {
	if kind, rest, ok := strings.Cut(name, "/"); ok && !strings.Contains(name, ":") {
		switch kind {
		case "role":
			out, err := iamapi.GetRole.Call(ctx, client, &iamapi.GetRoleInput{RoleName: &rest})
			if err != nil {
				return nil, err
			}
			return url.Values{"subject": {*out.Role.Arn}, "holder": {*out.Role.Arn}}, nil
		case "user":
			out, err := iamapi.GetUser.Call(ctx, client, &iamapi.GetUserInput{UserName: &rest})
			if err != nil {
				return nil, err
			}
			return url.Values{"subject": {*out.User.Arn}, "holder": {*out.User.Arn}}, nil
		}
	}
	fn, err := lambdaapi.GetFunctionConfiguration.Call(ctx, client, &lambdaapi.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil {
		return nil, err
	}
	q := url.Values{"subject": {*fn.FunctionArn}, "holder": {*fn.Role}, "logGroup": {"/aws/lambda/" + *fn.FunctionName}}
	if fn.LoggingConfig != nil && fn.LoggingConfig.LogGroup != nil {
		q.Set("logGroup", *fn.LoggingConfig.LogGroup)
	}
	return q, nil
}
