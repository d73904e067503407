package lambda

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// codeSigning is a code signing configuration: which signatures code must have. Nothing here can sign, so that to one that enforces all
// code is untrusted.
type codeSigning struct {
	ID           string            `json:"id"`
	Description  *string           `json:"description,omitempty"`
	Publishers   []string          `json:"publishers"`
	Policy       string            `json:"policy"` // Warn or Enforce
	LastModified time.Time         `json:"lastModified"`
	Tags         map[string]string `json:"tags,omitempty"`
}

func (c scope) codeSigningARN(id string) string {
	return arn.New("lambda", c.region, c.account, "code-signing-config:"+id).String()
}

// locateCodeSigning reads the ARN of a code signing configuration, whose pattern was checked. It must be of the caller's account and region.
func locateCodeSigning(ctx context.Context, operation string, given *string) (scope, string, error) {
	c := scopeOf(ctx)
	a, err := arn.Parse(deref(given))
	switch {
	case err != nil || a.Region != c.region:
		return c, "", errNoCodeSigning(deref(given))
	case a.Account != c.account:
		return c, "", errDenied(ctx, operation, deref(given))
	}
	return c, strings.TrimPrefix(a.Resource, "code-signing-config:"), nil
}

func errNoCodeSigning(arn string) error {
	return lambdaapi.ErrResourceNotFoundException("The Lambda code signing configuration %s can not be found.", arn)
}

// errCodeSigningGone is for those that want to bind a configuration.
func errCodeSigningGone(arn string) error {
	return lambdaapi.ErrCodeSigningConfigNotFoundException(
		"The code signing configuration cannot be found. Check that the provided configuration is not deleted: %s.", arn)
}

func (c scope) codeSigning(r kv.Reader, id string) (*codeSigning, error) {
	s, err := get[codeSigning](r, c.codeSigningKey(id))
	if err == nil && s == nil {
		err = errNoCodeSigning(c.codeSigningARN(id))
	}
	return s, err
}

func (c scope) describeCodeSigning(s *codeSigning) *lambdaapi.CodeSigningConfig {
	return &lambdaapi.CodeSigningConfig{
		CodeSigningConfigId: &s.ID, CodeSigningConfigArn: new(c.codeSigningARN(s.ID)), Description: s.Description,
		AllowedPublishers:   &lambdaapi.AllowedPublishers{SigningProfileVersionArns: s.Publishers},
		CodeSigningPolicies: &lambdaapi.CodeSigningPolicies{UntrustedArtifactOnDeployment: &s.Policy},
		LastModified:        new(s.LastModified.UTC().Format(timeFormat)),
	}
}

// apply gives s the members that are not nil.
func (s *codeSigning) apply(description *string, publishers *lambdaapi.AllowedPublishers, policies *lambdaapi.CodeSigningPolicies, now time.Time) {
	if description != nil {
		s.Description = description
	}
	if publishers != nil {
		s.Publishers = publishers.SigningProfileVersionArns
	}
	if policies != nil {
		assign(&s.Policy, policies.UntrustedArtifactOnDeployment)
	}
	s.LastModified = now
}

func (s *Service) createCodeSigningConfig(ctx context.Context, in *lambdaapi.CreateCodeSigningConfigInput) (*lambdaapi.CreateCodeSigningConfigOutput, error) {
	c := scopeOf(ctx)
	if err := checkTags(in.Tags, s.limits.Tags); err != nil {
		return nil, err
	}
	made := &codeSigning{ID: "csc-" + strings.ToLower(rand.Text()[:17]), Policy: lambdaapi.CodeSigningPolicyWarn, Tags: in.Tags}
	made.apply(in.Description, in.AllowedPublishers, in.CodeSigningPolicies, s.now())
	err := s.db.Update(ctx, func(tx kv.Tx) error { return kv.SetJSON(tx, c.codeSigningKey(made.ID), made) })
	if err != nil {
		return nil, err
	}
	return &lambdaapi.CreateCodeSigningConfigOutput{CodeSigningConfig: c.describeCodeSigning(made)}, nil
}

