// Package call says who makes an API call: the facts of one call, carried in its context from the edge, or from the
// engine that makes the call, to the handler that serves it.
package call

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"
)

// Info is the facts of one call. It is shared by everything that serves the call and must not be changed after With.
type Info struct {
	Account   string // twelve digits; part of every key and ARN
	Region    string // from the credential scope
	Principal Principal
	RequestID string // a UUID, the x-amzn-RequestId of the answer
	Trace     string // X-Amzn-Trace-Id as received, Lineage included; may be empty
	SourceIP  string // without port; empty for calls from inside
	UserAgent string
	Host      string    // the Host header, so that a service can form URLs that the caller can reach
	Time      time.Time // when the call arrived
}

// Principal is who calls.
type Principal struct {
	Type        PrincipalType
	ARN         string // arn:aws:iam::<account>:root, ...:user/<name>, arn:aws:sts::<account>:assumed-role/<role>/<session>
	UserID      string // the account for root, AIDA... for users, AROA...:<session> for roles
	AccessKeyID string // the key that signed; empty for services
	Service     string // for Type Service: "lambda.amazonaws.com"

	// Session is what the temporary credentials that signed carry; nil for long-lived keys and services.
	Session *Session
}

// Session is what temporary credentials carry beside the principal. It must not be changed once a call carries it.
type Session struct {
	Issuer   string    // ARN, with its path, of the role that was assumed or the user whose session it is
	Issued   time.Time // whole seconds, UTC
	Expires  time.Time // whole seconds, UTC
	Provider string    // of web identity: the domain of the issuer or the ARN of the provider; else empty
	Subject  string    // of web identity: the token's sub

	Policies   []string // documents of inline session policies
	PolicyARNs []string // managed policies given as session policies

	Tags           map[string]string
	TransitiveTags []string // keys of Tags that a chained session inherits
	SourceIdentity string
	MFA            bool

	// Function is the ARN, without qualifier, of the function whose environment holds the credentials; empty for all others.
	Function string
}

// PrincipalType is the kind of a principal.
type PrincipalType int

// The kinds of principal.
const (
	Anonymous PrincipalType = iota
	Root
	User
	AssumedRole
	Service       // a part of Mayfly itself, on its own behalf
	FederatedUser // of GetFederationToken: arn:aws:sts::<account>:federated-user/<name>; Session.Issuer is the user who asked
	WebIdentity   // who bears an OIDC token and has no credentials yet: ARN is its provider's, Session.Provider and Subject are set
)

type key struct{}

// With returns a context that carries i.
func With(ctx context.Context, i *Info) context.Context { return context.WithValue(ctx, key{}, i) }

// From returns the facts of the call that ctx belongs to. Outside any call it returns an anonymous Info with empty
// fields, never nil.
func From(ctx context.Context) *Info {
	if i, ok := ctx.Value(key{}).(*Info); ok {
		return i
	}
	return &Info{}
}

// AsService returns a context for a call that the service (such as "lambda") makes on its own behalf, in an account
// and region, with a fresh request id.
func AsService(ctx context.Context, service, account, region string) context.Context {
	host := service + ".amazonaws.com"
	return With(ctx, &Info{
		Account:   account,
		Region:    region,
		Principal: Principal{Type: Service, ARN: host, UserID: host, Service: host},
		RequestID: NewRequestID(),
		Trace:     From(ctx).Trace,
		Time:      time.Now(),
	})
}

// NewRequestID returns a random UUID (version 4), the form of AWS's request ids.
func NewRequestID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	s[8] = '-'
	hex.Encode(s[9:13], b[4:6])
	s[13] = '-'
	hex.Encode(s[14:18], b[6:8])
	s[18] = '-'
	hex.Encode(s[19:23], b[8:10])
	s[23] = '-'
	hex.Encode(s[24:36], b[10:16])
	return string(s[:])
}
