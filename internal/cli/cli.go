// Package cli is the command line: one file for each subcommand.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/edge"
	"github.com/mayflyhq/mayfly/internal/server"
)

// app is what the subcommands share.
type app struct {
	out, err io.Writer
	json     bool
	style    style

	// How a server is reached.
	data     string
	endpoint string
}

// Main runs the command line and returns the exit status: 0, 1 for a failure, 2 for a function that failed.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, args, os.Stdin, stdout, stderr)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{out: stdout, err: stderr, style: styleFor(stdout)}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var failed *functionFailed
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		return 2
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 130
	}
	fmt.Fprintf(stderr, "%s %s\n", styleFor(stderr).red("mayfly:"), explain(err))
	return 1
}

// functionFailed says that the function, not the command, went wrong; its error was printed already.
type functionFailed struct{ kind string }

func (e *functionFailed) Error() string { return "the function failed: " + e.kind }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mayfly",
		Short: "A serverless platform of your own that speaks the AWS APIs",
		Long: `Mayfly runs functions in sandboxes on this machine and serves the AWS APIs to create, invoke and observe them.

Start a server, point your AWS tools at it, and use them as ever:

  mayfly serve                      # in one terminal
  eval "$(mayfly env)"              # in another
  aws lambda list-functions

Or run a folder's handler once, with nothing set up:

  mayfly run ./my-function --event '{"name":"world"}'`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON, for scripts")
	root.AddCommand(
		a.serveCommand(), a.envCommand(), a.doctorCommand(), a.invokeCommand(), a.logsCommand(),
		a.queuesCommand(), a.mappingsCommand(), a.usageCommand(), a.streamsCommand(), a.whyDeniedCommand(), a.whyNotDeliveredCommand(), a.policyCommand(), a.runCommand(), a.versionCommand(),
	)
	return root
}

// one is for commands with one argument, which it calls by its name.
func one(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one %s, not %d: see %[1]s --help", c.CommandPath(), name, len(args))
		}
		return nil
	}
}

// dataFlag is for commands that use a data directory.
func (a *app) dataFlag(c *cobra.Command) {
	c.Flags().StringVar(&a.data, "data", "", "data directory (default $MAYFLY_DATA, else ~/.local/share/mayfly)")
}

// clientFlags are for commands that call a running server.
func (a *app) clientFlags(c *cobra.Command) {
	a.dataFlag(c)
	c.Flags().StringVar(&a.endpoint, "endpoint", "", "server to call (default $AWS_ENDPOINT_URL, else that of the data directory)")
}

// dataDir is the directory that flag or environment name.
func (a *app) dataDir() (string, error) {
	if a.data != "" {
		return a.data, nil
	}
	return server.DefaultDataDir()
}

// target is a server with the credentials for it.
type target struct {
	endpoint    string
	region      string
	credentials sigv4.Credentials
}

// target finds the server and the credentials: those of the environment, else the root's in the data directory.
func (a *app) target() (*target, error) {
	t := &target{endpoint: a.endpoint, region: os.Getenv("AWS_REGION")}
	if t.endpoint == "" {
		t.endpoint = os.Getenv("AWS_ENDPOINT_URL")
	}
	if t.endpoint == "" {
		endpoint, err := a.serverEndpoint()
		if err != nil {
			return nil, err
		}
		t.endpoint = endpoint
	}
	if t.region == "" {
		t.region = os.Getenv("AWS_DEFAULT_REGION")
	}
	if id := os.Getenv("AWS_ACCESS_KEY_ID"); id != "" && a.data == "" {
		t.credentials = sigv4.Credentials{AccessKeyID: id, SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN")}
	} else {
		root, err := a.rootCredentials()
		if err != nil {
			return nil, err
		}
		t.credentials = sigv4.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}
		if t.region == "" {
			t.region = root.Region
		}
	}
	if t.region == "" {
		t.region = credential.DefaultRegion
	}
	return t, nil
}

// serverEndpoint is the URL of the server that last used the data directory.
func (a *app) serverEndpoint() (string, error) {
	dir, err := a.dataDir()
	if err != nil {
		return "", err
	}
	return "http://" + server.LastAddress(dir), nil
}

func (a *app) rootCredentials() (*credential.Root, error) {
	dir, err := a.dataDir()
	if err != nil {
		return nil, err
	}
	root, err := credential.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no credentials in %s yet: start the server first (mayfly serve), or say where its data is (--data DIR)", dir)
	}
	return root, err
}

// client calls the server.
func (t *target) client() *protocol.Client {
	return &protocol.Client{
		Endpoint: t.endpoint,
		Sign: func(_ context.Context, r *http.Request, service string, body []byte) error {
			sigv4.Sign(r, t.credentials, service, t.region, sigv4.Hash(body), time.Now())
			return nil
		},
	}
}

// get reads an endpoint of Mayfly's own.
func (t *target) get(ctx context.Context, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.endpoint+path, nil)
	if err != nil {
		return err
	}
	sigv4.Sign(r, t.credentials, edge.SigningName, t.region, sigv4.EmptyPayload, time.Now())
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
		return fmt.Errorf("%s answers %s: %s", path, res.Status, b)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// explain adds to an error what to do about it.
func explain(err error) string {
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		text := e.Code + ": " + e.Message
		switch e.Code {
		case "UnrecognizedClientException", "InvalidSignatureException", "InvalidClientTokenId", "SignatureDoesNotMatch":
			text += "\nThe credentials are another server's. Use those of this one: eval \"$(mayfly env)\""
		}
		return text
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return err.Error() + "\nStop what listens there, or choose another address: --listen 127.0.0.1:4600"
	}
	if strings.HasPrefix(err.Error(), "unknown command") {
		return err.Error() + "\nmayfly --help lists the commands."
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return err.Error() + "\nNo server listens there. Start one with: mayfly serve"
	}
	return err.Error()
}
