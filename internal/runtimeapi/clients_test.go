package runtimeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// runFunction is a function on aws-lambda-go.
func runFunction() {
	lambda.Start(func(ctx context.Context, in map[string]string) (any, error) {
		switch in["do"] {
		case "fail":
			return nil, errors.New("as told")
		case "panic":
			panic("as told")
		case "stream":
			return io.MultiReader(strings.NewReader("one"), strings.NewReader("two")), nil
		case "stream and fail":
			return io.MultiReader(strings.NewReader("one"), failingReader{}), nil
		case "large":
			return strings.Repeat("x", MaxPayload), nil
		}
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return fmt.Sprint(in["do"], " ", lc.AwsRequestID, " ", lc.InvokedFunctionArn, " ", lc.ClientContext.Client.AppTitle, " ", lc.TenantID, " ", deadline.UnixMilli(),
			" ", os.Getenv("_X_AMZN_TRACE_ID")), nil
	})
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("as told") }

// process starts a program that finds the API in its environment and is killed at the end of the test.
func (e *env) process(name string, args ...string) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "AWS_LAMBDA_RUNTIME_API="+e.addr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children end with it
	cmd.WaitDelay = time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if e.t.Failed() {
			e.t.Logf("%s said:\n%s", name, output.String())
		}
	})
	wait(e.t, "ready", e.Ready())
}

// run invokes and waits until all is done.
func (e *env) run(inv *Invocation) *Response {
	e.t.Helper()
	r := e.invoke(inv)
	wait(e.t, "response", r.Responded())
	if resp := r.Response(); resp.Stream != nil {
		body, err := io.ReadAll(resp.Stream)
		resp.Body = body
		if failed, ok := errors.AsType[*StreamError](err); ok {
			resp.ErrorType = failed.Type
		}
	}
	wait(e.t, "done", r.Done())
	return r.Response()
}

func TestAWSLambdaGo(t *testing.T) {
	e := start(t, Options{})
	e.process(os.Args[0])
	inv := func(do string) *Invocation {
		return &Invocation{RequestID: "id-" + strings.ReplaceAll(do, " ", "-"), InvokedARN: "arn", TraceID: "Root=1", ClientContext: "{\"client\":{\"app_title\":\"app\"}}",
			TenantID: "blue", Deadline: time.UnixMilli(2e12), Event: fmt.Appendf(nil, `{"do":%q}`, do)}
	}
	for range 3 {
		if resp := e.run(inv("echo")); string(resp.Body) != `"echo id-echo arn app blue 2000000000000 Root=1"` || resp.ErrorType != "" {
			t.Errorf("echo: %+v %s", resp, resp.Body)
		}
		if resp := e.run(inv("fail")); string(resp.Body) != `{"errorMessage":"as told","errorType":"errorString"}` || resp.ErrorType != "Runtime.Unknown" {
			t.Errorf("fail: %+v %s", resp, resp.Body)
		}
		if resp := e.run(inv("stream")); string(resp.Body) != `onetwo` {
			t.Errorf("stream: %+v %s", resp, resp.Body)
		}
		streamed := inv("stream")
		streamed.Stream = true
		if resp := e.run(streamed); resp.Stream == nil || string(resp.Body) != `onetwo` {
			t.Errorf("streamed: %+v %s", resp, resp.Body)
		}
		if resp := e.run(inv("stream and fail")); resp.ErrorType != "Runtime.Unknown" || !strings.Contains(string(resp.Body), `"errorMessage":"as told"`) {
			t.Errorf("stream and fail: %+v %s", resp, resp.Body)
		}
	}
	if r := e.invoke(inv("large")); true { // its client takes the refusal for fatal and exits
		wait(t, "response", r.Responded())
		if resp := r.Response(); resp.ErrorType != ErrorTooLarge {
			t.Errorf("large: %+v", resp)
		}
	}
	e.Reset()
	e.process(os.Args[0])
	r := e.invoke(inv("panic"))
	wait(t, "response", r.Responded())
	if resp := r.Response(); len(resp.XRayCause) == 0 || !strings.Contains(string(resp.Body), `"errorType":"string"`) {
		t.Errorf("panic: %s %s", resp.Body, resp.XRayCause)
	}
}

