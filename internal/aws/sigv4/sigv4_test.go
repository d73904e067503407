package sigv4_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"pgregory.net/rapid"
)

// The example keys of AWS's documentation.
const (
	docSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	testKey   = "AKIAIOSFODNN7EXAMPLE"
)

func date(s string) time.Time {
	t, err := time.Parse("20060102T150405Z", s)
	if err != nil {
		panic(err)
	}
	return t
}

// received is the request as a server reads it from the wire.
func received(t testing.TB, raw string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	return r
}

func kind(err error) sigv4.Kind {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return e.Kind
	}
	return 0
}

// TestVectors verifies signatures that AWS published: the Signature Version 4 test suite and the S3 API Reference.
func TestVectors(t *testing.T) {
	const suite = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	auth := func(headers, signature string) string {
		return "Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=" + headers + ", Signature=" + signature + "\r\n"
	}
	s3auth := func(headers, signature string) string {
		return "Authorization: AWS4-HMAC-SHA256 Credential=" + testKey + "/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + headers + ",Signature=" + signature + "\r\n"
	}
	const service = "Host: example.amazonaws.com\r\nX-Amz-Date: 20150830T123600Z\r\n"
	const bucket = "Host: examplebucket.s3.amazonaws.com\r\nx-amz-date: 20130524T000000Z\r\n"
	const empty = "x-amz-content-sha256: " + sigv4.EmptyPayload + "\r\n"
	for _, c := range []struct{ name, secret, raw string }{
		{"get-vanilla", suite, "GET / HTTP/1.1\r\n" + service + auth("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")},
		{"get-vanilla-query-order-key-case", suite, "GET /?Param2=value2&Param1=value1 HTTP/1.1\r\n" + service + auth("host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500")},
		{"post-vanilla", suite, "POST / HTTP/1.1\r\n" + service + auth("host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b")},
		{"get-header-value-trim", suite, "GET / HTTP/1.1\r\nMy-Header1: value1 \r\nMy-Header2: \"a   b   c\"\r\n" + service + auth("host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736")},
		{"post-x-www-form-urlencoded", suite, "POST / HTTP/1.1\r\nContent-Length: 13\r\nContent-Type: application/x-www-form-urlencoded\r\n" + service + auth("content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a") + "\r\nParam1=value1"},
		{"iam-list-users", suite, "GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1\r\nHost: iam.amazonaws.com\r\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\r\nX-Amz-Date: 20150830T123600Z\r\n" +
			"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7\r\n"},
		{"s3-get-object", docSecret, "GET /test.txt HTTP/1.1\r\nRange: bytes=0-9\r\n" + bucket + empty + s3auth("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")},
		{"s3-put-object", docSecret, "PUT /test$file.text HTTP/1.1\r\nDate: Fri, 24 May 2013 00:00:00 GMT\r\nContent-Length: 21\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\n" + bucket +
			"x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\r\n" + s3auth("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd") + "\r\nWelcome to Amazon S3."},
		{"s3-get-lifecycle", docSecret, "GET /?lifecycle HTTP/1.1\r\n" + bucket + empty + s3auth("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")},
		{"s3-list-objects", docSecret, "GET /?max-keys=2&prefix=J HTTP/1.1\r\n" + bucket + empty + s3auth("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")},
		{"s3-presigned", docSecret, "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(c.raw, "\r\n\r\n") {
				c.raw += "\r\n"
			}
			r := received(t, c.raw)
			s, err := sigv4.Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(s.Time, sigv4.RulesFor(s.Service)); err != nil {
				t.Error(err)
			}
			body, _ := io.ReadAll(r.Body)
			var v sigv4.Verifier
			if err := v.Verify(r, &s, c.secret, body); err != nil {
				e := err.(*sigv4.Error)
				t.Errorf("%v\n%s", err, e.CanonicalRequest)
			}
			if err := v.Verify(r, &s, c.secret+"x", body); kind(err) != sigv4.Mismatch {
				t.Errorf("with another secret: %v", err)
			}
			r.Method = "DELETE"
			if err := v.Verify(r, &s, c.secret, body); kind(err) != sigv4.Mismatch {
				t.Errorf("with another method: %v", err)
			}
		})
	}
}

