package iampolicy

import (
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	p, err := Parse(`{"Version":"2012-10-17","Statement":{"Sid":"a","Effect":"Allow","Action":["logs:*"],"Resource":"*",
		"Condition":{"Bool":{"aws:SecureTransport":true},"StringEquals":{"aws:x":["1","2"]}}}}`, Identity)
	if err != nil {
		t.Fatal(err)
	}
	want := &Policy{Version: "2012-10-17", Statements: []Statement{{
		Sid: "a", Effect: "Allow", Action: []string{"logs:*"}, Resource: []string{"*"},
		Condition: map[string]map[string][]string{"Bool": {"aws:SecureTransport": {"true"}}, "StringEquals": {"aws:x": {"1", "2"}}},
	}}}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	p, err = Parse(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`, Trust)
	if err != nil || !reflect.DeepEqual(p.Statements[0].Principal, &Principal{Service: []string{"lambda.amazonaws.com"}}) {
		t.Errorf("trust policy: %+v, %v", p, err)
	}
}

func TestFaults(t *testing.T) {
	cases := []struct {
		kind     Kind
		document string
		want     string
	}{
		{Identity, `{`, "Syntax errors in policy."},
		{Trust, `{`, "This policy contains invalid Json"},
		{Identity, `{"Version":"2012-10-17"}`, "Syntax errors in policy."},
		{Identity, `{"Version":"2020-01-01","Statement":[]}`, "Syntax errors in policy."},
		{Identity, `{"Statement":[{"Action":"s3:*","Resource":"*"}]}`, "Missing required field Effect"},
		{Identity, `{"Statement":[{"Effect":"allow","Action":"s3:*","Resource":"*"}]}`, "Invalid effect: allow"},
		{Identity, `{"Statement":[{"Effect":"Allow","Resource":"*"}]}`, "Policy statement must contain actions."},
		{Identity, `{"Statement":[{"Effect":"Allow","Action":"s3:*"}]}`, "Policy statement must contain resources."},
		{Identity, `{"Statement":[{"Effect":"Allow","Action":"s3","Resource":"*"}]}`, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
		{Identity, `{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"bucket"}]}`, `Resource bucket must be in ARN format or "*".`},
		{Identity, `{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*","Extra":1}]}`, "Syntax errors in policy."},
		{Identity, `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}]}`, "Policy document should not specify a principal."},
		{Identity, `{"Statement":[{"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"}]}`,
			"Statement IDs (SID) in a single policy must be unique."},
		{Trust, `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}]}`, "Has prohibited field Resource"},
		{Trust, `{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole"}]}`, "Missing required field Principal"},
		{Trust, `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject"}]}`, "AssumeRole policy may only specify STS AssumeRole actions."},
		{Resource, `{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`, "Missing required field Principal"},
	}
	for _, c := range cases {
		if _, err := Parse(c.document, c.kind); err == nil || err.Error() != c.want {
			t.Errorf("%s\n  gives %v\n  want  %s", c.document, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":"iam:*","NotResource":["arn:aws:s3:::b/${aws:username}"]}]}`)
	f.Add(`{"Statement":{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":"sts:AssumeRole"}}`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, k := range []Kind{Identity, Trust, Resource} {
			p, err := Parse(s, k)
			if err != nil {
				if _, ok := err.(*Error); !ok {
					t.Fatalf("error of type %T", err)
				}
			} else if len(p.Statements) == 0 {
				t.Fatal("a policy without statements")
			}
		}
	})
}

// The grammar in more of the ways in which documents break it.
func TestStrictness(t *testing.T) {
	statement := func(s string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` + s + `}]}`
	}
	const legacy, syntax = "The policy failed legacy parsing", "Syntax errors in policy."
	cases := []struct {
		kind     Kind
		document string
		want     string // "" is a good document
	}{
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"StringEqual":{"aws:x":"y"}}`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"stringequals":{"aws:x":"y"}}`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"NullIfExists":{"aws:x":"true"}}`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"ForSomeValues:StringEquals":{"aws:x":"y"}}`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"aws:x":"self"}`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":[]`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"aws:x":{"a":1}}}`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"aws:x":null}}`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}`), legacy},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"2020-13-01T00:00:00Z"}}`), legacy},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"NumericEquals":{"s3:max-keys":"ten"}}`), legacy},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}`), legacy},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"yes"}}`), legacy},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"BinaryEquals":{"aws:x":"!"}}`), legacy},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"${aws:x}"}}`), ""},
		{Identity, statement(`"Action":"s3:*","Resource":"*","Action":"sqs:*"`), syntax},
		{Identity, statement(`"action":"s3:*","Resource":"*"`), syntax},
		{Identity, statement(`"Action":"s3:*","NotAction":"s3:*","Resource":"*"`), syntax},
		{Identity, statement(`"Action":"s3:*","Resource":"*","NotResource":"*"`), syntax},
		{Identity, statement(`"Action":7,"Resource":"*"`), syntax},
		{Identity, statement(`"Action":null,"Resource":"*"`), syntax},
		{Identity, statement(`"Action":{"Ref":"x"},"Resource":"*"`), syntax},
		{Identity, statement(`"Action":[["s3:*"]],"Resource":"*"`), syntax},
		{Identity, statement(`"Action":[],"Resource":"*"`), "Policy statement must contain actions."},
		{Identity, statement(`"Action":"s3:*","Resource":[]`), "Policy statement must contain resources."},
		{Identity, statement(`"Action":"s3:a:b","Resource":"*"`), "Actions/Condition can contain only one colon."},
		{Identity, statement(`"Action":"s*:Get","Resource":"*"`), "Vendor s* is not valid"},
		{Identity, statement(`"Action":"a_b:Get","Resource":"*"`), "Vendor a_b is not valid"},
		{Identity, statement(`"Action":"execute-api:Invoke","Resource":"*"`), ""},
		{Identity, statement(`"Action":"*:*","Resource":"*"`), ""},
		{Identity, statement(`"Sid":"a b","Action":"s3:*","Resource":"*"`), "Statement IDs (SID) can only contain letters and digits."},
		{Identity, statement(`"Action":"s3:*","Resource":"arn:foo:s3:::b"`), `Partition "foo" is not valid for resource "arn:foo:s3:::b".`},
		{Identity, statement(`"Action":"s3:*","Resource":"arn:foo"`), `Partition "foo" is not valid for resource "arn:foo:*:*:*:*".`},
		{Identity, statement(`"Action":"s3:*","Resource":"arn:aws"`), "Resource vendor must be fully qualified and cannot contain regexes."},
		{Identity, statement(`"Action":"s3:*","Resource":"arn:aws:s*:::b"`), "Resource vendor must be fully qualified and cannot contain regexes."},
		{Identity, statement(`"Action":"s3:*","Resource":"arn:aws::::b"`), legacy},
		{Identity, statement(`"Action":"s3:*","Resource":"arn:aws:s3:us-east-1::b"`), "Resource arn:aws:s3:us-east-1::b can not contain region information."},
		{Identity, statement(`"Action":"s3:*","Resource":"arn:aws:s3:us-east-1:111111111111:accesspoint/a"`), ""},
		{Identity, statement(`"Action":"iam:*","Resource":"arn:aws:iam:us-east-1:111111111111:role/r"`), "IAM resource arn:aws:iam:us-east-1:111111111111:role/r cannot contain region information."},
		{Identity, statement(`"Action":"iam:*","Resource":"arn:aws:iam::111111111111:rôle/r"`),
			`IAM resource path must either be "*" or start with user/, federated-user/, role/, group/, instance-profile/, mfa/, server-certificate/, policy/, sms-mfa/, saml-provider/, oidc-provider/, report/, access-report/.`},
		{Identity, statement(`"Action":"iam:*","Resource":["arn:aws:iam::*:role/*","arn:aws:iam::111111111111:*","arn:aws:iam::111111111111:ro*"]`), ""},
		{Identity, statement(`"Action":"lambda:*","Resource":["arn:aws:lambda:*","arn:*:lambda:*:*:function:*","arn:aws:lambda:*:*:function:${aws:username}"]`), ""},
		{Identity, `[]`, syntax}, {Identity, `null`, syntax}, {Identity, `"x"`, syntax}, {Identity, `{}`, syntax}, {Identity, `{"Statement":null}`, syntax},
		{Identity, `{"Statement":[null]}`, syntax}, {Identity, `{"Statement":"x"}`, syntax}, {Identity, `{"Statement":[]}`, syntax}, {Identity, statement(`"Action":"s3:*","Resource":"*"`) + "{}", syntax},
		{Identity, `{"Version":"2012-10-17","Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`, syntax},
		{Identity, `{"Version":"2012-10-17","Extra":1,"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`, syntax},
		{Identity, `{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:username}"}]}`, "Policy document must be version 2012-10-17 or greater."},
		{Trust, statement(`"Principal":"lambda.amazonaws.com","Action":"sts:AssumeRole"`), `Invalid principal in policy: "STAR":"lambda.amazonaws.com"`},
		{Trust, statement(`"Principal":{"AWS":"arn:aws:iam::111111111111:user/*"},"Action":"sts:AssumeRole"`), `Invalid principal in policy: "AWS":"arn:aws:iam::111111111111:user/*"`},
		{Trust, statement(`"Principal":{"AWS":"arn:aws:iam::111111111111:group/g"},"Action":"sts:AssumeRole"`), `Invalid principal in policy: "AWS":"arn:aws:iam::111111111111:group/g"`},
		{Trust, statement(`"Principal":{"AWS":"12345"},"Action":"sts:AssumeRole"`), `Invalid principal in policy: "AWS":"12345"`},
		{Trust, statement(`"Principal":{"Service":"lambda"},"Action":"sts:AssumeRole"`), `Invalid principal in policy: "SERVICE":"lambda"`},
		{Trust, statement(`"Principal":{"Service":"*"},"Action":"sts:AssumeRole"`), `Invalid principal in policy: "SERVICE":"*"`},
		{Trust, statement(`"Principal":{"Nobody":"x"},"Action":"sts:AssumeRole"`), "Invalid principal in policy"},
		{Trust, statement(`"Principal":{},"Action":"sts:AssumeRole"`), "Invalid principal in policy"},
		{Trust, statement(`"Principal":{"AWS":["111111111111","arn:aws:iam::111111111111:root","arn:aws:iam::111111111111:role/p/r","arn:aws:sts::111111111111:assumed-role/r/s","AROAAAAAAAAAAAAAAAAAA","*"]},"Action":"sts:AssumeRole"`), ""},
		{Trust, statement(`"Principal":{"Federated":["accounts.example.com","arn:aws:iam::111111111111:saml-provider/p"]},"Action":["sts:AssumeRoleWithSAML","sts:TagSession"]`), ""},
	}
	for _, c := range cases {
		got := ""
		if _, err := Parse(c.document, c.kind); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s\n  gives %q\n  want  %q", c.document, got, c.want)
		}
	}
}

