package server

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// sessionDuration is how long a function's credentials hold: AWS's longest. An environment is ended long before, see
// fleet.Limits.Age.
const sessionDuration = 12 * time.Hour

// roles is Lambda's view of the roles of functions: whether it may assume them, and the credentials that it then has. A role must exist
// and trust lambda.amazonaws.com; in development one that does not exist will do, and may do everything.
type roles struct {
	issuer     *credential.Issuer
	identities authorize.Identities
	checker    authorize.Checker
	dev        bool
	log        *slog.Logger
	warned     sync.Map // ARNs of roles that do not exist
}

// Assumable implements lambda.Roles.
func (r *roles) Assumable(ctx context.Context, roleARN, functionARN string) (bool, error) {
	info := call.From(ctx)
	_, ok, err := r.assume(call.AsService(ctx, "lambda", info.Account, info.Region), roleARN, functionARN)
	return ok, err
}

// credentials makes the credentials that a function signs with: a session of its role, named after the function. It carries no policies, so
// that a change of the role's holds at once.
func (r *roles) credentials(fn *fleet.Function) (fleet.Credentials, error) {
	ctx := call.AsService(context.Background(), "lambda", fn.Account, fn.Region)
	p, err := r.Session(ctx, fn.RoleARN, fn.ARN)
	if err != nil {
		return fleet.Credentials{}, err
	}
	s, err := r.issuer.Issue(p)
	return fleet.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken}, err
}

// Session implements lambda.Roles. The session is named after the function.
func (r *roles) Session(ctx context.Context, roleARN, functionARN string) (call.Principal, error) {
	role, ok, err := r.assume(ctx, roleARN, functionARN)
	if err != nil {
		return call.Principal{}, err
	}
	if !ok {
		return call.Principal{}, apierr.New("AccessDeniedException", http.StatusForbidden, "The role defined for the function cannot be assumed by Lambda.")
	}
	now := time.Now()
	name := functionARN[strings.LastIndexByte(functionARN, ':')+1:]
	return role.Assumed(name, call.Session{Issued: now, Expires: now.Add(sessionDuration), Function: functionARN})
}

// assume finds a role and asks its trust policy. ctx is a call of Lambda's own in the account of the role.
func (r *roles) assume(ctx context.Context, roleARN, functionARN string) (role credential.Role, ok bool, err error) {
	id, err := r.identities.Identity(ctx, roleARN)
	if err != nil {
		return role, false, err
	}
	if id == nil {
		return r.missing(roleARN), r.dev, nil
	}
	keys := iampolicy.Values{}
	keys.Set("aws:SourceAccount", call.From(ctx).Account)
	keys.Set("aws:SourceArn", functionARN)
	err = r.checker.Check(ctx, authorize.Request{Action: "sts:AssumeRole", Resource: roleARN, Keys: keys})
	if apierr.Code(err) == "AccessDenied" {
		return role, false, nil
	}
	return credential.Role{ARN: roleARN, ID: id.ID}, err == nil, err
}

// missing stands for a role that does not exist. Its identifier is made from its ARN.
func (r *roles) missing(roleARN string) credential.Role {
	if _, told := r.warned.LoadOrStore(roleARN, true); r.dev && !told {
		r.log.Warn("role does not exist: functions that have it may do everything, since --dev is given", "role", roleARN)
	}
	sum := sha256.Sum256([]byte(roleARN))
	return credential.Role{ARN: roleARN, ID: "AROA" + base32.StdEncoding.EncodeToString(sum[:])[:17]}
}

// userKeys finds the access keys of users in whatever core there is.
type userKeys struct{ server *Server }

// Find implements credential.Finder.
func (k userKeys) Find(ctx context.Context, accessKeyID, token string) (credential.Key, error) {
	return k.server.core.Load().iam.Find(ctx, accessKeyID, token)
}
