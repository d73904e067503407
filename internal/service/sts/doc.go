// Package sts is the Security Token Service: it makes temporary credentials of roles (AssumeRole, AssumeRoleWithWebIdentity), of users
// and root (GetSessionToken) and of federated users (GetFederationToken), and says whose credentials are whose.
//
// It stores nothing: a session token carries its whole session, sealed. Whether a role may be assumed the gate's Authorizer has decided
// from the role's trust policy before the handler runs; a web identity has no signature, so that the handler asks itself.
//
// What differs from AWS: how policies and tags are packed is estimated from sizes that AWS was seen to report; MFA devices do not exist;
// what AWS's own encoded messages hold nobody can decode.
package sts
