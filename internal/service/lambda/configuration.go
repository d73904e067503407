package lambda

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
)

// defaults is the configuration of a function that is created with nothing but what is required.
func defaults(name string) deployment {
	return deployment{
		Architecture:  lambdaapi.ArchitectureX8664,
		Timeout:       3,
		MemorySize:    128,
		EphemeralSize: 512,
		Logging:       logging{Format: lambdaapi.LogFormatText, Group: "/aws/lambda/" + name},
		Tracing:       lambdaapi.TracingModePassThrough,
		SnapStart:     lambdaapi.SnapStartApplyOnNone,
	}
}

// settings is what CreateFunction and UpdateFunctionConfiguration have in common.
type settings = lambdaapi.UpdateFunctionConfigurationInput

// configure applies in to d: what is absent stays, what is empty is cleared. It checks what the model's constraints do not.
func (s *Service) configure(d *deployment, in *settings, c scope) error {
	if err := notServed(in); err != nil {
		return err
	}
	if in.Runtime != nil {
		if accepted := s.runtimes.Creatable(); !slices.Contains(accepted, *in.Runtime) {
			return lambdaapi.ErrInvalidParameterValueException(
				"Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN",
				*in.Runtime, strings.Join(accepted, ", "))
		}
		d.Runtime = *in.Runtime
	}
	assign(&d.Handler, in.Handler)
	assign(&d.Description, in.Description)
	if in.Role != nil {
		if a, err := arn.Parse(*in.Role); err != nil || a.Account != c.account {
			return errForeignRole()
		}
		d.Role = *in.Role
	}
	if t := in.Timeout; t != nil {
		if err := within("timeout", *t, 1, s.limits.Timeout); err != nil {
			return err
		}
		d.Timeout = *t
	}
	if m := in.MemorySize; m != nil {
		if *m > s.limits.MemoryMB {
			return lambdaapi.ErrInvalidParameterValueException(
				"'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to %d", s.limits.MemoryMB)
		}
		if err := within("memorySize", *m, 128, s.limits.MemoryMB); err != nil {
			return err
		}
		d.MemorySize = *m
	}
	if in.EphemeralStorage != nil && in.EphemeralStorage.Size != nil {
		if err := within("ephemeralStorage.size", *in.EphemeralStorage.Size, 512, s.limits.EphemeralMB); err != nil {
			return err
		}
		d.EphemeralSize = *in.EphemeralStorage.Size
	}
	if in.Environment != nil {
		if err := checkEnvironment(in.Environment.Variables, s.limits.EnvironmentLen); err != nil {
			return err
		}
		// AWS: an update with no variables removes the member, and so Terraform finds nothing to do after it.
		d.Environment = nil
		if vars := maps.Clone(in.Environment.Variables); len(vars) > 0 {
			d.Environment = &vars
		}
	}
	if in.TracingConfig != nil {
		assign(&d.Tracing, in.TracingConfig.Mode)
	}
	if in.DeadLetterConfig != nil && in.DeadLetterConfig.TargetArn != nil {
		if err := s.checkDeadLetter(*in.DeadLetterConfig.TargetArn); err != nil {
			return err
		}
		d.DeadLetter = *in.DeadLetterConfig.TargetArn
	}
	if in.SnapStart != nil {
		assign(&d.SnapStart, in.SnapStart.ApplyOn)
	}
	if d.SnapStart == lambdaapi.SnapStartApplyOnPublishedVersions && !snapStarts(d.Runtime) {
		return lambdaapi.ErrInvalidParameterValueException("%s is not supported for SnapStart enabled functions.", d.Runtime)
	}
	if d.SnapStart != lambdaapi.SnapStartApplyOnNone && d.Tenancy != "" {
		return lambdaapi.ErrInvalidParameterValueException("SnapStart is not supported for functions with tenancy configuration.")
	}
	if in.VpcConfig != nil {
		if err := checkVPC(in.VpcConfig); err != nil {
			return err
		}
		d.DetachedVPC = true
		assign(&d.VPCIPv6, in.VpcConfig.Ipv6AllowedForDualStack)
	}
	if err := d.Logging.apply(in.LoggingConfig); err != nil {
		return err
	}
	return checkLayers(in.Layers, c)
}

