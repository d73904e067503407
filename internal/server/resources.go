package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
	"github.com/mayflyhq/mayfly/internal/service/lambda"
)

// lambdaResources gives policies the policies and tags of Lambda's resources.
type lambdaResources struct {
	lambda    *lambda.Service
	gate      smithy.Caller
	documents authorize.Documents
}

// Policy implements authorize.Resources.
func (l *lambdaResources) Policy(ctx context.Context, resource string) (*iampolicy.Compiled, error) {
	if !isLayer(resource) {
		return l.lambda.FunctionPolicy(ctx, resource)
	}
	text, err := l.lambda.LayerPolicy(ctx, resource)
	if err != nil || text == "" {
		return nil, err
	}
	return l.documents.Compile(text, iampolicy.Resource, resource)
}

func isLayer(resource string) bool { return strings.Contains(resource, ":layer:") }

// Tags implements authorize.Resources. A version or an alias has the tags of its function.
func (l *lambdaResources) Tags(ctx context.Context, resource string) (map[string]string, error) {
	a, err := arn.Parse(resource)
	if err != nil || isLayer(resource) {
		return nil, nil
	}
	if f, ok := arn.ParseFunction(resource); ok && strings.HasPrefix(a.Resource, "function:") {
		resource = arn.New("lambda", f.Region, f.Account, "function:"+f.Name).String()
	}
	out, err := lambdaapi.ListTags.Call(owner(ctx, a), l.gate, &lambdaapi.ListTagsInput{Resource: &resource})
	if isRefused(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return out.Tags, nil
}

// Attribute implements authorize.Attributes: lambda:FunctionArn of event source mappings.
func (l *lambdaResources) Attribute(ctx context.Context, resource, key string) (string, error) {
	a, err := arn.Parse(resource)
	uuid, ok := strings.CutPrefix(a.Resource, "event-source-mapping:")
	if err != nil || !ok || key != "lambda:functionarn" {
		return "", nil
	}
	out, err := lambdaapi.GetEventSourceMapping.Call(owner(ctx, a), l.gate, &lambdaapi.GetEventSourceMappingInput{UUID: &uuid})
	if isRefused(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return *out.FunctionArn, nil
}

// logsResources gives policies the tags of log groups.
type logsResources struct{ gate smithy.Caller }

// Policy implements authorize.Resources.
func (l logsResources) Policy(context.Context, string) (*iampolicy.Compiled, error) { return nil, nil }

// Tags implements authorize.Resources. A stream has the tags of its group.
func (l logsResources) Tags(ctx context.Context, resource string) (map[string]string, error) {
	a, err := arn.Parse(resource)
	group, ok := strings.CutPrefix(a.Resource, "log-group:")
	if group, _, _ = strings.Cut(group, ":"); err != nil || !ok || group == "" {
		return nil, nil
	}
	a.Resource = "log-group:" + group
	resource = a.String()
	out, err := logsapi.ListTagsForResource.Call(owner(ctx, a), l.gate, &logsapi.ListTagsForResourceInput{ResourceArn: &resource})
	if isRefused(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return out.Tags, nil
}

// owner is a call of Mayfly's own where a resource is.
func owner(ctx context.Context, a arn.ARN) context.Context {
	return call.AsService(ctx, a.Service, a.Account, a.Region)
}

// isRefused reports whether an error says that there is no such resource, or that it can have no tags.
func isRefused(err error) bool {
	e, ok := errors.AsType[*apierr.Error](err)
	return ok && e.HTTPStatus() < http.StatusInternalServerError
}
