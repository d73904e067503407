package eventpattern

import "testing"

func TestMatchRecord(t *testing.T) {
	const record = `{"messageId":"1","body":"not looked at","eventSource":"aws:sqs","attributes":{"ApproximateReceiveCount":"1"}}`
	for _, c := range []struct {
		pattern, data string
		want          bool
	}{
		{`{"body":{"a":["x"]}}`, `{"a":"x"}`, true},
		{`{"body":{"a":["x"]}}`, `[{"a":"y"},{"a":"x"}]`, true},
		{`{"body":{"a":["x"]}}`, `{"a":"y"}`, false},
		{`{"body":{"a":["x"]}}`, `plain`, false},
		{`{"body":{"a":[{"exists":false}]}}`, `{"b":1}`, true},
		{`{"body":{"a":[{"exists":false}]}}`, `plain`, false},
		{`{"body":["plain"]}`, `plain`, true},
		{`{"body":["plain"]}`, `"plain"`, false},
		{`{"body":["not looked at"]}`, `plain`, false},
		{`{"body":[{"prefix":"pl"}]}`, `plain`, true},
		{`{"body":[{"anything-but":"plain"}]}`, `{"a":1}`, false},
		{`{"body":[{"exists":false}]}`, `{"a":1}`, false},
		{`{"eventSource":["aws:sqs"]}`, `{"a":1}`, true},
		{`{"eventSource":["aws:sqs"]}`, `plain`, true},
		{`{"eventSource":["aws:kinesis"]}`, `plain`, false},
		{`{"body":{"a":["x"]},"attributes":{"ApproximateReceiveCount":["1"]}}`, `{"a":"x"}`, true},
		{`{"body":{"a":["x"]},"attributes":{"ApproximateReceiveCount":["2"]}}`, `{"a":"x"}`, false},
		{`{"$or":[{"body":["plain"]},{"body":{"a":["x"]}}]}`, `{"a":"x"}`, true},
		{`{"$or":[{"body":["plain"]},{"body":{"a":["x"]}}]}`, `plain`, true},
	} {
		p, err := Parse(SQS, []byte(c.pattern))
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
		} else if got := p.MatchRecord([]byte(record), []byte(c.data)); got != c.want {
			t.Errorf("%s: %s: %v", c.pattern, c.data, got)
		}
	}

	p, err := Parse(DynamoDBStreams, []byte(`{"dynamodb":{"NewImage":{"n":{"N":["1"]}}}}`))
	if err != nil || !p.MatchRecord([]byte(`{"dynamodb":{"NewImage":{"n":{"N":"1"}}}}`), nil) {
		t.Error(err)
	}

	const streamed = `{"kinesis":{"partitionKey":"k","data":"e30="},"eventSource":"aws:kinesis"}`
	for pattern, want := range map[string]bool{
		`{"partitionKey":["k"]}`:                                  true,
		`{"partitionKey":["k"],"eventSource":["aws:kinesis"]}`:    true,
		`{"partitionKey":["k"],"data":{"a":["x"]}}`:               true,
		`{"partitionKey":["x"],"data":{"a":["x"]}}`:               false,
		`{"partitionKey":[{"exists":false}]}`:                     false,
		`{"kinesis":{"partitionKey":["k"]},"data":{"a":["x"]}}`:   true,
		`{"kinesis":{"partitionKey":["x"]}}`:                      false,
		`{"$or":[{"partitionKey":["x"]},{"partitionKey":["k"]}]}`: true,
	} {
		if p, err := Parse(Kinesis, []byte(pattern)); err != nil || p.MatchRecord([]byte(streamed), []byte(`{"a":"x"}`)) != want {
			t.Errorf("%s: not %v, %v", pattern, want, err)
		}
	}
}
