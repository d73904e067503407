package lambda

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func (s *Service) publishVersion(ctx context.Context, in *lambdaapi.PublishVersionInput) (*lambdaapi.FunctionConfiguration, error) {
	c, ref, err := locateUnqualified(ctx, "PublishVersion", in.FunctionName)
	if err != nil {
		return nil, err
	}
	if in.PublishTo != nil {
		return nil, errNotServed("PublishTo: Lambda Managed Instances are")
	}
	defer s.targets.change(c, ref.name)()
	var p *version
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		v, err := c.changeable(tx, ref.name, in.RevisionId)
		if err != nil {
			return err
		}
		if err := v.mayInvoke(); err != nil {
			return err
		}
		if have := digestBase64(v.Deployment.CodeDigest); in.CodeSha256 != nil && *in.CodeSha256 != "" && *in.CodeSha256 != have {
			return lambdaapi.ErrInvalidParameterValueException(
				"CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.", *in.CodeSha256, have)
		}
		before := *v
		var made bool
		if p, made, err = c.publishNext(tx, v, in.Description, s.now()); err != nil || !made {
			return err
		}
		// AWS: publishing gives $LATEST a new RevisionId too (recorded 2025-11).
		v.touch(v.LastModified)
		return putVersion(tx, c, &before, v)
	})
	if err != nil {
		return nil, err
	}
	return c.describe(p, p.name(), false), nil
}

// publishNext makes a version of v, which is $LATEST, under the next number. If nothing has changed since the last version was made,
// that one is returned and none made.
func (c scope) publishNext(tx kv.Tx, v *version, description *string, now time.Time) (p *version, made bool, err error) {
	f, err := getFunction(tx, c, v.Function)
	if err != nil {
		return nil, false, err
	}
	if f == nil {
		return nil, false, errNoFunction(c.qualifiedARN(v.Function, ""))
	}
	if f.LastVersion > 0 {
		last, err := getVersion(tx, c, v.Function, f.LastVersion)
		if err != nil {
			return nil, false, err
		}
		if last != nil && last.PublishedFrom == v.Deployment.content() {
			return last, false, nil
		}
	}
	f.LastVersion++
	p = v.publish(f.LastVersion, description, now)
	if err := putVersion(tx, c, nil, p); err != nil {
		return nil, false, err
	}
	return p, true, kv.SetJSON(tx, c.functionKey(f.Name), f)
}

func (s *Service) listVersions(ctx context.Context, in *lambdaapi.ListVersionsByFunctionInput) (*lambdaapi.ListVersionsByFunctionOutput, error) {
	c, ref, err := locateUnqualified(ctx, "ListVersionsByFunction", in.FunctionName)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListVersionsByFunctionOutput{Versions: []lambdaapi.FunctionConfiguration{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		if _, err := c.find(r, ref.name, ""); err != nil {
			return err
		}
		entries, next, err := page(r, c.versions(ref.name), in.Marker, in.MaxItems)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, e := range entries {
			v, err := get[version](r, e.Key)
			if err != nil {
				return err
			}
			out.Versions = append(out.Versions, *c.describe(v, v.name(), true))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
