package edge_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/edge"
)

const testURL = "abcdefghijklmnopqrstuvwxyz234567"

// fakeURLs has one URL.
type fakeURLs struct{ edge.FunctionURL }

func (f *fakeURLs) Find(_ context.Context, id string) (*edge.FunctionURL, error) {
	if id != testURL {
		return nil, nil
	}
	return &f.FunctionURL, nil
}

func newURLEdge(dev bool, u edge.FunctionURL) *edge.Edge {
	root := credential.New()
	if u.Region == "" {
		u.Region = "eu-west-1"
	}
	e := edge.New(edge.Options{Keys: root, Root: root, Log: slog.New(slog.DiscardHandler), URLs: &fakeURLs{u}, Dev: dev})
	e.Ready()
	return e
}

func gives(res edge.URLResponse, err error) func(context.Context, []byte) (*edge.URLResponse, error) {
	return func(context.Context, []byte) (*edge.URLResponse, error) { return &res, err }
}

func TestURLAnswers(t *testing.T) {
	const broken, forbidden = "Internal Server Error", `{"Message":"Forbidden"}`
	for what, c := range map[string]struct {
		u      edge.FunctionURL
		host   string
		status int
		body   string
	}{
		"inferred":    {edge.FunctionURL{Invoke: gives(edge.URLResponse{Payload: []byte(`[1]`)}, nil)}, "", 200, "[1]"},
		"no content":  {edge.FunctionURL{Invoke: gives(edge.URLResponse{Payload: []byte(`{"statusCode":204,"body":"x"}`)}, nil)}, "", 204, ""},
		"failed":      {edge.FunctionURL{Invoke: gives(edge.URLResponse{Failed: true, Payload: []byte(`{}`)}, nil)}, "", 502, broken},
		"malformed":   {edge.FunctionURL{Invoke: gives(edge.URLResponse{Payload: []byte(`{`)}, nil)}, "", 502, broken},
		"throttled":   {edge.FunctionURL{Invoke: gives(edge.URLResponse{}, lambdaapi.ErrTooManyRequestsException("Rate Exceeded."))}, "", 429, `{"Message":"Rate Exceeded."}`},
		"trouble":     {edge.FunctionURL{Invoke: gives(edge.URLResponse{}, errors.New("secret"))}, "", 500, broken},
		"panic":       {edge.FunctionURL{Invoke: func(context.Context, []byte) (*edge.URLResponse, error) { panic("secret") }}, "", 500, broken},
		"unsigned":    {edge.FunctionURL{Signed: true}, "", 403, forbidden},
		"unknown":     {edge.FunctionURL{}, strings.Repeat("x", 32) + ".lambda-url.eu-west-1.localhost", 403, forbidden},
		"elsewhere":   {edge.FunctionURL{}, testURL + ".lambda-url.us-east-1.localhost", 403, forbidden},
		"on.aws":      {edge.FunctionURL{Invoke: gives(edge.URLResponse{Payload: []byte(`1`)}, nil)}, testURL + ".lambda-url.eu-west-1.on.aws", 200, "1"},
		"prelude":     {edge.FunctionURL{Streams: true, Invoke: gives(edge.URLResponse{Prelude: []byte(`{"statusCode":201}`), Body: strings.NewReader("body")}, nil)}, "", 201, "body"},
		"bad prelude": {edge.FunctionURL{Streams: true, Invoke: gives(edge.URLResponse{Prelude: []byte(`{`), Body: strings.NewReader("body")}, nil)}, "", 502, broken},
	} {
		s := httptest.NewServer(newURLEdge(false, c.u))
		r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/", nil)
		if r.Host = c.host; c.host == "" {
			r.Host = testURL + ".lambda-url.eu-west-1.localhost:4566"
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(what, err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || string(body) != c.body {
			t.Errorf("%s: %d %q, want %d %q", what, res.StatusCode, body, c.status, c.body)
		}
		if kind := res.Header.Get("X-Amzn-Errortype"); kind != map[int]string{403: "AccessDeniedException", 429: "TooManyRequestsException"}[c.status] {
			t.Errorf("%s: type %q", what, kind)
		}
		s.Close()
	}
}

// brokenStream fails after its first bytes.
type brokenStream struct{ n int }

func (b *brokenStream) Read(p []byte) (int, error) {
	if b.n++; b.n > 1 {
		return 0, errors.New("failed")
	}
	return copy(p, "first"), nil
}

func TestURLStreamBroken(t *testing.T) {
	s := httptest.NewServer(newURLEdge(false, edge.FunctionURL{Streams: true, Invoke: gives(edge.URLResponse{Body: &brokenStream{}}, nil)}))
	defer s.Close()
	res, err := http.Get(s.URL + "/_mayfly/url/" + testURL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); string(body) != "first" || err == nil {
		t.Errorf("%q, %v: a response that broke off looks whole", body, err)
	}
}

// Whoever waits for events wants to know at once that he is connected.
func TestURLHeadComesFirst(t *testing.T) {
	pr, pw := io.Pipe()
	s := httptest.NewServer(newURLEdge(false, edge.FunctionURL{Streams: true, Invoke: gives(edge.URLResponse{Prelude: []byte(`{"statusCode":203}`), Body: pr}, nil)}))
	defer s.Close()
	res, err := http.Get(s.URL + "/_mayfly/url/" + testURL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	go func() {
		io.WriteString(pw, "late")
		pw.Close()
	}()
	if body, err := io.ReadAll(res.Body); res.StatusCode != 203 || string(body) != "late" || err != nil {
		t.Errorf("%d %q, %v", res.StatusCode, body, err)
	}
}

// Pages may call URLs without signature in development mode too, but must not use that any signature will do.
func TestURLFromPage(t *testing.T) {
	for signed, status := range map[bool]int{false: 200, true: 403} {
		e := newURLEdge(true, edge.FunctionURL{Signed: signed, Invoke: func(ctx context.Context, _ []byte) (*edge.URLResponse, error) {
			if p := call.From(ctx).Principal; !signed && p.Type != call.Anonymous {
				t.Errorf("a URL without signature is used by %v", p)
			}
			return &edge.URLResponse{Payload: []byte(`1`)}, nil
		}})
		r := httptest.NewRequest("GET", "/_mayfly/url/"+testURL+"/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20261124%2Feu-west-1%2Flambda%2Faws4_request&X-Amz-Date=20261124T000000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00", nil)
		r.Header.Set("Origin", "http://evil.example")
		w := httptest.NewRecorder()
		if e.ServeHTTP(w, r); w.Code != status {
			t.Errorf("signed %v: %d %s", signed, w.Code, w.Body)
		}
	}
}

// In development mode whoever signs with made-up keys is root of the server's account, to which the functions belong.
func TestURLSignedWithAnything(t *testing.T) {
	account := ""
	e := newURLEdge(true, edge.FunctionURL{Signed: true, Invoke: func(ctx context.Context, event []byte) (*edge.URLResponse, error) {
		info := call.From(ctx)
		account = info.Account
		if want := "arn:aws:iam::" + info.Account + ":root"; info.Principal.ARN != want || !strings.Contains(string(event), want) {
			t.Errorf("%v, %s", info.Principal, event)
		}
		return &edge.URLResponse{Payload: []byte(`1`)}, nil
	}})
	for key, want := range map[string]string{"made-up": credential.New().Account, "123456789012": "123456789012"} {
		r := httptest.NewRequest("GET", "/_mayfly/url/"+testURL+"/", nil)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+key+"/20261124/eu-west-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature=00")
		r.Header.Set("X-Amz-Date", "20261124T000000Z")
		w := httptest.NewRecorder()
		if e.ServeHTTP(w, r); w.Code != 200 || account != want {
			t.Errorf("%s: %d %s, account %q", key, w.Code, w.Body, account)
		}
	}
}

// A function has all paths of its host, whose name has no case.
func TestURLHost(t *testing.T) {
	e := newURLEdge(false, edge.FunctionURL{Invoke: func(_ context.Context, event []byte) (*edge.URLResponse, error) {
		return &edge.URLResponse{Payload: event}, nil
	}})
	host := strings.ToUpper(testURL) + ".Lambda-URL.eu-west-1.localhost:4566"
	for _, path := range []string{"/", "/_mayfly/health", "/_mayfly/url/" + strings.Repeat("x", 32) + "/", "/2015-03-31/functions"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		var got struct {
			RawPath string
			Context struct{ DomainName, APIID string } `json:"requestContext"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.RawPath != path || got.Context.APIID != testURL ||
			got.Context.DomainName != testURL+".lambda-url.eu-west-1.localhost" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func FuzzFunctionURL(f *testing.F) {
	f.Add("/a%2fb/%zz?x=%zz", "X-Own", "v", []byte("body"), []byte(`{"statusCode":200,"headers":{"a":"b"}}`))
	f.Add("//", "Cookie", "a;;b=\xff", []byte{0xff}, []byte(`{"statusCode":304,"cookies":["\n"]}`))
	var payload []byte
	e := newURLEdge(false, edge.FunctionURL{Invoke: func(_ context.Context, event []byte) (*edge.URLResponse, error) {
		if !json.Valid(event) {
			return nil, errors.New("event is not JSON")
		}
		return &edge.URLResponse{Payload: payload}, nil
	}})
	f.Fuzz(func(t *testing.T, target, name, value string, body, answer []byte) {
		r := httptest.NewRequest("POST", "/_mayfly/url/"+testURL+"/", strings.NewReader(string(body)))
		r.RequestURI = "/_mayfly/url/" + testURL + "/" + target
		r.Header[name] = []string{value}
		payload = answer
		w := httptest.NewRecorder()
		if e.ServeHTTP(w, r); w.Code == http.StatusInternalServerError && !strings.HasPrefix(string(answer), "{") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
