package eventpattern

import (
	"strings"
	"testing"
)

func TestMatchAttributes(t *testing.T) {
	attributes := map[string]Attribute{
		"s":   {"String", "x"},
		"l":   {"String.Label", "x"},
		"n":   {"Number", "99.50"},
		"a":   {"String.Array", `["rugby", 5, true, null, "baseball"]`},
		"e":   {"String.Array", `[]`},
		"bad": {"String.Array", `["x"`},
		"b":   {"Binary", "x"},
		"d.t": {"String", "x"},
		"inf": {"Number", "inf"},
		"ip":  {"String", "10.0.0.7"},
	}
	for _, c := range []struct {
		policy string
		want   bool
	}{
		{`{}`, true},
		{`{"s":["x"]}`, true},
		{`{"s":["x"],"n":[1]}`, false},
		{`{"l":[{"prefix":"x"}]}`, true},
		{`{"n":[99.5]}`, true},
		{`{"n":["99.50"]}`, false},
		{`{"s":[{"numeric":[">",0]}]}`, false},
		{`{"n":[{"numeric":[">",0,"<=",100]}]}`, true},
		{`{"n":[{"exists":true}]}`, true},
		{`{"a":["rugby"]}`, true},
		{`{"a":[5]}`, true},
		{`{"a":[true]}`, true},
		{`{"a":["true"]}`, false},
		{`{"a":[{"anything-but":["rugby","tennis"]}]}`, true},
		{`{"e":[{"exists":true}]}`, false},
		{`{"bad":[{"exists":true}]}`, false},
		{`{"b":[{"exists":true}]}`, false},
		{`{"b":[{"exists":false}],"x":[{"exists":false}]}`, true},
		{`{"x":[null,{"anything-but":"y"}]}`, false},
		{`{"d.t":["x"]}`, true},
		{`{"inf":[{"numeric":[">",0]}]}`, false},
		{`{"ip":[{"cidr":"10.0.0.0/24"}]}`, true},
		{`{"$or":[{"s":["y"]},{"n":[99.5]}],"l":["x"]}`, true},
	} {
		p, err := ParseFilterPolicy([]byte(c.policy), MessageAttributes)
		if err != nil {
			t.Errorf("%s: %v", c.policy, err)
		} else if got := p.MatchAttributes(attributes); got != c.want {
			t.Errorf("%s: %v", c.policy, got)
		}
	}
}

func TestMatchBody(t *testing.T) {
	p, err := ParseFilterPolicy([]byte(`{"Records":{"s3":{"object":{"key":[{"prefix":"auto-"}]}},"eventName":[{"prefix":"ObjectCreated:"}]}}`), MessageBody)
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]bool{
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"auto-1"}}}]}`:                                                                           true,
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":[[{"key":"auto-1"}]]}},{"eventName":"ObjectRemoved:Delete","s3":{"object":{"key":"home-1"}}}]}`: true,
		`{"Records":[{"eventName":"ObjectRemoved:Delete","s3":{"object":{"key":"auto-1"}}}]}`:                                                                        false,
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"home-1"}}}]}`:                                                                           false,
		`plain`: false,
		``:      false,
	} {
		if got := p.MatchBody([]byte(body)); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
	if p, err := ParseFilterPolicy([]byte(`{}`), MessageBody); err != nil || !p.MatchBody([]byte("plain")) {
		t.Error("the empty policy refuses", err)
	}
}

func TestPolicyLimits(t *testing.T) {
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }
	for _, c := range []struct {
		policy string
		ok     bool
	}{
		{`{"a":` + list(150) + `}`, true},
		{`{"a":` + list(151) + `}`, false},
		{`{"a":` + list(15) + `,"b":` + list(10) + `}`, true},
		{`{"a":["x"],"$or":[{"b":` + list(75) + `},{"c":` + list(75) + `}]}`, true},
		{`{"a":["x"],"$or":[{"b":` + list(75) + `},{"c":` + list(76) + `}]}`, false},
		{`{"s":["1","2","3"],"$or":[{"n":["1","2","3","4","5","6"]},{"t":["1","2","3","4"],"$or":[{"m":[1,2,3,4]},{"p":[1,2,3,4,5,6,7]}]}]}`, true},
		{`{"a":["` + strings.Repeat("x", MaxPolicySize-10) + `"]}`, true},
		{`{"a":["` + strings.Repeat("x", MaxPolicySize-9) + `"]}`, false},
	} {
		if _, err := ParseFilterPolicy([]byte(c.policy), MessageBody); (err == nil) != c.ok {
			t.Errorf("%.80s: %v", c.policy, err)
		}
	}
}
