package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/smithy-go/encoding/cbor"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/s3api"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/protocol/protocoltest/cloudwatchapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// stable decodes a body for op. Foreign bytes must give an input or a coded error with status 4xx, and an input that was decoded, encoded and decoded
// again must encode the same.
func stable(t *testing.T, codec protocol.Codec, op *smithy.OpInfo, req *protocol.Request) {
	in := op.NewInput()
	if err := codec.DecodeRequest(op, req, in); err != nil {
		e, ok := errors.AsType[*apierr.Error](err)
		if !ok || e.HTTPStatus()/100 != 4 {
			t.Fatalf("%s: not a client's error: %v", op, err)
		}
		codec.EncodeError(op.Service, e, "id")
		return
	}
	_ = smithy.Validate(op, in)
	first, err := codec.EncodeRequest(op, in)
	if err != nil {
		return // labels are not in a body
	}
	again := op.NewInput()
	if err := codec.DecodeRequest(op, first, again); err != nil {
		t.Fatalf("%s: our own encoding is not read: %v\n%q", op, err, first.Body)
	}
	second, err := codec.EncodeRequest(op, again)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Body) != len(second.Body) { // CBOR maps have no order
		t.Fatalf("%s: not stable:\n%q\n%q", op, first.Body, second.Body)
	}
}

func seed(f *testing.F, p smithy.Protocol, ops ...*smithy.OpInfo) {
	for _, op := range ops {
		for _, full := range []bool{true, false} {
			in := op.NewInput()
			if full {
				fill(in, op.Input)
			}
			if req, err := protocol.CodecFor(op.Service, p).EncodeRequest(op, in); err == nil {
				f.Add(req.Body)
			}
		}
	}
}

func FuzzJSON(f *testing.F) {
	ops := []*smithy.OpInfo{logsapi.PutLogEvents.Info, sqsapi.SendMessage.Info, kinesisapi.PutRecords.Info, cloudwatchapi.GetMetricData.Info, logsapi.PutDeliverySource.Info, logsapi.PutTransformer.Info}
	seed(f, smithy.JSON, ops...)
	for _, s := range []string{`[]`, `{"logGroupName":1}`, `{"Records":[null,{"Data":"!"}]}`, `{"DelaySeconds":1e99}`, `{"StartTime":"2026-11-24T06:00:00Z"}`, `{"StartTime":-0.5}`, `{`, `{"a":"\ud800"}`, `{} {}`, "\x80"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, op := range ops {
			stable(t, protocol.CodecFor(op.Service, smithy.JSON), op, &protocol.Request{Method: "POST", Path: "/", Body: b, Header: http.Header{}})
		}
	})
}

func FuzzQuery(f *testing.F) {
	ops := []*smithy.OpInfo{iamapi.CreateRole.Info, iamapi.TagRole.Info, iamapi.SimulateCustomPolicy.Info, sqsapi.SendMessageBatch.Info, cloudwatchapi.PutMetricData.Info}
	seed(f, smithy.Query, ops...)
	for _, s := range []string{"Tags.member.1.Key=a&Tags.member.9999999999=b", "Tags=", "a%zz=1", "Tags.member.1.Key.x.y=1&Tags.1=2", "MaxSessionDuration=x", "=&=&."} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, op := range ops {
			h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			stable(t, protocol.CodecFor(op.Service, smithy.Query), op, &protocol.Request{Method: "POST", Path: "/", Body: b, Header: h})
		}
	})
}

func FuzzXML(f *testing.F) {
	op, acl := s3api.CompleteMultipartUpload.Info, s3api.PutBucketAcl.Info
	seed(f, smithy.RESTXML, op, acl)
	for _, s := range []string{`<a><b></a>`, `<!DOCTYPE x [<!ENTITY e "e">]><AccessControlPolicy>&e;</AccessControlPolicy>`, `<x/><y/>`, `<Delete><Object><Key>&lt;</Key></Object></Delete>`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, op := range []*smithy.OpInfo{op, acl} {
			stable(t, protocol.CodecFor(op.Service, smithy.RESTXML), op, &protocol.Request{Method: "POST", Path: "/b/k", Body: b, Header: http.Header{}})
		}
		out := s3api.ListObjectsV2Output{}
		_ = protocol.CodecFor(s3api.Service, smithy.RESTXML).DecodeResponse(s3api.ListObjectsV2.Info, &protocol.Response{Status: 200, Body: b}, &out)
		_ = protocol.CodecFor(iamapi.Service, smithy.Query).DecodeResponse(iamapi.ListRoles.Info, &protocol.Response{Status: 200, Body: b}, &iamapi.ListRolesOutput{})
		_ = protocol.CodecFor(iamapi.Service, smithy.Query).DecodeResponse(iamapi.ListRoles.Info, &protocol.Response{Status: 400, Body: b}, &iamapi.ListRolesOutput{})
	})
}

