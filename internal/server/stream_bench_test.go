package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// BenchmarkFirstByte measures the time from a request to the first byte of the response that a warm function streams, by
// InvokeWithResponseStream and by a function URL without signature, beside a reverse proxy in front of a server that streams.
func BenchmarkFirstByte(b *testing.B) {
	streams(b, func(b *testing.B, exchange func(n int) time.Duration) {
		var all []time.Duration
		for b.Loop() {
			all = append(all, exchange(1))
		}
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
	})
}

// BenchmarkThroughput measures streams of 100 MiB in pieces of 64 KiB as BenchmarkFirstByte does their first byte, without AWS's limit of their
// speed.
func BenchmarkThroughput(b *testing.B) {
	streams(b, func(b *testing.B, exchange func(n int) time.Duration) {
		const n = 100 << 20
		b.SetBytes(n)
		for b.Loop() {
			exchange(n)
		}
	})
}

// streams runs a benchmark for each way to a stream. exchange reads one of n bytes on the one connection that there is, and returns the time to
// its first byte.
func streams(b *testing.B, run func(b *testing.B, exchange func(n int) time.Duration)) {
	i := start(b, Config{MemoryMB: 100_000, StreamRate: -1})
	i.create("stream", lambda.CreateFunctionInput{Code: echoCode(b), MemorySize: aws.Int32(1769), Timeout: aws.Int32(60)})
	functionURL := i.openURL(b, "stream")
	_, proxy := benchProxy(b)
	get := func(host string) func(n int) []byte {
		return func(n int) []byte { return fmt.Appendf(nil, "GET /?stream=%d HTTP/1.1\r\nHost: %s\r\n\r\n", n, host) }
	}
	for _, way := range []struct {
		name, addr string
		request    func(n int) []byte
	}{
		{"proxy", proxy.Listener.Addr().String(), get("x")},
		{"url", i.Addr().String(), get(functionURL.Host)},
		{"api", i.Addr().String(), func(n int) []byte {
			return i.signed(b, "/2021-11-15/functions/stream/response-streaming-invocations", fmt.Sprintf(`"stream=%d"`, n))
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			conn, err := net.Dial("tcp", way.addr)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReaderSize(conn, 64<<10)
			exchange := func(n int) time.Duration {
				request := way.request(n)
				began := time.Now()
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					b.Fatal(err)
				}
				var one [1]byte
				if _, err := io.ReadFull(res.Body, one[:]); err != nil {
					b.Fatal(res.Status, err)
				}
				first := time.Since(began)
				if rest, err := io.Copy(io.Discard, res.Body); err != nil || rest+1 < int64(n) || res.StatusCode != http.StatusOK {
					b.Fatal(res.Status, rest, err)
				}
				return first
			}
			exchange(1) // warm
			run(b, exchange)
		})
	}
}

// openURL gives a function a URL that streams and that everyone may use.
func (i *instance) openURL(b *testing.B, name string) *url.URL {
	c := lambda.NewFromConfig(i.sdk())
	for _, p := range []lambda.AddPermissionInput{
		{StatementId: aws.String("url"), Action: aws.String("lambda:InvokeFunctionUrl"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone},
		{StatementId: aws.String("invoke"), Action: aws.String("lambda:InvokeFunction"), InvokedViaFunctionUrl: aws.Bool(true)},
	} {
		p.FunctionName, p.Principal = &name, aws.String("*")
		if _, err := c.AddPermission(b.Context(), &p); err != nil {
			b.Fatal(err)
		}
	}
	made, err := c.CreateFunctionUrlConfig(b.Context(), &lambda.CreateFunctionUrlConfigInput{
		FunctionName: &name, AuthType: types.FunctionUrlAuthTypeNone, InvokeMode: types.InvokeModeResponseStream,
	})
	if err != nil {
		b.Fatal(err)
	}
	u, err := url.Parse(*made.FunctionUrl)
	if err != nil {
		b.Fatal(err)
	}
	return u
}
