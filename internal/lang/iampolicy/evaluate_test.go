package iampolicy

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/quick"
)

func mustCompile(t testing.TB, kind Kind, version, id, statements string) *Compiled {
	t.Helper()
	p, err := Parse(`{"Version":"`+version+`","Statement":`+statements+`}`, kind)
	if err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	return Compile(p, id)
}

// cases yields the lines of a file of cases, with their numbers.
func cases(t *testing.T, name string, each func(at, line string)) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			each(fmt.Sprintf("%s:%d: %s", name, n, line), line)
		}
	}
}

func TestMatching(t *testing.T) {
	c := Values{}
	c.Set("aws:username", "alice")
	c.Set("aws:PrincipalTag/team", "red")
	c.Set("aws:PrincipalTag/star", "*")
	c.Set("aws:PrincipalTag/Empty", "")
	c.Set("aws:TagKeys", "a", "b")
	cases(t, "match.txt", func(at, line string) {
		if line == "" {
			return
		}
		f := strings.Fields(line)
		x := syntax{wildcards: true, variables: true}
		if f[0] == "action" {
			x = syntax{wildcards: true, fold: true}
		}
		p := compilePattern(f[1], x)
		if got := p.match(f[2], c); got != (f[3] == "yes") {
			t.Errorf("%s: %v", at, got)
		}
	})
}

func TestConditions(t *testing.T) {
	cases(t, "conditions.txt", func(at, line string) {
		if line == "" {
			return
		}
		op, rest, _ := strings.Cut(line, " ")
		rest, want, _ := cutLast(rest, " ")
		var values, request json.RawMessage
		d := json.NewDecoder(strings.NewReader(strings.TrimSuffix(rest, " -")))
		if err := d.Decode(&values); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		c := Values{}
		c.Set("aws:username", "alice")
		if !strings.HasSuffix(rest, " -") {
			if err := d.Decode(&request); err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			var list []string
			if err := json.Unmarshal(request, &list); err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			c.Set("Test:Key", list...)
		}
		for _, effect := range []string{"Allow", "Deny"} {
			p := mustCompile(t, Identity, version2012, "p", `{"Effect":"`+effect+`","Action":"*","Resource":"*","Condition":{"`+op+`":{"test:KEY":`+string(values)+`}}}`)
			_, got := p.statements[0].applies(&Request{Action: "s3:GetObject", Resource: "*", Context: c})
			if got != (want == "true") {
				t.Errorf("%s: %s: %v", at, effect, got)
			}
		}
	})
}

var types = map[string]PolicyType{"none": NoPolicy, "scp": ServiceControlPolicy, "resource": ResourcePolicy,
	"trust": TrustPolicy, "identity": IdentityPolicy, "boundary": BoundaryPolicy, "session": SessionPolicy}

var callers = map[string]Caller{
	"user":      {Type: User, Account: "111111111111", ARN: "arn:aws:iam::111111111111:user/alice", ID: "AIDAAAAAAAAAAAAAAAAAA"},
	"otheruser": {Type: User, Account: "222222222222", ARN: "arn:aws:iam::222222222222:user/alice", ID: "AIDABBBBBBBBBBBBBBBBB"},
	"role": {Type: RoleSession, Account: "111111111111", ARN: "arn:aws:sts::111111111111:assumed-role/worker/s1",
		Issuer: "arn:aws:iam::111111111111:role/path/worker", ID: "AROAAAAAAAAAAAAAAAAAA:s1"},
	"federated": {Type: FederatedUserSession, Account: "111111111111", ARN: "arn:aws:sts::111111111111:federated-user/bob",
		Issuer: "arn:aws:iam::111111111111:user/alice", ID: "111111111111:bob"},
	"root":      {Type: Root, Account: "111111111111", ARN: "arn:aws:iam::111111111111:root", ID: "111111111111"},
	"service":   {Type: Service, Name: "s3.amazonaws.com"},
	"web":       {Type: WebIdentity, Name: "token.actions.example.com"},
	"anonymous": {},
}

