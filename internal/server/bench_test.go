package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
)

// BenchmarkWarmInvoke measures the whole path of an invocation, signature checked, logged and metered, beside a reverse
// proxy in front of an HTTP server that answers with the same bytes. The client is the same for both: it sends one
// prepared request again and again on each of its connections.
//
// The function has a whole CPU, so that its share is not what is measured.
//
// platform-us/op is the CPU time that this process used, which is the platform and the client; the client alone is measured
// too.
func BenchmarkWarmInvoke(b *testing.B) {
	const payload = `{"hello":"world","n":1234567890}`
	i := start(b, Config{MemoryMB: 100_000})
	i.create("echo", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769)})
	call := i.signed(b, "/2015-03-31/functions/echo/invocations", payload)

	to, proxy := benchProxy(b)
	plain := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload)

	for _, c := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("c=%d/client", c), func(b *testing.B) { // straight to the server behind the proxy: the client's own share
			load(b, to.Host, plain, payload, c)
		})
		b.Run(fmt.Sprintf("c=%d/proxy", c), func(b *testing.B) {
			load(b, proxy.Listener.Addr().String(), plain, payload, c)
		})
		b.Run(fmt.Sprintf("c=%d/mayfly", c), func(b *testing.B) {
			load(b, i.Addr().String(), call, payload, c)
		})
	}
}

// benchProxy is a reverse proxy and the server behind it, in a process of its own, that the benchmarks compare with.
func benchProxy(b *testing.B) (to *url.URL, proxy *httptest.Server) {
	backend := exec.Command(os.Args[0])
	backend.Env = append(os.Environ(), "MAYFLY_BENCH_BACKEND=1")
	out, err := backend.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := backend.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		backend.Process.Kill()
		backend.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	to, err = url.Parse("http://" + strings.TrimSpace(addr))
	if err != nil {
		b.Fatal(err)
	}
	reverse := httputil.NewSingleHostReverseProxy(to)
	reverse.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	proxy = httptest.NewServer(reverse)
	b.Cleanup(proxy.Close)
	return to, proxy
}

// signed is a request to invoke by root, as bytes.
func (i *instance) signed(b *testing.B, path, payload string) []byte {
	root := i.Root()
	return i.signedAs(b, sigv4.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}, path, payload)
}

func (i *instance) signedAs(b *testing.B, c sigv4.Credentials, path, payload string) []byte {
	r, err := http.NewRequest(http.MethodPost, "http://"+i.Addr().String()+path, strings.NewReader(payload))
	if err != nil {
		b.Fatal(err)
	}
	sigv4.Sign(r, c, "lambda", i.Root().Region, sigv4.Hash([]byte(payload)), time.Now())
	var buf bytes.Buffer
	if err := r.Write(&buf); err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()
}

