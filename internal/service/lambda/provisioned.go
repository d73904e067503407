package lambda

import (
	"context"
	"math"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// provisionedTime is the form of LastModified of a provisioned concurrency configuration.
const provisionedTime = "2006-01-02T15:04:05+0000"

func (s *Service) putProvisionedConcurrencyConfig(ctx context.Context, in *lambdaapi.PutProvisionedConcurrencyConfigInput) (*lambdaapi.PutProvisionedConcurrencyConfigOutput, error) {
	c, ref, err := locate(ctx, "PutProvisionedConcurrencyConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if ref.qualifier == latest {
		return nil, errUnpublished()
	}
	if err := ref.mayProvision(); err != nil {
		return nil, err
	}
	var p provisioned
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		if err := c.provisionable(tx, ref); err != nil {
			return err
		}
		if err := s.affordable(tx, c, ref, deref(in.ProvisionedConcurrentExecutions)); err != nil {
			return err
		}
		p = provisioned{deref(in.ProvisionedConcurrentExecutions), s.now()}
		c.concurrencyGuard().Change(tx)
		return kv.SetJSON(tx, c.provisionedKey(ref.name, ref.qualifier), p)
	})
	if err != nil {
		return nil, err
	}
	item := s.describeProvisioned(c, ref.name, ref.qualifier, &p)
	return &lambdaapi.PutProvisionedConcurrencyConfigOutput{
		RequestedProvisionedConcurrentExecutions: item.RequestedProvisionedConcurrentExecutions,
		AvailableProvisionedConcurrentExecutions: item.AvailableProvisionedConcurrentExecutions,
		AllocatedProvisionedConcurrentExecutions: item.AllocatedProvisionedConcurrentExecutions,
		Status:                                   new(lambdaapi.ProvisionedConcurrencyStatusEnumInProgress),
		LastModified:                             item.LastModified,
	}, nil
}

