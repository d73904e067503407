// Package runtimes finds what a function runs on: for nodejs* and python* the language as installed on this machine
// together with our own runtime interface clients, for provided* the archive's bootstrap.
//
// A runtime interface client is the program between the Runtime API and the handler: it loads the handler, polls for
// events, calls it, posts what comes of it, and shapes logs and errors. Ours are embedded in the binary, written once
// under a cache directory named by the hash of their content, and mounted read-only at /var/runtime.
//
// What is run to find a language is only what the machine itself has installed, never anything of a function.
package runtimes

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Where the parts of a runtime stand inside a sandbox, as AWS has them.
const (
	TaskDir    = "/var/task"    // the function's code, LAMBDA_TASK_ROOT
	LayersDir  = "/opt"         // the merged layers
	RuntimeDir = "/var/runtime" // the runtime interface client, LAMBDA_RUNTIME_DIR
	LangDir    = "/var/lang"    // the language
)

// Mount is a host directory that a sandbox must show, read-only.
type Mount struct {
	Source string // absolute path on the host
	Target string // absolute path in the sandbox
}

// Launch says how to start a runtime. It is a value: neither its maps nor its slices may be changed.
type Launch struct {
	Runtime          string // the name asked for, for example "python3.13"
	Family           Family
	RequestedVersion string // "22", "3.13", "al2023"
	FoundVersion     string // what the machine has: "22.11.0", "3.13.1"; empty for provided*
	Interpreter      string // the host's path of the language's executable; empty for provided*

	// Warning, if not empty, belongs in the function's log at INIT: the exact version is not installed, or the
	// architecture is another one.
	Warning string

	// RuntimeVersion and RuntimeVersionID are for INIT_START and RuntimeVersionArn: "python:3.13.v1" and 64 hex digits
	// that change when the language or its client does.
	RuntimeVersion   string
	RuntimeVersionID string

	// Mounts are what the sandbox shows besides the host's /usr, /lib and /bin: the client at /var/runtime and, where the
	// language is a directory of its own, that at /var/lang.
	Mounts []Mount

	// Exec is the argument vector inside the sandbox; Command completes it. Empty for provided*, which runs the first of
	// Entrypoints that exists there.
	Exec        []string
	Entrypoints []string

	// Env is what the language adds to the environment of the function. A function's own variables go over it. Paths are
	// the sandbox's; a driver without mounts translates them like those of Exec.
	Env map[string]string
}

// launchEnv has what all runtimes add to the environment, with AWS's values. lang, if not empty, is the language's
// directory.
func launchEnv(lang string) map[string]string {
	env := map[string]string{
		"LANG":            "en_US.UTF-8",
		"PATH":            "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
	}
	if lang != "" {
		env["PATH"] = lang + "/bin:" + env["PATH"]
		env["LD_LIBRARY_PATH"] = lang + "/lib:" + env["LD_LIBRARY_PATH"]
	}
	return env
}

// Command is the argument vector to start with, given the whole environment of the function: the memory size decides
// V8's heap limits, AWS_LAMBDA_EXEC_WRAPPER puts the function's own script in front. For provided* it is empty.
func (l Launch) Command(env map[string]string) []string {
	if len(l.Exec) == 0 {
		return nil
	}
	argv := slices.Clone(l.Exec)
	if l.Family == Node {
		argv = slices.Insert(argv, 1, l.nodeFlags(env)...)
	}
	if wrapper := env["AWS_LAMBDA_EXEC_WRAPPER"]; wrapper != "" {
		script := path.Join(path.Dir(l.Exec[len(l.Exec)-1]), wrapperScript)
		argv = append([]string{"/bin/sh", script, wrapper}, argv...)
	}
	return argv
}

// nodeFlags are the options that AWS's nodejs runtimes start with, save those that the function sets in NODE_OPTIONS.
func (l Launch) nodeFlags(env map[string]string) []string {
	var flags []string
	own := strings.ReplaceAll(env["NODE_OPTIONS"], "_", "-")
	memory, err := strconv.Atoi(env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])
	if err == nil && !strings.Contains(own, "--max-old-space-size") && !strings.Contains(own, "--max-semi-space-size") {
		// Nine tenths are for the old generation. The young one is made of semi-spaces; the rest is left to buffers.
		flags = append(flags, fmt.Sprintf("--max-old-space-size=%d", memory*9/10),
			fmt.Sprintf("--max-semi-space-size=%d", max(1, memory/20)))
	}
	return flags
}

// InvalidEntrypoint is AWS's message, after "RequestId: <id> Error: ", for a custom runtime whose bootstrap is nowhere;
// the error type is Runtime.InvalidEntrypoint.
func (l Launch) InvalidEntrypoint() string {
	return "Couldn't find valid bootstrap(s): [" + strings.Join(l.Entrypoints, " ") + "]"
}

// versionID makes the 64 hex digits of a runtime version ARN out of what distinguishes it.
func versionID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:])
}

// provided is the launch of a custom runtime.
func provided(r Info) Launch {
	name := strings.TrimPrefix(r.Version, ".")
	if name == "" {
		name = "al1"
	}
	return Launch{
		Runtime:          r.Name,
		Family:           Provided,
		RequestedVersion: r.Version,
		RuntimeVersion:   "provided:" + name + ".v1",
		RuntimeVersionID: versionID("provided", name),
		Entrypoints:      []string{TaskDir + "/bootstrap", LayersDir + "/bootstrap"},
		Env:              launchEnv(""),
	}
}
