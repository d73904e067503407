package httpevent

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestEvent(t *testing.T) {
	r := Request{
		Method: "POST", RawPath: "/a%20b/c", RawQuery: "x=1&x=2&y=%C3%A9&z", Protocol: "HTTP/1.1",
		Header: map[string][]string{"Content-Type": {"application/json; charset=utf-8"}, "X-Twice": {"a", "b"}, "Cookie": {"a=1; b=2"}},
		Body:   []byte(`{"ü":1}`), URLID: "abc", DomainName: "abc.lambda-url.eu-west-1.localhost", SourceIP: "127.0.0.1", UserAgent: "curl", RequestID: "r",
		Time: time.Date(2026, 11, 24, 7, 0, 0, 5e6, time.UTC),
	}
	want := `{"version":"2.0","routeKey":"$default","rawPath":"/a%20b/c","rawQueryString":"x=1&x=2&y=%C3%A9&z","cookies":["a=1","b=2"],` +
		`"headers":{"content-type":"application/json; charset=utf-8","x-twice":"a,b"},"queryStringParameters":{"x":"1,2","y":"é","z":""},` +
		`"requestContext":{"accountId":"anonymous","apiId":"abc","authentication":null,"domainName":"abc.lambda-url.eu-west-1.localhost","domainPrefix":"abc",` +
		`"http":{"method":"POST","path":"/a%20b/c","protocol":"HTTP/1.1","sourceIp":"127.0.0.1","userAgent":"curl"},"requestId":"r","routeKey":"$default","stage":"$default",` +
		`"time":"24/Nov/2026:07:00:00 +0000","timeEpoch":1795503600005},"body":"{\"ü\":1}","isBase64Encoded":false}`
	if got := string(r.Event()); got != want {
		t.Errorf("event\n%s\nwant\n%s", got, want)
	}
}

func TestBody(t *testing.T) {
	for _, c := range []struct {
		header map[string][]string
		body   string
		base64 bool
	}{
		{map[string][]string{"Content-Type": {"text/plain"}}, "x", false},
		{map[string][]string{"Content-Type": {"image/svg+xml"}}, "x", false},
		{map[string][]string{"Content-Type": {"application/x-www-form-urlencoded"}}, "a=b", true},
		{map[string][]string{"Content-Type": {"text/plain"}}, "\xff", true},
		{map[string][]string{"Content-Type": {"text/plain"}, "Content-Encoding": {"gzip"}}, "x", true},
		{nil, "x", true},
	} {
		var e event
		if err := json.Unmarshal((&Request{Header: c.header, Body: []byte(c.body)}).Event(), &e); err != nil || e.Base64 != c.base64 {
			t.Errorf("%v %q: isBase64Encoded %v, %v", c.header, c.body, e.Base64, err)
		}
	}
}

func TestParseResponse(t *testing.T) {
	asJSON := map[string]string{"Content-Type": "application/json"}
	for payload, want := range map[string]*Response{
		`3`:             {200, asJSON, nil, []byte(`3`)},
		`true`:          {200, asJSON, nil, []byte(`true`)},
		`null`:          {200, asJSON, nil, []byte(`null`)},
		`[1,2]`:         {200, asJSON, nil, []byte(`[1,2]`)},
		`"hello"`:       {200, asJSON, nil, []byte(`hello`)},
		`{"body": "x"}`: {200, asJSON, nil, []byte(`{"body": "x"}`)},
		`{"statusCode":201,"headers":{"content-type":"text/html","x-n":1,"x-t":true},"cookies":["a=b; Secure"],"body":"<p>"}`: {
			201, map[string]string{"content-type": "text/html", "x-n": "1", "x-t": "true"}, []string{"a=b; Secure"}, []byte("<p>")},
		`{"statusCode":"204"}`: {204, asJSON, nil, nil},
		`{"statusCode":200,"body":"AP8=","isBase64Encoded":true}`: {200, asJSON, nil, []byte{0, 255}},
		``:                                 nil,
		`{`:                                nil,
		`{"statusCode":"x"}`:               nil,
		`{"statusCode":99}`:                nil,
		`{"statusCode":200,"body":{}}`:     nil,
		`{"statusCode":200,"headers":[]}`:  nil,
		`{"statusCode":200,"cookies":"a"}`: nil,
		`{"statusCode":200,"headers":{"a b":"c"}}`:               nil,
		`{"statusCode":200,"headers":{"a":"c\r\nd: e"}}`:         nil,
		`{"statusCode":200,"body":"%%","isBase64Encoded":true}`:  nil,
		`{"statusCode":200,"headers":{"a":{"b":"c"}},"body":""}`: nil,
	} {
		got, err := ParseResponse([]byte(payload))
		if want == nil {
			if err == nil {
				t.Errorf("%s: no error", payload)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", payload, got, err)
		}
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte(`{"statusCode":200,"headers":{"a":"b"},"cookies":["c"],"body":"AA==","isBase64Encoded":true}`))
	f.Add([]byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if r, err := ParseResponse(payload); err == nil && (r.Status < 200 || r.Status > 599) {
			t.Errorf("status %d", r.Status)
		}
		ParsePrelude(payload)
	})
}

func FuzzEvent(f *testing.F) {
	f.Add("/a", "b=%zz&c", "x-\xff", "a=\xff;;", []byte("\xff"))
	f.Fuzz(func(t *testing.T, path, query, name, value string, body []byte) {
		r := Request{RawPath: path, RawQuery: query, Header: map[string][]string{name: {value}, "Cookie": {value}}, Body: body, UserAgent: value}
		if b := r.Event(); !json.Valid(b) {
			t.Errorf("not JSON: %q", b)
		}
	})
}
