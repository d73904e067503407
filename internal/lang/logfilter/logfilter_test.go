package logfilter

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// lines returns the lines of a file in testdata without comments and blank ones.
func lines(t testing.TB, name string) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(b), "\n"), func(s string) bool { return s == "" || s[0] == '#' })
}

func TestMatch(t *testing.T) {
	var f *Filter
	var pattern string
	for _, line := range lines(t, "match.txt") {
		head, rest, _ := strings.Cut(line, " ")
		switch head {
		case "pattern":
			pattern = rest
			var err error
			if f, err = Compile(pattern); err != nil {
				t.Fatalf("Compile(%q) = %+v", pattern, err)
			}
		case "+", "-":
			if got, want := f.Match(rest), head == "+"; got != want {
				t.Errorf("pattern %q on %q: %v, want %v", pattern, rest, got, want)
			}
		default:
			t.Fatalf("what is %q?", line)
		}
	}
}

func TestInvalid(t *testing.T) {
	for _, p := range lines(t, "invalid.txt") {
		_, err := Compile(p)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("Compile(%q) = %v, want *Error", p, err)
			continue
		}
		want := "Invalid filter pattern"
		switch {
		case p[0] == '{' && !strings.HasSuffix(p, "}"):
			want = "If a filter pattern starts with '{' it must end with '}'"
		case p[0] == '[' && !strings.HasSuffix(p, "]"):
			want = "If a filter pattern starts with '[' it must end with ']'"
		}
		if e.Error() != want || e.Reason == "" || e.Offset < 0 || e.Offset > len(p) {
			t.Errorf("Compile(%q) = %+v, want %q", p, e, want)
		}
	}
}

func TestEmptyMatchesAll(t *testing.T) {
	for _, p := range []string{"", " ", "\n"} {
		f, err := Compile(p)
		if err != nil || !f.All() || !f.Match("") || !f.Match("x") {
			t.Errorf("Compile(%q) = %+v, %v", p, f, err)
		}
	}
}

func TestLength(t *testing.T) {
	if _, err := Compile(`"` + strings.Repeat("é", MaxLength-2) + `"`); err != nil {
		t.Errorf("a pattern of %d characters: %v", MaxLength, err)
	}
	if _, err := Compile(strings.Repeat("x", MaxLength+1)); err == nil {
		t.Error("a longer pattern is taken")
	}
}

func TestNewlineAtTheEnd(t *testing.T) {
	for _, p := range []string{`%done$%`, `[a, b = done]`, `{ $.a = "done" }`} {
		f, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		if msg := "all done\n"; p[0] != '{' && !f.Match(msg) {
			t.Errorf("pattern %q on %q: false", p, msg)
		}
		if msg := "{\"a\":\"done\"}\n"; p[0] == '{' && !f.Match(msg) {
			t.Errorf("pattern %q on %q: false", p, msg)
		}
	}
}

func TestDeepDocument(t *testing.T) {
	f, err := Compile(`{ $.x NOT EXISTS }`)
	if err != nil {
		t.Fatal(err)
	}
	for depth, want := range map[int]bool{maxDepth: true, maxDepth + 2: false, 1 << 20: false} {
		if got := f.Match(strings.Repeat("[", depth) + strings.Repeat("]", depth)); got != want {
			t.Errorf("%d brackets: %v, want %v", depth, got, want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`a\"b\\c\/d`:         `a"b\c/d`,
		`\b\f\n\r\t`:         "\b\f\n\r\t",
		`\u00e9\u20AC`:       "é€",
		`\ud83d\ude00!`:      "😀!",
		`\ud83d`:             "\ufffd",
		`\ud83d\u0041\udc00`: "\ufffdA\ufffd",
	} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	for _, c := range benchCases {
		f, err := Compile(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		// The race detector makes sync.Pool drop items at random, so a few allocations are let pass: decoding would make dozens.
		if n := testing.AllocsPerRun(100, func() { f.Match(c.message) }); n > 4 {
			t.Errorf("pattern %q: %v allocations", c.pattern, n)
		}
	}
}
