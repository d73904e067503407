package edge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/s3api"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/protocol/protocoltest/cloudwatchapi"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	mux "github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/edge"
	"github.com/mayflyhq/mayfly/internal/gate"
)

// world is an Edge with small services behind it that say what they saw.
type world struct {
	*edge.Edge
	root   *credential.Root
	issuer *credential.Issuer
	log    *syncBuffer

	mu   sync.Mutex
	seen *call.Info // of the last call
}

func (w *world) see(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = call.From(ctx)
}

func (w *world) last() *call.Info {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newWorld returns an Edge that is ready, with options changed by f.
func newWorld(t testing.TB, f func(*edge.Options)) *world {
	t.Helper()
	w := &world{root: credential.New(), log: new(syncBuffer)}
	w.issuer, _ = credential.NewIssuer(w.root.SessionKey)
	log := slog.New(slog.NewTextHandler(w.log, nil))
	m := mux.NewMux()
	stsapi.GetCallerIdentity.Handle(m, func(ctx context.Context, _ *stsapi.GetCallerIdentityInput) (*stsapi.GetCallerIdentityOutput, error) {
		w.see(ctx)
		i := call.From(ctx)
		return &stsapi.GetCallerIdentityOutput{Account: &i.Account, Arn: &i.Principal.ARN, UserId: &i.Principal.UserID}, nil
	})
	stsapi.AssumeRoleWithWebIdentity.Handle(m, func(ctx context.Context, _ *stsapi.AssumeRoleWithWebIdentityInput) (*stsapi.AssumeRoleWithWebIdentityOutput, error) {
		w.see(ctx)
		return &stsapi.AssumeRoleWithWebIdentityOutput{Provider: new("here")}, nil
	})
	lambdaapi.Invoke.Handle(m, func(ctx context.Context, in *lambdaapi.InvokeInput) (*lambdaapi.InvokeOutput, error) {
		w.see(ctx)
		switch *in.FunctionName {
		case "panics":
			panic("in a handler")
		case "size": // a short answer to a long request: the SDK's client breaks off long ones that come too early
			return &lambdaapi.InvokeOutput{StatusCode: new(int32(200)), Payload: fmt.Append(nil, len(in.Payload))}, nil
		case "missing":
			return nil, lambdaapi.ErrResourceNotFoundException("Function not found: missing")
		}
		return &lambdaapi.InvokeOutput{StatusCode: new(int32(200)), Payload: in.Payload, ExecutedVersion: new("$LATEST")}, nil
	})
	lambdaapi.InvokeWithResponseStream.Handle(m, func(ctx context.Context, in *lambdaapi.InvokeWithResponseStreamInput) (*lambdaapi.InvokeWithResponseStreamOutput, error) {
		w.see(ctx)
		type event = lambdaapi.InvokeWithResponseStreamResponseEvent
		return &lambdaapi.InvokeWithResponseStreamOutput{StatusCode: new(int32(200)), EventStream: func(yield func(*event, error) bool) {
			if *in.FunctionName == "endless" {
				defer w.see(context.Background()) // says that it has ended
			}
			for i := range 3 {
				if !yield(&event{PayloadChunk: &lambdaapi.InvokeResponseStreamUpdate{Payload: fmt.Append(nil, i)}}, nil) {
					return
				}
			}
			if *in.FunctionName == "panics" {
				panic("in a stream")
			}
			if *in.FunctionName == "endless" {
				for yield(&event{PayloadChunk: &lambdaapi.InvokeResponseStreamUpdate{Payload: in.Payload}}, nil) {
				}
				return
			}
			yield(&event{InvokeComplete: &lambdaapi.InvokeWithResponseStreamCompleteEvent{}}, nil)
		}}, nil
	})
	lambdaapi.CreateFunction.Handle(m, func(ctx context.Context, in *lambdaapi.CreateFunctionInput) (*lambdaapi.FunctionConfiguration, error) {
		return &lambdaapi.FunctionConfiguration{CodeSize: new(int64(len(in.Code.ZipFile)))}, nil
	})
	logsapi.CreateLogGroup.Handle(m, func(ctx context.Context, in *logsapi.CreateLogGroupInput) (*logsapi.CreateLogGroupOutput, error) {
		w.see(ctx)
		return nil, nil
	})
	cloudwatchapi.PutMetricData.Handle(m, func(ctx context.Context, in *cloudwatchapi.PutMetricDataInput) (*cloudwatchapi.PutMetricDataOutput, error) {
		w.see(ctx)
		if n := len(in.MetricData) + len(in.EntityMetricData); n != 200 {
			return nil, fmt.Errorf("%d metrics arrived", n)
		}
		return nil, nil
	})
	s3api.PutObject.Handle(m, func(ctx context.Context, in *s3api.PutObjectInput) (*s3api.PutObjectOutput, error) {
		w.see(ctx)
		b, err := io.ReadAll(in.Body)
		if err != nil {
			return nil, err
		}
		return &s3api.PutObjectOutput{ETag: new(fmt.Sprintf("%q", sigv4.Hash(b)))}, nil
	})
	opts := edge.Options{
		Caller:   gate.New(m, gate.Authenticated{}, log),
		Services: []*mux.Service{lambdaapi.Service, logsapi.Service, stsapi.Service, s3api.Service, cloudwatchapi.Service},
		Keys:     credential.Finders{w.root, w.issuer},
		Root:     w.root,
		Log:      log,
		Version:  "1.2.3",
	}
	if f != nil {
		f(&opts)
	}
	w.Edge = edge.New(opts)
	w.Ready()
	return w
}

// start serves w on a test server and returns the configuration of SDK clients with its root key.
func (w *world) start(t testing.TB) (*httptest.Server, aws.Config) {
	t.Helper()
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	return s, w.config(s.URL, w.root.AccessKeyID, w.root.SecretAccessKey, "")
}

func (w *world) config(url, id, secret, token string) aws.Config {
	return aws.Config{
		Region:           "eu-central-1",
		BaseEndpoint:     &url,
		Credentials:      credentials.NewStaticCredentialsProvider(id, secret, token),
		RetryMaxAttempts: 1,
	}
}

// failure returns code, message and status of a client's error.
func failure(t testing.TB, err error) (code, message string, status int) {
	t.Helper()
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = resp.HTTPStatusCode()
	}
	if err == nil || status == 0 {
		t.Errorf("not an answered error: %v", err)
	}
	return code, message, status
}