func errForeignRole() error {
	return apierr.New("AccessDeniedException", 403, "Cross-account pass role is not allowed.")
}

func assign[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// within words a bound as AWS's validation does.
func within(path string, v, least, most int32) error {
	bound, limit := "", int32(0)
	switch {
	case v < least:
		bound, limit = "greater", least
	case v > most:
		bound, limit = "less", most
	default:
		return nil
	}
	return apierr.New("ValidationException", 400,
		"1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value %s than or equal to %d", v, path, bound, limit)
}

// notServed refuses members whose effect Mayfly does not have, rather than to take them and do nothing.
func notServed(in *settings) error {
	switch {
	case in.ImageConfig != nil:
		return lambdaapi.ErrInvalidParameterValueException("Please don't provide ImageConfig when creating or updating a function with packageType Zip.")
	case len(in.FileSystemConfigs) > 0:
		// No function can be in a VPC here, and AWS asks for that first.
		a := ""
		if p := in.FileSystemConfigs[0].Arn; p != nil {
			a = *p
		}
		return lambdaapi.ErrInvalidParameterValueException("Function must be configured to execute in a VPC to reference access point %s.", a)
	case in.KMSKeyArn != nil && *in.KMSKeyArn != "":
		return errNotServed("KMSKeyArn: customer managed keys for environment variables are")
	case in.CapacityProviderConfig != nil:
		return errNotServed("CapacityProviderConfig: Lambda Managed Instances are")
	case in.DurableConfig != nil:
		return errNotServed("DurableConfig: durable functions are")
	}
	return nil
}

// errNotServed says that something of AWS's is missing here. what ends in a verb.
func errNotServed(what string) error {
	return lambdaapi.ErrInvalidParameterValueException("%s not served by Mayfly yet.", what)
}

// reserved are the names of variables that the platform sets, besides all that begin with AWS_LAMBDA_FUNCTION_.
var reserved = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_INITIALIZATION_TYPE",
	"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
	"AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_MAX_CONCURRENCY",
}

func checkEnvironment(vars map[string]string, limit int) error {
	const unable = "Lambda was unable to configure your environment variables because the environment variables you have provided "
	var taken []string
	for name := range vars {
		if slices.Contains(reserved, name) || strings.HasPrefix(name, "AWS_LAMBDA_FUNCTION_") {
			taken = append(taken, name)
		}
	}
	if len(taken) > 0 {
		slices.Sort(taken)
		return lambdaapi.ErrInvalidParameterValueException(
			unable+"contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s",
			strings.Join(taken, ", "))
	}
	if measured := environmentJSON(vars); len(measured) > limit {
		size := fmt.Sprintf("%dKB", limit/1024)
		return lambdaapi.ErrInvalidParameterValueException(unable+"exceeded the %s limit. String measured: %s", size, measured)
	}
	return nil
}

