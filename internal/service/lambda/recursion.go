package lambda

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Functions that invoke each other carry the lineage of a chain in X-Amzn-Trace-Id: the AWS SDKs send the header that the runtime
// got with the event. Its field Lineage has an entry version:hash:count for each function of the chain, with | between them: how
// often it has been invoked.

const (
	loopLimit        = 16 // invocations of one function in one chain
	lineageEntries   = 32 // functions that are counted in one chain, the latest
	lineageField     = "Lineage="
	lineageVersion   = "1"
	recursionKind    = "recursion"
	recursionMessage = "Lambda has detected that the function is in a recursive loop and has stopped it."
)

// nextLineage counts one more invocation of a function, and returns the header for it. loop reports that there have been
// too many.
func nextLineage(trace, functionARN string) (next string, loop bool) {
	sum := sha256.Sum256([]byte(functionARN))
	hash := hex.EncodeToString(sum[:4])
	var fields, entries []string
	for f := range strings.SplitSeq(trace, ";") {
		if rest, ok := strings.CutPrefix(f, lineageField); ok {
			entries = append(entries, strings.Split(rest, "|")...)
		} else if f != "" {
			fields = append(fields, f)
		}
	}
	count := 0
	entries = slices.DeleteFunc(entries, func(e string) bool {
		p := strings.Split(e, ":")
		if len(p) != 3 {
			return true // not of ours
		}
		n, err := strconv.Atoi(p[2])
		if err != nil || n < 0 {
			return true
		}
		if p[1] == hash {
			count = max(count, n)
			return true
		}
		return false
	})
	loop = count >= loopLimit
	entries = append(entries, lineageVersion+":"+hash+":"+strconv.Itoa(min(count+1, 1<<20)))
	if n := len(entries) - lineageEntries; n > 0 {
		entries = entries[n:]
	}
	return strings.Join(append(fields, lineageField+strings.Join(entries, "|")), ";"), loop
}

// loopAllowed reports whether a function may take part in loops.
func (s *Service) loopAllowed(ctx context.Context, c scope, name string) (yes bool, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		loop, _, err := kv.GetJSON[string](r, c.hangingKey(name, "", recursionKind))
		yes = loop == lambdaapi.RecursiveLoopAllow
		return err
	})
	return yes, err
}

// follow returns the trace header for an invocation that a caller waits for, or the error that stops a loop.
func (s *Service) follow(ctx context.Context, c scope, name, trace, functionARN string) (string, error) {
	next, loop := nextLineage(trace, functionARN)
	if !loop {
		return next, nil
	}
	allowed, err := s.loopAllowed(ctx, c, name)
	if err == nil && !allowed {
		err = lambdaapi.ErrRecursiveInvocationException(recursionMessage)
	}
	return next, err
}

func (s *Service) putFunctionRecursionConfig(ctx context.Context, in *lambdaapi.PutFunctionRecursionConfigInput) (*lambdaapi.PutFunctionRecursionConfigOutput, error) {
	c, ref, err := locateUnqualified(ctx, "PutFunctionRecursionConfig", in.FunctionName)
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		if _, err := c.find(tx, ref.name, ""); err != nil {
			return err
		}
		return c.hang(tx, ref.name, "", recursionKind, deref(in.RecursiveLoop))
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.PutFunctionRecursionConfigOutput{RecursiveLoop: in.RecursiveLoop}, nil
}

func (s *Service) getFunctionRecursionConfig(ctx context.Context, in *lambdaapi.GetFunctionRecursionConfigInput) (*lambdaapi.GetFunctionRecursionConfigOutput, error) {
	c, ref, err := locateUnqualified(ctx, "GetFunctionRecursionConfig", in.FunctionName)
	if err != nil {
		return nil, err
	}
	if _, err := s.lookup(ctx, c, ref); err != nil {
		return nil, err
	}
	loop := lambdaapi.RecursiveLoopTerminate
	allowed, err := s.loopAllowed(ctx, c, ref.name)
	if err != nil {
		return nil, err
	}
	if allowed {
		loop = lambdaapi.RecursiveLoopAllow
	}
	return &lambdaapi.GetFunctionRecursionConfigOutput{RecursiveLoop: &loop}, nil
}
