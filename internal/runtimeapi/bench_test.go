package runtimeapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rawClient is a runtime that speaks just enough HTTP: it answers each event with the event.
type rawClient struct {
	nc  net.Conn
	r   *bufio.Reader
	out []byte
	in  []byte
}

func dialRaw(t testing.TB, addr string) *rawClient {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return &rawClient{nc: nc, r: bufio.NewReader(nc)}
}

// read reads a reply and returns the request id in its headers; the body stays in c.in.
func (c *rawClient) read() (id []byte, err error) {
	length := 0
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(line) == 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
		}
		if v, ok := bytes.CutPrefix(line, []byte("Lambda-Runtime-Aws-Request-Id: ")); ok {
			id = append(id, bytes.TrimSpace(v)...)
		}
	}
	if cap(c.in) < length {
		c.in = make([]byte, length)
	}
	c.in = c.in[:length]
	_, err = io.ReadFull(c.r, c.in)
	return id, err
}

func (c *rawClient) loop() {
	for {
		if _, err := io.WriteString(c.nc, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n"); err != nil {
			return
		}
		id, err := c.read()
		if err != nil {
			return
		}
		c.out = fmt.Appendf(c.out[:0], "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", id, len(c.in))
		c.out = append(c.out, c.in...)
		if _, err := c.nc.Write(c.out); err != nil {
			return
		}
		if _, err := c.read(); err != nil {
			return
		}
	}
}

// runRaw is a function on rawClient.
func runRaw() {
	nc, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		panic(err)
	}
	c := &rawClient{nc: nc, r: bufio.NewReader(nc)}
	c.loop()
}

// cpu is the time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkInvokeProcess is an invocation of a function in a process of its own; platform-us is our CPU time for it.
func BenchmarkInvokeProcess(b *testing.B) {
	for _, client := range []string{"raw", "aws-lambda-go"} {
		b.Run(client, func(b *testing.B) {
			if client == "raw" {
				b.Setenv("RAW_CLIENT", "1")
			}
			e := start(b, Options{})
			e.process(os.Args[0])
			inv := &Invocation{RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", InvokedARN: "arn:aws:lambda:us-east-2:123456789012:function:custom-runtime",
				Deadline: time.Now().Add(time.Hour), Event: []byte(`{"do":"echo"}`)}
			before, n := cpu(b), 0
			b.ReportAllocs()
			for b.Loop() {
				r, err := e.Invoke(inv)
				if err != nil {
					b.Fatal(err)
				}
				<-r.Responded()
				<-r.Done()
				n++
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(n), "platform-us/op")
		})
	}
}

// BenchmarkInvoke is an invocation from Invoke to the runtime's next poll, the client included.
func BenchmarkInvoke(b *testing.B) {
	for _, size := range []int{128, 64 << 10, 1 << 20} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			e := start(b, Options{})
			c := dialRaw(b, e.addr)
			stopped := make(chan struct{})
			go func() { defer close(stopped); c.loop() }()
			defer func() { c.nc.Close(); <-stopped }()
			<-e.Ready()
			inv := &Invocation{RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", InvokedARN: "arn:aws:lambda:us-east-2:123456789012:function:custom-runtime",
				TraceID: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1", Deadline: time.Now().Add(time.Hour),
				Event: []byte(`"` + strings.Repeat("x", size-2) + `"`)}
			b.ReportAllocs()
			for b.Loop() {
				r, err := e.Invoke(inv)
				if err != nil {
					b.Fatal(err)
				}
				<-r.Responded()
				if len(r.Response().Body) != size {
					b.Fatal("wrong response")
				}
				<-r.Done()
			}
		})
	}
}

// BenchmarkEchoNetHTTP is one request to an echo server of net/http by the same kind of client: half of the requests of an
// invocation, as a measure of the machine.
func BenchmarkEchoNetHTTP(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	}))
	defer srv.Close()
	c := dialRaw(b, srv.Listener.Addr().String())
	defer c.nc.Close()
	body := strings.Repeat("x", 128)
	req := []byte(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.nc.Write(req); err != nil {
			b.Fatal(err)
		}
		if _, err := c.read(); err != nil {
			b.Fatal(err)
		}
	}
}