// environmentJSON is the text that AWS measures.
func environmentJSON(vars map[string]string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(vars); err != nil {
		panic(err) // strings
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// checkDeadLetterRole refuses a dead-letter queue that the function's role may not send to.
func (s *Service) checkDeadLetterRole(ctx context.Context, c scope, name, role, target string) error {
	if target == "" || s.checker == nil {
		return nil
	}
	may, err := s.roleMay(call.AsService(ctx, "lambda", c.account, c.region), c, name, role)
	if err != nil {
		return err
	}
	service, action := "SQS", "SendMessage"
	if a, err := arn.Parse(target); err == nil && a.Service == "sns" {
		service, action = "SNS", "Publish"
	}
	return permitted(may, target, service, "The provided execution role does not have permissions to call %s on %s", action)
}

func (s *Service) checkDeadLetter(target string) error {
	if target == "" {
		return nil
	}
	a, err := arn.Parse(target)
	if err != nil || a.Service != "sqs" && a.Service != "sns" {
		return lambdaapi.ErrInvalidParameterValueException("The provided target arn is invalid: %s. A dead-letter target is an SQS queue or an SNS topic.", target)
	}
	if s.destinations == nil {
		return nil
	}
	err = s.destinations.Check(target)
	if e, coded := errors.AsType[*apierr.Error](err); coded {
		return lambdaapi.ErrInvalidParameterValueException("The provided target arn is invalid: %s. %s", target, e.Message)
	}
	if err != nil {
		return lambdaapi.ErrInvalidParameterValueException("The provided target arn is invalid: %s. A dead-letter target is an SQS queue or an SNS topic.", target)
	}
	return nil
}

// snapStarts reports whether AWS offers SnapStart for a runtime.
func snapStarts(runtime string) bool {
	switch {
	case runtime == "java8.al2", strings.HasPrefix(runtime, "nodejs"), strings.HasPrefix(runtime, "ruby"), strings.HasPrefix(runtime, "provided"),
		runtime == "dotnet6":
		return false
	}
	v, ok := strings.CutPrefix(runtime, "python3.")
	return !ok || len(v) == 2 && v >= "12"
}

// checkVPC refuses every subnet and group: there are none here, and a function that asks for isolation must not run without it.
func checkVPC(v *lambdaapi.VpcConfig) error {
	if len(v.SubnetIds) > 0 {
		return lambdaapi.ErrInvalidParameterValueException(
			"Error occurred while DescribeSubnets. EC2 Error Code: InvalidSubnetID.NotFound. EC2 Error Message: The subnet ID '%s' does not exist", v.SubnetIds[0])
	}
	if len(v.SecurityGroupIds) > 0 {
		return lambdaapi.ErrInvalidParameterValueException(
			"Error occurred while DescribeSecurityGroups. EC2 Error Code: InvalidGroup.NotFound. EC2 Error Message: The security group '%s' does not exist", v.SecurityGroupIds[0])
	}
	return nil
}

// apply merges in into l. Levels belong to JSON: they appear with it, at INFO, and go with it.
func (l *logging) apply(in *lambdaapi.LoggingConfig) error {
	if in == nil {
		return nil
	}
	assign(&l.Format, in.LogFormat)
	assign(&l.Group, in.LogGroup)
	if l.Format != lambdaapi.LogFormatJson {
		if in.ApplicationLogLevel != nil || in.SystemLogLevel != nil {
			return lambdaapi.ErrInvalidParameterValueException(
				`LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the LogFormat to "Json" and try again.`)
		}
		l.Application, l.System = "", ""
		return nil
	}
	if l.Application == "" {
		l.Application, l.System = lambdaapi.ApplicationLogLevelInfo, lambdaapi.SystemLogLevelInfo
	}
	assign(&l.Application, in.ApplicationLogLevel)
	assign(&l.System, in.SystemLogLevel)
	return nil
}

// checkTags checks the tags that a function would have.
func checkTags(tags map[string]string, limit int) error {
	if len(tags) > limit {
		return lambdaapi.ErrInvalidParameterValueException("Number of tags exceeds resource tag limit.")
	}
	for k, v := range tags {
		switch {
		case k == "" || len([]rune(k)) > 128:
			return lambdaapi.ErrInvalidParameterValueException("Tag keys must be between 1 and 128 characters long: %q", k)
		case len([]rune(v)) > 256:
			return lambdaapi.ErrInvalidParameterValueException("Tag values must be at most 256 characters long: the value of %q is longer", k)
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return lambdaapi.ErrInvalidParameterValueException("Tag keys must not begin with aws: %q", k)
		}
	}
	return nil
}

const timeFormat = "2006-01-02T15:04:05.000-0700"

// describe is a version as the API shows it. Lists show less: neither states nor the runtime's version. qualifier is what the ARN
// ends in, if not empty.
func (c scope) describe(v *version, qualifier string, list bool) *lambdaapi.FunctionConfiguration {
	d := &v.Deployment
	out := &lambdaapi.FunctionConfiguration{
		FunctionName:     &v.Function,
		FunctionArn:      new(c.qualifiedARN(v.Function, qualifier)),
		Runtime:          &d.Runtime,
		Role:             &d.Role,
		Handler:          &d.Handler,
		CodeSize:         &d.CodeSize,
		Description:      &d.Description,
		Timeout:          &d.Timeout,
		MemorySize:       &d.MemorySize,
		LastModified:     new(v.LastModified.UTC().Format(timeFormat)),
		CodeSha256:       new(digestBase64(d.CodeDigest)),
		Version:          new(v.name()),
		TracingConfig:    &lambdaapi.TracingConfigResponse{Mode: &d.Tracing},
		RevisionId:       &v.RevisionID,
		PackageType:      new(lambdaapi.PackageTypeZip),
		Architectures:    []string{d.Architecture},
		EphemeralStorage: &lambdaapi.EphemeralStorage{Size: &d.EphemeralSize},
		SnapStart:        &lambdaapi.SnapStartResponse{ApplyOn: &d.SnapStart, OptimizationStatus: new(lambdaapi.SnapStartOptimizationStatusOff)},
		LoggingConfig:    &lambdaapi.LoggingConfig{LogFormat: &d.Logging.Format, LogGroup: &d.Logging.Group},
	}
	if d.Logging.Format == lambdaapi.LogFormatJson {
		out.LoggingConfig.ApplicationLogLevel, out.LoggingConfig.SystemLogLevel = &d.Logging.Application, &d.Logging.System
	}
	if d.Environment != nil {
		out.Environment = &lambdaapi.EnvironmentResponse{Variables: *d.Environment}
	}
	if d.DeadLetter != "" {
		out.DeadLetterConfig = &lambdaapi.DeadLetterConfig{TargetArn: &d.DeadLetter}
	}
	if d.DetachedVPC {
		out.VpcConfig = &lambdaapi.VpcConfigResponse{SubnetIds: []string{}, SecurityGroupIds: []string{}, VpcId: new(""), Ipv6AllowedForDualStack: &d.VPCIPv6}
	}
	if d.Tenancy != "" {
		out.TenancyConfig = &lambdaapi.TenancyConfig{TenantIsolationMode: &d.Tenancy}
	}
	for i := range d.Layers {
		out.Layers = append(out.Layers, lambdaapi.Layer{Arn: &d.Layers[i].ARN, CodeSize: &d.Layers[i].Size})
	}
	if list {
		return out
	}
	if v.RuntimeID != "" {
		out.RuntimeVersionConfig = &lambdaapi.RuntimeVersionConfig{RuntimeVersionArn: new(c.runtimeARN(v.RuntimeID))}
	}
	out.State, out.StateReason, out.StateReasonCode = v.State.members()
	out.LastUpdateStatus, out.LastUpdateStatusReason, out.LastUpdateStatusReasonCode = v.Update.members()
	return out
}

func (s *status) members() (value, reason, code *string) {
	return optional(&s.Value), optional(&s.Reason), optional(&s.Code)
}

func optional(s *string) *string {
	if *s == "" {
		return nil
	}
	return s
}

// name is $LATEST or the version's number.
func (v *version) name() string { return versionName(v.Number) }

func versionName(number int64) string {
	if number == 0 {
		return latest
	}
	return fmt.Sprint(number)
}

func (c scope) qualifiedARN(name, qualifier string) string {
	a := functionARN(c.region, c.account, name)
	if qualifier != "" {
		a += ":" + qualifier
	}
	return a
}

// digestBase64 is CodeSha256 for an archive's digest.
func digestBase64(digest string) string {
	b, err := hex.DecodeString(digest)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(b)
}
