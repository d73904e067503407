package sts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
)

const (
	account = "123456789012"
	roleARN = "arn:aws:iam::123456789012:role/a/app"
	userARN = "arn:aws:iam::123456789012:user/bob"
)

// world is the service with an IAM that has one role, one policy, and one provider.
type world struct {
	t        *testing.T
	mux      *smithy.Mux
	issuer   *credential.Issuer
	provider string // ARN
	asked    []authorize.Request
	refuse   string // the action that is not allowed
}

func newWorld(t *testing.T, issuers ...string) *world {
	w := &world{t: t, mux: smithy.NewMux()}
	w.issuer, _ = credential.NewIssuer(credential.New().SessionKey)
	iam := smithy.NewMux()
	iamapi.GetRole.Handle(iam, func(_ context.Context, in *iamapi.GetRoleInput) (*iamapi.GetRoleOutput, error) {
		if *in.RoleName != "app" {
			return nil, iamapi.ErrNoSuchEntityException("no")
		}
		return &iamapi.GetRoleOutput{Role: &iamapi.Role{Arn: new(roleARN), RoleId: new("AROAAPP"), MaxSessionDuration: new(int32(7200))}}, nil
	})
	iamapi.GetPolicy.Handle(iam, func(_ context.Context, in *iamapi.GetPolicyInput) (*iamapi.GetPolicyOutput, error) {
		if !strings.HasSuffix(*in.PolicyArn, "/ReadOnlyAccess") {
			return nil, iamapi.ErrNoSuchEntityException("no")
		}
		return &iamapi.GetPolicyOutput{}, nil
	})
	iamapi.GetOpenIDConnectProvider.Handle(iam, func(_ context.Context, in *iamapi.GetOpenIDConnectProviderInput) (*iamapi.GetOpenIDConnectProviderOutput, error) {
		if *in.OpenIDConnectProviderArn != w.provider {
			return nil, iamapi.ErrNoSuchEntityException("no")
		}
		return &iamapi.GetOpenIDConnectProviderOutput{ClientIDList: []string{"me"}}, nil
	})
	s, err := New(Deps{Credentials: w.issuer, IAM: iam, Checker: w, Issuers: issuers})
	if err != nil {
		t.Fatal(err)
	}
	s.Register(w.mux)
	return w
}

func (w *world) Check(_ context.Context, r authorize.Request) error {
	w.asked = append(w.asked, r)
	if r.Action == w.refuse {
		return denied("Not authorized to perform %s", r.Action)
	}
	return nil
}

func (w *world) as(p call.Principal) context.Context {
	return call.With(w.t.Context(), &call.Info{Account: account, Region: "us-east-1", Principal: p})
}

var bob = call.Principal{Type: call.User, ARN: userARN, UserID: "AIDABOB"}

// found is the principal that credentials stand for.
func (w *world) found(c *stsapi.Credentials) call.Principal {
	w.t.Helper()
	k, err := w.issuer.Find(w.t.Context(), *c.AccessKeyId, *c.SessionToken)
	if err != nil || k.Secret != *c.SecretAccessKey || !k.Principal.Session.Expires.Equal(*c.Expiration) {
		w.t.Fatalf("credentials of %+v: %v", k, err)
	}
	return k.Principal
}

func wantError(t *testing.T, err error, code, text string) {
	t.Helper()
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok || !strings.HasPrefix(e.Code, code) || !strings.Contains(e.Message, text) {
		t.Errorf("error %v, want %s: %s", err, code, text)
	}
}

func TestGetCallerIdentity(t *testing.T) {
	w := newWorld(t)
	p := call.Principal{Type: call.AssumedRole, ARN: "arn:aws:sts::123456789012:assumed-role/r/s", UserID: "AROAX:s"}
	out, err := stsapi.GetCallerIdentity.Call(w.as(p), w.mux, &stsapi.GetCallerIdentityInput{})
	if err != nil || *out.Account != account || *out.Arn != p.ARN || *out.UserId != "AROAX:s" {
		t.Errorf("%+v %v", out, err)
	}
}

func TestGetAccessKeyInfo(t *testing.T) {
	w := newWorld(t)
	id := credential.NewKeyID("AKIA", account)
	out, err := stsapi.GetAccessKeyInfo.Call(w.as(bob), w.mux, &stsapi.GetAccessKeyInfoInput{AccessKeyId: &id})
	if err != nil || *out.Account != account {
		t.Errorf("%+v %v", out, err)
	}
	_, err = stsapi.GetAccessKeyInfo.Call(w.as(bob), w.mux, &stsapi.GetAccessKeyInfoInput{AccessKeyId: new("AKIAIOSFODNN7EXAMPLE")})
	wantError(t, err, "ValidationError", "AKIAIOSFODNN7EXAMPLE")
}

