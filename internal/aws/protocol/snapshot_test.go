package protocol_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/s3api"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/protocol/protocoltest/cloudwatchapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// The modules of the AWS SDK for Go hold what its clients send and accept, one file an operation. Ours must read all of it, and write it back the same.

// sdkModules are the SDK's names of services.
var sdkModules = []struct {
	name string
	svc  *smithy.Service
}{
	{"lambda", lambdaapi.Service}, {"cloudwatchlogs", logsapi.Service}, {"iam", iamapi.Service}, {"sts", stsapi.Service},
	{"sqs", sqsapi.Service}, {"kinesis", kinesisapi.Service}, {"cloudwatch", cloudwatchapi.Service}, {"s3", s3api.Service},
}

// snapshots returns the files of a module's directory by operation or error.
func snapshots(t *testing.T, module, dir, suffix string) map[string][]byte {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/"+module).Output()
	if err != nil {
		t.Skipf("the go command does not find the SDK's module: %v", err)
	}
	files, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), dir, "*"+suffix))
	found := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(filepath.Base(f), suffix)] = b
	}
	return found
}

// parseSnapshot splits the first line, the header and the body.
func parseSnapshot(b []byte) (first string, h http.Header, body []byte) {
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	rest = bytes.TrimPrefix(rest, []byte("\n"))
	h = http.Header{}
	for {
		line, tail, found := bytes.Cut(rest, []byte("\n"))
		if len(line) == 0 || !found {
			return string(head), h, tail
		}
		k, v, ok := strings.Cut(string(line), ": ")
		if !ok {
			return string(head), h, rest
		}
		h.Add(k, v)
		rest = tail
	}
}

func TestRequestSnapshots(t *testing.T) {
	r := protocol.NewRouter(services...)
	for _, mod := range sdkModules {
		t.Run(mod.name, func(t *testing.T) {
			n := 0
			for name, b := range snapshots(t, mod.name, "request_snapshot", ".request.snap") {
				op := mod.svc.Op(name)
				if op == nil {
					continue // newer than our model
				}
				n++
				first, h, body := parseSnapshot(b)
				method, target, _ := strings.Cut(first, " ")
				path, query, _ := strings.Cut(target, "?")
				if mod.name == "s3" && (strings.Contains(op.URI, "{Bucket}")) { // the SDK puts the bucket in the host's name
					path = "/bucket" + path
				}
				req := &protocol.Request{Method: method, Path: path, Query: query, Header: h, Body: body}
				call, err := r.Match(req, mod.svc.SigningName)
				if err != nil || call.Op != op {
					t.Errorf("%s: matched %v: %v\n%s", name, call.Op, err, first)
					continue
				}
				in := op.NewInput()
				if err := call.Decode(in); err != nil {
					t.Errorf("%s: %v\n%s", name, err, b)
					continue
				}
				if m, _ := op.Input.PayloadMember(); m != nil && m.Streaming {
					continue
				}
				again, err := call.Codec.EncodeRequest(op, in)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if again.Path != path && again.Path != strings.TrimSuffix(path, "/") {
					t.Errorf("%s: path %s, want %s", name, again.Path, path)
				}
				switch mod.svc.Protocols[0] {
				case smithy.Query:
					theirs, _ := url.ParseQuery(string(body))
					ours, _ := url.ParseQuery(string(again.Body))
					for k, v := range theirs {
						if known(op.Input, k) && !slices.Equal(ours[k], v) {
							t.Errorf("%s: %s is %q, want %q", name, k, ours[k], v)
						}
					}
				case smithy.RESTXML:
					in2 := op.NewInput()
					if err := call.Codec.DecodeRequest(op, &protocol.Request{Header: h, Body: again.Body}, in2); err != nil {
						t.Errorf("%s: %v\n%s", name, err, again.Body)
					}
				default:
					if m, _ := op.Input.PayloadMember(); m != nil {
						continue
					}
					subset(t, name, op.Input, anyOf(t, body), anyOf(t, again.Body))
				}
			}
			t.Logf("%d operations", n)
			if n == 0 {
				t.Skip("this version of the SDK's module has no snapshots")
			}
		})
	}
}