func TestSDKClients(t *testing.T) {
	w := newWorld(t, nil)
	_, cfg := w.start(t)
	ctx := t.Context()

	id, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if *id.Arn != "arn:aws:iam::000000000000:root" || *id.Account != "000000000000" || *id.UserId != "000000000000" {
		t.Errorf("GetCallerIdentity = %s, %s, %s", *id.Arn, *id.Account, *id.UserId)
	}
	if i := w.last(); i.Region != "eu-central-1" || i.Principal.AccessKeyID != w.root.AccessKeyID || i.SourceIP != "127.0.0.1" ||
		!strings.Contains(i.UserAgent, "aws-sdk-go") || !strings.HasPrefix(i.Host, "127.0.0.1:") || time.Since(i.Time) > time.Minute {
		t.Errorf("the handler saw %+v", i)
	}

	l := lambda.NewFromConfig(cfg)
	for _, name := range []string{"hello", "arn:aws:lambda:eu-central-1:000000000000:function:hello"} {
		out, err := l.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"a":1}`), Qualifier: new("$LATEST")})
		if err != nil {
			t.Fatal(err)
		}
		if string(out.Payload) != `{"a":1}` || *out.ExecutedVersion != "$LATEST" {
			t.Errorf("Invoke = %s, %v", out.Payload, out.ExecutedVersion)
		}
	}
	_, err = l.Invoke(ctx, &lambda.InvokeInput{FunctionName: new("missing")})
	if _, ok := errors.AsType[*lambdatypes.ResourceNotFoundException](err); !ok {
		t.Errorf("Invoke of a missing function: %v", err)
	}
	_, err = l.Invoke(ctx, &lambda.InvokeInput{FunctionName: new("panics")})
	if code, message, status := failure(t, err); code != "InternalFailure" || status != 500 || strings.Contains(message, "in a handler") {
		t.Errorf("a panic: %s %d %s", code, status, message)
	}
	if !strings.Contains(w.log.String(), "panic: in a handler") {
		t.Errorf("the panic is not in the log: %s", w.log.String())
	}
	_, err = l.ListLayers(ctx, nil)
	if code, message, status := failure(t, err); code != "NotImplemented" || status != 501 || !strings.Contains(message, "lambda:ListLayers") {
		t.Errorf("an operation that is not served: %s %d %s", code, status, message)
	}

	if _, err := cloudwatchlogs.NewFromConfig(cfg).CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: new("/a/b")}); err != nil {
		t.Error(err)
	}
}

func TestResponseStream(t *testing.T) {
	w := newWorld(t, nil)
	_, cfg := w.start(t)
	l := lambda.NewFromConfig(cfg)
	for _, name := range []string{"f", "panics"} {
		out, err := l.InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: &name})
		if err != nil {
			t.Fatal(err)
		}
		var got string
		complete := false
		stream := out.GetStream()
		for e := range stream.Events() {
			switch e := e.(type) {
			case *lambdatypes.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
				got += string(e.Value.Payload)
			case *lambdatypes.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
				complete = true
			}
		}
		if err := stream.Err(); got != "012" || complete != (name == "f") || name == "f" && err != nil {
			t.Errorf("%s: got %q, complete %v, %v", name, got, complete, err)
		}
		stream.Close()
	}
	if !strings.Contains(w.log.String(), "panic in a response stream") {
		t.Errorf("log: %s", w.log.String())
	}
}

func TestRoleSession(t *testing.T) {
	w := newWorld(t, nil)
	s, _ := w.start(t)
	session, err := w.issuer.Issue(assumed(t, time.Now().Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := sts.NewFromConfig(w.config(s.URL, session.AccessKeyID, session.SecretAccessKey, session.SessionToken)).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *id.Arn != "arn:aws:sts::123456789012:assumed-role/app/hello" || *id.Account != "123456789012" || *id.UserId != "AROAX:hello" {
		t.Errorf("GetCallerIdentity = %s, %s, %s", *id.Arn, *id.Account, *id.UserId)
	}

	old, _ := w.issuer.Issue(assumed(t, time.Now().Add(-time.Hour).Add(time.Minute)))
	_, err = sts.NewFromConfig(w.config(s.URL, old.AccessKeyID, old.SecretAccessKey, old.SessionToken)).GetCallerIdentity(t.Context(), nil)
	if code, message, status := failure(t, err); code != "ExpiredToken" || status != 403 || message != "The security token included in the request is expired" {
		t.Errorf("an expired session: %s %d %s", code, status, message)
	}
}

// TestCompressedRequest lets the SDK compress a request, as it does by itself when it is large.
func TestCompressedRequest(t *testing.T) {
	w := newWorld(t, nil)
	_, cfg := w.start(t)
	in := &cloudwatch.PutMetricDataInput{Namespace: new("n")}
	for i := range 200 {
		in.MetricData = append(in.MetricData, cwtypes.MetricDatum{MetricName: new(fmt.Sprintf("metric-%03d-%s", i, strings.Repeat("x", 60))), Value: aws.Float64(float64(i))})
	}
	if _, err := cloudwatch.NewFromConfig(cfg).PutMetricData(t.Context(), in); err != nil {
		t.Error(err)
	}
}

func TestS3Streaming(t *testing.T) {
	w := newWorld(t, nil)
	s, cfg := w.start(t)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	body := strings.Repeat("0123456789", 50_000)
	for _, key := range []string{"key", "a b/../c//d+e=ü"} {
		out, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: new("bucket"), Key: &key, Body: strings.NewReader(body)})
		if err != nil || *out.ETag != `"`+sigv4.Hash([]byte(body))+`"` {
			t.Errorf("PutObject %q = %v, %v", key, out, err)
		}
	}
	presigned, err := s3.NewPresignClient(client).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: new("bucket"), Key: new("key")})
	if err != nil {
		t.Fatal(err)
	}
	for change, want := range map[string]int{"": 200, "&x=1": 403} {
		r, _ := http.NewRequest("PUT", presigned.URL+change, strings.NewReader(body))
		for k, v := range presigned.SignedHeader {
			if k != "Host" {
				r.Header[k] = v
			}
		}
		resp := do(t, s, r)
		if resp.StatusCode != want || resp.Header.Get("X-Amz-Request-Id") == "" || resp.Header.Get("X-Amz-Id-2") == "" {
			t.Errorf("presigned PUT%s: %d %v", change, resp.StatusCode, resp.Header)
		}
	}
}

func do(t testing.TB, s *httptest.Server, r *http.Request) *http.Response {
	t.Helper()
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp
}

// styles are requests as each protocol writes them, and how their errors look.
var styles = []struct {
	name, service, method, path, contentType, target, body string
	code                                                   func(h http.Header, body []byte) (code, message string)
}{
	{"lambda", "lambda", "POST", "/2015-03-31/functions/f/invocations", "application/json", "", "{}", restError},
	{"logs", "logs", "POST", "/", "application/x-amz-json-1.1", "Logs_20140328.CreateLogGroup", `{"logGroupName":"g"}`, jsonError},
	{"sts", "sts", "POST", "/", "application/x-www-form-urlencoded", "", "Action=GetCallerIdentity&Version=2011-06-15", xmlError},
	{"s3", "s3", "PUT", "/bucket/key", "", "", "content", xmlError},
}

func restError(h http.Header, body []byte) (string, string) {
	var e struct{ Message, message string }
	var m map[string]any
	json.Unmarshal(body, &m)
	e.Message, _ = m["Message"].(string)
	if s, ok := m["message"].(string); ok {
		e.Message = s
	}
	code, _, _ := strings.Cut(h.Get("X-Amzn-Errortype"), ":")
	return code, e.Message
}

func jsonError(h http.Header, body []byte) (string, string) {
	var m map[string]string
	json.Unmarshal(body, &m)
	return m["__type"], m["message"]
}

func xmlError(h http.Header, body []byte) (string, string) {
	one := func(re string) string {
		if m := regexp.MustCompile(re).FindSubmatch(body); m != nil {
			return strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&quot;", `"`, "&apos;", "'").Replace(string(m[1]))
		}
		return ""
	}
	return one(`<Code>([^<]*)</Code>`), one(`<Message>([^<]*)</Message>`)
}

