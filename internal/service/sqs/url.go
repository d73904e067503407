package sqs

import (
	"context"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/call"
)

// queueURL is the URL of a queue, on the host that the caller used. Calls from inside get AWS's own form.
func (s *Service) queueURL(ctx context.Context, sc scope, name string) string {
	base := "https://sqs." + sc.region + ".amazonaws.com"
	if host := call.From(ctx).Host; host != "" {
		if base = "http://" + host; s.url == "https://"+host {
			base = s.url
		}
	}
	return base + "/" + sc.account + "/" + name
}

// parseURL finds the queue that a QueueUrl names, whatever the host. On one of AWS's the region must be that of the call.
func parseURL(ctx context.Context, given *string) (sc scope, name string, err error) {
	sc = scopeOf(ctx)
	if given == nil || *given == "" {
		return sc, "", missing("QueueUrl")
	}
	q, ok := arn.ParseQueueURL(*given)
	if !ok || q.Region != "" && q.Region != sc.region {
		return sc, "", sqsapi.ErrInvalidAddress("The address %s is not valid for this endpoint.", *given)
	}
	if q.Account != "" {
		sc.account = q.Account
	}
	return sc, q.Name, nil
}

// parseARN finds the queue that an ARN names.
func parseARN(s string) (sc scope, name string, ok bool) {
	a, err := arn.Parse(s)
	if err != nil || a.Service != "sqs" || a.Region == "" || !arn.IsAccount(a.Account) || strings.ContainsAny(a.Resource, ":/") {
		return scope{}, "", false
	}
	return scope{a.Account, a.Region}, a.Resource, true
}

// own is parseURL for what only the owner of a queue may do: AWS lets no policy give it to others.
func own(ctx context.Context, given *string) (sc scope, name string, err error) {
	sc, name, err = parseURL(ctx, given)
	if err == nil && sc.account != call.From(ctx).Account {
		err = errAccessDenied(*given)
	}
	return sc, name, err
}
