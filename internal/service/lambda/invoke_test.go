package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/fleet"
)

func TestInvoke(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	name := new("f")

	client := base64.StdEncoding.EncodeToString([]byte(`{"custom":{"k":"v"}}`))
	info := &call.Info{Account: testAccount, Region: testRegion, RequestID: "11111111-2222-4333-8444-555555555555", Trace: "Root=1-2-3"}
	w.invoker.serve = func(_ *fleet.Function, req *fleet.Request) (*fleet.Response, error) {
		return &fleet.Response{Payload: []byte("answer"), LogTail: []byte("START\nEND\n")}, nil
	}
	out := must(lambdaapi.Invoke.Call(call.With(t.Context(), info), w, &lambdaapi.InvokeInput{
		FunctionName: name, Qualifier: new("$LATEST"), Payload: []byte(` { "a" : 1, "a" : 2 } `), LogType: new("Tail"), ClientContext: &client, InvocationType: new("RequestResponse"),
	}))(t)
	if *out.StatusCode != 200 || string(out.Payload) != "answer" || *out.ExecutedVersion != "$LATEST" || out.FunctionError != nil || *out.LogResult != "U1RBUlQKRU5ECg==" {
		t.Errorf("answer %+v", out)
	}
	got := w.invoker.request
	if got.RequestID != info.RequestID || got.InvokedARN != testARN+"f:$LATEST" || !strings.HasPrefix(got.Trace, info.Trace+";Lineage=1:") || got.ClientContext != `{"custom":{"k":"v"}}` ||
		string(got.Payload) != ` { "a" : 1, "a" : 2 } ` || !got.LogTail {
		t.Errorf("request %+v", got)
	}

	w.invoker.serve = func(_ *fleet.Function, req *fleet.Request) (*fleet.Response, error) {
		return &fleet.Response{Payload: []byte(`{"errorMessage":"no"}`), FunctionError: "Unhandled"}, nil
	}
	out = w.invoked(&lambdaapi.InvokeInput{FunctionName: name, LogType: new("None")})
	if *out.FunctionError != "Unhandled" || out.LogResult != nil || string(w.invoker.request.Payload) != "{}" || w.invoker.request.LogTail || w.invoker.request.InvokedARN != testARN+"f" {
		t.Errorf("answer %+v to %+v", out, w.invoker.request)
	}
	if trace := w.invoker.request.Trace; !strings.HasPrefix(trace, "Root=1-") {
		t.Errorf("an invocation without a trace got %q", trace)
	}

	w.invoker.request = nil
	out = w.invoked(&lambdaapi.InvokeInput{FunctionName: name, InvocationType: new("DryRun")})
	if *out.StatusCode != 204 || out.Payload != nil || out.ExecutedVersion != nil || w.invoker.request != nil {
		t.Errorf("dry run: %+v", out)
	}
}