func FuzzCBOR(f *testing.F) {
	ops := []*smithy.OpInfo{cloudwatchapi.PutMetricData.Info, cloudwatchapi.GetMetricData.Info, cloudwatchapi.PutMetricAlarm.Info}
	seed(f, smithy.CBOR, ops...)
	f.Add(bytes.Repeat([]byte{0x81}, 10000))
	f.Add(cbor.Encode(cbor.Map{"StartTime": &cbor.Tag{ID: 1, Value: cbor.String("x")}, "MaxDatapoints": cbor.Float64(1e300)}))
	f.Add([]byte{0xbf, 0x61, 'a', 0xff})
	target := targetCBOR(f, protocol.NewRouter(services...))
	f.Add([]byte("\xbfgRecords\x9f\xbfdDataEhello\x6cPartitionKeyak\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, op := range ops {
			stable(t, protocol.CodecFor(op.Service, smithy.CBOR), op, &protocol.Request{Method: "POST", Body: b, Header: http.Header{}})
			_ = protocol.CodecFor(op.Service, smithy.CBOR).DecodeResponse(op, &protocol.Response{Status: 500, Body: b}, op.NewOutput())
		}
		stable(t, target, kinesisapi.PutRecords.Info, &protocol.Request{Method: "POST", Path: "/", Body: b, Header: http.Header{}})
	})
}

func FuzzEventStream(f *testing.F) {
	for _, types := range [][2]string{{"event", "PayloadChunk"}, {"event", "SubscribeToShardEvent"}, {"event", "initial-response"}, {"exception", "ResourceInUseException"}, {"error", ""}} {
		var m eventstream.Message
		m.Headers.Set(":message-type", eventstream.StringValue(types[0]))
		m.Headers.Set(":event-type", eventstream.StringValue(types[1]))
		m.Headers.Set(":exception-type", eventstream.StringValue(types[1]))
		m.Payload = []byte(`{"MillisBehindLatest":1}`)
		var b bytes.Buffer
		if err := eventstream.NewEncoder().Encode(&b, m); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		f.Add(b.Bytes()[:b.Len()-3])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var lam lambdaapi.InvokeWithResponseStreamOutput
		err := protocol.CodecFor(lambdaapi.Service, smithy.RESTJSON).DecodeResponse(lambdaapi.InvokeWithResponseStream.Info,
			&protocol.Response{Status: 200, Header: http.Header{}, Reader: io.NopCloser(bytes.NewReader(b))}, &lam)
		if err == nil {
			for _, err := range lam.EventStream {
				_ = err
			}
		}
		var kin kinesisapi.SubscribeToShardOutput
		err = protocol.CodecFor(kinesisapi.Service, smithy.JSON).DecodeResponse(kinesisapi.SubscribeToShard.Info,
			&protocol.Response{Status: 200, Header: http.Header{}, Reader: io.NopCloser(bytes.NewReader(b))}, &kin)
		if err == nil {
			for _, err := range kin.EventStream {
				_ = err
			}
		}
	})
}

// FuzzMatch routes and decodes whole requests.
func FuzzMatch(f *testing.F) {
	r := protocol.NewRouter(services...)
	f.Add("GET", "/2015-03-31/functions/f/configuration", "Qualifier=1", "", "", "", []byte(nil))
	f.Add("POST", "/2015-03-31/functions", "", "", "application/json", "lambda", []byte(`{"FunctionName":"f"}`))
	f.Add("POST", "/", "", "Logs_20140328.PutLogEvents", "application/x-amz-json-1.1", "logs", []byte(`{}`))
	f.Add("POST", "/", "Action=GetUser", "", "application/x-www-form-urlencoded", "iam", []byte(`Action=GetRole&RoleName=x`))
	f.Add("PUT", "/b/k%2F//", "partNumber=x&uploadId", "", "", "s3", []byte(`x`))
	f.Add("GET", "/%zz/%", "a=%zz;", ".", "\x00", "s3", []byte(`x`))
	f.Fuzz(func(t *testing.T, method, path, query, target, contentType, signing string, body []byte) {
		req := &protocol.Request{Method: method, Path: path, Query: query, Header: http.Header{}, Body: body}
		if target != "" {
			req.Header.Set("X-Amz-Target", target)
		}
		req.Header.Set("Content-Type", contentType)
		call, err := r.Match(req, signing)
		if err == nil {
			err = call.Decode(call.Op.NewInput())
		}
		if err != nil {
			if res := call.EncodeError(err, "id"); res.Status < 400 || res.Status == 500 {
				t.Fatalf("%d for %v", res.Status, err)
			}
		}
	})
}
