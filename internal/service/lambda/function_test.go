package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
)

func TestCreateFunction(t *testing.T) {
	w := newWorld(t)
	got := w.create("f")
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$`).MatchString(*got.LastModified) {
		t.Errorf("LastModified is %q", *got.LastModified)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(*got.RevisionId) {
		t.Errorf("RevisionId is %q", *got.RevisionId)
	}
	pending := &lambdaapi.FunctionConfiguration{
		FunctionName: new("f"), FunctionArn: new(testARN + "f"), Runtime: new("provided.al2023"), Role: new(testRole), Handler: new("bootstrap"),
		CodeSize: new(int64(len(zipped(t, "#!/bin/sh\n")))), Description: new(""), Timeout: new(int32(3)), MemorySize: new(int32(128)),
		LastModified: got.LastModified, CodeSha256: got.CodeSha256, Version: new("$LATEST"), TracingConfig: &lambdaapi.TracingConfigResponse{Mode: new("PassThrough")},
		RevisionId: got.RevisionId, State: new("Pending"), StateReason: new("The function is being created."), StateReasonCode: new("Creating"),
		PackageType: new("Zip"), Architectures: []string{"x86_64"}, EphemeralStorage: &lambdaapi.EphemeralStorage{Size: new(int32(512))},
		SnapStart:     &lambdaapi.SnapStartResponse{ApplyOn: new("None"), OptimizationStatus: new("Off")},
		LoggingConfig: &lambdaapi.LoggingConfig{LogFormat: new("Text"), LogGroup: new("/aws/lambda/f")},

		RuntimeVersionConfig: &lambdaapi.RuntimeVersionConfig{RuntimeVersionArn: new("arn:aws:lambda:eu-central-1::runtime:" + strings.Repeat("ab", 32))},
	}
	if d := cmp.Diff(pending, got); d != "" {
		t.Error("CreateFunction (-want +got)", d)
	}

	// Nothing runs yet: it stays Pending, and cannot be changed or invoked.
	ctx := t.Context()
	const state = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
	_, err := lambdaapi.Invoke.Call(ctx, w, &lambdaapi.InvokeInput{FunctionName: new("f")})
	wantError(t, err, "ResourceConflictException", 409, state)
	wantType(t, err, "User")
	_, err = lambdaapi.UpdateFunctionConfiguration.Call(ctx, w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f")})
	wantError(t, err, "ResourceConflictException", 409, state)
	_, err = lambdaapi.UpdateFunctionCode.Call(ctx, w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, "x")})
	wantError(t, err, "ResourceConflictException", 409, state)
	_, err = lambdaapi.PublishVersion.Call(ctx, w, &lambdaapi.PublishVersionInput{FunctionName: new("f")})
	wantError(t, err, "ResourceConflictException", 409, state)
	_, err = lambdaapi.CreateFunction.Call(ctx, w, w.input("f"))
	wantError(t, err, "ResourceConflictException", 409, "Function already exist: f")

	w.run()
	active := w.settled("f")
	want := *pending
	want.State, want.StateReason, want.StateReasonCode = new("Active"), nil, nil
	want.LastUpdateStatus = new("Successful")
	want.RevisionId = active.RevisionId
	if d := cmp.Diff(&want, active); d != "" {
		t.Error("GetFunctionConfiguration (-want +got)", d)
	}
	if *active.RevisionId == *got.RevisionId {
		t.Error("RevisionId did not change when the function became Active")
	}
}

func TestCreateFunctionWithEverything(t *testing.T) {
	w := newWorld(t)
	w.run()
	got := w.created("my-fn", func(in *lambdaapi.CreateFunctionInput) {
		in.FunctionName = new(testARN + "my-fn")
		in.Runtime, in.Handler = new("nodejs22.x"), new("index.handler")
		in.Description = new("does <things> & more")
		in.Timeout, in.MemorySize = new(int32(900)), new(int32(10240))
		in.Environment = &lambdaapi.Environment{Variables: map[string]string{"A_B": "c", "empty": ""}}
		in.Tags = map[string]string{"team": "one"}
		in.Architectures = []string{"arm64"}
		in.EphemeralStorage = &lambdaapi.EphemeralStorage{Size: new(int32(10240))}
		in.TracingConfig = &lambdaapi.TracingConfig{Mode: new("Active")}
		in.DeadLetterConfig = &lambdaapi.DeadLetterConfig{TargetArn: new("arn:aws:sqs:eu-central-1:111122223333:dead")}
		in.LoggingConfig = &lambdaapi.LoggingConfig{LogFormat: new("JSON"), SystemLogLevel: new("WARN"), LogGroup: new("/my/logs")}
		in.VpcConfig = &lambdaapi.VpcConfig{}
		in.KMSKeyArn = new("")
	})
	if *got.FunctionName != "my-fn" || *got.FunctionArn != testARN+"my-fn" {
		t.Errorf("name %s, ARN %s", *got.FunctionName, *got.FunctionArn)
	}
	type shown struct {
		Description, Tracing, Dead, Group, Format, App, Sys, Arch string
		Timeout, Memory, Tmp                                      int32
		Env                                                       map[string]string
		VPC                                                       *lambdaapi.VpcConfigResponse
	}
	want := shown{
		"does <things> & more", "Active", "arn:aws:sqs:eu-central-1:111122223333:dead", "/my/logs", "JSON", "INFO", "WARN", "arm64",
		900, 10240, 10240, map[string]string{"A_B": "c", "empty": ""},
		&lambdaapi.VpcConfigResponse{SubnetIds: []string{}, SecurityGroupIds: []string{}, VpcId: new(""), Ipv6AllowedForDualStack: new(false)},
	}
	have := shown{
		*got.Description, *got.TracingConfig.Mode, *got.DeadLetterConfig.TargetArn, *got.LoggingConfig.LogGroup, *got.LoggingConfig.LogFormat,
		*got.LoggingConfig.ApplicationLogLevel, *got.LoggingConfig.SystemLogLevel, got.Architectures[0],
		*got.Timeout, *got.MemorySize, *got.EphemeralStorage.Size, got.Environment.Variables, got.VpcConfig,
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Error("(-want +got)", d)
	}
	none := w.create("none", func(in *lambdaapi.CreateFunctionInput) { in.Environment = &lambdaapi.Environment{} })
	if none.Environment == nil || len(none.Environment.Variables) > 0 {
		t.Error("no variables:", none.Environment)
	}
	out := must(lambdaapi.GetFunction.Call(t.Context(), w, &lambdaapi.GetFunctionInput{FunctionName: new("my-fn")}))(t)
	if d := cmp.Diff(map[string]string{"team": "one"}, out.Tags); d != "" {
		t.Error("Tags", d)
	}
	if out.Concurrency != nil || *out.Code.RepositoryType != "S3" || !strings.HasPrefix(*out.Code.Location, "http://localhost:4566/code/") ||
		!strings.HasSuffix(*out.Code.Location, "?valid=10m0s") {
		t.Errorf("GetFunction: %v %v", out.Concurrency, out.Code)
	}

	// What the fleet gets.
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("my-fn")})
	fn := w.invoker.last
	if fn.Account != testAccount || fn.Region != testRegion || fn.Name != "my-fn" || fn.ARN != testARN+"my-fn" || fn.Version != "$LATEST" || fn.Revision == "" ||
		fn.Runtime != "nodejs22.x" || fn.Handler != "index.handler" || fn.Architecture != "arm64" || fn.RoleARN != testRole || fn.MemoryMB != 10240 ||
		fn.TmpMB != 10240 || fn.Timeout.Seconds() != 900 || fn.Environment["A_B"] != "c" || fn.LogGroup != "/my/logs" || fn.LogFormat != "JSON" ||
		fn.ApplicationLogLevel != "INFO" || fn.SystemLogLevel != "WARN" || fn.CodeSHA256 != *got.CodeSha256 {
		t.Errorf("the fleet got %+v", fn)
	}
}

func TestCreateFunctionErrors(t *testing.T) {
	w := newWorld(t)
	type in = lambdaapi.CreateFunctionInput
	const param, validation = "InvalidParameterValueException", "ValidationException"
	tooMany := map[string]string{}
	for i := range 51 {
		tooMany[fmt.Sprint("k", i)] = "v"
	}
	envKB := strings.Repeat("x", 5000)
	layer := "arn:aws:lambda:eu-central-1:111122223333:layer:"
	for name, c := range map[string]struct {
		change func(*in)
		code   string
		status int
		text   string
	}{
		"name": {func(i *in) { i.FunctionName = new("invalid:function:name") }, validation, 400,
			"1 validation error detected: Value 'invalid:function:name' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: "},
		"long name": {func(i *in) { i.FunctionName = new(strings.Repeat("a", 65)) }, param, 400,
			"1 validation error detected: Value '" + strings.Repeat("a", 65) + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		"other region": {func(i *in) { i.FunctionName = new("arn:aws:lambda:us-west-2:111122223333:function:f") }, "ResourceNotFoundException", 404,
			"Functions from 'us-west-2' are not reachable in this region ('eu-central-1')"},
		"other account": {func(i *in) { i.FunctionName = new("444455556666:function:f") }, "AccessDeniedException", 403, "User: arn:aws:iam::111122223333:root is not authorized to perform: lambda:CreateFunction on resource: arn:aws:lambda:eu-central-1:444455556666:function:f because"},
		"role": {func(i *in) { i.Role = new("r1") }, validation, 400,
			`1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`},
		"role elsewhere": {func(i *in) { i.Role = new("arn:aws:iam::444455556666:role/r") }, "AccessDeniedException", 403, "Cross-account pass role is not allowed."},
		"runtime": {func(i *in) { i.Runtime = new("PYTHON3.9") }, param, 400,
			"Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs22.x, python3.13, provided.al2023] or be a valid ARN"},
		"no runtime": {func(i *in) { i.Runtime = nil }, param, 400, "Runtime and Handler are mandatory parameters for functions created with deployment packages."},
		"no handler": {func(i *in) { i.Handler = nil }, param, 400, "Runtime and Handler are mandatory parameters for functions created with deployment packages."},
		"timeout": {func(i *in) { i.Timeout = new(int32(901)) }, validation, 400,
			"1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"},
		"no timeout": {func(i *in) { i.Timeout = new(int32(0)) }, validation, 400,
			"1 validation error detected: Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		"memory": {func(i *in) { i.MemorySize = new(int32(10241)) }, param, 400, "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240"},
		"little memory": {func(i *in) { i.MemorySize = new(int32(127)) }, validation, 400,
			"1 validation error detected: Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"},
		"tmp": {func(i *in) { i.EphemeralStorage = &lambdaapi.EphemeralStorage{Size: new(int32(10241))} }, validation, 400,
			"1 validation error detected: Value '10241' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value less than or equal to 10240"},
		"architectures": {func(i *in) { i.Architectures = []string{"x86_64", "arm64"} }, validation, 400,
			"1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"},
		"environment": {func(i *in) {
			i.Environment = &lambdaapi.Environment{Variables: map[string]string{"LARGE": envKB, "SMALL": "<ok>"}}
		}, param, 400,
			`Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {"LARGE":"` + envKB + `","SMALL":"<ok>"}`},
		"reserved variables": {func(i *in) {
			i.Environment = &lambdaapi.Environment{Variables: map[string]string{"LAMBDA_TASK_ROOT": "x", "AWS_REGION": "x", "fine": "x", "AWS_LAMBDA_FUNCTION_ANY": "x"}}
		}, param, 400, "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_LAMBDA_FUNCTION_ANY, AWS_REGION, LAMBDA_TASK_ROOT"},
		"tags":         {func(i *in) { i.Tags = tooMany }, param, 400, "Number of tags exceeds resource tag limit."},
		"tag of AWS's": {func(i *in) { i.Tags = map[string]string{"aws:x": "y"} }, param, 400, `Tag keys must not begin with aws: "aws:x"`},
		"log level": {func(i *in) { i.LoggingConfig = &lambdaapi.LoggingConfig{ApplicationLogLevel: new("INFO")} }, param, 400,
			`LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the LogFormat to "Json" and try again.`},
		"subnet": {func(i *in) { i.VpcConfig = &lambdaapi.VpcConfig{SubnetIds: []string{"subnet-1"}} }, param, 400,
			"Error occurred while DescribeSubnets. EC2 Error Code: InvalidSubnetID.NotFound. EC2 Error Message: The subnet ID 'subnet-1' does not exist"},
		"security group": {func(i *in) { i.VpcConfig = &lambdaapi.VpcConfig{SecurityGroupIds: []string{"sg-1"}} }, param, 400,
			"Error occurred while DescribeSecurityGroups. EC2 Error Code: InvalidGroup.NotFound. EC2 Error Message: The security group 'sg-1' does not exist"},
		"file system": {func(i *in) {
			i.FileSystemConfigs = []lambdaapi.FileSystemConfig{{Arn: new("arn:aws:elasticfilesystem:eu-central-1:111122223333:access-point/fsap-0123456789abcdef0"), LocalMountPath: new("/mnt/x")}}
		}, param, 400, "Function must be configured to execute in a VPC to reference access point arn:aws:elasticfilesystem:eu-central-1:111122223333:access-point/fsap-0123456789abcdef0."},
		"dead letters": {func(i *in) { i.DeadLetterConfig = &lambdaapi.DeadLetterConfig{TargetArn: new("arn:aws:s3:::b")} }, param, 400, "The provided target arn is invalid: arn:aws:s3:::b."},
		"layer":        {func(i *in) { i.Layers = []string{layer + "l:1"} }, param, 400, "Layer version " + layer + "l:1 does not exist."},
		"six layers": {func(i *in) {
			i.Layers = []string{layer + "a:1", layer + "b:1", layer + "c:1", layer + "d:1", layer + "e:1", layer + "f:1"}
		}, param, 400, "Cannot reference more than 5 layers."},
		"layer elsewhere": {func(i *in) { i.Layers = []string{"arn:aws:lambda:us-east-1:111122223333:layer:l:1"} }, param, 400, "Layers are not in the same region as the function. Layers are expected to be in region eu-central-1."},
		"layer twice": {func(i *in) { i.Layers = []string{layer + "a:1", layer + "a:2"} }, param, 400,
			"Two different versions of the same layer are not allowed to be referenced in the same function. " + layer + "a:1 and " + layer + "a:2 are versions of the same layer."},
		"code signing": {func(i *in) {
			i.CodeSigningConfigArn = new("arn:aws:lambda:eu-central-1:111122223333:code-signing-config:csc-0123456789abcdef0")
		}, "CodeSigningConfigNotFoundException", 404, "The code signing configuration cannot be found. Check that the provided configuration is not deleted: arn:aws:lambda:eu-central-1:111122223333:code-signing-config:csc-0123456789abcdef0."},
		"snap start":   {func(i *in) { i.SnapStart = &lambdaapi.SnapStart{ApplyOn: new("PublishedVersions")} }, param, 400, "provided.al2023 is not supported for SnapStart enabled functions."},
		"KMS":          {func(i *in) { i.KMSKeyArn = new("arn:aws:kms:eu-central-1:111122223333:key/x") }, param, 400, "KMSKeyArn: customer managed keys for environment variables are not served by Mayfly yet."},
		"image":        {func(i *in) { i.PackageType = new("Image") }, param, 400, "PackageType Image: functions from container images are not served by Mayfly yet."},
		"image config": {func(i *in) { i.ImageConfig = &lambdaapi.ImageConfig{} }, param, 400, "Please don't provide ImageConfig"},
		"durable":      {func(i *in) { i.DurableConfig = &lambdaapi.DurableConfig{} }, param, 400, "DurableConfig: durable functions are not served by Mayfly yet."},
		"tenants": {func(i *in) {
			i.TenancyConfig, i.Runtime = &lambdaapi.TenancyConfig{TenantIsolationMode: new("PER_TENANT")}, new("python3.13")
			i.SnapStart = &lambdaapi.SnapStart{ApplyOn: new("PublishedVersions")}
		}, param, 400, "SnapStart is not supported for functions with tenancy configuration."},
		"no code":    {func(i *in) { i.Code = &lambdaapi.FunctionCode{} }, param, 400, "Please provide a source for function code."},
		"image code": {func(i *in) { i.Code = &lambdaapi.FunctionCode{ImageUri: new("x")} }, param, 400, "Please don't provide ImageUri when creating a function with packageType Zip."},
		"S3":         {func(i *in) { i.Code = &lambdaapi.FunctionCode{S3Bucket: new("bbb"), S3Key: new("k")} }, param, 400, "S3Bucket and S3Key: send the archive as ZipFile. Code from Amazon S3 is not served by Mayfly yet."},
		"S3 and zip": {func(i *in) { i.Code.S3Bucket = new("bbb") }, param, 400, "Please do not provide other FunctionCode parameters when providing a ZipFile."},
		"no zip":     {func(i *in) { i.Code.ZipFile = []byte("text") }, param, 400, "Could not unzip uploaded file. Please check your file, then try to upload again."},
		"empty":      {func(i *in) { i.Code.ZipFile = []byte{} }, param, 400, "Could not unzip uploaded file. Please check your file, then try to upload again."},
		"empty zip":  {func(i *in) { i.Code.ZipFile = makeZip(t) }, param, 400, "Uploaded file must be a non-empty zip"},
		"traversal":  {func(i *in) { i.Code.ZipFile = makeZip(t, file{name: "../x", body: "x"}) }, param, 400, "Could not unzip uploaded file."},
		"lying zip": {func(i *in) {
			i.Code.ZipFile = makeZip(t, file{name: "f", body: deflated(t, 5000), size: 10, method: 8})
		}, param, 400, "Could not unzip uploaded file."},
	} {
		t.Run(name, func(t *testing.T) {
			in := w.input("f")
			c.change(in)
			_, err := lambdaapi.CreateFunction.Call(t.Context(), w, in)
			wantError(t, err, c.code, c.status, c.text)
		})
	}
	if keys, dirs := w.keys(), w.codeDirs(); len(keys) > 0 || len(dirs) > 0 {
		t.Errorf("left behind: %q, %q", keys, dirs)
	}
}

func TestCodeLimits(t *testing.T) {
	w := newWorld(t, func(d *Deps) { d.Config = Config{ZipBytes: 2000, UnzippedBytes: 100_000} })
	for name, c := range map[string]struct {
		zip    []byte
		code   string
		status int
		text   string
	}{
		"zipped":   {make([]byte, 2001), "RequestEntityTooLargeException", 413, "Zipped size must be smaller than 2000 bytes"},
		"unzipped": {zipped(t, strings.Repeat("x", 100_001)), "InvalidParameterValueException", 400, "Unzipped size must be smaller than 100000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			in := w.input("f")
			in.Code.ZipFile = c.zip
			_, err := lambdaapi.CreateFunction.Call(t.Context(), w, in)
			wantError(t, err, c.code, c.status, c.text)
			if c.status == 413 {
				wantType(t, err, nil)
			}
		})
	}
	w.create("fits", func(in *lambdaapi.CreateFunctionInput) { in.Code.ZipFile = zipped(t, strings.Repeat("x", 99_000)) })
}

// TestEnvironmentLimit is exact: AWS takes 4,096 bytes of JSON.
func TestEnvironmentLimit(t *testing.T) {
	w := newWorld(t)
	value := strings.Repeat("x", 4096-len(`{"LARGE_VAR":""}`))
	w.create("f", func(in *lambdaapi.CreateFunctionInput) {
		in.Environment = &lambdaapi.Environment{Variables: map[string]string{"LARGE_VAR": value}}
	})
	in := w.input("g")
	in.Environment = &lambdaapi.Environment{Variables: map[string]string{"LARGE_VAR": value + "x"}}
	_, err := lambdaapi.CreateFunction.Call(t.Context(), w, in)
	wantError(t, err, "InvalidParameterValueException", 400, "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit.")
}

func TestGetFunctionErrors(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	get := func(name string, qualifier ...string) error {
		in := &lambdaapi.GetFunctionInput{FunctionName: &name}
		if qualifier != nil {
			in.Qualifier = &qualifier[0]
		}
		_, err := lambdaapi.GetFunction.Call(t.Context(), w, in)
		return err
	}
	wantError(t, get("nope"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"nope")
	wantError(t, get("nope", "$LATEST"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"nope:$LATEST")
	wantError(t, get("f", "1221"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:1221")
	wantError(t, get("f:1221"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:1221")
	wantError(t, get("f", "prod"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:prod")
	wantError(t, get("f", "$latest"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:$latest")
	wantError(t, get("f", "00"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:00")
	wantError(t, get("f", strings.Repeat("9", 30)), "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:999")
	wantError(t, get(testARN+"f:$LATEST", "1"), "InvalidParameterValueException", 400, "The derived qualifier from the function name does not match the specified qualifier.")
	wantError(t, get("f", "invalid!"), "ValidationException", 400, `1 validation error detected: Value 'invalid!' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`)
	wantError(t, get("arn:aws:lambda:us-east-1:111122223333:function:f"), "ResourceNotFoundException", 404, "Functions from 'us-east-1' are not reachable in this region ('eu-central-1')")
	wantError(t, get("a.b"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"a.b")
	for name, arn := range map[string]string{
		"f": testARN + "f", "f:$LATEST": testARN + "f:$LATEST", testARN + "f": testARN + "f", testARN + "f:$LATEST": testARN + "f:$LATEST",
		"111122223333:function:f": testARN + "f", "function:f": testARN + "f",
	} {
		if err := get(name); err != nil {
			t.Error(name, err)
		}
		if got := w.configuration(name); *got.FunctionArn != arn {
			t.Errorf("%s has the ARN %s, want %s", name, *got.FunctionArn, arn)
		}
	}
	// Accounts and regions are apart.
	for _, c := range []scope{{"444455556666", testRegion}, {testAccount, "us-east-1"}} {
		_, err := lambdaapi.GetFunction.Call(as(t.Context(), c.account, c.region), w, &lambdaapi.GetFunctionInput{FunctionName: new("f")})
		wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+c.qualifiedARN("f", ""))
	}
}

func TestListFunctions(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 120 {
		name := fmt.Sprintf("fn-%03d", i)
		w.create(name, func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(i == 3) })
		want = append(want, name)
	}
	w.create("elsewhere", func(in *lambdaapi.CreateFunctionInput) {})
	if _, err := lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("elsewhere")}); err != nil {
		t.Fatal(err)
	}
	in := w.input("other")
	if _, err := lambdaapi.CreateFunction.Call(as(t.Context(), testAccount, "us-east-1"), w, in); err != nil {
		t.Fatal(err)
	}
	list := func(in lambdaapi.ListFunctionsInput) (names []string, pages int) {
		for {
			out := must(lambdaapi.ListFunctions.Call(t.Context(), w, &in))(t)
			pages++
			for _, f := range out.Functions {
				names = append(names, *f.FunctionArn)
				if f.State != nil || f.LastUpdateStatus != nil || f.RuntimeVersionConfig != nil {
					t.Errorf("list shows states: %+v", f)
				}
			}
			if out.NextMarker == nil {
				return names, pages
			}
			in.Marker = out.NextMarker
		}
	}
	arns := func(suffix string, extra ...string) (all []string) {
		for _, n := range want {
			all = append(all, testARN+n+suffix)
			if n == "fn-003" {
				all = append(all, extra...)
			}
		}
		return all
	}
	for limit, pages := range map[int32]int{0: 3, 1: 120, 7: 18, 50: 3, 60: 3, 10000: 3} {
		in := lambdaapi.ListFunctionsInput{}
		if limit > 0 {
			in.MaxItems = &limit
		}
		got, n := list(in)
		if d := cmp.Diff(arns(""), got); d != "" || n != pages {
			t.Errorf("MaxItems %d: %d pages, want %d %s", limit, n, pages, d)
		}
	}
	got, _ := list(lambdaapi.ListFunctionsInput{FunctionVersion: new("ALL")})
	if d := cmp.Diff(arns(":$LATEST", testARN+"fn-003:1"), got); d != "" {
		t.Error("ALL", d)
	}
	if got, _ := list(lambdaapi.ListFunctionsInput{FunctionVersion: new("ALL"), MasterRegion: new("us-east-1")}); got != nil {
		t.Error("replicated:", got)
	}
	_, err := lambdaapi.ListFunctions.Call(t.Context(), w, &lambdaapi.ListFunctionsInput{FunctionVersion: new("invalid")})
	wantError(t, err, "ValidationException", 400, "1 validation error detected: Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]")
	_, err = lambdaapi.ListFunctions.Call(t.Context(), w, &lambdaapi.ListFunctionsInput{Marker: new("%%%")})
	wantError(t, err, "InvalidParameterValueException", 400, "Invalid pagination token")
	_, err = lambdaapi.ListFunctions.Call(t.Context(), w, &lambdaapi.ListFunctionsInput{MasterRegion: new("ALL")})
	wantError(t, err, "InvalidParameterValueException", 400, "FunctionVersion must be set to ALL")
}

func TestUpdateFunctionConfiguration(t *testing.T) {
	w := newWorld(t)
	w.run()
	before := w.created("f", func(in *lambdaapi.CreateFunctionInput) {
		in.Description, in.Timeout = new("first"), new(int32(7))
		in.Environment = &lambdaapi.Environment{Variables: map[string]string{"AA": "a"}}
		in.DeadLetterConfig = &lambdaapi.DeadLetterConfig{TargetArn: new("arn:aws:sns:eu-central-1:111122223333:dead")}
	})
	type in = lambdaapi.UpdateFunctionConfigurationInput
	update := func(change in) *lambdaapi.FunctionConfiguration {
		t.Helper()
		change.FunctionName = new("f")
		got := must(lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &change))(t)
		if *got.State != "Active" || *got.LastUpdateStatus != "InProgress" || *got.LastUpdateStatusReason != "The function is being created." || *got.LastUpdateStatusReasonCode != "Creating" {
			t.Errorf("answer: %s %s %s", *got.State, *got.LastUpdateStatus, deref(got.LastUpdateStatusReason))
		}
		done := w.settled("f")
		if *done.LastUpdateStatus != "Successful" || done.LastUpdateStatusReason != nil || *done.RevisionId == *got.RevisionId || *got.RevisionId == *before.RevisionId {
			t.Errorf("after: %+v", done)
		}
		before = done
		return done
	}
	got := update(in{MemorySize: new(int32(256))})
	if *got.MemorySize != 256 || *got.Description != "first" || *got.Timeout != 7 || got.Environment.Variables["AA"] != "a" || got.DeadLetterConfig == nil {
		t.Error("absent members changed:", got)
	}
	got = update(in{
		Environment: &lambdaapi.Environment{Variables: map[string]string{}}, DeadLetterConfig: &lambdaapi.DeadLetterConfig{TargetArn: new("")},
		Description: new(""), Role: new("arn:aws:iam::111122223333:role/other"), Runtime: new("python3.13"), Handler: new("m.h"),
	})
	if got.Environment != nil || got.DeadLetterConfig != nil || *got.Description != "" ||
		*got.Role != "arn:aws:iam::111122223333:role/other" || *got.Runtime != "python3.13" || *got.Handler != "m.h" {
		t.Error("empty members:", got)
	}
	got = update(in{LoggingConfig: &lambdaapi.LoggingConfig{LogGroup: new("cool_lambda")}})
	if d := cmp.Diff(&lambdaapi.LoggingConfig{LogFormat: new("Text"), LogGroup: new("cool_lambda")}, got.LoggingConfig); d != "" {
		t.Error(d)
	}
	got = update(in{LoggingConfig: &lambdaapi.LoggingConfig{LogFormat: new("JSON"), ApplicationLogLevel: new("DEBUG")}})
	if d := cmp.Diff(&lambdaapi.LoggingConfig{LogFormat: new("JSON"), LogGroup: new("cool_lambda"), ApplicationLogLevel: new("DEBUG"), SystemLogLevel: new("INFO")}, got.LoggingConfig); d != "" {
		t.Error(d)
	}
	got = update(in{LoggingConfig: &lambdaapi.LoggingConfig{LogFormat: new("Text")}})
	if d := cmp.Diff(&lambdaapi.LoggingConfig{LogFormat: new("Text"), LogGroup: new("cool_lambda")}, got.LoggingConfig); d != "" {
		t.Error(d)
	}

	_, err := lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &in{FunctionName: new("f"), RevisionId: new("stale")})
	wantError(t, err, "PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	wantType(t, err, "User")
	_, err = lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &in{FunctionName: new("nope")})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+testARN+"nope")
	_, err = lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &in{FunctionName: new("f"), Runtime: new("go1.x")})
	wantError(t, err, "InvalidParameterValueException", 400, "Value go1.x at 'runtime' failed to satisfy constraint")
	_, err = lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &in{FunctionName: new("f:1"), Runtime: new("go1.x")})
	wantError(t, err, "InvalidParameterValueException", 400, "This operation is permitted on Lambda functions only.")
}

func TestUpdateFunctionCode(t *testing.T) {
	w := newWorld(t)
	w.run()
	before := w.created("f")
	type in = lambdaapi.UpdateFunctionCodeInput
	second := zipped(t, "second")

	dry := must(lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &in{FunctionName: new("f"), ZipFile: second, DryRun: new(true)}))(t)
	if *dry.CodeSha256 == *before.CodeSha256 || *dry.RevisionId != *before.RevisionId || *dry.LastUpdateStatus != "Successful" {
		t.Error("dry run:", dry)
	}
	if d := cmp.Diff(before, w.configuration("f")); d != "" {
		t.Error("a dry run changed", d)
	}
	_, err := lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &in{FunctionName: new("f"), ZipFile: []byte("x"), DryRun: new(true)})
	wantError(t, err, "InvalidParameterValueException", 400, "Could not unzip uploaded file. Please check your file, then try to upload again.")

	_, err = lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &in{FunctionName: new("f"), ZipFile: second, RevisionId: new("stale")})
	wantError(t, err, "PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision Id.")
	_, err = lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &in{FunctionName: new("f"), ImageUri: new("i")})
	wantError(t, err, "InvalidParameterValueException", 400, "Please don't provide ImageUri when updating a function with packageType Zip.")

	got := must(lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &in{FunctionName: new(testARN + "f:$LATEST"), ZipFile: second, RevisionId: before.RevisionId, Architectures: []string{"arm64"}}))(t)
	if *got.LastUpdateStatus != "InProgress" || *got.CodeSize != int64(len(second)) || got.Architectures[0] != "arm64" {
		t.Error("update:", got)
	}
	after := w.settled("f")
	if *after.LastUpdateStatus != "Successful" || *after.CodeSha256 == *before.CodeSha256 || *after.CodeSha256 != *dry.CodeSha256 {
		t.Error("after:", after)
	}
}

func TestDeleteFunction(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	del := func(name string, qualifier ...string) error {
		in := &lambdaapi.DeleteFunctionInput{FunctionName: &name}
		if qualifier != nil {
			in.Qualifier = &qualifier[0]
		}
		out, err := lambdaapi.DeleteFunction.Call(t.Context(), w, in)
		if err == nil && *out.StatusCode != 204 {
			t.Errorf("status %d", *out.StatusCode)
		}
		return err
	}
	wantError(t, del("f", "$LATEST"), "InvalidParameterValueException", 400, "$LATEST version cannot be deleted without deleting the function.")
	wantError(t, del(testARN+"f:$LATEST", "1"), "InvalidParameterValueException", 400, "The derived qualifier from the function name does not match the specified qualifier.")
	wantError(t, del("f", "prod"), "InvalidParameterValueException", 400, "Deletion of aliases is not currently supported.")
	wantError(t, del("nope"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"nope")
	wantError(t, del("nope", "7"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"nope")
	if err := del("f", "7"); err != nil {
		t.Error("a version that is not there:", err)
	}
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
	wantError(t, del("f", "1"), "ResourceConflictException", 409, "Failed to delete version 1 of function f because it is referenced by alias live.")
	must(lambdaapi.DeleteAlias.Call(t.Context(), w, &lambdaapi.DeleteAliasInput{FunctionName: new("f"), Name: new("live")}))(t)
	if err := del("f:1"); err != nil {
		t.Error(err)
	}
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("dev"), FunctionVersion: new("$LATEST")}))(t)
	if err := del("f"); err != nil {
		t.Error(err)
	}
	wantError(t, del("f"), "ResourceNotFoundException", 404, "Function not found: "+testARN+"f")
	_, err := lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("f:dev")})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:dev")
	if len(w.invoker.retired) == 0 || w.invoker.retired[0] != testARN+"f" {
		t.Errorf("retired %q", w.invoker.retired)
	}
	for _, k := range w.keys() {
		if !strings.HasPrefix(k, `"lambda.archive"/`) {
			t.Error("left behind:", k)
		}
	}
	// A function of the same name starts anew.
	if got := w.created("f"); *got.Version != "$LATEST" {
		t.Error(got)
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	w.create("f", func(in *lambdaapi.CreateFunctionInput) { in.Tags = map[string]string{"A": "a"} })
	arn := new(testARN + "f")
	tag := func(tags map[string]string) error {
		_, err := lambdaapi.TagResource.Call(t.Context(), w, &lambdaapi.TagResourceInput{Resource: arn, Tags: tags})
		return err
	}
	want := func(want map[string]string) {
		t.Helper()
		out := must(lambdaapi.ListTags.Call(t.Context(), w, &lambdaapi.ListTagsInput{Resource: arn}))(t)
		if d := cmp.Diff(want, out.Tags); d != "" {
			t.Error(d)
		}
	}
	want(map[string]string{"A": "a"})
	if err := tag(map[string]string{"A": "a2", "B": ""}); err != nil {
		t.Error(err)
	}
	want(map[string]string{"A": "a2", "B": ""})
	must(lambdaapi.UntagResource.Call(t.Context(), w, &lambdaapi.UntagResourceInput{Resource: arn, TagKeys: []string{"A", "missing"}}))(t)
	want(map[string]string{"B": ""})

	many := map[string]string{}
	for i := range 49 {
		many[fmt.Sprint("k", i)] = "v"
	}
	if err := tag(many); err != nil {
		t.Error(err)
	}
	wantError(t, tag(map[string]string{"one more": "v"}), "InvalidParameterValueException", 400, "Number of tags exceeds resource tag limit.")
	wantError(t, tag(map[string]string{}), "InvalidParameterValueException", 400, "An error occurred and the request cannot be processed.")
	for _, q := range []string{":$LATEST", ":1", ":alias"} {
		_, err := lambdaapi.TagResource.Call(t.Context(), w, &lambdaapi.TagResourceInput{Resource: new(*arn + q), Tags: map[string]string{"a": "b"}})
		wantError(t, err, "InvalidParameterValueException", 400, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	missing := testARN + "doesnotexist"
	_, err := lambdaapi.TagResource.Call(t.Context(), w, &lambdaapi.TagResourceInput{Resource: &missing, Tags: map[string]string{"a": "b"}})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+missing)
	_, err = lambdaapi.UntagResource.Call(t.Context(), w, &lambdaapi.UntagResourceInput{Resource: &missing, TagKeys: []string{"a"}})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+missing)
	_, err = lambdaapi.ListTags.Call(t.Context(), w, &lambdaapi.ListTagsInput{Resource: &missing})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+missing)
	_, err = lambdaapi.ListTags.Call(t.Context(), w, &lambdaapi.ListTagsInput{Resource: new("arn:aws:lambda:eu-central-1:111122223333:event-source-mapping:01234567-89ab-cdef-0123-456789abcdef")})
	wantError(t, err, "ResourceNotFoundException", 404, "Event source mapping not found: arn:aws:lambda:eu-central-1:111122223333:event-source-mapping:")
	_, err = lambdaapi.UntagResource.Call(t.Context(), w, &lambdaapi.UntagResourceInput{Resource: arn})
	wantError(t, err, "ValidationException", 400, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null")
}

// TestRefresh calls what Terraform and others call to see what a function has.
func TestRefresh(t *testing.T) {
	w := newWorld(t)
	w.create("f")
	name := new("f")
	ctx := t.Context()
	if out := must(lambdaapi.GetFunctionCodeSigningConfig.Call(ctx, w, &lambdaapi.GetFunctionCodeSigningConfigInput{FunctionName: name}))(t); out.CodeSigningConfigArn != nil {
		t.Error(out)
	}
	if out := must(lambdaapi.GetFunctionConcurrency.Call(ctx, w, &lambdaapi.GetFunctionConcurrencyInput{FunctionName: name}))(t); out.ReservedConcurrentExecutions != nil {
		t.Error(out)
	}
	if out := must(lambdaapi.GetFunctionRecursionConfig.Call(ctx, w, &lambdaapi.GetFunctionRecursionConfigInput{FunctionName: name}))(t); *out.RecursiveLoop != "Terminate" {
		t.Error(out)
	}
	if out := must(lambdaapi.GetRuntimeManagementConfig.Call(ctx, w, &lambdaapi.GetRuntimeManagementConfigInput{FunctionName: name}))(t); *out.UpdateRuntimeOn != "Auto" || out.RuntimeVersionArn != nil || *out.FunctionArn != testARN+"f:$LATEST" {
		t.Error(out)
	}
	_, err := lambdaapi.GetPolicy.Call(ctx, w, &lambdaapi.GetPolicyInput{FunctionName: name})
	wantError(t, err, "ResourceNotFoundException", 404, "The resource you requested does not exist.")
	out := must(lambdaapi.GetAccountSettings.Call(ctx, w, &lambdaapi.GetAccountSettingsInput{}))(t)
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"AccountLimit":{"TotalCodeSize":80530636800,"CodeSizeUnzipped":262144000,"CodeSizeZipped":52428800,"ConcurrentExecutions":1000,"UnreservedConcurrentExecutions":1000},"AccountUsage":{"TotalCodeSize":%d,"FunctionCount":1}}`,
		len(zipped(t, "#!/bin/sh\n")))
	if string(b) != want {
		t.Errorf("%s\nwant\n%s", b, want)
	}
	name = new("nope")
	for _, err := range []error{
		second(lambdaapi.GetFunctionCodeSigningConfig.Call(ctx, w, &lambdaapi.GetFunctionCodeSigningConfigInput{FunctionName: name})),
		second(lambdaapi.GetFunctionConcurrency.Call(ctx, w, &lambdaapi.GetFunctionConcurrencyInput{FunctionName: name})),
		second(lambdaapi.GetFunctionRecursionConfig.Call(ctx, w, &lambdaapi.GetFunctionRecursionConfigInput{FunctionName: name})),
		second(lambdaapi.GetRuntimeManagementConfig.Call(ctx, w, &lambdaapi.GetRuntimeManagementConfigInput{FunctionName: name})),
		second(lambdaapi.ListVersionsByFunction.Call(ctx, w, &lambdaapi.ListVersionsByFunctionInput{FunctionName: name})),
		second(lambdaapi.ListAliases.Call(ctx, w, &lambdaapi.ListAliasesInput{FunctionName: name})),
	} {
		wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+testARN+"nope")
	}
	// What is not served says so.
	_, err = lambdaapi.ListCapacityProviders.Call(ctx, w, &lambdaapi.ListCapacityProvidersInput{})
	wantError(t, err, "NotImplemented", 501, "Mayfly does not serve lambda:ListCapacityProviders yet.")
}

func second[T any](_ T, err error) error { return err }

type fakeRoles map[string]bool

func (f fakeRoles) Assumable(_ context.Context, role, function string) (bool, error) {
	if function != testARN+"f" {
		return false, errors.New("asked for " + function)
	}
	return f[role], nil
}

func TestRoles(t *testing.T) {
	w := newWorld(t, func(d *Deps) { d.Roles = fakeRoles{testRole: true} })
	w.run()
	const refused = "The role defined for the function cannot be assumed by Lambda."
	in := w.input("f")
	in.Role = new(testRole + "2")
	_, err := lambdaapi.CreateFunction.Call(t.Context(), w, in)
	wantError(t, err, "InvalidParameterValueException", 400, refused)
	w.create("f")
	w.settled("f")
	for role, want := range map[string]string{testRole: "", testRole + "2": refused, strings.Replace(testRole, "1", "2", 1): "Cross-account pass role is not allowed."} {
		_, err := lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Role: &role})
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", role, err, want)
		}
	}
}

func (f fakeRoles) Session(_ context.Context, role, function string) (call.Principal, error) {
	return call.Principal{Type: call.AssumedRole, ARN: role, Session: &call.Session{Issuer: role, Function: function}}, nil
}
