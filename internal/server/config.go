package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/edge"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Config is what an operator decides. The zero value is a server on the default address with its data in DefaultDataDir.
type Config struct {
	DataDir   string // empty means DefaultDataDir; ignored if Ephemeral
	Ephemeral bool   // everything in memory or in a temporary directory, gone at exit
	Listen    string // host:port; empty means 127.0.0.1:4566
	Dev       bool   // accept any credentials as root, on loopback only

	Sandbox string          // "linux", "process", or empty: the best that works here
	Network sandbox.Network // what functions can reach
	// MemoryMB is what all environments together may take, by their functions' memory sizes; 0 means four fifths of the
	// machine's memory.
	MemoryMB int
	Prepared int // sandboxes made ahead; 0 means the driver's default, below 0 none, and no interpreters started ahead either

	// Concurrency is how many invocations of one account in one region may run at once; 0 means 1000.
	Concurrency      int
	ConcurrencyFloor int // what reservations must leave of it; 0 means 100, or Concurrency if that is less; below 0 none
	ConcurrencyRate  int // synchronous invocations in a second for each unit of it; 0 means 10, below 0 no limit
	ConcurrencyBurst int // environments that a function may add in 10 seconds; 0 means 1000, below 0 no limit

	// StreamRate is how many bytes of a streamed response pass in a second, after the first 6 MiB; 0 means AWS's 2 MiB, below 0 no limit.
	StreamRate int64

	// NoShardLimits lifts the limits of what passes through a shard of Kinesis in a second.
	NoShardLimits bool

	// AsyncRetryWait is the wait before the first retry of a failed asynchronous invocation; 0 means AWS's minute. The other waits of
	// asynchronous invocations keep their proportion to it.
	AsyncRetryWait time.Duration

	// Issuers are the URLs of OpenID Connect issuers whose tokens may assume roles (AssumeRoleWithWebIdentity), beside the providers in
	// IAM. Roles name them as arn:aws:iam::<account>:oidc-provider/<URL without scheme>. Unlike those in IAM they may be http.
	Issuers []string

	// URL is where clients reach the server, for the links in messages; empty means the address that it listens on.
	URL string

	// Metrics is the loopback address on which metrics are served in Prometheus's text format, at /metrics, without credentials; empty means nowhere.
	Metrics string

	// SMTP is the relay that takes mail for e-mail subscriptions, in the form of sns.NewRelay; empty means that there are none.
	SMTP string

	Log *slog.Logger // nil discards
}

// DefaultDataDir is where data is kept if nothing else is said: MAYFLY_DATA, else mayfly in XDG_DATA_HOME or in
// ~/.local/share.
func DefaultDataDir() (string, error) {
	if dir := os.Getenv("MAYFLY_DATA"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "mayfly"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("no home directory to keep data in: give --data DIR")
	}
	return filepath.Join(home, ".local", "share", "mayfly"), nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Listen == "" {
		c.Listen = edge.DefaultAddr
	}
	if c.Concurrency == 0 {
		c.Concurrency = 1000
	}
	if c.ConcurrencyRate == 0 {
		c.ConcurrencyRate = 10
	}
	if c.ConcurrencyBurst == 0 {
		c.ConcurrencyBurst = 1000
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = machineMemoryMB() * 4 / 5
	}
	switch c.Sandbox {
	case "", "linux", "process":
	default:
		return c, fmt.Errorf("unknown sandbox %q: linux and process are known", c.Sandbox)
	}
	if c.DataDir == "" && !c.Ephemeral {
		dir, err := DefaultDataDir()
		if err != nil {
			return c, err
		}
		c.DataDir = dir
	}
	return c, nil
}

// machineMemoryMB is the memory of the machine, or 4 GiB where it cannot be told.
func machineMemoryMB() int {
	const unknown = 4096
	if runtime.GOOS != "linux" {
		return unknown
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			if kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB")); err == nil {
				return kb / 1024
			}
		}
	}
	return unknown
}