func errUnpublished() error {
	return lambdaapi.ErrInvalidParameterValueException("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
}

// mayProvision checks that a version or an alias was named.
func (ref reference) mayProvision() error {
	if ref.qualifier == "" || ref.qualifier == latest {
		return lambdaapi.ErrInvalidParameterValueException("The function resource provided must be an alias or a published version.")
	}
	return nil
}

// provisionable checks that a version or alias may have a configuration: each version may be provisioned once, for itself or
// for an alias that leads to it.
func (c scope) provisionable(r kv.Reader, ref reference) error {
	number, isVersion := versionNumber(ref.qualifier)
	if !isVersion {
		a, err := c.provisionedAlias(r, ref)
		switch {
		case err != nil:
			return err
		case len(a.Weights) > 0:
			return lambdaapi.ErrInvalidParameterValueException("Alias with weights can not be used with Provisioned Concurrency")
		case a.Version == 0:
			return errUnpublished()
		}
		other, err := c.provisionedElsewhere(r, ref, a.Version)
		if err == nil && other != "" {
			err = lambdaapi.ErrResourceConflictException("Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
		}
		return err
	}
	if _, err := c.find(r, ref.name, ref.qualifier); err != nil {
		return err
	}
	other, err := c.provisionedElsewhere(r, ref, number)
	if err == nil && other != "" {
		err = lambdaapi.ErrResourceConflictException("Version is pointed by a Provisioned Concurrency alias")
	}
	return err
}

// provisionedAlias reads an alias as the operations of this file do.
func (c scope) provisionedAlias(r kv.Reader, ref reference) (*alias, error) {
	if _, err := c.find(r, ref.name, ""); err != nil {
		return nil, errNoFunction(c.qualifiedARN(ref.name, ref.qualifier))
	}
	a, err := getAlias(r, c, ref.name, ref.qualifier)
	if err == nil && a == nil {
		err = lambdaapi.ErrResourceNotFoundException("Cannot find alias arn: %s", c.qualifiedARN(ref.name, ref.qualifier))
	}
	return a, err
}

// provisionedElsewhere returns a qualifier, other than ref's, whose configuration provisions a version; empty if there is none.
func (c scope) provisionedElsewhere(r kv.Reader, ref reference, number int64) (qualifier string, err error) {
	for e, err := range r.Scan(c.provisionedOf(ref.name)) {
		if err != nil {
			return "", err
		}
		if err := kv.Decode(e.Key, nil, nil, nil, nil, &qualifier); err != nil {
			return "", err
		}
		if qualifier == ref.qualifier {
			continue
		}
		if n, ok := versionNumber(qualifier); ok {
			if n == number {
				return qualifier, nil
			}
			continue
		}
		a, err := getAlias(r, c, ref.name, qualifier)
		if err != nil {
			return "", err
		}
		if a == nil {
			continue
		}
		if second, _ := a.second(); a.Version == number || second == number {
			return qualifier, nil
		}
	}
	return "", nil
}

// affordable checks that the function, or else its account, has concurrency enough for n provisioned environments.
func (s *Service) affordable(tx kv.Tx, c scope, ref reference, n int32) error {
	all, err := c.claims(tx)
	if err != nil {
		return err
	}
	old, err := get[provisioned](tx, c.provisionedKey(ref.name, ref.qualifier))
	if err != nil {
		return err
	}
	own := all[ref.name]
	if old != nil {
		own.provisioned -= old.Requested
	}
	free := s.limits.Concurrency - all.sum(ref.name) - own.provisioned
	switch {
	case own.reserved != nil:
		if n > *own.reserved-own.provisioned {
			return lambdaapi.ErrInvalidParameterValueException("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
		}
	case n > free:
		return lambdaapi.ErrInvalidParameterValueException("Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [%d].", free)
	case free-n < s.limits.UnreservedConcurrency:
		return lambdaapi.ErrInvalidParameterValueException(
			"Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].",
			s.limits.UnreservedConcurrency)
	}
	return nil
}

func (s *Service) getProvisionedConcurrencyConfig(ctx context.Context, in *lambdaapi.GetProvisionedConcurrencyConfigInput) (*lambdaapi.GetProvisionedConcurrencyConfigOutput, error) {
	c, ref, err := locate(ctx, "GetProvisionedConcurrencyConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	var p *provisioned
	err = s.db.View(ctx, func(r kv.Reader) error {
		p, err = c.getProvisioned(r, ref)
		return err
	})
	if err == nil && p == nil {
		err = lambdaapi.ErrProvisionedConcurrencyConfigNotFoundException("No Provisioned Concurrency Config found for this function")
	}
	if err != nil {
		return nil, err
	}
	item := s.describeProvisioned(c, ref.name, ref.qualifier, p)
	return &lambdaapi.GetProvisionedConcurrencyConfigOutput{
		RequestedProvisionedConcurrentExecutions: item.RequestedProvisionedConcurrentExecutions,
		AvailableProvisionedConcurrentExecutions: item.AvailableProvisionedConcurrentExecutions,
		AllocatedProvisionedConcurrentExecutions: item.AllocatedProvisionedConcurrentExecutions,
		Status:                                   item.Status,
		StatusReason:                             item.StatusReason,
		LastModified:                             item.LastModified,
	}, nil
}

// getProvisioned reads the configuration of a version or alias that exists; nil if it has none.
func (c scope) getProvisioned(r kv.Reader, ref reference) (*provisioned, error) {
	if err := ref.mayProvision(); err != nil {
		return nil, err
	}
	var err error
	if _, ok := versionNumber(ref.qualifier); ok {
		_, err = c.find(r, ref.name, ref.qualifier)
	} else {
		_, err = c.provisionedAlias(r, ref)
	}
	if err != nil {
		return nil, err
	}
	return get[provisioned](r, c.provisionedKey(ref.name, ref.qualifier))
}

// deleteProvisionedConcurrencyConfig deletes a configuration; one that does not exist is no error, as on AWS.
func (s *Service) deleteProvisionedConcurrencyConfig(ctx context.Context, in *lambdaapi.DeleteProvisionedConcurrencyConfigInput) (*lambdaapi.DeleteProvisionedConcurrencyConfigOutput, error) {
	c, ref, err := locate(ctx, "DeleteProvisionedConcurrencyConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		if p, err := c.getProvisioned(tx, ref); err != nil || p == nil {
			return err
		}
		tx.Delete(c.provisionedKey(ref.name, ref.qualifier))
		return nil
	})
}

func (s *Service) listProvisionedConcurrencyConfigs(ctx context.Context, in *lambdaapi.ListProvisionedConcurrencyConfigsInput) (*lambdaapi.ListProvisionedConcurrencyConfigsOutput, error) {
	c, ref, err := locateUnqualified(ctx, "ListProvisionedConcurrencyConfigs", in.FunctionName)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListProvisionedConcurrencyConfigsOutput{ProvisionedConcurrencyConfigs: []lambdaapi.ProvisionedConcurrencyConfigListItem{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		if _, err := c.find(r, ref.name, ""); err != nil {
			return err
		}
		entries, next, err := page(r, c.provisionedOf(ref.name), in.Marker, in.MaxItems)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, e := range entries {
			var qualifier string
			if err := kv.Decode(e.Key, nil, nil, nil, nil, &qualifier); err != nil {
				return err
			}
			p, err := get[provisioned](r, e.Key)
			if err != nil {
				return err
			}
			out.ProvisionedConcurrencyConfigs = append(out.ProvisionedConcurrencyConfigs, *s.describeProvisioned(c, ref.name, qualifier, p))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// describeProvisioned shows a configuration with what the fleet has made of it.
func (s *Service) describeProvisioned(c scope, name, qualifier string, p *provisioned) *lambdaapi.ProvisionedConcurrencyConfigListItem {
	arn := c.qualifiedARN(name, qualifier)
	now := s.capacity.Provisioned(arn)
	out := &lambdaapi.ProvisionedConcurrencyConfigListItem{
		FunctionArn:                              &arn,
		RequestedProvisionedConcurrentExecutions: &p.Requested,
		AvailableProvisionedConcurrentExecutions: new(int32(now.Available)),
		AllocatedProvisionedConcurrentExecutions: new(int32(now.Allocated)),
		Status:                                   new(lambdaapi.ProvisionedConcurrencyStatusEnumInProgress),
		LastModified:                             new(p.LastModified.UTC().Format(provisionedTime)),
	}
	switch {
	case now.Available == int(p.Requested):
		*out.Status = lambdaapi.ProvisionedConcurrencyStatusEnumReady
	case now.Failure != "":
		*out.Status = lambdaapi.ProvisionedConcurrencyStatusEnumFailed
		out.StatusReason = &now.Failure
	}
	return out
}

// mayMove checks that what an alias leads to now may be provisioned, if the alias is.
func (c scope) mayMove(r kv.Reader, a *alias) error {
	p, err := get[provisioned](r, c.provisionedKey(a.Function, a.Name))
	if err != nil || p == nil {
		return err
	}
	second, _ := a.second()
	for _, number := range []int64{a.Version, second} {
		if number == 0 && len(a.Weights) > 0 {
			continue
		}
		other, err := c.provisionedElsewhere(r, reference{name: a.Function, qualifier: a.Name}, number)
		if err != nil {
			return err
		}
		if other != "" || a.Version == 0 {
			return lambdaapi.ErrInvalidParameterValueException("Invalid alias configuration for Provisioned Concurrency")
		}
	}
	return nil
}

// touchProvisioned makes provision look at the configurations of a function again, because a version or alias changes.
func (c scope) touchProvisioned(tx kv.Tx, name string) error {
	if err := c.concurrencyGuard().Depend(tx); err != nil {
		return err
	}
	for e, err := range tx.Scan(c.provisionedOf(name)) {
		if err != nil {
			return err
		}
		tx.Set(e.Key, e.Value)
	}
	return nil
}

// provision keeps the fleet up to what the stored configurations ask for, until ctx ends.
func (s *Service) provision(ctx context.Context) {
	known := map[string]bool{} // configurations that the fleet has been told
	for range s.db.Watch(ctx, kv.Key(provisionedPrefix)) {
		for {
			err := s.provisionAll(ctx, known)
			if err == nil || ctx.Err() != nil {
				break
			}
			s.log.Error("provisioned concurrency", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
	}
}

// provisionAll tells the fleet all configurations, and which of known are gone.
func (s *Service) provisionAll(ctx context.Context, known map[string]bool) (err error) {
	type config struct {
		scope
		first, second     *version
		atFirst, atSecond int
	}
	all := map[string]*config{}
	err = s.db.View(ctx, func(r kv.Reader) error {
		clear(all)
		for e, err := range kv.ScanJSON[provisioned](r, kv.Prefix(provisionedPrefix)) {
			if err != nil {
				return err
			}
			var c config
			ref := reference{}
			if err := kv.Decode(e.Key, nil, &c.account, &c.region, &ref.name, &ref.qualifier); err != nil {
				return err
			}
			var weight float64
			if c.first, c.second, weight, err = c.routes(r, ref); err != nil {
				return err
			}
			c.atFirst = int(e.Value.Requested)
			if c.second != nil {
				c.atSecond = int(math.Round(float64(c.atFirst) * weight))
				c.atFirst -= c.atSecond
			}
			all[c.qualifiedARN(ref.name, ref.qualifier)] = &c
		}
		return nil
	})
	if err != nil {
		return err
	}
	for arn := range known {
		if all[arn] == nil {
			s.capacity.Provision(arn, nil)
			delete(known, arn)
		}
	}
	for arn, c := range all {
		var want []fleet.Provision
		for _, x := range []struct {
			v *version
			n int
		}{{c.first, c.atFirst}, {c.second, c.atSecond}} {
			if x.v == nil || x.n == 0 || x.v.mayInvoke() != nil {
				continue // a version that is Pending tells when it is Active
			}
			e, lendErr := s.executable(ctx, c.scope, x.v)
			if lendErr != nil || !e.code.take() {
				err = lendErr // the others are not to wait for it
				continue
			}
			defer e.code.give() // until the fleet knows it
			want = append(want, fleet.Provision{Function: e.function, Count: x.n})
		}
		s.capacity.Provision(arn, want)
		known[arn] = true
	}
	return err
}
