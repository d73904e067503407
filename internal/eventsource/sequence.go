package eventsource

import (
	"cmp"
	"strings"
)

// compare orders two sequence numbers, decimal without leading zeros. The empty one is before all others.
func compare(a, b string) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}
