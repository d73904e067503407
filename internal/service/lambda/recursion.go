package lambda

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	loopLimit        = 16 // invocations of one function in one chain
	recursionKind    = "recursion"
	recursionMessage = "Lambda has detected that the function is in a recursive loop and has stopped it."
)

// nextLineage counts one more invocation of a function in the lineage of what caused it, and returns the trace header for it. loop reports
// that there have been too many.
func nextLineage(trace, functionARN string) (next string, loop bool) {
	next, before := call.CountInTrace(trace, functionARN)
	return next, before >= loopLimit
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
