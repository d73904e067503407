package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	var since time.Duration
	var filter string
	c := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print what a function logged",
		Example: `  mayfly logs hello
  mayfly logs hello --follow
  mayfly logs hello --since 1h --filter ERROR`,
		Args: one("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			ctx, client := cmd.Context(), t.client()
			fn, err := lambdaapi.GetFunctionConfiguration.Call(ctx, client, &lambdaapi.GetFunctionConfigurationInput{FunctionName: &args[0]})
			if err != nil {
				return err
			}
			group := "/aws/lambda/" + *fn.FunctionName
			if fn.LoggingConfig != nil && fn.LoggingConfig.LogGroup != nil {
				group = *fn.LoggingConfig.LogGroup
			}
			in := &logsapi.FilterLogEventsInput{LogGroupName: &group, StartTime: new(time.Now().Add(-since).UnixMilli())}
			if filter != "" {
				in.FilterPattern = &filter
			}
			return a.tail(ctx, client, in, follow)
		},
	}
	a.clientFlags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what comes")
	c.Flags().DurationVar(&since, "since", 10*time.Minute, "how far back to begin")
	c.Flags().StringVar(&filter, "filter", "", "a CloudWatch Logs filter pattern")
	return c
}

// pollInterval is how often a followed log is asked for.
const pollInterval = 500 * time.Millisecond

// tail prints what a filter finds, and with follow what it finds later. Events that come late, with an earlier time, are
// found by looking back a little and leaving out what was printed.
func (a *app) tail(ctx context.Context, client smithy.Caller, in *logsapi.FilterLogEventsInput, follow bool) error {
	const lookBack = 5_000 // milliseconds
	printed := map[string]int64{}
	for {
		newest := *in.StartTime
		in.NextToken = nil
		for {
			out, err := logsapi.FilterLogEvents.Call(ctx, client, in)
			if isMissing(err) {
				if !follow {
					return nil // it has not logged anything yet
				}
				break
			}
			if err != nil {
				return err
			}
			for _, e := range out.Events {
				if _, seen := printed[*e.EventId]; seen {
					continue
				}
				printed[*e.EventId] = *e.Timestamp
				newest = max(newest, *e.Timestamp)
				a.printEvent(&e)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
		if !follow {
			return nil
		}
		in.StartTime = new(max(*in.StartTime, newest-lookBack))
		for id, at := range printed {
			if at < *in.StartTime {
				delete(printed, id)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollInterval):
		}
	}
}

func isMissing(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "ResourceNotFoundException")
}

func (a *app) printEvent(e *logsapi.FilteredLogEvent) {
	if a.json {
		json.NewEncoder(a.out).Encode(map[string]any{"timestamp": e.Timestamp, "stream": e.LogStreamName, "message": e.Message})
		return
	}
	at := time.UnixMilli(*e.Timestamp).Format("15:04:05.000")
	fmt.Fprintf(a.out, "%s %s\n", a.style.dim(at), strings.TrimRight(*e.Message, "\n"))
}
