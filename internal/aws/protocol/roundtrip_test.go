package protocol_test

import (
	"bytes"
	"io"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

var allProtocols = []smithy.Protocol{smithy.JSON, smithy.Query, smithy.RESTJSON, smithy.RESTXML, smithy.CBOR}

// sameValues compares inputs and outputs, streams by what they hold.
var sameValues = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type() == reflect.TypeFor[io.ReadCloser]() },
		cmp.Transformer("read", func(r io.ReadCloser) string {
			if r == nil {
				return "<nil>"
			}
			return string(r.(*buffered).all)
		})),
	cmp.FilterValues(func(a, b any) bool { return isStream(a) && isStream(b) }, cmp.Ignore()),
}

func isStream(v any) bool { _, ok := v.(smithy.AnyStream); return ok }

// buffered is a stream that can be read and still be compared.
type buffered struct {
	io.Reader
	all []byte
}

func (*buffered) Close() error { return nil }

// bufferStreams makes every streaming blob of the structure at ptr comparable.
func bufferStreams(ptr any) {
	v := reflect.ValueOf(ptr).Elem()
	for i := range v.NumField() {
		if r, ok := v.Field(i).Interface().(io.ReadCloser); ok && v.Field(i).Type() == reflect.TypeFor[io.ReadCloser]() {
			all, _ := io.ReadAll(r)
			v.Field(i).Set(reflect.ValueOf(&buffered{bytes.NewReader(all), all}))
		}
	}
}

// TestRoundTrip sends every operation of every service, all members set, from our client side to our server side and back, in every protocol of the service.
func TestRoundTrip(t *testing.T) {
	r := protocol.NewRouter(services...)
	for _, svc := range services {
		for _, p := range allProtocols {
			if !svc.Speaks(p) {
				continue
			}
			t.Run(svc.Name+"/"+string(p), func(t *testing.T) {
				codec := protocol.CodecFor(svc, p)
				for i := range svc.Ops {
					op := &svc.Ops[i]
					for _, full := range []bool{true, false} {
						if !full && (svc.Speaks(smithy.RESTJSON) || svc.Speaks(smithy.RESTXML)) {
							continue // labels must be there
						}
						roundTrip(t, r, codec, op, full)
					}
				}
			})
		}
	}
}

// CBOR in place of JSON is chosen by the Content-Type alone.
func TestRoundTripTargetCBOR(t *testing.T) {
	r := protocol.NewRouter(services...)
	codec := targetCBOR(t, r)
	for i := range kinesisapi.Service.Ops {
		for _, full := range []bool{true, false} {
			roundTrip(t, r, codec, &kinesisapi.Service.Ops[i], full)
		}
	}
	// Timestamps are whole milliseconds under tag 1.
	at := time.UnixMilli(1795500000250).UTC()
	req, err := codec.EncodeRequest(kinesisapi.GetShardIterator.Info, &kinesisapi.GetShardIteratorInput{Timestamp: &at})
	if err != nil || !bytes.Contains(req.Body, []byte{0xc1, 0x1b, 0, 0, 0x01, 0xa2, 0x0c, 0x23, 0xc3, 0xfa}) {
		t.Errorf("%x, %v", req.Body, err)
	}
	// The SDK for Java writes maps of indefinite length.
	var in kinesisapi.PutRecordInput
	body := []byte("\xbfjStreamNamedtestdDataEhello\x6cPartitionKeyak\xff")
	if err := codec.DecodeRequest(kinesisapi.PutRecord.Info, &protocol.Request{Body: body}, &in); err != nil {
		t.Fatal(err)
	}
	same(t, "indefinite", in, kinesisapi.PutRecordInput{StreamName: new("test"), Data: []byte("hello"), PartitionKey: new("k")})
}

func targetCBOR(t testing.TB, r *protocol.Router) protocol.Codec {
	call, err := r.Match(&protocol.Request{Method: "POST", Path: "/", Header: http.Header{
		"Content-Type": {"application/x-amz-cbor-1.1"}, "X-Amz-Target": {"Kinesis_20131202.PutRecord"},
	}}, "kinesis")
	if err != nil {
		t.Fatal(err)
	}
	return call.Codec
}

