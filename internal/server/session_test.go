package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// with configures the SDK for other credentials.
func (i *instance) with(id, secret, token *string) aws.Config {
	c := i.sdk()
	c.Credentials = credentials.NewStaticCredentialsProvider(*id, *secret, aws.ToString(token))
	return c
}

func (i *instance) as(c *types.Credentials) aws.Config {
	return i.with(c.AccessKeyId, c.SecretAccessKey, c.SessionToken)
}

// A user assumes a role, and may do what the role may as far as the session's policies allow.
func TestUserAssumesRole(t *testing.T) {
	i := start(t, Config{})
	ctx, root := t.Context(), iam.NewFromConfig(i.sdk())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := root.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("bob")})
	must(err)
	key, err := root.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("bob")})
	must(err)
	policy := func(action string) *string {
		return aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"` + action + `","Resource":"*"}}`)
	}
	_, err = root.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String("bob"), PolicyName: aws.String("p"), PolicyDocument: policy("sts:*")})
	must(err)
	role := i.putRole("app", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"xyz"}}}}`)
	_, err = root.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("app"), PolicyName: aws.String("p"), PolicyDocument: policy("lambda:List*")})
	must(err)

	bob := i.with(key.AccessKey.AccessKeyId, key.AccessKey.SecretAccessKey, nil)
	client := sts.NewFromConfig(bob)
	assume := func(in sts.AssumeRoleInput) (*sts.AssumeRoleOutput, error) {
		in.RoleArn, in.RoleSessionName = role, aws.String("s1")
		return client.AssumeRole(ctx, &in)
	}
	_, err = assume(sts.AssumeRoleInput{})
	wantCode(t, err, "AccessDenied", "User: arn:aws:iam::000000000000:user/bob is not authorized to perform: sts:AssumeRole on resource: "+*role)
	_, err = sts.NewFromConfig(i.sdk()).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: role, RoleSessionName: aws.String("s1"), ExternalId: aws.String("xyz")})
	wantCode(t, err, "AccessDenied", "") // root may not

	out, err := assume(sts.AssumeRoleInput{ExternalId: aws.String("xyz")})
	must(err)
	session := i.as(out.Credentials)
	who, err := sts.NewFromConfig(session).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	must(err)
	if *who.Arn != "arn:aws:sts::000000000000:assumed-role/app/s1" || *who.UserId != *out.AssumedRoleUser.AssumedRoleId {
		t.Errorf("the session is %s, %s", *who.Arn, *who.UserId)
	}
	_, err = lambda.NewFromConfig(session).ListFunctions(ctx, &lambda.ListFunctionsInput{})
	must(err)
	_, err = lambda.NewFromConfig(session).DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("f")})
	wantCode(t, err, "AccessDeniedException", "User: arn:aws:sts::000000000000:assumed-role/app/s1 is not authorized to perform: lambda:DeleteFunction")

	narrow, err := assume(sts.AssumeRoleInput{ExternalId: aws.String("xyz"), Policy: policy("lambda:ListLayers")})
	must(err)
	_, err = lambda.NewFromConfig(i.as(narrow.Credentials)).ListFunctions(ctx, &lambda.ListFunctionsInput{})
	wantCode(t, err, "AccessDeniedException", "User: arn:aws:sts::000000000000:assumed-role/app/s1 is not authorized to perform: lambda:ListFunctions")
	if !strings.Contains(err.Error(), "session policy") {
		t.Error(err)
	}

	// A session of the user is the user, but not for IAM.
	token, err := client.GetSessionToken(ctx, &sts.GetSessionTokenInput{})
	must(err)
	who, err = sts.NewFromConfig(i.as(token.Credentials)).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	must(err)
	if *who.Arn != "arn:aws:iam::000000000000:user/bob" {
		t.Errorf("the user's session is %s", *who.Arn)
	}
	_, err = sts.NewFromConfig(i.as(token.Credentials)).GetSessionToken(ctx, &sts.GetSessionTokenInput{})
	wantCode(t, err, "AccessDenied", "")
	info, err := client.GetAccessKeyInfo(ctx, &sts.GetAccessKeyInfoInput{AccessKeyId: out.Credentials.AccessKeyId})
	must(err)
	if *info.Account != "000000000000" {
		t.Errorf("the session's key is of %s", *info.Account)
	}
}

// A token of an issuer on loopback assumes a role that trusts its subject, whether the operator trusts the issuer or IAM has it.
func TestWebIdentity(t *testing.T) {
	t.Run("trusted", func(t *testing.T) { testWebIdentity(t, true) })
	t.Run("IAM", func(t *testing.T) { testWebIdentity(t, false) })
}

func testWebIdentity(t *testing.T, trusted bool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var idp *httptest.Server
	idp = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256"}}})
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"issuer": idp.URL, "jwks_uri": idp.URL + "/keys"})
	}))
	defer idp.Close()
	var config Config
	if trusted {
		config.Issuers = []string{idp.URL}
	}
	i := start(t, config)
	host := strings.TrimPrefix(idp.URL, "http://")
	role := i.putRole("web", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::000000000000:oidc-provider/`+host+`"},
		"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"`+host+`:sub":"pod-one","`+host+`:aud":"sts.amazonaws.com"}}}}`)
	token := func(subject string) *string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		text, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: idp.URL, Subject: subject, Audience: jwt.Audience{"sts.amazonaws.com"},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour))}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return &text
	}
	client := sts.NewFromConfig(i.sdk())
	if !trusted {
		_, err := client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: role, RoleSessionName: aws.String("pod"), WebIdentityToken: token("pod-one")})
		wantCode(t, err, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for "+idp.URL)
		providers := iam.NewFromConfig(i.sdk())
		made, err := providers.CreateOpenIDConnectProvider(t.Context(), &iam.CreateOpenIDConnectProviderInput{Url: &idp.URL, ClientIDList: []string{"other"}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: role, RoleSessionName: aws.String("pod"), WebIdentityToken: token("pod-one")})
		wantCode(t, err, "InvalidIdentityToken", "Incorrect token audience")
		if _, err := providers.AddClientIDToOpenIDConnectProvider(t.Context(), &iam.AddClientIDToOpenIDConnectProviderInput{
			OpenIDConnectProviderArn: made.OpenIDConnectProviderArn, ClientID: aws.String("sts.amazonaws.com"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: role, RoleSessionName: aws.String("pod"), WebIdentityToken: token("pod-one")})
	if err != nil {
		t.Fatal(err)
	}
	who, err := sts.NewFromConfig(i.as(out.Credentials)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != "arn:aws:sts::000000000000:assumed-role/web/pod" {
		t.Errorf("%v %v", who, err)
	}
	_, err = client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: role, RoleSessionName: aws.String("pod"), WebIdentityToken: token("pod-two")})
	wantCode(t, err, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
}
