package runtimeapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestHead(t *testing.T) {
	for _, tt := range []struct {
		in   string
		path string
		err  error
		keep bool
		want func(q *request) bool
	}{
		{in: "GET /a HTTP/1.1\r\nHost: x\r\n\r\n", path: "/a", keep: true},
		{in: "GET /a HTTP/1.1\nHost: x\n\n", path: "/a", keep: true},
		{in: "\r\n\r\nGET /a?b=c HTTP/1.1\r\n\r\n", path: "/a", keep: true},
		{in: "GET http://127.0.0.1:9001/a HTTP/1.1\r\n\r\n", path: "/a", keep: true},
		{in: "GET /a HTTP/1.0\r\n\r\n", path: "/a"},
		{in: "GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", path: "/a", keep: true},
		{in: "GET /a HTTP/1.1\r\nconnection: te , CLOSE\r\n\r\n", path: "/a"},
		{in: "POST /a HTTP/1.1\r\ncontent-length:12\r\n\r\n", path: "/a", keep: true, want: func(q *request) bool { return q.length == 12 }},
		{in: "POST /a HTTP/1.1\r\nContent-Length: 12\r\nContent-Length: 12\r\n\r\n", path: "/a", keep: true},
		{in: "POST /a HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", path: "/a", keep: true, want: func(q *request) bool { return q.chunked }},
		{in: "POST /a HTTP/1.1\r\nEXPECT: 100-Continue\r\nContent-Length: 1\r\n\r\n", path: "/a", keep: true, want: func(q *request) bool { return q.expect }},
		{in: "POST /a HTTP/1.1\r\nlambda-runtime-function-error-type:  T \t\r\nlambda-runtime-function-xray-error-cause: {}\r\nLAMBDA-RUNTIME-FUNCTION-RESPONSE-MODE: streaming\r\nContent-type: a/b\r\n\r\n",
			path: "/a", keep: true, want: func(q *request) bool {
				return q.errorType == "T" && q.xrayCause == "{}" && q.responseMode == "streaming" && q.contentType == "a/b"
			}},
		{in: "POST /a HTTP/1.1\r\nX: \xff\xfe\t.\r\nLambda-Extension-Name: n\r\nlambda-extension-identifier: i\r\nLambda-Extension-Accept-Feature: f\r\nLambda-Extension-Function-Error-Type: e\r\n\r\n",
			path: "/a", keep: true, want: func(q *request) bool {
				return q.extension == "n" && q.identifier == "i" && q.features == "f" && q.extensionType == "e"
			}},

		{in: "", err: io.EOF},
		{in: "\r\n\r\n", err: io.EOF},
		{in: "GET /a", err: io.ErrUnexpectedEOF},
		{in: "GET /a HTTP/1.1\r\nHost: x\r\n", err: io.ErrUnexpectedEOF},
		{in: "GET /a HTTP/2.0\r\n\r\n", err: errVersion},
		{in: "PRI * HTTP/2.0\r\n\r\n", err: errVersion},
		{in: "GET /a\r\n\r\n", err: errMalformed},
		{in: "GET  /a HTTP/1.1\r\n\r\n", err: errMalformed},
		{in: "GET /a b HTTP/1.1\r\n\r\n", err: errMalformed},
		{in: "GET /a\tb HTTP/1.1\r\n\r\n", err: errMalformed},
		{in: "G(T /a HTTP/1.1\r\n\r\n", err: errMalformed},
		{in: "GET a HTTP/1.1\r\n\r\n", err: errMalformed},
		{in: "GET http://host HTTP/1.1\r\n\r\n", err: errMalformed},
		{in: "\x16\x03\x01\x02\n\n", err: errMalformed},
		{in: "GET /a HTTP/1.1\r\nno colon\r\n\r\n", err: errMalformed},
		{in: "GET /a HTTP/1.1\r\n: v\r\n\r\n", err: errMalformed},
		{in: "GET /a HTTP/1.1\r\nA : v\r\n\r\n", err: errMalformed},
		{in: "GET /a HTTP/1.1\r\nA: v\r\n folded\r\n\r\n", err: errMalformed},
		{in: "GET /a HTTP/1.1\r\nA: v\rB: w\r\n\r\n", err: errMalformed},
		{in: "GET /a HTTP/1.1\r\nA: \x00\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.1\r\nContent-Length: +1\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", err: errMalformed},
		{in: "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", err: errMalformed},
		{in: "GET /a HTTP/1.1\r\nA: " + strings.Repeat("x", maxHead) + "\r\n\r\n", err: errHeadTooLong},
		{in: "GET /a HTTP/1.1\r\n" + strings.Repeat("A: x\r\n", maxHead/6) + "\r\n\r\n", err: errHeadTooLong},
		{in: "GET /a HTTP/1.1\r\nA: " + strings.Repeat("x", maxHead-100) + "\r\n\r\n", path: "/a", keep: true},
	} {
		sources := map[string]io.Reader{"whole": strings.NewReader(tt.in), "halves": iotest.HalfReader(strings.NewReader(tt.in))}
		if len(tt.in) < 1000 {
			sources["bytes"] = iotest.OneByteReader(strings.NewReader(tt.in))
		}
		for name, src := range sources {
			r, q := reader{src: src}, request{}
			err := r.head(&q)
			if err != tt.err || err == nil && (string(q.path) != tt.path || q.close == tt.keep || tt.want != nil && !tt.want(&q)) {
				t.Errorf("%s: %.80q: %v, %+v", name, tt.in, err, q)
			}
			r.shrink()
			if err == nil && len(r.buf) > readBuffer {
				t.Errorf("the buffer stayed at %d", len(r.buf))
			}
		}
	}
}