func (s *Service) getCodeSigningConfig(ctx context.Context, in *lambdaapi.GetCodeSigningConfigInput) (*lambdaapi.GetCodeSigningConfigOutput, error) {
	c, id, err := locateCodeSigning(ctx, "GetCodeSigningConfig", in.CodeSigningConfigArn)
	if err != nil {
		return nil, err
	}
	var found *codeSigning
	err = s.db.View(ctx, func(r kv.Reader) (err error) { found, err = c.codeSigning(r, id); return err })
	if err != nil {
		return nil, err
	}
	return &lambdaapi.GetCodeSigningConfigOutput{CodeSigningConfig: c.describeCodeSigning(found)}, nil
}

func (s *Service) updateCodeSigningConfig(ctx context.Context, in *lambdaapi.UpdateCodeSigningConfigInput) (*lambdaapi.UpdateCodeSigningConfigOutput, error) {
	c, id, err := locateCodeSigning(ctx, "UpdateCodeSigningConfig", in.CodeSigningConfigArn)
	if err != nil {
		return nil, err
	}
	var found *codeSigning
	err = s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if found, err = c.codeSigning(tx, id); err != nil {
			return err
		}
		found.apply(in.Description, in.AllowedPublishers, in.CodeSigningPolicies, s.now())
		return kv.SetJSON(tx, c.codeSigningKey(id), found)
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.UpdateCodeSigningConfigOutput{CodeSigningConfig: c.describeCodeSigning(found)}, nil
}

func (s *Service) deleteCodeSigningConfig(ctx context.Context, in *lambdaapi.DeleteCodeSigningConfigInput) (*lambdaapi.DeleteCodeSigningConfigOutput, error) {
	c, id, err := locateCodeSigning(ctx, "DeleteCodeSigningConfig", in.CodeSigningConfigArn)
	if err != nil {
		return nil, err
	}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		if _, err := c.codeSigning(tx, id); err != nil {
			return err
		}
		for _, err := range tx.Scan(c.codeSigningUses(id)) {
			if err != nil {
				return err
			}
			return lambdaapi.ErrResourceConflictException(
				"The code signing configuration %s is attached to functions. Remove it from them before you delete it.", c.codeSigningARN(id))
		}
		// A function is bound only by transactions that read this key.
		tx.Delete(c.codeSigningKey(id))
		return c.codeSigningGuard(id).Depend(tx)
	})
}

