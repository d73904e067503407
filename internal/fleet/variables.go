package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/runtimes"
)

// place is where things are, as the processes of a sandbox see it.
type place struct {
	task, opt, runtime string // /var/task, /opt, /var/runtime
	runtimeAPI         string // host:port
	endpoint           string // host:port of Mayfly's own API; empty if there is none
}

// variables builds the environment of the runtime process: the platform's variables under those of the language under
// the customer's, except that nobody changes the reserved ones.
func variables(fn *Function, launch *runtimes.Launch, at place, initType, logStream string, c Credentials) map[string]string {
	v := map[string]string{
		"TZ":                       ":UTC",
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS":  "127.0.0.1:2000",
		"_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
		"_AWS_XRAY_DAEMON_PORT":    "2000",
		"AWS_LAMBDA_LOG_FORMAT":    fn.LogFormat,
		"AWS_LAMBDA_LOG_LEVEL":     fn.ApplicationLogLevel,
		"SHLVL":                    "0",
		"PWD":                      at.task,
		"_LAMBDA_TELEMETRY_LOG_FD": "1", // the platform takes framed records from the standard output, see output
	}
	if fn.LogFormat != "JSON" {
		delete(v, "AWS_LAMBDA_LOG_FORMAT")
		delete(v, "AWS_LAMBDA_LOG_LEVEL")
	}
	if at.endpoint != "" {
		v["AWS_ENDPOINT_URL"] = "http://" + at.endpoint
	}
	maps.Copy(v, customer(fn, launch))
	maps.Copy(v, reserved(fn, at, initType, logStream, c))
	if !strings.HasPrefix(fn.Runtime, "provided") {
		v["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + fn.Runtime
	}
	return v
}

// customer are the variables of the language under the customer's.
func customer(fn *Function, launch *runtimes.Launch) map[string]string {
	v := maps.Clone(launch.Env)
	if v == nil {
		v = map[string]string{}
	}
	for name, value := range fn.Environment {
		if !strings.HasPrefix(name, "_") {
			v[name] = value
		}
	}
	return v
}

// reserved are the variables that a customer cannot set.
func reserved(fn *Function, at place, initType, logStream string, c Credentials) map[string]string {
	return map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        fn.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     fn.Version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(fn.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  initType,
		"AWS_LAMBDA_LOG_GROUP_NAME":       fn.LogGroup,
		"AWS_LAMBDA_LOG_STREAM_NAME":      logStream,
		"AWS_LAMBDA_RUNTIME_API":          at.runtimeAPI,
		"AWS_REGION":                      fn.Region,
		"AWS_DEFAULT_REGION":              fn.Region,
		"AWS_ACCESS_KEY_ID":               c.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY":           c.SecretAccessKey,
		"AWS_SESSION_TOKEN":               c.SessionToken,
		"LAMBDA_TASK_ROOT":                at.task,
		"LAMBDA_RUNTIME_DIR":              at.runtime,
		"_HANDLER":                        fn.Handler,
	}
}

// The initialization types.
const (
	onDemand               = "on-demand"
	provisionedConcurrency = "provisioned-concurrency"
)

func (e *environment) initType() string {
	if e.provisioned {
		return provisionedConcurrency
	}
	return onDemand
}

// hiddenFromExtensions are the variables that extensions do not get, besides all that begin with an underscore.
var hiddenFromExtensions = []string{
	"AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING",
	"AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
}

// extensionVariables are the runtime's without those that extensions never get.
func extensionVariables(runtime []string) []string {
	return slices.DeleteFunc(slices.Clone(runtime), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "_") || slices.Contains(hiddenFromExtensions, name)
	})
}

func list(v map[string]string) []string {
	l := make([]string, 0, len(v))
	for _, name := range slices.Sorted(maps.Keys(v)) {
		l = append(l, fmt.Sprintf("%s=%s", name, v[name]))
	}
	return l
}
