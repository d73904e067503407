// Package authorize decides who may do what: it is the gate's Authorizer, and answers for what is no operation, such as
// the use of a function URL or a role that is passed to a service.
//
// Each operation's action, resources and condition keys, and what else its caller must be allowed, stand in one line of
// a table beside this file (lambda.txt and so on). The policies that apply come from those who own them, through
// Identities and Resources; package iampolicy evaluates them.
//
// The root user may do everything in its account. A part of Mayfly that acts on its own behalf (call.AsService) may
// perform every operation: what it does was decided when its work was ordered. What it does for somebody, it asks with
// Check.
package authorize

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// Identities knows the users, roles and managed policies of all accounts. Its methods are called on the path of every
// call and concurrently, so they answer from memory as long as nothing changed; what they return is shared and must not be
// changed. A change is seen by the first call after it was acknowledged.
type Identities interface {
	// Identity returns the user or role with an ARN, which has its path, or nil if there is none. The ARN's account need
	// not be that of the call.
	Identity(ctx context.Context, arn string) (*Identity, error)

	// ManagedPolicy returns the default version of a managed policy, or nil if there is none.
	ManagedPolicy(ctx context.Context, arn string) (*iampolicy.Compiled, error)

	// ARN returns the ARN, with its path, of the entity of an account with a kind (user, role, group, instance-profile) and a name.
	// For one that does not exist it is the ARN that the entity would have at the path /.
	ARN(ctx context.Context, account, kind, name string) (string, error)
}

// Identity is a user or role with all that policies say of it.
type Identity struct {
	ARN      string
	ID       string                // AIDA... or AROA...
	Policies []*iampolicy.Compiled // inline and attached, a user's groups included
	Boundary *iampolicy.Compiled   // nil: none
	Trust    *iampolicy.Compiled   // of roles
	Tags     map[string]string

	narrow narrowed
}

// Resources knows the policies and tags of one service's resources, by ARN and in all accounts and regions. It is called
// as Identities is, and likewise answers policies from memory. For a resource that does not exist it answers as for one that
// has neither.
type Resources interface {
	// Policy returns the policy of a resource, or nil. For a function the ARN has the qualifier that the call names, if any.
	Policy(ctx context.Context, arn string) (*iampolicy.Compiled, error)

	// Tags returns the tags of a resource. It is called only if a policy asks for them.
	Tags(ctx context.Context, arn string) (map[string]string, error)
}

// Attributes is what Resources also implement if conditions may ask for more of a resource than tags.
type Attributes interface {
	// Attribute returns the value of one condition key, in lower case, that a resource has; "" if it has none or does not exist. It is
	// called only if a policy asks for the key.
	Attribute(ctx context.Context, arn, key string) (string, error)
}

// Request asks whether a principal may do one thing to one resource.
type Request struct {
	// Action is service:Name as policies have it: "lambda:InvokeFunctionUrl".
	Action string

	// Resource is an ARN, or "*" for an action that has none.
	Resource string

	// Caller is who asks instead of the principal of the context. A service on its own behalf is
	// {Type: call.Service, Service: "s3.amazonaws.com"}.
	Caller *call.Principal

	// Keys are the condition keys of the action; what AWS calls global keys is added. For a service that acts for a resource
	// they hold aws:SourceArn and aws:SourceAccount.
	Keys iampolicy.Values
}

// Checker is what services take of an Authorizer.
type Checker interface {
	// Check returns nil if the request is allowed, an *apierr.Error with AWS's words if it is not (code AccessDenied or
	// AccessDeniedException, or AuthorizationErrorException of SNS, with the status that the action's service has), and other errors if that cannot be told.
	//
	// Services are held to the resource's policy, unlike in the gate: a role that is passed to Lambda is checked as
	//
	//	Request{Action: "sts:AssumeRole", Resource: roleARN, Caller: &call.Principal{Type: call.Service, Service: "lambda.amazonaws.com"}}
	Check(ctx context.Context, r Request) error
}
