package sts

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// algorithms are the signatures that AWS accepts on tokens.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}

// skew is how far an issuer's clock may be ahead.
const skew = 5 * time.Minute

// claims is what a token says, as far as it matters here.
type claims struct {
	jwt.Claims
	AuthorizedParty string   `json:"azp"`
	Methods         []string `json:"amr"`
	SourceIdentity  string   `json:"https://aws.amazon.com/source_identity"`
	Tags            struct {
		Principal  map[string]json.RawMessage `json:"principal_tags"` // a string, or a list of one
		Transitive []string                   `json:"transitive_tag_keys"`
	} `json:"https://aws.amazon.com/tags"`
}

// audiences are those that count: the party that the token was made for, if it says so.
func (c *claims) audiences() []string {
	if c.AuthorizedParty != "" {
		return []string{c.AuthorizedParty}
	}
	return c.Audience
}

func (c *claims) tags() (tags []stsapi.Tag, err error) {
	for k, raw := range c.Tags.Principal {
		var v string
		if json.Unmarshal(raw, &v) != nil {
			var list []string
			if err := json.Unmarshal(raw, &list); err != nil || len(list) != 1 {
				return nil, stsapi.ErrInvalidIdentityTokenException("The principal tag %s of the token is not a string.", k)
			}
			v = list[0]
		}
		tags = append(tags, stsapi.Tag{Key: &k, Value: &v})
	}
	return tags, nil
}

func (s *Service) assumeRoleWithWebIdentity(ctx context.Context, in *stsapi.AssumeRoleWithWebIdentityInput) (*stsapi.AssumeRoleWithWebIdentityOutput, error) {
	account, _, err := parseRole(*in.RoleArn)
	if err != nil {
		return nil, err
	}
	if in.ProviderId != nil {
		return nil, invalid("ProviderId: OAuth 2.0 access tokens are not served by Mayfly. Leave it out for OpenID Connect tokens.")
	}
	now := time.Now()
	c, provider, err := s.verify(ctx, *in.WebIdentityToken, account, now)
	if err != nil {
		return nil, err
	}
	session := call.Session{Provider: provider, Subject: c.Subject, SourceIdentity: c.SourceIdentity}
	tags, err := c.tags()
	if err != nil {
		return nil, err
	}
	if err := setTags(&session, tags, c.Tags.Transitive, nil); err != nil {
		return nil, err
	}
	if err := s.authorizeWeb(ctx, in, c, &session); err != nil {
		return nil, err
	}
	r, err := s.findRole(ctx, *in.RoleArn)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	if err := lifetime(&session, now, in.DurationSeconds, r.maxSession, false); err != nil {
		return nil, err
	}
	packed, err := s.setPolicies(ctx, &session, r.account, in.Policy, in.PolicyArns, maxPlainPolicies)
	if err != nil {
		return nil, err
	}
	p, err := r.Assumed(*in.RoleSessionName, session)
	if err != nil {
		return nil, err
	}
	issued, err := s.deps.Credentials.Issue(p)
	if err != nil {
		return nil, err
	}
	out := &stsapi.AssumeRoleWithWebIdentityOutput{
		Credentials:                 output(issued),
		AssumedRoleUser:             &stsapi.AssumedRoleUser{AssumedRoleId: &p.UserID, Arn: &p.ARN},
		SubjectFromWebIdentityToken: &c.Subject,
		Provider:                    &provider,
		Audience:                    new(strings.Join(c.audiences(), ",")),
		PackedPolicySize:            packed,
	}
	if c.SourceIdentity != "" {
		out.SourceIdentity = &c.SourceIdentity
	}
	return out, nil
}

// authorizeWeb asks the role's trust policy, for the tags and the source identity of the token too.
func (s *Service) authorizeWeb(ctx context.Context, in *stsapi.AssumeRoleWithWebIdentityInput, c *claims, session *call.Session) error {
	_, host, _ := strings.Cut(c.Issuer, "://")
	keys := iampolicy.Values{}
	keys.Set(host+":sub", c.Subject)
	keys.Set(host+":aud", c.audiences()...)
	if len(c.Methods) > 0 {
		keys.Set(host+":amr", c.Methods...)
	}
	keys.Set("aws:FederatedProvider", session.Provider)
	keys.Set("sts:RoleSessionName", *in.RoleSessionName)
	actions := []string{"sts:AssumeRoleWithWebIdentity"}
	if len(session.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
		var names []string
		for k, v := range session.Tags {
			keys.Set("aws:RequestTag/"+k, v)
			names = append(names, k)
		}
		keys.Set("aws:TagKeys", names...)
		if len(session.TransitiveTags) > 0 {
			keys.Set("sts:TransitiveTagKeys", session.TransitiveTags...)
		}
	}
	if session.SourceIdentity != "" {
		actions = append(actions, "sts:SetSourceIdentity")
		keys.Set("sts:SourceIdentity", session.SourceIdentity)
	}
	caller := call.Principal{Type: call.WebIdentity, ARN: session.Provider, UserID: session.Provider + ":" + c.Subject, Session: session}
	for _, action := range actions {
		if err := s.deps.Checker.Check(ctx, authorize.Request{Action: action, Resource: *in.RoleArn, Caller: &caller, Keys: keys}); err != nil {
			return err
		}
	}
	return nil
}

