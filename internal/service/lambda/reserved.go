package lambda

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Capacity is what decides how many invocations of a function run at once. *fleet.Fleet is one. It keeps nothing over a
// restart: this service tells it again. Its methods are safe for concurrent use.
type Capacity interface {
	// Reserve sets the reserved concurrency of the function with an unqualified ARN, from the next invocation on.
	Reserve(arn string, n int)
	// Unreserve takes it away.
	Unreserve(arn string)
	// Provision sets which environments are kept initialised for a configuration; none removes it.
	Provision(config string, want []fleet.Provision)
	// Provisioned tells how far that has come.
	Provisioned(config string) fleet.Provisioned
}

func (s *Service) putFunctionConcurrency(ctx context.Context, in *lambdaapi.PutFunctionConcurrencyInput) (*lambdaapi.PutFunctionConcurrencyOutput, error) {
	c, ref, err := locateUnqualified(ctx, "PutFunctionConcurrency", in.FunctionName)
	if err != nil {
		return nil, err
	}
	n := deref(in.ReservedConcurrentExecutions)
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		f, err := getFunction(tx, c, ref.name)
		if err != nil {
			return err
		}
		if f == nil {
			return errNoFunction(c.qualifiedARN(ref.name, latest)) // AWS names it so here
		}
		all, err := c.claims(tx)
		if err != nil {
			return err
		}
		if s.limits.Concurrency-all.sum(ref.name)-n < s.limits.UnreservedConcurrency {
			return lambdaapi.ErrInvalidParameterValueException(
				"Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].",
				s.limits.UnreservedConcurrency)
		}
		if provisioned := all[ref.name].provisioned; n < provisioned {
			return lambdaapi.ErrInvalidParameterValueException(
				" ReservedConcurrentExecutions  %d should not be lower than function's total provisioned concurrency [%d].", n, provisioned)
		}
		c.concurrencyGuard().Change(tx)
		return kv.SetJSON(tx, c.reservedKey(ref.name), reservation{n})
	})
	if err != nil {
		return nil, err
	}
	if err := s.applyReserved(ctx, c, ref.name); err != nil {
		return nil, err
	}
	return &lambdaapi.PutFunctionConcurrencyOutput{ReservedConcurrentExecutions: &n}, nil
}

func (s *Service) getFunctionConcurrency(ctx context.Context, in *lambdaapi.GetFunctionConcurrencyInput) (*lambdaapi.GetFunctionConcurrencyOutput, error) {
	c, ref, err := locateUnqualified(ctx, "GetFunctionConcurrency", in.FunctionName)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.GetFunctionConcurrencyOutput{}
	err = s.db.View(ctx, func(r kv.Reader) error {
		if _, err := c.find(r, ref.name, ""); err != nil {
			return err
		}
		got, err := get[reservation](r, c.reservedKey(ref.name))
		if got != nil {
			out.ReservedConcurrentExecutions = &got.Executions
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Service) deleteFunctionConcurrency(ctx context.Context, in *lambdaapi.DeleteFunctionConcurrencyInput) (*lambdaapi.DeleteFunctionConcurrencyOutput, error) {
	c, ref, err := locateUnqualified(ctx, "DeleteFunctionConcurrency", in.FunctionName)
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		if _, err := c.find(tx, ref.name, ""); err != nil {
			return err
		}
		tx.Delete(c.reservedKey(ref.name))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nil, s.applyReserved(ctx, c, ref.name)
}

// applyReserved tells the fleet what is stored. Calls come one after the other and read what is newest, so that the last
// word is the truth, in whatever order the changes were committed.
func (s *Service) applyReserved(ctx context.Context, c scope, name string) error {
	s.reserving.Lock()
	defer s.reserving.Unlock()
	return s.db.View(context.WithoutCancel(ctx), func(r kv.Reader) error {
		got, err := get[reservation](r, c.reservedKey(name))
		if err != nil {
			return err
		}
		if got == nil {
			s.capacity.Unreserve(c.qualifiedARN(name, ""))
		} else {
			s.capacity.Reserve(c.qualifiedARN(name, ""), int(got.Executions))
		}
		return nil
	})
}

// restoreReserved tells the fleet all reservations there are.
func (s *Service) restoreReserved(ctx context.Context) error {
	return s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range kv.ScanJSON[reservation](r, kv.Prefix(reservedPrefix)) {
			if err != nil {
				return err
			}
			var c scope
			var name string
			if err := kv.Decode(e.Key, nil, &c.account, &c.region, &name); err != nil {
				return err
			}
			s.capacity.Reserve(c.qualifiedARN(name, ""), int(e.Value.Executions))
		}
		return nil
	})
}

// claim is what one function takes from its account's concurrency.
type claim struct {
	reserved    *int32
	provisioned int32 // of all its configurations; part of what is reserved, if that is set
}

func (c claim) taken() int32 {
	if c.reserved != nil {
		return *c.reserved
	}
	return c.provisioned
}

// claims are those of the functions that have any, by name.
type claims map[string]claim

// sum is what all functions but one take.
func (all claims) sum(except string) (n int32) {
	for name, c := range all {
		if name != except {
			n += c.taken()
		}
	}
	return n
}

// claims reads all claims on an account. In a transaction it comes to nothing if they change meanwhile.
func (c scope) claims(r kv.Reader) (claims, error) {
	if tx, ok := r.(kv.Tx); ok {
		if err := c.concurrencyGuard().Depend(tx); err != nil {
			return nil, err
		}
	}
	all := claims{}
	for e, err := range kv.ScanJSON[reservation](r, c.allReserved()) {
		if err != nil {
			return nil, err
		}
		var name string
		if err := kv.Decode(e.Key, nil, nil, nil, &name); err != nil {
			return nil, err
		}
		all[name] = claim{reserved: &e.Value.Executions}
	}
	for e, err := range kv.ScanJSON[provisioned](r, c.allProvisioned()) {
		if err != nil {
			return nil, err
		}
		var name string
		if err := kv.Decode(e.Key, nil, nil, nil, &name, nil); err != nil {
			return nil, err
		}
		own := all[name]
		own.provisioned += e.Value.Requested
		all[name] = own
	}
	return all, nil
}
