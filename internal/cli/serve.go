package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/edge"
	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/server"
)

func (a *app) serveCommand() *cobra.Command {
	var (
		config  server.Config
		network string
		verbose bool
	)
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the AWS APIs on this machine",
		Long: `Serve the AWS APIs until Ctrl-C. Invocations that run then may end; a second Ctrl-C ends them at once.

The root user's access key is made at first start and kept in the data directory; "mayfly env" prints it.`,
		Example: `  mayfly serve
  mayfly serve --data /var/lib/mayfly --listen 127.0.0.1:4600
  mayfly serve --ephemeral --dev     # for tests: nothing is kept, any credentials are root's`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			handler := slog.Handler(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
			if a.json {
				handler = slog.NewJSONHandler(a.err, &slog.HandlerOptions{Level: level})
			}
			config.DataDir, config.Log = a.data, slog.New(handler)
			switch network {
			case "egress":
				config.Network = sandbox.NetworkEgress
			case "none":
				config.Network = sandbox.NetworkNone
			default:
				return fmt.Errorf("unknown network %q: egress and none are known", network)
			}
			s, err := server.New(cmd.Context(), config)
			if err != nil {
				return err
			}
			defer onSecondSignal(cmd.Context(), s.Hurry)()
			return s.Run(cmd.Context(), func() { a.greet(s, &config) })
		},
	}
	a.dataFlag(c)
	f := c.Flags()
	f.StringVar(&config.Listen, "listen", edge.DefaultAddr, "address to listen on")
	f.BoolVar(&config.Ephemeral, "ephemeral", false, "keep everything in memory, gone at exit")
	f.BoolVar(&config.Dev, "dev", false, "accept any credentials as root's, on loopback addresses only")
	f.StringArrayVar(&config.Issuers, "trust-issuer", nil, "URL of an OpenID Connect issuer whose tokens may assume roles, beside the providers in IAM; may be repeated")
	f.StringVar(&config.Sandbox, "sandbox", "", "linux or process (default: linux where it works)")
	f.StringVar(&network, "network", "egress", "what functions can reach: egress or none")
	f.StringVar(&config.URL, "url", "", "URL at which clients reach the server, for links in messages (default http:// and the address)")
	f.StringVar(&config.Metrics, "metrics", "", "loopback address on which to serve metrics for Prometheus, at /metrics: 127.0.0.1:9464, for example")
	f.StringVar(&config.SMTP, "smtp", "", "mail relay for e-mail subscriptions: smtp://[user:password@]host[:port]?from=address, or smtps")
	f.IntVar(&config.MemoryMB, "memory", 0, "MB for all environments together, by their functions' memory sizes (default four fifths of the machine's)")
	f.DurationVar(&config.AsyncRetryWait, "async-retry-wait", asyncRetryWait(), "wait before the first retry of a failed asynchronous invocation, to which all its waits are in proportion (default 1m)")
	f.IntVar(&config.Concurrency, "concurrency", 0, "invocations at once, of each account in each region (default 1000)")
	f.IntVar(&config.ConcurrencyFloor, "concurrency-floor", 0, "what reserved concurrency must leave of it (default 100; -1: nothing)")
	f.IntVar(&config.ConcurrencyRate, "concurrency-rate", 0, "synchronous invocations a second for each unit of concurrency (default 10; -1: no limit)")
	f.Int64Var(&config.StreamRate, "stream-rate", 0, "bytes of a streamed response in a second, after its first 6 MiB (default 2097152; -1: no limit)")
	f.BoolVar(&config.NoShardLimits, "no-shard-limits", false, "let any number of records through a shard of Kinesis in a second")
	f.IntVar(&config.ConcurrencyBurst, "concurrency-burst", 0, "environments that a function may add in 10 seconds (default 1000; -1: no limit)")
	f.IntVar(&config.Prepared, "prepared", 0, "sandboxes made ahead of need (default: the driver's; -1: none)")
	f.BoolVarP(&verbose, "verbose", "v", false, "log every call")
	return c
}

// onSecondSignal calls f when another signal comes after the one that ended ctx, until the function it returns is called.
func onSecondSignal(ctx context.Context, f func()) (end func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		second := make(chan os.Signal, 1)
		signal.Notify(second, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(second)
		select {
		case <-done:
		case <-second:
			f()
		}
	}()
	return func() { close(done) }
}

// greet says that the server is up, what it lacks, and what to do next.
func (a *app) greet(s *server.Server, config *server.Config) {
	if a.json {
		a.printJSON(map[string]any{"address": s.Addr().String(), "ephemeral": config.Ephemeral, "sandbox": s.Report()})
		return
	}
	fmt.Fprintf(a.out, "%s serves the AWS APIs on http://%s\n", a.style.bold("Mayfly"), s.Addr())
	report := s.Report()
	if missing := report.Missing(); len(missing) > 0 {
		fmt.Fprintln(a.out, a.style.yellow("This machine does not isolate everything (mayfly doctor says more):"))
		for _, m := range missing {
			fmt.Fprintf(a.out, "  %s: %s\n", m.Name, m.Detail)
		}
	}
	if config.Ephemeral {
		root := s.Root()
		fmt.Fprintf(a.out, "Nothing is kept. The credentials of this run:\n%s", exports("http://"+s.Addr().String(), root))
		return
	}
	hint := "mayfly env"
	if a.data != "" {
		hint += " --data " + a.data
	}
	fmt.Fprintf(a.out, "In another terminal: eval \"$(%s)\", and then any AWS tool.\n", hint)
}

// asyncRetryWait is the default of the flag: the environment's, as far as it can be read.
func asyncRetryWait() time.Duration {
	d, err := time.ParseDuration(os.Getenv("MAYFLY_ASYNC_RETRY_WAIT"))
	if err != nil || d < 0 {
		return 0
	}
	return d
}
