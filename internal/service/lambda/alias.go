package lambda

import (
	"context"
	"maps"
	"strconv"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func (s *Service) createAlias(ctx context.Context, in *lambdaapi.CreateAliasInput) (*lambdaapi.AliasConfiguration, error) {
	c, ref, err := locateUnqualified(ctx, "CreateAlias", in.FunctionName)
	if err != nil {
		return nil, err
	}
	defer s.targets.change(c, ref.name)()
	var a *alias
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		a = &alias{Function: ref.name, RevisionID: call.NewRequestID()}
		assign(&a.Name, in.Name)
		assign(&a.Description, in.Description)
		if err := c.route(tx, a, in.FunctionVersion, in.RoutingConfig); err != nil {
			return err
		}
		if old, err := getAlias(tx, c, ref.name, a.Name); err != nil || old != nil {
			if err == nil {
				err = lambdaapi.ErrResourceConflictException("Alias already exists: %s", c.qualifiedARN(ref.name, a.Name))
			}
			return err
		}
		c.aliasGuard(ref.name).Change(tx)
		return kv.SetJSON(tx, c.aliasKey(ref.name, a.Name), a)
	})
	if err != nil {
		return nil, err
	}
	return c.describeAlias(a), nil
}

// route sets which versions a leads to, which must exist. What is nil stays.
func (c scope) route(r kv.Reader, a *alias, to *string, routing *lambdaapi.AliasRoutingConfiguration) error {
	if routing != nil {
		a.Weights = maps.Clone(routing.AdditionalVersionWeights)
	}
	if len(a.Weights) > 1 {
		return lambdaapi.ErrInvalidParameterValueException("Number of items in AdditionalVersionWeights cannot be greater than 1")
	}
	if to != nil {
		number, err := c.published(r, a.Function, *to)
		if err != nil {
			return err
		}
		a.Version = number
	}
	for other := range a.Weights {
		if a.Version == 0 {
			// AWS: without the member Type (recorded 2025-11).
			err := lambdaapi.ErrInvalidParameterValueException("$LATEST is not supported for an alias pointing to more than 1 version")
			err.Members = nil
			return err
		}
		number, err := c.published(r, a.Function, other)
		if err != nil {
			return err
		}
		if number == a.Version {
			return lambdaapi.ErrInvalidParameterValueException(
				"Invalid function version %s. Function version %s is already included in routing configuration.", other, other)
		}
	}
	return nil
}

// published returns the number of a version that exists.
func (c scope) published(r kv.Reader, name, qualifier string) (int64, error) {
	number, isNumber := versionNumber(qualifier)
	if !isNumber && qualifier != latest {
		return 0, errNoFunction(c.qualifiedARN(name, qualifier))
	}
	v, err := getVersion(r, c, name, number)
	if err == nil && v == nil {
		err = errNoFunction(c.qualifiedARN(name, qualifier))
	}
	return number, err
}

func (s *Service) getAlias(ctx context.Context, in *lambdaapi.GetAliasInput) (*lambdaapi.AliasConfiguration, error) {
	c, ref, err := locateUnqualified(ctx, "GetAlias", in.FunctionName)
	if err != nil {
		return nil, err
	}
	var a *alias
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		a, err = getAlias(r, c, ref.name, deref(in.Name))
		return err
	})
	if err == nil && a == nil {
		err = lambdaapi.ErrResourceNotFoundException("Cannot find alias arn: %s", c.qualifiedARN(ref.name, deref(in.Name)))
	}
	if err != nil {
		return nil, err
	}
	return c.describeAlias(a), nil
}

func (s *Service) listAliases(ctx context.Context, in *lambdaapi.ListAliasesInput) (*lambdaapi.ListAliasesOutput, error) {
	c, ref, err := locateUnqualified(ctx, "ListAliases", in.FunctionName)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListAliasesOutput{Aliases: []lambdaapi.AliasConfiguration{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		if _, err := c.find(r, ref.name, ""); err != nil {
			return err
		}
		out.NextMarker, err = pick(r, c.aliases(ref.name), in.Marker, in.MaxItems, func(e kv.Entry) (bool, error) {
			a, err := get[alias](r, e.Key)
			if err != nil || in.FunctionVersion != nil && *in.FunctionVersion != versionName(a.Version) {
				return false, err
			}
			out.Aliases = append(out.Aliases, *c.describeAlias(a))
			return true, nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Service) updateAlias(ctx context.Context, in *lambdaapi.UpdateAliasInput) (*lambdaapi.AliasConfiguration, error) {
	c, ref, err := locateUnqualified(ctx, "UpdateAlias", in.FunctionName)
	if err != nil {
		return nil, err
	}
	defer s.functionChanged(c, ref.name)
	defer s.targets.change(c, ref.name)()
	var a *alias
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		if a, err = getAlias(tx, c, ref.name, deref(in.Name)); err != nil {
			return err
		}
		if a == nil {
			return lambdaapi.ErrResourceNotFoundException("Alias not found: %s", c.qualifiedARN(ref.name, deref(in.Name)))
		}
		if err := sameRevision(a.RevisionID, in.RevisionId); err != nil {
			return err
		}
		assign(&a.Description, in.Description)
		if err := c.route(tx, a, in.FunctionVersion, in.RoutingConfig); err != nil {
			return err
		}
		if err := c.mayMove(tx, a); err != nil {
			return err
		}
		if err := c.touchProvisioned(tx, ref.name); err != nil {
			return err
		}
		a.RevisionID = call.NewRequestID()
		c.aliasGuard(ref.name).Change(tx)
		return kv.SetJSON(tx, c.aliasKey(ref.name, a.Name), a)
	})
	if err != nil {
		return nil, err
	}
	return c.describeAlias(a), nil
}

// deleteAlias deletes an alias; one that does not exist is no error, as on AWS.
func (s *Service) deleteAlias(ctx context.Context, in *lambdaapi.DeleteAliasInput) (*lambdaapi.DeleteAliasOutput, error) {
	c, ref, err := locateUnqualified(ctx, "DeleteAlias", in.FunctionName)
	if err != nil {
		return nil, err
	}
	defer s.targets.change(c, ref.name)()
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		if _, err := c.find(tx, ref.name, ""); err != nil {
			return err
		}
		tx.Delete(c.aliasKey(ref.name, deref(in.Name)))
		tx.Delete(c.provisionedKey(ref.name, deref(in.Name)))
		return c.unhang(tx, ref.name, in.Name)
	})
	if err != nil {
		return nil, err
	}
	return nil, nil
}

func (c scope) describeAlias(a *alias) *lambdaapi.AliasConfiguration {
	out := &lambdaapi.AliasConfiguration{
		AliasArn:        new(c.qualifiedARN(a.Function, a.Name)),
		Name:            &a.Name,
		FunctionVersion: new(versionName(a.Version)),
		Description:     &a.Description,
		RevisionId:      &a.RevisionID,
	}
	if len(a.Weights) > 0 {
		out.RoutingConfig = &lambdaapi.AliasRoutingConfiguration{AdditionalVersionWeights: a.Weights}
	}
	return out
}

// second is the version that an alias sends a share of the invocations to, and that share; 0 if there is none.
func (a *alias) second() (number int64, weight float64) {
	for v, w := range a.Weights {
		number, _ = strconv.ParseInt(v, 10, 64)
		weight = w
	}
	return number, weight
}

func deref[T any](p *T) T {
	var v T
	assign(&v, p)
	return v
}
