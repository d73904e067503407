package call

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Functions that cause each other's invocations carry the lineage of the chain in X-Amzn-Trace-Id: the AWS SDKs send the header that
// the runtime got with the event, Amazon SQS and SNS hand it on. Its field Lineage has an entry version:hash:count for each function of the chain,
// with | between them: how often it has been invoked.
const (
	lineageEntries = 32 // functions that are counted in one chain, the latest
	lineageField   = "Lineage="
	lineageVersion = "1"
)

// NewTrace returns the value of an X-Amzn-Trace-Id that begins a trace at now: a root of AWS X-Ray's form, which holds
// the second in which it began, a parent, and that nothing is sampled.
func NewTrace(now time.Time) string {
	var b [20]byte
	rand.Read(b[:])
	return fmt.Sprintf("Root=1-%08x-%x;Parent=%x;Sampled=0", uint32(now.Unix()), b[:12], b[12:])
}

// CountInTrace counts one more invocation of a function in the lineage of a trace header. It returns the header for that
// invocation, and how many there were before in the chain.
func CountInTrace(trace, functionARN string) (next string, before int) {
	sum := sha256.Sum256([]byte(functionARN))
	hash := hex.EncodeToString(sum[:4])
	fields, chain := parseTrace(trace)
	chain = slices.DeleteFunc(chain, func(a ancestor) bool {
		if a.hash == hash {
			before = max(before, a.count)
		}
		return a.hash == hash
	})
	return formTrace(fields, append(chain, ancestor{hash, min(before+1, 1<<20)})), before
}

// JoinTraces returns the header of what several events cause together: it goes on with the first trace that there is, and each function counts
// as often as in the event in whose lineage it was invoked most.
func JoinTraces(traces []string) string {
	traces = slices.DeleteFunc(slices.Clone(traces), func(t string) bool { return t == "" })
	if len(traces) == 0 {
		return ""
	}
	if !slices.ContainsFunc(traces[1:], func(t string) bool { return t != traces[0] }) {
		return traces[0]
	}
	fields, all := parseTrace(traces[0])
	for _, t := range traces[1:] {
		_, chain := parseTrace(t)
		for _, a := range chain {
			if i := slices.IndexFunc(all, func(b ancestor) bool { return b.hash == a.hash }); i < 0 {
				all = append(all, a)
			} else {
				all[i].count = max(all[i].count, a.count)
			}
		}
	}
	// Those that were invoked most are the last ones to be forgotten.
	slices.SortStableFunc(all, func(a, b ancestor) int { return a.count - b.count })
	return formTrace(fields, all)
}

// ancestor is a function in the lineage of an event.
type ancestor struct {
	hash  string
	count int
}

// parseTrace takes the lineage out of a header. Entries that are not of this form are left out.
func parseTrace(trace string) (fields []string, chain []ancestor) {
	for f := range strings.SplitSeq(trace, ";") {
		entries, ok := strings.CutPrefix(f, lineageField)
		if !ok {
			if f != "" {
				fields = append(fields, f)
			}
			continue
		}
		for e := range strings.SplitSeq(entries, "|") {
			p := strings.Split(e, ":")
			if len(p) != 3 {
				continue
			}
			if n, err := strconv.Atoi(p[2]); err == nil && n >= 0 {
				chain = append(chain, ancestor{p[1], n})
			}
		}
	}
	return fields, chain
}

func formTrace(fields []string, chain []ancestor) string {
	if len(chain) == 0 {
		return strings.Join(fields, ";")
	}
	var entries []string
	for _, a := range chain[max(len(chain)-lineageEntries, 0):] {
		entries = append(entries, lineageVersion+":"+a.hash+":"+strconv.Itoa(a.count))
	}
	return strings.Join(append(fields, lineageField+strings.Join(entries, "|")), ";")
}
