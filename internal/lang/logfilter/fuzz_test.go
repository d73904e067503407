package logfilter

import (
	"errors"
	"strings"
	"testing"
)

func FuzzCompile(f *testing.F) {
	var messages []string
	for _, line := range lines(f, "match.txt") {
		if p, ok := strings.CutPrefix(line, "pattern "); ok {
			f.Add(p, "a message")
		} else {
			messages = append(messages, line[2:])
		}
	}
	for _, p := range lines(f, "invalid.txt") {
		f.Add(p, `{"a": 1}`)
	}
	f.Fuzz(func(t *testing.T, pattern, message string) {
		filter, err := Compile(pattern)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Offset < 0 || e.Offset > len(pattern) || e.Reason == "" {
				t.Fatalf("Compile(%q) = %#v", pattern, err)
			}
			return
		}
		for _, m := range append(messages, message) {
			if first := filter.Match(m); filter.Match(m) != first {
				t.Fatalf("pattern %q on %q: not always the same answer", pattern, m)
			}
		}
	})
}

var benchCases = []struct{ name, pattern, message string }{
	{"terms", `ERROR -Timeout "not found"`, "2026-01-02T03:04:05.678Z\tERROR\tthe item was not found in the table"},
	{"json", `{ $.level = "error" && ($.status >= 500 || $.path = "/api/*") }`, `{"timestamp":"2026-01-02T03:04:05.678Z","level":"error","requestId":"8f507cfc-1111-4697-b07a-ac58fc914c95","status":404,"path":"/api/items","tags":["a","b"],"user":{"id":12,"name":"x"}}`},
	{"fields", `[ip, user, username, timestamp, request = *html*, status = 4*, bytes > 1000]`, `127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534`},
	{"regex", `%\d{3} took [0-9]+ms%`, "GET / 200 took 12ms"},
}

func BenchmarkMatch(b *testing.B) {
	for _, c := range benchCases {
		b.Run(c.name, func(b *testing.B) {
			f, err := Compile(c.pattern)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(c.message)))
			for b.Loop() {
				if !f.Match(c.message) {
					b.Fatal("no match")
				}
			}
		})
	}
}
