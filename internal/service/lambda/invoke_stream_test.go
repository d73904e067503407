package lambda

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/fleet"
)

// TestInvokeStreamBuffered has handlers that do not stream, as the real SDK sees them.
func TestInvokeStreamBuffered(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	c := w.client()
	for name, test := range map[string]struct {
		answer                     fleet.Response
		tail                       bool
		payload, code, detail, log string
	}{
		"answers": {answer: fleet.Response{Payload: []byte("answer")}, payload: "answer"},
		"nothing": {answer: fleet.Response{}},
		"large":   {answer: fleet.Response{Payload: []byte(strings.Repeat("x", 6<<20))}, payload: strings.Repeat("x", 6<<20)},
		"fails": {answer: fleet.Response{Payload: []byte(`{"errorMessage":"no"}`), FunctionError: "Unhandled", LogTail: []byte("END\n")}, tail: true,
			code: "Unhandled", detail: `{"errorMessage":"no"}`, log: "END\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w.invoker.serve = func(*fleet.Function, *fleet.Request) (*fleet.Response, error) { return &test.answer, nil }
			in := &sdk.InvokeWithResponseStreamInput{FunctionName: aws.String("f"), Payload: []byte(`{"a":1}`)}
			if test.tail {
				in.LogType = types.LogTypeTail
			}
			out, err := c.InvokeWithResponseStream(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if out.StatusCode != 200 || *out.ExecutedVersion != "$LATEST" || *out.ResponseStreamContentType != "application/vnd.amazon.eventstream" {
				t.Errorf("%+v", out)
			}
			if got := w.invoker.request; !got.Stream || got.LogTail != test.tail || string(got.Payload) != `{"a":1}` {
				t.Errorf("request %+v", got)
			}
			payload, chunks := "", 0
			var end *types.InvokeWithResponseStreamCompleteEvent
			for e := range out.GetStream().Events() {
				switch e := e.(type) {
				case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
					payload += string(e.Value.Payload)
					chunks++
				case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
					if end != nil {
						t.Error("a second InvokeComplete")
					}
					end = &e.Value
				}
			}
			if err := out.GetStream().Err(); err != nil {
				t.Fatal(err)
			}
			if payload != test.payload || chunks > 1 || end == nil {
				t.Fatalf("%d bytes in %d chunks, %+v", len(payload), chunks, end)
			}
			log, _ := base64.StdEncoding.DecodeString(aws.ToString(end.LogResult))
			if aws.ToString(end.ErrorCode) != test.code || aws.ToString(end.ErrorDetails) != test.detail || string(log) != test.log || (end.LogResult != nil) != test.tail {
				t.Errorf("ended with %+v", end)
			}
		})
	}
}

// What is wrong before the function runs is an error of the call, as with Invoke.
func TestInvokeStreamErrors(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	w.invoker.serve = func(*fleet.Function, *fleet.Request) (*fleet.Response, error) {
		return nil, &fleet.ThrottledError{Reason: "ConcurrentInvocationLimitExceeded"}
	}
	for _, test := range []struct {
		in   lambdaapi.InvokeWithResponseStreamInput
		want string
	}{
		{lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("nobody")}, "ResourceNotFoundException"},
		{lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("f"), Qualifier: new("9")}, "ResourceNotFoundException"},
		{lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("f"), Payload: []byte("{")}, "InvalidRequestContentException"},
		{lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("f"), Payload: make([]byte, 6<<20+1)}, "RequestTooLargeException"},
		{lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("f"), ClientContext: new("!")}, "InvalidRequestContentException"},
		{lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("f"), TenantId: new("t")}, "InvalidParameterValueException"},
		{lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("f")}, "TooManyRequestsException"},
	} {
		_, err := lambdaapi.InvokeWithResponseStream.Call(as(t.Context(), testAccount, testRegion), w, &test.in)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.in, err)
		}
	}
	w.invoker.request = nil
	out, err := lambdaapi.InvokeWithResponseStream.Call(as(t.Context(), testAccount, testRegion), w,
		&lambdaapi.InvokeWithResponseStreamInput{FunctionName: new("f"), InvocationType: new("DryRun")})
	if err != nil || *out.StatusCode != 204 || w.invoker.request != nil || out.EventStream != nil {
		t.Errorf("dry run: %+v %v", out, err)
	}
}
