package eventpattern

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func FuzzMatch(f *testing.F) {
	var pattern string
	lines(f, "match.txt", func(_ int, line string) {
		if line[0] == '{' {
			pattern = line
		} else {
			f.Add([]byte(pattern), []byte(line[2:]))
		}
	})
	lines(f, "errors.txt", func(_ int, line string) {
		if _, pattern, _ := strings.Cut(line, " "); line[0] != '=' {
			f.Add([]byte(pattern), []byte(`{}`))
		}
	})
	f.Fuzz(func(t *testing.T, pattern, document []byte) {
		var d jsonText
		shallow := bytes.Count(document, []byte("["))+bytes.Count(document, []byte("{")) < maxDepth
		if got, want := d.parse(document), json.Valid(document); got != want && shallow {
			t.Fatalf("reads %q: %v, want %v", document, got, want)
		}
		p, err := Parse(Events, pattern)
		if err != nil {
			if _, ok := err.(*Error); !ok {
				t.Fatal(err)
			}
		} else {
			if !json.Valid(pattern) {
				t.Fatalf("accepts %q", pattern)
			}
			p.Match(document)
		}
		if p, err := Parse(SQS, pattern); err == nil {
			p.MatchRecord(document, pattern)
			if matches, why := p.MatchRecord([]byte(`{"a":1}`), document), p.Mismatches([]byte(`{"a":1}`), document); matches != (why == nil) {
				t.Fatalf("matches: %t, because %q", matches, why)
			}
		}
		for _, scope := range []Scope{MessageAttributes, MessageBody} {
			if p, err := ParseFilterPolicy(pattern, scope); err == nil {
				p.MatchBody(document)
				p.MatchAttributes(map[string]Attribute{"a": {"String.Array", string(document)}, "b": {"Number", string(document)}})
			}
		}
	})
}

type jsonText = document

// What takes long for its size would take for ever with a matcher that tries again.
func TestHostile(t *testing.T) {
	deep := func(n int, open, value, shut string) string {
		return strings.Repeat(open, n) + value + strings.Repeat(shut, n)
	}
	var ors strings.Builder
	for range 9 {
		ors.WriteString(`"$or":[{"a":[1]},{"b":[1]}],`)
	}
	for _, c := range []struct {
		name, pattern, document string
		want                    bool
	}{
		{"wildcards", `{"a":[{"wildcard":"` + strings.Repeat("*a", 200) + `*b"}]}`, `{"a":"` + strings.Repeat("a", 100_000) + `"}`, false},
		{"elements", `{"a":{"x":[1],"y":[1],"z":[1]}}`, `{"a":[` + strings.Repeat(`{"x":1,"y":1},`, 10_000) + `0]}`, false},
		{"arrays in arrays", `{"a":{"x":[1],"y":[1]}}`, `{"a":` + deep(900, `[0,`, `{"x":1}`, `,{"y":1}]`) + `}`, false},
		{"fields", `{` + strings.TrimSuffix(strings.Repeat(`"a":{"x":[1],"b":{"x":[1],"y":[1]}},`, 50), ",") + `}`, `{"a":[` + strings.Repeat(`{"x":1,"b":[{"x":1},{"y":1}]},`, 5_000) + `0]}`, false},
		{"alternatives", `{` + ors.String() + `"c":[1]}`, `{"a":1,"x":[` + strings.Repeat("0,", 50_000) + `0]}`, false},
		{"deep", `{"a":[1]}`, deep(900, `{"a":[`, `1`, `]}`), false},
		{"deep pattern", deep(900, `{"a":`, `[1]`, `}`), deep(900, `{"a":`, `1`, `}`), true},
		{"too deep", `{"a":[1]}`, `{"a":1,"b":` + deep(2000, `[`, ``, `]`) + `}`, false},
	} {
		p, err := Parse(Events, []byte(c.pattern))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := p.Match([]byte(c.document)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	for name, pattern := range map[string]string{
		"alternatives": `{` + ors.String() + ors.String() + `"c":[1]}`,
		"nested":       deep(100, `{"$or":[{"a":[1]},{"b":`, `{"c":[1]}`, `}]}`),
		"deep":         deep(1001, `{"a":`, `[1]`, `}`),
		"dots":         `{"` + strings.Repeat(".", 100_000) + `":1}`,
	} {
		if _, err := Parse(Events, []byte(pattern)); err == nil && name != "nested" {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	event := []byte(`{"version":"0","id":"3e3c153a-8339-4e30-8c35-687ebef853fe","detail-type":"Object Created","source":"aws.s3",` +
		`"account":"123456789012","time":"2024-11-11T21:31:47Z","region":"us-east-1","resources":["arn:aws:s3:::bucket"],` +
		`"detail":{"bucket":{"name":"bucket"},"object":{"key":"uploads/2024/11/picture.png","size":51200,"etag":"b357","sequencer":"0061"},` +
		`"request-id":"N4N7","requester":"123456789012","source-ip-address":"10.0.0.7","reason":"PutObject"}}`)
	for name, pattern := range map[string]string{
		"exact":     `{"source":["aws.s3"],"detail-type":["Object Created"],"detail":{"bucket":{"name":["bucket"]}}}`,
		"operators": `{"source":[{"prefix":"aws."}],"detail":{"object":{"key":[{"wildcard":"uploads/*.png"}],"size":[{"numeric":[">",0,"<",1000000]}]},"source-ip-address":[{"cidr":"10.0.0.0/8"}],"reason":[{"anything-but":["CopyObject"]}],"x":[{"exists":false}]}}`,
		"or":        `{"source":["aws.s3"],"$or":[{"detail":{"reason":["x"]}},{"detail":{"requester":["x"]}},{"detail":{"reason":["PutObject"]}}]}`,
		"none":      `{"source":["aws.ec2"]}`,
	} {
		b.Run(name, func(b *testing.B) {
			p, err := Parse(Events, []byte(pattern))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(event)))
			b.ReportAllocs()
			for b.Loop() {
				if p.Match(event) != (name != "none") {
					b.Fatal("wrong")
				}
			}
		})
	}
}
