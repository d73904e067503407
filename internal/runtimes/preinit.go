package runtimes

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// An interpreter can be started before its function is known and told it later, which takes its start off the path of a
// cold start. The protocol: the process is given the number of a descriptor; it loads what it can, writes the line
// "ready" to it, reads one PreinitMessage from it, and goes on as if it had been started with that environment and
// directory. If the descriptor ends instead, it exits with status 0.

// preinitVariable gives a client the number of the descriptor.
const preinitVariable = "MAYFLY_PREINIT_FD"

// Preinit is what to start ahead: the argument vector, the environment, in which fd is the descriptor that the process
// inherits, and what the sandbox shows until the function's own is there. function needs only what Command looks at
// (AWS_LAMBDA_FUNCTION_MEMORY_SIZE decides V8's limits, so a Node.js process serves functions of that size only); it may
// be nil.
func (l Launch) Preinit(function map[string]string, fd int) (argv []string, env map[string]string, mounts []Mount) {
	for _, m := range l.Mounts {
		if m.Target == RuntimeDir {
			standIn := path.Join(m.Source, standIn)
			mounts = append(mounts, Mount{Source: standIn, Target: TaskDir}, Mount{Source: standIn, Target: LayersDir})
		}
	}
	mounts = append(mounts, l.Mounts...)
	env = maps.Clone(l.Env)
	env[preinitVariable] = strconv.Itoa(fd)
	env["TZ"] = ":UTC"
	memory := map[string]string{}
	if size := function["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]; size != "" {
		memory["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = size
	}
	return l.Command(memory), env, mounts
}

// standIn is a directory of every client that is shown in the place of code and layers before there are any. It has an empty
// lib: the dynamic linker never looks again into a directory of LD_LIBRARY_PATH that was not there when it first looked.
const standIn = "stand-in"

// PreinitMessage tells a process that was started ahead its whole environment and its directory, LAMBDA_TASK_ROOT. Paths
// are as the process sees them.
func PreinitMessage(env map[string]string, dir string) []byte {
	message, err := json.Marshal(map[string]any{"env": env, "cwd": dir})
	if err != nil {
		panic(err) // maps of strings have JSON
	}
	return append(message, '\n')
}

// CanPreinit says whether a process that was started ahead behaves like one started with this environment. It does not if
// the function sets what the dynamic linker, the C library or the interpreter read once, at their start; nor if the language
// stands where layers will hide it.
func (l Launch) CanPreinit(env map[string]string) bool {
	if len(l.Exec) == 0 || env["AWS_LAMBDA_EXEC_WRAPPER"] != "" {
		return false
	}
	for _, m := range l.Mounts {
		if strings.HasPrefix(m.Target, LayersDir+"/") {
			return false
		}
	}
	fixed := []string{"LANG", "LC_", "LD_", "LOCPATH", "GCONV_PATH", "MALLOC_", "GLIBC_", "OPENSSL_", "SSL_"}
	if l.Family == Node {
		fixed = append(fixed, "NODE_", "UV_")
	} else {
		fixed = append(fixed, "PYTHON")
	}
	for name, value := range env {
		if value == l.Env[name] || name == "PYTHONPATH" || name == "NODE_PATH" { // the search paths are read again
			continue
		}
		if slices.ContainsFunc(fixed, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			return false
		}
	}
	return true
}