// TestAuthenticationErrors pins code, status and words of every way in which a signature can fail, for each protocol.
func TestAuthenticationErrors(t *testing.T) {
	w := newWorld(t, nil)
	s, _ := w.start(t)
	const (
		mismatch   = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
		mismatchS3 = "The request signature we calculated does not match the signature you provided. Check your key and signing method."
		invalid    = "The security token included in the request is invalid."
		skewS3     = "The difference between the request time and the current time is too large."
	)
	type want struct {
		status  int
		code    string
		message string // a part of it
	}
	for _, c := range []struct {
		name string
		sign func(r *http.Request, service string, body []byte)
		want map[string]want
	}{
		{"none", func(*http.Request, string, []byte) {}, map[string]want{
			"lambda": {403, "MissingAuthenticationTokenException", "Missing Authentication Token"},
			"logs":   {400, "MissingAuthenticationTokenException", "Missing Authentication Token"},
			"sts":    {403, "MissingAuthenticationToken", "Request is missing Authentication Token"},
		}},
		{"unknown key", w.signer("AKIAUNKNOWN", "x", "", 0), map[string]want{
			"lambda": {403, "UnrecognizedClientException", invalid},
			"logs":   {400, "UnrecognizedClientException", invalid},
			"sts":    {403, "InvalidClientTokenId", invalid},
			"s3":     {403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."},
		}},
		{"wrong secret", w.signer(w.root.AccessKeyID, "x", "", 0), map[string]want{
			"lambda": {403, "InvalidSignatureException", mismatch},
			"logs":   {400, "InvalidSignatureException", mismatch},
			"sts":    {403, "SignatureDoesNotMatch", mismatch},
			"s3":     {403, "SignatureDoesNotMatch", mismatchS3},
		}},
		{"root key with a token", w.signer(w.root.AccessKeyID, w.root.SecretAccessKey, "token", 0), map[string]want{
			"lambda": {403, "UnrecognizedClientException", invalid},
			"logs":   {400, "UnrecognizedClientException", invalid},
			"sts":    {403, "InvalidClientTokenId", invalid},
			"s3":     {400, "InvalidToken", "The provided token is malformed or otherwise invalid."},
		}},
		{"an hour ago", w.signer(w.root.AccessKeyID, w.root.SecretAccessKey, "", -time.Hour), map[string]want{
			"lambda": {403, "InvalidSignatureException", " - 5 min.)"},
			"logs":   {400, "InvalidSignatureException", "Signature expired: "},
			"sts":    {403, "SignatureDoesNotMatch", " is now earlier than "},
			"s3":     {403, "RequestTimeTooSkewed", skewS3},
		}},
		{"in an hour", w.signer(w.root.AccessKeyID, w.root.SecretAccessKey, "", time.Hour), map[string]want{
			"lambda": {403, "InvalidSignatureException", " + 5 min.)"},
			"logs":   {400, "InvalidSignatureException", "Signature not yet current: "},
			"sts":    {403, "SignatureDoesNotMatch", " is still later than "},
			"s3":     {403, "RequestTimeTooSkewed", skewS3},
		}},
		{"changed on the way", func(r *http.Request, service string, body []byte) {
			w.signer(w.root.AccessKeyID, w.root.SecretAccessKey, "", 0)(r, service, body)
			r.URL.RawQuery = "x=1"
		}, map[string]want{
			"lambda": {403, "InvalidSignatureException", mismatch},
			"logs":   {400, "InvalidSignatureException", mismatch},
			"sts":    {403, "SignatureDoesNotMatch", mismatch},
			"s3":     {403, "SignatureDoesNotMatch", mismatchS3},
		}},
		{"no host signed", func(r *http.Request, service string, body []byte) {
			w.signer(w.root.AccessKeyID, w.root.SecretAccessKey, "", 0)(r, service, body)
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "host;", "", 1))
		}, map[string]want{
			"lambda": {403, "InvalidSignatureException", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
			"logs":   {400, "InvalidSignatureException", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
			"sts":    {403, "SignatureDoesNotMatch", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
			"s3":     {400, "AuthorizationHeaderMalformed", "'Host'"},
		}},
		{"no signature in it", func(r *http.Request, service string, body []byte) {
			w.signer(w.root.AccessKeyID, w.root.SecretAccessKey, "", 0)(r, service, body)
			auth, _, _ := strings.Cut(r.Header.Get("Authorization"), ", Signature")
			r.Header.Set("Authorization", auth)
			r.Header.Del("X-Amz-Date")
		}, map[string]want{
			"lambda": {403, "IncompleteSignatureException", "Authorization header requires 'Signature' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. (Hashed with SHA-256 and encoded with Base64) Authorization="},
			"logs":   {400, "IncompleteSignatureException", "Authorization header requires 'Signature' parameter. "},
			"sts":    {403, "IncompleteSignature", "Authorization header requires 'Signature' parameter. "},
			"s3":     {400, "AuthorizationHeaderMalformed", "Authorization header requires 'Signature' parameter. "},
		}},
		{"bad region", func(r *http.Request, service string, body []byte) {
			sigv4.Sign(r, sigv4.Credentials{AccessKeyID: w.root.AccessKeyID, SecretAccessKey: w.root.SecretAccessKey}, service, "Ü..", sigv4.Hash(body), time.Now())
		}, map[string]want{
			"lambda": {403, "InvalidSignatureException", "Credential should be scoped to a valid region, not 'Ü..'."},
			"logs":   {400, "InvalidSignatureException", "Credential should be scoped to a valid region, not 'Ü..'."},
			"sts":    {403, "SignatureDoesNotMatch", "Credential should be scoped to a valid region, not 'Ü..'."},
			"s3":     {400, "AuthorizationHeaderMalformed", "valid region"},
		}},
		{"another body", func(r *http.Request, service string, body []byte) {
			w.signer(w.root.AccessKeyID, w.root.SecretAccessKey, "", 0)(r, service, append(body, 'x'))
		}, map[string]want{
			"lambda": {403, "InvalidSignatureException", mismatch},
			"logs":   {400, "InvalidSignatureException", mismatch},
			"sts":    {403, "SignatureDoesNotMatch", mismatch},
		}},
		{"not AWS4", func(r *http.Request, service string, body []byte) { r.Header.Set("Authorization", "Bearer x") }, map[string]want{
			"lambda": {403, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		}},
	} {
		for _, style := range styles {
			want, ok := c.want[style.name]
			if !ok {
				continue
			}
			t.Run(c.name+"/"+style.name, func(t *testing.T) {
				r := newRequest(s.URL, style.method, style.path, style.contentType, style.target, style.body)
				c.sign(r, style.service, []byte(style.body))
				resp := do(t, s, r)
				body, _ := io.ReadAll(resp.Body)
				code, message := style.code(resp.Header, body)
				if resp.StatusCode != want.status || code != want.code || !strings.Contains(message, want.message) {
					t.Errorf("got  %d %s: %s\nwant %d %s: %s\n%s", resp.StatusCode, code, message, want.status, want.code, want.message, body)
				}
				if id := resp.Header.Get("X-Amzn-Requestid") + resp.Header.Get("X-Amz-Request-Id"); len(id) < 36 {
					t.Errorf("no request id in %v", resp.Header)
				}
			})
		}
	}
}

func newRequest(url, method, path, contentType, target, body string) *http.Request {
	r, _ := http.NewRequest(method, url+path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if target != "" {
		r.Header.Set("X-Amz-Target", target)
	}
	return r
}

func (w *world) signer(id, secret, token string, skew time.Duration) func(r *http.Request, service string, body []byte) {
	return func(r *http.Request, service string, body []byte) {
		sigv4.Sign(r, sigv4.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token}, service, "us-east-1", sigv4.Hash(body), time.Now().Add(skew))
	}
}

func (w *world) sign(r *http.Request, service, body string) {
	w.signer(w.root.AccessKeyID, w.root.SecretAccessKey, "", 0)(r, service, []byte(body))
}

func TestHeaders(t *testing.T) {
	w := newWorld(t, nil)
	s, _ := w.start(t)
	r := newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "application/json", "", "{}")
	w.sign(r, "lambda", "{}")
	resp := do(t, s, r)
	if resp.StatusCode != 200 || resp.Header.Get("X-Amzn-Requestid") != w.last().RequestID || resp.Header.Get("Date") == "" || resp.Header.Get("Server") != "" ||
		resp.Header.Get("Connection") != "keep-alive" || resp.Header.Get("Content-Length") != "2" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestUnknownService(t *testing.T) {
	w := newWorld(t, nil)
	s, _ := w.start(t)
	r := newRequest(s.URL, "POST", "/", "application/x-amz-json-1.0", "DynamoDB_20120810.ListTables", "{}")
	w.sign(r, "dynamodb", "{}")
	resp := do(t, s, r)
	body, _ := io.ReadAll(resp.Body)
	if code, message := jsonError(resp.Header, body); resp.StatusCode != 501 || code != "NotImplemented" || !strings.Contains(message, "dynamodb") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestWithoutSignature calls an operation whose model asks for none.
func TestWithoutSignature(t *testing.T) {
	w := newWorld(t, nil)
	s, cfg := w.start(t)
	client := sts.NewFromConfig(cfg)
	out, err := client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: new("arn:aws:iam::123456789012:role/r"), RoleSessionName: new("session"), WebIdentityToken: new("token")})
	if err != nil || *out.Provider != "here" {
		t.Fatal(out, err)
	}
	if i := w.last(); i.Principal.Type != call.Anonymous || i.Region != "us-east-1" || i.Account != "000000000000" {
		t.Errorf("the handler saw %+v", i)
	}
	// What came without a signature may not be large.
	body := "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken=" + strings.Repeat("x", 300_000)
	resp := do(t, s, newRequest(s.URL, "POST", "/", "application/x-www-form-urlencoded", "", body))
	if resp.StatusCode != 413 {
		t.Errorf("a large request without a signature: %d", resp.StatusCode)
	}
}

func TestDev(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.Dev = true; o.Origins = []string{"http://localhost:3000"} })
	s, _ := w.start(t)
	session, _ := w.issuer.Issue(assumed(t, time.Now().Add(time.Hour)))
	for _, c := range []struct{ id, secret, token, arn string }{
		{"test", "test", "", "arn:aws:iam::000000000000:root"},
		{"111122223333", "x", "", "arn:aws:iam::111122223333:root"},
		{"AKIAUNKNOWN", "x", "token", "arn:aws:iam::000000000000:root"},
		{w.root.AccessKeyID, "x", "", "arn:aws:iam::000000000000:root"},
		{session.AccessKeyID, "x", session.SessionToken, "arn:aws:sts::123456789012:assumed-role/app/hello"},
	} {
		id, err := sts.NewFromConfig(w.config(s.URL, c.id, c.secret, c.token)).GetCallerIdentity(t.Context(), nil)
		if err != nil || *id.Arn != c.arn || w.last().Region != "eu-central-1" {
			t.Errorf("as %s: %v, %v", c.id, id, err)
		}
	}

	for _, c := range []struct {
		name    string
		request *http.Request
		change  func(*http.Request)
		status  int
		region  string
	}{
		{"query, unsigned", newRequest(s.URL, "GET", "/?Action=GetCallerIdentity&Version=2011-06-15", "", "", ""), nil, 200, "us-east-1"},
		{"rest, unsigned", newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "", "", "{}"), nil, 200, "us-east-1"},
		{"target, unsigned", newRequest(s.URL, "POST", "/", "application/x-amz-json-1.1", "Logs_20140328.CreateLogGroup", `{"logGroupName":"g"}`), nil, 200, "us-east-1"},
		{"host", newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "", "", "{}"), func(r *http.Request) { r.Host = "lambda.ap-south-1.amazonaws.com" }, 200, "ap-south-1"},
		{"localhost", newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "", "", "{}"), func(r *http.Request) { r.Host = "lambda.localhost:4566" }, 200, "us-east-1"},
		{"another service's host", newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "", "", "{}"), func(r *http.Request) { r.Host = "logs.localhost" }, 404, ""},
		{"malformed signature", newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "", "", "{}"), func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }, 200, "us-east-1"},
		{"chunked, unsigned", newRequest(s.URL, "PUT", "/bucket/key", "", "", "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n"), func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", sigv4.StreamingUnsignedTrailer)
			r.Header.Set("X-Amz-Decoded-Content-Length", "5")
		}, 200, "us-east-1"},
		{"a page", newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "", "", "{}"), func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403, ""},
		{"a page, without origin", newRequest(s.URL, "GET", "/?Action=GetCallerIdentity&Version=2011-06-15", "", "", ""), func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, ""},
		{"an allowed page", newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "", "", "{}"), func(r *http.Request) { r.Header.Set("Origin", "http://localhost:3000") }, 200, "us-east-1"},
		{"preflight", newRequest(s.URL, "OPTIONS", "/2015-03-31/functions/f/invocations", "", "", ""), func(r *http.Request) {
			r.Header.Set("Origin", "http://localhost:3000")
			r.Header.Set("Access-Control-Request-Method", "POST")
			r.Header.Set("Access-Control-Request-Headers", "authorization,x-amz-date")
		}, 204, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change != nil {
				c.change(c.request)
			}
			resp := do(t, s, c.request)
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != c.status {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			if c.region != "" && w.last().Region != c.region {
				t.Errorf("region %s", w.last().Region)
			}
			if c.request.Header.Get("Origin") == "http://localhost:3000" && resp.Header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" {
				t.Errorf("header %v", resp.Header)
			}
		})
	}
}

