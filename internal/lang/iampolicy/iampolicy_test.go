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
