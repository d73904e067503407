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
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/call"
)

const sessionKeySize = 32

// Role is who assumes: a role as far as its sessions carry it.
type Role struct {
	ARN string // arn:aws:iam::<account>:role/<path/><name>
	ID  string // AROA...
}

// Session is temporary credentials.
type Session struct {
	AccessKeyID     string // ASIA...
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time // whole seconds, UTC
	Principal       call.Principal
}

// Issuer makes the temporary credentials of role sessions and finds them again. It stores nothing: the session token is
// the session, sealed with AES-256-GCM, and the secret follows from key id and token. Only who has the same key can
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

// tokenVersion begins every sealed token, so that its layout can change.
const tokenVersion = 1

// Issue makes credentials for a session of role, named as AWS wants (2 to 64 of [\w+=,.@-]), that hold from now for the
// given time.
func (i *Issuer) Issue(role Role, name string, now time.Time, duration time.Duration) (Session, error) {
	principal, err := role.principal(name)
	if err != nil {
		return Session{}, err
	}
	s := Session{AccessKeyID: newKeyID("ASIA"), Expiration: now.Add(duration).UTC().Truncate(time.Second)}
	principal.AccessKeyID = s.AccessKeyID
	s.Principal = principal

	plain := binary.AppendVarint(nil, s.Expiration.Unix())
	for _, f := range []string{role.ARN, role.ID, name} {
		plain = binary.AppendUvarint(plain, uint64(len(f)))
		plain = append(plain, f...)
	}
	nonce := make([]byte, i.seal.NonceSize())
	rand.Read(nonce)
	token := append([]byte{tokenVersion}, nonce...)
	token = i.seal.Seal(token, nonce, plain, []byte(s.AccessKeyID))
	s.SessionToken = base64.StdEncoding.EncodeToString(token)
	s.SecretAccessKey = i.secretOf(s.AccessKeyID, s.SessionToken)
	return s, nil
}

// principal is the session as policies see it.
func (r Role) principal(name string) (call.Principal, error) {
	a, err := arn.Parse(r.ARN)
	path, ok := strings.CutPrefix(a.Resource, "role/")
	if err != nil || a.Service != "iam" || !ok || a.Account == "" {
		return call.Principal{}, fmt.Errorf("credential: %q is not the ARN of a role", r.ARN)
	}
	roleName := path[strings.LastIndexByte(path, '/')+1:]
	return call.Principal{
		Type:   call.AssumedRole,
		ARN:    arn.New("sts", "", a.Account, "assumed-role/"+roleName+"/"+name).String(),
		UserID: r.ID + ":" + name,
	}, nil
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
	if token == "" {
		return Key{}, ErrInvalidToken
	}
	role, name, expiration, err := i.open(accessKeyID, token)
	if err != nil {
		return Key{}, ErrInvalidToken
	}
	if !time.Now().Before(expiration) {
		return Key{}, ErrExpiredToken
	}
	principal, err := role.principal(name)
	if err != nil {
		return Key{}, ErrInvalidToken
	}
	principal.AccessKeyID = accessKeyID
	a, _ := arn.Parse(role.ARN)
	return Key{Secret: i.secretOf(accessKeyID, token), Account: a.Account, Principal: principal}, nil
}

var errToken = errors.New("credential: malformed token")

func (i *Issuer) open(accessKeyID, token string) (role Role, name string, expiration time.Time, err error) {
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(b) < 1+i.seal.NonceSize() || b[0] != tokenVersion {
		return role, "", expiration, errToken
	}
	b = b[1:]
	plain, err := i.seal.Open(nil, b[:i.seal.NonceSize()], b[i.seal.NonceSize():], []byte(accessKeyID))
	if err != nil {
		return role, "", expiration, err
	}
	seconds, n := binary.Varint(plain)
	if n <= 0 {
		return role, "", expiration, errToken
	}
	plain = plain[n:]
	for _, f := range []*string{&role.ARN, &role.ID, &name} {
		size, n := binary.Uvarint(plain)
		if n <= 0 || size > uint64(len(plain)-n) {
			return role, "", expiration, errToken
		}
		*f, plain = string(plain[n:n+int(size)]), plain[n+int(size):]
	}
	return role, name, time.Unix(seconds, 0).UTC(), nil
}
