package protocol_test

import (
	"net/http"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// BenchmarkInvoke is what the protocol adds to a warm invocation: match, decode, validate, encode.
func BenchmarkInvoke(b *testing.B) {
	r := protocol.NewRouter(services...)
	req := &protocol.Request{
		Method: "POST", Path: "/2015-03-31/functions/orders/invocations", Header: http.Header{"Content-Type": {"application/json"}, "X-Amz-Invocation-Type": {"RequestResponse"}},
		Body: []byte(`{"hello":"world"}`),
	}
	out := &lambdaapi.InvokeOutput{StatusCode: new(int32(200)), ExecutedVersion: new("$LATEST"), Payload: []byte(`{"ok":true}`)}
	b.ReportAllocs()
	for b.Loop() {
		call, err := r.Match(req, "lambda")
		if err != nil {
			b.Fatal(err)
		}
		in := call.Op.NewInput()
		if err := call.Decode(in); err != nil {
			b.Fatal(err)
		}
		if err := smithy.Validate(call.Op, in); err != nil {
			b.Fatal(err)
		}
		if res := call.Encode(out, "id"); res.Status != 200 {
			b.Fatal(res.Status)
		}
	}
}

// BenchmarkPutLogEvents decodes a hundred events of JSON.
func BenchmarkPutLogEvents(b *testing.B) {
	in := &logsapi.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new("s")}
	for i := range 100 {
		in.LogEvents = append(in.LogEvents, logsapi.InputLogEvent{Message: new("START RequestId: 0f4a9d9e-0000-4000-8000-000000000001 Version: $LATEST"), Timestamp: new(int64(i))})
	}
	codec := protocol.CodecFor(logsapi.Service, smithy.JSON)
	req, err := codec.EncodeRequest(logsapi.PutLogEvents.Info, in)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(req.Body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := codec.DecodeRequest(logsapi.PutLogEvents.Info, req, new(logsapi.PutLogEventsInput)); err != nil {
			b.Fatal(err)
		}
	}
}