// TestAgainstSDK signs random requests with the AWS SDK, sends them through the wire format, and verifies them; and
// checks that one changed byte of any part is noticed.
func TestAgainstSDK(t *testing.T) {
	signer := v4.NewSigner()
	signerS3 := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	now := date("20261124T120000Z")
	var v sigv4.Verifier
	rapid.Check(t, func(t *rapid.T) {
		service := rapid.SampledFrom([]string{"lambda", "s3", "sqs"}).Draw(t, "service")
		segment := rapid.StringMatching(`[a-zA-Z0-9 %+:$&=@!~'()*,;äß\.-]{0,6}`)
		u := &url.URL{Scheme: "http", Host: "localhost:4566"}
		u.Path = "/" + strings.Join(rapid.SliceOfN(segment, 0, 4).Draw(t, "path"), "/")
		if u.Path == "//" || strings.HasPrefix(u.Path, "//") {
			u.Path = "/x" + u.Path // "//x" would be taken for a host
		}
		q := url.Values{}
		for range rapid.IntRange(0, 3).Draw(t, "parameters") {
			q.Add(segment.Draw(t, "name"), segment.Draw(t, "value"))
		}
		u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
		body := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "body")
		r, err := http.NewRequest(rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method"), u.String(), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", rapid.SampledFrom([]string{"application/json", "text/plain;  charset=utf-8 "}).Draw(t, "type"))
		if rapid.Bool().Draw(t, "twice") {
			r.Header.Add("X-Amz-Meta-A", " one   two")
			r.Header.Add("X-Amz-Meta-A", "three")
		}
		creds := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret}
		if rapid.Bool().Draw(t, "temporary") {
			creds.SessionToken = "FwoGZX//token+=="
		}
		hash := sigv4.Hash(body)
		use := signer
		if service == "s3" {
			use = signerS3
			r.Header.Set("X-Amz-Content-Sha256", hash)
		}
		presign := rapid.Bool().Draw(t, "presign")
		if presign {
			if service == "s3" {
				hash = sigv4.UnsignedPayload
				r.Header.Del("X-Amz-Content-Sha256")
			}
			raw, headers, err := use.PresignHTTP(t.Context(), creds, r, hash, service, "eu-central-1", now)
			if err != nil {
				t.Fatal(err)
			}
			r, _ = http.NewRequest(r.Method, raw, bytes.NewReader(body))
			for k, vv := range headers {
				if k != "Host" && k != "Content-Length" {
					r.Header[k] = vv
				}
			}
		} else if err := use.SignHTTP(t.Context(), creds, r, hash, service, "eu-central-1", now); err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		r.Write(&wire)
		got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire.Bytes())))
		if err != nil {
			t.Fatal(err)
		}
		s, err := sigv4.Parse(got)
		if err != nil {
			t.Fatalf("%v in %s", err, wire.String())
		}
		if s.AccessKeyID != testKey || s.Service != service || s.Region != "eu-central-1" || s.SessionToken != creds.SessionToken || s.Presigned != presign {
			t.Fatalf("Parse = %+v", s)
		}
		if err := s.Check(now.Add(time.Minute), sigv4.RulesFor(service)); err != nil {
			t.Fatal(err)
		}
		if err := v.Verify(got, &s, docSecret, body); err != nil {
			t.Fatalf("%v\n%s\n%s", err, err.(*sigv4.Error).CanonicalRequest, wire.String())
		}
		changed := *got
		switch rapid.IntRange(0, 3).Draw(t, "change") {
		case 0:
			changed.RequestURI = "/x" + changed.RequestURI[1:]
		case 1:
			changed.Host += "x"
		case 2:
			changed.Method += "X"
		case 3:
			if presign && service == "s3" {
				return // the body is not signed
			}
			body = append(body, 'x')
		}
		if err := v.Verify(&changed, &s, docSecret, body); kind(err) != sigv4.Mismatch && kind(err) != sigv4.ContentMismatch {
			t.Fatalf("a changed request: %v", err)
		}
	})
}

