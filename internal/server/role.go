package server

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/fleet"
)

// roleCredentials makes the credentials that functions sign with: a session of their role, named after the function.
func roleCredentials(issuer *credential.Issuer, caller smithy.Caller) func(*fleet.Function) (fleet.Credentials, error) {
	return func(fn *fleet.Function) (fleet.Credentials, error) {
		ctx := call.AsService(context.Background(), "lambda", fn.Account, fn.Region)
		role := credential.Role{ARN: fn.RoleARN, ID: roleID(ctx, caller, fn.RoleARN)}
		now := time.Now()
		p, err := role.Assumed(fn.Name, call.Session{Issued: now, Expires: now.Add(sessionDuration), Function: fn.ARN})
		if err != nil {
			return fleet.Credentials{}, err
		}
		s, err := issuer.Issue(p)
		return fleet.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken}, err
	}
}

// roleID is the unique identifier of a role. Roles need not exist as long as they are not enforced: one that does not
// gets an identifier made from its ARN.
func roleID(ctx context.Context, caller smithy.Caller, roleARN string) string {
	name := roleARN[strings.LastIndexByte(roleARN, '/')+1:]
	out, err := iamapi.GetRole.Call(ctx, caller, &iamapi.GetRoleInput{RoleName: &name})
	if err == nil && *out.Role.Arn == roleARN {
		return *out.Role.RoleId
	}
	sum := sha256.Sum256([]byte(roleARN))
	return "AROA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
}