func TestBody(t *testing.T) {
	long := strings.Repeat("0123456789", 10000)
	for _, tt := range []struct {
		in, want, rest string
		err            error
		errorType      string
	}{
		{in: "Content-Length: 5\r\n\r\n12345GET", want: "12345", rest: "GET"},
		{in: "Content-Length: 0\r\n\r\nGET", rest: "GET"},
		{in: "X: y\r\n\r\nGET", rest: "GET"},
		{in: "Content-Length: 100000\r\n\r\n" + long + "GET", want: long, rest: "GET"},
		{in: "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0003;ext=\"x\"\r\n678\r\n0\r\n\r\nGET", want: "12345678", rest: "GET"},
		{in: "Transfer-Encoding: chunked\r\n\r\n5\n12345\na \n0123456789\n0\n\nGET", want: "123450123456789", rest: "GET"},
		{in: "Transfer-Encoding: chunked\r\n\r\n186A0\r\n" + long + "\r\n0\r\n\r\nGET", want: long, rest: "GET"},
		{in: "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nlambda-runtime-function-error-type: T\r\n\r\nGET", errorType: "T", rest: "GET"},
		{in: "Transfer-Encoding: chunked\r\n\r\n0\r\nbad\r\n\r\n", err: errMalformed},
		{in: "Transfer-Encoding: chunked\r\n\r\n\r\n", err: errMalformed},
		{in: "Transfer-Encoding: chunked\r\n\r\n5\r\n123456\r\n", err: errMalformed},
		{in: "Transfer-Encoding: chunked\r\n\r\n0x5\r\n12345\r\n", err: errMalformed},
		{in: "Transfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("x", 3*maxChunkLine) + "\r\n", err: errMalformed},
		{in: "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 1100) + "\r\n", err: errHeadTooLong},
		{in: "Transfer-Encoding: chunked\r\n\r\n5\r\n123", err: errTruncated},
		{in: "Content-Length: 5\r\n\r\n123", err: errTruncated},
		{in: "Content-Length: 100001\r\n\r\n" + long + "12345", err: errTooLarge},
		{in: "Transfer-Encoding: chunked\r\n\r\n186A0\r\n" + long + "\r\n1\r\n1\r\n0\r\n\r\n", err: errTooLarge},
	} {
		in := "POST / HTTP/1.1\r\n" + tt.in
		for name, src := range map[string]io.Reader{"whole": strings.NewReader(in), "bytes": iotest.OneByteReader(strings.NewReader(in)),
			"data with EOF": iotest.DataErrReader(strings.NewReader(in))} {
			r, q, b := reader{src: src}, request{}, body{}
			if err := r.head(&q); err != nil {
				t.Fatalf("%.80q: %v", tt.in, err)
			}
			b.begin(&r, &q)
			got, err := b.readAll(100000)
			if err != tt.err {
				t.Errorf("%s: %.80q: error %v, want %v", name, tt.in, err, tt.err)
				continue
			}
			if err != nil {
				continue
			}
			more, _ := io.ReadAll(io.MultiReader(bytes.NewReader(r.buf[r.start:r.end]), src))
			if string(got) != tt.want || string(more) != tt.rest || b.errorType != tt.errorType {
				t.Errorf("%s: %.80q: got %.80q, rest %.80q, %q", name, tt.in, got, more, b.errorType)
			}
		}
	}
}

// FuzzRequest holds the parser against the one of net/http: what both accept they must understand alike, so that nothing
// sneaks a second request past it; and however the bytes are cut, the outcome is the same.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: x\r\n\r\n",
		"POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: T\r\n\r\nmore",
		"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab",
		"PUT /a HTTP/1.1\nHost: x\nExpect: 100-continue\nContent-Length: 00001\n\nx",
		"POST http://h/a?b HTTP/1.1\r\nHost: x\r\nConnection: close, x\r\nTransfer-Encoding: Chunked\r\n\r\n00a\r\n0123456789\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"\r\nGET * HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	type outcome struct {
		head, body error
		q          request
		path, data string
		rest       string
		errorType  string
	}
	parse := func(src io.Reader) (o outcome) {
		r, b := reader{src: src}, body{}
		if o.head = r.head(&o.q); o.head != nil {
			o.q = request{}
			return o
		}
		o.path, o.q.path = string(o.q.path), nil
		b.begin(&r, &o.q)
		var data []byte
		data, o.body = b.readAll(1 << 20)
		o.data, o.errorType = string(data), b.errorType
		if o.body == nil {
			rest, _ := io.ReadAll(io.MultiReader(bytes.NewReader(r.buf[r.start:r.end]), src))
			o.rest = string(rest)
		}
		return o
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		o := parse(bytes.NewReader(in))
		if p := parse(iotest.OneByteReader(bytes.NewReader(in))); !sameOutcome(o.head, p.head) || !sameOutcome(o.body, p.body) || o.q.length != p.q.length ||
			o.path != p.path || o.data != p.data || o.rest != p.rest || o.errorType != p.errorType {
			t.Fatalf("%+v\n%+v", o, p)
		}
		if o.head != nil || o.body != nil {
			return
		}
		// An accepted request ends where net/http says, if that accepts it.
		br := bufio.NewReader(bytes.NewReader(bytes.TrimLeft(in, "\r\n")))
		std, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		data, err := io.ReadAll(std.Body)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(br)
		if string(data) != o.data || string(rest) != o.rest {
			t.Fatalf("net/http reads %q and leaves %q; we read %q and leave %q", data, rest, o.data, o.rest)
		}
	})
}