func TestInvokeErrors(t *testing.T) {
	w := newWorld(t, func(d *Deps) { d.Config.PayloadBytes = 100 })
	w.run()
	w.created("f")
	type in = lambdaapi.InvokeInput
	const place = "\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); "
	const body = "Could not parse request body into json: Could not parse payload into json: "
	const one = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
	for name, c := range map[string]struct {
		in     in
		code   string
		status int
		text   string
	}{
		"missing":          {in{FunctionName: new("nope")}, "ResourceNotFoundException", 404, "Function not found: " + testARN + "nope:$LATEST"},
		"missing version":  {in{FunctionName: new("f:7")}, "ResourceNotFoundException", 404, "Function not found: " + testARN + "f:7"},
		"missing alias":    {in{FunctionName: new("f"), Qualifier: new("prod")}, "ResourceNotFoundException", 404, "Function not found: " + testARN + "f:prod"},
		"too large":        {in{FunctionName: new("f"), Payload: make([]byte, 101)}, "RequestTooLargeException", 413, "101 byte payload is too large for the RequestResponse invocation type (limit 100 bytes)"},
		"unknown type":     {in{FunctionName: new("f"), InvocationType: new("Later")}, "ValidationException", 400, "1 validation error detected: Value 'Later' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: ["},
		"tenant":           {in{FunctionName: new("f"), TenantId: new("t")}, "InvalidParameterValueException", 400, "The invoked function is not enabled with tenancy configuration."},
		"durable":          {in{FunctionName: new("f"), DurableExecutionName: new("t")}, "InvalidParameterValueException", 400, "DurableExecutionName: durable functions are not served by Mayfly yet."},
		"context encoding": {in{FunctionName: new("f"), ClientContext: new("{}")}, "InvalidRequestContentException", 400, "Client context must be a valid Base64-encoded JSON object."},
		"context JSON":     {in{FunctionName: new("f"), ClientContext: new(base64.StdEncoding.EncodeToString([]byte("{")))}, "InvalidRequestContentException", 400, "Client context must be a valid Base64-encoded JSON object."},
		"context string":   {in{FunctionName: new("f"), ClientContext: new(base64.StdEncoding.EncodeToString([]byte(`"x"`)))}, "InvalidRequestContentException", 400, "Client context must be a valid Base64-encoded JSON object."},
		"context too long": {in{FunctionName: new("f"), ClientContext: new(strings.Repeat("A", 3584))}, "InvalidRequestContentException", 400, "Client context must be less than or equal to 3583 bytes when Base64-encoded."},
		"token":            {in{FunctionName: new("f"), Payload: []byte("abc")}, "InvalidRequestContentException", 400, body + "Unrecognized token 'abc': was expecting " + one + place + "line: 1, column: 1]"},
		"character":        {in{FunctionName: new("f"), Payload: []byte("{\n  'a': 1}")}, "InvalidRequestContentException", 400, body + "Unexpected character (''' (code 39)): expected a valid value " + one + place + "line: 2, column: 3]"},
		"end":              {in{FunctionName: new("f"), Payload: []byte(`{"a": [1, 2`)}, "InvalidRequestContentException", 400, body + "Unexpected end-of-input" + place + "line: 1, column: 12]"},
		"two values":       {in{FunctionName: new("f"), Payload: []byte(`{} {}`)}, "InvalidRequestContentException", 400, body + "Unexpected character ('{' (code 123)): expected a valid value " + one + place + "line: 1, column: 4]"},
		"UTF-8":            {in{FunctionName: new("f"), Payload: []byte("n\x87r")}, "InvalidRequestContentException", 400, body + "Invalid UTF-8 start byte 0x87" + place},
		"UTF-8 first":      {in{FunctionName: new("f"), Payload: []byte("\x99\xeb,j")}, "InvalidRequestContentException", 400, body + "Unexpected character ((CTRL-CHAR, code 153)): expected a valid value " + one + place + "line: 1, column: 1]"},
		"space":            {in{FunctionName: new("f"), Payload: []byte(" ")}, "InvalidRequestContentException", 400, body + "Unexpected end-of-input"},
	} {
		t.Run(name, func(t *testing.T) {
			w.invoker.request = nil
			_, err := lambdaapi.Invoke.Call(t.Context(), w, &c.in)
			wantError(t, err, c.code, c.status, c.text)
			if w.invoker.request != nil {
				t.Error("it was invoked")
			}
		})
	}
	for name, c := range map[string]struct {
		err    error
		code   string
		status int
		text   string
		reason any
		kind   string
	}{
		"throttled": {&fleet.ThrottledError{Reason: "ConcurrentInvocationLimitExceeded"}, "TooManyRequestsException", 429, "Rate Exceeded.", "ConcurrentInvocationLimitExceeded", "User"},
		"stopping":  {fleet.ErrStopping, "ServiceException", 503, "", nil, "Service"},
		"broken":    {errors.New("disk on fire"), "ServiceException", 500, "An error occurred and the request cannot be processed.", nil, "Service"},
	} {
		t.Run(name, func(t *testing.T) {
			w.invoker.serve = func(*fleet.Function, *fleet.Request) (*fleet.Response, error) {
				return nil, fmt.Errorf("start: %w", c.err)
			}
			_, err := lambdaapi.Invoke.Call(t.Context(), w, &in{FunctionName: new("f")})
			wantError(t, err, c.code, c.status, c.text)
			wantType(t, err, c.kind)
			if e, _ := asAPIError(err); e != nil && e.Members["Reason"] != c.reason {
				t.Errorf("Reason is %v", e.Members["Reason"])
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(as(t.Context(), testAccount, testRegion))
		w.invoker.serve = func(*fleet.Function, *fleet.Request) (*fleet.Response, error) {
			cancel()
			return nil, ctx.Err()
		}
		if _, err := lambdaapi.Invoke.Call(ctx, w, &in{FunctionName: new("f")}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{}`, `[1,2]`, `"a"`, `null`, `tru`, `{"a":}`, "\x87", `{"a":1,"a":2}`, ` 1 2`, `"\ud800"`, "", "{\"\xff\":1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := checkJSON(b)
		if (err == nil) != validJSON(b) {
			t.Fatal(err)
		}
		if err == nil && !json.Valid(b) {
			t.Fatalf("%q is valid here and nowhere else", b)
		}
	})
}

// BenchmarkInvoke is what the service adds to a warm invocation.
func BenchmarkInvoke(b *testing.B) {
	w := newWorld(b)
	w.run()
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	w.settled("f:1")
	res := &fleet.Response{Payload: []byte(`{"ok":true}`)}
	w.Service.invoker = invokerFunc(func() (*fleet.Response, error) { return res, nil })
	ctx := as(b.Context(), testAccount, testRegion)
	for _, name := range []string{"f", "f:1", testARN + "f"} {
		for _, size := range []int{100, 6000} {
			b.Run(fmt.Sprintf("%s/%d", name[strings.LastIndex(name, "function:")+1:], size), func(b *testing.B) {
				in := &lambdaapi.InvokeInput{FunctionName: new(name), Payload: []byte(`{"body":"` + strings.Repeat("x", size) + `"}`)}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.invoke(ctx, in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkValidJSON compares the ways to check a payload; only the first also refuses what is not UTF-8, as AWS does.
func BenchmarkValidJSON(b *testing.B) {
	var records []string
	for i := range 10 {
		records = append(records, fmt.Sprintf(`{"messageId":"id-%d","body":"{\"n\":%d,\"text\":\"%s\"}","attributes":{"ApproximateReceiveCount":"1"},"size":%d.5e3}`, i, i, strings.Repeat("word ", 80), i))
	}
	payload := []byte(`{"Records":[` + strings.Join(records, ",") + `]}`)
	for name, valid := range map[string]func([]byte) bool{
		"jsontext":        validJSON,
		"v1":              json.Valid,
		"jsontext strict": func(b []byte) bool { return jsontext.Value(b).IsValid() },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if !valid(payload) {
					b.Fatal("not valid")
				}
			}
		})
	}
}

type invokerFunc func() (*fleet.Response, error)

func (f invokerFunc) Invoke(context.Context, *fleet.Function, *fleet.Request) (*fleet.Response, error) {
	return f()
}
func (invokerFunc) Retire(string) {}
