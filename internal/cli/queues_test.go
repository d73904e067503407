package cli

import (
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/service/sqs"
)

func TestAges(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "0s", -time.Second: "0s", 59 * time.Second: "59s", 200 * time.Second: "3m 20s", 125 * time.Minute: "2h 5m", 97 * time.Hour: "4d 1h",
	} {
		if got := ageOf(new(now.Add(-d)), now); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
	if got := ageOf(nil, now); got != "-" {
		t.Error(got)
	}
}

func TestRelations(t *testing.T) {
	for want, q := range map[string]sqs.Overview{
		"-":                        {},
		"to dead after 3 receives": {DeadLetterQueue: "dead", MaxReceives: 3},
		"of a, b; being moved":     {Sources: []string{"a", "b"}, Moving: true},
	} {
		if got := relations(&q); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