func tag(k, v string) stsapi.Tag { return stsapi.Tag{Key: &k, Value: &v} }

func TestAssumeRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		out, err := stsapi.AssumeRole.Call(w.as(bob), w.mux, &stsapi.AssumeRoleInput{
			RoleArn: new(roleARN), RoleSessionName: new("s1"), SourceIdentity: new("bob"), Tags: []stsapi.Tag{tag("Team", "flies"), tag("x", "")},
			TransitiveTagKeys: []string{"team"}, Policy: new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`),
			PolicyArns: []stsapi.PolicyDescriptorType{{Arn: new("arn:aws:iam::aws:policy/ReadOnlyAccess")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		p := w.found(out.Credentials)
		if p.ARN != "arn:aws:sts::123456789012:assumed-role/app/s1" || p.UserID != "AROAAPP:s1" || *out.AssumedRoleUser.Arn != p.ARN || *out.AssumedRoleUser.AssumedRoleId != p.UserID ||
			*out.SourceIdentity != "bob" || *out.PackedPolicySize < 20 || *out.PackedPolicySize > 60 {
			t.Errorf("%+v, packed %d", p, *out.PackedPolicySize)
		}
		s := p.Session
		if s.Issuer != roleARN || s.Tags["Team"] != "flies" || len(s.Tags) != 2 || s.SourceIdentity != "bob" || len(s.Policies) != 1 || len(s.PolicyARNs) != 1 || time.Until(s.Expires) != time.Hour {
			t.Errorf("%+v", s)
		}
		// Who is chained inherits what is transitive, and the source identity.
		chain := func(in stsapi.AssumeRoleInput) (*stsapi.AssumeRoleOutput, error) {
			in.RoleArn, in.RoleSessionName = new(roleARN), new("s2")
			return stsapi.AssumeRole.Call(w.as(p), w.mux, &in)
		}
		next, err := chain(stsapi.AssumeRoleInput{})
		if err != nil {
			t.Fatal(err)
		}
		if s := w.found(next.Credentials).Session; s.Tags["Team"] != "flies" || len(s.Tags) != 1 || s.SourceIdentity != "bob" || s.TransitiveTags[0] != "Team" || len(s.Policies) != 0 {
			t.Errorf("chained: %+v", s)
		}
		_, err = chain(stsapi.AssumeRoleInput{DurationSeconds: new(int32(3601))})
		wantError(t, err, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
		_, err = chain(stsapi.AssumeRoleInput{SourceIdentity: new("eve")})
		wantError(t, err, "AccessDenied", "sts:SetSourceIdentity")
		_, err = chain(stsapi.AssumeRoleInput{Tags: []stsapi.Tag{tag("team", "other")}})
		wantError(t, err, "ValidationError", "conflicts with a transitive tag key")

		time.Sleep(time.Hour)
		if _, err := w.issuer.Find(t.Context(), *out.Credentials.AccessKeyId, *out.Credentials.SessionToken); err != credential.ErrExpiredToken {
			t.Errorf("after an hour: %v", err)
		}
	})
}

func TestAssumeRoleRefuses(t *testing.T) {
	w := newWorld(t)
	var nine []stsapi.Tag
	for i := range 9 {
		nine = append(nine, tag(fmt.Sprint("T", i), strings.Repeat("a", 250)))
	}
	var eleven []stsapi.PolicyDescriptorType
	for range 11 {
		eleven = append(eleven, stsapi.PolicyDescriptorType{Arn: new("arn:aws:iam::aws:policy/ReadOnlyAccess")})
	}
	type in = stsapi.AssumeRoleInput
	for name, c := range map[string]struct {
		in         in
		code, text string
	}{
		"no ARN":          {in{RoleArn: new("app, which is no ARN")}, "ValidationError", "app, which is no ARN is invalid"},
		"a user":          {in{RoleArn: new(userARN)}, "ValidationError", "Request ARN is invalid"},
		"no such role":    {in{RoleArn: new(roleARN + "2")}, "AccessDenied", "User: " + userARN + " is not authorized to perform: sts:AssumeRole on resource: " + roleARN + "2"},
		"other path":      {in{RoleArn: new("arn:aws:iam::123456789012:role/app")}, "AccessDenied", "sts:AssumeRole"},
		"too long":        {in{DurationSeconds: new(int32(7201))}, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		"policy":          {in{Policy: new("{")}, "MalformedPolicyDocument", "Syntax errors in policy."},
		"policy ARN":      {in{PolicyArns: []stsapi.PolicyDescriptorType{{Arn: new("arn:aws:iam::aws:policy/Nope")}}}, "ValidationError", "does not exist"},
		"foreign policy":  {in{PolicyArns: []stsapi.PolicyDescriptorType{{Arn: new("arn:aws:iam::999999999999:policy/ReadOnlyAccess")}}}, "ValidationError", "not in the account"},
		"eleven policies": {in{PolicyArns: eleven}, "ValidationError", "limit of 10"},
		"large tags":      {in{Tags: nine}, "PackedPolicyTooLarge", "Packed size of session tags consumes 498% of allotted space."}, // recorded on AWS
		"same tag":        {in{Tags: []stsapi.Tag{tag("a", "1"), tag("A", "2")}}, "ValidationError", "Duplicate tag keys"},
		"AWS's tag":       {in{Tags: []stsapi.Tag{tag("aws:a", "1")}}, "ValidationError", "reserved"},
		"transitive":      {in{TransitiveTagKeys: []string{"a"}}, "ValidationError", "transitive"},
		"half an MFA":     {in{SerialNumber: new("arn:aws:iam::1:mfa/x")}, "AccessDenied", "must provide both MFA serial number and one time pass code."},
		"MFA":             {in{SerialNumber: new("arn:aws:iam::1:mfa/x"), TokenCode: new("123456")}, "AccessDenied", "unable to validate MFA code"},
	} {
		if c.in.RoleArn == nil {
			c.in.RoleArn = new(roleARN)
		}
		c.in.RoleSessionName = new("s1")
		t.Run(name, func(t *testing.T) {
			_, err := stsapi.AssumeRole.Call(w.as(bob), w.mux, &c.in)
			wantError(t, err, c.code, c.text)
		})
	}
	_, err := stsapi.AssumeRole.Call(w.as(credential.RootPrincipal(account, "AKIA")), w.mux, &in{RoleArn: new(roleARN), RoleSessionName: new("s1")})
	wantError(t, err, "AccessDenied", "Roles may not be assumed by root accounts.")
}

func TestSessionsOfUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, c := range []struct {
			p     call.Principal
			asked *int32
			want  time.Duration
		}{{bob, nil, 12 * time.Hour}, {bob, new(int32(900)), 15 * time.Minute}, {credential.RootPrincipal(account, "AKIA"), nil, time.Hour},
			{credential.RootPrincipal(account, "AKIA"), new(int32(7200)), time.Hour}} {
			out, err := stsapi.GetSessionToken.Call(w.as(c.p), w.mux, &stsapi.GetSessionTokenInput{DurationSeconds: c.asked})
			if err != nil {
				t.Fatal(err)
			}
			if p := w.found(out.Credentials); p.Type != c.p.Type || p.ARN != c.p.ARN || p.UserID != c.p.UserID || time.Until(p.Session.Expires) != c.want {
				t.Errorf("%+v until %v", p, p.Session.Expires)
			}
		}
		out, err := stsapi.GetFederationToken.Call(w.as(bob), w.mux, &stsapi.GetFederationTokenInput{Name: new("guest"), Tags: []stsapi.Tag{tag("a", "b")}})
		if err != nil {
			t.Fatal(err)
		}
		p := w.found(out.Credentials)
		if p.Type != call.FederatedUser || p.ARN != "arn:aws:sts::123456789012:federated-user/guest" || p.UserID != account+":guest" || p.Session.Issuer != userARN || p.Session.Tags["a"] != "b" {
			t.Errorf("%+v", p)
		}
		_, err = stsapi.GetSessionToken.Call(w.as(p), w.mux, &stsapi.GetSessionTokenInput{})
		wantError(t, err, "AccessDenied", "Cannot call GetSessionToken with session credentials")
		_, err = stsapi.GetFederationToken.Call(w.as(p), w.mux, &stsapi.GetFederationTokenInput{Name: new("guest")})
		wantError(t, err, "AccessDenied", "Cannot call GetFederationToken with session credentials")
	})
}

// idp is an OpenID Connect issuer on loopback.
type idp struct {
	*httptest.Server
	key     *ecdsa.PrivateKey
	fetches atomic.Int32
	broken  atomic.Bool
}

func newIDP(t *testing.T) *idp {
	i := &idp{}
	i.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	i.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		switch {
		case i.broken.Load():
			rw.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/.well-known/openid-configuration":
			json.NewEncoder(rw).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
		case r.URL.Path == "/keys":
			json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k1", Algorithm: "ES256"}}})
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *idp) token(t *testing.T, key any, id string, change map[string]any) string {
	t.Helper()
	now := time.Now()
	c := map[string]any{"iss": i.URL, "sub": "subject-1", "aud": "me", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	algorithm := jose.ES256
	if _, ok := key.([]byte); ok {
		algorithm = jose.HS256
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	s, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWebIdentity(t *testing.T) {
	i := newIDP(t)
	w := newWorld(t, i.URL)
	host := strings.TrimPrefix(i.URL, "http://")
	ask := func(token string) (*stsapi.AssumeRoleWithWebIdentityOutput, error) {
		return stsapi.AssumeRoleWithWebIdentity.Call(w.as(call.Principal{}), w.mux, &stsapi.AssumeRoleWithWebIdentityInput{
			RoleArn: new(roleARN), RoleSessionName: new("web"), WebIdentityToken: &token})
	}
	out, err := ask(i.token(t, i.key, "k1", map[string]any{"amr": []string{"authenticated"}, "https://aws.amazon.com/source_identity": "sid",
		"https://aws.amazon.com/tags": map[string]any{"principal_tags": map[string]any{"team": []string{"flies"}}, "transitive_tag_keys": []string{"team"}}}))
	if err != nil {
		t.Fatal(err)
	}
	p := w.found(out.Credentials)
	providerARN := "arn:aws:iam::" + account + ":oidc-provider/" + host
	if p.Session.Provider != providerARN || p.Session.Subject != "subject-1" || p.Session.Tags["team"] != "flies" || p.Session.SourceIdentity != "sid" ||
		*out.Provider != providerARN || *out.Audience != "me" || *out.SubjectFromWebIdentityToken != "subject-1" || *out.AssumedRoleUser.Arn != "arn:aws:sts::123456789012:assumed-role/app/web" {
		t.Errorf("%+v %+v", p.Session, out)
	}
	var actions []string
	for _, r := range w.asked {
		actions = append(actions, r.Action)
		if v, _ := r.Keys.Values(strings.ToLower(host + ":sub")); r.Resource != roleARN || r.Caller.Type != call.WebIdentity || r.Caller.ARN != providerARN || len(v) != 1 || v[0] != "subject-1" {
			t.Errorf("asked %+v", r)
		}
	}
	if got := strings.Join(actions, " "); got != "sts:AssumeRoleWithWebIdentity sts:TagSession sts:SetSourceIdentity" {
		t.Errorf("asked for %s", got)
	}
	if n := i.fetches.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}

	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	past := time.Now().Add(-time.Hour).Unix()
	for name, c := range map[string]struct{ token, code, text string }{
		"not a token":    {"xxxx", "InvalidIdentityToken", "The ID Token provided is not a valid JWT."},
		"other key":      {i.token(t, other, "k1", nil), "InvalidIdentityToken", "Signature not valid"},
		"unknown key":    {i.token(t, other, "k2", nil), "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"},
		"shared secret":  {i.token(t, make([]byte, 32), "k1", nil), "InvalidIdentityToken", "not a valid JWT"},
		"expired":        {i.token(t, i.key, "k1", map[string]any{"exp": past}), "ExpiredToken", fmt.Sprintf("must be before the expiration date/time %d", past)},
		"future":         {i.token(t, i.key, "k1", map[string]any{"iat": time.Now().Add(time.Hour).Unix()}), "InvalidIdentityToken", "not valid yet"},
		"no audience":    {i.token(t, i.key, "k1", map[string]any{"aud": nil}), "InvalidIdentityToken", "Missing a required claim: aud"},
		"no expiration":  {i.token(t, i.key, "k1", map[string]any{"exp": nil}), "InvalidIdentityToken", "Missing a required claim: exp"},
		"unknown issuer": {i.token(t, i.key, "k1", map[string]any{"iss": "https://example.com/x"}), "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://example.com/x"},
		"short subject":  {i.token(t, i.key, "k1", map[string]any{"sub": "x"}), "IDPRejectedClaim", "6 to 255"},
	} {
		_, err := ask(c.token)
		t.Run(name, func(t *testing.T) { wantError(t, err, c.code, c.text) })
	}
	if n := i.fetches.Load(); n > 4 {
		t.Errorf("%d fetches: unknown keys are asked for again and again", n)
	}
	w.refuse = "sts:AssumeRoleWithWebIdentity"
	_, err = ask(i.token(t, i.key, "k1", nil))
	wantError(t, err, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")

	down := newIDP(t)
	down.broken.Store(true)
	w = newWorld(t, down.URL)
	_, err = ask(down.token(t, down.key, "k1", nil))
	wantError(t, err, "InvalidIdentityToken", "Couldn't retrieve verification key")
}

func FuzzWebIdentityToken(f *testing.F) {
	f.Add("xxxx")
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2EifQ.AAAA")
	f.Add(`{"payload":"e30","protected":"e30","signature":""}`)
	issuer, _ := credential.NewIssuer(make([]byte, 32))
	s, _ := New(Deps{Credentials: issuer, IAM: smithy.NewMux(), Checker: &world{}})
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, err := s.verify(t.Context(), token, account, time.Now()); err == nil {
			t.Errorf("%q is believed", token)
		}
	})
}
