package sigv4_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
)

// The example of the S3 API Reference: 65 KiB of the letter a in chunks of 64 KiB, signed and with signed trailers.
func TestChunkedVectors(t *testing.T) {
	a := strings.Repeat("a", 65536)
	const head = "PUT /examplebucket/chunkObject.txt HTTP/1.1\r\nHost: s3.amazonaws.com\r\nx-amz-date: 20130524T000000Z\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\n" +
		"Content-Encoding: aws-chunked\r\nx-amz-decoded-content-length: 66560\r\n"
	const auth = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
	signed := head + "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nContent-Length: 66824\r\n" + auth +
		"SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9\r\n\r\n" +
		"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + a + "\r\n" +
		"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + a[:1024] + "\r\n" +
		"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
	trailer := head + "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\r\nx-amz-trailer: x-amz-checksum-crc32c\r\nContent-Length: 66946\r\n" + auth +
		"SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e\r\n\r\n" +
		"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + a + "\r\n" +
		"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + a[:1024] + "\r\n" +
		"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
		"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
	for name, raw := range map[string]string{"signed": signed, "trailer": trailer} {
		t.Run(name, func(t *testing.T) {
			open := func(raw string) (*sigv4.Body, error) {
				r := received(t, raw)
				s, err := sigv4.Parse(r)
				if err != nil {
					t.Fatal(err)
				}
				var v sigv4.Verifier
				return v.Open(r, &s, docSecret)
			}
			b, err := open(raw)
			if err != nil {
				t.Fatalf("%v\n%s", err, err.(*sigv4.Error).CanonicalRequest)
			}
			got, err := io.ReadAll(iotest.HalfReader(b))
			if err != nil || len(got) != 66560 {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if name == "trailer" && b.Trailer().Get("X-Amz-Checksum-Crc32c") != "sOO8/Q==" {
				t.Errorf("Trailer = %v", b.Trailer())
			}
			for _, forged := range []string{strings.Replace(raw, "aaa\r\n", "aab\r\n", 1), strings.Replace(raw, "400;", "3ff;", 1), strings.Replace(raw, "sOO8", "sOO9", 1),
				strings.Replace(raw, "Content-Length: 66", "Content-Length: 65", 1)} {
				if forged == raw {
					continue
				}
				b, err := open(forged)
				if err == nil {
					_, err = io.ReadAll(b)
				}
				if kind(err) == 0 {
					t.Errorf("a forged body: %v", err)
				}
			}
		})
	}
}

// chunks encodes body as STREAMING-AWS4-HMAC-SHA256-PAYLOAD does, from the specification and not from the code under test.
func chunks(seed, when, scope string, body string, size int) string {
	mac := func(k []byte, s string) []byte { m := hmac.New(sha256.New, k); m.Write([]byte(s)); return m.Sum(nil) }
	key := []byte("AWS4" + docSecret)
	for _, p := range strings.Split(scope, "/") {
		key = mac(key, p)
	}
	var b strings.Builder
	for done := false; !done; {
		c := body[:min(size, len(body))]
		body = body[len(c):]
		done = c == ""
		sum := sha256.Sum256([]byte(c))
		seed = hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256-PAYLOAD\n"+when+"\n"+scope+"\n"+seed+"\n"+sigv4.EmptyPayload+"\n"+hex.EncodeToString(sum[:])))
		fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n%s\r\n", len(c), seed, c)
	}
	return b.String()
}

func TestStreams(t *testing.T) {
	now := date("20261124T120000Z")
	c := sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret}
	long := strings.Repeat("0123456789abcdef", 1024)
	request := func(kind string, length int) (*http.Request, string) {
		r, _ := http.NewRequest("PUT", "http://h/bucket/key", nil)
		if length >= 0 {
			r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(length))
		}
		sigv4.Sign(r, c, "s3", "us-east-1", kind, now)
		_, sig, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
		return r, sig
	}
	signed := func(body string, size int) func() (*http.Request, string) {
		return func() (*http.Request, string) {
			r, sig := request(sigv4.StreamingPayload, len(body))
			return r, chunks(sig, "20261124T120000Z", "20261124/us-east-1/s3/aws4_request", body, size)
		}
	}
	plain := func(kind string, length int, body string) func() (*http.Request, string) {
		return func() (*http.Request, string) { r, _ := request(kind, length); return r, body }
	}
	for _, x := range []struct {
		name string
		make func() (*http.Request, string)
		want string
		kind sigv4.Kind
	}{
		{"signed", signed(long, 8192), long, 0},
		{"signed, one chunk", signed("short", 8192), "short", 0},
		{"signed, empty", signed("", 8192), "", 0},
		{"signed, chunks too small", signed(long, 8191), "", sigv4.IncompleteBody},
		{"unsigned trailer", plain(sigv4.StreamingUnsignedTrailer, 5, "3\r\nhel\r\n2\r\nlo\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n"), "hello", 0},
		{"unsigned, longer than said", plain(sigv4.StreamingUnsignedTrailer, 4, "5\r\nhello\r\n0\r\n\r\n"), "", sigv4.IncompleteBody},
		{"unsigned, shorter than said", plain(sigv4.StreamingUnsignedTrailer, 6, "5\r\nhello\r\n0\r\n\r\n"), "", sigv4.IncompleteBody},
		{"cut in a chunk", plain(sigv4.StreamingUnsignedTrailer, 5, "5\r\nhel"), "", sigv4.IncompleteBody},
		{"cut before the trailer", plain(sigv4.StreamingUnsignedTrailer, 5, "5\r\nhello\r\n0\r\n"), "", sigv4.IncompleteBody},
		{"no length", plain(sigv4.StreamingUnsignedTrailer, -1, "0\r\n\r\n"), "", sigv4.IncompleteBody},
		{"size not a number", plain(sigv4.StreamingUnsignedTrailer, 5, "x\r\n"), "", sigv4.IncompleteBody},
		{"negative size", plain(sigv4.StreamingUnsignedTrailer, 5, "-5\r\nhello"), "", sigv4.IncompleteBody},
		{"endless line", plain(sigv4.StreamingUnsignedTrailer, 5, strings.Repeat("0", 1<<20)), "", sigv4.IncompleteBody},
		{"no line after the chunk", plain(sigv4.StreamingUnsignedTrailer, 5, "5\r\nhelloworld"), "", sigv4.IncompleteBody},
		{"endless trailers", plain(sigv4.StreamingUnsignedTrailer, 0, "0\r\n"+strings.Repeat("x-amz-a:"+strings.Repeat("b", 1000)+"\r\n", 1000)), "", sigv4.IncompleteBody},
		{"no signature", plain(sigv4.StreamingPayload, 5, "5\r\nhello\r\n0\r\n\r\n"), "", sigv4.IncompleteBody},
		{"forged chunk", plain(sigv4.StreamingPayload, 5, "5;chunk-signature=00\r\nhello\r\n0;chunk-signature=00\r\n\r\n"), "", sigv4.Mismatch},
		{"digest", plain(sigv4.Hash([]byte("hello")), -1, "hello"), "hello", 0},
		{"another digest", plain(sigv4.Hash([]byte("hello")), -1, "hullo"), "", sigv4.ContentMismatch},
		{"unsigned", plain(sigv4.UnsignedPayload, -1, "anything"), "anything", 0},
		{"unknown", plain("STREAMING-AWS4-HMAC-SHA256-EVENTS", -1, ""), "", sigv4.Unsupported},
	} {
		t.Run(x.name, func(t *testing.T) {
			r, body := x.make()
			r.Body = io.NopCloser(iotest.OneByteReader(strings.NewReader(body)))
			s, err := sigv4.Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			var v sigv4.Verifier
			b, err := v.Open(r, &s, docSecret)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(b)
				if _, again := b.Read(make([]byte, 1)); err != nil && again != err || err == nil && again != io.EOF {
					t.Errorf("Read after the end: %v", again)
				}
				b.Close()
			}
			if x.kind == 0 && (err != nil || string(got) != x.want) || kind(err) != x.kind {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestReadError(t *testing.T) {
	r, _ := http.NewRequest("PUT", "http://h/", nil)
	r.Header.Set("X-Amz-Decoded-Content-Length", "5")
	sigv4.Sign(r, sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret}, "s3", "us-east-1", sigv4.StreamingUnsignedTrailer, time.Now())
	broken := errors.New("the wire broke")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("5\r\nhe"), iotest.ErrReader(broken)))
	s, _ := sigv4.Parse(r)
	var v sigv4.Verifier
	b, err := v.Open(r, &s, docSecret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(b); !errors.Is(err, broken) {
		t.Errorf("ReadAll = %v", err)
	}
}

func FuzzChunks(f *testing.F) {
	f.Add("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n", 5, uint8(0))
	f.Add("5;chunk-signature=00\r\nhello\r\n0;chunk-signature=00\r\n\r\n", 5, uint8(1))
	f.Add("0;chunk-signature=00\r\nx-amz-trailer-signature:00\r\n\r\n", 0, uint8(2))
	kinds := []string{sigv4.StreamingUnsignedTrailer, sigv4.StreamingPayload, sigv4.StreamingPayloadTrailer}
	f.Fuzz(func(t *testing.T, body string, length int, form uint8) {
		r, _ := http.NewRequest("PUT", "http://h/", nil)
		r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(length))
		sigv4.Sign(r, sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: docSecret}, "s3", "us-east-1", kinds[int(form)%3], time.Now())
		r.Body = io.NopCloser(strings.NewReader(body))
		s, _ := sigv4.Parse(r)
		var v sigv4.Verifier
		b, err := v.Open(r, &s, docSecret)
		if err != nil {
			return
		}
		got, err := io.ReadAll(b)
		if err == nil && len(got) != length {
			t.Errorf("accepted %d bytes where %d were announced", len(got), length)
		}
		if err == nil && form%3 != 0 {
			t.Error("accepted without the secret")
		}
	})
}