func TestDecisions(t *testing.T) {
	var p Policies
	r := Request{}
	reset := func() {
		p, r = Policies{}, Request{Caller: callers["user"], ResourceAccount: "111111111111"}
	}
	reset()
	cases(t, "decisions.txt", func(at, line string) {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "":
			reset()
			return
		case "caller":
			c, ok := callers[rest]
			if !ok {
				t.Fatalf("%s: unknown caller", at)
			}
			if r.Caller = c; rest == "otheruser" {
				r.ResourceAccount = c.Account
			}
			return
		case "owner":
			r.ResourceAccount = rest
			return
		case "ask":
			question, want, _ := strings.Cut(rest, " -> ")
			f := strings.SplitN(question, " ", 3)
			c := Values{}
			if len(f) == 3 {
				var m map[string][]string
				if err := json.Unmarshal([]byte(f[2]), &m); err != nil {
					t.Fatalf("%s: %v", at, err)
				}
				for k, v := range m {
					c.Set(k, v...)
				}
			}
			r.Action, r.Resource, r.Context = f[0], f[1], c
			d := Evaluate(&r, &p)
			got := "lacks"
			if d.Allowed {
				got = "allow"
			} else if d.ExplicitDeny {
				got = "deny"
			}
			for name, k := range types {
				if k == d.Type {
					got += " " + name
				}
			}
			if d.Match.Sid != "" {
				got += " " + d.Match.Sid
			}
			if got != want {
				t.Errorf("%s: got %s", at, got)
			}
			if (d.Match.Statement >= 0) != (d.ExplicitDeny || d.Allowed && d.Type != NoPolicy) {
				t.Errorf("%s: match %+v", at, d.Match)
			}
			if d.Match.Statement >= 0 && !slices.Contains(slices.Collect(Matches(&r, &p)), d.Match) {
				t.Errorf("%s: Matches does not have %+v", at, d.Match)
			}
			return
		}
		version := version2012
		if s, ok := strings.CutPrefix(rest, "2008 "); ok {
			version, rest = version2008, s
		}
		switch word {
		case "identity":
			p.Identity = append(p.Identity, mustCompile(t, Identity, version, "id", rest))
		case "session":
			p.Session = append(p.Session, mustCompile(t, Identity, version, "session", rest))
		case "scp":
			p.ServiceControl = append(p.ServiceControl, []*Compiled{mustCompile(t, Identity, version, "scp", rest)})
		case "boundary":
			p.Boundary = mustCompile(t, Identity, version, "boundary", rest)
		case "resource":
			p.Resource = mustCompile(t, Resource, version, "resource", rest)
		case "trust":
			p.Trust = mustCompile(t, Trust, version, "trust", rest)
		default:
			t.Fatalf("%s: unknown line", at)
		}
	})
}

