package sts

import (
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
)

func TestGetCallerIdentity(t *testing.T) {
	mux := smithy.NewMux()
	New().Register(mux)
	ctx := call.With(t.Context(), &call.Info{
		Account:   "000000000001",
		Principal: call.Principal{Type: call.AssumedRole, ARN: "arn:aws:sts::000000000001:assumed-role/r/s", UserID: "AROAX:s"},
	})
	out, err := stsapi.GetCallerIdentity.Call(ctx, mux, &stsapi.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	if *out.Account != "000000000001" || *out.Arn != "arn:aws:sts::000000000001:assumed-role/r/s" || *out.UserId != "AROAX:s" {
		t.Errorf("%s %s %s", *out.Account, *out.Arn, *out.UserId)
	}
}
