package lambda

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// runtimeManagement is what hangs on a version whose runtime management was set.
type runtimeManagement struct {
	UpdateOn string  `json:"updateOn"`
	Runtime  *string `json:"runtime,omitempty"` // ARN of the runtime's version, with Manual
}

const runtimeManagementKind = "runtime-management"

func (s *Service) putRuntimeManagementConfig(ctx context.Context, in *lambdaapi.PutRuntimeManagementConfigInput) (*lambdaapi.PutRuntimeManagementConfigOutput, error) {
	c, ref, err := locate(ctx, "PutRuntimeManagementConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	m := runtimeManagement{UpdateOn: deref(in.UpdateRuntimeOn), Runtime: in.RuntimeVersionArn}
	switch manual := m.UpdateOn == lambdaapi.UpdateRuntimeOnManual; {
	case manual && m.Runtime == nil:
		return nil, lambdaapi.ErrInvalidParameterValueException("RuntimeVersionArn is required when UpdateRuntimeOn is Manual.")
	case !manual && m.Runtime != nil:
		return nil, lambdaapi.ErrInvalidParameterValueException("RuntimeVersionArn is allowed only when UpdateRuntimeOn is Manual.")
	}
	var v *version
	err = s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if v, err = c.find(tx, ref.name, ref.qualifier); err != nil {
			return err
		}
		before := *v
		if err := v.mayChange(c.qualifiedARN(ref.name, ref.qualifier)); err != nil {
			return err
		}
		// A machine has one version of each language, so that there is no other to hold a function to.
		if have := c.runtimeARN(v.RuntimeID); m.Runtime != nil && (v.RuntimeID == "" || *m.Runtime != have) {
			return lambdaapi.ErrInvalidParameterValueException("Runtime version %s is not available for %s. This machine has %s.", *m.Runtime, v.Deployment.Runtime, have)
		}
		v.touch(s.now())
		if err := putVersion(tx, c, &before, v); err != nil {
			return err
		}
		return c.hang(tx, ref.name, v.name(), runtimeManagementKind, m)
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.PutRuntimeManagementConfigOutput{
		UpdateRuntimeOn: &m.UpdateOn, RuntimeVersionArn: m.Runtime, FunctionArn: new(c.qualifiedARN(ref.name, v.name())),
	}, nil
}

func (s *Service) getRuntimeManagementConfig(ctx context.Context, in *lambdaapi.GetRuntimeManagementConfigInput) (*lambdaapi.GetRuntimeManagementConfigOutput, error) {
	c, ref, err := locate(ctx, "GetRuntimeManagementConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	m := &runtimeManagement{UpdateOn: lambdaapi.UpdateRuntimeOnAuto}
	var v *version
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		if v, err = c.find(r, ref.name, ref.qualifier); err != nil {
			return err
		}
		set, err := get[runtimeManagement](r, c.hangingKey(ref.name, v.name(), runtimeManagementKind))
		if set != nil {
			m = set
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.GetRuntimeManagementConfigOutput{
		UpdateRuntimeOn: &m.UpdateOn, RuntimeVersionArn: m.Runtime, FunctionArn: new(c.qualifiedARN(ref.name, v.name())),
	}, nil
}

// runtimeARN is the ARN of a runtime's version.
func (c scope) runtimeARN(id string) string {
	return "arn:aws:lambda:" + c.region + "::runtime:" + id
}

// Scaling of environments on instances: no function here has a capacity provider.

func (s *Service) putFunctionScalingConfig(ctx context.Context, in *lambdaapi.PutFunctionScalingConfigInput) (*lambdaapi.PutFunctionScalingConfigOutput, error) {
	return nil, s.notScaled(ctx, "PutFunctionScalingConfig", in.FunctionName, in.Qualifier)
}

func (s *Service) getFunctionScalingConfig(ctx context.Context, in *lambdaapi.GetFunctionScalingConfigInput) (*lambdaapi.GetFunctionScalingConfigOutput, error) {
	return nil, s.notScaled(ctx, "GetFunctionScalingConfig", in.FunctionName, in.Qualifier)
}

func (s *Service) notScaled(ctx context.Context, operation string, name, qualifier *string) error {
	c, ref, err := locate(ctx, operation, name, qualifier)
	if err != nil {
		return err
	}
	if _, err := s.lookup(ctx, c, ref); err != nil {
		return err
	}
	return lambdaapi.ErrInvalidParameterValueException(
		"Function scaling configuration is supported only for functions with a capacity provider: %s has none.", c.qualifiedARN(ref.name, ref.qualifier))
}