func (s *Service) listCodeSigningConfigs(ctx context.Context, in *lambdaapi.ListCodeSigningConfigsInput) (*lambdaapi.ListCodeSigningConfigsOutput, error) {
	c := scopeOf(ctx)
	out := &lambdaapi.ListCodeSigningConfigsOutput{CodeSigningConfigs: []lambdaapi.CodeSigningConfig{}}
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		out.NextMarker, err = pick(r, c.codeSignings(), in.Marker, in.MaxItems, func(e kv.Entry) (bool, error) {
			found, err := get[codeSigning](r, e.Key)
			if err == nil {
				out.CodeSigningConfigs = append(out.CodeSigningConfigs, *c.describeCodeSigning(found))
			}
			return true, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Service) listFunctionsByCodeSigningConfig(ctx context.Context, in *lambdaapi.ListFunctionsByCodeSigningConfigInput) (*lambdaapi.ListFunctionsByCodeSigningConfigOutput, error) {
	c, id, err := locateCodeSigning(ctx, "ListFunctionsByCodeSigningConfig", in.CodeSigningConfigArn)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListFunctionsByCodeSigningConfigOutput{FunctionArns: []string{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		if _, err := c.codeSigning(r, id); err != nil {
			return err
		}
		out.NextMarker, err = pick(r, c.codeSigningUses(id), in.Marker, in.MaxItems, func(e kv.Entry) (bool, error) {
			var name string
			err := kv.Decode(e.Key, nil, nil, nil, nil, nil, &name)
			out.FunctionArns = append(out.FunctionArns, c.qualifiedARN(name, ""))
			return true, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// bind makes f one of a configuration's functions, and of no other's; the ID "" stands for none. The caller stores f.
func (c scope) bind(tx kv.Tx, f *function, id string) {
	if f.CodeSigning != "" {
		tx.Delete(c.codeSigningUseKey(f.CodeSigning, f.Name))
	}
	if f.CodeSigning = id; id != "" {
		tx.Set(c.codeSigningUseKey(id, f.Name), nil)
		c.codeSigningGuard(id).Change(tx)
	}
}

// bindable reads a configuration that a function is to be bound to.
func bindable(ctx context.Context, r kv.Reader, given *string) (*codeSigning, error) {
	c := scopeOf(ctx)
	a, err := arn.Parse(deref(given))
	if err != nil || a.Account != c.account || a.Region != c.region {
		return nil, errCodeSigningGone(deref(given))
	}
	s, err := get[codeSigning](r, c.codeSigningKey(strings.TrimPrefix(a.Resource, "code-signing-config:")))
	if err == nil && s == nil {
		err = errCodeSigningGone(deref(given))
	}
	return s, err
}

// checkSigned refuses code and layers, which have no signature, for a function whose configuration enforces one.
func (c scope) checkSigned(r kv.Reader, f *function) error {
	if f == nil || f.CodeSigning == "" {
		return nil
	}
	s, err := get[codeSigning](r, c.codeSigningKey(f.CodeSigning))
	if err != nil || s == nil || s.Policy != lambdaapi.CodeSigningPolicyEnforce {
		return err
	}
	return lambdaapi.ErrCodeVerificationFailedException(
		"Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. "+
			"Check the provided signature for %s.", f.Name)
}

func (s *Service) putFunctionCodeSigningConfig(ctx context.Context, in *lambdaapi.PutFunctionCodeSigningConfigInput) (*lambdaapi.PutFunctionCodeSigningConfigOutput, error) {
	c, ref, err := locateUnqualified(ctx, "PutFunctionCodeSigningConfig", in.FunctionName)
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		bound, err := bindable(ctx, tx, in.CodeSigningConfigArn) // AWS: looked for before the function
		if err != nil {
			return err
		}
		return c.changeFunction(tx, ref.name, func(f *function) error {
			c.bind(tx, f, bound.ID)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.PutFunctionCodeSigningConfigOutput{CodeSigningConfigArn: in.CodeSigningConfigArn, FunctionName: &ref.name}, nil
}

func (s *Service) getFunctionCodeSigningConfig(ctx context.Context, in *lambdaapi.GetFunctionCodeSigningConfigInput) (*lambdaapi.GetFunctionCodeSigningConfigOutput, error) {
	c, ref, err := locateUnqualified(ctx, "GetFunctionCodeSigningConfig", in.FunctionName)
	if err != nil {
		return nil, err
	}
	var f *function
	err = s.db.View(ctx, func(r kv.Reader) (err error) { f, err = c.function(r, ref.name); return err })
	if err != nil || f.CodeSigning == "" {
		// AWS: neither member if no configuration is bound, although the model requires both.
		return nil, err
	}
	return &lambdaapi.GetFunctionCodeSigningConfigOutput{CodeSigningConfigArn: new(c.codeSigningARN(f.CodeSigning)), FunctionName: &ref.name}, nil
}

// deleteFunctionCodeSigningConfig unbinds a function; one that is not bound is no error, as on AWS.
func (s *Service) deleteFunctionCodeSigningConfig(ctx context.Context, in *lambdaapi.DeleteFunctionCodeSigningConfigInput) (*lambdaapi.DeleteFunctionCodeSigningConfigOutput, error) {
	c, ref, err := locateUnqualified(ctx, "DeleteFunctionCodeSigningConfig", in.FunctionName)
	if err != nil {
		return nil, err
	}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		return c.changeFunction(tx, ref.name, func(f *function) error {
			c.bind(tx, f, "")
			return nil
		})
	})
}

// function reads what the versions of a function share.
func (c scope) function(r kv.Reader, name string) (*function, error) {
	f, err := getFunction(r, c, name)
	if err == nil && f == nil {
		err = errNoFunction(c.qualifiedARN(name, ""))
	}
	return f, err
}

// changeFunction changes what the versions of a function share.
func (c scope) changeFunction(tx kv.Tx, name string, change func(*function) error) error {
	f, err := c.function(tx, name)
	if err != nil {
		return err
	}
	if err := change(f); err != nil {
		return err
	}
	return kv.SetJSON(tx, c.functionKey(name), f)
}