func TestSignAndPresign(t *testing.T) {
	now := date("20261124T120000Z")
	var v sigv4.Verifier
	for _, service := range []string{"lambda", "s3", "mayfly"} {
		c := sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret, SessionToken: "token"}
		r, _ := http.NewRequest("POST", "http://localhost:4566/2015-03-31/functions/arn%3Aaws%3Af/invocations?Qualifier=$LATEST&a=b c", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Amz-Target", "x")
		sigv4.Sign(r, c, service, "us-east-1", sigv4.Hash([]byte("{}")), now)
		s, err := sigv4.Parse(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(now, sigv4.RulesFor(service)); err != nil {
			t.Error(err)
		}
		if err := v.Verify(r, &s, docSecret, []byte("{}")); err != nil {
			t.Errorf("%s: %v", service, err)
		}
		if err := v.Verify(r, &s, docSecret, []byte("{ }")); err == nil {
			t.Errorf("%s: another body verifies", service)
		}

		hash := sigv4.EmptyPayload
		if service == "s3" {
			hash = sigv4.UnsignedPayload
		}
		r, _ = http.NewRequest("GET", "http://localhost:4566/_mayfly/code/0123?versionId=1", nil)
		signed := sigv4.Presign(r, c, service, "us-east-1", hash, now, 10*time.Minute)
		u, err := url.Parse(signed)
		if err != nil {
			t.Fatal(err)
		}
		got := received(t, "GET "+u.RequestURI()+" HTTP/1.1\r\nHost: localhost:4566\r\n\r\n")
		if s, err = sigv4.Parse(got); err != nil {
			t.Fatal(err)
		}
		if err := v.Verify(got, &s, docSecret, nil); err != nil {
			t.Errorf("%s: presigned: %v\n%s", service, err, signed)
		}
		if err := s.Check(now.Add(10*time.Minute), sigv4.RulesFor(service)); err != nil {
			t.Errorf("%s: at its last second: %v", service, err)
		}
		if err := s.Check(now.Add(10*time.Minute+1), sigv4.RulesFor(service)); kind(err) != sigv4.URLExpired {
			t.Errorf("%s: after its time: %v", service, err)
		}
	}
}

// TestParseErrors pins AWS's words for what is missing or malformed.
func TestParseErrors(t *testing.T) {
	const cred = "Credential=AKID/20261124/us-east-1/lambda/aws4_request"
	for _, c := range []struct {
		name, query, headers string
		kind                 sigv4.Kind
		want                 string
	}{
		{"none", "", "", sigv4.Missing, "Missing Authentication Token"},
		{"bearer", "", "Authorization: Bearer x", sigv4.Missing, "Missing Authentication Token"},
		{"v2", "", "Authorization: AWS AKID:sig", sigv4.Unsupported, "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."},
		{"v2 query", "AWSAccessKeyId=A&Signature=b&Expires=1", "", sigv4.Unsupported, "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."},
		{"empty", "", "Authorization: AWS4-HMAC-SHA256", sigv4.Incomplete, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. (Hashed with SHA-256 and encoded with Base64) Authorization=YI2YWea8FSxnksZL2ETHbs5elHm9HQufxTLK0W0ffV0="},
		{"no date", "", "Authorization: AWS4-HMAC-SHA256 " + cred + ", SignedHeaders=host, Signature=ab", sigv4.Incomplete, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. (Hashed"},
		{"not a pair", "", "Authorization: AWS4-HMAC-SHA256 Credential", sigv4.Incomplete, "'Credential' not a valid key=value pair (missing equal-sign) in Authorization header: 'AWS4-HMAC-SHA256 Credential'."},
		{"bad date", "", "X-Amz-Date: tomorrow\r\nAuthorization: AWS4-HMAC-SHA256 " + cred + ", SignedHeaders=host, Signature=ab", sigv4.Incomplete, "Date must be in ISO-8601 'basic format'. Got 'tomorrow'. See http://en.wikipedia.org/wiki/ISO_8601"},
		{"host unsigned", "", "X-Amz-Date: 20261124T120000Z\r\nAuthorization: AWS4-HMAC-SHA256 " + cred + ", SignedHeaders=x-amz-date, Signature=ab", sigv4.Invalid, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		{"sigv4a", "", "X-Amz-Date: 20261124T120000Z\r\nAuthorization: AWS4-ECDSA-P256-SHA256 Credential=AKID/20261124/lambda/aws4_request, SignedHeaders=host, Signature=ab", sigv4.Incomplete, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (only AWS4-HMAC-SHA256 for now). "},
		{"four parts", "", "X-Amz-Date: 20261124T120000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=ab", sigv4.Incomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b/c/d'"},
		{"both", "X-Amz-Algorithm=AWS4-HMAC-SHA256", "Authorization: AWS4-HMAC-SHA256 " + cred, sigv4.Invalid, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."},
		{"empty query", "X-Amz-Algorithm", "", sigv4.Incomplete, "AWS query-string parameters must include 'X-Amz-Algorithm'. AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string parameters must include 'X-Amz-SignedHeaders'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters."},
		{"expires a word", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/20261124/r/s3/aws4_request&X-Amz-Signature=a&X-Amz-SignedHeaders=host&X-Amz-Date=20261124T120000Z&X-Amz-Expires=x", "", sigv4.BadExpires, "X-Amz-Expires should be a number"},
		{"expires too late", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/20261124/r/s3/aws4_request&X-Amz-Signature=a&X-Amz-SignedHeaders=host&X-Amz-Date=20261124T120000Z&X-Amz-Expires=604801", "", sigv4.BadExpires, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds"},
		{"expires at once", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/20261124/r/s3/aws4_request&X-Amz-Signature=a&X-Amz-SignedHeaders=host&X-Amz-Date=20261124T120000Z&X-Amz-Expires=0", "", sigv4.BadExpires, "at least 1"},
		{"bad escape", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%zz", "", sigv4.Incomplete, "The query-string parameter 'X-Amz-Credential' is not properly escaped."},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "GET /?" + c.query + " HTTP/1.1\r\nHost: h\r\n"
			if c.headers != "" {
				head += c.headers + "\r\n"
			}
			_, err := sigv4.Parse(received(t, head+"\r\n"))
			e, ok := errors.AsType[*sigv4.Error](err)
			if !ok || e.Kind != c.kind || !strings.Contains(e.Message, c.want) {
				t.Errorf("got  %v\nwant kind %d: %s", err, c.kind, c.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	now := date("20261124T120000Z")
	signature := func(service, when string) sigv4.Signature {
		r, _ := http.NewRequest("GET", "http://h/", nil)
		sigv4.Sign(r, sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret}, service, "us-east-1", sigv4.EmptyPayload, date(when))
		s, err := sigv4.Parse(r)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		service, when string
		rules         sigv4.Rules
		want          string
	}{
		{"lambda", "20261124T115500Z", sigv4.RulesFor("lambda"), ""},
		{"lambda", "20261124T120500Z", sigv4.RulesFor("lambda"), ""},
		{"s3", "20261124T114500Z", sigv4.RulesFor("s3"), ""},
		{"lambda", "20261124T115459Z", sigv4.RulesFor("lambda"), "Signature expired: 20261124T115459Z is now earlier than 20261124T115500Z (20261124T120000Z - 5 min.)"},
		{"lambda", "20261124T120501Z", sigv4.RulesFor("lambda"), "Signature not yet current: 20261124T120501Z is still later than 20261124T120500Z (20261124T120000Z + 5 min.)"},
		{"lambda", "20261124T120000Z", sigv4.Rules{Service: "logs", Region: "eu-west-1", Skew: time.Minute}, "Credential should be scoped to a valid region, not 'us-east-1'. Credential should be scoped to correct service: 'logs'."},
	} {
		s := signature(c.service, c.when)
		err := s.Check(now, c.rules)
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != "sigv4: "+c.want {
			t.Errorf("%s at %s: %v, want %s", c.service, c.when, err, c.want)
		}
	}
	r := received(t, "GET / HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261124T120000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/lambda/aws5_request, SignedHeaders=host, Signature=ab\r\n\r\n")
	s, err := sigv4.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261123' != '20261124', from '20261124T120000Z'."
	if err := s.Check(now, sigv4.RulesFor("lambda")); kind(err) != sigv4.Invalid || err.Error() != "sigv4: "+want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestUnsignedHeaders(t *testing.T) {
	var v sigv4.Verifier
	c := sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret}
	for _, x := range []struct {
		service, header string
		kind            sigv4.Kind
	}{
		{"s3", "X-Amz-Acl", sigv4.UnsignedHeaders},
		{"logs", "X-Amz-Target", sigv4.Invalid},
		{"lambda", "X-Amz-Invocation-Type", 0},
	} {
		r, _ := http.NewRequest("GET", "http://h/", nil)
		sigv4.Sign(r, c, x.service, "us-east-1", sigv4.EmptyPayload, time.Now())
		r.Header.Set(x.header, "added on the way")
		s, _ := sigv4.Parse(r)
		if err := v.Verify(r, &s, docSecret, nil); kind(err) != x.kind {
			t.Errorf("%s with an unsigned %s: %v", x.service, x.header, err)
		}
	}
	// A list of signed headers that repeats a name is refused before it can repeat a long value without end.
	r, _ := http.NewRequest("GET", "http://h/", nil)
	sigv4.Sign(r, c, "lambda", "us-east-1", sigv4.EmptyPayload, time.Now())
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "SignedHeaders=host", "SignedHeaders=host;host", 1))
	s, _ := sigv4.Parse(r)
	if err := v.Verify(r, &s, docSecret, nil); kind(err) != sigv4.Mismatch {
		t.Errorf("repeated signed header: %v", err)
	}
}

// TestKeysAreBounded signs for many more scopes than are remembered.
func TestKeysAreBounded(t *testing.T) {
	var v sigv4.Verifier
	now := time.Now()
	c := sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret}
	for i := range 3000 {
		r, _ := http.NewRequest("GET", "http://h/", nil)
		sigv4.Sign(r, c, "lambda", fmt.Sprintf("region-%d", i%1500), sigv4.EmptyPayload, now)
		s, _ := sigv4.Parse(r)
		if err := v.Verify(r, &s, docSecret, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.Remembered(); n > 1024 {
		t.Errorf("%d keys remembered", n)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("GET /a%2Fb/../c?x=1&y=%zz HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261124T120000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKID/20261124/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature=ab\r\n\r\n")
	f.Add("GET /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/20261124/r/s3/aws4_request&X-Amz-Signature=a&X-Amz-SignedHeaders=host&X-Amz-Date=20261124T120000Z&X-Amz-Expires=60 HTTP/1.1\r\nHost: h\r\n\r\n")
	f.Add("PUT / HTTP/1.1\r\nHost: h\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\nx-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nx-amz-decoded-content-length: 5\r\nContent-Length: 6\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKID/20261124/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=ab\r\n\r\n5\r\n123")
	var v sigv4.Verifier
	now := date("20261124T120000Z")
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		s, err := sigv4.Parse(r)
		if err != nil {
			if kind(err) == 0 {
				t.Errorf("an error without a kind: %v", err)
			}
			return
		}
		s.Check(now, sigv4.RulesFor(s.Service))
		body, _ := io.ReadAll(r.Body)
		if err := v.Verify(r, &s, "a secret that nobody knows", body); err == nil {
			t.Error("verified")
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if _, err := v.Open(r, &s, "a secret that nobody knows"); err == nil {
			t.Error("opened")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 200)
	r, _ := http.NewRequest("POST", "http://localhost:4566/2015-03-31/functions/hello/invocations", bytes.NewReader(body))
	if err := v4.NewSigner().SignHTTP(b.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret}, r, sigv4.Hash(body), "lambda", "us-east-1", time.Now()); err != nil {
		b.Fatal(err)
	}
	var wire bytes.Buffer
	r.Write(&wire)
	r = received(b, wire.String())
	var v sigv4.Verifier
	rules := sigv4.RulesFor("lambda")
	b.ReportAllocs()
	for b.Loop() {
		s, err := sigv4.Parse(r)
		if err == nil {
			err = s.Check(time.Now(), rules)
		}
		if err == nil {
			err = v.Verify(r, &s, docSecret, body)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
