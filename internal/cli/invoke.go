package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
)

func (a *app) invokeCommand() *cobra.Command {
	var event string
	var quiet bool
	c := &cobra.Command{
		Use:   "invoke NAME",
		Short: "Invoke a function and print its answer; its log goes to standard error",
		Example: `  mayfly invoke hello
  mayfly invoke hello --event '{"name":"world"}'
  mayfly invoke hello --event event.json
  echo '{}' | mayfly invoke hello --event -`,
		Args: one("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			payload, err := readEvent(event, cmd.InOrStdin())
			if err != nil {
				return err
			}
			t, err := a.target()
			if err != nil {
				return err
			}
			out, err := lambdaapi.Invoke.Call(cmd.Context(), t.client(), &lambdaapi.InvokeInput{
				FunctionName: &args[0], Payload: payload, LogType: new("Tail"),
			})
			if err != nil {
				return err
			}
			return a.printAnswer(out, quiet)
		},
	}
	a.clientFlags(c)
	c.Flags().StringVarP(&event, "event", "e", "{}", "the event: JSON, a file's name, or - for standard input")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not print the log")
	return c
}

// printAnswer prints the answer and, to standard error, the end of the log.
func (a *app) printAnswer(out *lambdaapi.InvokeOutput, quiet bool) error {
	var log []byte
	if out.LogResult != nil {
		log, _ = base64.StdEncoding.DecodeString(*out.LogResult)
	}
	if a.json {
		v := map[string]any{"statusCode": out.StatusCode, "executedVersion": out.ExecutedVersion, "log": string(log)}
		if out.FunctionError != nil {
			v["functionError"] = *out.FunctionError
		}
		if json.Valid(out.Payload) {
			v["payload"] = json.RawMessage(out.Payload)
		} else {
			v["payload"] = string(out.Payload)
		}
		if err := a.printJSON(v); err != nil {
			return err
		}
	} else {
		if !quiet {
			fmt.Fprint(a.err, a.style.dim(string(log)))
		}
		fmt.Fprintf(a.out, "%s\n", out.Payload)
	}
	if out.FunctionError != nil {
		return &functionFailed{*out.FunctionError}
	}
	return nil
}

// readEvent reads an event that is given as JSON, as a file's name or as "-".
func readEvent(event string, stdin io.Reader) ([]byte, error) {
	var b []byte
	var err error
	switch s := strings.TrimSpace(event); {
	case s == "-":
		b, err = io.ReadAll(stdin)
	case json.Valid([]byte(s)):
		return []byte(s), nil
	default:
		b, err = os.ReadFile(event)
		if os.IsNotExist(err) {
			return nil, fmt.Errorf("--event %q is neither JSON nor the name of a file", event)
		}
	}
	if err != nil {
		return nil, err
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("the event is not JSON")
	}
	return bytes.TrimSpace(b), nil
}