func TestCORSIsOffByDefault(t *testing.T) {
	w := newWorld(t, nil)
	s, _ := w.start(t)
	r := newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "", "", "{}")
	w.sign(r, "lambda", "{}")
	r.Header.Set("Origin", "https://console.example")
	if resp := do(t, s, r); resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestLimits(t *testing.T) {
	w := newWorld(t, nil)
	s, cfg := w.start(t)
	l := lambda.NewFromConfig(cfg)
	invoke := func(size int, kind lambdatypes.InvocationType) error {
		_, err := l.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("size"), InvocationType: kind, Payload: bytes.Repeat([]byte("1"), size)})
		return err
	}
	if err := invoke(6<<20, lambdatypes.InvocationTypeRequestResponse); err != nil {
		t.Errorf("6 MiB: %v", err)
	}
	if code, message, status := failure(t, invoke(6<<20+1, lambdatypes.InvocationTypeRequestResponse)); code != "RequestTooLargeException" || status != 413 ||
		message != "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)" {
		t.Errorf("6 MiB and a byte: %s %d %s", code, status, message)
	}
	if code, message, status := failure(t, invoke(1<<20+1, lambdatypes.InvocationTypeEvent)); code != "RequestTooLargeException" || status != 413 ||
		message != "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)" {
		t.Errorf("1 MiB and a byte, as an event: %s %d %s", code, status, message)
	}

	body := strings.Repeat("x", 70_167_212)
	r := newRequest(s.URL, "POST", "/2015-03-31/functions", "application/json", "", body)
	w.sign(r, "lambda", body)
	resp := do(t, s, r)
	got, _ := io.ReadAll(resp.Body)
	if code, message := restError(resp.Header, got); resp.StatusCode != 413 || code != "RequestEntityTooLargeException" || message != "Request must be smaller than 70167211 bytes for the CreateFunction operation" {
		t.Errorf("CreateFunction: %d %s", resp.StatusCode, got)
	}

	// The same without a Content-Length, so that the size shows only while it is read.
	body = strings.Repeat("x", 6<<20+5)
	r = newRequest(s.URL, "POST", "/2015-03-31/functions/f/invocations", "application/json", "", body)
	w.sign(r, "lambda", body)
	r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader(body))
	resp = do(t, s, r)
	got, _ = io.ReadAll(resp.Body)
	if _, message := restError(resp.Header, got); resp.StatusCode != 413 || !strings.HasPrefix(message, "6291461 byte payload") {
		t.Errorf("chunked Invoke: %d %s", resp.StatusCode, got)
	}
}

func TestMemoryOfBodiesIsBounded(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.MaxBodies = 1 << 20 })
	_, cfg := w.start(t)
	l := lambda.NewFromConfig(cfg)
	for range 3 { // what is refused or done is given back
		_, err := l.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("f"), Payload: bytes.Repeat([]byte("1"), 2<<20)})
		if code, _, status := failure(t, err); code != "ServiceUnavailable" || status != 503 {
			t.Errorf("2 MiB where 1 is allowed: %s %d", code, status)
		}
		if _, err := l.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("size"), Payload: bytes.Repeat([]byte("1"), 1<<20)}); err != nil {
			t.Errorf("1 MiB: %v", err)
		}
	}
}

// assumed is a session of a role that expires at a time.
func assumed(t *testing.T, expires time.Time) call.Principal {
	t.Helper()
	p, err := credential.Role{ARN: "arn:aws:iam::123456789012:role/app", ID: "AROAX"}.Assumed("hello", call.Session{Expires: expires})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