// Whatever parses compiles and evaluates, and a deny is never an allow.
func FuzzEvaluate(f *testing.F) {
	for _, s := range []string{
		`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":"iam:*","NotResource":["arn:aws:s3:::b/${aws:username}"]}]}`,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*${a:b,'c'}?*","Condition":{"ForAllValues:StringLike":{"a:b":"*x*?"},"ArnLike":{"a:b":"arn:${a:b}:*"},"DateEquals":{"a:b":"2020-01-01T00:00Z"}}}}`,
		`{"Statement":{"Effect":"Allow","NotPrincipal":{"AWS":["*"],"Service":"a.b"},"Action":"sts:AssumeRole","Condition":{"IpAddress":{"a:b":"::/0"},"NumericLessThan":{"a:b":"1e3"},"Null":{"a:b":true}}}}`,
	} {
		f.Add(s, "s3:GetObject", "arn:aws:s3:::b/alice", "x")
	}
	f.Fuzz(func(t *testing.T, document, action, resource, value string) {
		for _, kind := range []Kind{Identity, Trust, Resource} {
			p, err := Parse(document, kind)
			if err != nil {
				continue
			}
			c := Compile(p, "p")
			c.Keys()
			for _, who := range callers {
				r := &Request{Action: action, Resource: resource, Caller: who, Context: Values{"a:b": {value}, "aws:username": {value, value}}}
				ps := &Policies{Identity: []*Compiled{c}, Boundary: c}
				if kind == Trust {
					ps = &Policies{Trust: c}
				} else if kind == Resource {
					ps = &Policies{Resource: c}
				}
				if d := Evaluate(r, ps); d.Allowed {
					if d.ExplicitDeny {
						t.Fatalf("%+v", d)
					}
					for m := range Matches(r, ps) {
						if m.Deny && (m.Type != IdentityPolicy && m.Type != BoundaryPolicy || who.Type != Anonymous && who.Type != Service && who.Type != WebIdentity) {
							t.Fatalf("allowed against %+v", m)
						}
					}
				}
			}
		}
	})
}