// verify reads a token for a role of an account, and says which provider vouches for it.
func (s *Service) verify(ctx context.Context, text, account string, now time.Time) (*claims, string, error) {
	token, err := jwt.ParseSigned(text, algorithms)
	if err != nil || len(token.Headers) != 1 {
		return nil, "", stsapi.ErrInvalidIdentityTokenException("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)").Because(err)
	}
	var said claims
	if err := token.UnsafeClaimsWithoutVerification(&said); err != nil { // to find the issuer; nothing else of it is used
		return nil, "", stsapi.ErrInvalidIdentityTokenException("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)").Because(err)
	}
	for name, missing := range map[string]bool{
		"iss": said.Issuer == "", "sub": said.Subject == "", "aud": len(said.audiences()) == 0, "exp": said.Expiry == nil, "iat": said.IssuedAt == nil,
	} {
		if missing {
			return nil, "", stsapi.ErrInvalidIdentityTokenException("Missing a required claim: %s", name)
		}
	}
	provider, clients, err := s.provider(ctx, account, said.Issuer)
	if err != nil {
		return nil, "", err
	}
	keys, err := s.keys.find(ctx, said.Issuer, token.Headers[0].KeyID)
	if err != nil {
		return nil, "", stsapi.ErrInvalidIdentityTokenException(
			"Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements").Because(err)
	}
	var c claims
	err = errors.New("no key")
	for _, k := range keys {
		c = claims{}
		if err = token.Claims(k, &c); err == nil {
			break
		}
	}
	if err != nil {
		return nil, "", stsapi.ErrInvalidIdentityTokenException("Signature not valid").Because(err)
	}
	switch {
	case !now.Before(c.Expiry.Time()):
		return nil, "", stsapi.ErrExpiredTokenException("Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), c.Expiry.Time().Unix())
	case c.IssuedAt.Time().After(now.Add(skew)), c.NotBefore != nil && c.NotBefore.Time().After(now.Add(skew)):
		return nil, "", stsapi.ErrInvalidIdentityTokenException("Token is not valid yet")
	case clients != nil && !slices.ContainsFunc(c.audiences(), func(a string) bool { return slices.Contains(clients, a) }):
		return nil, "", stsapi.ErrInvalidIdentityTokenException("Incorrect token audience")
	case len(c.Subject) < 6 || len(c.Subject) > 255:
		return nil, "", stsapi.ErrIDPRejectedClaimException("The subject of the token must have 6 to 255 characters.")
	}
	return &c, provider, nil
}

// provider finds who vouches for an issuer's tokens in an account: its ARN, and the audiences that it is for. The issuers that the operator
// trusts are for all.
func (s *Service) provider(ctx context.Context, account, issuer string) (providerARN string, clients []string, err error) {
	scheme, host, _ := strings.Cut(issuer, "://")
	providerARN = arn.New("iam", "", account, "oidc-provider/"+host).String()
	if slices.Contains(s.deps.Issuers, issuer) {
		return providerARN, nil, nil
	}
	unknown := stsapi.ErrInvalidIdentityTokenException("No OpenIDConnect provider found in your account for %s", issuer)
	if scheme != "https" && scheme != "http" {
		return "", nil, unknown
	}
	out, err := iamapi.GetOpenIDConnectProvider.Call(call.AsService(ctx, "sts", account, call.From(ctx).Region), s.deps.IAM,
		&iamapi.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &providerARN})
	if noSuchEntity(err) {
		return "", nil, unknown
	}
	if err != nil {
		return "", nil, err
	}
	if plain := strings.HasPrefix(*out.Url, "http://"); plain != (scheme == "http") { // IAM takes those on loopback only
		return "", nil, unknown
	}
	return providerARN, append([]string{}, out.ClientIDList...), nil
}
