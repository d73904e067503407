package eventpattern

import (
	"strings"
	"testing"
)

func TestMismatches(t *testing.T) {
	for _, c := range []struct {
		dialect              Dialect
		pattern, record, why string
		data                 string
	}{
		{SQS, `{"body":{"a":[1]}}`, `{"messageId":"m"}`, "", `{"a":1}`},
		{SQS, `{"body":{"a":[1],"b":{"c":[{"prefix":"x"}],"d":["e"]}}}`, `{}`, "body.a does not match, body.b.d is missing", `{"a":2,"b":{"c":"xy"}}`},
		{SQS, `{"body":{"a":[1]}}`, `{}`, "body is no JSON object, the pattern asks for its fields", `plain`},
		{SQS, `{"body":["plain"]}`, `{}`, "body is JSON, the pattern asks for a string", `{}`},
		{SQS, `{"body":["plain"]}`, `{}`, "body does not match", `other`},
		{SQS, `{"attributes":{"SenderId":["me"]}}`, `{"attributes":{"SenderId":"you"}}`, "attributes.SenderId does not match", ``},
		{Kinesis, `{"data":{"$or":[{"a":[1],"b":[1]},{"c":[{"exists":false}]}]}}`, `{}`, "data.c is there", `{"c":1}`},
		{Events, `{"source":["x"],"detail":{"n":[{"numeric":[">",1]}]}}`, `{"source":"x","detail":{"n":0}}`, "detail.n does not match", ``},
		{DynamoDBStreams, `{"dynamodb":{"Keys":{"k":{"S":["a"]}}}}`, `[]`, "the record is no JSON object", ``},
	} {
		p, err := Parse(c.dialect, []byte(c.pattern))
		if err != nil {
			t.Fatal(err)
		}
		why := p.Mismatches([]byte(c.record), []byte(c.data))
		if got := strings.Join(why, ", "); got != c.why {
			t.Errorf("%s of %s %s: %q, not %q", c.pattern, c.record, c.data, got, c.why)
		}
		if matches := p.MatchRecord([]byte(c.record), []byte(c.data)); matches != (why == nil) {
			t.Errorf("%s of %s %s: matches %t, but %q", c.pattern, c.record, c.data, matches, why)
		}
	}
}
