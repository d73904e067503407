package smithy

import "testing"

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		java   string
		yes    []string
		no     []string
		shapes string
	}{
		{`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`, []string{"live", "2024-01-02", "a1", "1a"}, []string{"", "12", "a b", "$LATEST"}, "lambda alias"},
		{`((?!^\d+$)^[0-9a-zA-Z-_]+$)`, []string{"live"}, []string{"1", "", "a.b"}, "lambda URL qualifier"},
		{`[0-9A-Za-z\.\-_]*(?<!\.)`, []string{"bucket", "a.b", ""}, []string{"bucket.", "a/b"}, "lambda bucket"},
		{`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`, []string{"orders", "system", "s.x"}, []string{"system.users", "a$b", ""}, "collection"},
		{`^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`, []string{"abc", "a-c", "a-b-c"}, []string{"ab", "a--c", "-bc", "ab-"}, "iam alias"},
		{`^(?!\s*$).+`, []string{"a", " a"}, []string{"", "  "}, "not blank"},
		{`[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*`, []string{"", "tab\t\r\nü"}, []string{"\x00", "\u0100", "\u007f"}, "iam description"},
		{`(\u002F)|(\u002F[\u0021-\u007E]+\u002F)`, []string{"/", "/a/b/"}, []string{"", "a", "/a", "/a b/"}, "iam path"},
		{`[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*`, []string{"a", "\U0001F600", "\n"}, []string{"\x01"}, "surrogates"},
		{`\p{Print}+`, []string{"a b"}, []string{"", "\t"}, "print"},
		{`[\p{Alnum}-]+`, []string{"a-1"}, []string{"a b"}, "class in a class"},
		{`[\p{L}\p{Z}\p{N}_.:/=+\-@]*`, []string{"ключ 1", ""}, []string{"*"}, "tag"},
		{`^(?![aA]{1}[wW]{1}[sS]{1}:)([\p{L}_.:/=+\-@]+)$`, []string{"name", "aws"}, []string{"aws:x", "AWS:x", ""}, "tag that is not AWS's"},
		{`^(?!(.*[.\/\\]|aws:)).*$`, []string{"catalog", ""}, []string{"a.b", `a\b`, "aws:x"}, "catalog"},
		{`(?!\s*$).+|(\$(\.[\w/_-]+(\[(\d+|\*)\])*)*)`, []string{"a", "$.x"}, []string{" ", ""}, "an alternative besides"},
		{`[\S]{1,2048}`, []string{"a"}, []string{"", "a b"}, "long repeat"},
		{`.*`, []string{"", "x"}, []string{"a\nb"}, "the dot stops at line ends"},
	} {
		p, err := compilePattern(c.java)
		if err != nil {
			t.Errorf("%s: %v", c.java, err)
			continue
		}
		for _, s := range c.yes {
			if !p.matches(s) {
				t.Errorf("%s: %q does not match %s", c.shapes, s, c.java)
			}
		}
		for _, s := range c.no {
			if p.matches(s) {
				t.Errorf("%s: %q matches %s", c.shapes, s, c.java)
			}
		}
	}
}
