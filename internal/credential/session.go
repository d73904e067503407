package credential

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/call"
)

const sessionKeySize = 32

// Role is who is assumed: a role as far as its sessions carry it.
type Role struct {
	ARN string // arn:aws:iam::<account>:role/<path/><name>
	ID  string // AROA...
}

// Assumed is the principal of a session of the role, named as AWS wants (2 to 64 of [\w+=,.@-]). The session's Issuer becomes the
// role's ARN.
func (r Role) Assumed(name string, s call.Session) (call.Principal, error) {
	a, err := arn.Parse(r.ARN)
	path, ok := strings.CutPrefix(a.Resource, "role/")
	if err != nil || a.Service != "iam" || !ok || !accountForm.MatchString(a.Account) {
		return call.Principal{}, fmt.Errorf("credential: %q is not the ARN of a role", r.ARN)
	}
	s.Issuer = r.ARN
	roleName := path[strings.LastIndexByte(path, '/')+1:]
	return call.Principal{
		Type:    call.AssumedRole,
		ARN:     arn.New("sts", "", a.Account, "assumed-role/"+roleName+"/"+name).String(),
		UserID:  r.ID + ":" + name,
		Session: &s,
	}, nil
}

// Session is temporary credentials.
type Session struct {
	AccessKeyID     string // ASIA...
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time // whole seconds, UTC
	Principal       call.Principal
}

// Issuer makes temporary credentials and finds them again. It stores nothing: the session token is the principal with all that its
// session carries, sealed with AES-256-GCM, and the secret follows from key id and token. Only who has the same key can
// read or forge one, and they outlive a restart. Its methods may be called concurrently.
type Issuer struct {
	seal   cipher.AEAD
	secret []byte // HMAC key
}

// NewIssuer returns an Issuer of sessions under a key of 32 bytes, such as Root.SessionKey.
func NewIssuer(key []byte) (*Issuer, error) {
	if len(key) != sessionKeySize {
		return nil, fmt.Errorf("credential: the session key has %d bytes, not %d", len(key), sessionKeySize)
	}
	derive := func(purpose string) []byte {
		k, err := hkdf.Expand(sha256.New, key, "mayfly role session "+purpose, sha256.Size)
		if err != nil {
			panic(err) // only for absurd lengths
		}
		return k
	}
	block, err := aes.NewCipher(derive("token"))
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Issuer{seal: seal, secret: derive("secret")}, nil
}

// Issue makes credentials for a principal with a Session, which hold from Session.Issued until Session.Expires. The times are cut to
// whole seconds. The principal's AccessKeyID is that of the new credentials.
func (i *Issuer) Issue(p call.Principal) (Session, error) {
	a, err := arn.Parse(p.ARN)
	if err != nil || p.Session == nil || !accountForm.MatchString(a.Account) {
		return Session{}, fmt.Errorf("credential: %q can have no session", p.ARN)
	}
	session := *p.Session
	session.Issued, session.Expires = session.Issued.UTC().Truncate(time.Second), session.Expires.UTC().Truncate(time.Second)
	p.Session, p.AccessKeyID = &session, NewKeyID("ASIA", a.Account)

	plain, err := encode(&p)
	if err != nil {
		return Session{}, err
	}
	nonce := make([]byte, i.seal.NonceSize())
	rand.Read(nonce)
	token := append([]byte{tokenVersion}, nonce...)
	token = i.seal.Seal(token, nonce, plain, additional(tokenVersion, p.AccessKeyID))
	s := Session{AccessKeyID: p.AccessKeyID, SessionToken: base64.StdEncoding.EncodeToString(token), Expiration: session.Expires, Principal: p}
	s.SecretAccessKey = i.secretOf(s.AccessKeyID, s.SessionToken)
	return s, nil
}

// additional is what a token is bound to beside its content.
func additional(version byte, accessKeyID string) []byte {
	if version == tokenVersion1 {
		return []byte(accessKeyID)
	}
	return append([]byte{version}, accessKeyID...)
}

func (i *Issuer) secretOf(accessKeyID, token string) string {
	m := hmac.New(sha256.New, i.secret)
	m.Write([]byte(accessKeyID))
	m.Write([]byte{0})
	m.Write([]byte(token))
	return base64.StdEncoding.EncodeToString(m.Sum(nil)[:30])
}

// Find implements Finder for the keys that Issue made. It does not look into a store: a session holds until it expires.
func (i *Issuer) Find(_ context.Context, accessKeyID, token string) (Key, error) {
	if !strings.HasPrefix(accessKeyID, "ASIA") {
		return Key{}, ErrUnknownKey
	}
	p, err := i.open(accessKeyID, token)
	if err != nil {
		return Key{}, ErrInvalidToken
	}
	if !time.Now().Before(p.Session.Expires) {
		return Key{}, ErrExpiredToken
	}
	a, err := arn.Parse(p.ARN)
	if err != nil {
		return Key{}, ErrInvalidToken
	}
	p.AccessKeyID = accessKeyID
	return Key{Secret: i.secretOf(accessKeyID, token), Account: a.Account, Principal: p}, nil
}

func (i *Issuer) open(accessKeyID, token string) (call.Principal, error) {
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(b) < 1+i.seal.NonceSize() {
		return call.Principal{}, errToken
	}
	version, b := b[0], b[1:]
	plain, err := i.seal.Open(nil, b[:i.seal.NonceSize()], b[i.seal.NonceSize():], additional(version, accessKeyID))
	if err != nil {
		return call.Principal{}, err
	}
	switch version {
	case tokenVersion1:
		return decode1(plain)
	case tokenVersion:
		return decode(plain)
	}
	return call.Principal{}, errToken
}
