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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
)

// BenchmarkWarmInvoke measures the whole path of an invocation, signature checked, logged and metered, beside a reverse
// proxy in front of an HTTP server that answers with the same bytes. The client is the same for both: it sends one
// prepared request again and again on each of its connections.
//
// The function has a whole CPU, so that its share is not what is measured.
//
// platform-us/op is the CPU time that this process used, which is the platform and the client.
func BenchmarkWarmInvoke(b *testing.B) {
	const payload = `{"hello":"world","n":1234567890}`
	i := start(b, Config{MemoryMB: 100_000})
	i.create("echo", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769)})
	call := i.signed(b, "/2015-03-31/functions/echo/invocations", payload)

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
	to, err := url.Parse("http://" + strings.TrimSpace(addr))
	if err != nil {
		b.Fatal(err)
	}
	reverse := httputil.NewSingleHostReverseProxy(to)
	reverse.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	proxy := httptest.NewServer(reverse)
	b.Cleanup(proxy.Close)
	plain := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload)

	for _, c := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("c=%d/proxy", c), func(b *testing.B) {
			load(b, proxy.Listener.Addr().String(), plain, payload, c)
		})
		b.Run(fmt.Sprintf("c=%d/mayfly", c), func(b *testing.B) {
			load(b, i.Addr().String(), call, payload, c)
		})
	}
}

// signed is a request to invoke, as bytes.
func (i *instance) signed(b *testing.B, path, payload string) []byte {
	r, err := http.NewRequest(http.MethodPost, "http://"+i.Addr().String()+path, strings.NewReader(payload))
	if err != nil {
		b.Fatal(err)
	}
	root := i.Root()
	sigv4.Sign(r, sigv4.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}, "lambda", root.Region,
		sigv4.Hash([]byte(payload)), time.Now())
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
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
}

// BenchmarkColdStart measures the first invocation of a function, from request to answer, beside starting the same program
// bare and exchanging one event with it.
func BenchmarkColdStart(b *testing.B) {
	dir := b.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "bootstrap"), "./testdata/bootstrap").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "bootstrap"))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			bareStart(b, filepath.Join(dir, "bootstrap"))
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
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
func bareStart(b *testing.B, program string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	p := exec.Command(program)
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
