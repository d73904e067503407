package smithy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

var served = []*smithy.Service{iamapi.Service, lambdaapi.Service, kinesisapi.Service, logsapi.Service, stsapi.Service}

func TestMux(t *testing.T) {
	m := smithy.NewMux()
	lambdaapi.GetFunction.Handle(m, func(_ context.Context, in *lambdaapi.GetFunctionInput) (*lambdaapi.GetFunctionOutput, error) {
		if *in.FunctionName == "none" {
			return nil, lambdaapi.ErrResourceNotFoundException("Function not found: %s", *in.FunctionName)
		}
		return &lambdaapi.GetFunctionOutput{Configuration: &lambdaapi.FunctionConfiguration{FunctionName: in.FunctionName}}, nil
	})
	lambdaapi.DeleteAlias.Handle(m, func(context.Context, *lambdaapi.DeleteAliasInput) (*lambdaapi.DeleteAliasOutput, error) {
		return nil, nil
	})

	ctx := t.Context()
	out, err := lambdaapi.GetFunction.Call(ctx, m, &lambdaapi.GetFunctionInput{FunctionName: new("f")})
	if err != nil || *out.Configuration.FunctionName != "f" {
		t.Fatalf("got %v, %v", out, err)
	}
	if out, err := lambdaapi.DeleteAlias.Call(ctx, m, &lambdaapi.DeleteAliasInput{}); err != nil || out == nil {
		t.Errorf("a nil output: got %v, %v", out, err)
	}

	_, err = lambdaapi.GetFunction.Call(ctx, m, &lambdaapi.GetFunctionInput{FunctionName: new("none")})
	e := apierr.From(err)
	if e.Code != "ResourceNotFoundException" || e.Status != 404 || e.Members["Type"] != "User" || e.Message != "Function not found: none" {
		t.Errorf("got %#v", e)
	}

	_, err = lambdaapi.CreateAlias.Call(ctx, m, &lambdaapi.CreateAliasInput{})
	if e := apierr.From(err); e.Code != "NotImplemented" || e.Status != 501 || e.Message != "Mayfly does not serve lambda:CreateAlias yet." {
		t.Errorf("got %#v", e)
	}

	served := 0
	for op, ok := range m.Coverage(lambdaapi.Service) {
		if ok != m.Served(op) {
			t.Errorf("%s: coverage disagrees", op)
		}
		if ok {
			served++
		}
	}
	if served != 2 {
		t.Errorf("%d operations served, want 2", served)
	}

	defer func() {
		if recover() == nil {
			t.Error("a second handler did not panic")
		}
	}()
	lambdaapi.DeleteAlias.Handle(m, func(context.Context, *lambdaapi.DeleteAliasInput) (*lambdaapi.DeleteAliasOutput, error) {
		return nil, nil
	})
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("r", 65)
	for _, c := range []struct {
		name string
		op   *smithy.OpInfo
		in   any
		code string // "" if valid
		want string
	}{
		{"valid", lambdaapi.GetFunction.Info, &lambdaapi.GetFunctionInput{FunctionName: new("f")}, "", ""},
		{"nothing to check", stsapi.GetCallerIdentity.Info, &stsapi.GetCallerIdentityInput{}, "", ""},
		{
			"required", lambdaapi.GetAlias.Info, &lambdaapi.GetAliasInput{FunctionName: new("f")}, "ValidationException",
			"1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must not be null",
		},
		{
			"pattern", lambdaapi.CreateFunction.Info,
			&lambdaapi.CreateFunctionInput{FunctionName: new("f"), Role: new("lambdarole"), Code: &lambdaapi.FunctionCode{}}, "ValidationException",
			`1 validation error detected: Value 'lambdarole' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`,
		},
		{
			"list too long", lambdaapi.UpdateFunctionCode.Info, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), Architectures: []string{"x86_64", "arm64"}}, "ValidationException",
			"1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1",
		},
		{
			"list element", lambdaapi.UpdateFunctionCode.Info, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), Architectures: []string{"riscv"}}, "ValidationException",
			"1 validation error detected: Value '[riscv]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
		},
		{
			"map value", lambdaapi.CreateAlias.Info, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("a"), FunctionVersion: new("1"), RoutingConfig: &lambdaapi.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": 2}}}, "ValidationException",
			"1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]",
		},
		{
			"number", lambdaapi.UpdateFunctionConfiguration.Info, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(0)), EphemeralStorage: &lambdaapi.EphemeralStorage{Size: new(int32(100))}}, "ValidationException",
			"2 validation errors detected: Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1; Value '100' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512",
		},
		{
			"enum", lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("f"), LogType: new("All")}, "ValidationException",
			"1 validation error detected: Value 'All' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]",
		},
		{
			"pattern before length", stsapi.AssumeRole.Info, &stsapi.AssumeRoleInput{RoleArn: new("arn:aws:iam::123456789012:role/r"), RoleSessionName: new("é")}, "ValidationError",
			`2 validation errors detected: Value 'é' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*; Value 'é' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2`,
		},
		{
			"iam hides values", iamapi.CreateRole.Info, &iamapi.CreateRoleInput{RoleName: &long, AssumeRolePolicyDocument: new("{}")}, "ValidationError",
			"1 validation error detected: Value at 'roleName' failed to satisfy constraint: Member must have length less than or equal to 64",
		},
		{
			"nested", iamapi.TagRole.Info, &iamapi.TagRoleInput{RoleName: new("r"), Tags: []iamapi.Tag{{Key: new("k"), Value: new("v")}, {Key: new("bad*key"), Value: new("v")}}}, "ValidationError",
			`1 validation error detected: Value at 'tags.2.member.key' failed to satisfy constraint: Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+`,
		},
		{
			"sensitive", lambdaapi.UpdateFunctionConfiguration.Info, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Environment: &lambdaapi.Environment{Variables: map[string]string{"1x": "v"}}}, "ValidationException",
			"1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := smithy.Validate(c.op, c.in)
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e := apierr.From(err)
			if e == nil || e.Code != c.code || e.Status != 400 || e.Message != c.want {
				t.Errorf("got  %v\nwant %s: %s", err, c.code, c.want)
			}
		})
	}
}

func TestValidateStopsAtTen(t *testing.T) {
	in := &iamapi.TagRoleInput{RoleName: new("r"), Tags: make([]iamapi.Tag, 40)}
	err := apierr.From(smithy.Validate(iamapi.TagRole.Info, in))
	if !strings.HasPrefix(err.Message, "10 validation errors detected: ") {
		t.Error(err.Message)
	}
}

func TestUnchecked(t *testing.T) {
	m := smithy.NewMux()
	iamapi.TagRole.Handle(m, func(context.Context, *iamapi.TagRoleInput) (*iamapi.TagRoleOutput, error) { return nil, nil },
		smithy.Unchecked("roleName", "tags.*.key"))
	bad := &iamapi.TagRoleInput{Tags: []iamapi.Tag{{Key: new("*"), Value: new("v")}}}
	if err := m.Validate(iamapi.TagRole.Info, bad); err != nil {
		t.Error(err)
	}
	bad.Tags[0].Value = nil
	if err := m.Validate(iamapi.TagRole.Info, bad); err == nil {
		t.Error("what was not opted out of is not checked")
	}
}

// TestPatterns holds that every pattern of the served contracts is understood.
func TestPatterns(t *testing.T) {
	for _, svc := range served {
		for i := range svc.Shapes {
			if err := svc.Shapes[i].CheckPattern(); err != nil {
				t.Errorf("%s.%s: write it by hand: %v", svc.Name, svc.Shapes[i].Name, err)
			}
		}
	}
}
