package lambda

import (
	"slices"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
)

func TestCodeSigning(t *testing.T) {
	w := newWorld(t)
	w.run()
	ctx := t.Context()
	publishers := &lambdaapi.AllowedPublishers{SigningProfileVersionArns: []string{"arn:aws:signer:eu-central-1:111122223333:/signing-profiles/p/0123456789"}}
	config := func(policy *string) *lambdaapi.CodeSigningConfig {
		t.Helper()
		in := &lambdaapi.CreateCodeSigningConfigInput{AllowedPublishers: publishers, Tags: map[string]string{"a": "b"}}
		if policy != nil {
			in.CodeSigningPolicies = &lambdaapi.CodeSigningPolicies{UntrustedArtifactOnDeployment: policy}
		}
		return must(lambdaapi.CreateCodeSigningConfig.Call(ctx, w, in))(t).CodeSigningConfig
	}
	warn, enforce := config(nil), config(new("Enforce"))
	if *warn.CodeSigningPolicies.UntrustedArtifactOnDeployment != "Warn" || *enforce.CodeSigningPolicies.UntrustedArtifactOnDeployment != "Enforce" || warn.Description != nil {
		t.Errorf("configurations %+v %+v", warn, enforce)
	}
	const missing = "arn:aws:lambda:eu-central-1:111122223333:code-signing-config:csc-0123456789abcdef0"
	const noCode, noSource = "CodeSigningConfigNotFoundException", "ResourceNotFoundException"
	wantMissing := func(err error) {
		t.Helper()
		wantError(t, err, noSource, 404, "The Lambda code signing configuration "+missing+" can not be found.")
	}
	_, err := lambdaapi.GetCodeSigningConfig.Call(ctx, w, &lambdaapi.GetCodeSigningConfigInput{CodeSigningConfigArn: new(missing)})
	wantMissing(err)
	_, err = lambdaapi.UpdateCodeSigningConfig.Call(ctx, w, &lambdaapi.UpdateCodeSigningConfigInput{CodeSigningConfigArn: new(missing)})
	wantMissing(err)
	_, err = lambdaapi.DeleteCodeSigningConfig.Call(ctx, w, &lambdaapi.DeleteCodeSigningConfigInput{CodeSigningConfigArn: new(missing)})
	wantMissing(err)
	_, err = lambdaapi.ListFunctionsByCodeSigningConfig.Call(ctx, w, &lambdaapi.ListFunctionsByCodeSigningConfigInput{CodeSigningConfigArn: new(missing)})
	wantMissing(err)
	_, err = lambdaapi.ListTags.Call(ctx, w, &lambdaapi.ListTagsInput{Resource: new(missing)})
	wantMissing(err)

	put := func(name, config string) error {
		_, err := lambdaapi.PutFunctionCodeSigningConfig.Call(ctx, w, &lambdaapi.PutFunctionCodeSigningConfigInput{FunctionName: &name, CodeSigningConfigArn: &config})
		return err
	}
	wantError(t, put("no", missing), noCode, 404, "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "+missing+".")
	wantError(t, put("no", *warn.CodeSigningConfigArn), noSource, 404, "Function not found: "+testARN+"no")

	// Unsigned code.
	in := w.input("g")
	in.CodeSigningConfigArn = enforce.CodeSigningConfigArn
	_, err = lambdaapi.CreateFunction.Call(ctx, w, in)
	wantError(t, err, "CodeVerificationFailedException", 400, "Lambda cannot deploy the function.")
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.CodeSigningConfigArn = warn.CodeSigningConfigArn })
	bound := func() string {
		t.Helper()
		out := must(lambdaapi.GetFunctionCodeSigningConfig.Call(ctx, w, &lambdaapi.GetFunctionCodeSigningConfigInput{FunctionName: new("f")}))(t)
		if out == nil {
			return ""
		}
		return deref(out.CodeSigningConfigArn)
	}
	functions := func(config *lambdaapi.CodeSigningConfig) []string {
		t.Helper()
		return must(lambdaapi.ListFunctionsByCodeSigningConfig.Call(ctx, w, &lambdaapi.ListFunctionsByCodeSigningConfigInput{CodeSigningConfigArn: config.CodeSigningConfigArn}))(t).FunctionArns
	}
	if bound() != *warn.CodeSigningConfigArn || !slices.Equal(functions(warn), []string{testARN + "f"}) || len(functions(enforce)) > 0 {
		t.Error("bound to", bound(), functions(warn), functions(enforce))
	}
	if err := put("f", *enforce.CodeSigningConfigArn); err != nil {
		t.Fatal(err)
	}
	if bound() != *enforce.CodeSigningConfigArn || len(functions(warn)) > 0 || !slices.Equal(functions(enforce), []string{testARN + "f"}) {
		t.Error("bound to", bound(), functions(warn), functions(enforce))
	}
	_, err = lambdaapi.UpdateFunctionCode.Call(ctx, w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, "other")})
	wantError(t, err, "CodeVerificationFailedException", 400, "Lambda cannot deploy the function.")
	l := w.layer("l", "1")
	_, err = lambdaapi.UpdateFunctionConfiguration.Call(ctx, w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: []string{*l.LayerVersionArn}})
	wantError(t, err, "CodeVerificationFailedException", 400, "Lambda cannot deploy the function.")
	w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Description: new("no code in this")})

	remove := func(config *lambdaapi.CodeSigningConfig) error {
		_, err := lambdaapi.DeleteCodeSigningConfig.Call(ctx, w, &lambdaapi.DeleteCodeSigningConfigInput{CodeSigningConfigArn: config.CodeSigningConfigArn})
		return err
	}
	wantError(t, remove(enforce), "ResourceConflictException", 409, "The code signing configuration "+*enforce.CodeSigningConfigArn+" is attached to functions.")
	updated := must(lambdaapi.UpdateCodeSigningConfig.Call(ctx, w, &lambdaapi.UpdateCodeSigningConfigInput{
		CodeSigningConfigArn: enforce.CodeSigningConfigArn, Description: new("softer"),
		CodeSigningPolicies: &lambdaapi.CodeSigningPolicies{UntrustedArtifactOnDeployment: new("Warn")},
	}))(t).CodeSigningConfig
	if *updated.Description != "softer" || len(updated.AllowedPublishers.SigningProfileVersionArns) != 1 || *updated.CodeSigningPolicies.UntrustedArtifactOnDeployment != "Warn" {
		t.Errorf("updated: %+v", updated)
	}
	must(lambdaapi.UpdateFunctionCode.Call(ctx, w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, "other")}))(t)
	w.settled("f")

	for range 2 { // idempotent
		must(lambdaapi.DeleteFunctionCodeSigningConfig.Call(ctx, w, &lambdaapi.DeleteFunctionCodeSigningConfigInput{FunctionName: new("f")}))(t)
	}
	if bound() != "" {
		t.Error("still bound to", bound())
	}
	if err := remove(enforce); err != nil {
		t.Error(err)
	}
	if err := put("f", *warn.CodeSigningConfigArn); err != nil {
		t.Fatal(err)
	}
	must(lambdaapi.DeleteFunction.Call(ctx, w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
	if len(functions(warn)) > 0 {
		t.Error("a deleted function is bound:", functions(warn))
	}

	// Tags.
	must(lambdaapi.TagResource.Call(ctx, w, &lambdaapi.TagResourceInput{Resource: warn.CodeSigningConfigArn, Tags: map[string]string{"c": "d"}}))(t)
	must(lambdaapi.UntagResource.Call(ctx, w, &lambdaapi.UntagResourceInput{Resource: warn.CodeSigningConfigArn, TagKeys: []string{"a"}}))(t)
	tags := must(lambdaapi.ListTags.Call(ctx, w, &lambdaapi.ListTagsInput{Resource: warn.CodeSigningConfigArn}))(t).Tags
	if len(tags) != 1 || tags["c"] != "d" {
		t.Error("tags", tags)
	}
	all := must(lambdaapi.ListCodeSigningConfigs.Call(ctx, w, &lambdaapi.ListCodeSigningConfigsInput{}))(t).CodeSigningConfigs
	if len(all) != 1 || *all[0].CodeSigningConfigArn != *warn.CodeSigningConfigArn {
		t.Error("configurations", all)
	}
	_, err = lambdaapi.GetCodeSigningConfig.Call(as(ctx, "444455556666", testRegion), w, &lambdaapi.GetCodeSigningConfigInput{CodeSigningConfigArn: warn.CodeSigningConfigArn})
	wantError(t, err, "AccessDeniedException", 403, "User: arn:aws:iam::444455556666:root is not authorized to perform: lambda:GetCodeSigningConfig on resource: ")
}

func TestRuntimeManagement(t *testing.T) {
	w := newWorld(t)
	w.run()
	arn := deref(w.created("f").RuntimeVersionConfig.RuntimeVersionArn)
	w.publish(lambdaapi.PublishVersionInput{FunctionName: new("f")})
	put := func(on string, runtime, qualifier *string) error {
		_, err := lambdaapi.PutRuntimeManagementConfig.Call(t.Context(), w, &lambdaapi.PutRuntimeManagementConfigInput{
			FunctionName: new("f"), Qualifier: qualifier, UpdateRuntimeOn: &on, RuntimeVersionArn: runtime})
		return err
	}
	get := func(qualifier *string) (on, runtime, function string) {
		t.Helper()
		out := must(lambdaapi.GetRuntimeManagementConfig.Call(t.Context(), w, &lambdaapi.GetRuntimeManagementConfigInput{FunctionName: new("f"), Qualifier: qualifier}))(t)
		return *out.UpdateRuntimeOn, deref(out.RuntimeVersionArn), *out.FunctionArn
	}
	const param = "InvalidParameterValueException"
	wantError(t, put("Manual", nil, nil), param, 400, "RuntimeVersionArn is required when UpdateRuntimeOn is Manual.")
	wantError(t, put("Auto", &arn, nil), param, 400, "RuntimeVersionArn is allowed only when UpdateRuntimeOn is Manual.")
	wantError(t, put("Manual", new(arn[:len(arn)-2]+"00"), nil), param, 400, "Runtime version "+arn[:len(arn)-2]+"00 is not available for provided.al2023.")
	wantError(t, put("Never", nil, nil), "ValidationException", 400, "1 validation error detected: Value 'Never' at 'updateRuntimeOn'")
	wantError(t, put("Auto", nil, new("7")), "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:7")
	if err := put("Manual", &arn, nil); err != nil {
		t.Fatal(err)
	}
	if err := put("FunctionUpdate", nil, new("1")); err != nil {
		t.Fatal(err)
	}
	if on, runtime, function := get(nil); on != "Manual" || runtime != arn || function != testARN+"f:$LATEST" {
		t.Error("of $LATEST:", on, runtime, function)
	}
	if on, runtime, function := get(new("1")); on != "FunctionUpdate" || runtime != "" || function != testARN+"f:1" {
		t.Error("of the version:", on, runtime, function)
	}
	_, err := lambdaapi.GetFunctionScalingConfig.Call(t.Context(), w, &lambdaapi.GetFunctionScalingConfigInput{FunctionName: new("f"), Qualifier: new("1")})
	wantError(t, err, param, 400, "Function scaling configuration is supported only for functions with a capacity provider: "+testARN+"f:1 has none.")
}

func TestTenants(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("plain")
	f := w.created("f", func(in *lambdaapi.CreateFunctionInput) {
		in.TenancyConfig = &lambdaapi.TenancyConfig{TenantIsolationMode: new("PER_TENANT")}
	})
	if f.TenancyConfig == nil || *f.TenancyConfig.TenantIsolationMode != "PER_TENANT" {
		t.Errorf("TenancyConfig %+v", f.TenancyConfig)
	}
	const param = "InvalidParameterValueException"
	_, err := lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("f")})
	wantError(t, err, param, 400, "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	_, err = lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("plain"), TenantId: new("t")})
	wantError(t, err, param, 400, "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.")
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f"), TenantId: new("t")})
	if w.invoker.request.TenantID != "t" {
		t.Error("the fleet got the tenant", w.invoker.request.TenantID)
	}
	if v := w.publish(lambdaapi.PublishVersionInput{FunctionName: new("f")}); v.TenancyConfig == nil {
		t.Error("a version has no TenancyConfig")
	}
}
