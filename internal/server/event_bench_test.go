package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// BenchmarkAccept measures how many asynchronous invocations a second are accepted, synced to the disk, over HTTP with
// signatures, beside transactions that write the same two rows to a store of their own. What was accepted runs meanwhile. In "gate" they
// are accepted by calls in this process and nothing runs, so that it says what acceptance itself costs.
func BenchmarkAccept(b *testing.B) {
	const payload = `{"hello":"world","n":1234567890}`
	for _, c := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("c=%d/kv", c), func(b *testing.B) {
			db, err := pebblekv.Open(pebblekv.Options{Dir: filepath.Join(b.TempDir(), "store")})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			header := make([]byte, 220) // as long as an event's
			each(b, c, func() error {
				id := call.NewRequestID()
				return db.Update(context.Background(), func(tx kv.Tx) error {
					tx.Set(kv.Key("header", time.Now(), id), header)
					tx.Set(kv.Key("body", id), []byte(payload))
					return nil
				})
			})
		})
		b.Run(fmt.Sprintf("c=%d/gate", c), func(b *testing.B) {
			i := startDurable(b)
			i.create("echo", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769)})
			gate := i.gateQueues(b)
			if _, err := lambdaapi.PutFunctionConcurrency.Call(gate.ctx, gate.caller, &lambdaapi.PutFunctionConcurrencyInput{
				FunctionName: new("echo"), ReservedConcurrentExecutions: new(int32(0)),
			}); err != nil {
				b.Fatal(err)
			}
			each(b, c, func() error {
				_, err := lambdaapi.Invoke.Call(gate.ctx, gate.caller, &lambdaapi.InvokeInput{
					FunctionName: new("echo"), InvocationType: new(lambdaapi.InvocationTypeEvent), Payload: []byte(payload),
				})
				return err
			})
		})
		b.Run(fmt.Sprintf("c=%d/mayfly", c), func(b *testing.B) {
			i := startDurable(b)
			i.create("echo", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769)})
			request := i.signedEvent(b, payload)
			conns := make(chan *bufio.ReadWriter, c)
			for range c {
				conn, err := net.Dial("tcp", i.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				conns <- bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
			}
			each(b, c, func() error {
				conn := <-conns
				defer func() { conns <- conn }()
				conn.Write(request)
				conn.Flush()
				res, err := http.ReadResponse(conn.Reader, nil)
				if err == nil && res.StatusCode != http.StatusAccepted {
					err = fmt.Errorf("answer %s", res.Status)
				}
				return err
			})
		})
	}
}

// each calls f b.N times from c clients.
func each(b *testing.B, c int, f func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	before := cpu()
	b.ResetTimer()
	for range c {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-us/event")
}

// BenchmarkDrain measures how many queued events a second run, from the first that is accepted until the queue is empty, with as
// many environments as the machine's memory is said to allow.
func BenchmarkDrain(b *testing.B) {
	i := startDurable(b)
	i.create("echo", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769)})
	request := i.signedEvent(b, `{"n":1}`)
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	for range 16 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", i.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for left.Add(-1) >= 0 {
				conn.Write(request)
				if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusAccepted {
					b.Errorf("%v %+v", err, res)
					return
				}
			}
		})
	}
	wg.Wait()
	db := i.core.Load().db
	for empty := false; !empty; time.Sleep(time.Millisecond) {
		err := db.View(context.Background(), func(r kv.Reader) error {
			empty = true
			for range r.Scan(kv.Prefix("durable")) {
				empty = false
				break
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// startDurable starts a server whose store is on the disk, with memory for four environments of a whole CPU.
func startDurable(b *testing.B) *instance {
	return start(b, Config{MemoryMB: 4 * 1769, DataDir: filepath.Join(b.TempDir(), "data"), Network: sandbox.NetworkNone})
}

// signedEvent is a request to invoke echo asynchronously, as bytes.
func (i *instance) signedEvent(b *testing.B, payload string) []byte {
	r, err := http.NewRequest(http.MethodPost, "http://"+i.Addr().String()+"/2015-03-31/functions/echo/invocations", strings.NewReader(payload))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Amz-Invocation-Type", "Event")
	root := i.Root()
	sigv4.Sign(r, sigv4.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}, "lambda", root.Region, sigv4.Hash([]byte(payload)), time.Now())
	var buf bytes.Buffer
	if err := r.Write(&buf); err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()
}