// load sends request b.N times over c connections and checks every answer.
func load(b *testing.B, addr string, request []byte, want string, c int) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var mu sync.Mutex
	var all []time.Duration
	exchange := func(conn net.Conn, r *bufio.Reader) error {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK || string(body) != want {
			return fmt.Errorf("%s: %s", res.Status, body)
		}
		return nil
	}
	conns := make([]net.Conn, c)
	readers := make([]*bufio.Reader, c)
	var warm sync.WaitGroup
	for k := range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		conns[k], readers[k] = conn, bufio.NewReader(conn)
		warm.Go(func() { // as many environments as connections
			for range 20 {
				if err := exchange(conn, readers[k]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	warm.Wait()
	if b.Failed() {
		return
	}
	before := cpu()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for k := range conns {
		wg.Go(func() {
			var took []time.Duration
			for left.Add(-1) >= 0 {
				began := time.Now()
				if err := exchange(conns[k], readers[k]); err != nil {
					b.Error(err)
					return
				}
				took = append(took, time.Since(began))
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	b.StopTimer()
	used := cpu() - before
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
		b.ReportMetric(float64(used.Microseconds())/float64(b.N), "platform-us/op")
	}
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchBackend is the server behind the reverse proxy.
func benchBackend() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(ln.Addr())
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if left, err := strconv.Atoi(r.FormValue("stream")); err == nil {
			for piece := make([]byte, 64<<10); left > 0; left -= len(piece) {
				w.Write(piece[:min(left, len(piece))])
				w.(http.Flusher).Flush()
			}
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
}

// BenchmarkColdStart measures the first invocation of a function, from request to answer, beside starting the same program
// bare and exchanging one event with it.
func BenchmarkColdStart(b *testing.B) {
	path, program := coldProgram(b)
	b.Run("bare", func(b *testing.B) {
		var all []time.Duration
		for b.Loop() {
			b.StopTimer()
			time.Sleep(30 * time.Millisecond) // the same pause as between the others
			b.StartTimer()
			began := time.Now()
			bareStart(b, path)
			all = append(all, time.Since(began))
		}
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
	})
	for _, prepared := range []struct {
		name string
		n    int
	}{{"prepared", 8}, {"unprepared", -1}} {
		b.Run(prepared.name, func(b *testing.B) {
			i := start(b, Config{Prepared: prepared.n})
			i.create("cold", lambda.CreateFunctionInput{Code: archive(b, map[string][]byte{"bootstrap": program}), MemorySize: aws.Int32(1769)})
			arn := "arn:aws:lambda:us-east-1:000000000000:function:cold"
			request := i.signed(b, "/2015-03-31/functions/cold/invocations", `{}`)
			conn, err := net.Dial("tcp", i.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			var all []time.Duration
			for b.Loop() {
				b.StopTimer()
				f := i.core.Load().fleet
				f.Retire(arn)
				for f.Stats().Environments > 0 {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(30 * time.Millisecond) // the stock of prepared sandboxes is filled between two cold starts
				b.StartTimer()
				began := time.Now()
				conn.Write(request)
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				all = append(all, time.Since(began))
				if res.StatusCode != http.StatusOK {
					b.Fatal(res.Status)
				}
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
		})
	}
}

// bareStart starts the program as a plain process and exchanges one event with it over the Runtime API.
func bareStart(b *testing.B, program string, args ...string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	p := exec.Command(program, args...)
	p.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + ln.Addr().String()}
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		p.Process.Kill()
		p.Wait()
	}()
	conn, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	if _, err := http.ReadRequest(r); err != nil {
		b.Fatal(err)
	}
	io.WriteString(conn, "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nContent-Length: 2\r\n\r\n{}")
	req, err := http.ReadRequest(r)
	if err != nil {
		b.Fatal(err)
	}
	io.Copy(io.Discard, req.Body)
}

// BenchmarkReady measures the time from nothing to a server that answers.
func BenchmarkReady(b *testing.B) {
	for b.Loop() {
		i := start(b, Config{})
		b.StopTimer()
		if err := i.stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// coldProgram is the runtime of the cold start benchmarks: the file, and its bytes.
func coldProgram(b *testing.B) (path string, program []byte) {
	program, err := buildBootstrap()
	if err != nil {
		b.Fatal(err)
	}
	path = filepath.Join(b.TempDir(), "bootstrap")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		b.Fatal(err)
	}
	return path, program
}

// exchange sends a request on conn and reads the answer, which must be a success.
func exchange(conn net.Conn, r *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return err
}

// BenchmarkStartsPerSecond keeps eight clients busy whose every invocation is a cold start, and the same program started
// bare by as many. Environments end while others start.
func BenchmarkStartsPerSecond(b *testing.B) {
	path, program := coldProgram(b)
	const clients = 8
	rate := func(b *testing.B, one func(client int)) {
		var left atomic.Int64
		left.Store(int64(b.N))
		b.ResetTimer()
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				for left.Add(-1) >= 0 && !b.Failed() {
					one(c)
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
	}
	b.Run("bare", func(b *testing.B) {
		rate(b, func(int) { bareStart(b, path) })
	})
	b.Run("mayfly", func(b *testing.B) {
		i := start(b, Config{MemoryMB: 1_000_000})
		type client struct {
			arn     string
			conn    net.Conn
			r       *bufio.Reader
			request []byte
		}
		var all [clients]client
		for c := range all {
			name := fmt.Sprintf("cold-%d", c)
			i.create(name, lambda.CreateFunctionInput{Code: archive(b, map[string][]byte{"bootstrap": program}), MemorySize: aws.Int32(1769)})
			conn, err := net.Dial("tcp", i.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			all[c] = client{"arn:aws:lambda:us-east-1:000000000000:function:" + name, conn, bufio.NewReader(conn),
				i.signed(b, "/2015-03-31/functions/"+name+"/invocations", `{}`)}
		}
		f := i.core.Load().fleet
		rate(b, func(c int) {
			if err := exchange(all[c].conn, all[c].r, all[c].request); err != nil {
				b.Error(err)
			}
			f.Retire(all[c].arn)
		})
	})
}

// BenchmarkIdleEnvironment gives the memory that an idle environment costs besides the function's own: what this process
// grows by and the sandbox's process 1, as proportional set size: both run the same program, and share its pages.
func BenchmarkIdleEnvironment(b *testing.B) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		b.Skip("SKIPPED: needs /proc/self/smaps_rollup")
	}
	_, program := coldProgram(b)
	const n = 40
	i := start(b, Config{Prepared: -1, MemoryMB: 1_000_000})
	var requests [n][]byte
	for k := range requests {
		name := fmt.Sprintf("idle-%d", k)
		i.create(name, lambda.CreateFunctionInput{Code: archive(b, map[string][]byte{"bootstrap": program})})
		requests[k] = i.signed(b, "/2015-03-31/functions/"+name+"/invocations", `{}`)
	}
	conn, err := net.Dial("tcp", i.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	settle := func() int64 {
		time.Sleep(time.Second) // frozen, and logs stored
		debug.FreeOSMemory()
		return pss(os.Getpid())
	}
	before := settle()
	for _, request := range requests {
		if err := exchange(conn, r, request); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		grown := settle() - before
		var sandbox, function int64
		for _, process1 := range children(os.Getpid()) {
			sandbox += pss(process1)
			for _, p := range children(process1) {
				function += pss(p)
			}
		}
		b.ReportMetric(float64(grown+sandbox)/n/1024, "KiB/env")
		b.ReportMetric(float64(function)/n/1024, "KiB-function/env")
	}
}

// pss is the proportional set size of a process in bytes; 0 if it has ended.
func pss(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	_, rest, _ := strings.Cut(string(text), "\nPss:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10
}

// children are the processes that all threads of a process have started.
func children(pid int) (all []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// BenchmarkProgram starts the program as its users do and measures until it says that it is healthy; then its memory and
// CPU time while nobody calls it.
func BenchmarkProgram(b *testing.B) {
	program := filepath.Join(b.TempDir(), "mayfly")
	build := exec.Command("go", "build", "-o", program, "../../cmd/mayfly")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	var ready []time.Duration
	for b.Loop() {
		b.StopTimer()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		addr := ln.Addr().String()
		ln.Close()
		p := exec.Command(program, "serve", "--data", b.TempDir(), "--listen", addr)
		p.Stdout, p.Stderr = io.Discard, io.Discard
		b.StartTimer()
		began := time.Now()
		if err := p.Start(); err != nil {
			b.Fatal(err)
		}
		for {
			res, err := http.Get("http://" + addr + "/_mayfly/health")
			if err == nil {
				res.Body.Close()
				if res.StatusCode == http.StatusOK {
					break
				}
			}
			if time.Since(began) > 30*time.Second {
				b.Fatal("not ready: ", err)
			}
			time.Sleep(200 * time.Microsecond)
		}
		ready = append(ready, time.Since(began))
		b.StopTimer()
		if len(ready) == 1 {
			time.Sleep(2 * time.Second) // its sandboxes are prepared
			used := ticks(p.Process.Pid)
			const idle = 5
			time.Sleep(idle * time.Second)
			b.ReportMetric(float64(ticks(p.Process.Pid)-used)/idle, "cpu-%-idle") // a tick is 10 ms
			b.ReportMetric(float64(pss(p.Process.Pid))/(1<<20), "MiB-pss-idle")
			var all int64
			for _, process1 := range children(p.Process.Pid) {
				all += pss(process1)
			}
			b.ReportMetric(float64(all)/(1<<20), "MiB-pss-prepared")
		}
		p.Process.Signal(os.Interrupt)
		p.Wait()
		b.StartTimer()
	}
	slices.Sort(ready)
	b.ReportMetric(float64(ready[len(ready)/2].Microseconds())/1e3, "ready-ms")
}

// ticks is the CPU time of a process in ticks of 10 ms.
func ticks(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return user + system
}

// BenchmarkLanguageColdStart measures the first invocation of a function in Python and Node.js, from request to answer,
// beside starting the bare interpreter on a program that loads the same handler and answers one event.
func BenchmarkLanguageColdStart(b *testing.B) {
	for _, l := range []struct{ name, runtime, file, handler, bareFile, bare string }{
		{"python", "python3.13", "app.py", "def handler(event, context):\n    return event\n", "bare.py", `import os, json
from http.client import HTTPConnection
from app import handler
c = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
c.request("GET", "/2018-06-01/runtime/invocation/next")
r = c.getresponse()
c.request("POST", "/2018-06-01/runtime/invocation/1/response", json.dumps(handler(json.loads(r.read()), None)))
c.getresponse()
`},
		{"node", "nodejs22.x", "app.js", "exports.handler = async (event) => event;\n", "bare.js", `const http = require('http');
const { handler } = require('./app.js');
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true });
http.get({ host, port, agent, path: '/2018-06-01/runtime/invocation/next' }, (res) => {
  let body = '';
  res.on('data', (d) => { body += d; });
  res.on('end', async () => {
    const answer = JSON.stringify(await handler(JSON.parse(body)));
    http.request({ host, port, agent, method: 'POST', path: '/2018-06-01/runtime/invocation/1/response', headers: { 'Content-Length': answer.length } }).end(answer);
  });
});
`},
	} {
		b.Run(l.name, func(b *testing.B) {
			i := start(b, Config{})
			launch, err := i.finder.Resolve(b.Context(), l.runtime, "x86_64")
			if err != nil {
				b.Skip("SKIPPED: ", err)
			}
			dir := b.TempDir()
			os.WriteFile(filepath.Join(dir, l.file), []byte(l.handler), 0o600)
			os.WriteFile(filepath.Join(dir, l.bareFile), []byte(l.bare), 0o600)
			i.create("cold", lambda.CreateFunctionInput{Code: archive(b, map[string][]byte{l.file: []byte(l.handler)}), MemorySize: aws.Int32(1769),
				Runtime: types.Runtime(l.runtime), Handler: aws.String("app.handler")})
			arn := "arn:aws:lambda:us-east-1:000000000000:function:cold"
			request := i.signed(b, "/2015-03-31/functions/cold/invocations", `{}`)
			conn, err := net.Dial("tcp", i.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			f := i.core.Load().fleet
			var bare, cold []time.Duration
			for b.Loop() {
				f.Retire(arn)
				// Interpreters are started ahead between two cold starts, as sandboxes are prepared.
				for since := time.Now(); f.Stats().Environments > 0 || f.Stats().Ahead < 2 && len(cold) > 0 && time.Since(since) < 5*time.Second; {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(30 * time.Millisecond)
				began := time.Now()
				bareStart(b, launch.Interpreter, filepath.Join(dir, l.bareFile))
				bare = append(bare, time.Since(began))
				time.Sleep(30 * time.Millisecond)
				began = time.Now()
				if err := exchange(conn, r, request); err != nil {
					b.Fatal(err)
				}
				cold = append(cold, time.Since(began))
			}
			slices.Sort(bare)
			slices.Sort(cold)
			b.ReportMetric(float64(bare[len(bare)/2].Microseconds())/1e3, "bare-ms")
			b.ReportMetric(float64(cold[len(cold)/2].Microseconds())/1e3, "mayfly-ms")
		})
	}
}