// need skips the test where a program is missing.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
}

// echoes invokes an echoing function of every size that matters.
func (e *env) echoes() {
	e.t.Helper()
	for i, size := range []int{0, 1, 1000, inlineAnswer, 100_000, 6_000_000} {
		event := bytes.Repeat([]byte("x"), size)
		if resp := e.run(&Invocation{RequestID: fmt.Sprint("id-", i), Event: event, Stream: i%2 == 1}); !bytes.Equal(resp.Body, event) || resp.ErrorType != "" {
			e.t.Fatalf("%d bytes: got %d, %s", size, len(resp.Body), resp.ErrorType)
		}
	}
}

func TestNodeHTTP(t *testing.T) {
	need(t, "node")
	for name, headers := range map[string]string{
		"length":    `{"Content-Length": body.length}`,
		"chunked":   `{}`,
		"streaming": `{"Lambda-Runtime-Function-Response-Mode": "streaming", Trailer: "Lambda-Runtime-Function-Error-Type", "Transfer-Encoding": "chunked"}`,
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Options{})
			e.process("node", "-e", `
const http = require("http"), agent = new http.Agent({keepAlive: true, maxSockets: 1});
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
function call(method, path, headers, body) {
  return new Promise((done, fail) => {
    const req = http.request({host, port, method, path: "/2018-06-01/runtime/invocation/" + path, headers: headers || {}, agent}, res => {
      const parts = []; res.on("data", d => parts.push(d)); res.on("end", () => done([res, Buffer.concat(parts)]));
    });
    req.on("error", fail);
    if (body) for (let i = 0; i < body.length; i += 65536) req.write(body.subarray(i, i + 65536));
    req.end();
  });
}
(async () => { for (;;) {
  const [res, body] = await call("GET", "next");
  const [r] = await call("POST", res.headers["lambda-runtime-aws-request-id"] + "/response", `+headers+`, body);
  if (r.statusCode != 202) process.exit(1);
} })();`)
			e.echoes()
		})
	}
}

func TestPythonHTTP(t *testing.T) {
	need(t, "python3")
	for name, program := range map[string]string{
		"http.client": `
import http.client, os
c = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    c.request("GET", "/2018-06-01/runtime/invocation/next")
    r = c.getresponse(); body = r.read()
    c.request("POST", "/2018-06-01/runtime/invocation/" + r.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", body)
    r = c.getresponse(); r.read()
    assert r.status == 202`,
		"urllib, a connection each": `
import urllib.request, os
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
while True:
    r = urllib.request.urlopen(base + "next"); body = r.read()
    q = urllib.request.urlopen(urllib.request.Request(base + r.headers["lambda-runtime-aws-request-id"] + "/response", body, method="POST"))
    assert q.status == 202 and q.read()`,
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Options{})
			e.process("python3", "-c", program)
			e.echoes()
		})
	}
}

func TestCurl(t *testing.T) {
	need(t, "curl")
	need(t, "sh")
	for name, options := range map[string]string{"1.1": "", "1.0": "--http1.0", "100-continue": "-H Expect:100-continue", "chunked": "-H Transfer-Encoding:chunked"} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Options{})
			dir := t.TempDir()
			if name == "chunked" {
				options += " -H Content-Length:"
			}
			e.process("sh", "-ec", `cd `+dir+`
base=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
  curl --noproxy '*' -sS -f -D head -o body `+strings.ReplaceAll(options, "-H Transfer-Encoding:chunked -H Content-Length:", "")+` $base/next
  id=$(tr -d '\r' < head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
  curl --noproxy '*' -sS -f -o /dev/null `+options+` --data-binary @body $base/$id/response
done`)
			e.echoes()
		})
	}
}