// sameOutcome ignores where an unfinished request ended.
func sameOutcome(a, b error) bool { return errors.Is(a, b) || errors.Is(b, a) }

// FuzzServer throws bytes at a live server.
func FuzzServer(f *testing.F) {
	const next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n"
	for _, s := range []string{
		next,
		next + "POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nContent-Length: 2\r\n\r\nok" + next,
		next + "POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		next + "POST /2018-06-01/runtime/invocation/a/error HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
		next + next + "GET /2018-06-01/ping HTTP/1.0\r\n\r\n",
		"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}POST /2018-06-01/runtime/init/error HTTP/1.1\r\n\r\n",
		"POST /2020-01-01/extension/register HTTP/1.1\r\nLambda-Extension-Name: x\r\nContent-Length: 21\r\n\r\n{\"events\":[\"INVOKE\"]}",
		"PUT /2022-07-01/telemetry HTTP/1.1\r\nLambda-Extension-Identifier: 00000000-0000-0000-0000-000000000000\r\nContent-Length: 2\r\n\r\n{}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := New(Options{FunctionName: "f"})
		r, err := s.Invoke(&Invocation{RequestID: "a", Event: []byte("1"), Stream: len(in)%2 == 0})
		if err != nil {
			t.Fatal(err)
		}
		here, there := net.Pipe()
		s.accept(there)
		go io.Copy(io.Discard, here)
		here.SetWriteDeadline(time.Now().Add(2 * time.Minute))
		here.Write(in)
		here.Close()
		if resp := r.Abort(errHungUp); resp != nil && resp.Stream != nil {
			io.Copy(io.Discard, resp.Stream)
		}
		s.Close()
		wait(t, "done", r.Done())
	})
}

// FuzzDocuments feeds the documents that processes send.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"working_directory":"/w","paths":["a"],"exceptions":[{"message":"m","type":"T","stack":[{"path":"p","line":3,"label":"l"}]}]}`))
	f.Add([]byte(`{"errorMessage":"m","errorType":"t","stackTrace":["s"],"errorCause":{"message":"c"}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if out := cleanCause(in); len(out) > maxCause {
			t.Fatalf("%d bytes", len(out))
		}
		splitCause(in)
		normalizeErrorType(string(in))
		parseSubscription(telemetryAPI, in)
		parseSubscription(logsAPI, in)
	})
}
