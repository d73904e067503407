package lambda

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	awssmithy "github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/gate"
)

// client returns the real SDK's client for w.
func (w *world) client() *sdk.Client {
	w.t.Helper()
	return sdk.New(sdk.Options{
		BaseEndpoint: new(w.serve()), Region: testRegion, Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: plainBodies{new(http.Transport)}},
	})
}

// plainBodies sends request bodies as mere readers. The SDK closes the body of its request when the response begins, and a body that is closed
// fails in WriteTo with io.EOF (smithy-go 1.28), which net/http may only call after a quick server has answered: it then closes the connection under the
// response.
type plainBodies struct{ transport *http.Transport }

// RoundTrip implements http.RoundTripper.
func (p plainBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r = r.WithContext(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.transport.RoundTrip(r)
}

// serve serves w over HTTP, without a check of signatures, and returns the URL.
func (w *world) serve() string {
	w.t.Helper()
	router := protocol.NewRouter([]*awssmithy.Service{lambdaapi.Service}...)
	caller := gate.New(w.mux, gate.Authenticated{}, slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		req := protocol.NewRequest(r)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		req.Body = body
		c, err := router.Match(req, "lambda")
		var res *protocol.Response
		if err == nil {
			in, out := c.Op.NewInput(), c.Op.NewOutput()
			if err = c.Decode(in); err == nil {
				if err = caller.Call(as(r.Context(), testAccount, testRegion), c.Op, in, out); err == nil {
					res = c.Encode(out, "id")
				}
			}
		}
		if err != nil {
			res = c.EncodeError(err, "id")
		}
		res.WriteTo(rw)
	}))
	w.t.Cleanup(srv.Close)
	return srv.URL
}

// TestSDK takes a function through its life with the real client and its waiters.
func TestSDK(t *testing.T) {
	w := newWorld(t)
	w.run()
	ctx, name := t.Context(), aws.String("sdk-fn")
	c := w.client()
	fast := func(o *sdk.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
	}

	made, err := c.CreateFunction(ctx, &sdk.CreateFunctionInput{
		FunctionName: name, Role: aws.String(testRole), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
		Code: &types.FunctionCode{ZipFile: zipped(t, "one")}, Tags: map[string]string{"a": "b"},
		Environment: &types.Environment{Variables: map[string]string{"KEY": "value"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.State != types.StatePending || made.LastUpdateStatus != "" || made.StateReasonCode != types.StateReasonCodeCreating {
		t.Errorf("created: %+v", made)
	}
	if err := sdk.NewFunctionExistsWaiter(c).Wait(ctx, &sdk.GetFunctionInput{FunctionName: name}, 10*time.Second); err != nil {
		t.Error(err)
	}
	got, err := sdk.NewFunctionActiveV2Waiter(c, fast).WaitForOutput(ctx, &sdk.GetFunctionInput{FunctionName: name}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got.Tags["a"] != "b" || *got.Code.RepositoryType != "S3" || *got.Code.Location == "" || got.Configuration.Environment.Variables["KEY"] != "value" {
		t.Errorf("GetFunction: %+v", got)
	}

	w.invoker.serve = func(fn *fleet.Function, req *fleet.Request) (*fleet.Response, error) {
		code, err := os.ReadFile(filepath.Join(fn.Code, "bootstrap"))
		return &fleet.Response{Payload: fmt.Appendf(nil, "%s ran %s", code, req.Payload), LogTail: []byte("log"), FunctionError: "Unhandled"}, err
	}
	out, err := c.Invoke(ctx, &sdk.InvokeInput{FunctionName: name, Payload: []byte(`{"x":1}`), LogType: types.LogTypeTail})
	if err != nil {
		t.Fatal(err)
	}
	if string(out.Payload) != `one ran {"x":1}` || out.StatusCode != 200 || *out.ExecutedVersion != "$LATEST" || *out.FunctionError != "Unhandled" ||
		*out.LogResult != base64.StdEncoding.EncodeToString([]byte("log")) {
		t.Errorf("invoked: %+v", out)
	}
	if dry, err := c.Invoke(ctx, &sdk.InvokeInput{FunctionName: name, InvocationType: types.InvocationTypeDryRun}); err != nil || dry.StatusCode != 204 {
		t.Errorf("dry run: %+v, %v", dry, err)
	}

	updated, err := c.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: name, ZipFile: zipped(t, "two")})
	if err != nil || updated.LastUpdateStatus != types.LastUpdateStatusInProgress {
		t.Errorf("updated: %+v, %v", updated, err)
	}
	err = sdk.NewFunctionUpdatedV2Waiter(c, func(o *sdk.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
	}).
		Wait(ctx, &sdk.GetFunctionInput{FunctionName: name}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	published, err := c.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: name})
	if err != nil {
		t.Fatal(err)
	}
	err = sdk.NewPublishedVersionActiveWaiter(c, func(o *sdk.PublishedVersionActiveWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
	}).
		Wait(ctx, &sdk.GetFunctionConfigurationInput{FunctionName: name, Qualifier: published.Version}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if out, err = c.Invoke(ctx, &sdk.InvokeInput{FunctionName: name, Qualifier: published.Version}); err != nil || string(out.Payload) != "two ran {}" || *out.ExecutedVersion != "1" {
		t.Errorf("version 1: %+v, %v", out, err)
	}

	pages := sdk.NewListVersionsByFunctionPaginator(c, &sdk.ListVersionsByFunctionInput{FunctionName: name, MaxItems: aws.Int32(1)})
	var versions []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			versions = append(versions, *v.Version)
		}
	}
	if fmt.Sprint(versions) != "[$LATEST 1]" {
		t.Error(versions)
	}

	// Errors are those of the SDK's types, with their members.
	_, err = c.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: aws.String("nope")})
	if e, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || *e.Type != "User" || *e.Message != "Function not found: "+testARN+"nope" {
		t.Error(err)
	}
	w.invoker.serve = func(*fleet.Function, *fleet.Request) (*fleet.Response, error) {
		return nil, &fleet.ThrottledError{Reason: "ConcurrentInvocationLimitExceeded"}
	}
	_, err = c.Invoke(ctx, &sdk.InvokeInput{FunctionName: name})
	if e, ok := errors.AsType[*types.TooManyRequestsException](err); !ok || e.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded || *e.Message != "Rate Exceeded." {
		t.Error(err)
	}
	_, err = c.CreateFunction(ctx, &sdk.CreateFunctionInput{
		FunctionName: aws.String("big"), Role: aws.String(testRole), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
		Code: &types.FunctionCode{ZipFile: make([]byte, 52_428_801)},
	})
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "RequestEntityTooLargeException" || e.ErrorMessage() != "Zipped size must be smaller than 52428800 bytes" {
		t.Error(err)
	}

	if del, err := c.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: name}); err != nil || del.StatusCode != 204 {
		t.Errorf("deleted: %+v, %v", del, err)
	}
}
