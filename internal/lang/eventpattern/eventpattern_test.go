package eventpattern

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

// lines calls f with the lines of a file of cases, without comments and empty ones.
func lines(t testing.TB, file string, f func(number int, line string)) {
	t.Helper()
	r, err := os.Open("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		if line := s.Text(); line != "" && line[0] != '#' {
			f(n, line)
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestMatch(t *testing.T) {
	var p *Pattern
	lines(t, "match.txt", func(n int, line string) {
		var err error
		if line[0] == '{' {
			if p, err = Parse(Events, []byte(line)); err != nil {
				t.Fatalf("line %d: %v", n, err)
			}
			return
		}
		if got := p.Match([]byte(line[2:])); got != (line[0] == '+') {
			t.Errorf("line %d: %s: %v", n, line, got)
		}
	})
}

func TestErrors(t *testing.T) {
	var err error
	lines(t, "errors.txt", func(n int, line string) {
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "events":
			_, err = Parse(Events, []byte(rest))
		case "sqs":
			_, err = Parse(SQS, []byte(rest))
		case "kinesis":
			_, err = Parse(Kinesis, []byte(rest))
		case "policy":
			_, err = ParseFilterPolicy([]byte(rest), MessageAttributes)
		case "body", "subscribe":
			_, err = ParseFilterPolicy([]byte(rest), MessageBody)
		}
		if kind != "=" {
			if err == nil {
				t.Errorf("line %d: accepted", n)
				err = &Error{}
			} else if kind == "subscribe" {
				err = &subscribeError{err.(*Error)}
			}
			return
		}
		if got := strings.ReplaceAll(err.Error(), "\n", `\n`); got != rest {
			t.Errorf("line %d:\n got %s\nwant %s", n, got, rest)
		}
	})
}

type subscribeError struct{ e *Error }

func (e *subscribeError) Error() string { return e.e.Attributes() }