func TestResponseSnapshots(t *testing.T) {
	for _, mod := range sdkModules {
		t.Run(mod.name, func(t *testing.T) {
			codec := protocol.CodecFor(mod.svc, mod.svc.Protocols[0])
			n := 0
			for name, b := range snapshots(t, mod.name, "response_snapshot", ".response.snap") {
				op := mod.svc.Op(name)
				if op == nil {
					continue
				}
				if m, _ := op.Output.StreamMember(); m != nil {
					continue // no bodies in the snapshots
				}
				n++
				first, h, body := parseSnapshot(b)
				status, _ := strconv.Atoi(first)
				out, out2 := op.NewOutput(), op.NewOutput()
				if err := codec.DecodeResponse(op, &protocol.Response{Status: status, Header: h, Body: body}, out); err != nil {
					t.Errorf("%s: %v\n%s", name, err, b)
					continue
				}
				res, err := codec.EncodeResponse(op, out, "id")
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if err := codec.DecodeResponse(op, &protocol.Response{Status: status, Header: res.Header, Body: res.Body}, out2); err != nil {
					t.Errorf("%s: %v\n%s", name, err, res.Body)
				}
				if d := cmp.Diff(out, out2, sameValues); d != "" {
					t.Errorf("%s: %s", name, d)
				}
				if m, _ := op.Output.PayloadMember(); m == nil && len(res.Body) > 0 && len(body) > 0 {
					subset(t, name, op.Output, anyOf(t, body), anyOf(t, res.Body))
				}
			}
			errs := 0
			for name, b := range snapshots(t, mod.name, "response_snapshot", ".error.snap") {
				if mod.svc.ErrorShape(name) == nil {
					continue
				}
				errs++
				first, h, body := parseSnapshot(b)
				status, _ := strconv.Atoi(first)
				e := apierr.From(codec.DecodeResponse(&mod.svc.Ops[0], &protocol.Response{Status: status, Header: h, Body: body}, mod.svc.Ops[0].NewOutput()))
				if e.Code != name || e.Message != "__Message__" && mod.svc.ErrorShape(name).MessageMember() >= 0 {
					t.Errorf("%s: read as %#v", name, e)
				}
				if want := mod.svc.Err(name, ""); want.Status != status {
					t.Errorf("%s: our status is %d, the SDK's %d", name, want.Status, status)
				}
			}
			t.Logf("%d operations, %d errors", n, errs)
			if n == 0 {
				t.Skip("this version of the SDK's module has no snapshots of responses")
			}
		})
	}
}

// known reports whether our model has the member that a parameter of a form begins with.
func known(sh *smithy.Shape, key string) bool {
	if key == "Action" || key == "Version" {
		return true
	}
	for part := range strings.SplitSeq(key, ".") {
		switch sh.Kind {
		case smithy.List, smithy.Map:
			if _, err := strconv.Atoi(part); err == nil {
				sh = sh.Elem.Shape
			}
			continue
		case smithy.Structure:
		default:
			continue
		}
		i := sh.MemberByForm(part)
		if i < 0 {
			return false
		}
		sh = sh.Members[i].Shape
	}
	return true
}

// anyOf is a JSON or CBOR body without its types.
func anyOf(t *testing.T, body []byte) (v any) {
	t.Helper()
	if len(body) == 0 {
		return map[string]any{}
	}
	if json.Unmarshal(body, &v) == nil {
		return v
	}
	c, err := cbor.Decode(body)
	if err != nil {
		t.Fatalf("neither JSON nor CBOR: %q", body)
	}
	return plain(c)
}

func plain(v cbor.Value) any {
	switch v := v.(type) {
	case cbor.Map:
		m := map[string]any{}
		for k, e := range v {
			m[k] = plain(e)
		}
		return m
	case cbor.List:
		l := []any{}
		for _, e := range v {
			l = append(l, plain(e))
		}
		return l
	case *cbor.Tag:
		return plain(v.Value)
	case cbor.String:
		return string(v)
	case cbor.Bool:
		return bool(v)
	case cbor.Slice:
		return string(v)
	}
	if f, err := cbor.AsFloat64(v); err == nil {
		return f
	}
	return nil
}

// subset compares a body with ours: all that is known to our model must be there and the same.
func subset(t *testing.T, at string, sh *smithy.Shape, theirs, ours any) {
	t.Helper()
	switch x := theirs.(type) {
	case map[string]any:
		y, ok := ours.(map[string]any)
		if !ok {
			t.Errorf("%s: got %v, want %v", at, ours, theirs)
			return
		}
		for k, v := range x {
			next := sh.Elem.Shape
			if sh.Kind == smithy.Structure {
				i := sh.MemberByWire(k)
				if i < 0 {
					continue
				}
				next = sh.Members[i].Shape
			}
			subset(t, at+"."+k, next, v, y[k])
		}
	case []any:
		y, ok := ours.([]any)
		if !ok || len(x) != len(y) {
			t.Errorf("%s: got %v, want %v", at, ours, theirs)
			return
		}
		for i := range x {
			subset(t, at, sh.Elem.Shape, x[i], y[i])
		}
	default:
		if theirs != ours {
			t.Errorf("%s: got %v, want %v", at, ours, theirs)
		}
	}
}