func TestMessages(t *testing.T) {
	r := &Request{Action: "lambda:InvokeFunction", Resource: "arn:aws:lambda:us-east-1:111111111111:function:f", Caller: callers["user"]}
	deny := mustCompile(t, Identity, version2012, "p", `{"Sid":"x","Effect":"Deny","Action":"*","Resource":"*"}`)
	const who = "User: arn:aws:iam::111111111111:user/alice is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:111111111111:function:f "
	for _, c := range []struct {
		p    Policies
		want string
	}{
		{Policies{}, "because no identity-based policy allows the lambda:InvokeFunction action"},
		{Policies{Identity: []*Compiled{deny}}, "with an explicit deny in an identity-based policy"},
		{Policies{Boundary: deny}, "with an explicit deny in a permissions boundary"},
		{Policies{Session: []*Compiled{deny}}, "with an explicit deny in a session policy"},
		{Policies{Resource: deny}, "with an explicit deny in a resource-based policy"},
		{Policies{Trust: deny}, "with an explicit deny in the role trust policy"},
		{Policies{ServiceControl: [][]*Compiled{{deny}}}, "with an explicit deny in a service control policy"},
		{Policies{ServiceControl: [][]*Compiled{{}}}, "because no service control policy allows the lambda:InvokeFunction action"},
	} {
		d := Evaluate(r, &c.p)
		if got := d.Message(r); got != who+c.want {
			t.Errorf("got  %s\nwant %s", got, who+c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	p := mustCompile(t, Identity, version2012, "p", `[{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/${aws:UserName}",
		"Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:s3:::${aws:PrincipalTag/T}"},"StringLike":{"s3:Prefix":["${aws:userid}*","a"]}}}]`)
	want := []string{"aws:principaltag/t", "aws:sourcearn", "aws:userid", "aws:username", "s3:prefix"}
	if got := p.Keys(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What the grammar does not have allows nothing, should it get past Parse.
func TestUnknownOperator(t *testing.T) {
	for effect, want := range map[string]bool{"Allow": false, "Deny": true} {
		p := Compile(&Policy{Version: version2012, Statements: []Statement{{Effect: effect, Action: []string{"*"}, Resource: []string{"*"},
			Condition: map[string]map[string][]string{"StringEqual": {"a": {"b"}}}}}}, "p")
		if _, got := p.statements[0].applies(&Request{Action: "s3:GetObject", Resource: "*"}); got != want {
			t.Errorf("%s applies: %v", effect, got)
		}
	}
}

// Patterns match as the regular expressions do that say the same.
func TestPatternsAgainstRegexps(t *testing.T) {
	text := func(b []byte, from string) string {
		s := make([]byte, len(b)%12)
		for i := range s {
			s[i] = from[int(b[i])%len(from)]
		}
		return string(s)
	}
	check := func(a, b []byte) bool {
		p, s := text(a, "ab*?"), text(b, "ab")
		re := regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".").Replace(p) + "$")
		c := compilePattern(p, syntax{wildcards: true})
		if c.match(s, nil) != re.MatchString(s) {
			t.Logf("pattern %q, text %q", p, s)
			return false
		}
		return true
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 20000}); err != nil {
		t.Error(err)
	}
}

func benchmarkPolicies(t testing.TB) (*Request, *Policies) {
	var statements []string
	for i := range 50 {
		statements = append(statements, fmt.Sprintf(`{"Sid":"s%d","Effect":"Allow","Action":["svc%d:Get*","svc%d:Put*","lambda:List%d*","dynamodb:*Item"],
			"Resource":["arn:aws:lambda:us-east-1:111111111111:function:f%d-*","arn:aws:s3:::bucket-${aws:username}/%d/*"],
			"Condition":{"StringEquals":{"aws:RequestedRegion":["us-east-1","eu-west-1"]},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"Bool":{"aws:SecureTransport":"true"}}}`,
			i, i, i, i, i, i))
	}
	statements[49] = `{"Sid":"hit","Effect":"Allow","Action":"lambda:Invoke*","Resource":"arn:aws:lambda:*:111111111111:function:*",
		"Condition":{"StringLike":{"aws:PrincipalTag/team":"r*"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}}`
	c := Values{}
	for k, v := range map[string]string{"aws:username": "alice", "aws:SourceIp": "10.1.2.3", "aws:SecureTransport": "true",
		"aws:RequestedRegion": "us-east-1", "aws:PrincipalTag/team": "red", "aws:CurrentTime": "2026-11-24T07:00:00Z"} {
		c.Set(k, v)
	}
	return &Request{Action: "lambda:InvokeFunction", Resource: "arn:aws:lambda:us-east-1:111111111111:function:f7-x", Caller: callers["role"], Context: c},
		&Policies{Identity: []*Compiled{mustCompile(t, Identity, version2012, "p", "["+strings.Join(statements, ",")+"]")}}
}

func TestNoAllocation(t *testing.T) {
	r, p := benchmarkPolicies(t)
	if d := Evaluate(r, p); !d.Allowed || d.Match.Sid != "hit" {
		t.Fatalf("%+v", d)
	}
	for _, action := range []string{"lambda:InvokeFunction", "dynamodb:GetItem", "iam:CreateUser"} {
		r.Action = action
		if n := testing.AllocsPerRun(100, func() { Evaluate(r, p) }); n != 0 {
			t.Errorf("%s: %v allocations", action, n)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	for _, c := range []struct{ name, action, resource string }{
		{"allowed", "lambda:InvokeFunction", "arn:aws:lambda:us-east-1:111111111111:function:f7-x"},
		{"conditions", "dynamodb:PutItem", "arn:aws:lambda:us-east-1:111111111111:function:f7-x"},
		{"variables", "dynamodb:PutItem", "arn:aws:s3:::bucket-alice/49/k"},
		{"denied", "iam:CreateUser", "arn:aws:iam::111111111111:user/x"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r, p := benchmarkPolicies(b)
			r.Action, r.Resource = c.action, c.resource
			b.ReportAllocs()
			for b.Loop() {
				Evaluate(r, p)
			}
		})
	}
}

func BenchmarkParseAndCompile(b *testing.B) {
	const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}`
	b.ReportAllocs()
	for b.Loop() {
		p, err := Parse(document, Identity)
		if err != nil {
			b.Fatal(err)
		}
		Compile(p, "p")
	}
}

// Narrowed policies decide on their action and resource as the whole do, with the same statement.
func TestNarrow(t *testing.T) {
	c := mustCompile(t, Identity, "2012-10-17", "p", `[
		{"Sid":"A","Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::a/*"},
		{"Sid":"B","Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::${aws:username}/*"},
		{"Sid":"C","Effect":"Allow","NotAction":"s3:Put*","Resource":"arn:aws:s3:::c/*"},
		{"Sid":"D","Effect":"Deny","Action":"s3:GetObject","NotResource":["arn:aws:s3:::a/*","arn:aws:s3:::${aws:username}/*","arn:aws:s3:::c/x"]},
		{"Sid":"E","Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]`)
	for _, action := range []string{"s3:GetObject", "s3:PutObject", "sqs:SendMessage"} {
		for _, resource := range []string{"arn:aws:s3:::a/x", "arn:aws:s3:::bob/x", "arn:aws:s3:::c/x", "arn:aws:s3:::c/y", "*"} {
			for _, keys := range []Values{nil, {"aws:username": {"bob"}}, {"aws:username": {"c"}, "aws:securetransport": {"false"}}} {
				r := &Request{Action: action, Resource: resource, Caller: Caller{Type: User, Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/bob"}, Context: keys}
				all := []*Compiled{c}
				want, got := Evaluate(r, &Policies{Identity: all}), Evaluate(r, &Policies{Identity: Narrow(all, action, resource)})
				if got != want {
					t.Errorf("%s on %s with %v: %+v, want %+v", action, resource, keys, got, want)
				}
			}
		}
	}
}
