package arn

import "testing"

func TestParse(t *testing.T) {
	const s = "arn:aws:lambda:us-east-1:123456789012:function:f:1"
	a, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	if want := New("lambda", "us-east-1", "123456789012", "function:f:1"); a != want {
		t.Errorf("Parse(%q) = %+v, want %+v", s, a, want)
	}
	if a.String() != s {
		t.Errorf("String() = %q, want %q", a.String(), s)
	}
	for _, bad := range []string{"", "arn", "arn:aws:s3", "arn:aws:s3:::", "arn::s3:::b", "x:aws:s3:::b"} {
		if Is(bad) {
			t.Errorf("Is(%q) = true", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("arn:aws:iam::123456789012:role/r")
	f.Add("arn:aws:s3:::bucket/key:with:colons")
	f.Add("arn:::::")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err == nil && a.String() != s {
			t.Errorf("Parse(%q).String() = %q", s, a.String())
		}
	})
}
