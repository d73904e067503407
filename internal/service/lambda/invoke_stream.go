package lambda

import (
	"context"
	"encoding/base64"
	"errors"
	"io"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/fleet"
)

// eventStreamType is the Content-Type of the answers of InvokeWithResponseStream, which is where the contract has the type
// of the function's own.
var eventStreamType = "application/vnd.amazon.eventstream"

// streamPiece is the longest PayloadChunk of a handler that streams, in bytes.
const streamPiece = 32 << 10

// invokeStream serves invocations whose response is handed on as it comes. Whatever goes wrong before the function runs is
// an ordinary error, whatever goes wrong after that is told in the last event.
func (s *Service) invokeStream(ctx context.Context, in *lambdaapi.InvokeWithResponseStreamInput) (*lambdaapi.InvokeWithResponseStreamOutput, error) {
	c, ref, err := locate(ctx, "InvokeFunction", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	kind := lambdaapi.ResponseStreamingInvocationTypeRequestResponse
	assign(&kind, in.InvocationType)
	if len(in.Payload) > s.limits.PayloadBytes {
		return nil, lambdaapi.ErrRequestTooLargeException("%d byte payload is too large for the %s invocation type (limit %d bytes)",
			len(in.Payload), kind, s.limits.PayloadBytes)
	}
	t, err := s.target(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	if err := t.first.checkTenant(in.TenantId); err != nil {
		return nil, err
	}
	if kind == lambdaapi.ResponseStreamingInvocationTypeDryRun {
		return &lambdaapi.InvokeWithResponseStreamOutput{StatusCode: &statusNoContent}, nil
	}
	tail := in.LogType != nil && *in.LogType == lambdaapi.LogTypeTail
	e, res, err := s.run(ctx, c, ref, t, in.ClientContext, &fleet.Request{TenantID: deref(in.TenantId), Payload: in.Payload, LogTail: tail, Stream: true})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.InvokeWithResponseStreamOutput{
		StatusCode: &statusOK, ExecutedVersion: &e.version, ResponseStreamContentType: &eventStreamType, EventStream: streamEvents(res, tail),
	}, nil
}

// streamEvents makes a response's events: its pieces and one InvokeComplete. If the events are not taken to the end the
// function goes on.
func streamEvents(res *fleet.Response, tail bool) func(func(*lambdaapi.InvokeWithResponseStreamResponseEvent, error) bool) {
	return func(yield func(*lambdaapi.InvokeWithResponseStreamResponseEvent, error) bool) {
		var end lambdaapi.InvokeWithResponseStreamCompleteEvent
		chunk := func(b []byte) bool {
			return yield(&lambdaapi.InvokeWithResponseStreamResponseEvent{PayloadChunk: &lambdaapi.InvokeResponseStreamUpdate{Payload: b}}, nil)
		}
		logged := res.LogTail
		switch {
		case res.Stream != nil:
			defer res.Stream.Close()
			buf := make([]byte, streamPiece)
			for {
				n, err := res.Stream.Read(buf)
				if n > 0 && !chunk(buf[:n]) {
					return
				}
				if err == io.EOF {
					break
				}
				if failed, ok := errors.AsType[*fleet.StreamError](err); ok {
					end.ErrorCode, end.ErrorDetails = &unhandled, errorDetails(failed)
					break
				}
				if err != nil { // nobody listens any more
					yield(nil, err)
					return
				}
			}
			if tail {
				logged = res.Stream.LogTail()
			}
		case res.FunctionError != "":
			end.ErrorCode, end.ErrorDetails = &res.FunctionError, new(string(res.Payload))
		default:
			if len(res.Payload) > 0 && !chunk(res.Payload) {
				return
			}
		}
		if tail {
			end.LogResult = new(base64.StdEncoding.EncodeToString(logged))
		}
		yield(&lambdaapi.InvokeWithResponseStreamResponseEvent{InvokeComplete: &end}, nil)
	}
}

// errorDetails is the error document of a stream that failed: the function's own, if it said something.
func errorDetails(failed *fleet.StreamError) *string {
	if len(failed.Body) == 0 {
		return new(`{"errorType":"` + failed.Type + `"}`) // a type that was normalised has nothing to escape
	}
	return new(string(failed.Body))
}
