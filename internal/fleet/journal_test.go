package fleet

import (
	"testing"
	"time"
)

func TestStreamName(t *testing.T) {
	now := time.Date(2026, 1, 2, 23, 0, 0, 0, time.FixedZone("", -7200))
	for group, want := range map[string]string{
		"/aws/lambda/fn":    "2026/01/03/[$LATEST]0123",
		"/aws/lambda/other": "2026/01/03/fn[$LATEST][0123]",
		"shared":            "2026/01/03/fn[$LATEST][0123]",
	} {
		if got := streamName(&Function{Name: "fn", Version: "$LATEST", LogGroup: group}, now, "0123"); got != want {
			t.Errorf("in %s: %s, want %s", group, got, want)
		}
	}
}

func TestWanted(t *testing.T) {
	l := &journal{env: &environment{fn: &Function{ApplicationLogLevel: "ERROR"}}}
	for record, want := range map[string]bool{
		`{"level":"INFO"}`: false, `{"level":"error"}`: true, `{"log_level":"ERROR"}`: true, `{"log_level":"INFO"}`: false, `{}`: false,
	} {
		if l.wanted([]byte(record)) != want {
			t.Errorf("%s: wanted is not %v", record, want)
		}
	}
}