func roundTrip(t *testing.T, r *protocol.Router, codec protocol.Codec, op *smithy.OpInfo, full bool) {
	in := op.NewInput()
	if full {
		fill(in, op.Input)
	}
	bufferStreams(in)
	req, err := codec.EncodeRequest(op, in)
	if err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	call, err := r.Match(req, op.Service.SigningName)
	if err != nil || call.Op != op {
		t.Errorf("%s: matched %v: %v", op, call.Op, err)
		return
	}
	got := op.NewInput()
	if err := call.Decode(got); err != nil {
		t.Errorf("%s: decoding the request: %v\n%s", op, err, req.Body)
		return
	}
	bufferStreams(got)
	if d := cmp.Diff(in, got, sameValues); d != "" {
		t.Errorf("%s: input: %s\n%s", op, d, req.Body)
	}

	out := op.NewOutput()
	if full {
		fill(out, op.Output)
	}
	bufferStreams(out)
	res := call.Encode(out, "the-id")
	body := bytes.NewBuffer(res.Body)
	if res.Stream != nil {
		if err := res.Stream(body); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	if id := res.Header.Get("x-amzn-RequestId") + res.Header.Get("x-amz-request-id"); id != "the-id" {
		t.Errorf("%s: request id %q", op, id)
	}
	back := op.NewOutput()
	text := body.String()
	err = codec.DecodeResponse(op, &protocol.Response{Status: res.Status, Header: res.Header, Reader: io.NopCloser(body)}, back)
	if err != nil {
		t.Errorf("%s: decoding the response: %v\n%s", op, err, text)
		return
	}
	bufferStreams(back)
	if d := cmp.Diff(out, back, sameValues); d != "" {
		t.Errorf("%s: output: %s\n%s", op, d, text)
	}
}

// TestErrorRoundTrip sends every modelled error of every service through every protocol.
func TestErrorRoundTrip(t *testing.T) {
	for _, svc := range services {
		for _, p := range allProtocols {
			if !svc.Speaks(p) {
				continue
			}
			codec := protocol.CodecFor(svc, p)
			for i := range svc.Shapes {
				sh := &svc.Shapes[i]
				if sh.Error == nil {
					continue
				}
				want := svc.Err(sh.Name, "a <message> & %s", "more")
				res := codec.EncodeError(svc, want, "the-id")
				if res.Status != sh.Error.Status {
					t.Errorf("%s %s %s: status %d", svc.Name, p, sh.Name, res.Status)
				}
				err := codec.DecodeResponse(&svc.Ops[0], &protocol.Response{Status: res.Status, Header: res.Header, Body: res.Body}, svc.Ops[0].NewOutput())
				got := apierr.From(err)
				// Old codes that two errors share come back as one of them.
				same := got.Code == want.Code || svc.ErrorShape(got.Code) == svc.ErrorShape(sh.Error.Code) ||
					svc.ErrorShape(got.Code).Error.Code == sh.Error.Code && sh.Error.Code != ""
				if !same || got.Message != want.Message || got.Fault != want.Fault {
					t.Errorf("%s %s: got %#v, want %#v\n%s", svc.Name, p, got, want, res.Body)
				}
			}
		}
	}
}

// TestErrorsWithoutShape holds for errors that no model has, and for requests that match no service.
func TestErrorsWithoutShape(t *testing.T) {
	for _, svc := range services {
		for _, p := range allProtocols {
			if !svc.Speaks(p) {
				continue
			}
			codec := protocol.CodecFor(svc, p)
			e := apierr.New("ExpiredTokenException", 403, "The security token included in the request is expired")
			e.Header = http.Header{"Retry-After": {"3"}}
			for _, s := range []*smithy.Service{svc, nil} {
				res := codec.EncodeError(s, e, "the-id")
				err := codec.DecodeResponse(&svc.Ops[0], &protocol.Response{Status: res.Status, Header: res.Header, Body: res.Body}, svc.Ops[0].NewOutput())
				got := apierr.From(err)
				if got.Code != e.Code || got.Message != e.Message || got.Status != 403 || res.Header.Get("Retry-After") != "3" {
					t.Errorf("%s %s: got %#v\n%s", svc.Name, p, got, res.Body)
				}
			}
		}
	}
}
