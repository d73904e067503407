package runtimes

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The bare programs load a handler and send one request with as little as their language needs for it.
var bare = map[Family]struct{ file, code string }{
	Python: {"bare.py", `import os, _socket
from app import handler
s = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
s.connect((host, int(port)))
s.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
s.recv(1)
`},
	Node: {"bare.js", `require('./app.js');
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
require('net').connect(port, host).write('GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n');
`},
}

var trivial = map[Family]struct{ file, code string }{
	Python: {"app.py", "def handler(event, context):\n    return event\n"},
	Node:   {"app.js", "exports.handler = async (event) => event;\n"},
}

// BenchmarkColdStart measures from the start of a process to its first request, in ms at p50, turn by turn:
//
//	bare   the interpreter, as one would start it, with a handler and a socket
//	floor  the same with the options that the client starts with
//	client the runtime interface client with the handler
//	ahead  a client started ahead, from the moment it is told its function
//	added  client - bare
//	cpu    the same difference in processor time, which a busy machine disturbs less
func BenchmarkColdStart(b *testing.B) {
	for _, family := range []Family{Python, Node} {
		b.Run(string(family), func(b *testing.B) { benchmarkColdStart(b, family) })
	}
}

func benchmarkColdStart(b *testing.B, family Family) {
	f := testFinder(b)
	l, err := f.Resolve(b.Context(), map[Family]string{Python: "python3.13", Node: "nodejs22.x"}[family], "")
	if err != nil {
		b.Skipf("SKIPPED: %v", err)
	}
	b.Logf("%s %s", l.Interpreter, l.FoundVersion)
	task := b.TempDir()
	for _, f := range []struct{ file, code string }{bare[family], trivial[family]} {
		if err := os.WriteFile(filepath.Join(task, f.file), []byte(f.code), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	l = onHost(l, task)
	api := newFakeAPI(b, nil, "")
	env := functionEnv(l, api, task, nil)
	env["AWS_LAMBDA_RUNTIME_API"] = ln.Addr().String()
	delete(env, "PYTHONDONTWRITEBYTECODE")
	command := l.Command(env)
	script := filepath.Join(task, bare[family].file)
	variants := []struct {
		name string
		argv []string
	}{
		{"bare", []string{l.Interpreter, script}},
		{"floor", append(slices.Clone(command[:len(command)-1]), script)},
		{"client", command},
		{"ahead", nil},
	}
	times, cpu := map[string][]time.Duration{}, map[string][]time.Duration{}
	for b.Loop() {
		for _, v := range variants {
			var took time.Duration
			if v.name == "ahead" {
				p := startAhead(b, l, env)
				began := time.Now()
				p.tell(b, env, task)
				took = firstRequest(b, ln, began)
				p.end()
			} else {
				cmd := exec.Command(v.argv[0], v.argv[1:]...)
				cmd.Dir, cmd.Env = task, environ(env)
				began := time.Now()
				if err := cmd.Start(); err != nil {
					b.Fatal(err)
				}
				took = firstRequest(b, ln, began)
				cmd.Process.Kill()
				cmd.Wait()
				cpu[v.name] = append(cpu[v.name], cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			}
			times[v.name] = append(times[v.name], took)
		}
	}
	p50 := func(of map[string][]time.Duration, name string) float64 {
		slices.Sort(of[name])
		return float64(of[name][len(of[name])/2].Microseconds()) / 1000
	}
	for _, v := range variants {
		b.ReportMetric(p50(times, v.name), v.name+"-ms")
	}
	b.ReportMetric(p50(times, "client")-p50(times, "bare"), "added-ms")
	b.ReportMetric(p50(cpu, "client")-p50(cpu, "bare"), "added-cpu-ms")
	b.ReportMetric(0, "ns/op")
}

// firstRequest waits for a connection that asks for the next event.
func firstRequest(b *testing.B, ln net.Listener, began time.Time) time.Duration {
	c, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 100)
	n, err := io.ReadAtLeast(c, buf, 4)
	took := time.Since(began)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "GET ") {
		b.Fatalf("first request: %q, %v", buf[:n], err)
	}
	return took
}
