package lambda

import (
	"regexp"
	"strings"
	"testing"
)

// modelPattern is NamespacedFunctionName's, with the regions that AWS has added since.
var modelPattern = regexp.MustCompile(`^(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?$`)

var names = []struct {
	in   string
	want reference
	ok   bool
}{
	{"f", reference{name: "f"}, true},
	{"f:1", reference{name: "f", qualifier: "1"}, true},
	{"f:$LATEST", reference{name: "f", qualifier: "$LATEST"}, true},
	{"f:prod", reference{name: "f", qualifier: "prod"}, true},
	{"function:f", reference{name: "f"}, true},
	{"function:f:2", reference{name: "f", qualifier: "2"}, true},
	{"function", reference{name: "function"}, true},
	{"function:$LATEST", reference{name: "function", qualifier: "$LATEST"}, true},
	{"111122223333:function:f", reference{account: "111122223333", name: "f"}, true},
	{"111122223333:f", reference{account: "111122223333", name: "f"}, true},
	{"111122223333:function:f:prod", reference{account: "111122223333", name: "f", qualifier: "prod"}, true},
	{"111122223333", reference{name: "111122223333"}, true},
	{"us-east-1:111122223333:function:f", reference{region: "us-east-1", account: "111122223333", name: "f"}, true},
	{"arn:aws:lambda:us-east-1:111122223333:function:f", reference{region: "us-east-1", account: "111122223333", name: "f"}, true},
	{"arn:aws:lambda:us-east-1:111122223333:function:f:7", reference{region: "us-east-1", account: "111122223333", name: "f", qualifier: "7"}, true},
	{"arn:aws:lambda:us-east-1:111122223333:function", reference{region: "us-east-1", account: "111122223333", name: "function"}, true},
	{"arn:aws-us-gov:lambda:us-gov-west-1:111122223333:function:f", reference{region: "us-gov-west-1", account: "111122223333", name: "f"}, true},
	{"arn:aws-iso-b:lambda:us-isob-east-1:111122223333:function:f", reference{region: "us-isob-east-1", account: "111122223333", name: "f"}, true},
	{"eusc-de-east-1:f", reference{region: "eusc-de-east-1", name: "f"}, true},

	{"", reference{}, false},
	{"*", reference{}, false},
	{"my-function!", reference{}, false},
	{"f:", reference{}, false},
	{":f", reference{}, false},
	{"f:$LATES", reference{}, false},
	{"f:$latest", reference{}, false},
	{"invalid-account:function:f", reference{}, false},
	{"invalid:function:name", reference{}, false},
	{"function:f:$LATEST:extra", reference{}, false},
	{"arn:aws:lambda:invalid-region:111122223333:function:f", reference{}, false},
	{"arn:aws:ec2:us-east-1:111122223333:instance:i-1", reference{}, false},
	{"arn:aws:lambda::111122223333:function:f", reference{}, false},
	{"arn:aws:lambda:us-east-1::function:f", reference{}, false},
	{"arn:aws:lambda:us-east-1:111122223333:function:f:1:2", reference{}, false},
	{"arn:aws:lambda:us-east-1:123400000000@function:f", reference{}, false},
}

func TestParseReference(t *testing.T) {
	for _, c := range names {
		got, ok := parseReference(c.in)
		if ok != c.ok || got != c.want {
			t.Errorf("parseReference(%q) = %+v, %v; want %+v, %v", c.in, got, ok, c.want, c.ok)
		}
		if modelPattern.MatchString(c.in) != c.ok {
			t.Errorf("the model's pattern disagrees on %q", c.in)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		parseReference("arn:aws:lambda:us-east-1:111122223333:function:f:prod")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParseReference compares the parser with the model's pattern, which decides what AWS takes.
func FuzzParseReference(f *testing.F) {
	for _, c := range names {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseReference(s)
		if want := modelPattern.MatchString(s); ok != want {
			t.Fatalf("parseReference(%q) = %v, the pattern says %v", s, ok, want)
		}
		if !ok {
			return
		}
		m := modelPattern.FindStringSubmatch(s)
		want := reference{region: strings.TrimSuffix(m[3], ":"), account: strings.TrimSuffix(m[9], ":"), name: m[11], qualifier: m[13]}
		if got != want {
			t.Fatalf("parseReference(%q) = %+v, the pattern says %+v", s, got, want)
		}
	})
}
